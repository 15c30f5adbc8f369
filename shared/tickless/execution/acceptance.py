"""A person says that the exchange is right: what the ledger claims beyond it is written off, and its cash is adopted. Pure.

No order and no fill comes of it, as nothing is known to have been traded: what is missing leaves as a trade of its own, at the last close
seen, with the exit reason ``written_off``. The peak moves in the proportion in which equity does, like at a withdrawal.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from tickless.execution.accounting import closed_trade
from tickless.execution.reconcile import Reconciliation
from tickless.execution.rounding import exact, money
from tickless.types import ZERO, AccountSnapshot, DeskState, LedgerUpdate, Position, Trade, evolve, iso

WRITTEN_OFF = "written_off"


class Acceptance(NamedTuple):
    """The state after it, the updates that record it, and what to tell people."""

    state: DeskState
    updates: tuple[LedgerUpdate, ...]
    told: str


def accept_exchange(state: DeskState, snapshot: AccountSnapshot, found: Reconciliation, stake: str, at: datetime) -> Acceptance:
    """Carry out ``state.accept``, where ``found`` is still what the person has seen; else the request ends without effect.

    Positions are cut to what is there, cash becomes the balance but for what is external of it, REDUCING ends; what else is external shows
    when compared again. ``found`` must be conclusive. The update of the desk comes last: an attempt that is cut short is told to have found
    another difference.
    """
    request = state.accept
    if request is None or found.mismatch != request.mismatch:
        told = f"nothing was accepted: {found.mismatch or 'ledger and exchange agree again'}, and not {request.mismatch if request else ''}"
        state = evolve(state, accept=None)
        return Acceptance(state, (LedgerUpdate(desk=state),), told)
    before = _equity(state)
    positions, marks = dict(state.positions), dict(state.marks)
    updates: list[LedgerUpdate] = []
    for pair, left in sorted(found.available.items()):
        position = positions.pop(pair)
        mark = _mark(position, marks)
        rest, trade = _write_off(position, left, mark, at, f"{WRITTEN_OFF}-{iso(request.since)}")
        if rest.qty > 0:
            positions[pair] = rest
        else:
            marks.pop(pair, None)
        updates.append(LedgerUpdate(positions=(rest,), trades=(trade,)))
    state = evolve(
        state,
        positions=positions,
        marks=marks,
        cash=snapshot.balances.get(stake, ZERO) - found.external.get(stake, ZERO),
        reducing=None,
        accept=None,
    )
    after = _equity(state)
    peak = max(ZERO, money(state.peak_equity * after / before)) if before > 0 else max(state.peak_equity, money(after))
    state = evolve(state, peak_equity=peak)
    moved = f"equity {money(before):f} → {money(after):f} {stake}"
    told = f"the exchange's figures were taken over: {request.mismatch}; {moved} ({request.reason})"
    return Acceptance(state, (*updates, LedgerUpdate(desk=state)), told)


def _write_off(position: Position, left: Decimal, mark: Decimal, at: datetime, trade_id: str) -> tuple[Position, Trade]:
    """The position with ``left`` of it, and the trade of what is missing; all that was ever bought and sold where nothing is left."""
    missing = position.qty - left
    if left <= 0:
        gone = evolve(position, sold_qty=position.sold_qty + missing, sold_value=position.sold_value + missing * mark)
        return gone, closed_trade(gone, at, WRITTEN_OFF, trade_id)
    cost, fees = position.entry_price * missing, money(position.fees * missing / position.bought_qty)
    part = evolve(position, bought_qty=missing, bought_value=cost, sold_qty=missing, sold_value=missing * mark, fees=fees, held_cost=ZERO)
    rest = evolve(
        position,
        bought_qty=position.bought_qty - missing,
        bought_value=position.bought_value - cost,
        fees=position.fees - fees,
        held_cost=None if position.held_cost is None else position.held_cost - cost,
    )
    return rest, closed_trade(part, at, WRITTEN_OFF, trade_id)


def _equity(state: DeskState) -> Decimal:
    return state.cash + sum([position.qty * _mark(position, state.marks) for position in state.positions.values()], ZERO)


def _mark(position: Position, marks: Mapping[str, float]) -> Decimal:
    mark = marks.get(position.pair)
    return position.entry_price if mark is None else exact(mark)
