"""A backtest and a replay through the real handlers leave the same files, order by order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tickless.adapters.folder_market import FolderMarket, load_market
from tickless.adapters.folder_models import FolderModelStore
from tickless.adapters.synthetic_market import make_market
from tickless.backtest.audit import verify
from tickless.backtest.compare import compare
from tickless.backtest.engine import BacktestRequest, ParameterChange, backtest
from tickless.backtest.report import write_report
from tickless.backtest.results import RunRecord, write_results
from tickless.bars import Panel
from tickless.cli.replaying import ReplayRequest, replay
from tickless.learn.spec import load_specs
from tickless.risk.stops import STOP_REASONS
from tickless.runs.retrain import store, train_specs, training_start
from tickless.settings import load_desk, read_desk
from tickless.types import OrderStatus, OrderType, Side

START = datetime(2024, 6, 3, tzinfo=UTC)


def both(
    tmp_path: Path,
    market: FolderMarket,
    start: datetime,
    days: float,
    overrides: tuple[str, ...] = (),
    *,
    desk: str = "rotation",
    models: Path | None = None,
    retrain: bool = False,
    changes: Sequence[ParameterChange] = (),
) -> RunRecord:
    """Run both ways, require the same files, return the backtest."""
    end = start + timedelta(days=days)
    replay(ReplayRequest(desk, overrides, market, start, end, tmp_path / "replay", models, retrain, changes=changes))
    registry = FolderModelStore(models) if models else None
    record = backtest(BacktestRequest(load_desk(desk, overrides), market, start, end, registry, retrain, changes=changes))
    summary = write_results(replace(record, seconds=1.0), tmp_path / "backtest")
    write_report(record, summary, tmp_path / "backtest")
    comparison = compare(tmp_path / "replay", tmp_path / "backtest")
    assert comparison.same, comparison.first_difference
    for name in ("orders.csv", "fills.csv", "trades.csv", "equity.csv", "ticks.jsonl", "report.html"):
        assert (tmp_path / "replay" / name).read_bytes() == (tmp_path / "backtest" / name).read_bytes(), name
    assert comparison.orders == len(record.orders)
    return record


def reasons(record: RunRecord) -> set[str]:
    return {order.reason for order in record.orders}


def strategies(record: RunRecord) -> set[str]:
    return {order.strategy for order in record.orders}


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
    assert len(both(tmp_path, scarred(synthetic), START, 1.0).orders) > 20


def test_limits_latency_and_a_halt_decide_alike(tmp_path: Path, synthetic: FolderMarket) -> None:
    overrides = (
        "execution.order_type=limit",
        "execution.limit_offset_bps=-5",
        "execution.latency_s=30",
        "execution.close_at_end=true",
        "risk.kill_switch_drawdown_frac=0.004",
    )
    assert len(both(tmp_path, scarred(synthetic), START, 1.0, overrides).orders) > 10


REQUOTES = (
    "execution.order_type=limit",
    "execution.limit_offset_bps=-12",
    "execution.latency_s=30",
    "execution.unfilled_timeout_s=1200",
    "execution.unfilled_requotes=2",
    "execution.unfilled_action=cross",
    "execution.max_participation_frac=0.002",
)
"""Limits that fill late, in parts, or not at all."""


def continued(record: RunRecord) -> set[tuple[int, str]]:
    """(attempt, type of order) of everything that was quoted again."""
    kinds = {order.client_order_id: order.type.value for order in record.orders}
    told = [what for line in record.ticks for what in line.get("requotes", {}).values()]
    assert any("dropped" in what for what in told), "a decision takes precedence now and then"
    return {(what["attempt"], kinds[what["order"]]) for what in told if "order" in what}


def test_limits_that_are_quoted_again_and_then_cross_decide_alike(tmp_path: Path, synthetic: FolderMarket) -> None:
    market = scarred(synthetic)
    often = ("execution.latency_s=0", "execution.unfilled_timeout_s=900", "schedule.rebalance_every_min=60")
    record = both(tmp_path, market, START, 0.25, (*REQUOTES, *often, "risk.kill_switch_drawdown_frac=0.02"))
    assert continued(record) == {(1, "limit"), (2, "limit"), (3, "market")}
    assert any(0 < order.filled_qty < order.qty for order in record.orders if order.status.value == "expired")
    assert verify(tmp_path / "replay", market.panel, record.settings, market.rules()) == []


def test_signals_that_are_quoted_again_and_then_cross_decide_alike(tmp_path: Path, synthetic: FolderMarket) -> None:
    market = scarred(synthetic)
    record = both(tmp_path, market, START, 0.2, (*REQUOTES, *QUICK, "execution.filters=true"), desk="crossover")
    assert continued(record) == {(1, "limit"), (2, "limit"), (3, "market")}
    assert verify(tmp_path / "replay", market.panel, record.settings, market.rules()) == []


def test_a_model_and_a_retraining_decide_alike(tmp_path: Path) -> None:
    made = make_market(pairs=24, start=START - timedelta(days=110), end=START + timedelta(days=2), seed=8, signal_ic=0.2)
    market = FolderMarket(made.panel, made.rules)
    settings = load_desk("rotation")
    folder = FolderModelStore(tmp_path / "models")
    panel = market.bars(market.pairs(), "15m", training_start(settings, START, ()), START)
    promoted = store(train_specs(panel, settings, folder, load_specs("rotation"), START, START), folder, settings.training, START, START)
    assert promoted

    assert both(tmp_path, market, START, 0.5, models=tmp_path / "models", retrain=True).orders
    lines = (tmp_path / "backtest" / "ticks.jsonl").read_text("utf8")
    assert promoted[0] in lines
    assert '"trained"' in lines


@pytest.mark.realdata
def test_real_bars_decide_alike(tmp_path: Path, realdata: Path) -> None:
    market, _ = load_market(realdata / "spot_2024", "15m", quote="USDT")
    assert len(both(tmp_path, market, START, 0.5).orders) > 25


# Signals

QUICK = ("strategy.crossover.fast_bars=4", "strategy.crossover.slow_bars=12")
"""Averages that cross a few times a day."""


@pytest.mark.acceptance
def test_signals_on_a_scarred_market_decide_alike(tmp_path: Path, synthetic: FolderMarket) -> None:
    record = both(tmp_path, scarred(synthetic), START, 1.0, QUICK, desk="crossover")
    assert len(record.orders) > 100
    assert reasons(record) == {"cross_up", "cross_down", "end_of_data"}


@pytest.mark.acceptance
def test_signals_under_every_limit_decide_alike(tmp_path: Path, synthetic: FolderMarket) -> None:
    """Cash that binds, stops, a drawdown that scales and then halts, orders that wait, fill in parts and expire."""
    overrides = (
        *QUICK,
        "desk.dry_run_wallet=6000",
        "execution.filters=true",
        "execution.slippage_bps=5",
        "execution.latency_s=30",
        "execution.max_participation_frac=0.0005",
        "execution.close_at_end=false",
        "risk.max_position_loss_frac=0.01",
        "risk.block_after_stop=true",
        'risk.drawdown_steps=[{"drawdown_frac": 0.005, "scale_frac": 0.5}]',
        "risk.kill_switch_drawdown_frac=0.012",
    )
    record = both(tmp_path, scarred(synthetic), START, 1.0, overrides, desk="crossover")
    assert {"cross_up", "cross_down", "max_loss"} <= reasons(record)
    assert {order.status.value for order in record.orders} >= {"filled", "expired"}
    limits = [line["limits"] for line in record.ticks]
    assert ["drawdown_scale:0.5"] in limits
    assert ["halted"] in limits


@pytest.mark.realdata
def test_signals_on_real_bars_decide_alike(tmp_path: Path, realdata: Path) -> None:
    market, _ = load_market(realdata / "spot_2024", "15m", quote="USDT")
    record = both(tmp_path, market, START, 0.5, desk="crossover")
    assert len(record.orders) > 50


@pytest.fixture(scope="module")
def pair_of_strategies(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A desk that runs ``rotation`` and ``crossover``."""
    path = tmp_path_factory.mktemp("desk") / "both.toml"
    path.write_text(f"{read_desk('rotation')[0]}\n[strategy.crossover]\nfast_bars = 4\nslow_bars = 12\nstake = 800.0\n")
    return str(path)


def test_two_strategies_on_one_desk_decide_alike(tmp_path: Path, synthetic: FolderMarket, pair_of_strategies: str) -> None:
    record = both(tmp_path, scarred(synthetic), START, 1.0, desk=pair_of_strategies)
    assert strategies(record) == {"rotation", "crossover"}
    said = {entry["reason"] for line in record.ticks for entry in line["pairs"].values()}
    assert {"belongs_to_rotation", "belongs_to_crossover"} <= said
    assert {order.strategy for order in record.orders if order.reason in STOP_REASONS} == {"rotation", "crossover"}


# A parameter that somebody writes while the desk runs


def written(desk: str, hours: float, *overrides: str) -> ParameterChange:
    """A section as a person would put it, some hours after the start."""
    (name,) = {override.rpartition("=")[0].rpartition(".")[0] for override in overrides}
    return ParameterChange(START + timedelta(hours=hours), name, load_desk(desk, overrides).sections()[name])


def broken(name: str, hours: float) -> ParameterChange:
    return ParameterChange(START + timedelta(hours=hours), name, '{"max_position_loss_frac": 7}')


def test_a_parameter_changed_in_the_middle_decides_alike(tmp_path: Path, synthetic: FolderMarket) -> None:
    """A tighter stop, rubbish that is refused, a universe without what is held, and one tick between two ticks of the desk."""
    unchanged = backtest(BacktestRequest(load_desk("rotation"), synthetic, START, START + timedelta(days=1), retrain=False))
    held = sorted({order.pair for order in unchanged.orders if order.tick_at < START + timedelta(hours=4)})[:3]
    changes = [
        written("rotation", 3.1, "risk.max_position_loss_frac=0.001"),
        broken("risk", 5),
        written("rotation", 8, f"universe.pair_blacklist={json.dumps(held)}"),
        broken("no.such", 9),
        written("rotation", 12, "execution.slippage_bps=20", "execution.max_participation_frac=0.01"),
        written("rotation", 16, "universe.pair_blacklist=[]", "universe.max_gap_bars=2"),
    ]
    record = both(tmp_path, synthetic, START, 1.0, changes=changes)
    assert reasons(record) >= {"max_loss", "left_target"}
    assert [order.reason for order in record.orders] != [order.reason for order in unchanged.orders]
    hours = {(order.tick_at - START) // timedelta(hours=4) for order in record.orders if order.side is Side.BUY and order.pair in held}
    assert 0 in hours
    assert not {2, 3} & hours, "bought while out of the universe"


def test_signals_whose_parameters_change_in_the_middle_decide_alike(tmp_path: Path, synthetic: FolderMarket) -> None:
    """Other averages, another stake, stops that were off, a universe that loses pairs and gets them back."""
    names = list(synthetic.pairs())[:8]
    section = "strategy.crossover"
    changes = [
        written("crossover", 3, *QUICK, f"{section}.stake=500"),
        broken(section, 4),
        written("crossover", 6, "risk.max_position_loss_frac=0.005", "risk.block_after_stop=true"),
        written("crossover", 9, f"universe.pair_blacklist={json.dumps(names)}"),
        written("crossover", 12, f"{section}.fast_bars=5", f"{section}.slow_bars=15"),
        written("crossover", 15, "universe.pair_blacklist=[]"),
        written("crossover", 18, "risk.kill_switch_drawdown_frac=0.0001"),
    ]
    record = both(tmp_path, synthetic, START, 1.0, desk="crossover", changes=changes)
    assert {"cross_up", "cross_down", "left_universe", "max_loss"} <= reasons(record)
    assert {line["at"] for line in record.ticks if "halted" in line["limits"]} >= {"2024-06-03T18:00:00Z"}
    hours = {(order.tick_at - START) // timedelta(hours=3) for order in record.orders if order.side is Side.BUY and order.pair in names}
    assert {1, 2, 5} <= hours
    assert not {3, 4} & hours, "bought while out of the universe"


@pytest.mark.acceptance
def test_two_strategies_and_a_change_of_one_decide_alike(tmp_path: Path, synthetic: FolderMarket, pair_of_strategies: str) -> None:
    changes = [
        written(pair_of_strategies, 4, "strategy.crossover.slow_bars=40", "strategy.crossover.stake=2000"),
        written(pair_of_strategies, 7, "portfolio.tier1_cap_frac=0.05", "portfolio.hysteresis_frac=0.01"),
        broken("strategy.rotation", 9),
    ]
    record = both(tmp_path, scarred(synthetic), START, 1.0, desk=pair_of_strategies, changes=changes)
    assert strategies(record) == {"rotation", "crossover"}


# Stops that rest on the exchange

RESTING = "execution.stoploss_on_exchange=true"


@pytest.fixture(scope="module")
def small() -> FolderMarket:
    made = make_market(pairs=12, start=START - timedelta(days=45), end=START + timedelta(days=1), seed=11)
    return FolderMarket(made.panel, made.rules)


def crashed(market: FolderMarket) -> FolderMarket:
    """The scarred market, in which half of all pairs also fall inside single bars and recover, and some open below everything before."""
    panel = scarred(market).panel
    row = panel.row_at(START + timedelta(hours=5))
    columns = {name: getattr(panel, name).copy() for name in ("open", "high", "low", "close", "volume")}
    for n in range(0, len(panel.pairs), 2):
        columns["low"][row + 3 + n : row + 28 : 11, n] *= 0.9
    for name in ("open", "high", "low", "close"):
        columns[name][row + 17 :, ::3] *= 0.93
    return FolderMarket(Panel(panel.timeframe, panel.pairs, panel.start_ms, **columns), market.filters)


def audited(tmp_path: Path, market: FolderMarket, overrides: tuple[str, ...], days: float, desk: str = "rotation") -> RunRecord:
    """Both runs with stops on the exchange, and what the auditor says of the files."""
    record = both(tmp_path, market, START, days, (RESTING, *overrides), desk=desk)
    assert verify(tmp_path / "backtest", market.panel, record.settings, market.filters if record.settings.execution.filters else None) == []
    return record


def stops_of(record: RunRecord, status: OrderStatus) -> set[str]:
    """The reasons of all stops at the exchange that ended so."""
    return {order.reason for order in record.orders if order.type is OrderType.STOP and order.status is status}


def test_stops_at_the_exchange_decide_alike(tmp_path: Path, small: FolderMarket) -> None:
    """Crashes inside a bar, gaps below the stop, trailing stops that move, reductions, fills in parts, and an end that closes all."""
    overrides = ("execution.max_participation_frac=0.002", "execution.close_at_end=true", "risk.trail_arm_atr=0.4")
    record = audited(tmp_path, crashed(small), overrides, 0.5)
    assert stops_of(record, OrderStatus.FILLED) >= {"stop_loss", "trailing_stop_loss"}
    assert stops_of(record, OrderStatus.CANCELED) >= {"stop_loss", "trailing_stop_loss"}
    ends = {trade.exit_reason for trade in record.trades}
    assert {"stop_loss", "trailing_stop_loss", "end_of_data"} <= ends
    inside = [fill for fill in record.fills if fill.filled_at.microsecond and fill.side is Side.SELL]
    assert inside, "sold before the bar had closed"
    sold_in_parts = {fill.client_order_id for fill in inside} & {
        order.client_order_id for order in record.orders if order.status is OrderStatus.CANCELED and order.filled_qty > 0
    }
    assert sold_in_parts, "a stop that went off in part, and was sold at market for the rest"


def test_stops_at_the_exchange_with_limits_and_latency_decide_alike(tmp_path: Path, small: FolderMarket) -> None:
    overrides = ("execution.order_type=limit", "execution.limit_offset_bps=-5", "execution.latency_s=30", "risk.block_after_stop=false")
    record = audited(tmp_path, crashed(small), overrides, 0.35)
    assert stops_of(record, OrderStatus.FILLED)


def test_signals_with_stops_at_the_exchange_decide_alike(tmp_path: Path, small: FolderMarket) -> None:
    overrides = (*QUICK, "execution.filters=true", "risk.max_position_loss_frac=0.01", "risk.block_after_stop=true")
    record = audited(tmp_path, crashed(small), overrides, 0.3, desk="crossover")
    assert stops_of(record, OrderStatus.FILLED) == {"max_loss"}
    assert {"cross_up", "cross_down", "max_loss"} <= reasons(record)


def test_stops_that_are_switched_on_and_off_while_the_desk_runs_decide_alike(tmp_path: Path, small: FolderMarket) -> None:
    changes = [
        written("rotation", 2, RESTING),
        written("rotation", 4, "execution.stoploss_on_exchange=false"),
        written("rotation", 7, RESTING, "execution.stoploss_min_move_frac=0.01"),
    ]
    record = both(tmp_path, crashed(small), START, 0.4, changes=changes)
    hours = {(order.tick_at - START) // timedelta(hours=1) for order in record.orders if order.type is OrderType.STOP}
    assert min(hours) == 2
    assert not {4, 5, 6} & hours
    assert max(hours) >= 7
