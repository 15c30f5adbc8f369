"""The half of Binance's USDT-margined futures REST API that tells of the market and the account, and sets leverage and modes."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tests.loopback.binance import BinanceApi, Clock, Route, name, num
from tests.loopback.futures_account import FuturesAccount, Position
from tests.loopback.futures_venue import FuturesVenue
from tests.loopback.orders import ZERO
from tests.loopback.prices import Prices
from tests.loopback.wire import ApiError
from tests.loopback.world import World

PLAIN = ("LIMIT", "MARKET")
CONDITIONAL = ("STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET")
MAINTENANCE = Decimal("0.004")
PERPETUAL_MS = 4133404800000
TOTALS = (
    "initialMargin",
    "maintMargin",
    "walletBalance",
    "unrealizedProfit",
    "marginBalance",
    "positionInitialMargin",
    "openOrderInitialMargin",
    "crossWalletBalance",
    "crossUnPnl",
)
"""What an account tells in sum."""


class BinanceFuturesAccount(BinanceApi):
    """Paths begin with /fapi."""

    venue: FuturesVenue

    def __init__(self, world: World, prices: Prices, venue: FuturesVenue, clock: Clock) -> None:
        super().__init__(world, prices, venue, clock)
        self.routes = {
            "GET /fapi/v1/ping": Route(lambda params, share: {}, False, 1),
            "GET /fapi/v1/time": Route(self.time, False, 1),
            "GET /fapi/v1/exchangeInfo": Route(self.exchange_info, False, 1),
            "GET /fapi/v1/klines": Route(self.klines, False, 5),
            "GET /fapi/v1/ticker/price": Route(self.last_price, False, 1, 2),
            "GET /fapi/v2/ticker/price": Route(self.last_price, False, 1, 2),
            "GET /fapi/v1/ticker/bookTicker": Route(self.book_ticker, False, 2, 5),
            "GET /fapi/v1/ticker/24hr": Route(self.day_ticker, False, 1, 40),
            "GET /fapi/v1/premiumIndex": Route(self.premium_index, False, 1, 10),
            "GET /fapi/v2/account": Route(self.told_account, True, 5),
            "GET /fapi/v3/account": Route(self.told_account, True, 5),
            "GET /fapi/v2/balance": Route(self.balances, True, 5),
            "GET /fapi/v3/balance": Route(self.balances, True, 5),
            "GET /fapi/v2/positionRisk": Route(self.every_position, True, 5),
            "GET /fapi/v3/positionRisk": Route(self.positions, True, 5),
            "GET /fapi/v1/leverageBracket": Route(self.brackets, True, 1),
            "GET /fapi/v1/symbolConfig": Route(self.symbol_config, True, 5),
            "GET /fapi/v1/commissionRate": Route(self.commission, True, 20),
            "GET /fapi/v1/income": Route(self.income, True, 30),
            "POST /fapi/v1/leverage": Route(self.set_leverage, True, 1),
            "POST /fapi/v1/marginType": Route(self.set_margin_type, True, 1),
            "GET /fapi/v1/positionSide/dual": Route(self.position_mode, True, 30),
            "POST /fapi/v1/positionSide/dual": Route(self.set_position_mode, True, 1),
            "GET /sapi/v1/capital/config/getall": Route(lambda params, share: [], True, 10),
        }

    def account(self) -> FuturesAccount:
        """As it is, or was where a fault makes it stale."""
        return self.venue.account

    def exchange_info(self, params: Mapping[str, str], share: Decimal) -> Any:
        limits = [{"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 2400}]
        symbols = [self._symbol(pair) for pair in self.pairs.values()]
        return {"timezone": "UTC", "serverTime": self.clock.told_ms(), "rateLimits": limits, "exchangeFilters": [], "symbols": symbols}

    def _symbol(self, pair: str) -> dict[str, Any]:
        base, quote = pair.split("/")
        return {
            "symbol": name(pair),
            "pair": name(pair),
            "contractType": "PERPETUAL",
            "deliveryDate": PERPETUAL_MS,
            "onboardDate": 1569398400000,
            "status": self.venue.status[pair],
            "baseAsset": base,
            "quoteAsset": quote,
            "marginAsset": quote,
            "baseAssetPrecision": 8,
            "quotePrecision": 8,
            "pricePrecision": 8,
            "quantityPrecision": 8,
            "maintMarginPercent": "2.5000",
            "requiredMarginPercent": "5.0000",
            "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
            "orderTypes": [*PLAIN, *CONDITIONAL],
            "filters": self.symbol_filters(pair, "notional", "MIN_NOTIONAL"),
        }

    def last_price(self, params: Mapping[str, str], share: Decimal) -> Any:
        """With a time, which spot's has not."""
        now = self.clock.now_ms
        return self.each_pair(params, lambda pair, price: {"symbol": name(pair), "price": num(price), "time": now})

    def premium_index(self, params: Mapping[str, str], share: Decimal) -> Any:
        now = self.clock.now_ms
        prices = ("markPrice", "indexPrice", "estimatedSettlePrice")
        return self.each_pair(
            params, lambda pair, price: {"symbol": name(pair), **dict.fromkeys(prices, num(price)), "lastFundingRate": "0.0", "time": now}
        )

    def told_account(self, params: Mapping[str, str], share: Decimal) -> Any:
        usdt = self._asset("USDT")
        return {
            "feeTier": 0,
            "canTrade": True,
            "canDeposit": True,
            "canWithdraw": False,
            "tradeGroupId": -1,
            "updateTime": 0,
            "multiAssetsMargin": False,
            **{f"total{total[0].upper()}{total[1:]}": usdt[total] for total in TOTALS},
            "availableBalance": usdt["availableBalance"],
            "maxWithdrawAmount": usdt["maxWithdrawAmount"],
            "assets": [self._asset(asset) for asset in sorted(self.account().wallet)],
            "positions": [self._position(position) for position in self.account().open_positions()],
        }

    def _asset(self, asset: str) -> dict[str, Any]:
        account = self.account()
        wallet, profit, used = account.wallet.get(asset, ZERO), account.unrealized(asset), account.used(asset)
        return {
            "asset": asset,
            "walletBalance": num(wallet),
            "unrealizedProfit": num(profit),
            "marginBalance": num(wallet + profit),
            "maintMargin": num(ZERO),
            "initialMargin": num(used),
            "positionInitialMargin": num(used),
            "openOrderInitialMargin": num(ZERO),
            "crossWalletBalance": num(wallet),
            "crossUnPnl": num(profit),
            "availableBalance": num(account.available(asset)),
            "maxWithdrawAmount": num(account.available(asset)),
            "marginAvailable": True,
            "updateTime": self.clock.now_ms,
        }

    def balances(self, params: Mapping[str, str], share: Decimal) -> Any:
        names = {
            "asset": "asset",
            "balance": "walletBalance",
            "availableBalance": "availableBalance",
            "crossWalletBalance": "walletBalance",
        }
        rows = [self._asset(asset) for asset in sorted(self.account().wallet)]
        return [
            {**{key: row[of] for key, of in names.items()}, "crossUnPnl": row["crossUnPnl"], "updateTime": row["updateTime"]}
            for row in rows
        ]

    def income(self, params: Mapping[str, str], share: Decimal) -> Any:
        """Funding only: nobody here asks for other kinds."""
        if params.get("incomeType") != "FUNDING_FEE":
            raise ApiError(-1102, "Mandatory parameter 'incomeType' was not sent.")
        first, last = int(params.get("startTime", 0)), int(params.get("endTime", self.clock.now_ms))
        rows = [one for one in sorted(self.account().income, key=lambda one: one.at_ms) if first <= one.at_ms <= last]
        return [
            {
                "symbol": name(one.pair),
                "incomeType": "FUNDING_FEE",
                "income": num(one.amount),
                "asset": one.asset,
                "time": one.at_ms,
                "info": "FUNDING_FEE",
                "tranId": one.id,
                "tradeId": "",
            }
            for one in rows[: int(params.get("limit", 100))]
        ]

    def positions(self, params: Mapping[str, str], share: Decimal) -> Any:
        pair = self.pair(params) if "symbol" in params else None
        return [self._position(one) for one in self.account().open_positions() if pair in {None, one.pair}]

    def every_position(self, params: Mapping[str, str], share: Decimal) -> Any:
        """The older version lists pairs without a position too."""
        pairs = [self.pair(params)] if "symbol" in params else list(self.pairs.values())
        sides = ("LONG", "SHORT") if self.account().hedged else ("BOTH",)
        return [self._older(self.account().position(pair, side)) for pair in pairs for side in sides]

    def _older(self, position: Position) -> dict[str, Any]:
        """Version 3 tells neither leverage nor margin type."""
        account, isolated = self.account(), position.pair in self.account().isolated
        settings = {"leverage": str(account.leverage_of(position.pair)), "marginType": "isolated" if isolated else "cross"}
        return {**self._position(position), **settings, "isolated": isolated}

    def _position(self, position: Position) -> dict[str, Any]:
        account, mark = self.account(), self.prices.ask(position.pair, self.clock.now_ms) or ZERO
        isolated = position.pair in account.isolated
        margin = account.margin(position)
        return {
            "symbol": name(position.pair),
            "positionSide": position.side,
            "positionAmt": f"{position.qty:f}",
            "entryPrice": f"{position.entry:f}",
            "breakEvenPrice": f"{position.entry:f}",
            "markPrice": num(mark),
            "unRealizedProfit": num(position.profit(mark)),
            "liquidationPrice": "0",
            "notional": num(position.qty * mark),
            "marginAsset": position.pair.split("/")[1],
            "isolatedMargin": num(margin) if isolated else "0",
            "isolatedWallet": num(margin) if isolated else "0",
            "initialMargin": num(margin),
            "maintMargin": num(abs(position.qty) * mark * MAINTENANCE),
            "positionInitialMargin": num(margin),
            "openOrderInitialMargin": "0",
            "bidNotional": "0",
            "askNotional": "0",
            "adl": 0,
            "updateTime": self.clock.now_ms,
        }

    def brackets(self, params: Mapping[str, str], share: Decimal) -> Any:
        one = {
            "bracket": 1,
            "initialLeverage": 125,
            "notionalCap": 50_000_000,
            "notionalFloor": 0,
            "maintMarginRatio": MAINTENANCE,
            "cum": 0,
        }
        pairs = [self.pair(params)] if "symbol" in params else list(self.pairs.values())
        return [{"symbol": name(pair), "brackets": [one]} for pair in pairs]

    def symbol_config(self, params: Mapping[str, str], share: Decimal) -> Any:
        account = self.account()
        pairs = [self.pair(params)] if "symbol" in params else list(self.pairs.values())
        return [
            {
                "symbol": name(pair),
                "marginType": "ISOLATED" if pair in account.isolated else "CROSSED",
                "leverage": account.leverage_of(pair),
            }
            for pair in pairs
        ]

    def commission(self, params: Mapping[str, str], share: Decimal) -> Any:
        rates = {"makerCommissionRate": num(self.world.maker_frac), "takerCommissionRate": num(self.world.taker_frac)}
        return {"symbol": name(self.pair(params)), **rates}

    def set_leverage(self, params: Mapping[str, str], share: Decimal) -> Any:
        pair, leverage = self.pair(params), int(params["leverage"])
        if not 1 <= leverage <= 125:
            raise ApiError(-4028, f"Leverage {leverage} is not valid")
        self.account().leverage[pair] = leverage
        return {"leverage": leverage, "maxNotionalValue": "50000000", "symbol": name(pair)}

    def set_margin_type(self, params: Mapping[str, str], share: Decimal) -> Any:
        account, pair, isolated = self.account(), self.pair(params), params["marginType"] == "ISOLATED"
        if isolated == (pair in account.isolated):
            raise ApiError(-4046, "No need to change margin type.")
        if any(order.pair == pair for order in self.venue.working.values()):
            raise ApiError(-4047, "Margin type cannot be changed if there exists open orders.")
        if any(position.pair == pair for position in account.open_positions()):
            raise ApiError(-4048, "Margin type cannot be changed if there exists position.")
        account.isolated ^= {pair}
        return {"code": 200, "msg": "success"}

    def position_mode(self, params: Mapping[str, str], share: Decimal) -> Any:
        return {"dualSidePosition": self.account().hedged}

    def set_position_mode(self, params: Mapping[str, str], share: Decimal) -> Any:
        account, hedged = self.account(), params["dualSidePosition"] == "true"
        if hedged == account.hedged:
            raise ApiError(-4059, "No need to change position side.")
        if self.venue.working:
            raise ApiError(-4067, "Position side cannot be changed if there exists open orders.")
        if account.open_positions():
            raise ApiError(-4068, "Position side cannot be changed if there exists position.")
        account.hedged = hedged
        return {"code": 200, "msg": "success"}
