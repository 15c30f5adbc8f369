"""A crash before and after every port call of a tick: what is redelivered comes to the same, and what is not stays consistent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from interference import Calls, Crash

from made_world import NO_THRESHOLDS, REQUOTED, Patient, World, at, plain_fields
from tickless.errors import UnknownOutcomeError
from tickless.execution.rounding import qty_down
from tickless.settings import RegimeCounts, section_text
from tickless.types import DeskState, Flatten, Halt, LedgerUpdate, Order, OrderStatus, OrderType, Side

LATE_S = 300.0
"""A redelivery after the lease of the dead process has run out."""

Start = Callable[[], World]


@pytest.fixture
def rebalance(new_world) -> tuple[Start, str, int]:
    """A desk that is about to buy several pairs."""
    return new_world, "full_rebalance", 0


@pytest.fixture
def second_rebalance(new_world) -> tuple[Start, str, int]:
    """A desk that sells some and buys others, with what it holds."""

    def start() -> World:
        world = new_world(*NO_THRESHOLDS)
        world.run("full_rebalance", at(0))
        return world

    return start, "full_rebalance", 24


@pytest.fixture
def stop_out(new_world, crash_market) -> tuple[Start, str, int]:
    """A desk whose positions have all just hit a stop."""

    def start() -> World:
        world = new_world(on=crash_market)
        world.run("full_rebalance", at(0))
        return world

    return start, "risk_check", 1


@pytest.fixture
def limit_rebalance(new_world) -> tuple[Start, str, int]:
    """A desk whose limit orders rest, and must be cancelled as it changes its mind."""

    def start() -> World:
        world = new_world("execution.order_type=limit", "execution.limit_offset_bps=-300", "execution.unfilled_timeout_s=86400")
        world.run("full_rebalance", at(0))
        assert world.ledger.load().orders
        portfolio = world.settings.portfolio.model_copy(update={"top_k": RegimeCounts(trend=2, chop=2, down=2)})
        world.parameters.write("portfolio", section_text(portfolio))
        return world

    return start, "full_rebalance", 24


@pytest.fixture
def scan_in(new_scanned) -> tuple[Start, str, int]:
    """A desk of signals that is about to enter several pairs."""
    return new_scanned, "scan-crossover", 2


@pytest.fixture
def scan_out(new_scanned, crash_market) -> tuple[Start, str, int]:
    """A desk of signals whose pairs have all just turned."""

    def start() -> World:
        world = new_scanned(on=crash_market)
        world.run("scan-crossover", at(0))
        return world

    return start, "scan-crossover", 1


@pytest.fixture
def flatten(new_world) -> tuple[Start, str, int]:
    """A desk that a person has told to sell everything."""

    def start() -> World:
        world = new_world()
        world.run("full_rebalance", at(0))
        fence = world.ledger.acquire("flatten by a person", at(0), 1)
        asked = replace(world.ledger.load(), halt=Halt("flatten: leaving", at(0)), flatten=Flatten("leaving", at(0)))
        world.ledger.journal(fence, [LedgerUpdate(desk=asked)])
        world.ledger.release(fence)
        return world

    return start, "risk_check", 1


@pytest.fixture
def requote(new_world) -> tuple[Start, str, int]:
    """A desk whose limit orders have run out of time, and are about to be quoted again."""

    def start() -> World:
        world = new_world(*REQUOTED)
        world.run("full_rebalance", at(0))
        assert len(world.ledger.load().orders) >= 2
        return world

    return start, "risk_check", 1


@pytest.fixture
def overdue(new_world) -> tuple[Start, str, int]:
    """The same at an exchange that ends no order by itself: the desk cancels them first."""

    def start() -> World:
        world = Patient(**plain_fields(new_world(*REQUOTED)))
        world.run("full_rebalance", at(0))
        return world

    return start, "risk_check", 1


RESTING = ("execution.stoploss_on_exchange=true", *(f"portfolio.top_k.{regime}=3" for regime in ("trend", "chop", "down")))


@pytest.fixture
def resting_moves(new_world) -> tuple[Start, str, int]:
    """A desk whose stops rest, and several of which have just risen."""

    def start() -> World:
        world = new_world(*RESTING, "risk.trail_arm_atr=0.01", "risk.trail_distance_atr=0.9", "execution.stoploss_min_move_frac=0")
        world.run("full_rebalance", at(0))
        return world

    return start, "risk_check", 1


@pytest.fixture
def crossing(new_world) -> tuple[Start, str, int]:
    """A desk whose last re-quotes have run out of time, and are about to cross."""

    def start() -> World:
        world = new_world(*REQUOTED, "execution.unfilled_action=cross")
        world.run("full_rebalance", at(0))
        world.run("risk_check", at(1))
        assert {order.attempt for order in world.ledger.load().orders.values()} == {1}
        return world

    return start, "risk_check", 2


@pytest.fixture
def resting_out(new_world) -> tuple[Start, str, int]:
    """A desk that sells some, buys others and keeps the rest, all with stops that rest."""

    def start() -> World:
        world = new_world(*RESTING, *NO_THRESHOLDS)
        world.run("full_rebalance", at(0))
        return world

    return start, "feature_rebalance", 2


RESTS = ("resting_moves", "resting_out")
SCENARIOS = (
    "requote",
    "overdue",
    "crossing",
    "rebalance",
    "second_rebalance",
    "stop_out",
    "limit_rebalance",
    "scan_in",
    "scan_out",
    "flatten",
    *RESTS,
)


def undisturbed(start: Start, function: str, bar: int) -> tuple[World, Calls]:
    world, calls = start(), Calls()
    world.clock.set(at(bar))
    world.run(function, at(bar), calls.ports(world))
    return world, calls


def crashes(start: Start, function: str, bar: int) -> Iterator[tuple[str, World]]:
    """The same tick in a world of its own for every call, dead before it; and dead after the last.

    Dead after a call is dead before the next: between two calls nothing happens that anybody could see.
    """
    _, recorded = undisturbed(start, function, bar)
    last = len(recorded.made) - 1
    for number, after in [*((n, False) for n in range(last + 1)), (last, True)]:
        world = start()
        with suppress(Crash):
            world.run(function, at(bar), Calls(number, after=after).ports(world))
            pytest.fail(f"no crash at call {number}")
        port, method, _ = recorded.made[number]
        yield f"{'after' if after else 'before'} call {number}, {port}.{method}", world


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_redelivered_tick_comes_to_what_an_undisturbed_one_does(scenario, request):
    start, function, bar = request.getfixturevalue(scenario)
    plain, recorded = undisturbed(start, function, bar)
    expected = plain.outcome()
    sent = [call for call in recorded.made if call[:2] in (("exchange", "submit"), ("exchange", "cancel"))]
    assert len(sent) >= 2, "the scenario must do something"
    for where, world in crashes(start, function, bar):
        world.run(function, at(bar), late_s=LATE_S)
        assert world.outcome() == expected, where


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_where_it_is_not_redelivered_the_next_tick_finds_a_consistent_desk(scenario, request):
    start, function, bar = request.getfixturevalue(scenario)
    plain, _ = undisturbed(start, function, bar)
    expected = {order.client_order_id: order for order in plain.ledger.orders() if order.tick_at == at(bar)}
    for where, world in crashes(start, function, bar):
        rests = timed_out(world.ledger.load(), at(bar))
        world.run("risk_check", at(bar + 1))
        check_books(world, where)
        # What had run out of time goes on, if not by the tick that died then by the next.
        assert rests <= {order.pair for order in world.ledger.orders() if order.attempt and order.tick_at >= at(bar)}, where
        if scenario in RESTS:
            check_stops(world, where)
        assert "LedgerMismatch" not in world.metrics.counts, where
        for order in world.ledger.orders():
            if order.tick_at == at(bar):
                same = replace(
                    expected[order.client_order_id],
                    status=order.status,
                    filled_qty=order.filled_qty,
                    fill_ids=order.fill_ids,
                    timed_out=order.timed_out,
                )
                assert replace(order, avg_price=same.avg_price, fee=same.fee) == same, where
                assert order.status is not OrderStatus.INTENT, where


@pytest.mark.parametrize("scenario", ["rebalance", "stop_out", "resting_moves"])
def test_a_second_crash_during_the_redelivery_changes_nothing_either(scenario, request):
    start, function, bar = request.getfixturevalue(scenario)
    plain, recorded = undisturbed(start, function, bar)
    expected = plain.outcome()
    telling = [n for name, method in (("ledger", "write"), ("exchange", "submit")) for n in recorded.named(name, method)]
    for first in telling:
        for second in range(4, len(recorded.made), 9):
            world = start()
            for number, late_s in ((first, 0.0), (second, LATE_S - 20)):
                with suppress(Crash):
                    world.run(function, at(bar), Calls(number, after=True).ports(world), late_s)
            world.run(function, at(bar), late_s=600.0)
            assert world.outcome() == expected, (first, second)


@pytest.mark.parametrize("reached", [True, False])
@pytest.mark.parametrize("scenario", ["rebalance", "second_rebalance", "stop_out", "scan_in"])
def test_a_lost_answer_and_then_a_crash_neither_lose_an_order_nor_send_one_twice(scenario, reached, request):
    """The first order's answer is lost, whether it arrived or not; the process dies at every call after that, and another resumes."""
    start, function, bar = request.getfixturevalue(scenario)
    world, exchange = start(), LosesAnswers(reached)
    recorded = Calls()
    run_losing(world, recorded, exchange, function, bar)
    lost = exchange.sent[0]
    first = recorded.named("exchange", "submit")[0]
    known = next(
        n for n in recorded.named("ledger", "write") if any(o.status is OrderStatus.UNKNOWN for o in recorded.made[n][2][1].orders)
    )
    for number in range(first + 1, len(recorded.made)):
        world, exchange = start(), LosesAnswers(reached)
        with suppress(Crash):
            run_losing(world, Calls(number), exchange, function, bar)
        calls = Calls()
        world.clock.set(at(bar) + timedelta(seconds=LATE_S))
        world.run(function, at(bar), calls.ports(world), late_s=LATE_S)
        resent = [calls.made[n][2][0].client_order_id for n in calls.named("exchange", "submit")]
        # Dead before the ledger knew of the lost answer: it is looked up, long after it was sent, and sent only if it never arrived.
        assert resent.count(lost) == (0 if reached or number > known else 1), number
        world.run("risk_check", at(bar + 1))
        check_books(world, f"call {number}")
        assert all(order.status.is_final for order in world.ledger.orders() if order.client_order_id == lost), number
        assert "LedgerMismatch" not in world.metrics.counts, number


def test_what_a_person_halts_between_a_death_and_its_retry_buys_nothing_more_and_still_sells(second_rebalance):
    start, function, bar = second_rebalance
    plain, recorded = undisturbed(start, function, bar)
    wanted = {order.client_order_id: order.side for order in plain.ledger.orders() if order.tick_at == at(bar)}
    assert Side.BUY in wanted.values()
    assert Side.SELL in wanted.values()
    held_back = 0
    for number in recorded.named("exchange", "submit"):
        where, world = f"call {number}", start()
        with suppress(Crash):
            world.run(function, at(bar), Calls(number).ports(world))
        fence = world.ledger.acquire("halt by a person", at(bar) + timedelta(seconds=LATE_S), 1)
        world.ledger.journal(fence, [LedgerUpdate(desk=replace(world.ledger.load(), halt=Halt("enough", at(bar))))])
        world.ledger.release(fence)
        calls = Calls()
        world.run(function, at(bar), calls.ports(world), late_s=LATE_S)
        sent = {calls.made[number][2][0].client_order_id for number in calls.named("exchange", "submit")}
        assert {wanted[order_id] for order_id in sent} <= {Side.SELL}, where
        ended = {order.client_order_id: order for order in world.ledger.orders() if order.client_order_id in wanted}
        never = {order_id for order_id, order in ended.items() if order.status is OrderStatus.CANCELED}
        assert not never & sent, where
        assert {wanted[order_id] for order_id in never} <= {Side.BUY}, where
        assert world.ledger.load().halt.reason == "enough"
        held_back += len(never)
        check_books(world, where)
    assert held_back


def timed_out(desk: DeskState | None, when: datetime) -> set[str]:
    """The pairs with an order whose time is over, or with its rest."""
    if desk is None:
        return set()
    late = {order.pair for order in desk.orders.values() if order.expires_at is not None and order.expires_at <= when}
    return late | {rest.pair for rest in desk.unfilled.values()}


class LosesAnswers:
    """An exchange that loses its first answer, before or after the order has reached it."""

    def __init__(self, reached: bool) -> None:
        self.reached = reached
        self.sent: list[str] = []

    def wrap(self, exchange: Any) -> Any:
        self._exchange = exchange
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._exchange, name)

    def submit(self, order: Order, when: datetime) -> Any:
        self.sent.append(order.client_order_id)
        if len(self.sent) > 1:
            return self._exchange.submit(order, when)
        if self.reached:
            self._exchange.submit(order, when)
        raise UnknownOutcomeError("time-out")


def run_losing(world: World, calls: Calls, exchange: LosesAnswers, function: str, bar: int) -> None:
    inside = ("sim_store", "bars", "market")  # What the exchange itself is made of: it does not die.
    ports = world.ports(
        lambda name, port: port if name in inside else calls.wrap(name, exchange.wrap(port) if name == "exchange" else port)
    )
    world.clock.set(at(bar))
    world.run(function, at(bar), ports)


def check_books(world: World, where: str) -> None:
    """Ledger and exchange tell the same story, every order and fill once."""
    desk, balances = world.ledger.load(), world.account()
    assert desk is not None, where
    assert desk.cash == balances.pop("USDT"), where
    assert {pair.split("/")[0]: position.qty for pair, position in desk.positions.items()} == balances, where
    fills = list(world.ledger.fills())
    assert len({fill.fill_id for fill in fills}) == len(fills), where
    orders = list(world.ledger.orders())
    assert len({(order.tick_at, order.pair, order.side, order.type) for order in orders}) == len(orders), where
    for order in orders:
        own = [fill.qty for fill in fills if fill.client_order_id == order.client_order_id]
        assert sum(own) == order.filled_qty <= order.qty, where


def check_stops(world: World, where: str) -> None:
    """Every position has one stop, of all that is held, in the ledger and at the exchange; nothing else has one."""
    desk = world.ledger.load()
    assert desk is not None, where
    resting = {order.pair: order for order in desk.orders.values() if order.type is OrderType.STOP}
    assert resting.keys() == desk.positions.keys(), where
    assert len(resting) == len(desk.orders), where
    for pair, order in resting.items():
        step = world.market.rules()[pair].qty_step
        assert order.qty == qty_down(desk.positions[pair].qty, step), where
    assert {sim.order.client_order_id for sim in world.exchange_orders()} == desk.orders.keys(), where


def test_lease_and_event_age_leave_room_for_a_redelivery(world):
    schedule = world.settings.schedule
    assert timedelta(seconds=schedule.lease_ttl_s) < timedelta(seconds=LATE_S) < timedelta(seconds=schedule.max_event_age_s)
