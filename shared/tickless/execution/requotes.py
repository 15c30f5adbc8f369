"""What a limit order leaves when its time is over: remembered, and quoted again at the price of then, crossed, or let go. Pure.

The rest of an order is to the desk what the open order was: its strategy sees it as an open buy, no other strategy may enter its pair, and
what is decided anew of the pair takes its place. It is remembered in the very update that books the order's end, and forgotten in the very
update that makes its new order binding, so a crash between the two neither loses nor doubles it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from tickless.execution.accounting import Booking
from tickless.execution.planning import Account, Plan, Thresholds, Wish, plan_orders
from tickless.settings import ExecutionSection, ScheduleSection, Settings
from tickless.types import (
    ZERO,
    DeskState,
    Order,
    OrderReport,
    OrderStatus,
    OrderType,
    Side,
    Tick,
    Unfilled,
    evolve,
)

DECIDED_ANEW = "decided_anew"
"""Why a rest is let go: the tick has decided on its pair, or an order of it is open."""
ONLY_SELLS = "only_sells"
BLOCKED = "stopped_out"
TOO_OLD = "too_old"
NO_STRATEGY = "strategy_gone"
NOTHING_HELD = "nothing_held"
NO_REQUOTE = "no_requote_left"
_RESTING = frozenset({OrderStatus.SUBMITTED, OrderStatus.OPEN, OrderStatus.PARTIALLY_FILLED})
_NO_THRESHOLDS = Thresholds(0.0, 0.0)


@dataclass(frozen=True)
class Continued:
    """What a tick does about rests that are its to deal with."""

    plan: Plan
    state: DeskState
    """Without them."""
    taken: Mapping[str, Unfilled] = field(default_factory=dict)
    """What the state has no longer, by the id of the order that ended."""
    trace: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Of each: its pair, and the order that goes on with it and the number of its attempt, or why it is let go."""


def overdue(orders: Iterable[Order], at: datetime) -> tuple[Order, ...]:
    """Orders that rest although their time is over: most exchanges know no such time, so the desk has to cancel them."""
    return tuple([order for order in orders if order.status in _RESTING and order.expires_at is not None and order.expires_at <= at])


def end_by_time(order: Order, report: OrderReport) -> OrderReport:
    """A report in which an order that the desk has cancelled for its time is expired, as at an exchange that ends it by itself."""
    return evolve(report, status=OrderStatus.EXPIRED) if order.timed_out and report.status is OrderStatus.CANCELED else report


def remember(booking: Booking, at: datetime, settings: ExecutionSection) -> Booking:
    """The booking of a report, with what its order leaves in both state and update, where that is to go on after ``at``."""
    update = booking.update
    if update is None:
        return booking
    left = [rest for order in update.orders if (rest := _left_by(order, at)) is not None and _goes_on(rest.attempt, settings)]
    if not left:
        return booking
    state = evolve(booking.state, unfilled={**booking.state.unfilled, **{rest.client_order_id: rest for rest in left}})
    return Booking(state, evolve(update, desk=state))


def buying(state: DeskState) -> dict[str, str]:
    """Every pair of which a buy is open, or its rest to be quoted again, and whose it is."""
    rests = {rest.pair: rest.strategy for rest in state.unfilled.values() if rest.side is Side.BUY}
    return rests | {order.pair: order.strategy for order in state.orders.values() if order.side is Side.BUY}


def due_now(state: DeskState, tick: Tick, settings: Settings) -> tuple[Unfilled, ...]:
    """The rests that ``tick`` has to deal with: those whose strategy runs at no later tick of this minute, which would decide on them."""
    if not state.unfilled:
        return ()
    due = settings.calendar.due_at(tick.scheduled_at)
    later = due[due.index(tick) + 1 :] if tick in due else ()  # A risk check comes first, so all of these decide for a strategy.
    deciding = {other.strategy or settings.calendar.rebalanced for other in later}
    return tuple([rest for rest in state.unfilled.values() if rest.strategy not in deciding])


def continue_unfilled(
    rests: Sequence[Unfilled],
    plan: Plan,
    state: DeskState,
    account: Account,
    tick: Tick,
    settings: Settings,
    *,
    decided: Set[str],
    only_sells: bool,
) -> Continued:
    """Quote ``rests`` again after all that the tick has planned: a new order each, like a fresh one in every respect.

    Pairs in ``decided`` were decided on anew. ``account`` is what ``plan`` was made of; what its orders need is not spent twice.
    """
    if not rests:
        return Continued(plan, state)
    # A protective stop that rests is there beside whatever else is wanted of its pair.
    ordered = {order.pair for order in (*account.open_orders, *plan.orders) if order.type is not OrderType.STOP}
    wishes: dict[str, Wish] = {}
    told: dict[str, dict[str, Any]] = {}
    # Sells first: what is to be sold and bought at once is sold.
    for rest in sorted(rests, key=lambda rest: (rest.side is Side.BUY, rest.client_order_id)):
        why = _against(rest, state, account, tick, settings, {*decided, *ordered, *(wish.pair for wish in wishes.values())}, only_sells)
        told[rest.client_order_id] = {"dropped": why, "pair": rest.pair}
        if not why:
            wishes[rest.client_order_id] = _wish(rest, account.holdings.get(rest.pair, ZERO), settings.execution)
    more = plan_orders(
        wishes.values(),
        account._replace(open_orders=(*account.open_orders, *plan.orders)),
        tick,
        desk=settings.desk.name,
        strategy="",
        thresholds=_NO_THRESHOLDS,
        settings=settings.execution,
    )
    sent = {order.pair: order.client_order_id for order in more.orders}
    for ended, wish in wishes.items():
        if wish.pair in sent:
            told[ended] = {"attempt": wish.attempt, "order": sent[wish.pair], "pair": wish.pair}
        else:
            told[ended] = {"dropped": more.skipped.get(wish.pair, NOTHING_HELD), "pair": wish.pair}
    taken = {rest.client_order_id: rest for rest in rests}
    left = {ended: rest for ended, rest in state.unfilled.items() if ended not in taken}
    return Continued(_joined(plan, more), evolve(state, unfilled=left), taken, dict(sorted(told.items())))


def _left_by(order: Order, at: datetime) -> Unfilled | None:
    """What an order leaves, if it is a limit order that ended because its time was over."""
    ended = order.status is OrderStatus.EXPIRED and order.type is OrderType.LIMIT
    if not ended or order.expires_at is None or order.expires_at > at or order.filled_qty >= order.qty:
        return None
    return Unfilled(
        order.client_order_id,
        order.pair,
        order.strategy,
        order.side,
        order.qty - order.filled_qty,
        order.reason,
        order.exits,
        order.attempt + 1,
        order.expires_at,
    )


def _goes_on(attempt: int, settings: ExecutionSection) -> bool:
    return attempt <= settings.unfilled_requotes or settings.unfilled_action == "cross"


def _against(  # noqa: PLR0911 - one return a reason
    rest: Unfilled, state: DeskState, account: Account, tick: Tick, settings: Settings, busy: Set[str], only_sells: bool
) -> str:
    """Why a rest is let go, before anybody asks what the exchange would take; or an empty text."""
    if rest.pair in busy:
        return DECIDED_ANEW
    if tick.scheduled_at - rest.since > _patience(settings.execution, settings.schedule):
        return TOO_OLD
    if not _goes_on(rest.attempt, settings.execution):
        return NO_REQUOTE
    if rest.side is Side.SELL:
        return "" if account.holdings.get(rest.pair, ZERO) > 0 else NOTHING_HELD
    if only_sells:
        return ONLY_SELLS
    if rest.pair in state.blocked:
        return BLOCKED
    if rest.strategy not in settings.strategy:
        return NO_STRATEGY
    position = state.positions.get(rest.pair)
    return f"belongs_to_{position.strategy}" if position is not None and position.strategy != rest.strategy else ""


def _patience(execution: ExecutionSection, schedule: ScheduleSection) -> timedelta:
    """How long after the end of its order a rest may go on: as long as an order waits, and for two risk checks at least."""
    return timedelta(seconds=max(execution.unfilled_timeout_s, 120 * schedule.risk_check_every_min))


def _wish(rest: Unfilled, held: Decimal, settings: ExecutionSection) -> Wish:
    wanted = held + rest.qty if rest.side is Side.BUY else max(ZERO, held - rest.qty)
    return Wish(
        rest.pair,
        float(wanted),
        enter_tag=rest.reason,
        exit_reason=rest.reason,
        exits=rest.exits,
        urgent=rest.attempt > settings.unfilled_requotes,
        strategy=rest.strategy,
        rest=rest.qty,
        attempt=rest.attempt,
    )


def _joined(plan: Plan, more: Plan) -> Plan:
    """Both plans in one: sells before buys."""
    orders = (*plan.orders, *more.orders)
    sells = tuple([order for order in orders if order.side is Side.SELL])
    buys = tuple([order for order in orders if order.side is Side.BUY])
    return Plan(
        (*sells, *buys),
        tuple(dict.fromkeys((*plan.cancels, *more.cancels))),
        {**more.skipped, **plan.skipped},
        (*plan.short, *more.short),
    )
