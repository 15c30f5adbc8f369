"""A backtest that skips the ticks that change nothing leaves the files of one that runs them all."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from made_scars import battered
from tickless.adapters.folder_market import FolderMarket
from tickless.adapters.synthetic_market import make_market
from tickless.backtest.engine import BacktestRequest, ParameterChange, backtest
from tickless.backtest.quiet import QuietTicks
from tickless.backtest.results import write_results
from tickless.settings import load_desk, read_desk

START, DAYS = datetime(2024, 6, 3, tzinfo=UTC), 3
QUICK = ("strategy.crossover.fast_bars=5", "strategy.crossover.slow_bars=20")
STOPS = ("risk.max_position_loss_frac=0.01", "risk.block_after_stop=true")
DEEP = ('risk.drawdown_steps=[{"drawdown_frac": 0.002, "scale_frac": 0.5}]', "risk.kill_switch_drawdown_frac=0.01")
SLOW_FILLS = ("execution.max_participation_frac=0.0005", "execution.latency_s=30", "execution.slippage_bps=5")


@pytest.fixture(scope="module")
def market() -> FolderMarket:
    """Pairs that list late, vanish, are renamed, crash and stand still."""
    made = make_market(pairs=10, start=START - timedelta(days=12), end=START + timedelta(days=DAYS), seed=3)
    return FolderMarket(battered(made.panel, made.panel.row_at(START), 4, "BTC/USDT"), made.rules)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("desk") / "both.toml"
    path.write_text(f"{read_desk('rotation')[0]}\n[strategy.crossover]\nstake = 500.0\n")
    return str(path)


@pytest.mark.parametrize(
    ("desk", "overrides"),
    [
        ("rotation", ()),
        ("rotation", DEEP),
        ("crossover", ()),
        ("crossover", QUICK),
        ("crossover", (*QUICK, *STOPS, *DEEP)),
        ("crossover", (*QUICK, *STOPS, *SLOW_FILLS)),
        ("crossover", (*QUICK, "desk.dry_run_wallet=2500")),
        ("crossover", (*QUICK, "universe.min_age_days=1", "universe.min_daily_volume=1000", "universe.rank_window_days=2")),
        ("both", ()),
        ("both", (*QUICK, *DEEP)),
    ],
)
@pytest.mark.parametrize("changed", [False, True], ids=["as it is", "changed"])
def test_the_files_are_those_of_a_run_that_skips_nothing(
    market: FolderMarket, both: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, desk: str, overrides: tuple[str, ...], changed: bool
) -> None:
    name = both if desk == "both" else desk
    settings = load_desk(name, overrides)
    changes = []
    if changed:
        other = load_desk(name, (*overrides, "risk.max_position_loss_frac=0.005", 'universe.pair_blacklist=["ETH/USDT"]')).sections()
        changes = [ParameterChange(START + timedelta(hours=at), name, other[name]) for at, name in ((20, "risk"), (30, "universe"))]
    request = BacktestRequest(settings, market, START, START + timedelta(days=DAYS), retrain=False, changes=changes)
    skipped = []
    for method in ("risk", "scan"):
        looked = getattr(QuietTicks, method)
        monkeypatch.setattr(QuietTicks, method, lambda self, *more, looked=looked: looked(self, *more) and not skipped.append(1))
    write_results(replace(backtest(request), seconds=1.0), tmp_path / "quick")
    assert len(skipped) > 20
    for method in ("risk", "scan"):
        monkeypatch.setattr(QuietTicks, method, lambda self, *more: False)
    record = backtest(request)
    write_results(replace(record, seconds=1.0), tmp_path / "whole")
    assert len(record.orders) > 10
    for path in sorted((tmp_path / "whole").iterdir()):
        assert path.read_bytes() == (tmp_path / "quick" / path.name).read_bytes(), path.name
