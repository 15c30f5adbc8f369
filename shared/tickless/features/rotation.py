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

import numpy as np

from tickless.bars import Floats, Panel, step_ms
from tickless.errors import DataError
from tickless.features.half_hours import ATR_BARS, ATR_TIMEFRAME, LONGEST_BRIDGE, SeriesBars, atr_30m
from tickless.features.indicators import (
    bollinger_position,
    drawdown,
    ema_distance_z,
    rsi_cutler,
    simple_return,
    volatilities,
)
from tickless.features.series import pair_series
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
_HOUR_MS = 3_600_000
_BLOCK_VALUES = 181_440
"""Closes computed at once: few enough for the processor's cache, and many against the startup that each block computes anew."""
_THREADS = 2


def startup_bars(timeframe: str) -> int:
    """Base bars before a row that its features reach back to (an even number of half-hours)."""
    step = step_ms(timeframe)
    half_hour = max(1, step_ms(ATR_TIMEFRAME) // step)
    needed = max(_memory(60) + 288, 24 * _HOUR_MS // step + 1, (ATR_BARS + 2) * half_hour) + LONGEST_BRIDGE + 1
    return -(-needed // half_hour) * half_hour


def _memory(ema_bars: int) -> int:
    """How many bars back an EMA looks: a power of two, which takes the fewest passes, and twice as many bars as settle it.

    Where a price stands still for days, what is left of a move is all there is to divide by: its tail counts for longer.
    """
    return 2 << (ema_startup_bars(ema_bars) - 1).bit_length()


def build_features(
    panel: Panel,
    max_gap_bars: int,
    since_row: int = 0,
    extra_startup_bars: int = 0,
    *,
    advance: Callable[[int, int], None] = lambda _done, _total: None,
) -> FeatureTable:
    """The feature table of a panel's rows from ``since_row`` on, values (T, N, 14) in the order of ``NAMES``.

    Gaps of up to ``max_gap_bars`` base bars are bridged with the last close (looking back only); after a longer one, and where the price
    scale breaks (``tickless.breaks``), a pair starts anew. NaN until a pair has 24 hours of bars. A row depends on the ``startup_bars``
    before it and on nothing else, so that it has the same bits whatever panel it is part of; the first rows of a panel have fewer.
    ``extra_startup_bars`` lets the EMAs remember that much longer, which must change nothing that counts: a proof asks, no tick does.
    ``advance`` is told how many of how many blocks of rows are done. Raises DataError for bars that no half-hour is made of.
    """
    if step_ms(ATR_TIMEFRAME) % panel.step_ms:
        raise DataError(f"timeframe {panel.timeframe}: cannot resample {panel.timeframe} bars to {ATR_TIMEFRAME}, which the ATR needs")
    first = max(0, since_row - startup_bars(panel.timeframe) - extra_startup_bars)
    part = panel.take(first, panel.rows)
    series = pair_series(part, max_gap_bars)
    bars = SeriesBars(part.start_ms, part.step_ms, part.high, part.low, series.close, series.age)
    since = min(since_row, panel.rows) - first
    # One block of memory a feature: what a tick or a model reads lies together, and nothing is transposed.
    store = np.empty((len(NAMES), len(bars.age) - since, len(panel.pairs)))
    block = max(_BLOCK_VALUES // max(1, len(panel.pairs)), 672)

    def compute(begin: int) -> None:
        end = min(begin + block, len(bars.age))
        _write_block(bars, begin, store[:, begin - since : end - since], extra_startup_bars)

    _run(compute, range(since, len(bars.age), block), advance)
    values = np.moveaxis(store, 0, 2)
    return FeatureTable(panel.timeframe, panel.pairs, NAMES, panel.start_ms + since_row * panel.step_ms, values)


def _run(compute: Callable[[int], None], blocks: range, advance: Callable[[int, int], None]) -> None:
    """``compute`` of every block: numpy lets go of the interpreter, so that two threads are nearly twice as fast as one."""
    if len(blocks) < 2:
        for begin in blocks:
            compute(begin)
            advance(1, 1)
        return
    # Until an array this large has been freed, glibc returns every temporary to the system and faults the next one in: half of the time.
    np.empty(31 << 17)
    with ThreadPoolExecutor(_THREADS) as pool:
        for done, _ in enumerate(pool.map(compute, blocks), start=1):
            advance(done, len(blocks))


def _write_block(bars: SeriesBars, begin: int, out: Floats, extra_startup_bars: int) -> None:
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
        atr, atr_close = atr_30m(bars, begin, end)
        np.divide(atr, atr_close, out=out[11])
        out[12] = drawdown(close, bars_24h, age)[-rows:]
        out[13] = atr
