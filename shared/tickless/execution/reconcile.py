"""Compare the ledger with the exchange's answer. Pure: says what differs and what it means, touches nothing.

========================================== =====================================================================================
the exchange holds                         outcome
========================================== =====================================================================================
as much as the ledger                      nothing; a desk that was reducing is active again
less of a base asset                       mismatch: the desk only sells, what is really there, until both agree
more of a base asset                       external: reported, never touched, never counted
another amount of the stake currency,      a deposit or a withdrawal: cash and peak equity move together, so that neither a
and no base asset looks traded for it      drawdown nor a profit comes of it
more of the stake currency, and external   external, too: somebody's own sale, or an answer that is not of now. What comes out of it
assets have shrunk by about its value      later (the other half of a late answer, a withdrawal, a purchase) is taken from there
less of the stake currency, while a base   mismatch: it looks like a trade that the ledger does not know
asset has grown beyond the ledger
========================================== =====================================================================================

Nothing is concluded from balances while an order's outcome is unknown, nor of cash while there is a mismatch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from tickless.execution.rounding import exact
from tickless.types import ZERO, AccountSnapshot, DeskState, OrderStatus, base_asset

TOLERANCE = Decimal("0.01")
"""Stake currency by which an exchange's own rounding of fills may differ from ours, at most."""
TOLERANCE_FRAC = Decimal("1e-6")
"""The same as a share of equity: a cent is nothing of a desk in dollars, and much of one in bitcoin."""
DUST_FRAC = Decimal("1e-9")
"""Share of a holding that an exchange's rounding may cost."""
FIT_FRAC = Decimal("0.1")
"""Share of what was traded by which its price may have been another than the last close: what fits no better was not traded."""
UNSETTLED = frozenset({OrderStatus.INTENT, OrderStatus.UNKNOWN})
"""Orders that may have traded without our knowing."""


@dataclass(frozen=True)
class Reconciliation:
    """What the exchange's balances say of the ledger."""

    mismatch: str = ""
    """What the ledger claims and the exchange does not have; empty where there is nothing of the kind."""
    external: Mapping[str, Decimal] = field(default_factory=dict)
    """What the exchange holds beyond the ledger, by asset; of the stake currency, what somebody else's coins were sold for."""
    flow: Decimal = ZERO
    """Stake currency that somebody has put in (positive) or taken out."""
    available: Mapping[str, Decimal] = field(default_factory=dict)
    """What can really be sold of a pair of which the exchange holds less than the ledger."""
    conclusive: bool = True
    """False while an order may have traded without our knowing: only ``available`` then says anything."""


PriceOf = Callable[[str], Decimal | None]
"""The last close of an asset in the stake currency; None = nobody knows."""


def reconcile(state: DeskState, snapshot: AccountSnapshot, stake: str, price_of: PriceOf | None = None) -> Reconciliation:
    """Compare positions and cash with balances, both after every known order has been settled.

    ``price_of`` is asked only where cash came and external assets went; without it, prices are those of what the desk holds.
    """
    balances = snapshot.balances
    available = _available(state, balances)
    if any(order.status in UNSETTLED for order in state.orders.values()):
        return Reconciliation(available=available, conclusive=False)
    owned = {base_asset(pair): position.qty for pair, position in state.positions.items()}
    beyond = {
        asset: held - owned.get(asset, ZERO)
        for asset, held in sorted(balances.items())
        if asset != stake and held > owned.get(asset, ZERO) * (1 + DUST_FRAC)
    }
    mismatch = _shortage(state, available)
    theirs = state.external.get(stake, ZERO)
    difference = balances.get(stake, ZERO) - theirs - state.cash
    tolerance = _tolerance(state) if difference else ZERO
    if abs(difference) <= tolerance:
        return Reconciliation(mismatch, _external(beyond, stake, theirs), ZERO, available)
    shrunk = {asset for asset, before in state.external.items() if asset != stake and beyond.get(asset, ZERO) < before * (1 - DUST_FRAC)}
    grown = {asset for asset, qty in beyond.items() if qty > state.external.get(asset, ZERO) * (1 + DUST_FRAC)}
    # What somebody else's coins brought goes first: a late answer, a purchase or a withdrawal of theirs is no business of the desk's.
    used = min(theirs, max(ZERO, -difference))
    flow = difference + used
    if not mismatch and flow < -tolerance and grown:
        cash = f"{stake}: the ledger holds {state.cash}, the exchange {balances.get(stake, ZERO)}, and {', '.join(sorted(grown))} has grown"
        mismatch = f"{cash}: a trade that the ledger does not know"
    if mismatch:
        # What may explain the cash stays as it was: the next comparison would see a plain deposit or withdrawal, and that is a guess.
        unsure = {asset: state.external.get(asset, ZERO) for asset in (shrunk if difference > 0 else grown)}
        return Reconciliation(mismatch, _external({**beyond, **unsure}, stake, theirs), ZERO, available)
    if difference > 0 and shrunk and _fits(difference, state, beyond, shrunk | grown, price_of or _price_in(state, stake)):
        return Reconciliation("", _external(beyond, stake, theirs + difference), ZERO, available)
    flow = ZERO if abs(flow) <= tolerance else flow
    return Reconciliation("", _external(beyond, stake, theirs - used), flow, available)


def _tolerance(state: DeskState) -> Decimal:
    """Stake currency that is rounding: a millionth of what the desk has, valued at cost, and never more than 0.01."""
    equity = state.cash + sum([position.qty * position.entry_price for position in state.positions.values()], ZERO)
    return max(ZERO, min(TOLERANCE, equity * TOLERANCE_FRAC))


def _external(beyond: Mapping[str, Decimal], stake: str, theirs: Decimal) -> dict[str, Decimal]:
    return {asset: qty for asset, qty in sorted({**beyond, stake: theirs}.items()) if qty}


def _fits(difference: Decimal, state: DeskState, beyond: Mapping[str, Decimal], assets: Collection[str], price_of: PriceOf) -> bool:
    """Whether what changed beyond the ledger may have been traded for the cash that came: about as much as it is worth, or nobody knows."""
    net = gross = ZERO
    for asset in sorted(assets):
        price, went = price_of(asset), state.external.get(asset, ZERO) - beyond.get(asset, ZERO)
        if price is None:
            if went > 0:
                return True
            continue
        net, gross = net + went * price, gross + abs(went) * price
    return abs(difference - net) <= gross * FIT_FRAC


def _price_in(state: DeskState, stake: str) -> PriceOf:
    """Prices of what the desk itself holds."""

    def price_of(asset: str) -> Decimal | None:
        for pair in (f"{asset}/{stake}", f"{asset}/{stake}:{stake}"):
            if pair in state.positions:
                mark = state.marks.get(pair)
                return state.positions[pair].entry_price if mark is None else exact(mark)
        return None

    return price_of


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
