"""Exchanges that cannot be asked by the client's id, and the answers ccxt's authors have recorded."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.made_world import T0, make_order
from tickless.adapters.ccxt_balances import spot_balances, swap_balances
from tickless.adapters.ccxt_exchange import CcxtExchange
from tickless.adapters.ccxt_ids import id_form
from tickless.adapters.ccxt_orders import read_order
from tickless.adapters.secrets import ApiKeys
from tickless.errors import OrderRejectedError, UnknownOutcomeError
from tickless.types import Order, OrderStatus, OrderType, RestingStops, Side, to_ms

D = Decimal
PAIR = "LTC/USDT"
MARKET = {
    "id": "LTCUSDT",
    "symbol": PAIR,
    "base": "LTC",
    "quote": "USDT",
    "type": "spot",
    "subType": None,
    "spot": True,
    "active": True,
    "taker": "0.0026",
    "precision": {"amount": "0.001", "price": "0.01"},
    "limits": {"amount": {"min": "0.01"}, "cost": {"min": None}},
    "info": {},
}


GIVEN = id_form("kraken", "spot").write("o1")
"""What kraken is told of the order ``o1``."""


def order(**changes: Any) -> Order:
    return make_order(qty="0.1", pair=PAIR, **changes)


class Listing:
    """A kraken that tells what it is given: the lists of an exchange that cannot be asked by the client's id."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.exchange = CcxtExchange("kraken", ApiKeys("mine", "key", "secret"), "USDT", now=lambda: T0, sleep=lambda seconds: None)
        self.client = self.exchange.client
        self.open: list[dict[str, Any]] = []
        self.closed: list[dict[str, Any]] = []
        self.trades: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.create: Callable[..., Any] = self._take
        self.client.markets = {PAIR: MARKET}
        told = {
            "load_markets": lambda reload=False: {PAIR: MARKET},
            "fetch_time": lambda: to_ms(T0),
            "fetch_balance": lambda: {"total": {"USDT": "1000"}},
            "fetch_open_orders": lambda symbol=None, since=None, limit=None, params=None: self._tell("open", self.open),
            "fetch_closed_orders": lambda symbol=None, since=None, limit=None, params=None: self._page(self.closed, since, limit),
            "fetch_my_trades": lambda symbol=None, since=None, limit=None, params=None: self._page(self.trades, since, limit),
            "create_order": self._send,
            "cancel_order": self._cancel,
        }
        for name, answer in told.items():
            monkeypatch.setattr(self.client, name, answer)
        self.client.has.update({"fetchOrders": False, "fetchCanceledOrders": False, "fetchOrderTrades": False})

    def raw(self, **changes: Any) -> dict[str, Any]:
        told = {"id": "K1", "clientOrderId": GIVEN, "symbol": PAIR, "side": "buy", "status": "open", "filled": "0", "timestamp": to_ms(T0)}
        return {**told, "info": {}, **changes}

    def trade(self, number: int, at_ms: int, amount: str = "0.1", order_id: str = "K1") -> dict[str, Any]:
        fee = {"cost": "0.01", "currency": "USDT"}
        told = {"id": f"T{number}", "order": order_id, "symbol": PAIR, "side": "buy", "price": "71.05", "timestamp": at_ms, "info": {}}
        return {**told, "amount": amount, "fee": fee}

    def _tell(self, what: str, answer: list[dict[str, Any]]) -> list[dict[str, Any]]:
        self.asked.append(what)
        return list(answer)

    def _page(self, rows: list[dict[str, Any]], since: int | None, limit: int | None) -> list[dict[str, Any]]:
        return self._tell("page", [row for row in rows if row["timestamp"] >= (since or 0)][:limit])

    def _send(self, *args: Any) -> Any:
        return self.create(*args)

    def _take(self, symbol: str, kind: str, side: str, amount: str, price: str | None, params: dict[str, Any]) -> dict[str, Any]:
        assert (amount, params) == ("0.1", {"clientOrderId": GIVEN})
        self.closed = [self.raw(status="closed", filled="0.1")]
        self.trades = [self.trade(1, to_ms(T0))]
        return self.raw(status=None, filled=None)

    def _cancel(self, exchange_id: str, symbol: str, params: dict[str, Any]) -> dict[str, Any]:
        assert (exchange_id, symbol, params) == ("K1", PAIR, {})
        self.open, self.closed = [], [self.raw(status="canceled")]
        return {}


@pytest.fixture
def listing(monkeypatch) -> Listing:
    return Listing(monkeypatch)


def test_an_order_is_looked_for_in_the_lists_and_its_answer_without_a_status_too(listing):
    report = listing.exchange.submit(order(), T0)
    assert (report.status, [fill.fill_id for fill in report.fills]) == (OrderStatus.FILLED, ["LTCUSDT-T1"])
    assert listing.exchange.submit(order(), T0) == report
    assert listing.exchange.snapshot(T0, (order(),)).reports == {"o1": report}
    assert listing.exchange.snapshot(T0, (order(order_id="o2"),)).reports == {}


def test_an_order_that_is_not_listed_yet_is_open(listing):
    listing.create = lambda *args: listing.raw(status=None, filled=None)
    report = listing.exchange.submit(order(), T0)
    assert (report.status, report.message) == (OrderStatus.OPEN, "accepted; not listed yet")


def test_an_order_is_cancelled_by_the_exchanges_own_id(listing):
    listing.open = [listing.raw()]
    assert listing.exchange.cancel(order(), T0).status is OrderStatus.CANCELED
    asked = len(listing.asked)
    assert listing.exchange.cancel(order(), T0).status is OrderStatus.CANCELED
    assert len(listing.asked) > asked


def test_pages_of_trades_follow_one_another_and_end(listing):
    monday = to_ms(T0)
    listing.client.features = None
    others = [listing.trade(n, monday + n, order_id="K9") for n in range(250)]
    listing.trades = [*others, listing.trade(300, monday + 300, "0.04"), listing.trade(301, monday + 301, "0.06")]
    listing.closed = [listing.raw(status="closed", filled="0.1")]
    report = listing.exchange.snapshot(T0, (order(),)).reports["o1"]
    assert [fill.qty for fill in report.fills] == [D("0.04"), D("0.06")]
    listing.trades = [listing.trade(n, monday, "0.0001", order_id="K9") for n in range(5000)]
    asked = len(listing.asked)
    assert listing.exchange.snapshot(T0, (order(),)).reports["o1"].status is OrderStatus.OPEN
    assert len(listing.asked) - asked < 20


def test_a_lost_answer_is_looked_for_in_the_lists(listing):
    def lost(*args: Any) -> Any:
        raise ValueError("no JSON")

    listing.create = lost
    with pytest.raises(UnknownOutcomeError, match="does not know it, yet"):
        listing.exchange.submit(order(), T0)

    def accepted(*args: Any) -> Any:
        listing.open = [listing.raw()]
        raise ValueError("no JSON")

    listing.create = accepted
    assert listing.exchange.submit(order(), T0).status is OrderStatus.OPEN


def test_no_stop_rests_where_nobody_has_shown_that_it_is_found_again(listing):
    assert listing.client.feature_value(PAIR, "createOrder", "stopLossPrice"), "though ccxt says that it takes them"
    assert not listing.exchange.supports_stops(PAIR)
    assert listing.exchange.resting_stops(PAIR) is RestingStops.NONE
    with pytest.raises(OrderRejectedError, match="no stop can rest at kraken"):
        listing.exchange.submit(order(stop_price="60"), T0)


PROGRAM = """
import sys
from tickless.adapters.ccxt_exchange import CcxtExchange
from tickless.adapters.secrets import ApiKeys
assert not [name for name in sys.modules if name.partition(".")[0] in ("ccxt", "boto3", "botocore")]
CcxtExchange("binance", ApiKeys("mine", "key", "secret"), "USDT")
shared = ("abstract", "base", "static_dependencies")
print(sorted(name for name in sys.modules if name.startswith("ccxt.") and name.split(".")[1] not in shared))
"""


def test_importing_loads_no_exchange_and_opening_an_account_loads_one():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['ccxt.binance']"


# Recorded answers.


def recorded(realdata: Path, exchange_id: str) -> Any:
    text = (realdata.parent / "fixtures" / "ccxt_static" / f"{exchange_id}_subset.json").read_text("utf8")
    return json.loads(text)["methods"]


def replaying(
    exchange_id: str, monkeypatch: pytest.MonkeyPatch, answer: Any, symbols: dict[str, dict[str, Any]], kind: str = "spot"
) -> CcxtExchange:
    """A real client whose transport gives back one recorded answer."""
    keys = ApiKeys("mine", "key", "c2VjcmV0")
    exchange = CcxtExchange(exchange_id, keys, "USDT", market_type=kind, now=lambda: T0, sleep=lambda seconds: None)  # type: ignore[arg-type]
    client = exchange.client
    client.enableRateLimit = False
    markets = [client.safe_market_structure({**MARKET, **told, "symbol": symbol}) for symbol, told in symbols.items()]
    client.set_markets(markets)
    client.options["leverageBrackets"] = {symbol: [["0", "0.004"]] for symbol in symbols}
    text = json.dumps(answer)
    monkeypatch.setattr(client, "fetch", lambda *args: client.on_json_response(text))
    return exchange


def spot(base: str, market_id: str) -> dict[str, Any]:
    return {"id": market_id, "base": base, "quote": "USDT", "baseId": base, "quoteId": "USDT", "type": "spot", "contract": False}


def linear(market_id: str) -> dict[str, Any]:
    kinds = {"type": "swap", "spot": False, "swap": True, "contract": True, "linear": True, "inverse": False, "contractSize": "1"}
    return {"id": market_id, "base": "BTC", "quote": "USDT", "settle": "USDT", "baseId": "BTC", "quoteId": "USDT", **kinds}


def instrument(exchange: CcxtExchange, symbol: str) -> Any:
    market = exchange.client.markets[symbol]
    return exchange._markets._instrument(market)


@pytest.mark.realdata
def test_recorded_spot_orders_of_binance_are_read(monkeypatch, realdata):
    one = recorded(realdata, "binance")["createOrder"][0]
    exchange = replaying(
        "binance", monkeypatch, one["httpResponse"], {"SOL/USDT": {**spot("SOL", "SOLUSDT"), "info": {"orderTypes": ["LIMIT"]}}}
    )
    told = exchange.client.create_order("SOL/USDT", "limit", "buy", "0.05", "241", {})
    limit = replace(make_order(qty="0.05", pair="SOL/USDT", limit_price="241"), client_order_id=one["parsedResponse"]["clientOrderId"])
    found = read_order(told, limit, instrument(exchange, "SOL/USDT"))
    assert (found.exchange_id, found.status, found.filled) == ("9780331417", OrderStatus.OPEN, 0)

    one = recorded(realdata, "binance")["fetchOrders"][0]
    exchange = replaying("binance", monkeypatch, one["httpResponse"][0], {PAIR: spot("LTC", "LTCUSDT")})
    told = exchange.client.fetch_order(None, PAIR, {"clientOrderId": "x-R4BD3S82d1481ae59ba59326d82c8a"})
    ours = replace(make_order(qty="0.1", pair=PAIR), client_order_id="x-R4BD3S82d1481ae59ba59326d82c8a")
    found = read_order(told, ours, instrument(exchange, PAIR))
    assert (found.exchange_id, found.status, found.created_ms) == ("3854801792", OrderStatus.CANCELED, 1701856395927)


@pytest.mark.realdata
def test_recorded_contracts_of_binance_are_read(monkeypatch, realdata):
    symbol = "BTC/USDT:USDT"
    methods = recorded(realdata, "binance")
    exchange = replaying("binance", monkeypatch, methods["fetchOrders"][1]["httpResponse"][0], {symbol: linear("BTCUSDT")}, "swap")
    told = exchange.client.fetch_order(None, symbol, {"clientOrderId": "x-xcKtGhcud2deca88ac9f4ccb9485a9"})
    ours = replace(make_order(qty="0.010", pair=symbol), client_order_id="x-xcKtGhcud2deca88ac9f4ccb9485a9")
    found = read_order(told, ours, instrument(exchange, symbol))
    assert (found.exchange_id, found.status, found.filled) == ("262065925771", OrderStatus.FILLED, D("0.01"))

    exchange = replaying("binance", monkeypatch, methods["fetchBalance"][0]["httpResponse"], {symbol: linear("BTCUSDT")}, "swap")
    balance = exchange.client.fetch_balance({"type": "swap"})
    exchange = replaying("binance", monkeypatch, methods["fetchPositions"][0]["httpResponse"], {symbol: linear("BTCUSDT")}, "swap")
    positions = exchange.client.fetch_positions()
    held = swap_balances(balance, positions, "USDT", {symbol: instrument(exchange, symbol)})
    assert held == {"BTC": D("0.009"), "USDT": D("31.02261200") - D("0.009") * D("67445.9")}


def as_recorded(exchange: CcxtExchange) -> Any:
    """The orders were not ours: their ids are as they were written."""
    return replace(instrument(exchange, PAIR), write_id=str)


@pytest.mark.realdata
def test_recorded_orders_of_kraken_are_read(monkeypatch, realdata):
    methods = recorded(realdata, "kraken")
    markets = {PAIR: spot("LTC", "LTCUSDT")}
    exchange = replaying("kraken", monkeypatch, methods["createOrder"][0]["httpResponse"], markets)
    told = exchange.client.create_order(PAIR, "market", "buy", "0.1", None, {})
    ours = replace(make_order(qty="0.1", pair=PAIR), client_order_id="0")
    sent = read_order({**told, "clientOrderId": "0"}, ours, as_recorded(exchange), sent=True)
    assert (sent.exchange_id, sent.status) == ("OL7LNO-R4SAD-6UINEU", None)

    for one, status, filled in zip(methods["fetchOrder"], (OrderStatus.OPEN, OrderStatus.FILLED), ("0", "0.1"), strict=True):
        exchange = replaying("kraken", monkeypatch, one["httpResponse"], markets)
        told = exchange.client.fetch_order(one["input"][0], PAIR)
        found = read_order(told, ours, as_recorded(exchange))
        assert (found.exchange_id, found.status, found.filled) == (one["input"][0], status, D(filled))

    exchange = replaying("kraken", monkeypatch, methods["fetchOpenOrders"][0]["httpResponse"], markets)
    (told,) = exchange.client.fetch_open_orders(PAIR)
    stop = replace(make_order(Side.SELL, qty="0.1", pair=PAIR, stop_price="55"), client_order_id="0")
    assert stop.type is OrderType.STOP
    assert read_order(told, stop, as_recorded(exchange)).status is OrderStatus.OPEN


def test_a_balance_that_lacks_a_part_is_refused(monkeypatch):
    answer = {"balances": [{"asset": "BTC", "free": "1.0"}]}
    exchange = replaying("binance", monkeypatch, answer, {PAIR: spot("LTC", "LTCUSDT")})
    with pytest.raises(ValueError, match=r"balance\.BTC\.total is missing"):
        spot_balances(exchange.client.fetch_balance(), "USDT")
