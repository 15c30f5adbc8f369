"""Limit orders that run out of time, tick by tick: quoted again, crossed, cancelled by the desk where no exchange does it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from interference import Calls, Crash

from made_world import REQUOTED, Patient, World, at, plain_fields
from tickless.errors import AccountError, FencedError, UnknownOutcomeError
from tickless.execution.rounding import qty_down
from tickless.settings import RegimeCounts, section_text
from tickless.types import Halt, LedgerUpdate, Order, OrderReport, OrderStatus, OrderType, Side

TWICE_THEN_CROSS = (*REQUOTED, "execution.unfilled_requotes=2", "execution.unfilled_action=cross")


@pytest.fixture(params=["ends orders", "ends none"])
def waiting(request: pytest.FixtureRequest, new_world: Callable[..., World]) -> Callable[..., World]:
    """A desk with limit orders that nobody fills, at an exchange that ends them and at one that does not."""

    def make(*overrides: str) -> World:
        world = new_world(*REQUOTED, *overrides)
        world = world if request.param == "ends orders" else Patient(**plain_fields(world))
        world.run("full_rebalance", at(0))
        assert len(world.ledger.load().orders) >= 2
        return world

    return make


def chains(world: World) -> dict[str, list[Order]]:
    """The orders of each pair, in the order of their ticks."""
    found: dict[str, list[Order]] = {}
    for order in world.ledger.orders():
        found.setdefault(order.pair, []).append(order)
    return found


def test_a_limit_order_is_quoted_again_twice_and_then_crossed_as_one_position(waiting):
    world = waiting("execution.unfilled_requotes=2", "execution.unfilled_action=cross")
    for bar in (1, 2, 3):
        world.run("risk_check", at(bar))
    assert len(chains(world)) >= 2
    for chain in chains(world).values():
        assert [(order.attempt, order.type) for order in chain] == [
            (0, OrderType.LIMIT),
            (1, OrderType.LIMIT),
            (2, OrderType.LIMIT),
            (3, OrderType.MARKET),
        ]
        assert [order.status for order in chain] == [OrderStatus.EXPIRED] * 3 + [OrderStatus.FILLED]
        assert len({order.client_order_id for order in chain}) == 4
        assert len({order.limit_price for order in chain}) == 4, "each at the price of its own tick"
        assert sum(order.filled_qty for order in chain) == chain[0].qty
        assert {(order.reason, order.strategy, order.exits) for order in chain} == {("fallback_chop", "rotation", chain[0].exits)}
    desk = world.ledger.load()
    assert {pair: position.qty for pair, position in desk.positions.items()} == {p: c[0].qty for p, c in chains(world).items()}
    assert (desk.orders, desk.unfilled, desk.mode) == ({}, {}, "ACTIVE")
    assert all(position.stop.stop_price is not None for position in desk.positions.values())


def test_with_cancel_the_rest_is_left_once_no_re_quote_is_left(waiting):
    world = waiting()
    for bar in (1, 2, 3):
        world.run("risk_check", at(bar))
    assert all([order.attempt for order in chain] == [0, 1] for chain in chains(world).values())
    desk = world.ledger.load()
    assert (desk.orders, desk.positions, desk.unfilled) == ({}, {}, {})


def test_by_default_an_order_that_ran_out_of_time_is_over(waiting):
    world = waiting("execution.unfilled_requotes=0")
    world.run("risk_check", at(1))
    assert {order.status for order in world.ledger.orders()} == {OrderStatus.EXPIRED}
    assert world.ledger.load().orders == {}


def test_a_halt_between_ends_the_rest(waiting):
    world = waiting()
    fence = world.ledger.acquire("a person", at(0), 1)
    world.ledger.journal(fence, [LedgerUpdate(desk=replace(world.ledger.load(), halt=Halt("enough", at(0))))])
    world.ledger.release(fence)
    world.run("risk_check", at(1))
    assert {order.attempt for order in world.ledger.orders()} == {0}
    assert world.ledger.load().unfilled == {}


def test_a_rebalance_of_the_minute_decides_and_not_the_risk_check_before_it(waiting):
    world = waiting("execution.unfilled_timeout_s=3600")
    world.run("risk_check", at(4))
    rests = world.ledger.load().unfilled
    assert len(rests) >= 2
    world.run("feature_rebalance", at(4))
    assert world.ledger.load().unfilled == {}
    assert {order.attempt for order in world.ledger.orders()} == {0}
    told = world.trace.read(next(record.tick for record in world.ledger.ticks() if record.tick.function == "feature_rebalance"))
    assert told is not None
    assert set(told["requotes"]) == set(rests)


# An exchange that ends no order by itself


class Tampered:
    """An exchange of which one method is another."""

    def __init__(self, exchange: Any, **methods: Any) -> None:
        self._exchange, self._methods = exchange, methods

    def __getattr__(self, name: str) -> Any:
        method = self._methods.get(name)
        return (lambda *args: method(self._exchange, *args)) if method else getattr(self._exchange, name)


def ports(world: World, **methods: Any) -> Any:
    return world.ports(lambda name, port: Tampered(port, **methods) if name == "exchange" else port)


@pytest.fixture
def patient(new_world: Callable[..., World]) -> World:
    world = Patient(**plain_fields(new_world(*REQUOTED)))
    world.run("full_rebalance", at(0))
    return world


def test_what_rests_beyond_its_time_is_cancelled_and_the_fills_of_the_race_are_booked(patient):
    """Between the tick's first look and the cancellation half of it fills: that half is held, the other is quoted again."""
    half: dict[str, Any] = {}

    def cancel(exchange: Any, order: Order, when: Any) -> OrderReport:
        if half:
            return exchange.cancel(order, when)
        part = replace(
            order,
            client_order_id="race",
            qty=qty_down(order.qty / 2, patient.market.rules()[order.pair].qty_step),
            type=OrderType.MARKET,
            limit_price=None,
        )
        report = exchange.submit(part, when)
        (fill,) = report.fills
        exchange.cancel(order, when)
        half[order.client_order_id] = replace(fill, client_order_id=order.client_order_id)
        return OrderReport(order.client_order_id, OrderStatus.CANCELED, (half[order.client_order_id],))

    patient.run("risk_check", at(1), ports(patient, cancel=cancel))
    ((ended, fill),) = half.items()
    desk = patient.ledger.load()
    assert desk.positions[fill.pair].qty == fill.qty
    (first, second) = chains(patient)[fill.pair]
    assert (first.client_order_id, first.status) == (ended, OrderStatus.EXPIRED)
    assert second.qty <= first.qty - fill.qty
    assert desk.mode == "ACTIVE", "balances were read again after the cancellations"
    assert patient.notifier.alerts == []


def test_a_cancellation_that_fails_is_tried_again_at_the_next_tick(patient):
    def busy(*_: Any) -> Any:
        raise UnknownOutcomeError("time-out")

    patient.run("risk_check", at(1), ports(patient, cancel=busy))
    assert {order.timed_out for order in patient.ledger.load().orders.values()} == {True}
    assert {order.attempt for order in patient.ledger.orders()} == {0}
    patient.run("risk_check", at(2))
    assert {order.attempt for order in patient.ledger.orders()} == {0, 1}


def test_an_account_that_is_refused_at_the_cancellation_halts_the_desk_and_sends_nothing(patient):
    def refuse(*_: Any) -> Any:
        raise AccountError("key revoked")

    calls = Calls()
    patient.clock.set(at(1))
    wrapped = patient.ports(lambda name, port: calls.wrap(name, Tampered(port, cancel=refuse)) if name == "exchange" else port)
    patient.run("risk_check", at(1), wrapped)
    assert patient.ledger.load().halt == Halt("key revoked", at(1))
    assert calls.named("exchange", "submit") == []


def test_an_account_that_is_refused_after_the_cancellations_keeps_what_was_booked(patient):
    looks: list[int] = []

    def snapshot(exchange: Any, *args: Any) -> Any:
        looks.append(1)
        if len(looks) == 2:
            raise AccountError("key revoked")
        return exchange.snapshot(*args)

    patient.run("risk_check", at(1), ports(patient, snapshot=snapshot))
    desk = patient.ledger.load()
    assert (desk.halt, desk.orders, desk.unfilled) == (Halt("key revoked", at(1)), {}, {})
    assert {order.status for order in patient.ledger.orders()} == {OrderStatus.EXPIRED}


def test_what_the_desk_wants_no_more_is_not_quoted_again_although_its_time_is_over_when_that_is_found(patient):
    """The desk cancels its buys as it is halted, dies before it is told so, and finds them cancelled when their time is over."""
    fence = patient.ledger.acquire("a person", at(0), 1)
    state = patient.ledger.load()
    later = {i: replace(order, expires_at=at(2)) for i, order in state.orders.items()}
    patient.ledger.journal(fence, [LedgerUpdate(desk=replace(state, halt=Halt("enough", at(0))), orders=tuple(later.values()))])
    patient.ledger.release(fence)
    calls = Calls()
    patient.run("risk_check", at(1), calls.ports(patient))
    last = calls.named("exchange", "cancel")[-1]
    again = Patient(**plain_fields(patient))
    again.run("full_rebalance", at(0))
    fence = again.ledger.acquire("a person", at(0), 1)
    again.ledger.journal(fence, [LedgerUpdate(desk=replace(again.ledger.load(), halt=Halt("enough", at(0))), orders=tuple(later.values()))])
    again.ledger.release(fence)
    with suppress(Crash):
        again.run("risk_check", at(1), Calls(last, after=True).ports(again))
    fence = again.ledger.acquire("a person", at(1) + timedelta(seconds=300), 1)
    again.ledger.journal(fence, [LedgerUpdate(desk=replace(again.ledger.load(), halt=None))])
    again.ledger.release(fence)
    again.run("risk_check", at(2), late_s=300)
    assert {order.status for order in again.ledger.orders()} == {OrderStatus.CANCELED}
    assert {order.attempt for order in again.ledger.orders()} == {0}


# What may still be on its way


def test_an_order_that_a_late_tick_has_just_sent_is_not_given_up_by_the_next(new_world):
    """Its tick came a quarter of an hour late and lost the answer; the next one runs ten seconds after it was sent."""
    world = new_world("schedule.max_event_age_s=3000")

    def lose(*_: Any) -> Any:
        raise UnknownOutcomeError("time-out")

    world.run("full_rebalance", at(0), ports(world, submit=lose), late_s=890)
    assert {order.status for order in world.ledger.load().orders.values()} == {OrderStatus.UNKNOWN}
    world.run("risk_check", at(1))
    assert {order.status for order in world.ledger.load().orders.values()} == {OrderStatus.UNKNOWN}
    world.run("risk_check", at(2))
    assert world.ledger.load().orders == {}
    assert {order.status for order in world.ledger.orders()} == {OrderStatus.CANCELED}


def in_flight_at_a_halt(world: World) -> World:
    """A late tick's orders get through, and their answers are lost; ten seconds later a person has halted the desk."""

    def lose(*_: Any) -> Any:
        raise UnknownOutcomeError("time-out")

    world.run("full_rebalance", at(0), ports(world, submit=lose), late_s=890)
    fence = world.ledger.acquire("a person", at(1), 1)
    world.ledger.journal(fence, [LedgerUpdate(desk=replace(world.ledger.load(), halt=Halt("enough", at(1))))])
    world.ledger.release(fence)
    return world


def test_who_cancels_an_order_that_may_be_on_its_way_does_not_believe_that_it_is_gone(new_world):
    world = in_flight_at_a_halt(new_world("schedule.max_event_age_s=3000"))
    calls = Calls()
    world.run("risk_check", at(1), calls.ports(world))
    sent = world.ledger.load().orders
    assert len(calls.named("exchange", "cancel")) == len(sent) >= 2, "it is tried all the same: the exchange may know it by then"
    assert {order.status for order in sent.values()} == {OrderStatus.UNKNOWN}
    for order in sent.values():  # They arrive.
        world.venue(world.sim_store, world.bars, world.market, world.settings).submit(order, at(1))
    world.run("risk_check", at(2))
    desk = world.ledger.load()
    assert {pair: position.qty for pair, position in desk.positions.items()} == {order.pair: order.qty for order in sent.values()}
    assert (desk.orders, desk.reducing) == ({}, None)


def test_an_order_that_may_be_on_its_way_is_given_up_once_it_must_have_arrived(new_world):
    world = in_flight_at_a_halt(new_world("schedule.max_event_age_s=3000"))
    world.run("risk_check", at(1), late_s=49)
    assert {order.status for order in world.ledger.load().orders.values()} == {OrderStatus.UNKNOWN}
    world.run("risk_check", at(2))
    assert world.ledger.load().orders == {}
    assert {order.status for order in world.ledger.orders()} == {OrderStatus.CANCELED}


def test_what_a_cancellation_shows_of_an_order_on_its_way_is_believed(new_world):
    world = in_flight_at_a_halt(new_world("schedule.max_event_age_s=3000"))

    def arrived(exchange: Any, order: Order, when: Any) -> OrderReport:
        return exchange.submit(replace(order, status=OrderStatus.INTENT), when)

    world.run("risk_check", at(1), ports(world, cancel=arrived))
    assert world.ledger.load().orders == {}
    assert {order.status for order in world.ledger.orders()} == {OrderStatus.FILLED}
    assert world.ledger.load().positions


def test_no_order_is_sent_so_late_that_it_may_arrive_after_the_lease(world):
    """Whoever takes an abandoned lease finds at the exchange all that was sent under it."""

    def slow(exchange: Any, order: Order, when: Any) -> Any:
        world.clock.set(at(0) + timedelta(seconds=world.settings.schedule.lease_ttl_s - 30))
        return exchange.submit(order, when)

    calls = Calls()
    wrapped = world.ports(lambda name, port: Tampered(calls.wrap(name, port), submit=slow) if name == "exchange" else port)
    with pytest.raises(FencedError, match="its lease ends at 2024-06-01T00:04:00Z; it sends no further order"):
        world.run("full_rebalance", at(0), wrapped)
    assert len(calls.named("exchange", "submit")) == 1


def test_sells_are_quoted_again_too(new_world):
    """A desk that has bought at market turns to limits far off, sells what is no target any more, and goes on with it."""
    world = new_world(*TWICE_THEN_CROSS)
    limits = world.settings.sections()["execution"]
    world.parameters.write("execution", limits.replace('"order_type":"limit"', '"order_type":"market"'))
    world.run("full_rebalance", at(0))
    held = world.ledger.load().positions
    world.parameters.write("execution", limits)
    none = RegimeCounts(trend=0, chop=0, down=0)
    world.parameters.write("portfolio", section_text(world.settings.portfolio.model_copy(update={"top_k": none})))
    world.run("feature_rebalance", at(4))
    sells = [order for order in world.ledger.orders() if order.side is Side.SELL]
    assert {order.pair for order in sells} == set(held)
    for bar in (5, 6, 7):
        world.run("risk_check", at(bar))
    assert world.ledger.load().positions == {}
    assert {trade.exit_reason for trade in world.ledger.trades()} == {sells[0].reason}
    assert len(list(world.ledger.trades())) == len(held), "one trade a position"
