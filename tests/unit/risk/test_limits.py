"""Limits on targets: they scale and hold back, and never add."""

import pytest

from tickless.risk.limits import Limited, limit
from tickless.settings import DrawdownStep, RiskSection

SETTINGS = RiskSection()
TARGETS = {"A/USDT": 0.10, "B/USDT": 0.05}
STOPPED = {"A/USDT": "2024-06-01T00:00:00Z"}


def limited(weights=TARGETS, held=(), drawdown=0.0, *, halted=False, blocked=(), settings=SETTINGS):
    return limit(weights, dict(held), drawdown, halted=halted, blocked=dict(blocked), settings=settings)


def test_without_cause_nothing_changes():
    assert limited() == Limited(TARGETS, (), {})


def test_a_drawdown_scales_every_weight():
    got = limited(drawdown=-0.06)
    assert got.values == {"A/USDT": 0.05, "B/USDT": 0.025}
    assert got.limits == ("drawdown_scale:0.5",)
    assert limited(drawdown=-0.15).values == pytest.approx({"A/USDT": 0.02, "B/USDT": 0.01})


def test_a_scale_of_zero_leaves_no_target():
    settings = RiskSection(drawdown_steps=(DrawdownStep(drawdown_frac=0.05, scale_frac=0.0),))
    assert limited(drawdown=-0.06, settings=settings).values == {}


def test_while_halted_nothing_grows_but_everything_may_shrink():
    got = limited(held={"A/USDT": 0.04, "B/USDT": 0.08}, halted=True)
    assert got.values == {"A/USDT": 0.04, "B/USDT": 0.05}
    assert got.held_back == {"A/USDT": "halted"}
    assert got.limits == ("halted",)
    assert limited(halted=True).values == {}


def test_a_blocked_pair_is_not_bought():
    got = limited(blocked=STOPPED)
    assert got.values == {"B/USDT": 0.05}
    assert got.held_back == {"A/USDT": "blocked_after_stop"}
    assert got.limits == ("blocked:A/USDT",)


def test_what_is_left_of_a_blocked_pair_may_stay_or_shrink():
    assert limited(held={"A/USDT": 0.03}, blocked=STOPPED).values["A/USDT"] == 0.03
    got = limited(held={"A/USDT": 0.30}, blocked=STOPPED)
    assert (got.values["A/USDT"], got.held_back) == (0.10, {})


def test_the_scale_comes_before_the_comparison_with_holdings():
    got = limited(held={"A/USDT": 0.06, "B/USDT": 0.01}, drawdown=-0.06, halted=True)
    assert got.values == {"A/USDT": 0.05, "B/USDT": 0.01}
    assert got.limits == ("drawdown_scale:0.5", "halted")
