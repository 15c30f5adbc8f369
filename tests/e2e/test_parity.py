"""A backtest and a replay through the real handlers leave the same files, order by order."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tickless.adapters.folder_market import FolderMarket, load_market
from tickless.adapters.folder_models import FolderModelStore
from tickless.adapters.synthetic_market import make_market
from tickless.backtest.compare import compare
from tickless.backtest.engine import BacktestRequest, backtest
from tickless.backtest.results import write_results
from tickless.bars import Panel
from tickless.cli.replaying import ReplayRequest, replay
from tickless.learn.spec import load_specs
from tickless.runs.retrain import store, train_specs, training_start
from tickless.settings import load_desk

START = datetime(2024, 6, 3, tzinfo=UTC)


def both(tmp_path: Path, market: FolderMarket, start: datetime, days: float, overrides: tuple[str, ...] = (), **options: object) -> int:
    """Run both ways, require the same files, return how many orders there were."""
    end = start + timedelta(days=days)
    models = options.get("models")
    retrain = bool(options.get("retrain", False))
    replay(ReplayRequest("rotation", overrides, market, start, end, tmp_path / "replay", models, retrain))
    registry = FolderModelStore(models) if models else None
    record = backtest(BacktestRequest(load_desk("rotation", overrides), market, start, end, registry, retrain))
    write_results(replace(record, seconds=1.0), tmp_path / "backtest")
    comparison = compare(tmp_path / "replay", tmp_path / "backtest")
    assert comparison.same, comparison.first_difference
    for name in ("orders.csv", "fills.csv", "trades.csv", "equity.csv", "ticks.jsonl"):
        assert (tmp_path / "replay" / name).read_bytes() == (tmp_path / "backtest" / name).read_bytes(), name
    return comparison.orders


@pytest.fixture(scope="module")
def synthetic() -> FolderMarket:
    made = make_market(pairs=24, start=START - timedelta(days=45), end=START + timedelta(days=3), seed=11)
    return FolderMarket(made.panel, made.rules)


def scarred(market: FolderMarket) -> FolderMarket:
    """The market with a crash, a gap of an hour and of half a day, a delisting, a late listing and thin volume inside the range."""
    panel = market.panel
    row = panel.row_at(START + timedelta(hours=5))
    columns = {name: getattr(panel, name).copy() for name in ("open", "high", "low", "close", "volume")}
    for name in ("open", "high", "low", "close"):
        columns[name][row + 6 : row + 20, 1:6] *= 0.7
    for column, first, last in ((2, row, row + 4), (7, row, row + 48), (8, row + 10, panel.rows), (9, 0, row - 60)):
        for values in columns.values():
            values[first:last, column] = float("nan")
    columns["volume"][row:, 10:] *= 0.01
    return FolderMarket(Panel(panel.timeframe, panel.pairs, panel.start_ms, **columns), market.filters)


def test_a_scarred_market_decides_alike(tmp_path: Path, synthetic: FolderMarket) -> None:
    assert both(tmp_path, scarred(synthetic), START, 1.0) > 20


def test_limits_latency_and_a_halt_decide_alike(tmp_path: Path, synthetic: FolderMarket) -> None:
    overrides = (
        "execution.order_type=limit",
        "execution.limit_offset_bps=-5",
        "execution.latency_s=30",
        "execution.close_at_end=true",
        "risk.kill_switch_drawdown_frac=0.004",
    )
    assert both(tmp_path, scarred(synthetic), START, 1.0, overrides) > 10


def test_a_model_and_a_retraining_decide_alike(tmp_path: Path) -> None:
    made = make_market(pairs=24, start=START - timedelta(days=110), end=START + timedelta(days=2), seed=8, signal_ic=0.2)
    market = FolderMarket(made.panel, made.rules)
    settings = load_desk("rotation")
    folder = FolderModelStore(tmp_path / "models")
    panel = market.bars(market.pairs(), "15m", training_start(settings, START), START)
    promoted = store(train_specs(panel, settings, folder, load_specs("rotation"), START, START), folder, START, START)
    assert promoted

    assert both(tmp_path, market, START, 0.5, models=tmp_path / "models", retrain=True) > 0
    lines = (tmp_path / "backtest" / "ticks.jsonl").read_text("utf8")
    assert promoted[0] in lines
    assert '"trained"' in lines


@pytest.mark.realdata
def test_real_bars_decide_alike(tmp_path: Path, realdata: Path) -> None:
    market, _ = load_market(realdata / "spot_2024", "15m", quote="USDT")
    assert both(tmp_path, market, datetime(2024, 6, 3, tzinfo=UTC), 1.0) > 50
