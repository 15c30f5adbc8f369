"""Compare the ledger with the exchange's answer. Pure: says what differs and what it means, touches nothing.

========================================== =====================================================================================
the exchange holds                         outcome
========================================== =====================================================================================
as much as the ledger                      nothing; a desk that was reducing is active again
less of a base asset                       mismatch: the desk only sells, what is really there, until both agree
more of a base asset                       external: reported, never touched, never counted
another amount of the stake currency,      a deposit or a withdrawal: cash and peak equity move together, so that neither a
and nothing else has changed               drawdown nor a profit comes of it
less of the stake currency, while a base   mismatch: it looks like a trade that the ledger does not know
asset has grown beyond the ledger
========================================== =====================================================================================

Nothing is concluded from balances while an order's outcome is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from tickless.types import ZERO, AccountSnapshot, DeskState, OrderStatus, base_asset

TOLERANCE = Decimal("0.01")
"""Stake currency by which an exchange's own rounding of fills may differ from ours."""
DUST_FRAC = Decimal("1e-9")
"""Share of a holding that an exchange's rounding may cost."""


@dataclass(frozen=True)
class Reconciliation:
    """What the exchange's balances say of the ledger."""

    mismatch: str = ""
    """What the ledger claims and the exchange does not have; empty where there is nothing of the kind."""
    external: Mapping[str, Decimal] = field(default_factory=dict)
    """What the exchange holds beyond the ledger, by asset."""
    flow: Decimal = ZERO
    """Stake currency that somebody has put in (positive) or taken out."""
    available: Mapping[str, Decimal] = field(default_factory=dict)
    """What can really be sold of a pair of which the exchange holds less than the ledger."""


def reconcile(state: DeskState, snapshot: AccountSnapshot, stake: str) -> Reconciliation:
    """Compare positions and cash with balances, both after every known order has been settled."""
    balances = snapshot.balances
    owned = {base_asset(pair): position.qty for pair, position in state.positions.items()}
    available = {
        pair: max(ZERO, balances.get(base_asset(pair), ZERO))
        for pair, position in state.positions.items()
        if balances.get(base_asset(pair), ZERO) < position.qty * (1 - DUST_FRAC)
    }
    external = {
        asset: held - owned.get(asset, ZERO)
        for asset, held in sorted(balances.items())
        if asset != stake and held > owned.get(asset, ZERO) * (1 + DUST_FRAC)
    }
    difference = balances.get(stake, ZERO) - state.cash
    grown = sorted(asset for asset, beyond in external.items() if beyond > state.external.get(asset, ZERO) * (1 + DUST_FRAC))
    mismatch = _shortage(state, available)
    unsettled = any(order.status is OrderStatus.UNKNOWN for order in state.orders.values())
    if abs(difference) <= TOLERANCE or unsettled:
        return Reconciliation(mismatch, external, ZERO, available)
    if difference < 0 and grown:
        known = f"{stake}: the ledger holds {state.cash}, the exchange {balances.get(stake, ZERO)}, and {', '.join(grown)} has grown"
        return Reconciliation(mismatch or f"{known}: a trade that the ledger does not know", external, ZERO, available)
    return Reconciliation(mismatch, external, ZERO if mismatch else difference, available)


def _shortage(state: DeskState, available: Mapping[str, Decimal]) -> str:
    if not available:
        return ""
    pair = min(available)
    return f"{pair}: the ledger holds {state.positions[pair].qty}, the exchange {available[pair]}"
