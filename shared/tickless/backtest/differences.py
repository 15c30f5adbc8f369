"""Where two computations of the same ticks differ: tables, views and finished runs, value by value, bit for bit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tickless.backtest.results import RunRecord
from tickless.backtest.tables import EQUITY_COLUMNS, FILL_COLUMNS, ORDER_COLUMNS, TRADE_COLUMNS
from tickless.runs.market_history import History
from tickless.strategies.view import MarketView
from tickless.types import from_ms, parse_time

DECIDED = tuple(name for name in ORDER_COLUMNS if name not in {"status", "filled_qty", "avg_price", "fee"})
"""What of an order is known when it is sent; the rest comes later, and the fills tell it."""
ABSENT = "absent"


class Found(NamedTuple):
    """One value that differs."""

    at: datetime
    """The tick, or the close of the bar to which the row belongs."""
    pair: str
    """Empty where the value is no pair's."""
    field: str
    first: object
    second: object


def compare_tables(first: History, second: History) -> Iterator[Found]:
    """For each column that the histories computed, the first row in which they differ, as far as ``second`` reaches.

    Both begin at the same bar. NaN equals NaN, and nothing else is rounded away.
    """
    columns, others = second.columns(), first.columns()
    closes_ms = second.table_start_ms + second.step_ms
    for name, column in columns.items():
        a, b = others[name][: len(column)], column
        if b.ndim == 1:
            yield from _first_cell(a[:, None], b[:, None], name, ("",), closes_ms, second.step_ms)
        else:
            yield from _first_cell(a, b, name, second.pairs, closes_ms, second.step_ms)


def compare_views(first: MarketView, second: MarketView) -> Iterator[Found]:
    """For each field of a view the first pair at which the two differ."""
    columns: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {
        "close": (first.close, second.close),
        **{name: (first.feature(name), second.feature(name)) for name in second.feature_names},
        "tier": (first.tiers, second.tiers),
        "ineligible": (np.array(first.ineligible, dtype=object), np.array(second.ineligible, dtype=object)),
        **{f"forecast {name}": (first.forecasts[name], second.forecasts[name]) for name in first.forecasts if name in second.forecasts},
    }
    for name, (a, b) in columns.items():
        for n in np.flatnonzero(_differ(a, b))[:1]:
            yield Found(first.at, first.pairs[n], name, a[n], b[n])
    for name in ("name", "volatility", "volatility_ann_frac", "breadth_frac"):
        x, y = getattr(first.regime, name), getattr(second.regime, name)
        if not _same(x, y):
            yield Found(first.at, "", {"name": "regime", "volatility": "volatility_regime"}.get(name, name), x, y)
    if dict(first.models) != dict(second.models):
        yield Found(first.at, "", "models", dict(first.models), dict(second.models))
    if first.size_frac != second.size_frac:
        yield Found(first.at, "", "size_frac", first.size_frac, second.size_frac)


def compare_runs(first: RunRecord, second: RunRecord, until: datetime) -> Iterator[Found]:
    """Where two runs first differ in what they did up to ``until``, that tick included: one finding for each kind of row, at most."""
    yield from _first_line(_until(first.ticks, until), _until(second.ticks, until))
    kinds = {
        "orders": (DECIDED, "tick_at"),
        "fills": (FILL_COLUMNS, "filled_at"),
        "trades": (TRADE_COLUMNS, "closed_at"),
        "equity": (EQUITY_COLUMNS, "at"),
    }
    for kind, (columns, time) in kinds.items():
        rows = [[row for row in getattr(run, kind) if getattr(row, time) <= until] for run in (first, second)]
        yield from _first_row(kind, columns, time, *rows)


def count_rows(run: RunRecord, until: datetime) -> dict[str, int]:
    """How many rows of each kind ``compare_runs`` looks at."""
    return {
        "tick_lines": len(_until(run.ticks, until)),
        "orders": sum(order.tick_at <= until for order in run.orders),
        "fills": sum(fill.filled_at <= until for fill in run.fills),
        "equity_rows": sum(row.at <= until for row in run.equity),
    }


def first_of_each(found: Iterable[Found]) -> list[Found]:
    """The earliest finding of each field, in order of time; of one time, in the order in which they came."""
    earliest: dict[str, Found] = {}
    for one in found:
        if one.field not in earliest or one.at < earliest[one.field].at:
            earliest[one.field] = one
    return sorted(earliest.values(), key=lambda one: one.at)


def _first_cell(a: NDArray[Any], b: NDArray[Any], name: str, pairs: Sequence[str], first_ms: int, step_ms: int) -> Iterator[Found]:
    differ = _differ(a, b)
    if differ.any():
        t, n = np.unravel_index(int(differ.argmax()), differ.shape)
        yield Found(from_ms(first_ms + int(t) * step_ms), pairs[int(n)], name, a[t, n], b[t, n])


def _differ(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.bool_]:
    """Where two arrays of one shape differ in a bit; NaN equals NaN."""
    if a.dtype != np.float64:
        return np.asarray(a != b)
    bits = np.ascontiguousarray(a).view(np.int64) != np.ascontiguousarray(b).view(np.int64)
    return np.asarray(bits & ~(np.isnan(a) & np.isnan(b)))


def _same(x: Any, y: Any) -> bool:
    return bool(x == y) or (isinstance(x, float) and isinstance(y, float) and math.isnan(x) and math.isnan(y))


def _until(lines: Iterable[Mapping[str, Any]], until: datetime) -> list[Mapping[str, Any]]:
    return [line for line in lines if parse_time(line["at"]) <= until]


def _first_line(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> Iterator[Found]:
    nothing: Mapping[str, Any] = {}
    for a, b in zip_longest(first, second, fillvalue=nothing):
        if a == b:
            continue
        at = parse_time((a or b)["at"])
        key = next(key for key in {**a, **b} if a.get(key, ABSENT) != b.get(key, ABSENT))
        x, y = a.get(key, ABSENT), b.get(key, ABSENT)
        if key == "pairs" and isinstance(x, Mapping) and isinstance(y, Mapping):
            pair = next(pair for pair in {**x, **y} if x.get(pair, ABSENT) != y.get(pair, ABSENT))
            yield Found(at, pair, "tick line", x.get(pair, ABSENT), y.get(pair, ABSENT))
        else:
            yield Found(at, "", f"tick line: {key}", x, y)
        return


def _first_row(kind: str, columns: Sequence[str], time: str, first: Sequence[Any], second: Sequence[Any]) -> Iterator[Found]:
    for a, b in zip_longest(first, second):
        row = b if a is None else a
        at, pair = getattr(row, time), getattr(row, "pair", "")
        if a is None or b is None:
            yield Found(at, pair, kind, ABSENT if a is None else "a row", ABSENT if b is None else "a row")
            return
        for column in columns:
            x, y = getattr(a, column), getattr(b, column)
            if x != y:
                yield Found(at, pair, f"{kind}: {column}", x, y)
                return
