from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tickless.errors import ArtifactError
from tickless.learn.drift import (
    SEVERITY,
    DriftLimit,
    DriftLimits,
    judge_drift,
    sustained_z,
)
from tickless.learn.drift_reference import Z_CAP, Distribution, DriftReference

NAN = float("nan")
LIMITS = DriftLimits()
CALM = np.zeros(10)


def psi(reference, current, bins=10, min_rows=0):
    return Distribution.of(reference, bins).psi(current, min_rows)


def z_of(reference, windows):
    names = [f"f{at}" for at in range(reference.shape[1])]
    return DriftReference.of(names, reference, at_once(len(reference), 0), CALM, 10).z(windows)


def at_once(rows: int, at_ms: int):
    return np.full(rows, at_ms, dtype=np.int64)


def hours(days: int, pairs: int = 20):
    """When the rows of ``pairs`` pairs were decided, once an hour."""
    return np.repeat(np.arange(1, days * 24 + 1, dtype=np.int64) * 3_600_000, pairs)


def test_psi_by_hand():
    # Shares 0.5, 0.5 before and 0.2, 0.8 now: -0.3 ln 0.4 + 0.3 ln 1.6.
    reference = np.array([1.0, 2.0, 3.0, 4.0])
    current = np.array([1.0, 3.5, 3.5, 4.0, 9.0])
    assert psi(reference, current, bins=2) == pytest.approx(0.3 * math.log(1.6) - 0.3 * math.log(0.4))
    assert psi(reference, reference, bins=2) == 0.0


def test_psi_tells_a_shift_from_a_second_sample():
    rng = np.random.default_rng(1)
    reference = rng.standard_normal(5000)
    assert psi(reference, rng.standard_normal(2000)) < 0.02
    assert psi(reference, rng.standard_normal(2000) + 0.7) > 0.25
    assert psi(reference, 2.0 * rng.standard_normal(2000)) > 0.25


def test_heaps_constants_and_holes():
    rng = np.random.default_rng(2)
    constant = np.full(1000, 3.0)
    assert psi(constant, np.full(500, 3.0)) == 0.0
    for moved in (2.9, 3.1):
        assert psi(constant, np.full(500, moved)) > 5.0
    heap = np.where(rng.random(4000) < 0.5, 0.0, rng.standard_normal(4000))
    assert psi(heap, np.where(rng.random(2000) < 0.5, 0.0, rng.standard_normal(2000))) < 0.03
    assert psi(heap, rng.standard_normal(2000)) > 0.25
    holes = np.where(rng.random(4000) < 0.02, np.nan, rng.standard_normal(4000))
    assert psi(holes, np.where(rng.random(2000) < 0.02, np.nan, rng.standard_normal(2000))) < 0.03
    assert psi(holes, np.where(rng.random(2000) < 0.5, np.nan, rng.standard_normal(2000))) > 0.25
    assert psi(np.full(100, np.nan), np.full(100, np.nan)) == 0.0
    assert math.isnan(psi(np.empty(0), heap))
    assert math.isnan(psi(heap, heap[:99], min_rows=100))


@settings(max_examples=60)
@given(
    st.lists(st.integers(-50, 50), min_size=5, max_size=120),
    st.lists(st.integers(-80, 80), min_size=5, max_size=120),
    st.integers(2, 12),
)
def test_psi_is_not_negative_and_no_rising_transformation_changes_it(before, now, bins):
    reference, current = np.asarray(before, dtype=float), np.asarray(now, dtype=float)
    value = psi(reference, current, bins)
    assert value >= 0.0
    assert psi(np.exp(reference / 20.0), np.exp(current / 20.0), bins) == pytest.approx(value)
    assert psi(reference, np.concatenate([current, current]), bins) == pytest.approx(value)
    assert psi(reference, reference[::-1], bins) == 0.0


def test_windows_that_share_time_are_refused():
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((2000, 2)).astype(np.float32)
    reference = DriftReference.of(("a", "b"), rows, at_once(2000, 5), CALM, 10)
    current = rows + np.array([0.0, 1.5], dtype=np.float32)
    found = reference.psi(current, 6)
    assert found["a"] < 0.01
    assert found["b"] > 1.0
    with pytest.raises(ValueError, match="the reference reaches to 5"):
        reference.psi(current, 5)


def test_a_reference_comes_back_from_its_manifest_bit_for_bit():
    rng = np.random.default_rng(8)
    sequences = rng.standard_normal((500, 3, 2)).astype(np.float32)
    sequences[:, -1, 1] = 0.1
    seen = at_once(500, 7)
    reference = DriftReference.of(("a", "b"), sequences, seen, rng.standard_normal(300), 10)
    content = json.loads(json.dumps(reference.as_json(), allow_nan=False))
    assert DriftReference.from_json(content) == reference
    assert reference.features == DriftReference.of(("a", "b"), sequences[:, -1], seen, CALM, 10).features
    # A tick sees 0.1 in float64; the rows that were fitted on share its float32.
    assert reference.psi(np.column_stack([sequences[:, -1, 0], np.full(500, 0.1)]), 8)["b"] == 0.0
    assert reference.forecast.rows == 300
    for wrong in ({}, content | {"features": []}, content | {"forecast": content["forecast"] | {"heaps": []}}):
        with pytest.raises(ArtifactError, match="the drift reference is damaged"):
            DriftReference.from_json(wrong)


def test_a_reference_knows_how_far_its_own_weeks_lie_apart():
    rng = np.random.default_rng(11)
    at_ms = hours(56)
    calm = rng.standard_normal(len(at_ms))
    moods = calm + np.repeat([0.0, 0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0], len(at_ms) // 8)
    found = DriftReference.of(("calm", "moods"), np.column_stack([calm, moods]), at_ms, CALM, 10)
    assert 0.0 < found.widest["calm"] < 0.05
    fifth = slice(4 * len(at_ms) // 8, 5 * len(at_ms) // 8)
    rest = np.delete(moods, np.arange(len(at_ms))[fifth])
    # By hand of the farthest whole week; the bins are those of all rows, so it is not quite the same number.
    assert found.widest["moods"] == pytest.approx(psi(rest, moods[fifth]), rel=0.2)
    assert DriftReference.from_json(json.loads(json.dumps(found.as_json()))).widest == found.widest
    assert len(json.dumps(found.as_json())) < 2000


def test_of_less_than_two_windows_nobody_knows_how_far_they_lie_apart():
    rng = np.random.default_rng(12)
    at_ms = hours(14)
    rows = rng.standard_normal((len(at_ms), 1))
    assert 0.0 < DriftReference.of(("a",), rows, at_ms, CALM, 10).widest["a"] < 0.1
    assert math.isnan(DriftReference.of(("a",), rows[20 * 24 :], at_ms[20 * 24 :], CALM, 10).widest["a"])
    assert math.isnan(DriftReference.of(("a",), rows, at_once(len(rows), 5), CALM, 10).widest["a"])
    content = DriftReference.of(("a",), rows, at_ms, CALM, 10).as_json()
    del content["features"]["a"]["widest"]
    assert math.isnan(DriftReference.from_json(content).widest["a"]), "of a manifest from before"
    with pytest.raises(ValueError, match="needs rows"):
        DriftReference.of(("a",), rows[:0], at_ms[:0], CALM, 10)


def test_a_window_full_of_holes_does_not_say_how_far_windows_lie_apart():
    rng = np.random.default_rng(13)
    at_ms = hours(42)
    hole = (at_ms // 86_400_000 >= 14) & (at_ms // 86_400_000 < 21) & (np.arange(len(at_ms)) % 400 > 0)
    rows = rng.standard_normal((int((~hole).sum()), 1))
    assert DriftReference.of(("a",), rows, at_ms[~hole], CALM, 10).widest["a"] < 0.1


def shares_of(found: Distribution, part):
    """Counted one by one: below or at each edge, exactly at one that is a heap, and no NaNs here."""
    counts = np.zeros(2 * len(found.edges) + 3)
    for value in part:
        at = sum(edge < value for edge in found.edges)
        counts[2 * at + (at < len(found.edges) and found.heaps[at] and value == found.edges[at])] += 1.0
    return counts / len(part)


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.integers(2, 6), st.integers(1, 4))
def test_the_widest_window_is_the_farthest_of_all_by_definition(seed, bins, window):
    rng = np.random.default_rng(seed)
    at_ms = hours(9, pairs=1)
    sample = np.round(rng.standard_normal(len(at_ms)).cumsum())
    found = Distribution.of(sample, bins, at_ms, window)
    # Days are counted back from the last row, which here ends one.
    expected = []
    for first in range(9 - window + 1):
        inside = np.zeros(len(at_ms), dtype=np.bool_)
        inside[first * 24 : (first + window) * 24] = True
        now, before = (np.maximum(shares_of(found, part), 1e-4) for part in (sample[inside], sample[~inside]))
        expected.append(float(((now - before) * np.log(now / before)).sum()))
    assert found.widest == pytest.approx(max(expected))


def test_z_of_windows():
    reference = np.column_stack([np.array([-1.0, 1.0] * 50), np.full(100, 7.0), np.full(100, np.nan)])
    windows = [np.array([[4.0, 7.0, 1.0], [np.nan, 7.0, 1.0]]), np.array([[-2.0, 8.0, 1.0], [-3.0, 8.0, 1.0]])]
    np.testing.assert_allclose(z_of(reference, windows), [[4.0, 0.0, np.nan], [-2.5, Z_CAP, np.nan]])
    assert z_of(reference, []).shape == (0, 3)
    assert np.isnan(sustained_z(z_of(reference, []), 1)).all()


def test_a_z_counts_once_it_lasts():
    z = np.array([[5.0, 3.1, -4.0, 3.5], [0.1, 3.2, -3.2, -3.5], [4.0, 3.0, -6.0, 3.5]])
    np.testing.assert_allclose(sustained_z(z, 3), [0.1, 3.0, -3.2, 0.0])
    np.testing.assert_allclose(sustained_z(z, 1), z[-1])
    assert np.isnan(sustained_z(z, 4)).all()
    assert np.isnan(sustained_z(np.vstack([z, np.full(4, np.nan)]), 2)).all()


def test_nothing_drifts_on_quiet_measures():
    report = judge_drift(LIMITS, psi={"a": 0.25}, feature_z={"a": -2.9}, rolling_ic=0.0, rolling_sharpe=0.4, calibration_error=0.1)
    assert report.action is None
    assert report.breaches == report.unknown == ()


def test_every_limit_has_its_action_and_the_most_severe_is_the_reports():
    limits = DriftLimits(rolling_ic=DriftLimit(limit=0.01, action="stop"))
    report = judge_drift(
        limits, psi={"a": 0.3, "b": NAN}, feature_z={"a": -3.0, "b": 0.0}, rolling_ic=0.005, rolling_sharpe=0.39, calibration_error=0.11
    )
    assert [(breach.measure, breach.subject, breach.action) for breach in report.breaches] == [
        ("psi", "a", "retrain"),
        ("feature_z", "a", "alert"),
        ("rolling_ic", "", "stop"),
        ("rolling_sharpe", "", "retrain"),
        ("calibration_error", "", "retrain"),
    ]
    assert report.action == "stop"
    assert report.unknown == ("psi of b",)
    assert report.breaches[0].sentence == "psi of a is 0.300, beyond 0.25: retrain"
    content = report.as_json()
    assert content["psi"] == {"a": 0.3, "b": None}
    assert json.loads(json.dumps(content, allow_nan=False)) == content


def test_what_the_reference_itself_held_is_no_drift():
    told = {"a": 0.8, "b": 0.8, "c": 0.2}
    report = judge_drift(LIMITS, psi=told, feature_z={}, psi_widest={"a": 0.9, "b": 0.6, "c": 0.1})
    assert [breach.sentence for breach in report.breaches] == ["psi of b is 0.800, beyond 0.6: retrain"]
    assert [breach.subject for breach in judge_drift(LIMITS, psi=told, feature_z={}).breaches] == ["a", "b"]


def test_what_cannot_be_told_breaches_nothing():
    report = judge_drift(LIMITS, psi={"a": NAN}, feature_z={"a": NAN})
    assert report.action is None
    assert set(report.unknown) == {"psi of a", "feature_z of a", "rolling_ic", "rolling_sharpe", "calibration_error"}


def test_a_rolling_measure_breaches_by_more_than_chance_explains():
    def broken(limits: DriftLimits, **measures: float) -> list[str]:
        return [breach.sentence for breach in judge_drift(limits, psi={}, feature_z={}, **measures).breaches]

    assert broken(LIMITS, rolling_ic=-0.05, rolling_ic_error=0.025) == []
    assert broken(LIMITS, rolling_ic=-0.05, rolling_ic_error=0.02) == ["rolling_ic is -0.050, 2.5 standard errors below 0: shrink"]
    assert broken(LIMITS, rolling_sharpe=-6.7, rolling_sharpe_error=3.6) == []
    (sentence,) = broken(LIMITS, rolling_sharpe=-6.9, rolling_sharpe_error=3.6)
    assert sentence == "rolling_sharpe is -6.900, 2.0 standard errors below 0.4: retrain"
    at_the_limit = DriftLimits(chance_t=0.0)
    assert len(broken(at_the_limit, rolling_ic=-0.001, rolling_ic_error=0.02, rolling_sharpe=0.3, rolling_sharpe_error=3.6)) == 2
    blind = judge_drift(LIMITS, psi={}, feature_z={}, rolling_ic=-0.5, rolling_ic_error=NAN)
    assert (blind.action, "rolling_ic" in blind.unknown, blind.tells("rolling_ic")) == (None, True, False)
    assert blind.as_json()["rolling_ic_error"] is None


def test_limits_are_validated_like_settings():
    assert DriftLimits.model_validate({"psi": {"limit": 0.1, "action": "stop"}}).psi.action == "stop"
    assert {LIMITS.psi.action, LIMITS.feature_z.action, LIMITS.rolling_ic.action} <= set(SEVERITY)
    for wrong in ({"psi": {"limit": 0.1, "action": "panic"}}, {"psi": {"limit": NAN, "action": "stop"}}, {"psy": 1}, {"bins": 1}):
        with pytest.raises(ValidationError):
            DriftLimits.model_validate(wrong)
