"""Ledger arithmetic by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from made_world import PAIR, D, at, make_order
from tickless.execution.accounting import book
from tickless.types import ZERO, DeskState, Fill, Liquidity, Order, OrderReport, OrderStatus, Side

DESK = DeskState(cash=D(1000), peak_equity=D(1000))


def fill(order: Order, number: int, qty: str, price: str, fee: str = "0", bar: float = 0) -> Fill:
    fill_id = f"{order.client_order_id}-{number}"
    return Fill(fill_id, order.client_order_id, at(bar), order.pair, order.side, D(qty), D(price), D(fee), "USDT", D(fee), Liquidity.TAKER)


def report(order: Order, status: OrderStatus, *fills: Fill) -> OrderReport:
    return OrderReport(order.client_order_id, status, fills)


def opened(state: DeskState, order: Order) -> DeskState:
    return state.with_order(replace(order, status=OrderStatus.INTENT))


BUY, SELL = make_order(qty="4"), make_order(Side.SELL, "4", order_id="o2", reason="stop_loss", tick=3)
HALF = fill(BUY, 1, "1", "100", "0.1"), fill(BUY, 2, "3", "104", "0.3", 1)


def held() -> DeskState:
    return book(opened(DESK, BUY), BUY, report(BUY, OrderStatus.FILLED, *HALF)).state


def test_a_buy_moves_cash_by_value_and_fee_once_and_opens_a_position():
    booking = book(opened(DESK, BUY), BUY, report(BUY, OrderStatus.FILLED, *HALF))
    state, update = booking.state, booking.update
    position = state.positions[PAIR]
    assert state.cash == D(1000) - 100 - 312 - D("0.4")
    assert (position.qty, position.entry_price, position.fees, position.opened_at, position.enter_tag) == (4, 103, D("0.4"), at(0), "entry")
    assert state.marks == {PAIR: 104.0}
    assert state.orders == {}
    assert update is not None
    (order,) = update.orders
    assert (order.status, order.filled_qty, order.avg_price, order.fee) == (OrderStatus.FILLED, 4, 103, D("0.4"))
    assert (update.fills, update.positions, update.trades, update.desk) == (HALF, (position,), (), state)


def test_cumulative_reports_add_only_what_is_new():
    first = book(opened(DESK, BUY), BUY, report(BUY, OrderStatus.OPEN, HALF[0]))
    order = first.state.orders["o1"]
    assert (order.status, order.filled_qty, order.open_qty) == (OrderStatus.PARTIALLY_FILLED, 1, 3)
    second = book(first.state, order, report(BUY, OrderStatus.FILLED, *HALF))
    assert second.update is not None
    assert second.update.fills == HALF[1:]
    assert replace(second.state, marks={}) == replace(held(), marks={})


def test_the_same_report_again_changes_nothing():
    first = book(opened(DESK, BUY), BUY, report(BUY, OrderStatus.OPEN, HALF[0]))
    again = book(first.state, first.state.orders["o1"], report(BUY, OrderStatus.OPEN, HALF[0]))
    assert (again.state, again.update) == (first.state, None)


def test_an_order_that_only_changes_its_status_is_recorded_without_fills():
    booking = book(opened(DESK, BUY), BUY, report(BUY, OrderStatus.REJECTED))
    assert booking.update is not None
    assert booking.update.orders[0].status is OrderStatus.REJECTED
    assert (booking.state.cash, booking.state.positions, booking.state.orders) == (D(1000), {}, {})


def test_the_sell_that_leaves_nothing_closes_a_trade_net_of_both_sides_fees():
    state = opened(held(), SELL)
    fills = fill(SELL, 1, "1", "110", "0.11", 3), fill(SELL, 2, "3", "90", "0.27", 4)
    booking = book(state, SELL, report(SELL, OrderStatus.FILLED, *fills))
    assert booking.update is not None
    (trade,) = booking.update.trades
    pnl = D(110 + 270 - 412) - D("0.78")
    assert (trade.pnl, trade.pnl_frac, trade.fees, trade.qty) == (pnl, pnl / 412, D("0.78"), 4)
    assert (trade.open_price, trade.close_price, trade.opened_at, trade.closed_at) == (103, 95, at(0), at(4))
    assert (trade.enter_tag, trade.exit_reason, trade.trade_id) == ("entry", "stop_loss", "o2-2")
    assert booking.state.cash == D(1000) + pnl
    assert (booking.state.positions, booking.state.marks) == ({}, {})
    assert booking.update.positions[0].qty == ZERO, "tells the ledger to delete it"


def test_a_partial_sell_keeps_the_entry_price_and_closes_no_trade():
    state = opened(held(), SELL)
    booking = book(state, SELL, report(SELL, OrderStatus.OPEN, fill(SELL, 1, "1", "110", "0.11", 3)))
    position = booking.state.positions[PAIR]
    assert (position.qty, position.entry_price, position.sold_value) == (3, 103, 110)
    assert booking.update is not None
    assert booking.update.trades == ()
    assert booking.state.marks == {PAIR: 104.0}, "a mark is the last close seen, not our own fill"


def test_buying_more_averages_the_entry_and_keeps_the_first_tag_and_time():
    more = make_order(qty="4", order_id="o3", reason="again", tick=5)
    state = book(opened(held(), more), more, report(more, OrderStatus.FILLED, fill(more, 1, "4", "105", "0", 5))).state
    position = state.positions[PAIR]
    assert (position.qty, position.entry_price, position.enter_tag, position.opened_at) == (8, 104, "entry", at(0))


def test_a_sell_without_position_is_booked_to_cash_and_its_order_alone():
    booking = book(opened(DESK, SELL), SELL, report(SELL, OrderStatus.FILLED, fill(SELL, 1, "4", "50", "0.2")))
    assert booking.state.cash == D("1199.8")
    assert booking.update is not None
    assert (booking.update.positions, booking.update.trades, len(booking.update.fills)) == ((), (), 1)


@pytest.mark.parametrize("order_of_booking", [(0, 1), (1, 0)])
def test_cash_does_not_depend_on_the_order_in_which_fills_are_booked(order_of_booking):
    # Each value has eleven decimals and ends in five: rounding the running sum instead would depend on what came before.
    orders = [make_order(qty="0.005", order_id="a"), make_order(qty="0.005", order_id="b", pair="BBB/USDT")]
    fills = [fill(orders[0], 1, "0.005", "0.00000001"), fill(orders[1], 1, "0.005", "0.00000003")]
    state = opened(opened(DESK, orders[0]), orders[1])
    for n in order_of_booking:
        state = book(state, orders[n], report(orders[n], OrderStatus.FILLED, fills[n])).state
    assert state.cash == D("999.9999999998")
