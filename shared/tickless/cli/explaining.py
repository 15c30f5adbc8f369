"""``tickless why PAIR``: what the desk decided of a pair at its latest ticks, and why, from the traces that every tick leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tickless.cli.deployed import Stage, find_desk
from tickless.cli.operating import plain, refuse_no_pair, same_pair, settings_of
from tickless.cli.options import Json
from tickless.cli.printing import print_json, print_table
from tickless.errors import SettingsError
from tickless.types import Order, Tick, iso

if TYPE_CHECKING:
    from tickless.ports import Trace
    from tickless.settings import Calendar

NUMBERS = ("score", "net", "confidence", "target", "held")
"""What a rebalance or scan tells of a pair, as far as it has it; fractions, of equity where they are holdings."""


def why(
    pair: Annotated[str, typer.Argument(help="A pair, such as BTC/USDT.")],
    stage: Stage = "dev",
    last: Annotated[int, typer.Option("--last", min=1, max=1000, help="How many ticks that spoke of the pair, the latest.")] = 5,
    hours: Annotated[int, typer.Option("--hours", min=1, max=24 * 30, help="How far to look back from the last tick.")] = 48,
    json_: Json = False,
) -> None:
    """Show what the desk decided of a pair at its latest ticks, and why; oldest first, with the orders that came of it.

    A risk check speaks of what is held, a rebalance or scan of every pair that it saw.

    Example: tickless why BTC/USDT --last 10
    """
    refuse_no_pair(pair, "pair")
    desk = find_desk(stage)
    state = desk.cloud.ledger.load()
    settings, _ = settings_of(desk, state)
    if settings is None:
        raise SettingsError("parameters: cannot be read as settings, so nobody knows when the desk's ticks were; `tickless params show`")
    entries: list[dict[str, Any]] = []
    if state is not None and state.last_tick_at is not None:
        entries = list(islice(_entries(pair, desk.cloud.trace, settings.calendar, state.last_tick_at, hours), last))[::-1]
    if any(entry["action"] in ("buy", "sell") for entry in entries):
        _add_orders(entries, [order for order in desk.cloud.ledger.orders() if same_pair(pair, order.pair)])
    if json_:
        print_json(entries)
    elif not entries:
        typer.echo(f"no tick of the last {hours} h spoke of {pair}")
    else:
        print_table(f"{pair.upper()} on {stage}", ("tick", "regime", "limits", "action", "reason", "numbers", "orders"), _rows(entries))


def _entries(pair: str, trace: Trace, calendar: Calendar, until: datetime, hours: int) -> Iterator[dict[str, Any]]:
    """What each tick said of the pair, latest first."""
    for tick in _ticks_before(calendar, until, hours):
        content = trace.read(tick)
        pairs = (content or {}).get("pairs", {})
        told = pairs.get(pair) or next((pairs[name] for name in pairs if same_pair(pair, name)), None)
        if content is not None and told is not None:
            limits = [*content.get("limits", ()), *([content["reduce_only"]] if content.get("reduce_only") else ())]
            head = {"at": iso(tick.scheduled_at), "tick": tick.id, "regime": content.get("regime"), "limits": limits}
            yield {**head, **told, "orders": []}


def _ticks_before(calendar: Calendar, until: datetime, hours: int) -> Iterator[Tick]:
    """The trading ticks that were due up to ``until``, latest first."""
    for minutes in range(hours * 60):
        yield from reversed(calendar.due_at(until - timedelta(minutes=minutes)))


def _add_orders(entries: Sequence[dict[str, Any]], orders: Sequence[Order]) -> None:
    """Put every order of the pair with the tick that made it: several strategies may tick in one minute, but only one trades a pair."""
    for entry in entries:
        if entry["action"] in ("buy", "sell"):
            names = ("client_order_id", "side", "qty", "status", "filled_qty", "avg_price", "reason")
            made = [order for order in orders if iso(order.tick_at) == entry["at"] and order.side == entry["action"]]
            entry["orders"] = [{name: plain(getattr(order, name)) for name in names} for order in made]


def _rows(entries: Sequence[Mapping[str, Any]]) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for entry in entries:
        numbers = " ".join(f"{name} {entry[name]:.4g}" for name in NUMBERS if isinstance(entry.get(name), int | float))
        orders = "; ".join(f"{order['side']} {order['qty']} {order['status']}" for order in entry["orders"])
        rows.append((entry["tick"], entry["regime"], ", ".join(entry["limits"]), entry["action"], entry["reason"], numbers, orders))
    return rows
