from __future__ import annotations

import numpy as np
import pytest

from tickless.alpha.ensemble import forecast_return, plain_return, rotation_scores, round_trip_cost_frac, volatility_scale
from tickless.alpha.onnx_model import OnnxModel
from tickless.errors import ArtifactError
from tickless.settings import ExecutionSection, RotationSection

FEATURES = {"r_6h": np.array([0.02, -0.01, np.nan]), "r_24h": np.array([0.10, 0.04, 0.0]), "rsi14": np.array([70.0, 50.0, 50.0])}
F6 = np.array([0.010, -0.002, np.nan])
F24 = np.array([0.020, 0.004, 0.01])
COST = 0.0023


def test_the_default_cost_of_a_round_trip_is_that_of_the_design():
    assert round_trip_cost_frac(ExecutionSection()) == pytest.approx(0.0023)


def test_volatility_scales_with_the_root_of_time_and_has_a_floor():
    np.testing.assert_allclose(volatility_scale(np.array([0.04, 0.0, np.nan]), 6.0), [0.02, 0.0005, np.nan])
    np.testing.assert_allclose(plain_return(np.array([0.5]), np.array([0.04]), 24.0), [0.02])


@pytest.mark.parametrize(("regime", "w_6h"), [("chop", 0.6), ("trend", 0.3), ("down", 0.3)])
def test_models_are_weighted_by_regime_and_charged_once(regime, w_6h):
    scores = rotation_scores(F6, F24, **FEATURES, regime=regime, rotation=RotationSection(), cost_frac=COST)
    np.testing.assert_allclose(scores.score, w_6h * F6 + (1 - w_6h) * F24)
    np.testing.assert_allclose(scores.net, scores.score - COST)
    assert np.isnan(scores.score[2])
    assert (scores.source, scores.threshold_frac) == ("models", 0.0)


@pytest.mark.parametrize(("f6", "f24", "alone"), [(F6, None, F6), (None, F24, F24)])
def test_one_model_alone_gets_the_others_weight(f6, f24, alone):
    scores = rotation_scores(f6, f24, **FEATURES, regime="chop", rotation=RotationSection(), cost_frac=COST)
    np.testing.assert_allclose(scores.score, alone)
    assert (scores.source, scores.threshold_frac) == ("models", 0.0)


def test_without_any_model_the_score_falls_back():
    scores = rotation_scores(None, None, **FEATURES, regime="chop", rotation=RotationSection(), cost_frac=COST)
    expected_6h = 0.5 * 0.02 + 0.3 * 0.2
    expected_24h = 0.5 * 0.10 + 0.3 * 0.2
    assert scores.score[0] == pytest.approx(0.6 * expected_6h + 0.4 * expected_24h)
    assert scores.score[1] == pytest.approx(0.6 * -0.005 + 0.4 * 0.02)
    assert np.isnan(scores.score[2])
    assert (scores.source, scores.threshold_frac) == ("fallback", 0.03)


def test_the_fallback_knows_no_tier_and_no_name():
    same = {"r_6h": np.full(5, 0.01), "r_24h": np.full(5, 0.02), "rsi14": np.full(5, 55.0)}
    scores = rotation_scores(None, None, **same, regime="trend", rotation=RotationSection(), cost_frac=COST)
    assert len(set(scores.net.tolist())) == 1


def test_a_forecast_is_the_prediction_times_the_horizons_volatility(artifact, manifest):
    model = OnnxModel.from_bytes(artifact, manifest)
    x = np.random.default_rng(5).standard_normal((4, 3)).astype(np.float32)
    rv = np.array([0.04, 0.02, np.nan, 0.06])
    np.testing.assert_allclose(forecast_return(model, x, rv), model.predict(x) * rv * 0.5)
    other = OnnxModel.from_bytes(artifact, manifest | {"label": "triple_barrier"})
    with pytest.raises(ArtifactError, match="triple_barrier"):
        forecast_return(other, x, rv)
