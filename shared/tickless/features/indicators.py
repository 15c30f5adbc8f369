"""Indicators over many pairs at once: arrays of shape (T, N), float64, NaN in, NaN out.

TA-Lib does the arithmetic where its definition is ours; it runs once a column and once a *segment*, a stretch of rows without NaN. Every
recursion and running sum therefore starts at the segment's first row, and the value at row t depends on rows up to t of its segment
only: the same window gives the same bits, however many rows follow. A value is NaN until its window is full.

Prices are scaled to about 1 before sums and deviations are taken: a threshold or a rounding then means the same for every coin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tickless.bars import Floats
from tickless.features.series import Ages


def _talib() -> Any:
    """TA-Lib, loaded where it is used: it imports pandas and polars where they are installed, and a risk check needs no indicator."""
    import talib

    return talib


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


def sma(x: Floats, bars: int) -> Floats:
    """Simple moving average of the last ``bars`` rows."""
    return _by_segment(lambda column: _talib().SMA(column, bars), x, bars)


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
    average[age < bars - 1] = np.nan
    return average


def window_sum(x: Floats, bars: int) -> Floats:
    """The sum of the last ``bars`` rows, each from its own window alone; a new array. The first ``bars - 1`` rows sum fewer.

    By doubling: the windows of 1, 2, 4, ... rows, and those that make up ``bars`` in binary put behind one another.
    Raises ValueError for ``bars`` below 1.
    """
    if bars < 1:
        raise ValueError(f"a sum of {bars} bars")
    power, width, reach = x, 1, 0
    total: Floats | None = None
    while True:
        if bars & width:
            total = power.copy() if total is None else _add_earlier(total, power, reach)
            reach += width
        if total is not None and 2 * width > bars:
            return total
        power, width = _add_earlier(power.copy(), power, width), 2 * width


def _add_earlier(x: Floats, y: Floats, rows: int) -> Floats:
    """``x`` plus ``y`` of ``rows`` rows before, in place."""
    x[rows:] += y[: max(0, len(y) - rows)]
    return x


def std(x: Floats, bars: int) -> Floats:
    """Population standard deviation (ddof 0) of the last ``bars`` rows."""
    return _by_segment(lambda column: _talib().STDDEV(column, bars, 1.0), x, bars)


def highest(x: Floats, bars: int) -> Floats:
    """The maximum of the last ``bars`` rows."""
    return _by_segment(lambda column: _talib().MAX(column, bars), x, bars)


def log_return(close: Floats) -> Floats:
    """ln(C_t / C_{t-1}); the first row is NaN."""
    out = np.full_like(close, np.nan)
    out[1:] = np.diff(np.log(np.ascontiguousarray(close)), axis=0)
    return out


def simple_return(close: Floats, bars: int) -> Floats:
    """C_t / C_{t-bars} - 1; NaN unless every bar in between is there, so that a return never spans a break."""
    out = np.full_like(close, np.nan)
    if len(close) > bars:
        out[bars:] = close[bars:] / close[:-bars] - 1.0
    gaps = np.cumsum(np.isnan(close), axis=0)
    if gaps.size and gaps[-1].any():
        within = np.zeros_like(gaps)
        within[bars:] = gaps[bars:] - gaps[:-bars]
        out[within > 0] = np.nan
    return out


def rsi_cutler(close: Floats, bars: int) -> Floats:
    """Relative strength index in Cutler's form: 100 - 100 / (1 + mean gain / mean loss), simple means of the last ``bars`` changes.

    100 where there are gains but no losses, 50 where there are neither: a price that does not move is no strength.
    Source: Cutler's variant of Wilder (1978), *New Concepts in Technical Trading Systems*.
    """
    scale = _first_valid(close)
    change = np.full_like(close, np.nan)
    change[1:] = np.diff(close / scale, axis=0)
    gain = sma(np.where(np.isnan(change), np.nan, np.maximum(change, 0.0)), bars)
    loss = sma(np.where(np.isnan(change), np.nan, np.maximum(-change, 0.0)), bars)
    # A running sum that should return to zero keeps a rounding residue; relative to prices of about 1 it is far below a tick.
    gain = np.where(gain < 1e-13, 0.0, gain)
    loss = np.where(loss < 1e-13, 0.0, loss)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = 100.0 - 100.0 / (1.0 + gain / loss)
    value = np.where((loss == 0.0) & (gain > 0.0), 100.0, value)
    return np.where((loss == 0.0) & (gain == 0.0), 50.0, value)


def true_range(high: Floats, low: Floats, close: Floats) -> Floats:
    """max(H - L, |H - C_prev|, |L - C_prev|) in price units; NaN in a segment's first row."""
    previous = np.full_like(close, np.nan)
    previous[1:] = close[:-1]
    with np.errstate(invalid="ignore"):
        return np.maximum(high - low, np.maximum(np.abs(high - previous), np.abs(low - previous)))


def atr_simple(high: Floats, low: Floats, close: Floats, bars: int) -> Floats:
    """Average true range as the simple mean (not Wilder's) of the last ``bars`` true ranges, in price units."""
    scale = _first_valid(close)
    return sma(true_range(high / scale, low / scale, close / scale), bars) * scale


def bollinger_position(close: Floats, bars: int, width: float = 2.0) -> Floats:
    """(C - lower) / (upper - lower) with bands at ``width`` population deviations, clipped to [0, 1]; 0.5 where the deviation is 0."""
    scaled = close / _first_valid(close)
    mean, deviation = sma(scaled, bars), std(scaled, bars)
    with np.errstate(divide="ignore", invalid="ignore"):
        position = (scaled - (mean - width * deviation)) / (2.0 * width * deviation)
    return np.where(deviation == 0.0, 0.5, np.clip(position, 0.0, 1.0))


def ema_distance_z(close: Floats, ema_bars: int, std_bars: int) -> Floats:
    """(C - EMA) / (std of (C - EMA) over ``std_bars`` + 1e-8), price units; 0 where fewer than ``std_bars`` bars exist.

    NaN where there is no close.
    """
    scale = _first_valid(close)
    scaled = close / scale
    # The definition has an EMA from the first observation on, so the first deviations count towards the window.
    distance = scaled - _by_segment(lambda column: _ema_column(column, ema_bars), scaled, 1)
    deviation = std(distance, std_bars)
    z = distance * scale / (deviation * scale + 1e-8)
    return np.where(np.isnan(deviation) & ~np.isnan(close), 0.0, z)


def _ema_column(column: Floats, bars: int) -> Floats:
    """EMA of a column without NaN, from its first row on. TA-Lib starts at the mean of ``bars`` values: here all of them are the first."""
    padded = np.concatenate((np.full(bars - 1, column[0]), column))
    return np.asarray(_talib().EMA(padded, bars)[bars - 1 :])


def _first_valid(x: Floats) -> Floats:
    """The first value of each column that is not NaN, shape (N,); 1 where there is none."""
    valid = ~np.isnan(x)
    if not len(x):
        return np.ones(x.shape[1])
    row = np.asarray(valid.argmax(axis=0))
    first = x[row, np.arange(x.shape[1])]
    return np.where(np.isnan(first) | (first == 0.0), 1.0, first)


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
