"""decide() with a strategy of signals: one entry a cross, one exit, and every limit of the desk in between."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal as D
from typing import Any

import pytest

from made_desk import T0, a_desk, a_position, a_signal_view
from tickless.pipeline import Decision, decide, decide_risk
from tickless.settings import Settings, load_desk
from tickless.strategies.crossover import Crossover
from tickless.types import Halt, Order, OrderStatus, OrderType, PairRules, Side, StopState, Tick

DESK = load_desk("crossover")
A, B, C = "A/USDT", "B/USDT", "C/USDT"
UP, DOWN = {"trend": 1.0, "crossed": 1.0}, {"trend": -1.0, "crossed": -1.0}
BELOW, ABOVE = {"trend": -1.0}, {"trend": 1.0}


def scan(pairs: Any, state: Any, *, settings: Settings = DESK, minutes: float = 0, rules: Any = None, **options: Any) -> Decision:
    tick = Tick(T0 + timedelta(minutes=minutes), "scan", "crossover")
    return decide(tick, Crossover(), a_signal_view(pairs, minutes=minutes), state, settings, rules or {}, **options)


def sent(decision: Decision) -> list[tuple[str, str, str]]:
    return [(order.side.value, order.pair, order.reason) for order in decision.plan.orders]


def said(decision: Decision, pair: str = A) -> tuple[str, str]:
    entry = decision.trace["pairs"][pair]
    return entry["action"], entry["reason"]


def mine(pair: str, qty: str = "10", **changes: Any) -> Any:
    return a_position(pair, qty, strategy="crossover", **changes)


def an_open(side: Side, pair: str = A, qty: str = "10") -> dict[str, Order]:
    when = T0 - timedelta(minutes=15)
    order = Order("o-1", when, "crossover", pair, side, OrderType.MARKET, D(qty), "entry", status=OrderStatus.OPEN)
    return {"o-1": order}


# Entries


def test_a_cross_up_buys_the_stake_at_the_last_close_once():
    decision = scan({A: UP | {"close": 8.0}, B: ABOVE}, a_desk())
    (order,) = decision.plan.orders
    assert (order.pair, order.qty, order.type, order.strategy, order.reason) == (A, D(125), OrderType.MARKET, "crossover", "cross_up")
    assert said(decision) == ("buy", "cross_up")
    assert said(decision, B) == ("pass", "no_cross_up")
    held = a_desk(mine(A, "125", price="8"), cash="49000")
    assert sent(scan({A: UP | {"close": 8.0}}, held)) == []
    assert sent(scan({A: UP | {"close": 4.0}}, held)) == []
    assert said(scan({A: UP | {"close": 4.0}}, held))[0] == "keep"


def test_an_entry_on_its_way_is_not_sent_again():
    decision = scan({A: UP}, a_desk(orders=an_open(Side.BUY)))
    assert (sent(decision), decision.plan.cancels) == ([], ())


def test_the_order_is_told_from_that_of_another_strategy_and_of_another_tick():
    (one,) = scan({A: UP}, a_desk()).plan.orders
    (later,) = scan({A: UP}, a_desk(), minutes=15).plan.orders
    assert one.client_order_id != later.client_order_id
    assert (one.tick_at, later.tick_at) == (T0, T0 + timedelta(minutes=15))


def test_cash_that_binds_buys_what_it_buys_and_then_nothing():
    pairs = dict.fromkeys((A, B, C), UP)
    decision = scan(pairs, a_desk(cash="1500"))
    assert [pair for _, pair, _ in sent(decision)] == [A, B]
    values = [float(order.qty) * 100.0 for order in decision.plan.orders]
    assert values[0] == pytest.approx(1000.0)
    assert 400.0 < values[1] < 500.0
    assert sum(values) <= 1500.0
    assert said(decision, C) == ("pass", "no_cash")
    least = load_desk("crossover", ["portfolio.min_order_value=600"])
    assert [pair for _, pair, _ in sent(scan(pairs, a_desk(cash="1500"), settings=least))] == [A]


def test_what_is_sold_at_the_same_tick_pays_for_what_is_bought():
    decision = scan({A: UP, B: DOWN}, a_desk(mine(B, "10"), cash="0", peak="1000"))
    assert [(side, pair) for side, pair, _ in sent(decision)] == [("sell", B), ("buy", A)]
    assert 900.0 < float(decision.plan.orders[1].qty) * 100.0 < 1000.0


# Exits


@pytest.mark.parametrize("seen", [DOWN, BELOW], ids=["at the cross", "while below"])
def test_it_leaves_whole_while_below(seen):
    rules = {A: PairRules(A, qty_step=D("0.1"), min_notional=D(5))}
    decision = scan({A: seen}, a_desk(mine(A, "10.123456789012345678")), rules=rules)
    assert [(o.side, o.qty, o.reason, o.reduce_only) for o in decision.plan.orders] == [
        (Side.SELL, D("10.123456789012345678"), "cross_down", True)
    ]


def test_an_exit_that_expired_is_asked_for_again_and_one_in_progress_is_not():
    waiting = a_desk(mine(A), orders=an_open(Side.SELL))
    assert sent(scan({A: DOWN}, waiting)) == []
    assert said(scan({A: DOWN}, waiting)) == ("keep", "order_in_progress")
    expired = replace(waiting, orders={})
    assert sent(scan({A: BELOW}, expired, minutes=15)) == [("sell", A, "cross_down")]
    partly = a_desk(replace(mine(A), sold_qty=D(4), sold_value=D(400)))
    assert [order.qty for order in scan({A: BELOW}, partly, minutes=15).plan.orders] == [D(6)]


def test_an_exit_that_did_not_fill_before_the_averages_crossed_back_is_called_off():
    assert sent(scan({A: UP}, a_desk(mine(A)), minutes=30)) == []


def test_a_pair_without_a_fresh_bar_is_sold_at_the_next_one():
    gone = {"close": float("nan"), "trend": -1.0, "ineligible": "no_bar"}
    decision = scan({A: gone}, a_desk(mine(A), marks={A: 90.0}))
    assert (sent(decision), said(decision)) == ([], ("keep", "no_bar"))
    assert sent(scan({A: BELOW}, a_desk(mine(A)), minutes=15)) == [("sell", A, "cross_down")]


def test_what_the_universe_has_dropped_is_sold_at_its_own_close():
    state = a_desk(mine(A), marks={A: 90.0})
    assert scan({B: ABOVE}, state).plan.skipped == {A: "no_bar"}
    decision = scan({B: ABOVE}, state, held_closes={A: 80.0})
    assert sent(decision) == [("sell", A, "left_universe")]
    assert scan({B: ABOVE}, a_desk(orders=an_open(Side.BUY))).plan.cancels == ("o-1",)


def test_an_open_buy_is_cancelled_when_the_averages_cross_down():
    decision = scan({A: DOWN}, a_desk(orders=an_open(Side.BUY)))
    assert (sent(decision), decision.plan.cancels) == ([], ("o-1",))
    half = a_desk(mine(A, "3"), orders=an_open(Side.BUY))
    decision = scan({A: DOWN}, half)
    assert decision.plan.cancels == ("o-1",)
    assert [(o.side, o.qty) for o in decision.plan.orders] == [(Side.SELL, D(3))]


# Limits of the desk


@pytest.mark.parametrize(
    ("changes", "reduce_only", "reason"),
    [
        ({"halt": Halt("a person said so", T0)}, "", "halted"),
        ({}, "A/USDT: the ledger holds 3, the exchange 0", "halted"),
        ({"blocked": {A: "2024-06-01T00:00:00Z"}}, "", "blocked_after_stop"),
    ],
    ids=["halted", "mismatch", "blocked"],
)
def test_whoever_may_not_buy_still_leaves(changes, reduce_only, reason):
    decision = scan({A: UP, B: DOWN}, a_desk(mine(B), **changes), reduce_only=reduce_only)
    assert sent(decision) == [("sell", B, "cross_down")]
    assert said(decision) == ("pass", reason)


def test_a_halt_cancels_its_open_buys_and_keeps_what_it_holds():
    state = a_desk(mine(B), orders=an_open(Side.BUY), halt=Halt("", T0))
    decision = scan({A: ABOVE, B: ABOVE}, state)
    assert (sent(decision), decision.plan.cancels) == ([], ("o-1",))
    assert said(decision, B)[0] == "keep"


def test_a_block_is_lifted_at_the_next_scan_of_a_desk_that_has_no_full_rebalance():
    state = a_desk(blocked={A: "2024-06-01T00:00:00Z", B: "2024-06-01T00:00:00Z"})
    assert sent(scan({A: UP}, state)) == []
    later = scan({A: UP}, state, minutes=15)
    assert sent(later) == [("buy", A, "cross_up")]
    assert later.state.blocked == {}


def test_a_drawdown_scales_the_stake_of_an_entry_and_sells_nothing():
    settings = load_desk("crossover", ['risk.drawdown_steps=[{"drawdown_frac":0.05,"scale_frac":0.5}]'])
    state = a_desk(mine(B), cash="49000", peak="54000")
    decision = scan({A: UP, B: ABOVE}, state, settings=settings)
    assert sent(decision) == [("buy", A, "cross_up")]
    assert float(decision.plan.orders[0].qty) == pytest.approx(5.0)
    assert decision.trace["limits"] == ["drawdown_scale:0.5"]
    nothing = load_desk("crossover", ['risk.drawdown_steps=[{"drawdown_frac":0.05,"scale_frac":0.0}]'])
    decision = scan({A: UP, B: ABOVE}, state, settings=nothing)
    assert (sent(decision), said(decision)) == ([], ("pass", "no_weight_left"))


def test_a_stake_below_the_minimum_is_not_worth_an_order():
    settings = load_desk("crossover", ["portfolio.min_order_value=1500"])
    decision = scan({A: UP}, a_desk(), settings=settings)
    assert (sent(decision), said(decision)) == ([], ("pass", "below_min_order_value"))
    filtered = load_desk("crossover", ["execution.filters=true"])
    decision = scan({A: UP}, a_desk(), settings=filtered, rules={A: PairRules(A, min_notional=D(5000))})
    assert (sent(decision), said(decision)) == ([], ("pass", "below_min_notional"))


def test_a_stop_of_the_desk_takes_a_position_of_signals_out_under_its_own_name():
    settings = load_desk("crossover", ["risk.max_position_loss_frac=0.05", "risk.block_after_stop=true"])
    state = a_desk(mine(A, stop=StopState()), cash="49000")
    decision = decide_risk(Tick(T0, "risk_check"), {A: 94.0}, state, settings, {})
    (order,) = decision.plan.orders
    assert (order.strategy, order.reason, order.qty) == ("crossover", "max_loss", D(10))
    assert decision.state.blocked == {A: "2024-06-01T00:00:00Z"}


def test_a_position_of_signals_is_sold_when_its_time_is_up():
    settings = load_desk("crossover", ["risk.time_stop_h=1"])
    assert sent(scan({A: ABOVE, B: ABOVE}, a_desk(mine(A, hours=200), mine(B, hours=0)), settings=settings)) == [("sell", A, "time_stop")]
    assert sent(scan({A: ABOVE}, a_desk(mine(A, hours=200)))) == [], "the built-in desk has no time stop"


def test_the_trace_says_what_the_signals_meant():
    decision = scan({A: UP, B: ABOVE, C: {"trend": float("nan")}}, a_desk(mine(B), cash="49000"))
    assert decision.trace["source"] == "signals"
    assert decision.trace["targets"] == {A: 0.02}
    assert {pair: said(decision, pair)[0] for pair in (A, B, C)} == {A: "buy", B: "keep", C: "pass"}
    assert said(decision, C) == ("pass", "features_not_settled")
    assert decision.trace["equity"] == 50_000.0
    assert "volatility_regime" not in decision.trace


def test_an_entry_carries_the_atr_that_its_stops_are_measured_in():
    decision = scan({A: {**UP, "atr_14_30m": 2.5}, B: {**UP, "atr_14_30m": float("nan")}}, a_desk())
    assert {order.pair: order.exits.atr for order in decision.plan.orders} == {A: 2.5, B: None}


def test_what_was_bought_less_of_for_lack_of_cash_is_a_limit_that_bound():
    decision = scan({A: UP, B: UP, C: UP}, a_desk(cash="1500"), settings=load_desk("crossover"))
    bought = {order.pair for order in decision.plan.orders}
    assert bought < {A, B, C}
    assert {limit for limit in decision.trace["limits"] if limit.startswith("cash:")} >= {f"cash:{pair}" for pair in {A, B, C} - bought}
    smallest = min(float(order.qty) * 100.0 for order in decision.plan.orders)
    assert smallest > 10.0, "no dust"
