"""Dust: what cannot be sold is left alone, counted, and joined by what is bought later."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from made_desk import SETTINGS, T0, a_desk, a_position, a_tick, a_view
from tickless.execution.accounting import book
from tickless.execution.dust import dust_pairs
from tickless.pipeline import decide, decide_risk, portfolio_value
from tickless.settings import load_desk
from tickless.strategies.rotation import Rotation
from tickless.types import Fill, Liquidity, Order, OrderReport, OrderStatus, OrderType, PairRules, Side, StopState, iso

A = "A/USDT"
RULES = {A: PairRules(A, qty_step=Decimal("0.01"), min_qty=Decimal("0.01"), min_notional=Decimal(5))}
HIT = StopState(stop_price=150.0, atr=2.0)


def remainder(qty="0.04", *, strategy="rotation", stop=HIT):
    """What is left of 3, at 100."""
    return replace(a_position(A, "3", hours=500, stop=stop, strategy=strategy), sold_qty=Decimal(3) - Decimal(qty), sold_value=Decimal(290))


def rebalance(view, state, *, rules=RULES, full=False, minutes=0.0, settings=SETTINGS):
    return decide(a_tick(minutes, "full_rebalance" if full else "feature_rebalance"), Rotation(), view, state, settings, rules, full=full)


@pytest.mark.parametrize(
    ("qty", "close", "dust"),
    [
        ("0.009", 100.0, True),
        ("0.04", 100.0, True),
        ("0.04", 125.0, False),
        ("0.05", 100.0, False),
        ("0.05", None, False),
        ("3", 1.0, True),
    ],
)
def test_dust_is_what_falls_below_the_least_quantity_or_notional(qty, close, dust):
    position = replace(remainder(), bought_qty=Decimal(4), sold_qty=Decimal(4) - Decimal(qty))
    state = a_desk(position, marks={A: 100.0})
    assert dust_pairs(state, {} if close is None else {A: close}, RULES) == (frozenset({A}) if dust else frozenset())


def test_what_was_never_to_be_sold_or_has_an_open_order_or_no_filter_is_no_dust():
    small = a_position(A, "0.04")
    assert dust_pairs(a_desk(small), {A: 100.0}, RULES) == frozenset()
    assert dust_pairs(a_desk(small, blocked={A: iso(T0)}), {A: 100.0}, RULES) == frozenset({A})
    selling = Order("o-1", T0, "rotation", A, Side.SELL, OrderType.MARKET, Decimal(3), "x", status=OrderStatus.OPEN)
    assert dust_pairs(a_desk(remainder(), orders={"o-1": selling}), {A: 100.0}, RULES) == frozenset()
    assert dust_pairs(a_desk(remainder()), {A: 100.0}, {}) == frozenset()


@pytest.mark.parametrize("full", [False, True])
def test_dust_is_neither_sold_nor_held_nor_blocked(full):
    state = a_desk(remainder(), blocked={A: "2024-05-31T00:00:00Z"})
    checked = decide_risk(a_tick(0, "risk_check"), {A: 100.0}, state, SETTINGS, RULES)
    assert (checked.plan.orders, checked.plan.skipped, checked.state.blocked) == ((), {}, state.blocked)
    assert checked.trace["pairs"] == {A: {"action": "keep", "reason": "dust"}}
    assert checked.equity.equity == Decimal(50_004), "its value counts"

    decision = rebalance(a_view({A: {"score": -1.0}}), state, full=full)
    assert (decision.plan.orders, decision.plan.skipped) == ((), {})
    assert [decision.trace["pairs"][A][key] for key in ("action", "reason")] == ["keep", "dust"]
    assert decision.state.blocked == ({} if full else state.blocked)
    assert decision.state.positions == state.positions


def test_a_price_that_rises_makes_it_a_position_again():
    checked = decide_risk(a_tick(0, "risk_check"), {A: 140.0}, a_desk(remainder()), SETTINGS, RULES)
    assert [(order.side, order.qty) for order in checked.plan.orders] == [(Side.SELL, Decimal("0.04"))]
    left = rebalance(a_view({A: {"score": -1.0, "close": 140.0}}), a_desk(remainder()))
    assert [(order.side, order.qty) for order in left.plan.orders] == [(Side.SELL, Decimal("0.04"))]


@pytest.mark.parametrize("owner", ["rotation", "crossover"])
def test_what_is_bought_joins_the_dust(owner):
    """Also where another strategy has left it: the position is the buyer's, with its age and without the old stop."""
    state = a_desk(remainder(strategy=owner))
    decision = rebalance(a_view({A: {"score": 0.02}}), state)
    (order,) = decision.plan.orders
    whole = order.qty + Decimal("0.04")
    assert (order.side, float(whole)) == (Side.BUY, pytest.approx(0.15 * portfolio_value(state, {A: 100.0}) / 100.0, abs=0.02))
    position = decision.positions[-1]
    assert (position.strategy, position.opened_at, position.stop) == ("rotation", T0, StopState())
    assert decision.state.positions[A] == position

    fill = Fill("f-1", order.client_order_id, T0, A, Side.BUY, order.qty, Decimal(100), Decimal(0), "USDT", Decimal(0), Liquidity.TAKER)
    booked = book(decision.state, order, OrderReport(order.client_order_id, OrderStatus.FILLED, (fill,))).state
    held = booked.positions[A]
    assert (held.qty, held.entry_price) == (whole, Decimal(100))
    checked = decide_risk(a_tick(15, "risk_check"), {A: 100.0}, booked, SETTINGS, RULES)
    assert checked.plan.orders == (), "the stop of before would sell it at once"

    leaving = rebalance(a_view({A: {"score": -1.0}}), booked, minutes=30)
    (sell,) = leaving.plan.orders
    sold = replace(fill, fill_id="f-2", client_order_id=sell.client_order_id, side=Side.SELL, qty=sell.qty)
    booking = book(leaving.state, sell, OrderReport(sell.client_order_id, OrderStatus.FILLED, (sold,)))
    assert sell.qty == whole
    (trade,) = booking.update.trades
    assert (trade.qty, trade.pnl) == (Decimal(3) + order.qty, Decimal(-6)), "everything since the desk had none of it"


def test_a_target_below_the_dust_neither_buys_nor_sells():
    poor = a_desk(remainder(), cash="1", peak="5")
    assert rebalance(a_view({A: {"score": 0.02}}), poor).plan.orders == ()


def test_without_filters_there_is_none():
    off = load_desk("rotation", ["execution.filters=false"])
    checked = decide_risk(a_tick(0, "risk_check"), {A: 100.0}, a_desk(remainder()), off, RULES)
    assert [order.qty for order in checked.plan.orders] == [Decimal("0.04")]
