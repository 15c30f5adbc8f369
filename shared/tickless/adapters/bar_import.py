"""Bars from other people's files into a folder of ours: read, repaired, united pair by pair, resampled where asked, written whole.

Nothing that the folder holds is lost: the result has every bar of the folder and every bar of the source. Where both have a bar with other
values, the imported one is taken and counted, unless the folder's is to be kept. Of source files that overlap, the one whose name sorts
last is taken: a day of Binance's archive rather than its month.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import groupby
from pathlib import Path

from tickless.adapters.bar_files import BarFile, PairBars, pair_bars, panel_of, repair
from tickless.adapters.bar_union import BarTarget, Span, empty_bars, span_of, targets, unite
from tickless.adapters.import_sources import SourceChoice, SourceFile, find_sources, read_source
from tickless.adapters.markets_file import FILE_NAME as MARKETS_FILE
from tickless.adapters.markets_file import read_folder_markets, write_markets
from tickless.bars import step_ms
from tickless.errors import DataError


@dataclass(frozen=True)
class PairImport:
    """What became of one pair; counts are bars of the timeframe written, those of ``repairs`` rows of the source."""

    pair: str
    timeframe: str
    path: Path
    files: int
    rows_read: int
    span: Span
    """What the file holds now."""
    added: int
    same: int
    """In the folder and in the source, with the same values."""
    conflicting: int
    """In the folder and in the source, with other values."""
    overlapping: int
    """In two source files, with the same values."""
    disagreeing: int
    """In two source files, with other values; the last file's are taken."""
    repairs: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ImportReport:
    """What was imported, and which files were left alone."""

    pairs: tuple[PairImport, ...]
    ignored: tuple[Path, ...]
    markets: int
    """Pairs whose filters came along in a ``markets.json``."""


def import_bars(
    source: Path,
    out: Path,
    choice: SourceChoice,
    *,
    file_format: str = "parquet",
    resample: str | None = None,
    keep_existing: bool = False,
    now: datetime | None = None,
    advance: Callable[[int, int], None] = lambda _done, _total: None,
) -> ImportReport:
    """Import every file of ``source`` that ``choice`` takes; bars that close after ``now`` are dropped.

    Raises DataError naming file, column, row and value. Pairs are written one after the other, each whole: those before the one that is
    refused are in place, and a repetition changes nothing about them.
    """
    files, ignored = find_sources(source, choice)
    groups = _groups(files, resample)
    by_timeframe: dict[str, list[str]] = {}
    for group in groups:
        by_timeframe.setdefault(resample or group[0].timeframe, []).append(group[0].pair)
    there = {timeframe: targets(out, pairs, timeframe, file_format) for timeframe, pairs in by_timeframe.items()}
    read_folder_markets(out)
    done, imported = 0, []
    for group in groups:
        target = there[resample or group[0].timeframe][group[0].pair]
        imported.append(_import_pair(group, target, choice, keep_existing=keep_existing, now=now))
        done += len(group)
        advance(done, len(files))
    beside = [path for path in ignored if path.name == MARKETS_FILE]
    markets = _import_markets(beside, out)
    return ImportReport(tuple(imported), tuple(path for path in ignored if path not in beside), markets)


def _groups(files: Sequence[SourceFile], resample: str | None) -> list[list[SourceFile]]:
    """The files of each pair and timeframe; to resample, a pair must have one timeframe that divides the longer one."""
    groups = [list(group) for _, group in groupby(files, key=lambda file: (file.pair, file.timeframe))]
    if resample is None:
        return groups
    before: SourceFile | None = None
    for group in groups:
        file = group[0]
        if step_ms(resample) % step_ms(file.timeframe):
            raise DataError(f"{file.path}: cannot resample {file.timeframe} bars to {resample}")
        if before is not None and before.pair == file.pair:
            raise DataError(f"{file.path}: {file.pair} is there at {before.timeframe} and at {file.timeframe}; choose one with --timeframe")
        before = file
    return groups


def _import_pair(
    group: Sequence[SourceFile], target: BarTarget, choice: SourceChoice, *, keep_existing: bool, now: datetime | None
) -> PairImport:
    bars = empty_bars(target.pair, group[0].timeframe)
    report = PairImport(target.pair, target.timeframe, target.path, len(group), 0, span_of(bars), 0, 0, 0, 0, 0)
    repairs: dict[str, int] = {}
    for file in group:
        part, found = repair(BarFile(file.path, file.pair, file.timeframe), read_source(file, choice.columns), now)
        _add(repairs, found.repairs)
        joined = unite(bars, part)
        bars = joined.bars
        report = replace(
            report,
            rows_read=report.rows_read + found.rows_read,
            overlapping=report.overlapping + joined.same,
            disagreeing=report.disagreeing + joined.conflicting,
        )
    old, _ = target.read(now)
    joined = unite(old, resampled(bars, target.timeframe), keep_first=keep_existing)
    if joined.added or joined.conflicting:
        target.write(joined.bars)
    return replace(report, repairs=repairs, added=joined.added, same=joined.same, conflicting=joined.conflicting, span=span_of(joined.bars))


def resampled(bars: PairBars, timeframe: str) -> PairBars:
    """Bars of a longer timeframe, complete periods only: a period that begins before the first bar, or ends after the last, is left out."""
    if timeframe == bars.timeframe:
        return bars
    if not len(bars.open_times_ms):
        return empty_bars(bars.pair, timeframe)
    return pair_bars(panel_of([bars]).resample(timeframe), bars.pair)


def _add(total: dict[str, int], counts: dict[str, int]) -> None:
    for name, count in counts.items():
        total[name] = total.get(name, 0) + count


def _import_markets(files: Iterable[Path], out: Path) -> int:
    """Filters beside the source's bars go beside ours; a pair that both know takes the source's."""
    imported = {pair: rules for path in files for pair, rules in read_folder_markets(path.parent).items()}
    if imported:
        write_markets(out, read_folder_markets(out) | imported)
    return len(imported)
