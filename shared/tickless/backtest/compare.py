"""Comparison of two runs, order by order."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from tickless.backtest.results import TABLE_FILES, read_tick_lines
from tickless.errors import DataError

KEY_FIGURES = ("settings_sha256", "total_return_frac", "max_drawdown_frac", "trades", "fees_paid")


@dataclass(frozen=True)
class Comparison:
    """What ``compare`` found."""

    same: bool
    orders: int
    """Orders in the first folder."""
    first_difference: str | None
    """One sentence naming file, line and column; None where nothing differs."""
    figures: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    """``KEY_FIGURES`` of both summaries, by name; None where a summary does not have one."""

    @property
    def settings_differ(self) -> bool:
        """Whether both summaries name the settings they were made with, and not the same ones."""
        a, b = self.figures.get("settings_sha256", (None, None))
        return a is not None and b is not None and a != b


def compare(a: Path, b: Path) -> Comparison:
    """Compare two result folders: orders, fills, trades, equity and ticks, row by row, every column exactly.

    ``summary.json`` follows from these files and the time the run took, so it does not count; its key figures are told beside one another.
    Raises DataError where a file is missing or cannot be read.
    """
    for folder in (a, b):
        for name in (*TABLE_FILES, "ticks.jsonl"):
            if not (folder / name).is_file():
                raise DataError(f"{folder}: is no result folder, {name} is missing")
    orders = len(_rows(a / "orders.csv")) - 1
    summaries = _summary(a), _summary(b)
    figures = {name: (summaries[0].get(name), summaries[1].get(name)) for name in KEY_FIGURES}
    difference = next(filter(None, (_table_difference(a / name, b / name) for name in TABLE_FILES)), None)
    difference = difference or _ticks_difference(a / "ticks.jsonl", b / "ticks.jsonl")
    return Comparison(difference is None, orders, difference, figures)


def _summary(folder: Path) -> Mapping[str, Any]:
    """The content of ``summary.json``; nothing where it is missing or damaged, because the comparison does not depend on it."""
    try:
        content = json.loads((folder / "summary.json").read_text("utf8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _table_difference(a: Path, b: Path) -> str | None:
    rows_a, rows_b = _rows(a), _rows(b)
    header = rows_a[0][1]
    for (line_a, cells_a), (line_b, cells_b) in zip_longest(rows_a, rows_b, fillvalue=(0, None)):
        if cells_a is None or cells_b is None:
            here, line, cells = (b, line_b, cells_b) if cells_a is None else (a, line_a, cells_a)
            counts = f"{len(rows_a) - 1} rows in {a.parent}, {len(rows_b) - 1} in {b.parent}"
            return f"{a.name}: {counts}; line {line} is only in {here.parent}: {','.join(cells or ())}"
        if cells_a == cells_b:
            continue
        if line_a == 1 or len(cells_a) != len(cells_b):
            return f"{a.name} line {line_a}: the columns differ: {','.join(cells_a)} in {a.parent}, {','.join(cells_b)} in {b.parent}"
        n = next(n for n, (x, y) in enumerate(zip(cells_a, cells_b, strict=True)) if x != y)
        who = f" ({_row_name(header, cells_a)})"
        return f"{a.name} line {line_a}, {header[n]}{who}: {cells_a[n]!r} in {a.parent}, {cells_b[n]!r} in {b.parent}"
    return None


def _row_name(header: list[str], cells: list[str]) -> str:
    row = dict(zip(header, cells, strict=False))
    return " ".join(row[name] for name in ("client_order_id", "pair", "side", "tick_at", "filled_at", "opened_at", "at") if row.get(name))


def _ticks_difference(a: Path, b: Path) -> str | None:
    lines_a, lines_b = read_tick_lines(a), read_tick_lines(b)
    for number, (line_a, line_b) in enumerate(zip_longest(lines_a, lines_b), start=1):
        if line_a is None or line_b is None:
            here, line = (b, line_b) if line_a is None else (a, line_a)
            counts = f"{len(lines_a)} ticks in {a.parent}, {len(lines_b)} in {b.parent}"
            return f"{a.name}: {counts}; line {number} is only in {here.parent}: {(line or {}).get('id')}"
        difference = _value_difference(line_a, line_b, "")
        if difference:
            path, x, y = difference
            return f"{a.name} line {number}, {path} (tick {line_a.get('id')}): {x!r} in {a.parent}, {y!r} in {b.parent}"
    return None


_ABSENT = "absent"


def _value_difference(a: Any, b: Any, path: str) -> tuple[str, Any, Any] | None:
    """Where two JSON values first differ: path, value in a, value in b."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in [*a, *(key for key in b if key not in a)]:
            inner = f"{path}.{key}" if path else str(key)
            if key not in a or key not in b:
                return inner, a.get(key, _ABSENT), b.get(key, _ABSENT)
            difference = _value_difference(a[key], b[key], inner)
            if difference:
                return difference
        return None
    if isinstance(a, list) and isinstance(b, list):
        for n, (x, y) in enumerate(zip_longest(a, b, fillvalue=_ABSENT)):
            difference = _value_difference(x, y, f"{path}[{n}]")
            if difference:
                return difference
        return None
    return None if type(a) is type(b) and a == b else (path, a, b)


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    try:
        with path.open(newline="", encoding="utf8") as file:
            reader = csv.reader(file)
            rows = [(reader.line_num, cells) for cells in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if not rows:
        raise DataError(f"{path}: is empty; even a table without rows has a header")
    return rows
