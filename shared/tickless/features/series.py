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
    missing = np.isnan(panel.close)
    rows = np.arange(panel.rows, dtype=np.int32)
    first = np.asarray(missing.argmin(axis=0)) if panel.rows else np.zeros(len(panel.pairs), dtype=np.intp)
    # Rows before a pair's first bar have negative ages here, which all mean the same: no series.
    age = np.maximum(rows[:, None] - first.astype(np.int32), np.int32(-1))
    close = panel.close
    odd = _broken_columns(panel, missing, first)
    if len(odd):
        close = close.copy()
        for n in odd.tolist():
            close[:, n], age[:, n] = _column_series(panel, n, max_gap_bars)
    return PairSeries(close, age)


def _broken_columns(panel: Panel, missing: NDArray[np.bool_], first: NDArray[np.intp]) -> NDArray[np.intp]:
    """The few pairs with a bar missing after their first, or with a bar that traded nothing: only they can start anew."""
    if not panel.rows:
        return np.empty(0, dtype=np.intp)
    gaps = missing.sum(axis=0) != first
    return np.flatnonzero(gaps | missing.all(axis=0) | (panel.volume == 0).any(axis=0))


def _column_series(panel: Panel, n: int, max_gap_bars: int) -> tuple[Floats, Ages]:
    """Close and age of one pair, (T,) each."""
    bars = panel.close[:, n]
    here = np.flatnonzero(~np.isnan(bars))
    if not len(here):
        return np.full(panel.rows, np.nan), np.full(panel.rows, -1, dtype=np.int32)
    opened, close, volume = panel.open[here, n], bars[here], panel.volume[here, n]
    broken, _ = break_rows(here * panel.step_ms, opened, close, volume, panel.step_ms)
    begins = np.zeros(panel.rows, dtype=np.intp)
    begins[here[1:][np.diff(here) > max_gap_bars + 1]] = 1
    begins[here[broken]] = 1
    rows = np.arange(panel.rows)
    start = np.maximum.accumulate(np.where(begins > 0, rows, here[0]))
    last = np.zeros(panel.rows, dtype=np.intp)
    last[here] = here
    last = np.maximum.accumulate(last)
    alive = (rows >= here[0]) & (rows - last <= max_gap_bars)
    return np.where(alive, bars[last], np.nan), np.where(alive, rows - start, -1).astype(np.int32)
