"""Performance statistics. 365 days a year, because the market never closes; the risk-free rate is zero.

Equity comes as float64 arrays of shape (T,) in the stake currency, oldest first, without NaN. Where a figure has no meaning (no trades, no
losing day, too few days) the functions return None, never NaN or infinity; each docstring says when. Sources: Sharpe, "The Sharpe Ratio",
Journal of Portfolio Management 21 (1994); Sortino and Price, "Performance Measurement in a Downside Risk Framework", Journal of Investing 3
(1994); Young, "Calmar Ratio: A Smoother Tool", Futures 20 (1991); Bacon, "Practical Portfolio Performance Measurement" (2008).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
DAYS_A_YEAR = 365.0
DAY_MS = 86_400_000
_NOTHING = 1e-9
"""An equity or loss at or below this counts as zero, so that no ratio overflows."""
_SAME = 1e-12
"""A deviation this small beside the returns themselves is rounding, not risk."""


def daily_equity(at_ms: ArrayLike, equity: ArrayLike, start_equity: float) -> Floats:
    """The start equity, then the last row of every UTC day that has one: shape (days + 1,).

    ``at_ms`` are the rows' times in milliseconds since the epoch, rising, shape (T,).
    """
    times = np.asarray(at_ms, dtype=np.int64)
    values = np.asarray(equity, dtype=np.float64)
    if not len(times):
        return np.asarray([start_equity], dtype=np.float64)
    days = times // DAY_MS
    last = np.flatnonzero(np.append(days[1:] != days[:-1], True))
    return np.concatenate(([start_equity], values[last]))


def simple_returns(equity: ArrayLike) -> Floats:
    """``equity[t] / equity[t-1] - 1``, shape (T - 1,). From an equity of zero or less the return is 0: nothing is left to lose."""
    values = np.asarray(equity, dtype=np.float64)
    before, after = values[:-1], values[1:]
    alive = before > _NOTHING
    return np.where(alive, after / np.where(alive, before, 1.0) - 1.0, 0.0)


def total_return_frac(start_equity: float, end_equity: float) -> float:
    """``end / start - 1``; 0 where the start is zero or less."""
    return end_equity / start_equity - 1.0 if start_equity > _NOTHING else 0.0


def cagr_frac(start_equity: float, end_equity: float, days: float) -> float | None:
    """Compound annual growth: ``(end / start) ** (365 / days) - 1`` (Bacon 2008).

    -1 where everything is lost. None where the start is zero or less, the range is shorter than a day, or the figure overflows.
    """
    if start_equity <= _NOTHING or days < 1:
        return None
    if end_equity <= 0:
        return -1.0
    exponent = DAYS_A_YEAR / days * (math.log(end_equity) - math.log(start_equity))
    return math.expm1(exponent) if exponent < 700 else None


def volatility_ann_frac(daily: ArrayLike) -> float | None:
    """Standard deviation (n - 1) of the daily returns of a daily equity, times ``sqrt(365)``. None with fewer than two returns."""
    returns = simple_returns(daily)
    if len(returns) < 2:
        return None
    return _deviation(returns) * math.sqrt(DAYS_A_YEAR)


def sharpe(daily: ArrayLike) -> float | None:
    """``mean / std * sqrt(365)`` of the daily returns of a daily equity (Sharpe 1994; n - 1, risk-free rate 0).

    None with fewer than two returns, and where they do not vary.
    """
    returns = simple_returns(daily)
    if len(returns) < 2:
        return None
    deviation = _deviation(returns)
    return float(returns.mean()) / deviation * math.sqrt(DAYS_A_YEAR) if deviation > 0 else None


def sortino(daily: ArrayLike) -> float | None:
    """``mean / downside * sqrt(365)``, downside = root of the mean over ALL days of ``min(return, 0)²`` (Sortino and Price 1994; target 0).

    None with fewer than two returns, and where no day lost.
    """
    returns = simple_returns(daily)
    if len(returns) < 2:
        return None
    downside = math.sqrt(float(np.mean(np.minimum(returns, 0.0) ** 2)))
    return float(returns.mean()) / downside * math.sqrt(DAYS_A_YEAR) if downside > 0 else None


def drawdown_frac(equity: ArrayLike) -> Floats:
    """How far each value lies below the highest so far, as a share of it: 0 to 1 (above 1 where equity is negative), shape (T,)."""
    values = np.asarray(equity, dtype=np.float64)
    peak = np.maximum.accumulate(values) if len(values) else values
    return np.where(peak > _NOTHING, 1.0 - values / np.where(peak > _NOTHING, peak, 1.0), 0.0)


def max_drawdown_frac(equity: ArrayLike) -> float:
    """The deepest drawdown, as a positive share of the peak before it; 0 where equity never fell or there is none."""
    values = drawdown_frac(equity)
    return float(values.max()) if len(values) else 0.0


def calmar(cagr: float | None, max_drawdown: float) -> float | None:
    """``cagr / max drawdown`` over the whole range (Young 1991 used 36 months). None without a CAGR or a drawdown."""
    return cagr / max_drawdown if cagr is not None and max_drawdown > 0 else None


def win_rate_frac(pnl: Sequence[float]) -> float | None:
    """The share of trades whose net profit is above zero. None without trades."""
    return sum(value > 0 for value in pnl) / len(pnl) if len(pnl) else None


def profit_factor(pnl: Sequence[float]) -> float | None:
    """Sum of the winners over the sum of the losers (positive); 0 where all lost. None where no trade lost."""
    losses = -math.fsum(value for value in pnl if value < 0)
    return math.fsum(value for value in pnl if value > 0) / losses if losses > _NOTHING else None


def expectancy(pnl: Sequence[float]) -> float | None:
    """Mean net profit of a trade, in the stake currency. None without trades."""
    return math.fsum(pnl) / len(pnl) if len(pnl) else None


def avg_exposure_frac(exposure: ArrayLike) -> float:
    """Mean of the rows' exposure (positions over equity); 0 without rows."""
    values = np.asarray(exposure, dtype=np.float64)
    return float(values.mean()) if len(values) else 0.0


def turnover_frac(traded_value: float, equity: ArrayLike) -> float:
    """Value of all fills, buys and sells, over the mean equity of the rows, for the whole range; 0 without rows or equity.

    2.0 means that the portfolio was bought once and sold once.
    """
    values = np.asarray(equity, dtype=np.float64)
    mean = float(values.mean()) if len(values) else 0.0
    return traded_value / mean if mean > _NOTHING else 0.0


def market_curve(close: ArrayLike) -> Floats:
    """Buy and hold in equal parts the pairs that have a close in the first row, never rebalanced: shape (T,), first value 1.

    ``close`` has shape (T, N), NaN where a pair has no bar: its last close stands. Pairs that list later are not bought. All ones where no
    pair has a close in the first row. A jump in ``close`` is a return: where a price scale breaks, pass ``tickless.breaks.rescaled_close``.
    """
    values = np.asarray(close, dtype=np.float64)
    if not values.size:
        return np.ones(len(values))
    held = values[:, ~np.isnan(values[0])]
    if not held.shape[1]:
        return np.ones(len(values))
    missing = np.isnan(held)
    if missing.any():
        rows = np.where(missing, 0, np.arange(len(held))[:, None])
        held = np.take_along_axis(held, np.maximum.accumulate(rows, axis=0), axis=0)
    return np.asarray((held / held[0]).mean(axis=1))


def market_return_frac(close: ArrayLike) -> float:
    """Return of ``market_curve`` from its first to its last row; 0 without rows."""
    curve = market_curve(close)
    return float(curve[-1]) - 1.0 if len(curve) else 0.0


def monthly_returns(at_ms: ArrayLike, equity: ArrayLike, start_equity: float) -> dict[str, float]:
    """The return of every UTC month that has rows, by ``YYYY-MM``: its last row over the last row of the month before (or the start)."""
    times = np.asarray(at_ms, dtype="datetime64[ms]")
    values = np.asarray(equity, dtype=np.float64)
    months = times.astype("datetime64[M]")
    last = np.flatnonzero(np.append(months[1:] != months[:-1], True)) if len(times) else np.empty(0, dtype=np.intp)
    returns = simple_returns(np.concatenate(([start_equity], values[last])))
    return {str(months[row]): float(value) for row, value in zip(last, returns, strict=True)}


def _deviation(returns: Floats) -> float:
    """Standard deviation (n - 1), with rounding noise of equal returns taken as zero."""
    deviation = float(returns.std(ddof=1))
    return deviation if deviation > _SAME * (1.0 + float(np.abs(returns).max())) else 0.0
