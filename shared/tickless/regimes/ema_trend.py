"""The regime of ``rotation``: trend, chop or down from two EMAs of the market's 30m closes, its volatility, and breadth.

* slope = EMA_fast(t) - EMA_fast(t - slope_bars); trend: fast > slow and slope > 0; down: fast < slow and slope < 0; else chop.
* volatility = population std of the 95 log returns of the last 96 closes, annualised by sqrt(48 * 365).
* breadth = share of the pairs with a settled r_24h for which it is above zero.

With fewer than ``ema_slow_bars`` closes the answer is (chop, mid) and breadth stands alone. After a gap that is too long to bridge, and
where the market's price scale breaks (``tickless.breaks``), the closes start anew.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tickless.bars import COLUMNS, Floats, Panel, step_ms
from tickless.breaks import find_scale_breaks
from tickless.features.indicators import bridge, ema, log_return, std
from tickless.features.windows import by_week, ema_startup_bars
from tickless.settings import RotationSection

REGIMES: tuple[str, ...] = ("chop", "trend", "down")
VOLATILITY_REGIMES: tuple[str, ...] = ("low", "mid", "high")
TIMEFRAME = "30m"
_VOLATILITY_BARS = 95
_BARS_A_YEAR = 48 * 365


@dataclass(frozen=True)
class Regime:
    """The market's state at a tick."""

    name: str
    """``trend``, ``chop`` or ``down``."""
    volatility: str
    """``low``, ``mid`` or ``high``."""
    volatility_ann_frac: float
    """Annualised volatility of the market pair; NaN where unknown."""
    breadth_frac: float
    """Share of pairs that rose over 24 hours; 0.5 where none is known."""


@dataclass(frozen=True)
class RegimeTable:
    """Regimes on the base bars: row t is usable once the bar that opens at ``start_ms + t * step_ms`` has closed. Arrays of shape (T,)."""

    start_ms: int
    names: NDArray[np.int8]
    """Index into ``REGIMES``."""
    volatility: NDArray[np.int8]
    """Index into ``VOLATILITY_REGIMES``."""
    volatility_ann_frac: Floats
    breadth_frac: Floats

    def at(self, row: int) -> Regime:
        """The regime of one row."""
        return Regime(
            REGIMES[self.names[row]],
            VOLATILITY_REGIMES[self.volatility[row]],
            float(self.volatility_ann_frac[row]),
            float(self.breadth_frac[row]),
        )


def startup_bars(settings: RotationSection, timeframe: str) -> int:
    """Base bars before a Monday after which both EMAs are settled (whole half-hours)."""
    slow = max(ema_startup_bars(settings.ema_slow_bars) + settings.slope_bars, _VOLATILITY_BARS + 1)
    return slow * max(1, step_ms(TIMEFRAME) // step_ms(timeframe))


def detect(market: Panel, r_24h: Floats, settings: RotationSection, max_gap_bars: int, extra_startup_bars: int = 0) -> RegimeTable:
    """The regime of every base row.

    ``market`` holds the market pair alone, (T, 1), and may begin before the rows asked for; ``r_24h`` is (R, N) for the LAST R rows of
    ``market``. Returns R rows. ``extra_startup_bars`` begins every window that much earlier, as ``features.rotation.build_features`` does.
    """
    rows = len(r_24h)
    startup = startup_bars(settings, market.timeframe) + extra_startup_bars
    values = by_week(market, startup, lambda w: _window_regime(w, settings, max_gap_bars), market.rows - rows)
    known = ~np.isnan(r_24h)
    count = known.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        breadth = np.where(count > 0, (known & (r_24h > 0.0)).sum(axis=1) / np.maximum(count, 1), 0.5)
    return RegimeTable(
        start_ms=market.end_ms - rows * market.step_ms,
        names=values[:, 0].astype(np.int8),
        volatility=values[:, 1].astype(np.int8),
        volatility_ann_frac=values[:, 2],
        breadth_frac=breadth,
    )


def _window_regime(window: Panel, settings: RotationSection, max_gap_bars: int) -> Floats:
    """(L, 3): regime index, volatility index, annualised volatility, on the window's base rows."""
    out = _series_regime(window, settings, max_gap_bars)
    for found in find_scale_breaks(window):
        # What was known before the break knew nothing of it; what comes after must know nothing of the bars before.
        out[found.row :] = _series_regime(_without_rows_before(window, found.row), settings, max_gap_bars)[found.row :]
    return out


def _series_regime(window: Panel, settings: RotationSection, max_gap_bars: int) -> Floats:
    """``_window_regime`` of a window on one price scale."""
    slow_panel = window.resample(TIMEFRAME)
    gap = max(1, max_gap_bars * window.step_ms // slow_panel.step_ms) if max_gap_bars else 0
    close = bridge(slow_panel.close[:, :1], gap)
    fast, slow = ema(close, settings.ema_fast_bars)[:, 0], ema(close, settings.ema_slow_bars)[:, 0]
    slope = np.full_like(fast, np.nan)
    slope[settings.slope_bars :] = fast[settings.slope_bars :] - fast[: max(0, len(fast) - settings.slope_bars)]
    volatility = std(log_return(close), _VOLATILITY_BARS)[:, 0] * np.sqrt(_BARS_A_YEAR)
    with np.errstate(invalid="ignore"):
        name = np.where((fast > slow) & (slope > 0.0), 1.0, np.where((fast < slow) & (slope < 0.0), 2.0, 0.0))
        level = np.where(volatility > settings.volatility_mid_ann_frac, 1.0, 0.0)
        level = np.where(volatility > settings.volatility_high_ann_frac, 2.0, level)
    level = np.where(np.isnan(slow), 1.0, level)
    out = np.tile(np.array([0.0, 1.0, np.nan]), (window.rows, 1))
    row = (window.open_times_ms + window.step_ms - slow_panel.start_ms) // slow_panel.step_ms - 1
    here = (row >= 0) & (row < slow_panel.rows)
    out[here] = np.stack([name, level, volatility], axis=1)[row[here]]
    return out


def _without_rows_before(window: Panel, row: int) -> Panel:
    """The window with no bar before ``row``: the same rows, so that its half-hours stay where they are."""
    columns = {name: getattr(window, name).copy() for name in COLUMNS}
    for values in columns.values():
        values[:row] = np.nan
    return replace(window, **columns)
