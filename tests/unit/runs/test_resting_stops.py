"""Stops that rest on the exchange: placed with the entry, moved, cancelled with the exit, and mended after every failure."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from made_world import World, at
from tickless.errors import AccountError, OrderRejectedError, RetryableError, UnknownOutcomeError, WouldTriggerError
from tickless.settings import section_text
from tickless.types import (
    DeskState,
    Fill,
    Flatten,
    Halt,
    LedgerUpdate,
    Liquidity,
    Order,
    OrderReport,
    OrderStatus,
    OrderType,
    RestingStops,
    Side,
)

RESTING = "execution.stoploss_on_exchange=true"
D = Decimal
ONE = D(1)


@pytest.fixture
def desk(new_world: Callable[..., World]) -> World:
    """A desk that has bought at T0 and whose stops rest."""
    world = new_world(RESTING)
    world.run("full_rebalance", at(0))
    assert stops(world)
    return world


def stops(world: World) -> dict[str, Order]:
    """The stops that rest, by pair: one each."""
    found = [order for order in state(world).orders.values() if order.type is OrderType.STOP]
    assert len({order.pair for order in found}) == len(found)
    return {order.pair: order for order in found}


def state(world: World) -> DeskState:
    found = world.ledger.load()
    assert found is not None
    return found


def expect_protected(world: World) -> None:
    """Every position has its stop at the exchange, for all that is held; nothing else has."""
    desk, resting = state(world), stops(world)
    assert resting.keys() == desk.positions.keys()
    for pair, position in desk.positions.items():
        step = world.market.rules()[pair].qty_step or D(1)
        assert resting[pair].qty == position.qty // step * step
        assert position.stop.stop_price is not None
        assert D("0.998") < resting[pair].stop_price / D(position.stop.stop_price) <= 1
    balances = world.account()
    assert desk.cash == balances.pop("USDT")
    assert {pair.split("/")[0]: position.qty for pair, position in desk.positions.items()} == balances


class Faulty:
    """An exchange of which ``fault`` answers first: None leaves it to the real one."""

    def __init__(self, fault: Callable[[str, Order], Any], how: RestingStops | None = None) -> None:
        self.fault, self.how = fault, how
        self.calls: list[tuple[str, Order]] = []

    def wrap(self, exchange: Any) -> Any:
        self._exchange = exchange
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._exchange, name)

    def resting_stops(self, pair: str) -> RestingStops:
        return self.how or self._exchange.resting_stops(pair)

    def submit(self, order: Order, when: datetime) -> Any:
        return self._call("submit", order, when)

    def cancel(self, order: Order, when: datetime) -> Any:
        return self._call("cancel", order, when)

    def _call(self, name: str, order: Order, when: datetime) -> Any:
        self.calls.append((name, order))
        answer = self.fault(name, order)
        if isinstance(answer, Exception):
            raise answer
        return answer if answer is not None else getattr(self._exchange, name)(order, when)


def run_on(world: World, exchange: Faulty, name: str, bar: int, left_s: float = float("inf")) -> None:
    """Run a tick; ``left_s`` are left of its invocation."""
    ports = world.ports(lambda what, port: exchange.wrap(port) if what == "exchange" else port)
    world.run(name, at(bar), replace(ports, time_left_s=lambda: left_s))


def no_fault(_name: str, _order: Order) -> None:
    return None


def test_every_position_has_its_stop_when_the_tick_that_bought_it_is_over(desk):
    expect_protected(desk)
    assert {order.reason for order in stops(desk).values()} <= {"stop_loss", "max_loss"}
    assert state(desk).unprotected == {}


def test_the_loss_limit_is_part_of_the_level_and_says_so(new_world):
    world = new_world(RESTING, "risk.initial_stop_atr=off", "risk.trail_arm_atr=off")
    world.run("full_rebalance", at(0))
    for pair, order in stops(world).items():
        entry = state(world).positions[pair].entry_price
        assert order.reason == "max_loss"
        assert order.stop_price == pytest.approx(entry * (1 - D("0.0175")), rel=D("0.001"))


def test_without_the_setting_nothing_rests(new_world):
    world = new_world()
    world.run("full_rebalance", at(0))
    assert not any(order.type is OrderType.STOP for order in world.ledger.orders())


def test_switched_off_the_stops_are_cancelled(desk):
    execution = desk.settings.execution.model_copy(update={"stoploss_on_exchange": False})
    desk.parameters.write("execution", section_text(execution))
    desk.run("risk_check", at(1))
    assert not stops(desk)
    assert state(desk).positions


def test_a_second_tick_leaves_stops_as_they_are(desk):
    before = stops(desk)
    exchange = Faulty(no_fault)
    run_on(desk, exchange, "risk_check", 1)
    kept = {pair for pair, order in stops(desk).items() if order == before.get(pair)}
    assert kept
    assert not [order for _, order in exchange.calls if order.pair in kept]


def test_a_stop_that_has_risen_is_moved_and_never_falls(desk):
    levels: dict[str, list[Decimal]] = {pair: [order.stop_price] for pair, order in stops(desk).items()}
    moved = 0
    for bar in range(1, 30):
        desk.run("risk_check", at(bar))
        expect_protected(desk)
        for pair, order in stops(desk).items():
            levels.setdefault(pair, []).append(order.stop_price)
    for pair, path in levels.items():
        assert path == sorted(path), pair
        moved += len(set(path)) - 1
    assert moved > 0
    assert "trailing_stop_loss" in {order.reason for order in desk.ledger.orders() if order.type is OrderType.STOP}


def test_a_stop_that_goes_off_closes_the_position_with_its_reason_and_blocks_the_pair(new_world, crash_market):
    world = new_world(RESTING, on=crash_market)
    world.run("full_rebalance", at(0))
    pairs = set(stops(world))
    world.run("risk_check", at(1))
    assert not state(world).positions
    assert state(world).blocked.keys() == pairs
    trades = list(world.ledger.trades())
    assert {trade.pair for trade in trades} == pairs
    assert {trade.exit_reason for trade in trades} <= {"stop_loss", "max_loss"}
    assert all(trade.closed_at < at(1) for trade in trades), "inside the bar, not at the risk check"
    assert not [order for order in world.ledger.orders() if order.side is Side.SELL and order.tick_at == at(1)]
    world.run("full_rebalance", at(1))
    assert not state(world).positions, "blocked until the next full rebalance"


def test_an_exit_cancels_the_stop_first(desk):
    exchange = Faulty(no_fault)
    flatten(desk)
    run_on(desk, exchange, "risk_check", 1)
    for pair in {order.pair for _, order in exchange.calls}:
        calls = [(name, order.type) for name, order in exchange.calls if order.pair == pair]
        assert calls == [("cancel", OrderType.STOP), ("submit", OrderType.MARKET)]
    assert not state(desk).positions
    assert not state(desk).orders


def flatten(world: World) -> None:
    """A person asks for everything to be sold."""
    fence = world.ledger.acquire("flatten by a person", at(0), 1)
    asked = replace(state(world), halt=Halt("flatten: leaving", at(0)), flatten=Flatten("leaving", at(0)))
    world.ledger.journal(fence, [LedgerUpdate(desk=asked)])
    world.ledger.release(fence)


@pytest.mark.parametrize("error", [RetryableError("busy"), UnknownOutcomeError("time-out")])
def test_where_nobody_knows_that_the_stop_is_gone_nothing_is_sold(desk, error):
    flatten(desk)
    exchange = Faulty(lambda name, _: error if name == "cancel" else None)
    run_on(desk, exchange, "risk_check", 1)
    assert not [order for name, order in exchange.calls if name == "submit"]
    expect_protected(desk)
    sales = [order for order in desk.ledger.orders() if order.type is OrderType.MARKET and order.side is Side.SELL]
    assert sales
    assert {order.status for order in sales} == {OrderStatus.CANCELED}
    desk.run("risk_check", at(2))
    assert not state(desk).positions


def test_contracts_are_sold_even_so(desk):
    """Reduce-only orders cannot sell more than is held, whatever else rests."""
    flatten(desk)
    exchange = Faulty(lambda name, order: RetryableError("busy") if name == "cancel" else None, RestingStops.PLACE_FIRST)
    run_on(desk, exchange, "risk_check", 1)
    assert {name for name, _ in exchange.calls} == {"cancel", "submit"}


@pytest.fixture
def rich(desk: World) -> World:
    """The desk on an account on which somebody else has as much again of every coin."""
    store = desk.sim_store
    version, text = store.load()
    account = json.loads(text)
    for asset in list(account["balances"]["M"]):
        if asset != "USDT":
            account["balances"]["M"][asset] = {"S": str(2 * D(account["balances"]["M"][asset]["S"]))}
    store.save(version, json.dumps(account, sort_keys=True, separators=(",", ":")), {})
    return desk


def test_coins_that_are_not_the_desks_are_never_sold_where_the_cancellation_tells_that_the_stop_has_filled(rich):
    """The stop goes off between the snapshot and its cancellation: the sale that was decided on would sell somebody else's coins."""
    before = rich.account()
    held = {pair.split("/")[0]: position.qty for pair, position in state(rich).positions.items()}
    flatten(rich)
    exchange = Faulty(lambda name, order: filled(order) if name == "cancel" else None)
    run_on(rich, exchange, "risk_check", 1)
    assert not [order for name, order in exchange.calls if name == "submit"]
    assert not state(rich).positions
    reasons = {trade.exit_reason for trade in rich.ledger.trades()}
    assert reasons <= {"stop_loss", "max_loss", "trailing_stop_loss"}
    after = rich.account()
    for asset, qty in held.items():
        assert after[asset] == before[asset] >= 2 * qty


def filled(order: Order, share: Decimal = ONE) -> OrderReport:
    """The report of a cancellation that came too late, at least for a share of the stop."""
    qty = order.qty * share
    price = order.stop_price or D(1)
    fill = Fill("f1" + order.pair, order.client_order_id, at(1), order.pair, order.side, qty, price, D(0), "USDT", D(0), Liquidity.TAKER)
    status = OrderStatus.FILLED if share == 1 else OrderStatus.CANCELED
    return OrderReport(order.client_order_id, status, (fill,))


def test_what_a_stop_left_over_is_protected_by_the_end_of_the_tick(desk):
    """Half of it filled as it was to be cancelled: the sale of all is not sent, the rest gets a stop of its own."""
    flatten(desk)
    positions = state(desk).positions
    exchange = Faulty(lambda name, order: half(desk, order) if name == "cancel" else None)
    run_on(desk, exchange, "risk_check", 1)
    submitted = [order for name, order in exchange.calls if name == "submit"]
    assert {order.type for order in submitted} == {OrderType.STOP}
    for order in submitted:
        step = desk.market.rules()[order.pair].qty_step or D(1)
        left = positions[order.pair].qty - half_of(desk, order.pair, positions[order.pair].qty // step * step)
        assert order.qty == left // step * step


def half_of(world: World, pair: str, qty: Decimal) -> Decimal:
    step = world.market.rules()[pair].qty_step or D(1)
    return qty / 2 // step * step


def half(world: World, order: Order) -> OrderReport:
    return filled(order, half_of(world, order.pair, order.qty) / order.qty)


def test_a_stop_that_would_trigger_at_once_is_a_sale_at_market(new_world):
    world = new_world(RESTING)
    exchange = Faulty(lambda name, order: WouldTriggerError("reached") if order.type is OrderType.STOP else None)
    run_on(world, exchange, "full_rebalance", 0)
    assert not state(world).positions
    assert not state(world).unprotected
    bought = {order.pair for name, order in exchange.calls if order.side is Side.BUY}
    sold = {order.pair: order for name, order in exchange.calls if order.side is Side.SELL and order.type is OrderType.MARKET}
    assert sold.keys() == bought == state(world).blocked.keys()
    assert {trade.exit_reason for trade in world.ledger.trades()} <= {"stop_loss", "max_loss"}
    assert all(order.tick_at == at(0) for order in sold.values())


def test_the_simulated_exchange_refuses_a_stop_whose_price_the_open_has_reached(desk):
    order = next(iter(stops(desk).values()))
    high = replace(order, client_order_id="high", stop_price=order.stop_price * 2, qty=order.qty)
    exchange = desk.ports().connect(desk.settings).exchange
    exchange.cancel(order, at(0))
    for _ in range(2):
        with pytest.raises(WouldTriggerError, match="would trigger at once"):
            exchange.submit(replace(high, stop_price=desk.market.rules()[order.pair].price_step * 10**9), at(0))


def test_a_refused_stop_is_told_once_counted_each_time_and_tried_again(new_world):
    world = new_world(RESTING)
    exchange = Faulty(lambda name, order: OrderRejectedError("no such filter") if order.type is OrderType.STOP else None)
    run_on(world, exchange, "full_rebalance", 0)
    pairs = state(world).positions.keys()
    assert pairs
    assert state(world).unprotected == dict.fromkeys(sorted(pairs), "no such filter")
    run_on(world, exchange, "risk_check", 1)
    left = state(world).positions.keys()
    assert world.metrics.counts["StopNotPlaced"] == len(pairs) + len(left)
    told = [message for _, message in world.notifier.alerts if "does not rest on the exchange" in message]
    assert len(told) == len(pairs)
    world.run("risk_check", at(2))
    expect_protected(world)
    assert state(world).unprotected == {}


def test_where_the_exchange_has_no_stops_the_desk_says_so_once_and_wakes_nobody(new_world, crash_market):
    world = new_world(RESTING, on=crash_market)
    exchange = Faulty(no_fault, RestingStops.NONE)
    run_on(world, exchange, "full_rebalance", 0)
    pairs = sorted(state(world).positions)
    assert state(world).unprotected == dict.fromkeys(pairs, "the exchange takes no stops for it")
    assert not stops(world)
    assert not world.notifier.alerts
    run_on(world, exchange, "risk_check", 1)
    assert not state(world).positions, "the desk's own check remains"
    assert state(world).unprotected == {}


def test_an_account_that_is_refused_at_a_stop_halts_the_desk_and_the_next_tick_places_it(new_world):
    world = new_world(RESTING)
    exchange = Faulty(lambda name, order: AccountError("the key is revoked") if order.type is OrderType.STOP else None)
    run_on(world, exchange, "full_rebalance", 0)
    assert state(world).halt.reason == "the key is revoked"
    assert not stops(world)
    world.run("risk_check", at(1))
    expect_protected(world)


@pytest.mark.parametrize("reached", [True, False])
def test_a_stop_whose_answer_is_lost_is_not_doubled(new_world, reached):
    world = new_world(RESTING)
    lost: list[str] = []

    def lose(name: str, order: Order) -> Any:
        if name == "submit" and order.type is OrderType.STOP and not lost:
            lost.append(order.client_order_id)
            if reached:
                exchange._exchange.submit(order, at(0))
            return UnknownOutcomeError("time-out")
        return None

    exchange = Faulty(lose)
    run_on(world, exchange, "full_rebalance", 0)
    assert state(world).orders[lost[0]].status is OrderStatus.UNKNOWN
    world.run("feature_rebalance", at(0.0))
    assert state(world).orders[lost[0]].status is (OrderStatus.OPEN if reached else OrderStatus.UNKNOWN)
    world.run("risk_check", at(1))
    expect_protected(world)
    by_id = {order.client_order_id: order.status for order in world.ledger.orders()}
    assert by_id[lost[0]] is not OrderStatus.UNKNOWN


def test_on_contracts_the_new_stop_rests_before_the_old_one_goes(desk):
    order = next(iter(stops(desk).values()))
    raised = replace(state(desk).positions[order.pair], bought_qty=state(desk).positions[order.pair].bought_qty)
    higher = replace(raised, stop=replace(raised.stop, stop_price=raised.stop.stop_price * 1.004))
    fence = desk.ledger.acquire("a test", at(0), 1)
    desk.ledger.journal(fence, [LedgerUpdate(positions=(higher,))])
    desk.ledger.release(fence)
    # What the simulated account locks, contracts do not: it takes the new stop as if the old one were gone.
    exchange = Faulty(
        lambda name, sent: OrderReport(sent.client_order_id, OrderStatus.OPEN) if name == "submit" else None, RestingStops.PLACE_FIRST
    )
    run_on(desk, exchange, "risk_check", 1)
    calls = [(name, one.type) for name, one in exchange.calls if one.pair == order.pair]
    assert calls == [("submit", OrderType.STOP), ("cancel", OrderType.STOP)]
    assert stops(desk)[order.pair].stop_price > order.stop_price


def test_where_the_old_stop_cannot_be_cancelled_it_stays_alone(desk):
    order = next(iter(stops(desk).values()))
    position = state(desk).positions[order.pair]
    fence = desk.ledger.acquire("a test", at(0), 1)
    desk.ledger.journal(
        fence, [LedgerUpdate(positions=(replace(position, stop=replace(position.stop, stop_price=position.stop.stop_price * 1.004)),))]
    )
    desk.ledger.release(fence)
    exchange = Faulty(lambda name, _: RetryableError("busy") if name == "cancel" else None)
    run_on(desk, exchange, "risk_check", 1)
    assert stops(desk)[order.pair] == order
    assert order.pair not in {one.pair for name, one in exchange.calls if name == "submit"}
    desk.run("risk_check", at(2))
    assert stops(desk)[order.pair].stop_price > order.stop_price


def test_a_quarantined_pair_is_left_alone(desk):
    pair = next(iter(stops(desk)))
    rules = desk.market.filters
    closed = replace(desk.market, filters={**rules, pair: replace(rules[pair], active=False)})
    desk.market = closed
    exchange = Faulty(no_fault)
    run_on(desk, exchange, "risk_check", 1)
    assert pair not in {order.pair for _, order in exchange.calls}
    assert pair in state(desk).quarantined


# Ids and time


class Died(Exception):
    """The process is gone."""


def ids_of_stops(world: World) -> dict[str, list[OrderStatus]]:
    """The statuses of all stops there ever were, by pair."""
    found: dict[str, list[OrderStatus]] = {}
    for order in world.ledger.orders():
        if order.type is OrderType.STOP:
            found.setdefault(order.pair, []).append(order.status)
    return found


def cancel_by_hand(world: World, order: Order) -> None:
    world.venue(world.sim_store, world.bars, world.market, world.settings).cancel(order, world.clock.now())


def test_a_stop_that_a_person_cancels_between_two_attempts_at_a_tick_is_placed_again_under_another_id(new_world):
    world = new_world(RESTING)
    placed: list[Order] = []

    def die(name: str, order: Order) -> None:
        if name == "submit" and order.type is OrderType.STOP:
            exchange._exchange.submit(order, at(0))
            placed.append(order)
            raise Died

    exchange = Faulty(die)
    with pytest.raises(Died):
        run_on(world, exchange, "full_rebalance", 0)
    [first] = placed
    cancel_by_hand(world, first)
    world.run("full_rebalance", at(0), late_s=60)
    expect_protected(world)
    assert sorted(ids_of_stops(world)[first.pair]) == [OrderStatus.CANCELED, OrderStatus.OPEN]
    assert stops(world)[first.pair].attempt == 1


def test_where_the_exchange_alone_knows_that_an_id_is_over_the_stop_gets_another_at_once(new_world):
    world = new_world(RESTING)
    told: set[str] = set()

    def over(name: str, order: Order) -> OrderReport | None:
        if name == "cancel" or order.type is not OrderType.STOP or order.pair in told:
            return None
        told.add(order.pair)
        return OrderReport(order.client_order_id, OrderStatus.CANCELED, ())

    run_on(world, Faulty(over), "full_rebalance", 0)
    assert told
    expect_protected(world)
    assert [sorted(found) for found in ids_of_stops(world).values()] == [[OrderStatus.CANCELED, OrderStatus.OPEN]] * len(told)


def test_what_was_refused_before_the_attempt_died_is_tried_again_under_another_id(new_world):
    world = new_world(RESTING)
    refused: list[Order] = []

    def refuse(name: str, order: Order) -> Exception | None:
        if order.type is OrderType.STOP:
            return WouldTriggerError("reached")
        return OrderRejectedError("no such filter") if order.side is Side.SELL else None

    def die(name: str, order: Order) -> Exception | None:
        if order.side is Side.SELL and order.type is OrderType.MARKET:
            refused.append(order)
            if len(refused) == 2:  # By now it is written that the first was refused, stop and sale.
                return Died()
        return refuse(name, order)

    with pytest.raises(Died):
        run_on(world, Faulty(die), "full_rebalance", 0)
    pair = refused[0].pair
    before = {order.client_order_id: order for order in world.ledger.orders() if order.pair == pair and order.side is Side.SELL}
    assert {order.status for order in before.values()} == {OrderStatus.REJECTED}
    again = Faulty(refuse)
    ports = world.ports(lambda what, port: again.wrap(port) if what == "exchange" else port)
    world.run("full_rebalance", at(0), ports, late_s=60)
    tried = [order.client_order_id for name, order in again.calls if name == "submit" and order.pair == pair and order.side is Side.SELL]
    assert len(tried) >= 2
    assert not before.keys() & set(tried)


def test_an_exchange_that_ends_every_stop_is_not_asked_for_ever(new_world):
    world = new_world(RESTING)
    always = Faulty(lambda _, order: OrderReport(order.client_order_id, OrderStatus.CANCELED, ()) if order.type is OrderType.STOP else None)
    run_on(world, always, "full_rebalance", 0)
    assert {len(found) for found in ids_of_stops(world).values()} == {3}
    assert state(world).unprotected.keys() == state(world).positions.keys()


class Slow(Faulty):
    """An exchange that is asked for so long that ``left_s`` of the lease are left."""

    def __init__(self, world: World, left_s: float) -> None:
        super().__init__(no_fault)
        self.world, self.left_s = world, left_s

    def resting_stops(self, pair: str) -> RestingStops:
        lease_ends = at(self.bar) + timedelta(seconds=self.world.settings.schedule.lease_ttl_s - self.left_s)
        self.world.clock.set(max(self.world.clock.now(), lease_ends))
        return super().resting_stops(pair)

    bar = 0


@pytest.mark.parametrize("of", ["lease", "invocation"])
def test_a_stop_is_not_moved_where_no_time_is_left_to_place_the_new_one(desk, of):
    kept = 0
    for bar in range(1, 30):
        before = stops(desk)
        exchange = Slow(desk, 45 if of == "lease" else 200)
        exchange.bar = bar
        run_on(desk, exchange, "risk_check", bar, 10.0 if of == "invocation" else float("inf"))
        held = state(desk).positions.keys()
        assert stops(desk) == {pair: order for pair, order in before.items() if pair in held}
        assert state(desk).unprotected == {}
        kept += len([order for order in desk.ledger.orders() if order.tick_at == at(bar) and order.type is OrderType.STOP])
        if kept:
            break
    assert kept, "one was to be moved"
    desk.run("risk_check", at(bar + 1))
    expect_protected(desk)
    assert stops(desk) != before


def test_no_stop_is_cancelled_for_a_sale_that_may_not_be_sent_any_more(desk):
    before = stops(desk)
    flatten(desk)
    exchange = Faulty(no_fault)
    with pytest.raises(RetryableError, match="too little time is left to cancel"):
        run_on(desk, exchange, "risk_check", 1, 10.0)
    assert exchange.calls == []
    assert stops(desk).keys() == before.keys()
    desk.run("risk_check", at(1), late_s=5)
    assert not state(desk).positions
