"""What has to hold after each tick, whatever has gone wrong before."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple

from tests.loopback import FeeIn, LoopbackExchange
from tests.loopback.orders import floor_to
from tests.soak.venues import Spot
from tickless.execution.order_states import FOLLOWS
from tickless.execution.reconcile import DUST_FRAC, TOLERANCE, UNSETTLED
from tickless.ports import Fence, Ledger
from tickless.types import ZERO, DeskState, LedgerUpdate, OrderStatus, Side, base_asset

ROUNDING = Decimal("1e-6")
"""Share of all fees by which they may differ: one that the exchange does not tell is computed, and not rounded as it rounds."""


class Property(StrEnum):
    """What is promised."""

    EQUAL = "ledger equals exchange"
    ONCE = "no order twice"
    CASH = "cash never negative"
    FEES = "fees once"
    EXTERNAL = "nothing sold that is not the desk's"
    STOPS = "no naked position where a stop is promised"
    STATES = "orders change state as drawn"
    ENDS = "a run ends as a run may"


class Broken(NamedTuple):
    """A promise that was not kept."""

    promise: Property
    what: str


class WatchedLedger:
    """A ledger; notes what is written, to be compared with what the exchange did. ``inner`` is strict: memory, or DynamoDB."""

    def __init__(self, inner: Ledger, stake: str) -> None:
        self._inner, self._stake = inner, stake
        self.statuses: dict[str, OrderStatus] = {}
        self.booked: set[str] = set()
        self.booked_cash = ZERO
        """What all booked fills together did to the cash."""
        self.fees: dict[str, Decimal] = defaultdict(Decimal)
        self.wrong: list[Broken] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def journal(self, fence: Fence, updates: Sequence[LedgerUpdate]) -> None:
        self._inner.journal(fence, updates)
        for update in updates:
            self._note(update)

    def _note(self, update: LedgerUpdate) -> None:
        for order in update.orders:
            before = self.statuses.get(order.client_order_id, OrderStatus.INTENT)
            if order.status is not before and order.status not in FOLLOWS[before]:
                self.wrong.append(Broken(Property.STATES, f"{order.client_order_id}: {order.status} after {before}"))
            if order.filled_qty > order.qty:
                self.wrong.append(Broken(Property.STATES, f"{order.client_order_id}: {order.filled_qty} filled of {order.qty}"))
            self.statuses[order.client_order_id] = order.status
        for fill in update.fills:
            if fill.fill_id in self.booked:
                self.wrong.append(Broken(Property.FEES, f"fill {fill.fill_id} of {fill.client_order_id} is booked twice"))
            self.booked.add(fill.fill_id)
            value = fill.price * fill.qty
            self.booked_cash += -value if fill.side is Side.BUY else value
            self.booked_cash -= fill.fee_qty if fill.fee_asset == self._stake else ZERO
            self.fees[fill.fee_asset] += fill.fee_qty
        if update.desk is not None and update.desk.cash < 0:
            self.wrong.append(Broken(Property.CASH, f"cash is {update.desk.cash}"))


class Checks:
    """Compares a ledger with the exchange."""

    def __init__(self, ledger: WatchedLedger, exchange: LoopbackExchange, venue: Spot, wallet: Decimal, *, promised: bool) -> None:
        self.promised = promised
        """Whether every position has a stop at the exchange."""
        self._ledger, self._exchange, self._venue, self._wallet = ledger, exchange, venue, wallet
        self._resent = 0
        self._trades = 0
        self._traded: set[str] = set()
        self._fees: dict[str, Decimal] = defaultdict(Decimal)

    def always(self) -> Iterator[Broken]:
        """What holds after any tick, even one that died half-way."""
        self._read_trades()
        yield from self._ledger.wrong
        self._ledger.wrong.clear()
        resent = self._exchange.resent()
        for client_id in resent[self._resent :]:
            yield Broken(Property.ONCE, f"{client_id} was sent again after the exchange had taken it")
        self._resent = len(resent)
        yield from (Broken(Property.CASH, what) for what in self._venue.below_zero())
        yield from (Broken(Property.EXTERNAL, what) for what in self._venue.sold(self._fees))

    def settled(self) -> Iterator[Broken]:
        """What holds after a tick that nothing has disturbed."""
        state = self._ledger.load()
        assert state is not None
        unsettled = [order for order in state.orders.values() if order.status in UNSETTLED]
        if unsettled:
            # Those of this minute may still be on their way.
            for order in unsettled:
                if order.tick_at != state.last_tick_at:
                    yield Broken(Property.EQUAL, f"{order.client_order_id} is still {order.status}")
            return
        if state.reducing is not None:
            yield Broken(Property.EQUAL, f"still reducing: {state.reducing.reason}")
        yield from self._fills()
        if self.promised:
            yield from (Broken(Property.STOPS, what) for what in self._naked(state))
        yield from (Broken(Property.EQUAL, what) for what in self._holdings(state))

    def _naked(self, state: DeskState) -> Iterator[str]:
        """Positions that no stop at the exchange covers, and stops of more than is held."""
        rests: dict[str, Decimal] = defaultdict(Decimal)
        selling: dict[str, Decimal] = defaultdict(Decimal)
        for order in self._exchange.venues[self._venue.name].working.values():
            if order.side == "SELL":
                (rests if order.waits else selling)[order.pair] += order.open_qty
        for pair in sorted(state.positions.keys() | rests.keys()):
            position, rules = state.positions.get(pair), self._exchange.world.rule(pair)
            held = ZERO if position is None else position.qty
            if rests[pair] > held:
                yield f"{pair}: stops of {rests[pair]} rest, {held} are held"
            if position is None or position.stop.stop_price is None:
                continue
            owed = floor_to(held - selling[pair], rules.qty_step or Decimal(1))
            can_rest = owed * Decimal(position.stop.stop_price) > (rules.min_notional or ZERO) * Decimal("1.01")
            if rests[pair] < owed and can_rest:
                yield f"{pair}: {held} are held, {selling[pair]} are being sold, and stops of {rests[pair]} rest"

    def _read_trades(self) -> None:
        new = list(self._venue.charged(self._trades))
        self._trades = len(self._exchange.venues[self._venue.name].trades)
        for fill_id, asset, fee in new:
            self._traded.add(fill_id)
            self._fees[asset] += fee

    def _fills(self) -> Iterator[Broken]:
        missing, unknown = self._traded - self._ledger.booked, self._ledger.booked - self._traded
        if missing or unknown:
            yield Broken(Property.EQUAL, f"trades not in the ledger: {sorted(missing)[:5]}, fills of no trade: {sorted(unknown)[:5]}")
        for asset in self._fees.keys() | self._ledger.fees.keys():
            if abs(self._fees[asset] - self._ledger.fees[asset]) > self._fees[asset] * ROUNDING:
                yield Broken(Property.FEES, f"fees in {asset}: {self._fees[asset]} charged, {self._ledger.fees[asset]} booked")

    def _holdings(self, state: DeskState) -> Iterator[str]:
        held, stake = self._venue.holdings(), self._venue.stake
        cash = state.cash + state.external.get(stake, ZERO)
        if abs(cash - held.get(stake, ZERO)) > TOLERANCE:
            yield f"cash: {cash} in the ledger, {held.get(stake, ZERO)} at the exchange"
        if abs(cash - self._wallet - self._ledger.booked_cash) > TOLERANCE * 100:
            yield f"cash: {cash} in the ledger, {self._wallet + self._ledger.booked_cash} by its fills: a flow that never was"
        owned = {base_asset(pair): position.qty for pair, position in state.positions.items()}
        # What is left of an asset that pays fees is known at the next tick only.
        paying = {"BNB"} if self._exchange.world.fee_in is FeeIn.BNB else set()
        for asset in sorted((held.keys() | owned.keys()) - {stake, *paying}):
            ours, theirs = owned.get(asset, ZERO) + state.external.get(asset, ZERO), held.get(asset, ZERO)
            if abs(ours - theirs) > max(ours, theirs) * DUST_FRAC:
                yield f"{asset}: {ours} in the ledger, {theirs} at the exchange"
