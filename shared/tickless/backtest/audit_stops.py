"""The auditor's questions of stops at the exchange: whether each rested as promised, and filled at its price or worse.

Files and bars only; what a tick says of its stops is held against the orders and fills.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_DOWN, Decimal
from functools import cached_property
from math import isnan
from typing import Any

from tickless.backtest.results import Results
from tickless.bars import Panel
from tickless.settings import Settings
from tickless.types import ZERO, Fill, Order, OrderStatus, OrderType, PairRules, Side, iso, parse_time, to_ms

_SLACK = Decimal("1e-9")
_TOO_SMALL = "it is below the exchange's least order"


@dataclass(frozen=True)
class StopAudit:
    """Checks of resting stops; each yields one sentence a finding."""

    results: Results
    panel: Panel
    settings: Settings | None
    rules: Mapping[str, PairRules]

    @cached_property
    def _orders(self) -> dict[str, Order]:
        return {order.client_order_id: order for order in self.results.orders}

    @cached_property
    def _held(self) -> dict[str, tuple[list[datetime], list[Decimal]]]:
        """What the fills say is held of each pair, and from when on."""
        found: dict[str, tuple[list[datetime], list[Decimal]]] = {}
        for fill in sorted(self.results.fills, key=lambda fill: fill.filled_at):
            times, held = found.setdefault(fill.pair, ([], []))
            held.append((held[-1] if held else ZERO) + _signed(fill))
            times.append(fill.filled_at)
        return found

    @cached_property
    def _lines(self) -> list[tuple[datetime, Mapping[str, Any]]]:
        """The last line of each minute that tells of resting stops: what was so when the desk went to sleep."""
        last: dict[datetime, Mapping[str, Any]] = {}
        for line in self.results.ticks:
            if line["function"] != "retrain":
                last[parse_time(line["at"])] = line
        return sorted(last.items(), key=lambda entry: entry[0])

    @cached_property
    def _sells(self) -> dict[str, list[Order]]:
        found: dict[str, list[Order]] = {}
        for order in self.results.orders:
            if order.side is Side.SELL and order.type is not OrderType.STOP:
                found.setdefault(order.pair, []).append(order)
        return found

    @cached_property
    def _placed(self) -> dict[tuple[str, Decimal], list[Order]]:
        """The stops that the exchange took, by pair and price."""
        found: dict[tuple[str, Decimal], list[Order]] = {}
        for order in self.results.orders:
            if order.type is OrderType.STOP and order.stop_price is not None and order.status is not OrderStatus.REJECTED:
                found.setdefault((order.pair, order.stop_price), []).append(order)
        return found

    def fills(self) -> Iterator[str]:
        """A stop fills inside a bar that reached it, at the worse of stop and open; what the volume left over, at later opens."""
        begun: set[str] = set()
        for fill in self.results.fills:
            order = self._orders.get(fill.client_order_id)
            if order is None or order.type is not OrderType.STOP or order.stop_price is None or fill.pair not in self.panel.column:
                continue
            where = f"fills.csv {fill.client_order_id} at {iso(fill.filled_at)}"
            first = fill.client_order_id not in begun
            begun.add(fill.client_order_id)
            row, rest = divmod(to_ms(fill.filled_at) - self.panel.start_ms, self.panel.step_ms)
            column = self.panel.column[fill.pair]
            opened, low = (Decimal(repr(float(values[row, column]))) for values in (self.panel.open, self.panel.low))
            if first and rest == 0:
                yield f"{where}: a stop went off at an open, where nothing could have reached it"
            if first and low > order.stop_price:
                yield f"{where}: the low {low} did not reach the stop {order.stop_price}"
            if self.settings is None:
                continue
            slip = Decimal(repr(self.settings.execution.slippage_bps)) / 10_000
            expected = (min(order.stop_price, opened) if rest else opened) * (1 - slip)
            if abs(fill.price - expected) > opened * _SLACK:
                yield f"{where}: price {fill.price}, the worse of stop and open with slippage is {expected}"

    def promises(self) -> Iterator[str]:
        """After every tick each position that has a level rests on the exchange, whole; and nothing rests that is not held."""
        if self.settings is None or not self.settings.execution.stoploss_on_exchange:
            return
        for at, line in self._lines:
            held = {pair: qty for pair in self._held if (qty := self._held_at(pair, at)) > 0}
            where = f"ticks.jsonl {line['id']}"
            resting = line.get("resting")
            if resting is None:
                if held:
                    yield f"{where}: {', '.join(sorted(held))} are held, and nothing is said of their stops"
                continue
            yield from (f"{where}: a stop of {pair} rests, which is not held" for pair in resting if pair not in held)
            for pair, level in (line.get("stops") or {}).items():
                if pair in held and level is not None:
                    yield from self._promise(where, line, pair, held[pair], at)

    def _promise(self, where: str, line: Mapping[str, Any], pair: str, held: Decimal, at: datetime) -> Iterator[str]:
        stop, level = line["resting"].get(pair), Decimal(repr(line["stops"][pair]))
        leaving = any(self._under_way(order, at) for order in self._sells.get(pair, ()))
        least = self._sellable(pair, held, level)
        if stop is None:
            told = (line.get("unprotected") or {}).get(pair)
            if not leaving and (told is None or (told == _TOO_SMALL and least)):
                yield f"{where}: {held} {pair} are held and no stop rests"
            return
        qty, price = Decimal(stop["qty"]), Decimal(stop["stop_price"])
        if qty > held or (not leaving and qty != least):
            yield f"{where}: the stop of {pair} is for {qty}, {held} are held"
        step = self.rules[pair].price_step if pair in self.rules else None
        move = 1 + Decimal(repr(self.settings.execution.stoploss_min_move_frac)) if self.settings else Decimal(1)
        if price > level * (1 + _SLACK) or price * move < level - (step or level * _SLACK):
            yield f"{where}: the stop of {pair} rests at {price}, its level is {level}"
        if not any(order.tick_at <= at and order.qty >= qty for order in self._placed.get((pair, price), ())):
            yield f"{where}: no order is the stop of {pair} at {price}"

    def levels(self) -> Iterator[str]:
        """What rests never falls while its position lives."""
        last: dict[str, tuple[datetime, Decimal]] = {}
        for at, line in self._lines:
            for pair, stop in (line.get("resting") or {}).items():
                price, before = Decimal(stop["stop_price"]), last.get(pair)
                last[pair] = (at, price)
                if before is not None and price < before[1] and not self._ended(pair, before[0], at):
                    yield f"ticks.jsonl {line['id']}: the resting stop of {pair} fell from {before[1]} to {price}"

    def _held_at(self, pair: str, at: datetime) -> Decimal:
        times, held = self._held[pair]
        n = bisect_right(times, at)
        return held[n - 1] if n else ZERO

    def _ended(self, pair: str, after: datetime, at: datetime) -> bool:
        """Whether there was a moment in (after, at] at which nothing, or dust, was held."""
        times, held = self._held[pair]
        return any(
            after < time <= at and not self._sellable(pair, qty, self._close(pair, time)) for time, qty in zip(times, held, strict=True)
        )

    def _close(self, pair: str, at: datetime) -> Decimal:
        row = min((to_ms(at) - self.panel.start_ms) // self.panel.step_ms, self.panel.rows - 1)
        value = float(self.panel.open[row, self.panel.column[pair]]) if pair in self.panel.column else 0.0
        return ZERO if isnan(value) else Decimal(repr(value))

    def _sellable(self, pair: str, qty: Decimal, price: Decimal) -> Decimal:
        """What the exchange would take a stop for, or zero."""
        rule = self.rules.get(pair, PairRules(pair)) if self.settings is None or self.settings.execution.filters else PairRules(pair)
        if rule.qty_step is not None:
            qty = (qty / rule.qty_step).to_integral_value(rounding=ROUND_DOWN) * rule.qty_step
        return qty if qty > 0 and qty >= (rule.min_qty or ZERO) and qty * price >= (rule.min_notional or ZERO) else ZERO

    def _under_way(self, order: Order, at: datetime) -> bool:
        """Whether a sale may have had something open when the tick at ``at`` was over."""
        if order.tick_at > at or order.status is OrderStatus.REJECTED:
            return False
        patience = timedelta(seconds=self.settings.execution.unfilled_timeout_s if self.settings is not None else 0)
        waited = order.status in (OrderStatus.EXPIRED, OrderStatus.CANCELED) and at < order.tick_at + patience
        later = any(fill.filled_at > at for fill in self._of_order.get(order.client_order_id, ()))
        return not order.status.is_final or waited or later

    @cached_property
    def _of_order(self) -> dict[str, list[Fill]]:
        found: dict[str, list[Fill]] = {}
        for fill in self.results.fills:
            found.setdefault(fill.client_order_id, []).append(fill)
        return found


def _signed(fill: Fill) -> Decimal:
    """What a fill adds to the holding; a fee taken in the base asset comes out of it."""
    fee = fill.fee_qty if fill.fee_asset == fill.pair.partition("/")[0] else ZERO
    return (fill.qty if fill.side is Side.BUY else -fill.qty) - fee
