"""What Binance's spot and futures APIs share: keys, signatures, clocks, weights, market data."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import islice
from typing import Any, NamedTuple

from tests.loopback.matching import Venue
from tests.loopback.orders import Order, RefusedError, Trade, Why
from tests.loopback.prices import Prices
from tests.loopback.wire import Answer, ApiError, Request
from tests.loopback.world import Timestamps, World
from tickless.errors import DataError

EIGHT = Decimal("1.00000000")


@dataclass
class Clock:
    """``skew_ms`` is how far the exchange's clock is ahead of the true time."""

    world: World
    now_ms: int
    skew_ms: int = 0

    def told_ms(self) -> int:
        """What the time endpoints say."""
        wall = self.world.timestamps is Timestamps.WALL
        return (time.time_ns() // 1_000_000 if wall else self.now_ms) + self.skew_ms


class Route(NamedTuple):
    """An endpoint: what answers it, whether it is signed, its weight with a symbol and without."""

    answer: Callable[[Mapping[str, str], Decimal], Any]
    is_signed: bool
    weight: int
    weight_all: int = 0


class BinanceApi:
    """One of the two APIs, over one venue. Subclasses add ``routes``."""

    no_such_order = ApiError(-2013, "Order does not exist.")
    no_such_cancel = ApiError(-2011, "Unknown order sent.")
    id_pattern = re.compile(r"^[a-zA-Z0-9-_]{1,36}$")

    def __init__(self, world: World, prices: Prices, venue: Venue, clock: Clock) -> None:
        self.world, self.prices, self.venue, self.clock = world, prices, venue, clock
        self.pairs = {pair.replace("/", ""): pair for pair in world.panel.pairs}
        self.routes: dict[str, Route] = {}
        self.key_works = True
        self.used_weight = 0
        self._minute = -1

    def answer(self, request: Request, share: Decimal = Decimal(1)) -> Answer:
        """Never raises: an error is an answer."""
        route = self.routes.get(request.endpoint)
        if route is None:
            return Answer(404, {"code": -1000, "msg": f"no endpoint {request.endpoint} here"}, accepted=False)
        try:
            limited = self._weigh(request, route)
            if limited is not None:
                return limited
            if route.is_signed:
                self._check_signature(request)
            body = route.answer(request.params, share)
        except ApiError as error:
            return self.error(error)
        except RefusedError as refused:
            return self.error(self.refusal(refused.why))
        except KeyError as missing:
            return self.error(ApiError(-1102, f"Mandatory parameter {missing} was not sent, was empty/null, or malformed."))
        except InvalidOperation:
            return self.error(ApiError(-1100, "Illegal characters found in a parameter."))
        return Answer(200, body, self.headers())

    def refusal(self, why: Why) -> ApiError:
        """Why an order is refused, in this API's words."""
        raise NotImplementedError

    def vanished(self, request: Request) -> Answer:
        """The answer of an exchange that does not know the order."""
        if request.path.lower().endswith(("orders", "trades")):
            return Answer(200, [], self.headers(), accepted=False)
        return self.error(self.no_such_order if request.method == "GET" else self.no_such_cancel)

    def error(self, error: ApiError) -> Answer:
        return Answer(error.status, {"code": error.code, "msg": error.msg}, self.headers(), accepted=False)

    def headers(self) -> dict[str, str]:
        return {"X-MBX-USED-WEIGHT": str(self.used_weight), "X-MBX-USED-WEIGHT-1M": str(self.used_weight)}

    def pair(self, params: Mapping[str, str]) -> str:
        symbol = params["symbol"]
        if symbol not in self.pairs:
            raise ApiError(-1121, "Invalid symbol.")
        return self.pairs[symbol]

    def _weigh(self, request: Request, route: Route) -> Answer | None:
        minute = self.clock.told_ms() // 60_000
        if minute != self._minute:
            self._minute, self.used_weight = minute, 0
        self.used_weight += route.weight if "symbol" in request.params or not route.weight_all else route.weight_all
        limit = self.world.weight_limit
        if limit is None or self.used_weight <= limit:
            return None
        wait = 60 - self.clock.told_ms() // 1000 % 60
        body = {"code": -1003, "msg": f"Too much request weight used; current limit is {limit} request weight per 1 MINUTE."}
        return Answer(429, body, {**self.headers(), "Retry-After": str(wait)}, accepted=False)

    def _check_signature(self, request: Request) -> None:
        """Key, then time, then signature, over query and body as they were sent."""
        if request.headers.get("x-mbx-apikey") != self.world.key or not self.key_works:
            raise ApiError(-2015, "Invalid API-key, IP, or permissions for action.", 401)
        at = int(request.params["timestamp"])
        if self.world.timestamps is not Timestamps.ANY:
            now = self.clock.told_ms()
            if at >= now + 1000:
                raise ApiError(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
            if now - at > int(request.params.get("recvWindow", "5000")):
                raise ApiError(-1021, "Timestamp for this request is outside of the recvWindow.")
        payload, _, signature = (request.query + request.body).rpartition("signature=")
        expected = hmac.new(self.world.secret.encode(), payload.removesuffix("&").encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, signature):
            raise ApiError(-1022, "Signature for this request is not valid.")

    def check_client_id(self, client_id: str) -> str:
        if not self.id_pattern.match(client_id):
            raise ApiError(-1100, f"Illegal characters found in parameter 'newClientOrderId'; legal range is '{self.id_pattern.pattern}'.")
        return client_id

    def price_of(self, pair: str) -> Decimal:
        price = self.prices.ask(pair, self.clock.now_ms)
        if price is None:
            raise RefusedError(Why.NO_PRICE)
        return price

    def find(self, params: Mapping[str, str], id_name: str, client_name: str, error: ApiError, *, algo: bool = False) -> Order:
        """Of the pair named, where one is; raises ``error``."""
        order_id = params.get(id_name)
        if order_id is None and client_name not in params:
            raise ApiError(-1102, f"Param '{client_name}' or '{id_name}' must be sent, but both were empty/null!")
        order = self.venue.find(int(order_id) if order_id and order_id.isdigit() else None, params.get(client_name), algo=algo)
        if order is None or ("symbol" in params and order.pair != self.pair(params)):
            raise error
        return order

    def listed(self, params: Mapping[str, str], *, algo: bool) -> list[Order]:
        """The pair's orders, from ``startTime`` or ``orderId`` on, the last ``limit`` of them (the first, from a given start on)."""
        pair = self.pair(params) if "symbol" in params else None
        every = self.venue.orders_of[pair] if pair else list(self.venue.orders.values())
        start, end, first = (int(params[name]) if name in params else None for name in ("startTime", "endTime", "orderId"))
        found = (
            one
            for one in every[bisect_left(every, start or 0, key=lambda one: one.created_ms) :]
            if one.is_algo == algo and (end is None or one.created_ms <= end) and (first is None or one.id >= first)
        )
        limit = int(params.get("limit", "500"))
        return list(islice(found, limit)) if start is not None or first is not None else list(deque(found, limit))

    def open_of(self, params: Mapping[str, str], *, algo: bool) -> list[Order]:
        """The pair's orders that work, or everybody's."""
        pair = self.pair(params) if "symbol" in params else None
        return [one for one in self.venue.working.values() if one.is_algo == algo and pair in {None, one.pair}]

    def trades(self, params: Mapping[str, str]) -> list[Trade]:
        """The pair's, of one order or all, the last ``limit`` of them (the first, from a given start on)."""
        start, end, order_id, first = (int(params.get(key, "0")) for key in ("startTime", "endTime", "orderId", "fromId"))
        every = self.venue.trades_of[self.pair(params)]
        if order_id:
            order = self.venue.find(order_id, None)
            every = order.trades if order is not None and order.pair == self.pair(params) else []
        from_ = bisect_left(every, start, key=lambda trade: trade.at_ms)
        found = [trade for trade in every[from_:] if trade.id >= first and (not end or trade.at_ms <= end)]
        limit = int(params.get("limit", "500"))
        return found[:limit] if start or first else found[-limit:]

    def time(self, params: Mapping[str, str], share: Decimal) -> Any:
        return {"serverTime": self.clock.told_ms()}

    def klines(self, params: Mapping[str, str], share: Decimal) -> Any:
        pair = self.pair(params)
        start, end = (int(params[name]) if name in params else None for name in ("startTime", "endTime"))
        try:
            return self.prices.klines(pair, params["interval"], start, end, min(int(params.get("limit", "500")), 1000), self.clock.now_ms)
        except DataError as error:
            raise ApiError(-1120, "Invalid interval.") from error

    def each_pair(self, params: Mapping[str, str], tell: Callable[[str, Decimal], dict[str, Any]]) -> Any:
        """One pair's answer, or a list of those asked for that have a price."""
        if "symbol" in params:
            pair = self.pair(params)
            return tell(pair, self.price_of(pair))
        symbols = json.loads(params["symbols"]) if "symbols" in params else list(self.pairs)
        pairs = [self.pair({"symbol": symbol}) for symbol in symbols]
        priced = [(pair, self.prices.ask(pair, self.clock.now_ms)) for pair in pairs]
        return [tell(pair, price) for pair, price in priced if price is not None]

    def last_price(self, params: Mapping[str, str], share: Decimal) -> Any:
        return self.each_pair(params, lambda pair, price: {"symbol": name(pair), "price": num(price)})

    def book_ticker(self, params: Mapping[str, str], share: Decimal) -> Any:
        return self.each_pair(params, self._book)

    def _book(self, pair: str, ask: Decimal) -> dict[str, Any]:
        bid = self.prices.bid(pair, self.clock.now_ms) or ask
        return {"symbol": name(pair), "bidPrice": num(bid), "bidQty": "1000.0", "askPrice": num(ask), "askQty": "1000.0"}

    def day_ticker(self, params: Mapping[str, str], share: Decimal) -> Any:
        return self.each_pair(params, self._day)

    def _day(self, pair: str, price: Decimal) -> dict[str, Any]:
        """The last 24 hours, of which only the last price matters here."""
        now, last = self.clock.now_ms, num(price)
        return {
            **self._book(pair, price),
            **dict.fromkeys(("lastPrice", "openPrice", "highPrice", "lowPrice", "prevClosePrice", "weightedAvgPrice"), last),
            "priceChange": "0.0",
            "priceChangePercent": "0.000",
            "lastQty": "1.0",
            "volume": "1000.0",
            "quoteVolume": num(price * 1000),
            "openTime": now - 86_400_000,
            "closeTime": now,
            "firstId": 1,
            "lastId": 1,
            "count": 1,
        }

    def symbol_filters(self, pair: str, notional_field: str, notional_type: str) -> list[dict[str, Any]]:
        rules = self.world.rule(pair)
        lot = {"minQty": f"{rules.min_qty:f}", "maxQty": "9000000.00000000", "stepSize": f"{rules.qty_step:f}"}
        return [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": f"{rules.price_step:f}",
                "maxPrice": "1000000.00",
                "tickSize": f"{rules.price_step:f}",
            },
            {"filterType": "LOT_SIZE", **lot},
            {"filterType": "MARKET_LOT_SIZE", **lot},
            {"filterType": notional_type, notional_field: f"{rules.min_notional:f}", "applyMinToMarket": True, "avgPriceMins": 0},
            {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": 200, "limit": 200},
        ]


def name(pair: str) -> str:
    return pair.replace("/", "")


def num(value: Decimal | None) -> str:
    """At least eight decimals, and never fewer digits than there are."""
    value = value if value is not None else Decimal(0)
    exponent = value.as_tuple().exponent
    return f"{value:.8f}" if isinstance(exponent, int) and exponent >= -8 else f"{value:f}"
