"""Validation: what a forecast was worth on rows it has not seen, every measure beside its baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tickless.bars import Floats
from tickless.learn.dataset import Samples
from tickless.learn.measures import chain_returns, ic_decay, known_mean, mean_interval, overlap_t, rank_ic, samples_in, without_nan
from tickless.learn.portfolio_measures import quantile_returns, quantile_spread, top_k_active_returns, top_k_net_returns

DECAY_HORIZONS = (1, 2, 4, 8)
"""The rank IC is also taken with the return over so many horizons."""


@dataclass(frozen=True)
class Trial:
    """How forecasts are judged: the horizon, the sampling, and what trading costs."""

    horizon_h: float
    sample_every_min: int
    cost_frac: float
    """A round trip, as a fraction of the notional."""
    top_k: int
    concurrent: int | None = None
    """How many ticks that have samples share a label's time; None: samples come at every tick, and labels last the horizon."""

    @property
    def period(self) -> int:
        """Ticks in a horizon, rounded up."""
        return samples_in(self.horizon_h, self.sample_every_min)

    @property
    def overlap(self) -> int:
        """Neighbouring ticks whose labels share samples: a label also reads the bar in which it ends, one neighbour more."""
        return self.period + 1

    @property
    def known_overlap(self) -> int:
        """As ``overlap``, of the ticks that have samples alone, from one to the next however far apart they are."""
        return self.overlap if self.concurrent is None else self.concurrent


@dataclass(frozen=True)
class Measures:
    """A forecast on one set of rows. NaN = cannot be told from so few rows.

    ``rank_ic``, ``rmse``, ``mae`` and ``hit_rate`` compare the model's output with its label, both volatility-scaled: a model that says the
    same of every pair has no rank IC, whatever volatility did. What is earned (``top_k_…``, ``quantile_…``) is in plain returns, as traded.
    """

    rows: int
    ticks: int
    pairs: int
    """The most pairs that any tick has."""
    periods: float
    """Label lengths that share nothing: the effective number of times the forecast was tried."""
    rank_ic: float
    rank_ic_t: float
    rank_ic_low: float
    rank_ic_high: float
    """The 95 % interval of the mean rank IC, robust to overlap."""
    rank_ic_decay: Mapping[str, float]
    """Mean rank IC of the forecast with the return over longer horizons, by hours."""
    hit_rate: float
    hit_rate_baseline: float
    """The hit rate of always saying the sign that was more frequent."""
    rmse: float
    rmse_zero: float
    """The RMSE of the forecast zero."""
    rmse_t: float
    """t of the squared error saved against the forecast zero, a tick: Diebold and Mariano (1995)."""
    mae: float
    mae_zero: float
    quantile_returns_frac: tuple[float, ...]
    """Mean return over the horizon by quantile of the forecast, lowest first, free of cost."""
    quantile_spread_frac: float
    """Highest quantile less lowest."""
    quantile_spread_t: float
    top_k_net_frac: float
    """Mean return of a rebalance, held for the horizon, after fees and slippage."""
    top_k_net_t: float
    top_k_active_frac: float
    """The same less what the market's own move gave its exposure: what the choice of pairs earned, after fees and slippage."""
    top_k_active_t: float
    top_k_turnover: float
    """Bought plus sold a rebalance, as a share of equity."""
    universe_frac: float
    """Mean return of all pairs over the horizon, equally weighted and free of cost: what the market did."""
    cash_frac: float = 0.0
    """What doing nothing earns."""

    def as_json(self) -> dict[str, Any]:
        """The measures as a JSON object; what cannot be told is null."""
        return {key: without_nan(value) for key, value in asdict(self).items()}


@dataclass(frozen=True)
class Series:
    """A forecast tick by tick, each (T,) on the regular sampling grid; NaN where a tick has too few samples.

    The two series of returns hold overlapping portfolios: one rebalance a tick, each held for ``period`` ticks. Empty where the rows do not
    span one.
    """

    rank_ic: Floats
    net: Floats
    """Net top-k return."""
    active: Floats
    """Net top-k return less the market's move: what trials are compared by."""
    turnover: Floats


def validate(rows: Samples, prediction: Floats, trial: Trial) -> Measures:
    """Measure volatility-scaled predictions, one a sample (R,), on the samples of a validation slice."""
    grid = _Grid.of(rows, trial.sample_every_min)
    label, plain = grid.matrix(rows.y), grid.matrix(rows.plain)
    forecast, gain = grid.matrix(prediction), grid.matrix(prediction * rows.scale)
    series = _series(forecast, gain, label, plain, trial)
    pairs = int((~np.isnan(plain)).sum(axis=1).max(initial=0))
    # Deciles where the cross-section is wide enough for two pairs in each, else fifths.
    by_quantile = quantile_returns(gain, plain, 10 if pairs >= 20 else 5)
    spread = quantile_spread(by_quantile)
    here = ~np.isnan(plain).all(axis=1)
    up = float((rows.y > 0).mean()) if len(rows) else math.nan
    error = prediction - rows.y
    among = trial.known_overlap
    low, high = mean_interval(series.rank_ic, among)
    return Measures(
        rows=len(rows),
        ticks=int(here.sum()),
        pairs=pairs,
        periods=float(here.sum()) / among,
        rank_ic=known_mean(series.rank_ic),
        rank_ic_t=overlap_t(series.rank_ic, among),
        rank_ic_low=low,
        rank_ic_high=high,
        rank_ic_decay=_decay(forecast, plain, grid.matrix(rows.scale), series, trial),
        hit_rate=known_mean((np.sign(prediction) == np.sign(rows.y)).astype(np.float64)),
        hit_rate_baseline=max(up, 1.0 - up),
        rmse=math.sqrt(known_mean(error**2)),
        rmse_zero=math.sqrt(known_mean(rows.y**2)),
        rmse_t=overlap_t(_row_mean(grid.matrix(rows.y**2 - error**2)), among),
        mae=known_mean(np.abs(error)),
        mae_zero=known_mean(np.abs(rows.y)),
        quantile_returns_frac=tuple(known_mean(column) for column in by_quantile.T),
        quantile_spread_frac=known_mean(spread),
        quantile_spread_t=overlap_t(spread, among),
        top_k_net_frac=known_mean(series.net),
        top_k_net_t=overlap_t(series.net, trial.overlap),
        top_k_active_frac=known_mean(series.active),
        top_k_active_t=overlap_t(series.active, trial.overlap),
        top_k_turnover=known_mean(series.turnover),
        universe_frac=known_mean(_row_mean(plain)),
    )


def forecast_series(rows: Samples, prediction: Floats, trial: Trial) -> Series:
    """The forecast's rank IC and returns over time: for charts, for rolling measures and as one trial among many."""
    grid = _Grid.of(rows, trial.sample_every_min)
    forecast, gain = grid.matrix(prediction), grid.matrix(prediction * rows.scale)
    return _series(forecast, gain, grid.matrix(rows.y), grid.matrix(rows.plain), trial)


def _series(forecast: Floats, gain: Floats, label: Floats, plain: Floats, trial: Trial) -> Series:
    nothing = np.empty(0)
    ic = rank_ic(forecast, label)
    if len(gain) <= trial.period:
        return Series(ic, nothing, nothing, nothing)
    net, turnover = top_k_net_returns(gain, plain, cost_frac=trial.cost_frac, top_k=trial.top_k, period=trial.period)
    active = top_k_active_returns(gain, plain, cost_frac=trial.cost_frac, top_k=trial.top_k, period=trial.period)
    return Series(ic, net, active, turnover)


def _decay(forecast: Floats, plain: Floats, scale: Floats, series: Series, trial: Trial) -> dict[str, float]:
    """The first horizon is the model's own; longer ones are chained from it, where it is a whole number of samples."""
    decay = {trial.horizon_h: known_mean(series.rank_ic)}
    if trial.horizon_h * 60.0 == trial.period * trial.sample_every_min:
        outcomes = {trial.horizon_h * times: chain_returns(plain, trial.period, times) / scale for times in DECAY_HORIZONS[1:]}
        decay |= ic_decay(forecast, outcomes)
    return {f"{horizon:g}": value for horizon, value in decay.items()}


@dataclass(frozen=True)
class _Grid:
    """Where each sample lies on the regular grid from the first tick to the last."""

    ticks: int
    tick: NDArray[np.int64]
    pair: NDArray[np.intp]
    pairs: int

    @classmethod
    def of(cls, rows: Samples, sample_every_min: int) -> _Grid:
        if not len(rows):
            return cls(0, np.empty(0, dtype=np.int64), rows.pair, len(rows.pairs))
        tick = (rows.start_ms - rows.start_ms[0]) // (sample_every_min * 60_000)
        return cls(int(tick[-1]) + 1, tick, rows.pair, len(rows.pairs))

    def matrix(self, values: Floats) -> Floats:
        """One value a sample (R,) as (T, N); NaN where there is no sample."""
        result = np.full((self.ticks, self.pairs), np.nan)
        result[self.tick, self.pair] = values
        return result


def _row_mean(matrix: Floats) -> Floats:
    """The mean of every row that has a value, NaN for one that has none: (T,)."""
    here = ~np.isnan(matrix)
    count = here.sum(axis=1)
    total = np.where(here, matrix, 0.0).sum(axis=1)
    means: Floats = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
    return means
