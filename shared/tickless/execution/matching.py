"""The one fill model: what a simulated exchange does with orders and bars. Pure; dry-run, replay and backtest share it.

The rules are those of ``docs/fills.md``:

* a market order fills at the open of the first bar that opens at or after its arrival, worse by the slippage, at the taker fee;
* a limit order that is marketable at that open fills there as taker; otherwise it rests, and fills as maker at its limit when a bar, once
  it has closed, turns out to have traded strictly through it;
* a stop fills inside a bar at the worse of stop and open, with slippage; where a stop and a limit lie inside one bar, the stop is first;
* a fill takes at most a share of the volume of the bar before; the rest tries again at the following opens until the order expires;
* fills inside a bar are stamped one millisecond before its close. A pair without a bar fills nothing, and so does, inside it, a bar in
  which nothing traded;
* where the price scale of a pair breaks, its orders end and what is held is settled at the last close before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from tickless.execution.rounding import exact, money, qty_down, rate, simulated_price
from tickless.execution.settlement import PRICE_SCALE_BREAK, settled_at, settlement_order
from tickless.settings import ExecutionSection
from tickless.types import (
    ZERO,
    Fill,
    Liquidity,
    Order,
    OrderReport,
    OrderStatus,
    OrderType,
    PairRules,
    Side,
    base_asset,
    evolve,
    from_ms,
    no_rules,
    to_ms,
)


@dataclass(frozen=True)
class Bar:
    """One bar of one pair; ``volume`` in base units."""

    open: float
    high: float
    low: float
    close: float
    volume: float


@dataclass(frozen=True)
class SimOrder:
    """An order at the simulated exchange."""

    order: Order
    arrival_ms: int
    resting: bool = False
    """A limit that was not marketable on arrival."""
    triggered: bool = False
    """A stop that was hit and works off its rest at the market."""
    status: OrderStatus = OrderStatus.OPEN
    fills: tuple[Fill, ...] = ()
    message: str = ""

    @property
    def open_qty(self) -> Decimal:
        """What has not been filled."""
        return self.order.qty - sum([fill.qty for fill in self.fills], ZERO)

    def report(self) -> OrderReport:
        """What the exchange says of it."""
        return OrderReport(self.order.client_order_id, self.status, self.fills, self.message)


@dataclass(frozen=True)
class SimAccount:
    """Balances by asset, and open orders in order of arrival. ``settled_ms``: time up to which bars have been worked off."""

    balances: Mapping[str, Decimal]
    settled_ms: int
    orders: tuple[SimOrder, ...] = ()
    settlements: tuple[Fill, ...] = ()
    """What the exchange sold of its own accord where a price scale broke: the latest of each pair."""

    def balance(self, asset: str) -> Decimal:
        """What is held of an asset."""
        return self.balances.get(asset, ZERO)


@dataclass
class Matching:
    """Applies bars to an account. ``changed`` collects every order touched, by id, final ones included."""

    settings: ExecutionSection
    rules: Mapping[str, PairRules]
    stake: str
    account: SimAccount
    changed: dict[str, SimOrder] = field(default_factory=dict)

    def arrive(self, sim: SimOrder) -> SimOrder:
        """Take an order in that ``refusal`` does not speak against. It is filled by ``at_open`` or ``inside``, later."""
        self._put(sim)
        return sim

    def arrive_at_open(self, sim: SimOrder, open_ms: int, opens: Mapping[str, float], volumes: Mapping[str, float]) -> SimOrder:
        """Take an order in, as ``arrive`` does, at the moment at which bars open: what it can do at its open it does at once."""
        if not self._works_at_open(sim, open_ms, opens, volumes):
            self._put(sim)
        return self.changed[sim.order.client_order_id]

    def refuse(self, sim: SimOrder, message: str) -> SimOrder:
        """Do not take an order in."""
        sim = evolve(sim, status=OrderStatus.REJECTED, message=message)
        self.changed[sim.order.client_order_id] = sim
        return sim

    def at_open(self, open_ms: int, opens: Mapping[str, float], volumes: Mapping[str, float]) -> None:
        """Work off what waits for the bars that open at ``open_ms``; ``volumes`` are those of the bars that closed at that moment."""
        for sim in self.account.orders:
            self._works_at_open(sim, open_ms, opens, volumes)

    def inside(self, open_ms: int, close_ms: int, bars: Mapping[str, Bar], volumes: Mapping[str, float]) -> None:
        """Settle resting orders on the bars that opened at ``open_ms`` and have closed, stops first. ``volumes``: of the bars before."""
        stamp = close_ms - 1
        stopped = set()
        for sim in sorted(self.account.orders, key=lambda s: s.order.type is not OrderType.STOP):
            bar = bars.get(sim.order.pair)
            # What expires inside the bar may have expired before the price came: no fill is stamped after its order's end.
            if self._expires(sim, stamp) or bar is None or bar.volume == 0 or sim.arrival_ms > open_ms:
                continue
            leg = (sim.order.pair, sim.order.side)
            if sim.order.type is OrderType.STOP and not sim.triggered:
                if self._stop_inside(sim, stamp, bar, volumes):
                    stopped.add(leg)
            elif sim.order.type is OrderType.LIMIT and sim.resting and sim.order.limit_price is not None and leg not in stopped:
                limit = sim.order.limit_price
                through = exact(bar.low) < limit if sim.order.side is Side.BUY else exact(bar.high) > limit
                if through:
                    self._fill(sim, stamp, limit, Liquidity.MAKER, volumes)

    def cancel(self, client_order_id: str) -> None:
        """Cancel an open order; nothing happens for one that is not open."""
        for sim in self.account.orders:
            if sim.order.client_order_id == client_order_id:
                self._put(evolve(sim, status=OrderStatus.CANCELED))

    def end_buys(self, message: str) -> None:
        """Cancel every open buy."""
        for sim in self.account.orders:
            if sim.order.side is Side.BUY:
                self._put(evolve(sim, status=OrderStatus.CANCELED, message=message))

    def liquidate(self, sim: SimOrder, at_ms: int, price: float) -> SimOrder:
        """Fill an order whole at a given price, as taker and without slippage: the end of a recording."""
        self._fill(sim, at_ms, exact(price), Liquidity.TAKER, None)
        return self.changed[sim.order.client_order_id]

    def end_scale(self, pair: str, at_ms: int, last_close: float) -> None:
        """End what there is of a pair whose price scale is known at ``at_ms`` to have broken: its orders, then what is held.

        The holding goes whole at the last close before, as taker and without slippage: what comes after is another thing, and nobody could
        have sold this one at its price.
        """
        for sim in self.account.orders:
            if sim.order.pair == pair:
                self._put(evolve(sim, status=OrderStatus.CANCELED, message=f"{PRICE_SCALE_BREAK}: the prices of {pair} are on a new scale"))
        qty = self.account.balance(base_asset(pair))
        if qty <= 0:
            return
        order = settlement_order(pair, from_ms(at_ms), qty)
        fee_rate = rate(self.settings.taker_fee_bps)
        self._book(SimOrder(order, at_ms), to_ms(settled_at(order.tick_at)), qty, exact(last_close), fee_rate, Liquidity.TAKER)
        others = tuple(fill for fill in self.account.settlements if fill.pair != pair)
        self.account = evolve(self.account, settlements=(*others, *self.changed[order.client_order_id].fills))

    def pairs(self) -> set[str]:
        """Every pair of which something is held or ordered."""
        held = {f"{asset}/{self.stake}" for asset, qty in self.account.balances.items() if asset != self.stake and qty > 0}
        return held | {sim.order.pair for sim in self.account.orders}

    def _works_at_open(self, sim: SimOrder, open_ms: int, opens: Mapping[str, float], volumes: Mapping[str, float]) -> bool:
        """Whether something became of an order at the open of its pair's bar; it is then stored."""
        if self._expires(sim, open_ms):
            return True
        price = opens.get(sim.order.pair)
        if price is None or sim.arrival_ms > open_ms or sim.resting:
            return False
        if sim.order.type is OrderType.LIMIT:
            self._limit_at_open(sim, open_ms, exact(price), volumes)
        elif sim.order.type is OrderType.MARKET or sim.triggered:
            self._fill(sim, open_ms, self._slipped(exact(price), sim.order.side), Liquidity.TAKER, volumes)
        else:
            return False
        return True

    def _limit_at_open(self, sim: SimOrder, open_ms: int, price: Decimal, volumes: Mapping[str, float]) -> None:
        limit = sim.order.limit_price
        assert limit is not None
        marketable = price <= limit if sim.order.side is Side.BUY else price >= limit
        if marketable:
            # What the volume did not allow tries again at the next open, like the rest of a market order.
            self._fill(sim, open_ms, price, Liquidity.TAKER, volumes)
        else:
            self._put(evolve(sim, resting=True))

    def _expires(self, sim: SimOrder, at_ms: int) -> bool:
        """Whether an order's time is over at ``at_ms``; it is then closed."""
        if sim.order.expires_at is None or to_ms(sim.order.expires_at) > at_ms:
            return False
        self._put(evolve(sim, status=OrderStatus.EXPIRED, message="unfilled timeout"))
        return True

    def _stop_inside(self, sim: SimOrder, stamp: int, bar: Bar, volumes: Mapping[str, float]) -> bool:
        """Whether the bar hit a stop; what the volume allows of it is then filled."""
        stop = sim.order.stop_price
        assert stop is not None
        selling = sim.order.side is Side.SELL
        if not (exact(bar.low) <= stop if selling else exact(bar.high) >= stop):
            return False
        price = min(stop, exact(bar.open)) if selling else max(stop, exact(bar.open))
        self._fill(evolve(sim, triggered=True), stamp, self._slipped(price, sim.order.side), Liquidity.TAKER, volumes)
        return True

    def _fill(self, sim: SimOrder, at_ms: int, price: Decimal, liquidity: Liquidity, volumes: Mapping[str, float] | None) -> None:
        order = sim.order
        rules = self.rules.get(order.pair) or no_rules(order.pair)
        fee_rate = rate(self.settings.taker_fee_bps if liquidity is Liquidity.TAKER else self.settings.maker_fee_bps)
        too_small = _below_notional(order, order.limit_price or order.stop_price or price, rules)
        if too_small and not sim.fills:
            self._put(evolve(sim, status=OrderStatus.REJECTED, message=too_small))
            return
        qty = sim.open_qty
        if volumes is not None and self.settings.max_participation_frac > 0.0:
            most = self.settings.max_participation_frac * volumes.get(order.pair, 0.0)
            if exact(most) < qty:
                qty = qty_down(exact(most), rules.qty_step)
        if order.side is Side.SELL:
            held = self.account.balance(base_asset(order.pair))
            qty = min(qty, held)
            if held <= 0:
                self._put(evolve(sim, status=OrderStatus.CANCELED, message="nothing left to sell"))
                return
        else:
            free, with_fee = self._free_stake(sim), 1 + fee_rate
            if not sim.fills and order.qty * price * with_fee > free:
                self._put(evolve(sim, status=OrderStatus.REJECTED, message=f"insufficient balance: {free} {self.stake} free"))
                return
            qty = min(qty, qty_down(max(ZERO, free) / (price * with_fee), rules.qty_step))
        if qty <= 0:
            self._put(sim)
            return
        self._book(sim, at_ms, qty, price, fee_rate, liquidity)

    def _book(self, sim: SimOrder, at_ms: int, qty: Decimal, price: Decimal, fee_rate: Decimal, liquidity: Liquidity) -> None:
        order = sim.order
        gross = qty * price
        value = money(gross)
        # Rounded together with the value: what was affordable before rounding is so after it.
        fee = money(gross * (1 + fee_rate)) - value
        fill = Fill(
            f"{order.client_order_id}-{len(sim.fills) + 1}",
            order.client_order_id,
            from_ms(at_ms),
            order.pair,
            order.side,
            qty,
            price,
            fee,
            fee_asset=self.stake,
            fee_qty=fee,
            liquidity=liquidity,
        )
        sign = 1 if order.side is Side.BUY else -1
        base = base_asset(order.pair)
        balances = dict(self.account.balances)
        balances[base] = balances.get(base, ZERO) + sign * qty
        balances[self.stake] = balances.get(self.stake, ZERO) - sign * value - fee
        if balances[base] == 0:
            del balances[base]
        status = sim.status if sim.open_qty > qty else OrderStatus.FILLED
        self._put(evolve(sim, fills=(*sim.fills, fill), status=status), balances)

    def _put(self, sim: SimOrder, balances: Mapping[str, Decimal] | None = None) -> None:
        """Store an order, in its place while it is open, out of the open ones when it is final; and the balances that it left."""
        client_order_id = sim.order.client_order_id
        orders = {other.order.client_order_id: other for other in self.account.orders}
        if sim.status.is_final:
            orders.pop(client_order_id, None)
        else:
            orders[client_order_id] = sim
        account = self.account
        self.account = evolve(account, orders=tuple(orders.values()), balances=account.balances if balances is None else balances)
        self.changed[client_order_id] = sim

    def _slipped(self, price: Decimal, side: Side) -> Decimal:
        slippage = rate(self.settings.slippage_bps)
        return simulated_price(price * (1 + slippage if side is Side.BUY else 1 - slippage))

    def refusal(self, order: Order) -> str:  # noqa: PLR0911 - one return a reason
        """Why the exchange does not take an order, or an empty text."""
        rules = self.rules.get(order.pair) or no_rules(order.pair)
        price = order.limit_price or order.stop_price
        if order.qty <= 0:
            return f"quantity {order.qty} is not positive"
        if not _on_step(order.qty, rules.qty_step):
            return f"quantity {order.qty} is not a multiple of {rules.qty_step}"
        if rules.min_qty is not None and order.qty < rules.min_qty:
            return f"quantity {order.qty} is below the minimum {rules.min_qty}"
        if price is not None and not _on_step(price, rules.price_step):
            return f"price {price} is not a multiple of {rules.price_step}"
        if price is not None and (too_small := _below_notional(order, price, rules)):
            return too_small
        if order.side is Side.SELL:
            base = base_asset(order.pair)
            # A stop that rests locks what it would sell.
            locked = sum((s.open_qty for s in self.account.orders if s.order.protects and s.order.pair == order.pair), ZERO)
            held = self.account.balance(base) - locked
            return f"insufficient balance: {held} {base} held" if order.qty > held else ""
        free = self._free_stake()
        if free <= 0 or (order.limit_price is not None and self._claim(order.qty, order.limit_price) > free):
            return f"insufficient balance: {free} {self.stake} free"
        return ""

    def _free_stake(self, but: SimOrder | None = None) -> Decimal:
        """Stake currency that no open limit buy, other than ``but``, has laid claim to, fees included."""
        mine = but.order.client_order_id if but is not None else ""
        claims = [
            self._claim(s.open_qty, s.order.limit_price)
            for s in self.account.orders
            if s.order.side is Side.BUY and s.order.limit_price is not None and s.order.client_order_id != mine
        ]
        return self.account.balance(self.stake) - sum(claims, ZERO)

    def _claim(self, qty: Decimal, limit_price: Decimal) -> Decimal:
        """What a limit buy needs at most; a market order lays no claim before it fills."""
        fee = rate(max(self.settings.taker_fee_bps, self.settings.maker_fee_bps))
        return qty * limit_price * (1 + fee)


def _below_notional(order: Order, price: Decimal | None, rules: PairRules) -> str:
    """Why an order is worth too little for the exchange at a price, or an empty text."""
    if price is None or rules.min_notional is None or order.qty * price >= rules.min_notional:
        return ""
    return f"the notional at {price} is below the minimum {rules.min_notional}"


def _on_step(value: Decimal, step: Decimal | None) -> bool:
    return step is None or value % step == 0
