"""Ticks that seem to change nothing and do: the backtest sees what a desk that runs each of them whole sees."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from made_scars import rescaled
from tickless.adapters.folder_market import FolderMarket
from tickless.adapters.synthetic_market import make_market
from tickless.backtest.engine import BacktestRequest, ParameterChange, backtest
from tickless.backtest.quiet import QuietTicks
from tickless.backtest.results import RunRecord
from tickless.errors import EventError
from tickless.settings import CrossoverSection, load_desk
from tickless.types import iso

START = datetime(2024, 6, 3, tzinfo=UTC)
DAY = timedelta(days=1)
CHECKED_EVERY_THIRD_BAR = (
    "desk.timeframe=5m",
    "risk.trail_arm_atr=off",
    "universe.min_age_days=0",
    "strategy.rotation.fallback_threshold_frac=-1",
)


def made(seed: int, timeframe: str) -> FolderMarket:
    market = make_market(pairs=6, start=START - 3 * DAY, end=START + DAY, seed=seed, timeframe=timeframe, events=False)
    return FolderMarket(market.panel, market.rules)


@pytest.fixture(scope="module")
def bars_5m() -> FolderMarket:
    return made(5, "5m")


@pytest.fixture(scope="module")
def bars_15m() -> FolderMarket:
    return made(4, "15m")


def run(market: FolderMarket, desk: str, overrides: Sequence[str], changes: Sequence[ParameterChange] = ()) -> RunRecord:
    return backtest(BacktestRequest(load_desk(desk, overrides), market, START, START + DAY, retrain=False, changes=list(changes)))


def run_whole(market: FolderMarket, desk: str, overrides: Sequence[str]) -> RunRecord:
    with pytest.MonkeyPatch.context() as patch:
        for method in ("risk", "scan", "nothing_done"):
            patch.setattr(QuietTicks, method, lambda self, *arguments: False)
        return run(market, desk, overrides)


def assert_same(quick: RunRecord, whole: RunRecord) -> None:
    """Written out, so that the order of keys counts as well."""
    assert [json.dumps(line) for line in quick.ticks] == [json.dumps(line) for line in whole.ticks]
    for kind in ("orders", "fills", "trades", "equity"):
        assert getattr(quick, kind) == getattr(whole, kind), kind
    assert len(whole.orders) > 1


def test_a_price_scale_that_broke_bars_before_the_risk_check_is_seen(bars_5m: FolderMarket) -> None:
    held = next(
        trade
        for trade in run(bars_5m, "rotation", CHECKED_EVERY_THIRD_BAR).trades
        if trade.opened_at.minute == 0 and trade.closed_at - trade.opened_at > timedelta(hours=2)
    )
    first = held.opened_at + timedelta(minutes=35)
    broken = rescaled(bars_5m.panel, held.pair, bars_5m.panel.row_at(first), 1000.0, gap=1)
    market = FolderMarket(broken, bars_5m.filters)

    quick = run(market, "rotation", CHECKED_EVERY_THIRD_BAR)

    assert_same(quick, run_whole(market, "rotation", CHECKED_EVERY_THIRD_BAR))
    assert max(row.equity for row in quick.equity) < 2 * load_desk("rotation").desk.dry_run_wallet, "the new scale is no profit"
    settled = [fill.pair for fill in quick.fills if fill.client_order_id.startswith("sb")]
    assert settled == [held.pair]


@pytest.mark.parametrize("desk", ["rotation", "crossover"])
def test_no_tick_that_quotes_an_order_again_is_skipped(bars_5m: FolderMarket, desk: str) -> None:
    """Orders run out of time between two risk checks, and scans or rebalances lie between."""
    limits = ("execution.order_type=limit", "execution.limit_offset_bps=-20", "execution.unfilled_timeout_s=420")
    requotes = ("execution.unfilled_requotes=2", "execution.unfilled_action=cross", "desk.timeframe=5m")
    own = {
        "rotation": ("schedule.rebalance_every_min=60", *CHECKED_EVERY_THIRD_BAR),
        "crossover": ("strategy.crossover.fast_bars=4", "strategy.crossover.slow_bars=12", "strategy.crossover.scan_every_min=5"),
    }[desk]
    overrides = (*limits, *requotes, *own)
    quick = run(bars_5m, desk, overrides)
    assert {order.attempt for order in quick.orders} >= {0, 1, 2, 3}
    assert_same(quick, run_whole(bars_5m, desk, overrides))


def test_a_scan_that_passes_bars_over_is_skipped_for_none_of_them(bars_5m: FolderMarket, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a history calls still is so since one bar before, and these scans lie three apart."""
    monkeypatch.setattr(CrossoverSection, "every_close", False)
    averages = ("strategy.crossover.fast_bars=4", "strategy.crossover.slow_bars=12")
    overrides = ("desk.timeframe=5m", "strategy.crossover.scan_every_min=15", *averages)
    assert_same(run(bars_5m, "crossover", overrides), run_whole(bars_5m, "crossover", overrides))


def test_news_after_a_scan_that_the_kill_switch_stopped_are_told(bars_15m: FolderMarket) -> None:
    """It trips in the minute in which a pair crosses up: the scan says halted, and the next one that there is no cross."""
    crossing = ("strategy.crossover.fast_bars=5", "strategy.crossover.slow_bars=30", "desk.dry_run_wallet=9000")
    base = run(bars_15m, "crossover", crossing)
    acts = {
        line["at"]: {said["action"] for said in line["pairs"].values() if said["action"] != "pass"}
        for line in base.ticks
        if line["function"] == "scan"
    }
    lowest, trips = 0.0, []
    for row in base.equity:
        if row.drawdown_frac < lowest and acts.get(iso(row.at)) == {"buy"}:
            trips.append(-row.drawdown_frac)
        lowest = min(lowest, row.drawdown_frac)
    assert trips
    for depth in trips:
        overrides = (*crossing, f"risk.kill_switch_drawdown_frac={depth * 0.999999:.12f}")
        quick = run(bars_15m, "crossover", overrides)
        assert any(said["reason"] == "halted" for line in quick.ticks for said in line["pairs"].values())
        assert_same(quick, run_whole(bars_15m, "crossover", overrides))


@pytest.mark.parametrize(
    ("base", "change", "refused"),
    [
        (
            ("desk.timeframe=5m", "strategy.crossover.scan_every_min=5", "schedule.risk_check_every_min=5"),
            "schedule.risk_check_every_min=15",
            "event of risk_check: scheduled_time 2024-06-03T02:05:00Z is not a multiple of 15 minutes",
        ),
        (
            (),
            "schedule.risk_check_every_min=30",
            "event of risk_check: scheduled_time 2024-06-03T02:15:00Z is not a multiple of 30 minutes",
        ),
    ],
    ids=["5m", "15m"],
)
def test_a_tick_off_the_grid_of_a_changed_interval_is_refused(
    bars_5m: FolderMarket, bars_15m: FolderMarket, base: tuple[str, ...], change: str, refused: str
) -> None:
    text = load_desk("crossover", (*base, change)).sections()["schedule"]
    changes = [ParameterChange(START + timedelta(hours=2), "schedule", text)]
    with pytest.raises(EventError, match=f"^{refused}$"):
        run(bars_5m if base else bars_15m, "crossover", base, changes)


def test_a_wallet_changed_before_the_first_order_puts_no_money_in(bars_15m: FolderMarket) -> None:
    text = load_desk("crossover", ("desk.dry_run_wallet=77",)).sections()["desk"]
    first = run(bars_15m, "crossover", ()).orders[0].tick_at
    assert first > START
    changes = [ParameterChange(START + timedelta(minutes=15), "desk", text)]
    assert run(bars_15m, "crossover", (), changes).equity == run(bars_15m, "crossover", ()).equity
