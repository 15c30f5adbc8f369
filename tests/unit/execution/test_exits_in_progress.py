"""An exit sells everything: no smaller or more passive sell that is still open may stand in its way."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal as D

import pytest

from made_desk import a_view
from tickless.execution.planning import Account, Thresholds, Wish, plan_orders
from tickless.pipeline import decide, decide_risk
from tickless.settings import ExecutionSection, load_desk
from tickless.strategies.rotation import Rotation
from tickless.types import DeskState, Order, OrderStatus, OrderType, Position, Side, StopState, Tick, iso

AT = datetime(2024, 6, 1, 0, 15, tzinfo=UTC)
TICK = Tick(AT, "risk_check")
PAIR = "SOL/USDT"


def open_sell(qty: str, kind: OrderType = OrderType.MARKET) -> Order:
    limit = D(100) if kind is OrderType.LIMIT else None
    return Order("open", AT, "rotation", PAIR, Side.SELL, kind, D(qty), "rebalance", limit, status=OrderStatus.OPEN)


@pytest.mark.parametrize(
    ("order", "urgent", "sent"),
    [
        (open_sell("10"), True, True),
        (open_sell("10"), False, True),
        (open_sell("100", OrderType.LIMIT), True, True),
        (open_sell("100", OrderType.LIMIT), False, False),
        (open_sell("100"), True, False),
    ],
)
def test_an_exit_replaces_a_sell_that_is_smaller_or_too_patient(order, urgent, sent):
    account = Account(D(0), 10_000.0, {PAIR: D(100)}, (order,), {PAIR: 60.0}, {})
    wish = Wish(PAIR, 0.0, exit_reason="stop_loss", urgent=urgent)
    plan = plan_orders([wish], account, TICK, desk="d", strategy="rotation", thresholds=Thresholds(0.0, 0.0), settings=ExecutionSection())
    if sent:
        assert [(o.qty, o.type) for o in plan.orders] == [(D(100), OrderType.MARKET)]
        assert plan.cancels == ("open",)
    else:
        assert (plan.orders, plan.cancels, plan.skipped) == ((), (), {PAIR: "order_in_progress"})


def stopped_out(sold: str) -> DeskState:
    """A position that was stopped out 15 minutes ago and of which part is left, as its exit has expired."""
    stop = StopState(stop_price=95.0, atr=2.0)
    position = Position(PAIR, "rotation", "tag", AT - timedelta(hours=2), D(100), D(10_000), D(sold), D(950), stop=stop)
    return DeskState(D(1000), D(11_000), {PAIR: position}, blocked={PAIR: iso(AT - timedelta(minutes=15))}, marks={PAIR: 97.0})


def test_an_exit_that_expired_goes_on_although_the_price_is_back_above_the_stop():
    decision = decide_risk(TICK, {PAIR: 99.0}, stopped_out("10"), load_desk("rotation"), {})
    assert [(o.pair, o.side, o.qty, o.reason) for o in decision.plan.orders] == [(PAIR, Side.SELL, D(90), "stop_loss")]


def test_a_full_rebalance_lifts_no_block_of_what_is_still_held():
    full = Tick(AT.replace(hour=6, minute=0), "full_rebalance")
    state = stopped_out("10")
    state = replace(state, blocked={**state.blocked, "ADA/USDT": state.blocked[PAIR]})
    decision = decide(full, Rotation(), a_view({PAIR: {"close": 100.0}}, minutes=360), state, load_desk("rotation"), {}, full=True)
    assert list(decision.state.blocked) == [PAIR]


def test_a_desk_without_full_rebalances_lifts_blocks_at_every_rebalance():
    tick = Tick(AT.replace(minute=30), "feature_rebalance")
    state = replace(stopped_out("10"), positions={}, marks={})
    settings = load_desk("rotation", ["schedule.full_rebalance_hours=[]"])
    view = a_view({PAIR: {"close": 100.0}}, minutes=30)
    assert decide(tick, Rotation(), view, state, settings, {}, full=False).state.blocked == {}
    assert decide(tick, Rotation(), view, state, load_desk("rotation"), {}, full=False).state.blocked == state.blocked
