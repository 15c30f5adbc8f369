"""The end of every trading tick: each position gets the stop that it is owed at the exchange, before nobody watches the market again.

The stops are written to the ledger before they are sent, in a journal of their own after the tick's orders. Whoever dies in between leaves
intents: who takes the tick up again asks the exchange for them and decides anew, under the same ids; so does the next tick, under its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tickless.errors import ExchangeError, WouldTriggerError
from tickless.execution.protection import (
    NOTHING_TO_SAY,
    Move,
    Protection,
    Venue,
    plan_protection,
    resting_orders,
    stop_out,
    unused,
)
from tickless.risk.stops import with_loss_limit
from tickless.runs.tick_orders import TickOrders
from tickless.types import DeskState, LedgerUpdate, Order, OrderStatus, PairRules, RestingStops, Side, evolve, iso

_ROUNDS = 2
"""What a cancellation tells may change what a stop should be: then it is decided on once more."""
_ATTEMPTS = 3
"""How often a stop is placed that the exchange knows to be over already: ids of attempts at this tick that died."""
NO_TIME = "there was no time left to move it"


@dataclass(frozen=True)
class ProtectPhase:
    """Places, moves and cancels the stops of one tick."""

    orders: TickOrders
    rules: Mapping[str, PairRules]
    missing: Mapping[str, Decimal]
    """By how much the exchange holds less of a pair than the ledger."""

    def carry_out(self, state: DeskState) -> DeskState:
        """The state in which every position that can have a stop at the exchange has it, or says why not."""
        promised = self.orders.settings.execution.stoploss_on_exchange
        if not (promised or state.unprotected or any(order.protects for order in state.orders.values())):
            return state
        state = self._limit_losses(state) if promised else state
        why: dict[str, str] = {}
        pairs: Sequence[str] = sorted({*state.positions, *resting_orders(state)})
        for _ in range(_ROUNDS):
            before = state.positions
            plan = self._plan(state, pairs)
            state = self._move_all(state, plan)
            why |= plan.without
            why |= {move.pair: self._failure(move.place) for move in plan.moves if move.place is not None}
            pairs = [move.pair for move in plan.moves if before.get(move.pair) != state.positions.get(move.pair)]
        return self._tell(state, why)

    def _limit_losses(self, state: DeskState) -> DeskState:
        risk = self.orders.settings.risk
        raised = [new for _, old in sorted(state.positions.items()) if (new := with_loss_limit(old, risk)) is not old]
        for position in raised:
            state = state.with_position(position)
        self.orders.put(positions=raised)
        return state

    def _plan(self, state: DeskState, pairs: Sequence[str]) -> Protection:
        """What is to be done about these pairs; nothing about those of which the exchange cannot tell whether they take stops."""
        stops = {pair: how for pair in pairs if (how := self._stops_of(pair)) is not None}
        rules = self.rules if self.orders.settings.execution.filters else {}
        venue = Venue(stops, rules, self.missing)
        plan = plan_protection(
            state,
            self.orders.tick,
            venue,
            desk=self.orders.settings.desk.name,
            settings=self.orders.settings.execution,
            ended=self.orders.ended,
        )
        moves = tuple(move for move in plan.moves if move.pair in stops)
        return Protection(moves, {pair: reason for pair, reason in plan.without.items() if pair in stops})

    def _stops_of(self, pair: str) -> RestingStops | None:
        try:
            return self.orders.venue.exchange.resting_stops(pair)
        except ExchangeError as error:
            self.orders.ports.log.warning("nobody can tell whether stops can rest", pair=pair, error=str(error))
            return None

    def _move_all(self, state: DeskState, plan: Protection) -> DeskState:
        """Write all intents down, then move stop by stop: each pair is without one for as short a time as the exchange allows."""
        intents = [move.place for move in plan.moves if move.place is not None]
        state = self._intend(state, intents)
        for move in plan.moves:
            state = self._move(state, move)
        return state

    def _intend(self, state: DeskState, orders: Sequence[Order]) -> DeskState:
        if not orders:
            return state
        self.orders.updates.extend([LedgerUpdate(orders=(order,)) for order in orders])
        self.orders.flush()
        return evolve(state, orders={**state.orders, **{order.client_order_id: order for order in orders}})

    def _move(self, state: DeskState, move: Move) -> DeskState:
        order, first = move.place, move.how is not RestingStops.PLACE_FIRST
        held = _held(state, move.pair)
        if order is not None and first and move.cancels and not self.orders.has_time():
            # What rests at an older level is better than nothing, and the next tick moves it.
            return self.orders.drop(state, order, NO_TIME)
        if first or order is None:
            state = self.orders.cancel(state, move.cancels)
        if order is None:
            return state
        if first and any(client_order_id in state.orders for client_order_id in move.cancels):
            return self.orders.drop(state, order, "the stop before it may still rest")
        if _held(state, move.pair) != held:
            return self.orders.drop(state, order, "the stop before it has filled")
        state, order = self._place(state, order)
        rests = state.orders.get(order.client_order_id)
        if rests is None and order.client_order_id in self.orders.failed:
            return self._stop_out(state, order)
        if not first and rests is not None and rests.status is not OrderStatus.UNKNOWN:
            state = self.orders.cancel(state, move.cancels)
        return state

    def _place(self, state: DeskState, order: Order) -> tuple[DeskState, Order]:
        """Send a stop; under another id where the exchange says that this one is over, so that there is never one beside it."""
        state = self.orders.submit(state, [order])
        for _ in range(_ATTEMPTS - 1):
            if order.client_order_id not in self.orders.over:
                break
            order = unused(order, self.orders.ended, self.orders.tick, desk=self.orders.settings.desk.name)
            state = self.orders.submit(self._intend(state, [order]), [order])
        return state, order

    def _stop_out(self, state: DeskState, stop: Order) -> DeskState:
        """Sell at market where the stop was refused because its price has been reached: nothing would protect the position."""
        mark, level = state.marks.get(stop.pair), stop.stop_price
        reached = isinstance(self.orders.failed[stop.client_order_id], WouldTriggerError)
        reached = reached or (mark is not None and level is not None and mark <= float(level))
        if not reached:
            return state
        execution = self.orders.settings.execution
        order = stop_out(stop, stop.qty, self.orders.tick, desk=self.orders.settings.desk.name, settings=execution, ended=self.orders.ended)
        self.orders.ports.log.warning("stop reached before it could rest: sold at market", pair=stop.pair, stop_price=str(level))
        if self.orders.settings.risk.block_after_stop:
            state = evolve(state, blocked={**state.blocked, stop.pair: iso(self.orders.tick.scheduled_at)})
            self.orders.updates.extend([LedgerUpdate(desk=state)])
        return self.orders.submit(self._intend(state, [order]), [order])

    def _failure(self, order: Order) -> str:
        error = self.orders.failed.get(order.client_order_id)
        return str(error) if error is not None else "the stop before it may still rest"

    def _tell(self, state: DeskState, why: Mapping[str, str]) -> DeskState:
        """Put into the state which positions have no stop at the exchange that should have one; tell of each once."""
        # Whatever rests, or is under way, protects or leaves; a pair that is sold needs nothing.
        covered = {order.pair for order in state.orders.values() if order.side is Side.SELL}
        unprotected = {pair: why[pair] for pair in sorted(why) if pair in state.positions and pair not in covered}
        for pair, reason in unprotected.items():
            alarming = reason not in NOTHING_TO_SAY
            if alarming:
                self.orders.ports.metrics.count("StopNotPlaced")
            if pair in state.unprotected:
                continue
            self.orders.ports.log.warning("no stop rests on the exchange; the desk alone checks it", pair=pair, reason=reason)
            if alarming:
                self.orders.alert(f"{pair}: its stop does not rest on the exchange: {reason}; the desk checks it")
        if unprotected == dict(state.unprotected):
            return state
        state = evolve(state, unprotected=unprotected)
        self.orders.updates.extend([LedgerUpdate(desk=state)])
        return state


def _held(state: DeskState, pair: str) -> Decimal | None:
    position = state.positions.get(pair)
    return position.qty if position is not None else None


def resting_trace(state: DeskState) -> dict[str, Any]:
    """What a tick's trace says of the stops at the exchange: quantity and price by pair, and what is without one."""
    resting = {
        pair: {"qty": str(sum(order.open_qty for order in orders)), "stop_price": str(max(order.stop_price or 0 for order in orders))}
        for pair, orders in resting_orders(state).items()
    }
    return {"resting": resting, "unprotected": dict(state.unprotected)}
