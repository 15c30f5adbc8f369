"""CSV files from anywhere: a column map says which column is which; separator and header are found out."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tickless.adapters.bar_tables import NULLS, RawBars, dated_bars, first_line, refuse_text
from tickless.bars import COLUMNS
from tickless.errors import DataError, InputError

FIELDS = ("date", *COLUMNS)
ALIASES: Mapping[str, tuple[str, ...]] = {
    "date": ("timestamp", "time", "datetime", "open_time", "open time", "opentime", "unix", "ts", "t"),
    "open": ("o",),
    "high": ("h",),
    "low": ("l",),
    "close": ("c",),
    "volume": ("vol", "v"),
}
"""Names that stand for a field where no map names its column, tried in this order; upper and lower case are the same."""
_SEPARATORS = ",;\t|"


def parse_columns(text: str) -> dict[str, str]:
    """``date=ts,open=o`` as a map from field to column; a column is a name, or its number from 1. Raises InputError."""
    columns: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        field, equals, column = (piece.strip() for piece in part.partition("="))
        if not equals or field not in FIELDS or not column:
            raise InputError(f"--columns {part!r}: must be field=column with a field of {', '.join(FIELDS)}")
        if field in columns:
            raise InputError(f"--columns {part!r}: {field} is named twice")
        columns[field] = column
    return columns


def read_csv(path: Path, columns: Mapping[str, str]) -> RawBars:
    """The rows of a CSV file. Raises DataError naming file, column, row (the first data row is 1) and value."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: not readable: {error.strerror or error}") from error
    first = content[: 1 << 16].split(b"\n", 1)[0].decode("utf-8-sig", errors="replace").strip()
    if not first:
        raise DataError(f"{path}: the first line is empty")
    separator = max(_SEPARATORS, key=first.count)
    names = next(csv.reader(io.StringIO(first), delimiter=separator))
    headless = all(_is_number(name) for name in names)
    chosen = _choose(path, names, columns, headless=headless)
    if headless:
        names = [f"column {n}" for n in range(1, len(names) + 1)]
    return parse_csv(path, content, names, chosen, separator=separator, skip_rows=0 if headless else 1)


def parse_csv(
    path: Path, content: bytes, names: Sequence[str], chosen: Mapping[str, int], *, separator: str = ",", skip_rows: int = 0
) -> RawBars:
    """The rows of CSV text with these columns; ``chosen`` gives the index of every field's, from 0. Raises DataError."""
    import pyarrow as pa

    text = _Text(content, len(names), chosen, separator, skip_rows)
    try:
        table = text.table(pa.float64())
    except pa.ArrowInvalid as error:
        _refuse_bad_value(path, text, names)
        raise DataError(f"{path}: not readable as CSV: {first_line(error)}") from error
    return dated_bars(path, table.column("date"), np.stack([table.column(name).to_numpy() for name in COLUMNS]))


@dataclass(frozen=True)
class _Text:
    """CSV text, and which of its columns hold what."""

    content: bytes
    width: int
    chosen: Mapping[str, int]
    separator: str
    skip_rows: int

    def table(self, kind: Any) -> Any:
        """The six fields as an Arrow table; prices and volume are of this kind."""
        import pyarrow as pa
        import pyarrow.csv as pc

        # Columns go by position: a header may repeat a name.
        places = [str(n) for n in range(self.width)]
        return pc.read_csv(
            pa.BufferReader(self.content),
            pc.ReadOptions(use_threads=False, column_names=places, skip_rows=self.skip_rows),
            pc.ParseOptions(delimiter=self.separator),
            pc.ConvertOptions(
                include_columns=[places[self.chosen[field]] for field in FIELDS],
                column_types={places[self.chosen[name]]: kind for name in COLUMNS},
                null_values=list(NULLS),
                strings_can_be_null=True,
            ),
        ).rename_columns(list(FIELDS))


def _refuse_bad_value(path: Path, text: _Text, names: Sequence[str]) -> None:
    """Name the first value that is no number, where that is what is wrong; a line of another length is not."""
    import pyarrow as pa

    try:
        table = text.table(pa.string())
    except pa.ArrowInvalid:
        return
    for name in COLUMNS:
        refuse_text(path, names[text.chosen[name]], table.column(name).to_pylist())


def _choose(path: Path, names: Sequence[str], columns: Mapping[str, str], *, headless: bool) -> dict[str, int]:
    """The index of every field's column."""
    there = [name.strip().lower() for name in names]
    chosen: dict[str, int] = {}
    for field in FIELDS:
        wanted = columns.get(field)
        if wanted is not None and wanted.isascii() and wanted.isdigit() and (headless or wanted not in there):
            if not 1 <= int(wanted) <= len(names):
                raise DataError(f"{path}: no column {wanted} for {field}; the file has {len(names)}")
            chosen[field] = int(wanted) - 1
            continue
        if headless:
            raise DataError(f"{path}: has no header; name {field}'s column by its number, as in --columns {field}=1")
        candidates = (field, *ALIASES[field]) if wanted is None else (wanted.lower(),)
        found = next((name for name in candidates if name in there), None)
        if found is None:
            raise DataError(f"{path}: no column {wanted or field!r} for {field}; columns there: {', '.join(names)}; see --columns")
        chosen[field] = there.index(found)
    return chosen


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
