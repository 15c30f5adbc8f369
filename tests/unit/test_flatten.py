"""A flatten: risk checks sell everything, until nothing is left that the exchange would take."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from made_desk import SETTINGS, T0, a_desk, a_position, a_tick
from tickless.pipeline import decide_risk
from tickless.types import Flatten, Halt, Order, OrderStatus, OrderType, PairRules, Side

ASKED = Flatten("leaving", T0)
CLOSES = {"A/USDT": 100.0, "B/USDT": 50.0}


def flattening(*positions, **changes):
    return replace(a_desk(*positions), halt=Halt("flatten: leaving", T0), flatten=ASKED, **changes)


def check(state, *, minutes=15.0, closes=CLOSES, rules=None, available=None):
    return decide_risk(a_tick(minutes, "risk_check"), closes, state, SETTINGS, rules or {}, available or {})


def an_order(pair, side, kind=OrderType.LIMIT):
    price = Decimal(90) if kind is OrderType.LIMIT else None
    return Order(f"{side}-{pair}", T0, "rotation", pair, side, kind, Decimal(1), "x", limit_price=price, status=OrderStatus.OPEN)


def test_it_sells_all_of_everything_at_market_and_says_so():
    a, b = a_position("A/USDT", "3"), a_position("B/USDT", "3")
    decision = check(flattening(a, b))
    assert [(o.pair, o.side, o.type, o.qty, o.reason) for o in decision.plan.orders] == [
        ("A/USDT", Side.SELL, OrderType.MARKET, a.qty, "flatten"),
        ("B/USDT", Side.SELL, OrderType.MARKET, b.qty, "flatten"),
    ]
    assert decision.alerts == ("flatten: sells A/USDT, B/USDT",)
    assert decision.trace["pairs"] == {pair: {"action": "sell", "reason": "flatten"} for pair in ("A/USDT", "B/USDT")}
    assert (decision.state.flatten, decision.state.blocked) == (ASKED, {})


def test_it_cancels_what_is_open_buys_everywhere_and_sells_that_are_not_at_market():
    waiting = [an_order("A/USDT", Side.SELL), an_order("C/USDT", Side.BUY)]
    decision = check(flattening(a_position("A/USDT", "3"), orders={order.client_order_id: order for order in waiting}))
    assert set(decision.plan.cancels) == {"sell-A/USDT", "buy-C/USDT"}
    assert [order.pair for order in decision.plan.orders] == ["A/USDT"]


def test_it_goes_on_until_orders_are_done_and_pairs_without_a_bar_have_one():
    position = a_position("A/USDT", "3")
    busy = {"x": replace(an_order("A/USDT", Side.SELL, OrderType.MARKET), client_order_id="x", qty=position.qty)}
    for state, closes in ((flattening(position, orders=busy), CLOSES), (flattening(position), {}), (flattening(orders=busy), CLOSES)):
        decision = check(state, closes=closes)
        assert (decision.plan.orders, decision.state.flatten, decision.alerts) == ((), ASKED, ())


@pytest.mark.parametrize(
    ("position", "rules", "available", "left"),
    [
        (None, {}, {}, ""),
        ("A/USDT", {"A/USDT": PairRules("A/USDT", min_notional=Decimal(10**9))}, {}, "; left: A/USDT (below_min_notional)"),
        ("A/USDT", {}, {"A/USDT": Decimal(0)}, "; left: A/USDT (not_at_the_exchange)"),
    ],
)
def test_it_is_over_when_nothing_is_left_that_can_be_sold_and_the_desk_stays_halted(position, rules, available, left):
    held = (a_position(position, "3"),) if position else ()
    decision = check(flattening(*held), rules=rules, available=available)
    assert decision.plan.orders == ()
    assert decision.state.flatten is None
    assert decision.state.halt is not None
    assert decision.alerts == (f"flatten is over, the desk holds nothing that it can sell and stays halted{left}",)


def test_it_sells_what_is_really_there():
    (order,) = check(flattening(a_position("A/USDT", "3")), available={"A/USDT": Decimal("0.5")}).plan.orders
    assert order.qty == Decimal("0.5")


def test_the_same_check_twice_asks_for_the_same_orders():
    state = flattening(a_position("A/USDT", "3"))
    assert check(state).plan == check(state).plan
