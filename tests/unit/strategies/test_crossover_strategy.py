"""What crossover wants of each pair, and what bars it asks for."""

from datetime import timedelta

import pytest

from made_desk import T0, a_position, a_signal_view
from tickless.features.crossover import startup_bars
from tickless.settings import load_desk
from tickless.strategies.contract import Own
from tickless.strategies.crossover import Crossover

DESK = load_desk("crossover")
UP, DOWN = {"trend": 1.0, "crossed": 1.0}, {"trend": -1.0, "crossed": -1.0}
BELOW, EQUAL, UNKNOWN = {"trend": -1.0}, {"trend": 0.0}, {"trend": float("nan")}
NOTHING = Own({})


def holding(*pairs, buying=()):
    return Own({pair: a_position(pair, "10", strategy="crossover") for pair in pairs}, frozenset(buying))


def propose(pairs, own=NOTHING, settings=DESK):
    return Crossover().propose(a_signal_view(pairs), own, settings)


def test_it_enters_on_a_cross_up_and_on_nothing_else():
    got = propose({"A/USDT": UP, "B/USDT": {}, "C/USDT": DOWN, "D/USDT": EQUAL, "E/USDT": UNKNOWN})
    assert [(p.strategy, p.pair, p.side, p.reason, p.stake) for p in got.proposals] == [("crossover", "A/USDT", "long", "cross_up", 1000.0)]
    assert got.proposals[0].exits.atr is None
    assert got.leaving == {}
    assert got.source == "signals"
    reasons = {pair: verdict.reason for pair, verdict in got.verdicts.items()}
    assert reasons == {
        "A/USDT": "",
        "B/USDT": "no_cross_up",
        "C/USDT": "no_cross_up",
        "D/USDT": "no_cross_up",
        "E/USDT": "features_not_settled",
    }


@pytest.mark.parametrize("own", [holding("A/USDT"), holding(buying=["A/USDT"])], ids=["held", "being bought"])
@pytest.mark.parametrize(
    ("seen", "leaving"),
    [(UP, {}), ({}, {}), (EQUAL, {}), (UNKNOWN, {}), (DOWN, {"A/USDT": "cross_down"}), (BELOW, {"A/USDT": "cross_down"})],
    ids=["crossed up", "above", "equal", "unknown", "crossed down", "below"],
)
def test_what_it_has_stays_until_it_lies_below_and_is_never_entered_again(own, seen, leaving):
    got = propose({"A/USDT": seen}, own)
    assert got.proposals == ()
    assert got.leaving == leaving
    assert got.verdicts["A/USDT"].reason


def test_a_pair_that_may_not_be_bought_is_not_entered_but_can_be_left():
    ruled_out = {"ineligible": "too_young"}
    got = propose({"A/USDT": UP | ruled_out, "B/USDT": DOWN | ruled_out}, holding("B/USDT"))
    assert got.proposals == ()
    assert got.leaving == {"B/USDT": "cross_down"}
    assert got.verdicts["A/USDT"].reason == "too_young"


def test_what_the_universe_has_dropped_is_left():
    got = propose({"A/USDT": {}}, holding("GONE/USDT", "A/USDT", buying=["LOST/USDT"]))
    assert got.leaving == {"GONE/USDT": "left_universe", "LOST/USDT": "left_universe"}
    assert set(got.verdicts) == {"A/USDT"}


def test_every_pair_of_the_view_has_a_verdict_and_the_order_is_that_of_the_view():
    pairs = {f"{name}/USDT": UP for name in "DBAC"}
    got = propose(pairs)
    assert [p.pair for p in got.proposals] == sorted(pairs)
    assert set(got.verdicts) == set(pairs)


def test_a_target_is_the_stake_and_nothing_of_what_is_held():
    settings = load_desk("crossover", ["strategy.crossover.stake=250"])
    view, own = a_signal_view({"A/USDT": UP, "B/USDT": DOWN, "C/USDT": {}}), holding("B/USDT", "C/USDT")
    got = Crossover().propose(view, own, settings)
    targets = Crossover().target(got.proposals, got.leaving, view, own, 50_000.0, settings)
    assert targets.values == {"A/USDT": 250.0}
    assert targets.leaving == {"B/USDT": "cross_down"}
    assert targets.limits == ()
    assert Crossover().hysteresis_frac(settings, full=False) == 0.0


@pytest.mark.parametrize(
    ("overrides", "days"),
    [((), 0.0), (("universe.min_age_days=30",), 30.0), (("universe.min_daily_volume=1000000",), 30.0)],
    ids=["averages alone", "age", "volume"],
)
def test_it_asks_for_the_bars_of_its_averages_and_of_the_filters_that_are_on(overrides, days):
    settings = load_desk("crossover", overrides)
    averages = timedelta(minutes=15) * startup_bars(settings)
    assert Crossover().first_feature_bar(settings, T0) == T0 - averages
    assert Crossover().first_bar(settings, T0) == min(T0 - averages, T0 - timedelta(days=days))
    assert Crossover().extra_pairs(settings) == ()
