"""Stops of one position: initial, trailing, loss limit, take-profit."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from tickless.risk.stops import exit_reason, protect, trail
from tickless.settings import RiskSection
from tickless.types import Position, StopState

SETTINGS = RiskSection()
HELD = Position("A/USDT", "rotation", "entry", datetime(2024, 6, 1, tzinfo=UTC), Decimal(2), Decimal(200))


def test_the_initial_stop_lies_1_3_atr_below_the_average_entry():
    stop = protect(HELD, 1.0, SETTINGS).stop
    assert stop == StopState(stop_price=pytest.approx(98.7), kind="stop_loss", anchor_price=None, atr=1.0)


def test_buying_more_never_lowers_the_stop():
    first = protect(HELD, 1.0, SETTINGS)
    dearer = replace(first, bought_qty=Decimal(4), bought_value=Decimal(420))
    cheaper = replace(first, bought_qty=Decimal(4), bought_value=Decimal(380))
    assert protect(dearer, 1.0, SETTINGS).stop.stop_price == pytest.approx(105.0 - 1.3)
    assert protect(cheaper, 1.0, SETTINGS).stop.stop_price == first.stop.stop_price
    assert protect(first, 30.0, SETTINGS).stop.stop_price == first.stop.stop_price


@pytest.mark.parametrize("atr", [None, 0.0, -1.0, float("nan")])
def test_without_an_atr_the_loss_limit_still_protects(atr):
    position = protect(HELD, atr, SETTINGS)
    assert position == HELD
    assert exit_reason(position, 98.25, SETTINGS) == "max_loss"
    assert exit_reason(position, 98.26, SETTINGS) is None


def test_an_atr_that_exceeds_the_price_sets_no_stop():
    assert protect(HELD, 90.0, SETTINGS).stop == StopState(atr=90.0)


def test_a_close_at_the_stop_is_a_hit():
    position = protect(HELD, 1.0, SETTINGS)
    assert exit_reason(position, 98.71, SETTINGS) is None
    assert exit_reason(position, position.stop.stop_price, SETTINGS) == "stop_loss"


def test_the_loss_limit_is_1_75_percent_below_the_entry():
    position = protect(HELD, 5.0, SETTINGS)
    assert position.stop.stop_price == 93.5
    assert exit_reason(position, 98.26, SETTINGS) is None
    assert exit_reason(position, 98.24, SETTINGS) == "max_loss"
    assert exit_reason(position, 90.0, SETTINGS) == "stop_loss"
    assert exit_reason(position, 97.0, SETTINGS.model_copy(update={"max_position_loss_frac": None})) is None


def test_the_trail_arms_at_0_8_atr_and_follows_at_one():
    stop = protect(HELD, 1.0, SETTINGS).stop
    assert trail(stop, 100.0, 100.79, SETTINGS) == stop
    armed = trail(stop, 100.0, 100.8, SETTINGS)
    assert armed == StopState(stop_price=pytest.approx(99.8), kind="trailing_stop_loss", anchor_price=100.8, atr=1.0)
    lower = trail(armed, 100.0, 100.1, SETTINGS)
    assert lower == armed
    assert trail(lower, 100.0, 103.0, SETTINGS).stop_price == 102.0


def test_a_growing_atr_does_not_move_the_stop_down():
    armed = trail(protect(HELD, 1.0, SETTINGS).stop, 100.0, 104.0, SETTINGS)
    wider = trail(replace(armed, atr=5.0), 100.0, 104.5, SETTINGS)
    assert (wider.stop_price, wider.anchor_price) == (103.0, 104.5)
    assert trail(replace(wider, atr=0.5), 100.0, 104.0, SETTINGS).stop_price == 104.0


def test_trailing_can_be_switched_off():
    stop = protect(HELD, 1.0, SETTINGS).stop
    assert trail(stop, 100.0, 120.0, SETTINGS.model_copy(update={"trail_arm_atr": None})) == stop
    assert trail(StopState(), 100.0, 120.0, SETTINGS) == StopState()


def test_an_initial_stop_can_be_switched_off():
    assert protect(HELD, 1.0, SETTINGS.model_copy(update={"initial_stop_atr": None})).stop == StopState(atr=1.0)


def test_take_profit_is_off_unless_set():
    position = protect(HELD, 1.0, SETTINGS)
    assert exit_reason(position, 150.0, SETTINGS) is None
    taking = SETTINGS.model_copy(update={"take_profit_atr": 1.5})
    assert exit_reason(position, 101.49, taking) is None
    assert exit_reason(position, 101.5, taking) == "take_profit"
    assert exit_reason(HELD, 150.0, taking) is None
