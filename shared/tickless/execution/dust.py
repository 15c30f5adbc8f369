"""What is left of a position and cannot be sold: below the exchange's least quantity or least notional. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from tickless.execution.rounding import exact, qty_down
from tickless.types import DeskState, PairRules, Position

DUST = "dust"
"""Why nothing is done about a remainder that the exchange would not take."""


def dust_pairs(state: DeskState, closes: Mapping[str, float], rules: Mapping[str, PairRules]) -> frozenset[str]:
    """Pairs of which only dust is left: they have been sold of, or were to be, no order of theirs is open, and the rest cannot be sold.

    A position that was never to be sold is none, however small: its strategy may yet add to it. The rest is valued at the close, else at
    the last one seen. Nothing is stored: what a rising price lifts above the least notional is a position again, and is sold like one.
    """
    busy: set[str] | None = None
    dust = []
    for pair, position in state.positions.items():
        rule = rules.get(pair)
        if rule is None or not (position.sold_qty > 0 or pair in state.blocked):
            continue
        price = closes.get(pair, state.marks.get(pair))
        if _sellable(position, rule, price):
            continue
        if busy is None:
            busy = {order.pair for order in state.orders.values()}
        if pair not in busy:
            dust.append(pair)
    return frozenset(dust)


def _sellable(position: Position, rule: PairRules, price: float | None) -> bool:
    qty = position.qty if rule.qty_step is None else qty_down(position.qty, rule.qty_step)
    if qty <= 0 or (rule.min_qty is not None and qty < rule.min_qty):
        return False
    worth = position.entry_price if price is None else exact(price)
    return rule.min_notional is None or qty * worth >= rule.min_notional
