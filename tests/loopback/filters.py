"""An exchange's filters: steps, smallest quantity, smallest notional."""

from __future__ import annotations

from decimal import Decimal

from tests.loopback.orders import Order, RefusedError, Why
from tickless.types import PairRules


def check(order: Order, rules: PairRules, price: Decimal, *, above: bool = False, notional: bool = True) -> None:
    """``price`` is what a market order would pay; ``above``: the notional must be above the least, not only at it. Raises RefusedError."""
    if order.close_position:
        return
    if order.qty <= 0 or (rules.min_qty and order.qty < rules.min_qty):
        raise RefusedError(Why.QTY)
    if rules.qty_step and order.qty % rules.qty_step:
        raise RefusedError(Why.QTY_STEP)
    for one in (order.price, order.stop):
        if one is not None and (one <= 0 or (rules.price_step and one % rules.price_step)):
            raise RefusedError(Why.PRICE_STEP)
    value = order.qty * (order.price or order.stop or price)
    least = rules.min_notional or Decimal(0)
    if notional and (value < least or (above and value == least)):
        raise RefusedError(Why.NOTIONAL)
