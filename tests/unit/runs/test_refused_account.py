"""An exchange that refuses the account (a revoked key, a missing right, a clock that is off), or asks us to wait."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from interference import Calls, Crash

from made_world import World, at
from tickless.errors import AccountError, RateLimitedError
from tickless.ports import Ports
from tickless.types import OrderStatus, Side, Tick

REVOKED = AccountError("binance: balances: AuthenticationError (the keys are those of secret 'desk/keys')")
LIMITED = RateLimitedError("request budget: 5 of 5 request weight are spent", at(0) + timedelta(seconds=60))


class Refusing:
    """An exchange whose ``method`` raises from its call number ``number`` on."""

    def __init__(self, error: Exception, method: str, number: int = 0) -> None:
        self.error, self.method, self.number, self.asked = error, method, number, 0
        self.reached: list[tuple[str, str]] = []

    def ports(self, world: World) -> Ports:
        return world.ports(lambda name, port: _Between(self, port) if name == "exchange" else port)

    def sent(self) -> list[str]:
        """The ids of the orders that came through."""
        return [what for method, what in self.reached if method == "submit"]


class _Between:
    def __init__(self, refusing: Refusing, exchange: Any) -> None:
        self._refusing, self._exchange = refusing, exchange

    def __getattr__(self, method: str) -> Callable[..., Any]:
        refusing = self._refusing

        def call(first: Any, *rest: Any) -> Any:
            if method == refusing.method:
                refusing.asked += 1
                if refusing.asked > refusing.number:
                    raise refusing.error
            refusing.reached.append((method, getattr(first, "client_order_id", "")))
            return getattr(self._exchange, method)(first, *rest)

        return call


def test_a_key_that_is_revoked_halts_the_desk_tells_people_once_and_records_the_tick(invested):
    before = invested.ledger.load()
    for tick in (1, 2):
        report = invested.run("risk_check", at(tick), Refusing(REVOKED, "snapshot").ports(invested))
        assert (report.status, report.facts["halted"], report.facts["orders"]) == ("done", True, 0)
    desk = invested.ledger.load()
    assert (desk.halt.reason, desk.halt.since, desk.last_tick_at) == (str(REVOKED), at(1), at(2))
    assert (desk.cash, desk.positions, desk.orders) == (before.cash, before.positions, before.orders)
    ((_, message),) = invested.notifier.alerts
    assert str(REVOKED) in message
    assert invested.metrics.counts["AccountRefused"] == 2
    assert invested.metrics.gauges["Halted"][-2:] == [1.0, 1.0]
    assert invested.metrics.gauges["Equity"][-1] == pytest.approx(50_000, rel=0.05)
    assert invested.trace.read(Tick(at(2), "risk_check"))["refused"] == str(REVOKED)


def test_a_halted_desk_sells_and_does_not_buy_once_the_account_is_good_again(invested):
    invested.run("full_rebalance", at(2), Refusing(REVOKED, "snapshot").ports(invested))
    invested.run("full_rebalance", at(24))
    assert invested.ledger.load().halt is not None
    assert {order.side for order in invested.ledger.orders() if order.tick_at > at(0)} <= {Side.SELL}


def test_a_halt_that_stands_keeps_its_reason_and_people_are_told_all_the_same(invested):
    invested.run("risk_check", at(1), Refusing(AccountError("the clock is off"), "snapshot").ports(invested))
    invested.run("risk_check", at(2), Refusing(REVOKED, "snapshot").ports(invested))
    assert invested.ledger.load().halt.reason == "the clock is off"
    assert [str(REVOKED) in message for _, message in invested.notifier.alerts] == [False, True]


@pytest.mark.parametrize("number", [0, 2])
def test_what_is_not_sent_when_the_account_is_refused_is_cancelled_and_never_sent(world, number):
    refusing = Refusing(REVOKED, "submit", number)
    report = world.run("full_rebalance", at(0), refusing.ports(world))
    orders = list(world.ledger.orders())
    assert report.facts["halted"]
    assert refusing.asked == number + 1, "after the first refusal nothing more is asked"
    assert len(refusing.sent()) == number < len(orders) - 1
    for order in orders:
        came_through = order.client_order_id in refusing.sent()
        assert order.status is (OrderStatus.FILLED if came_through else OrderStatus.CANCELED), order
    assert world.ledger.load().orders == {}
    assert len(world.ledger.load().positions) == number
    world.run("risk_check", at(1))
    assert "LedgerMismatch" not in world.metrics.counts


def test_a_cancellation_that_is_refused_sends_nothing_after_it(new_world):
    world = new_world('execution.order_type="limit"', "execution.limit_offset_bps=-500.0", "execution.unfilled_timeout_s=86400")
    world.run("full_rebalance", at(0))
    waiting = world.ledger.load().orders
    assert waiting
    refusing = Refusing(REVOKED, "cancel")
    world.run("full_rebalance", at(24), refusing.ports(world))
    desk = world.ledger.load()
    assert (refusing.asked, refusing.sent()) == (1, [])
    assert desk.halt.reason == str(REVOKED)
    assert desk.orders == waiting, "they rest at the exchange until somebody may cancel them"
    assert {order.status for order in world.ledger.orders() if order.tick_at == at(24)} <= {OrderStatus.CANCELED}


def test_a_tick_that_is_resumed_on_a_refused_account_guesses_nothing_about_its_intents(world):
    calls = Calls()
    world_twin = World(world.market, world.settings)
    world_twin.run("full_rebalance", at(0), calls.ports(world_twin))
    second = calls.named("exchange", "submit")[1]
    killed = Calls(second, after=True)
    with pytest.raises(Crash):
        world.run("full_rebalance", at(0), killed.ports(world))
    world.run("full_rebalance", at(0), Refusing(REVOKED, "snapshot").ports(world), late_s=500)
    desk = world.ledger.load()
    assert desk.halt is not None
    assert {order.status for order in desk.orders.values()} == {OrderStatus.INTENT}
    world.run("risk_check", at(1))
    statuses = [order.status for order in world.ledger.orders()]
    assert statuses.count(OrderStatus.FILLED) == 2, "the exchange knows two of them"
    assert set(statuses) == {OrderStatus.FILLED, OrderStatus.CANCELED}
    assert "LedgerMismatch" not in world.metrics.counts


def test_a_desk_that_has_never_run_cannot_be_halted_and_fails(world):
    with pytest.raises(AccountError, match="desk/keys"):
        world.run("risk_check", at(0), Refusing(REVOKED, "snapshot").ports(world))
    assert (world.ledger.load(), list(world.ledger.ticks())) == (None, [])


def test_where_the_budget_is_spent_before_anything_is_known_the_tick_fails_and_a_retry_does_all_of_it(invested):
    before = list(invested.ledger.ticks())
    with pytest.raises(RateLimitedError):
        invested.run("full_rebalance", at(2), Refusing(LIMITED, "snapshot").ports(invested))
    assert list(invested.ledger.ticks()) == before
    assert invested.run("full_rebalance", at(2), late_s=60).status == "done"
    assert invested.ledger.load().halt is None


def test_an_order_for_which_there_is_no_budget_is_not_sent_and_the_desk_is_not_halted(world):
    refusing = Refusing(LIMITED, "submit", 1)
    world.run("full_rebalance", at(0), refusing.ports(world))
    statuses = [order.status for order in world.ledger.orders()]
    assert (statuses.count(OrderStatus.FILLED), set(statuses)) == (1, {OrderStatus.FILLED, OrderStatus.CANCELED})
    assert refusing.asked == len(statuses), "each may be an exit, which has the reserve"
    assert world.ledger.load().halt is None
