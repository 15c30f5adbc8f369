"""Binance's spot REST API, as far as ccxt calls it."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tests.loopback.binance import BinanceApi, Clock, Route, name, num
from tests.loopback.filters import check
from tests.loopback.matching import Venue
from tests.loopback.orders import ZERO, Order, RefusedError, Trade, Why, floor_to
from tests.loopback.prices import Prices
from tests.loopback.spot_account import SpotAccount
from tests.loopback.wire import ApiError
from tests.loopback.world import World

TYPES = ("LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT")
REFUSALS: Mapping[Why, tuple[int, str]] = {
    Why.UNKNOWN_PAIR: (-1121, "Invalid symbol."),
    Why.CLOSED: (-1013, "Market is closed."),
    Why.NO_PRICE: (-1013, "Market is closed."),
    Why.PRICE_STEP: (-1013, "Filter failure: PRICE_FILTER"),
    Why.QTY_STEP: (-1013, "Filter failure: LOT_SIZE"),
    Why.QTY: (-1013, "Filter failure: LOT_SIZE"),
    Why.NOTIONAL: (-1013, "Filter failure: NOTIONAL"),
    Why.BALANCE: (-2010, "Account has insufficient balance for requested action."),
    Why.TRIGGERS: (-2010, "Stop price would trigger immediately."),
    Why.TAKES: (-2010, "Order would immediately match and take."),
    Why.DUPLICATE: (-2010, "Duplicate order sent."),
    Why.TYPE: (-1116, "Invalid orderType."),
}


class BinanceSpot(BinanceApi):
    """Paths begin with /api/v3."""

    def __init__(self, world: World, prices: Prices, venue: Venue, clock: Clock) -> None:
        super().__init__(world, prices, venue, clock)
        self.routes = {
            "GET /api/v3/ping": Route(lambda params, share: {}, False, 1),
            "GET /api/v3/time": Route(self.time, False, 1),
            "GET /api/v3/exchangeInfo": Route(self.exchange_info, False, 20),
            "GET /api/v3/klines": Route(self.klines, False, 2),
            "GET /api/v3/ticker/price": Route(self.last_price, False, 2, 4),
            "GET /api/v3/ticker/bookTicker": Route(self.book_ticker, False, 2, 4),
            "GET /api/v3/ticker/24hr": Route(self.day_ticker, False, 2, 80),
            "GET /api/v3/account": Route(self.balances, True, 20),
            "GET /api/v3/account/commission": Route(self.commission, True, 20),
            "POST /api/v3/order": Route(self.create, True, 1),
            "GET /api/v3/order": Route(self.query, True, 4),
            "DELETE /api/v3/order": Route(self.cancel, True, 1),
            "GET /api/v3/openOrders": Route(self.open_orders, True, 6, 80),
            "DELETE /api/v3/openOrders": Route(self.cancel_all, True, 1),
            "GET /api/v3/allOrders": Route(self.all_orders, True, 20),
            "GET /api/v3/myTrades": Route(self.my_trades, True, 20),
            "GET /sapi/v1/capital/config/getall": Route(lambda params, share: [], True, 10),
            "GET /sapi/v1/margin/allPairs": Route(lambda params, share: [], False, 1),
            "GET /sapi/v1/margin/isolated/allPairs": Route(lambda params, share: [], False, 1),
        }

    def refusal(self, why: Why) -> ApiError:
        return ApiError(*REFUSALS[why])

    def exchange_info(self, params: Mapping[str, str], share: Decimal) -> Any:
        limits = [{"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000}]
        symbols = [self._symbol(pair) for pair in self.pairs.values()]
        return {"timezone": "UTC", "serverTime": self.clock.told_ms(), "rateLimits": limits, "exchangeFilters": [], "symbols": symbols}

    def _symbol(self, pair: str) -> dict[str, Any]:
        base, quote = pair.split("/")
        eight = ("baseAssetPrecision", "quotePrecision", "quoteAssetPrecision", "baseCommissionPrecision", "quoteCommissionPrecision")
        return {
            "symbol": name(pair),
            "status": self.venue.status[pair],
            "baseAsset": base,
            "quoteAsset": quote,
            **dict.fromkeys(eight, 8),
            "orderTypes": list(TYPES),
            "isSpotTradingAllowed": True,
            "isMarginTradingAllowed": False,
            "permissions": [],
            "permissionSets": [["SPOT"]],
            "filters": self.symbol_filters(pair, "minNotional", "NOTIONAL"),
        }

    def balances(self, params: Mapping[str, str], share: Decimal) -> Any:
        account = self.venue.account
        assert isinstance(account, SpotAccount)
        rows = [{"asset": one, "free": num(account.free.get(one, ZERO)), "locked": num(account.locked(one))} for one in account.assets()]
        return {
            "makerCommission": 10,
            "takerCommission": 10,
            "buyerCommission": 0,
            "sellerCommission": 0,
            "canTrade": True,
            "canWithdraw": False,
            "canDeposit": True,
            "updateTime": self.clock.now_ms,
            "accountType": "SPOT",
            "balances": rows,
            "permissions": ["SPOT"],
        }

    def commission(self, params: Mapping[str, str], share: Decimal) -> Any:
        rates = {"maker": num(self.world.maker_frac), "taker": num(self.world.taker_frac), "buyer": "0.0", "seller": "0.0"}
        return {"symbol": name(self.pair(params)), "standardCommission": rates}

    def create(self, params: Mapping[str, str], share: Decimal) -> Any:
        order = self._order(params)
        if self.venue.status[order.pair] != "TRADING":
            raise RefusedError(Why.CLOSED)
        check(order, self.world.rule(order.pair), self.price_of(order.pair))
        self.venue.place(order, share)
        told = self._acted(order)
        match params.get("newOrderRespType", "FULL" if order.type in {"MARKET", "LIMIT"} else "ACK"):
            case "ACK":
                return {key: told[key] for key in ("symbol", "orderId", "orderListId", "clientOrderId", "transactTime")}
            case "FULL":
                told["fills"] = [_fill(trade) for trade in order.trades]
        return told

    def _order(self, params: Mapping[str, str]) -> Order:
        pair, type_ = self.pair(params), params["type"]
        if type_ not in TYPES:
            raise RefusedError(Why.TYPE)
        limit = "LIMIT" in type_
        waits = type_.startswith(("STOP", "TAKE"))
        wanted = Decimal(params["quoteOrderQty"]) if type_ == "MARKET" and "quoteOrderQty" in params else ZERO
        step = self.world.rule(pair).qty_step or Decimal(1)
        order_id = self.venue.next_id()
        return Order(
            order_id,
            self.check_client_id(params.get("newClientOrderId") or f"web_{order_id}"),
            pair,
            params["side"],
            type_,
            "limit" if limit else "market",
            floor_to(wanted / self.price_of(pair), step) if wanted else Decimal(params["quantity"]),
            self.clock.now_ms,
            price=Decimal(params["price"]) if limit else None,
            stop=Decimal(params["stopPrice"]) if waits else None,
            takes_profit=type_.startswith("TAKE"),
            time_in_force=params["timeInForce"] if limit and type_ != "LIMIT_MAKER" else "GTC",
            post_only=type_ == "LIMIT_MAKER",
            quote_qty=wanted,
        )

    def query(self, params: Mapping[str, str], share: Decimal) -> Any:
        self.pair(params)
        return self._told(self.find(params, "orderId", "origClientOrderId", self.no_such_order))

    def cancel(self, params: Mapping[str, str], share: Decimal) -> Any:
        """The answer's ``clientOrderId`` is the cancel's own; the order's is ``origClientOrderId``."""
        self.pair(params)
        return self._cancel(self.find(params, "orderId", "origClientOrderId", self.no_such_cancel), params.get("newClientOrderId"))

    def cancel_all(self, params: Mapping[str, str], share: Decimal) -> Any:
        pair = self.pair(params)
        found = [order for order in self.venue.working.values() if order.pair == pair]
        if not found:
            raise self.no_such_cancel
        return [self._cancel(order, None) for order in found]

    def _cancel(self, order: Order, cancel_id: str | None) -> dict[str, Any]:
        try:
            self.venue.cancel(order)
        except KeyError as error:
            raise self.no_such_cancel from error
        told = self._acted(order)
        return {**told, "origClientOrderId": order.client_id, "clientOrderId": cancel_id or f"cancel_{order.id}"}

    def open_orders(self, params: Mapping[str, str], share: Decimal) -> Any:
        return [self._told(order) for order in self.open_of(params, algo=False)]

    def all_orders(self, params: Mapping[str, str], share: Decimal) -> Any:
        self.pair(params)
        return [self._told(order) for order in self.listed(params, algo=False)]

    def my_trades(self, params: Mapping[str, str], share: Decimal) -> Any:
        return [_trade(trade) for trade in self.trades(params)]

    def _told(self, order: Order) -> dict[str, Any]:
        return {
            "symbol": name(order.pair),
            "orderId": order.id,
            "orderListId": -1,
            "clientOrderId": order.client_id,
            "price": num(order.price),
            "origQty": num(order.qty),
            "executedQty": num(order.filled),
            "origQuoteOrderQty": num(order.quote_qty),
            "cummulativeQuoteQty": num(order.quote),
            "status": order.status,
            "timeInForce": order.time_in_force,
            "type": order.type,
            "side": order.side,
            "stopPrice": num(order.stop),
            "icebergQty": num(ZERO),
            "time": order.created_ms,
            "updateTime": order.updated_ms,
            "isWorking": not order.waits,
            "workingTime": -1 if order.waits else order.created_ms,
            "selfTradePreventionMode": "EXPIRE_MAKER",
        }

    def _acted(self, order: Order) -> dict[str, Any]:
        """Of an order just placed or cancelled: fewer fields, and another time."""
        left_out = {"time", "updateTime", "isWorking", "icebergQty"} | ({"stopPrice"} if order.stop is None else set())
        return {**{key: value for key, value in self._told(order).items() if key not in left_out}, "transactTime": self.clock.now_ms}


def _fill(trade: Trade) -> dict[str, Any]:
    told = {"price": num(trade.price), "qty": num(trade.qty), "commission": num(trade.fee), "commissionAsset": trade.fee_asset}
    return {**told, "tradeId": trade.id}


def _trade(trade: Trade) -> dict[str, Any]:
    return {
        "symbol": name(trade.pair),
        "id": trade.id,
        "orderId": trade.order_id,
        "orderListId": -1,
        "price": num(trade.price),
        "qty": num(trade.qty),
        "quoteQty": num(trade.quote_qty),
        "commission": num(trade.fee),
        "commissionAsset": trade.fee_asset,
        "time": trade.at_ms,
        "isBuyer": trade.side == "BUY",
        "isMaker": trade.is_maker,
        "isBestMatch": True,
    }
