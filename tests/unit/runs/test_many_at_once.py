"""More than one transaction of the ledger holds: orders of hundreds of trades, positions and orders by the hundred."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from interference import Calls, Crash

from made_desk import a_desk, a_position
from made_world import T0, D, World, at, make_order
from tickless.adapters import codec
from tickless.adapters.folder_market import FolderMarket
from tickless.adapters.ledger_items import MAX_UPDATE_ACTIONS, DeskScalars, plan_update
from tickless.adapters.synthetic_market import make_market
from tickless.execution.accounting import FILLS_AT_ONCE, book, in_slices
from tickless.settings import load_desk
from tickless.types import (
    AccountSnapshot,
    DeskState,
    ExitPlan,
    Fill,
    LedgerUpdate,
    Liquidity,
    Order,
    OrderReport,
    OrderStatus,
    OrderType,
    Side,
    StopState,
    Unfilled,
    iso,
)

TRADES = 150
MANY = 130


class Shattered:
    """An exchange that fills every order in 150 trades."""

    def __init__(self, exchange: Any) -> None:
        self._exchange = exchange

    def __getattr__(self, name: str) -> Any:
        return getattr(self._exchange, name)

    def submit(self, order: Order, when: datetime) -> OrderReport:
        return shatter(self._exchange.submit(order, when))

    def snapshot(self, when: datetime, orders: Sequence[Order]) -> AccountSnapshot:
        found = self._exchange.snapshot(when, orders)
        return replace(found, reports={name: shatter(report) for name, report in found.reports.items()})


def shatter(report: OrderReport) -> OrderReport:
    if not report.fills:
        return report
    (fill,) = report.fills
    qty, fee = ((amount / TRADES).quantize(D("1e-8")) for amount in (fill.qty, fill.fee))
    parts = [replace(fill, fill_id=f"{fill.fill_id}-{n:03d}", qty=qty, fee=fee, fee_qty=fee) for n in range(TRADES - 1)]
    rest = fill.fee - fee * (TRADES - 1)
    last = replace(fill, fill_id=f"{fill.fill_id}-last", qty=fill.qty - qty * (TRADES - 1), fee=rest, fee_qty=rest)
    return replace(report, fills=(*parts, last))


def shattered(world: World, calls: Calls | None = None) -> Any:
    wrap = calls.wrap if calls is not None else lambda _name, port: port
    return world.ports(lambda name, port: Shattered(wrap(name, port)) if name == "exchange" else wrap(name, port))


def written(calls: Calls) -> list[tuple[int, LedgerUpdate]]:
    """Every update of the ledger with the number of its call."""
    return [(number, calls.made[number][2][1]) for number in calls.named("ledger", "write")]


@pytest.fixture
def three(new_world: Callable[..., World]) -> Callable[[], World]:
    """A desk of three pairs."""
    return lambda: new_world(*(f"portfolio.top_k.{regime}=3" for regime in ("trend", "chop", "down")))


def test_an_order_of_many_trades_is_booked_in_slices_that_a_transaction_holds(three) -> None:
    world, calls = three(), Calls()
    world.run("full_rebalance", at(0), shattered(world, calls))
    orders = list(world.ledger.orders())
    assert [(order.status, order.filled_qty, len(order.fill_ids)) for order in orders] == [(OrderStatus.FILLED, o.qty, 150) for o in orders]
    assert len(orders) == 3
    sliced = [update for _, update in written(calls) if update.fills]
    assert sorted(len(update.fills) for update in sliced) == [30] * 3 + [FILLS_AT_ONCE] * 9
    assert {order.status for update in sliced for order in update.orders if len(update.fills) == 40} == {OrderStatus.PARTIALLY_FILLED}
    desk = world.ledger.load()
    balances = world.account()
    assert {pair.split("/")[0]: position.qty for pair, position in desk.positions.items()} == {
        a: q for a, q in balances.items() if a != "USDT"
    }
    assert abs(desk.cash - balances["USDT"]) < D("1e-5")
    assert all(position.stop.stop_price is not None for position in desk.positions.values())
    world.run("risk_check", at(1), shattered(world))
    assert (world.ledger.load().mode, len(list(world.ledger.fills()))) == ("ACTIVE", 3 * TRADES)


@pytest.mark.parametrize("redelivered", [True, False], ids=["redelivered", "next tick"])
@pytest.mark.parametrize("slice_number", [0, 1, 2, 5])
def test_a_ledger_that_dies_between_two_slices_heals(three, slice_number, redelivered) -> None:
    plain, calls = three(), Calls()
    plain.run("full_rebalance", at(0), shattered(plain, calls))
    if not redelivered:
        plain.run("risk_check", at(1), shattered(plain))
    whole = [number for number, update in written(calls) if len(update.fills) == FILLS_AT_ONCE]
    world = three()
    with suppress(Crash):
        world.run("full_rebalance", at(0), shattered(world, Calls(whole[slice_number], after=True)))
    torn = world.ledger.load().orders.values()
    assert OrderStatus.PARTIALLY_FILLED in {order.status for order in torn}
    assert 0 < len(list(world.ledger.fills())) < 3 * TRADES
    if redelivered:
        world.run("full_rebalance", at(0), shattered(world), late_s=300)
    else:
        world.run("risk_check", at(1), shattered(world))
    ours, theirs = world.outcome(), plain.outcome()
    for part in ("fills", "balances", "trades"):
        assert ours[part] == theirs[part]
    assert sorted(ours["orders"], key=str) == sorted(theirs["orders"], key=str)
    assert (ours["desk"].positions, ours["desk"].cash, ours["desk"].orders) == (theirs["desk"].positions, theirs["desk"].cash, {})
    assert ours["desk"].mode == "ACTIVE"


def fills_of(order: Order, count: int) -> tuple[Fill, ...]:
    """Trades with ids as long as any exchange's."""
    name = "1000SATSUSDT-0123456789abcdef01234567-{:06d}".format
    qty = order.qty / count
    return tuple(
        [
            Fill(name(n), order.client_order_id, at(0), order.pair, order.side, qty, D(100), D(0), "USDT", D(0), Liquidity.TAKER)
            for n in range(count)
        ]
    )


@pytest.mark.parametrize("known", [0, 39, 40, 1985])
def test_an_order_of_two_thousand_trades_fits_its_item_and_its_transactions(known) -> None:
    order = make_order(qty="2000")
    fills = fills_of(order, 2000)
    state = DeskState(D(1_000_000), D(1_000_000))
    for part in in_slices(order, OrderReport("o1", OrderStatus.OPEN, fills[:known])):
        state = book(state, state.orders.get("o1", order), part).state
    order = state.orders.get("o1", order)
    parts = in_slices(order, OrderReport("o1", OrderStatus.FILLED, fills))
    assert len(parts) == -(-(2000 - known) // FILLS_AT_ONCE)
    for part in parts:
        booking = book(state, order, part)
        assert booking.update is not None
        state, (order,) = booking.state, booking.update.orders
        assert len(plan_update(booking.update)) <= FILLS_AT_ONCE + 4
    assert codec.item_bytes(codec.encode(order)) < codec.MAX_ITEM_BYTES / 3
    assert (order.status, order.filled_qty, len(order.fill_ids), state.orders) == (OrderStatus.FILLED, 2000, 2000, {})
    assert (state.cash, state.positions[order.pair].qty) == (D(800_000), 2000)


def test_slices_of_fills_told_twice_and_of_an_order_stored_before_fills_had_ids() -> None:
    fills = fills_of(make_order(qty="100"), 100)
    old = make_order(qty="100", status=OrderStatus.OPEN, filled_qty=D(10), avg_price=D(100))
    state, order, booked = a_desk(orders={"o1": old}), old, []
    for part in in_slices(old, OrderReport("o1", OrderStatus.FILLED, (*fills, *fills[:50]))):
        booking = book(state, order, part)
        assert booking.update is not None
        state, (order,) = booking.state, booking.update.orders
        booked.append(len(booking.update.fills))
    assert booked == [40, 40, 10]
    assert (order.filled_qty, order.status, sorted(order.fill_ids)) == (100, OrderStatus.FILLED, [fill.fill_id for fill in fills])


# Many positions, many orders


@pytest.fixture(scope="module")
def broad_market() -> FolderMarket:
    """130 pairs and a few days."""
    made = make_market(start=T0 - timedelta(days=2), end=T0 + timedelta(hours=2), pairs=MANY, seed=2, events=False)
    return FolderMarket(made.panel, made.rules)


@pytest.fixture
def broad(broad_market: FolderMarket) -> Callable[..., World]:
    """A desk that holds them all, each with a trailing stop that moves at every check; the exchange has nothing of it."""

    def make(**changes: Any) -> World:
        trailing = ("risk.trail_arm_atr=0.0001", "risk.trail_distance_atr=0.5")
        world = World(broad_market, load_desk("rotation", [*trailing, "execution.stoploss_on_exchange=true"]))
        panel = broad_market.panel.closed_at(T0)
        stop = StopState(atr=1e-6)
        held = [a_position(pair, "1", repr(float(panel.close[-1, n]) / 2), stop=stop) for n, pair in enumerate(panel.pairs)]
        desk = a_desk(*held, **changes)
        fence = world.ledger.acquire("a person", T0, 1)
        for position in held:
            world.ledger.journal(fence, [LedgerUpdate(positions=(position,))])
        for order in desk.orders.values():
            world.ledger.journal(fence, [LedgerUpdate(orders=(order,))])
        world.ledger.journal(fence, [LedgerUpdate(desk=desk)])
        world.ledger.release(fence)
        return world

    return make


def test_the_stops_of_many_positions_move_in_one_tick(broad) -> None:
    world, calls = broad(), Calls()
    world.run("risk_check", at(1), calls.ports(world))
    desk = world.ledger.load()
    assert len(desk.positions) == MANY
    assert all(position.stop.anchor_price is not None for position in desk.positions.values())
    updates = [update for _, update in written(calls)]
    assert max(len(plan_update(update)) for update in updates) < MAX_UPDATE_ACTIONS * 0.6
    with_desk = next(n for n, update in enumerate(updates) if update.equity is not None)
    assert sum(len(update.positions) for update in updates[: with_desk + 1]) >= MANY, "none after the desk's own"


def test_a_ledger_that_dies_between_many_positions_heals(broad) -> None:
    plain, calls = broad(), Calls()
    plain.run("risk_check", at(1), calls.ports(plain))
    world = broad()
    number = next(number for number, update in written(calls) if len(update.positions) == FILLS_AT_ONCE)
    with suppress(Crash):
        world.run("risk_check", at(1), Calls(number, after=True).ports(world))
    moved = [position for position in world.ledger.load().positions.values() if position.stop.anchor_price is not None]
    assert len(moved) == FILLS_AT_ONCE
    world.run("risk_check", at(1), late_s=300)
    assert world.ledger.load() == plain.ledger.load()


class Resting:
    """An exchange at which every order rests until it is cancelled."""

    def __init__(self, exchange: Any) -> None:
        self._exchange = exchange

    def __getattr__(self, name: str) -> Any:
        return getattr(self._exchange, name)

    def snapshot(self, when: datetime, orders: Sequence[Order]) -> AccountSnapshot:
        reports = {order.client_order_id: OrderReport(order.client_order_id, OrderStatus.OPEN) for order in orders}
        return replace(self._exchange.snapshot(when, ()), reports=reports)

    def cancel(self, order: Order, when: datetime) -> OrderReport:
        return OrderReport(order.client_order_id, OrderStatus.CANCELED)


def test_many_orders_whose_time_is_over_end_in_one_tick(broad) -> None:
    orders = {
        name: make_order(order_id=name, status=OrderStatus.OPEN, limit_price="1", expires_at=at(0.5), pair=f"X{name}/USDT")
        for name in (f"o{n:03d}" for n in range(MANY))
    }
    world = broad(orders=orders)
    world.run("risk_check", at(1), world.ports(lambda name, port: Resting(port) if name == "exchange" else port))
    assert world.ledger.load().orders == {}
    assert {order.status for order in world.ledger.orders()} == {OrderStatus.EXPIRED}


def test_the_desks_own_item_holds_what_three_hundred_pairs_can_bring(broad) -> None:
    pairs = [f"1000LONGNAME{n:03d}/USDT:USDT" for n in range(300)]
    order = make_order(Side.BUY, "12345.678", limit_price="1")
    assert order.type is OrderType.LIMIT
    rest = Unfilled(
        "tk2406010000" + "f" * 18, pairs[0], "rotation", Side.BUY, D("12345.678"), "fallback_chop", ExitPlan(0.1 + 0.2), 1, at(0)
    )
    desk = a_desk(
        marks=dict.fromkeys(pairs, 0.1 + 0.2),
        blocked=dict.fromkeys(pairs, iso(at(0))),
        quarantined=dict.fromkeys(pairs, iso(at(0))),
        unprotected=dict.fromkeys(pairs, "x" * 300),
        external=dict.fromkeys([f"ASSET{n:03d}" for n in range(300)], D("123456789.12345678")),
        unfilled={f"{n:03d}{rest.client_order_id[3:]}": replace(rest, pair=pair) for n, pair in enumerate(pairs)},
    )
    size = codec.item_bytes(codec.encode(DeskScalars.of(desk)))
    assert size < codec.MAX_ITEM_BYTES * 0.7
