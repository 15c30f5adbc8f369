from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tickless import metrics

equity = st.floats(min_value=1.0, max_value=1e5, allow_nan=False)
curves = st.lists(equity, min_size=3, max_size=60)


@given(curves, st.floats(min_value=1e-3, max_value=1e3))
def test_a_bigger_wallet_changes_no_ratio(curve: list[float], scale: float) -> None:
    scaled = [value * scale for value in curve]
    for measure in (metrics.volatility_ann_frac, metrics.max_drawdown_frac):
        assert measure(scaled) == pytest.approx(measure(curve), rel=1e-6, abs=1e-9)
    assume((metrics.volatility_ann_frac(curve) or 0.0) > 1e-6)
    assert metrics.sharpe(scaled) == pytest.approx(metrics.sharpe(curve), rel=1e-6, abs=1e-9)


@given(curves)
def test_returns_compound_to_the_total(curve: list[float]) -> None:
    product = math.prod(1.0 + float(r) for r in metrics.simple_returns(curve))
    assert product - 1.0 == pytest.approx(metrics.total_return_frac(curve[0], curve[-1]), rel=1e-6, abs=1e-9)


@given(curves)
def test_drawdown_is_the_worst_of_all_pairs_of_moments(curve: list[float]) -> None:
    worst = max(max(0.0, 1.0 - later / earlier) for n, earlier in enumerate(curve) for later in curve[n:])
    assert metrics.max_drawdown_frac(curve) == pytest.approx(worst, abs=1e-12)


@given(st.lists(st.floats(min_value=-1e12, max_value=1e12, allow_nan=False), max_size=60))
def test_no_figure_is_ever_nan_or_infinite(curve: list[float]) -> None:
    figures = [f(curve) for f in (metrics.volatility_ann_frac, metrics.sharpe, metrics.sortino, metrics.max_drawdown_frac)]
    figures += [f(curve) for f in (metrics.win_rate_frac, metrics.profit_factor, metrics.expectancy)]
    if curve:
        figures.append(metrics.cagr_frac(curve[0], curve[-1], float(len(curve))))
    assert all(figure is None or math.isfinite(figure) for figure in figures)


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_the_market_curve_is_the_mean_of_its_pairs(rows: int, pairs: int, seed: int) -> None:
    close = np.random.default_rng(seed).uniform(1, 10, (rows, pairs))
    assert metrics.market_curve(close) == pytest.approx(np.mean(close / close[0], axis=1))
