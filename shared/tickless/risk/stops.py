"""The stop engine: initial, trailing, loss limit, take-profit. A stop of a long position only ever rises.

The desk keeps these stops itself and checks them on closed bars at every risk check; prices are float64 in quote units. Where
``execution.stoploss_on_exchange`` asks for it, ``execution.protection`` lets them rest at the exchange as well.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf

from tickless.settings import RiskSection
from tickless.types import Position, StopState

STOP_LOSS = "stop_loss"
TRAILING = "trailing_stop_loss"
MAX_LOSS = "max_loss"
TAKE_PROFIT = "take_profit"
TIME_STOP = "time_stop"
STOP_REASONS = frozenset({STOP_LOSS, TRAILING, MAX_LOSS})
"""Exits after which a pair is blocked until the next full rebalance."""


def protect(position: Position, atr: float | None, settings: RiskSection) -> Position:
    """Set the initial stop of a position after a buy: entry - initial_stop_atr * ATR, never below the stop it has.

    Without an ATR the stop is left as it is; the loss limit still protects.
    """
    if atr is None or not atr > 0.0:
        return position
    stop = replace(position.stop, atr=atr)
    if settings.initial_stop_atr is not None:
        kind = STOP_LOSS if stop.kind == MAX_LOSS else stop.kind
        stop = _raise_to(stop, float(position.entry_price) - settings.initial_stop_atr * atr, kind)
    return replace(position, stop=stop)


def with_loss_limit(position: Position, settings: RiskSection) -> Position:
    """The position whose stop is the loss limit at least: what rests on the exchange is one stop, and it never falls.

    Without it the loss limit follows the average entry price, down too.
    """
    if settings.max_position_loss_frac is None:
        return position
    stop = _raise_to(position.stop, float(position.entry_price) * (1.0 - settings.max_position_loss_frac), MAX_LOSS)
    return position if stop is position.stop else replace(position, stop=stop)


def trail(stop: StopState, entry_price: float, close: float, settings: RiskSection) -> StopState:
    """Move the trailing stop after a closed bar.

    It arms when the close reaches entry + trail_arm_atr * ATR; from then on the anchor is the highest close, and the stop is the
    anchor less trail_distance_atr * ATR, or what it was before if that is higher.
    """
    atr = stop.atr
    if atr is None or settings.trail_arm_atr is None:
        return stop
    armed = stop.anchor_price is not None or close >= entry_price + settings.trail_arm_atr * atr
    if not armed:
        return stop
    anchor = close if stop.anchor_price is None else max(stop.anchor_price, close)
    stop = replace(stop, anchor_price=anchor)
    return _raise_to(stop, anchor - settings.trail_distance_atr * atr, TRAILING)


def exit_reason(position: Position, close: float, settings: RiskSection) -> str | None:
    """Why the position must be sold at this close, or None. Order: stop, loss limit, take-profit."""
    stop, entry = position.stop, float(position.entry_price)
    if stop.stop_price is not None and close <= stop.stop_price:
        return stop.kind
    if settings.max_position_loss_frac is not None and close <= entry * (1.0 - settings.max_position_loss_frac):
        return MAX_LOSS
    if settings.take_profit_atr is not None and stop.atr is not None and close >= entry + settings.take_profit_atr * stop.atr:
        return TAKE_PROFIT
    return None


def calm_corridor(position: Position, settings: RiskSection) -> tuple[float, float]:
    """(low, high): while low < close < high, a risk check neither moves the position's stop nor sells it.

    The bounds are where ``trail`` and ``exit_reason`` would act; an empty corridor (low = infinity) where they would at any close.
    """
    stop, entry = position.stop, float(position.entry_price)
    low, high = -inf, inf
    if stop.stop_price is not None:
        low = stop.stop_price
    if settings.max_position_loss_frac is not None:
        low = max(low, entry * (1.0 - settings.max_position_loss_frac))
    if stop.atr is None:
        return low, high
    if settings.take_profit_atr is not None:
        high = entry + settings.take_profit_atr * stop.atr
    if settings.trail_arm_atr is None:
        return low, high
    if stop.anchor_price is None:
        return low, min(high, entry + settings.trail_arm_atr * stop.atr)
    if _raise_to(stop, stop.anchor_price - settings.trail_distance_atr * stop.atr, TRAILING) is not stop:
        return inf, high  # The ATR has shrunk since: the stop moves at the next check, whatever the close.
    return low, min(high, stop.anchor_price)


def _raise_to(stop: StopState, price: float, kind: str) -> StopState:
    if not price > 0.0 or (stop.stop_price is not None and price <= stop.stop_price):
        return stop
    return replace(stop, stop_price=price, kind=kind)
