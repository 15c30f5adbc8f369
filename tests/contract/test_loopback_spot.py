"""The loopback exchange's spot API, through the real ccxt client: every call, and what matching does to money."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import ccxt
import pytest

from tests.loopback import FeeIn, LoopbackExchange, Timestamps, World, ccxt_client
from tests.loopback.made_worlds import PAIRS, barred_world, made_world
from tests.made_panels import MONDAY
from tickless.types import PairRules, from_ms

pytest_plugins = ["tests.loopback.fixtures"]

Serve = Callable[[World], tuple[LoopbackExchange, str]]
STEP = timedelta(minutes=15)
BTC = "BTC/USDT"
FLAT = (100.0, 101.0, 99.0, 100.0)


def spot(serve: Serve, world: World, **config: Any) -> tuple[LoopbackExchange, Any]:
    exchange, url = serve(world)
    return exchange, ccxt_client("binance", url, world, lambda: exchange.clock.now_ms, **config)


def texts(balances: dict[str, Decimal]) -> dict[str, str]:
    return {asset: f"{amount.normalize():f}" for asset, amount in balances.items()}


def test_markets_carry_the_filters(serve: Serve) -> None:
    rules = {BTC: PairRules(BTC, Decimal("0.01"), Decimal("0.00001"), Decimal(5), Decimal("0.0001"), active=False)}
    _, client = spot(serve, made_world(rules=rules))

    markets = client.load_markets()

    assert sorted(markets) == sorted(PAIRS)
    market = markets[BTC]
    assert market["precision"]["price"] == 0.01
    assert market["precision"]["amount"] == 0.00001
    assert (market["limits"]["amount"]["min"], market["limits"]["cost"]["min"], market["active"]) == (0.0001, 5, False)


def test_market_data(serve: Serve) -> None:
    exchange, client = spot(serve, made_world())
    panel, now = exchange.world.panel, exchange.clock.now_ms

    assert client.fetch_time() == now
    bars = client.fetch_ohlcv(BTC, "15m", now - 3 * 900_000, 10)
    hours = client.fetch_ohlcv(BTC, "1h", now - 2 * 3_600_000, 2)

    assert [row[0] for row in bars] == [now - 2_700_000, now - 1_800_000, now - 900_000, now]
    assert bars[0][1:] == [float(getattr(panel, name)[93, 0]) for name in ("open", "high", "low", "close", "volume")]
    running = float(panel.open[96, 0])
    assert bars[-1][1:] == [running, running, running, running, 0.0]
    assert hours[0][1:5] == [panel.open[88, 0], panel.high[88:92, 0].max(), panel.low[88:92, 0].min(), panel.close[91, 0]]
    price = client.fetch_last_prices([BTC])[BTC]["price"]
    assert price == round(running, 2)
    assert client.fetch_ticker(BTC)["last"] == client.fetch_bids_asks([BTC])[BTC]["ask"] == price


def test_a_market_order_fills_at_the_price_with_its_fee_in_what_it_received(serve: Serve) -> None:
    exchange, client = spot(serve, barred_world([FLAT] * 3))

    bought = client.create_order(BTC, "market", "buy", 2, None, {"clientOrderId": "a-1"})
    sold = client.create_order(BTC, "market", "sell", 1)

    assert (bought["status"], bought["filled"], bought["average"], bought["clientOrderId"]) == ("closed", 2, 100, "a-1")
    assert bought["trades"][0]["fee"] == {"cost": 0.002, "currency": "BTC"}
    assert sold["trades"][0]["fee"] == {"cost": 0.1, "currency": "USDT"}
    assert texts(exchange.balances("spot")) == {"BTC": "0.998", "USDT": "9899.9"}
    assert client.fetch_balance()["total"] == {"BTC": 0.998, "USDT": 9899.9}


@pytest.mark.parametrize(
    ("fee_in", "bnb", "expected"),
    [
        (FeeIn.QUOTE, "0", {"BTC": "0.1", "USDT": "3993.99"}),
        (FeeIn.BNB, "1", {"BNB": "0.988", "BTC": "0.1", "USDT": "4000"}),
        (FeeIn.BNB, "0.001", {"BNB": "0.001", "BTC": "0.0999", "USDT": "4000"}),
    ],
)
def test_fees_in_quote_and_in_bnb_as_long_as_there_is_any(serve: Serve, fee_in: FeeIn, bnb: str, expected: dict[str, str]) -> None:
    world = made_world(fee_in=fee_in, spot={"USDT": Decimal(10_000), "BNB": Decimal(bnb)})
    exchange, client = spot(serve, world)
    price, of_bnb = (exchange.prices.ask(pair, exchange.clock.now_ms) or Decimal(0) for pair in (BTC, "BNB/USDT"))

    trade = client.create_order(BTC, "market", "buy", 0.1)["trades"][0]

    held = exchange.balances("spot")
    value = price * Decimal("0.1")
    if fee_in is FeeIn.QUOTE:
        assert trade["fee"]["currency"] == "USDT"
        assert held["USDT"] == 10_000 - value - (value / 1000).quantize(Decimal("1e-8"), "ROUND_DOWN")
        assert held["BTC"] == Decimal("0.1")
    elif bnb == "1":
        assert trade["fee"]["currency"] == "BNB"
        assert held["BNB"] == 1 - (value / 1000 / of_bnb).quantize(Decimal("1e-8"), "ROUND_DOWN")
        assert held["BTC"] == Decimal("0.1")
    else:
        assert trade["fee"]["currency"] == "BTC"
        assert (held["BTC"], held["BNB"]) == (Decimal("0.0999"), Decimal("0.001"))
    assert sorted(held) == sorted(expected)


def test_a_limit_locks_rests_and_fills_when_a_closed_bar_trades_strictly_through(serve: Serve) -> None:
    touched, through = (100.0, 100.0, 98.0, 99.0), (99.0, 99.0, 97.99, 99.0)
    exchange, client = spot(serve, barred_world([touched, through, FLAT]))

    order = client.create_order(BTC, "limit", "buy", 10, 98, {"clientOrderId": "rests"})
    locked = client.fetch_balance()["USDT"]
    exchange.set_time(MONDAY + STEP)
    after_touch = client.fetch_order(order["id"], BTC)
    listed = client.fetch_open_orders(BTC)
    exchange.set_time(MONDAY + 2 * STEP)
    filled = client.fetch_order("", BTC, {"origClientOrderId": "rests"})

    assert (order["status"], locked["free"], locked["used"]) == ("open", 9020, 980)
    assert (after_touch["status"], [one["clientOrderId"] for one in listed]) == ("open", ["rests"])
    assert (filled["status"], filled["average"]) == ("closed", 98)
    trade = client.fetch_my_trades(BTC)[0]
    assert (trade["takerOrMaker"], trade["order"], trade["fee"]) == ("maker", order["id"], {"cost": 0.005, "currency": "BTC"})
    assert from_ms(trade["timestamp"]) == MONDAY + 2 * STEP - timedelta(milliseconds=1)
    assert client.fetch_open_orders(BTC) == []
    assert texts(exchange.balances("spot")) == {"BTC": "9.995", "USDT": "9020"}


def test_a_marketable_limit_takes_at_the_price_and_frees_the_rest(serve: Serve) -> None:
    exchange, client = spot(serve, barred_world([FLAT]))

    order = client.create_order(BTC, "limit", "buy", 10, 105)

    assert (order["status"], order["average"]) == ("closed", 100)
    assert client.fetch_balance()["USDT"] == {"free": 9000, "used": 0, "total": 9000}
    with pytest.raises(ccxt.OrderImmediatelyFillable):
        client.create_order(BTC, "limit", "buy", 1, 105, {"postOnly": True})
    assert exchange.log[-1].accepted is False


def test_a_bar_fills_no_more_than_its_share_and_the_rest_goes_on(serve: Serve) -> None:
    low = (100.0, 100.0, 90.0, 100.0)
    exchange, client = spot(serve, barred_world([low] * 4, participation_frac=Decimal("0.05"), trades_per_fill=2))

    order = client.create_order(BTC, "limit", "buy", 8, 95)
    exchange.set_time(MONDAY + STEP)
    part = client.fetch_order(order["id"], BTC)
    exchange.set_time(MONDAY + 2 * STEP)

    assert (part["info"]["status"], part["status"], part["filled"], part["remaining"]) == ("PARTIALLY_FILLED", "open", 5, 3)
    assert client.fetch_order(order["id"], BTC)["status"] == "closed"
    assert [trade["amount"] for trade in client.fetch_my_trades(BTC)] == [2.5, 2.5, 1.5, 1.5]
    assert len({trade["id"] for trade in client.fetch_my_trades(BTC)}) == 4


def test_cancelling_frees_what_was_locked_and_answers_with_an_id_of_its_own(serve: Serve) -> None:
    exchange, client = spot(serve, barred_world([FLAT]))
    client.create_order(BTC, "limit", "buy", 10, 90, {"clientOrderId": "gone"})

    answer = client.cancel_order("", BTC, {"origClientOrderId": "gone"})

    assert answer["info"]["origClientOrderId"] == "gone"
    assert answer["clientOrderId"] != "gone"
    assert client.fetch_order("", BTC, {"origClientOrderId": "gone"})["status"] == "canceled"
    assert texts(exchange.balances("spot")) == {"USDT": "10000"}
    with pytest.raises(ccxt.OrderNotFound, match="-2011"):
        client.cancel_order("", BTC, {"origClientOrderId": "gone"})
    with pytest.raises(ccxt.OrderNotFound, match="-2013"):
        client.fetch_order("", BTC, {"origClientOrderId": "never"})


def test_a_stop_fills_at_the_worse_of_stop_and_open_before_any_limit(serve: Serve) -> None:
    wild, gap = (100.0, 110.0, 90.0, 100.0), (80.0, 85.0, 80.0, 82.0)
    exchange, client = spot(serve, barred_world([wild, gap, FLAT], spot={"BTC": Decimal(3)}))

    stop = client.create_order(BTC, "market", "sell", 1, None, {"stopLossPrice": 95})
    limit = client.create_order(BTC, "limit", "sell", 1, 105)
    below = client.create_order(BTC, "limit", "sell", 1, 84, {"stopLossPrice": 85})
    assert client.fetch_balance()["BTC"]["used"] == 3
    exchange.set_time(MONDAY + STEP)
    exchange.set_time(MONDAY + 2 * STEP)

    fills = {one["id"]: (one["status"], one["average"]) for one in client.fetch_orders(BTC)}
    assert fills[stop["id"]] == ("closed", 95)
    assert fills[limit["id"]] == ("closed", 105)
    assert fills[below["id"]][0] == "open", "it opened below the limit: the stop was hit, and the limit rests"
    assert client.fetch_order(below["id"], BTC)["info"]["isWorking"] is True
    assert [trade["order"] for trade in client.fetch_my_trades(BTC)] == [stop["id"], limit["id"]]
    with pytest.raises(ccxt.OrderImmediatelyFillable):
        client.create_order(BTC, "limit", "sell", 1, 120, {"stopLossPrice": 130})


def test_a_take_profit_fills_at_its_price(serve: Serve) -> None:
    exchange, client = spot(serve, barred_world([(100.0, 110.0, 100.0, 100.0), FLAT], spot={"BTC": Decimal(1)}))

    order = client.create_order(BTC, "market", "sell", 1, None, {"takeProfitPrice": 105})
    exchange.set_time(MONDAY + STEP)

    assert client.fetch_order(order["id"], BTC)["average"] == 105


@pytest.mark.parametrize(
    ("params", "error", "code"),
    [
        ({"quantity": "0.000001", "price": "100"}, ccxt.InvalidOrder, "LOT_SIZE"),
        ({"quantity": "1.0000001", "price": "100"}, ccxt.InvalidOrder, "LOT_SIZE"),
        ({"quantity": "1", "price": "100.001"}, ccxt.InvalidOrder, "PRICE_FILTER"),
        ({"quantity": "0.01", "price": "90"}, ccxt.BadRequest, "NOTIONAL"),
        ({"quantity": "1000", "price": "90"}, ccxt.InsufficientFunds, "insufficient balance"),
        ({"quantity": "1", "price": "90", "symbol": "XXXUSDT"}, ccxt.BadSymbol, "-1121"),
        ({"quantity": "1", "price": "90", "newClientOrderId": "a b"}, ccxt.BadRequest, "-1100"),
        ({"quantity": "1", "price": "90", "type": "OTHER"}, ccxt.BadRequest, "-1116"),
        ({"quantity": "1"}, ccxt.BadRequest, "-1102"),
        ({"quantity": "x", "price": "90"}, ccxt.BadRequest, "-1100"),
    ],
)
def test_what_the_exchange_refuses(serve: Serve, params: dict[str, str], error: type[Exception], code: str) -> None:
    exchange, client = spot(serve, barred_world([FLAT]))
    request = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", **params}

    with pytest.raises(error, match=code):
        client.private_post_order(request)
    assert exchange.state("spot")["orders"] == []
    assert texts(exchange.balances("spot")) == {"USDT": "10000"}


def test_a_closed_market_a_revoked_key_and_a_wrong_secret(serve: Serve) -> None:
    exchange, client = spot(serve, barred_world([FLAT]))
    client.load_markets()
    exchange.set_status("spot", BTC, "BREAK")
    with pytest.raises(ccxt.MarketClosed):
        client.create_order(BTC, "market", "buy", 1)
    client.secret = "another"
    with pytest.raises(ccxt.AuthenticationError, match="-1022"):
        client.fetch_balance()
    exchange.set_key_works("spot", works=False)
    with pytest.raises(ccxt.AuthenticationError, match="-2015"):
        client.fetch_balance()


@pytest.mark.parametrize(("skew_ms", "is_refused"), [(0, False), (900, False), (-900, False), (90_000, True), (-90_000, True)])
def test_a_clock_that_is_off(serve: Serve, skew_ms: int, is_refused: bool) -> None:
    exchange, client = spot(serve, made_world(timestamps=Timestamps.WALL))
    client.milliseconds = ccxt.Exchange.milliseconds
    exchange.set_skew(skew_ms)

    assert abs(client.fetch_time() - client.milliseconds() - skew_ms) < 1000
    if is_refused:
        with pytest.raises(ccxt.InvalidNonce, match="-1021"):
            client.fetch_balance()
    else:
        assert client.fetch_balance()["total"] == {"USDT": 10_000}


def test_a_client_id_is_unique_among_open_orders_only(serve: Serve) -> None:
    exchange, client = spot(serve, barred_world([FLAT]))
    client.create_order(BTC, "limit", "buy", 1, 90, {"clientOrderId": "rests"})
    with pytest.raises(ccxt.InvalidOrder, match="Duplicate order sent"):
        client.create_order(BTC, "limit", "buy", 1, 90, {"clientOrderId": "rests"})
    for _ in range(2):
        client.create_order(BTC, "market", "buy", 1, None, {"clientOrderId": "twice"})

    assert texts(exchange.balances("spot"))["BTC"] == "1.998"
    assert exchange.orders_sent() == {"rests": 1, "twice": 2}
    assert exchange.resent() == ["rests", "twice"]


def test_an_exchange_that_remembers_ids_for_ever(serve: Serve) -> None:
    exchange, client = spot(serve, barred_world([FLAT], unique_ids_for_ever=True))
    client.create_order(BTC, "market", "buy", 1, None, {"clientOrderId": "once"})
    with pytest.raises(ccxt.InvalidOrder, match="Duplicate"):
        client.create_order(BTC, "market", "buy", 1, None, {"clientOrderId": "once"})

    assert exchange.orders_sent() == {"once": 1}


def test_weights_are_told_and_enforced_where_there_is_a_limit(serve: Serve) -> None:
    exchange, client = spot(serve, made_world(weight_limit=70))
    client.load_markets()
    client.fetch_balance()
    assert client.last_response_headers["X-MBX-USED-WEIGHT-1M"] == "40"
    client.fetch_balance()
    with pytest.raises(ccxt.DDoSProtection, match="-1003"):
        client.fetch_balance()
    assert client.last_response_headers["Retry-After"] == "60"
    exchange.set_time(from_ms(exchange.clock.now_ms + 60_000))

    assert client.fetch_balance()["total"] == {"USDT": 10_000}


def test_deposits_and_withdrawals(serve: Serve) -> None:
    exchange, client = spot(serve, made_world())

    exchange.move("spot", "USDT", Decimal("0.25"))
    exchange.move("spot", "DOGE", Decimal(7))
    exchange.move("spot", "USDT", Decimal(-5000))

    assert client.fetch_balance()["total"] == {"DOGE": 7, "USDT": 5000.25}


def test_the_spread(serve: Serve) -> None:
    _, client = spot(serve, barred_world([FLAT], spread_ticks=5))

    assert (client.fetch_bids_asks([BTC])[BTC]["bid"], client.fetch_bids_asks([BTC])[BTC]["ask"]) == (99.95, 100)
    assert client.create_order(BTC, "market", "buy", 1)["average"] == 100
    assert client.create_order(BTC, "market", "sell", 0.5)["average"] == 99.95


def test_lists_of_orders_and_trades_by_time_by_id_and_by_length(serve: Serve) -> None:
    exchange, client = spot(serve, barred_world([FLAT] * 6))
    for n in range(5):
        client.create_order(BTC, "market", "buy", 1, None, {"clientOrderId": str(n)})
        exchange.set_time(MONDAY + (n + 1) * STEP)
    since = int((MONDAY + 2 * STEP).timestamp() * 1000)
    third = client.fetch_order("", BTC, {"origClientOrderId": "3"})["id"]

    def ids(**params: Any) -> list[str]:
        return [one["clientOrderId"] for one in client.private_get_allorders({"symbol": "BTCUSDT", **params})]

    assert ids(limit=2) == ["3", "4"]
    assert ids(startTime=since, limit=2) == ["2", "3"]
    assert ids(startTime=since, endTime=since) == ["2"]
    assert ids(orderId=third) == ["3", "4"]
    assert [one["timestamp"] for one in client.fetch_my_trades(BTC, since, 2)] == [since, since + 900_000]
    assert [one["order"] for one in client.fetch_order_trades(third, BTC)] == [third]
    assert len(client.fetch_my_trades(BTC, None, 3)) == 3


def test_the_log_can_be_cleared_and_what_was_sent_twice_stays_known(serve: Serve) -> None:
    exchange, client = spot(serve, barred_world([FLAT]))
    client.create_order(BTC, "market", "buy", 1, None, {"clientOrderId": "twice"})
    last = exchange.log[-1].number
    exchange.clear_log()
    client.create_order(BTC, "market", "buy", 1, None, {"clientOrderId": "twice"})

    assert [one.number for one in exchange.log] == [last + 1]
    assert exchange.orders_sent() == {"twice": 2}
    assert exchange.resent() == ["twice"]
