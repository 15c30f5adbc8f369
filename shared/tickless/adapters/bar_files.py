"""Bar files in freqtrade's layout: ``<BASE>_<QUOTE>-<timeframe>.<feather|parquet|csv|json>``.

Columns ``date`` (open of the bar), ``open, high, low, close, volume`` (base units); a json file is a list of ``[ms, o, h, l, c, v]``. The
format defines ``date`` as UTC, so a date column without a zone is read as UTC and reported; one in another zone is converted. Integers are
epoch seconds, milliseconds, microseconds or nanoseconds, told apart by their size. What can be repaired is repaired and counted in a
report; what cannot is refused with a DataError naming file, column, row (the first data row is 1) and value. Nothing is ever filled.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tickless.adapters.bar_tables import FORMATS, RawBars, read_raw, release_memory, write_raw
from tickless.bars import COLUMNS, Panel, floor_ms, step_ms
from tickless.errors import DataError
from tickless.types import TIMEFRAME_MINUTES, from_ms, iso, to_ms

_NAME = re.compile(rf"([^_-]+)_([^_-]+)(?:_([^_-]+))?-(\d+[mhdwM])(?:-futures)?\.({'|'.join(FORMATS)})")


@dataclass(frozen=True)
class BarFile:
    """One file of a folder: which pair and timeframe it holds."""

    path: Path
    pair: str
    timeframe: str


@dataclass(frozen=True)
class PairBars:
    """The bars of one pair: open times in ms, strictly rising and on the timeframe's grid; ``values`` float64 of shape (5, T), finite."""

    pair: str
    timeframe: str
    open_times_ms: NDArray[np.int64]
    values: NDArray[np.float64]

    def column(self, name: str) -> NDArray[np.float64]:
        """One of ``open, high, low, close, volume``, shape (T,)."""
        row: NDArray[np.float64] = self.values[COLUMNS.index(name)]
        return row


@dataclass(frozen=True)
class FileReport:
    """What was found in one file and what was done about it; counts are rows."""

    path: Path
    pair: str
    timeframe: str
    rows_read: int
    rows_used: int
    unsorted_rows: int = 0
    """Rows that came after a later one; sorted."""
    duplicate_rows: int = 0
    """Rows that repeat a date with the same values; dropped."""
    conflicting_rows: int = 0
    """Rows that repeat a date with other values; the last in the file is kept."""
    impossible_rows: int = 0
    """Price <= 0, high < low, negative volume, or something not finite; dropped."""
    off_grid_rows: int = 0
    """Dates that are no multiple of the timeframe; dropped."""
    future_rows: int = 0
    """Bars that close after ``now``; dropped."""
    naive_dates: bool = False
    """The dates carry no zone and were read as UTC."""

    @property
    def repairs(self) -> dict[str, int]:
        """The counts that are not zero, by name."""
        names = ("unsorted", "duplicate", "conflicting", "impossible", "off_grid", "future")
        counts = {name: int(getattr(self, f"{name}_rows")) for name in names}
        return {name: count for name, count in counts.items() if count}


@dataclass(frozen=True)
class FolderReport:
    """What was found in a folder: one report a file read, by pair."""

    folder: Path
    timeframe: str
    files: tuple[FileReport, ...]
    empty_pairs: tuple[str, ...]
    """Pairs whose file holds no usable bar (in the range asked for); left out."""
    ignored_files: tuple[str, ...]
    """Names that are not bar files of this layout, or of a timeframe that is not known."""

    @property
    def repairs(self) -> dict[str, int]:
        """Repairs of all files, added up."""
        total: dict[str, int] = {}
        for file in self.files:
            for name, count in file.repairs.items():
                total[name] = total.get(name, 0) + count
        return total


def file_name(pair: str, timeframe: str, file_format: str) -> str:
    """The file name of a pair: ``BTC/USDT`` gives ``BTC_USDT-15m.parquet``, ``BTC/USDT:USDT`` gives ``BTC_USDT_USDT-15m.parquet``."""
    return f"{re.sub('[/:]', '_', pair)}-{timeframe}.{file_format}"


def parse_name(path: Path) -> BarFile | None:
    """What a file holds by its name; None where the name is not of this layout or the timeframe is not known.

    A pair all in small letters is read in capitals, as exchanges write it: ``btc_usdt`` is BTC/USDT. Others stay: there is a kPEPE.
    """
    match = _NAME.fullmatch(path.name)
    if match is None or match[4] not in TIMEFRAME_MINUTES:
        return None
    pair = f"{match[1]}/{match[2]}" + (f":{match[3]}" if match[3] else "")
    return BarFile(path, pair.upper() if pair.islower() else pair, match[4])


def list_files(folder: Path) -> tuple[tuple[BarFile, ...], tuple[str, ...]]:
    """The bar files of a folder, by pair and timeframe, and the names that are none.

    Raises DataError where the folder does not exist, or holds one pair and timeframe in two files.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    found: dict[tuple[str, str], BarFile] = {}
    ignored = []
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        file = parse_name(path)
        if file is None:
            ignored.append(path.name)
            continue
        first = found.setdefault((file.pair, file.timeframe), file)
        if first is not file:
            raise DataError(f"{folder}: {file.pair} {file.timeframe} is there twice, as {first.path.name} and as {path.name}")
    return tuple(found[key] for key in sorted(found)), tuple(ignored)


def read_file(path: Path, *, now: datetime | None = None) -> tuple[PairBars, FileReport]:
    """The usable bars of one file, and the report; ``now`` drops the bars that had not closed by then. Raises DataError."""
    file = parse_name(path)
    if file is None:
        raise DataError(f"{path}: the name is not <BASE>_<QUOTE>-<timeframe>.<{'|'.join(FORMATS)}> with a known timeframe")
    return repair(file, read_raw(path), now)


def repair(file: BarFile, raw: RawBars, now: datetime | None = None) -> tuple[PairBars, FileReport]:
    """Rows as a file holds them, sorted, without duplicates and without what is impossible, and the report of what was done."""
    step = step_ms(file.timeframe)
    times, values = raw.open_times_ms, raw.values
    prices, volume = values[:4], values[4]
    with np.errstate(invalid="ignore"):
        possible = raw.dated & np.isfinite(values).all(axis=0) & (prices > 0).all(axis=0) & (prices[1] >= prices[2]) & (volume >= 0)
    on_grid = times % step == 0
    closed = times + step <= (np.iinfo(np.int64).max if now is None else to_ms(now))
    keep = possible & on_grid & closed
    if not keep.all():
        times, values = times[keep], values[:, keep]
    unsorted = int((times[1:] < np.maximum.accumulate(times)[:-1]).sum())
    if unsorted:
        order = np.argsort(times, kind="stable")
        times, values = times[order], values[:, order]
    last = np.append(times[1:] != times[:-1], True)[: len(times)]
    kept = np.flatnonzero(last)
    dropped = np.flatnonzero(~last)
    conflicts = 0
    if len(dropped):
        successor = kept[np.searchsorted(kept, dropped)]
        conflicts = int((values[:, dropped] != values[:, successor]).any(axis=0).sum())
        times, values = times[kept], values[:, kept]
    report = FileReport(
        path=file.path,
        pair=file.pair,
        timeframe=file.timeframe,
        rows_read=len(raw.open_times_ms),
        rows_used=len(times),
        unsorted_rows=unsorted,
        duplicate_rows=len(dropped) - conflicts,
        conflicting_rows=conflicts,
        impossible_rows=int((~possible).sum()),
        off_grid_rows=int((possible & ~on_grid).sum()),
        future_rows=int((possible & on_grid & ~closed).sum()),
        naive_dates=raw.naive_dates,
    )
    return PairBars(file.pair, file.timeframe, times, values), report


def read_folder(
    folder: Path,
    timeframe: str,
    *,
    pairs: Sequence[str] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    quote: str | None = None,
    now: datetime | None = None,
) -> tuple[Panel, FolderReport]:
    """The bars of a folder as one panel, pairs sorted, and the report.

    Only bars that open in [start, end) are kept; the panel spans from the first of them to the last. ``pairs`` asks for exactly these
    (one that has no usable bar is refused), ``quote`` for those quoted in it; both left out take all. A pair without a usable bar is
    left out and reported. Raises DataError where the folder has no usable pair, and what ``read_file`` raises.
    """
    step_ms(timeframe)
    files, ignored = list_files(folder)
    wanted = _choose(folder, files, timeframe, pairs, quote)
    grid = _Grid(timeframe, [file.pair for file in wanted])
    reports: list[FileReport] = []
    empty: list[str] = []
    spans: list[str] = []
    for file in wanted:
        bars, report = read_file(file.path, now=now)
        reports.append(report)
        kept = _clip(bars, start, end)
        if len(kept.open_times_ms):
            grid.add(kept)
            continue
        empty.append(file.pair)
        if len(bars.open_times_ms):
            spans.extend((iso(from_ms(int(bars.open_times_ms[0]))), iso(from_ms(int(bars.open_times_ms[-1])))))
    release_memory()
    if len(empty) == len(wanted):
        extent = f" in the range asked for; the data runs from {min(spans)} to {max(spans)}" if spans else ""
        raise DataError(f"{folder}: no pair has a usable {timeframe} bar{extent}")
    if pairs is not None and empty:
        raise DataError(f"{folder}: pair {empty[0]} has no usable {timeframe} bar in the range asked for")
    return grid.panel(), FolderReport(folder, timeframe, tuple(reports), tuple(empty), ignored)


def _choose(folder: Path, files: Iterable[BarFile], timeframe: str, pairs: Sequence[str] | None, quote: str | None) -> list[BarFile]:
    by_pair = {file.pair: file for file in files if file.timeframe == timeframe}
    if not by_pair:
        known = sorted({file.timeframe for file in files}, key=lambda name: TIMEFRAME_MINUTES[name])
        raise DataError(f"{folder}: no {timeframe} bar file; timeframes there: {', '.join(known) or 'none'}")
    if pairs is not None:
        missing = [pair for pair in pairs if pair not in by_pair]
        if missing:
            raise DataError(f"{folder}: pair {missing[0]} has no {timeframe} bar file")
        return [by_pair[pair] for pair in sorted(set(pairs))]
    chosen = [file for pair, file in by_pair.items() if quote is None or pair.split("/")[1].split(":")[0] == quote]
    if not chosen:
        raise DataError(f"{folder}: no {timeframe} pair is quoted in {quote}")
    return chosen


def _clip(bars: PairBars, start: datetime | None, end: datetime | None) -> PairBars:
    times = bars.open_times_ms
    first = 0 if start is None else int(np.searchsorted(times, to_ms(start)))
    last = len(times) if end is None else int(np.searchsorted(times, to_ms(end)))
    if first == 0 and last == len(times):
        return bars
    return PairBars(bars.pair, bars.timeframe, times[first:last], bars.values[:, first:last])


def panel_of(bars: Sequence[PairBars]) -> Panel:
    """One panel from the bars of several pairs of one timeframe; pairs sorted, NaN where a pair has no bar. Raises ValueError for none."""
    parts = sorted((part for part in bars if len(part.open_times_ms)), key=lambda part: part.pair)
    if not parts:
        raise ValueError("no bars to make a panel of")
    grid = _Grid(parts[0].timeframe, [part.pair for part in parts])
    for part in parts:
        grid.add(part)
    return grid.panel()


class _Grid:
    """A panel that takes one pair after the other, so that no pair's bars are in memory twice; it grows where a pair reaches further."""

    def __init__(self, timeframe: str, pairs: Sequence[str]) -> None:
        self._timeframe, self._pairs, self._step = timeframe, pairs, step_ms(timeframe)
        self._start = self._rows = 0
        self._columns = [np.empty((0, len(pairs))) for _ in COLUMNS]
        self._known: list[str] = []

    def add(self, bars: PairBars) -> None:
        """Lay a pair's bars, of which there is at least one, onto the grid."""
        times = bars.open_times_ms
        first, last = floor_ms(int(times[0]), self._step), int(times[-1])
        self._span(first, (last - first) // self._step + 1)
        index = (times - self._start) // self._step
        contiguous = int(index[-1] - index[0]) + 1 == len(index)
        where = slice(int(index[0]), int(index[-1]) + 1) if contiguous else index
        n = self._pairs.index(bars.pair)
        for column, values in zip(self._columns, bars.values, strict=True):
            column[where, n] = values
        self._known.append(bars.pair)

    def panel(self) -> Panel:
        """The pairs that were added."""
        pairs = tuple(pair for pair in self._pairs if pair in self._known)
        if len(pairs) < len(self._pairs):
            index = [n for n, pair in enumerate(self._pairs) if pair in self._known]
            self._columns = [np.take(column, index, axis=1) for column in self._columns]
        return Panel(self._timeframe, pairs, self._start, *self._columns)

    def _span(self, first: int, rows: int) -> None:
        """Make room for ``rows`` rows from the time ``first`` on."""
        start, end = first, first + rows * self._step
        if self._rows:
            start, end = min(start, self._start), max(end, self._start + self._rows * self._step)
        wanted = (end - start) // self._step
        if (start, wanted) == (self._start, self._rows):
            return
        above = (self._start - start) // self._step if self._rows else 0
        for n, column in enumerate(self._columns):
            grown = np.full((wanted, len(self._pairs)), np.nan)
            grown[above : above + self._rows] = column
            self._columns[n] = grown
        self._start, self._rows = start, wanted


def pair_bars(panel: Panel, pair: str) -> PairBars:
    """The bars of one pair of a panel, without the rows where it has none."""
    n = panel.column[pair]
    here = ~np.isnan(panel.close[:, n])
    values = np.stack([getattr(panel, name)[here, n] for name in COLUMNS])
    return PairBars(pair, panel.timeframe, panel.open_times_ms[here], values)


def write_file(folder: Path, bars: PairBars, file_format: str = "parquet") -> Path:
    """Write one pair's bars in freqtrade's layout and return the path; never leaves half a file. Raises DataError."""
    if file_format not in FORMATS:
        raise DataError(f"format {file_format!r}: unknown; known: {', '.join(FORMATS)}")
    path = folder / file_name(bars.pair, bars.timeframe, file_format)
    write_raw(path, RawBars(bars.open_times_ms, bars.values))
    return path


def write_folder(
    folder: Path, panel: Panel, file_format: str = "parquet", advance: Callable[[int, int], None] = lambda _done, _total: None
) -> tuple[Path, ...]:
    """Write every pair of a panel that has a bar; returns the paths. Raises DataError for a format that is not known."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for done, pair in enumerate(panel.pairs, start=1):
        bars = pair_bars(panel, pair)
        if len(bars.open_times_ms):
            written.append(write_file(folder, bars, file_format))
        advance(done, len(panel.pairs))
    return tuple(written)


def data_sha256(panel: Panel) -> str:
    """The sha256 of the bars of a panel: timeframe, pairs, start and values, whatever files they came from. Hexadecimal."""
    digest = sha256(f"{panel.timeframe}|{','.join(panel.pairs)}|{panel.start_ms}|{panel.rows}".encode())
    block = 4096
    for name in COLUMNS:
        values = getattr(panel, name)
        for first in range(0, panel.rows, block):
            part = np.ascontiguousarray(values[first : first + block], dtype="<f8") + 0.0
            part[np.isnan(part)] = np.nan
            digest.update(part.tobytes())
    return digest.hexdigest()
