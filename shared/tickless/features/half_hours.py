"""The ATR that stops are measured in: on half-hours made of a pair's own series, whatever the base timeframe."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tickless.bars import Floats, step_ms
from tickless.errors import DataError
from tickless.features.indicators import atr_simple
from tickless.features.series import Ages

ATR = "atr_14_30m"
"""The column of a feature set that holds it, in price units."""
ATR_TIMEFRAME = "30m"
LONGEST_BRIDGE = 96
"""Bars of the longest gap that the settings allow to be bridged: what lies right before a window may be carried into it."""
ATR_BARS = 14


def atr_startup_bars(timeframe: str) -> int:
    """Base bars before a row that its ATR reaches back to. Raises DataError for bars that no half-hour is made of."""
    step = step_ms(timeframe)
    if step_ms(ATR_TIMEFRAME) % step:
        raise DataError(f"timeframe {timeframe}: cannot resample {timeframe} bars to {ATR_TIMEFRAME}, which the ATR needs")
    return (ATR_BARS + 2) * (step_ms(ATR_TIMEFRAME) // step) + LONGEST_BRIDGE + 1


@dataclass(frozen=True)
class SeriesBars:
    """Bars of shape (T, N), bridged closes; a bridged bar has neither high nor low."""

    start_ms: int
    step_ms: int
    high: Floats
    low: Floats
    close: Floats
    age: Ages

    def take(self, first: int, last: int) -> SeriesBars:
        """Rows [first, last), or from 0 on where ``first`` is below. Arrays are views."""
        first = max(0, first)
        part = slice(first, last)
        start_ms = self.start_ms + first * self.step_ms
        return SeriesBars(start_ms, self.step_ms, self.high[part], self.low[part], self.close[part], self.age[part])


def atr_30m(bars: SeriesBars, begin: int, end: int) -> tuple[Floats, Floats]:
    """ATR(14) and close of the last closed 30m bar of the series, at the base rows [begin, end), (R, N) each."""
    size = step_ms(ATR_TIMEFRAME) // bars.step_ms
    shape = (end - begin, bars.close.shape[1])
    # Row of the half-hour that has closed last when a base row closes; half-hours are counted from the first that begins in the bars.
    lead = -(bars.start_ms // bars.step_ms) % size
    row = np.arange(begin, end)
    last = (row + 1 - lead) // size - 1
    first = max(0, int(last[0]) - ATR_BARS - 1) if len(last) else 0
    count = int(last[-1]) + 1 - first if len(last) else 0
    if count <= 0:
        return np.full(shape, np.nan), np.full(shape, np.nan)
    part = bars.take(lead + first * size, lead + (first + count) * size)
    high, low, close = _half_hours(part, size)
    atr = atr_simple(high, low, close, ATR_BARS)
    at = np.maximum(last - first, 0)
    out, out_close = atr[at], close[at]
    # Every half-hour of the window ends in the series of the row, and at least one bar of each is there.
    needed = ATR_BARS * size + row - (lead + (last + 1) * size - 1)
    young = bars.age[begin:end] < needed[:, None]
    out[young | (last < first)[:, None]] = np.nan
    return out, out_close


def _half_hours(bars: SeriesBars, size: int) -> tuple[Floats, Floats, Floats]:
    """High, low and close of bars of ``size`` base bars, from those of a period's base bars that are in the series of its last."""
    flat = np.isnan(bars.high)
    high, low = bars.high, bars.low
    if flat.any():
        high, low = np.where(flat, bars.close, high), np.where(flat, bars.close, low)
    age = bars.age[size - 1 :: size]
    highest, lowest = high[size - 1 :: size], low[size - 1 :: size]
    for back in range(1, size):
        earlier = slice(size - 1 - back, None, size)
        higher, lower = np.maximum(highest, high[earlier]), np.minimum(lowest, low[earlier])
        young = age < back
        if young.any():
            higher[young], lower[young] = highest[young], lowest[young]
        highest, lowest = higher, lower
    return highest, lowest, bars.close[size - 1 :: size]
