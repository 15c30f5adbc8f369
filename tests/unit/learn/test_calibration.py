from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickless.alpha.calibration import Calibration, log_odds
from tickless.errors import ArtifactError
from tickless.learn.calibration import fit_calibration, fit_isotonic, fit_platt
from tickless.learn.classification import calibration_error, reliability_curve, row_losses


def overconfident(rows: int = 6000, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """A classifier whose log-odds are twice too large and shifted: the truth is slope 0.5, intercept -0.4."""
    rng = np.random.default_rng(seed)
    z = 2.0 * rng.standard_normal(rows)
    truth = 1.0 / (1.0 + np.exp(-(0.5 * z - 0.4)))
    return 1.0 / (1.0 + np.exp(-z)), (rng.random(rows) < truth).astype(float)


def fitted(method, p, won):
    start = np.arange(len(p), dtype=np.int64) * 3_600_000
    return fit_calibration(method, p, won, start, start + 7 * 3_600_000)


def test_platt_finds_the_line():
    slope, intercept = fit_platt(*overconfident(40_000))
    assert slope == pytest.approx(0.5, abs=0.03)
    assert intercept == pytest.approx(-0.4, abs=0.03)


def test_platt_is_the_maximum_of_the_likelihood():
    from scipy.optimize import minimize

    p, won = overconfident(500)
    z = log_odds(p)
    n, m = won.sum(), len(won) - won.sum()
    target = np.where(won > 0, (n + 1) / (n + 2), 1 / (m + 2))

    def loss(line):
        return np.sum(np.logaddexp(0, line[0] * z + line[1]) - target * (line[0] * z + line[1]))

    np.testing.assert_allclose(fit_platt(p, won), minimize(loss, [1.0, 0.0], tol=1e-10).x, atol=1e-4)


def test_isotonic_is_scipys():
    from scipy.optimize import isotonic_regression

    p, won = overconfident(400)
    order = np.argsort(p)
    calibrated = fitted("isotonic", p, won).apply(p)[order]
    expected = np.clip(isotonic_regression(won[order]).x, 1 / 402, 1 - 1 / 402)
    np.testing.assert_allclose(calibrated, expected, atol=1e-12)


def test_isotonic_by_hand():
    x, y = fit_isotonic(np.array([0.1, 0.2, 0.3, 0.3, 0.6, 0.7]), np.array([0.0, 1.0, 0.0, 0.0, 1.0, 1.0]))
    assert x == (0.1, 0.2, 0.3, 0.6, 0.7)
    assert y == pytest.approx((0.125, 1 / 3, 1 / 3, 0.875, 0.875))


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_a_calibrated_forecast_keeps_its_word_on_rows_it_was_not_fitted_on(method):
    calibration = fitted(method, *overconfident(seed=1))
    p, won = overconfident(seed=2)
    before, after = (calibration_error(reliability_curve(q, won)) for q in (p, calibration.apply(p)))
    assert before > 0.1
    assert after < 0.03
    assert row_losses(calibration.apply(p), won).mean() < row_losses(p, won).mean() - 0.05


@settings(max_examples=30)
@given(
    st.sampled_from(["platt", "isotonic"]),
    st.lists(st.floats(0, 1, width=32), min_size=40, max_size=60),
    st.integers(0, 2**16),
)
def test_order_bounds_and_bits_survive(method, outputs, seed):
    p = np.array(outputs)
    won = (np.random.default_rng(seed).permutation(len(p)) < len(p) // 2).astype(float)
    made = fitted(method, p, won)
    again = Calibration.from_json(json.loads(json.dumps(made.as_json(), allow_nan=False)))
    assert again == made
    probe = np.linspace(0.0, 1.0, 201)
    calibrated = made.apply(probe)
    np.testing.assert_array_equal(again.apply(probe), calibrated)
    assert (np.diff(calibrated) >= 0.0).all()
    assert ((calibrated >= 0.0) & (calibrated <= 1.0)).all()
    np.testing.assert_array_equal([made.apply(probe[at : at + 1])[0] for at in range(0, 201, 20)], calibrated[::20])
    assert np.isnan(made.apply(np.array([np.nan]))).all()


def test_a_classifier_that_is_wrong_is_not_turned_round():
    p, won = overconfident()
    made = fitted("platt", 1.0 - p, won)
    assert made.x[0] == 0.0
    np.testing.assert_allclose(made.apply(np.array([0.1, 0.9])), won.mean(), atol=1e-3)
    flat = fitted("isotonic", 1.0 - p, won).apply(np.array([0.05, 0.95]))
    assert np.ptp(flat) < 0.2


def test_it_says_which_time_it_was_fitted_on():
    made = fitted("platt", *overconfident(100))
    assert (made.fitted_from_ms, made.fitted_until_ms, made.rows) == (0, 106 * 3_600_000, 100)
    np.testing.assert_array_equal(Calibration().apply(np.array([0.3])), [0.3])


def test_too_few_of_one_outcome_are_refused():
    with pytest.raises(ValueError, match="of one there are 3"):
        fitted("platt", np.linspace(0.1, 0.9, 200), (np.arange(200) < 3).astype(float))
    with pytest.raises(ValueError, match="finite"):
        fitted("isotonic", np.full(200, np.nan), (np.arange(200) < 100).astype(float))


@pytest.mark.parametrize(
    "broken",
    [
        {"method": "beta"},
        {"x": [1.0]},
        {"x": [-1.0, 0.0]},
        {"x": [float("nan"), 0.0]},
        {"y": [0.5]},
        {"method": "isotonic", "x": [0.2, 0.2], "y": [0.1, 0.2]},
        {"method": "isotonic", "x": [0.2, 0.3], "y": [0.3, 0.2]},
        {"method": "isotonic", "x": [0.2], "y": [1.5]},
        {"method": "isotonic", "x": [], "y": []},
        {"rows": None},
    ],
)
def test_damaged_numbers_are_refused(broken):
    whole = Calibration("platt", (1.0, 0.0), (), 0, 1, 50).as_json()
    with pytest.raises(ArtifactError, match="calibration"):
        Calibration.from_json({**whole, **broken})
