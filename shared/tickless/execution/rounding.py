"""Floats to Decimals, once, and onto the exchange's steps."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal
from functools import cache

SIGNIFICANT_DIGITS = 12
"""Digits kept of a quantity or simulated price on a pair without a step."""
_DOWN = Context(prec=SIGNIFICANT_DIGITS, rounding=ROUND_DOWN)
_EVEN = Context(prec=SIGNIFICANT_DIGITS, rounding=ROUND_HALF_EVEN)
MONEY_STEP = Decimal("1e-10")
_ONE = Decimal(1)


def exact(value: float) -> Decimal:
    """The Decimal a float prints as (the shortest that gives the float back)."""
    return Decimal(repr(float(value)))


@cache
def rate(bps: float) -> Decimal:
    """Basis points as an exact fraction."""
    return exact(bps) / 10_000


def qty_down(qty: Decimal, step: Decimal | None) -> Decimal:
    """The largest allowed quantity not above ``qty``: a multiple of the step, or 12 significant digits."""
    if step is None:
        return _plain(_DOWN.plus(qty))
    return _plain((qty / step).to_integral_value(rounding=ROUND_DOWN) * step)


def price_on_step(price: Decimal, step: Decimal | None, *, up: bool) -> Decimal:
    """The allowed price next to ``price``, above or below; 12 significant digits where there is no step."""
    if step is None:
        return simulated_price(price)
    return _plain((price / step).to_integral_value(rounding=ROUND_CEILING if up else ROUND_FLOOR) * step)


def simulated_price(price: Decimal) -> Decimal:
    """A fill price with slippage, to 12 significant digits."""
    return _plain(_EVEN.plus(price))


def money(value: Decimal) -> Decimal:
    """An amount of stake currency, to 1e-10."""
    return value.quantize(MONEY_STEP, rounding=ROUND_HALF_EVEN)


def _plain(value: Decimal) -> Decimal:
    """No exponent and no trailing zeros: 1E+3 → 1000, 0.500 → 0.5."""
    value = value.normalize()
    return value.quantize(_ONE) if value == value.to_integral_value() else value
