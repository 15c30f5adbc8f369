"""Bars by calendar week: how both bar stores cut, merge and join panels. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

import numpy as np

from tickless.bars import COLUMNS, Panel, join, step_ms
from tickless.types import to_ms

WEEK_MS = 7 * 86_400_000
MONDAY_MS = 4 * 86_400_000
"""1970-01-05T00:00:00Z, the first Monday of the epoch."""


def monday_ms(at_ms: int) -> int:
    """Monday 00:00 UTC at or before a moment."""
    return at_ms - (at_ms - MONDAY_MS) % WEEK_MS


def weeks_between(start_ms: int, end_ms: int) -> Iterator[int]:
    """The Mondays of all weeks that overlap [start_ms, end_ms)."""
    return iter(range(monday_ms(start_ms), end_ms, WEEK_MS))


def split(panel: Panel) -> Iterator[tuple[int, Panel]]:
    """The panel's weeks, oldest first: (Monday, its rows)."""
    for monday in weeks_between(panel.start_ms, panel.end_ms):
        first = max(0, -(-(monday - panel.start_ms) // panel.step_ms))
        last = min(panel.rows, -(-(monday + WEEK_MS - panel.start_ms) // panel.step_ms))
        if last > first:
            yield monday, panel.take(first, last)


def merge(stored: Panel | None, new: Panel) -> Panel | None:
    """What to store after ``new``: rows and pairs of both, stored values first; None where ``new`` adds nothing."""
    if stored is None:
        return new.select(sorted(new.pairs))
    start = min(stored.start_ms, new.start_ms)
    end = max(stored.end_ms, new.end_ms)
    pairs = tuple(sorted({*stored.pairs, *new.pairs}))
    kept, added = _on_grid(stored, start, end, pairs), _on_grid(new, start, end, pairs)
    missing = {name: np.isnan(getattr(kept, name)) & ~np.isnan(getattr(added, name)) for name in COLUMNS}
    same_shape = kept.rows == stored.rows and pairs == stored.pairs
    if same_shape and not any(cells.any() for cells in missing.values()):
        return None
    columns = {name: np.where(missing[name], getattr(added, name), getattr(kept, name)) for name in COLUMNS}
    return Panel(stored.timeframe, pairs, start, **columns)


def assemble(timeframe: str, weeks: Iterable[Panel], start: datetime, end: datetime) -> Panel:
    """Exactly the rows of the bars that open in [start, end), all pairs that have one there, sorted; rows nobody stored are NaN."""
    step = step_ms(timeframe)
    first_ms = -(-to_ms(start) // step) * step
    end_ms = max(first_ms, -(-to_ms(end) // step) * step)
    parts = [part for week in weeks if (part := week.between(start, end)).rows]
    if not parts:
        return Panel.empty(timeframe, (), start, end)
    joined = join(parts)
    return _on_grid(joined, first_ms, end_ms, joined.pairs)


def _on_grid(panel: Panel, start_ms: int, end_ms: int, pairs: tuple[str, ...]) -> Panel:
    """The panel with exactly these rows and pairs; what it lacks is NaN."""
    if panel.start_ms == start_ms and panel.end_ms == end_ms and panel.pairs == pairs:
        return panel
    chosen = panel if panel.pairs == pairs else panel.select(pairs)
    before = (panel.start_ms - start_ms) // panel.step_ms
    columns = {name: np.full(((end_ms - start_ms) // panel.step_ms, len(pairs)), np.nan) for name in COLUMNS}
    for name in COLUMNS:
        columns[name][before : before + panel.rows] = getattr(chosen, name)
    return Panel(panel.timeframe, pairs, start_ms, **columns)
