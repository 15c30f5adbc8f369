"""The label of a set-up: what the strategy's own trade would have earned, by the desk's own fills."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from pydantic import ValidationError

from made_world import T0
from tickless.adapters.folder_market import FolderMarket
from tickless.adapters.synthetic_market import make_market
from tickless.alpha.ensemble import round_trip_cost_frac
from tickless.backtest.engine import BacktestRequest, backtest
from tickless.errors import LeakError
from tickless.learn import label_spec
from tickless.learn.challenge import Terms
from tickless.learn.label_spec import SetupHistory, SetupLabel, make_labels
from tickless.learn.leak_checks import rows_of
from tickless.learn.measures import concurrent_ticks
from tickless.learn.sampling import make_samples
from tickless.learn.scope import ENTER, Scope
from tickless.learn.spec import ModelSpec, SplitSpec, read_spec
from tickless.learn.training_run import Features
from tickless.settings import load_desk, models_folder
from tickless.types import from_ms, to_ms

START = T0 - timedelta(days=7)
QUICK = ("strategy.crossover.fast_bars=5", "strategy.crossover.slow_bars=20", "execution.slippage_bps=3")
LONG_H = 24.0 * 14
"""Longer than any trade of these bars."""


@pytest.fixture(scope="module")
def market():
    made = make_market(start=START - timedelta(days=3), end=T0, pairs=8, seed=4)
    return FolderMarket(made.panel, made.rules)


@pytest.fixture(scope="module")
def settings():
    return load_desk("crossover", QUICK)


def spec_of(**changes):
    given = {"name": "m", "strategy": "crossover", "features": "rotation", "horizon_h": LONG_H, "label": {"kind": "setup"}}
    return ModelSpec.model_validate({**given, "split": {"embargo_h": LONG_H}, **changes})


def labelled(market, settings, hours=LONG_H, **label):
    panel = market.panel
    table = Features.of_rotation("15m", settings.universe.max_gap_bars).make(panel)
    history = SetupHistory(settings.execution, Scope.of(settings).signals(panel, "crossover"))
    cost = round_trip_cost_frac(settings.execution)
    return make_labels(panel, table, hours, SetupLabel(**label), cost, history), history, cost


def test_every_trade_of_a_backtest_has_its_profit_as_label(market, settings):
    """The desk itself is the oracle: orders, fills, fees and slippage in exact decimals, tick by tick."""
    record = backtest(BacktestRequest(settings, market, START, T0))
    labels, _, cost = labelled(market, settings)
    panel, compared = market.panel, 0
    for trade in record.trades:
        row, pair = (to_ms(trade.opened_at) - panel.start_ms) // panel.step_ms - 1, panel.column[trade.pair]
        if trade.exit_reason != "cross_down":
            continue
        assert labels.plain[row, pair] - cost == pytest.approx(float(trade.pnl_frac), abs=1e-6), trade
        assert labels.target[row, pair] == (trade.pnl_frac > 0)
        assert from_ms(int(labels.end_ms[row, pair])) == trade.closed_at + timedelta(minutes=15)
        compared += 1
    assert compared > 50


def test_there_is_a_label_where_the_strategy_enters_and_nowhere_else(market, settings):
    labels, history, _ = labelled(market, settings)
    entered = history.signals.feature(ENTER) > 0.0
    assert not np.isfinite(labels.target[~entered]).any()
    assert np.isfinite(labels.target[entered]).mean() > 0.8


def test_a_horizon_a_stop_and_a_take_profit_end_a_set_up_sooner(market, settings):
    long, *_ = labelled(market, settings)
    here = np.isfinite(long.target)
    for label, hours in (({}, 2.0), ({"stop": 0.5}, LONG_H), ({"take_profit": 0.5}, LONG_H)):
        other, *_ = labelled(market, settings, hours, **label)
        both = here & np.isfinite(other.target)
        assert (other.end_ms[both] <= long.end_ms[both]).all()
        assert (other.end_ms[both] < long.end_ms[both]).sum() > 10


def test_entries_at_limits_are_not_always_met(market, settings):
    at_market, *_ = labelled(market, settings)
    at_limits, *_ = labelled(market, settings, limits_below=(0.5, 1.5), entry_bars=4)
    assert 0 < np.isfinite(at_limits.target).sum() < np.isfinite(at_market.target).sum()


def test_a_set_up_without_its_strategy_is_refused(market, settings):
    table = Features.of_rotation("15m", 4).make(market.panel)
    with pytest.raises(ValueError, match="nothing says where the strategy enters"):
        make_labels(market.panel, rows_of(table, market.panel), 6.0, SetupLabel(), 0.002)


def test_samples_are_the_set_ups_that_could_be_traded_at_whatever_close_they_come(market, settings):
    panel, spec = market.panel, spec_of()
    scope = Scope.of(settings)
    terms = Terms(settings.training, settings.execution, 6, panel.end, panel.end, panel.step_ms, spec, scope)
    made = make_samples(Features.of_rotation("15m", 4).make(panel), panel, 0, terms)
    rows = made.samples
    signals = scope.signals(panel, "crossover")
    assert terms.sample_every_min == 15
    assert len({int(at) % 3_600_000 for at in rows.start_ms}) == 4
    assert (signals.feature(ENTER)[(rows.start_ms - panel.start_ms) // panel.step_ms - 1, rows.pair] == 1.0).all()
    assert made.check(settings.training.seed)["label_values"] > 50
    bare = Terms(settings.training, settings.execution, 6, panel.end, panel.end, panel.step_ms, spec)
    with pytest.raises(ValueError, match="nothing says where the strategy crossover enters"):
        make_samples(Features.of_rotation("15m", 4).make(panel), panel, 0, bare)


def test_the_last_set_ups_do_not_count_while_some_of_them_may_go_on(market, settings):
    """Of those the bars know the end of the short ones only, and a short trade is a lost one here more often than not."""
    panel, spec = market.panel, spec_of()
    terms = Terms(settings.training, settings.execution, 6, panel.end, panel.end, panel.step_ms, spec, Scope.of(settings))
    made = make_samples(Features.of_rotation("15m", 4).make(panel), panel, 0, terms)
    rows = made.samples
    ended = np.isfinite(made.labels.target)
    longest = int((made.labels.end_ms - made.labels.start_ms[:, None])[ended].max())
    last = made.labels.start_ms[np.flatnonzero(ended.any(axis=1))[-1]]
    assert rows.start_ms[-1] + rows.longest_ms <= panel.end_ms < last + longest


@pytest.mark.parametrize("seed", range(8))
def test_an_outcome_that_says_it_is_known_a_bar_early_is_caught_however_few_there_are(market, settings, monkeypatch, seed):
    panel = market.panel
    terms = Terms(settings.training, settings.execution, 6, panel.end, panel.end, panel.step_ms, spec_of(), Scope.of(settings))
    table = Features.of_rotation("15m", 4).make(panel)
    assert make_samples(table, panel, 0, terms).check(seed)["rows"] > 50
    honest = label_spec.setup_outcome

    def early(*given):
        outcome = honest(*given)
        return replace(outcome, end_ms=outcome.end_ms - panel.step_ms)

    monkeypatch.setattr(label_spec, "setup_outcome", early)
    with pytest.raises(LeakError, match="its window reaches further"):
        make_samples(table, panel, 0, terms).check(seed)


def test_a_strategy_that_is_rebalanced_has_no_set_ups():
    with pytest.raises(ValidationError, match=r"label.kind = 'setup': strategy 'rotation' is rebalanced .*: crossover"):
        ModelSpec(name="m", strategy="rotation", features="rotation", horizon_h=6, label=SetupLabel(), split=SplitSpec(embargo_h=6))


def test_the_specification_that_ships_is_one_of_set_ups():
    spec = read_spec(models_folder() / "crossover_setup" / "spec.toml")
    assert (spec.label.kind, spec.of_setups, spec.calibrated_by) == ("setup", True, "platt")
    assert (models_folder() / "crossover_setup" / "card.md").read_text().startswith("# crossover_setup\n")


def test_labels_that_come_when_they_come_share_the_ticks_that_lie_in_their_time():
    start = np.array([0, 0, 10, 20, 100], dtype=np.int64)
    assert concurrent_ticks(start, start + 15) == 2
    assert concurrent_ticks(start, start + 5) == 1
    assert concurrent_ticks(start, start + 1000) == 3  # 4, 3, 2 and 1.
    assert concurrent_ticks(start[:0], start[:0]) == 1


def test_where_samples_come_at_every_tick_that_is_the_overlap():
    start = np.arange(0, 1000, 5, dtype=np.int64)
    assert concurrent_ticks(start, start + 35) == 7
