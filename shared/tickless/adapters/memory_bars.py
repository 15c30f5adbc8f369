"""The bar store in memory."""

from __future__ import annotations

from datetime import datetime

from tickless.adapters.bar_weeks import assemble, merge, split, weeks_between
from tickless.bars import Panel, step_ms
from tickless.types import from_ms, to_ms


class MemoryBarStore:
    """The BarStore port in memory, by calendar week like the one in S3."""

    def __init__(self) -> None:
        self._weeks: dict[str, dict[int, Panel]] = {}

    def through(self, timeframe: str) -> datetime | None:
        """See ``BarStore.through``."""
        weeks = self._of(timeframe)
        return from_ms(weeks[max(weeks)].end_ms) if weeks else None

    def since(self, timeframe: str) -> datetime | None:
        """See ``BarStore.since``."""
        weeks = self._of(timeframe)
        return from_ms(weeks[min(weeks)].start_ms) if weeks else None

    def read(self, timeframe: str, start: datetime, end: datetime) -> Panel:
        """See ``BarStore.read``."""
        weeks = self._of(timeframe)
        found = (weeks[monday] for monday in weeks_between(to_ms(start), to_ms(end)) if monday in weeks)
        return assemble(timeframe, found, start, end)

    def write(self, panel: Panel) -> None:
        """See ``BarStore.write``."""
        weeks = self._of(panel.timeframe)
        for monday, part in split(panel):
            merged = merge(weeks.get(monday), part)
            if merged is not None:
                weeks[monday] = merged

    def _of(self, timeframe: str) -> dict[int, Panel]:
        step_ms(timeframe)
        return self._weeks.setdefault(timeframe, {})
