"""The loopback exchange's futures API, through the real ccxt client: positions, reduce-only, the algo service, settings."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import ccxt
import pytest

from tests.loopback import FeeIn, LoopbackExchange, World, ccxt_client
from tests.loopback.made_worlds import PAIRS, barred_world, made_world
from tests.made_panels import MONDAY

pytest_plugins = ["tests.loopback.fixtures"]

Serve = Callable[[World], tuple[LoopbackExchange, str]]
STEP = timedelta(minutes=15)
BTC = "BTC/USDT:USDT"
FLAT = (100.0, 101.0, 99.0, 100.0)
UP = (110.0, 111.0, 109.0, 110.0)


def futures(serve: Serve, world: World) -> tuple[LoopbackExchange, Any]:
    exchange, url = serve(world)
    return exchange, ccxt_client("binanceusdm", url, world, lambda: exchange.clock.now_ms)


def wallet(exchange: LoopbackExchange) -> str:
    return f"{exchange.balances('futures')['USDT'].normalize():f}"


def test_markets_and_prices(serve: Serve) -> None:
    exchange, client = futures(serve, made_world())

    market = client.load_markets()[BTC]

    assert sorted(client.markets) == sorted(f"{pair}:USDT" for pair in PAIRS)
    assert (market["swap"], market["linear"], market["limits"]["cost"]["min"], market["precision"]["price"]) == (True, True, 5, 0.01)
    price = client.fetch_last_prices([BTC])[BTC]["price"]
    assert price == client.fetch_ticker(BTC)["last"] == round(float(exchange.world.panel.open[96, 0]), 2)
    assert client.fetch_time() == exchange.clock.now_ms
    assert len(client.fetch_ohlcv(BTC, "15m", None, 5)) == 5


def test_a_round_trip_of_a_long_position(serve: Serve) -> None:
    exchange, client = futures(serve, barred_world([FLAT, UP]))
    client.set_leverage(10, BTC)

    bought = client.create_order(BTC, "market", "buy", 5, None, {"clientOrderId": "in"})
    held = client.fetch_positions([BTC])[0]
    balance = client.fetch_balance()["USDT"]
    exchange.set_time(MONDAY + STEP)
    sold = client.create_order(BTC, "market", "sell", 5, None, {"clientOrderId": "out", "reduceOnly": True})

    assert (bought["status"], bought["average"], bought["clientOrderId"]) == ("closed", 100, "in")
    assert (held["side"], held["contracts"], held["entryPrice"], held["notional"], held["initialMargin"]) == ("long", 5, 100, 500, 50)
    assert (balance["total"], balance["used"]) == (9999.5, 50)
    assert (sold["status"], sold["average"], sold["reduceOnly"]) == ("closed", 110, True)
    assert client.fetch_positions([BTC]) == []
    trades = client.fetch_my_trades(BTC)
    assert [(one["info"]["realizedPnl"], one["fee"]["cost"]) for one in trades] == [("0.00000000", 0.5), ("50.00000000", 0.55)]
    assert wallet(exchange) == "10048.95"
    assert [one["clientOrderId"] for one in client.fetch_orders(BTC)] == ["in", "out"]


def test_a_position_is_turned_and_averaged(serve: Serve) -> None:
    exchange, client = futures(serve, barred_world([FLAT, UP, FLAT], taker_frac=Decimal(0)))
    client.create_order(BTC, "market", "buy", 1)
    exchange.set_time(MONDAY + STEP)
    client.create_order(BTC, "market", "buy", 1)
    assert client.fetch_positions()[0]["entryPrice"] == 105

    client.create_order(BTC, "market", "sell", 3)

    turned = client.fetch_positions()[0]
    assert (turned["side"], turned["contracts"], turned["entryPrice"]) == ("short", 1, 110)
    assert wallet(exchange) == "10010"


def test_reduce_only_never_opens_nor_turns(serve: Serve) -> None:
    exchange, client = futures(serve, barred_world([FLAT, (100.0, 120.0, 100.0, 100.0), FLAT]))
    with pytest.raises(ccxt.InvalidOrder, match="-2022"):
        client.create_order(BTC, "market", "sell", 1, None, {"reduceOnly": True})
    client.create_order(BTC, "market", "buy", 2)
    resting = client.create_order(BTC, "limit", "sell", 2, 110, {"reduceOnly": True})
    client.create_order(BTC, "market", "sell", 1.5)

    exchange.set_time(MONDAY + 2 * STEP)

    assert client.fetch_positions() == []
    assert client.fetch_order(resting["id"], BTC)["filled"] == 0.5
    sent = client.create_order(BTC, "market", "buy", 1)
    assert sent["status"] == "closed"
    assert client.create_order(BTC, "market", "sell", 4, None, {"reduceOnly": True})["filled"] == 1


def test_a_stop_waits_in_the_algo_service_and_places_an_order_of_its_own(serve: Serve) -> None:
    exchange, client = futures(serve, barred_world([FLAT, (100.0, 100.0, 94.0, 96.0), FLAT]))
    client.create_order(BTC, "market", "buy", 2)

    stop = client.create_order(BTC, "market", "sell", 2, None, {"stopLossPrice": 95, "reduceOnly": True, "clientOrderId": "stop-1"})
    waiting = client.fetch_order("", BTC, {"clientAlgoId": "stop-1", "trigger": True})
    assert client.fetch_open_orders(BTC) == []
    assert [one["clientOrderId"] for one in client.fetch_open_orders(BTC, params={"trigger": True})] == ["stop-1"]
    with pytest.raises(ccxt.InvalidOrder, match="-4116"):
        client.create_order(BTC, "market", "sell", 2, None, {"stopLossPrice": 90, "clientOrderId": "stop-1"})
    exchange.set_time(MONDAY + STEP)
    assert client.fetch_positions() != []
    exchange.set_time(MONDAY + 2 * STEP)

    done = client.fetch_order(stop["id"], BTC, {"trigger": True})
    assert (stop["status"], stop["type"], waiting["triggerPrice"], waiting["info"]["actualOrderId"]) == ("open", "market", 95, "")
    assert (done["status"], done["info"]["algoStatus"], done["info"]["actualPrice"]) == ("closed", "FINISHED", "95.00000000")
    placed = client.fetch_order(done["info"]["actualOrderId"], BTC)
    assert (placed["status"], placed["filled"], placed["average"]) == ("closed", 2, 95)
    assert [trade["order"] for trade in client.fetch_my_trades(BTC)][-1] == placed["id"]
    assert client.fetch_positions() == []


def test_a_stop_can_be_cancelled_replaced_and_refused(serve: Serve) -> None:
    exchange, client = futures(serve, barred_world([FLAT, (100.0, 100.0, 94.0, 96.0), FLAT]))
    client.create_order(BTC, "market", "buy", 2)
    first = client.create_order(BTC, "market", "sell", 2, None, {"stopLossPrice": 90, "reduceOnly": True})
    second = client.create_order(BTC, "market", "sell", 2, None, {"stopLossPrice": 95, "reduceOnly": True})

    client.cancel_order(first["id"], BTC, {"trigger": True})
    client.create_order(BTC, "market", "sell", 2)
    exchange.set_time(MONDAY + 2 * STEP)

    statuses = {one["id"]: one["info"]["algoStatus"] for one in client.fetch_orders(BTC, params={"trigger": True})}
    assert statuses == {first["id"]: "CANCELED", second["id"]: "REJECTED"}
    assert client.fetch_positions() == [], "a reduce-only stop without a position opens none"
    with pytest.raises(ccxt.OrderNotFound):
        client.cancel_order(first["id"], BTC, {"trigger": True})
    with pytest.raises(ccxt.OrderImmediatelyFillable, match="-2021"):
        client.create_order(BTC, "market", "sell", 2, None, {"stopLossPrice": 101})


def test_a_conditional_order_is_not_for_the_ordinary_endpoint(serve: Serve) -> None:
    exchange, client = futures(serve, barred_world([FLAT]))
    request = {"symbol": "BTCUSDT", "side": "SELL", "type": "STOP_MARKET", "quantity": "1", "stopPrice": "90"}

    with pytest.raises(ccxt.InvalidOrder, match="-4120"):
        client.fapiprivate_post_order(request)
    assert exchange.state("futures")["orders"] == []


def test_a_take_profit_that_closes_the_whole_position(serve: Serve) -> None:
    exchange, client = futures(serve, barred_world([FLAT, (100.0, 110.0, 100.0, 100.0), FLAT]))
    client.create_order(BTC, "market", "sell", 2)
    client.create_order(BTC, "market", "buy", 0, None, {"takeProfitPrice": 99.5, "closePosition": True})

    exchange.set_time(MONDAY + STEP)

    assert client.fetch_positions() == []
    assert client.fetch_my_trades(BTC)[-1]["price"] == 99.5


def test_leverage_margin_mode_and_position_mode(serve: Serve) -> None:
    _, client = futures(serve, barred_world([FLAT]))

    assert client.set_leverage(3, BTC)["leverage"] == 3
    assert client.set_margin_mode("isolated", BTC)["code"] == 200
    with pytest.raises(ccxt.MarginModeAlreadySet, match="-4046"):
        client.set_margin_mode("isolated", BTC)
    assert client.fetch_leverages([BTC])[BTC]["longLeverage"] == 3
    assert client.fetch_margin_modes([BTC])[BTC]["marginMode"] == "isolated"
    assert client.fetch_position_mode(BTC)["hedged"] is False
    client.set_position_mode(True, BTC)
    assert client.fetch_position_mode(BTC)["hedged"] is True
    with pytest.raises(ccxt.OperationRejected, match="-4061"):
        client.create_order(BTC, "market", "buy", 1)
    client.create_order(BTC, "market", "buy", 1, None, {"positionSide": "LONG"})
    client.create_order(BTC, "market", "sell", 1, None, {"positionSide": "SHORT"})
    assert [(one["side"], one["contracts"]) for one in client.fetch_positions([BTC])] == [("long", 1), ("short", 1)]
    with pytest.raises(ccxt.OperationRejected, match="-4068"):
        client.set_position_mode(False, BTC)


@pytest.mark.parametrize(
    ("params", "error", "code"),
    [
        ({"quantity": "10000"}, ccxt.InsufficientFunds, "-2019"),
        ({"quantity": "0.04"}, ccxt.InvalidOrder, "-4164"),
        ({"quantity": "1.0000001"}, ccxt.BadRequest, "-1111"),
        ({"quantity": "0"}, ccxt.BadRequest, "-4003"),
        ({"quantity": "1", "type": "LIMIT", "price": "99.999", "timeInForce": "GTC"}, ccxt.BadRequest, "-4014"),
        ({"quantity": "1", "type": "LIMIT", "price": "101", "timeInForce": "GTX"}, ccxt.InvalidOrder, "-5022"),
    ],
)
def test_what_the_exchange_refuses(serve: Serve, params: dict[str, str], error: type[Exception], code: str) -> None:
    exchange, client = futures(serve, barred_world([FLAT]))

    with pytest.raises(error, match=code):
        client.fapiprivate_post_order({"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", **params})
    assert exchange.state("futures")["orders"] == []
    assert wallet(exchange) == "10000"


def test_fees_in_bnb(serve: Serve) -> None:
    exchange, client = futures(serve, made_world(fee_in=FeeIn.BNB, futures={"USDT": Decimal(10_000), "BNB": Decimal(1)}))

    trade = client.create_order(BTC, "market", "buy", 0.01)
    fee = client.fetch_my_trades(BTC)[0]["fee"]

    assert trade["status"] == "closed"
    assert fee["currency"] == "BNB"
    assert exchange.balances("futures")["BNB"] == 1 - Decimal(str(fee["cost"]))
    assert exchange.balances("futures")["USDT"] == 10_000


def test_the_older_account_endpoints(serve: Serve) -> None:
    _, client = futures(serve, barred_world([FLAT]))
    client.create_order(BTC, "market", "buy", 1)

    assert client.fetch_balance({"useV2": True})["USDT"]["total"] == 9999.9
    position = client.fetch_positions([BTC], {"useV2": True})[0]
    assert (position["contracts"], position["leverage"], position["marginMode"]) == (1, 20, "cross")
    assert client.fapiprivatev2_get_balance()[0]["balance"] == client.fapiprivatev3_get_balance()[0]["balance"] == "9999.90000000"
