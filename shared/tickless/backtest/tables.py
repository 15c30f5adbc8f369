"""How values are written to and read from the CSV files of a result folder: one text for one value, on every machine.

Money and quantities are plain decimals (no exponent, no zeros that say nothing), floats are the shortest decimal that reads back as the
same float, times are ISO 8601 UTC with ``Z``, None is empty; rows end in one newline.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from itertools import islice
from operator import attrgetter
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar

from tickless.errors import DataError
from tickless.types import EquityRow, Fill, Liquidity, Order, OrderStatus, OrderType, Side, Trade, iso, parse_time

T = TypeVar("T")
_NO_ZEROS = ("-0", "")
_BLOCK = 2_000
"""Rows that are turned into text together, column by column."""

ORDER_COLUMNS = (
    "client_order_id", "tick_at", "strategy", "pair", "side", "type", "qty", "limit_price", "stop_price", "status",
    "filled_qty", "avg_price", "fee", "reason",
)  # fmt: skip
FILL_COLUMNS = ("client_order_id", "filled_at", "pair", "side", "qty", "price", "fee", "fee_asset", "fee_qty", "liquidity")
TRADE_COLUMNS = (
    "pair", "strategy", "side", "enter_tag", "opened_at", "open_price", "closed_at", "close_price", "qty", "fees", "pnl",
    "pnl_frac", "exit_reason",
)  # fmt: skip
EQUITY_COLUMNS = ("at", "equity", "cash", "exposure_frac", "drawdown_frac", "regime")


def plain(value: Decimal | float) -> str:
    """A number as a plain decimal that reads back as the same number; raises ValueError for NaN and infinity."""
    text = str(value) if isinstance(value, Decimal) else repr(float(value))
    if "n" in text or "N" in text:
        raise ValueError(f"{value} is not a number that can be written")
    if "E" in text or "e" in text:
        text = format(value if isinstance(value, Decimal) else Decimal(text), "f")
    if "." in text and text[-1] == "0":
        text = text.rstrip("0").removesuffix(".")
    return "0" if text in _NO_ZEROS else text


def cell(value: Any) -> str:
    """One value as the text of a CSV cell."""
    if value is None:
        return ""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, datetime):
        return iso(value)
    return plain(value)


def csv_text(columns: Sequence[str], rows: Iterable[object]) -> str:
    """Objects as CSV, one row each, one column for each of the named attributes."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    taken = map(attrgetter(*columns), rows)
    while block := list(islice(taken, _BLOCK)):
        writer.writerows(zip(*map(_cells, zip(*block, strict=True)), strict=True))
    return out.getvalue()


def _cells(values: tuple[Any, ...]) -> Sequence[Any]:
    """One column as texts. Most are of one type, and what is text or nothing already is written as it is."""
    kinds = set(map(type, values))
    if kinds <= {str, NoneType}:
        return values
    if kinds == {datetime}:
        # A column holds more times than the cache of ``iso``, each of them once.
        return [iso.__wrapped__(value) for value in values]
    if kinds <= {Decimal, float}:
        return [plain(value) for value in values]
    return [cell(value) for value in values]


def json_text(value: Any, indent: int = 0) -> str:
    """JSON in which Decimals and floats are plain decimals; mappings keep their order, one key a line at the outermost level."""
    if isinstance(value, Mapping):
        lead, comma, end = ("\n" + " " * indent, ",", "\n") if indent else ("", ", ", "")
        inner = comma.join(f"{lead}{json.dumps(str(key), ensure_ascii=False)}: {json_text(item)}" for key, item in value.items())
        return "{" + inner + (end if inner else "") + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(json_text(item) for item in value) + "]"
    if isinstance(value, Decimal) or (isinstance(value, float) and math.isfinite(value)):
        return plain(value)
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True)
class Row:
    """One row of a CSV file as text, with where it stands for messages."""

    path: Path
    line: int
    cells: Mapping[str, str]

    def text(self, column: str) -> str:
        """The cell's text."""
        return self.cells[column]

    def read(self, column: str, parse: Callable[[str], T]) -> T:
        """The cell parsed; raises DataError naming file, line, column and value."""
        try:
            return parse(self.cells[column])
        except (ValueError, InvalidOperation) as error:
            raise DataError(f"{self.path} line {self.line}, {column}: {self.cells[column]!r} cannot be read") from error

    def maybe(self, column: str, parse: Callable[[str], T]) -> T | None:
        """The cell parsed; None where it is empty."""
        return self.read(column, parse) if self.cells[column] else None


def read_rows(path: Path, columns: Sequence[str]) -> list[Row]:
    """All rows of a CSV file that has at least ``columns``; raises DataError where it is missing or lacks one."""
    try:
        with path.open(newline="", encoding="utf8") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            missing = [name for name in columns if name not in header]
            if missing:
                raise DataError(f"{path}: no column {missing[0]!r}")
            rows = []
            for cells in reader:
                if len(cells) != len(header):
                    raise DataError(f"{path} line {reader.line_num}: {len(cells)} cells, expected {len(header)}")
                rows.append(Row(path, reader.line_num, dict(zip(header, cells, strict=True))))
            return rows
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def read_orders(path: Path) -> tuple[Order, ...]:
    """``orders.csv`` as orders; what the file does not carry has its default."""
    return tuple(
        Order(
            client_order_id=row.text("client_order_id"),
            tick_at=row.read("tick_at", parse_time),
            strategy=row.text("strategy"),
            pair=row.text("pair"),
            side=row.read("side", Side),
            type=row.read("type", OrderType),
            qty=row.read("qty", Decimal),
            reason=row.text("reason"),
            limit_price=row.maybe("limit_price", Decimal),
            stop_price=row.maybe("stop_price", Decimal),
            status=row.read("status", OrderStatus),
            filled_qty=row.read("filled_qty", Decimal),
            avg_price=row.maybe("avg_price", Decimal),
            fee=row.read("fee", Decimal),
        )
        for row in read_rows(path, ORDER_COLUMNS)
    )


def read_fills(path: Path) -> tuple[Fill, ...]:
    """``fills.csv`` as fills; ``fill_id`` is ``<client_order_id>/<n>``, n counting the order's fills from 1."""
    seen: dict[str, int] = {}
    fills = []
    for row in read_rows(path, FILL_COLUMNS):
        order_id = row.text("client_order_id")
        seen[order_id] = seen.get(order_id, 0) + 1
        fills.append(
            Fill(
                fill_id=f"{order_id}/{seen[order_id]}",
                client_order_id=order_id,
                filled_at=row.read("filled_at", parse_time),
                pair=row.text("pair"),
                side=row.read("side", Side),
                qty=row.read("qty", Decimal),
                price=row.read("price", Decimal),
                fee=row.read("fee", Decimal),
                fee_asset=row.text("fee_asset"),
                fee_qty=row.read("fee_qty", Decimal),
                liquidity=row.read("liquidity", Liquidity),
            )
        )
    return tuple(fills)


def read_trades(path: Path) -> tuple[Trade, ...]:
    """``trades.csv`` as trades, without their ids."""
    return tuple(
        Trade(
            pair=row.text("pair"),
            strategy=row.text("strategy"),
            side=row.text("side"),
            enter_tag=row.text("enter_tag"),
            opened_at=row.read("opened_at", parse_time),
            open_price=row.read("open_price", Decimal),
            closed_at=row.read("closed_at", parse_time),
            close_price=row.read("close_price", Decimal),
            qty=row.read("qty", Decimal),
            fees=row.read("fees", Decimal),
            pnl=row.read("pnl", Decimal),
            pnl_frac=row.read("pnl_frac", Decimal),
            exit_reason=row.text("exit_reason"),
        )
        for row in read_rows(path, TRADE_COLUMNS)
    )


def read_equity(path: Path) -> tuple[EquityRow, ...]:
    """``equity.csv`` as rows."""
    return tuple(
        EquityRow(
            at=row.read("at", parse_time),
            equity=row.read("equity", Decimal),
            cash=row.read("cash", Decimal),
            exposure_frac=row.read("exposure_frac", float),
            drawdown_frac=row.read("drawdown_frac", float),
            regime=row.text("regime"),
        )
        for row in read_rows(path, EQUITY_COLUMNS)
    )
