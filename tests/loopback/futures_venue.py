"""The futures venue: what reduce-only and the algo service add to matching."""

from __future__ import annotations

from decimal import Decimal

from tests.loopback.futures_account import FuturesAccount
from tests.loopback.matching import Venue, child_of
from tests.loopback.orders import ZERO, Order, RefusedError


class FuturesVenue(Venue):
    """A conditional order waits in the algo service; reached, it places an order of its own."""

    account: FuturesAccount

    def trigger(self, order: Order, price: Decimal, at_ms: int) -> None:
        order.triggered, order.triggered_ms, order.updated_ms = True, at_ms, at_ms
        del self.working[order.is_algo, order.id]
        held = abs(self.account.position(order.pair, order.position_side).qty)
        child = child_of(order, self.next_id(), held if order.close_position else order.qty, at_ms)
        child.reduce_only = child.reduce_only or order.close_position
        try:
            self.account.reserve(child, price, self.world.taker_frac)
        except RefusedError:
            order.status = "REJECTED"
            return
        order.child, order.status = child, "TRIGGERED"
        self.enter(child)
        self._execute(child, price, Decimal(1), at_ms)

    def _fill(self, order: Order, price: Decimal, qty: Decimal, *, is_maker: bool, at_ms: int) -> None:
        if order.reduce_only:
            held = self.account.position(order.pair, order.position_side).qty
            against = held < 0 if order.is_buy else held > 0
            qty = min(qty, abs(held)) if against else ZERO
            if not qty:
                self.working.pop((order.is_algo, order.id), None)
                self._end(order, "EXPIRED", at_ms)
                return
        super()._fill(order, price, qty, is_maker=is_maker, at_ms=at_ms)


def algo_status(order: Order) -> str:
    """As the algo service tells it: FINISHED once the order it placed has ended."""
    if order.child is None:
        return order.status
    return "TRIGGERED" if order.child.is_working else "FINISHED"
