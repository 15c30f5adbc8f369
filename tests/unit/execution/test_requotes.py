"""What becomes of the rest of a limit order whose time is over: quoted again, crossed, or let go, like a fresh order in every respect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal as D
from typing import Any

import pytest

from made_desk import T0, a_desk, a_position, a_tick, a_view
from tickless.execution.accounting import book
from tickless.execution.requotes import due_now, end_by_time, overdue, remember
from tickless.pipeline import Decision, decide, decide_risk
from tickless.settings import ExecutionSection, Settings, load_desk
from tickless.strategies.rotation import Rotation
from tickless.types import (
    DeskState,
    ExitPlan,
    Fill,
    Halt,
    Liquidity,
    Order,
    OrderReport,
    OrderStatus,
    OrderType,
    PairRules,
    Reducing,
    Side,
    StopState,
    Unfilled,
    iso,
)

PAIR = "A/USDT"
TWICE = ExecutionSection(order_type="limit", unfilled_requotes=2)


def desk(*overrides: str) -> Settings:
    limits = ("execution.order_type=limit", "execution.unfilled_timeout_s=900", "execution.unfilled_requotes=2")
    return load_desk("rotation", [*limits, *overrides])


def a_limit(side: Side = Side.BUY, qty: str = "10", *, attempt: int = 0, **changes: Any) -> Order:
    order = Order("o-1", T0, "rotation", PAIR, side, OrderType.LIMIT, D(qty), "why", D(100), expires_at=T0 + timedelta(minutes=15))
    return replace(order, **{"status": OrderStatus.OPEN, "exits": ExitPlan(2.0), "attempt": attempt, **changes})


def a_rest(side: Side = Side.BUY, qty: str = "4", *, attempt: int = 1, minutes: float = 15, **changes: Any) -> Unfilled:
    rest = Unfilled("o-1", PAIR, "rotation", side, D(qty), "why", ExitPlan(2.0), attempt, T0 + timedelta(minutes=minutes))
    return replace(rest, **changes)


def with_rests(*rests: Unfilled, state: DeskState | None = None) -> DeskState:
    return replace(state or a_desk(), unfilled={rest.client_order_id: rest for rest in rests})


def check(state: DeskState, closes: dict[str, float], *overrides: str, minutes: float = 15, rules: Any = None, **options: Any) -> Decision:
    return decide_risk(a_tick(minutes, "risk_check"), closes, state, desk(*overrides), rules or {}, **options)


def let_go(decision: Decision) -> str:
    """Why the one rest was let go; nothing is sent then, and the rest is gone."""
    assert decision.plan.orders == ()
    assert decision.state.unfilled == {}
    return str(decision.trace["requotes"]["o-1"]["dropped"])


def some_of_it(qty: str) -> Fill:
    return Fill("f-1", "o-1", T0 + timedelta(minutes=5), PAIR, Side.BUY, D(qty), D(100), D(0), "USDT", D(0), Liquidity.MAKER)


# Remembered with the booking


def booked(order: Order, report: OrderReport, minutes: float = 15, settings: ExecutionSection = TWICE) -> Sequence[Unfilled]:
    booking = remember(book(a_desk().with_order(order), order, report), T0 + timedelta(minutes=minutes), settings)
    assert booking.update is not None
    assert booking.update.desk is booking.state, "one update: a crash cannot tear them apart"
    return tuple(booking.state.unfilled.values())


def test_what_a_timed_out_order_left_is_remembered_in_the_update_that_books_its_end():
    (rest,) = booked(a_limit(), OrderReport("o-1", OrderStatus.EXPIRED, (some_of_it("6"),)))
    assert rest == a_rest()


@pytest.mark.parametrize(
    ("order", "status", "minutes", "settings"),
    [
        (a_limit(), OrderStatus.CANCELED, 15, TWICE),
        (a_limit(), OrderStatus.REJECTED, 15, TWICE),
        (a_limit(), OrderStatus.EXPIRED, 14, TWICE),
        (a_limit(type=OrderType.MARKET, limit_price=None), OrderStatus.EXPIRED, 15, TWICE),
        (a_limit(attempt=2), OrderStatus.EXPIRED, 15, TWICE),
        (a_limit(), OrderStatus.EXPIRED, 15, ExecutionSection(order_type="limit")),
    ],
    ids=["cancelled", "rejected", "ended by the exchange before its time", "market", "no re-quote left", "by default"],
)
def test_nothing_else_is_remembered(order, status, minutes, settings):
    assert booked(order, OrderReport("o-1", status), minutes, settings) == ()


def test_with_cross_a_rest_is_remembered_after_the_last_re_quote():
    crossing = ExecutionSection(order_type="limit", unfilled_action="cross")
    assert [rest.attempt for rest in booked(a_limit(), OrderReport("o-1", OrderStatus.EXPIRED), settings=crossing)] == [1]


def test_an_order_that_filled_whole_leaves_nothing():
    assert booked(a_limit(), OrderReport("o-1", OrderStatus.FILLED, (some_of_it("10"),))) == ()


def test_what_the_desk_cancels_for_its_time_is_expired_and_what_it_cancels_otherwise_is_not():
    report = OrderReport("o-1", OrderStatus.CANCELED)
    assert end_by_time(a_limit(timed_out=True), report).status is OrderStatus.EXPIRED
    assert end_by_time(a_limit(), report) is report
    filled = OrderReport("o-1", OrderStatus.FILLED)
    assert end_by_time(a_limit(timed_out=True), filled) is filled


def test_only_what_rests_beyond_its_time_is_overdue():
    at = T0 + timedelta(minutes=15)
    late, unknown = a_limit(), a_limit(client_order_id="o-2", status=OrderStatus.UNKNOWN)
    stop = a_limit(client_order_id="o-3", type=OrderType.STOP, expires_at=None)
    assert overdue([late, unknown, stop], at) == (late,)
    assert overdue([late], at - timedelta(seconds=1)) == ()


# Who deals with it


def test_a_risk_check_leaves_a_rest_to_the_strategy_that_runs_later_in_the_minute():
    settings, state = desk(), with_rests(a_rest())
    assert due_now(state, a_tick(15, "risk_check"), settings) == (a_rest(),)
    assert due_now(state, a_tick(30, "risk_check"), settings) == ()
    assert due_now(state, a_tick(30, "feature_rebalance"), settings) == (a_rest(),)
    assert due_now(with_rests(a_rest(strategy="gone")), a_tick(30, "risk_check"), settings) != ()
    decision = check(state, {PAIR: 101.0}, minutes=30)
    assert (decision.plan.orders, decision.state.unfilled, decision.continued) == ((), state.unfilled, {})


# Quoted again


def test_a_buy_is_quoted_again_at_the_last_close_with_the_offset():
    decision = check(with_rests(a_rest()), {PAIR: 110.0}, "execution.limit_offset_bps=-100")
    (order,) = decision.plan.orders
    assert (order.side, order.qty, order.limit_price, order.type) == (Side.BUY, D(4), D("108.9"), OrderType.LIMIT)
    assert (order.reason, order.exits, order.strategy, order.attempt) == ("why", ExitPlan(2.0), "rotation", 1)
    assert order.expires_at == T0 + timedelta(minutes=30)
    assert len(order.client_order_id) == 30
    assert order.client_order_id.isalnum()
    assert decision.state.unfilled == {}
    assert decision.continued == {"o-1": a_rest()}
    assert decision.trace["requotes"] == {"o-1": {"pair": PAIR, "attempt": 1, "order": order.client_order_id}}
    assert decision.trace["pairs"] == {PAIR: {"action": "buy", "reason": "why"}}
    again = check(with_rests(a_rest(attempt=2)), {PAIR: 110.0}).plan.orders[0]
    assert again.client_order_id != order.client_order_id


def test_a_stop_that_rests_for_the_position_is_no_decision_on_the_pair():
    stop = a_limit(Side.SELL, client_order_id="o-2", type=OrderType.STOP, limit_price=None, stop_price=D(90), expires_at=None)
    state = replace(with_rests(a_rest(), state=a_desk(a_position(PAIR, "6"))), orders={"o-2": stop})
    assert check(state, {PAIR: 100.0}).trace["requotes"]["o-1"].get("dropped") != "decided_anew"


def test_after_the_last_re_quote_the_rest_crosses():
    (order,) = check(with_rests(a_rest(attempt=3)), {PAIR: 110.0}, "execution.unfilled_action=cross").plan.orders
    assert (order.type, order.limit_price, order.qty, order.attempt) == (OrderType.MARKET, None, D(4), 3)


@pytest.mark.parametrize(("held", "left", "sent"), [("10", "4", "4"), ("3", "4", "3"), ("4", "4", "4")])
def test_a_sell_goes_on_with_what_is_left_and_never_with_more_than_is_held(held, left, sent):
    state = with_rests(a_rest(Side.SELL, left), state=a_desk(a_position(PAIR, held)))
    (order,) = check(state, {PAIR: 100.0}).plan.orders
    assert (order.side, order.qty, order.reason, order.reduce_only) == (Side.SELL, D(sent), "why", True)


def test_a_sell_is_cut_to_what_the_exchange_has():
    state = with_rests(a_rest(Side.SELL, "8"), state=a_desk(a_position(PAIR, "10")))
    assert check(state, {PAIR: 100.0}, available={PAIR: D(3)}).plan.orders[0].qty == 3
    assert let_go(check(state, {PAIR: 100.0}, available={PAIR: D(0)})) == "nothing_held"


def test_quantities_are_exact_to_the_digit_and_on_the_step():
    rules = {PAIR: PairRules(PAIR, qty_step=D("0.00001"))}
    state = with_rests(a_rest(qty="0.30003"), state=a_desk(a_position(PAIR, "0.1")))
    assert check(state, {PAIR: 100.0}, rules=rules).plan.orders[0].qty == D("0.30003")
    odd = with_rests(a_rest(qty="0.3000377"))
    assert check(odd, {PAIR: 100.0}, rules=rules).plan.orders[0].qty == D("0.30003")


def test_a_buy_is_cut_to_the_cash_that_is_free_after_everything_else():
    other = a_limit(client_order_id="o-2", pair="B/USDT", qty="496", attempt=0)
    state = with_rests(a_rest(qty="40"), state=replace(a_desk(cash="50000"), orders={"o-2": other}))
    (order,) = check(state, {PAIR: 100.0}).plan.orders
    assert 0 < order.qty < 2
    broke = with_rests(a_rest(), state=a_desk(a_position("B/USDT", "500"), cash="0"))
    assert let_go(check(broke, {PAIR: 100.0, "B/USDT": 100.0})) == "no_cash"


# Let go


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"halt": Halt("drawdown", T0)}, "only_sells"),
        ({"reducing": Reducing("less there", T0)}, "only_sells"),
        ({"blocked": {PAIR: iso(T0)}}, "stopped_out"),
        ({"quarantined": {PAIR: iso(T0)}}, "pair_not_active"),
        ({"orders": {"o-2": a_limit(client_order_id="o-2")}}, "decided_anew"),
        ({"positions": {PAIR: a_position(PAIR, "1", strategy="crossover")}}, "belongs_to_crossover"),
    ],
)
def test_a_buy_that_would_not_be_sent_afresh_is_let_go(changes, why):
    state = replace(with_rests(a_rest()), **changes)
    assert let_go(check(state, {PAIR: 100.0})) == why


def test_sells_go_on_where_buys_may_not():
    for changes in ({"halt": Halt("drawdown", T0)}, {"reducing": Reducing("less there", T0)}):
        state = replace(with_rests(a_rest(Side.SELL), state=a_desk(a_position(PAIR, "10"))), **changes)
        assert [order.qty for order in check(state, {PAIR: 100.0}).plan.orders] == [D(4)]


def test_the_kill_switch_of_this_very_tick_ends_a_buy():
    state = with_rests(a_rest(), state=a_desk(cash="50000", peak="100000"))
    decision = check(state, {PAIR: 100.0})
    assert decision.state.halt is not None
    assert let_go(decision) == "only_sells"


def test_a_position_that_hits_its_stop_is_not_added_to():
    stopped = a_position(PAIR, "10", stop=StopState(stop_price=95.0, atr=2.0))
    decision = check(with_rests(a_rest(), state=a_desk(stopped)), {PAIR: 94.0})
    assert [(order.side, order.type, order.reason) for order in decision.plan.orders] == [(Side.SELL, OrderType.MARKET, "stop_loss")]
    assert decision.trace["requotes"]["o-1"]["dropped"] == "decided_anew"


@pytest.mark.parametrize(
    ("closes", "overrides", "rest", "why"),
    [
        ({}, (), a_rest(), "no_bar"),
        ({PAIR: 100.0}, (), a_rest(qty="0.04"), "below_min_notional"),
        ({PAIR: 100.0}, (), a_rest(strategy="crossover"), "strategy_gone"),
        ({PAIR: 100.0}, ("execution.unfilled_requotes=0",), a_rest(), "no_requote_left"),
        ({PAIR: 100.0}, (), a_rest(minutes=-16), "too_old"),
        ({PAIR: 100.0}, (), a_rest(Side.SELL), "nothing_held"),
    ],
)
def test_what_cannot_go_on_is_let_go_and_told(closes, overrides, rest, why):
    rules = {PAIR: PairRules(PAIR, min_notional=D(5))}
    assert let_go(check(with_rests(rest), closes, *overrides, rules=rules)) == why


def test_two_rests_of_one_pair_are_one_sell():
    both = (a_rest(), a_rest(Side.SELL, client_order_id="o-2"))
    decision = check(with_rests(*both, state=a_desk(a_position(PAIR, "10"))), {PAIR: 100.0})
    assert [order.side for order in decision.plan.orders] == [Side.SELL]
    assert decision.trace["requotes"]["o-1"]["dropped"] == "decided_anew"


# A strategy that decides


def rebalance(state: DeskState, pairs: dict[str, dict[str, float]]) -> Decision:
    return decide(a_tick(30), Rotation(), a_view(pairs, minutes=30), state, desk(), {})


def test_a_rebalance_that_wants_the_pair_decides_on_it_anew():
    decision = rebalance(with_rests(a_rest(minutes=30)), {PAIR: {"score": 0.02}})
    (order,) = decision.plan.orders
    assert (order.attempt, order.qty > 4) == (0, True)
    assert decision.trace["requotes"] == {"o-1": {"pair": PAIR, "dropped": "decided_anew"}}


def test_a_rebalance_that_wants_the_pair_no_more_lets_its_buy_go():
    decision = rebalance(with_rests(a_rest(minutes=30)), {PAIR: {"score": -0.02}})
    assert let_go(decision) == "decided_anew"
    assert decision.continued == {"o-1": a_rest(minutes=30)}


def test_no_other_strategy_enters_a_pair_whose_buy_goes_on():
    state = with_rests(a_rest(minutes=30, strategy="crossover"))
    decision = rebalance(state, {PAIR: {"score": 0.02}})
    assert decision.plan.orders == ()
    assert decision.trace["pairs"][PAIR]["reason"] == "belongs_to_crossover"
    assert decision.state.unfilled == state.unfilled


# The reason of an exit that goes on


def test_an_exit_that_expired_goes_on_under_the_reason_it_began_with():
    """A loss limit that was hit, and whose exit has ended before all was sold, is no stop loss."""
    state = a_desk(a_position(PAIR, "10", stop=StopState(stop_price=90.0, atr=2.0)))
    first = check(state, {PAIR: 97.0})
    assert [order.reason for order in first.plan.orders] == ["max_loss"]
    assert [position.stop.hit for position in first.positions] == ["max_loss"]
    second = check(first.state, {PAIR: 99.5}, minutes=15)
    assert [order.reason for order in second.plan.orders] == ["max_loss"]
