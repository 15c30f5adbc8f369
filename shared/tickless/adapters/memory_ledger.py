"""The ledger in memory, for backtests and tests: the semantics of the DynamoDB one, as both are built on ``ledger_items``."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from threading import RLock
from typing import Any

from tickless.adapters import ledger_items as items
from tickless.errors import LeaseHeldError, TickRecordedError
from tickless.ports import RETAKE_AFTER_S, Fence
from tickless.types import DeskState, EquityRow, Fill, LedgerUpdate, Order, Tick, TickRecord, Trade, iso, to_ms


class MemoryLedger:
    """The Ledger port in memory; safe to share between threads."""

    def __init__(self) -> None:
        self._items: dict[str, Any] = {}
        self._now_keys: list[str] = []
        self._number = 0
        self._owner = ""
        self._expires: datetime | None = None
        self._taken: tuple[str, datetime] | None = None
        self._lock = RLock()

    def acquire(self, owner: str, now: datetime, ttl_s: int, invocation: str = "") -> Fence:
        """See ``Ledger.acquire``."""
        with self._lock:
            if self._expires is not None and to_ms(self._expires) > to_ms(now) and not self._is_retry(invocation, now):
                raise LeaseHeldError(f"the lease is held by {self._owner} until {iso(self._expires)}")
            self._number += 1
            self._owner, self._expires, self._taken = owner, now + timedelta(seconds=ttl_s), (invocation, now)
            return Fence(self._number, owner, self._expires)

    def _is_retry(self, invocation: str, now: datetime) -> bool:
        """Whether the holder of the lease is this very invocation, and was killed."""
        if not invocation or self._taken is None or self._taken[0] != invocation:
            return False
        return to_ms(now) - to_ms(self._taken[1]) >= RETAKE_AFTER_S * 1000

    def release(self, fence: Fence, free_at: datetime | None = None) -> None:
        """See ``Ledger.release``."""
        with self._lock:
            if fence.number == self._number:
                self._expires = free_at

    def load(self) -> DeskState | None:
        """See ``Ledger.load``."""
        with self._lock:
            return items.restore((key, self._items[key]) for key in self._now_keys)

    def tick(self, tick: Tick) -> TickRecord | None:
        """See ``Ledger.tick``."""
        with self._lock:
            record: TickRecord | None = self._items.get(items.tick_key(tick))
            return record

    def journal(self, fence: Fence, updates: Sequence[LedgerUpdate]) -> None:
        """See ``Ledger.journal``."""
        planned = [items.plan_update(update) for update in updates]
        for batch in items.pack(planned, lambda _: 0, 1):
            with self._lock:
                if fence.number != self._number:
                    raise items.fenced(fence.number)
                self._write(batch)

    def record_unfenced(self, record: TickRecord) -> None:
        """See ``Ledger.record_unfenced``."""
        with self._lock:
            self._write((items.plan_record(record),))

    def orders(self) -> Iterator[Order]:
        """See ``Ledger.orders``."""
        found = {order.client_order_id: order for prefix in (items.NOW_ORDER, items.LOG_ORDER) for order in self._values(prefix)}
        return iter(sorted(found.values(), key=lambda order: (order.tick_at, order.client_order_id)))

    def ended(self, at: datetime) -> frozenset[str]:
        """See ``Ledger.ended``."""
        return frozenset(order.client_order_id for order in self._values(items.ended_prefix(at)))

    def fills(self) -> Iterator[Fill]:
        """See ``Ledger.fills``."""
        return iter(self._values(items.LOG_FILL))

    def trades(self) -> Iterator[Trade]:
        """See ``Ledger.trades``."""
        return iter(self._values(items.LOG_TRADE))

    def equity(self) -> Iterator[EquityRow]:
        """See ``Ledger.equity``."""
        return iter(self._values(items.LOG_EQUITY))

    def ticks(self) -> Iterator[TickRecord]:
        """See ``Ledger.ticks``."""
        return items.in_order_of_effect(self._values(items.LOG_TICK))

    def _values(self, prefix: str) -> list[Any]:
        with self._lock:
            return [self._items[key] for key in sorted(key for key in self._items if key.startswith(prefix))]

    def _write(self, batch: Sequence[items.Action]) -> None:
        """Apply all actions, or none: every condition is checked before anything is changed."""
        refused = [items.refusal(action) for action in batch if action.new and not self._may_write(action)]
        if refused:
            raise min(refused, key=lambda error: not isinstance(error, TickRecordedError))
        for action in batch:
            is_now = action.key.startswith(items.NOW)
            if action.value is None:
                if self._items.pop(action.key, None) is not None and is_now:
                    self._now_keys.remove(action.key)
                continue
            if is_now and action.key not in self._items:
                insort(self._now_keys, action.key)
            self._items[action.key] = action.value

    def _may_write(self, action: items.Action) -> bool:
        stored = self._items.get(action.key)
        return stored is None or (action.over_journaled and stored.status == items.JOURNALED)
