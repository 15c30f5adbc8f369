"""Indicators over many pairs at once: arrays of shape (T, N), float64, NaN until a value is settled.

Those that take a ``close`` and an ``age`` read a ``features.series.PairSeries``: a window never reaches back past the first bar of its
series, and a value comes from the bars of its own window alone (``features.rolling``), whichever panel they are part of. The same bars
give the same bits in a run of one tick and of eight months, without an anchor.

``ema`` and ``std`` are TA-Lib's. They run once a column and once a *segment*, a stretch of rows without NaN, so that their recursion and
running sum start at the segment's first row: who calls them must anchor that row (``features.windows``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tickless.bars import Floats
from tickless.features.rolling import decayed_sum, window_max, window_moments, window_sum, window_sums
from tickless.features.series import Ages


def simple_average(close: Floats, bars: int, age: Ages) -> Floats:
    """The mean of the last ``bars`` closes of each series, shape (T, N); NaN until the series has as many.

    ``close`` and ``age`` are those of ``features.series.pair_series``. Each value is summed from its own window alone, by doubling
    (W_2n[t] = W_n[t] + W_n[t-n]): no running sum carries rounding noise along, so that the same window gives the same bits wherever the
    panel begins. Raises ValueError for ``bars`` below 1.
    """
    if bars < 1:
        raise ValueError(f"an average of {bars} bars")
    average = window_sum(close, bars)
    average /= bars
    return _settled(average, bars - 1, age)


def simple_return(close: Floats, bars: int, age: Ages) -> Floats:
    """C_t / C_{t-bars} - 1."""
    out = np.full_like(close, np.nan)
    if len(close) > bars:
        np.divide(close[bars:], close[:-bars], out=out[bars:])
        out[bars:] -= 1.0
    return _settled(out, bars, age)


def volatilities(close: Floats, lengths: Sequence[int], age: Ages) -> list[Floats]:
    """For each number of bars: the population std of that many log returns times its root, a volatility over that time."""
    r = np.zeros_like(close)
    r[1:] = np.diff(np.log(close), axis=0)
    out = []
    for bars, total, squares in zip(lengths, window_sums(r, lengths), window_sums(np.square(r), lengths), strict=True):
        out.append(_settled(np.sqrt(_spread(total, squares, bars)), bars, age))
    return out


def rsi_cutler(close: Floats, lengths: Sequence[int], age: Ages) -> list[Floats]:
    """Relative strength index in Cutler's form: 100 - 100 / (1 + mean gain / mean loss), simple means of the last changes; one a length.

    100 where there are gains but no losses, 50 where there are neither: a price that does not move is no strength.
    Source: Cutler's variant of Wilder (1978), *New Concepts in Technical Trading Systems*.
    """
    change = _change(close)
    gain = np.maximum(change, 0.0)
    loss = np.subtract(gain, change, out=change)
    out = []
    for bars, up, down in zip(lengths, window_sums(gain, lengths), window_sums(loss, lengths), strict=True):
        moved = down + up
        index = np.multiply(up, 100.0, out=up)
        with np.errstate(invalid="ignore"):
            index /= moved
        index[moved == 0.0] = 50.0
        out.append(_settled(index, bars, age))
    return out


def atr_simple(high: Floats, low: Floats, close: Floats, bars: int) -> Floats:
    """Average true range as the simple mean (not Wilder's) of the last ``bars`` true ranges max(H - L, |H - C_prev|, |L - C_prev|).

    In price units. The first ``bars`` rows are NaN; which later rows reach across the start of a series is for the caller to say.
    """
    out = np.full_like(close, np.nan)
    if len(close) > bars:
        true_range = np.maximum(high[1:], close[:-1])
        true_range -= np.minimum(low[1:], close[:-1])
        out[bars:] = window_sum(true_range, bars)[bars - 1 :]
        out[bars:] /= bars
    return out


def bollinger_position(close: Floats, bars: int, age: Ages, width: float = 2.0) -> Floats:
    """(C - lower) / (upper - lower) with bands at ``width`` population deviations, clipped to [0, 1]; 0.5 where the deviation is 0."""
    mean, variance = window_moments(close, bars)
    reach = np.sqrt(variance, out=variance)
    reach *= width
    position = close - mean
    with np.errstate(divide="ignore", invalid="ignore"):
        position /= reach
    position += 1.0
    position *= 0.5
    np.clip(position, 0.0, 1.0, out=position)
    position[reach == 0.0] = 0.5
    return _settled(position, bars - 1, age)


def drawdown(close: Floats, bars: int, age: Ages) -> Floats:
    """C_t over the highest of the last ``bars`` closes, less 1."""
    out = np.divide(close, window_max(close, bars))
    out -= 1.0
    return _settled(out, bars - 1, age)


def ema_distance(close: Floats, ema_bars: int, memory_bars: int, age: Ages) -> Floats:
    """C - EMA in price units, a = 2 / (ema_bars + 1), the average's first value being the first observation; 0 where there is no series.

    With q = 1 - a the distance is q times (the distance before plus the change of C), which is the sum of q^(k+1) times the change k bars
    ago, from a distance of 0 at the first bar. The sum ends after ``memory_bars``: what is left out weighs q^memory_bars.
    """
    decay = 1.0 - 2.0 / (ema_bars + 1.0)
    change = _change(close)
    first = age < 1
    if first.any():
        change[first] = 0.0
    change *= decay
    return decayed_sum(change, decay, memory_bars, age)


def ema_distance_z(close: Floats, ema_bars: int, memory_bars: int, std_bars: int, age: Ages) -> Floats:
    """(C - EMA) / (population std of (C - EMA) over ``std_bars`` + 1e-8), price units; 0 while the series has fewer bars than that."""
    distance = ema_distance(close, ema_bars, memory_bars, age)
    deviation = _spread(window_sum(distance, std_bars), window_sum(np.square(distance), std_bars), std_bars)
    deviation /= std_bars
    np.sqrt(deviation, out=deviation)
    deviation += 1e-8
    distance /= deviation
    young = age < std_bars - 1
    if young.any():
        distance[young] = np.where(age[young] < 0, np.nan, 0.0)
    return distance


def _spread(total: Floats, squares: Floats, bars: int) -> Floats:
    """The sum of squared distances to the mean, from the sums of values and of squares. For values that lie around 0. Overwrites both."""
    total *= total
    total /= bars
    squares -= total
    return np.maximum(squares, 0.0, out=squares)


def _change(close: Floats) -> Floats:
    """C_t - C_{t-1}; 0 in the first row."""
    out = np.zeros_like(close)
    np.subtract(close[1:], close[:-1], out=out[1:])
    return out


def _settled(x: Floats, bars: int, age: Ages) -> Floats:
    """``x`` with NaN where the series is younger than ``bars``; in place."""
    young = age < bars
    if young.any():
        x[young] = np.nan
    return x


def bridge(x: Floats, max_gap: int) -> Floats:
    """Carry the last value over NaN for at most ``max_gap`` rows, looking back only. Longer gaps stay NaN from then on.

    Shape (T, N) → (T, N). Leading NaN stay.
    """
    missing = np.isnan(x)
    if max_gap == 0 or not missing.any():
        return x
    rows = np.arange(len(x))[:, None]
    last = np.maximum.accumulate(np.where(missing, -1, rows), axis=0)
    near = missing & (last >= 0) & (rows - last <= max_gap)
    filled = x.copy()
    filled[near] = np.take_along_axis(x, np.maximum(last, 0), axis=0)[near]
    return filled


def ema(x: Floats, bars: int) -> Floats:
    """Exponential moving average, a = 2 / (bars + 1), first value = first observation; NaN for the first ``bars - 1`` rows."""

    def settled(column: Floats) -> Floats:
        out = _ema_column(column, bars)
        out[: bars - 1] = np.nan
        return out

    return _by_segment(settled, x, bars)


def std(x: Floats, bars: int) -> Floats:
    """Population standard deviation (ddof 0) of the last ``bars`` rows."""
    return _by_segment(lambda column: _talib().STDDEV(column, bars, 1.0), x, bars)


def log_return(close: Floats) -> Floats:
    """ln(C_t / C_{t-1}); the first row is NaN."""
    out = np.full_like(close, np.nan)
    out[1:] = np.diff(np.log(np.ascontiguousarray(close)), axis=0)
    return out


def _talib() -> Any:
    """TA-Lib, loaded where it is used: it imports pandas and polars where they are installed, and a risk check needs no indicator."""
    import talib

    return talib


def _ema_column(column: Floats, bars: int) -> Floats:
    """EMA of a column without NaN, from its first row on. TA-Lib starts at the mean of ``bars`` values: here all of them are the first."""
    padded = np.concatenate((np.full(bars - 1, column[0]), column))
    return np.asarray(_talib().EMA(padded, bars)[bars - 1 :])


def _segments(column: Floats) -> Iterator[tuple[int, int]]:
    """[first, last) of each stretch without NaN."""
    valid = np.concatenate(([False], ~np.isnan(column), [False]))
    edges = np.flatnonzero(valid[1:] != valid[:-1])
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def _by_segment(function: Callable[[Floats], Floats], x: Floats, min_rows: int) -> Floats:
    """``function`` over each segment of each column that has ``min_rows`` rows; NaN elsewhere."""
    columns = np.ascontiguousarray(x.T)
    out = np.full(columns.shape, np.nan)
    missing = np.isnan(columns)
    leading = (
        np.where(missing.all(axis=1), columns.shape[1], missing.argmin(axis=1)) if columns.size else np.zeros(len(columns), dtype=np.intp)
    )
    whole = missing.sum(axis=1) == leading
    for n, column in enumerate(columns):
        # Most columns have nothing missing but their first rows: no need to look for segments.
        segments = [(int(leading[n]), len(column))] if whole[n] else _segments(column)
        for first, last in segments:
            if last - first >= min_rows:
                out[n, first:last] = function(column[first:last])
    return np.ascontiguousarray(out.T)
