"""The gates against luck and skill: a seeded sample, and with ``make acceptance`` the whole of 40 + 10 trainings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.acceptance.luck import PLANTED_IC, null_trainings, power_trainings, shuffled_in_blocks
from tickless.learn.dataset import Samples


@pytest.mark.realdata
def test_a_few_trainings_on_shuffled_labels_are_refused(realdata: Path) -> None:
    assert [model.gate.promote for model in null_trainings(realdata / "spot_2024", 3, window_days=60)] == [False] * 3


def test_a_few_planted_signals_are_found() -> None:
    for model in power_trainings(2):
        assert model.gate.promote, model.gate.reason
        assert model.manifest["measures"]["rank_ic_low"] <= PLANTED_IC <= model.manifest["measures"]["rank_ic_high"]


@pytest.mark.acceptance
@pytest.mark.realdata
def test_of_forty_trainings_on_shuffled_labels_at_most_two_are_promoted(realdata: Path) -> None:
    models = list(null_trainings(realdata / "spot_2024", 40))
    assert len(models) == 40
    promoted = [f"{model.name}@{model.version}: {model.gate.reason}" for model in models if model.gate.promote]
    assert len(promoted) <= 2, promoted


@pytest.mark.acceptance
def test_of_ten_planted_signals_nine_are_promoted_and_their_size_is_recovered() -> None:
    models = list(power_trainings(10))
    refused = [model.gate.reason for model in models if not model.gate.promote]
    assert len(refused) <= 1, refused
    spans = [(model.manifest["measures"]["rank_ic_low"], model.manifest["measures"]["rank_ic_high"]) for model in models]
    assert sum(low <= PLANTED_IC <= high for low, high in spans) >= 9, spans
    assert all(low > 0.0 for low, _ in spans)


def test_shuffling_moves_whole_blocks_of_labels_and_nothing_else() -> None:
    hours, pairs = 30, 3
    tick, pair = (part.ravel() for part in np.divmod(np.arange(hours * pairs), pairs))
    label = tick * 10.0 + pair
    rng = np.random.default_rng(0)
    samples = Samples(
        features=("a",),
        pairs=("A", "B", "C"),
        x=rng.standard_normal((hours * pairs, 1)).astype(np.float32),
        y=label,
        plain=label * 2.0,
        scale=np.full(hours * pairs, 2.0),
        pair=pair,
        start_ms=tick * 3_600_000,
        end_ms=(tick + 6) * 3_600_000,
    )
    moved = shuffled_in_blocks(samples, 6 * 3_600_000, seed=1)
    assert sorted(moved.y.tolist()) == sorted(label.tolist())
    assert moved.y.tolist() != label.tolist()
    np.testing.assert_array_equal(moved.x, samples.x)
    np.testing.assert_array_equal(moved.plain, moved.y * 2.0)
    np.testing.assert_array_equal(moved.y % 10, pair)
    hour = (moved.y // 10).reshape(-1, 6, pairs)
    assert (np.diff(hour, axis=1) == 1).all()
