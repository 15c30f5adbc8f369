"""The half of Binance's USDT-margined futures REST API that takes orders; conditional ones go through the algo service."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tests.loopback.binance import Clock, Route, name, num
from tests.loopback.binance_futures_account import CONDITIONAL, PLAIN, BinanceFuturesAccount
from tests.loopback.filters import check
from tests.loopback.futures_venue import FuturesVenue, algo_status
from tests.loopback.orders import ZERO, Order, RefusedError, Trade, Why
from tests.loopback.prices import Prices
from tests.loopback.wire import ApiError
from tests.loopback.world import World

REFUSALS: Mapping[Why, tuple[int, str]] = {
    Why.UNKNOWN_PAIR: (-1121, "Invalid symbol."),
    Why.CLOSED: (-4140, "Invalid symbol status for opening position."),
    Why.NO_PRICE: (-4140, "Invalid symbol status for opening position."),
    Why.PRICE_STEP: (-4014, "Price not increased by tick size."),
    Why.QTY_STEP: (-1111, "Precision is over the maximum defined for this asset."),
    Why.QTY: (-4003, "Quantity less than or equal to zero."),
    Why.NOTIONAL: (-4164, "Order's notional must be no smaller than the minimum (unless you choose reduce only)."),
    Why.BALANCE: (-2019, "Margin is insufficient."),
    Why.TRIGGERS: (-2021, "Order would immediately trigger."),
    Why.TAKES: (-5022, "Due to the order could not be executed as maker, the Post Only order will be rejected."),
    Why.DUPLICATE: (-4116, "ClientOrderId is duplicated."),
    Why.REDUCE_ONLY: (-2022, "ReduceOnly Order is rejected."),
    Why.TYPE: (-1116, "Invalid orderType."),
    Why.SIDE: (-4061, "Order's position side does not match user's setting."),
}


class BinanceFutures(BinanceFuturesAccount):
    """Paths begin with /fapi."""

    id_pattern = re.compile(r"^[\.A-Z\:/a-z0-9_-]{1,36}$")

    def __init__(self, world: World, prices: Prices, venue: FuturesVenue, clock: Clock) -> None:
        super().__init__(world, prices, venue, clock)
        self.routes |= {
            "POST /fapi/v1/order": Route(self.create, True, 1),
            "GET /fapi/v1/order": Route(self.query, True, 1),
            "DELETE /fapi/v1/order": Route(self.cancel, True, 1),
            "GET /fapi/v1/openOrder": Route(self.query_open, True, 1),
            "GET /fapi/v1/openOrders": Route(self.open_orders, True, 1, 40),
            "GET /fapi/v1/allOrders": Route(self.all_orders, True, 5),
            "DELETE /fapi/v1/allOpenOrders": Route(self.cancel_all, True, 1),
            "GET /fapi/v1/userTrades": Route(self.user_trades, True, 5),
            "POST /fapi/v1/algoOrder": Route(self.create_algo, True, 1),
            "GET /fapi/v1/algoOrder": Route(self.query_algo, True, 1),
            "DELETE /fapi/v1/algoOrder": Route(self.cancel_algo, True, 1),
            "GET /fapi/v1/openAlgoOrders": Route(self.open_algos, True, 1, 40),
            "GET /fapi/v1/allAlgoOrders": Route(self.all_algos, True, 5),
            "DELETE /fapi/v1/algoOpenOrders": Route(self.cancel_all_algos, True, 1),
        }

    def refusal(self, why: Why) -> ApiError:
        return ApiError(*REFUSALS[why])

    def create(self, params: Mapping[str, str], share: Decimal) -> Any:
        if params["type"] in CONDITIONAL:
            raise ApiError(-4120, "Order type not supported for this endpoint. Please use the Algo Order API endpoints instead.")
        if params["type"] not in PLAIN:
            raise RefusedError(Why.TYPE)
        return self._told(self._place(self._order(params, "newClientOrderId", algo=False), share))

    def create_algo(self, params: Mapping[str, str], share: Decimal) -> Any:
        if params["algoType"] != "CONDITIONAL" or params["type"] not in CONDITIONAL:
            raise RefusedError(Why.TYPE)
        return self._told_algo(self._place(self._order(params, "clientAlgoId", algo=True), share))

    def _place(self, order: Order, share: Decimal) -> Order:
        if self.venue.status[order.pair] != "TRADING":
            raise RefusedError(Why.CLOSED)
        check(order, self.world.rule(order.pair), self.price_of(order.pair), notional=not order.reduce_only)
        return self.venue.place(order, share)

    def _order(self, params: Mapping[str, str], client_name: str, *, algo: bool) -> Order:
        pair, type_ = self.pair(params), params["type"]
        limit = type_ in {"LIMIT", "STOP", "TAKE_PROFIT"}
        whole = params.get("closePosition") == "true"
        order_id = self.venue.next_id()
        return Order(
            order_id,
            self.check_client_id(params.get(client_name) or f"web_{order_id}"),
            pair,
            params["side"],
            type_,
            "limit" if limit else "market",
            ZERO if whole else Decimal(params["quantity"]),
            self.clock.now_ms,
            price=Decimal(params["price"]) if limit else None,
            stop=Decimal(params["triggerPrice"]) if algo else None,
            takes_profit=type_.startswith("TAKE"),
            time_in_force=params["timeInForce"] if type_ == "LIMIT" else params.get("timeInForce", "GTC"),
            post_only=params.get("timeInForce") == "GTX",
            reduce_only=params.get("reduceOnly", "false").lower() == "true",
            close_position=whole,
            position_side=params.get("positionSide", "BOTH"),
            is_algo=algo,
        )

    def query(self, params: Mapping[str, str], share: Decimal) -> Any:
        self.pair(params)
        return self._told(self.find(params, "orderId", "origClientOrderId", self.no_such_order))

    def query_open(self, params: Mapping[str, str], share: Decimal) -> Any:
        order = self.find(params, "orderId", "origClientOrderId", self.no_such_order)
        if not order.is_working:
            raise self.no_such_order
        return self._told(order)

    def cancel(self, params: Mapping[str, str], share: Decimal) -> Any:
        self.pair(params)
        return self._told(self._cancel(self.find(params, "orderId", "origClientOrderId", self.no_such_cancel)))

    def cancel_all(self, params: Mapping[str, str], share: Decimal) -> Any:
        self._cancel_each(params, algo=False)
        return {"code": 200, "msg": "The operation of cancel all open order is done."}

    def cancel_algo(self, params: Mapping[str, str], share: Decimal) -> Any:
        order = self._cancel(self.find(params, "algoId", "clientAlgoId", self.no_such_cancel, algo=True))
        return {"algoId": order.id, "clientAlgoId": order.client_id, "code": "200", "msg": "success"}

    def cancel_all_algos(self, params: Mapping[str, str], share: Decimal) -> Any:
        self._cancel_each(params, algo=True)
        return {"code": 200, "msg": "The operation of cancel all open order is done."}

    def _cancel(self, order: Order) -> Order:
        try:
            self.venue.cancel(order)
        except KeyError as error:
            raise self.no_such_cancel from error
        return order

    def _cancel_each(self, params: Mapping[str, str], *, algo: bool) -> None:
        for order in self.open_of({"symbol": params["symbol"]}, algo=algo):
            self.venue.cancel(order)

    def open_orders(self, params: Mapping[str, str], share: Decimal) -> Any:
        return [self._told(order) for order in self.open_of(params, algo=False)]

    def all_orders(self, params: Mapping[str, str], share: Decimal) -> Any:
        return [self._told(one) for one in self.listed(params, algo=False)]

    def query_algo(self, params: Mapping[str, str], share: Decimal) -> Any:
        return self._told_algo(self.find(params, "algoId", "clientAlgoId", self.no_such_order, algo=True))

    def open_algos(self, params: Mapping[str, str], share: Decimal) -> Any:
        return [self._told_algo(order) for order in self.open_of(params, algo=True)]

    def all_algos(self, params: Mapping[str, str], share: Decimal) -> Any:
        return [self._told_algo(one) for one in self.listed(params, algo=True)]

    def user_trades(self, params: Mapping[str, str], share: Decimal) -> Any:
        return [self._trade(trade) for trade in self.trades(params)]

    def _told(self, order: Order) -> dict[str, Any]:
        return {
            "orderId": order.id,
            "symbol": name(order.pair),
            "status": order.status,
            "clientOrderId": order.client_id,
            "price": num(order.price),
            "avgPrice": num(order.average),
            "origQty": num(order.qty),
            "executedQty": num(order.filled),
            "cumQty": num(order.filled),
            "cumQuote": num(order.quote),
            "timeInForce": order.time_in_force,
            "type": order.type,
            "reduceOnly": order.reduce_only,
            "closePosition": order.close_position,
            "side": order.side,
            "positionSide": order.position_side,
            "stopPrice": num(ZERO),
            "workingType": "CONTRACT_PRICE",
            "priceProtect": False,
            "origType": order.type,
            "priceMatch": "NONE",
            "selfTradePreventionMode": "NONE",
            "goodTillDate": 0,
            "time": order.created_ms,
            "updateTime": order.updated_ms,
        }

    def _told_algo(self, order: Order) -> dict[str, Any]:
        """What became of it is told by ``actualOrderId``, once there is one: that order has trades, this one has not."""
        told = {
            "algoId": order.id,
            "clientAlgoId": order.client_id,
            "algoType": "CONDITIONAL",
            "orderType": order.type,
            "symbol": name(order.pair),
            "side": order.side,
            "positionSide": order.position_side,
            "timeInForce": order.time_in_force,
            "quantity": num(order.qty),
            "algoStatus": algo_status(order),
            "triggerPrice": num(order.stop),
            "price": num(order.price),
            "icebergQuantity": None,
            "selfTradePreventionMode": "EXPIRE_MAKER",
            "workingType": "CONTRACT_PRICE",
            "priceMatch": "NONE",
            "closePosition": order.close_position,
            "priceProtect": False,
            "reduceOnly": order.reduce_only,
            "actualOrderId": "",
            "actualPrice": num(ZERO),
            "createTime": order.created_ms,
            "updateTime": order.updated_ms,
            "triggerTime": order.triggered_ms,
            "goodTillDate": 0,
        }
        if order.child is not None:
            told |= {"actualOrderId": str(order.child.id), "actualPrice": num(order.child.average)}
            told |= {"actualQty": num(order.child.filled), "actualType": order.child.type}
        return told

    def _trade(self, trade: Trade) -> dict[str, Any]:
        order = self.venue.orders[False, trade.order_id]
        return {
            "buyer": trade.side == "BUY",
            "commission": num(trade.fee),
            "commissionAsset": trade.fee_asset,
            "id": trade.id,
            "maker": trade.is_maker,
            "orderId": trade.order_id,
            "price": num(trade.price),
            "qty": num(trade.qty),
            "quoteQty": num(trade.quote_qty),
            "realizedPnl": num(trade.realized),
            "side": trade.side,
            "positionSide": order.position_side,
            "symbol": name(trade.pair),
            "time": trade.at_ms,
        }
