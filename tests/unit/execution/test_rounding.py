"""Onto the exchange's steps."""

from __future__ import annotations

import pytest

from made_world import D
from tickless.execution.rounding import exact, money, price_on_step, qty_down, simulated_price


@pytest.mark.parametrize(("value", "text"), [(0.1, "0.1"), (1e-7, "1E-7"), (155642992.0, "155642992.0"), (1 / 3, "0.3333333333333333")])
def test_a_float_becomes_the_decimal_it_prints_as(value, text):
    assert exact(value) == D(text)
    assert float(exact(value)) == value


@pytest.mark.parametrize(
    ("qty", "step", "expected"),
    [
        ("1.99", "0.5", "1.5"),
        ("1000", "1E+1", "1000"),
        ("0.3", "0.1", "0.3"),
        ("1234567890123.4", None, "1234567890120"),
        ("0.04", "0.1", "0"),
    ],
)
def test_quantities_go_down(qty, step, expected):
    assert str(qty_down(D(qty), D(step) if step else None)) == expected


@pytest.mark.parametrize(("up", "expected"), [(True, "10.05"), (False, "10")])
def test_prices_go_to_the_side_asked_for(up, expected):
    assert str(price_on_step(D("10.02"), D("0.05"), up=up)) == expected
    assert price_on_step(D("10.05"), D("0.05"), up=up) == D("10.05")


def test_simulated_prices_have_twelve_digits_and_money_ten_decimals():
    assert str(simulated_price(D("1.234567890123456"))) == "1.23456789012"
    assert str(price_on_step(D("0.1234567890123"), None, up=True)) == "0.123456789012"
    assert money(D("1.00000000005")) == D("1.0000000000")
