"""One trading tick, whatever it decides: lease → gather → reconcile → decide → journal → act → protect → record.

Every invocation is a restart. The desk is restored from the ledger; what an earlier invocation left unfinished is settled first by asking
the exchange; orders are written down before they are sent, and sent only once the tick's record says that all of them are written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any, NamedTuple

from tickless.errors import (
    AccountError,
    ExchangeError,
    FencedError,
    MarketClosedError,
    OrderRejectedError,
    RetryableError,
    StaleTickError,
    UnknownOutcomeError,
)
from tickless.execution.acceptance import accept_exchange
from tickless.execution.accounting import book
from tickless.execution.funding import book_funding
from tickless.execution.quarantine import quarantine
from tickless.execution.reconcile import UNSETTLED, Reconciliation, reconcile
from tickless.execution.requotes import end_by_time, overdue, remember
from tickless.execution.rounding import exact
from tickless.execution.settlement import settlement_due
from tickless.pipeline import Decision, portfolio_value
from tickless.ports import Fence, Ports, Venue
from tickless.risk.drawdown import drawdown_frac
from tickless.risk.stops import protect
from tickless.runs.admission import refuse_off_grid, refuse_stale, schedule_of, take_lease
from tickless.runs.desk_state import move_cash, new_desk
from tickless.runs.desk_strategies import history_start
from tickless.runs.gather import needed_pairs, refresh_bars
from tickless.runs.parameters import LoadedSettings, moves_account, resolve_settings
from tickless.runs.protecting import Hands, ProtectPhase, resting_trace
from tickless.runs.report import RunReport
from tickless.settings import Settings
from tickless.types import (
    AccountSnapshot,
    DeskState,
    Halt,
    LedgerUpdate,
    Order,
    OrderReport,
    OrderStatus,
    Reducing,
    RestingStops,
    Side,
    Tick,
    TickRecord,
    evolve,
    iso,
)

JOURNALED, DONE = "journaled", "done"
_CHUNK = 40
"""Intents an update; with the fence and the record a transaction stays far below 100 items."""
_SETTLING = timedelta(seconds=60)
"""How long an order may be on its way before an exchange that does not know it is believed."""
_PRICES_OF = timedelta(hours=4)
"""How old the close may be that tells what somebody else's coins are worth."""
_MOVE_S = 15.0
"""What must be left of the invocation when a stop is cancelled to be replaced: two requests, the first of them slow."""
_IN_FLIGHT = timedelta(seconds=30)
"""How long a request may be on its way after its sender has failed: several of an exchange's time-outs, and less than a tick waits."""


class TickContext(NamedTuple):
    """What a step decides on."""

    tick: Tick
    ports: Ports
    venue: Venue
    settings: Settings
    state: DeskState
    available: Mapping[str, Decimal] = MappingProxyType({})
    """What can really be sold of pairs of which the exchange holds less than the ledger."""

    @property
    def reduce_only(self) -> str:
        """Why nothing may be bought: the ledger claims what the exchange does not have; empty when they agree."""
        return self.state.reducing.reason if self.state.reducing is not None else ""


Step = Callable[[TickContext], Decision]


def run_tick(tick: Tick, ports: Ports, steps: Mapping[str, Step]) -> RunReport:
    """Run a trading tick, after every earlier-ordered tick of its minute that is not recorded yet.

    ``steps`` holds the step of this function and of those before it in the order of effect. Raises StaleTickError for a tick that is too
    old, in the future, or older than what the desk has done; LeaseHeldError when another tick trades and does not finish in time.
    """
    record = ports.ledger.tick(tick)
    report = RunReport(tick, "already_done")
    if record is None or record.status != DONE:
        texts = ports.parameters.read()
        schedule = schedule_of(texts, ports.ledger)
        refuse_stale(tick, ports, schedule)
        fence = take_lease(tick, ports, schedule)
        runs: list[TickRun] = []
        try:
            report = _run_fenced(tick, ports, steps, texts, fence, runs)
        finally:
            # What failed while it sent an order may have it on its way, unknown to the exchange as yet. Who resumed at once could not
            # find it there, and would send it a second time.
            on_its_way = any(run.sending for run in runs)
            ports.ledger.release(fence, ports.clock.now() + _IN_FLIGHT if on_its_way else None)
    # Once an invocation, for its own tick: the alarm for missed ticks listens to this, and a tick that somebody else has run did fire.
    ports.metrics.count("TickDone")
    return report


def _run_fenced(
    tick: Tick, ports: Ports, steps: Mapping[str, Step], texts: Mapping[str, str], fence: Fence, runs: list[TickRun]
) -> RunReport:
    """Run every tick that is due; each is put into ``runs`` before it does anything."""
    stored = ports.ledger.load()
    loaded = resolve_settings(texts, stored.settings, may_move=stored.may_move) if stored is not None else resolve_settings(texts, {})
    for sentence in loaded.refused:
        ports.metrics.count("SettingsRefused")
        ports.log.warning("parameter refused", error=sentence)
    settings = loaded.settings
    refuse_off_grid(tick, settings)
    venue = ports.connect(settings)
    state = stored if stored is not None else new_desk(venue, settings, tick.scheduled_at)
    if stored is not None and moves_account(settings, stored.settings):
        state = evolve(state, external={})  # What lay beyond the ledger in the old account says nothing of the new one.
    ran: list[str] = []
    status = DONE
    facts: dict[str, Any] = {}
    for due in (*settings.calendar.earlier_ticks(tick), tick):
        record = ports.ledger.tick(due)
        if record is not None and record.status == DONE:
            continue
        if due is not tick and state.last_tick_at is not None and due.scheduled_at < state.last_tick_at:
            continue
        run = TickRun(due, ports, venue, loaded, fence, steps[due.function])
        runs.append(run)
        state, facts = run.resume(state, record) if record is not None else run.start(state)
        status = "resumed" if record is not None else DONE
        ran.append(due.id)
        loaded = evolve(loaded, fresh={})
    if not ran:
        return RunReport(tick, "already_done")
    return RunReport(tick, status, tuple(ran), facts)


@dataclass
class TickRun:
    """One tick under the lease, from gathering to its record."""

    tick: Tick
    ports: Ports
    venue: Venue
    loaded: LoadedSettings
    fence: Fence
    step: Step
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
    """Of those, which the exchange said to be over, and unfilled, when they were sent."""
    missing: Mapping[str, Decimal] = field(default_factory=dict)
    """By how much the exchange holds less of a pair than the ledger."""

    @property
    def settings(self) -> Settings:
        """The settings of the tick."""
        return self.loaded.settings

    @property
    def at(self) -> datetime:
        """The scheduled time."""
        return self.tick.scheduled_at

    def start(self, state: DeskState) -> tuple[DeskState, dict[str, Any]]:
        """The whole tick, from gathering to its record."""
        if state.last_tick_at is not None and self.at < state.last_tick_at:
            self.ports.metrics.count("StaleTick")
            raise StaleTickError(f"tick {self.tick.id}: the desk has already run a tick of {iso(state.last_tick_at)}")
        self._refresh(state)
        try:
            state, available = self._reconcile(state)
        except AccountError as error:
            return self._stand_by(self._halt(state, error))
        state = self._quarantine(state)
        return self.carry_out(self.step(TickContext(self.tick, self.ports, self.venue, self.settings, state, available)))

    def carry_out(self, decision: Decision) -> tuple[DeskState, dict[str, Any]]:
        """Journal, act and record what was decided."""
        state = evolve(decision.state, last_tick_at=self.at)
        # What an order has left stays in the ledger until the orders that go on with it are binding: who decides anew must find it.
        kept = evolve(state, unfilled={**decision.continued, **state.unfilled}) if decision.plan.orders or decision.plan.cancels else state
        self.updates.append(LedgerUpdate(desk=kept, positions=decision.positions, equity=decision.equity, settings=self.loaded.fresh))
        trace = {**decision.trace, "settings_sha256": self.settings.sha256()}
        # Before anything is written: a crash may tell people twice, never not at all.
        for message in decision.alerts:
            self.ports.notifier.alert(f"tickless {self.settings.desk.name}", message)
        orders = decision.plan.orders
        if orders or decision.plan.cancels:
            state = self._journal(state, orders, decision.plan.cancels, trace)
            self._check_time(state, decision.plan.cancels)
            state = self._cancel(state, decision.plan.cancels)
            state = self._submit(state, orders)
        state = self._protect(state)
        return state, self._record(state, [order.client_order_id for order in orders], trace)

    def resume(self, state: DeskState, record: TickRecord) -> tuple[DeskState, dict[str, Any]]:
        """A tick whose intents are complete but which was not finished: send what the exchange does not know, and record."""
        pending = [state.orders[i] for i in record.intents if i in state.orders and state.orders[i].status is OrderStatus.INTENT]
        trace = dict(self.ports.trace.read(self.tick) or {})
        self._refresh(state)
        try:
            snapshot = self.venue.exchange.snapshot(self.at, tuple(state.orders.values()))
        except AccountError as error:
            # Some intents may have been sent: they stay as they are until a tick can ask for them.
            state = self._halt(state, error)
            return state, self._record(state, record.intents, trace)
        state = self._book_reports(state, snapshot)
        self._note_missing(state, reconcile(state, snapshot, self.settings.desk.stake_currency))
        # Stops that the attempt before had only written down: what should rest is decided on anew.
        forgotten = {i for i, o in state.orders.items() if self._never_left(o) and i not in record.intents and i not in snapshot.reports}
        state = evolve(state, orders={i: order for i, order in state.orders.items() if i not in forgotten}) if forgotten else state
        cancels = [i for i in record.summary.get("cancels", ()) if i in state.orders]
        self._check_time(state, cancels)
        state = self._cancel(state, cancels)
        state = self._submit(state, [order for order in pending if order.client_order_id not in snapshot.reports])
        state = self._protect(state)
        return state, self._record(state, record.intents, trace)

    def _protect(self, state: DeskState) -> DeskState:
        """Let the stops of what is held rest on the exchange, as ``execution.stoploss_on_exchange`` promises."""
        if self.refused:
            return state
        if self.settings.execution.stoploss_on_exchange and state.positions:
            # An attempt at this tick that died may have had a stop refused, of which the exchange knows nothing.
            self.ended |= self.ports.ledger.ended(self.at)
        hands = Hands(
            cancel=self._cancel,
            submit=self._submit,
            drop=lambda state, order, why: self._book(state, order, _never_sent(order, why)),
            write=self._add,
            flush=self._flush,
            failed=self.failed,
            ended=self.ended,
            over=self.over,
            has_time=self._has_time,
        )
        rules = self.venue.market.rules()
        return ProtectPhase(self.tick, self.ports, self.venue.exchange, self.settings, rules, self.missing, hands).carry_out(state)

    def _add(self, updates: Sequence[LedgerUpdate]) -> None:
        self.updates.extend(updates)

    def _note_missing(self, state: DeskState, found: Reconciliation) -> None:
        self.missing = {pair: state.positions[pair].qty - left for pair, left in found.available.items()}

    def _never_left(self, order: Order) -> bool:
        """Whether it is an intent of this very tick."""
        return order.tick_at == self.at and order.status is OrderStatus.INTENT

    def _halt(self, state: DeskState, error: AccountError) -> DeskState:
        """Halt the desk: the exchange refuses the account, and only a person can help. A halt that stands keeps its reason."""
        self.refused = str(error)
        self.ports.metrics.count("AccountRefused")
        self.ports.log.warning("account refused", error=self.refused)
        if state.halt is None or state.halt.reason != self.refused:
            self.ports.notifier.alert(
                f"tickless {self.settings.desk.name}",
                f"the exchange refuses the account: {error}; the desk is halted, exits cannot be sent",
            )
        state = state if state.halt is not None else evolve(state, halt=Halt(self.refused, self.at))
        self.updates.append(LedgerUpdate(desk=state))
        return state

    def _stand_by(self, state: DeskState) -> tuple[DeskState, dict[str, Any]]:
        """Record a tick that knows nothing of its account, and so decides nothing; equity is that of the last closes seen."""
        state = evolve(state, last_tick_at=self.at)
        self.updates.append(LedgerUpdate(desk=state, settings=self.loaded.fresh))
        equity = portfolio_value(state, {})
        drawdown = drawdown_frac(equity, float(state.peak_equity))
        facts = {"regime": state.regime, "equity": equity, "drawdown_frac": drawdown, "refused": self.refused}
        return state, self._record(state, (), {**facts, "settings_sha256": self.settings.sha256()})

    def _refresh(self, state: DeskState) -> None:
        through = self.ports.bars.through(self.settings.desk.timeframe)
        if through is not None and through >= self.at:
            return  # A tick of the same minute has fetched everything already.
        pairs = needed_pairs(self.venue.market.pairs(), self.settings, state.positions)
        refresh_bars(
            self.ports.bars, self.venue.market, pairs, self.settings.desk.timeframe, history_start(self.settings, self.at), self.at
        )

    def _reconcile(self, state: DeskState) -> tuple[DeskState, Mapping[str, Decimal]]:
        """Settle open orders and forgotten intents with the exchange's answer, then compare holdings."""
        snapshot = self.venue.exchange.snapshot(self.at, tuple(state.orders.values()))
        state = self._book_reports(state, snapshot)
        late = overdue((order for order in state.orders.values() if order.client_order_id in snapshot.reports), self.at)
        if late:
            state = self._end(state, late)
            try:
                # The balances of before do not know what filled until the cancellations.
                snapshot = self.venue.exchange.snapshot(self.at, tuple(state.orders.values()))
            except AccountError as error:
                return self._halt(state, error), {}
            state = self._book_reports(state, snapshot)
        for order in [o for o in state.orders.values() if o.client_order_id not in snapshot.reports]:
            state = self._settle_unseen(state, order)
        found = reconcile(state, snapshot, self.settings.desk.stake_currency, self._price_of)
        if state.accept is not None and found.conclusive:
            state = self._accept(state, snapshot, found)
            found = reconcile(state, snapshot, self.settings.desk.stake_currency, self._price_of)
        self._note_missing(state, found)
        return self._adopt(state, found) if found.conclusive else state, found.available

    def _price_of(self, asset: str) -> Decimal | None:
        """The last close of an asset in the stake currency; None for one of which there are no bars."""
        desk = self.settings.desk
        panel = self.ports.bars.read(desk.timeframe, self.at - _PRICES_OF, self.at)
        for pair in (f"{asset}/{desk.stake_currency}", f"{asset}/{desk.stake_currency}:{desk.stake_currency}"):
            if pair in panel.column:
                closes = panel.close[:, panel.column[pair]]
                last = [close for close in closes.tolist() if close > 0][-1:]
                if last:
                    return exact(last[0])
        return None

    def _end(self, state: DeskState, late: Sequence[Order]) -> DeskState:
        """Cancel orders whose time is over. Whoever finds them cancelled must know why: nobody stopped wanting them."""
        marked = tuple([evolve(order, timed_out=True) for order in late if not order.timed_out])
        for order in marked:
            state = state.with_order(order)
        if marked:
            self.updates.append(LedgerUpdate(orders=marked))
            self._flush()
        return self._cancel(state, [order.client_order_id for order in late])

    def _settle_unseen(self, state: DeskState, order: Order) -> DeskState:
        """An order of which the exchange knows nothing."""
        if self._never_left(order):
            # An attempt at this tick that died while it was journaling: this one decides anew, and under the same ids.
            return evolve(state, orders={i: o for i, o in state.orders.items() if i != order.client_order_id})
        if self._may_be_on_its_way(order):
            return state  # What was sent a moment ago may still be on its way, also where the tick that sent it was late.
        if order.status in UNSETTLED:
            # It never arrived; it belongs to a tick that is over, and sending it now would be a guess.
            self.ports.log.warning("order never arrived", client_order_id=order.client_order_id, pair=order.pair)
            return self._book(state, order, OrderReport(order.client_order_id, OrderStatus.CANCELED, (), "never arrived"))
        # The exchange had it and knows it no more. Were it to rest there all the same, another in its place would double it.
        self.ports.log.warning("order has vanished", client_order_id=order.client_order_id, pair=order.pair)
        return self._cancel(state, [order.client_order_id])

    def _may_be_on_its_way(self, order: Order) -> bool:
        return self.at - order.tick_at < _SETTLING or (order.sent_at is not None and self.ports.clock.now() - order.sent_at < _SETTLING)

    def _quarantine(self, state: DeskState) -> DeskState:
        """Tell of pairs that the exchange has closed, and forget those whose time is over."""
        pairs = quarantine(state, self.venue.market.rules(), self.at)
        for pair in sorted(pairs.keys() - state.quarantined.keys()):
            self.ports.log.warning("market closed", pair=pair)
            self.ports.notifier.alert(f"tickless {self.settings.desk.name}", f"{pair}: its market is closed; nothing is ordered of it")
        return evolve(state, quarantined=pairs) if pairs != state.quarantined else state

    def _accept(self, state: DeskState, snapshot: AccountSnapshot, found: Reconciliation) -> DeskState:
        """Carry out what a person has asked for: the exchange is right."""
        accepted = accept_exchange(state, snapshot, found, self.settings.desk.stake_currency, self.at)
        self.ports.log.warning("asked to accept the exchange's figures", outcome=accepted.told)
        self.ports.notifier.alert(f"tickless {self.settings.desk.name}", accepted.told)
        self.updates.extend(accepted.updates)
        return accepted.state

    def _adopt(self, state: DeskState, found: Reconciliation) -> DeskState:
        """Put into the state what the comparison says; tell people when it changes."""
        log, notifier, name = self.ports.log, self.ports.notifier, f"tickless {self.settings.desk.name}"
        before = state
        if found.mismatch:
            self.ports.metrics.count("LedgerMismatch")
            log.warning("ledger and exchange differ", difference=found.mismatch)
            if state.reducing is None:
                notifier.alert(name, f"ledger and exchange differ: {found.mismatch}; the desk only sells until they agree")
            since = state.reducing.since if state.reducing is not None else self.at
            state = evolve(state, reducing=Reducing(found.mismatch, since))
        elif state.reducing is not None:
            log.info("ledger and exchange agree again")
            notifier.alert(name, "ledger and exchange agree again; the desk is active")
            state = evolve(state, reducing=None)
        if dict(found.external) != dict(state.external):
            log.warning("the exchange holds more than the ledger", external={asset: str(qty) for asset, qty in found.external.items()})
            state = evolve(state, external=found.external)
        stake = self.settings.desk.stake_currency
        sold = found.external.get(stake, Decimal(0)) - before.external.get(stake, Decimal(0))
        if sold > 0:
            notifier.alert(
                name, f"{sold:f} {stake} came as coins went that are not the desk's: taken for what they were sold for, no deposit"
            )
        if found.flow:
            log.warning("cash has moved", flow=str(found.flow))
            notifier.alert(
                name, f"{found.flow:+f} {self.settings.desk.stake_currency} was put in or taken out; cash and peak equity move with it"
            )
            state = move_cash(state, found.flow)
        if state is not before:
            self.updates.append(LedgerUpdate(desk=state))
        return state

    def _book_reports(self, state: DeskState, snapshot: AccountSnapshot) -> DeskState:
        paid = book_funding(state, snapshot)
        if paid is not state:
            self.ports.log.info("funding booked", amount=str(paid.cash - state.cash))
            self.updates.append(LedgerUpdate(desk=paid))
            state = paid
        for order in list(state.orders.values()):
            report = snapshot.reports.get(order.client_order_id)
            if report is not None:
                state = self._book(state, order, report)
        return self._book_settlements(state, snapshot)

    def _book_settlements(self, state: DeskState, snapshot: AccountSnapshot) -> DeskState:
        """Book what the exchange sold of its own accord; after the orders, as a buy may have filled just before."""
        for fill in snapshot.settlements:
            order = settlement_due(state, fill)
            if order is None:
                continue
            self.ports.log.warning("position settled: its price scale broke", pair=fill.pair, qty=str(fill.qty), price=str(fill.price))
            self.ports.notifier.alert(f"{fill.pair} settled", f"its price scale broke; {fill.qty} were settled at {fill.price}")
            state = self._book(state, order, OrderReport(order.client_order_id, OrderStatus.FILLED, (fill,)))
        return state

    def _book(self, state: DeskState, order: Order, report: OrderReport) -> DeskState:
        """Book a report, set the stop of a position that a buy has opened or enlarged, and block the pair whose stop has gone off."""
        booking = remember(book(state, order, end_by_time(order, report)), self.at, self.settings.execution)
        if booking.update is None:
            return state
        state, update = booking.state, booking.update
        if order.tick_at == self.at:
            self.ended.update(booked.client_order_id for booked in update.orders if booked.status.is_final)
        if order.protects and update.fills:
            self.ports.log.info("stop went off at the exchange", pair=order.pair, client_order_id=order.client_order_id)
            if self.settings.risk.block_after_stop:
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
        return state

    def _journal(self, state: DeskState, orders: Sequence[Order], cancels: Sequence[str], trace: Mapping[str, Any]) -> DeskState:
        """Write down what is about to be done; only the record at the end makes it binding."""
        for first in range(0, len(orders), _CHUNK):
            self.updates.append(LedgerUpdate(orders=tuple(orders[first : first + _CHUNK])))
        intents = tuple(order.client_order_id for order in orders)
        record = TickRecord(self.tick, JOURNALED, self.fence.number, intents, {"cancels": list(cancels)})
        self.updates.append(LedgerUpdate(desk=state, record=record))
        self.ports.trace.write(self.tick, trace)
        self._flush()
        return evolve(state, orders={**state.orders, **{order.client_order_id: order for order in orders}})

    def _cancel(self, state: DeskState, cancels: Sequence[str]) -> DeskState:
        for client_order_id in cancels:
            order = state.orders.get(client_order_id)
            if order is None or self.refused:
                continue
            if order.protects and order.status is OrderStatus.UNKNOWN and self._may_be_on_its_way(order):
                continue  # It may be on its way: an exchange that does not know it yet proves nothing.
            try:
                state = self._book(state, order, self.venue.exchange.cancel(order, self.at))
            except AccountError as error:
                return self._halt(state, error)
            except (RetryableError, UnknownOutcomeError) as error:
                self.ports.log.warning("cancel failed", client_order_id=client_order_id, pair=order.pair, error=str(error))
        return state

    def _submit(self, state: DeskState, orders: Sequence[Order]) -> DeskState:
        for order in orders:
            held_back = self.refused or self._held_back(state, order)
            if held_back:
                self.ports.log.warning("order not sent", client_order_id=order.client_order_id, pair=order.pair, error=held_back)
                state = self._book(state, order, _never_sent(order, held_back))
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
                state = self._halt(state, error)
                report = _never_sent(order, self.refused)
            except UnknownOutcomeError as error:
                # The next tick asks the exchange for its id; it is never sent again.
                self.ports.log.warning("order outcome unknown", client_order_id=order.client_order_id, pair=order.pair, error=str(error))
                unknown = OrderReport(order.client_order_id, OrderStatus.UNKNOWN, (), str(error))
                state = self._book(state, evolve(order, sent_at=sent_at), unknown)
                # At once: who resumes this tick must not take it for an intent that was never sent.
                self._flush()
                self.sending = False
                continue
            else:
                if report.status in (OrderStatus.CANCELED, OrderStatus.EXPIRED) and not report.fills:
                    self.over.add(order.client_order_id)
            self.sending = False
            state = self._book(state, order, report)
        return state

    def _held_back(self, state: DeskState, order: Order) -> str:
        """Why a sale must not be sent, or an empty text: a stop that was to be cancelled may yet sell the same coins, or has done so."""
        if order.side is not Side.SELL:
            return ""
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

    @property
    def _quiet(self) -> timedelta:
        """How long before the end of the lease the last order may be sent."""
        return min(_IN_FLIGHT, timedelta(seconds=self.settings.schedule.lease_ttl_s / 4))

    def _has_time(self) -> bool:
        """Whether a stop may be cancelled: what takes its place must still be sent by this tick."""
        expires_at = self.fence.expires_at
        in_lease = expires_at is None or self.ports.clock.now() < expires_at - 2 * self._quiet
        return in_lease and self.ports.time_left_s() > _MOVE_S

    def _check_time(self, state: DeskState, cancels: Sequence[str]) -> None:
        """Raise RetryableError where stops would be cancelled for sales that may not be sent any more: whoever retries does both."""
        stops = [i for i in cancels if i in state.orders and state.orders[i].protects]
        if stops and not self._has_time():
            raise RetryableError(f"tick {self.tick.id}: too little time is left to cancel {len(stops)} stops and sell; nothing was sent")

    def _check_lease(self) -> None:
        """Raise FencedError where another tick may have the lease before an order has arrived.

        The ledger would refuse our writes, the exchange no order; and the other would not find there what is still on its way.
        """
        expires_at = self.fence.expires_at
        if expires_at is not None and self.ports.clock.now() >= expires_at - self._quiet:
            raise FencedError(f"tick {self.tick.id}: its lease ends at {iso(expires_at)}; it sends no further order")

    def _record(self, state: DeskState, intents: Sequence[str], trace: Mapping[str, Any]) -> dict[str, Any]:
        """Write the tick's trace and, last of all, its record."""
        content = {
            **trace,
            "id": self.tick.id,
            "function": self.tick.function,
            **({"strategy": self.tick.strategy} if self.tick.strategy else {}),
            "at": iso(self.at),
            "orders": list(intents),
            **(resting_trace(state) if self.settings.execution.stoploss_on_exchange and state.positions else {}),
            "stops": dict(sorted((p, price) for p, pos in state.positions.items() if (price := pos.stop.stop_price) is not None)),
        }
        self.ports.trace.write(self.tick, content)
        facts = {
            "regime": state.regime,
            "equity": round(float(trace.get("equity", 0.0)), 2),
            "drawdown_frac": round(float(trace.get("drawdown_frac", 0.0)), 6),
            "positions": len(state.positions),
            "orders": len(intents),
            "models": dict(trace.get("models", {})),
            "halted": state.halt is not None,
            "mode": state.mode,
            "reducing": state.reducing is not None,
        }
        self.updates.append(LedgerUpdate(record=TickRecord(self.tick, DONE, self.fence.number, tuple(intents), facts)))
        self._flush()
        self._measure(facts)
        return facts

    def _flush(self) -> None:
        updates, self.updates = self.updates, []
        self.ports.ledger.journal(self.fence, updates)

    def _measure(self, facts: Mapping[str, Any]) -> None:
        metrics = self.ports.metrics
        metrics.count("OrdersSent", self.sent)
        metrics.gauge("Equity", facts["equity"])
        metrics.gauge("DrawdownFrac", -facts["drawdown_frac"])
        metrics.gauge("Halted", 1.0 if facts["halted"] else 0.0)
        metrics.gauge("Reducing", 1.0 if facts["reducing"] else 0.0)
        self.ports.log.info("tick done", tick=self.tick.id, **facts)


def _never_sent(order: Order, why: str) -> OrderReport:
    return OrderReport(order.client_order_id, OrderStatus.CANCELED, (), f"never sent: {why}")
