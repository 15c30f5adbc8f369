"""Pairs whose market is closed are left alone, one by one; all others go on. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from tickless.types import DeskState, PairRules, evolve, iso, no_rules, parse_time

REFUSED_FOR = timedelta(hours=1)
"""How long nothing is ordered of a pair after the exchange has said that its market is closed."""


def quarantine(state: DeskState, rules: Mapping[str, PairRules], at: datetime) -> dict[str, str]:
    """The pairs that are shut out at ``at``, and since when.

    Those held or ordered that the exchange lists as not active, for as long as it does; and for an hour those of which it has refused an
    order because the market is closed.
    """
    concerned = {*state.positions, *(order.pair for order in state.orders.values()), *state.quarantined}
    closed = {pair for pair in concerned if (rule := rules.get(pair)) is not None and not rule.active}
    kept = {pair: since for pair, since in state.quarantined.items() if pair in closed or at - parse_time(since) < REFUSED_FOR}
    return {**{pair: iso(at) for pair in sorted(closed)}, **kept}


def shut_out(quarantined: Mapping[str, str], rules: Mapping[str, PairRules]) -> Mapping[str, PairRules]:
    """The rules, in which no quarantined pair is active."""
    if not quarantined:
        return rules
    return {**rules, **{pair: evolve(rules.get(pair) or no_rules(pair), active=False) for pair in quarantined}}
