"""``ports.Market`` over recorded bars in memory: what replay and backtest trade on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from math import isnan
from pathlib import Path

import numpy as np

from tickless.adapters.bar_files import FolderReport, read_folder
from tickless.adapters.markets_file import read_folder_markets
from tickless.bars import Panel, floor_ms, step_ms
from tickless.errors import DataError
from tickless.types import PairRules, from_ms, to_ms


@dataclass(frozen=True)
class FolderMarket:
    """Recorded bars of one timeframe; longer timeframes are resampled from them.

    It has no clock: a caller names the time it stands at with ``end`` or ``at``, and gets nothing that was not known then.
    """

    panel: Panel
    filters: Mapping[str, PairRules] = field(default_factory=dict)

    def pairs(self) -> Sequence[str]:
        """Every pair of the panel that has a bar, sorted."""
        return list(self._pairs)

    @cached_property
    def _pairs(self) -> Sequence[str]:
        has_bar = np.asarray(~np.isnan(self.panel.close).all(axis=0))
        return tuple(sorted(pair for n, pair in enumerate(self.panel.pairs) if has_bar[n]))

    def bars(self, pairs: Sequence[str], timeframe: str, start: datetime, end: datetime) -> Panel:
        """The bars that open at or after ``start`` and close at or before ``end``, a row for each, these pairs in this order.

        Missing bars, pairs that are not known and times outside the recording are NaN. Raises DataError where the timeframe is not a
        multiple of the recording's.
        """
        target = step_ms(timeframe)
        closed = max(floor_ms(to_ms(end), target), to_ms(start))
        grid = Panel.empty(timeframe, pairs, start, from_ms(closed))
        known = self.panel.between(from_ms(grid.start_ms), from_ms(grid.end_ms)).select(pairs)
        return _lay(known, grid)

    def opens(self, pairs: Sequence[str], timeframe: str, at: datetime) -> Mapping[str, float]:
        """The open of the bar that opens at ``at``; pairs without one are absent. Raises DataError off the timeframe's grid."""
        if to_ms(at) % step_ms(timeframe):
            raise DataError(f"time {at.isoformat()} is not the open of a {timeframe} bar")
        row = self.panel.row_at(at)
        if not 0 <= row < self.panel.rows:
            return {}
        opens, column = self.panel.open[row], self.panel.column
        values = {pair: float(opens[column[pair]]) for pair in pairs if pair in column}
        return {pair: value for pair, value in values.items() if not isnan(value)}

    def rules(self) -> Mapping[str, PairRules]:
        """The filters of ``markets.json``; a pair that is absent has none."""
        return self.filters


def _lay(known: Panel, grid: Panel) -> Panel:
    """The bars of ``known`` at the timeframe of ``grid``, on its rows."""
    if known.timeframe == grid.timeframe and (known.start_ms, known.rows) == (grid.start_ms, grid.rows):
        return known
    # Rows of NaN on both sides make whole periods, so that a recording that starts or ends inside one keeps what it has of it.
    whole = known.spanning(grid.start, grid.end)
    return replace(whole.resample(grid.timeframe), start_ms=grid.start_ms)


def load_market(
    folder: Path,
    timeframe: str,
    *,
    pairs: Sequence[str] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    quote: str | None = None,
    now: datetime | None = None,
) -> tuple[FolderMarket, FolderReport]:
    """The market of a data folder with its ``markets.json``, and what was repaired on the way; options and errors of ``read_folder``."""
    panel, report = read_folder(folder, timeframe, pairs=pairs, start=start, end=end, quote=quote, now=now)
    return FolderMarket(panel, read_folder_markets(folder)), report
