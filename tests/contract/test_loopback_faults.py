"""Every fault of the loopback exchange, and what the real ccxt client makes of it: the table in ``tests/loopback``."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import ccxt
import pytest

from tests.loopback import Fault, LoopbackExchange, World, ccxt_client
from tests.loopback.made_worlds import made_world

pytest_plugins = ["tests.loopback.fixtures"]

Serve = Callable[[World], tuple[LoopbackExchange, str]]
PLACE = {"binance": "POST /api/v3/order", "binanceusdm": "POST /fapi/v1/order"}
SYMBOL = {"binance": "BTC/USDT", "binanceusdm": "BTC/USDT:USDT"}
ACCOUNT = {"binance": "GET /api/v3/account", "binanceusdm": "GET /fapi/v3/account"}
BOTH = pytest.mark.parametrize("exchange_id", list(PLACE))
VENUE = {"binance": "spot", "binanceusdm": "futures"}


def connect(serve: Serve, exchange_id: str) -> tuple[LoopbackExchange, Any]:
    exchange, url = serve(made_world())
    client = ccxt_client(exchange_id, url, exchange.world, lambda: exchange.clock.now_ms)
    client.load_markets()
    return exchange, client


def buy(client: Any, client_id: str = "once") -> Any:
    return client.create_order(SYMBOL[client.id], "market", "buy", 0.01, None, {"clientOrderId": client_id})


def taken(exchange: LoopbackExchange, exchange_id: str) -> int:
    """How many orders the exchange has."""
    return len(exchange.state(VENUE[exchange_id])["orders"])


@BOTH
@pytest.mark.parametrize(
    ("fault", "arguments", "error", "is_taken"),
    [
        (Fault.DELAY_BEFORE, {"seconds": 0.15}, ccxt.RequestTimeout, True),
        (Fault.DELAY_AFTER, {"seconds": 0.15}, ccxt.RequestTimeout, True),
        (Fault.RATE_LIMIT, {}, ccxt.DDoSProtection, False),
        (Fault.BANNED, {}, ccxt.DDoSProtection, False),
        (Fault.SERVER_ERROR, {}, ccxt.ExchangeNotAvailable, False),
        (Fault.SERVER_ERROR, {"status": 504}, ccxt.RequestTimeout, False),
        (Fault.SERVER_ERROR_AFTER, {}, ccxt.RequestTimeout, True),
        (Fault.CUT_BEFORE, {}, ccxt.NetworkError, False),
        (Fault.CUT_AFTER, {}, ccxt.NetworkError, True),
        (Fault.CUT_INSIDE, {}, ccxt.NetworkError, True),
        (Fault.DUPLICATE_ID, {}, ccxt.InvalidOrder, True),
        (Fault.VANISHED, {}, ccxt.OrderNotFound, False),
        (Fault.CLOCK_SKEW, {}, ccxt.InvalidNonce, False),
        (Fault.REVOKED_KEY, {}, ccxt.AuthenticationError, False),
        (Fault.REFUSED, {}, ccxt.InsufficientFunds, False),
        (Fault.REFUSED, {"code": -2010, "msg": "This symbol is not permitted for this account."}, ccxt.InvalidOrder, False),
        (Fault.NAN, {}, ValueError, True),
    ],
)
def test_a_fault_that_raises(
    serve: Serve, exchange_id: str, fault: Fault, arguments: dict[str, Any], error: type[Exception], is_taken: bool
) -> None:
    exchange, client = connect(serve, exchange_id)
    client.timeout = 100 if "seconds" in arguments else 2000
    exchange.faults.next(PLACE[exchange_id], fault, **arguments)

    with pytest.raises(error) as caught:
        buy(client)
    deadline = time.monotonic() + 2
    while taken(exchange, exchange_id) != is_taken and time.monotonic() < deadline:
        time.sleep(0.01)

    assert type(caught.value) is error
    assert taken(exchange, exchange_id) == is_taken
    assert exchange.faults.seen == {(PLACE[exchange_id], fault): 1}
    logged = exchange.log[-1]
    assert (logged.endpoint, logged.fault, logged.accepted, logged.client_id) == (PLACE[exchange_id], fault, is_taken, "once")
    if is_taken:
        client.timeout = 2000
        found = client.fetch_order("", SYMBOL[exchange_id], {"origClientOrderId": "once"})
        assert (found["status"], found["filled"]) == ("closed", 0.01)
    assert exchange.resent() == []


@BOTH
@pytest.mark.parametrize(
    ("fault", "arguments", "expected"),
    [
        (Fault.PARTIAL, {}, {"status": "expired", "filled": 0.005, "amount": 0.01}),
        (Fault.PARTIAL, {"share": "0.1"}, {"status": "expired", "filled": 0.001}),
        (Fault.TRUNCATED, {}, {"status": None, "id": None}),
        (Fault.MALFORMED, {}, {"status": None, "id": None}),
        (Fault.STRINGS, {}, {"status": "closed", "filled": 0.01}),
        (Fault.MISSING, {"name": "executedQty"}, {"status": "closed", "filled": 0}),
        (Fault.WRONG_PAIR, {}, {"status": "closed", "filled": 0.01}),
    ],
)
def test_a_fault_that_raises_nothing(
    serve: Serve, exchange_id: str, fault: Fault, arguments: dict[str, Any], expected: dict[str, Any]
) -> None:
    exchange, client = connect(serve, exchange_id)
    exchange.faults.next(PLACE[exchange_id], fault, **arguments)

    order = buy(client)

    assert {name: order[name] for name in expected} == expected
    assert taken(exchange, exchange_id) == 1
    if fault is Fault.WRONG_PAIR:
        assert (order["symbol"], order["info"]["symbol"]) == (SYMBOL[exchange_id], "XXXUSDT")


@BOTH
def test_answers_about_an_account(serve: Serve, exchange_id: str) -> None:
    exchange, client = connect(serve, exchange_id)
    before = client.fetch_balance()["total"]
    buy(client)
    after = client.fetch_balance()["total"]
    exchange.faults.always(ACCOUNT[exchange_id], Fault.STALE)
    stale = [client.fetch_balance()["total"] for _ in range(2)]
    exchange.faults.clear()
    for fault in (Fault.TRUNCATED, Fault.MALFORMED, Fault.STRINGS):
        exchange.faults.next(ACCOUNT[exchange_id], fault)

    assert before["USDT"] != after["USDT"]
    assert stale == [before, before]
    assert [client.fetch_balance()["total"] for _ in range(3)] == [{}, {}, after]


@BOTH
def test_an_order_is_not_stale(serve: Serve, exchange_id: str) -> None:
    exchange, client = connect(serve, exchange_id)
    before = client.fetch_balance()["total"]
    exchange.faults.next(PLACE[exchange_id], Fault.STALE)
    assert buy(client)["filled"] == 0.01
    assert client.fetch_balance()["total"] != before


@BOTH
def test_any_field_may_be_missing_at_random(serve: Serve, exchange_id: str) -> None:
    exchange, client = connect(serve, exchange_id)
    exchange.faults.random(1, {Fault.MISSING: 1.0}, PLACE[exchange_id])
    told = [buy(client, f"order-{n}")["info"].keys() for n in range(12)]
    whole = set().union(*told)
    assert len({frozenset(whole - fields) for fields in told}) > 4


def test_nan_in_balances(serve: Serve) -> None:
    exchange, client = connect(serve, "binanceusdm")
    exchange.faults.next(ACCOUNT["binanceusdm"], Fault.NAN)
    assert client.fetch_balance()["total"]["USDT"] != client.fetch_balance()["total"]["USDT"]
    exchange, client = connect(serve, "binance")
    exchange.faults.next(ACCOUNT["binance"], Fault.NAN)
    with pytest.raises(ValueError, match="NaN"):
        client.fetch_balance()


@BOTH
def test_orders_that_vanish_for_a_while(serve: Serve, exchange_id: str) -> None:
    exchange, client = connect(serve, exchange_id)
    symbol, path = SYMBOL[exchange_id], PLACE[exchange_id].split()[1]
    client.create_order(symbol, "limit", "buy", 0.01, 50_000, {"clientOrderId": "rests"})
    exchange.faults.next(f"GET {path}", Fault.VANISHED)
    exchange.faults.next(f"GET {path.removesuffix('order')}openOrders", Fault.VANISHED, times=2)

    with pytest.raises(ccxt.OrderNotFound, match="-2013"):
        client.fetch_order("", symbol, {"origClientOrderId": "rests"})
    assert [len(client.fetch_open_orders(symbol)) for _ in range(3)] == [0, 0, 1]
    assert client.fetch_order("", symbol, {"origClientOrderId": "rests"})["status"] == "open"


@BOTH
def test_a_limit_that_fills_in_part_and_rests(serve: Serve, exchange_id: str) -> None:
    exchange, client = connect(serve, exchange_id)
    exchange.faults.next(PLACE[exchange_id], Fault.PARTIAL, share="0.25")

    order = client.create_order(SYMBOL[exchange_id], "limit", "buy", 0.04, 70_000)

    assert (order["status"], order["filled"], order["remaining"]) == ("open", 0.01, 0.03)
    assert exchange.balances(VENUE[exchange_id])["USDT"] < Decimal(10_000)


def test_a_revoked_key_looks_like_a_ban_on_spot_once_a_call_was_answered(serve: Serve) -> None:
    exchange, client = connect(serve, "binance")
    client.fetch_balance()
    exchange.faults.next(ACCOUNT["binance"], Fault.REVOKED_KEY)

    with pytest.raises(ccxt.DDoSProtection, match="-2015"):
        client.fetch_balance()


def test_retry_after_is_told(serve: Serve) -> None:
    exchange, client = connect(serve, "binance")
    exchange.faults.next("*", Fault.RATE_LIMIT, retry_after=33)
    with pytest.raises(ccxt.DDoSProtection):
        client.fetch_time()

    assert client.last_response_headers["Retry-After"] == "33"


def test_faults_by_pattern_after_some_requests_and_as_often_as_asked(serve: Serve) -> None:
    exchange, client = connect(serve, "binance")
    exchange.faults.next("GET /api/v3/t*", Fault.SERVER_ERROR, times=2, skip=1)

    def outcome() -> str:
        try:
            client.fetch_time()
        except ccxt.ExchangeNotAvailable:
            return "down"
        return "up"

    assert [outcome() for _ in range(4)] == ["up", "down", "down", "up"]
    client.fetch_balance()
    assert exchange.faults.seen == {("GET /api/v3/time", Fault.SERVER_ERROR): 2}


def test_random_faults_repeat_with_their_seed(serve: Serve) -> None:
    def outcomes(seed: int) -> list[bool]:
        exchange, client = connect(serve, "binance")
        exchange.faults.random(seed, {Fault.SERVER_ERROR: 0.3, Fault.CUT_BEFORE: 0.2}, "GET *")
        found = []
        for _ in range(40):
            try:
                client.fetch_time()
            except ccxt.NetworkError:
                found.append(False)
            else:
                found.append(True)
        assert {fault for _, fault in exchange.faults.seen} == {Fault.SERVER_ERROR, Fault.CUT_BEFORE}
        assert sum(exchange.faults.seen.values()) == found.count(False)
        return found

    assert outcomes(1) == outcomes(1)
    assert outcomes(1) != outcomes(2)


def test_watchers_see_the_moment_before_and_the_moment_after(serve: Serve) -> None:
    exchange, client = connect(serve, "binance")
    seen: list[tuple[str, str, int]] = []
    exchange.watch.append(lambda phase, request: seen.append((phase, request.endpoint, taken(exchange, "binance"))))

    buy(client)

    assert seen == [("before", "POST /api/v3/order", 0), ("after", "POST /api/v3/order", 1)]
