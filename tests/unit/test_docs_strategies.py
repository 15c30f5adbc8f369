"""The strategy of docs/strategies.md, run as it stands there."""

from __future__ import annotations

import re
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from pydantic import Field

from made_panels import rescaled, walk, without
from tickless.adapters.folder_market import FolderMarket
from tickless.backtest.engine import BacktestRequest, backtest
from tickless.backtest.lookahead import LookaheadRequest, check
from tickless.bars import step_ms
from tickless.features.series import pair_series
from tickless.portfolio.universe import volume_window_start
from tickless.runs import desk_strategies
from tickless.runs.market_history import MarketHistory
from tickless.settings import STRATEGY_SECTIONS, ScanSection, Settings, load_desk
from tickless.strategies.contract import Targets
from tickless.strategies.view import MarketView, Proposal, Proposals, Verdict
from tickless.types import ExitPlan, from_ms

PAGE = Path(__file__).parents[2] / "docs" / "strategies.md"
DAYS = 40
NAMES = (
    ScanSection, Field, timedelta, step_ms, volume_window_start, Proposal, Proposals, Verdict, ExitPlan, Targets, MarketHistory, MarketView,
    cached_property, pair_series, sliding_window_view,
)  # fmt: skip


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text("utf8"), re.DOTALL)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The page's desk file, with its strategy named in the lists."""
    module: dict[str, Any] = {"np": np, "__name__": __name__, **{thing.__name__: thing for thing in NAMES}}
    exec("\n".join(blocks("python")), module)
    monkeypatch.setitem(STRATEGY_SECTIONS, "breakout", module["BreakoutSection"])  # type: ignore[arg-type]
    monkeypatch.setitem(desk_strategies.STRATEGIES, "breakout", module["BreakoutHistory"].strategy)  # type: ignore[arg-type]
    monkeypatch.setitem(desk_strategies.HISTORIES, "breakout", module["BreakoutHistory"])  # type: ignore[arg-type]
    (tmp_path / "breakout.toml").write_text("".join(blocks("toml")))
    return load_desk(str(tmp_path / "breakout.toml"))


@pytest.fixture(scope="module")
def market() -> FolderMarket:
    """Three pairs; one comes back from a gap a thousand times as dear."""
    panel = walk(("A/USDT", "B/USDT", "C/USDT"), DAYS * 96, seed=3)
    return FolderMarket(rescaled(without(panel, "C/USDT", 3500, 3520), "C/USDT", 3520, 1000.0))


def test_it_enters_on_new_highs_and_leaves_what_fell_back(desk: Settings, market: FolderMarket) -> None:
    start = from_ms(market.panel.start_ms) + timedelta(days=32)
    record = backtest(BacktestRequest(desk, market, start, start + timedelta(days=8)))
    assert len(record.trades) > 4
    assert {trade.enter_tag for trade in record.trades} == {"new_high"}
    assert "fell_back" in {trade.exit_reason for trade in record.trades}
    close = market.panel.close
    for order in (order for order in record.orders if order.reason == "new_high"):
        row, column = market.panel.row_at(order.tick_at) - 1, market.panel.column[order.pair]
        assert close[row, column] > close[row - 96 : row, column].max()
    assert max(trade.pnl_frac for trade in record.trades) < 1


def test_it_looks_at_nothing_ahead(desk: Settings, market: FolderMarket) -> None:
    start = from_ms(market.panel.start_ms) + timedelta(days=33)
    proof = check(LookaheadRequest(desk, market, start, start + timedelta(days=5), cuts=6))
    assert proof.differences == ()
    assert proof.compared["orders"] > 2
