"""The desk's state where no order has a part in it: its first, and after somebody has moved cash."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from tickless.errors import RetryableError
from tickless.execution.rounding import exact, money
from tickless.pipeline import portfolio_value
from tickless.ports import Venue
from tickless.settings import Settings
from tickless.types import ZERO, DeskState, evolve


def move_cash(state: DeskState, flow: Decimal) -> DeskState:
    """The state after somebody has put stake currency in or taken it out: drawdown, as a share of the peak, is what it was."""
    before = exact(portfolio_value(state, {}))
    grown = (before + flow) / before if before > 0 else Decimal(1)
    return evolve(state, cash=state.cash + flow, peak_equity=max(ZERO, money(state.peak_equity * grown)))


def looked_at(state: DeskState) -> list[str]:
    """The pairs whose closes a tick has to know whatever it decides on, sorted: those held, and those with the rest of an order."""
    return sorted({*state.positions, *(rest.pair for rest in state.unfilled.values())}) if state.unfilled else sorted(state.positions)


def new_desk(venue: Venue, settings: Settings, at: datetime) -> DeskState:
    """A desk that has never run: its cash is what the exchange holds of the stake currency."""
    cash = venue.exchange.snapshot(at, ()).balances.get(settings.desk.stake_currency)
    if cash is None:
        raise RetryableError(f"the exchange reports no {settings.desk.stake_currency} balance")
    # A desk of signals alone never looks for a regime, and says none.
    return DeskState(cash=cash, peak_equity=cash, regime=DeskState.regime if settings.calendar.rebalanced else "")
