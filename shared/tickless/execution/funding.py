"""Book what perpetual contracts pay and cost between trades, each payment once. Pure.

A payment is known by its time and amount alone: an exchange tells those of one moment one after the other, in any order. So what counts is
a sum. Of all that was paid after a moment, so much is in cash; whatever the exchange tells beyond that is due.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from tickless.types import ZERO, AccountSnapshot, DeskState, FundingBook, evolve

KEPT = timedelta(days=1)
"""A payment is told within a day of its time; the book moves on a day later, as an exchange tells of a few days only."""


def book_funding(state: DeskState, snapshot: AccountSnapshot) -> DeskState:
    """The state with every payment in its cash; the same object where nothing is due. Peak equity stays: it is the market's own doing.

    What was paid before the first look is in the balance that the desk has begun with. Of a desk that has not run for longer than the
    exchange tells, what was paid up to its last tick counts as booked.
    """
    if snapshot.funding_since is None:
        return state
    if state.funding is None:
        return evolve(state, funding=FundingBook(snapshot.at - KEPT, _paid(snapshot, snapshot.at - KEPT), ZERO))
    since, booked = state.funding.since, state.funding.booked
    if since < snapshot.funding_since:
        since, seen = snapshot.funding_since, state.last_tick_at or snapshot.at
        booked = _paid(snapshot, since) - _paid(snapshot, max(since, seen))
    due = _paid(snapshot, since) - booked
    moved = snapshot.at - KEPT if since < snapshot.at - 2 * KEPT else since
    book = FundingBook(moved, _paid(snapshot, moved), state.funding.total + due)
    return state if book == state.funding else evolve(state, cash=state.cash + due, funding=book)


def _paid(snapshot: AccountSnapshot, since: datetime) -> Decimal:
    return sum((payment.amount for payment in snapshot.funding if payment.paid_at > since), ZERO)
