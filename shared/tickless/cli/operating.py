"""``tickless status``, ``positions``, ``orders``, ``trades``: look at a deployed desk. Takes no lease and shows the ledger as it is."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tickless.cli.accounts import account_line, desk_section
from tickless.cli.clock import desk_clock
from tickless.cli.deployed import DeployedDesk, Stage, find_desk
from tickless.cli.options import Json
from tickless.cli.printing import note, percent, print_json, print_table
from tickless.errors import InputError, SettingsError
from tickless.settings import SCAN, STRATEGY_SECTIONS, TRADING_ORDER, ScanSection, Settings
from tickless.types import Accept, DeskState, Flatten, Halt, Order, OrderStatus, Reducing, Tick, TickRecord, Trade, iso

if TYPE_CHECKING:
    from tickless.ports import Ledger

OVERDUE_PERIODS = 2
"""A desk without a tick for so many risk checks is overdue."""

Last = Annotated[int, typer.Option("--last", min=1, max=100_000, help="How many, the latest.")]
Pair = Annotated[str | None, typer.Option("--pair", help="Only this pair, such as BTC/USDT.")]


def status(stage: Stage = "dev", json_: Json = False) -> None:
    """Show the desk at a glance: active, reducing or halted, last tick, equity, positions, orders, regime, refused parameters.

    Example: tickless status --stage prod
    """
    desk = find_desk(stage)
    state = desk.cloud.ledger.load()
    settings, refused = settings_of(desk, state)
    facts: dict[str, Any] = {"stage": stage, "state": "NEVER RUN", "refused_parameters": list(refused), **_account_facts(settings, state)}
    if state is not None:
        facts |= _facts(state, _last_record(desk.cloud.ledger, state), settings, desk_clock().now())
    if json_:
        print_json(facts)
        return
    print_table(f"tickless {stage}", ("what", "now"), _status_rows(facts, settings))
    for sentence in refused:
        note(f"refused by the desk, which keeps its last good value: {sentence}")


def positions(
    stage: Stage = "dev",
    wide: Annotated[bool, typer.Option("--wide", help="All that is known of each; --json has it too.")] = False,
    json_: Json = False,
) -> None:
    """Show every position: what it cost, what it is worth at the last close the desk saw, and where its stop is.

    Example: tickless positions --stage dev
    """
    state = find_desk(stage).cloud.ledger.load()
    held = [] if state is None else [_position_row(state, pair) for pair in sorted(state.positions)]
    shown = held if wide or json_ else _in_short(held)
    _print_rows(f"positions of {stage}", shown, json_=json_, empty="no position")


def orders(
    stage: Stage = "dev",
    last: Last = 20,
    only_open: Annotated[bool, typer.Option("--open", help="Only orders that may still fill.")] = False,
    pair: Pair = None,
    json_: Json = False,
) -> None:
    """Show the latest orders, oldest first.

    Example: tickless orders --last 50 --pair BTC/USDT
    """
    refuse_no_pair(pair, "--pair")
    ledger = find_desk(stage).cloud.ledger
    state = ledger.load() if only_open else None
    found: Iterable[Order] = ledger.orders()
    if only_open:
        found = sorted(state.orders.values(), key=lambda order: (order.tick_at, order.client_order_id)) if state else []
    rows = deque((_order_row(order) for order in _oldest_first(found) if pair is None or same_pair(pair, order.pair)), last)
    _print_rows(f"orders of {stage}", rows, json_=json_, empty="no order")


def trades(stage: Stage = "dev", last: Last = 20, pair: Pair = None, json_: Json = False) -> None:
    """Show the latest closed trades, oldest first.

    Example: tickless trades --last 50 --json
    """
    refuse_no_pair(pair, "--pair")
    found = find_desk(stage).cloud.ledger.trades()
    rows = deque((_trade_row(trade) for trade in found if pair is None or same_pair(pair, trade.pair)), last)
    _print_rows(f"trades of {stage}", rows, json_=json_, empty="no closed trade")


def refuse_no_pair(text: str | None, name: str) -> None:
    """Raise InputError for a text that is no pair's name: nothing is ever found under it."""
    if text is not None and "/" not in text:
        raise InputError(f"{name} {text!r}: expected base and quote, such as BTC/USDT")


def same_pair(text: str, pair: str) -> bool:
    """Whether a person means the pair, in capital letters or small ones."""
    return text.casefold() == pair.casefold()


def _oldest_first(orders: Iterable[Order]) -> Iterator[Order]:
    """Orders by time and id as they come, the stops of a tick behind the orders whose positions they protect."""
    for _, of_tick in groupby(orders, key=lambda order: order.tick_at):
        yield from sorted(of_tick, key=lambda order: order.protects)


def settings_of(desk: DeployedDesk, state: DeskState | None) -> tuple[Settings | None, tuple[str, ...]]:
    """The settings that the next tick would use, and why sections were refused; no settings where it could not run at all."""
    from tickless.runs.parameters import resolve_settings

    try:
        good, may_move = (state.settings, state.may_move) if state is not None else ({}, False)
        loaded = resolve_settings(desk.cloud.parameters.read(), good, may_move=may_move)
    except SettingsError as error:
        return None, (str(error),)
    return loaded.settings, loaded.refused


def _last_record(ledger: Ledger, state: DeskState) -> TickRecord | None:
    """The record of the last trading tick: one read for each tick that may have been due in its minute."""
    if state.last_tick_at is None:
        return None
    scans = [
        name for name, section in STRATEGY_SECTIONS.items() if issubclass(section, ScanSection) and f"strategy.{name}" in state.settings
    ]
    names = [(function, strategy) for function in TRADING_ORDER for strategy in (sorted(scans) if function == SCAN else [""])]
    records = (ledger.tick(Tick(state.last_tick_at, *name)) for name in reversed(names))
    return next((record for record in records if record is not None), None)


def _facts(state: DeskState, record: TickRecord | None, settings: Settings | None, now: datetime) -> dict[str, Any]:
    from tickless.execution.rounding import exact, money
    from tickless.pipeline import portfolio_value
    from tickless.risk.drawdown import drawdown_frac

    equity = portfolio_value(state, {})
    age_min = None if state.last_tick_at is None else round((now - state.last_tick_at).total_seconds() / 60, 1)
    every = settings.schedule.risk_check_every_min if settings is not None else 15
    return {
        **_mode_facts(state),
        "last_tick": record.tick.id if record else None,
        "last_tick_status": record.status if record else None,
        "last_tick_age_min": age_min,
        "overdue": age_min is None or age_min > OVERDUE_PERIODS * every,
        "equity": plain(money(exact(equity))),
        "cash": plain(state.cash),
        "peak_equity": plain(state.peak_equity),
        "funding": None if state.funding is None else plain(state.funding.total),
        "drawdown_frac": drawdown_frac(equity, float(state.peak_equity)),
        "positions": len(state.positions),
        "open_orders": len(state.orders),
        "unknown_orders": sorted(order.client_order_id for order in state.orders.values() if order.status is OrderStatus.UNKNOWN),
        "external": {asset: plain(qty) for asset, qty in sorted(state.external.items())},
        "blocked_pairs": sorted(state.blocked),
        "quarantined_pairs": dict(sorted(state.quarantined.items())),
        "stops_on_exchange": sorted({order.pair for order in state.orders.values() if order.protects}),
        "stops_not_on_exchange": dict(sorted(state.unprotected.items())),
        "risk_check_every_min": every,
        "regime": state.regime,
        "regime_at": iso(state.regime_at) if state.regime_at else None,
        "models": dict(record.summary.get("models", {})) if record else {},
    }


def _account_facts(settings: Settings | None, state: DeskState | None) -> dict[str, Any]:
    """Whether the money is real, where it lies, and where the desk moves at its next tick; unknown where the settings cannot be read."""
    names = ("mode", "exchange", "market_type", "sandbox")
    wanted = settings.desk if settings is not None else None
    ledgers = desk_section(state.settings) if state is not None else None
    moves = wanted is not None and ledgers is not None and bool(wanted.other_account(ledgers))
    facts = {name: getattr(ledgers if moves else wanted, name, None) for name in names}
    return facts | {"moves_to": {name: getattr(wanted, name) for name in names} if moves else None}


def _account_text(facts: Mapping[str, Any]) -> str:
    here = account_line(**{name: facts[name] for name in ("mode", "exchange", "market_type", "sandbox")})
    return f"{here}; moves to {account_line(**facts['moves_to'])} at its next tick" if facts["moves_to"] else here


def _mode_facts(state: DeskState) -> dict[str, Any]:
    """Active, reducing or halted, and everything that a person or the exchange has made of it: since when, and why."""
    named = {"halt": ("halted_since", "halt_reason"), "reducing": ("reducing_since", "reducing_reason")}
    named |= {"flatten": ("flatten_since", "flatten_reason"), "accept": ("accept_since", "accept_reason")}
    facts: dict[str, Any] = {"state": state.mode}
    for name, (since, why) in named.items():
        found: Halt | Reducing | Flatten | Accept | None = getattr(state, name)
        facts |= {since: iso(found.since) if found else None, why: found.reason if found else None}
    return facts


def _mode_rows(facts: Mapping[str, Any]) -> list[tuple[str, object]]:
    """The mode in a line, and what else holds at the same time in lines of its own."""
    reasons = {
        "HALTED": ("halted", facts["halted_since"], facts["halt_reason"]),
        "REDUCING": ("reducing", facts["reducing_since"], facts["reducing_reason"]),
        "FLATTEN": ("flattening", facts["flatten_since"], facts["flatten_reason"]),
        "ACCEPT": ("accepting the exchange", facts["accept_since"], facts["accept_reason"]),
    }
    own = reasons.pop(facts["state"], None)
    rows: list[tuple[str, object]] = [("state", f"{facts['state']} since {own[1]}: {own[2]}" if own else facts["state"])]
    return rows + [(name, f"since {since}: {why}") for name, since, why in reasons.values() if since]


def _status_rows(facts: Mapping[str, Any], settings: Settings | None) -> list[tuple[str, object]]:
    mode: list[tuple[str, object]] = [("mode", _account_text(facts))] if settings is not None else []
    if facts["state"] == "NEVER RUN":
        return [("state", "has never run; its first tick makes its state"), *mode]
    money = settings.desk.stake_currency if settings is not None else ""
    age = f", {_ago(facts['last_tick_age_min'])}{', OVERDUE' if facts['overdue'] else ''}" if facts["last_tick"] else ""
    rows: list[tuple[str, object]] = [
        *_mode_rows(facts),
        ("last tick", f"{facts['last_tick']} ({facts['last_tick_status']}){age}" if facts["last_tick"] else None),
        ("equity", f"{amount(facts['equity'])} {money}, {amount(facts['cash'])} of it cash"),
        *([("funding so far", f"{amount(facts['funding'])} {money}")] if facts["funding"] is not None else []),
        ("drawdown", f"{percent(facts['drawdown_frac'])} from {amount(facts['peak_equity'])}"),
        ("positions", facts["positions"]),
        ("open orders", facts["open_orders"]),
        ("of unknown outcome", ", ".join(facts["unknown_orders"]) or "none"),
        ("held beyond the ledger", ", ".join(f"{qty} {asset}" for asset, qty in facts["external"].items()) or "nothing"),
        ("blocked pairs", ", ".join(facts["blocked_pairs"]) or "none"),
        ("market closed", ", ".join(f"{pair} since {since}" for pair, since in facts["quarantined_pairs"].items()) or "none"),
        ("stops", _stops_text(facts)),
        ("regime", f"{facts['regime']}, as of {facts['regime_at']}" if facts["regime_at"] else f"{facts['regime']}, not seen yet"),
        ("models", ", ".join(f"{name} {version}" for name, version in facts["models"].items()) or "none used at the last tick"),
        ("refused parameters", len(facts["refused_parameters"]) or "none"),
    ]
    return rows[:1] + mode + rows[1:]


def _position_row(state: DeskState, pair: str) -> dict[str, Any]:
    position, mark = state.positions[pair], state.marks.get(pair)
    resting = [order.stop_price for order in state.orders.values() if order.protects and order.pair == pair]
    price = float(position.entry_price) if mark is None else mark
    value = float(position.qty) * price
    gain = value - float(position.qty * position.entry_price)
    return {
        "pair": position.pair,
        "qty": position.qty,
        "entry_price": _short(position.entry_price),
        "last_close": mark,
        "value": round(value, 2),
        "open_pnl": round(gain, 2),
        "open_pnl_frac": round(price / float(position.entry_price) - 1.0, 6),
        "stop_price": position.stop.stop_price,
        "stop_kind": position.stop.kind if position.stop.stop_price is not None else None,
        "opened_at": position.opened_at,
        "enter_tag": position.enter_tag,
        "strategy": position.strategy,
        "quarantined_since": state.quarantined.get(pair),
        "stop_on_exchange": max((level for level in resting if level is not None), default=None),
        "not_on_exchange": state.unprotected.get(pair),
    }


_ALWAYS = ("pair", "qty", "entry_price", "last_close", "value", "open_pnl", "pnl_of_cost", "stop_price")
_WHERE_ANY = ("stop_on_exchange", "quarantined_since", "not_on_exchange")


def _in_short(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What fits a terminal: the money and the stop, and what some position has that is not as usual."""
    names = [*_ALWAYS, *(name for name in _WHERE_ANY if any(row[name] is not None for row in rows))]
    told = [{**row, "pnl_of_cost": percent(row["open_pnl_frac"])} for row in rows]
    return [{name: row[name] for name in names} for row in told]


def _stops_text(facts: Mapping[str, Any]) -> str:
    """Who watches the positions: the exchange, or the desk alone at every risk check."""
    resting, without = facts["stops_on_exchange"], facts["stops_not_on_exchange"]
    desk = f"desk, every {facts['risk_check_every_min']} min"
    if not resting and not without:
        return desk
    texts = [f"on exchange: {', '.join(resting)}"] if resting else []
    return "; ".join([*texts, *(f"{pair}: {desk} ({why})" for pair, why in without.items())])


def _order_row(order: Order) -> dict[str, Any]:
    names = (
        "tick_at",
        "pair",
        "side",
        "type",
        "qty",
        "limit_price",
        "stop_price",
        "status",
        "filled_qty",
        "avg_price",
        "fee",
        "reason",
        "client_order_id",
    )
    row = {name: getattr(order, name) for name in names}
    return row | {"avg_price": None if order.avg_price is None else _short(order.avg_price)}


def _trade_row(trade: Trade) -> dict[str, Any]:
    row = asdict(trade)
    del row["trade_id"], row["side"]
    return row | {name: _short(row[name]) for name in ("open_price", "close_price", "pnl_frac")}


def _short(value: Decimal) -> Decimal:
    """Ten significant digits of an average: enough for people; the result files keep them all."""
    return Decimal(f"{value:.10g}")


def _print_rows(title: str, rows: Iterable[Mapping[str, Any]], *, json_: bool, empty: str) -> None:
    told = [{name: plain(value) for name, value in row.items()} for row in rows]
    if json_:
        print_json(told)
    elif not told:
        typer.echo(empty)
    else:
        numbers = tuple(name for name in told[0] if any(part in name for part in ("qty", "price", "value", "pnl", "fee", "close")))
        cells = [tuple(plain(Decimal(f"{cell:.8g}")) if isinstance(cell, float) else cell for cell in row.values()) for row in told]
        # Long names wrap between their words, not within.
        heads = {name: name.replace("_", " ") for name in told[0]}
        print_table(title, tuple(heads.values()), cells, right=[heads[name] for name in numbers])


def plain(value: Any) -> Any:
    """Money as plain decimals in text, times as ISO 8601; other values as they are."""
    if isinstance(value, Decimal):
        text = format(value, "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    if isinstance(value, datetime):
        return iso(value)
    return value.value if isinstance(value, StrEnum) else value


def _ago(minutes: float) -> str:
    if minutes < 120:
        return f"{minutes:.0f} min ago"
    return f"{minutes / 60:.1f} h ago" if minutes < 2 * 24 * 60 else f"{minutes / 24 / 60:.1f} days ago"


def amount(text: str) -> str:
    return f"{Decimal(text):,.2f}"
