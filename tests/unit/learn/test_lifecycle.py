"""The rules of a model's life on made-up evidence: who rises, who goes back, who is let go, and that nobody waits for ever."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from tickless.alpha.model_life import LifeChange, ModelEvent, ModelLife, Promotion
from tickless.learn.drift import DriftLimit, DriftLimits, judge_drift
from tickless.learn.gates import GateDecision
from tickless.learn.lifecycle import LifeRules, Moment, dispensable, enter, holds, never_proven, react, review, roll_back, withdraw
from tickless.learn.spec import load_specs
from tickless.learn.track import Track, compare
from tickless.settings import TrainingSection
from tickless.types import to_ms

T0 = datetime(2024, 6, 1, 2, 30, tzinfo=UTC)
RULES = LifeRules(TrainingSection(), 6.0)
PASSED, FAILED = GateDecision(True, ("good",)), GateDecision(False, ("bad",))
NAN = float("nan")


def moment(days: float) -> Moment:
    return Moment(T0 + timedelta(days=days), T0 + timedelta(days=days, minutes=-20))


def track(mean: float, days: float = 8, *, first: float = 0, hours: float = 6.0, spread: float = 0.0, seed: int = 0) -> Track:
    """A score every half hour from day ``first`` on, of outcomes that overlap."""
    count, overlap = int(days * 48), int(hours * 2)
    noise = np.convolve(np.random.default_rng(seed).standard_normal(count + overlap - 1), np.ones(overlap) / np.sqrt(overlap), "valid")
    at_ms = to_ms(T0 + timedelta(days=first)) + 1_800_000 * np.arange(count)
    nothing = np.full(count, NAN)
    return Track(hours, at_ms, mean + spread * noise, np.zeros(count), np.zeros(count), at_ms, nothing, nothing)


def life(*shadows: tuple[str, float, str], champion: str = "v1") -> ModelLife:
    """A champion since T0, and versions in shadow since some day in some role."""
    events = tuple(ModelEvent(version, "shadow", T0 + timedelta(days=day), "passed", role=role) for version, day, role in shadows)
    promotions = (Promotion(champion, T0, T0, "first"),) if champion else ()
    return ModelLife(promotions, events)


def test_the_first_model_that_passes_becomes_champion():
    change = enter(ModelLife(), "v1", PASSED, RULES, moment(0), usable=False)
    after = ModelLife().with_(change)
    assert after.stage("v1", T0) == "champion"
    assert after.champion(T0 - timedelta(minutes=1)) is None
    assert not enter(ModelLife(), "v1", FAILED, RULES, moment(0), usable=False)


def test_the_next_that_passes_goes_into_the_shadow_and_trades_nothing():
    after = life().with_(enter(life(), "v2", PASSED, RULES, moment(1), usable=True))
    assert after.stage("v2", moment(1).at) == "shadow"
    assert after.champion(moment(1).at).version == "v1"
    assert not enter(after, "v2", PASSED, RULES, moment(1), usable=True), "a retry changes nothing"


def test_direct_promotion_needs_no_shadow():
    rules = LifeRules(TrainingSection(promotion="direct"), 6.0)
    after = life().with_(enter(life(), "v2", PASSED, rules, moment(1), usable=True))
    assert (after.stage("v2", moment(1).at), after.stage("v1", moment(1).at)) == ("champion", "retired")


def test_a_champion_that_no_tick_can_use_stands_in_nobodys_way():
    after = life().with_(enter(life(), "v2", PASSED, RULES, moment(1), usable=False))
    assert after.stage("v2", moment(1).at) == "champion"


def test_the_shadow_holds_only_so_many_and_an_early_version_takes_the_oldest_place():
    full = life(("v2", 1, "challenger"), ("v3", 2, "challenger"), ("v0", 0, "former"))
    full = full.with_(LifeChange(events=(drift_event(3),)))
    assert not enter(full, "v4", PASSED, RULES, moment(3), usable=True)
    after = full.with_(enter(full, "v4", PASSED, RULES, moment(3), usable=True, early=True))
    assert [event.version for event in after.shadows(moment(3).at)] == ["v0", "v3", "v4"]
    assert after.stage("v2", moment(3).at) == "retired"


def drift_event(day: float, action: str = "retrain") -> ModelEvent:
    return ModelEvent("v1", "champion", T0 + timedelta(days=day), "has drifted", action=action)


def test_a_drift_that_lasts_does_not_push_out_one_challenger_a_night_for_ever():
    now = life(("a", 0, "challenger"), ("b", 1, "challenger")).with_(LifeChange(events=(drift_event(3),)))
    for night in range(3, 16):
        if night in (6, 9):  # It comes and goes.
            now = now.with_(LifeChange(events=(drift_event(night, ""), drift_event(night))))
        now = now.with_(enter(now, f"n{night}", PASSED, RULES, moment(night), usable=True, early=True))
    assert [event.version for event in now.shadows(moment(16).at)] == ["n3", "n4"], "who was trained for the drift has time to prove itself"


def test_a_better_challenger_is_promoted_and_the_champion_goes_on_in_shadow():
    before = life(("v2", 0, "challenger"), ("v3", 0, "challenger"))
    tracks = {"v1": track(0.0, spread=0.1), "v2": track(0.05, spread=0.1, seed=1), "v3": track(0.2, spread=0.1, seed=2)}
    after = before.with_(review(before, tracks, {}, RULES, moment(8)))
    assert after.champion(moment(8).at).version == "v3", "the one that is most surely better"
    assert "beats v1 in shadow" in after.champion(moment(8).at).reason
    assert after.shadows(moment(8).at, "former")[0].version == "v1"
    assert after.stage("v2", moment(8).at) == "shadow"


@pytest.mark.parametrize(("mean", "days"), [(0.0, 8), (-0.1, 8), (0.2, 2.4)])
def test_one_that_is_not_better_or_not_known_for_long_enough_is_not(mean, days):
    before = life(("v2", 0, "challenger"))
    tracks = {"v1": track(0.05, days), "v2": track(0.05 + mean, days, spread=0.05, seed=4)}
    assert compare(tracks["v2"], tracks["v1"]).periods == pytest.approx(days * 4, abs=0.1)
    if mean <= 0.0:
        tracks["v2"] = replace(tracks["v2"], score=tracks["v2"].score - 0.2)
    assert not review(before, tracks, {}, RULES, moment(days))


def test_one_that_ranks_better_and_earns_less_after_costs_is_not_promoted():
    before = life(("v2", 0, "challenger"))
    tracks = {"v1": track(0.0, spread=0.05), "v2": track(0.2, spread=0.05, seed=1)}
    for net_frac, promoted in ((0.001, True), (0.0, True), (NAN, True), (-0.001, False)):
        tracks["v2"] = replace(tracks["v2"], net_frac=np.full(len(tracks["v2"].at_ms), net_frac))
        assert bool(review(before, tracks, {}, RULES, moment(8)).promotions) is promoted


def test_only_ticks_that_both_have_forecast_count():
    mine, other = track(0.5, 4, first=0), track(0.1, 4, first=2)
    assert compare(mine, other).periods == pytest.approx(8.0)
    assert compare(mine, track(0.1, 1, first=9)).periods == 0.0


def test_a_worse_champion_is_rolled_back_on_what_came_after_its_promotion_alone():
    before = life(("v0", 4, "former"))
    good_then_bad = np.where(np.arange(8 * 48) < 4 * 48, 0.9, -0.2)
    mine = replace(track(0.0, 8, spread=0.05), score=good_then_bad + track(0.0, 8, spread=0.05).score)
    after = before.with_(review(before, {"v1": mine, "v0": track(0.1, 8, seed=3)}, {}, RULES, moment(8)))
    assert after.champion(moment(8).at).version == "v0"
    assert after.stage("v1", moment(8).at) == "retired"
    assert "v1 is worse than it" in after.champion(moment(8).at).reason


def test_a_challenger_without_forecasts_is_retired_at_its_deadline_and_makes_room():
    jammed = life(("v2", 0, "challenger"), ("v3", 0, "challenger"))
    just_before = RULES.deadline / timedelta(days=1) - 0.1
    assert not review(jammed, {"v1": track(0.1), "v2": None, "v3": None}, {}, RULES, moment(just_before))
    after = jammed.with_(review(jammed, {"v1": track(0.1), "v2": None, "v3": None}, {}, RULES, moment(just_before + 0.1)))
    at = moment(just_before + 0.1).at
    assert {after.stage(version, at) for version in ("v2", "v3")} == {"retired"}
    assert "it never forecast anything" in after.last_event("v2", at).reason
    assert enter(after, "v4", PASSED, RULES, moment(just_before + 0.1), usable=True).events[0].stage == "shadow"


def test_a_former_champion_is_let_go_when_the_watch_is_over():
    before = life(("v0", 0, "former"))
    days = RULES.watch / timedelta(days=1)
    tracks = {"v1": track(0.1, days), "v0": track(0.1, days)}
    assert not review(before, tracks, {}, RULES, moment(days - 0.1))
    assert review(before, tracks, {}, RULES, moment(days)).events[0].stage == "retired"


def test_what_is_damaged_leaves_the_shadow_with_the_reason():
    before = life(("v2", 0, "challenger"))
    change = review(before, {"v1": track(0.1), "v2": track(0.9)}, {"v2": "its sha256 is another"}, RULES, moment(8))
    assert [(event.version, event.stage, event.reason) for event in change.events] == [("v2", "retired", "its sha256 is another")]


def test_a_vacancy_goes_to_the_shadow_that_was_worth_something():
    empty = life(("v2", 0, "challenger"), ("v3", 0, "former"), champion="")
    tracks = {"v2": track(-0.1, spread=0.05), "v3": track(0.1, spread=0.05)}
    assert empty.with_(review(empty, tracks, {}, RULES, moment(8))).champion(moment(8).at).version == "v3"
    broken = life(("v2", 0, "challenger"))
    after = broken.with_(review(broken, {"v1": track(0.9), "v2": track(0.1, spread=0.05)}, {"v1": "too old"}, RULES, moment(8)))
    assert after.champion(moment(8).at).version == "v2"


LIMITS = DriftLimits(rolling_ic=DriftLimit(limit=0.0, action="shrink"), psi=DriftLimit(limit=0.25, action="retrain"))


def report(ic: float, psi: float = 0.0, limits: DriftLimits = LIMITS):
    return judge_drift(limits, psi={"r_6h": psi}, feature_z={}, rolling_ic=ic)


def test_drift_changes_how_far_the_champion_is_trusted_once_and_back():
    shrunk = life().with_(react(life(), report(-0.1), 0.5, moment(1)))
    assert (shrunk.standing(moment(1).at).size_frac, shrunk.standing(T0).size_frac) == (0.5, 1.0)
    assert shrunk.stage("v1", moment(1).at) == "champion"
    assert not react(shrunk, report(-0.2), 0.5, moment(2)), "it is so already"
    back = shrunk.with_(react(shrunk, report(0.1), 0.5, moment(3)))
    assert back.standing(moment(3).at).size_frac == 1.0
    assert not react(back, report(0.1), 0.5, moment(4))
    milder = shrunk.with_(react(shrunk, report(0.1, psi=0.3), 0.5, moment(3)))
    assert (milder.standing(moment(3).at).size_frac, milder.last_event("v1", moment(3).at).action) == (1.0, "retrain")


def test_not_to_know_is_no_recovery():
    shrunk = life().with_(react(life(), report(-0.1), 0.5, moment(1)))
    silent = report(NAN)
    assert "rolling_ic" in silent.unknown
    assert holds(shrunk, silent, moment(2).at) == "shrink since 2024-06-02 stays: rolling_ic cannot be told"
    assert not react(shrunk, silent, 0.5, moment(2))
    assert not react(shrunk, report(NAN, psi=0.3), 0.5, moment(2)), "nor does a milder action take its place"
    assert shrunk.standing(moment(2).at).size_frac == 0.5
    stop = LIMITS.model_copy(update={"psi": DriftLimit(limit=0.25, action="stop")})
    assert shrunk.with_(react(shrunk, report(NAN, psi=0.3, limits=stop), 0.5, moment(2))).champion(moment(2).at) is None, "a graver does"
    lifted = shrunk.with_(react(shrunk, report(0.1), 0.5, moment(3)))
    assert lifted.standing(moment(3).at).size_frac == 1.0
    assert not holds(lifted, silent, moment(4).at)


def test_an_action_waits_for_the_measures_that_caused_it_and_for_no_others():
    loud = judge_drift(LIMITS, psi={"a": 0.5, "b": 0.5, "c": NAN}, feature_z={}, rolling_ic=-0.1)
    assert loud.causes == ("rolling_ic",)
    retrained = judge_drift(LIMITS, psi={"a": 0.5, "b": 0.5, "c": NAN}, feature_z={})
    before = life().with_(react(life(), retrained, 0.5, moment(1)))
    assert before.last_event("v1", moment(1).at).causes == ("psi of a", "psi of b")
    half = judge_drift(LIMITS, psi={"a": 0.1, "b": NAN, "c": NAN}, feature_z={})
    assert holds(before, half, moment(2).at) == "retrain since 2024-06-02 stays: psi of b cannot be told"
    gone = judge_drift(LIMITS, psi={}, feature_z={})
    assert "psi of a, psi of b" in holds(before, gone, moment(2).at), "of a reference that cannot be read nothing is told"
    assert not react(before, judge_drift(LIMITS, psi={"a": 0.1, "b": 0.5, "c": 0.5}, feature_z={}), 0.5, moment(2)), "one still asks for it"
    other = before.with_(react(before, judge_drift(LIMITS, psi={"a": 0.1, "b": 0.1, "c": 0.5}, feature_z={}), 0.5, moment(2)))
    assert other.last_event("v1", moment(2).at).causes == ("psi of c",)
    worse = judge_drift(LIMITS, psi={"a": 0.1, "b": NAN, "c": 0.5}, feature_z={})
    both = before.with_(react(before, worse, 0.5, moment(2)))
    assert both.last_event("v1", moment(2).at).causes == ("psi of c", "psi of b"), "what is silent is waited for as before"
    calm = judge_drift(LIMITS, psi={"a": 0.1, "b": 0.1, "c": NAN}, feature_z={})
    assert react(before, calm, 0.5, moment(2)).events[0].action == ""


def test_drift_that_stops_leaves_no_champion():
    stop = LIMITS.model_copy(update={"rolling_ic": DriftLimit(limit=0.0, action="stop")})
    after = life().with_(react(life(), report(-0.1, limits=stop), 0.5, moment(1)))
    assert after.champion(moment(1).at) is None
    assert after.champion(T0).version == "v1"
    assert after.stage("v1", moment(1).at) == "retired"
    assert not react(after, report(-0.1, limits=stop), 0.5, moment(2))
    for later in (report(NAN, limits=stop), report(0.1, limits=stop)):
        assert not react(after, later, 0.5, moment(3)), "whoever was withdrawn does not come back by itself"
        assert holds(after, later, moment(3).at) == ""


def test_a_person_rolls_back_and_withdraws():
    history = life().with_(LifeChange((Promotion("v2", moment(1).at, T0, "better"),)))
    back = history.with_(roll_back(history, "v1", "by hand", moment(2)))
    assert (back.stage("v1", moment(2).at), back.stage("v2", moment(2).at)) == ("champion", "retired")
    gone = back.with_(withdraw(back, "by hand", moment(3)))
    assert gone.champion(moment(3).at) is None
    assert not withdraw(gone, "again", moment(4))


def test_what_is_in_use_and_the_champion_before_are_never_deleted():
    names = [f"v{n}" for n in range(9)]
    history = ModelLife(
        (Promotion("v0", T0, T0, ""), Promotion("v1", moment(1).at, T0, ""), Promotion("v2", moment(2).at, T0, "")),
        (ModelEvent("v3", "shadow", moment(2).at, "", role="challenger"), ModelEvent("v4", "retired", moment(2).at, "")),
    )
    assert dispensable(history, names, 3, moment(3).at) == ["v0", "v4", "v5"]
    assert dispensable(history, names, 9, moment(3).at) == []
    assert dispensable(history, names, 3, moment(1.5).at) == ["v3", "v4", "v5"], "v2 is to come, v0 was the one before"


@pytest.mark.parametrize("spec", load_specs("rotation"), ids=lambda spec: spec.name)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"shadow_deadline_days": 0.5, "watch_days": 0.5},
        {"shadow_min_periods": 20},
        {"shadow_min_periods": 60, "max_model_age_days": 70.0},
    ],
)
def test_the_gates_can_be_reached_before_the_deadline_whatever_the_settings(spec, changes):
    """Night after night of evidence as the desk has it: a day is known the night after the last outcome of its last tick."""
    rules = LifeRules(TrainingSection(**changes), spec.horizon_h)
    before = life(("v2", 0, "challenger"))
    promoted = None
    for day in range(1, int(rules.deadline / timedelta(days=1)) + 1):
        whole = day - 1 - int(np.ceil(spec.horizon_h / 24.0))
        days = max(0.0, whole - 2.5 / 24.0 + 1.0)
        tracks = {"v1": track(0.0, days, hours=spec.horizon_h), "v2": track(0.05, days, hours=spec.horizon_h, spread=0.01)}
        # What a tick of tomorrow could not use is retired tonight.
        aged = {"v2": "too old"} if day + 1 > rules.training.max_model_age_days else {}
        change = review(before, tracks, aged, rules, moment(day))
        if change.promotions:
            promoted = day
            break
    assert promoted is not None
    assert never_proven(rules.training, {spec.name: spec.horizon_h}) == ()
    if not changes:
        left = rules.training.max_model_age_days - promoted
        assert left >= 14, "and then there is time left in which it is of use"


def test_a_shadow_that_takes_longer_than_a_version_lives_is_told_of():
    training = TrainingSection(shadow_min_periods=60)
    (sentence,) = never_proven(training, {"rotation_6h": 6.0, "rotation_24h": 24.0})
    assert sentence == (
        "training.shadow_min_periods: 60 takes 64 days of shadow for model rotation_24h, whose versions are used for "
        "training.max_model_age_days = 30: no challenger can prove itself"
    )
    assert never_proven(training.model_copy(update={"promotion": "direct"}), {"rotation_24h": 24.0}) == ()


def promoted_in(better_by: float, seeds: int = 40) -> float:
    """The share of challengers of 6 h that are promoted by their deadline; a tick's rank IC scatters by 0.2."""
    found = 0
    for seed in range(seeds):
        champion, challenger = track(0.02, 19, spread=0.2, seed=seed), track(0.02 + better_by, 19, spread=0.17, seed=1000 + seed)
        before = life(("v2", 0, "challenger"))
        for day in range(4, 22):
            cut = T0 + timedelta(days=day - 2)
            tracks = {
                name: replace(whole, **{key: getattr(whole, key)[whole.at_ms < to_ms(cut)] for key in ("at_ms", "score", "net_frac")})
                for name, whole in (("v1", champion), ("v2", challenger))
            }
            if review(before, tracks, {}, RULES, moment(day)).promotions:
                found += 1
                break
    return found / seeds


def test_better_challengers_pass_and_worse_ones_do_not():
    assert promoted_in(0.1) >= 0.85
    assert promoted_in(-0.1) <= 0.10
