"""A spot account: what is free and what open orders have locked, to the last digit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import ROUND_DOWN, Decimal

from tests.loopback.orders import ZERO, Order, RefusedError, Why
from tests.loopback.world import FeeIn

EIGHT = Decimal("1e-8")


class SpotAccount:
    """Balances by asset. ``bnb_price`` is what a BNB costs in a quote asset now, or None."""

    def __init__(self, balances: Mapping[str, Decimal], fee_in: FeeIn, bnb_price: Callable[[str], Decimal | None]) -> None:
        self.free: dict[str, Decimal] = dict(balances)
        self.locks: dict[int, tuple[str, Decimal, Decimal]] = {}
        """What each open order holds: asset, amount, and amount a unit of quantity (so that no division ever rounds)."""
        self._fee_in, self._bnb_price = fee_in, bnb_price

    def copy(self) -> SpotAccount:
        other = SpotAccount(self.free, self._fee_in, self._bnb_price)
        other.locks = dict(self.locks)
        return other

    def locked(self, asset: str) -> Decimal:
        return sum((amount for one, amount, _ in self.locks.values() if one == asset), ZERO)

    def total(self, asset: str) -> Decimal:
        return self.free.get(asset, ZERO) + self.locked(asset)

    def assets(self) -> list[str]:
        """Sorted: every asset that was ever held."""
        return sorted({*self.free, *(asset for asset, _, _ in self.locks.values())})

    def move(self, asset: str, amount: Decimal) -> None:
        """A deposit, or a withdrawal below zero; raises RefusedError where less is free."""
        if self.free.get(asset, ZERO) + amount < 0:
            raise RefusedError(Why.BALANCE)
        self.free[asset] = self.free.get(asset, ZERO) + amount

    def reserve(self, order: Order, price: Decimal, rate: Decimal) -> None:
        """Raises RefusedError where less is free."""
        asset, unit = self._need(order, price, rate)
        self.move(asset, -unit * order.qty)
        self.locks[order.id] = (asset, unit * order.qty, unit)

    def settle(self, order: Order, price: Decimal, qty: Decimal, rate: Decimal) -> tuple[Decimal, str, Decimal]:
        """Unlocks the part that executed, then moves base, quote and fee."""
        base, quote = order.pair.split("/")
        asset, held, unit = self.locks[order.id]
        self.locks[order.id] = (asset, held - unit * qty, unit)
        self._add(asset, unit * qty)
        sign = 1 if order.is_buy else -1
        self._add(base, sign * qty)
        self._add(quote, -sign * qty * price)
        fee, fee_asset = self._fee(order, price, qty, rate)
        self._add(fee_asset, -fee)
        return fee, fee_asset, ZERO

    def release(self, order: Order) -> None:
        asset, amount, _ = self.locks.pop(order.id)
        self._add(asset, amount)

    def _add(self, asset: str, amount: Decimal) -> None:
        self.free[asset] = self.free.get(asset, ZERO) + amount

    def _need(self, order: Order, price: Decimal, rate: Decimal) -> tuple[str, Decimal]:
        """The asset, and how much of it a unit of quantity may take."""
        base, quote = order.pair.split("/")
        if not order.is_buy:
            return base, Decimal(1)
        worst = max(order.price or ZERO, order.stop or ZERO) or price
        fee = rate if self._fee_in is FeeIn.QUOTE else ZERO
        return quote, worst * (1 + fee)

    def _fee(self, order: Order, price: Decimal, qty: Decimal, rate: Decimal) -> tuple[Decimal, str]:
        base, quote = order.pair.split("/")
        value = price * qty * rate
        if self._fee_in is FeeIn.BNB:
            bnb = self._bnb_price(quote)
            fee = ZERO if bnb is None else (value / bnb).quantize(EIGHT, ROUND_DOWN)
            if fee and self.free.get("BNB", ZERO) >= fee:
                return fee, "BNB"
        if order.is_buy and self._fee_in is not FeeIn.QUOTE:
            return (qty * rate).quantize(EIGHT, ROUND_DOWN), base
        return value.quantize(EIGHT, ROUND_DOWN), quote
