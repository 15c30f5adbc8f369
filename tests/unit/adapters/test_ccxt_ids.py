"""Every exchange of a live desk is told our id of an order, and tells it back: by ccxt's own request builders and readers, offline."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.made_world import T0, make_order
from tickless.adapters.ccxt_client import exchange_class
from tickless.adapters.ccxt_exchange import CcxtExchange
from tickless.adapters.ccxt_ids import FORMS, id_form
from tickless.adapters.ccxt_lookup import BY_CLIENT_ID, BY_PAIR_ALONE, LISTS_BY_CLIENT_ID
from tickless.adapters.ccxt_orders import FoundOrder, read_order
from tickless.adapters.secrets import ApiKeys
from tickless.errors import OrderRejectedError, SettingsError
from tickless.execution.planning import client_order_id
from tickless.settings import BUYS_BY_VALUE, PROVEN_EXCHANGES, RESTING_STOPS
from tickless.types import Order, OrderStatus, OrderType, RestingStops, Side, Tick, to_ms

D = Decimal
OURS = client_order_id("desk", "rotation", Tick(T0, "full_rebalance"), "BTC/USDT", "buy")
VENUES = [(name, kind) for name, kinds in PROVEN_EXCHANGES.items() for kind in kinds]
MARKET_IDS = dict.fromkeys(("bingx", "coinbase", "kucoin", "myokx", "okx", "okxus"), "BTC-USDT") | dict.fromkeys(
    ("cryptocom", "gate", "gateeu"), "BTC_USDT"
) | {"htx": "btcusdt"}  # fmt: skip
AT = to_ms(T0)
BINANCE = {
    "symbol": "BTCUSDT",
    "orderId": 7,
    "status": "NEW",
    "executedQty": "0",
    "origQty": "2",
    "side": "BUY",
    "type": "LIMIT",
    "time": AT,
}
OKX = {
    "instId": "BTC-USDT",
    "ordId": "7",
    "state": "live",
    "accFillSz": "0",
    "sz": "2",
    "side": "buy",
    "ordType": "limit",
    "cTime": str(AT),
}
GATE = {"id": "7", "currency_pair": "BTC_USDT", "status": "open", "amount": "2", "left": "2", "side": "buy", "create_time_ms": AT}
RAWS: dict[str, tuple[str, dict[str, Any]]] = {
    **dict.fromkeys(("binance", "binanceus", "binanceusdm", "mexc"), ("clientOrderId", BINANCE)),
    **dict.fromkeys(("myokx", "okx", "okxus"), ("clOrdId", OKX)),
    **dict.fromkeys(("gate", "gateeu"), ("text", GATE)),
    "bingx": ("clientOrderID", {**BINANCE, "symbol": "BTC-USDT"}),
    "bitget": ("clientOid", {"symbol": "BTCUSDT", "orderId": "7", "status": "live", "baseVolume": "0", "size": "2", "side": "buy"}),
    "bybit": ("orderLinkId", {"symbol": "BTCUSDT", "orderId": "7", "orderStatus": "New", "cumExecQty": "0", "qty": "2", "side": "Buy"}),
    "coinbase": ("client_order_id", {"order_id": "7", "product_id": "BTC-USDT", "side": "BUY", "status": "OPEN", "filled_size": "0"}),
    "cryptocom": (
        "client_oid",
        {"order_id": "7", "instrument_name": "BTC_USDT", "status": "ACTIVE", "cumulative_quantity": "0", "quantity": "2", "side": "BUY"},
    ),
    "htx": (
        "client-order-id",
        {"id": 7, "symbol": "btcusdt", "state": "submitted", "field-amount": "0", "amount": "2", "type": "buy-limit", "created-at": AT},
    ),
    "kraken": (
        "cl_ord_id",
        {"id": "7", "status": "open", "vol": "2", "vol_exec": "0", "descr": {"pair": "BTCUSDT", "type": "buy", "ordertype": "limit"}},
    ),
    "kucoin": ("clientOid", {"id": "7", "symbol": "BTC-USDT", "isActive": True, "dealSize": "0", "size": "2", "side": "buy"}),
}
"""How each exchange writes an open order in its lists: the field of the client's id, and the others. By its documentation."""
ANSWERS = {
    "account/detail": {"user_id": 1, "key": {"mode": 1}},
    "query-api": {"retCode": 0, "result": {"unified": 1, "uta": 1, "isMaster": True}},
    "v5/account/info": {"retCode": 0, "result": {"unifiedMarginStatus": 5}},
    "v1/account/accounts": {"status": "ok", "data": [{"id": 1, "type": "spot", "state": "working"}]},
    "account/settings": {"code": "00000", "data": {"accountMode": "classic", "uid": "1"}},
    "account/mode": {"code": "200000", "data": {"selfAccountMode": "CLASSIC"}},
}
"""What some exchanges are asked before the first order."""


class Sent(BaseException):
    """A request that would have gone out: nothing answers it."""


def market(client: Any, kind: str) -> dict[str, Any]:
    swap = kind == "swap"
    more = {"settle": "USDT", "settleId": "USDT", "linear": True, "inverse": False, "contractSize": "1"} if swap else {}
    name = "BTC-USDT-SWAP" if swap and client.id == "okx" else MARKET_IDS.get(client.id, "BTCUSDT")
    told = {
        "id": name,
        "symbol": "BTC/USDT:USDT" if swap else "BTC/USDT",
        "base": "BTC",
        "quote": "USDT",
        "baseId": "BTC",
        "quoteId": "USDT",
        "type": kind,
        "spot": not swap,
        "swap": swap,
        "contract": swap,
        "active": True,
        "taker": "0.001",
        "maker": "0.001",
        "precision": {"amount": "0.001", "price": "0.01"},
        "limits": {"amount": {"min": "0.001"}, "cost": {"min": "1"}},
        "info": {"orderTypes": ["LIMIT", "MARKET", "STOP_LOSS", "STOP_MARKET"], "baseAsset": "BTC", "status": "TRADING", "filters": [1]},
    }
    return dict(client.safe_market_structure({**told, **more}))


class Wire:
    """An account whose requests end where the network would begin."""

    def __init__(self, name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        keys = ApiKeys("desk/keys", "key", "c2VjcmV0c2VjcmV0", "word")
        self.exchange = CcxtExchange(name, keys, "USDT", market_type=kind, now=lambda: T0, sleep=lambda seconds: None)  # type: ignore[arg-type]
        self.client = self.exchange.client
        self.market = market(self.client, kind)
        self.sent: list[str] = []
        self.client.set_markets([self.market])
        changes = {"load_markets": lambda reload=False: self.client.markets, "fetch_time": lambda: AT, "fetch": self._fetch}
        # What is not an order is not asked for here.
        changes |= {"throttle": lambda cost=None: None, "set_margin_mode": lambda *told: {}, "set_leverage": lambda *told: {}}
        monkeypatch.setattr(self.exchange._lookup, "find", lambda *asked, **how: None)
        for what, how in changes.items():
            monkeypatch.setattr(self.client, what, how)

    def _fetch(self, url: str, method: str = "GET", headers: Any = None, body: Any = None) -> Any:
        known = next((answer for path, answer in ANSWERS.items() if path in url), None)
        if known is not None:
            return known
        self.sent.append(f"{method} {url} {body or ''}")
        raise Sent

    def order(self, kind: OrderType, side: Side = Side.BUY) -> Order:
        prices = {OrderType.LIMIT: {"limit_price": "50000"}, OrderType.STOP: {"stop_price": "40000"}, OrderType.MARKET: {}}[kind]
        leaves = self.exchange._markets.is_swap and side is Side.SELL
        return replace(make_order(side, "2", pair=self.market["symbol"], **prices), client_order_id=OURS, reduce_only=leaves)

    def request(self, act: Callable[[], Any]) -> str:
        """The request that ``act`` ends in."""
        self.sent.clear()
        with pytest.raises(Sent):
            act()
        (request,) = self.sent
        return request


@pytest.fixture(params=VENUES, ids="-".join)
def wire(request, monkeypatch) -> Wire:
    return Wire(*request.param, monkeypatch)


def kinds_of_orders(wire: Wire) -> list[tuple[OrderType, Side]]:
    by_value = wire.client.id in BUYS_BY_VALUE
    kinds = [(OrderType.LIMIT, Side.BUY), (OrderType.LIMIT, Side.SELL), (OrderType.MARKET, Side.SELL)]
    stops = [(OrderType.STOP, Side.SELL)] if wire.client.id in RESTING_STOPS else []
    return [*kinds, *stops, *([] if by_value else [(OrderType.MARKET, Side.BUY)])]


def test_every_order_goes_out_with_our_id_in_the_field_of_the_exchange_and_is_found_under_it(wire):
    form = FORMS[wire.client.id]
    given = form.write(OURS)
    for kind, side in kinds_of_orders(wire):
        order = wire.order(kind, side)
        request = wire.request(lambda order=order: wire.exchange.submit(order, T0))
        assert request.startswith("POST ")
        assert any(f"{name}={given}" in request or re.search(f'"{name}": ?"{given}"', request) for name in form.sent_as), request
        assert OURS in request or given != OURS
    if wire.client.id in BY_CLIENT_ID:
        params = wire.exchange._lookup.params(wire.order(OrderType.LIMIT))
        for ask in (wire.client.fetch_order, wire.client.cancel_order):
            assert given in wire.request(lambda ask=ask: ask(None, wire.market["symbol"], params))


def test_every_list_that_orders_are_looked_for_in_can_be_asked_for(wire, monkeypatch):
    asked: list[str] = []
    named: list[bool] = []

    def through(name: str, ask: Callable[..., Any]) -> Callable[..., Any]:
        def listing(*told: Any) -> list[Any]:
            request = wire.request(lambda: ask(*told))
            asked.append(name)
            named.append(f"cl_ord_id={FORMS['kraken'].write(OURS)}" in request)
            return []

        return listing

    for name in ("fetch_open_orders", "fetch_orders", "fetch_closed_orders", "fetch_canceled_orders"):
        monkeypatch.setattr(wire.client, name, through(name, getattr(wire.client, name)))
    (instrument,) = wire.exchange._markets.all().values()
    assert wire.exchange._lookup._in_lists("order", wire.order(OrderType.LIMIT), instrument) is None
    assert asked[0] == "fetch_open_orders"
    assert asked[1:], "nor is an order that is over forgotten"
    assert set(named) == {wire.client.id in LISTS_BY_CLIENT_ID}


def test_all_open_orders_can_be_asked_for_at_once_or_are_asked_for_one_by_one(wire):
    (instrument,) = wire.exchange._markets.all().values()
    orders = {OURS: (wire.order(OrderType.LIMIT), instrument)}
    if wire.client.id in BY_PAIR_ALONE:
        assert wire.exchange._lookup.untouched(orders) == {}
    else:
        assert wire.request(lambda: wire.exchange._lookup.untouched(orders))


def test_the_trades_of_an_order_can_be_asked_for(wire):
    (instrument,) = wire.exchange._markets.all().values()
    found = FoundOrder("7", OrderStatus.FILLED, D(2), AT)
    assert wire.request(lambda: wire.exchange._lookup._trades(found, wire.order(OrderType.LIMIT), instrument))


def test_an_order_that_the_exchange_lists_is_known_for_ours_and_no_other_is(wire):
    field, raw = RAWS[wire.client.id]
    given = FORMS[wire.client.id].write(OURS)
    if wire.exchange._markets.is_swap and wire.client.id == "okx":
        raw = {**raw, "instId": "BTC-USDT-SWAP"}
    (instrument,) = wire.exchange._markets.all().values()
    order = wire.order(OrderType.LIMIT)
    listed = wire.client.parse_order({**json.loads(json.dumps(raw)), field: given}, wire.market)
    assert listed["clientOrderId"] == given
    found = read_order({**listed, "filled": listed["filled"] or "0"}, order, instrument)
    assert (found.exchange_id, found.status, found.filled) == ("7", OrderStatus.OPEN, 0)
    with pytest.raises(ValueError, match=r"order\.clientOrderId"):
        read_order({**listed, "clientOrderId": FORMS[wire.client.id].write(f"{OURS[:-1]}x")}, order, instrument)


def test_an_order_that_would_go_out_without_its_id_is_rejected_and_nothing_is_sent(wire, monkeypatch):
    building = wire.client.create_order
    for lost in ({}, {FORMS[wire.client.id].param: f"x{OURS[1:12]}"}):
        monkeypatch.setattr(
            wire.client, "create_order", lambda *told, lost=lost: building(*told[:5], {**told[5], **lost, **forget(told[5], lost)})
        )
        with pytest.raises(OrderRejectedError, match="not sent: the request has no "):
            wire.exchange.submit(wire.order(OrderType.LIMIT), T0)
    assert wire.sent == []


def forget(params: dict[str, Any], lost: dict[str, Any]) -> dict[str, Any]:
    return {} if lost else dict.fromkeys([name for name in params if "lient" in name], None)


def test_no_market_buy_goes_out_where_it_would_be_by_value(wire):
    buy = wire.order(OrderType.MARKET)
    if wire.client.id not in BUYS_BY_VALUE:
        assert wire.request(lambda: wire.exchange.submit(buy, T0))
        return
    with pytest.raises(OrderRejectedError, match="takes market buys by their cost alone"):
        wire.exchange.submit(buy, T0)
    assert wire.sent == []


def test_stops_rest_only_where_they_are_known_to_be_found_again(wire):
    stops = wire.exchange.resting_stops(wire.market["symbol"])
    assert (stops is RestingStops.NONE) == (wire.client.id not in RESTING_STOPS)


def test_an_order_on_isolated_contracts_of_okx_says_so(monkeypatch):
    wire = Wire("okx", "swap", monkeypatch)
    assert '"tdMode":"isolated"' in wire.request(lambda: wire.exchange.submit(wire.order(OrderType.LIMIT), T0))


def test_every_exchange_of_a_live_desk_has_a_form_and_no_other_opens():
    assert sorted(FORMS) == sorted(PROVEN_EXCHANGES)
    assert set(RAWS) == set(PROVEN_EXCHANGES)
    assert set(PROVEN_EXCHANGES) >= BUYS_BY_VALUE | RESTING_STOPS
    for name, kind in (("bitfinex", "spot"), ("kraken", "swap"), ("htx", "swap")):
        assert exchange_class(name), "ccxt knows it"
        with pytest.raises(SettingsError, match=rf"^desk\.exchange: '{name}': an order could be lost there: .*one of binance"):
            id_form(name, kind)  # type: ignore[arg-type]


@settings(max_examples=20)
@given(st.lists(st.from_regex(r"tk[0-9]{10}[0-9a-f]{18}", fullmatch=True), min_size=2, max_size=20, unique_by=lambda name: name[-26:]))
def test_other_ids_have_other_forms_of_the_length_and_letters_that_are_taken(names):
    allowed = {"gate": r"t-[0-9a-z]{26}", "kraken": r"[0-9a-f]{32}"}
    for exchange, form in FORMS.items():
        written = [form.write(name) for name in names]
        assert len(set(written)) == len(names)
        assert written == [form.write(name) for name in names]
        assert all(re.fullmatch(allowed.get(exchange.removesuffix("eu"), r"[0-9a-z]{30}"), text) for text in written)


# The whole life of an order at an exchange that takes another parameter than most, and is asked through its lists.


def test_an_order_at_coinbase_is_taken_found_and_cancelled_and_never_doubled(monkeypatch):
    wire = Wire("coinbase", "spot", monkeypatch)
    monkeypatch.undo()
    book: list[dict[str, Any]] = []

    def answer(url: str, method: str = "GET", headers: Any = None, body: Any = None) -> Any:
        told = json.loads(body) if body else {}
        if url.endswith("/orders"):
            known = {name: told[name] for name in ("client_order_id", "product_id", "side", "order_configuration")}
            book.append(
                {**known, "order_id": f"ex-{len(book)}", "status": "OPEN", "filled_size": "0", "created_time": "2024-06-03T00:00:01Z"}
            )
            return {"success": True, "success_response": {**known, "order_id": book[-1]["order_id"]}}
        if url.endswith("/batch_cancel"):
            for one in book:
                one["status"] = "CANCELLED" if one["order_id"] in told["order_ids"] else one["status"]
            return {"results": [{"success": True, "order_id": name} for name in told["order_ids"]]}
        assert "historical/batch" in url
        wanted = [one for one in book if "order_status=OPEN" not in url or one["status"] == "OPEN"]
        return {"orders": wanted, "has_next": False, "cursor": ""}

    client, exchange, order = wire.client, wire.exchange, wire.order(OrderType.LIMIT)
    client.load_markets, client.fetch_time, client.fetch = lambda reload=False: client.markets, lambda: AT, answer
    client.throttle, client.fetch_balance = lambda cost=None: None, lambda: {"total": {"USDT": "1000"}}
    assert exchange.submit(order, T0).status is OrderStatus.OPEN
    assert exchange.submit(order, T0).status is OrderStatus.OPEN
    assert [one["client_order_id"] for one in book] == [OURS]
    assert exchange.snapshot(T0, (order,)).reports[OURS].status is OrderStatus.OPEN
    assert exchange.cancel(order, T0).status is OrderStatus.CANCELED
    assert [one["status"] for one in book] == ["CANCELLED"]
