"""The feature set of ``crossover``: two simple moving averages of a pair's closes, and where they cross.

=========== ===========================================================================================================
sma_fast    mean of the last ``fast_bars`` closes
sma_slow    mean of the last ``slow_bars`` closes
trend       1 where fast > slow, -1 where fast < slow, 0 where they differ by less than 1e-12 of the slow average
crossed     1 where trend is 1 after 0 or -1, -1 where it is -1 after 0 or 1, else 0; 0 on the first bar that has both averages
atr_14_30m  ATR(14) of the last closed 30m bar, in price units; only where a stop of the desk is measured in it
=========== ===========================================================================================================
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tickless.bars import Floats, Panel
from tickless.features.half_hours import ATR, SeriesBars, atr_30m, atr_startup_bars
from tickless.features.indicators import simple_average
from tickless.features.series import PairSeries, pair_series
from tickless.features.table import FeatureTable
from tickless.settings import CrossoverSection, Settings

TREND, CROSSED = "trend", "crossed"
NAMES: tuple[str, ...] = ("sma_fast", "sma_slow", TREND, CROSSED)
EQUAL_FRAC = 1e-12
"""Prices have few digits, sums of floats do not: averages nearer than this are the same number, told apart by rounding alone."""


def startup_bars(settings: Settings) -> int:
    """Bars before a tick after which its features are those of the whole history: the slow average of two bars, and a bridged gap.

    Raises DataError for an ATR on bars that no half-hour is made of.
    """
    averages = average_startup_bars(settings.crossover, settings.universe.max_gap_bars)
    return max(averages, atr_startup_bars(settings.desk.timeframe)) if settings.risk.uses_atr else averages


def average_startup_bars(section: CrossoverSection, max_gap_bars: int) -> int:
    """Bars before a row after which its averages and crosses are those of the whole history."""
    return section.slow_bars + 1 + max_gap_bars


def enters(table: FeatureTable) -> NDArray[np.bool_]:
    """Where the strategy enters, held or not: at a cross up. Shape (T, N)."""
    return np.asarray(table.feature(CROSSED) > 0.0)


def leaves(table: FeatureTable) -> NDArray[np.bool_]:
    """Where the strategy leaves what it holds: while the fast average lies below the slow one. Shape (T, N)."""
    return np.asarray(table.feature(TREND) < 0.0)


def build_averages(panel: Panel, section: CrossoverSection, max_gap_bars: int) -> FeatureTable:
    """Averages and crosses alone, of every row of a panel, values (T, N, 4) in the order of ``NAMES``; as ``build_features`` makes them."""
    series = pair_series(panel, max_gap_bars)
    blocks = np.empty((len(NAMES), *series.close.shape))
    _write_averages(blocks, series, section)
    return FeatureTable(panel.timeframe, panel.pairs, NAMES, panel.start_ms, np.moveaxis(blocks, 0, 2))


def build_features(panel: Panel, settings: Settings, since_row: int = 0, extra_startup_bars: int = 0) -> FeatureTable:
    """The feature table of a panel's rows from ``since_row`` on, values (T, N, 4) in the order of ``NAMES``, the ATR behind them if any.

    Gaps of up to ``max_gap_bars`` bars are bridged with the last close; after a longer one, and on a new price scale, a pair starts anew.
    NaN until a pair has ``slow_bars`` bars. ``extra_startup_bars`` begins every window that much earlier, which must change nothing.
    """
    first = max(0, since_row - startup_bars(settings) - extra_startup_bars)
    part = panel.take(first, panel.rows)
    series = pair_series(part, settings.universe.max_gap_bars)
    names = (*NAMES, ATR) if settings.risk.uses_atr else NAMES
    # One block a feature: what is written below is contiguous, and nothing is copied together at the end.
    blocks = np.empty((len(names), *series.close.shape))
    _write_averages(blocks, series, settings.crossover)
    if settings.risk.uses_atr:
        bars = SeriesBars(part.start_ms, part.step_ms, part.high, part.low, series.close, series.age)
        blocks[len(NAMES)], _ = atr_30m(bars, 0, part.rows)
    values = np.moveaxis(blocks[:, since_row - first :], 0, 2)
    return FeatureTable(panel.timeframe, panel.pairs, names, panel.start_ms + since_row * panel.step_ms, values)


def _write_averages(blocks: Floats, series: PairSeries, section: CrossoverSection) -> None:
    """Write the first four features, one block each."""
    fast, slow, trend, crossed = blocks[: len(NAMES)]
    fast[:] = simple_average(series.close, section.fast_bars, series.age)
    slow[:] = simple_average(series.close, section.slow_bars, series.age)
    np.subtract(fast, slow, out=trend)
    with np.errstate(invalid="ignore"):
        trend[np.abs(trend) < EQUAL_FRAC * slow] = 0.0
    np.sign(trend, out=trend)
    # NaN compares to nothing: the bar before the first with both averages makes no cross.
    before, now = trend[:-1], trend[1:]
    crossed[:1] = 0.0
    np.subtract((now > 0.0) & (before <= 0.0), (now < 0.0) & (before >= 0.0), out=crossed[1:], dtype=np.float64)
    crossed[series.age < section.slow_bars] = 0.0
