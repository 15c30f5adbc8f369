"""Which stops should rest: the pure plan, by example and by property."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from made_desk import T0, a_desk, a_position, a_tick
from tickless.execution.planning import Account, Thresholds, Wish, plan_orders
from tickless.execution.protection import MARKET_CLOSED, NO_STOPS_THERE, TOO_SMALL, Move, Venue, plan_protection, stop_out
from tickless.settings import ExecutionSection
from tickless.types import DeskState, Order, OrderStatus, OrderType, PairRules, RestingStops, Side, StopState, iso

D = Decimal
A, B = "A/USDT", "B/USDT"
RULES = {A: PairRules(A, price_step=D("0.1"), qty_step=D("0.01"), min_notional=D(5))}
ON = ExecutionSection(stoploss_on_exchange=True)
SPOT, CONTRACTS, NONE = RestingStops.CANCEL_FIRST, RestingStops.PLACE_FIRST, RestingStops.NONE


def held(qty: str = "3.005", level: float | None = 95.678, kind: str = "stop_loss"):
    return a_position(A, qty, stop=StopState(stop_price=level, kind=kind))


def stop(qty: str = "3", level: str = "95.6", order_id: str = "s1", **changes) -> Order:
    order = Order(order_id, T0, "rotation", A, Side.SELL, OrderType.STOP, D(qty), "stop_loss", stop_price=D(level), reduce_only=True)
    return replace(order, status=OrderStatus.OPEN, **changes)


def sale(qty: str, **changes) -> Order:
    return Order(
        "x1", T0, "rotation", A, Side.SELL, OrderType.LIMIT, D(qty), "rebalance", limit_price=D(120), status=OrderStatus.OPEN, **changes
    )


def desk(*orders: Order, position=None, **changes) -> DeskState:
    positions = [position] if position is not None else []
    return a_desk(*positions, orders={order.client_order_id: order for order in orders}, **changes)


def plan(state: DeskState, how: RestingStops = SPOT, settings: ExecutionSection = ON, rules=RULES, missing=None):
    return plan_protection(state, a_tick(), Venue({A: how, B: how}, rules, missing or {}), desk="d", settings=settings)


def only(moves: tuple[Move, ...]) -> Move:
    (move,) = moves
    return move


def test_a_position_gets_a_stop_of_what_is_held_below_its_level():
    order = only(plan(desk(position=held(kind="trailing_stop_loss"))).moves).place
    assert (order.pair, order.side, order.type, order.qty, order.stop_price) == (A, Side.SELL, OrderType.STOP, D("3"), D("95.6"))
    assert (order.reason, order.reduce_only, order.status, order.expires_at) == ("trailing_stop_loss", True, OrderStatus.INTENT, None)


def test_the_same_stop_has_the_same_id_and_another_has_another():
    first, again = (only(plan(desk(position=held())).moves).place for _ in range(2))
    assert first == again
    assert only(plan(desk(position=held(level=96.0))).moves).place.client_order_id != first.client_order_id
    assert only(plan(desk(position=held("4"))).moves).place.client_order_id != first.client_order_id
    assert len(first.client_order_id) == 30


@pytest.mark.parametrize(
    ("state", "how", "why"),
    [
        (desk(position=held(level=None)), SPOT, None),
        (desk(position=held("0.05")), SPOT, TOO_SMALL),
        (desk(position=held("0.009")), SPOT, TOO_SMALL),
        (desk(position=held()), NONE, NO_STOPS_THERE),
        (desk(position=held(), quarantined={A: iso(T0)}), SPOT, MARKET_CLOSED),
        (desk(sale("3.005"), position=held()), SPOT, None),
    ],
)
def test_a_position_that_is_owed_none_or_cannot_have_one(state, how, why):
    found = plan(state, how)
    assert found.moves == ()
    assert found.without == ({} if why is None else {A: why})


def test_what_a_sale_locks_on_spot_is_left_out_and_on_contracts_is_not():
    state = desk(sale("1"), position=held())
    assert only(plan(state, SPOT).moves).place.qty == D(2)
    assert only(plan(state, CONTRACTS).moves).place.qty == D(3)


def test_no_more_is_protected_than_the_exchange_holds():
    assert only(plan(desk(position=held()), missing={A: D("1.5")}).moves).place.qty == D("1.5")
    assert plan(desk(position=held()), missing={A: D("3.005")}).moves == ()


@pytest.mark.parametrize(("level", "moved"), [(95.678, False), (95.69, False), (95.7, True), (96.4, True), (95.0, True)])
def test_a_stop_is_moved_once_its_level_has_risen_enough(level, moved):
    coarse = ExecutionSection(stoploss_on_exchange=True, stoploss_min_move_frac=0.005)
    moves = plan(desk(stop(), position=held(level=level)), settings=coarse).moves
    assert bool(moves) is (moved and level != 95.7)
    finest = ExecutionSection(stoploss_on_exchange=True, stoploss_min_move_frac=0.0)
    moves = plan(desk(stop(), position=held(level=level)), settings=finest).moves
    assert bool(moves) is moved
    for move in moves:
        assert (move.cancels, move.how) == (("s1",), SPOT)


def test_a_stop_is_resized_with_its_position():
    move = only(plan(desk(stop("2"), position=held())).moves)
    assert (move.place.qty, move.cancels) == (D(3), ("s1",))


@pytest.mark.parametrize("left", [{"status": OrderStatus.UNKNOWN}, {"filled_qty": D(1)}, {"status": OrderStatus.INTENT}])
def test_a_stop_on_its_way_or_going_off_is_left_alone(left):
    state = desk(replace(stop("2"), **left), position=held())
    assert plan(state).moves == ()


def test_a_stop_without_its_position_or_its_setting_is_cancelled():
    assert only(plan(desk(stop())).moves) == Move(A, None, ("s1",), SPOT)
    assert only(plan(desk(stop(), position=held()), settings=ExecutionSection()).moves) == Move(A, None, ("s1",), SPOT)


def test_of_two_the_higher_stays():
    state = desk(stop(), stop(level="95.5", order_id="s0"), position=held())
    assert only(plan(state, CONTRACTS).moves) == Move(A, None, ("s0",), CONTRACTS)


def test_in_a_closed_market_what_rests_stays():
    found = plan(desk(stop("2"), position=held(), quarantined={A: iso(T0)}))
    assert (found.moves, found.without) == ((), {})


def test_the_sale_in_the_place_of_a_refused_stop_is_at_market_with_its_reason():
    order = only(plan(desk(position=held())).moves).place
    sold = stop_out(order, order.qty, a_tick(), desk="d", settings=ON)
    assert (sold.type, sold.stop_price, sold.reason, sold.qty, sold.reduce_only) == (OrderType.MARKET, None, "stop_loss", D(3), True)
    assert sold.client_order_id != order.client_order_id
    assert sold.expires_at is not None


@pytest.mark.parametrize(
    ("wish", "sends", "cancels"),
    [
        (Wish(A, 0.0, exit_reason="left"), True, ("s1",)),
        (Wish(A, 0.0, exit_reason="stop_loss", urgent=True), True, ("s1",)),
        (Wish(A, 1.0, exit_reason="rebalance"), True, ("s1",)),
        (Wish(A, 2.999, exit_reason="rebalance"), False, ()),
        (Wish(A, 5.0, enter_tag="more"), True, ()),
    ],
)
def test_a_resting_stop_is_no_exit_under_way_and_goes_only_where_something_is_sold(wish, sends, cancels):
    account = Account(D(10_000), 10_000.0, {A: D(3)}, (stop(),), {A: 100.0}, RULES)
    found = plan_orders([wish], account, a_tick(), desk="d", strategy="rotation", thresholds=Thresholds(0.001, 5.0), settings=ON)
    assert (bool(found.orders), found.cancels) == (sends, cancels)


@given(
    qty=st.decimals("0.001", "50", places=3),
    level=st.floats(0.05, 200.0),
    resting=st.lists(st.tuples(st.decimals("0.01", "50", places=2), st.decimals("0.1", "200", places=1)), max_size=3),
    selling=st.decimals("0", "60", places=2),
    how=st.sampled_from(list(RestingStops)),
    missing=st.decimals("0", "10", places=2),
)
def test_once_done_nothing_is_left_to_do_and_no_more_is_promised_than_is_there(qty, level, resting, selling, how, missing):
    orders = [stop(str(q), str(p), f"s{n}") for n, (q, p) in enumerate(resting)]
    orders += [sale(str(selling))] if selling else []
    state = desk(*orders, position=held(str(qty), level))
    found = plan(state, how, missing={A: missing})
    for move in found.moves:
        kept = {i: order for i, order in state.orders.items() if i not in move.cancels}
        placed = {move.place.client_order_id: replace(move.place, status=OrderStatus.OPEN)} if move.place is not None else {}
        state = replace(state, orders={**kept, **placed})
    left = [order for order in state.orders.values() if order.protects]
    assert len(left) <= 1
    free = qty - missing - (selling if how is SPOT else 0)
    for order in left:
        assert order.qty <= free
        assert order.qty * order.stop_price >= 5
        assert order.stop_price <= D(repr(level)) <= order.stop_price * D("1.001") + D("0.1")
    assert plan(state, how, missing={A: missing}).moves == ()
