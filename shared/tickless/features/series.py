"""A pair's series: its closes with short gaps bridged, and where it starts anew.

A series runs from a pair's first bar until it is missing more than ``max_gap_bars`` bars in a row, or its price scale breaks (a
redenomination, a token swap: ``tickless.breaks``). What follows is another series: no return, average or volatility reaches across.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tickless.bars import Floats, Panel
from tickless.breaks import break_rows

Ages = NDArray[np.int32]


@dataclass(frozen=True)
class PairSeries:
    """The closes of a panel as features read them. Arrays of shape (T, N); row t comes from bars up to t only."""

    close: Floats
    """The close, carried over gaps of up to ``max_gap_bars`` missing bars; NaN where there is no series."""
    age: Ages
    """How many bars ago the series began: 0 at its first bar, -1 where there is none. A window of n bars is full from age n - 1 on."""


def pair_series(panel: Panel, max_gap_bars: int) -> PairSeries:
    """The series of every pair of a panel.

    A gap of up to ``max_gap_bars`` missing bars is bridged with the last close before it. A bar after a longer gap, and the first bar on
    a new price scale however short the silence before it, has age 0. A part of a panel gives the same series as the whole, but for what
    began before it: rows at least n + ``max_gap_bars`` after its first row agree on everything that reaches back n bars.
    """
    if not panel.rows:
        return PairSeries(panel.close, np.empty(panel.close.shape, dtype=np.int32))
    missing = np.isnan(panel.close)
    first = _first_bars(missing)
    # Rows before a pair's first bar have negative ages here, which all mean the same: no series.
    age = np.arange(panel.rows, dtype=np.int32)[:, None] - first
    np.maximum(age, -1, out=age)
    close = panel.close
    odd, ended = _odd_columns(panel, missing)
    if len(odd) or len(ended):
        close = close.copy()
    for n in odd.tolist():
        close[:, n], age[:, n] = _column_series(panel, n, max_gap_bars)
    for row, n in ended.tolist():
        close[row : row + max_gap_bars, n] = close[row - 1, n]
        age[row + max_gap_bars :, n] = -1
    return PairSeries(close, age)


def _first_bars(missing: NDArray[np.bool_]) -> Ages:
    """The row of each pair's first bar, (N,); T where there is none."""
    first = np.full(missing.shape[1], len(missing), dtype=np.int32)
    row, column = _positions(missing[:-1] & ~missing[1:])
    np.minimum.at(first, column, row.astype(np.int32) + 1)
    first[~missing[0]] = 0
    return first


def _odd_columns(panel: Panel, missing: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The few pairs that can start anew: with a bar missing between two, or a bar that traded nothing. And where others just end.

    Returns columns, and an array of (first row without a bar, column).
    """
    row, column = _positions(missing[1:] & ~missing[:-1])
    gaps = np.bincount(column, minlength=len(panel.pairs))
    odd = (gaps > missing[-1]) | ((panel.volume == 0) & ~missing).any(axis=0)
    ends = ~odd[column]
    return np.flatnonzero(odd), np.stack([row[ends] + 1, column[ends]], axis=1)


def _positions(flags: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(rows, columns) of what is set, where that is little: ten times as fast as ``np.nonzero``, which has to ask row by row."""
    return np.divmod(np.flatnonzero(flags), max(1, flags.shape[1]))


def _column_series(panel: Panel, n: int, max_gap_bars: int) -> tuple[Floats, Ages]:
    """Close and age of one pair, (T,) each."""
    bars = panel.close[:, n]
    here = np.flatnonzero(~np.isnan(bars))
    opened, close, volume = panel.open[here, n], bars[here], panel.volume[here, n]
    broken, _ = break_rows(here * panel.step_ms, opened, close, volume, panel.step_ms)
    begins = np.concatenate((here[:1], here[1:][np.diff(here) > max_gap_bars + 1], here[broken]))
    rows = np.arange(panel.rows)
    start, last = np.zeros((2, panel.rows), dtype=np.intp)
    start[begins], last[here] = begins, here
    np.maximum.accumulate(start, out=start)
    np.maximum.accumulate(last, out=last)
    alive = (rows >= here[0]) & (rows - last <= max_gap_bars)
    return np.where(alive, bars[last], np.nan), np.where(alive, rows - start, -1).astype(np.int32)
