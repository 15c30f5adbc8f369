"""Validation: what a forecast was worth on rows it has not seen, every measure beside its baseline."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tickless.bars import Floats
from tickless.learn.dataset import Samples
from tickless.learn.measures import overlap_t, rank_ic, samples_in, top_k_net_returns


@dataclass(frozen=True)
class Trial:
    """How forecasts are judged: the horizon, the sampling, and what trading costs."""

    horizon_h: float
    sample_every_min: int
    cost_frac: float
    """A round trip, as a fraction of the notional."""
    top_k: int


@dataclass(frozen=True)
class Measures:
    """A forecast on one set of rows. NaN = cannot be told from so few rows.

    ``rank_ic``, ``rmse``, ``mae`` and ``hit_rate`` compare the model's output with its label, both volatility-scaled: a model that says the
    same of every pair has no rank IC, whatever volatility did. ``top_k_net_frac`` is in plain returns, as traded.
    """

    rows: int
    ticks: int
    rank_ic: float
    rank_ic_t: float
    hit_rate: float
    hit_rate_baseline: float
    """The hit rate of always saying the sign that was more frequent."""
    rmse: float
    rmse_zero: float
    """The RMSE of the forecast zero."""
    mae: float
    mae_zero: float
    top_k_net_frac: float
    """Mean return of a rebalance, held for the horizon, after fees and slippage."""
    top_k_net_t: float
    top_k_turnover: float
    """Bought plus sold a rebalance, as a share of equity."""
    universe_frac: float
    """Mean return of all pairs over the horizon, equally weighted and free of cost: what the market did."""
    cash_frac: float = 0.0
    """What doing nothing earns."""

    def as_json(self) -> dict[str, Any]:
        """The measures as a JSON object; what cannot be told is null."""
        return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in asdict(self).items()}


def validate(rows: Samples, prediction: Floats, trial: Trial) -> Measures:
    """Measure volatility-scaled predictions, one a sample (R,), on the samples of a validation slice."""
    overlap = samples_in(trial.horizon_h, trial.sample_every_min)
    ticks, tick = _ticks(rows, trial.sample_every_min)
    forecast, label = (_matrix(rows, ticks, tick, values) for values in (prediction, rows.y))
    gain, plain = (_matrix(rows, ticks, tick, values) for values in (prediction * rows.scale, rows.plain))
    ic = rank_ic(forecast, label)
    net, turnover = _portfolio(gain, plain, trial, overlap)
    here = ~np.isnan(plain).all(axis=1)
    up = float((rows.y > 0).mean()) if len(rows) else float("nan")
    error = prediction - rows.y
    return Measures(
        rows=len(rows),
        ticks=int(here.sum()),
        rank_ic=_mean(ic[~np.isnan(ic)]),
        # A label also reads the bar in which it ends, so it shares samples with one neighbour more.
        rank_ic_t=overlap_t(ic, overlap + 1),
        hit_rate=_mean((np.sign(prediction) == np.sign(rows.y)).astype(np.float64)),
        hit_rate_baseline=max(up, 1.0 - up),
        rmse=math.sqrt(_mean(error**2)),
        rmse_zero=math.sqrt(_mean(rows.y**2)),
        mae=_mean(np.abs(error)),
        mae_zero=_mean(np.abs(rows.y)),
        top_k_net_frac=_mean(net),
        top_k_net_t=overlap_t(net, overlap + 1),
        top_k_turnover=_mean(turnover),
        universe_frac=_mean(np.nanmean(plain[here], axis=1)) if here.any() else float("nan"),
    )


def _portfolio(gain: Floats, plain: Floats, trial: Trial, period: int) -> tuple[Floats, Floats]:
    if len(gain) <= period:
        return np.empty(0), np.empty(0)
    return top_k_net_returns(gain, plain, cost_frac=trial.cost_frac, top_k=trial.top_k, period=period)


def _ticks(rows: Samples, sample_every_min: int) -> tuple[int, np.ndarray[tuple[int, ...], np.dtype[np.int64]]]:
    """(number of ticks, each sample's tick) on the regular grid from the first sample to the last."""
    if not len(rows):
        return 0, np.empty(0, dtype=np.int64)
    tick = (rows.start_ms - rows.start_ms[0]) // (sample_every_min * 60_000)
    return int(tick[-1]) + 1, tick


def _matrix(rows: Samples, ticks: int, tick: np.ndarray[tuple[int, ...], np.dtype[np.int64]], values: Floats) -> Floats:
    matrix = np.full((ticks, len(rows.pairs)), np.nan)
    matrix[tick, rows.pair] = values
    return matrix


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else float("nan")
