"""The feature set of ``rotation``: 13 model features a pair, and the ATR in price units that its stops need.

Windows named by time (r_1h, rv_24h, the 24 h peak) are durations on any base timeframe; those named by bars (EMA 20, RSI 14, Bollinger 20)
count base bars; the ATR runs on bars resampled to 30m. Row t uses bars up to t. C is the close, r its log return.

=================== =====================================================================================================
r_1h … r_24h        C_t / C_{t-h} - 1
ema20_z, ema60_z    (C - EMA) / (population std of (C - EMA) over 96, 288 bars + 1e-8); 0 with fewer bars
rsi7, rsi14         Cutler's RSI, 0 to 100
bb_pos              place of C between the Bollinger bands (20, 2), clipped to [0, 1]
rv_6h, rv_24h       population std of r over the duration, times the root of the number of bars: a 6 h, a 24 h volatility
atr_14_30m_frac     ATR(14) of the last closed 30m bar over its close (the price-unit ATR is not comparable between coins)
dd_from_peak        C_t / highest close of 24 h - 1
=================== =====================================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from tickless.bars import Floats, Panel, step_ms
from tickless.errors import DataError
from tickless.features.indicators import (
    atr_simple,
    bollinger_position,
    drawdown,
    ema_distance_z,
    rsi_cutler,
    simple_return,
    volatilities,
)
from tickless.features.series import Ages, pair_series
from tickless.features.table import FeatureTable
from tickless.features.windows import ema_startup_bars

MODEL_FEATURES: tuple[str, ...] = (
    "r_1h",
    "r_3h",
    "r_6h",
    "r_24h",
    "ema20_z",
    "ema60_z",
    "rsi7",
    "rsi14",
    "bb_pos",
    "rv_6h",
    "rv_24h",
    "atr_14_30m_frac",
    "dd_from_peak",
)
"""What the models are given, in this order."""

NAMES: tuple[str, ...] = (*MODEL_FEATURES, "atr_14_30m")
_ATR_TIMEFRAME = "30m"
_ATR_BARS = 14
_HOUR_MS = 3_600_000
_LONGEST_BRIDGE = 96
"""Bars of the longest gap that the settings allow to be bridged: what lies right before a window may be carried into it."""
_BLOCK_VALUES = 181_440
"""Closes computed at once: few enough for the processor's cache, and many against the startup that each block computes anew."""
_THREADS = 2


def startup_bars(timeframe: str) -> int:
    """Base bars before a row that its features reach back to (an even number of half-hours)."""
    step = step_ms(timeframe)
    half_hour = max(1, step_ms(_ATR_TIMEFRAME) // step)
    needed = max(_memory(60) + 288, 24 * _HOUR_MS // step + 1, (_ATR_BARS + 2) * half_hour) + _LONGEST_BRIDGE + 1
    return -(-needed // half_hour) * half_hour


def _memory(ema_bars: int) -> int:
    """How many bars back an EMA looks: a power of two, which takes the fewest passes, and twice as many bars as settle it.

    Where a price stands still for days, what is left of a move is all there is to divide by: its tail counts for longer.
    """
    return 2 << (ema_startup_bars(ema_bars) - 1).bit_length()


def build_features(panel: Panel, max_gap_bars: int, since_row: int = 0, extra_startup_bars: int = 0) -> FeatureTable:
    """The feature table of a panel's rows from ``since_row`` on, values (T, N, 14) in the order of ``NAMES``.

    Gaps of up to ``max_gap_bars`` base bars are bridged with the last close (looking back only); after a longer one, and where the price
    scale breaks (``tickless.breaks``), a pair starts anew. NaN until a pair has 24 hours of bars. A row depends on the ``startup_bars``
    before it and on nothing else, so that it has the same bits whatever panel it is part of; the first rows of a panel have fewer.
    ``extra_startup_bars`` lets the EMAs remember that much longer, which must change nothing that counts: a proof asks, no tick does.
    Raises DataError for bars that no half-hour is made of.
    """
    if step_ms(_ATR_TIMEFRAME) % panel.step_ms:
        raise DataError(f"timeframe {panel.timeframe}: cannot resample {panel.timeframe} bars to {_ATR_TIMEFRAME}, which the ATR needs")
    first = max(0, since_row - startup_bars(panel.timeframe) - extra_startup_bars)
    part = panel.take(first, panel.rows)
    series = pair_series(part, max_gap_bars)
    bars = _Bars(part.start_ms, part.step_ms, part.high, part.low, series.close, series.age)
    since = min(since_row, panel.rows) - first
    # One block of memory a feature: what a tick or a model reads lies together, and nothing is transposed.
    store = np.empty((len(NAMES), len(bars.age) - since, len(panel.pairs)))
    block = max(_BLOCK_VALUES // max(1, len(panel.pairs)), 672)

    def compute(begin: int) -> None:
        end = min(begin + block, len(bars.age))
        _write_block(bars, begin, store[:, begin - since : end - since], extra_startup_bars)

    _run(compute, range(since, len(bars.age), block))
    values = np.moveaxis(store, 0, 2)
    return FeatureTable(panel.timeframe, panel.pairs, NAMES, panel.start_ms + since_row * panel.step_ms, values)


def _run(compute: Callable[[int], None], blocks: range) -> None:
    """``compute`` of every block: numpy lets go of the interpreter, so that two threads are nearly twice as fast as one."""
    if len(blocks) < 2:
        for begin in blocks:
            compute(begin)
        return
    # Until an array this large has been freed, glibc returns every temporary to the system and faults the next one in: half of the time.
    np.empty(31 << 17)
    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(compute, blocks):
            pass


@dataclass(frozen=True)
class _Bars:
    """Bars of shape (T, N), bridged closes; a bridged bar has neither high nor low."""

    start_ms: int
    step_ms: int
    high: Floats
    low: Floats
    close: Floats
    age: Ages

    def take(self, first: int, last: int) -> _Bars:
        """Rows [first, last), or from 0 on where ``first`` is below. Arrays are views."""
        first = max(0, first)
        part = slice(first, last)
        start_ms = self.start_ms + first * self.step_ms
        return _Bars(start_ms, self.step_ms, self.high[part], self.low[part], self.close[part], self.age[part])


def _write_block(bars: _Bars, begin: int, out: Floats, extra_startup_bars: int) -> None:
    """All features of the rows from ``begin`` on that ``out`` (14, R, N) has room for."""
    rows, end = out.shape[1], begin + out.shape[1]
    bars_1h = _HOUR_MS // bars.step_ms
    bars_6h, bars_24h = 6 * bars_1h, 24 * bars_1h
    day = bars.take(begin - max(bars_24h, 20), end)
    close, age = day.close, day.age
    with np.errstate(invalid="ignore", divide="ignore"):
        for k, hours in enumerate((1, 3, 6, 24)):
            out[k] = simple_return(close, hours * bars_1h, age)[-rows:]
        for k, ema_bars, std_bars in ((4, 20, 96), (5, 60, 288)):
            memory = _memory(ema_bars) + extra_startup_bars
            long = bars.take(begin - memory - std_bars, end)
            out[k] = ema_distance_z(long.close, ema_bars, memory, std_bars, long.age)[-rows:]
        for k, rsi in enumerate(rsi_cutler(close, (7, 14), age)):
            out[6 + k] = rsi[-rows:]
        out[8] = bollinger_position(close, 20, age)[-rows:]
        for k, volatility in enumerate(volatilities(close, (bars_6h, bars_24h), age)):
            out[9 + k] = volatility[-rows:]
        atr, atr_close = _atr_30m(bars, begin, end)
        np.divide(atr, atr_close, out=out[11])
        out[12] = drawdown(close, bars_24h, age)[-rows:]
        out[13] = atr


def _atr_30m(bars: _Bars, begin: int, end: int) -> tuple[Floats, Floats]:
    """ATR(14) and close of the last closed 30m bar of the series, at the base rows [begin, end), (R, N) each."""
    size = step_ms(_ATR_TIMEFRAME) // bars.step_ms
    shape = (end - begin, bars.close.shape[1])
    # Row of the half-hour that has closed last when a base row closes; half-hours are counted from the first that begins in the bars.
    lead = -(bars.start_ms // bars.step_ms) % size
    row = np.arange(begin, end)
    last = (row + 1 - lead) // size - 1
    first = max(0, int(last[0]) - _ATR_BARS - 1) if len(last) else 0
    count = int(last[-1]) + 1 - first if len(last) else 0
    if count <= 0:
        return np.full(shape, np.nan), np.full(shape, np.nan)
    part = bars.take(lead + first * size, lead + (first + count) * size)
    high, low, close = _half_hours(part, size)
    atr = atr_simple(high, low, close, _ATR_BARS)
    at = np.maximum(last - first, 0)
    out, out_close = atr[at], close[at]
    # Every half-hour of the window ends in the series of the row, and at least one bar of each is there.
    needed = _ATR_BARS * size + row - (lead + (last + 1) * size - 1)
    young = bars.age[begin:end] < needed[:, None]
    out[young | (last < first)[:, None]] = np.nan
    return out, out_close


def _half_hours(bars: _Bars, size: int) -> tuple[Floats, Floats, Floats]:
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
