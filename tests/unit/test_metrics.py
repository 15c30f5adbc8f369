from __future__ import annotations

import math
import statistics
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pytest

from tickless import metrics

DAY = metrics.DAY_MS
QUARTER = DAY // 96
CURVE = [100.0, 102.0, 101.0, 105.0, 99.0, 99.0, 107.0]


def by_hand_returns(curve: list[float]) -> list[float]:
    return [after / before - 1 for before, after in pairwise(curve)]


def test_daily_equity_is_the_start_and_each_days_last_row() -> None:
    times = [0, QUARTER, DAY - QUARTER, DAY, 2 * DAY - 1, 4 * DAY]
    daily = metrics.daily_equity(times, [100, 101, 102, 103, 104, 105], 99.0)
    assert daily.tolist() == [99.0, 102.0, 104.0, 105.0]


def test_daily_equity_without_rows_is_the_start() -> None:
    assert metrics.daily_equity([], [], 50.0).tolist() == [50.0]


def test_ratios_agree_with_a_calculation_by_hand() -> None:
    returns = by_hand_returns(CURVE)
    mean, deviation = statistics.fmean(returns), statistics.stdev(returns)
    downside = math.sqrt(sum(min(r, 0) ** 2 for r in returns) / len(returns))
    assert metrics.volatility_ann_frac(CURVE) == pytest.approx(deviation * math.sqrt(365), rel=1e-12)
    assert metrics.sharpe(CURVE) == pytest.approx(mean / deviation * math.sqrt(365), rel=1e-12)
    assert metrics.sortino(CURVE) == pytest.approx(mean / downside * math.sqrt(365), rel=1e-12)


def test_known_values() -> None:
    """Returns of +10 % and -10 %: mean 0, so both ratios are 0; deviation sqrt(0.02)."""
    curve = [100.0, 110.0, 99.0]
    assert metrics.sharpe(curve) == pytest.approx(0.0, abs=1e-12)
    assert metrics.sortino(curve) == pytest.approx(0.0, abs=1e-12)
    assert metrics.volatility_ann_frac(curve) == pytest.approx(math.sqrt(0.02 * 365), rel=1e-12)
    assert metrics.max_drawdown_frac(curve) == pytest.approx(0.1)
    assert metrics.total_return_frac(100, 99) == pytest.approx(-0.01)


def test_growth_a_year() -> None:
    assert metrics.cagr_frac(100, 121, 730) == pytest.approx(0.1)
    assert metrics.cagr_frac(100, 110, 365) == pytest.approx(0.1)
    assert metrics.cagr_frac(100, 90, 1) == pytest.approx(0.9**365 - 1)
    assert metrics.cagr_frac(100, 0, 7) == -1.0
    assert metrics.cagr_frac(100, -5, 7) == -1.0
    assert metrics.cagr_frac(100, 101, 0.5) is None
    assert metrics.cagr_frac(0, 101, 7) is None
    assert metrics.cagr_frac(1, 1e6, 1) is None


def test_calmar() -> None:
    assert metrics.calmar(0.3, 0.1) == pytest.approx(3.0)
    assert metrics.calmar(0.3, 0.0) is None
    assert metrics.calmar(None, 0.1) is None


@pytest.mark.parametrize("curve", [[], [100.0], [100.0, 101.0]])
def test_too_few_days_have_no_ratios(curve: list[float]) -> None:
    assert metrics.volatility_ann_frac(curve) is None
    assert metrics.sharpe(curve) is None
    assert metrics.sortino(curve) is None


def test_constant_equity_has_no_risk_and_no_ratio() -> None:
    curve = [100.0] * 9
    assert metrics.volatility_ann_frac(curve) == 0.0
    assert metrics.sharpe(curve) is None
    assert metrics.sortino(curve) is None
    assert metrics.max_drawdown_frac(curve) == 0.0


def test_equal_returns_are_no_risk_though_they_differ_by_rounding() -> None:
    curve = [100.0 * 1.01**day for day in range(50)]
    assert np.ptp(metrics.simple_returns(curve)) > 0
    assert metrics.volatility_ann_frac(curve) == 0.0
    assert metrics.sharpe(curve) is None


def test_equity_zero_is_a_total_loss_and_no_division() -> None:
    curve = [100.0, 50.0, 0.0, 0.0, 10.0]
    assert metrics.simple_returns(curve).tolist() == [-0.5, -1.0, 0.0, 0.0]
    assert metrics.max_drawdown_frac(curve) == 1.0
    assert metrics.total_return_frac(100, 0) == -1.0
    assert metrics.total_return_frac(0, 10) == 0.0
    assert metrics.max_drawdown_frac([0.0, 0.0]) == 0.0
    assert metrics.max_drawdown_frac([]) == 0.0


def test_drawdown_of_each_row() -> None:
    assert metrics.drawdown_frac([100, 80, 120, 90]).tolist() == pytest.approx([0.0, 0.2, 0.0, 0.25])


def test_trades() -> None:
    pnl = [10.0, -4.0, 0.0, 6.0, -4.0]
    assert metrics.win_rate_frac(pnl) == pytest.approx(0.4)
    assert metrics.profit_factor(pnl) == pytest.approx(2.0)
    assert metrics.expectancy(pnl) == pytest.approx(1.6)


def test_edges_of_trades() -> None:
    assert [f([]) for f in (metrics.win_rate_frac, metrics.profit_factor, metrics.expectancy)] == [None, None, None]
    assert [f([-1.0, -2.0]) for f in (metrics.win_rate_frac, metrics.profit_factor, metrics.expectancy)] == [0.0, 0.0, -1.5]
    assert [f([1.0, 2.0]) for f in (metrics.win_rate_frac, metrics.profit_factor, metrics.expectancy)] == [1.0, None, 1.5]


def test_exposure_and_turnover() -> None:
    assert metrics.avg_exposure_frac([0.0, 0.5, 1.0]) == 0.5
    assert metrics.avg_exposure_frac([]) == 0.0
    assert metrics.turnover_frac(300.0, [100.0, 200.0]) == 2.0
    assert metrics.turnover_frac(300.0, []) == 0.0
    assert metrics.turnover_frac(300.0, [0.0]) == 0.0


def test_the_market_is_held_in_equal_parts_from_the_first_row() -> None:
    nan = np.nan
    close = np.asarray([[10.0, 4.0, nan], [20.0, nan, 7.0], [20.0, 2.0, 70.0]])
    assert metrics.market_curve(close).tolist() == [1.0, 1.5, 1.25]
    assert metrics.market_return_frac(close) == pytest.approx(0.25)


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_a_market_without_bars_returns_nothing(shape: tuple[int, int]) -> None:
    assert metrics.market_return_frac(np.empty(shape)) == 0.0


def test_a_market_whose_pairs_all_list_later_returns_nothing() -> None:
    assert metrics.market_return_frac([[np.nan], [5.0], [10.0]]) == 0.0


def test_monthly_returns_follow_the_calendar() -> None:
    days = [datetime(2024, 1, 31, 23, 45, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC), datetime(2024, 2, 29, tzinfo=UTC)]
    times = [int(day.timestamp() * 1000) for day in days]
    returns = metrics.monthly_returns(times, [110.0, 120.0, 55.0], 100.0)
    assert returns == {"2024-01": pytest.approx(0.1), "2024-02": pytest.approx(-0.5)}
    assert metrics.monthly_returns([], [], 100.0) == {}
