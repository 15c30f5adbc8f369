"""One trading tick, whatever it decides: lease → gather → reconcile → decide → journal → act → protect → record.

Every invocation is a restart. The desk is restored from the ledger; what an earlier invocation left unfinished is settled first by asking
the exchange; orders are written down before they are sent, and sent only once the tick's record says that all of them are written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any, NamedTuple

from tickless.errors import AccountError, StaleTickError
from tickless.execution.reconcile import reconcile
from tickless.pipeline import Decision, portfolio_value
from tickless.ports import Fence, Ports, Venue
from tickless.risk.drawdown import drawdown_frac
from tickless.runs.admission import refuse_off_grid, refuse_stale, schedule_of, take_lease
from tickless.runs.desk_state import new_desk
from tickless.runs.desk_strategies import history_start
from tickless.runs.gather import needed_pairs, refresh_bars
from tickless.runs.parameters import LoadedSettings, moves_account, resolve_settings
from tickless.runs.protecting import ProtectPhase, resting_trace
from tickless.runs.reconciling import Reconciling, missing
from tickless.runs.report import RunReport
from tickless.runs.short_history import short_history
from tickless.runs.tick_orders import AT_ONCE, IN_FLIGHT, TickOrders
from tickless.settings import Settings
from tickless.strategies.contract import NOTHING
from tickless.types import DeskState, LedgerUpdate, Order, OrderStatus, Tick, TickRecord, evolve, iso

JOURNALED, DONE = "journaled", "done"


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
            on_its_way = any(run.orders.sending for run in runs)
            ports.ledger.release(fence, ports.clock.now() + IN_FLIGHT if on_its_way else None)
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
    orders: TickOrders = field(init=False)

    def __post_init__(self) -> None:
        self.orders = TickOrders(self.tick, self.ports, self.venue, self.settings, self.fence)

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
        reconciling = Reconciling(self.orders)
        try:
            found = reconciling.run(state)
        except AccountError as error:
            return self._stand_by(self.orders.halt(state, error))
        state = reconciling.quarantine(found.state)
        context = TickContext(self.tick, self.ports, self.venue, self.settings, state, found.available)
        return self.carry_out(self.step(context), found.missing)

    def carry_out(self, decision: Decision, missing: Mapping[str, Decimal] = NOTHING) -> tuple[DeskState, dict[str, Any]]:
        """Journal, act and record what was decided. ``missing`` is by how much the exchange holds less of a pair than the ledger."""
        state = evolve(decision.state, last_tick_at=self.at)
        # What an order has left stays in the ledger until the orders that go on with it are binding: who decides anew must find it.
        kept = evolve(state, unfilled={**decision.continued, **state.unfilled}) if decision.plan.orders or decision.plan.cancels else state
        # Each position stands for itself; who dies in between decides anew.
        self.orders.put(positions=decision.positions[AT_ONCE:])
        self.orders.updates.append(
            LedgerUpdate(desk=kept, positions=decision.positions[:AT_ONCE], equity=decision.equity, settings=self.loaded.fresh)
        )
        trace = {**decision.trace, "settings_sha256": self.settings.sha256()}
        # Before anything is written: a crash may tell people twice, never not at all.
        for message in decision.alerts:
            self.orders.alert(message)
        orders = decision.plan.orders
        if orders or decision.plan.cancels:
            state = self._journal(state, orders, decision.plan.cancels, trace)
            self.orders.check_time(state, decision.plan.cancels)
            state = self.orders.cancel(state, decision.plan.cancels)
            state = self.orders.submit(state, orders)
        state = self._protect(state, missing)
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
            state = self.orders.halt(state, error)
            return state, self._record(state, record.intents, trace)
        state = Reconciling(self.orders).book_reports(state, snapshot)
        short = missing(state, reconcile(state, snapshot, self.settings.desk.stake_currency))
        # Stops that the attempt before had only written down: what should rest is decided on anew.
        forgotten = {
            i for i, o in state.orders.items() if self.orders.never_left(o) and i not in record.intents and i not in snapshot.reports
        }
        state = evolve(state, orders={i: order for i, order in state.orders.items() if i not in forgotten}) if forgotten else state
        cancels = [i for i in record.summary.get("cancels", ()) if i in state.orders]
        self.orders.check_time(state, cancels)
        state = self.orders.cancel(state, cancels)
        state = self.orders.submit(state, [order for order in pending if order.client_order_id not in snapshot.reports])
        state = self._protect(state, short)
        return state, self._record(state, record.intents, trace)

    def _protect(self, state: DeskState, missing: Mapping[str, Decimal]) -> DeskState:
        """Let the stops of what is held rest on the exchange, as ``execution.stoploss_on_exchange`` promises."""
        if self.orders.refused:
            return state
        if self.settings.execution.stoploss_on_exchange and state.positions:
            # An attempt at this tick that died may have had a stop refused, of which the exchange knows nothing.
            self.orders.ended |= self.ports.ledger.ended(self.at)
        return ProtectPhase(self.orders, self.venue.market.rules(), missing).carry_out(state)

    def _stand_by(self, state: DeskState) -> tuple[DeskState, dict[str, Any]]:
        """Record a tick that knows nothing of its account, and so decides nothing; equity is that of the last closes seen."""
        state = evolve(state, last_tick_at=self.at)
        self.orders.updates.append(LedgerUpdate(desk=state, settings=self.loaded.fresh))
        equity = portfolio_value(state, {})
        drawdown = drawdown_frac(equity, float(state.peak_equity))
        facts = {"regime": state.regime, "equity": equity, "drawdown_frac": drawdown, "refused": self.orders.refused}
        return state, self._record(state, (), {**facts, "settings_sha256": self.settings.sha256()})

    def _refresh(self, state: DeskState) -> None:
        through = self.ports.bars.through(self.settings.desk.timeframe)
        if through is not None and through >= self.at:
            return  # A tick of the same minute has fetched everything already.
        if through is None and (sentence := short_history(self.settings, self.at)):
            self.ports.log.warning("short history", why=sentence)
        pairs = needed_pairs(self.venue.market.pairs(), self.settings, state.positions)
        start = history_start(self.settings, self.at)
        refresh_bars(self.ports.bars, self.venue.market, pairs, self.settings.desk.timeframe, start, self.at, self._tell_unread)

    def _tell_unread(self, pairs: Sequence[str], why: str) -> None:
        self.ports.metrics.count("BarsUnread", len(pairs))
        self.ports.log.warning("bars of new pairs cannot be read", pairs=list(pairs), error=why)

    def _journal(self, state: DeskState, orders: Sequence[Order], cancels: Sequence[str], trace: Mapping[str, Any]) -> DeskState:
        """Write down what is about to be done; only the record at the end makes it binding."""
        self.orders.put(orders=orders)
        intents = tuple(order.client_order_id for order in orders)
        record = TickRecord(self.tick, JOURNALED, self.fence.number, intents, {"cancels": list(cancels)})
        self.orders.updates.append(LedgerUpdate(desk=state, record=record))
        self.ports.trace.write(self.tick, trace)
        self.orders.flush()
        return evolve(state, orders={**state.orders, **{order.client_order_id: order for order in orders}})

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
        self.orders.updates.append(LedgerUpdate(record=TickRecord(self.tick, DONE, self.fence.number, tuple(intents), facts)))
        self.orders.flush()
        self._measure(facts)
        return facts

    def _measure(self, facts: Mapping[str, Any]) -> None:
        metrics = self.ports.metrics
        metrics.count("OrdersSent", self.orders.sent)
        metrics.gauge("Equity", facts["equity"])
        metrics.gauge("DrawdownFrac", 0.0 - facts["drawdown_frac"])  # Not negated: no drawdown would be -0.0.
        metrics.gauge("Halted", 1.0 if facts["halted"] else 0.0)
        metrics.gauge("Reducing", 1.0 if facts["reducing"] else 0.0)
        self.ports.log.info("tick done", tick=self.tick.id, **facts)
