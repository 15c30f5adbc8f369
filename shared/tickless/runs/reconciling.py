"""The second step of a tick: what the exchange says of the orders that the ledger knows, and whether both hold the same.

A difference reduces risk and is told, never guessed away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import NamedTuple

from tickless.errors import AccountError
from tickless.execution.acceptance import accept_exchange
from tickless.execution.funding import book_funding
from tickless.execution.quarantine import quarantine
from tickless.execution.reconcile import UNSETTLED, Reconciliation, reconcile
from tickless.execution.requotes import overdue
from tickless.execution.rounding import exact
from tickless.execution.settlement import settlement_due
from tickless.runs.desk_state import move_cash
from tickless.runs.tick_orders import TickOrders
from tickless.types import AccountSnapshot, DeskState, LedgerUpdate, Order, OrderReport, OrderStatus, Reducing, evolve

_PRICES_OF = timedelta(hours=4)
"""How old the close may be that tells what somebody else's coins are worth."""


class Reconciled(NamedTuple):
    """The state after ledger and exchange were compared."""

    state: DeskState
    available: Mapping[str, Decimal] = MappingProxyType({})
    """What can really be sold of pairs of which the exchange holds less than the ledger."""
    missing: Mapping[str, Decimal] = MappingProxyType({})
    """By how much it holds less of them."""


def missing(state: DeskState, found: Reconciliation) -> dict[str, Decimal]:
    """By how much the exchange holds less of a pair than the ledger."""
    return {pair: state.positions[pair].qty - left for pair, left in found.available.items()}


@dataclass(frozen=True)
class Reconciling:
    """Settles a tick's ledger with its exchange, by way of the tick's own orders."""

    orders: TickOrders

    def run(self, state: DeskState) -> Reconciled:
        """Settle open orders and forgotten intents with the exchange's answer, then compare holdings."""
        snapshot = self.orders.venue.exchange.snapshot(self.orders.at, tuple(state.orders.values()))
        state = self.book_reports(state, snapshot)
        late = overdue((order for order in state.orders.values() if order.client_order_id in snapshot.reports), self.orders.at)
        if late:
            state = self._end(state, late)
            try:
                # The balances of before do not know what filled until the cancellations.
                snapshot = self.orders.venue.exchange.snapshot(self.orders.at, tuple(state.orders.values()))
            except AccountError as error:
                return Reconciled(self.orders.halt(state, error))
            state = self.book_reports(state, snapshot)
        for order in [o for o in state.orders.values() if o.client_order_id not in snapshot.reports]:
            state = self._settle_unseen(state, order)
        found = reconcile(state, snapshot, self.orders.settings.desk.stake_currency, self._price_of)
        if state.accept is not None and found.conclusive:
            state = self._accept(state, snapshot, found)
            found = reconcile(state, snapshot, self.orders.settings.desk.stake_currency, self._price_of)
        return Reconciled(self._adopt(state, found) if found.conclusive else state, found.available, missing(state, found))

    def book_reports(self, state: DeskState, snapshot: AccountSnapshot) -> DeskState:
        """Book what a snapshot says: funding, orders, and what the exchange sold of its own accord."""
        paid = book_funding(state, snapshot)
        if paid is not state:
            self.orders.ports.log.info("funding booked", amount=str(paid.cash - state.cash))
            self.orders.updates.append(LedgerUpdate(desk=paid))
            state = paid
        for order in list(state.orders.values()):
            report = snapshot.reports.get(order.client_order_id)
            if report is not None:
                state = self.orders.book(state, order, report)
        return self._book_settlements(state, snapshot)

    def _book_settlements(self, state: DeskState, snapshot: AccountSnapshot) -> DeskState:
        """Book what the exchange sold of its own accord; after the orders, as a buy may have filled just before."""
        for fill in snapshot.settlements:
            order = settlement_due(state, fill)
            if order is None:
                continue
            self.orders.ports.log.warning(
                "position settled: its price scale broke", pair=fill.pair, qty=str(fill.qty), price=str(fill.price)
            )
            self.orders.ports.notifier.alert(f"{fill.pair} settled", f"its price scale broke; {fill.qty} were settled at {fill.price}")
            state = self.orders.book(state, order, OrderReport(order.client_order_id, OrderStatus.FILLED, (fill,)))
        return state

    def _price_of(self, asset: str) -> Decimal | None:
        """The last close of an asset in the stake currency; None for one of which there are no bars."""
        desk = self.orders.settings.desk
        panel = self.orders.ports.bars.read(desk.timeframe, self.orders.at - _PRICES_OF, self.orders.at)
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
            self.orders.put(orders=marked)
            self.orders.flush()
        return self.orders.cancel(state, [order.client_order_id for order in late])

    def _settle_unseen(self, state: DeskState, order: Order) -> DeskState:
        """An order of which the exchange knows nothing."""
        if self.orders.never_left(order):
            # An attempt at this tick that died while it was journaling: this one decides anew, and under the same ids.
            return evolve(state, orders={i: o for i, o in state.orders.items() if i != order.client_order_id})
        if self.orders.may_be_on_its_way(order):
            return state  # What was sent a moment ago may still be on its way, also where the tick that sent it was late.
        if order.status in UNSETTLED:
            # It never arrived; it belongs to a tick that is over, and sending it now would be a guess.
            self.orders.ports.log.warning("order never arrived", client_order_id=order.client_order_id, pair=order.pair)
            return self.orders.book(state, order, OrderReport(order.client_order_id, OrderStatus.CANCELED, (), "never arrived"))
        # The exchange had it and knows it no more. Were it to rest there all the same, another in its place would double it.
        self.orders.ports.log.warning("order has vanished", client_order_id=order.client_order_id, pair=order.pair)
        return self.orders.cancel(state, [order.client_order_id])

    def quarantine(self, state: DeskState) -> DeskState:
        """Tell of pairs that the exchange has closed, and forget those whose time is over."""
        pairs = quarantine(state, self.orders.venue.market.rules(), self.orders.at)
        for pair in sorted(pairs.keys() - state.quarantined.keys()):
            self.orders.ports.log.warning("market closed", pair=pair)
            self.orders.alert(f"{pair}: its market is closed; nothing is ordered of it")
        return evolve(state, quarantined=pairs) if pairs != state.quarantined else state

    def _accept(self, state: DeskState, snapshot: AccountSnapshot, found: Reconciliation) -> DeskState:
        """Carry out what a person has asked for: the exchange is right."""
        accepted = accept_exchange(state, snapshot, found, self.orders.settings.desk.stake_currency, self.orders.at)
        self.orders.ports.log.warning("asked to accept the exchange's figures", outcome=accepted.told)
        self.orders.alert(accepted.told)
        self.orders.updates.extend(accepted.updates)
        return accepted.state

    def _adopt(self, state: DeskState, found: Reconciliation) -> DeskState:
        """Put into the state what the comparison says; tell people when it changes."""
        log, alert, stake = self.orders.ports.log, self.orders.alert, self.orders.settings.desk.stake_currency
        before = state
        if found.mismatch:
            self.orders.ports.metrics.count("LedgerMismatch")
            log.warning("ledger and exchange differ", difference=found.mismatch)
            if state.reducing is None:
                alert(f"ledger and exchange differ: {found.mismatch}; the desk only sells until they agree")
            since = state.reducing.since if state.reducing is not None else self.orders.at
            state = evolve(state, reducing=Reducing(found.mismatch, since))
        elif state.reducing is not None:
            log.info("ledger and exchange agree again")
            alert("ledger and exchange agree again; the desk is active")
            state = evolve(state, reducing=None)
        if dict(found.external) != dict(state.external):
            log.warning("the exchange holds more than the ledger", external={asset: str(qty) for asset, qty in found.external.items()})
            state = evolve(state, external=found.external)
        sold = found.external.get(stake, Decimal(0)) - before.external.get(stake, Decimal(0))
        if sold > 0:
            alert(f"{sold:f} {stake} came as coins went that are not the desk's: taken for what they were sold for, no deposit")
        if found.flow:
            log.warning("cash has moved", flow=str(found.flow))
            alert(f"{found.flow:+f} {stake} was put in or taken out; cash and peak equity move with it")
            state = move_cash(state, found.flow)
        if state is not before:
            self.orders.updates.append(LedgerUpdate(desk=state))
        return state
