"""From what the desk holds and should hold to orders: sells before buys, buys within cash, onto the exchange's steps."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import NamedTuple

from tickless.execution.rounding import exact, price_on_step, qty_down, rate
from tickless.settings import ExecutionSection
from tickless.types import ZERO, ExitPlan, Order, OrderType, PairRules, Side, Tick, no_rules

NO_EXITS = ExitPlan()


class Wish(NamedTuple):
    """What the desk wants to hold of one pair."""

    pair: str
    qty: float
    """Base units; 0 = sell all of it."""
    enter_tag: str = ""
    """Why it is bought, if it is."""
    exit_reason: str = ""
    """Why it is sold, if it is."""
    exits: ExitPlan = NO_EXITS
    urgent: bool = False
    """A stop: at market, whatever the desk's order type."""
    strategy: str = ""
    """Whose position it is; empty = of the strategy that plans."""
    rest: Decimal | None = None
    """To the digit what is bought or sold at most: the rest of an order whose time was over."""
    attempt: int = 0
    """How often that has been asked for before."""


class Account(NamedTuple):
    """What planning needs to know of the desk's money and market."""

    cash: Decimal
    equity: float
    holdings: Mapping[str, Decimal]
    open_orders: Sequence[Order]
    prices: Mapping[str, float]
    """Close of the last closed bar; a pair without one is absent and not traded."""
    rules: Mapping[str, PairRules]


class Plan(NamedTuple):
    """Orders to send (sells first), orders to cancel first, and why a wish led to no order."""

    orders: tuple[Order, ...]
    cancels: tuple[str, ...]
    skipped: dict[str, str]
    short: tuple[str, ...] = ()
    """Pairs of which less was bought than was wanted, for lack of cash."""


class Thresholds(NamedTuple):
    """What is too small to trade. Exits to zero ignore both; the exchange's own minimum always holds."""

    hysteresis_frac: float
    min_order_value: float


def client_order_id(desk: str, strategy: str, tick: Tick, pair: str, leg: str, attempt: int = 0) -> str:
    """A deterministic id of 30 lower-case letters and digits: the same decision gives the same id.

    Exchanges that take no such id are given another that follows from it: that is the exchange adapter's business.
    """
    of = tick.id  # It starts with the scheduled time, as in 2024-06-01T00:15:00Z.
    digest = hashlib.sha256(f"{desk}|{strategy}|{of}|{pair}|{leg}|{attempt}".encode()).hexdigest()
    return f"tk{of[2:4]}{of[5:7]}{of[8:10]}{of[11:13]}{of[14:16]}{digest[:18]}"


def plan_orders(
    wishes: Iterable[Wish],
    account: Account,
    tick: Tick,
    *,
    desk: str,
    strategy: str,
    thresholds: Thresholds,
    settings: ExecutionSection,
) -> Plan:
    """Orders that move the holdings to the wishes, in the order of the wishes, all sells before all buys.

    A pair with an open order that goes the same way is left alone; one that goes the other way is cancelled, and an exit then sells what is
    held. A protective stop that rests is neither: it is cancelled where something is sold, as it may lock it. Buys are cut to the cash that
    is free after open buys, with this tick's sells counted at their cautious proceeds.
    """
    planner = _Planner(account, tick, desk, strategy, thresholds, settings)
    wishes = list(wishes)
    sells = [order for wish in wishes if (order := planner.sell(wish)) is not None]
    planner.count_proceeds(sells)
    buys = [order for wish in wishes if (order := planner.buy(wish)) is not None]
    return Plan((*sells, *buys), tuple(planner.cancels), planner.skipped, tuple(planner.short))


class _Planner:
    """The state of one planning: cash left, cancels and skips so far."""

    def __init__(self, account: Account, tick: Tick, desk: str, strategy: str, thresholds: Thresholds, settings: ExecutionSection) -> None:
        self.account = account
        self.tick = tick
        self.desk = desk
        self.strategy = strategy
        self.thresholds = thresholds
        self.settings = settings
        self.expires_at = tick.scheduled_at + timedelta(seconds=settings.unfilled_timeout_s)
        self.cancels: list[str] = []
        self.skipped: dict[str, str] = {}
        self.short: list[str] = []
        self.open: dict[str, list[Order]] = {}
        self.stops: dict[str, list[str]] = {}
        for order in account.open_orders:
            if order.protects:
                self.stops.setdefault(order.pair, []).append(order.client_order_id)
            else:
                self.open.setdefault(order.pair, []).append(order)
        self.cost = rate(settings.taker_fee_bps) + rate(settings.slippage_bps) + rate(settings.buy_cushion_bps)
        reserved = sum([o.open_qty * self._price(o) for o in account.open_orders if o.side is Side.BUY], ZERO)
        self.free = account.cash - reserved * (1 + self.cost)

    def sell(self, wish: Wish) -> Order | None:
        held = self.account.holdings.get(wish.pair, ZERO)
        excess = float(held) - wish.qty
        if held <= 0 or excess <= 0.0 or not self._tradable(wish.pair):
            return None
        leaving = wish.qty <= 0.0
        if not self._clear(wish, Side.SELL, held):
            return None
        if not leaving and self._too_small(wish.pair, excess):
            return None
        step = self._rules(wish.pair).qty_step
        if leaving:
            # Without a step every digit goes: two buys add up to more digits than one order has, and the rest would never close.
            order = self._order(wish, Side.SELL, held if step is None else qty_down(held, step))
        else:
            order = self._order(wish, Side.SELL, qty_down(min(held, exact(excess) if wish.rest is None else wish.rest), step))
        if order is not None:
            self.cancels.extend(self.stops.get(wish.pair, ()))
        return order

    def buy(self, wish: Wish) -> Order | None:
        held = self.account.holdings.get(wish.pair, ZERO)
        lacking = wish.qty - float(held)
        if wish.qty <= 0.0 or lacking <= 0.0 or not self._tradable(wish.pair):
            return None
        if not self._clear(wish, Side.BUY, held) or self._too_small(wish.pair, lacking):
            return None
        price = exact(self.account.prices[wish.pair])
        unit_cost = max(price, self._limit_price(wish, Side.BUY) or ZERO) * (1 + self.cost)
        affordable = max(ZERO, self.free) / unit_cost
        qty = exact(lacking) if wish.rest is None else wish.rest
        if qty > affordable:
            qty = affordable
            self.short.append(wish.pair)
            if float(qty * price) < max(self.thresholds.min_order_value, 1e-9):
                self.skipped[wish.pair] = "no_cash"
                return None
        order = self._order(wish, Side.BUY, qty_down(qty, self._rules(wish.pair).qty_step))
        if order is not None:
            self.free -= order.qty * unit_cost
        return order

    def count_proceeds(self, sells: Sequence[Order]) -> None:
        for order in sells:
            if order.type is OrderType.MARKET:
                self.free += order.qty * exact(self.account.prices[order.pair]) * (1 - self.cost)

    def _tradable(self, pair: str) -> bool:
        if pair not in self.account.prices:
            self.skipped[pair] = "no_bar"
        elif not self._rules(pair).active:
            self.skipped[pair] = "pair_not_active"
        else:
            return True
        return False

    def _clear(self, wish: Wish, side: Side, held: Decimal) -> bool:
        """Cancel open orders in the way; whether an order may be sent now.

        Who leaves a pair sells all of it: an open sell counts as that only if it covers what is held, and for a stop is at market, too.
        """
        pair, leaving = wish.pair, side is Side.SELL and wish.qty <= 0.0
        if pair not in self.open:
            return True
        same = [o for o in self.open[pair] if o.side is side]
        other = [o for o in self.open[pair] if o.side is not side]
        self.cancels.extend(o.client_order_id for o in other)
        covered = sum((o.open_qty for o in same), ZERO) >= held
        at_market = all(o.type is OrderType.MARKET for o in same)
        if same and leaving and not (covered and (at_market or not wish.urgent)):
            self.cancels.extend(o.client_order_id for o in same)
        elif same:
            self.skipped[pair] = "order_in_progress"
            return False
        if other and not leaving:
            self.skipped[pair] = "cancelling_opposite_order"
            return False
        return True

    def _too_small(self, pair: str, qty: float) -> bool:
        value = qty * self.account.prices[pair]
        if self.account.equity <= 0.0 or value / self.account.equity < self.thresholds.hysteresis_frac - 1e-12:
            self.skipped[pair] = "within_hysteresis"
        elif value < self.thresholds.min_order_value:
            self.skipped[pair] = "below_min_order_value"
        else:
            return False
        return True

    def _order(self, wish: Wish, side: Side, qty: Decimal) -> Order | None:
        rules = self._rules(wish.pair)
        limit = self._limit_price(wish, side)
        if qty <= 0 or (rules.min_qty is not None and qty < rules.min_qty):
            self.skipped[wish.pair] = "below_min_qty"
            return None
        if rules.min_notional is not None and qty * (limit or exact(self.account.prices[wish.pair])) < rules.min_notional:
            self.skipped[wish.pair] = "below_min_notional"
            return None
        strategy = wish.strategy or self.strategy
        return Order(
            client_order_id(self.desk, strategy, self.tick, wish.pair, side, wish.attempt),
            self.tick.scheduled_at,
            strategy,
            wish.pair,
            side,
            OrderType.MARKET if limit is None else OrderType.LIMIT,
            qty,
            reason=wish.enter_tag if side is Side.BUY else wish.exit_reason,
            limit_price=limit,
            reduce_only=side is Side.SELL,
            expires_at=self.expires_at,
            exits=wish.exits if side is Side.BUY else NO_EXITS,
            attempt=wish.attempt,
        )

    def _limit_price(self, wish: Wish, side: Side) -> Decimal | None:
        if self.settings.order_type != "limit" or wish.urgent:
            return None
        offset = rate(self.settings.limit_offset_bps) * (1 if side is Side.BUY else -1)
        step = self._rules(wish.pair).price_step
        return price_on_step(exact(self.account.prices[wish.pair]) * (1 + offset), step, up=side is Side.SELL)

    def _rules(self, pair: str) -> PairRules:
        return self.account.rules.get(pair) or no_rules(pair)

    def _price(self, order: Order) -> Decimal:
        if order.limit_price is not None:
            return order.limit_price
        price = self.account.prices.get(order.pair)
        return exact(price) if price is not None else (order.avg_price or ZERO)
