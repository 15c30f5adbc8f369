"""What one tick does to its orders: sends and cancels them, books what the exchange says of them, and writes all of it under its lease."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from tickless.errors import (
    AccountError,
    ExchangeError,
    FencedError,
    MarketClosedError,
    OrderRejectedError,
    RetryableError,
    UnknownOutcomeError,
)
from tickless.execution.accounting import book, in_slices
from tickless.execution.requotes import end_by_time, remember
from tickless.ports import Fence, Ports, Venue
from tickless.risk.stops import protect
from tickless.settings import Settings
from tickless.types import DeskState, Halt, LedgerUpdate, Order, OrderReport, OrderStatus, Position, RestingStops, Side, Tick, evolve, iso

IN_FLIGHT = timedelta(seconds=30)
"""How long a request may be on its way after its sender has failed: several of an exchange's time-outs, and less than a tick waits."""
_SETTLING = timedelta(seconds=60)
"""How long an order may be on its way before an exchange that does not know it is believed."""
AT_ONCE = 40
"""Orders or positions an update: with desk, fence and record a transaction stays far below the items that it can hold."""
_MOVE_S = 15.0
"""What must be left of the invocation when a stop is cancelled to be replaced: two requests, the first of them slow."""


@dataclass
class TickOrders:
    """The orders of one tick under its lease. Each method takes the desk's state and returns the one after; updates wait for ``flush``."""

    tick: Tick
    ports: Ports
    venue: Venue
    settings: Settings
    fence: Fence
    updates: list[LedgerUpdate] = field(default_factory=list)
    sent: int = 0
    sending: bool = False
    """Whether an order is being sent, and nobody knows what became of it."""
    refused: str = ""
    """Why the exchange refuses the account, once it does: the tick then sends nothing more."""
    failed: dict[str, ExchangeError] = field(default_factory=dict)
    """Why the exchange did not take an order, by its id."""
    ended: set[str] = field(default_factory=set)
    """The ids of this tick's orders that are over: none is used again."""
    over: set[str] = field(default_factory=set)
    """Of those, which the exchange said to be over, and unfilled, when they were sent: an attempt before had placed them."""

    @property
    def at(self) -> datetime:
        """The scheduled time."""
        return self.tick.scheduled_at

    def alert(self, message: str) -> None:
        """Tell people, in the desk's name."""
        self.ports.notifier.alert(f"tickless {self.settings.desk.name}", message)

    def put(self, *, positions: Sequence[Position] = (), orders: Sequence[Order] = ()) -> None:
        """Let positions and orders wait for ``flush``, so many an update; each stands for itself."""
        for first in range(0, len(positions), AT_ONCE):
            self.updates.append(LedgerUpdate(positions=tuple(positions[first : first + AT_ONCE])))
        for first in range(0, len(orders), AT_ONCE):
            self.updates.append(LedgerUpdate(orders=tuple(orders[first : first + AT_ONCE])))

    def drop(self, state: DeskState, order: Order, why: str) -> DeskState:
        """Book an intent as never sent."""
        return self.book(state, order, _never_sent(order, why))

    def halt(self, state: DeskState, error: AccountError) -> DeskState:
        """Halt the desk: the exchange refuses the account, and only a person can help. A halt that stands keeps its reason."""
        self.refused = str(error)
        self.ports.metrics.count("AccountRefused")
        self.ports.log.warning("account refused", error=self.refused)
        if state.halt is None or state.halt.reason != self.refused:
            self.alert(f"the exchange refuses the account: {error}; the desk is halted, exits cannot be sent")
        state = state if state.halt is not None else evolve(state, halt=Halt(self.refused, self.at))
        self.updates.append(LedgerUpdate(desk=state))
        return state

    def book(self, state: DeskState, order: Order, report: OrderReport) -> DeskState:
        """Book a report, set the stop of a position that a buy has opened or enlarged, and block the pair whose stop has gone off."""
        booked = order
        for part in in_slices(order, report):
            state, booked = self._book(state, booked, part)
        if order.protects and booked.filled_qty > order.filled_qty:
            self.ports.log.info("stop went off at the exchange", pair=order.pair, client_order_id=order.client_order_id)
        return state

    def _book(self, state: DeskState, order: Order, report: OrderReport) -> tuple[DeskState, Order]:
        booking = remember(book(state, order, end_by_time(order, report)), self.at, self.settings.execution)
        if booking.update is None:
            return state, order
        state, update = booking.state, booking.update
        if order.tick_at == self.at:
            self.ended.update(booked.client_order_id for booked in update.orders if booked.status.is_final)
        if order.protects and update.fills and self.settings.risk.block_after_stop:
            state = evolve(state, blocked={**state.blocked, order.pair: iso(self.at)})
            update = evolve(update, desk=state)
        if order.side is Side.BUY:
            # Of what it bought: a position that only paid the fee keeps the stop that it has.
            protected = tuple(
                [protect(p, order.exits.atr, self.settings.risk) if p.pair == order.pair and p.qty > 0 else p for p in update.positions]
            )
            if protected != update.positions:
                for position in protected:
                    state = state.with_position(position) if position.qty > 0 else state
                update = evolve(update, desk=state, positions=protected)
        self.updates.append(update)
        return state, update.orders[0]

    def cancel(self, state: DeskState, cancels: Sequence[str]) -> DeskState:
        """Cancel orders by id; one whose cancellation fails stays in the ledger, for the next tick to cancel.

        So does one that may be on its way, unless the exchange shows that it has it: who does not know it yet calls it cancelled, too.
        """
        for client_order_id in cancels:
            order = state.orders.get(client_order_id)
            if order is None or self.refused:
                continue
            unproven = order.status is OrderStatus.UNKNOWN and self.may_be_on_its_way(order)
            if unproven and order.protects:
                continue  # Were it there, its position would be bare, and nobody would know.
            try:
                report = self.venue.exchange.cancel(order, self.at)
                if unproven and report.status.is_final and not report.fills:
                    self.ports.log.warning("cancelled, or still on its way", client_order_id=client_order_id, pair=order.pair)
                    continue
                state = self.book(state, order, report)
            except AccountError as error:
                return self.halt(state, error)
            except (RetryableError, UnknownOutcomeError) as error:
                self.ports.log.warning("cancel failed", client_order_id=client_order_id, pair=order.pair, error=str(error))
        return state

    def submit(self, state: DeskState, orders: Sequence[Order]) -> DeskState:
        """Send intents, one after the other; each is booked with what the exchange says. Raises FencedError near the lease's end."""
        for order in orders:
            held_back = self.refused or self._held_back(state, order)
            if held_back:
                self.ports.log.warning("order not sent", client_order_id=order.client_order_id, pair=order.pair, error=held_back)
                state = self.drop(state, order, held_back)
                continue
            self._check_lease()
            sent_at = self.ports.clock.now()
            self.sent, self.sending = self.sent + 1, True
            try:
                report = self.venue.exchange.submit(order, self.at)
            except OrderRejectedError as error:
                self.ports.metrics.count("OrderRejected")
                self.ports.log.warning("order rejected", client_order_id=order.client_order_id, pair=order.pair, error=str(error))
                report = OrderReport(order.client_order_id, OrderStatus.REJECTED, (), str(error))
                self.failed[order.client_order_id] = error
                if isinstance(error, MarketClosedError):
                    state = evolve(state, quarantined={**state.quarantined, order.pair: iso(self.at)})
            except RetryableError as error:
                self.ports.log.warning("order not sent", client_order_id=order.client_order_id, pair=order.pair, error=str(error))
                report = OrderReport(order.client_order_id, OrderStatus.CANCELED, (), str(error))
                self.failed[order.client_order_id] = error
            except AccountError as error:
                state = self.halt(state, error)
                report = _never_sent(order, self.refused)
            except UnknownOutcomeError as error:
                # The next tick asks the exchange for its id; it is never sent again.
                self.ports.log.warning("order outcome unknown", client_order_id=order.client_order_id, pair=order.pair, error=str(error))
                unknown = OrderReport(order.client_order_id, OrderStatus.UNKNOWN, (), str(error))
                state = self.book(state, evolve(order, sent_at=sent_at), unknown)
                # At once: who resumes this tick must not take it for an intent that was never sent.
                self.flush()
                self.sending = False
                continue
            else:
                if report.status in (OrderStatus.CANCELED, OrderStatus.EXPIRED) and not report.fills:
                    self.over.add(order.client_order_id)
            self.sending = False
            state = self.book(state, order, report)
        return state

    def _held_back(self, state: DeskState, order: Order) -> str:
        """Why an order must not be sent, or an empty text.

        A stop that was to be cancelled may yet sell the same coins, or has done so. A person may have halted the desk since a buy was
        written down.
        """
        if order.side is not Side.SELL:
            return f"the desk is halted: {state.halt.reason}" if state.halt is not None else ""
        position = state.positions.get(order.pair)
        held = position.qty if position is not None else Decimal(0)
        if order.qty > held:
            return f"the ledger holds {held:f} by now"
        if not any(other.protects and other.pair == order.pair for other in state.orders.values() if other is not order):
            return ""
        return "" if self._locks_nothing(order.pair) else "a stop of the pair may still rest"

    def _locks_nothing(self, pair: str) -> bool:
        try:
            return self.venue.exchange.resting_stops(pair) is RestingStops.PLACE_FIRST
        except ExchangeError:
            return False

    def never_left(self, order: Order) -> bool:
        """Whether it is an intent of this very tick."""
        return order.tick_at == self.at and order.status is OrderStatus.INTENT

    def may_be_on_its_way(self, order: Order) -> bool:
        """Whether an exchange that does not know the order proves nothing yet."""
        return self.at - order.tick_at < _SETTLING or (order.sent_at is not None and self.ports.clock.now() - order.sent_at < _SETTLING)

    @property
    def _quiet(self) -> timedelta:
        """How long before the end of the lease the last order may be sent."""
        return min(IN_FLIGHT, timedelta(seconds=self.settings.schedule.lease_ttl_s / 4))

    def has_time(self) -> bool:
        """Whether a stop may be cancelled: what takes its place must still be sent by this tick."""
        expires_at = self.fence.expires_at
        in_lease = expires_at is None or self.ports.clock.now() < expires_at - 2 * self._quiet
        return in_lease and self.ports.time_left_s() > _MOVE_S

    def check_time(self, state: DeskState, cancels: Sequence[str]) -> None:
        """Raise RetryableError where stops would be cancelled for sales that may not be sent any more: whoever retries does both."""
        stops = [i for i in cancels if i in state.orders and state.orders[i].protects]
        if stops and not self.has_time():
            raise RetryableError(f"tick {self.tick.id}: too little time is left to cancel {len(stops)} stops and sell; nothing was sent")

    def _check_lease(self) -> None:
        """Raise FencedError where another tick may have the lease before an order has arrived.

        The ledger would refuse our writes, the exchange no order; and the other would not find there what is still on its way.
        """
        expires_at = self.fence.expires_at
        if expires_at is not None and self.ports.clock.now() >= expires_at - self._quiet:
            raise FencedError(f"tick {self.tick.id}: its lease ends at {iso(expires_at)}; it sends no further order")

    def flush(self) -> None:
        """Write the updates that wait, in order, each whole or not at all. Raises FencedError."""
        updates, self.updates = self.updates, []
        self.ports.ledger.journal(self.fence, updates)


def _never_sent(order: Order, why: str) -> OrderReport:
    return OrderReport(order.client_order_id, OrderStatus.CANCELED, (), f"never sent: {why}")
