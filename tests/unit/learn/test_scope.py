"""Which rows a training learns from: those on which the desk could have acted then."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from made_world import T0
from tickless.adapters.memory_models import MemoryModelStore
from tickless.adapters.synthetic_market import make_market
from tickless.errors import DataError, LeakError
from tickless.learn import scope as scope_module
from tickless.learn.challenge import Terms
from tickless.learn.sampling import make_samples
from tickless.learn.scope import ENTER, LEAVE, Scope
from tickless.learn.spec import ModelSpec, SplitSpec, desk_specs
from tickless.learn.training_job import train_on_bars
from tickless.learn.training_run import Features
from tickless.runs.crossover_history import CrossoverHistory
from tickless.runs.retrain import training_start
from tickless.settings import load_desk
from tickless.strategies.contract import Own
from tickless.types import from_ms, to_ms

DAY_MS = 86_400_000
LISTED = T0 - timedelta(days=12)
NEWCOMER = 3
SPEC = ModelSpec(name="m6", strategy="rotation", features="rotation", horizon_h=6, split=SplitSpec(embargo_h=6))


@pytest.fixture(scope="module")
def panel():
    """Thirty days of six pairs; one is listed twelve days before the end, one is hardly traded from then on."""
    made = make_market(start=T0 - timedelta(days=30), end=T0, pairs=6, seed=3, events=False).panel
    row = made.row_at(LISTED)
    columns = {name: getattr(made, name).copy() for name in ("open", "high", "low", "close", "volume")}
    for values in columns.values():
        values[:row, NEWCOMER] = np.nan
    columns["volume"][row:, 0] = 1e-6
    return replace(made, **columns)


def terms(settings, panel, scope):
    return Terms(settings.training, settings.execution, 6, panel.end, panel.end, panel.step_ms, SPEC, scope)


def samples(panel, *overrides):
    settings = load_desk("rotation", overrides)
    table = Features.of_rotation(panel.timeframe, settings.universe.max_gap_bars).make(panel)
    every = make_samples(table, panel, 0, terms(settings, panel, None)).samples
    return every, make_samples(table, panel, 0, terms(settings, panel, Scope.of(settings))).samples


def first_row(rows, pair):
    return from_ms(int(rows.start_ms[rows.pair == pair].min()))


def test_a_pair_that_was_too_young_to_be_bought_teaches_nothing(panel):
    every, allowed = samples(panel, "universe.min_age_days=5")
    assert first_row(every, NEWCOMER) < LISTED + timedelta(days=2)
    assert first_row(allowed, NEWCOMER) == LISTED + timedelta(days=5)
    assert 0 < len(allowed) < len(every)


def test_a_pair_that_was_too_little_traded_teaches_nothing_from_then_on(panel):
    every, allowed = samples(panel, "universe.min_daily_volume=1000", "universe.rank_window_days=3")
    dried_up = LISTED + timedelta(days=3)
    of_first = allowed.start_ms[allowed.pair == 0]
    assert of_first.size
    assert from_ms(int(of_first.max())) < dried_up
    assert from_ms(int(every.start_ms[every.pair == 0].max())) > T0 - timedelta(days=1)
    assert (allowed.pair == 1).sum() > (allowed.pair == 0).sum()


def test_the_presets_rules_drop_no_row_whose_features_are_settled(panel):
    """A day of bars is what the features ask for themselves: versions are what they were."""
    every, allowed = samples(panel)
    assert every.sha256 == allowed.sha256


def test_a_new_price_scale_teaches_nothing_until_the_desk_would_have_bought_again(panel):
    row = panel.row_at(T0 - timedelta(days=6))
    columns = {name: getattr(panel, name).copy() for name in ("open", "high", "low", "close")}
    for values in columns.values():
        values[row:, 2] *= 1000.0
        values[row - 8 : row, 2] = np.nan
    volume = panel.volume.copy()
    volume[row - 8 : row, 2] = np.nan
    rows = samples(replace(panel, **columns, volume=volume))[1]
    at = rows.start_ms[rows.pair == 2]
    broken_ms = panel.start_ms + row * panel.step_ms
    assert not ((at > broken_ms - 8 * panel.step_ms - 6 * 3_600_000) & (at < broken_ms + DAY_MS)).any()
    assert (at >= broken_ms + DAY_MS).any()


def test_a_training_takes_only_those_rows_and_the_job_says_which(panel):
    settings = load_desk(
        "rotation", ["universe.min_age_days=5", "training.window_days=20", "training.min_window_days=10", "training.num_threads=1"]
    )
    (spec, _), _ = desk_specs(settings)
    spec = spec.model_copy(update={"window": spec.window.model_copy(update={"min_rows": 100})})
    given = {"training": settings.training, "execution": settings.execution, "top_k": 4, "as_of": T0, "effective_at": T0}

    def rows(scope):
        (model,) = train_on_bars(panel, [spec], {}, scope=scope, **given).trained
        return model.manifest["rows"]["fit"] + model.manifest["rows"]["validation"]

    young = replace(Scope.of(settings), universe=settings.universe.model_copy(update={"min_age_days": 0.0}))
    assert rows(Scope.of(settings)) < rows(young)


def test_a_scope_travels_as_json():
    scope = Scope.of(load_desk("crossover", ["strategy.crossover.fast_bars=7", "universe.min_age_days=2.5"]))
    assert Scope.from_json(json.loads(json.dumps(scope.as_json()))) == scope


@pytest.mark.parametrize(
    ("overrides", "days"), [(("universe.min_age_days=60",), 60), (("universe.min_daily_volume=1", "universe.rank_window_days=40"), 40)]
)
def test_a_training_reads_back_for_the_age_and_the_volumes_of_its_first_row(overrides, days):
    settings = load_desk("rotation", ["training.window_days=20", *overrides])
    assert (
        training_start(settings, T0, ())
        <= T0 - timedelta(days=20 + days)
        < training_start(load_desk("rotation"), T0, ()) + timedelta(days=90)
    )


def test_a_training_of_a_slow_crossover_reads_back_for_its_averages():
    settings = load_desk("crossover", ["training.window_days=20", "strategy.crossover.slow_bars=2000"])
    assert to_ms(T0 - timedelta(days=20)) - to_ms(training_start(settings, T0, ())) >= 2005 * 900_000


def test_signals_of_a_strategy_that_the_desk_does_not_run_cannot_be_told(panel):
    with pytest.raises(DataError, match="does not run the strategy 'crossover'"):
        Scope.of(load_desk("rotation")).signals(panel, "crossover")


def test_a_strategy_that_nobody_told_the_trainings_of_is_named(panel, monkeypatch):
    monkeypatch.setattr("tickless.learn.scope.SIGNALS", {})
    with pytest.raises(DataError, match=r"strategy 'crossover': learn.scope.SIGNALS does not say where it enters"):
        Scope.of(load_desk("crossover")).signals(panel, "crossover")


def test_signals_are_what_the_strategy_itself_sees(panel):
    settings = load_desk("crossover", ["strategy.crossover.fast_bars=5", "strategy.crossover.slow_bars=12"])
    signals = Scope.of(settings).signals(panel, "crossover")
    start = panel.start + timedelta(days=1)
    history = CrossoverHistory(panel, panel.pairs, settings, start, MemoryModelStore())
    nobody = Own({})
    entered = left = 0
    for row in range(96, 400):
        view = history.view(from_ms(panel.start_ms + (row + 1) * panel.step_ms))
        entering = {proposal.pair for proposal in history.strategy.propose(view, nobody, settings).proposals}
        assert entering == {panel.pairs[n] for n in np.flatnonzero(signals.feature(ENTER)[row])}
        below = {panel.pairs[n] for n in np.flatnonzero(view.feature("trend") < 0.0)}
        assert below == {panel.pairs[n] for n in np.flatnonzero(signals.feature(LEAVE)[row])}
        entered, left = entered + len(entering), left + len(below)
    assert entered > 20
    assert left > 20


@pytest.mark.parametrize("strategy", ["rotation", "crossover"])
def test_rows_that_are_chosen_by_what_came_after_stop_the_training(panel, monkeypatch, strategy):
    """A universe of those that did well, or were still there at the end, is caught in every training."""
    honest = scope_module.tradable_then

    def winners(bars, universe):
        return honest(bars, universe) & (bars.close[-1:] > bars.close)

    settings = load_desk(strategy)
    label = {"label": {"kind": "setup"}} if strategy == "crossover" else {}
    spec = ModelSpec.model_validate({**SPEC.model_dump(exclude={"label", "calibration"}), **label, "strategy": strategy})
    given = Terms(settings.training, settings.execution, 6, panel.end, panel.end, panel.step_ms, spec, Scope.of(settings))
    table = Features.of_rotation(panel.timeframe, 4).make(panel)
    assert len(make_samples(table, panel, 0, given).samples)
    monkeypatch.setattr(scope_module, "tradable_then", winners)
    with pytest.raises(LeakError, match="the choice of rows looks ahead"):
        make_samples(table, panel, 0, given)
