"""The result folder: what a demo, backtest, replay or walk-forward leaves behind. The same run gives the same bytes."""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tickless import metrics
from tickless.backtest import tables
from tickless.bars import Floats, Panel
from tickless.breaks import rescaled_close
from tickless.errors import DataError, InputError
from tickless.settings import TRADING_ORDER, Settings
from tickless.strategies.trace import PairTrace
from tickless.strategies.view import Action
from tickless.types import ZERO, EquityRow, Fill, Order, Trade, iso, to_ms

TABLE_FILES = ("orders.csv", "fills.csv", "trades.csv", "equity.csv")
RESULT_FILES = ("summary.json", *TABLE_FILES, "ticks.jsonl")
TICK_KEYS = (
    "id",
    "function",
    "strategy",
    "at",
    "models",
    "models_refused",
    "regime",
    "top_k",
    "cash_buffer_frac",
    "targets",
    "tiers",
    "limits",
    "requotes",
    "stops",
    "resting",
    "unprotected",
    "trained",
    "promoted",
    "skipped",
)
"""Keys of a tick line before ``pairs``; one that a tick's trace does not have is left out, unless it is in ``EVERY_LINE``."""
EVERY_LINE: Mapping[str, Any] = {"models": {}, "regime": None, "targets": None, "limits": []}
"""What every line has, and what it says where the tick has nothing to say about it. Empty ``targets`` would mean: hold nothing."""


@dataclass(frozen=True)
class RunRecord:
    """Everything a finished run knows: the result files and the report are made from this alone."""

    settings: Settings
    start: datetime
    end: datetime
    """The timerange, half-open."""
    pairs: Sequence[str]
    start_equity: Decimal
    end_equity: Decimal
    """After the last fill."""
    orders: Sequence[Order]
    """Final and open ones."""
    fills: Sequence[Fill]
    trades: Sequence[Trade]
    equity: Sequence[EquityRow]
    ticks: Sequence[Mapping[str, Any]]
    """Tick lines as ``tick_lines`` makes them, in order of effect."""
    market: Panel
    """Bars of the base timeframe. Those that close in [start, end] make the market return; best with the bar that closes at start."""
    data_sha256: str
    seconds: float
    """How long the run took."""
    note: str = ""

    @cached_property
    def market_window(self) -> Panel:
        """The run's pairs in the bars that close in [start, end]."""
        step = timedelta(milliseconds=self.market.step_ms)
        window = self.market.between(self.start - step, self.end)
        return window if window.pairs == tuple(self.pairs) else window.select(list(self.pairs))

    @cached_property
    def market_close(self) -> Floats:
        """The closes of ``market_window`` for every return of the market, (T, N): no break of a price scale is one."""
        return rescaled_close(self.market_window)


@dataclass(frozen=True)
class Results:
    """A result folder, read back."""

    folder: Path
    summary: Mapping[str, Any]
    orders: tuple[Order, ...]
    fills: tuple[Fill, ...]
    trades: tuple[Trade, ...]
    equity: tuple[EquityRow, ...]
    ticks: tuple[Mapping[str, Any], ...]


class TickLines:
    """Makes the lines of ``ticks.jsonl`` from traces in order of effect.

    A trace tells of every pair the tick looked at; a line keeps only the pairs whose action or reason is another than when a tick of the
    same function and strategy last spoke of them: each has its own reasons to keep what it holds. Maps by pair are sorted by pair.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[Any, Any], dict[str, Any]] = {}

    def line(self, trace: Mapping[str, Any]) -> dict[str, Any]:
        """The line of one tick's trace."""
        line = {key: _sorted(trace[key]) if key in trace else EVERY_LINE[key] for key in TICK_KEYS if key in trace or key in EVERY_LINE}
        pairs = trace.get("pairs") or {}
        actions = pairs.actions if isinstance(pairs, PairTrace) else {p: (pairs[p].get("action"), pairs[p].get("reason")) for p in pairs}
        known = self._known_to(trace)
        changed = sorted([pair for pair, now in actions.items() if known.get(pair) != now])
        known.update(actions)
        line["pairs"] = {pair: _sorted(pairs[pair]) for pair in changed}
        return line

    def news(self, trace: Mapping[str, Any], pairs: Sequence[str], action: Action) -> list[str]:
        """Of which of ``pairs`` a line of the trace's function has to say that ``action`` was taken; it then counts as said."""
        known = self._known_to(trace)
        changed = [pair for pair in pairs if known.get(pair) != action]
        known.update(dict.fromkeys(changed, action))
        return changed

    def _known_to(self, trace: Mapping[str, Any]) -> dict[str, Any]:
        return self._known.setdefault((trace.get("function"), trace.get("strategy")), {})


def tick_lines(traces: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The lines of all traces, see ``TickLines``."""
    lines = TickLines()
    for trace in traces:
        yield lines.line(trace)


def by_close(trade: Trade) -> tuple[datetime, str, datetime]:
    """The order of trades in ``trades.csv`` and in the report."""
    return trade.closed_at, trade.pair, trade.opened_at


def write_results(record: RunRecord, out: Path) -> dict[str, Any]:
    """Write the result files of a run into the folder ``out`` and return the summary.

    All files are written beside the old ones first and then renamed over them, so that none is ever half there; other files in the folder
    stay. Raises InputError where ``out`` is, or lies below, a file.
    """
    summary: dict[str, Any] = {}

    def files() -> Iterator[tuple[str, Iterable[str]]]:
        text = _orders_text(record)
        yield "orders.csv", (text,)
        summary.update(summarize(record, orders_sha256=hashlib.sha256(text.encode()).hexdigest()))
        yield from _tables(record)
        yield "ticks.jsonl", (_line_text(line) for line in record.ticks)
        yield "summary.json", (tables.json_text(summary, indent=2), "\n")

    write_files(out, files())
    return summary


def write_files(out: Path, files: Iterable[tuple[str, Iterable[str]]]) -> None:
    """Write files (a name, and the parts of its text) into a folder, all of them whole or none at all, one in memory at a time.

    Raises InputError where the folder cannot be made or written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f"{out}: is a file, expected a folder for the results") from error
    except OSError as error:
        raise InputError(f"{out}: cannot be made a folder for the results ({error.strerror or error})") from error
    try:
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=out) as scratch:
            names = []
            for name, parts in files:
                with (Path(scratch) / name).open("w", encoding="utf8", newline="") as file:
                    file.writelines(parts)
                names.append(name)
            for name in names:
                (Path(scratch) / name).replace(out / name)
    except OSError as error:
        raise InputError(f"{out}: the results cannot be written there ({error.strerror or error})") from error


def summarize(record: RunRecord, orders_sha256: str) -> dict[str, Any]:
    """The content of ``summary.json``; formulas are in ``tickless.metrics``.

    Drawdown and returns count from the start equity to the end equity; daily figures use the start equity and each day's last row.
    """
    start, end = float(record.start_equity), float(record.end_equity)
    rows = np.asarray([float(row.equity) for row in record.equity], dtype=np.float64)
    daily = metrics.daily_equity([to_ms(row.at) for row in record.equity], rows, start)
    deepest = metrics.max_drawdown_frac(np.concatenate(([start], rows, [end])))
    cagr = metrics.cagr_frac(start, end, (record.end - record.start) / timedelta(days=1))
    pnl = [float(trade.pnl) for trade in record.trades]
    traded = math.fsum(float(fill.qty * fill.price) for fill in record.fills)
    return {
        "timerange": timerange_text(record.start, record.end),
        "pairs": list(record.pairs),
        "start_equity": record.start_equity,
        "end_equity": record.end_equity,
        "total_return_frac": metrics.total_return_frac(start, end),
        "cagr_frac": cagr,
        "volatility_ann_frac": metrics.volatility_ann_frac(daily),
        "sharpe": metrics.sharpe(daily),
        "sortino": metrics.sortino(daily),
        "calmar": metrics.calmar(cagr, deepest),
        "max_drawdown_frac": deepest,
        "trades": len(record.trades),
        "win_rate_frac": metrics.win_rate_frac(pnl),
        "profit_factor": metrics.profit_factor(pnl),
        "expectancy": metrics.expectancy(pnl),
        "avg_exposure_frac": metrics.avg_exposure_frac([row.exposure_frac for row in record.equity]),
        "turnover_frac": metrics.turnover_frac(traded, rows),
        "fees_paid": sum((order.fee for order in record.orders), ZERO),
        "ticks": count_ticks(record.ticks),
        "market_return_frac": metrics.market_return_frac(record.market_close),
        "data_sha256": record.data_sha256,
        "settings_sha256": record.settings.sha256(),
        "orders_sha256": orders_sha256,
        "seconds": round(record.seconds, 3),
        "btc_return_frac": _btc_return_frac(record),
        "orders": len(record.orders),
        "fills": len(record.fills),
        **count_models(record.ticks),
        "desk": record.settings.desk.name,
        "stake_currency": record.settings.desk.stake_currency,
        "start": iso(record.start),
        "end": iso(record.end),
        "note": record.note,
    }


def timerange_text(start: datetime, end: datetime) -> str:
    """A timerange as the command line takes it: ``20240601-20240608`` where both ends are midnights, else both times in full."""
    if all((at.hour, at.minute, at.second, at.microsecond) == (0, 0, 0, 0) for at in (start, end)):
        return f"{start:%Y%m%d}-{end:%Y%m%d}"
    return f"{iso(start)}-{iso(end)}"


def count_ticks(ticks: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many ticks each function had: trading functions first, in their order, then the others by name."""
    counts: dict[str, int] = {}
    for line in ticks:
        counts[line["function"]] = counts.get(line["function"], 0) + 1
    rank = {name: n for n, name in enumerate(TRADING_ORDER)}
    return {name: counts[name] for name in sorted(counts, key=lambda name: (rank.get(name, len(rank)), name))}


def count_models(ticks: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """At how many rebalances each model version was used (``models``), and at how many none was (``fallback_rebalances``).

    ``models_refused`` are those that could not be used, by label: in which stage, at how many rebalances, and why at the first of them.
    """
    used: dict[str, int] = {}
    refused: dict[tuple[str, str], dict[str, Any]] = {}
    without = 0
    for line in ticks:
        if line["function"] not in ("feature_rebalance", "full_rebalance"):
            continue
        models = line.get("models") or ()
        labels = [label for label in (models.values() if isinstance(models, Mapping) else models) if label]
        without += not labels
        for label, why in (line.get("models_refused") or {}).items():
            first = {"model": label, "stage": why["stage"], "rebalances": 0, "reason": why["reason"]}
            refused.setdefault((label, why["stage"]), first)["rebalances"] += 1
        for label in labels:
            used[label] = used.get(label, 0) + 1
    return {
        "models": {label: used[label] for label in sorted(used)},
        "fallback_rebalances": without,
        "models_refused": [refused[key] for key in sorted(refused)],
    }


def read_results(folder: Path) -> Results:
    """Read a result folder back; raises DataError naming the file, line and value that cannot be read."""
    if not folder.is_dir():
        raise DataError(f"{folder}: not a result folder")
    return Results(
        folder=folder,
        summary=_read_json(folder / "summary.json"),
        orders=tables.read_orders(folder / "orders.csv"),
        fills=tables.read_fills(folder / "fills.csv"),
        trades=tables.read_trades(folder / "trades.csv"),
        equity=tables.read_equity(folder / "equity.csv"),
        ticks=tuple(read_tick_lines(folder / "ticks.jsonl")),
    )


def read_tick_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of ``ticks.jsonl``; raises DataError naming the line that is not a JSON object."""
    lines = []
    for number, text in enumerate(_read_text(path).removesuffix("\n").split("\n"), start=1):
        if not text and number == 1:
            continue
        try:
            line = json.loads(text)
        except ValueError as error:
            raise DataError(f"{path} line {number}: not JSON ({error})") from error
        if not isinstance(line, dict):
            raise DataError(f"{path} line {number}: not a JSON object")
        lines.append(line)
    return lines


def _orders_text(record: RunRecord) -> str:
    orders = sorted(record.orders, key=lambda order: (order.tick_at, order.client_order_id))
    return tables.csv_text(tables.ORDER_COLUMNS, orders)


def _tables(record: RunRecord) -> Iterator[tuple[str, Iterable[str]]]:
    fills = sorted(record.fills, key=lambda fill: (fill.filled_at, fill.client_order_id))
    yield "fills.csv", (tables.csv_text(tables.FILL_COLUMNS, fills),)
    trades = sorted(record.trades, key=by_close)
    yield "trades.csv", (tables.csv_text(tables.TRADE_COLUMNS, trades),)
    equity = sorted(record.equity, key=lambda row: row.at)
    yield "equity.csv", (tables.csv_text(tables.EQUITY_COLUMNS, equity),)


def _line_text(line: Mapping[str, Any]) -> str:
    try:
        return f"{_LINES.encode(line)}\n"
    except ValueError:
        # NaN has no place in JSON, and a forecast that is missing is no error: it is written as null.
        return f"{_LINES.encode(_finite(line))}\n"


def _as_json(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, np.generic):
        return _finite(value.item())
    raise TypeError(f"a tick line holds {value!r}, which JSON cannot")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


_LINES = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_as_json)


def _sorted(value: Any) -> Any:
    return {key: value[key] for key in sorted(value)} if isinstance(value, Mapping) and value else value


def _btc_return_frac(record: RunRecord) -> float | None:
    window = record.market_window
    column = next((n for n, pair in enumerate(window.pairs) if pair.startswith("BTC/")), None)
    if column is None or not window.rows or np.isnan(window.close[0, column]):
        return None
    return metrics.market_return_frac(record.market_close[:, column : column + 1])


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(_read_text(path), parse_float=Decimal)
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error})") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: not a JSON object")
    return value
