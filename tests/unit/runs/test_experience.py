"""From traces to experience: what came of each decision, once it is known and not before."""

from __future__ import annotations

import json
from datetime import timedelta

import numpy as np
import pytest

from made_world import T0, World, at
from tickless.adapters.experience_archive import encode_day
from tickless.adapters.folder_market import FolderMarket
from tickless.adapters.synthetic_market import make_market
from tickless.alpha.ensemble import volatility_scale
from tickless.learn.experience import ExperienceDay
from tickless.runs.experience import compile_experience
from tickless.settings import load_desk

PAIRS = 6
BARS = (0, 2, 50, 94)
"""When the desk of these tests ticks on its first day: T0, 00:30, 12:30 and 23:30."""


@pytest.fixture(scope="module")
def ticked() -> World:
    """A desk that has rebalanced a few times on one day, with bars of three."""
    made = make_market(start=T0 - timedelta(days=40), end=T0 + timedelta(days=3), pairs=PAIRS, seed=3, events=False)
    world = World(FolderMarket(made.panel, made.rules), load_desk("rotation"))
    for bar in BARS:
        world.run("full_rebalance" if bar == 0 else "feature_rebalance", at(bar))
    return world


def compiled(world: World, when: float) -> list[str]:
    """What is stored at bar ``when``, with the bars closed by then."""
    panel = world.market.panel.closed_at(at(when))
    return compile_experience(world.settings, panel, world.trace, world.experience, at(when))


@pytest.fixture(scope="module")
def day(ticked: World) -> ExperienceDay:
    assert compiled(ticked, 96 * 2) == [], "the outcomes of the last tick read the bar that opens now"
    assert compiled(ticked, 96 * 2 + 1) == ["rotation/2024-06-01"]
    assert compiled(ticked, 96 * 2 + 1) == []
    found = ticked.experience.read("rotation", T0.date())
    assert found is not None
    return found


def test_every_tick_and_pair_is_there_with_what_the_strategy_saw(day, ticked):
    assert [tick.at for tick in day.ticks] == [at(bar) for bar in BARS]
    for tick, bar in zip(day.ticks, BARS, strict=True):
        trace = ticked.trace.written[next(t for t in ticked.trace.written if t.scheduled_at == at(bar) and "rebalance" in t.function)]
        assert tick.pairs == tuple(ticked.market.pairs())
        assert np.array_equal(tick.features, trace["evidence"]["features"]["values"], equal_nan=True)
        assert {pair: (d["action"], d["reason"]) for pair, d in tick.decisions.items()} == trace["pairs"].actions


def test_outcomes_are_returns_between_prices_at_which_an_order_would_have_filled(day, ticked):
    panel = ticked.market.panel
    columns = [panel.column[pair] for pair in day.ticks[0].pairs]
    for tick in day.ticks:
        assert {(said.model, said.horizon_h) for said in tick.said} == {("rotation_6h", 6.0), ("rotation_24h", 24.0)}
        for said in tick.said:
            row, bars = panel.row_at(tick.at), int(said.horizon_h * 4)
            expected = panel.open[row + bars, columns] / panel.open[row, columns] - 1.0
            assert np.allclose(said.outcome, expected, rtol=1e-12, equal_nan=True)
            volatility = tick.features[:, tick.feature_names.index("rv_24h")]
            assert np.allclose(said.scaled, expected / volatility_scale(volatility, said.horizon_h), rtol=1e-12)
            assert said.until_ms == (tick.at + timedelta(hours=said.horizon_h, minutes=15)).timestamp() * 1000


def test_without_a_model_a_row_still_says_what_came(day):
    rows = [json.loads(line) for line in encode_day(day)]
    assert len(rows) == len(BARS) * 2 * PAIRS
    assert {row["version"] for row in rows} == {row["forecast"] for row in rows} == {None}
    assert all(row["outcome"] is not None for row in rows)


def test_bars_that_come_later_change_nothing(day, ticked):
    again = World(ticked.market, ticked.settings, trace=ticked.trace)
    assert compiled(again, 96 * 3) == ["rotation/2024-06-01"]
    assert again.experience.objects.contents == ticked.experience.objects.contents


def test_a_pair_that_the_bars_do_not_have_has_no_outcome(ticked):
    again = World(ticked.market, ticked.settings, trace=ticked.trace)
    pairs = ticked.market.pairs()
    panel = ticked.market.panel.closed_at(at(96 * 2 + 1)).select(pairs[1:])
    compile_experience(again.settings, panel, again.trace, again.experience, at(96 * 2 + 1))
    made = again.experience.read("rotation", T0.date())
    assert made is not None
    for said in made.ticks[0].said:
        assert np.isnan(said.outcome[0])
        assert np.isfinite(said.outcome[1:]).all()


def test_nights_that_failed_are_made_up_for(ticked):
    world = World(ticked.market, ticked.settings, trace=ticked.trace)
    for tick, content in list(ticked.trace.written.items()):
        world.trace.write(type(tick)(tick.scheduled_at - timedelta(days=1), tick.function), content)
    panel = world.market.panel.closed_at(at(96 * 2 + 1))
    assert compile_experience(world.settings, panel, world.trace, world.experience, at(96 * 2 + 1)) == [
        "rotation/2024-06-01",
        "rotation/2024-05-31",
    ]


def test_a_night_that_died_between_two_days_and_a_day_off_lose_nothing(ticked):
    world = World(ticked.market, ticked.settings, trace=ticked.trace)
    for tick, content in list(ticked.trace.written.items()):
        for days in (-3, -1, 1):
            if tick.scheduled_at.date() == T0.date():
                world.trace.write(type(tick)(tick.scheduled_at + timedelta(days=days), tick.function), content)
    panel = world.market.panel

    def stored(bar: int) -> list[str]:
        return compile_experience(world.settings, panel, world.trace, world.experience, at(bar))

    assert stored(96 * -1 + 1) == ["rotation/2024-05-29"]
    kept = dict(world.experience.objects.contents)
    assert stored(96 * 2 + 1) == ["rotation/2024-06-01", "rotation/2024-05-31"], "over the day off"
    latest = {key: body for key, body in world.experience.objects.contents.items() if "06-01" in key}
    world.experience.objects.contents.clear()
    world.experience.objects.contents.update(kept | latest)
    assert stored(96 * 2 + 1) == ["rotation/2024-05-31"], "what the night that died did not come to"


def test_a_night_asks_the_label_of_a_probability_whether_its_event_came(ticked):
    world = World(ticked.market, ticked.settings)
    for tick, content in ticked.trace.written.items():
        if "evidence" not in content or tick.scheduled_at.date() != T0.date():
            continue
        given = {"model": "rotation_6h", "version": "v1", "stage": "shadow", "horizon_h": 6.0}
        said = [given | {"forecast": np.full(PAIRS, 0.01), "probability": np.full(PAIRS, 0.6)}]
        world.trace.write(tick, {**content, "evidence": {**content["evidence"], "said": said}})
    assert compiled(world, 96 * 2 + 1) == ["rotation/2024-06-01"]
    made = world.experience.read("rotation", T0.date())
    assert made is not None
    for tick in made.ticks:
        spoken = next(said for said in tick.said if said.version)
        # The label of rotation_6h is relative: its event is to beat the tick's mean, in units of the volatility.
        assert np.array_equal(spoken.won, spoken.scaled > spoken.scaled.mean())
        assert all(np.isnan(said.won).all() for said in tick.said if not said.version)
