"""However a limit order's time runs out, no more goes on than was first asked for, nor more often than the settings say."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal as D

from hypothesis import given, settings
from hypothesis import strategies as st

from made_desk import T0, a_desk, a_position
from tickless.execution.accounting import book
from tickless.execution.requotes import end_by_time, remember
from tickless.pipeline import decide_risk
from tickless.settings import load_desk
from tickless.types import ExitPlan, Fill, Liquidity, Order, OrderReport, OrderStatus, OrderType, PairRules, Side, Tick

PAIR = "A/USDT"
STEP = D("0.001")
QUIET = ("risk.max_position_loss_frac=1.0", "risk.kill_switch_drawdown_frac=off", "schedule.rebalance_every_min=60")


@settings(max_examples=60, deadline=None)
@given(
    side=st.sampled_from(list(Side)),
    first=st.integers(1, 20_000),
    held=st.integers(1, 30_000),
    requotes=st.integers(0, 4),
    action=st.sampled_from(["cancel", "cross"]),
    by_the_desk=st.booleans(),
    shares=st.lists(st.integers(0, 100), min_size=8, max_size=8),
    prices=st.lists(st.integers(50, 200), min_size=8, max_size=8),
)
def test_a_chain_of_re_quotes_fills_no_more_than_its_first_order_and_ends(side, first, held, requotes, action, by_the_desk, shares, prices):
    overrides = [f"execution.unfilled_requotes={requotes}", f"execution.unfilled_action={action}", "execution.order_type=limit", *QUIET]
    desk = load_desk("rotation", ["execution.unfilled_timeout_s=900", "schedule.full_rebalance_hours=[]", *overrides])
    rules = {PAIR: PairRules(PAIR, qty_step=STEP)}
    state = a_desk(a_position(PAIR, str(held * STEP)), cash="100000000")
    order = Order("first", T0, "rotation", PAIR, side, OrderType.LIMIT, first * STEP, "why", D(100), exits=ExitPlan())
    order = replace(order, expires_at=T0 + timedelta(minutes=15), status=OrderStatus.OPEN)
    start, sent, filled = state.positions[PAIR].qty, [order], D(0)
    state = state.with_order(order)
    bars = [minute for minute in range(15, 200, 15) if minute % 60][:8]
    for minute, share, price in zip(bars, shares, prices, strict=True):
        at = T0 + timedelta(minutes=minute)
        order = replace(sent[-1], status=OrderStatus.OPEN, expires_at=at, timed_out=by_the_desk)
        room = state.positions[PAIR].qty if side is Side.SELL and PAIR in state.positions else order.qty
        qty = min((order.qty * share / 100).quantize(STEP, "ROUND_DOWN"), room)
        fill = Fill(f"f{minute}", order.client_order_id, at, PAIR, side, qty, D(price), D(0), "USDT", D(0), Liquidity.MAKER)
        status = OrderStatus.FILLED if qty == order.qty else OrderStatus.CANCELED if by_the_desk else OrderStatus.EXPIRED
        report = OrderReport(order.client_order_id, status, (fill,) if qty else ())
        state = remember(book(state.with_order(order), order, end_by_time(order, report)), at, desk.execution).state
        filled += qty
        closes = {PAIR: float(price)}
        plan = decide_risk(Tick(at, "risk_check"), closes, state, desk, rules)
        state = plan.state
        assert state.unfilled == {}
        if not plan.plan.orders:
            break
        (following,) = plan.plan.orders
        assert following.qty <= order.qty - qty
        assert following.attempt == order.attempt + 1
        assert following.type is (OrderType.LIMIT if following.attempt <= requotes else OrderType.MARKET)
        sent.append(following)
        state = state.with_order(following)
    assert filled <= first * STEP
    assert len(sent) <= 1 + requotes + (action == "cross")
    assert len({one.client_order_id for one in sent}) == len(sent)
    end = state.positions[PAIR].qty if PAIR in state.positions else D(0)
    assert abs(end - start) == filled
