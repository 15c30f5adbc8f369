"""What is odd about recorded bars: gaps, silence, standstill, outliers, breaks of the price scale. Nothing here changes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tickless.adapters.bar_files import FileReport, PairBars
from tickless.bars import step_ms
from tickless.breaks import BREAK_FACTOR, break_rows
from tickless.types import from_ms, iso

STALE_BARS = 8
"""A close that stays the same for this many bars or more is a stale run."""
OUTLIER_DEVIATIONS = 20.0
"""A return is an outlier beyond this many robust deviations (1.4826 times the median absolute one) ..."""
OUTLIER_FRAC = 0.05
"""... and beyond five per cent."""


@dataclass(frozen=True)
class BreakFound:
    """A break of the price scale: the bar that opens on the new one, its open over the close before it, and how long nothing was traded."""

    at: str
    ratio: float
    missing: int
    """Bars missing right before it."""


@dataclass(frozen=True)
class PairQuality:
    """The quality of one pair's bars after repairs; counts are bars unless they say runs."""

    pair: str
    rows: int
    first: str | None
    last: str | None
    gap_runs: int
    missing: int
    longest_gap: int
    unsorted: int
    duplicate: int
    conflicting: int
    impossible: int
    off_grid: int
    future: int
    zero_volume: int
    longest_silence: int
    """Bars of the longest run without volume."""
    stale_runs: int
    longest_stale: int
    outliers: int
    jumps: int
    """Closes ``BREAK_FACTOR`` times apart that are no break of the scale: a crash, or rubbish."""
    scale_breaks: tuple[BreakFound, ...]
    """What the desk takes for a break, and never for a return: see ``tickless.breaks``."""
    range_breaks: int
    """Open or close outside [low, high]."""
    naive_dates: bool


def assess(bars: PairBars, report: FileReport) -> PairQuality:
    """The quality of one file, from its usable bars and its report."""
    times = bars.open_times_ms
    opened, high, low, close, volume = bars.values
    gaps = np.diff(times) // step_ms(bars.timeframe) - 1
    gaps = gaps[gaps > 0]
    stale = _runs(np.diff(close) == 0) + 1
    stale = stale[stale >= STALE_BARS]
    returns = np.diff(np.log(close))
    at, ratios = break_rows(times, opened, close, volume, step_ms(bars.timeframe))
    broken = np.zeros(max(0, len(times) - 1), dtype=np.bool_)
    broken[at - 1] = True
    jumps = (np.abs(returns) >= np.log(BREAK_FACTOR)) & ~broken
    spread = 1.4826 * float(np.median(np.abs(returns))) if len(returns) else 0.0
    outliers = (np.abs(returns) > max(OUTLIER_DEVIATIONS * spread, np.log1p(OUTLIER_FRAC))) & ~broken & ~jumps
    outside = (np.minimum(opened, close) < low) | (np.maximum(opened, close) > high)
    return PairQuality(
        pair=bars.pair,
        rows=len(times),
        first=iso(from_ms(int(times[0]))) if len(times) else None,
        last=iso(from_ms(int(times[-1]))) if len(times) else None,
        gap_runs=len(gaps),
        missing=int(gaps.sum()),
        longest_gap=int(gaps.max(initial=0)),
        unsorted=report.unsorted_rows,
        duplicate=report.duplicate_rows,
        conflicting=report.conflicting_rows,
        impossible=report.impossible_rows,
        off_grid=report.off_grid_rows,
        future=report.future_rows,
        zero_volume=int((volume == 0).sum()),
        longest_silence=int(_runs(volume == 0).max(initial=0)),
        stale_runs=len(stale),
        longest_stale=int(stale.max(initial=0)),
        outliers=int(outliers.sum()),
        jumps=int(jumps.sum()),
        scale_breaks=tuple(_break(bars, int(row), float(ratio)) for row, ratio in zip(at, ratios, strict=True)),
        range_breaks=int(outside.sum()),
        naive_dates=report.naive_dates,
    )


def _break(bars: PairBars, row: int, ratio: float) -> BreakFound:
    before, after = (int(at) for at in bars.open_times_ms[row - 1 : row + 1])
    return BreakFound(iso(from_ms(after)), ratio, (after - before) // step_ms(bars.timeframe) - 1)


def _runs(flags: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The length of every run of true values."""
    borders = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(np.int8), [0]))))
    lengths: NDArray[np.int64] = borders[1::2] - borders[::2]
    return lengths
