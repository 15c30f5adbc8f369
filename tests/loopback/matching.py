"""The matching engine: market orders at the price, limits when a closed bar trades strictly through, stops before limits.

One venue is one account. Everything a venue does to balances goes through its account (``spot_account``, ``futures_account``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from itertools import count
from typing import Protocol

from tests.loopback.orders import ZERO, Order, RefusedError, Trade, Why, floor_to
from tests.loopback.prices import Bar, Prices
from tests.loopback.world import World


class Account(Protocol):
    """Whose money it is."""

    def reserve(self, order: Order, price: Decimal, rate: Decimal) -> None:
        """Set aside what the order may cost; raises RefusedError."""
        ...

    def settle(self, order: Order, price: Decimal, qty: Decimal, rate: Decimal) -> tuple[Decimal, str, Decimal]:
        """Book an execution; returns fee, its asset, and the profit realised."""
        ...

    def release(self, order: Order) -> None:
        """Free what an order that has ended had set aside."""
        ...

    def copy(self) -> Account:
        """As it is now."""
        ...


class Venue:
    """Orders, trades and one account, at one time. ``prefix`` starts order ids, so that no two venues share one."""

    def __init__(self, world: World, prices: Prices, account: Account, now_ms: int, first_id: int) -> None:
        self.world, self.prices, self.account, self.now_ms = world, prices, account, now_ms
        self.trades: list[Trade] = []
        self.trades_of: dict[str, list[Trade]] = {pair: [] for pair in world.panel.pairs}
        self.orders_of: dict[str, list[Order]] = {pair: [] for pair in world.panel.pairs}
        """Both by pair and by time: a soak asks for them very often."""
        self.orders: dict[tuple[bool, int], Order] = {}
        self.by_client: dict[tuple[bool, str], Order] = {}
        """The latest order of each client id."""
        self.working: dict[tuple[bool, int], Order] = {}
        self.status = {pair: "TRADING" if world.rule(pair).active else "BREAK" for pair in world.panel.pairs}
        self._ids, self._trade_ids = count(first_id), count(first_id * 10)
        self._earlier = account.copy()

    @contextmanager
    def stale(self) -> Iterator[None]:
        """The account as it was before its last change."""
        current, self.account = self.account, self._earlier
        try:
            yield
        finally:
            self.account = current

    def next_id(self) -> int:
        return next(self._ids)

    def find(self, order_id: int | None, client_id: str | None, *, algo: bool = False) -> Order | None:
        return self.orders.get((algo, order_id)) if order_id is not None else self.by_client.get((algo, client_id or ""))

    def place(self, order: Order, share: Decimal = Decimal(1)) -> Order:
        """Take an order and execute what executes at once, ``share`` of it at most. Raises RefusedError: nothing has happened then."""
        self._check_id(order)
        bid, ask = self.prices.bid(order.pair, self.now_ms), self.prices.ask(order.pair, self.now_ms)
        if bid is None or ask is None:
            raise RefusedError(Why.NO_PRICE)
        price = ask if order.is_buy else bid
        if order.waits and order.reached(price):
            raise RefusedError(Why.TRIGGERS)
        if order.post_only and order.crosses(price):
            raise RefusedError(Why.TAKES)
        earlier = self.account.copy()
        self.account.reserve(order, price, self.world.taker_frac)
        self._earlier = earlier
        self.enter(order)
        if not order.waits:
            self._execute(order, price, share, self.now_ms)
        return order

    def enter(self, order: Order) -> None:
        order.updated_ms = order.created_ms
        self.orders[order.is_algo, order.id] = self.working[order.is_algo, order.id] = order
        self.by_client[order.is_algo, order.client_id] = order
        self.orders_of[order.pair].append(order)

    def cancel(self, order: Order) -> None:
        """Raises KeyError for an order that has ended."""
        del self.working[order.is_algo, order.id]
        self._earlier = self.account.copy()
        self._end(order, "CANCELED", self.now_ms)

    def advance(self, to_ms: int) -> None:
        """Let time pass: settle every bar that closes on the way, oldest first, then pair by pair."""
        pairs = sorted({order.pair for order in self.working.values()})
        bars = [bar for pair in pairs for bar in self.prices.closed(pair, self.now_ms, to_ms)]
        if bars:
            self._earlier = self.account.copy()
        for bar in sorted(bars, key=lambda one: one.close_ms):
            self._settle_bar(bar)
        self.now_ms = max(self.now_ms, to_ms)

    def _check_id(self, order: Order) -> None:
        known = self.by_client.get((order.is_algo, order.client_id))
        if known is not None and (known.is_working or self.world.unique_ids_for_ever):
            raise RefusedError(Why.DUPLICATE)

    def _settle_bar(self, bar: Bar) -> None:
        there = [order for order in self.working.values() if order.pair == bar.pair and order.created_ms < bar.close_ms]
        fresh = set()
        for order in there:
            if order.waits and order.is_working and order.reached(_worst(order, bar)):
                fresh.add(order.id)
                self.trigger(order, _stop_price(order, bar), bar.close_ms - 1)
        for order in there:
            limit = order.kind == "limit" and not order.waits and order.id not in fresh
            if limit and order.is_working and _through(order, bar):
                self._fill(order, order.price or ZERO, self._allowed(order, bar), is_maker=True, at_ms=bar.close_ms - 1)

    def _allowed(self, order: Order, bar: Bar) -> Decimal:
        """What a resting limit gets of a bar."""
        if not self.world.participation_frac:
            return order.open_qty
        step = self.world.rule(order.pair).qty_step or Decimal(1)
        return min(order.open_qty, floor_to(bar.volume * self.world.participation_frac, step))

    def trigger(self, order: Order, price: Decimal, at_ms: int) -> None:
        """The stop price was reached at ``price``."""
        order.triggered, order.triggered_ms = True, at_ms
        self._execute(order, price, Decimal(1), at_ms)

    def _execute(self, order: Order, price: Decimal, share: Decimal, at_ms: int) -> None:
        if order.kind == "market" or order.crosses(price):
            step = self.world.rule(order.pair).qty_step or Decimal(1)
            qty = order.open_qty if share == 1 else floor_to(order.open_qty * share, step)
            self._fill(order, price, qty, is_maker=False, at_ms=at_ms)
        if order.is_working and (order.kind == "market" or order.time_in_force in {"IOC", "FOK"}):
            self.working.pop((order.is_algo, order.id))
            self._end(order, "EXPIRED", at_ms)

    def _fill(self, order: Order, price: Decimal, qty: Decimal, *, is_maker: bool, at_ms: int) -> None:
        rate = self.world.maker_frac if is_maker else self.world.taker_frac
        for part in self._parts(order, qty):
            fee, asset, realized = self.account.settle(order, price, part, rate)
            order.filled += part
            order.quote += price * part
            order.status = "FILLED" if order.filled == order.qty else "PARTIALLY_FILLED"
            order.updated_ms = at_ms
            trade = Trade(next(self._trade_ids), order.id, order.pair, order.side, price, part, fee, asset, at_ms, is_maker, realized)
            order.trades.append(trade)
            self.trades.append(trade)
            self.trades_of[order.pair].append(trade)
        if order.status == "FILLED":
            self.working.pop((order.is_algo, order.id), None)
            self._end(order, "FILLED", at_ms)

    def _parts(self, order: Order, qty: Decimal) -> Iterator[Decimal]:
        step = self.world.rule(order.pair).qty_step or Decimal(1)
        rest = qty
        each = floor_to(qty / self.world.trades_per_fill, step)
        for _ in range(self.world.trades_per_fill - 1):
            if each:
                yield each
                rest -= each
        if rest:
            yield rest

    def _end(self, order: Order, status: str, at_ms: int) -> None:
        order.status, order.updated_ms = status, at_ms
        self.account.release(order)


def _worst(order: Order, bar: Bar) -> Decimal:
    """The bar's price that would set the order off if any does."""
    return bar.high if order.is_buy != order.takes_profit else bar.low


def _stop_price(order: Order, bar: Bar) -> Decimal:
    """A bar that opened past the stop sets it off at its open."""
    return bar.open if order.reached(bar.open) else order.stop or bar.open


def _through(order: Order, bar: Bar) -> bool:
    """Strictly: at the limit itself others were first in the queue."""
    return order.price is not None and (bar.low < order.price if order.is_buy else bar.high > order.price)


def child_of(algo: Order, order_id: int, qty: Decimal, at_ms: int) -> Order:
    """The order that a triggered conditional order places."""
    return replace(
        algo,
        id=order_id,
        client_id=f"x-algo-{algo.id}",
        type="LIMIT" if algo.kind == "limit" else "MARKET",
        qty=qty,
        created_ms=at_ms,
        stop=None,
        is_algo=False,
        status="NEW",
        trades=[],
    )
