"""Breaks of the price scale: the same name, another thing. A redenomination, a token swap, a coin listed anew under an old ticker.

Such a jump is nobody's profit or loss: a return, an average or a stop must not reach across it. It happens while trading is suspended, so
it is looked for only where a pair was silent: bars are missing, or nothing was traded. A jump of the same size between two bars that
traded one after the other is a price (a crash, a squeeze) and is left alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tickless.bars import Floats, Panel

BREAK_FACTOR = 5.0
"""The first open after a silence, this many times above or below the last close before it, is a break."""
SPLIT_RATIOS = (2.0, 3.0, 4.0)
"""Swap ratios below that factor, told from a price move by their exactness ..."""
SPLIT_TOLERANCE = 0.02
"""... within this fraction ..."""
SPLIT_SILENCE_MS = 86_400_000
"""... after at least a day without a bar."""


class ScaleBreak(NamedTuple):
    """One break: ``row`` is the first bar on the new scale, ``ratio`` its open over the close of the pair's bar before it."""

    pair: str
    row: int
    ratio: float


def find_scale_breaks(panel: Panel) -> list[ScaleBreak]:
    """Every break of the scale in a panel, by pair in the panel's order, then by row; shapes (T, N), NaN is a missing bar.

    Causal: a break at row t is told from the bars up to t and from the open of t. A pair's first bar in the panel is never a break: the bar
    it would break with is not there. Look on the shortest timeframe: a longer one has no gap where only some of its bars were missing.
    """
    found = []
    # Few pairs have a bar beside a silence: one look at whole rows spares the others the walk along a column.
    missing, idle = np.isnan(panel.close), panel.volume == 0
    beside = ((missing | idle)[:-1] & ~missing[1:]) | idle[1:]
    for n in np.flatnonzero(beside.any(axis=0)):
        pair = panel.pairs[n]
        rows = np.flatnonzero(~np.isnan(panel.close[:, n]))
        times = rows * panel.step_ms
        opened, close, volume = panel.open[rows, n], panel.close[rows, n], panel.volume[rows, n]
        where, ratios = break_rows(times, opened, close, volume, panel.step_ms)
        found += [ScaleBreak(pair, int(rows[k]), float(ratio)) for k, ratio in zip(where, ratios, strict=True)]
    return found


def rescaled_close(panel: Panel) -> Floats:
    """The closes of a panel, each pair's on its latest scale: (T, N), NaN where a pair has no bar; the panel's own array without a break.

    Prices before a break are multiplied by its ratio, so that a return between any two rows leaves the jump out and keeps all else. Not
    causal: for curves of what has been, never for a decision.
    """
    close = panel.close
    found = find_scale_breaks(panel)
    if found:
        close = close.copy()
    for pair, row, ratio in found:
        close[:row, panel.column[pair]] *= ratio
    return close


def break_rows(times_ms: NDArray[np.int64], opened: Floats, close: Floats, volume: Floats, step: int) -> tuple[NDArray[np.intp], Floats]:
    """The breaks of one pair: indices of the first bars on a new scale, and their ratios.

    All inputs have shape (T,): the bars that exist, times strictly rising, prices above zero; ``step`` is one bar in milliseconds.
    """
    if len(times_ms) < 2:
        return np.empty(0, dtype=np.intp), np.empty(0)
    ratio = opened[1:] / close[:-1]
    elapsed = np.diff(times_ms)
    silent = (elapsed > step) | (volume[1:] == 0) | (volume[:-1] == 0)
    size = np.maximum(ratio, 1.0 / ratio)
    nearest = np.min([np.abs(size / split - 1.0) for split in SPLIT_RATIOS], axis=0)
    split_like = (nearest <= SPLIT_TOLERANCE) & (elapsed - step >= SPLIT_SILENCE_MS)
    found = np.flatnonzero((silent & (size >= BREAK_FACTOR)) | split_like)
    return found + 1, ratio[found]
