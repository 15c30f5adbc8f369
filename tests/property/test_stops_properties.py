"""A stop of a long position never moves down, whatever price and ATR do."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from tickless.risk.stops import exit_reason, protect, trail
from tickless.settings import RiskSection
from tickless.types import Position

PRICES = st.floats(1e-6, 1e6)
MULTIPLES = st.one_of(st.none(), st.floats(0.01, 10.0))


@st.composite
def sections(draw):
    return RiskSection(
        initial_stop_atr=draw(MULTIPLES),
        trail_arm_atr=draw(MULTIPLES),
        trail_distance_atr=draw(st.floats(0.01, 10.0)),
        max_position_loss_frac=draw(st.one_of(st.none(), st.floats(0.001, 1.0))),
        take_profit_atr=draw(MULTIPLES),
    )


STEPS = st.lists(st.tuples(st.floats(0.5, 2.0), st.floats(1e-4, 0.5), st.sampled_from(["hold", "hold", "buy"])), max_size=25)


@given(PRICES, st.floats(1e-4, 0.5), STEPS, sections())
def test_the_stop_and_its_anchor_only_rise(entry, atr_frac, steps, settings):
    price = entry
    opened = Position("A/USDT", "rotation", "entry", datetime(2024, 6, 1, tzinfo=UTC), Decimal(1), Decimal(repr(entry)))
    position = protect(opened, atr_frac * entry, settings)
    for move, atr_frac_now, action in steps:
        before = position.stop
        price *= move
        stop = trail(before, float(position.entry_price), price, settings)
        position = replace(position, stop=replace(stop, atr=atr_frac_now * price))
        if action == "buy":
            more = replace(position, bought_qty=position.bought_qty + 1, bought_value=position.bought_value + Decimal(repr(price)))
            position = protect(more, atr_frac_now * price, settings)
        after = position.stop
        assert before.stop_price is None or (after.stop_price is not None and after.stop_price >= before.stop_price)
        assert before.anchor_price is None or (after.anchor_price is not None and after.anchor_price >= before.anchor_price)
        assert after.stop_price is None or after.stop_price > 0.0


@given(PRICES, st.floats(1e-4, 0.5), st.floats(0.1, 3.0), sections())
def test_below_any_protection_the_position_is_sold(entry, atr_frac, move, settings):
    position = protect(
        Position("A/USDT", "s", "e", datetime(2024, 6, 1, tzinfo=UTC), Decimal(1), Decimal(repr(entry))), atr_frac * entry, settings
    )
    close = entry * move
    stop = position.stop.stop_price
    lost = settings.max_position_loss_frac is not None and close <= entry * (1.0 - settings.max_position_loss_frac)
    reason = exit_reason(position, close, settings)
    if stop is not None and close <= stop:
        assert reason == "stop_loss"
    elif lost:
        assert reason == "max_loss"
    else:
        assert reason in (None, "take_profit")
        assert reason is None or close > entry
