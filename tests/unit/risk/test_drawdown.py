"""Drawdown steps and the kill switch at their very boundaries."""

import pytest

from tickless.risk.drawdown import drawdown_frac, kill_switch_trips, target_scale
from tickless.settings import RiskSection

SETTINGS = RiskSection()


@pytest.mark.parametrize("peak", [50_000.0, 1.0, 47_123.45, 3e-5])
@pytest.mark.parametrize(
    ("percent", "scale", "halted"),
    [
        (0, 1.0, False),
        (4.99, 1.0, False),
        (5.01, 0.5, False),
        (9.99, 0.5, False),
        (10.01, 0.2, False),
        (19.99, 0.2, False),
        (20.01, 0.2, True),
    ],
)
def test_steps(peak, percent, scale, halted):
    drawdown = drawdown_frac(peak * (1.0 - percent / 100.0), peak)
    assert target_scale(drawdown, SETTINGS) == scale
    assert kill_switch_trips(drawdown, SETTINGS) is halted


@pytest.mark.parametrize("peak", [50_000.0, 100.0, 62_500.0])
def test_steps_are_exceeded_and_the_kill_switch_is_reached(peak):
    assert target_scale(drawdown_frac(peak * 95 / 100, peak), SETTINGS) == 1.0
    assert target_scale(drawdown_frac(peak * 90 / 100, peak), SETTINGS) == 0.5
    assert kill_switch_trips(drawdown_frac(peak * 80 / 100, peak), SETTINGS)


def test_there_is_no_drawdown_above_the_peak_or_without_one():
    assert drawdown_frac(51_000.0, 50_000.0) == 0.0
    assert drawdown_frac(10.0, 0.0) == 0.0
    assert drawdown_frac(-10.0, 100.0) == -1.1


def test_both_can_be_switched_off():
    off = RiskSection(drawdown_steps=(), kill_switch_drawdown_frac=None)
    assert target_scale(-0.9, off) == 1.0
    assert not kill_switch_trips(-0.9, off)
