"""Compare the ledger with the exchange's answer. Pure: says what differs and what it means, touches nothing.

========================================== =====================================================================================
the exchange holds                         outcome
========================================== =====================================================================================
as much as the ledger                      nothing; a desk that was reducing is active again
less of a base asset                       mismatch: the desk only sells, what is really there, until both agree
more of a base asset                       external: reported, never touched, never counted
another amount of the stake currency,      a deposit or a withdrawal: cash and peak equity move together, so that neither a
and no base asset looks traded for it      drawdown nor a profit comes of it
more of the stake currency, while an       nothing: somebody's own sale, or an answer that is not of now; the figures before stay
external asset has shrunk
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
UNSETTLED = frozenset({OrderStatus.INTENT, OrderStatus.UNKNOWN})
"""Orders that may have traded without our knowing."""


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
    conclusive: bool = True
    """False while an order may have traded without our knowing: only ``available`` then says anything."""


def reconcile(state: DeskState, snapshot: AccountSnapshot, stake: str) -> Reconciliation:
    """Compare positions and cash with balances, both after every known order has been settled."""
    balances = snapshot.balances
    available = _available(state, balances)
    if any(order.status in UNSETTLED for order in state.orders.values()):
        return Reconciliation(available=available, conclusive=False)
    owned = {base_asset(pair): position.qty for pair, position in state.positions.items()}
    external = {
        asset: held - owned.get(asset, ZERO)
        for asset, held in sorted(balances.items())
        if asset != stake and held > owned.get(asset, ZERO) * (1 + DUST_FRAC)
    }
    mismatch = _shortage(state, available)
    difference = balances.get(stake, ZERO) - state.cash
    if abs(difference) <= TOLERANCE:
        return Reconciliation(mismatch, external, ZERO, available)
    shrunk = [asset for asset, before in state.external.items() if external.get(asset, ZERO) < before * (1 - DUST_FRAC)]
    if difference > 0 and shrunk:
        # Somebody's own sale, or an answer from before our own purchase, which took the coins out of it and left the cash in: no deposit.
        return Reconciliation(mismatch, {**external, **{asset: state.external[asset] for asset in shrunk}}, ZERO, available)
    grown = [asset for asset, beyond in external.items() if beyond > state.external.get(asset, ZERO) * (1 + DUST_FRAC)]
    if difference < 0 and grown:
        cash = f"{stake}: the ledger holds {state.cash}, the exchange {balances.get(stake, ZERO)}, and {', '.join(grown)} has grown"
        # What has grown is not taken for external: the next comparison would see a plain withdrawal, and that is a guess.
        known = {asset: state.external.get(asset, ZERO) if asset in grown else beyond for asset, beyond in external.items()}
        external = {asset: beyond for asset, beyond in known.items() if beyond}
        return Reconciliation(mismatch or f"{cash}: a trade that the ledger does not know", external, ZERO, available)
    return Reconciliation(mismatch, external, ZERO if mismatch else difference, available)


def _available(state: DeskState, balances: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """What the exchange has of each pair of which it has less than the ledger."""
    short = {}
    for pair, position in state.positions.items():
        held = balances.get(base_asset(pair), ZERO)
        if held < position.qty * (1 - DUST_FRAC):
            short[pair] = max(ZERO, held)
    return short


def _shortage(state: DeskState, available: Mapping[str, Decimal]) -> str:
    if not available:
        return ""
    return "; ".join(f"{pair}: the ledger holds {state.positions[pair].qty}, the exchange {available[pair]}" for pair in sorted(available))
