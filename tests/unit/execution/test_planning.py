"""From wishes to orders."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta

import pytest

from made_world import T0, D, at, make_order
from tickless.execution.planning import Account, Plan, Thresholds, Wish, client_order_id, plan_orders
from tickless.settings import ExecutionSection
from tickless.types import ExitPlan, OrderStatus, OrderType, PairRules, Side, Tick

A, B, C = "AAA/USDT", "BBB/USDT", "CCC/USDT"
TICK = Tick(T0, "feature_rebalance")
FREE = ExecutionSection(taker_fee_bps=0.0, slippage_bps=0.0, buy_cushion_bps=0.0)


def account(cash="1000", holdings=None, prices=None, rules=None, open_orders=(), equity=10_000.0) -> Account:
    holdings = {pair: D(qty) for pair, qty in (holdings or {}).items()}
    return Account(D(cash), equity, holdings, tuple(open_orders), prices or {A: 10.0, B: 10.0, C: 10.0}, rules or {})


def plan(wishes, account, *, hysteresis_frac=0.0, min_order_value=0.0, settings=FREE, tick=TICK) -> Plan:
    thresholds = Thresholds(hysteresis_frac, min_order_value)
    return plan_orders(wishes, account, tick, desk="rotation", strategy="rotation", thresholds=thresholds, settings=settings)


def short(plan: Plan) -> list[tuple[str, str, str]]:
    return [(order.pair, order.side.value, str(order.qty)) for order in plan.orders]


def test_sells_come_before_buys_whatever_the_order_of_wishes():
    planned = plan([Wish(A, 20.0), Wish(B, 0.0), Wish(C, 5.0)], account(holdings={B: "10", C: "8"}))
    assert short(planned) == [(B, "sell", "10"), (C, "sell", "3"), (A, "buy", "20")]


def test_buys_are_cut_to_the_cash_in_the_order_of_wishes():
    planned = plan([Wish(A, 60.0), Wish(B, 60.0), Wish(C, 1.0)], account(cash="1000"))
    assert short(planned) == [(A, "buy", "60"), (B, "buy", "40")]
    assert planned.skipped == {C: "no_cash"}


def test_cash_is_kept_for_fee_slippage_and_cushion():
    settings = ExecutionSection(taker_fee_bps=10.0, slippage_bps=5.0, buy_cushion_bps=85.0)
    (order,) = plan([Wish(A, 1000.0)], account(cash="1010"), settings=settings).orders
    assert order.qty == D(100)


def test_the_proceeds_of_market_sells_can_be_spent_less_their_cost():
    settings = ExecutionSection(taker_fee_bps=100.0, slippage_bps=0.0, buy_cushion_bps=0.0)
    planned = plan([Wish(A, 0.0), Wish(B, 100.0)], account(cash="0", holdings={A: "101"}), settings=settings)
    assert short(planned) == [(A, "sell", "101"), (B, "buy", "99")]


def test_the_proceeds_of_limit_sells_are_not_counted_on():
    settings = FREE.model_copy(update={"order_type": "limit"})
    planned = plan([Wish(A, 0.0), Wish(B, 100.0)], account(cash="0", holdings={A: "101"}), settings=settings)
    assert short(planned) == [(A, "sell", "101")]
    assert planned.skipped == {B: "no_cash"}


@pytest.mark.parametrize(("wish", "expected"), [(104.9, []), (105.0, ["5"]), (95.1, []), (95.0, ["5"])])
def test_a_change_smaller_than_the_hysteresis_is_left_alone(wish, expected):
    planned = plan([Wish(A, wish)], account(holdings={A: "100"}, equity=1000.0), hysteresis_frac=0.05)
    assert [str(order.qty) for order in planned.orders] == expected
    assert planned.skipped == ({} if expected else {A: "within_hysteresis"})


@pytest.mark.parametrize(("wish", "expected"), [(9.9, []), (10.0, ["10"])])
def test_a_change_smaller_than_the_minimum_order_is_left_alone(wish, expected):
    planned = plan([Wish(A, wish)], account(), min_order_value=100.0)
    assert [str(order.qty) for order in planned.orders] == expected
    assert planned.skipped == ({} if expected else {A: "below_min_order_value"})


def test_an_exit_ignores_both_and_sells_all_that_is_held():
    planned = plan([Wish(A, 0.0)], account(holdings={A: "0.123"}), hysteresis_frac=0.5, min_order_value=100.0)
    assert short(planned) == [(A, "sell", "0.123")]


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        (PairRules(A, min_notional=D(5)), "below_min_notional"),
        (PairRules(A, min_qty=D(1)), "below_min_qty"),
        (PairRules(A, qty_step=D(1)), "below_min_qty"),
        (PairRules(A, active=False), "pair_not_active"),
    ],
)
def test_dust_and_closed_pairs_stay_where_the_exchange_takes_no_order(rules, reason):
    planned = plan([Wish(A, 0.0)], account(holdings={A: "0.123"}, rules={A: rules}))
    assert (planned.orders, planned.skipped) == ((), {A: reason})


def test_quantities_are_rounded_down_to_the_step():
    rules = {pair: PairRules(pair, qty_step=D("0.25")) for pair in (A, B)}
    planned = plan([Wish(A, 1.9), Wish(B, 0.6)], account(holdings={B: "2"}, rules=rules))
    assert short(planned) == [(B, "sell", "1.25"), (A, "buy", "1.75")]


def test_what_cash_allows_is_held_to_the_minimum_again():
    planned = plan([Wish(A, 50.0)], account(cash="99"), min_order_value=100.0)
    assert (planned.orders, planned.skipped) == ((), {A: "no_cash"})


def test_a_pair_without_a_bar_is_neither_bought_nor_sold():
    planned = plan([Wish(A, 0.0), Wish(B, 5.0)], account(holdings={A: "10"}, prices={C: 10.0}))
    assert (planned.orders, planned.skipped) == ((), {A: "no_bar", B: "no_bar"})


@pytest.mark.parametrize(("side", "wish"), [(Side.BUY, 20.0), (Side.SELL, 3.0)])
def test_an_open_order_that_goes_the_same_way_is_left_to_work(side, wish):
    working = replace(make_order(side, "5"), status=OrderStatus.OPEN)
    planned = plan([Wish(A, wish)], account(holdings={A: "10"}, open_orders=[working]))
    assert (planned.orders, planned.cancels, planned.skipped) == ((), (), {A: "order_in_progress"})


def test_an_open_buy_is_cancelled_and_an_exit_sells_what_is_held():
    working = replace(make_order(Side.BUY, "5"), status=OrderStatus.OPEN)
    planned = plan([Wish(A, 0.0)], account(holdings={A: "10"}, open_orders=[working]))
    assert short(planned) == [(A, "sell", "10")]
    assert planned.cancels == ("o1",)


@pytest.mark.parametrize(("side", "wish"), [(Side.BUY, 8.0), (Side.SELL, 20.0)])
def test_any_other_opposite_order_is_cancelled_first_and_nothing_is_sent_yet(side, wish):
    working = replace(make_order(side, "5"), status=OrderStatus.OPEN)
    planned = plan([Wish(A, wish)], account(holdings={A: "10"}, open_orders=[working]))
    assert (planned.orders, planned.cancels, planned.skipped) == ((), ("o1",), {A: "cancelling_opposite_order"})


def test_cash_that_open_buys_will_take_is_not_planned_twice():
    working = replace(make_order(Side.BUY, "50", limit_price=12, pair=B), status=OrderStatus.OPEN, filled_qty=D(10))
    planned = plan([Wish(A, 100.0)], account(cash="1000", open_orders=[working]))
    assert short(planned) == [(A, "buy", "52")]


def test_limit_orders_stand_off_the_close_on_the_price_step_and_stops_go_to_market():
    settings = FREE.model_copy(update={"order_type": "limit", "limit_offset_bps": -20.0})
    rules = {pair: PairRules(pair, price_step=D("0.05")) for pair in (A, B)}
    planned = plan(
        [Wish(A, 5.0), Wish(B, 5.0), Wish(C, 0.0, urgent=True)], account(holdings={B: "9", C: "9"}, rules=rules), settings=settings
    )
    orders = {order.pair: order for order in planned.orders}
    assert (orders[A].type, orders[A].limit_price) == (OrderType.LIMIT, D("9.95")), "a buy is rounded down"
    assert (orders[B].type, orders[B].limit_price) == (OrderType.LIMIT, D("10.05")), "a sell is rounded up"
    assert (orders[C].type, orders[C].limit_price) == (OrderType.MARKET, None)


def test_a_limit_buy_above_the_close_is_paid_for_at_its_limit():
    settings = FREE.model_copy(update={"order_type": "limit", "limit_offset_bps": 400.0})
    (order,) = plan([Wish(A, 1000.0)], account(cash="1040"), settings=settings).orders
    assert (order.limit_price, order.qty) == (D("10.4"), D(100))


def test_orders_say_why_until_when_and_how_to_get_out():
    exits = ExitPlan(atr=0.5)
    planned = plan([Wish(A, 5.0, "enter", "leave", exits), Wish(B, 0.0, "enter", "leave", exits)], account(holdings={B: "1"}))
    sell, buy = planned.orders
    assert (sell.reason, sell.reduce_only, sell.exits) == ("leave", True, ExitPlan())
    assert (buy.reason, buy.reduce_only, buy.exits) == ("enter", False, exits)
    assert {order.expires_at for order in planned.orders} == {T0 + timedelta(seconds=FREE.unfilled_timeout_s)}
    assert {(order.status, order.tick_at) for order in planned.orders} == {(OrderStatus.INTENT, T0)}


def test_without_equity_nothing_but_exits_is_planned():
    planned = plan([Wish(A, 5.0), Wish(B, 0.0)], account(holdings={B: "1"}, equity=0.0))
    assert short(planned) == [(B, "sell", "1")]


def test_ids_are_the_same_for_the_same_decision_and_different_for_any_other():
    same = ("rotation", "rotation", TICK, A, "buy")
    changed = [
        ("other", "rotation", TICK, A, "buy"),
        ("rotation", "other", TICK, A, "buy"),
        ("rotation", "rotation", Tick(at(1), TICK.function), A, "buy"),
        ("rotation", "rotation", Tick(T0, "full_rebalance"), A, "buy"),
        ("rotation", "rotation", TICK, B, "buy"),
        ("rotation", "rotation", TICK, A, "sell"),
    ]
    ids = [client_order_id(*same), *(client_order_id(*parts) for parts in changed), client_order_id(*same, attempt=1)]
    assert client_order_id(*same) == ids[0]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[A-Za-z0-9]{1,32}", order_id) for order_id in ids)
