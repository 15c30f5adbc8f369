"""What became of an order, asked of the exchange under the client's id: its state, and every fill by the exchange's trade ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import Any

from tickless.adapters.ccxt_instruments import AccountMarkets
from tickless.adapters.ccxt_orders import FoundOrder, Instrument, Raw, read_fill, read_number, read_order, sort_key, trades_of
from tickless.adapters.ccxt_requests import AccountRequests
from tickless.types import ZERO, Fill, Order, OrderReport, OrderStatus, evolve, to_ms

BY_CLIENT_ID = frozenset({"binance", "binanceus", "binanceusdm", "bitget", "kucoin", "mexc", "myokx", "okx", "okxus"})
"""Exchanges that find and cancel an order by the client's id; at others the lists of open and closed orders are looked through."""
BY_PAIR_ALONE = frozenset({"htx", "mexc"})
"""Exchanges that list the open orders of one pair at a time."""
LISTS_BY_CLIENT_ID = frozenset({"kraken"})
"""Exchanges whose lists can be asked for one id alone. Kraken's are of all pairs, the latest fifty: an older order would not be there."""
FILTERS_TRADES = frozenset({"binance", "binanceus", "binanceusdm"})
"""Exchanges that take ``orderId`` when they are asked for trades."""
PAGE, PAGES = 100, 10
"""Orders or trades a page, which every exchange allows; at most so many pages are read."""
MOST_A_PAGE = 1000
"""Trades of one moment must fit a page, as pages follow one another by time: as many as the exchange gives, up to this."""
BEFORE_MS = 60_000
"""An order is looked for from so long before its time: clocks differ."""
SETTLE_ASKS = 3
SETTLE_S = 0.3
"""Trades may show a moment after their order: they are asked for so often, with this pause."""


class OrderLookup:
    """The orders of one account, as the exchange tells them. All methods raise RetryableError, AccountError or ExchangeError."""

    def __init__(self, requests: AccountRequests, markets: AccountMarkets) -> None:
        self._requests = requests
        self._client = requests.client
        self._id = str(requests.client.id)
        self._markets = markets

    @property
    def by_client_id(self) -> bool:
        """Whether the exchange knows orders by the client's id."""
        return self._id in BY_CLIENT_ID

    def params(self, order: Order) -> dict[str, Any]:
        """What names an order: its id, and where it rests."""
        form = self._markets.form
        return {form.param: form.write(order.client_order_id), **self.apart(order)}

    def apart(self, order: Order) -> dict[str, Any]:
        """Where an order rests: with the conditional ones or not."""
        return {"trigger": True} if self._markets.rests_apart(order) else {}

    def find(self, order: Order, instrument: Instrument, *, thorough: bool = True) -> FoundOrder | None:
        """An order; None where the exchange does not know it. Unless ``thorough``, its word on the id alone is taken for that."""
        what = f"{self._id}: order {order.client_order_id}"
        found = self._by_id(what, order, instrument) if self.by_client_id else None
        if found is None and (thorough or not self.by_client_id):
            # An order that was taken does not go away: an exchange that has not heard of it may have asked a copy that lags.
            found = self._in_lists(what, order, instrument)
        if found is None or not self._markets.rests_apart(order):
            return found
        return self._gone_off(what, found, order, instrument)

    def untouched(self, orders: Mapping[str, tuple[Order, Instrument]]) -> dict[str, FoundOrder]:
        """Those of ``orders``, by client order id, that rest and have not filled at all: from the list of all open ones."""
        if self._id in BY_PAIR_ALONE:
            return {}
        kinds: list[dict[str, Any]] = [{}]
        if any(self._markets.rests_apart(order) for order, _ in orders.values()):
            kinds.append({"trigger": True})
        found: dict[str, FoundOrder] = {}
        for params in kinds:
            found |= self._requests.ask(f"{self._id}: open orders", partial(self._untouched, params, orders))
        return found

    def report(self, found: FoundOrder, order: Order, instrument: Instrument) -> OrderReport:
        """The report on an order, final only where its fills add up to what it says was filled."""
        fills = self._fills(found, order, instrument) if found.filled else ()
        told = sum((fill.qty for fill in fills), ZERO)
        if told == found.filled:
            return OrderReport(order.client_order_id, found.status or OrderStatus.OPEN, fills)
        message = f"{found.filled} are filled, the trades told so far add up to {told}"
        return OrderReport(order.client_order_id, OrderStatus.OPEN, fills, message)

    def _untouched(self, params: Mapping[str, Any], orders: Mapping[str, tuple[Order, Instrument]]) -> dict[str, FoundOrder]:
        listed = {raw.get("clientOrderId"): raw for raw in _list(self._client.fetch_open_orders(params=params))}
        names = {name: self._markets.form.write(name) for name in orders}
        seen = {name: read_order(listed[given], *orders[name]) for name, given in names.items() if given in listed}
        return {
            name: found for name, found in seen.items() if found.status is OrderStatus.OPEN and not found.filled and not found.triggered_id
        }

    def _gone_off(self, what: str, found: FoundOrder, order: Order, instrument: Instrument) -> FoundOrder:
        """The order that a stop has become when it went off. One that does not tell yet is open, as far as anybody knows."""
        became = None
        if found.triggered_id:
            became = self._requests.ask_order(
                f"{what}: what it has become",
                lambda: read_order(self._client.fetch_order(found.triggered_id, instrument.symbol), order, instrument, renamed=True),
            )
        if became is not None:
            return became
        return evolve(found, status=OrderStatus.OPEN) if found.triggered_id or found.is_closed_unfilled else found

    def _by_id(self, what: str, order: Order, instrument: Instrument) -> FoundOrder | None:
        params = self.params(order)
        return self._requests.ask_order(
            what, lambda: read_order(self._client.fetch_order(None, instrument.symbol, params), order, instrument)
        )

    def _in_lists(self, what: str, order: Order, instrument: Instrument) -> FoundOrder | None:
        """Among the open orders, then among those that were closed since the order's tick."""
        client, symbol = self._client, instrument.symbol
        params = self.params(order) if self._id in LISTS_BY_CLIENT_ID else self.apart(order)
        lists: list[Callable[[int], Any]] = [lambda _: client.fetch_open_orders(symbol, None, None, params)]
        # One may have it for contracts and not for spot.
        if client.has.get("fetchOrders") and (not client.features or client.feature_value(symbol, "fetchOrders")):
            lists.append(lambda since: client.fetch_orders(symbol, since, PAGE, params))
        else:
            lists.append(lambda since: client.fetch_closed_orders(symbol, since, PAGE, params))
            if client.has.get("fetchCanceledOrders"):
                lists.append(lambda since: client.fetch_canceled_orders(symbol, since, PAGE, params))
        for page in lists:
            for raw in self._pages(what, page, to_ms(order.tick_at) - BEFORE_MS):
                if raw.get("clientOrderId") == instrument.write_id(order.client_order_id):
                    return self._requests.ask(what, partial(read_order, raw, order, instrument))
        return None

    def _fills(self, found: FoundOrder, order: Order, instrument: Instrument) -> tuple[Fill, ...]:
        """The fills of an order, oldest first; asked for again where they do not add up yet."""
        fills: Sequence[Fill] = ()
        for attempt in range(SETTLE_ASKS):
            if attempt:
                self._requests.sleep(SETTLE_S)
            fills = self._trades(found, order, instrument)
            if sum((fill.qty for fill in fills), ZERO) >= found.filled:
                break
        return tuple(sorted(fills, key=sort_key))

    def _trades(self, found: FoundOrder, order: Order, instrument: Instrument) -> list[Fill]:
        client, symbol = self._client, instrument.symbol
        what = f"{self._id}: trades of order {order.client_order_id}"
        params = {"orderId": found.exchange_id} if self._id in FILTERS_TRADES else {}
        told = client.feature_value(symbol, "fetchMyTrades", "limit")
        most = min(told, MOST_A_PAGE) if isinstance(told, int) and told > 0 else PAGE

        def page(since: int) -> Any:
            if client.has.get("fetchOrderTrades") is True and not self._markets.is_swap:
                return client.fetch_order_trades(found.exchange_id, symbol, None, most)
            return client.fetch_my_trades(symbol, since, most, params)

        raws = list(self._pages(what, page, (found.created_ms or to_ms(order.tick_at)) - BEFORE_MS, most))
        prices: dict[str, Decimal | None] = {}

        def price_of(asset: str) -> Decimal | None:
            if asset not in prices:
                prices[asset] = self._price(asset)
            return prices[asset]

        return self._requests.read(
            what, lambda: [read_fill(raw, order, instrument, price_of) for raw in trades_of(raws, found.exchange_id)]
        )

    def _pages(self, what: str, page: Callable[[int], Any], since: int, most: int = PAGE) -> Iterator[Raw]:
        """What an exchange lists from a time on, page by page, each entry once; bounded, and over where a page brings nothing new."""
        seen: set[str] = set()
        for _ in range(PAGES):
            raws = self._requests.ask(what, partial(_listed, page, since))
            fresh = [raw for raw in raws if str(raw.get("id")) not in seen]
            yield from fresh
            if not fresh or len(raws) < most:
                return
            seen.update(str(raw.get("id")) for raw in fresh)
            since = max((at for raw in fresh if isinstance(at := raw.get("timestamp"), int)), default=since)

    def _price(self, asset: str) -> Decimal | None:
        """What a third asset, such as BNB, costs in the stake currency; None where the exchange has no market for it."""
        instrument = self._markets.find(f"{asset}/{self._markets.stake}")
        if instrument is None:
            return None
        return self._requests.ask(f"{self._id}: price of {asset}", lambda: _last(self._client.fetch_ticker(instrument.symbol)))


def _listed(page: Callable[[int], Any], since: int) -> list[Raw]:
    return _list(page(since))


def _list(raws: Any) -> list[Raw]:
    if not isinstance(raws, list) or not all(isinstance(raw, Mapping) for raw in raws):
        raise ValueError(f"{str(raws)[:80]!r} is not a list of objects")
    return raws


def _last(ticker: Any) -> Decimal:
    price = read_number(ticker.get("last"), "ticker.last")
    if price <= 0:
        raise ValueError(f"ticker.last: {price} is not above 0")
    return price
