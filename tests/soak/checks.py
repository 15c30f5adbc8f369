"""What has to hold after each tick, whatever has gone wrong before."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from decimal import Decimal

from tests.loopback import FeeIn, LoopbackExchange
from tickless.adapters.memory import MemoryLedger
from tickless.execution.order_states import FOLLOWS
from tickless.execution.reconcile import DUST_FRAC, TOLERANCE, UNSETTLED
from tickless.ports import Fence
from tickless.types import ZERO, DeskState, LedgerUpdate, OrderStatus, Side, base_asset

STAKE = "USDT"


class WatchedLedger(MemoryLedger):
    """The strict ledger in memory; notes what is written, to be compared with what the exchange did."""

    def __init__(self) -> None:
        super().__init__()
        self.statuses: dict[str, OrderStatus] = {}
        self.booked: set[str] = set()
        self.booked_cash = ZERO
        """What all booked fills together did to the cash."""
        self.fees: dict[str, Decimal] = defaultdict(Decimal)
        self.wrong: list[str] = []

    def journal(self, fence: Fence, updates: Sequence[LedgerUpdate]) -> None:
        super().journal(fence, updates)
        for update in updates:
            self._note(update)

    def _note(self, update: LedgerUpdate) -> None:
        for order in update.orders:
            before = self.statuses.get(order.client_order_id, OrderStatus.INTENT)
            if order.status is not before and order.status not in FOLLOWS[before]:
                self.wrong.append(f"{order.client_order_id}: {order.status} after {before}")
            if order.filled_qty > order.qty:
                self.wrong.append(f"{order.client_order_id}: {order.filled_qty} filled of {order.qty}")
            self.statuses[order.client_order_id] = order.status
        for fill in update.fills:
            if fill.fill_id in self.booked:
                self.wrong.append(f"fill {fill.fill_id} of {fill.client_order_id} is booked twice")
            self.booked.add(fill.fill_id)
            value = fill.price * fill.qty
            self.booked_cash += -value if fill.side is Side.BUY else value
            self.booked_cash -= fill.fee_qty if fill.fee_asset == STAKE else ZERO
            self.fees[fill.fee_asset] += fill.fee_qty
        if update.desk is not None and update.desk.cash < 0:
            self.wrong.append(f"cash is {update.desk.cash}")


class Checks:
    """Compares a ledger with the exchange."""

    def __init__(self, ledger: WatchedLedger, exchange: LoopbackExchange, wallet: Decimal) -> None:
        self._ledger, self._exchange, self._wallet = ledger, exchange, wallet
        self._resent = 0
        self._trades = 0
        self._fees: dict[str, Decimal] = defaultdict(Decimal)

    def always(self) -> Iterator[str]:
        """What holds after any tick, even one that died half-way."""
        yield from self._ledger.wrong
        self._ledger.wrong.clear()
        resent = self._exchange.resent()
        yield from (f"{client_id} was sent again after the exchange had taken it" for client_id in resent[self._resent :])
        self._resent = len(resent)
        for asset, amount in self._exchange.balances("spot").items():
            if amount < 0:
                yield f"the exchange holds {amount} {asset}"

    def settled(self) -> Iterator[str]:
        """What holds after a tick that nothing has disturbed."""
        state = self._ledger.load()
        assert state is not None
        unsettled = [order for order in state.orders.values() if order.status in UNSETTLED]
        if unsettled:
            # Those of this minute may still be on their way.
            yield from (f"{order.client_order_id} is still {order.status}" for order in unsettled if order.tick_at != state.last_tick_at)
            return
        if state.reducing is not None:
            yield f"still reducing: {state.reducing.reason}"
        yield from self._fills()
        yield from self._holdings(state)

    def _fills(self) -> Iterator[str]:
        trades = self._exchange.spot.trades
        for trade in trades[self._trades :]:
            self._fees[trade.fee_asset] += trade.fee
        self._trades = len(trades)
        missing = {f"{trade.pair.replace('/', '')}-{trade.id}" for trade in trades} - self._ledger.booked
        if missing or len(trades) != len(self._ledger.booked):
            yield f"trades of the exchange: {len(trades)}, fills in the ledger: {len(self._ledger.booked)}, missing: {sorted(missing)[:5]}"
        for asset in self._fees.keys() | self._ledger.fees.keys():
            if self._fees[asset] != self._ledger.fees[asset]:
                yield f"fees in {asset}: {self._fees[asset]} charged, {self._ledger.fees[asset]} booked"

    def _holdings(self, state: DeskState) -> Iterator[str]:
        balances = self._exchange.balances("spot")
        if abs(state.cash - balances.get(STAKE, ZERO)) > TOLERANCE:
            yield f"cash: {state.cash} in the ledger, {balances.get(STAKE, ZERO)} at the exchange"
        if abs(state.cash - self._wallet - self._ledger.booked_cash) > TOLERANCE * 100:
            yield f"cash: {state.cash} in the ledger, {self._wallet + self._ledger.booked_cash} by its fills: a flow that never was"
        owned = {base_asset(pair): position.qty for pair, position in state.positions.items()}
        # What is left of an asset that pays fees is known at the next tick only.
        paying = {"BNB"} if self._exchange.world.fee_in is FeeIn.BNB else set()
        for asset in sorted((balances.keys() | owned.keys()) - {STAKE, *paying}):
            ours, theirs = owned.get(asset, ZERO) + state.external.get(asset, ZERO), balances.get(asset, ZERO)
            if abs(ours - theirs) > max(ours, theirs) * DUST_FRAC:
                yield f"{asset}: {ours} in the ledger, {theirs} at the exchange"
