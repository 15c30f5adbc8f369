"""Two records of one pair as one: every bar that either holds; where they differ, the one that is named the winner."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from tickless.adapters.bar_files import FileReport, PairBars, file_name, list_files, read_file
from tickless.adapters.bar_tables import RawBars, write_raw
from tickless.bars import step_ms
from tickless.errors import DataError


@dataclass(frozen=True)
class Union:
    """``bars`` hold every bar of both; ``added`` are those only the second has, ``same`` and ``conflicting`` those both have."""

    bars: PairBars
    added: int
    same: int
    conflicting: int


def unite(first: PairBars, second: PairBars, *, keep_first: bool = False) -> Union:
    """The bars of both records. Where both hold a bar with other values the second's is taken, or the first's with ``keep_first``."""
    if not len(first.open_times_ms) or not len(second.open_times_ms):
        return Union(second if not len(first.open_times_ms) else first, len(second.open_times_ms), 0, 0)
    if first.open_times_ms[-1] < second.open_times_ms[0]:  # a file that follows the one before: the common case, and no search
        times, values = np.concatenate([first.open_times_ms, second.open_times_ms]), np.concatenate([first.values, second.values], axis=1)
        return Union(PairBars(second.pair, second.timeframe, times, values), len(second.open_times_ms), 0, 0)
    _, in_first, in_second = np.intersect1d(first.open_times_ms, second.open_times_ms, assume_unique=True, return_indices=True)
    differ = int((first.values[:, in_first] != second.values[:, in_second]).any(axis=0).sum())
    kept, other, theirs = (first, second, in_second) if keep_first else (second, first, in_first)
    extra = np.ones(len(other.open_times_ms), dtype=np.bool_)
    extra[theirs] = False
    times = np.concatenate([kept.open_times_ms, other.open_times_ms[extra]])
    values = np.concatenate([kept.values, other.values[:, extra]], axis=1)
    order = np.argsort(times, kind="stable")
    bars = PairBars(second.pair, second.timeframe, times[order], np.ascontiguousarray(values[:, order]))
    return Union(bars, len(second.open_times_ms) - len(in_second), len(in_second) - differ, differ)


@dataclass(frozen=True)
class Span:
    """How far a record reaches: its bars, the open of the first and of the last (ms, UTC), and how many are missing between them."""

    rows: int
    first_ms: int | None
    last_ms: int | None
    missing: int


def span_of(bars: PairBars) -> Span:
    """How far a record reaches."""
    times = bars.open_times_ms
    if not len(times):
        return Span(0, None, None, 0)
    first, last = int(times[0]), int(times[-1])
    return Span(len(times), first, last, (last - first) // step_ms(bars.timeframe) + 1 - len(times))


@dataclass(frozen=True)
class BarTarget:
    """The file that holds, or will hold, one pair's bars."""

    path: Path
    pair: str
    timeframe: str

    def read(self, now: datetime | None = None) -> tuple[PairBars, FileReport | None]:
        """What it holds now, repaired; nothing and None where it does not exist yet. Raises DataError."""
        if self.path.exists():
            return read_file(self.path, now=now)
        return empty_bars(self.pair, self.timeframe), None

    def write(self, bars: PairBars) -> None:
        """Put these bars in its place; never leaves half a file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_raw(self.path, RawBars(bars.open_times_ms, bars.values))


def empty_bars(pair: str, timeframe: str) -> PairBars:
    """No bars."""
    return PairBars(pair, timeframe, np.empty(0, dtype=np.int64), np.empty((5, 0)))


def targets(folder: Path, pairs: list[str], timeframe: str, file_format: str) -> dict[str, BarTarget]:
    """The file of each pair in a folder: the one that is there, else one in this format, in freqtrade's layout.

    Raises DataError where a pair is there in another format: two files of one pair would be two truths.
    """
    there = {file.pair: file.path for file in list_files(folder)[0] if file.timeframe == timeframe} if folder.exists() else {}
    for pair in pairs:
        path = there.get(pair)
        if path is not None and path.suffix != f".{file_format}":
            raise DataError(f"{path}: is there already; write this folder with --format {path.suffix[1:]}, or choose another one")
    return {pair: BarTarget(there.get(pair, folder / file_name(pair, timeframe, file_format)), pair, timeframe) for pair in pairs}
