from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from functools import partial

import numpy as np
import pytest

from tickless.alpha.champion import check_manifest, load_champion
from tickless.errors import ArtifactError
from tickless.features.rotation import MODEL_FEATURES
from tickless.learn.fit_spec import TreeFit
from tickless.learn.leak_checks import rows_of
from tickless.learn.registry import version_name
from tickless.learn.spec import ModelSpec, SplitSpec
from tickless.learn.training_run import Features, train_models
from tickless.settings import ExecutionSection, TrainingSection
from tickless.types import from_ms, to_ms

SPEC = ModelSpec(
    name="m6",
    strategy="rotation",
    features="rotation",
    horizon_h=6,
    fit=TreeFit(rounds=60, early_stopping_rounds=15),
    split=SplitSpec(embargo_h=6),
)
TRAINING = TrainingSection(num_threads=1, window_days=60)


def train(table, panel, as_of, incumbents=None, training=TRAINING, spec=SPEC):
    return train_models(
        table,
        panel,
        training=training,
        execution=ExecutionSection(),
        top_k=5,
        specs=[spec],
        as_of=as_of,
        effective_at=as_of + timedelta(minutes=20),
        incumbents=incumbents or {},
        features=Features(partial(rows_of, table), startup_bars=0),
    )


@pytest.fixture(scope="module")
def planted(market):
    return market(21, 0.1)


@pytest.fixture(scope="module")
def as_of(planted):
    return planted[1].end - timedelta(days=3) + timedelta(minutes=10)


@pytest.fixture(scope="module")
def trained(planted, as_of):
    result = train(*planted, as_of)
    assert not result.skipped
    return result.trained[0]


def test_a_planted_signal_is_found_and_promoted(trained):
    measures = trained.manifest["measures"]
    assert trained.gate.promote, trained.gate.reason
    assert measures["rank_ic"] > 0.1
    assert measures["top_k_net_frac"] > 0.0
    assert measures["rmse"] < measures["rmse_zero"]


def test_the_manifest_says_what_was_done(trained, as_of, planted):
    manifest = json.loads(json.dumps(trained.manifest, allow_nan=False))
    assert manifest == trained.manifest
    assert trained.version == manifest["version"] == version_name(as_of)
    assert manifest["features"] == list(MODEL_FEATURES)
    assert manifest["spec"]["fit"]["rounds"] == 60
    assert manifest["gate"]["promote"] is True
    assert manifest["data_until"] == "2024-02-27T00:00:00Z"
    assert (
        manifest["fit_until"] < manifest["validation_from"] < manifest["label_until"] <= manifest["data_until"] < manifest["effective_at"]
    )
    assert set(manifest["libraries"]) == {"lightgbm", "numpy", "onnx", "onnxruntime"}


def test_a_tick_may_use_it_from_effective_at_and_not_before(trained, as_of):
    check_manifest(trained.manifest, as_of + timedelta(minutes=20), 14)
    with pytest.raises(ArtifactError, match="effective_at"):
        check_manifest(trained.manifest, as_of + timedelta(minutes=19), 14)


def test_the_same_training_gives_the_same_bytes(trained, planted, as_of):
    again = train(*planted, as_of).trained[0]
    assert again.artifact == trained.artifact
    assert again.manifest == trained.manifest


def test_bars_after_as_of_change_nothing(trained, planted, as_of):
    table, panel = planted
    row = panel.closed_at(as_of).rows
    rng = np.random.default_rng(0)
    columns = {}
    for name in ("open", "high", "low", "close", "volume"):
        column = getattr(panel, name).copy()
        column[row:] *= rng.uniform(0.5, 2.0, column[row:].shape)
        columns[name] = column
    values = table.values.copy()
    values[row:] = np.nan
    changed = train(replace(table, values=values), replace(panel, **columns), as_of).trained[0]
    assert changed.artifact == trained.artifact
    assert changed.manifest == trained.manifest
    cut = train(table.take(0, row), panel.take(0, row), as_of).trained[0]
    assert cut.manifest == trained.manifest


def test_the_last_bar_before_as_of_counts(trained, planted, as_of):
    table, panel = planted
    row = panel.closed_at(as_of).rows - 1
    price = panel.open.copy()
    price[row] *= 1.1
    changed = train(table, replace(panel, open=price), as_of).trained[0]
    assert changed.manifest["data_sha256"]["validation"] != trained.manifest["data_sha256"]["validation"]


def test_the_same_model_again_does_not_beat_itself(trained, planted, as_of):
    champion = load_champion(
        "m6", trained.manifest, trained.artifact, at=as_of + timedelta(days=1), max_age_days=14, features=MODEL_FEATURES
    )
    again = train(*planted, as_of, {"m6": champion}).trained[0]
    assert not again.gate.promote
    assert "the champion" in again.gate.reasons[0]
    assert again.manifest["champion"] == champion.label
    assert again.manifest["champion_measures"] == trained.manifest["measures"]


def test_a_champion_is_judged_only_on_rows_it_was_not_fitted_on(trained, planted, as_of):
    until = from_ms(to_ms(as_of) - 8 * 86_400_000)
    manifest = {**trained.manifest, "fit_until": until.strftime("%Y-%m-%dT%H:%M:%SZ")}
    champion = load_champion("m6", manifest, trained.artifact, at=as_of + timedelta(days=1), max_age_days=14, features=MODEL_FEATURES)
    again = train(*planted, as_of, {"m6": champion}).trained[0].manifest
    assert 0 < again["champion_measures"]["rows"] < again["measures"]["rows"]


def test_a_champion_of_another_horizon_is_not_compared(trained, planted, as_of):
    manifest = {**trained.manifest, "horizon_h": 24}
    champion = load_champion("m6", manifest, trained.artifact, at=as_of + timedelta(days=1), max_age_days=14, features=MODEL_FEATURES)
    again = train(*planted, as_of, {"m6": champion}).trained[0]
    assert again.gate.promote
    assert again.manifest["champion"] is None


@pytest.mark.parametrize(("days", "why"), [(0, "no pair has settled features"), (6, "fewer than min_window_days = 14")])
def test_too_little_history_is_a_result_not_an_error(planted, days, why):
    table, panel = planted
    result = train(table, panel, panel.start + timedelta(days=days))
    assert not result.trained
    assert result.skipped["m6"].startswith("nothing trained, because")
    assert why in result.skipped["m6"]


def test_too_few_rows_are_a_result_not_an_error(market):
    table, panel = market(31, 0.1, days=20, pairs=3)
    result = train(table, panel, panel.end)
    assert "slice has" in result.skipped["m6"]


def test_the_stricter_gate_applies(planted, as_of):
    strict = TRAINING.model_copy(update={"min_rank_ic": 0.9})
    assert "0.90000" in train(*planted, as_of, training=strict).trained[0].gate.reasons[0]


def test_a_table_of_another_panel_is_refused(planted, as_of):
    table, panel = planted
    with pytest.raises(ValueError, match="does not belong"):
        train(table.take(1, table.rows), panel, as_of)


def test_without_a_signal_models_are_seldom_promoted(planted):
    table, panel = planted
    promoted = 0
    days = table.rows // 24
    for seed in range(8):
        order = np.random.default_rng(seed).permutation(days)
        # Features keep their days whole but lose their dates: what is left to learn is chance.
        values = table.values.reshape(days, 24, *table.values.shape[1:])[order].reshape(table.values.shape)
        promoted += train(replace(table, values=values), panel, panel.end).trained[0].gate.promote
    assert promoted <= 1


def test_with_a_signal_models_are_mostly_promoted(market):
    results = [
        train(table, panel, panel.end).trained[0] for table, panel in (market(seed, 0.08, days=45, pairs=20) for seed in range(100, 105))
    ]
    assert sum(result.gate.promote for result in results) >= 4
