"""What may follow what in the life of an order."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from made_world import D, at, make_order
from tickless.execution.accounting import book
from tickless.execution.order_states import FOLLOWS, next_status
from tickless.types import ZERO, DeskState, Fill, Liquidity, OrderReport, Side
from tickless.types import OrderStatus as S

TABLE = {
    S.INTENT: "submitted open partially_filled unknown filled canceled expired rejected",
    S.SUBMITTED: "open partially_filled unknown filled canceled expired rejected",
    S.UNKNOWN: "submitted open partially_filled filled canceled expired rejected",
    S.OPEN: "partially_filled filled canceled expired rejected",
    S.PARTIALLY_FILLED: "filled canceled expired",
    S.FILLED: "",
    S.CANCELED: "",
    S.EXPIRED: "",
    S.REJECTED: "",
}


@pytest.mark.parametrize(("now", "reported"), list(product(S, S)))
def test_a_status_moves_only_as_the_table_says(now: S, reported: S) -> None:
    assert next_status(now, reported, has_fills=False) is (reported if reported.value in TABLE[now].split() else now)


def test_the_table_speaks_of_every_status() -> None:
    assert set(FOLLOWS) == set(S)
    assert {status for status, after in FOLLOWS.items() if not after} == {status for status in S if status.is_final}


@pytest.mark.parametrize(
    ("now", "reported", "means"),
    [
        (S.INTENT, S.OPEN, S.PARTIALLY_FILLED),
        (S.UNKNOWN, S.SUBMITTED, S.PARTIALLY_FILLED),
        (S.INTENT, S.UNKNOWN, S.PARTIALLY_FILLED),
        (S.INTENT, S.REJECTED, S.CANCELED),
        (S.PARTIALLY_FILLED, S.REJECTED, S.CANCELED),
        (S.PARTIALLY_FILLED, S.OPEN, S.PARTIALLY_FILLED),
        (S.INTENT, S.FILLED, S.FILLED),
        (S.CANCELED, S.FILLED, S.CANCELED),
    ],
)
def test_what_a_status_means_of_an_order_that_has_fills(now: S, reported: S, means: S) -> None:
    assert next_status(now, reported, has_fills=True) is means


# Fills

DESK = DeskState(cash=D(1000), peak_equity=D(1000))
BUY, SELL = make_order(Side.BUY, "4", order_id="b"), make_order(Side.SELL, "4", order_id="s")


def a_fill(number: int, order=BUY, qty: str = "1", fee_asset: str = "USDT", fee: str = "0.1", fee_qty: str = "0.1") -> Fill:
    name = f"{order.client_order_id}-{number}"
    return Fill(
        name, order.client_order_id, at(number), order.pair, order.side, D(qty), D(100), D(fee), fee_asset, D(fee_qty), Liquidity.TAKER
    )


def test_a_fill_that_is_told_twice_in_one_report_counts_once() -> None:
    booking = book(DESK, BUY, OrderReport("b", S.OPEN, (a_fill(1), a_fill(1), a_fill(2))))
    assert booking.state.orders["b"].fill_ids == ("b-1", "b-2")
    assert booking.state.positions[BUY.pair].qty == 2


def test_fills_count_in_whatever_order_they_are_told() -> None:
    state = book(DESK, BUY, OrderReport("b", S.OPEN, (a_fill(2),))).state
    state = book(state, state.orders["b"], OrderReport("b", S.OPEN, (a_fill(1), a_fill(2)))).state
    assert state.orders["b"].fill_ids == ("b-2", "b-1")
    assert (state.positions[BUY.pair].qty, state.cash) == (2, D(1000) - 200 - D("0.2"))


def test_a_fill_after_the_end_moves_money_and_leaves_the_end() -> None:
    canceled = book(DESK, BUY, OrderReport("b", S.CANCELED, (a_fill(1),)))
    assert canceled.update is not None
    (order,) = canceled.update.orders
    late = book(canceled.state, order, OrderReport("b", S.FILLED, (a_fill(1), a_fill(2))))
    assert late.update is not None
    assert [(o.status, o.filled_qty) for o in late.update.orders] == [(S.CANCELED, 2)]
    assert (late.state.positions[BUY.pair].qty, late.state.orders) == (2, {})


def test_an_order_stored_before_fills_had_ids_books_only_what_is_new() -> None:
    old = replace(BUY, status=S.OPEN, filled_qty=D(2), avg_price=D(100))
    booking = book(replace(DESK, orders={"b": old}), old, OrderReport("b", S.FILLED, tuple(a_fill(n) for n in (1, 2, 3, 4))))
    assert booking.update is not None
    assert [fill.fill_id for fill in booking.update.fills] == ["b-3", "b-4"]
    assert booking.update.orders[0].filled_qty == 4


@pytest.mark.parametrize(
    ("fee_asset", "fee_qty", "cash", "held"),
    [("USDT", "0.4", D("599.6"), D(4)), ("AAA", "0.004", D(600), D("3.996")), ("BNB", "0.001", D(600), D(4))],
)
def test_cash_and_holding_move_as_they_do_at_the_exchange_whatever_the_fee_is_paid_in(fee_asset, fee_qty, cash, held) -> None:
    bought = book(DESK, BUY, OrderReport("b", S.FILLED, (a_fill(1, qty="4", fee_asset=fee_asset, fee="0.4", fee_qty=fee_qty),)))
    position = bought.state.positions[BUY.pair]
    assert (bought.state.cash, position.qty, position.entry_price, position.fees) == (cash, held, 100, D("0.4"))
    rest = replace(SELL, qty=held)
    sold = book(bought.state, rest, OrderReport("s", S.FILLED, (a_fill(1, rest, str(held), fee=str(ZERO), fee_qty="0"),)))
    assert sold.update is not None
    ((trade,), end) = sold.update.trades, sold.state
    assert (trade.pnl, end.positions) == (D("-0.4"), {})
    assert end.cash == 1000 - (D("0.4") if fee_asset != "BNB" else 0), "a fee in a third asset is paid from what is not the desk's"


def test_a_fee_on_a_sale_in_the_base_asset_leaves_the_holding() -> None:
    bought = book(DESK, BUY, OrderReport("b", S.FILLED, (a_fill(1, qty="4", fee="0", fee_qty="0"),)))
    fill = a_fill(1, SELL, "3", fee_asset="AAA", fee="0.3", fee_qty="0.003")
    sold = book(bought.state, SELL, OrderReport("s", S.OPEN, (fill,)))
    assert (sold.state.cash, sold.state.positions[BUY.pair].qty) == (D(900), D("0.997"))
