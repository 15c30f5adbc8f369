"""Scores of forecasts against figures worked out by hand, and drift from a manifest against drift from the rows themselves."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from tickless.learn.drift import DriftLimits
from tickless.learn.drift_reference import DriftReference
from tickless.learn.drift_review import measure_drift
from tickless.learn.experience import ExperienceDay, Said, TickExperience
from tickless.learn.track import Track, make_track
from tickless.types import to_ms

DAY = date(2024, 6, 1)
T0 = datetime(2024, 6, 1, tzinfo=UTC)
PAIRS = tuple(f"P{n}/USDT" for n in range(6))
NAN = float("nan")


def a_tick(at: datetime, forecast, outcome, *, features=None, probability=None, version="v1") -> TickExperience:
    forecast, outcome = np.asarray(forecast, dtype=np.float64), np.asarray(outcome, dtype=np.float64)
    none = np.full(len(outcome), NAN)
    until = to_ms(at) + 7 * 3_600_000
    given = none if probability is None else probability
    won = none if probability is None else (outcome > 0.0).astype(np.float64)
    said = Said("m", version, "champion", 6.0, forecast, given, outcome, outcome * 50.0, until, won)
    values = np.zeros((len(outcome), 1)) if features is None else features
    return TickExperience(at, PAIRS[: len(outcome)], tuple(f"f{n}" for n in range(values.shape[1])), values, (said,))


def a_day(*ticks: TickExperience) -> ExperienceDay:
    return ExperienceDay("s", DAY, ticks)


def test_scores_are_rank_ics_and_net_returns_pay_both_sides():
    outcome = [0.06, 0.05, 0.04, 0.03, 0.02, 0.01]
    day = a_day(a_tick(T0, outcome, outcome), a_tick(T0 + timedelta(minutes=30), outcome[::-1], outcome))
    track = make_track([day], "m", "v1", cost_frac=0.001, top_k=2)
    assert track is not None
    assert track.score == pytest.approx([1.0, -1.0])
    # The best two earn 0.055 on average, the worst two 0.015, all six 0.035; a round trip costs 0.001.
    assert track.net_frac == pytest.approx([0.055 - 0.036, 0.015 - 0.036])
    assert track.overlap == 12
    assert make_track([day], "m", "v2", 0.001, 2) is None


def test_with_too_few_pairs_the_error_saved_counts():
    track = make_track([a_day(a_tick(T0, [0.01, 0.03], [0.02, 0.02]))], "m", "v1", 0.0, 1)
    assert track is not None
    # In units of the volatility: outcome 1, forecasts 0.5 and 1.5, each off by 0.5 where zero is off by 1.
    assert track.score == pytest.approx([0.75])


def test_an_outcome_that_nobody_knows_counts_for_nothing():
    outcome = [NAN, 0.05, 0.04, 0.03, 0.02, 0.01]
    track = make_track([a_day(a_tick(T0, [9.0, 5.0, 4.0, 3.0, 2.0, 1.0], outcome))], "m", "v1", 0.0, 1)
    assert track is not None
    assert track.score == pytest.approx([1.0])
    assert track.net_frac == pytest.approx([0.05 - 0.03])


def test_a_choice_pays_for_what_it_changes_of_the_one_a_horizon_before():
    outcome = np.array([0.06, 0.05, 0.04, 0.03, 0.02, 0.01])
    other = np.array([0.06, 0.01, 0.05, 0.02, 0.03, 0.04])
    hours = [(0, outcome), (3, outcome), (6, outcome), (9, other), (15, outcome[::-1])]
    days = [a_day(*(a_tick(T0 + timedelta(hours=hour), said, outcome) for hour, said in part)) for part in (hours[:3], hours[3:])]
    track = make_track(days, "m", "v1", cost_frac=0.001, top_k=2)
    assert track is not None
    # Half a round trip for each unit bought or sold. The first horizon has nothing before it; the second day goes on with the first.
    # At nine one of two pairs is exchanged (half of the equity sold, half bought), at fifteen both of what was held at nine.
    changed = np.array([NAN, NAN, 0.0, 1.0, 2.0])
    over = np.array([0.055, 0.055, 0.055, 0.05, 0.015]) - 0.035
    assert track.active_frac == pytest.approx(over - 0.0005 * changed, nan_ok=True)
    assert track.net_frac == pytest.approx(over - 0.001)
    late = track.since(T0 + timedelta(hours=9))
    assert late.active_frac == pytest.approx((over - 0.0005 * changed)[3:]), "what was held before a window counts"


def with_volatility(values):
    return np.column_stack([np.zeros(len(values)), np.asarray(values)])


def a_scaled_tick(at: datetime, forecast, outcome, volatility) -> TickExperience:
    """A tick as experience has it: outcomes over the volatility that was known, six hours of the 24."""
    tick = a_tick(at, forecast, outcome, features=with_volatility(volatility))
    said = replace(tick.said[0], scaled=np.asarray(outcome) / (np.asarray(volatility) / 2.0))
    return replace(tick, feature_names=("f0", "rv_24h"), said=(said,))


def test_an_outcome_of_exactly_zero_is_a_value():
    volatility = np.full(5, 0.04)
    day = a_day(
        a_scaled_tick(T0, [0.05, 0.04, 0.0, -0.01, -0.02], [0.05, 0.04, 0.0, -0.01, -0.02], volatility),
        # The pair that went nowhere was said to be the best: leaving it out would make this a perfect forecast.
        a_scaled_tick(T0 + timedelta(hours=1), [0.0, 0.04, 0.05, -0.01, -0.02], [0.02, 0.04, 0.0, -0.01, -0.02], volatility),
        a_scaled_tick(T0 + timedelta(hours=2), [0.05, 0.04, 0.03, 0.02, 0.01], np.zeros(5), volatility),
    )
    track = make_track([day], "m", "v1", 0.0, 1)
    assert track is not None
    # Of the second tick: said 3 4 5 2 1, came 4 5 3 2 1, so Spearman's 1 - 6 (1 + 1 + 4) / (5 · 24).
    assert track.score == pytest.approx([1.0, 1.0 - 6.0 * 6.0 / 120.0, 0.0])
    assert track.periods == pytest.approx(3 / 6)


def test_a_single_pair_that_went_nowhere_counts_against_who_said_it_would_move():
    day = a_day(*(a_scaled_tick(T0 + timedelta(hours=hour), [0.01], [outcome], [0.04]) for hour, outcome in enumerate([0.02, 0.0, NAN])))
    track = make_track([day], "m", "v1", 0.0, 1)
    assert track is not None
    # Volatility of six hours 0.02: said 0.5; came 1 and 0.
    assert track.score == pytest.approx([1.0 - 0.25, -0.25, NAN], nan_ok=True)


RNG = np.random.default_rng(5)
FITTED = np.column_stack([RNG.standard_normal(2000), np.where(RNG.random(2000) < 0.4, 0.0, RNG.random(2000)), np.full(2000, 3.0)]).astype(
    np.float32
)
LAST_FITTED = to_ms(T0 - timedelta(days=30))
FITTED_AT = LAST_FITTED - np.arange(2000, dtype=np.int64)[::-1] // 2 * 3_600_000
"""Six weeks of two pairs."""
REFERENCE = DriftReference.of(("f0", "f1", "f2"), FITTED, FITTED_AT, np.zeros(0), 10)


def some_ticks(days: int, shift: float = 0.0, start: datetime = T0) -> list[TickExperience]:
    rng = np.random.default_rng(8)
    hours = range(days * 24)
    features = [np.column_stack([rng.standard_normal(6) + shift, rng.random(6), np.full(6, 3.0)]) for _ in hours]
    return [a_tick(start + timedelta(hours=hour), np.zeros(6), np.zeros(6), features=features[hour]) for hour in hours]


def f0_rings(reference, ticks, limits) -> bool:
    """Whether the PSI of f0 does; f1, which lost the heap that its reference has, always does."""
    report = measure_drift(reference, limits, ticks, None, T0 + timedelta(days=9), 10)
    breached = {breach.subject for breach in report.breaches if breach.measure == "psi"}
    assert "f1" in breached
    assert report.action == "retrain"
    return "f0" in breached


def test_inputs_are_held_against_the_reference_of_the_manifest():
    ticks = some_ticks(8, shift=0.4)
    limits = DriftLimits(min_rows=100)
    report = measure_drift(REFERENCE, limits, ticks, None, T0 + timedelta(days=9), 10)
    windows = [REFERENCE.psi(np.concatenate([tick.features for tick in part]), to_ms(T0)) for part in (ticks[24:], ticks[:-24])]
    assert report.psi == pytest.approx({name: min(window[name] for window in windows) for name in REFERENCE.features})
    assert report.psi["f0"] > 0.1
    assert report.psi["f2"] == 0.0
    assert not f0_rings(REFERENCE, ticks, limits)
    assert f0_rings(REFERENCE, some_ticks(8, shift=0.8), limits)


@pytest.mark.parametrize("lacking", [range(24), range(96, 120), range(168, 192)], ids=["first", "middle", "last"])
def test_of_windows_with_a_day_missing_no_psi_is_told(lacking):
    ticks = [tick for hour, tick in enumerate(some_ticks(8, shift=2.0)) if hour not in lacking]
    report = measure_drift(REFERENCE, DriftLimits(min_rows=100), ticks, None, T0 + timedelta(days=9), 10)
    assert np.isnan(list(report.psi.values())).all()
    assert report.action is None


def test_one_night_beyond_the_limit_is_not_sustained():
    # Two strange days are enough for the week that ends with them; the week that ended a day before had one.
    ticks = some_ticks(6) + some_ticks(2, shift=9.0, start=T0 + timedelta(days=6))
    assert f0_rings(REFERENCE, ticks, DriftLimits(min_rows=100, psi_windows=1))
    assert not f0_rings(REFERENCE, ticks, DriftLimits(min_rows=100))


def test_moods_that_the_reference_held_ring_only_beyond_it():
    moody = FITTED.copy()
    moody[:, 0] += np.repeat([0.0, 1.5, 0.0, -1.5, 0.0], 400).astype(np.float32)
    reference = DriftReference.of(("f0", "f1", "f2"), moody, FITTED_AT, np.zeros(0), 10)
    limits, like, unlike = DriftLimits(min_rows=100), some_ticks(8, shift=1.0), some_ticks(8, shift=3.5)
    assert f0_rings(REFERENCE, like, limits)
    assert not f0_rings(reference, like, limits)
    assert f0_rings(reference, unlike, limits)


def test_without_two_windows_of_reference_a_psi_is_unknown():
    short = DriftReference.of(("f0", "f1", "f2"), FITTED[-600:], FITTED_AT[-600:], np.zeros(0), 10)
    report = measure_drift(short, DriftLimits(min_rows=100), some_ticks(8, shift=2.0), None, T0 + timedelta(days=9), 10)
    assert "psi of f0" in report.unknown
    assert report.feature_z["f0"] > 1.5
    assert report.action is None


def test_the_last_days_that_are_known_are_a_window_however_late_they_come():
    early, late = (
        measure_drift(REFERENCE, DriftLimits(min_rows=100), some_ticks(8), None, T0 + timedelta(days=days), 10) for days in (8, 10)
    )
    assert early == late
    assert not np.isnan(early.psi["f0"])


def test_a_window_that_the_reference_saw_is_not_held_against_it():
    seen = replace(REFERENCE, until_ms=to_ms(T0 + timedelta(days=7)))
    report = measure_drift(seen, DriftLimits(min_rows=100), some_ticks(7), None, T0 + timedelta(days=7), 10)
    assert np.isnan(list(report.psi.values())).all()
    assert report.action is None


def test_of_three_observations_no_feature_has_left():
    ticks = some_ticks(3, shift=9.0)[::24]
    assert measure_drift(REFERENCE, DriftLimits(), ticks, None, T0 + timedelta(days=4), 10).action is None


def test_a_feature_that_left_for_days_is_sustained_and_one_day_is_not():
    limits = DriftLimits(min_rows=100)
    gone = measure_drift(REFERENCE, limits, some_ticks(5, shift=4.0), None, T0 + timedelta(days=5), 10)
    assert gone.feature_z["f0"] > 3.0
    assert "f0" in {breach.subject for breach in gone.breaches if breach.measure == "feature_z"}
    briefly = some_ticks(4) + some_ticks(1, shift=9.0, start=T0 + timedelta(days=4))
    assert abs(measure_drift(REFERENCE, limits, briefly, None, T0 + timedelta(days=5), 10).feature_z["f0"]) < 3.0


def a_track(forecast_is_right: float, probability: float = NAN):
    rng = np.random.default_rng(2)
    ticks = []
    for n in range(48 * 8):
        outcome = 0.01 * rng.standard_normal(6)
        said = outcome * forecast_is_right + 0.002 * rng.standard_normal(6)
        ticks.append(a_tick(T0 + timedelta(minutes=30 * n), said, outcome, probability=np.full(6, probability)))
    track = make_track([a_day(*ticks)], "m", "v1", 0.0, 2)
    assert track is not None
    return track


def test_rolling_ic_sharpe_and_calibration_come_of_the_track():
    limits, end = DriftLimits(), T0 + timedelta(days=8)
    good = measure_drift(None, limits, (), a_track(1.0), end, 10)
    bad = measure_drift(None, limits, (), a_track(-1.0), end, 10)
    assert good.rolling_ic > 0.8 > -0.8 > bad.rolling_ic
    assert good.rolling_sharpe > 0.4 > bad.rolling_sharpe
    assert (good.action, bad.action) == (None, "shrink")
    assert np.isnan(good.calibration_error)
    sure = measure_drift(None, limits, (), a_track(1.0, probability=0.95), end, 10)
    assert sure.calibration_error == pytest.approx(0.45, abs=0.05)
    assert sure.action == "retrain"


def rings_of(rank_ic: float, sharpe: float, seeds: int = 80) -> tuple[float, float]:
    """The share of tracks of four weeks, 6 h and a tick an hour, whose rolling rank IC, and whose Sharpe ratio, rings."""
    count, overlap = 28 * 24, 6
    at_ms = to_ms(T0) + 3_600_000 * np.arange(count, dtype=np.int64)
    nothing, rung = np.full(count, NAN), np.zeros(2)
    for seed in range(seeds):
        made = np.random.default_rng(seed).standard_normal((2, count + overlap - 1))
        score, earned = (np.convolve(part, np.ones(overlap) / np.sqrt(overlap), "valid") for part in made)
        active = 0.01 * (earned + sharpe / np.sqrt(24 * 365 / 6))
        track = Track(6.0, at_ms, rank_ic + 0.2 * score, active, active, at_ms, nothing, nothing)
        report = measure_drift(None, DriftLimits(), (), track, T0 + timedelta(days=28), 10)
        breached = {breach.measure for breach in report.breaches}
        rung += ["rolling_ic" in breached, "rolling_sharpe" in breached]
    ic, ratio = rung / seeds
    return float(ic), float(ratio)


def test_who_is_no_worse_than_allowed_hardly_rings_and_who_is_far_worse_does():
    assert max(rings_of(0.0, 0.4)) <= 0.075
    assert max(rings_of(0.03, 4.0)) <= 0.025
    assert min(rings_of(-0.10, -20.0)) >= 0.95


@pytest.mark.parametrize("periods", [3, 9, 11])
def test_of_too_few_independent_periods_no_action_follows_however_many_rows(periods):
    end = T0 + timedelta(days=8)
    # Ticks of half an hour and a horizon of six: twelve ticks a period.
    track = a_track(-1.0, probability=0.95).since(end - timedelta(hours=6 * periods))
    report = measure_drift(None, DriftLimits(min_rows=50), (), track, end, 10)
    enough = periods >= 10
    found = [report.rolling_ic, report.rolling_sharpe, report.calibration_error]
    assert [bool(np.isnan(value)) for value in found] == [not enough] * 3
    assert report.action == ("shrink" if enough else None)


def test_of_too_few_periods_nothing_is_told():
    track = a_track(-1.0).since(T0 + timedelta(days=7))
    report = measure_drift(None, DriftLimits(), (), track, T0 + timedelta(days=8), 10)
    assert np.isnan(report.rolling_ic)
    assert report.action is None
