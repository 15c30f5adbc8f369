"""A break of the price scale is no return of the market: not in the summary, not in the report's lines and tables."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from made_run import START, made_run

from tests.made_panels import rescaled, without
from tickless import metrics
from tickless.backtest.report import render
from tickless.backtest.results import RunRecord, summarize
from tickless.breaks import rescaled_close


def redenominated(pair: str, ratio: float) -> tuple[RunRecord, RunRecord]:
    """A run whose market misses a quarter of a day of one pair, without and with a new scale after it."""
    record = made_run()
    row = record.market.row_at(START + timedelta(days=1))
    gap = without(record.market, pair, row - 24, row)
    return replace(record, market=rescaled(gap, pair, row, 1.0)), replace(record, market=rescaled(gap, pair, row, ratio))


def summary_of(record: RunRecord) -> dict[str, object]:
    return summarize(record, orders_sha256="")


@pytest.mark.parametrize("pair", ["ETH/USDT", "BTC/USDT"])
@pytest.mark.parametrize("ratio", [1000.0, 1e-3])
def test_a_redenomination_returns_nothing(pair: str, ratio: float) -> None:
    plain, broken = redenominated(pair, ratio)
    expected, summary = summary_of(plain), summary_of(broken)
    assert summary["market_return_frac"] == pytest.approx(expected["market_return_frac"], abs=1e-9)
    assert summary["btc_return_frac"] == pytest.approx(expected["btc_return_frac"], abs=1e-9)
    assert abs(metrics.market_return_frac(broken.market_window.close)) > 0.1


def test_each_pairs_curve_goes_on_from_the_break_by_its_own_moves() -> None:
    plain, broken = redenominated("ETH/USDT", 1000.0)
    assert broken.market_close / broken.market_close[-1] == pytest.approx(plain.market_close / plain.market_close[-1], nan_ok=True)
    steps = metrics.market_curve(broken.market_close)
    assert np.abs(steps[1:] / steps[:-1] - 1).max() < 0.05


def test_two_breaks_of_one_pair_are_both_left_out() -> None:
    plain, broken = redenominated("ETH/USDT", 1000.0)
    row = broken.market.row_at(START + timedelta(days=2))
    twice = rescaled(without(broken.market, "ETH/USDT", row - 8, row), "ETH/USDT", row, 0.01)
    once = rescaled(without(plain.market, "ETH/USDT", row - 8, row), "ETH/USDT", row, 1.0)
    expected = summary_of(replace(plain, market=once))
    assert summary_of(replace(broken, market=twice))["market_return_frac"] == pytest.approx(expected["market_return_frac"], abs=1e-9)


def test_a_market_without_breaks_is_left_as_it_is() -> None:
    window = made_run().market_window
    assert rescaled_close(window) is window.close


def test_the_report_draws_and_names_no_jump() -> None:
    plain, broken = redenominated("ETH/USDT", 1000.0)
    expected, page = render(plain, summary_of(plain)), render(broken, summary_of(broken))
    for part in (r'<div class="plot" data-plot="equity">.*?</div>', r'<table class="sortable" id="pairs"[^>]*>.*?</table>'):
        (before,), (after,) = re.findall(part, expected, re.DOTALL), re.findall(part, page, re.DOTALL)
        assert after == before
