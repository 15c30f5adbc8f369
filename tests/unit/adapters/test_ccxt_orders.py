"""Orders, trades and balances as ccxt tells them: read to the digit, or refused by the field's name."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.made_world import T0, make_order
from tickless.adapters.ccxt_balances import spot_balances, swap_balances
from tickless.adapters.ccxt_orders import Instrument, read_fill, read_number, read_order, sort_key, trades_of
from tickless.types import Charge, Liquidity, Order, OrderStatus, Side, to_ms

D = Decimal
SPOT = Instrument("BTC/USDT", "BTCUSDT", "BTC", "USDT", D(1), D("0.001"), "executedQty")
SWAP = Instrument("BTC/USDT:USDT", "BTC-USDT-SWAP", "BTC", "USDT", D("0.01"), D("0.0005"))


def mine(**changes: Any) -> Order:
    return make_order(qty="2", pair="BTC/USDT", **changes)


def raw_order(**changes: Any) -> dict[str, Any]:
    told = {"id": "7", "clientOrderId": "o1", "symbol": "BTC/USDT", "side": "buy", "status": "open", "filled": "0", "timestamp": to_ms(T0)}
    return {**told, "info": {"executedQty": "0", "symbol": "BTCUSDT"}, **changes}


def raw_trade(**changes: Any) -> dict[str, Any]:
    told = {"id": "55", "order": "7", "symbol": "BTC/USDT", "side": "buy", "amount": "2.0", "price": "100.10", "timestamp": to_ms(T0)}
    return {**told, "takerOrMaker": "maker", "fee": {"cost": "0.2", "currency": "USDT"}, "info": {"symbol": "BTCUSDT"}, **changes}


@pytest.mark.parametrize("value", [None, True, "NaN", "Infinity", "1e30", "abc", "", [], float("nan")])
def test_what_is_no_number_is_refused_by_the_fields_name(value):
    with pytest.raises(ValueError, match=r"^price"):
        read_number(value, "price")


@given(st.decimals(allow_nan=False, allow_infinity=False, places=12, min_value=-(10**15), max_value=10**15))
def test_numbers_keep_every_digit_of_their_text(value):
    assert read_number(str(value), "x") == value


@pytest.mark.parametrize(
    ("status", "filled", "expected"),
    [
        ("open", "0", OrderStatus.OPEN),
        ("open", "1", OrderStatus.OPEN),
        ("canceling", "0", OrderStatus.OPEN),
        ("closed", "2", OrderStatus.FILLED),
        ("closed", "1.5", OrderStatus.CANCELED),
        ("canceled", "0.5", OrderStatus.CANCELED),
        ("expired", "0", OrderStatus.EXPIRED),
        ("rejected", "0", OrderStatus.REJECTED),
    ],
)
def test_an_orders_state_follows_from_its_status_and_what_has_filled(status, filled, expected):
    found = read_order(raw_order(status=status, filled=filled), mine(), SPOT)
    assert (found.status, found.filled, found.exchange_id, found.created_ms) == (expected, D(filled), "7", to_ms(T0))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"id": None}, "order.id"),
        ({"clientOrderId": "o2"}, "order.clientOrderId: 'o2' is not 'o1'"),
        ({"symbol": "ETH/USDT"}, "order.symbol"),
        ({"info": {"executedQty": "0", "symbol": "ETHUSDT"}}, "order.symbol: 'ETHUSDT' is not 'BTCUSDT'"),
        ({"info": {}}, "order.executedQty is missing"),
        ({"side": "sell"}, "order.side"),
        ({"status": None}, "order.status"),
        ({"status": "dancing"}, "order.status: 'dancing' is unknown"),
        ({"filled": None}, "order.filled is missing"),
        ({"filled": "2.5"}, "order.filled: 2.5 is not between 0 and the order's 2"),
        ({"filled": "-1"}, "order.filled"),
        ({"status": "closed"}, "order.filled: 0 of an order that is closed"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        read_order(raw_order(**changes), mine(), SPOT)


def test_the_answer_to_an_order_just_sent_need_not_tell_its_status():
    found = read_order(raw_order(status=None, filled=None, info={}), mine(), SPOT, sent=True)
    assert (found.status, found.filled) == (None, 0)


def test_a_conditional_order_names_what_it_has_become():
    told = raw_order(status="closed", triggerPrice="90", info={"algoId": 3, "actualOrderId": "99", "symbol": "BTCUSDT"})
    found = read_order(told, mine(), SPOT)
    assert (found.triggered_id, found.is_closed_unfilled) == ("99", True)
    assert read_order(raw_order(info={"executedQty": "0", "ordId": "7"}), mine(), SPOT).triggered_id == ""


@pytest.mark.parametrize(
    ("fee", "expected"),
    [
        ({"fee": {"cost": "0.2", "currency": "USDT"}}, ("0.2", "USDT", "0.2")),
        ({"fee": {"cost": "0.002", "currency": "BTC"}}, ("0.2002", "BTC", "0.002")),
        ({"fee": {"cost": "0.001", "currency": "BNB"}}, ("0.5", "BNB", "0.001")),
        ({"fee": {"cost": "0", "currency": "XYZ"}}, ("0", "XYZ", "0")),
        ({"fee": {"cost": "5", "currency": "XYZ"}}, ("0.2002", "XYZ", "5")),
        ({"fee": {"cost": "-0.01", "currency": "USDT"}}, ("-0.01", "USDT", "-0.01")),
        ({"fee": None}, ("0.2002", "USDT", "0.2002")),
        ({"fees": [{"cost": "0.1", "currency": "USDT"}, {"cost": "0.001", "currency": "BTC"}]}, ("0.2001", "USDT", "0.1")),
    ],
)
def test_a_fee_is_valued_in_the_stake_currency_and_kept_as_charged(fee, expected):
    fill = read_fill(raw_trade(**fee), mine(), SPOT, {"BNB": D(500)}.get)
    assert (fill.fee, fill.fee_asset, fill.fee_qty) == (D(expected[0]), expected[1], D(expected[2]))


@pytest.mark.parametrize(
    ("fees", "expected"),
    [
        ([("0.1", "USDT"), ("0.001", "BTC")], [("USDT", "0.1", "0.1"), ("BTC", "0.001", "0.1001")]),
        ([("0.001", "BTC"), ("0.1", "USDT")], [("BTC", "0.001", "0.1001"), ("USDT", "0.1", "0.1")]),
        ([("0.001", "BNB"), ("0.002", "BNB")], [("BNB", "0.003", "1.5")]),
        ([("0", "BNB"), ("0.1", "USDT")], [("USDT", "0.1", "0.1")]),
        ([("0", "BNB"), ("0", "USDT")], [("BNB", "0", "0")]),
        ([("0.3", "USDT"), ("-0.1", "BNB")], [("USDT", "0.3", "0.3"), ("BNB", "-0.1", "-50")]),
        ([("1", "XYZ"), ("2", "ZYX"), ("0.1", "USDT")], [("XYZ", "1", "0.2002"), ("ZYX", "2", "0"), ("USDT", "0.1", "0.1")]),
        ([], [("USDT", "0.2002", "0.2002")]),
    ],
    ids=["quote, base", "base, quote", "one asset twice", "nothing of one", "nothing at all", "a rebate", "no market", "not told"],
)
def test_a_fill_keeps_what_it_was_charged_of_every_asset(fees, expected):
    told = [{"cost": cost, "currency": asset} for cost, asset in fees]
    fill = read_fill(raw_trade(fee=None, fees=told), mine(), SPOT, {"BNB": D(500)}.get)
    assert fill.charges == tuple(Charge(asset, D(qty), D(worth)) for asset, qty, worth in expected)
    assert fill.fee == sum(charge.worth for charge in fill.charges)


def test_a_fill_carries_the_exchanges_trade_id_and_the_desks_pair():
    fill = read_fill(raw_trade(), mine(), SPOT, dict)
    assert (fill.fill_id, fill.client_order_id, fill.pair, fill.side, fill.liquidity) == (
        "BTCUSDT-55",
        "o1",
        "BTC/USDT",
        Side.BUY,
        Liquidity.MAKER,
    )
    assert (str(fill.qty), str(fill.price), fill.filled_at) == ("2", "100.1", T0)


def test_contracts_become_base_units():
    fill = read_fill(raw_trade(symbol="BTC/USDT:USDT", info={"instId": "BTC-USDT-SWAP"}, amount="150"), mine(), SWAP, dict)
    assert fill.qty == D("1.5")
    told = raw_order(symbol="BTC/USDT:USDT", filled="150", info={"instId": "BTC-USDT-SWAP"})
    assert read_order(told, mine(), SWAP).filled == D("1.5")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"id": None}, "trade.id"),
        ({"timestamp": 0}, "trade.timestamp"),
        ({"amount": "NaN"}, "trade.amount"),
        ({"amount": "0"}, "trade.amount 0"),
        ({"price": "-1"}, "trade.price -1"),
        ({"symbol": "ETH/USDT"}, "trade.symbol"),
        ({"info": {"symbol": "ETHUSDT"}}, "trade.symbol"),
        ({"side": "sell"}, "trade.side"),
        ({"fee": {"cost": "1", "currency": None}}, "trade.fee.currency"),
        ({"fee": {"cost": "NaN", "currency": "BTC"}}, "trade.fee.cost"),
    ],
)
def test_a_trade_that_makes_no_sense_is_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        read_fill(raw_trade(**changes), mine(), SPOT, dict)


def test_only_the_orders_own_trades_are_taken_and_one_without_an_order_is_refused():
    assert trades_of([raw_trade(), raw_trade(order="8")], "7") == [raw_trade()]
    for bad, says in ((raw_trade(order=None), "trade.order is missing"), ("x", "is not an object")):
        with pytest.raises(ValueError, match=says):
            trades_of([bad], "7")
    with pytest.raises(ValueError, match="is not a list"):
        trades_of({}, "7")


def test_fills_of_one_moment_are_in_the_order_of_their_numbers():
    fills = [read_fill(raw_trade(id=one), mine(), SPOT, dict) for one in ("100", "99", "9")]
    assert [fill.fill_id for fill in sorted(fills, key=sort_key)] == ["BTCUSDT-9", "BTCUSDT-99", "BTCUSDT-100"]


def test_spot_balances_are_the_totals_above_zero():
    assert spot_balances({"total": {"USDT": "10.50", "BTC": "0", "ABC": "1e-7"}}, "USDT") == {"ABC": D("1e-7"), "USDT": D("10.5")}
    assert spot_balances({"total": {"USDT": "0", "BTC": "0"}}, "USDT") == {"USDT": 0}
    assert spot_balances({"total": {}}, "USDT") == {}


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ({}, "balance.total is missing"),
        ([], "balance.total is missing"),
        ({"total": {"BTC": None}}, "balance.BTC.total is missing"),
        ({"total": {"BTC": "NaN"}}, "balance.BTC.total"),
        ({"total": {"BTC": "-1"}}, "balance.BTC.total: -1 is below zero"),
    ],
)
def test_balances_that_make_no_sense_are_refused(raw, says):
    with pytest.raises(ValueError, match=says):
        spot_balances(raw, "USDT")


def position(**changes: Any) -> dict[str, Any]:
    return {"symbol": "BTC/USDT:USDT", "side": "long", "contracts": "150", "entryPrice": "100", **changes}


def test_a_contract_accounts_cash_is_its_wallet_less_what_positions_cost():
    markets = {SWAP.symbol: SWAP}
    raw = {"total": {"USDT": "1000", "BTC": "3"}}
    assert swap_balances(raw, [position()], "USDT", markets) == {"BTC": D("1.5"), "USDT": D(850)}
    assert swap_balances(raw, [position(side="short")], "USDT", markets) == {"BTC": D("-1.5"), "USDT": D(1150)}
    binance = {**raw, "info": {"assets": [{"asset": "USDT", "walletBalance": "990"}]}}
    assert swap_balances(binance, [position(contracts="0", side=None)], "USDT", markets) == {"USDT": D(990)}
    assert swap_balances({"total": {}}, [], "USDT", markets) == {"USDT": D(0)}


@pytest.mark.parametrize(
    ("positions", "says"),
    [
        ({}, "positions: .* is not a list"),
        (["x"], "is not an object"),
        ([position(contracts=None)], "position.contracts is missing"),
        ([position(contracts="NaN")], "position.contracts"),
        ([position(side=None)], "side None with 150 contracts"),
        ([position(entryPrice=None)], "position.entryPrice of BTC/USDT:USDT is missing"),
        ([position(symbol="BTC/USD:BTC")], "is no linear market"),
        ([position(), position(side="short")], "must be in one-way mode, not hedge mode"),
    ],
)
def test_positions_that_make_no_sense_are_refused(positions, says):
    with pytest.raises(ValueError, match=says):
        swap_balances({"total": {"USDT": "1"}}, positions, "USDT", {SWAP.symbol: SWAP})
