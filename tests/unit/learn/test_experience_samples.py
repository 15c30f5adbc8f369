"""Rows from experience are the rows that bars would have given at the same ticks."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from tickless.adapters.synthetic_market import make_market
from tickless.bars import Panel
from tickless.features.rotation import MODEL_FEATURES, build_features
from tickless.features.table import FeatureTable
from tickless.learn.dataset import Samples, build_samples
from tickless.learn.experience import make_day
from tickless.learn.experience_samples import samples_from_experience
from tickless.learn.labels import build_labels
from tickless.types import to_ms

DAY = date(2024, 6, 1)
MIDNIGHT = datetime(2024, 6, 1, tzinfo=UTC)
HORIZON_H = 6.0


@pytest.fixture(scope="module")
def panel() -> Panel:
    return make_market(pairs=6, start=MIDNIGHT - timedelta(days=20), end=MIDNIGHT + timedelta(days=3), seed=4).panel


@pytest.fixture(scope="module")
def table(panel: Panel) -> FeatureTable:
    return build_features(panel, 4)


def traces(panel: Panel, table: FeatureTable, models: tuple[str, ...] = ("m", "m")) -> list[tuple[datetime, dict[str, Any]]]:
    """Hourly ticks of the day; every version says 0.01 of each pair, and the first pair is bought."""
    found = []
    for hour in range(24):
        at = MIDNIGHT + timedelta(hours=hour)
        row = (to_ms(at) - panel.start_ms) // panel.step_ms - 1
        said = [
            {"model": name, "version": f"v{n}", "stage": "shadow" if n else "champion", "horizon_h": HORIZON_H, "forecast": [0.01] * 6}
            for n, name in enumerate(models)
        ]
        evidence = {"pairs": list(table.pairs), "features": {"names": list(table.names), "values": table.values[row]}, "said": said}
        pairs = {pair: {"action": "hold" if n else "buy", "reason": "made"} for n, pair in enumerate(table.pairs)}
        found.append((at, {"evidence": evidence, "pairs": pairs}))
    return found


def from_bars(panel: Panel, table: FeatureTable) -> Samples:
    labels = build_labels(panel, table.feature("rv_24h"), HORIZON_H, 1e9)
    every = build_samples(table.select(MODEL_FEATURES), labels, 60)
    return every.take(np.flatnonzero((every.start_ms >= to_ms(MIDNIGHT)) & (every.start_ms < to_ms(MIDNIGHT + timedelta(days=1)))))


def test_rows_are_those_of_the_bars_each_pair_and_tick_once(panel, table):
    day = make_day("rotation", DAY, traces(panel, table), panel, {"m": HORIZON_H})
    found, expected = samples_from_experience(day.ticks, "m", MODEL_FEATURES), from_bars(panel, table)
    assert len(found) == len(expected) == 24 * 6
    assert found.pairs == expected.pairs
    for name in ("x", "pair", "start_ms", "end_ms"):
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name
    for name in ("y", "plain", "scale"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-12)
    assert found.sha256 == samples_from_experience(day.ticks, "m", MODEL_FEATURES).sha256


def test_only_what_was_decided_so_is_kept(panel, table):
    day = make_day("rotation", DAY, traces(panel, table), panel, {"m": HORIZON_H})
    found = samples_from_experience(day.ticks, "m", MODEL_FEATURES, {"buy"})
    assert len(found) == 24
    assert set(found.pair.tolist()) == {0}
    assert len(samples_from_experience(day.ticks, "m", MODEL_FEATURES, {"sell"})) == 0


def test_what_lacks_a_feature_or_a_value_gives_no_row(panel, table):
    made = traces(panel, table)
    values = np.array(made[3][1]["evidence"]["features"]["values"])
    values[2, list(table.names).index(MODEL_FEATURES[0])] = np.nan
    made[3][1]["evidence"]["features"] = {"names": list(table.names), "values": values}
    day = make_day("rotation", DAY, made, panel, {"m": HORIZON_H})
    assert len(samples_from_experience(day.ticks, "m", MODEL_FEATURES)) == 24 * 6 - 1
    assert len(samples_from_experience(day.ticks, "m", ["unheard_of"])) == 0
    assert len(samples_from_experience(day.ticks, "another", MODEL_FEATURES)) == 0


def test_a_horizon_that_changes_is_refused_by_name(panel, table):
    made = traces(panel, table, ("m",))
    made[5][1]["evidence"]["said"][0]["horizon_h"] = 12.0
    day = make_day("rotation", DAY, made, panel, {"m": HORIZON_H})
    with pytest.raises(ValueError, match=r"'m': its horizon changes, 6 h, 12 h"):
        samples_from_experience(day.ticks, "m", MODEL_FEATURES)
