"""The markets an account may trade: what an order for each must look like, and which orders they take."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal
from typing import Any

from tickless.adapters.ccxt_client import MARKETS_AGAIN, MARKETS_FOR, MarketType, load_markets, refuse_untold_market
from tickless.adapters.ccxt_ids import IdForm
from tickless.adapters.ccxt_market import contract_size, is_ours, pair_rules
from tickless.adapters.ccxt_orders import Instrument, Raw, read_number
from tickless.adapters.ccxt_requests import AccountRequests
from tickless.errors import MarketClosedError, OrderRejectedError, RetryableError
from tickless.execution.rounding import price_on_step
from tickless.settings import BUYS_BY_VALUE, RESTING_STOPS
from tickless.types import Order, OrderType, PairRules, Side, from_ms

FILLED_FIELDS = dict.fromkeys(("binance", "binanceus", "binanceusdm"), "executedQty")
"""Where an exchange says how much of an order has filled."""
FEE_FIELDS = dict.fromkeys(FILLED_FIELDS, "commission")
"""Where an exchange that tells every trade's fee tells it."""
BASE_FIELDS = dict.fromkeys(FILLED_FIELDS, "baseAsset")
"""Where an exchange names what a market trades."""


class AccountMarkets:
    """Spot markets quoted in the stake currency, or contracts quoted and settled in it. Loaded when first needed."""

    def __init__(self, requests: AccountRequests, stake: str, market_type: MarketType, form: IdForm) -> None:
        self.is_swap = market_type == "swap"
        self.stake = stake
        self.form = form
        self._requests = requests
        self._client = requests.client
        self._known: dict[str, Instrument] = {}
        self._renew_at = from_ms(0)

    def all(self) -> Mapping[str, Instrument]:
        """The markets by ccxt's symbol, sorted. Raises RetryableError, AccountError, ExchangeError."""
        if not self._known:
            self._read()
        return self._known

    def renew(self) -> None:
        """Load the markets anew after an hour; those of before stay where they cannot be read. Not amid orders: before all of them."""
        now = self._requests.now()
        if not self._known or now < self._renew_at:
            return
        self._renew_at = now + MARKETS_AGAIN
        with suppress(RetryableError):
            self._read()

    def _read(self) -> None:
        self._known = self._requests.ask(f"{self._client.id}: markets", lambda: load_markets(self._client, self._load))
        self._renew_at = self._requests.now() + MARKETS_FOR

    def find(self, pair: str) -> Instrument | None:
        """The market of a pair; the contract of ``BTC/USDT`` is ``BTC/USDT:USDT``."""
        return self.all().get(f"{pair}:{self.stake}" if self.is_swap and ":" not in pair else pair)

    def rules(self, instrument: Instrument) -> PairRules:
        """The exchange's filters, in base units."""
        return pair_rules(instrument.symbol, self._raw(instrument), self._client.precisionMode)

    def refuse_unfit(self, order: Order, instrument: Instrument) -> None:
        """Raise OrderRejectedError for an order that breaks a filter: ccxt would cut it to another one, and the ledger would not know."""
        rules = self.rules(instrument)
        if not rules.active:
            raise MarketClosedError(f"{order.pair}: the market is closed")
        checks = (("qty", order.qty, rules.qty_step), ("limit_price", order.limit_price, rules.price_step))
        for name, value, step in (*checks, ("stop_price", order.stop_price, rules.price_step)):
            if value is not None and (value <= 0 or (step is not None and value % step)):
                raise OrderRejectedError(f"{order.pair}: {name} {value} is not a multiple of {step}, or not above 0")
        if rules.min_qty is not None and order.qty < rules.min_qty:
            raise OrderRejectedError(f"{order.pair}: qty {order.qty} is below the least, {rules.min_qty}")
        if order.type is OrderType.MARKET and order.side is Side.BUY and not self.is_swap and self._client.id in BUYS_BY_VALUE:
            # Nothing is converted at a price: the order could fill to more than was planned.
            raise OrderRejectedError(f"{order.pair}: {self._client.id} takes market buys by their cost alone; buy with limit orders")
        if order.type is OrderType.LIMIT and order.limit_price is None:
            raise OrderRejectedError(f"{order.pair}: a limit order without limit_price")
        if order.type is OrderType.STOP and (order.stop_price is None or self.stop_kind(instrument) is None):
            raise OrderRejectedError(f"{order.pair}: no stop can rest at {self._client.id} at stop_price {order.stop_price}")

    def stop_kind(self, instrument: Instrument) -> str | None:
        """``market`` or ``limit``: the stop order that a market takes; None = none.

        None, too, where nobody has shown that a stop is found again: one that is taken for lost would be placed anew at each tick.
        """
        types = (self._raw(instrument).get("info") or {}).get("orderTypes")
        if self._client.id not in RESTING_STOPS or not isinstance(types, list):
            return None
        stop_market, stop_limit = ("STOP_MARKET", "STOP") if self.is_swap else ("STOP_LOSS", "STOP_LOSS_LIMIT")
        return "market" if stop_market in types else "limit" if stop_limit in types else None

    def stop_limit(self, order: Order, instrument: Instrument, away_frac: Decimal) -> Decimal:
        """The worst price at which a stop-limit order may fill."""
        if order.limit_price is not None:
            return order.limit_price
        assert order.stop_price is not None
        price = order.stop_price * (1 - away_frac if order.side is Side.SELL else 1 + away_frac)
        return price_on_step(price, self.rules(instrument).price_step, up=order.side is Side.BUY)

    def rests_apart(self, order: Order) -> bool:
        """Whether the exchange keeps an order apart from the ordinary ones, and must be told so when it is asked about it."""
        return order.type is OrderType.STOP and self.is_swap

    def _load(self, found: Mapping[str, Raw]) -> dict[str, Instrument]:
        wanted: MarketType = "swap" if self.is_swap else "spot"
        ours = {symbol: self._instrument(found[symbol]) for symbol in sorted(found) if is_ours(found[symbol], wanted, self.stake)}
        if not ours:
            raise RetryableError(f"{self._client.id}: markets: none is quoted in {self.stake}")
        if len({instrument.market_id for instrument in ours.values()}) < len(ours):
            raise ValueError("two markets have the same id")
        for symbol in ours:
            refuse_untold_market(self._client, found[symbol])
            pair_rules(symbol, found[symbol], self._client.precisionMode)
        return ours

    def _instrument(self, market: Raw) -> Instrument:
        symbol, field = str(market["symbol"]), BASE_FIELDS.get(self._client.id)
        if field is not None and market["base"] == market["id"]:
            # ccxt has put the market's id in its place: orders would not find their markets for as long as the process lives.
            raise ValueError(f"{symbol}: {field} is missing")
        return Instrument(
            symbol=symbol,
            market_id=str(market["id"]),
            base=str(market["base"]),
            stake=self.stake,
            size=contract_size(market),
            taker_rate=read_number(market.get("taker") or 0, f"{symbol}: taker"),
            filled_field=FILLED_FIELDS.get(self._client.id, ""),
            fee_field=FEE_FIELDS.get(self._client.id, ""),
            write_id=self.form.write,
        )

    def _raw(self, instrument: Instrument) -> Mapping[str, Any]:
        market: Mapping[str, Any] = self._client.markets[instrument.symbol]
        return market
