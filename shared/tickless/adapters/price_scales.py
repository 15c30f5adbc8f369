"""When a simulated exchange learns that the price scale of a pair broke, from bars that are stored or from a whole recording.

A break is known at the open of its first bar where the pair was silent before, and at that bar's close where only the bar itself turns out
to have traded nothing. Both sources say the same of every pair that is held or ordered: ``tests/property/test_price_scales.py``.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tickless.bars import Panel, floor_ms, step_ms
from tickless.breaks import BREAK_FACTOR, break_rows, find_scale_breaks
from tickless.ports import BarStore, Market
from tickless.types import from_ms, to_ms

_DAY_MS = 86_400_000
_LONGEST_SILENCE_MS = 3650 * _DAY_MS
"""How far back a last bar is looked for, where the store does not say where it begins."""

Pairs = Callable[[], Collection[str]]
"""Which pairs to look at; asked for only where that matters."""


@dataclass(frozen=True, order=True)
class Break:
    """A break of the price scale of one pair, in the order in which breaks take effect."""

    known_ms: int
    """The open or close of a bar at which an exchange can tell."""
    first_ms: int
    """When the first bar on the new scale opens: ``known_ms``, or a bar earlier."""
    pair: str
    last_close: float
    """The close of the last bar on the old scale."""


class Scales(Protocol):
    """Where the price scales of pairs break."""

    def breaks(self, after_ms: int, until_ms: int, among: Pairs) -> Sequence[Break]:
        """Breaks that become known in (after, until], in order of effect."""
        ...


def is_jump(opened: float, close: float) -> bool:
    """Whether an open lies so far from the close before it that only the bar's volume can tell a price from a new scale."""
    return not 1.0 / BREAK_FACTOR < opened / close < BREAK_FACTOR


class PanelScales:
    """The Scales of a recording, found once."""

    def __init__(self, panel: Panel) -> None:
        found = []
        for pair, row, _ in find_scale_breaks(panel):
            column = panel.column[pair]
            last = row - 1 - int(np.argmax(~np.isnan(panel.close[:row, column][::-1])))
            silent = last < row - 1 or panel.volume[last, column] == 0
            first_ms = panel.start_ms + row * panel.step_ms
            found.append(Break(first_ms if silent else first_ms + panel.step_ms, first_ms, pair, float(panel.close[last, column])))
        self._breaks = sorted(found)
        self._known_ms = [found.known_ms for found in self._breaks]

    def breaks(self, after_ms: int, until_ms: int, among: Pairs) -> Sequence[Break]:
        """See ``Scales.breaks``."""
        first, last = bisect_right(self._known_ms, after_ms), bisect_right(self._known_ms, until_ms)
        if first >= last:
            return ()
        pairs = among()
        return [found for found in self._breaks[first:last] if found.pair in pairs]


@dataclass(frozen=True)
class StoredScales:
    """The Scales of stored bars and of the opens that a market quotes: it asks for an open only where a pair was silent."""

    bars: BarStore
    market: Market
    timeframe: str

    def breaks(self, after_ms: int, until_ms: int, among: Pairs) -> Sequence[Break]:
        """See ``Scales.breaks``. Raises RetryableError where bars or opens cannot be had.

        An open that a market quoted too late to be seen is made up for when its bar has closed.
        """
        step = step_ms(self.timeframe)
        first_ms, last_ms = floor_ms(after_ms, step) + step, floor_ms(until_ms, step)
        pairs = sorted(among()) if first_ms <= last_ms else []
        if not pairs:
            return ()
        # Row j + 1 closes at boundary j, row j is the one before it.
        window = self.bars.read(self.timeframe, from_ms(first_ms - 2 * step), from_ms(last_ms)).select(pairs)
        missing = np.isnan(window.close)
        quiet = missing | (window.volume == 0)
        silent = quiet[1:]
        closed = ~missing[1:] & (quiet[:-1] | quiet[1:])
        found: dict[tuple[str, int], Break] = {}
        for j in np.flatnonzero((silent | closed).any(axis=1)).tolist():
            at_ms = first_ms + j * step
            rows = {pairs[n]: (float(window.open[j + 1, n]), float(window.volume[j + 1, n])) for n in np.flatnonzero(closed[j])}
            waiting = [pairs[n] for n in np.flatnonzero(silent[j])]
            opens = self.market.opens(waiting, self.timeframe, from_ms(at_ms)) if waiting else {}
            # Whether a bar that only opens will trade is not known; that it follows a silence is.
            new = [*self._told(rows, at_ms - step, at_ms), *self._told({p: (o, np.inf) for p, o in opens.items()}, at_ms, at_ms)]
            for entry in new:
                found.setdefault((entry.pair, entry.first_ms), entry)
        return sorted(found.values())

    def _told(self, bars: Mapping[str, tuple[float, float]], first_ms: int, known_ms: int) -> list[Break]:
        """Which bars, given as (open, volume), that open at ``first_ms`` are the first on a new scale."""
        found = []
        for pair, (opened, volume) in sorted(bars.items()):
            last = self._last_bar(pair, first_ms)
            if last is None:
                continue
            last_ms, close, last_volume = last
            times = np.array([last_ms, first_ms], dtype=np.int64)
            columns = (np.array([np.nan, opened]), np.array([close, np.nan]), np.array([last_volume, volume]))
            if len(break_rows(times, *columns, step_ms(self.timeframe))[0]):
                found.append(Break(known_ms, first_ms, pair, close))
        return found

    def _last_bar(self, pair: str, before_ms: int) -> tuple[int, float, float] | None:
        """(open time, close, volume) of the pair's last stored bar before a time; a silence may last for weeks."""
        since = self.bars.since(self.timeframe)
        if since is None:
            return None
        oldest_ms = max(to_ms(since), before_ms - _LONGEST_SILENCE_MS)
        end_ms, span_ms = before_ms, _DAY_MS
        while end_ms > oldest_ms:
            start_ms = max(end_ms - span_ms, oldest_ms)
            window = self.bars.read(self.timeframe, from_ms(start_ms), from_ms(end_ms)).select([pair])
            rows = np.flatnonzero(~np.isnan(window.close[:, 0]))
            if len(rows):
                row = int(rows[-1])
                return int(window.open_times_ms[row]), float(window.close[row, 0]), float(window.volume[row, 0])
            end_ms, span_ms = start_ms, min(2 * span_ms, 56 * _DAY_MS)
        return None
