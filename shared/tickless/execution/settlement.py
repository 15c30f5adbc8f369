"""The order nobody sends: what an exchange ends a holding with when the price scale of its pair breaks. Pure.

Its id follows from the pair and the moment alone, so that every report of it is a report of the same order.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from decimal import Decimal

from tickless.types import DeskState, Fill, Order, OrderType, Side

PRICE_SCALE_BREAK = "price_scale_break"
"""The exit reason of such a trade, and why open orders of its pair are cancelled."""
_STAMP = timedelta(milliseconds=1)


def settlement_order(pair: str, at: datetime, qty: Decimal, strategy: str = "") -> Order:
    """The sell of all that is held of a pair, by the exchange, at the moment ``at`` at which it knows of the break."""
    digest = hashlib.sha256(f"{PRICE_SCALE_BREAK}|{pair}|{at.isoformat()}".encode()).hexdigest()
    return Order(
        client_order_id=f"sb{at:%y%m%d%H%M}{digest[:18]}",
        tick_at=at,
        strategy=strategy,
        pair=pair,
        side=Side.SELL,
        type=OrderType.MARKET,
        qty=qty,
        reason=PRICE_SCALE_BREAK,
        reduce_only=True,
    )


def settled_at(at: datetime) -> datetime:
    """When the fill of a settlement known at ``at`` is stamped: one millisecond before, like all that happens ahead of an open."""
    return at - _STAMP


def settlement_due(state: DeskState, fill: Fill) -> Order | None:
    """The order to book a settlement under; None where it has been booked, or ended nothing of the desk.

    A settlement takes all that is held, and what is bought later is opened later: a position that is older than the fill has not heard of
    it. So a snapshot may repeat a settlement for ever, and it is booked once.
    """
    position = state.positions.get(fill.pair)
    if position is None or position.opened_at > fill.filled_at:
        return None
    return settlement_order(fill.pair, fill.filled_at + _STAMP, fill.qty, position.strategy)
