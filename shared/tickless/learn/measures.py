"""Measures of a forecast over many ticks. Matrices are float64 (T, N), one row a sampled tick; NaN = no sample."""

from __future__ import annotations

from math import ceil, sqrt

import numpy as np

from tickless.bars import Floats

_CHUNK = 256
"""Ticks ranked at once: bounds the (ticks, N, N) comparison in memory."""
MIN_PERIODS = 5
"""A t-statistic needs at least so many label lengths of data that do not overlap."""


def average_ranks(values: Floats) -> Floats:
    """Ranks within each row, 1 the smallest, ties sharing their mean rank; NaN where the value is NaN."""
    result = np.full(values.shape, np.nan)
    for first in range(0, len(values), _CHUNK):
        part = values[first : first + _CHUNK]
        mine, other = part[:, :, None], part[:, None, :]
        ranks = (other < mine).sum(axis=2) + 0.5 * ((other == mine).sum(axis=2) + 1.0)
        result[first : first + _CHUNK] = np.where(np.isnan(part), np.nan, ranks)
    return result


def rank_ic(forecast: Floats, outcome: Floats, min_pairs: int = 5) -> Floats:
    """Spearman's rank correlation of forecast and outcome across pairs at every tick, shape (T,).

    NaN where fewer than ``min_pairs`` pairs have both. A forecast that is the same for all pairs scores 0: it says nothing.
    """
    here = ~(np.isnan(forecast) | np.isnan(outcome))
    count = here.sum(axis=1)
    a = _centred_ranks(forecast, here)
    b = _centred_ranks(outcome, here)
    norm = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    ic = np.divide((a * b).sum(axis=1), norm, out=np.zeros(len(norm)), where=norm > 0)
    return np.where(count >= max(2, min_pairs), ic, np.nan)


def _centred_ranks(values: Floats, here: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Floats:
    ranks = np.where(here, average_ranks(np.where(here, values, np.nan)), 0.0)
    middle = (here.sum(axis=1, keepdims=True) + 1.0) / 2.0
    return np.where(here, ranks - middle, 0.0)


def overlap_t(series: Floats, overlap: int) -> float:
    """The t-statistic of a mean whose neighbours share up to ``overlap`` samples of their labels. NaN where it cannot be told.

    Newey and West (1987), Bartlett kernel. The bandwidth is twice the overlap: labels that overlap have autocorrelations that fall in a
    straight line to zero at ``overlap``, of which a kernel of that same width loses a third (t too large by 22 %), one of twice the width
    a sixth. The rest, and the noise of estimating a variance from few periods, is taken off with the fixed-bandwidth critical value of
    Kiefer and Vogelsang (2005, table 1): the statistic is scaled so that 1.96 again means a 5 % two-sided test. On overlapping
    sums of noise the test so made rejects in 6 to 9 %; a naive one in half of them or more.
    """
    values = series[~np.isnan(series)]
    n = len(values)
    if overlap < 1 or n < MIN_PERIODS * overlap or n < MIN_PERIODS:
        return float("nan")
    lags = min(2 * overlap, n - 1)
    centred = values - values.mean()
    variance = float(centred @ centred) / n
    for lag in range(1, lags + 1):
        variance += 2.0 * (1.0 - lag / (lags + 1.0)) * float(centred[lag:] @ centred[:-lag]) / n
    if variance <= 0.0:
        return float("nan")
    b = lags / n
    critical = 1.96 + 2.9694 * b + 0.4160 * b**2 - 0.5324 * b**3
    return float(values.mean()) / sqrt(variance / n) * 1.96 / critical


def top_k_weights(forecast: Floats, cost_frac: float, top_k: int) -> Floats:
    """Weights (T, N) of a portfolio that gives 1/k to each of the k best forecasts above ``cost_frac``; what is left stays cash.

    Ties go to the earlier pair.
    """
    worth = np.where(forecast > cost_frac, forecast, -np.inf)
    best = np.argsort(-worth, axis=1, kind="stable")[:, :top_k]
    weights = np.zeros(forecast.shape)
    np.put_along_axis(weights, best, 1.0 / top_k, axis=1)
    return np.where(np.isfinite(worth), weights, 0.0)


def top_k_net_returns(forecast: Floats, plain: Floats, *, cost_frac: float, top_k: int, period: int) -> tuple[Floats, Floats]:
    """(net return, turnover) of a rebalance at every tick, (T,), holding for ``period`` ticks.

    A rebalance every ``period`` ticks can start at any of ``period`` phases; every tick belongs to one phase and all of them count
    (the overlapping portfolios of Jegadeesh and Titman, 1993). Turnover is bought plus sold, against the phase's last weights; the first
    rebalance buys all, the last one also pays for selling all. Each unit costs half of ``cost_frac``, the cost of a round trip.
    """
    weights = top_k_weights(forecast, cost_frac, top_k)
    before = np.zeros(weights.shape)
    before[period:] = weights[:-period]
    turnover = np.abs(weights - before).sum(axis=1)
    turnover[-period:] += weights[-period:].sum(axis=1)
    gross = np.where(weights > 0.0, weights * plain, 0.0).sum(axis=1)
    return gross - 0.5 * cost_frac * turnover, turnover


def samples_in(horizon_h: float, sample_every_min: int) -> int:
    """How many samples a horizon spans, rounded up."""
    return max(1, ceil(horizon_h * 60.0 / sample_every_min))
