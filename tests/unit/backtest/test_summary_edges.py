"""Every figure of ``summary.json`` where there is little to measure: defined, or null, and never NaN or infinite."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from made_run import START, made_run

from tickless.backtest.results import RunRecord, write_results
from tickless.types import ZERO

FIGURES = (
    "total_return_frac", "cagr_frac", "volatility_ann_frac", "sharpe", "sortino", "calmar", "max_drawdown_frac", "win_rate_frac",
    "profit_factor", "expectancy", "avg_exposure_frac", "turnover_frac",
)  # fmt: skip


def figures(record: RunRecord, folder: Path) -> dict[str, Any]:
    """The figures as written, all of them finite or null."""
    write_results(record, folder)
    summary = json.loads((folder / "summary.json").read_text("utf8"))
    found = {name: summary[name] for name in FIGURES}
    assert all(value is None or math.isfinite(value) for value in found.values())
    return found


def test_no_trades(tmp_path: Path) -> None:
    assert figures(made_run(busy=False), tmp_path) == dict.fromkeys(FIGURES, 0) | dict.fromkeys(
        ("sharpe", "sortino", "calmar", "win_rate_frac", "profit_factor", "expectancy")
    )


def test_one_day(tmp_path: Path) -> None:
    """One daily return: it has a size, but no deviation."""
    record = made_run(days=1)
    found = figures(record, tmp_path)
    total = float(record.end_equity / record.start_equity) - 1
    assert found["total_return_frac"] == pytest.approx(total)
    assert found["cagr_frac"] == pytest.approx((1 + total) ** 365 - 1)
    assert [found[name] for name in ("volatility_ann_frac", "sharpe", "sortino")] == [None] * 3
    assert found["calmar"] == pytest.approx(found["cagr_frac"] / found["max_drawdown_frac"])


def test_less_than_a_day(tmp_path: Path) -> None:
    record = made_run(days=1)
    end = START + timedelta(hours=6)
    found = figures(replace(record, end=end, equity=[row for row in record.equity if row.at < end]), tmp_path)
    assert [found[name] for name in ("cagr_frac", "calmar", "volatility_ann_frac", "sharpe", "sortino")] == [None] * 5


def test_all_losses(run: RunRecord, tmp_path: Path) -> None:
    """Every trade and every day loses: a win rate and profit factor of zero, ratios below zero."""
    trades = [replace(trade, pnl=Decimal(-10), pnl_frac=Decimal("-0.01")) for trade in run.trades]
    equity = [replace(row, equity=run.start_equity - n) for n, row in enumerate(run.equity, start=1)]
    found = figures(replace(run, trades=trades, equity=equity, end_equity=equity[-1].equity), tmp_path)
    assert [found[name] for name in ("win_rate_frac", "profit_factor", "expectancy")] == [0, 0, -10]
    assert found["max_drawdown_frac"] == pytest.approx(-found["total_return_frac"])
    assert max(found[name] for name in ("total_return_frac", "cagr_frac", "sharpe", "sortino", "calmar")) < 0


def test_equity_zero(run: RunRecord, tmp_path: Path) -> None:
    """Everything is lost on the second day, and nothing comes back."""
    equity = [row if row.at < START + timedelta(days=1) else replace(row, equity=ZERO) for row in run.equity]
    found = figures(replace(run, equity=equity, end_equity=ZERO), tmp_path)
    assert [found[name] for name in ("total_return_frac", "cagr_frac", "max_drawdown_frac", "calmar")] == [-1, -1, 1, -1]
    assert found["sharpe"] < 0
    assert found["volatility_ann_frac"] > 0


def test_a_start_of_nothing(run: RunRecord, tmp_path: Path) -> None:
    """No figure divides by a start equity of zero."""
    equity = [replace(row, equity=ZERO, exposure_frac=0.0) for row in run.equity]
    found = figures(replace(run, start_equity=ZERO, end_equity=ZERO, equity=equity, trades=()), tmp_path)
    assert found["cagr_frac"] is None
    assert [found[name] for name in ("total_return_frac", "max_drawdown_frac", "turnover_frac", "volatility_ann_frac")] == [0] * 4
