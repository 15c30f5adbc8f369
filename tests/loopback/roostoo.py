"""Roostoo's REST API: no client order ids, no candles, "no data" told as Success=false, a notional that must be above the least.

Sentences marked (ours) stand for refusals whose wording the exchange's document does not give.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from tests.loopback.binance import Clock
from tests.loopback.filters import check
from tests.loopback.matching import Venue
from tests.loopback.orders import ZERO, Order, RefusedError, Why
from tests.loopback.prices import Prices
from tests.loopback.spot_account import SpotAccount
from tests.loopback.wire import Answer, Request
from tests.loopback.world import Timestamps, World

WINDOW_MS = 60_000
STATUS = {"NEW": "PENDING", "PARTIALLY_FILLED": "PENDING", "FILLED": "FILLED"}
NO_ORDER, NONE_PENDING = "no order matched", "no pending order under this account"
REFUSALS: Mapping[Why, str] = {
    Why.BALANCE: "insufficient balance",
    Why.CLOSED: "no permission to trade",
    Why.NO_PRICE: "no permission to trade",
    Why.NOTIONAL: "order value is too small",  # (ours)
    Why.QTY: "quantity is not valid",  # (ours)
    Why.QTY_STEP: "quantity step size error",  # (ours)
    Why.PRICE_STEP: "price step size error",  # (ours)
}


class RoostooError(Exception):
    """Success=false, and whatever fields the answer has nevertheless."""

    def __init__(self, msg: str, **more: Any) -> None:
        super().__init__(msg)
        self.body = {"Success": False, "ErrMsg": msg, **more}


class Roostoo:
    """Paths begin with /v3. Its pairs are quoted in USD: BTC/USD trades at the bars of BTC/USDT."""

    def __init__(self, world: World, prices: Prices, venue: Venue, clock: Clock) -> None:
        self.world, self.prices, self.venue, self.clock = world, prices, venue, clock
        self.pairs = {pair.split("/")[0] + "/USD": pair for pair in world.panel.pairs}
        self.key_works = True
        self._created: dict[int, int] = {}
        """When each order came, by the clock that the API tells."""
        self.routes: dict[str, tuple[Callable[[Mapping[str, str], Decimal], Any], str]] = {
            "GET /v3/serverTime": (self.server_time, "open"),
            "GET /v3/exchangeInfo": (self.exchange_info, "open"),
            "GET /v3/ticker": (self.ticker, "timed"),
            "GET /v3/balance": (self.balance, "signed"),
            "GET /v3/pending_count": (self.pending_count, "signed"),
            "POST /v3/place_order": (self.place, "signed"),
            "POST /v3/query_order": (self.query, "signed"),
            "POST /v3/cancel_order": (self.cancel, "signed"),
        }

    def answer(self, request: Request, share: Decimal = Decimal(1)) -> Answer:
        """Never raises; a refusal comes with status 200."""
        found = self.routes.get(request.endpoint)
        if found is None:
            return Answer(404, {"Success": False, "ErrMsg": f"no endpoint {request.endpoint}"}, accepted=False)
        handle, level = found
        params = request.literal_params
        try:
            if level != "open":
                self._check(request, params, signed=level == "signed")
            return Answer(200, handle(params, share))
        except RoostooError as error:
            return Answer(200, error.body, accepted=False)
        except RefusedError as refused:
            return Answer(200, RoostooError(REFUSALS.get(refused.why, refused.why.value)).body, accepted=False)
        except KeyError as missing:
            return Answer(200, RoostooError(f"missing parameter {missing}").body, accepted=False)
        except InvalidOperation:
            return Answer(200, RoostooError("a parameter is no number").body, accepted=False)

    def vanished(self, request: Request) -> Answer:
        """The answer of an exchange that does not know the order."""
        more = {"TotalPending": 0, "OrderPairs": {}} if request.path.endswith("count") else {}
        return Answer(200, RoostooError(NONE_PENDING if more else NO_ORDER, **more).body, accepted=False)

    def _check(self, request: Request, params: Mapping[str, str], *, signed: bool) -> None:
        at = params.get("timestamp", "")
        wrong = not at.isdigit() or len(at) != 13
        if wrong or (self.world.timestamps is not Timestamps.ANY and abs(self.clock.told_ms() - int(at)) > WINDOW_MS):
            raise RoostooError("timestamp is not valid")
        if not signed:
            return
        if request.headers.get("rst-api-key") != self.world.key or not self.key_works:
            raise RoostooError("you do not have this permission")
        if not hmac.compare_digest(sign(params, self.world.secret), request.headers.get("msg-signature", "")):
            raise RoostooError("signature is not valid")

    def server_time(self, params: Mapping[str, str], share: Decimal) -> Any:
        return {"ServerTime": self.clock.told_ms()}

    def exchange_info(self, params: Mapping[str, str], share: Decimal) -> Any:
        pairs = {told: self._market(told, pair) for told, pair in self.pairs.items()}
        return {"IsRunning": True, "InitialWallet": {"USD": Decimal(50_000)}, "TradePairs": pairs}

    def _market(self, told: str, pair: str) -> dict[str, Any]:
        coin = told.split("/")[0]
        rules = self.world.rule(pair)
        return {
            "Coin": coin,
            "CoinFullName": coin,
            "Unit": "USD",
            "UnitFullName": "US Dollar",
            "CanTrade": self.venue.status[pair] == "TRADING",
            "PricePrecision": _decimals(rules.price_step),
            "AmountPrecision": _decimals(rules.qty_step),
            "MiniOrder": rules.min_notional,
        }

    def ticker(self, params: Mapping[str, str], share: Decimal) -> Any:
        told = [self._pair(params["pair"])] if "pair" in params else list(self.pairs)
        data = {pair: self._ticker(pair) for pair in told if self._price(pair) is not None}
        return {"Success": True, "ErrMsg": "", "ServerTime": self.clock.told_ms(), "Data": data}

    def _price(self, told: str) -> Decimal | None:
        return self.prices.ask(self.pairs[told], self.clock.now_ms)

    def _ticker(self, told: str) -> dict[str, Any]:
        ask, bid = self._price(told), self.prices.bid(self.pairs[told], self.clock.now_ms)
        volumes = {"CoinTradeValue": Decimal("1000.0"), "UnitTradeValue": Decimal("1000.0") * (ask or ZERO)}
        return {"MaxBid": bid, "MinAsk": ask, "LastPrice": ask, "Change": Decimal("0.0"), **volumes}

    def balance(self, params: Mapping[str, str], share: Decimal) -> Any:
        account = self.venue.account
        assert isinstance(account, SpotAccount)
        wallet = {_usd(one): {"Free": account.free.get(one, ZERO), "Lock": account.locked(one)} for one in account.assets()}
        margin: dict[str, Any] = {"MarginWallet": {}} if self.world.roostoo_wallet == "SpotWallet" else {}
        return {"Success": True, "ErrMsg": "", self.world.roostoo_wallet: wallet, **margin}

    def pending_count(self, params: Mapping[str, str], share: Decimal) -> Any:
        pending = [self._told_pair(order) for order in self.venue.working.values()]
        if not pending:
            raise RoostooError(NONE_PENDING, TotalPending=0, OrderPairs={})
        counts = {pair: pending.count(pair) for pair in sorted(set(pending))}
        return {"Success": True, "ErrMsg": "", "TotalPending": len(pending), "OrderPairs": counts}

    def place(self, params: Mapping[str, str], share: Decimal) -> Any:
        """Fills whole or not at all: the API has no partial fill."""
        order = self._order(params)
        if self.venue.status[order.pair] != "TRADING":
            raise RefusedError(Why.CLOSED)
        price = self.prices.ask(order.pair, self.clock.now_ms)
        if price is None:
            raise RefusedError(Why.NO_PRICE)
        check(order, self.world.rule(order.pair), price, above=True)
        self._created[order.id] = self.clock.told_ms()
        self.venue.place(order)
        return {"Success": True, "ErrMsg": "", "OrderDetail": self._told(order, fresh=True)}

    def _order(self, params: Mapping[str, str]) -> Order:
        pair, side, type_ = self.pairs[self._pair(params["pair"])], params["side"], params["type"]
        if side not in {"BUY", "SELL"} or type_ not in {"LIMIT", "MARKET"}:
            raise RoostooError("side or type is not valid")
        order_id = self.venue.next_id()
        price = Decimal(params["price"]) if type_ == "LIMIT" else None
        qty = Decimal(params["quantity"])
        return Order(order_id, str(order_id), pair, side, type_, type_.lower(), qty, self.clock.now_ms, price=price)

    def query(self, params: Mapping[str, str], share: Decimal) -> Any:
        """Newest first."""
        found = self._matching(params)
        if params.get("pending_only") == "TRUE":
            found = [order for order in found if order.is_working]
        if params.get("offset") == "0":
            raise RoostooError("offset is not valid")
        offset, limit = int(params.get("offset", "0")), int(params.get("limit", "100"))
        found = found[offset : offset + limit]
        if not found:
            raise RoostooError(NO_ORDER)
        return {"Success": True, "ErrMsg": "", "OrderMatched": [self._told(order) for order in found]}

    def cancel(self, params: Mapping[str, str], share: Decimal) -> Any:
        """Of one order, of a pair, or all that are pending."""
        found = [order for order in reversed(self._matching(params)) if order.is_working]
        if not found:
            raise RoostooError(NO_ORDER)
        for order in found:
            self.venue.cancel(order)
        return {"Success": True, "ErrMsg": "", "CanceledList": [order.id for order in found]}

    def _matching(self, params: Mapping[str, str]) -> list[Order]:
        if "order_id" in params and "pair" in params:
            raise RoostooError("order_id and pair exclude each other")
        if "order_id" in params:
            order = self.venue.find(int(params["order_id"]), None)
            return [] if order is None else [order]
        pair = self.pairs[self._pair(params["pair"])] if "pair" in params else None
        return list(reversed(self.venue.orders_of[pair] if pair else list(self.venue.orders.values())))

    def _pair(self, told: str) -> str:
        if told not in self.pairs:
            raise RoostooError(f"{told} is not listed")
        return told

    def _told_pair(self, order: Order) -> str:
        return order.pair.split("/")[0] + "/USD"

    def _told(self, order: Order, *, fresh: bool = False) -> dict[str, Any]:
        """As documented: what is pending or cancelled shows its whole quantity as filled when asked about, at an average price of 0."""
        trade = order.trades[0] if order.trades else None
        maker = trade.is_maker if trade else True
        filled = order.filled if trade or fresh else order.qty
        fee_coin = "USD" if order.side == "SELL" else order.pair.split("/")[0]
        return {
            "Pair": self._told_pair(order),
            "OrderID": order.id,
            "Status": STATUS.get(order.status, "CANCELED"),
            "Role": "MAKER" if maker else "TAKER",
            "ServerTimeUsage": Decimal("0.04"),
            "CreateTimestamp": self._created[order.id],
            "FinishTimestamp": 0 if order.is_working else order.updated_ms,
            "Side": order.side,
            "Type": order.type,
            "StopType": "GTC",
            "Price": order.price or order.average,
            "Quantity": order.qty,
            "FilledQuantity": filled,
            "FilledAverPrice": order.average,
            "CoinChange": order.filled,
            "UnitChange": order.quote,
            "CommissionCoin": _usd(trade.fee_asset) if trade else fee_coin,
            "CommissionChargeValue": sum((one.fee for one in order.trades), ZERO),
            "CommissionPercent": self.world.maker_frac if maker else self.world.taker_frac,
        }


def sign(params: Mapping[str, str], secret: str) -> str:
    """Hex HMAC-SHA256 over the parameters sorted by key, not URL-encoded: the slash of a pair stays a slash."""
    text = "&".join(f"{key}={params[key]}" for key in sorted(params))
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def _usd(asset: str) -> str:
    """The account books in USDT what this API calls USD."""
    return "USD" if asset == "USDT" else asset


def _decimals(step: Decimal | None) -> int:
    return max(0, -int((step or Decimal(1)).normalize().as_tuple().exponent))
