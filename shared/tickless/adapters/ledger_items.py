"""The ledger's items: their sort keys, and which of them an update writes. Both ledgers, DynamoDB's and memory's, are built on this.

All items share the partition key ``DESK``. What restores the desk begins with ``NOW#`` (one query); history begins with ``LOG#<type>#`` and
then a time of fixed width, so that the order of keys is the order of time and a type's history is one query.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from datetime import datetime
from decimal import Decimal
from functools import cache
from itertools import groupby
from math import isfinite
from typing import Any, cast

from tickless.adapters.codec import MAX_ITEM_BYTES, check_decimal, json_text, time_text
from tickless.errors import FencedError, LedgerError, TickRecordedError
from tickless.settings.schedule import effect_rank
from tickless.types import (
    Accept,
    DeskState,
    EquityRow,
    Fill,
    Flatten,
    FundingBook,
    Halt,
    LedgerUpdate,
    Order,
    Position,
    Reducing,
    Tick,
    TickRecord,
    Trade,
    Unfilled,
)

PARTITION = "DESK"
LEASE = "LEASE"
NOW = "NOW#"
NOW_DESK = "NOW#DESK"
NOW_ORDER = "NOW#ORDER#"
NOW_POSITION = "NOW#POSITION#"
NOW_SETTINGS = "NOW#SETTINGS#"
LOG_ORDER = "LOG#ORDER#"
LOG_FILL = "LOG#FILL#"
LOG_TRADE = "LOG#TRADE#"
LOG_EQUITY = "LOG#EQUITY#"
LOG_TICK = "LOG#TICK#"

MAX_ACTIONS = 100
"""Actions of one TransactWriteItems call (AWS quota)."""
MAX_UPDATE_ACTIONS = MAX_ACTIONS - 1
"""What an update may write: the check of the fence is an action, too."""

JOURNALED = "journaled"
DONE = "done"


@dataclass(frozen=True)
class DeskScalars:
    """The part of DeskState that is one item of its own: ``NOW#DESK``."""

    cash: Decimal
    peak_equity: Decimal
    halt: Halt | None
    blocked: Mapping[str, str]
    regime: str
    regime_at: datetime | None
    marks: Mapping[str, float] = field(default_factory=dict)
    last_tick_at: datetime | None = None
    reducing: Reducing | None = None
    external: Mapping[str, Decimal] = field(default_factory=dict)
    flatten: Flatten | None = None
    accept: Accept | None = None
    quarantined: Mapping[str, str] = field(default_factory=dict)
    unfilled: Mapping[str, Unfilled] = field(default_factory=dict)
    funding: FundingBook | None = None
    unprotected: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, desk: DeskState) -> DeskScalars:
        """The scalars of a state."""
        return cls(**{entry.name: getattr(desk, entry.name) for entry in fields(cls)})


@dataclass(frozen=True)
class SettingsText:
    """The last good text of one settings section."""

    section: str
    text: str


@dataclass(frozen=True)
class Action:
    """One item to put, or (value None) to delete."""

    key: str
    value: Any = None
    new: bool = False
    """Refused where the item exists already."""
    over_journaled: bool = False
    """With ``new``: an existing record that is only journaled may be replaced."""


def order_key(prefix: str, order: Order) -> str:
    """``<prefix><tick time>#<client_order_id>``."""
    return f"{prefix}{time_text(order.tick_at)}#{order.client_order_id}"


def ended_prefix(at: datetime) -> str:
    """What the keys of orders that are over and were decided on at ``at`` begin with."""
    return f"{LOG_ORDER}{time_text(at)}#"


def tick_key(tick: Tick) -> str:
    """``LOG#TICK#<time>#<name>``."""
    return f"{LOG_TICK}{time_text(tick.scheduled_at)}#{tick.name}"


def value_type(key: str) -> type:
    """The domain type an item holds, by its sort key; raises LedgerError for a key that is not ours."""
    for prefix, kind in _TYPES.items():
        if key.startswith(prefix):
            return kind
    raise LedgerError(f"item {key!r}: not an item of the ledger")


def plan_record(record: TickRecord) -> Action:
    """The action of a tick record: ``journaled`` must be new, ``done`` must be new or journaled. Raises LedgerError."""
    if record.status not in (JOURNALED, DONE):
        raise LedgerError(f"tick {record.tick.id}: status {record.status!r} is neither {JOURNALED!r} nor {DONE!r}")
    text = json_text(record.summary, f"tick {record.tick.id}: summary")
    size = len(text.encode()) + sum(len(intent) + 1 for intent in record.intents)
    if size > MAX_ITEM_BYTES:
        raise LedgerError(f"tick {record.tick.id}: a record of {size} bytes exceeds the {MAX_ITEM_BYTES} bytes of an item")
    plain = replace(record, summary=json.loads(text))
    return Action(tick_key(record.tick), plain, new=True, over_journaled=record.status == DONE)


def plan_update(update: LedgerUpdate) -> tuple[Action, ...]:
    """The actions of one update, at most one an item (the last wins).

    Raises LedgerError for an update that cannot be written whole: more than 99 items, a fill or trade twice, a number out of range.
    """
    actions: dict[str, Action] = {}
    for action in _actions(update):
        if action.new and action.key in actions:
            raise LedgerError(f"item {action.key}: twice in one update")
        if action.value is not None:
            _check_numbers(action.value)
        actions[action.key] = action
    if len(actions) > MAX_UPDATE_ACTIONS:
        raise LedgerError(f"an update of {len(actions)} items exceeds the {MAX_UPDATE_ACTIONS} that can be written in one transaction")
    return tuple(actions.values())


def pack(updates: Iterable[Sequence[Action]], size: Callable[[Action], int], max_bytes: int) -> Iterator[tuple[Action, ...]]:
    """Join neighbouring updates into transactions of at most 99 items and ``max_bytes``; an update is never torn apart.

    Where two updates write one item, the last wins; two that may not follow one another stay apart, so that the second is refused when
    it is written.
    """
    batch: dict[str, Action] = {}
    batch_bytes = 0
    for actions in updates:
        joined = _merge(batch, actions)
        added = sum(size(action) for action in actions)
        if batch and (joined is None or len(joined) > MAX_UPDATE_ACTIONS or batch_bytes + added > max_bytes):
            yield tuple(batch.values())
            joined, batch_bytes = {action.key: action for action in actions}, 0
        assert joined is not None
        batch, batch_bytes = joined, batch_bytes + added
    if batch:
        yield tuple(batch.values())


def refusal(action: Action) -> LedgerError:
    """The error for an action whose condition failed."""
    if isinstance(action.value, TickRecord):
        return TickRecordedError(f"tick {action.value.tick.id}: recorded before")
    if isinstance(action.value, Fill):
        return LedgerError(f"fill {action.value.fill_id} of {action.value.client_order_id}: applied before")
    return LedgerError(f"item {action.key}: written before")


def fenced(number: int) -> FencedError:
    """The error for a write whose fencing number is not the latest."""
    return FencedError(f"fencing number {number}: the lease was taken over; nothing was written")


def restore(items: Iterable[tuple[str, Any]]) -> DeskState | None:
    """The desk's state from all items under ``NOW#``, in the order of their keys; None where there is no ``NOW#DESK``."""
    scalars: DeskScalars | None = None
    positions: dict[str, Position] = {}
    orders: dict[str, Order] = {}
    settings: dict[str, str] = {}
    for _, value in items:
        if isinstance(value, DeskScalars):
            scalars = value
        elif isinstance(value, Position):
            positions[value.pair] = value
        elif isinstance(value, Order):
            orders[value.client_order_id] = value
        elif isinstance(value, SettingsText):
            settings[value.section] = value.text
    if scalars is None:
        return None
    return DeskState(
        cash=scalars.cash,
        peak_equity=scalars.peak_equity,
        positions=positions,
        orders=orders,
        halt=scalars.halt,
        blocked=scalars.blocked,
        regime=scalars.regime,
        regime_at=scalars.regime_at,
        marks=scalars.marks,
        last_tick_at=scalars.last_tick_at,
        reducing=scalars.reducing,
        external=scalars.external,
        flatten=scalars.flatten,
        accept=scalars.accept,
        quarantined=scalars.quarantined,
        unfilled=scalars.unfilled,
        funding=scalars.funding,
        unprotected=scalars.unprotected,
        settings=settings,
    )


def in_order_of_effect(records: Iterable[TickRecord]) -> Iterator[TickRecord]:
    """Tick records that are sorted by time, sorted within the minute by the order in which they take effect; others come last."""
    for _, same_time in groupby(records, key=lambda record: record.tick.scheduled_at):
        yield from sorted(same_time, key=lambda record: (effect_rank(record.tick.function), record.tick.function, record.tick.strategy))


def _actions(update: LedgerUpdate) -> Iterator[Action]:
    if update.desk is not None:
        yield Action(NOW_DESK, DeskScalars.of(update.desk))
    for order in update.orders:
        if order.status.is_final:
            yield Action(order_key(NOW_ORDER, order))
            yield Action(order_key(LOG_ORDER, order), order)
        else:
            yield Action(order_key(NOW_ORDER, order), order)
    for position in update.positions:
        yield Action(NOW_POSITION + position.pair, position if position.qty > 0 else None)
    for fill in update.fills:
        # Some exchanges number their trades by pair: the pair makes the key unique.
        yield Action(f"{LOG_FILL}{time_text(fill.filled_at)}#{fill.fill_id}#{fill.pair}", fill, new=True)
    for trade in update.trades:
        yield Action(f"{LOG_TRADE}{time_text(trade.closed_at)}#{trade.pair}#{trade.trade_id}", trade, new=True)
    if update.equity is not None:
        yield Action(LOG_EQUITY + time_text(update.equity.at), update.equity)
    if update.record is not None:
        yield plan_record(update.record)
    for section in sorted(update.settings):
        yield Action(NOW_SETTINGS + section, SettingsText(section, update.settings[section]))


def _merge(batch: Mapping[str, Action], actions: Sequence[Action]) -> dict[str, Action] | None:
    """The batch with the actions added; None where one may not follow an action of the batch on the same item."""
    joined = dict(batch)
    for action in actions:
        before = joined.get(action.key)
        if before is not None and before.new:
            completes = action.over_journaled and isinstance(before.value, TickRecord) and before.value.status == JOURNALED
            if not completes:
                return None
            action = replace(action, over_journaled=before.over_journaled)  # noqa: PLW2901
        joined[action.key] = action
    return joined


def _check_numbers(value: Any) -> None:
    """Raise LedgerError for a number the table cannot hold, also inside of a stop or an exit plan."""
    for name in _number_fields(cast(Any, type(value))):
        content, where = getattr(value, name), f"{type(value).__name__}.{name}"
        if is_dataclass(content):
            _check_numbers(content)
            continue
        if isinstance(content, tuple):
            for part in content:
                _check_numbers(part)
            continue
        for number in content.values() if isinstance(content, Mapping) else (content,):
            if isinstance(number, Decimal):
                check_decimal(number, where)
            elif isinstance(number, float) and not isfinite(number):
                raise LedgerError(f"{where}: value {number} is not a finite number")


@cache
def _number_fields(kind: type) -> tuple[str, ...]:
    return tuple(
        entry.name
        for entry in fields(kind)
        if any(word in str(entry.type) for word in ("Decimal", "float", "StopState", "ExitPlan", "FundingBook", "Charge"))
    )


_TYPES: Mapping[str, type] = {
    NOW_DESK: DeskScalars,
    NOW_ORDER: Order,
    NOW_POSITION: Position,
    NOW_SETTINGS: SettingsText,
    LOG_ORDER: Order,
    LOG_FILL: Fill,
    LOG_TRADE: Trade,
    LOG_EQUITY: EquityRow,
    LOG_TICK: TickRecord,
}
