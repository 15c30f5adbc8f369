"""The one fill model: what a simulated exchange does with orders and bars. Pure; dry-run, replay and backtest share it.

The rules are those of ``docs/fills.md``:

* a market order fills at the open of the first bar that opens at or after its arrival, worse by the slippage, at the taker fee;
* a limit order that is marketable at that open fills there as taker; otherwise it rests and fills as maker at its limit when a bar trades
  strictly through it;
* a stop fills inside a bar at the worse of stop and open, with slippage; where a stop and a limit lie inside one bar, the stop is first;
* a fill takes at most a share of the volume of the bar before; the rest tries again at the following opens until the order expires;
* fills inside a bar are stamped one millisecond before its close. A pair without a bar fills nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal

from tickless.execution.rounding import exact, money, qty_down, simulated_price
from tickless.settings import ExecutionSection
from tickless.types import ZERO, Fill, Liquidity, Order, OrderReport, OrderStatus, OrderType, PairRules, Side, from_ms, to_ms

_BPS = Decimal(10_000)


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
        return self.order.qty - sum((fill.qty for fill in self.fills), ZERO)

    def report(self) -> OrderReport:
        """What the exchange says of it."""
        return OrderReport(self.order.client_order_id, self.status, self.fills, self.message)


@dataclass(frozen=True)
class SimAccount:
    """Balances by asset, and open orders in order of arrival. ``settled_ms``: time up to which bars have been worked off."""

    balances: Mapping[str, Decimal]
    settled_ms: int
    orders: tuple[SimOrder, ...] = ()

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
        """Take an order in. It is filled by ``at_open`` or ``inside``, later; here it is only checked. A refusal is its status."""
        refusal = self._refusal(sim.order)
        if refusal:
            sim = replace(sim, status=OrderStatus.REJECTED, message=refusal)
            self.changed[sim.order.client_order_id] = sim
            return sim
        self._put(sim)
        return sim

    def at_open(self, open_ms: int, opens: Mapping[str, float], volumes: Mapping[str, float], only: str | None = None) -> None:
        """Work off what waits for the bars that open at ``open_ms``, or the one order ``only``.

        ``volumes`` are those of the bars that closed at that moment.
        """
        for sim in self.account.orders:
            if only is not None and sim.order.client_order_id != only:
                continue
            if sim.order.expires_at is not None and to_ms(sim.order.expires_at) <= open_ms:
                self._put(replace(sim, status=OrderStatus.EXPIRED, message="unfilled timeout"))
                continue
            price = opens.get(sim.order.pair)
            if price is None or sim.arrival_ms > open_ms or sim.resting:
                continue
            if sim.order.type is OrderType.LIMIT:
                self._limit_at_open(sim, open_ms, exact(price), volumes)
            elif sim.order.type is OrderType.MARKET or sim.triggered:
                self._fill(sim, open_ms, self._slipped(exact(price), sim.order.side), Liquidity.TAKER, volumes)

    def inside(self, open_ms: int, close_ms: int, bars: Mapping[str, Bar], volumes: Mapping[str, float]) -> None:
        """Settle resting orders on the bars that opened at ``open_ms`` and have closed, stops first. ``volumes``: of the bars before."""
        for sim in sorted(self.account.orders, key=lambda s: s.order.type is not OrderType.STOP):
            bar = bars.get(sim.order.pair)
            if bar is None or sim.arrival_ms > open_ms:
                continue
            stamp = close_ms - 1
            if sim.order.type is OrderType.STOP and not sim.triggered:
                self._stop_inside(sim, stamp, bar, volumes)
            elif sim.order.type is OrderType.LIMIT and sim.resting and sim.order.limit_price is not None:
                limit = sim.order.limit_price
                through = exact(bar.low) < limit if sim.order.side is Side.BUY else exact(bar.high) > limit
                if through:
                    self._fill(sim, stamp, limit, Liquidity.MAKER, volumes)

    def cancel(self, client_order_id: str) -> None:
        """Cancel an open order; nothing happens for one that is not open."""
        for sim in self.account.orders:
            if sim.order.client_order_id == client_order_id:
                self._put(replace(sim, status=OrderStatus.CANCELED))

    def liquidate(self, sim: SimOrder, at_ms: int, price: float) -> SimOrder:
        """Fill an order whole at a given price, as taker and without slippage: the end of a recording."""
        self._fill(sim, at_ms, exact(price), Liquidity.TAKER, None)
        return self.changed[sim.order.client_order_id]

    def _limit_at_open(self, sim: SimOrder, open_ms: int, price: Decimal, volumes: Mapping[str, float]) -> None:
        limit = sim.order.limit_price
        assert limit is not None
        marketable = price <= limit if sim.order.side is Side.BUY else price >= limit
        if marketable:
            self._fill(sim, open_ms, price, Liquidity.TAKER, volumes)
        rest = next((s for s in self.account.orders if s.order.client_order_id == sim.order.client_order_id), None)
        if rest is not None and not rest.resting:
            self._put(replace(rest, resting=True))

    def _stop_inside(self, sim: SimOrder, stamp: int, bar: Bar, volumes: Mapping[str, float]) -> None:
        stop = sim.order.stop_price
        assert stop is not None
        selling = sim.order.side is Side.SELL
        if not (exact(bar.low) <= stop if selling else exact(bar.high) >= stop):
            return
        price = min(stop, exact(bar.open)) if selling else max(stop, exact(bar.open))
        self._fill(replace(sim, triggered=True), stamp, self._slipped(price, sim.order.side), Liquidity.TAKER, volumes)

    def _fill(self, sim: SimOrder, at_ms: int, price: Decimal, liquidity: Liquidity, volumes: Mapping[str, float] | None) -> None:
        order = sim.order
        rules = self.rules.get(order.pair) or PairRules(order.pair)
        fee_bps = self.settings.taker_fee_bps if liquidity is Liquidity.TAKER else self.settings.maker_fee_bps
        fee_rate = exact(fee_bps) / _BPS
        qty = sim.open_qty
        if volumes is not None and self.settings.max_participation_frac > 0.0:
            most = self.settings.max_participation_frac * volumes.get(order.pair, 0.0)
            if exact(most) < qty:
                qty = qty_down(exact(most), rules.qty_step)
        base = order.pair.split("/")[0]
        if order.side is Side.SELL:
            qty = min(qty, self.account.balance(base))
            if self.account.balance(base) <= 0:
                self._put(replace(sim, status=OrderStatus.CANCELED, message="nothing left to sell"))
                return
        else:
            free = self._free_stake(sim)
            if not sim.fills and order.qty * price * (1 + fee_rate) > free:
                self._put(replace(sim, status=OrderStatus.REJECTED, message=f"insufficient balance: {free} {self.stake} free"))
                return
            qty = min(qty, qty_down(max(ZERO, free) / (price * (1 + fee_rate)), rules.qty_step))
        if qty <= 0:
            self._put(sim)
            return
        self._book(sim, at_ms, qty, price, fee_rate, liquidity)

    def _book(self, sim: SimOrder, at_ms: int, qty: Decimal, price: Decimal, fee_rate: Decimal, liquidity: Liquidity) -> None:
        order = sim.order
        fee = money(qty * price * fee_rate)
        fill = Fill(
            fill_id=f"{order.client_order_id}-{len(sim.fills) + 1}",
            client_order_id=order.client_order_id,
            filled_at=from_ms(at_ms),
            pair=order.pair,
            side=order.side,
            qty=qty,
            price=price,
            fee=fee,
            fee_asset=self.stake,
            fee_qty=fee,
            liquidity=liquidity,
        )
        sign = 1 if order.side is Side.BUY else -1
        base = order.pair.split("/")[0]
        balances = dict(self.account.balances)
        balances[base] = balances.get(base, ZERO) + sign * qty
        balances[self.stake] = money(balances.get(self.stake, ZERO) - sign * qty * price - fee)
        if balances[base] == 0:
            del balances[base]
        self.account = replace(self.account, balances=balances)
        sim = replace(sim, fills=(*sim.fills, fill))
        self._put(sim if sim.open_qty > 0 else replace(sim, status=OrderStatus.FILLED))

    def _put(self, sim: SimOrder) -> None:
        """Store an order: in its place while it is open, out of the open ones when it is final."""
        client_order_id = sim.order.client_order_id
        orders = []
        known = False
        for other in self.account.orders:
            if other.order.client_order_id != client_order_id:
                orders.append(other)
                continue
            known = True
            if not sim.status.is_final:
                orders.append(sim)
        if not known and not sim.status.is_final:
            orders.append(sim)
        self.account = replace(self.account, orders=tuple(orders))
        self.changed[client_order_id] = sim

    def _slipped(self, price: Decimal, side: Side) -> Decimal:
        slippage = exact(self.settings.slippage_bps) / _BPS
        return simulated_price(price * (1 + slippage if side is Side.BUY else 1 - slippage))

    def _refusal(self, order: Order) -> str:
        """Why the exchange does not take an order, or an empty text."""
        rules = self.rules.get(order.pair) or PairRules(order.pair)
        price = order.limit_price or order.stop_price
        base = order.pair.split("/")[0]
        held, free = self.account.balance(base), self._free_stake()
        checks = (
            (order.qty <= 0, f"quantity {order.qty} is not positive"),
            (not _on_step(order.qty, rules.qty_step), f"quantity {order.qty} is not a multiple of {rules.qty_step}"),
            (rules.min_qty is not None and order.qty < rules.min_qty, f"quantity {order.qty} is below the minimum {rules.min_qty}"),
            (price is not None and not _on_step(price, rules.price_step), f"price {price} is not a multiple of {rules.price_step}"),
            (
                price is not None and rules.min_notional is not None and order.qty * price < rules.min_notional,
                f"the notional at {price} is below the minimum {rules.min_notional}",
            ),
            (order.side is Side.SELL and order.qty > held, f"insufficient balance: {held} {base} held"),
            (
                order.side is Side.BUY and (free <= 0 or order.qty * (order.limit_price or ZERO) > free),
                f"insufficient balance: {free} {self.stake} free",
            ),
        )
        return next((message for refused, message in checks if refused), "")

    def _free_stake(self, but: SimOrder | None = None) -> Decimal:
        """Stake currency that no open limit buy, other than ``but``, has laid claim to."""
        mine = but.order.client_order_id if but is not None else ""
        claims = (
            s.open_qty * s.order.limit_price
            for s in self.account.orders
            if s.order.side is Side.BUY and s.order.limit_price is not None and s.order.client_order_id != mine
        )
        return self.account.balance(self.stake) - sum(claims, ZERO)


def _on_step(value: Decimal, step: Decimal | None) -> bool:
    return step is None or value % step == 0
