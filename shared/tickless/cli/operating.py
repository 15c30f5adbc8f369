"""``tickless status``, ``positions``, ``orders``, ``trades``, ``halt``, ``resume``: operate a deployed desk.

Reading takes no lease and shows the ledger as it is. ``halt`` and ``resume`` write under the desk's lease, with its next fencing number,
like a tick does: a tick that runs just now is waited for, and one that was abandoned can write nothing afterwards.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tickless.cli.deployed import DeployedDesk, Stage, find_desk
from tickless.cli.options import Json
from tickless.cli.printing import note, percent, print_json, print_table
from tickless.errors import InputError, LeaseHeldError, SettingsError
from tickless.settings import SCAN, STRATEGY_SECTIONS, TRADING_ORDER, ScanSection, Settings
from tickless.types import DeskState, Halt, LedgerUpdate, Order, Position, Tick, TickRecord, Trade, iso

if TYPE_CHECKING:
    from tickless.ports import Clock, Fence, Ledger

LEASE_TTL_S = 60
"""``halt`` and ``resume`` take a second; a lease they leave behind may be taken over after this long."""
LEASE_WAIT_S = 300
"""Longer than any lease of a tick by default: a tick that runs is waited for."""
POLL_S = 1.0
OVERDUE_PERIODS = 2
"""A desk without a tick for so many risk checks is overdue."""

Last = Annotated[int, typer.Option("--last", min=1, max=100_000, help="How many, the latest.")]
Pair = Annotated[str | None, typer.Option("--pair", help="Only this pair, such as BTC/USDT.")]


def status(stage: Stage = "dev", json_: Json = False) -> None:
    """Show the desk at a glance: active or halted, last tick, equity, drawdown, positions, open orders, regime, refused parameters.

    Example: tickless status --stage prod
    """
    desk = find_desk(stage)
    state = desk.cloud.ledger.load()
    settings, refused = _settings(desk, state)
    facts: dict[str, Any] = {"stage": stage, "state": "NEVER RUN", "refused_parameters": list(refused)}
    if state is not None:
        facts |= _facts(state, _last_record(desk.cloud.ledger, state), settings, datetime.now(UTC))
    if json_:
        print_json(facts)
        return
    print_table(f"tickless {stage}", ("what", "now"), _status_rows(facts, settings))
    for sentence in refused:
        note(f"refused by the desk, which keeps its last good value: {sentence}")


def positions(stage: Stage = "dev", json_: Json = False) -> None:
    """Show every position: what it cost, what it is worth at the last close the desk saw, and where its stop is.

    Example: tickless positions --stage dev
    """
    state = find_desk(stage).cloud.ledger.load()
    held = [] if state is None else [_position_row(state.positions[pair], state.marks.get(pair)) for pair in sorted(state.positions)]
    _print_rows(f"positions of {stage}", held, json_=json_, empty="no position")


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
    ledger = find_desk(stage).cloud.ledger
    state = ledger.load() if only_open else None
    found: Iterable[Order] = ledger.orders()
    if only_open:
        found = sorted(state.orders.values(), key=lambda order: (order.tick_at, order.client_order_id)) if state else []
    rows = deque((_order_row(order) for order in found if pair in (None, order.pair)), last)
    _print_rows(f"orders of {stage}", rows, json_=json_, empty="no order")


def trades(stage: Stage = "dev", last: Last = 20, pair: Pair = None, json_: Json = False) -> None:
    """Show the latest closed trades, oldest first.

    Example: tickless trades --last 50 --json
    """
    found = find_desk(stage).cloud.ledger.trades()
    rows = deque((_trade_row(trade) for trade in found if pair in (None, trade.pair)), last)
    _print_rows(f"trades of {stage}", rows, json_=json_, empty="no closed trade")


def halt(
    reason: Annotated[str, typer.Option("--reason", help="Why; shown by status and in the log of every tick.")],
    stage: Stage = "dev",
    json_: Json = False,
) -> None:
    """Stop the desk from buying, from the next tick on. Positions stay, stops and exits go on; `tickless resume` ends it.

    Example: tickless halt --reason "exchange maintenance at noon"
    """
    if not reason.strip():
        raise InputError("--reason: must say why")
    from tickless.adapters.system_clock import SystemClock

    halted, before = halt_desk(find_desk(stage).cloud.ledger, SystemClock(), reason.strip())
    content = {"stage": stage, "state": "HALTED", "since": iso(halted.since), "reason": halted.reason, "already_halted": before}
    text = f"{stage} is halted {'already, ' if before else ''}since {iso(halted.since)}: {halted.reason}"
    _print_outcome(content, text, json_=json_)


def resume(
    stage: Stage = "dev",
    reset_peak: Annotated[
        bool | None,
        typer.Option(
            "--reset-peak/--keep-peak",
            help="Count drawdown from the present equity, or from the old peak; without either, as needed.",
            show_default=False,
        ),
    ] = None,
    json_: Json = False,
) -> None:
    """Let a halted desk buy again.

    Drawdown is counted from the peak of equity. Where it is as deep as the kill switch, the next risk check would halt the desk again, so
    the peak is set to the present equity; --keep-peak leaves it, --reset-peak sets it in any case.

    Example: tickless resume --stage dev --keep-peak
    """
    from tickless.adapters.system_clock import SystemClock

    content = resume_desk(find_desk(stage), SystemClock(), reset_peak)
    if not content["was_halted"]:
        text = f"{stage} is not halted; nothing was changed"
    else:
        text = f"{stage} is active again (was halted since {content['halted_since']}: {content['halt_reason']})"
    if content["peak_before"] != content["peak_equity"]:
        text += (
            f"\npeak equity {_amount(content['peak_before'])} → {_amount(content['peak_equity'])}: the drawdown of "
            f"{percent(content['drawdown_before_frac'])} is forgotten; its scaling and the kill switch count from here"
        )
    _print_outcome({"stage": stage, "state": "ACTIVE", **content}, text, json_=json_)
    if content["halts_again"]:
        note(f"drawdown {percent(content['drawdown_frac'])} is still at the kill switch: the next risk check halts the desk again")


def halt_desk(ledger: Ledger, clock: Clock, reason: str) -> tuple[Halt, bool]:
    """Halt a desk; returns the halt in force and whether it was there before (it then stays as it is).

    Raises InputError for a desk that has never run, LeaseHeldError where a tick does not finish in time.
    """
    with _leased(ledger, clock, "halt by a person") as (fence, state):
        if state.halt is not None:
            return state.halt, True
        halted = Halt(reason, clock.now().replace(microsecond=0))
        ledger.journal(fence, [LedgerUpdate(desk=replace(state, halt=halted))])
        return halted, False


def resume_desk(desk: DeployedDesk, clock: Clock, reset_peak: bool | None) -> dict[str, Any]:
    """Resume a desk; returns what was and what is. ``reset_peak`` None: only where the kill switch would halt it again at once.

    A desk that is not halted is left as it is. Raises as ``halt_desk`` does, and SettingsError where no kill switch can be read.
    """
    from tickless.execution.rounding import exact, money
    from tickless.pipeline import portfolio_value
    from tickless.risk.drawdown import drawdown_frac, kill_switch_trips

    ledger = desk.cloud.ledger
    with _leased(ledger, clock, "resume by a person") as (fence, state):
        settings, _ = _settings(desk, state)
        if settings is None:
            raise SettingsError("parameters: cannot be read as settings, so nobody knows the kill switch; `tickless params show` says why")
        equity = portfolio_value(state, {})
        before = drawdown_frac(equity, float(state.peak_equity))
        trips = kill_switch_trips(before, settings.risk)
        reset = state.halt is not None and (trips if reset_peak is None else reset_peak)
        peak = money(exact(equity)) if reset else state.peak_equity
        if state.halt is not None:
            ledger.journal(fence, [LedgerUpdate(desk=replace(state, halt=None, peak_equity=peak))])
    return {
        "was_halted": state.halt is not None,
        "halted_since": iso(state.halt.since) if state.halt else None,
        "halt_reason": state.halt.reason if state.halt else None,
        "equity": _plain(money(exact(equity))),
        "peak_before": _plain(state.peak_equity),
        "peak_equity": _plain(peak),
        "drawdown_before_frac": before,
        "drawdown_frac": drawdown_frac(equity, float(peak)),
        "halts_again": trips and not reset,
    }


@contextmanager
def _leased(ledger: Ledger, clock: Clock, owner: str) -> Iterator[tuple[Fence, DeskState]]:
    """The desk's lease and its state read under it."""
    fence = _acquire(ledger, clock, owner)
    try:
        state = ledger.load()
        if state is None:
            raise InputError("the desk has never run: there is no state to change; its first tick makes it")
        yield fence, state
    finally:
        ledger.release(fence)


def _acquire(ledger: Ledger, clock: Clock, owner: str) -> Fence:
    deadline = clock.now() + timedelta(seconds=LEASE_WAIT_S)
    waiting = False
    while True:
        now = clock.now()
        try:
            return ledger.acquire(owner, now, LEASE_TTL_S)
        except LeaseHeldError as error:
            if now >= deadline:
                raise
            if not waiting:
                note(f"waiting for the tick that runs: {error}")
            waiting = True
            clock.sleep(POLL_S)


def _settings(desk: DeployedDesk, state: DeskState | None) -> tuple[Settings | None, tuple[str, ...]]:
    """The settings that the next tick would use, and why sections were refused; no settings where it could not run at all."""
    from tickless.runs.parameters import resolve_settings

    try:
        loaded = resolve_settings(desk.cloud.parameters.read(), state.settings if state is not None else {})
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
        "state": "ACTIVE" if state.halt is None else "HALTED",
        "halted_since": iso(state.halt.since) if state.halt else None,
        "halt_reason": state.halt.reason if state.halt else None,
        "last_tick": record.tick.id if record else None,
        "last_tick_status": record.status if record else None,
        "last_tick_age_min": age_min,
        "overdue": age_min is None or age_min > OVERDUE_PERIODS * every,
        "equity": _plain(money(exact(equity))),
        "cash": _plain(state.cash),
        "peak_equity": _plain(state.peak_equity),
        "drawdown_frac": drawdown_frac(equity, float(state.peak_equity)),
        "positions": len(state.positions),
        "open_orders": len(state.orders),
        "blocked_pairs": sorted(state.blocked),
        "regime": state.regime,
        "regime_at": iso(state.regime_at) if state.regime_at else None,
        "models": dict(record.summary.get("models", {})) if record else {},
    }


def _status_rows(facts: Mapping[str, Any], settings: Settings | None) -> list[tuple[str, object]]:
    if facts["state"] == "NEVER RUN":
        return [("state", "has never run; its first tick makes its state")]
    money = settings.desk.stake_currency if settings is not None else ""
    state = "ACTIVE" if facts["state"] == "ACTIVE" else f"HALTED since {facts['halted_since']}: {facts['halt_reason']}"
    age = f", {_ago(facts['last_tick_age_min'])}{', OVERDUE' if facts['overdue'] else ''}" if facts["last_tick"] else ""
    rows: list[tuple[str, object]] = [
        ("state", state),
        ("last tick", f"{facts['last_tick']} ({facts['last_tick_status']}){age}" if facts["last_tick"] else None),
        ("equity", f"{_amount(facts['equity'])} {money}, {_amount(facts['cash'])} of it cash"),
        ("drawdown", f"{percent(facts['drawdown_frac'])} from {_amount(facts['peak_equity'])}"),
        ("positions", facts["positions"]),
        ("open orders", facts["open_orders"]),
        ("blocked pairs", ", ".join(facts["blocked_pairs"]) or "none"),
        ("regime", f"{facts['regime']}, as of {facts['regime_at']}" if facts["regime_at"] else f"{facts['regime']}, not seen yet"),
        ("models", ", ".join(f"{name} {version}" for name, version in facts["models"].items()) or "none used at the last tick"),
        ("refused parameters", len(facts["refused_parameters"]) or "none"),
    ]
    if settings is not None:
        rows.insert(1, ("mode", f"{settings.desk.mode} on {settings.desk.exchange}"))
    return rows


def _position_row(position: Position, mark: float | None) -> dict[str, Any]:
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
    }


def _order_row(order: Order) -> dict[str, Any]:
    names = (
        "tick_at",
        "pair",
        "side",
        "type",
        "qty",
        "limit_price",
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
    plain = [{name: _plain(value) for name, value in row.items()} for row in rows]
    if json_:
        print_json(plain)
    elif not plain:
        typer.echo(empty)
    else:
        numbers = tuple(name for name in plain[0] if any(part in name for part in ("qty", "price", "value", "pnl", "fee", "close")))
        cells = [tuple(f"{cell:.8g}" if isinstance(cell, float) else cell for cell in row.values()) for row in plain]
        print_table(title, tuple(plain[0]), cells, right=numbers)


def _plain(value: Any) -> Any:
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


def _amount(text: str) -> str:
    return f"{Decimal(text):,.2f}"


def _print_outcome(content: Mapping[str, Any], text: str, *, json_: bool) -> None:
    if json_:
        print_json(content)
    else:
        typer.echo(text)
