"""Which files of a folder hold bars, and of what: freqtrade's files, Binance's archive, plain CSV."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from tickless.adapters.bar_files import parse_name
from tickless.adapters.bar_tables import RawBars, first_line, read_json_rows, read_raw
from tickless.adapters.binance_archive import is_archive_name, pair_of, parse_archive_name, read_archive
from tickless.adapters.csv_import import read_csv
from tickless.bars import step_ms
from tickless.errors import DataError, InputError
from tickless.types import TIMEFRAME_MINUTES

ZIPPED_JSON = ".json.gz"


class SourceKind(StrEnum):
    """Who wrote the files; ``auto`` tells by their names."""

    AUTO = "auto"
    FREQTRADE = "freqtrade"
    BINANCE = "binance"
    CSV = "csv"


@dataclass(frozen=True)
class SourceChoice:
    """What to take from a folder, and what its files do not tell themselves."""

    kind: SourceKind = SourceKind.AUTO
    pair: str | None = None
    """Only this pair; and the pair of CSV files whose names tell none."""
    timeframe: str | None = None
    """Only this timeframe; and the timeframe of CSV files whose names tell none."""
    quote: str | None = None
    """Only pairs quoted in this currency."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Field to column of CSV files; naming one makes every ``.csv`` file a plain one."""


@dataclass(frozen=True)
class SourceFile:
    """One file to import."""

    path: Path
    pair: str
    timeframe: str
    kind: SourceKind


def find_sources(source: Path, choice: SourceChoice) -> tuple[tuple[SourceFile, ...], tuple[Path, ...]]:
    """The files to import, by pair, timeframe and name (a month before its days), and those left alone.

    ``source`` is a file, or a folder with all below it. Raises DataError where there is no
    file to import, or a CSV file's pair or timeframe is not known.
    """
    if not source.exists():
        raise DataError(f"{source}: no such file or folder")
    paths = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    found: list[SourceFile] = []
    ignored: list[Path] = []
    for path in paths:
        if path.name.startswith(".") or path.name.endswith((".CHECKSUM", ".part")):
            continue
        file = _classify(path, choice)
        if file is None or not _is_chosen(file, choice):
            ignored.append(path)
        else:
            found.append(file)
    if not found:
        raise DataError(f"{source}: no file to import{_why(ignored)}")
    return tuple(sorted(found, key=lambda file: (file.pair, step_ms(file.timeframe), file.path.stem, str(file.path)))), tuple(ignored)


def read_source(file: SourceFile, columns: Mapping[str, str]) -> RawBars:
    """The rows of one file, unrepaired. Raises DataError naming file, column, row and value."""
    if file.kind == SourceKind.BINANCE:
        return read_archive(file.path)
    if file.kind == SourceKind.CSV:
        return read_csv(file.path, columns)
    if not file.path.name.endswith(ZIPPED_JSON):
        return read_raw(file.path)
    try:
        return read_json_rows(file.path, gzip.decompress(file.path.read_bytes()))
    except (OSError, EOFError, ValueError, OverflowError, RecursionError, zlib.error) as error:
        raise DataError(f"{file.path}: not a readable {ZIPPED_JSON[1:]} file: {first_line(error)}") from error


def _classify(path: Path, choice: SourceChoice) -> SourceFile | None:
    kind = choice.kind
    is_csv = path.suffix.lower() == ".csv"
    if kind == SourceKind.AUTO and choice.columns and is_csv:
        kind = SourceKind.CSV
    if kind in (SourceKind.AUTO, SourceKind.FREQTRADE):
        named = parse_name(_plain(path))
        if named is not None:
            return SourceFile(path, named.pair, named.timeframe, SourceKind.FREQTRADE)
    if kind in (SourceKind.AUTO, SourceKind.BINANCE) and is_archive_name(path):
        return _archived(path, choice)
    if kind in (SourceKind.AUTO, SourceKind.CSV) and is_csv:
        return _plain_csv(path, choice)
    return None


def _plain(path: Path) -> Path:
    """``BTC_USDT-5m.json.gz`` as ``BTC_USDT-5m.json``."""
    return path.with_name(path.name.removesuffix(".gz")) if path.name.endswith(ZIPPED_JSON) else path


def _archived(path: Path, choice: SourceChoice) -> SourceFile | None:
    name = parse_archive_name(path)
    if name is None or name.timeframe not in TIMEFRAME_MINUTES:
        return None
    quote = choice.quote or (choice.pair.split("/")[1].split(":")[0] if choice.pair else None)
    pair = pair_of(path, name.symbol, quote)
    return None if pair is None else SourceFile(path, pair, name.timeframe, SourceKind.BINANCE)


def _plain_csv(path: Path, choice: SourceChoice) -> SourceFile:
    """A CSV file: its pair and timeframe from its name where that tells them, else from the options."""
    named = parse_name(path)
    archived = _archived(path, choice)
    pair = named.pair if named else archived.pair if archived else choice.pair
    timeframe = named.timeframe if named else archived.timeframe if archived else choice.timeframe
    if pair is None:
        raise DataError(f"{path}: the name tells no pair; name it, as in --pair BTC/USDT")
    if timeframe is None:
        raise DataError(f"{path}: the name tells no timeframe; name it, as in --timeframe 1m")
    return SourceFile(path, pair, timeframe, SourceKind.CSV)


def _is_chosen(file: SourceFile, choice: SourceChoice) -> bool:
    quote = file.pair.split("/")[1].split(":")[0]
    return choice.pair in (None, file.pair) and choice.timeframe in (None, file.timeframe) and choice.quote in (None, quote)


def _why(ignored: list[Path]) -> str:
    if not ignored:
        return ""
    names = ", ".join(path.name for path in ignored[:3]) + (", …" if len(ignored) > 3 else "")
    hint = "; HDF5 files are not read: freqtrade convert-data turns them into feather" if any(p.suffix == ".h5" for p in ignored) else ""
    return f" among {names}{hint}"


def checked_pair(text: str | None) -> str | None:
    """``BTC/USDT`` or ``BTC/USDT:USDT`` as it is; raises InputError for anything else that is not None."""
    if text is None:
        return None
    base, slash, quote = text.partition("/")
    if not slash or not base or not quote or any(sign in text for sign in "_- ") or "/" in quote:
        raise InputError(f"--pair {text!r}: must be <BASE>/<QUOTE>, as in BTC/USDT")
    return text
