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

import numpy as np

from tickless.bars import Floats, Panel, step_ms
from tickless.features.indicators import (
    atr_simple,
    bollinger_position,
    bridge,
    ema_distance_z,
    highest,
    log_return,
    rsi_cutler,
    simple_return,
    std,
)
from tickless.features.table import FeatureTable
from tickless.features.windows import by_week, ema_startup_bars, rows_since_monday

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
_HOUR_MS = 3_600_000


def startup_bars(timeframe: str) -> int:
    """Base bars before a Monday after which every feature is settled (an even number of half-hours)."""
    step = step_ms(timeframe)
    half_hour = max(1, step_ms(_ATR_TIMEFRAME) // step)
    needed = max(ema_startup_bars(60) + 288, 24 * _HOUR_MS // step + 1, 15 * half_hour)
    return -(-needed // half_hour) * half_hour


def build_features(panel: Panel, max_gap_bars: int, since_row: int = 0, extra_startup_bars: int = 0) -> FeatureTable:
    """The feature table of a panel's rows from ``since_row`` on, values (T, N, 14) in the order of ``NAMES``.

    Gaps of up to ``max_gap_bars`` base bars are bridged with the last close (looking back only); after a longer one a pair starts anew. NaN
    until a pair has 24 hours of bars. Rows of the first weeks of the panel are settled only where ``startup_bars`` precede their Monday.
    ``extra_startup_bars`` begins every window that much earlier, which must change nothing that counts: a proof asks for it, no tick does.
    """
    startup = startup_bars(panel.timeframe) + extra_startup_bars
    values = by_week(panel, startup, lambda window: _window_features(window, max_gap_bars), since_row)
    return FeatureTable(panel.timeframe, panel.pairs, NAMES, panel.start_ms + since_row * panel.step_ms, values)


def _window_features(window: Panel, max_gap_bars: int) -> Floats:
    """(L, N, 14) of the window's last L rows, which begin a day before its Monday."""
    bars_1h = _HOUR_MS // window.step_ms
    bars_6h, bars_24h = 6 * bars_1h, 24 * bars_1h
    whole = bridge(window.close, max_gap_bars)
    # Only the EMAs remember for longer than a day: the rest starts where its own longest window does, and costs half.
    skip = max(0, window.rows - rows_since_monday(window) - max(bars_24h, 20) - 1)
    close = whole[skip:]
    r = log_return(close)
    atr, atr_close = _atr_30m(window, max_gap_bars)
    with np.errstate(invalid="ignore", divide="ignore"):
        columns = (
            simple_return(close, bars_1h),
            simple_return(close, 3 * bars_1h),
            simple_return(close, bars_6h),
            simple_return(close, bars_24h),
            ema_distance_z(whole, 20, 96)[skip:],
            ema_distance_z(whole, 60, 288)[skip:],
            rsi_cutler(close, 7),
            rsi_cutler(close, 14),
            bollinger_position(close, 20),
            std(r, bars_6h) * np.sqrt(bars_6h),
            std(r, bars_24h) * np.sqrt(bars_24h),
            (atr / atr_close)[skip:],
            close / highest(close, bars_24h) - 1.0,
            atr[skip:],
        )
    return np.stack(columns, axis=2)


def _atr_30m(window: Panel, max_gap_bars: int) -> tuple[Floats, Floats]:
    """ATR(14) and close of the last closed 30m bar, on the window's base rows."""
    slow = window.resample(_ATR_TIMEFRAME)
    gap = max(1, max_gap_bars * window.step_ms // slow.step_ms) if max_gap_bars else 0
    close = bridge(slow.close, gap)
    flat = np.isnan(slow.close) & ~np.isnan(close)
    high = np.where(flat, close, slow.high)
    low = np.where(flat, close, slow.low)
    atr = atr_simple(high, low, close, 14)
    closes_ms = window.open_times_ms + window.step_ms
    row = (closes_ms - slow.start_ms) // slow.step_ms - 1
    here = (row >= 0) & (row < slow.rows)
    out = np.full((2, window.rows, len(window.pairs)), np.nan)
    out[0, here] = atr[row[here]]
    out[1, here] = close[row[here]]
    return out[0], out[1]
