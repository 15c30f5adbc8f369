"""The panel: bars of many pairs on one regular time axis, stamped by their OPEN time.

Arrays have shape (T, N): row t is the bar that opened at ``start_ms + t * step_ms``, column n is ``pairs[n]``. A pair without a bar has
NaN in all five columns of that row; nothing is ever filled. A bar is usable once it has closed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tickless.errors import DataError
from tickless.types import TIMEFRAME_MINUTES, from_ms, to_ms

Floats = NDArray[np.float64]
COLUMNS = ("open", "high", "low", "close", "volume")


def step_ms(timeframe: str) -> int:
    """Milliseconds of one bar; raises DataError for an unknown timeframe."""
    if timeframe not in TIMEFRAME_MINUTES:
        raise DataError(f"timeframe {timeframe!r}: unknown; known: {', '.join(TIMEFRAME_MINUTES)}")
    return TIMEFRAME_MINUTES[timeframe] * 60_000


def floor_ms(at_ms: int, step: int) -> int:
    """The last multiple of ``step`` at or before ``at_ms``."""
    return at_ms - at_ms % step


@dataclass(frozen=True)
class Panel:
    """OHLCV bars of many pairs. float64, shape (T, N); see the module's docstring."""

    timeframe: str
    pairs: tuple[str, ...]
    start_ms: int
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats

    def __post_init__(self) -> None:
        shape = (len(self.open), len(self.pairs))
        for name in COLUMNS:
            if getattr(self, name).shape != shape:
                raise ValueError(f"panel column {name} has shape {getattr(self, name).shape}, expected {shape}")
        if self.start_ms % self.step_ms:
            raise ValueError(f"panel start {self.start_ms} is not on the {self.timeframe} grid")

    @classmethod
    def empty(cls, timeframe: str, pairs: Sequence[str], start: datetime, end: datetime) -> Panel:
        """A panel of NaN with a row for every bar that opens in [start, end)."""
        step = step_ms(timeframe)
        first = -(-to_ms(start) // step) * step
        rows = max(0, -(-(to_ms(end) - first) // step))
        columns = [np.full((rows, len(pairs)), np.nan) for _ in COLUMNS]
        return cls(timeframe, tuple(pairs), first, *columns)

    @cached_property
    def step_ms(self) -> int:
        """Milliseconds of one bar."""
        return step_ms(self.timeframe)

    @property
    def rows(self) -> int:
        """T."""
        return len(self.open)

    @property
    def end_ms(self) -> int:
        """When the last row's bar closes."""
        return self.start_ms + self.rows * self.step_ms

    @property
    def start(self) -> datetime:
        """When the first row's bar opens."""
        return from_ms(self.start_ms)

    @property
    def end(self) -> datetime:
        """When the last row's bar closes."""
        return from_ms(self.end_ms)

    @cached_property
    def column(self) -> dict[str, int]:
        """The column of each pair."""
        return {pair: n for n, pair in enumerate(self.pairs)}

    @cached_property
    def open_times_ms(self) -> NDArray[np.int64]:
        """The open time of every row, shape (T,)."""
        return self.start_ms + np.arange(self.rows, dtype=np.int64) * self.step_ms

    def row_at(self, at: datetime) -> int:
        """The row of the bar that opens at ``at``; may lie outside [0, T). Raises ValueError off the grid."""
        offset = to_ms(at) - self.start_ms
        if offset % self.step_ms:
            raise ValueError(f"{at} is not on the {self.timeframe} grid")
        return offset // self.step_ms

    def between(self, start: datetime, end: datetime) -> Panel:
        """The rows whose bars open in [start, end), clipped to what is there. Arrays are views."""
        first = min(max(0, -(-(to_ms(start) - self.start_ms) // self.step_ms)), self.rows)
        last = min(max(first, -(-(to_ms(end) - self.start_ms) // self.step_ms)), self.rows)
        return self.take(first, last)

    def take(self, first: int, last: int) -> Panel:
        """Rows [first, last). Arrays are views."""
        columns = {name: getattr(self, name)[first:last] for name in COLUMNS}
        return replace(self, start_ms=self.start_ms + first * self.step_ms, **columns)

    def spanning(self, start: datetime, end: datetime) -> Panel:
        """Exactly the rows whose bars open in [start, end); a row that is not here is NaN."""
        known = self.between(start, end)
        grid = Panel.empty(self.timeframe, self.pairs, start, end)
        if (known.start_ms, known.rows) == (grid.start_ms, grid.rows):
            return known
        first = (known.start_ms - grid.start_ms) // grid.step_ms if known.rows else 0
        for name in COLUMNS:
            getattr(grid, name)[first : first + known.rows] = getattr(known, name)
        return grid

    def closed_at(self, at: datetime) -> Panel:
        """Only the bars that have closed at or before ``at``."""
        return self.take(0, min(self.rows, max(0, (to_ms(at) - self.start_ms) // self.step_ms)))

    def select(self, pairs: Sequence[str]) -> Panel:
        """The panel with exactly these pairs, in this order; a pair that is not here is a column of NaN."""
        if tuple(pairs) == self.pairs:
            return self
        known = [self.column.get(pair, -1) for pair in pairs]
        index = np.asarray(known, dtype=np.intp)
        columns: dict[str, Any] = {}
        for name in COLUMNS:
            source = getattr(self, name)
            # np.take keeps rows contiguous, which source[:, index] would not: sums over time would then round in another order.
            taken = np.take(source, np.maximum(index, 0), axis=1) if source.shape[1] else np.full((self.rows, len(pairs)), np.nan)
            if (index < 0).any():
                taken[:, index < 0] = np.nan
            columns[name] = taken
        return replace(self, pairs=tuple(pairs), **columns)

    def resample(self, timeframe: str) -> Panel:
        """Bars of a longer timeframe, complete periods only.

        A period whose last base row lies beyond the panel (an unfinished bar), or whose first lies before it, is left out. A pair's bar
        exists when at least one of its base bars does: open of the first, highest high, lowest low, close of the last, sum of volumes.
        Raises DataError when the target is not a multiple of the source.
        """
        target = step_ms(timeframe)
        if target % self.step_ms:
            raise DataError(f"cannot resample {self.timeframe} bars to {timeframe}")
        factor = target // self.step_ms
        if factor == 1:
            return self
        first_ms = -(-self.start_ms // target) * target
        first = (first_ms - self.start_ms) // self.step_ms
        periods = max(0, (self.rows - first) // factor)
        part = self.take(first, first + periods * factor)
        blocks = {name: getattr(part, name).reshape(periods, factor, len(self.pairs)) for name in COLUMNS}
        here = ~np.isnan(blocks["close"])
        any_here = here.any(axis=1)
        first_row = here.argmax(axis=1)[:, None, :]
        last_row = (factor - 1 - here[:, ::-1, :].argmax(axis=1))[:, None, :]
        with np.errstate(invalid="ignore"):
            high = np.fmax.reduce(blocks["high"], axis=1)
            low = np.fmin.reduce(blocks["low"], axis=1)
            volume = np.where(here, blocks["volume"], 0.0)
        total = volume[:, 0, :].copy() if factor else volume
        for k in range(1, factor):
            total += volume[:, k, :]
        return Panel(
            timeframe=timeframe,
            pairs=self.pairs,
            start_ms=first_ms,
            open=np.take_along_axis(blocks["open"], first_row, axis=1)[:, 0, :],
            high=high,
            low=low,
            close=np.take_along_axis(blocks["close"], last_row, axis=1)[:, 0, :],
            volume=np.where(any_here, total, np.nan),
        )


def join(panels: Iterable[Panel]) -> Panel:
    """One panel from panels of one timeframe that follow one another in time; pairs are united in sorted order.

    Rows between two panels that nobody covers are NaN; a panel without rows lends its pairs only. Raises ValueError when panels overlap,
    differ in timeframe, or there are none.
    """
    parts = sorted(panels, key=lambda panel: panel.start_ms)
    if not parts:
        raise ValueError("nothing to join")
    pairs = tuple(sorted({pair for part in parts for pair in part.pairs}))
    if len(parts) == 1 and parts[0].pairs == pairs:
        return parts[0]
    timeframe = parts[0].timeframe
    for part in parts:
        if part.timeframe != timeframe:
            raise ValueError(f"cannot join {part.timeframe} bars to {timeframe} bars")
    parts = [part for part in parts if part.rows] or parts[:1]
    step = parts[0].step_ms
    start = parts[0].start_ms
    rows = (max(part.end_ms for part in parts) - start) // step
    columns = {name: np.full((rows, len(pairs)), np.nan) for name in COLUMNS}
    position = {pair: n for n, pair in enumerate(pairs)}
    covered = start
    for part in parts:
        if part.start_ms < covered:
            raise ValueError("panels overlap in time")
        first = (part.start_ms - start) // step
        index = np.asarray([position[pair] for pair in part.pairs], dtype=np.intp)
        for name in COLUMNS:
            columns[name][first : first + part.rows, index] = getattr(part, name)
        covered = part.end_ms
    return Panel(timeframe, pairs, start, **columns)
