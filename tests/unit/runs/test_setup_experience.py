"""Rows of a model of set-ups from what a desk really decided, beside those that bars say it would have."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from made_world import T0, World, at
from tickless.adapters.folder_market import FolderMarket
from tickless.adapters.synthetic_market import make_market
from tickless.learn.challenge import Terms
from tickless.learn.sampling import make_samples
from tickless.learn.scope import ENTER, LEAVE, Scope
from tickless.learn.spec import models_folder, read_spec
from tickless.learn.training_run import Features
from tickless.runs.experience import compile_experience
from tickless.settings import load_desk
from tickless.types import to_ms


@pytest.fixture(scope="module")
def scanned() -> World:
    """A desk that has scanned for ten hours, but for two of them, with bars of three days more."""
    made = make_market(start=T0 - timedelta(days=8), end=T0 + timedelta(days=3), pairs=8, seed=3, events=False)
    settings = load_desk("crossover", ["strategy.crossover.fast_bars=4", "strategy.crossover.slow_bars=12"])
    world = World(FolderMarket(made.panel, made.rules), settings)
    for bar in (*range(16), *range(24, 40)):
        world.run("scan-crossover", at(bar))
    assert compile_experience(settings, made.panel, world.trace, world.experience, at(96 * 2 + 1)) == ["crossover/2024-06-01"]
    return world


def test_set_ups_of_experience_are_the_entries_that_were_decided(scanned):
    panel, scope = scanned.market.panel, Scope.of(scanned.settings)
    day = scanned.experience.read("crossover", T0.date())
    decided = replace(scope, experience=day.ticks)
    by_bars, by_ticks = scope.signals(panel, "crossover"), decided.signals(panel, "crossover")
    bought = {(to_ms(order.tick_at), order.pair) for order in scanned.ledger.orders() if order.side == "buy"}
    rows, columns = np.nonzero(by_ticks.feature(ENTER))
    found = {
        (panel.start_ms + (row + 1) * panel.step_ms, panel.pairs[column])
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
    }
    assert found == bought
    assert len(found) > 8
    assert not (by_ticks.feature(ENTER) > by_bars.feature(ENTER)).any(), "a scan enters nowhere but where bars say so"
    assert by_ticks.feature(ENTER).sum() < by_bars.feature(ENTER).sum()
    assert np.array_equal(by_ticks.feature(LEAVE), by_bars.feature(LEAVE))


def test_samples_of_experience_are_those_of_bars_at_the_entries_that_were_decided(scanned):
    panel, settings = scanned.market.panel, scanned.settings
    spec = read_spec(models_folder() / "crossover_setup" / "spec.toml")
    table = Features.of_rotation("15m", settings.universe.max_gap_bars).make(panel)
    of_bars = Scope.of(settings)
    of_ticks = replace(of_bars, experience=scanned.experience.read("crossover", T0.date()).ticks)

    def rows(scope):
        terms = Terms(settings.training, settings.execution, 6, panel.end, panel.end, panel.step_ms, spec, scope)
        made = make_samples(table, panel, 0, terms)
        assert made.check(settings.training.seed)["rows"] == len(made.samples)
        return {
            (int(ms), int(pair)): (x.tobytes(), float(y), int(end))
            for ms, pair, x, y, end in zip(*(getattr(made.samples, name) for name in ("start_ms", "pair", "x", "y", "end_ms")), strict=True)
        }

    few, many = rows(of_ticks), rows(of_bars)
    assert 5 < len(few) < len(many)
    assert few.items() <= many.items()


def test_a_job_that_has_bars_alone_refuses_rows_of_experience(scanned):
    with pytest.raises(ValueError, match="has bars, no experience"):
        replace(Scope.of(scanned.settings), experience=()).as_json()
