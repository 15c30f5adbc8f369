"""Real data's worst: whatever becomes of a pair that is held, the run goes on and makes no profit that nobody could have made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from made_scars import absent, battered, crashed, idle, rescaled
from tickless.adapters.folder_market import FolderMarket, load_market
from tickless.adapters.synthetic_market import make_market
from tickless.backtest.audit import verify
from tickless.backtest.compare import compare
from tickless.backtest.engine import BacktestRequest, backtest
from tickless.backtest.results import RunRecord, write_results
from tickless.bars import Panel
from tickless.cli.replaying import ReplayRequest, replay
from tickless.settings import load_desk
from tickless.types import OrderStatus, Side, Trade

START = datetime(2024, 6, 3, tzinfo=UTC)
DAYS = 2
HELD_H = 14.0
"""The hour at which the desk holds most, and at which its pairs come to harm."""
BREAK = "price_scale_break"
STEP = timedelta(minutes=15)
CALM = ("risk.max_position_loss_frac=1.0", "risk.initial_stop_atr=50", "risk.kill_switch_drawdown_frac=0.99")
"""A desk that is not stopped out of what it holds."""


@pytest.fixture(scope="module")
def smooth() -> FolderMarket:
    made = make_market(pairs=16, start=START - timedelta(days=45), end=START + timedelta(days=DAYS), seed=5)
    return FolderMarket(made.panel, made.rules)


def run(market: FolderMarket, *overrides: str, desk: str = "rotation", start: datetime = START, days: float = DAYS) -> RunRecord:
    settings = load_desk(desk, overrides)
    return backtest(BacktestRequest(settings, market, start, start + timedelta(days=days), retrain=False))


def findings(record: RunRecord, market: FolderMarket, folder: Path) -> list[str]:
    """What the auditor says of a run, of its files alone."""
    write_results(record, folder)
    return verify(folder, market.panel, record.settings, market.filters)


def held_at(record: RunRecord, at: datetime) -> dict[str, Decimal]:
    """What the fills before ``at`` leave of each pair, sorted."""
    held: dict[str, Decimal] = {}
    for fill in record.fills:
        if fill.filled_at < at:
            held[fill.pair] = held.get(fill.pair, Decimal(0)) + (fill.qty if fill.side is Side.BUY else -fill.qty)
    return {pair: qty for pair, qty in sorted(held.items()) if qty > 0}


def steadily_held(record: RunRecord, first: datetime, last: datetime) -> list[str]:
    """The pairs that are held, and neither bought nor sold, all the while."""
    traded = {fill.pair for fill in record.fills if first <= fill.filled_at <= last}
    return [pair for pair in held_at(record, first) if pair not in traded]


def scarred(
    market: FolderMarket, scar: Callable[[Panel, str, int], Panel], *overrides: str, hours: float = HELD_H
) -> tuple[FolderMarket, str, int]:
    """The market with a scar on a pair that the desk holds at that hour; the pair, and the row."""
    at = START + timedelta(hours=hours)
    pair = steadily_held(run(market, *overrides), at - timedelta(hours=1), at)[0]
    row = market.panel.row_at(at)
    return FolderMarket(scar(market.panel, pair, row), market.filters), pair, row


def trades_of(record: RunRecord, pair: str, reason: str) -> list[Trade]:
    return [trade for trade in record.trades if trade.pair == pair and trade.exit_reason == reason]


def test_a_clean_market_leaves_nothing_to_say(tmp_path: Path, smooth: FolderMarket) -> None:
    limits = ("execution.order_type=limit", "execution.limit_offset_bps=-20", "execution.unfilled_timeout_s=7200")
    for n, overrides in enumerate(((), CALM, limits)):
        assert findings(run(smooth, *overrides), smooth, tmp_path / str(n)) == []


@pytest.mark.parametrize("factor", [1000.0, 0.001])
@pytest.mark.parametrize("gap", [1, 24])
def test_a_redenomination_of_what_is_held_is_no_profit_and_no_loss(tmp_path: Path, smooth: FolderMarket, factor: float, gap: int) -> None:
    # The silence starts at the hour at which the pair is known to be held.
    market, pair, row = scarred(smooth, lambda panel, pair, row: rescaled(panel, pair, row + gap, factor, gap), *CALM)
    record = run(market, *CALM)
    (trade,) = trades_of(record, pair, BREAK)
    assert float(trade.close_price) == market.panel.close[row - 1, market.panel.column[pair]]
    assert trade.closed_at == START + timedelta(hours=HELD_H) + gap * STEP - timedelta(milliseconds=1)
    moves = np.diff([float(line.equity) for line in record.equity]) / float(record.start_equity)
    assert np.abs(moves).max() < 0.05
    assert findings(record, market, tmp_path) == []


@pytest.mark.parametrize(("close_at_end", "latency_s", "hours"), [("false", 0, HELD_H), ("true", 0, HELD_H), ("true", 30, HELD_H + 0.25)])
def test_a_break_that_only_the_last_bar_tells_of_is_in_no_final_value(
    tmp_path: Path, smooth: FolderMarket, close_at_end: str, latency_s: int, hours: float
) -> None:
    """No tick comes after that bar has closed without a trade; with latency, orders still wait then."""
    overrides = (f"execution.close_at_end={close_at_end}", f"execution.latency_s={latency_s}")
    end = START + timedelta(hours=hours)
    row = smooth.panel.row_at(end) - 1
    pair = steadily_held(run(smooth, *overrides), end - STEP, end - STEP)[0]
    panel = rescaled(smooth.panel, pair, row, 1000.0, 0)
    panel.volume[row, panel.column[pair]] = 0.0
    market = FolderMarket(panel, smooth.filters)
    record = run(market, *overrides, days=hours / 24)
    assert abs(float(record.end_equity / record.equity[-1].equity) - 1) < 0.02
    if close_at_end == "true":
        final = [fill for fill in record.fills if fill.pair == pair][-1]
        assert float(final.price) == panel.close[row - 1, panel.column[pair]]
        assert not held_at(record, end + STEP)
        assert any(order.tick_at == end - STEP and order.reason != BREAK for order in record.orders) or not latency_s
    assert findings(record, market, tmp_path) == []


def test_the_auditor_would_have_seen_it(tmp_path: Path, smooth: FolderMarket) -> None:
    """The same run, audited against a market in which its pair was redenominated once more, later, while it was held."""
    record = run(smooth, *CALM)
    at = START + timedelta(hours=HELD_H)
    pair = steadily_held(record, at - timedelta(hours=1), at)[0]
    broken = FolderMarket(rescaled(smooth.panel, pair, smooth.panel.row_at(at), 1000.0, 1), smooth.filters)
    said = findings(record, broken, tmp_path)
    assert any(f"{pair} are held across the break of its price scale" in text for text in said)


def test_a_pair_that_vanishes_while_it_is_held_keeps_its_last_value_and_stops_nothing(tmp_path: Path, smooth: FolderMarket) -> None:
    market, pair, row = scarred(smooth, absent)
    record = run(market)
    last = market.panel.close[row - 1, market.panel.column[pair]]
    assert held_at(record, START + timedelta(days=DAYS))[pair] > 0
    assert not any(fill.pair == pair and fill.filled_at >= START + timedelta(hours=HELD_H) for fill in record.fills)
    assert findings(record, market, tmp_path / "open") == []

    closed = run(market, "execution.close_at_end=true")
    (trade,) = trades_of(closed, pair, "end_of_data")
    assert closed.fills[-1].filled_at == START + timedelta(days=DAYS)
    final = [fill for fill in closed.fills if fill.pair == pair][-1]
    assert float(final.price) == last
    assert trade.closed_at == final.filled_at
    assert findings(closed, market, tmp_path / "closed") == []


def test_an_exit_that_finds_no_bar_expires_and_is_tried_again_when_the_pair_is_back(tmp_path: Path, smooth: FolderMarket) -> None:
    """The pair falls through its stop, and has no bars for two hours from the very next open."""

    def scar(panel: Panel, pair: str, row: int) -> Panel:
        return absent(crashed(panel, pair, row, (0.6,)), pair, row + 1, row + 9)

    market, pair, row = scarred(smooth, scar, hours=HELD_H)
    record = run(market)
    (trade,) = [trade for trade in record.trades if trade.pair == pair and trade.closed_at >= START + timedelta(hours=HELD_H)][:1]
    back = START + timedelta(hours=HELD_H) + 9 * STEP
    assert trade.exit_reason in ("stop_loss", "max_loss", "trailing_stop_loss")
    assert trade.closed_at >= back
    tried = [order for order in record.orders if order.pair == pair and order.side is Side.SELL and order.tick_at >= back - 8 * STEP]
    assert tried[0].status is OrderStatus.EXPIRED
    assert tried[-1].status is OrderStatus.FILLED
    assert market.panel.close[row, market.panel.column[pair]] > 0
    assert findings(record, market, tmp_path) == []


@pytest.mark.parametrize("at_once", [False, True])
def test_a_crash_of_80_percent_inside_an_hour_is_sold_at_the_opens_after_it_and_never_at_the_stop_it_jumped(
    tmp_path: Path, smooth: FolderMarket, at_once: bool
) -> None:
    market, pair, row = scarred(smooth, lambda panel, pair, row: crashed(panel, pair, row, at_once=at_once))
    record = run(market)
    sold = [fill for fill in record.fills if fill.pair == pair and fill.filled_at >= START + timedelta(hours=HELD_H)]
    opens = market.panel.open[:, market.panel.column[pair]]
    for fill in sold:
        assert fill.side is Side.SELL
        assert float(fill.price) <= opens[market.panel.row_at(fill.filled_at)]
    first = next(trade for trade in record.trades if trade.pair == pair and trade.closed_at >= START + timedelta(hours=HELD_H))
    assert first.exit_reason in ("stop_loss", "max_loss", "trailing_stop_loss")
    assert first.closed_at > START + timedelta(hours=HELD_H), "no stop is seen before a bar beyond it has closed"
    assert float(first.pnl_frac) < -0.1
    assert row < market.panel.rows
    assert findings(record, market, tmp_path) == []


def test_everything_held_crashes_and_the_kill_switch_ends_the_buying(tmp_path: Path, smooth: FolderMarket) -> None:
    at = START + timedelta(hours=20)
    panel = smooth.panel
    for pair in held_at(run(smooth), at):
        panel = crashed(panel, pair, panel.row_at(at), (0.2,), at_once=True)
    market = FolderMarket(panel, smooth.filters)
    record = run(market, "risk.kill_switch_drawdown_frac=0.1")
    tripped = next(row.at for row in record.equity if row.drawdown_frac <= -0.1)
    assert tripped == at + STEP, "the first bar of the crash has closed"
    assert not any(fill.side is Side.BUY and fill.filled_at >= tripped for fill in record.fills)
    assert not held_at(record, START + timedelta(days=DAYS))
    assert findings(record, market, tmp_path) == []


@pytest.mark.parametrize("share", [0.0, 0.05])
def test_hours_in_which_nothing_trades_stop_nothing(tmp_path: Path, smooth: FolderMarket, share: float) -> None:
    override = f"execution.max_participation_frac={share}"
    market, pair, row = scarred(smooth, lambda panel, pair, row: idle(panel, pair, row, row + 24), override)
    record = run(market, override)
    assert findings(record, market, tmp_path) == []
    first, last = START + timedelta(hours=HELD_H) + STEP, START + timedelta(hours=HELD_H + 6)
    quiet = [fill for fill in record.fills if fill.pair == pair and first <= fill.filled_at <= last]
    flat = market.panel.close[row, market.panel.column[pair]]
    if share:
        assert not quiet
    assert all(abs(float(fill.price) / flat - 1) < 0.01 for fill in quiet)


@pytest.mark.parametrize("age_days", [0, 1])
def test_a_pair_that_lists_late_is_bought_at_its_bars_only_and_not_before_its_age(
    tmp_path: Path, smooth: FolderMarket, age_days: int
) -> None:
    listed = START + timedelta(hours=6)
    panel = smooth.panel
    late = sorted(held_at(run(smooth), START + timedelta(hours=HELD_H)))[:3]
    for pair in late:
        panel = absent(panel, pair, 0, panel.row_at(listed))
    market = FolderMarket(panel, smooth.filters)
    record = run(market, f"universe.min_age_days={age_days}")
    bought = [fill.filled_at for fill in record.fills if fill.pair in late]
    assert all(at >= listed + timedelta(days=age_days) for at in bought)
    assert findings(record, market, tmp_path) == []


@pytest.mark.parametrize("seed", range(6))
def test_a_battered_market_neither_stops_the_run_nor_pays_for_its_scars(tmp_path: Path, smooth: FolderMarket, seed: int) -> None:
    first = smooth.panel.row_at(START)
    market = FolderMarket(battered(smooth.panel, first, seed, spared="BTC/USDT"), smooth.filters)
    overrides = (
        ("universe.min_age_days=0",),
        ("execution.order_type=limit", "execution.limit_offset_bps=-20", "execution.unfilled_timeout_s=7200"),
        ("execution.latency_s=30", *CALM),
        ("execution.max_participation_frac=0", "execution.close_at_end=true", *CALM),
        ("execution.slippage_bps=0", "universe.max_gap_bars=96", *CALM),
        CALM,
    )[seed]
    record = run(market, *overrides)
    assert len(record.fills) > 10
    assert findings(record, market, tmp_path) == []


@pytest.mark.parametrize("seed", range(4))
def test_a_strategy_without_a_filter_or_a_stop_gains_nothing_from_scars(tmp_path: Path, smooth: FolderMarket, seed: int) -> None:
    market = FolderMarket(battered(smooth.panel, smooth.panel.row_at(START), seed), smooth.filters)
    overrides = ("strategy.crossover.fast_bars=4", "strategy.crossover.slow_bars=12", f"execution.latency_s={30 * (seed % 2)}")
    record = run(market, *overrides, desk="crossover")
    assert len(record.fills) > 100
    assert any(trade.exit_reason == BREAK for trade in record.trades)
    assert findings(record, market, tmp_path) == []


def alike(folder: Path, market: FolderMarket, *overrides: str, desk: str = "rotation", hours: float) -> RunRecord:
    """Run it both ways, require the same files, and return what the backtest left."""
    replay(ReplayRequest(desk, overrides, market, START, START + timedelta(hours=hours), folder / "replay", None, False))
    record = run(market, *overrides, desk=desk, days=hours / 24)
    write_results(replace(record, seconds=1.0), folder / "backtest")
    comparison = compare(folder / "replay", folder / "backtest")
    assert comparison.same, comparison.first_difference
    for name in ("orders.csv", "fills.csv", "trades.csv", "equity.csv", "ticks.jsonl"):
        assert (folder / "replay" / name).read_bytes() == (folder / "backtest" / name).read_bytes(), name
    return record


@pytest.mark.parametrize(("desk", "latency_s"), [("rotation", 0), ("rotation", 30), ("crossover", 0)])
def test_a_replay_of_a_battered_market_leaves_the_same_files(tmp_path: Path, smooth: FolderMarket, desk: str, latency_s: int) -> None:
    overrides = (*(CALM if desk == "rotation" else ()), f"execution.latency_s={latency_s}")
    clean = run(smooth, *overrides, desk=desk, days=0.5)
    times = (START + timedelta(hours=3) + n * STEP for n in range(24))
    at, (first, second, *_) = next((at, pairs) for at in times if len(pairs := steadily_held(clean, at - STEP, at)) > 1)
    row = smooth.panel.row_at(at)
    panel = rescaled(rescaled(smooth.panel, first, row + 3, 1000.0, 3), second, row + 5, 0.01, 5)
    record = alike(tmp_path, FolderMarket(panel, smooth.filters), *overrides, desk=desk, hours=12)
    assert {trade.pair for trade in record.trades if trade.exit_reason == BREAK} == {first, second}


def test_a_replay_ends_like_a_backtest_where_only_the_last_bar_tells_of_a_break(tmp_path: Path, smooth: FolderMarket) -> None:
    overrides = ("execution.close_at_end=true", "execution.latency_s=30")
    end = START + timedelta(hours=3.25)
    row = smooth.panel.row_at(end) - 1
    pair = steadily_held(run(smooth, *overrides), end - STEP, end - STEP)[0]
    panel = rescaled(smooth.panel, pair, row, 1000.0, 0)
    panel.volume[row, panel.column[pair]] = 0.0
    record = alike(tmp_path, FolderMarket(panel, smooth.filters), *overrides, hours=3.25)
    assert trades_of(record, pair, BREAK)


@pytest.mark.realdata
def test_real_bars_with_a_redenomination_a_vanishing_and_a_crash_of_what_is_held(tmp_path: Path, realdata: Path) -> None:
    start, days = datetime(2024, 6, 3, tzinfo=UTC), 14
    recorded, _ = load_market(realdata / "spot_2024", "15m", quote="USDT", end=start + timedelta(days=days))
    scars: tuple[Callable[[Panel, str, int], Panel], ...] = (
        lambda panel, pair, row: rescaled(panel, pair, row + 24, 1000.0, 24),
        absent,
        crashed,
    )
    panel, harmed = recorded.panel, dict[str, datetime]()
    for n, scar in enumerate(scars, start=1):
        record = run(FolderMarket(panel, recorded.filters), start=start, days=days)
        hours = (start + timedelta(days=days * n / 4, hours=hour) for hour in range(72))
        held = ((pair, at) for at in hours for pair in steadily_held(record, at - STEP, at) if pair not in harmed)
        pair, at = next(held)
        harmed[pair] = at
        panel = scar(panel, pair, panel.row_at(at))
    market = FolderMarket(panel, recorded.filters)
    record = run(market, start=start, days=days)
    renamed, vanished, crash = harmed
    (trade,) = trades_of(record, renamed, BREAK)
    assert trade.closed_at == harmed[renamed] + 24 * STEP - timedelta(milliseconds=1)
    assert held_at(record, record.end)[vanished] > 0
    assert min(float(trade.pnl_frac) for trade in record.trades if trade.pair == crash) < -0.05
    assert findings(record, market, tmp_path) == []
