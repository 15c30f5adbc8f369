"""A USDT-margined futures account: one wallet, a position a pair (and side, in hedge mode). Funding when a test says so; no liquidation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal

from tests.loopback.orders import ZERO, Order, RefusedError, Why
from tests.loopback.spot_account import EIGHT
from tests.loopback.world import FeeIn


@dataclass
class Position:
    """``qty`` is above zero for long, below for short."""

    pair: str
    side: str = "BOTH"
    qty: Decimal = ZERO
    entry: Decimal = ZERO
    updated_ms: int = 0

    def profit(self, mark: Decimal) -> Decimal:
        return (mark - self.entry) * self.qty


@dataclass(frozen=True)
class Income:
    """A funding payment."""

    id: int
    pair: str
    amount: Decimal
    asset: str
    at_ms: int


class FuturesAccount:
    """``mark`` is a pair's price now; ``bnb_price`` what a BNB costs in the quote, or None."""

    def __init__(
        self, wallet: Mapping[str, Decimal], fee_in: FeeIn, mark: Callable[[str], Decimal], bnb_price: Callable[[str], Decimal | None]
    ) -> None:
        self.wallet: dict[str, Decimal] = dict(wallet)
        self.positions: dict[tuple[str, str], Position] = {}
        self.leverage: dict[str, int] = {}
        self.isolated: set[str] = set()
        self.hedged = False
        self.margins: dict[int, Decimal] = {}
        """What each open order holds, in the quote."""
        self.income: list[Income] = []
        self._fee_in, self._mark, self._bnb_price = fee_in, mark, bnb_price

    def copy(self) -> FuturesAccount:
        other = FuturesAccount(self.wallet, self._fee_in, self._mark, self._bnb_price)
        other.positions = {key: replace(position) for key, position in self.positions.items()}
        other.leverage, other.isolated, other.hedged = dict(self.leverage), set(self.isolated), self.hedged
        other.margins = dict(self.margins)
        other.income = list(self.income)
        return other

    def position(self, pair: str, side: str) -> Position:
        return self.positions.setdefault((pair, side), Position(pair, side))

    def move(self, asset: str, amount: Decimal) -> None:
        """A transfer in, or out below zero; raises RefusedError where less is available."""
        if amount < 0 and self.available(asset) + amount < 0:
            raise RefusedError(Why.BALANCE)
        self.wallet[asset] = self.wallet.get(asset, ZERO) + amount

    def pay_funding(self, pair: str, rate: Decimal, at_ms: int) -> Decimal:
        """What the positions of a pair get (below zero: pay) at a rate of their value; a positive rate costs who is long."""
        paid = ZERO
        for one in self.open_positions():
            if one.pair == pair:
                amount = (-one.qty * self._mark(pair) * rate).quantize(EIGHT, ROUND_HALF_EVEN)
                self.income.append(Income(9_000_001 + len(self.income), pair, amount, pair.split("/")[1], at_ms))
                paid += amount
        self.wallet[pair.split("/")[1]] = self.wallet.get(pair.split("/")[1], ZERO) + paid
        return paid

    def leverage_of(self, pair: str) -> int:
        return self.leverage.get(pair, 20)

    def margin(self, position: Position) -> Decimal:
        """Initial margin at the mark."""
        return abs(position.qty) * self._mark(position.pair) / self.leverage_of(position.pair) if position.qty else ZERO

    def open_positions(self) -> list[Position]:
        return [position for position in self.positions.values() if position.qty]

    def unrealized(self, asset: str) -> Decimal:
        return sum((one.profit(self._mark(one.pair)) for one in self.open_positions() if one.pair.endswith("/" + asset)), ZERO)

    def used(self, asset: str) -> Decimal:
        """Initial margin of positions and open orders."""
        held = sum((self.margin(one) for one in self.open_positions() if one.pair.endswith("/" + asset)), ZERO)
        return held + (sum(self.margins.values(), ZERO) if asset == "USDT" else ZERO)

    def available(self, asset: str) -> Decimal:
        return max(ZERO, self.wallet.get(asset, ZERO) + self.unrealized(asset) - self.used(asset))

    def reserve(self, order: Order, price: Decimal, rate: Decimal) -> None:
        """Raises RefusedError for a reduce-only order that would open, a side of the other mode, or too little margin."""
        if (order.position_side == "BOTH") == self.hedged:
            raise RefusedError(Why.SIDE)
        opening = self._opening(order)
        if order.reduce_only and opening == order.qty and not order.is_algo:
            raise RefusedError(Why.REDUCE_ONLY)
        if order.reduce_only and not order.is_algo:
            order.qty -= opening
        if order.reduce_only or order.close_position:
            opening = ZERO
        quote = order.pair.split("/")[1]
        value = max(price, order.price or ZERO) * opening
        need = value / self.leverage_of(order.pair)
        if opening and self.available(quote) < need + value * rate:
            raise RefusedError(Why.BALANCE)
        if not order.is_algo:
            self.margins[order.id] = need

    def settle(self, order: Order, price: Decimal, qty: Decimal, rate: Decimal) -> tuple[Decimal, str, Decimal]:
        """Moves the position, and profit and fee through the wallet."""
        held = self.margins.get(order.id, ZERO)
        self.margins[order.id] = held - held * qty / order.open_qty
        quote = order.pair.split("/")[1]
        position = self.position(order.pair, order.position_side)
        delta = qty if order.is_buy else -qty
        realized = ZERO
        if position.qty * delta >= 0:
            position.entry = (position.entry * abs(position.qty) + price * qty) / (abs(position.qty) + qty)
        else:
            closed = min(qty, abs(position.qty))
            realized = ((price - position.entry) * closed * (1 if position.qty > 0 else -1)).quantize(EIGHT, ROUND_HALF_EVEN)
            if qty > closed:
                position.entry = price
        position.qty += delta
        if not position.qty:
            position.entry = ZERO
        fee, asset = self._fee(quote, price * qty * rate)
        self.wallet[quote] = self.wallet.get(quote, ZERO) + realized
        self.wallet[asset] = self.wallet.get(asset, ZERO) - fee
        return fee, asset, realized

    def release(self, order: Order) -> None:
        self.margins.pop(order.id, None)

    def _opening(self, order: Order) -> Decimal:
        """The part of an order that would add to a position."""
        held = self.position(order.pair, order.position_side).qty
        against = held < 0 if order.is_buy else held > 0
        return max(ZERO, order.qty - abs(held)) if against else order.qty

    def _fee(self, quote: str, value: Decimal) -> tuple[Decimal, str]:
        bnb = self._bnb_price(quote) if self._fee_in is FeeIn.BNB else None
        if bnb is not None:
            fee = (value / bnb).quantize(EIGHT, ROUND_DOWN)
            if self.wallet.get("BNB", ZERO) >= fee:
                return fee, "BNB"
        return value.quantize(EIGHT, ROUND_DOWN), quote
