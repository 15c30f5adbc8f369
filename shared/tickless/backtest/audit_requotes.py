"""The auditor's view of limit orders that ran out of time: each goes on once at most, with no more than it left, as often as settings say.

It reads ``requotes`` in the lines of ``ticks.jsonl`` and the orders themselves, and nothing of the code that made them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from tickless.backtest.results import Results
from tickless.settings import ExecutionSection, Settings
from tickless.types import Order, OrderStatus, OrderType, parse_time


@dataclass(frozen=True)
class RequoteAudit:
    """Checks of what became of the rests of limit orders."""

    results: Results
    settings: Settings | None

    @property
    def checks(self) -> tuple[Callable[[], Iterator[str]], ...]:
        """Each yields a sentence for each finding."""
        return (self.continuations, self.attempts, self.none_forgotten)

    @cached_property
    def _orders(self) -> dict[str, Order]:
        return {order.client_order_id: order for order in self.results.orders}

    @cached_property
    def _told(self) -> list[tuple[str, str, Mapping[str, Any]]]:
        """(tick id, id of the order that ended, what became of its rest), in order of effect."""
        return [(line["id"], ended, told) for line in self.results.ticks for ended, told in (line.get("requotes") or {}).items()]

    @cached_property
    def _next(self) -> dict[str, tuple[Order, int]]:
        """The order that goes on with another, and the attempt that its tick calls it, by the other's id."""
        told = ((ended, self._orders.get(what["order"]), what["attempt"]) for _, ended, what in self._told if "order" in what)
        return {ended: (order, attempt) for ended, order, attempt in told if order is not None}

    def continuations(self) -> Iterator[str]:
        """A rest goes on once, of an order that has ended, with no more than it left, and as the same thing."""
        dealt_with: set[str] = set()
        for tick, ended, told in self._told:
            where = f"ticks.jsonl {tick}: the rest of {ended}"
            before = self._orders.get(ended)
            if ended in dealt_with:
                yield f"{where} is dealt with twice"
            dealt_with.add(ended)
            if before is None or before.status is not OrderStatus.EXPIRED or before.type is not OrderType.LIMIT:
                yield f"{where} is that of no limit order that ran out of time"
                continue
            if "order" not in told:
                continue
            after = self._orders.get(told["order"])
            if after is None:
                yield f"{where} goes on as {told['order']}, which is no order"
            elif _kind(after) != _kind(before):
                yield f"{where} goes on as another kind of order: {_kind(after)}, it was {_kind(before)}"
            elif after.qty > before.qty - before.filled_qty:
                yield f"{where} goes on with {after.qty}, it left {before.qty - before.filled_qty}"
            elif after.tick_at <= before.tick_at:
                yield f"{where} goes on at {after.tick_at}, before it was sent"

    def attempts(self) -> Iterator[str]:
        """Attempts count up by one from the first order; with settings, as many as those allow, and then a market order or none."""
        execution = self.settings.execution if self.settings is not None else None
        later = {order.client_order_id for order, _ in self._next.values()}
        for first in [ended for ended in self._next if ended not in later]:
            ended, expected, seen = first, 1, set[str]()
            while ended in self._next and ended not in seen:
                seen.add(ended)
                order, attempt = self._next[ended]
                where = f"orders.csv {order.client_order_id}"
                if attempt != expected:
                    yield f"{where}: called attempt {attempt}, it is number {expected}"
                if execution is not None:
                    yield from _allowed(where, order, expected, execution)
                ended, expected = order.client_order_id, expected + 1

    def none_forgotten(self) -> Iterator[str]:
        """With settings that quote again: something is said of every rest, unless the run ended first."""
        if self.settings is None or not _goes_on(1, self.settings.execution) or not self.results.ticks:
            return
        dealt_with = {ended for _, ended, _ in self._told}
        attempts = {order.client_order_id: attempt for order, attempt in self._next.values()}
        for order in self.results.orders:
            if order.status is not OrderStatus.EXPIRED or order.type is not OrderType.LIMIT or order.client_order_id in dealt_with:
                continue
            in_time = order.tick_at + timedelta(seconds=self.settings.execution.unfilled_timeout_s) <= self._last_at
            if in_time and _goes_on(attempts.get(order.client_order_id, 0) + 1, self.settings.execution):
                yield f"orders.csv {order.client_order_id}: ran out of time with something left, and no tick says what became of that"

    @cached_property
    def _last_at(self) -> datetime:
        """The last minute of which every tick ran."""
        return parse_time(self.results.ticks[-1]["at"])


def _kind(order: Order) -> tuple[str, str, str, str]:
    return order.pair, order.side.value, order.strategy, order.reason


def _goes_on(attempt: int, execution: ExecutionSection) -> bool:
    return attempt <= execution.unfilled_requotes or execution.unfilled_action == "cross"


def _allowed(where: str, order: Order, attempt: int, execution: ExecutionSection) -> Iterator[str]:
    kind = OrderType.LIMIT if attempt <= execution.unfilled_requotes else OrderType.MARKET
    if not _goes_on(attempt, execution):
        yield f"{where}: attempt {attempt}, execution.unfilled_requotes allows {execution.unfilled_requotes}"
    elif order.type is not kind:
        yield f"{where}: a {order.type} order as attempt {attempt}, expected {kind}"
