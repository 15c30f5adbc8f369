"""What a strategy is to the desk. Target weights and signals go through the same contract.

A strategy looks (``propose``) and sizes (``target``). It answers with the value to hold of some pairs and with the pairs to be out of;
a pair in neither stays as it is. ``rotation`` names its whole portfolio at every rebalance and leaves what is not in it; ``crossover``
names a pair once when it enters and once when it leaves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from tickless.settings import Settings
from tickless.strategies.view import MarketView, Proposal, Proposals
from tickless.types import Position

NOTHING: Mapping[str, Any] = MappingProxyType({})


class Own(NamedTuple):
    """What a strategy has in the market."""

    positions: Mapping[str, Position]
    buying: frozenset[str] = frozenset()
    """Pairs with an open buy of the strategy."""

    @property
    def pairs(self) -> list[str]:
        """Held or being bought, sorted."""
        return sorted({*self.positions, *self.buying})


class Targets(NamedTuple):
    """What a strategy's positions should become, before limits."""

    values: Mapping[str, float]
    """What to hold of a pair, in the stake currency, in the order in which it is to be bought."""
    leaving: Mapping[str, str]
    """Pairs to sell whole, and why; an open buy of theirs is cancelled."""
    limits: tuple[str, ...] = ()
    """Limits of the construction that bound."""
    passed_over: Mapping[str, str] = NOTHING
    """Proposed, but not in ``values``, and why."""
    facts: Mapping[str, Any] = NOTHING
    """What else the trace should say of the tick."""


class Strategy(Protocol):
    """One way to trade. Pure: no clock, no I/O, no memory but what the view and its own positions tell."""

    name: str

    def first_feature_bar(self, settings: Settings, at: datetime) -> datetime:
        """Where the window begins that the features of a tick at ``at`` are computed on."""
        ...

    def first_bar(self, settings: Settings, at: datetime) -> datetime:
        """The first bar that the view of a tick at ``at`` needs: for its features, and for what rules pairs out."""
        ...

    def extra_pairs(self, settings: Settings) -> tuple[str, ...]:
        """Pairs it looks at whether they are in the universe or not."""
        ...

    def propose(self, view: MarketView, own: Own, settings: Settings) -> Proposals:
        """What it would hold, what it wants to be out of, and a verdict on every pair."""
        ...

    def target(
        self, proposals: Sequence[Proposal], leaving: Mapping[str, str], view: MarketView, own: Own, equity: float, settings: Settings
    ) -> Targets:
        """Size what is left of its proposals; ``leaving`` are the pairs that it must or wants to be out of."""
        ...

    def hysteresis_frac(self, settings: Settings, *, full: bool) -> float:
        """The share of equity by which a holding may be off its target."""
        ...
