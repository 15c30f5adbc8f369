"""Whether a classifier keeps its word is measured on the event that it was asked about: its own label, made as trainings make it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from tickless.adapters.synthetic_market import make_market
from tickless.alpha.ensemble import round_trip_cost_frac
from tickless.bars import Floats, Panel
from tickless.features.rotation import build_features
from tickless.features.table import FeatureTable
from tickless.learn.drift import DriftReport
from tickless.learn.drift_review import measure_drift
from tickless.learn.experience import ExperienceDay, make_day
from tickless.learn.experience_events import mark_events
from tickless.learn.label_spec import SetupHistory, is_relative, make_labels, reach_bars
from tickless.learn.scope import Scope
from tickless.learn.spec import ModelSpec
from tickless.learn.track import make_track
from tickless.settings import load_desk
from tickless.types import to_ms

FIRST = date(2024, 6, 1)
MIDNIGHT = datetime(2024, 6, 1, tzinfo=UTC)
DAYS = 8
DESK = load_desk("crossover", [])
SCOPE = Scope.of(DESK)
COST_FRAC = round_trip_cost_frac(DESK.execution)


@pytest.fixture(scope="module")
def panel() -> Panel:
    return make_market(pairs=6, start=MIDNIGHT - timedelta(days=12), end=MIDNIGHT + timedelta(days=DAYS + 2), seed=4).panel


@pytest.fixture(scope="module")
def table(panel: Panel) -> FeatureTable:
    return build_features(panel, 4)


def a_spec(label: dict[str, Any]) -> ModelSpec:
    strategy = "crossover" if label["kind"] == "setup" else "rotation"
    content = {"name": "m", "strategy": strategy, "features": "rotation", "horizon_h": 6.0, "algorithm": "lightgbm_classification"}
    return ModelSpec.model_validate(content | {"label": label})


SPECS = [
    a_spec({"kind": "gain"}),
    a_spec({"kind": "triple_barrier", "take_profit": 3.0, "stop": 2.0}),
    a_spec({"kind": "forward_return_over_volatility", "relative": True}),
    a_spec({"kind": "setup", "take_profit": 6.0, "stop": 3.0, "limits_below": [0.2], "entry_bars": 4}),
]
KINDS = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.label.kind)


def trained_on(spec: ModelSpec, panel: Panel, table: FeatureTable) -> Floats:
    """The labels as a training has them, (T, N)."""
    history = SetupHistory(DESK.execution, SCOPE.signals(panel, "crossover")) if spec.of_setups else None
    labels = make_labels(panel, table, spec.horizon_h, spec.label, COST_FRAC, history).target
    count = np.maximum(1, (~np.isnan(labels)).sum(axis=1, keepdims=True))
    return labels - np.nansum(labels, axis=1, keepdims=True) / count if is_relative(spec.label) else labels


def a_day(spec: ModelSpec, panel: Panel, table: FeatureTable, number: int, probability: Floats | None) -> ExperienceDay:
    """A day of ticks, at every close for set-ups, else every hour, at which the model says ``probability`` of each pair."""
    traces = []
    midnight = MIDNIGHT + timedelta(days=number)
    for minute in range(0, 24 * 60, 15 if spec.of_setups else 60):
        at = midnight + timedelta(minutes=minute)
        row = (to_ms(at) - panel.start_ms) // panel.step_ms - 1
        said = {"model": "m", "version": "v1", "stage": "champion", "horizon_h": 6.0, "forecast": [0.01] * 6, "probability": probability}
        features = {"names": list(table.names), "values": table.values[row]}
        traces.append((at, {"evidence": {"pairs": list(table.pairs), "features": features, "said": [said]}}))
    day = make_day(spec.strategy, FIRST + timedelta(days=number), traces, panel, {"m": 6.0})
    return mark_events(day, panel, [spec], DESK.execution, SCOPE)


@KINDS
def test_the_event_is_the_label_that_the_model_learned(spec, panel, table):
    labels = trained_on(spec, panel, table)
    known = 0
    for number in range(3):
        for tick in a_day(spec, panel, table, number, np.full(6, 0.5)).ticks:
            row = (to_ms(tick.at) - panel.start_ms) // panel.step_ms - 1
            expected = np.where(np.isnan(labels[row]), np.nan, labels[row] > 0.0)
            np.testing.assert_array_equal(tick.said[0].won, expected)
            known += int((~np.isnan(expected)).sum())
            reach_ms = (reach_bars(spec.label, 6.0, panel.step_ms) + 1) * panel.step_ms
            assert tick.said[0].until_ms == to_ms(tick.at) + reach_ms
    assert known > (5 if spec.of_setups else 400)


def drift_of(spec: ModelSpec, days: list[ExperienceDay]) -> DriftReport:
    track = make_track(days, "m", "v1", COST_FRAC, 2)
    limits = spec.drift.model_copy(update={"min_rows": 50})
    return measure_drift(None, limits, (), track, MIDNIGHT + timedelta(days=DAYS + 1), 10)


@pytest.mark.parametrize("spec", SPECS[:3], ids=lambda spec: spec.label.kind)
def test_who_keeps_his_word_does_not_ring_and_who_breaks_it_does(spec, panel, table):
    first = (to_ms(MIDNIGHT) - panel.start_ms) // panel.step_ms - 1
    labels = trained_on(spec, panel, table)[first : first + DAYS * 96 : 4]
    honest = float((labels > 0.0).mean())
    days = [a_day(spec, panel, table, number, np.full(6, honest)) for number in range(DAYS)]
    kept = drift_of(spec, days)
    assert kept.calibration_error < 0.01
    assert "calibration_error" not in {breach.measure for breach in kept.breaches}
    boasting = drift_of(spec, [a_day(spec, panel, table, number, np.full(6, honest + 0.2)) for number in range(DAYS)])
    assert boasting.calibration_error == pytest.approx(0.2, abs=0.01)
    assert "calibration_error is 0.2" in next(breach.sentence for breach in boasting.breaches if breach.measure == "calibration_error")


def test_a_gain_is_more_than_a_rise(panel, table):
    days = [a_day(SPECS[0], panel, table, number, np.full(6, 0.5)) for number in range(DAYS)]
    said = [tick.said[0] for day in days for tick in day.ticks]
    won, outcome = (np.concatenate([getattr(one, name) for one in said]) for name in ("won", "outcome"))
    np.testing.assert_array_equal(won, outcome > COST_FRAC)
    assert ((won == 0.0) & (outcome > 0.0)).any()


def test_who_gave_no_probability_spoke_of_no_event(panel, table):
    day = a_day(SPECS[0], panel, table, 0, None)
    assert all(np.isnan(tick.said[0].won).all() for tick in day.ticks)
    some = np.array([0.5, np.nan, 0.5, np.nan, 0.5, np.nan])
    for tick in a_day(SPECS[0], panel, table, 0, some).ticks:
        assert np.array_equal(np.isnan(tick.said[0].won), np.isnan(some))


def test_of_events_that_nobody_stored_no_calibration_is_told(panel, table):
    day = a_day(SPECS[0], panel, table, 0, np.full(6, 0.5))
    plain = mark_events(day, panel, [], DESK.execution, SCOPE)
    assert plain is day, "a model that the desk no longer has"
    report = drift_of(SPECS[0], [a_day(SPECS[0], panel, table, number, None) for number in range(DAYS)])
    assert "calibration_error" in report.unknown
