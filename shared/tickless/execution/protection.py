"""Which protective stops should rest at the exchange, given what the desk holds. Pure.

Each position is owed one stop, of all that is held and that no sale is under way for, at the level that the stop engine keeps for it. The
level never falls, so neither does what rests; it is moved once it has risen by ``execution.stoploss_min_move_frac``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta
from decimal import Decimal
from itertools import count
from typing import NamedTuple

from tickless.execution.planning import client_order_id
from tickless.execution.rounding import exact, price_on_step, qty_down
from tickless.settings import ExecutionSection
from tickless.types import ZERO, DeskState, Order, OrderStatus, OrderType, PairRules, Position, RestingStops, Side, Tick, evolve, no_rules

NO_STOPS_THERE = "the exchange takes no stops for it"
TOO_SMALL = "it is below the exchange's least order"
MARKET_CLOSED = "its market is closed"
NOTHING_TO_SAY = frozenset({NO_STOPS_THERE, TOO_SMALL, MARKET_CLOSED})
"""Why no stop was even tried: people are told by ``tickless positions``, and nobody is woken."""
_UNSETTLED = frozenset({OrderStatus.INTENT, OrderStatus.UNKNOWN})


class Move(NamedTuple):
    """What to do about one pair: the stop to place, if any, and those to cancel."""

    pair: str
    place: Order | None
    cancels: tuple[str, ...]
    how: RestingStops


class Protection(NamedTuple):
    """The moves, by pair; and the positions that are owed a stop and cannot have one, with why."""

    moves: tuple[Move, ...]
    without: Mapping[str, str]


class Venue(NamedTuple):
    """What the exchange says of stops and orders, by pair."""

    stops: Mapping[str, RestingStops]
    rules: Mapping[str, PairRules]
    missing: Mapping[str, Decimal]
    """By how much the exchange holds less than the ledger."""


class _Wanted(NamedTuple):
    qty: Decimal
    level: Decimal
    highest: Decimal
    """A resting stop above this belongs to a position that is over."""
    reason: str
    """The exit's, if the stop is hit."""


def resting_orders(state: DeskState) -> dict[str, list[Order]]:
    """The protective stops that the ledger knows to be open, or does not know not to be, by pair."""
    found: dict[str, list[Order]] = {}
    for _, order in sorted(state.orders.items()):
        if order.protects:
            found.setdefault(order.pair, []).append(order)
    return found


def plan_protection(
    state: DeskState, tick: Tick, venue: Venue, *, desk: str, settings: ExecutionSection, ended: Collection[str] = ()
) -> Protection:
    """The moves after which every position has the stop that it is owed, and nothing else has one.

    A pair is left as it is while one of its stops is on its way, has begun to fill, or lies in a closed market. Without
    ``execution.stoploss_on_exchange`` no stop is owed, and those that rest are cancelled. No stop gets an id that is in ``ended``: an
    attempt before has placed it, and it is over.
    """
    moves: list[Move] = []
    without: dict[str, str] = {}
    resting = resting_orders(state)
    for pair in sorted({*state.positions, *resting}):
        own = resting.get(pair, [])
        if any(order.status in _UNSETTLED or order.filled_qty > 0 for order in own):
            continue
        wanted = _wanted(state, pair, venue) if settings.stoploss_on_exchange else None
        if pair in state.quarantined:
            wanted = MARKET_CLOSED if wanted is not None and not own else None
        elif not isinstance(wanted, _Wanted):
            if own:
                moves.append(_move(pair, None, own, venue))
        elif (kept := _fitting(own, wanted, settings)) is None:
            order = unused(_stop_order(state.positions[pair], wanted, tick, desk), ended, tick, desk=desk)
            moves.append(_move(pair, order, own, venue))
        elif len(own) > 1:
            moves.append(_move(pair, None, [order for order in own if order is not kept], venue))
        if isinstance(wanted, str):
            without[pair] = wanted
    return Protection(tuple(moves), without)


def unused(stop: Order, ended: Collection[str], tick: Tick, *, desk: str) -> Order:
    """The same stop under the first id, counting attempts, that is not over: whoever cancelled the one before, the position is bare."""
    for attempt in count(stop.attempt):
        found = client_order_id(desk, stop.strategy, tick, stop.pair, _leg(stop.qty, stop.stop_price), attempt)
        if found not in ended:
            return stop if found == stop.client_order_id else evolve(stop, client_order_id=found, attempt=attempt)
    raise AssertionError("counting ends only at an id")


def stop_out(stop: Order, qty: Decimal, tick: Tick, *, desk: str, settings: ExecutionSection, ended: Collection[str] = ()) -> Order:
    """The sale at market in the place of a stop that the exchange refuses because the market has reached its price."""
    # The quantity is part of the id: what one such sale leaves over is sold by another in the same tick.
    ids = (client_order_id(desk, stop.strategy, tick, stop.pair, f"stop_out|{qty}", attempt) for attempt in count())
    return evolve(
        stop,
        client_order_id=next(found for found in ids if found not in ended),
        type=OrderType.MARKET,
        qty=qty,
        stop_price=None,
        expires_at=tick.scheduled_at + timedelta(seconds=settings.unfilled_timeout_s),
        status=OrderStatus.INTENT,
    )


def _wanted(state: DeskState, pair: str, venue: Venue) -> _Wanted | str | None:
    """The stop that a pair is owed; why it cannot have one; or None where it is owed none."""
    position = state.positions.get(pair)
    if position is None or position.stop.stop_price is None:
        return None
    how, rules = venue.stops.get(pair, RestingStops.NONE), venue.rules.get(pair) or no_rules(pair)
    if how is RestingStops.NONE:
        return NO_STOPS_THERE
    held = position.qty - venue.missing.get(pair, ZERO)
    if how is RestingStops.CANCEL_FIRST:
        # What a sale is under way for is locked by it, or gone in a moment.
        held -= sum((o.open_qty for o in state.orders.values() if o.pair == pair and o.side is Side.SELL and not o.protects), ZERO)
    if held <= 0:
        return None
    exact_level = exact(position.stop.stop_price)
    level = price_on_step(exact_level, rules.price_step, up=False)
    qty = held if rules.qty_step is None else qty_down(held, rules.qty_step)
    least = rules.min_notional or ZERO
    if qty <= 0 or level <= 0 or qty < (rules.min_qty or ZERO) or qty * level < least:
        return TOO_SMALL
    return _Wanted(qty, level, max(level, exact_level), position.stop.kind)


def _fitting(own: list[Order], wanted: _Wanted, settings: ExecutionSection) -> Order | None:
    """The highest of the resting stops that need not be replaced."""
    slack = 1 + exact(settings.stoploss_min_move_frac)
    fitting = [o for o in own if o.qty == wanted.qty and _price(o) <= wanted.highest and wanted.level <= _price(o) * slack]
    return max(fitting, key=_price, default=None)


def _price(order: Order) -> Decimal:
    return order.stop_price or ZERO


def _move(pair: str, place: Order | None, cancels: list[Order], venue: Venue) -> Move:
    how = venue.stops.get(pair, RestingStops.NONE)
    return Move(pair, place, tuple(order.client_order_id for order in cancels), how)


def _stop_order(position: Position, wanted: _Wanted, tick: Tick, desk: str) -> Order:
    return Order(
        client_order_id(desk, position.strategy, tick, position.pair, _leg(wanted.qty, wanted.level)),
        tick.scheduled_at,
        position.strategy,
        position.pair,
        Side.SELL,
        OrderType.STOP,
        wanted.qty,
        wanted.reason,
        stop_price=wanted.level,
        reduce_only=True,
    )


def _leg(qty: Decimal, level: Decimal | None) -> str:
    # Quantity and level are part of the id: a tick that is cut short and resumed may find that more has filled, and place another stop.
    return f"stop|{qty}|{level}"
