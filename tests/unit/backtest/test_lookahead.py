"""The proof of no look-ahead: it passes on the desk, and names every leak that is planted."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st
from typer.testing import CliRunner

from made_panels import walk, without
from tickless.adapters.folder_market import FolderMarket
from tickless.adapters.memory_models import MemoryModelStore
from tickless.adapters.synthetic_market import make_market
from tickless.backtest.lookahead import LookaheadRequest, Proof, check, choose_cuts
from tickless.backtest.memory import PanelBars
from tickless.cli.app import app
from tickless.errors import InputError
from tickless.features import crossover, rotation
from tickless.runs.crossover_history import CrossoverHistory
from tickless.runs.desk_strategies import HISTORIES
from tickless.runs.rotation_history import RotationHistory
from tickless.settings import load_desk, read_desk

THURSDAY, TUESDAY = datetime(2024, 5, 30, tzinfo=UTC), datetime(2024, 6, 4, tzinfo=UTC)
MONDAY = datetime(2024, 6, 3, tzinfo=UTC)
DESK = load_desk("rotation")
REGIME_COLUMNS = ("regime", "volatility_regime", "volatility_ann_frac", "breadth_frac")


@pytest.fixture(scope="module")
def market() -> FolderMarket:
    """Two months of a market in which pairs list late, vanish, crash and miss bars."""
    made = make_market(pairs=10, start=THURSDAY - timedelta(days=55), end=TUESDAY + timedelta(days=1), seed=5)
    return FolderMarket(made.panel, made.rules)


def prove(market: FolderMarket, factory=RotationHistory, **more) -> Proof:
    request = LookaheadRequest(DESK, market, THURSDAY, TUESDAY, cuts=8, seed=1, histories={"rotation": factory})
    return check(replace(request, **more))


def fields(proof: Proof, kind: str) -> set[str]:
    return {one.found.field for one in proof.differences if one.proof == kind}


def planting(name, column, into=RotationHistory):
    """A history one of whose features is ``column(history, values of that feature)``, both (T, N)."""

    class Planted(into):
        @cached_property
        def features(self):
            table = super().features
            values, k = table.values.copy(), table.names.index(name)
            values[:, :, k] = column(self, values[:, :, k])
            return replace(table, values=values)

    return Planted


def ahead(x, rows=1):
    """Row t holds what belongs to row t + rows."""
    return np.vstack([x[rows:], np.full((rows, x.shape[1]), np.nan)])


def centred_mean(_history, x):
    return np.mean([ahead(x, 0), ahead(x, 1), ahead(x, 2), np.roll(x, 1, 0), np.roll(x, 2, 0)], axis=0)


def whole_table_z(_history, x):
    return (x - np.nanmean(x)) / np.nanstd(x)


def next_open(history, _x):
    mine, first = history.mine, history.first_row
    return ahead(mine.open)[first:] / mine.close[first:] - 1.0


def shifted_closes(panel, *more):
    return RotationHistory(replace(panel, close=ahead(panel.close)), *more)


def test_the_desk_passes_and_says_what_was_compared(market):
    steps = []
    proof = check(LookaheadRequest(DESK, market, THURSDAY, TUESDAY, cuts=8, seed=1), lambda done, of: steps.append((done, of)))
    assert proof.differences == ()
    assert proof.passed
    assert len(proof.cuts) == 8
    assert MONDAY in proof.cuts
    assert MONDAY in proof.whole_runs
    assert len(set(proof.whole_runs) - set(proof.cuts)) <= 3, "ticks that sent orders, cuts or not"
    assert all(count > 0 for count in proof.compared.values())
    assert proof.compared["orders"] > 20
    assert proof.startup["rotation"].extra_bars >= 7 * 96
    assert {column.name for column in proof.startup["rotation"].columns} == {*rotation.NAMES, *REGIME_COLUMNS}
    assert 0.0 < max(column.largest_difference for column in proof.startup["rotation"].columns) < 1e-6
    assert steps == [(n, steps[-1][0]) for n in range(1, steps[-1][0] + 1)]


def test_stops_that_rest_at_the_exchange_know_nothing_of_the_future(market):
    desk = load_desk("rotation", ["execution.stoploss_on_exchange=true"])
    proof = prove(market, settings=desk, cuts=4)
    assert proof.passed
    assert proof.compared["orders"] > 40


@pytest.mark.parametrize(
    ("name", "column"), [("r_1h", centred_mean), ("rsi14", whole_table_z), ("bb_pos", next_open)], ids=["centred", "whole table", "open"]
)
def test_a_leaking_feature_is_caught_and_only_it_is_named(market, name, column):
    proof = prove(market, planting(name, column))
    assert not proof.passed
    assert fields(proof, "cut") == {name}
    assert name in fields(proof, "window")
    one = next(one for one in proof.differences if one.proof == "cut")
    assert one.found.pair in market.pairs()
    assert THURSDAY <= one.found.at <= one.cut
    assert str(one.found.first) != str(one.found.second)


def test_closes_shifted_by_one_bar_taint_everything_made_of_them(market):
    proof = prove(market, shifted_closes)
    # A true range reads the close before it, which shifted by one 15m bar still lies inside the 30m bar that has closed.
    assert set(rotation.NAMES) - fields(proof, "cut") == {"atr_14_30m"}
    assert {"close", "volatility_ann_frac"} <= fields(proof, "cut")
    assert {field.partition(":")[0] for field in fields(proof, "decisions")} >= {"tick line", "orders", "fills"}


def test_an_unfinished_bar_of_a_longer_timeframe_is_caught(market, monkeypatch):
    """The leak sits in the feature set itself, so that the window has it as well as the table."""

    finished = rotation.atr_30m

    def unfinished(bars, begin, end):
        """At every row what is known once the next one has closed, as far as there is one: half of the time the half-hour ends with it."""
        last = len(bars.age) - 1
        parts = [finished(bars, begin + 1, min(end, last) + 1), finished(bars, last, last + 1)]
        return tuple(np.vstack(columns)[: end - begin] for columns in zip(*parts, strict=True))

    monkeypatch.setattr(rotation, "atr_30m", unfinished)
    proof = prove(market)
    assert fields(proof, "cut") == {"atr_14_30m", "atr_14_30m_frac"}
    assert {one.found.at.minute % 30 for one in proof.differences if one.proof == "cut"} == {15}


def test_a_universe_and_a_forecast_that_know_the_future_are_caught(market):
    class Foreseeing(RotationHistory):
        def view(self, at):
            future = self.mine.close[min(self.mine.row_at(at) + 24, self.mine.rows - 1)]
            view = super().view(at)
            return replace(view, tiers=np.where(future > view.close, 1, 3), forecasts={"rotation_6h": future / view.close - 1.0})

    proof = prove(market, Foreseeing)
    assert fields(proof, "cut") == {"tier", "forecast rotation_6h"}
    assert fields(proof, "decisions")


def test_too_few_startup_bars_are_named(market, monkeypatch):
    monkeypatch.setattr(rotation, "_memory", lambda ema_bars: 256)
    proof = prove(market)
    assert proof.differences == ()
    assert not proof.passed
    assert [column.name for column in proof.startup["rotation"].columns if not column.settled] == ["ema60_z"]


def test_a_window_that_is_shorter_than_what_features_reach_back_to_is_caught(market, monkeypatch):
    monkeypatch.setattr(rotation, "startup_bars", lambda timeframe: 400)
    proof = prove(market)
    assert fields(proof, "window") >= {"ema60_z"}
    assert not proof.passed


SIGNALS = load_desk("crossover", ["strategy.crossover.fast_bars=4", "strategy.crossover.slow_bars=12"])


def test_a_desk_of_signals_passes(market):
    proof = prove(market, settings=SIGNALS, histories=HISTORIES)
    assert proof.passed
    assert proof.differences == ()
    assert proof.compared["orders"] > 100
    assert set(proof.startup) == {"crossover"}
    assert {column.name: column.largest_difference for column in proof.startup["crossover"].columns} == dict.fromkeys(crossover.NAMES, 0.0)


@pytest.mark.parametrize("name", ["crossed", "trend"])
def test_a_signal_that_knows_the_next_close_is_caught(market, name):
    leaking = planting(name, lambda _history, x: ahead(x), CrossoverHistory)
    proof = prove(market, settings=SIGNALS, histories={"crossover": leaking})
    assert not proof.passed
    assert fields(proof, "cut") - {"still"} == {name}
    assert name in fields(proof, "window")


def test_a_signal_leak_is_seen_in_what_the_desk_does(market):
    def shifted(panel, *more):
        return CrossoverHistory(replace(panel, close=ahead(panel.close)), *more)

    proof = prove(market, settings=SIGNALS, histories={"crossover": shifted})
    assert set(crossover.NAMES) <= fields(proof, "cut")
    assert {field.partition(":")[0] for field in fields(proof, "decisions")} & {"orders", "fills", "tick line"}


def test_a_history_that_skips_the_scans_before_a_fall_is_caught(market):
    class Foreseeing(CrossoverHistory):
        def still(self, at):
            row = self.mine.row_at(at)
            falls = row < self.mine.rows and np.nansum(self.mine.close[row] - self.mine.close[row - 1]) < 0.0
            return bool(falls) or super().still(at)

    proof = prove(market, settings=SIGNALS, histories={"crossover": Foreseeing})
    assert fields(proof, "cut") == {"still"}
    assert not proof.passed


def test_orders_that_fill_at_the_low_of_the_running_bar_are_caught(market, monkeypatch):
    """Nothing but the ticks that sent the orders can show it: at the next one that bar has closed."""
    opens = FolderMarket.opens

    def lows(self, pairs, timeframe, at):
        row = self.panel.row_at(at)
        running = {pair: float(self.panel.low[row, self.panel.column[pair]]) for pair in pairs}
        return {pair: opened if np.isnan(running[pair]) else running[pair] for pair, opened in opens(self, pairs, timeframe, at).items()}

    monkeypatch.setattr(FolderMarket, "opens", lows)
    proof = prove(market, settings=load_desk("crossover"), histories=HISTORIES)
    assert fields(proof, "cut") == fields(proof, "window") == set()
    assert {field.partition(":")[0] for field in fields(proof, "decisions")} >= {"fills"}
    assert not proof.passed
    assert {one.cut for one in proof.differences} <= set(proof.whole_runs) - set(proof.cuts)


def test_a_leak_of_one_strategy_is_named_on_a_desk_of_two(market, tmp_path):
    path = tmp_path / "both.toml"
    path.write_text(f"{read_desk('rotation')[0]}\n[strategy.crossover]\n")
    both = load_desk(str(path))
    assert prove(market, settings=both, histories=HISTORIES, end=THURSDAY + timedelta(days=2)).differences == ()
    leaking = {**HISTORIES, "crossover": planting("trend", lambda _history, x: ahead(x), CrossoverHistory)}
    proof = prove(market, settings=both, histories=leaking, end=THURSDAY + timedelta(days=2))
    assert fields(proof, "cut") == {"still", "trend"}


def test_a_range_that_begins_with_the_data_has_no_bar_at_its_first_tick():
    panel = walk(("BTC/USDT", "ETH/USDT"), 4 * 96, start=THURSDAY)
    history = RotationHistory(panel, panel.pairs, DESK, THURSDAY, MemoryModelStore())
    view = history.view(THURSDAY)
    assert np.isnan(view.close).all()
    assert np.isnan(view.features).all()
    assert PanelBars(panel).closes(panel.pairs, THURSDAY) == {}
    assert np.array_equal(history.view(THURSDAY + timedelta(minutes=15)).close, panel.close[0])
    proof = check(LookaheadRequest(DESK, FolderMarket(panel), THURSDAY, THURSDAY + timedelta(days=3), cuts=6))
    assert proof.passed
    assert proof.startup["rotation"].extra_bars == 0
    assert proof.startup["rotation"].columns == ()


def test_orders_that_outlive_the_cut_and_a_close_at_the_end_are_no_look_ahead(market):
    overrides = ["execution.order_type=limit", "execution.limit_offset_bps=-5", "execution.latency_s=30", "execution.close_at_end=true"]
    assert prove(market, settings=load_desk("rotation", overrides)).differences == ()


def test_a_pair_that_lists_after_a_cut_changes_nothing_before(market):
    late = market.pairs()[3]
    listed = market.panel.row_at(MONDAY)
    assert prove(FolderMarket(without(market.panel, late, 0, listed), market.filters)).differences == ()


def test_a_timerange_outside_the_data_is_refused(market):
    with pytest.raises(InputError, match="ends after the data"):
        prove(market, end=TUESDAY + timedelta(days=30))


@effort(max_examples=40)
@given(st.integers(0, 13), st.integers(1, 12), st.integers(2, 40), st.integers(0, 2**32))
def test_cuts_are_spread_and_deterministic(first_day, days, count, seed):
    start = THURSDAY + timedelta(days=first_day)
    end = start + timedelta(days=days)
    cuts = choose_cuts(DESK, start, end, count, seed)
    assert cuts == choose_cuts(DESK, start, end, count, seed)
    assert list(cuts) == sorted(set(cuts))
    assert len(cuts) == count
    assert all(start <= at < end and at.minute % 15 == 0 for at in cuts)
    mondays = [start + timedelta(days=n) for n in range(1, days) if (start + timedelta(days=n)).weekday() == 0]
    assert bool(mondays) <= any(at in mondays for at in cuts)
    assert any(at.hour % 6 == 0 and at.minute == 0 and at not in mondays for at in cuts)
    if count >= 6:
        assert {at.minute for at in cuts} == {0, 15, 30, 45}
        assert cuts[-1] >= end - 2 * (end - start) / (count - 2)


def test_a_short_range_is_cut_at_every_tick():
    assert len(choose_cuts(DESK, THURSDAY, THURSDAY + timedelta(hours=2), 20, 0)) == 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("market")
    made = CliRunner().invoke(
        app, ["data", "make", "--out", str(out), "--pairs", "5", "--start", "2024-04-01", "--days", "65", "--seed", "5"]
    )
    assert made.exit_code == 0, made.output
    return out


def command(folder, *more):
    arguments = ["lookahead", "--desk", "rotation", "--data", str(folder), "--timerange", "20240602-20240604", "--cuts", "4", *more]
    return CliRunner().invoke(app, arguments)


def test_the_command_passes(folder):
    result = command(folder)
    assert result.exit_code == 0, result.output
    assert "passed: no decision changes with the data that follow it" in result.stdout
    assert "ema60_z" in result.stdout
    facts = json.loads(command(folder, "--json").stdout)
    assert facts["passed"] is True
    assert facts["retrained"] is False
    assert len(facts["cuts"]) == 4
    assert facts["differences"] == []


def test_the_command_names_the_leak_and_fails(folder, monkeypatch):
    features = rotation.build_features

    def leaking(panel, *more):
        return features(replace(panel, volume=panel.volume, close=ahead(panel.close)), *more)

    monkeypatch.setattr(rotation, "build_features", leaking)
    result = command(folder)
    assert result.exit_code == 1
    assert "failed: " in result.stdout
    facts = json.loads(command(folder, "--json").stdout)
    assert facts["passed"] is False
    assert {"r_1h", "ema20_z"} <= {leak["field"] for leak in facts["differences"]}
    assert all(leak["tick_at"] <= leak["cut"] for leak in facts["differences"])
    assert any(leak["pair"] for leak in facts["differences"])


def test_the_command_names_what_is_not_settled(folder, monkeypatch):
    monkeypatch.setattr(rotation, "_memory", lambda ema_bars: 256)
    result = command(folder)
    assert result.exit_code == 1
    assert "failed: the startup bars do not settle ema60_z" in result.stdout


def test_a_model_folder_that_is_not_there_is_bad_input(folder):
    result = command(folder, "--models", str(folder / "none"))
    assert result.exit_code == 2
    assert "no such folder" in result.stderr


@pytest.mark.realdata
def test_recorded_bars_pass(realdata):
    result = CliRunner().invoke(
        app, ["lookahead", "--data", str(realdata / "spot_2024"), "--timerange", "20240601-20240608", "--cuts", "6"]
    )
    assert result.exit_code == 0, result.output
