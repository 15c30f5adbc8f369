"""What a portfolio built on a forecast would have earned. Matrices are float64 (T, N), one row a sampled tick; NaN = no sample."""

from __future__ import annotations

import numpy as np

from tickless.bars import Floats
from tickless.learn.measures import average_ranks


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


def top_k_active_returns(forecast: Floats, plain: Floats, *, cost_frac: float, top_k: int, period: int) -> Floats:
    """``top_k_net_returns`` less what the same exposure, spread over all pairs of the tick, would have earned free of cost, (T,).

    The slice's market moved as it did, whatever was forecast. In a rise any forecast that buys beats cash, in a fall none does; and over a
    few weeks that move is larger than what choosing can earn. What is left here is the choice, and its cost.
    """
    with np.errstate(invalid="ignore"):
        count = (~np.isnan(plain)).sum(axis=1, keepdims=True)
        market = np.nansum(plain, axis=1, keepdims=True) / np.maximum(count, 1)
    return top_k_net_returns(forecast, plain - market, cost_frac=cost_frac, top_k=top_k, period=period)[0]


def quantile_returns(forecast: Floats, plain: Floats, quantiles: int) -> Floats:
    """Mean return of the pairs in each quantile of the forecast, lowest first, at every tick: (T, Q).

    Equal forecasts share a quantile. NaN where a quantile is empty, and for ticks with fewer pairs than quantiles.
    """
    here = ~(np.isnan(forecast) | np.isnan(plain))
    count = here.sum(axis=1, keepdims=True)
    ranks = average_ranks(np.where(here, forecast, np.nan))
    with np.errstate(invalid="ignore"):
        place = np.floor((ranks - 0.5) * quantiles / np.maximum(count, 1))
    result = np.full((len(forecast), quantiles), np.nan)
    for q in range(quantiles):
        members = here & (place == q) & (count >= quantiles)
        size = members.sum(axis=1)
        total = np.where(members, plain, 0.0).sum(axis=1)
        result[:, q] = np.divide(total, size, out=np.full(len(size), np.nan), where=size > 0)
    return result


def quantile_spread(by_quantile: Floats) -> Floats:
    """Return of the highest quantile less that of the lowest, (T,), free of cost; NaN where one of them is empty."""
    return by_quantile[:, -1] - by_quantile[:, 0]
