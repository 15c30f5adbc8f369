"""Roostoo's documented examples, as recorded, through the readers; and its signatures against the documented one."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickless.adapters.roostoo_answers import (
    parse_json,
    read_number,
    read_order_id,
    read_report,
    read_row,
    read_rows,
    read_rules,
    read_wallet,
)
from tickless.adapters.roostoo_client import RoostooClient, sign
from tickless.errors import AccountError, SettingsError
from tickless.types import Liquidity, Order, OrderStatus, OrderType, PairRules, Side

D = Decimal
SECRET = "S1XP1e3UZj6A7H5fATj0jNhqPxxdSJYdInClVN65XAbvqqMKjVHjA7PZj4W12oep"


@pytest.fixture
def recorded(root: Path) -> Any:
    folder = root.parent / "shared" / "fixtures" / "roostoo"
    return lambda name: parse_json((folder / f"{name}.json").read_bytes())


def order(side: Side, kind: OrderType, qty: str = "11.112", limit: str | None = None, pair: str = "BTC/USD") -> Order:
    at = datetime(2019, 10, 4, tzinfo=UTC)
    return Order("o-1", at, "rotation", pair, side, kind, D(qty), "entry", None if limit is None else D(limit))


def test_the_documented_signature() -> None:
    params = {"timestamp": "1580774512000", "pair": "BNB/USD", "quantity": "2000", "side": "BUY", "type": "MARKET"}
    text, signature = sign(SECRET, params)
    assert text == "pair=BNB/USD&quantity=2000&side=BUY&timestamp=1580774512000&type=MARKET"
    assert signature == "20b7fd5550b67b3bf0c1684ed0f04885261db8fdabd38611e9e6af23c19b7fff"


@pytest.mark.parametrize("value", ["", "BTC/USD&side=SELL", "a=b", "a b", "BTC/USD\n", "BTC/€"])
def test_what_would_change_the_signed_text_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="parameter pair"):
        sign(SECRET, {"pair": value})


@pytest.mark.realdata
def test_recorded_taker(recorded: Any) -> None:
    row = read_row(recorded("place_order_taker")["OrderDetail"])
    report = read_report(row, order(Side.SELL, OrderType.MARKET))
    (fill,) = report.fills
    assert (report.status, fill.fill_id, fill.qty, fill.price) == (OrderStatus.FILLED, "81", D("11.112"), D("8149.07"))
    assert (fill.fee, fill.fee_qty, fill.fee_asset) == (D("10.8662959008"), D("10.8662959008"), "USD")
    assert (fill.liquidity, fill.filled_at) == (Liquidity.TAKER, datetime(2019, 10, 4, 21, 24, 31, 590_000, tzinfo=UTC))


@pytest.mark.realdata
def test_recorded_maker_rests(recorded: Any) -> None:
    row = read_row(recorded("place_order_maker")["OrderDetail"])
    report = read_report(row, order(Side.SELL, OrderType.LIMIT, limit="8893"))
    assert (row.order_id, report.status, report.fills) == (83, OrderStatus.OPEN, ())


@pytest.mark.realdata
def test_recorded_orders_whose_filled_quantity_lies(recorded: Any) -> None:
    rows = read_rows(recorded("query_order_matched")["OrderMatched"])
    kinds = [order(Side.SELL, OrderType.MARKET), *[order(Side.BUY, OrderType.LIMIT, limit="7893")] * 2]
    reports = [read_report(row, ours) for row, ours in zip(rows, kinds, strict=True)]
    assert [report.status for report in reports] == [OrderStatus.FILLED, OrderStatus.OPEN, OrderStatus.CANCELED]
    assert [len(report.fills) for report in reports] == [1, 0, 0]
    assert [str(row.raw["FilledQuantity"]) for row in rows] == ["11.112"] * 3


@pytest.mark.realdata
def test_recorded_wallets(recorded: Any) -> None:
    assert read_wallet(recorded("balance")) == {"BTC": D("1.009878"), "ETH": 0, "USD": D("99991652.350000")}
    assert read_wallet(recorded("observed_2026")["balance_live"]) == {"BNB": 0, "USD": D("49998.65")}


@pytest.mark.realdata
def test_recorded_rules_with_a_least_above_the_strict_minimum(recorded: Any) -> None:
    assert read_rules(recorded("exchangeInfo"), "USD") == {
        "BNB/USD": PairRules("BNB/USD", D("0.0001"), D("0.01"), D("1.000001")),
        "BTC/USD": PairRules("BTC/USD", D("0.01"), D("0.000001"), D("1.00000001")),
    }
    assert read_rules(recorded("exchangeInfo"), "EUR") == {}


@pytest.mark.realdata
def test_a_limit_that_crossed_is_a_taker(recorded: Any) -> None:
    line = recorded("observed_2026")["order_log_lines_kadoo69"][1]
    told = {
        "Pair": line["pair"],
        "OrderID": line["order_id"],
        "Status": line["status"],
        "Role": line["role"],
        "CreateTimestamp": 1791168908406,
        "FinishTimestamp": 1791168908500,
        "Side": line["side"],
        "Type": line["type"],
        "Quantity": line["quantity"],
        "FilledQuantity": line["filled_quantity"],
        "FilledAverPrice": line["filled_average_price"],
        "UnitChange": line["filled_quantity"] * line["filled_average_price"],
        "CommissionCoin": "USD",
        "CommissionChargeValue": 0,
        "CommissionPercent": line["commission_percent"],
    }
    ours = order(Side.BUY, OrderType.LIMIT, "2353.2", "0.5057", "ONDO/USD")
    (fill,) = read_report(read_row(told), ours).fills
    assert (fill.liquidity, fill.fee) == (Liquidity.TAKER, D("1.19001324"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"TradePairs": None}, "TradePairs: 'None'"),
        ({"IsRunning": "yes"}, "IsRunning: 'yes'"),
        ({"TradePairs": {"BTC/USD": 3}}, "TradePairs.BTC/USD: pair: '3'"),
        ({"TradePairs": {"BTC/USD": {"Coin": "ETH", "Unit": "USD"}}}, "'ETH' and 'USD' are not this pair"),
        ({"TradePairs": {"A/USD": {"Coin": "A", "Unit": "USD", "CanTrade": 1}}}, "CanTrade: 1"),
        ({"TradePairs": {"A/USD": {"Coin": "A", "Unit": "USD", "CanTrade": True, "PricePrecision": D("1.5")}}}, "PricePrecision: 1.5"),
        ({"TradePairs": {"A/USD": {"Coin": "A", "Unit": "USD", "CanTrade": True, "PricePrecision": 99}}}, "PricePrecision: 99"),
        ({"TradePairs": {"A/USD": {"Coin": "A"}}}, "Unit: None"),
    ],
)
def test_rules_that_make_no_sense(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read_rules({"IsRunning": True, "TradePairs": {}} | change, "USD")


def test_an_exchange_that_does_not_run_trades_nothing() -> None:
    told = {"Coin": "A", "Unit": "USD", "CanTrade": True, "PricePrecision": 1, "AmountPrecision": 0, "MiniOrder": 1}
    assert not read_rules({"IsRunning": False, "TradePairs": {"A/USD": told}}, "USD")["A/USD"].active


@pytest.mark.parametrize("value", [0, -1, True, "x", "", "-3", None, 1.5, "²"])
def test_no_number_but_a_positive_one_is_an_order(value: Any) -> None:
    with pytest.raises(ValueError, match="OrderID"):
        read_order_id(value)


@pytest.mark.parametrize("content", [b"", b"\xff", b"{", b"[NaN]", b"[Infinity]", b"[" * 100_000])
def test_what_is_no_json(content: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 — the reader of the answer names it
        parse_json(content)


@given(st.decimals(min_value=0, max_value=10**15, allow_nan=False, allow_infinity=False))
def test_numbers_keep_every_digit(value: Decimal) -> None:
    assert read_number(parse_json(f'{{"n": {value:f}}}'.encode()), "n") == value
    assert read_number(parse_json(json.dumps({"n": str(value)}).encode()), "n") == value


@pytest.mark.parametrize("value", ["1e19", "-0.1", '"x"', "true", "[]", '"NaN"', '"Infinity"'])
def test_numbers_that_cannot_be(value: str) -> None:
    with pytest.raises(ValueError, match=r"^n: "):
        read_number(parse_json(f'{{"n": {value}}}'.encode()), "n")


@pytest.mark.parametrize("url", ["http://mock-api.roostoo.com", "ftp://127.0.0.1", "mock-api.roostoo.com"])
def test_keys_travel_encrypted(url: str) -> None:
    with pytest.raises(SettingsError, match="must begin with https://"):
        RoostooClient(base_url=url)


def test_an_account_needs_keys() -> None:
    client = RoostooClient(base_url="http://127.0.0.1:9")
    client._offset_ms = 0
    with pytest.raises(AccountError, match="needs the keys of an account"):
        client.balance()
