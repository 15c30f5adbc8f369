"""Rotation's scores: two forecast horizons, weighted by regime, less the cost of a round trip.

All arrays are float64 (N,), one value a pair; NaN = no forecast, and no score.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tickless.alpha.onnx_model import OnnxModel
from tickless.errors import ArtifactError
from tickless.settings import ExecutionSection, HorizonWeights, RotationSection

Floats = NDArray[np.float64]
SCALED_RETURN = "forward_return_over_volatility"
"""The label of rotation's models: the forward return over ``volatility_scale``."""
VOLATILITY_HOURS = 24.0
"""The period that ``rv_24h`` covers."""
VOLATILITY_FLOOR_FRAC = 0.001
"""A 24 h volatility below this counts as this: a pegged pair must not turn noise into a large scaled return."""


@dataclass(frozen=True)
class Scores:
    """What the ensemble says of every pair at one tick; all values are returns as fractions."""

    forecast_6h: Floats
    forecast_24h: Floats
    score: Floats
    """The weighted forecast, before cost: ranks and sizes the pairs."""
    net: Floats
    """``score`` less the cost of a round trip: must exceed ``threshold_frac``.

    Models whose labels are relative forecast the return over the average pair's, so this is what a pair earns over that, after costs.
    """
    threshold_frac: float
    cost_frac: float
    source: Literal["models", "fallback"]


def round_trip_cost_frac(execution: ExecutionSection) -> float:
    """The cost of buying and selling as taker: two fees and two slippages, as a fraction of the notional."""
    return 2.0 * (execution.taker_fee_bps + execution.slippage_bps) / 10_000.0


def volatility_scale(rv_24h: Floats, horizon_h: float) -> Floats:
    """The volatility of ``horizon_h`` hours that goes with a 24 h volatility: floored, scaled by the square root of time.

    Labels are divided by it and predictions multiplied, so both use this one function. NaN stays NaN.
    """
    return np.maximum(rv_24h, VOLATILITY_FLOOR_FRAC) * sqrt(horizon_h / VOLATILITY_HOURS)


def plain_return(prediction: Floats, rv_24h: Floats, horizon_h: float) -> Floats:
    """A volatility-scaled prediction as a plain return over ``horizon_h`` hours, so that costs may be subtracted from it.

    A relative prediction (the label less its tick's mean) becomes a return over what the mean move gives a pair of that volatility.
    """
    return prediction * volatility_scale(rv_24h, horizon_h)


def forecast_return(model: OnnxModel, x: NDArray[np.floating[Any]], rv_24h: Floats) -> Floats:
    """A model's forecast as a plain return over its own horizon, (N,), from features (N, F) and the pairs' ``rv_24h``.

    NaN where a feature or the volatility is NaN. Raises ArtifactError for a model of another label, or one whose output is no value of it.
    """
    if model.manifest.get("label") != SCALED_RETURN:
        raise ArtifactError(f"model {model.label}: its label is {model.manifest.get('label')!r}, rotation needs {SCALED_RETURN!r}")
    if model.output != "value":
        raise ArtifactError(f"model {model.label}: its output is a {model.output}, rotation needs a forecast of the return")
    return plain_return(model.predict(x), rv_24h, model.horizon_h)


def model_scores(forecast_6h: Floats, forecast_24h: Floats, regime: str, rotation: RotationSection, cost_frac: float) -> Scores:
    """Scores from both models' forecasts, given as plain returns over their horizons."""
    weights = rotation.horizon_weights(regime)
    return _scores(forecast_6h, forecast_24h, weights, cost_frac, rotation.score_threshold_frac, "models")


def fallback_scores(r_6h: Floats, r_24h: Floats, rsi14: Floats, regime: str, rotation: RotationSection, cost_frac: float) -> Scores:
    """Scores without models: momentum of each horizon plus the RSI's distance from 50, with no bias for tier or name.

    It is an indicator rather than a forecast in return units, hence its own threshold.
    """
    strength = rotation.fallback_rsi_weight * (rsi14 / 100.0 - 0.5)
    forecast_6h = rotation.fallback_return_weight * r_6h + strength
    forecast_24h = rotation.fallback_return_weight * r_24h + strength
    weights = rotation.horizon_weights(regime)
    return _scores(forecast_6h, forecast_24h, weights, cost_frac, rotation.fallback_threshold_frac, "fallback")


def rotation_scores(
    forecast_6h: Floats | None,
    forecast_24h: Floats | None,
    *,
    r_6h: Floats,
    r_24h: Floats,
    rsi14: Floats,
    regime: str,
    rotation: RotationSection,
    cost_frac: float,
) -> Scores:
    """The scores of a tick: from the models' forecasts as plain returns (None = the model may not be used), or the fallback without any.

    Where one model is missing its weight goes to the other: a forecast that has passed its gates stands alone rather than beside a
    fallback value, which is some ten times a forecast in return units and would decide everything.
    """
    if forecast_6h is None and forecast_24h is None:
        return fallback_scores(r_6h, r_24h, rsi14, regime, rotation, cost_frac)
    unknown = np.full_like(r_6h, np.nan)
    if forecast_24h is None and forecast_6h is not None:
        return _scores(forecast_6h, unknown, HorizonWeights(w_6h=1.0, w_24h=0.0), cost_frac, rotation.score_threshold_frac, "models")
    if forecast_6h is None and forecast_24h is not None:
        return _scores(unknown, forecast_24h, HorizonWeights(w_6h=0.0, w_24h=1.0), cost_frac, rotation.score_threshold_frac, "models")
    assert forecast_6h is not None
    assert forecast_24h is not None
    return model_scores(forecast_6h, forecast_24h, regime, rotation, cost_frac)


def _scores(
    forecast_6h: Floats,
    forecast_24h: Floats,
    weights: HorizonWeights,
    cost_frac: float,
    threshold_frac: float,
    source: Literal["models", "fallback"],
) -> Scores:
    # A horizon without weight is left out, not multiplied by zero: its NaN would spread.
    parts = [w * f for w, f in ((weights.w_6h, forecast_6h), (weights.w_24h, forecast_24h)) if w > 0.0]
    score = parts[0] if len(parts) == 1 else parts[0] + parts[1]
    return Scores(forecast_6h, forecast_24h, score, score - cost_frac, threshold_frac, cost_frac, source)
