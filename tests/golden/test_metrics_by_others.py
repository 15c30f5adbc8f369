"""The figures of ``summary.json`` beside what empyrical and quantstats make of the same equity and profits.

Both need pandas, so their figures are recorded: ``metrics_by_others.json`` names the libraries' versions and functions.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tickless import metrics

RECORDED = json.loads(Path(__file__).with_name("metrics_by_others.json").read_text("utf8"))


def figures_of(equity: list[float]) -> dict[str, float | None]:
    cagr = metrics.cagr_frac(equity[0], equity[-1], len(equity) - 1)
    deepest = metrics.max_drawdown_frac(equity)
    return {
        "total_return_frac": metrics.total_return_frac(equity[0], equity[-1]),
        "cagr_frac": cagr,
        "volatility_ann_frac": metrics.volatility_ann_frac(equity),
        "sharpe": metrics.sharpe(equity),
        "sortino": metrics.sortino(equity),
        "max_drawdown_frac": deepest,
        "calmar": metrics.calmar(cagr, deepest),
    }


@pytest.mark.parametrize("curve", RECORDED["curves"], ids=lambda curve: curve["name"])
@pytest.mark.parametrize("library", ["empyrical", "quantstats"])
def test_figures_are_those_of_other_libraries(curve: dict[str, Any], library: str) -> None:
    ours = figures_of(curve["equity"])
    assert {name: ours[name] for name in curve[library]} == pytest.approx(curve[library], rel=1e-9)


def test_trade_figures_are_those_of_other_libraries() -> None:
    trades = RECORDED["trades"]
    assert metrics.profit_factor(trades["pnl"]) == pytest.approx(trades["profit_factor"], rel=1e-12)
    assert metrics.win_rate_frac(trades["pnl"]) == pytest.approx(trades["win_rate_frac"], rel=1e-12)
    assert metrics.expectancy(trades["pnl"]) == pytest.approx(trades["expectancy"], rel=1e-12)
