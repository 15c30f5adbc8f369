from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickless.learn.classification import (
    auc,
    brier_parts,
    calibration_error,
    reliability_curve,
    row_losses,
    validate_classifier,
    wilson_interval,
)

HOUR = 3_600_000


def drawn(rows: int = 4000, seed: int = 1, strength: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p = 1.0 / (1.0 + np.exp(-strength * rng.standard_normal(rows)))
    return p, (rng.random(rows) < p).astype(float)


def test_log_loss_and_brier_by_hand():
    p, won = np.array([0.8, 0.4, 0.5]), np.array([1.0, 0.0, 1.0])
    np.testing.assert_allclose(row_losses(p, won), [0.2231435513, 0.5108256238, 0.6931471806])
    found = validate_classifier(p, won, np.arange(3) * HOUR, 1, HOUR)
    assert found.brier == pytest.approx((0.04 + 0.16 + 0.25) / 3)
    assert found.brier_base == pytest.approx(2 / 9)
    assert found.log_loss == pytest.approx(0.4757054519)
    assert np.isfinite(row_losses(np.array([0.0]), np.array([1.0]))).all()


def test_auc_counts_pairs_and_half_the_ties():
    p, won = np.array([0.1, 0.4, 0.4, 0.35, 0.8, 0.4]), np.array([0.0, 0.0, 1.0, 1.0, 1.0, 0.0])
    pairs = [(a > b) + 0.5 * (a == b) for a in p[won == 1] for b in p[won == 0]]
    assert auc(p, won) == pytest.approx(np.mean(pairs))
    assert auc(np.full(6, 0.3), won) == 0.5
    assert np.isnan(auc(p, np.ones(6)))


def test_auc_is_mann_whitneys():
    from scipy.stats import mannwhitneyu

    p, won = drawn(500)
    p = np.round(p, 1)
    u = mannwhitneyu(p[won == 1], p[won == 0]).statistic
    assert auc(p, won) == pytest.approx(u / (won.sum() * (len(won) - won.sum())))


def test_brier_parts_by_hand():
    p = np.array([0.2] * 5 + [0.7] * 5)
    won = np.array([1.0, 0, 0, 0, 0, 1, 1, 1, 0, 0])
    parts = brier_parts(p, won)
    assert parts.reliability == pytest.approx(0.5 * 0.0 + 0.5 * 0.01)
    assert parts.resolution == pytest.approx(0.04)
    assert parts.uncertainty == pytest.approx(0.24)
    assert parts.within == pytest.approx(0.0, abs=1e-15)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=80))
def test_the_parts_add_up_and_lie_in_their_bounds(rows):
    p, won = np.array([row[0] for row in rows]), np.array([float(row[1]) for row in rows])
    parts = brier_parts(p, won)
    assert parts.reliability - parts.resolution + parts.uncertainty + parts.within == pytest.approx(np.mean((p - won) ** 2))
    assert 0.0 <= parts.reliability <= 1.0
    assert -1e-12 <= parts.resolution <= parts.uncertainty + 1e-12 <= 0.25 + 2e-12
    curve = reliability_curve(p, won)
    assert sum(part.count for part in curve) == len(p)
    assert all(0.0 <= part.low <= part.frequency + 1e-12 and part.frequency <= part.high + 1e-12 <= 1.0 + 2e-12 for part in curve)
    assert 0.0 <= calibration_error(curve) <= 1.0
    if 0.0 < won.mean() < 1.0:
        assert auc(p, won) == pytest.approx(1.0 - auc(-p, won))
        assert auc(p, won) == auc(2.0 * p, won)


def test_wilsons_interval_is_that_of_the_literature():
    # Newcombe (1998), Statistics in Medicine 17, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    for wins, tries, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)):
        assert wilson_interval(wins / tries, tries) == pytest.approx((low, high), abs=5e-5)
    assert wilson_interval(0.5, 0) == (0.0, 1.0)


def test_a_forecaster_that_knows_the_probability_is_calibrated_and_better_than_the_base_rate():
    p, won = drawn(20_000)
    found = validate_classifier(p, won, np.repeat(np.arange(2000), 10) * HOUR, 6, HOUR)
    assert found.calibration_error < 0.02
    assert found.log_loss < found.log_loss_base
    assert found.brier < found.brier_base
    assert found.skill_t > 10.0
    assert found.auc > 0.65
    assert found.periods == pytest.approx(2000 / 6)
    assert [part.forecast for part in found.curve] == sorted(part.forecast for part in found.curve)
    wider = reliability_curve(p, won, shared=60.0)
    assert all(b.high - b.low > a.high - a.low for a, b in zip(reliability_curve(p, won), wider, strict=True))
    assert all(part.low <= part.forecast <= part.high for part in wider)


def test_a_forecaster_that_says_nothing_loses_to_the_base_rate():
    _, won = drawn(5000)
    noise = np.random.default_rng(9).uniform(0.2, 0.8, 5000)
    found = validate_classifier(noise, won, np.arange(5000) * HOUR, 1, HOUR)
    assert found.skill_t < -2.0
    assert abs(found.auc - 0.5) < 0.03
    assert found.calibration_error > 0.1


def test_one_outcome_alone_is_measured_as_far_as_it_goes():
    found = validate_classifier(np.full(30, 0.9), np.ones(30), np.arange(30) * HOUR, 1, HOUR)
    assert np.isnan(found.auc)
    assert found.brier_base == 0.0
    content = found.as_json()
    assert content["auc"] is None
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    empty = validate_classifier(np.empty(0), np.empty(0), np.empty(0, dtype=np.int64), 1, HOUR)
    assert empty.rows == empty.ticks == 0
    assert empty.as_json()["log_loss"] is None


@pytest.mark.parametrize(("p", "won"), [([1.2], [1.0]), ([float("nan")], [0.0]), ([0.5], [0.5])])
def test_what_is_no_probability_or_no_event_is_refused(p, won):
    with pytest.raises(ValueError, match=r"not a probability|neither 0 nor 1"):
        validate_classifier(np.array(p), np.array(won), np.zeros(1, dtype=np.int64), 1, HOUR)
