"""The loopback exchange's Roostoo API: signing as documented, its odd answers, and the shapes of the recorded ones."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from tests.loopback import Fault, LoopbackExchange, Timestamps, World
from tests.loopback.made_worlds import barred_world, made_world
from tests.loopback.roostoo import sign
from tests.made_panels import MONDAY
from tickless.types import PairRules

pytest_plugins = ["tests.loopback.fixtures"]

Serve = Callable[[World], tuple[LoopbackExchange, str]]
Ask = Callable[..., Any]
STEP = timedelta(minutes=15)
FLAT = (100.0, 101.0, 99.0, 100.0)


@pytest.fixture
def ask(serve: Serve) -> Callable[[World], tuple[LoopbackExchange, Ask]]:
    """A signing client, which signs the literal text and sends exactly that."""

    def start(world: World) -> tuple[LoopbackExchange, Ask]:
        exchange, url = serve(world)

        def call(method: str, path: str, *, secret: str = world.secret, encoded: bool = False, **params: str) -> Any:
            told = {"timestamp": str(exchange.clock.told_ms()), **params}
            text = "&".join(f"{name}={quote(told[name], safe='') if encoded else told[name]}" for name in sorted(told))
            signature = hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
            headers = {"RST-API-KEY": world.key, "MSG-SIGNATURE": signature, "Content-Type": "application/x-www-form-urlencoded"}
            connection = HTTPConnection(urlsplit(url).netloc, timeout=2)
            if method == "GET":
                connection.request("GET", f"{path}?{text}", headers=headers)
            else:
                connection.request("POST", path, text, headers)
            answer = json.loads(connection.getresponse().read(), parse_float=Decimal)
            connection.close()
            return answer

        return exchange, call

    return start


def order(ask: Ask, side: str, quantity: str, **more: str) -> Any:
    kind = "LIMIT" if "price" in more else "MARKET"
    return ask("POST", "/v3/place_order", **{"pair": "BTC/USD", "side": side, "type": kind, "quantity": quantity, **more})


def test_the_documented_signature() -> None:
    params = {"type": "MARKET", "side": "BUY", "pair": "BNB/USD", "quantity": "2000", "timestamp": "1580774512000"}
    secret = "S1XP1e3UZj6A7H5fATj0jNhqPxxdSJYdInClVN65XAbvqqMKjVHjA7PZj4W12oep"

    assert sign(params, secret) == "20b7fd5550b67b3bf0c1684ed0f04885261db8fdabd38611e9e6af23c19b7fff"


def test_a_signature_over_the_encoded_text_or_with_another_secret_is_refused(ask: Any) -> None:
    exchange, call = ask(barred_world([FLAT]))

    assert call("GET", "/v3/balance", secret="another")["Success"] is False
    refused = call("POST", "/v3/query_order", encoded=True, pair="BTC/USD")
    assert (refused["Success"], refused["ErrMsg"]) == (False, "signature is not valid")
    assert call("POST", "/v3/query_order", pair="BTC/USD")["ErrMsg"] == "no order matched"
    assert [one.accepted for one in exchange.log] == [False, False, False]


@pytest.mark.parametrize(("skew_ms", "is_right"), [(0, True), (59_000, True), (-61_000, False), (61_000, False)])
def test_the_timestamp_may_be_off_by_a_minute(ask: Any, skew_ms: int, is_right: bool) -> None:
    exchange, call = ask(barred_world([FLAT], timestamps=Timestamps.MARKET))

    answer = call("GET", "/v3/balance", timestamp=str(exchange.clock.now_ms + skew_ms))

    assert answer["Success"] is is_right


def test_public_answers(ask: Any) -> None:
    rules = {"BTC/USDT": PairRules("BTC/USDT", Decimal("0.01"), Decimal("0.000001"), Decimal(1), None, active=True)}
    exchange, call = ask(made_world(rules=rules))

    info = call("GET", "/v3/exchangeInfo")
    one = call("GET", "/v3/ticker", pair="BTC/USD")
    every = call("GET", "/v3/ticker")

    assert call("GET", "/v3/serverTime") == {"ServerTime": exchange.clock.now_ms}
    btc = info["TradePairs"]["BTC/USD"]
    assert (btc["PricePrecision"], btc["AmountPrecision"], btc["MiniOrder"], btc["CanTrade"]) == (2, 6, 1, True)
    assert one["Data"]["BTC/USD"] == every["Data"]["BTC/USD"]
    assert one["Data"]["BTC/USD"]["LastPrice"] == exchange.prices.ask("BTC/USDT", exchange.clock.now_ms)
    assert call("GET", "/v3/ticker", pair="XXX/USD")["Success"] is False


def test_a_market_round_trip_to_the_last_digit(ask: Any) -> None:
    exchange, call = ask(barred_world([FLAT, FLAT]))

    bought = order(call, "BUY", "2")["OrderDetail"]
    sold = order(call, "SELL", "1.5")["OrderDetail"]

    assert (bought["Status"], bought["Role"], bought["FilledAverPrice"], bought["CommissionCoin"]) == ("FILLED", "TAKER", 100, "BTC")
    assert (bought["CommissionChargeValue"], bought["CommissionPercent"]) == (Decimal("0.002"), Decimal("0.001"))
    assert (sold["CommissionCoin"], sold["CommissionChargeValue"], sold["UnitChange"]) == ("USD", Decimal("0.15"), 150)
    wallet = call("GET", "/v3/balance")
    assert wallet["SpotWallet"] == {"BTC": {"Free": Decimal("0.498"), "Lock": 0}, "USD": {"Free": Decimal("49949.85"), "Lock": 0}}
    assert exchange.balances("roostoo") == {"BTC": Decimal("0.498"), "USD": Decimal("49949.85")}


def test_a_limit_rests_is_counted_and_fills_or_is_cancelled(ask: Any) -> None:
    exchange, call = ask(barred_world([FLAT, (100.0, 100.0, 97.0, 98.0), FLAT]))
    filled, gone = (order(call, "BUY", "1", price=price)["OrderDetail"]["OrderID"] for price in ("98", "90"))

    assert call("GET", "/v3/pending_count") == {"Success": True, "ErrMsg": "", "TotalPending": 2, "OrderPairs": {"BTC/USD": 2}}
    pending = call("POST", "/v3/query_order", pair="BTC/USD", pending_only="TRUE")["OrderMatched"]
    assert [(one["OrderID"], one["Status"], one["FilledQuantity"], one["FilledAverPrice"]) for one in pending] == [
        (gone, "PENDING", 1, 0),
        (filled, "PENDING", 1, 0),
    ], "newest first, and as documented: the whole quantity at an average of 0"
    exchange.set_time(MONDAY + 2 * STEP)
    assert call("POST", "/v3/cancel_order", order_id=str(gone))["CanceledList"] == [gone]

    assert call("POST", "/v3/query_order", order_id=str(filled))["OrderMatched"][0]["Role"] == "MAKER"
    assert call("POST", "/v3/query_order", order_id=str(gone))["OrderMatched"][0]["Status"] == "CANCELED"
    none = call("GET", "/v3/pending_count")
    assert none == {"Success": False, "ErrMsg": "no pending order under this account", "TotalPending": 0, "OrderPairs": {}}
    assert call("POST", "/v3/cancel_order")["Success"] is False


def test_cancelling_everything(ask: Any) -> None:
    exchange, call = ask(barred_world([FLAT]))
    ids = [order(call, "BUY", "1", price="90")["OrderDetail"]["OrderID"] for _ in range(3)]

    assert call("POST", "/v3/cancel_order")["CanceledList"] == ids
    assert exchange.balances("roostoo") == {"USD": Decimal(50_000)}


@pytest.mark.parametrize(
    ("params", "msg"),
    [
        ({"side": "BUY", "quantity": "0.05"}, "order value is too small"),
        ({"side": "BUY", "quantity": "0.0500001"}, "quantity step size error"),
        ({"side": "BUY", "quantity": "1000"}, "insufficient balance"),
        ({"side": "SELL", "quantity": "1"}, "insufficient balance"),
        ({"side": "BUY", "quantity": "1", "price": "90.001"}, "price step size error"),
        ({"side": "BUY", "quantity": "1", "pair": "XXX/USD"}, "XXX/USD is not listed"),
    ],
)
def test_what_the_exchange_refuses(ask: Any, params: dict[str, str], msg: str) -> None:
    exchange, call = ask(barred_world([FLAT]))

    answer = order(call, **params)

    assert (answer["Success"], answer["ErrMsg"]) == (False, msg)
    assert exchange.balances("roostoo") == {"USD": Decimal(50_000)}


def test_a_notional_at_the_least_is_refused_and_one_above_is_not(ask: Any) -> None:
    _, call = ask(barred_world([FLAT]))

    assert order(call, "BUY", "0.05")["Success"] is False
    assert order(call, "BUY", "0.05001")["Success"] is True


def test_faults_speak_roostoo(ask: Any) -> None:
    exchange, call = ask(barred_world([FLAT]))
    order(call, "BUY", "1", price="90")
    for fault in (Fault.VANISHED, Fault.REFUSED, Fault.NAN):
        exchange.faults.next("POST /v3/query_order", fault)

    assert call("POST", "/v3/query_order", pair="BTC/USD") == {"Success": False, "ErrMsg": "no order matched"}
    assert call("POST", "/v3/query_order", pair="BTC/USD") == {"Success": False, "ErrMsg": "insufficient balance"}
    assert str(call("POST", "/v3/query_order", pair="BTC/USD")["OrderMatched"][0]["Price"]) == "nan"
    exchange.faults.next("POST /v3/place_order", Fault.CUT_AFTER)
    with pytest.raises(ConnectionError):
        order(call, "BUY", "2")
    assert call("POST", "/v3/query_order", pair="BTC/USD")["OrderMatched"][0]["Quantity"] == 2


def shape(value: Any) -> Any:
    """Names and kinds: a number is a number, whole or not; of a list its first element; pairs and coins by one name."""
    if isinstance(value, dict):
        return {"*" if "/" in name or name in {"BTC", "ETH", "USD", "BNB"} else name: shape(one) for name, one in value.items()}
    if isinstance(value, list):
        return [shape(one) for one in value[:1]]
    return "number" if isinstance(value, int | float | Decimal) and not isinstance(value, bool) else type(value).__name__


@pytest.mark.realdata
def test_answers_have_the_recorded_shapes(ask: Any, root: Path) -> None:
    recorded = root.parent / "shared" / "fixtures" / "roostoo"
    _, call = ask(barred_world([FLAT, FLAT], roostoo_wallet="Wallet"))
    asked = {
        "serverTime": call("GET", "/v3/serverTime"),
        "exchangeInfo": call("GET", "/v3/exchangeInfo"),
        "ticker_one_pair": call("GET", "/v3/ticker", pair="BTC/USD"),
        "ticker_all": call("GET", "/v3/ticker"),
        "query_order_none": call("POST", "/v3/query_order", pair="BTC/USD"),
        "pending_count_none": call("GET", "/v3/pending_count"),
        "place_order_taker": order(call, "BUY", "2"),
        "place_order_maker": order(call, "SELL", "1", price="120"),
        "pending_count_found": call("GET", "/v3/pending_count"),
        "query_order_matched": call("POST", "/v3/query_order", pair="BTC/USD"),
        "balance": call("GET", "/v3/balance"),
        "cancel_order": call("POST", "/v3/cancel_order"),
    }

    for name, answer in asked.items():
        assert shape(answer) == shape(json.loads((recorded / f"{name}.json").read_text())), name
    live = json.loads((recorded / "observed_2026.json").read_text())["balance_live"]
    _, call = ask(barred_world([FLAT], roostoo={"USD": Decimal(50_000), "BNB": Decimal(1)}))
    assert shape(call("GET", "/v3/balance")) == shape(live)
