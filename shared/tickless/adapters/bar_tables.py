"""The four file formats of bars as plain arrays: feather, parquet and csv through pyarrow (imported when needed), json by the library."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tickless.bars import COLUMNS
from tickless.errors import DataError
from tickless.types import to_ms

FORMATS = ("feather", "parquet", "csv", "json")
_BEYOND_MS = 2.0**63
"""A date this large fits no unit of 64 bits, and counts as none; so does what is not finite."""
_DATES = "dates are ISO 8601, as 2024-12-31 or 2024-12-31T23:45:00Z, or an epoch in seconds, milliseconds, microseconds or nanoseconds"
NULLS = ["", "nan", "NaN", "NAN", "null", "NULL", "None", "NA"]


@dataclass(frozen=True)
class RawBars:
    """Rows as a file holds them: open times in ms, shape (T,); ``values`` float64 of shape (5, T), NaN where the file has none."""

    open_times_ms: NDArray[np.int64]
    values: NDArray[np.float64]
    dates_missing: NDArray[np.bool_] | None = None
    """Where the date is empty (its time is then 0); None = nowhere."""
    naive_dates: bool = False

    @property
    def dated(self) -> NDArray[np.bool_]:
        """Which rows have a date, shape (T,)."""
        return np.ones(len(self.open_times_ms), dtype=np.bool_) if self.dates_missing is None else ~self.dates_missing


def read_raw(path: Path) -> RawBars:
    """The rows of a bar file, unrepaired. Raises DataError naming file, column, row and value."""
    readers: dict[str, Callable[[Path], RawBars]] = {
        "feather": lambda path: _from_table(path, _feather_table(path)),
        "parquet": lambda path: _from_table(path, _parquet_table(path)),
        "csv": lambda path: _from_table(path, _csv_table(path)),
        "json": lambda path: read_json_rows(path, path.read_bytes()),
    }
    try:
        return readers[path.suffix.removeprefix(".")](path)
    except (OSError, ValueError, OverflowError, RecursionError) as error:
        raise DataError(f"{path}: not a readable {path.suffix.removeprefix('.')} file: {first_line(error)}") from error


def release_memory() -> None:
    """Give back what reading took and the process would keep for the next file."""
    pyarrow = sys.modules.get("pyarrow")
    if pyarrow is not None:
        pyarrow.default_memory_pool().release_unused()


def write_raw(path: Path, bars: RawBars) -> None:
    """Write rows in the format of the path's suffix, through a temporary name so that no half file is ever seen."""
    part = path.with_name(path.name + ".part")
    try:
        if path.suffix == ".json":
            rows = zip(bars.open_times_ms.tolist(), *bars.values.tolist(), strict=True)
            part.write_text(json.dumps([list(row) for row in rows], separators=(",", ":")), encoding="utf-8")
        else:
            _write_table(part, path.suffix, bars)
        part.replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or first_line(error)})") from error
    finally:
        part.unlink(missing_ok=True)


def _write_table(part: Path, suffix: str, bars: RawBars) -> None:
    import pyarrow as pa

    dates = pa.array(bars.open_times_ms, type=pa.int64()).cast(pa.timestamp("ms", tz="UTC"))
    table = pa.table({"date": dates} | {name: pa.array(bars.values[n]) for n, name in enumerate(COLUMNS)})
    if suffix == ".parquet":
        import pyarrow.parquet as pq

        pq.write_table(table, part, compression="zstd")
    elif suffix == ".csv":
        import pyarrow.csv as pc

        pc.write_csv(table, part, pc.WriteOptions(quoting_style="none"))
    else:
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with pa.OSFile(str(part), "wb") as sink, pa.ipc.new_file(sink, table.schema, options=options) as writer:
            writer.write_table(table)


def first_line(error: Exception) -> str:
    """What a library says of an error, in one line."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _feather_table(path: Path) -> Any:
    """A feather file (version 2) is an Arrow IPC file."""
    import pyarrow as pa

    with pa.OSFile(str(path), "rb") as source:
        return pa.ipc.open_file(source).read_all()


def _parquet_table(path: Path) -> Any:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        names = [name for name in ("date", *COLUMNS) if name in file.schema_arrow.names]
        return file.read(columns=names, use_threads=False)


def _csv_table(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.csv as pc

    read = pc.ReadOptions(use_threads=False)
    types = {name: pa.float64() for name in COLUMNS}
    options = pc.ConvertOptions(column_types=types, null_values=NULLS, strings_can_be_null=True)
    try:
        return pc.read_csv(path, read_options=read, convert_options=options)
    except pa.ArrowInvalid:
        text = {name: pa.string() for name in ("date", *COLUMNS)}
        table = pc.read_csv(path, read_options=read, convert_options=pc.ConvertOptions(column_types=text))
        for name in COLUMNS:
            if name in table.column_names:
                refuse_text(path, name, table.column(name).to_pylist())
        raise


def refuse_text(path: Path, column: str, values: list[Any]) -> None:
    """Raise DataError for the first value that is not a number, if there is one."""
    for row, value in enumerate(values, start=1):
        try:
            if value is None or value in NULLS:
                continue
            float(value)
        except (TypeError, ValueError):
            raise DataError(f"{path}: column {column}, row {row}: {value!r} is not a number") from None


def _from_table(path: Path, table: Any) -> RawBars:
    for name in ("date", *COLUMNS):
        if name not in table.column_names:
            raise DataError(f"{path}: no column {name!r}; columns there: {', '.join(table.column_names)}")
    values = np.empty((len(COLUMNS), table.num_rows))
    for n, name in enumerate(COLUMNS):
        values[n] = _numbers(path, name, table.column(name))
    return dated_bars(path, table.column("date"), values)


def _numbers(path: Path, name: str, column: Any) -> NDArray[np.float64]:
    import pyarrow as pa

    kind = column.type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind)):
        refuse_text(path, name, column.to_pylist())
        raise DataError(f"{path}: column {name} holds {kind}, not numbers; the first value is {column[0].as_py()!r}")
    numbers: NDArray[np.float64] = column.cast(pa.float64()).to_numpy()
    return numbers


def dated_bars(path: Path, column: Any, values: NDArray[np.float64]) -> RawBars:
    """Rows from an Arrow column of dates: timestamps, days, ISO 8601 texts, or epochs of any unit. Raises DataError."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_date(kind):
        column = column.cast(pa.timestamp("ms"))
    elif pa.types.is_floating(kind):
        column = _whole(path, column)
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _text_dated(path, column.to_pylist(), values)
    if not (pa.types.is_timestamp(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)):
        raise DataError(f"{path}: column date holds {kind}, not dates; {_DATES}")
    missing = column.is_null().to_numpy().astype(np.bool_) if column.null_count else None
    if pa.types.is_timestamp(kind):
        column = column.cast(pa.timestamp("ms", tz=kind.tz), safe=False)
    times: NDArray[np.int64] = pc.fill_null(column.cast(pa.int64()), 0).to_numpy()
    if pa.types.is_integer(kind):
        times = _epoch_ms(times)
    return RawBars(times, values, missing, naive_dates=pa.types.is_timestamp(kind) and kind.tz is None)


def _text_dated(path: Path, texts: list[str | None], values: NDArray[np.float64]) -> RawBars:
    """Dates in ISO 8601 that Arrow did not take for dates: with several offsets, or with a value among them that is none."""
    times = np.zeros(len(texts), dtype=np.int64)
    missing = np.asarray([not text for text in texts], dtype=np.bool_)
    naive = False
    for n, text in enumerate(texts):
        if not text:
            continue
        try:
            if text.isascii() and text.isdigit() and len(text) > len("20240101"):
                times[n] = int(_epoch_ms(np.asarray([int(text)], dtype=np.int64))[0])
                continue
            date = datetime.fromisoformat(text)
            times[n] = to_ms(date if date.tzinfo else date.replace(tzinfo=UTC))
        except (ValueError, OverflowError):
            raise DataError(f"{path}: column date, row {n + 1}: {text[:80]!r} is not a date; {_DATES}") from None
        naive = naive or date.tzinfo is None
    return RawBars(times, values, missing, naive)


def _epoch_ms(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Epoch seconds, milliseconds, microseconds or nanoseconds as milliseconds; each value's size tells which (1e11 s is the year 5138)."""
    size = np.abs(values)
    units = [size < 10**11, size < 10**14, size < 10**17]
    return np.select(units, [np.where(units[0], values, 0) * 1000, values, values // 1000], values // 10**6)


def _whole(path: Path, column: Any) -> Any:
    """Epochs that a file holds as ``1704067200.0``, as integers."""
    import pyarrow as pa

    for row, value in enumerate(column.to_pylist(), start=1):
        if value is not None and not (math.isfinite(value) and value == int(value)):
            raise DataError(f"{path}: column date, row {row}: {value!r} is not a date; {_DATES}")
    return column.cast(pa.int64())


def read_json_rows(path: Path, content: bytes) -> RawBars:
    """The rows of a list of ``[ms, open, high, low, close, volume]``; null stands for a missing number.

    Raises DataError; ValueError, OverflowError and RecursionError for what is no JSON, or no number or nesting that Python can take.
    """
    rows = json.loads(content)
    if not isinstance(rows, list):
        raise DataError(f"{path}: holds {type(rows).__name__}, not a list of [ms, open, high, low, close, volume]")
    width = len(COLUMNS) + 1
    for n, row in enumerate(rows, start=1):
        if not isinstance(row, list) or len(row) != width:
            raise DataError(f"{path}: row {n}: {str(row)[:80]} is not [ms, open, high, low, close, volume]")
        for name, value in zip(("date", *COLUMNS), row, strict=True):
            if isinstance(value, bool) or not isinstance(value, int | float | None):
                raise DataError(f"{path}: column {name}, row {n}: {value!r} is not a number")
    table = np.asarray([[math.nan if value is None else value for value in row] for row in rows], dtype=np.float64).reshape(-1, width)
    missing = ~(np.abs(table[:, 0]) < _BEYOND_MS)
    times = np.where(missing, 0, table[:, 0]).astype(np.int64)
    return RawBars(_epoch_ms(times), np.ascontiguousarray(table[:, 1:].T), missing)
