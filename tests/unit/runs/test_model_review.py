"""Drift wired to action: what each action does to the ticks after it, and to the night's training."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta

import pytest

from made_moods import OneTree, a_version, moody_market, trained
from made_world import T0, World
from tickless.adapters.memory_models import MemoryModelStore
from tickless.alpha.onnx_model import artifact_sha256
from tickless.errors import ArtifactError, LedgerError
from tickless.learn.drift import DriftLimit
from tickless.learn.gates import GateDecision
from tickless.learn.onnx_export import export_onnx
from tickless.learn.spec import ModelSpec, load_specs
from tickless.pipeline import MODEL_DRIFT
from tickless.ports import Promotion
from tickless.runs.experience import compile_experience
from tickless.runs.model_review import due_specs, problem_of, review_models
from tickless.runs.retrain import store
from tickless.settings import load_desk
from tickless.types import Tick

NAME = "rotation_6h"
NIGHT = T0 + timedelta(days=3, hours=2, minutes=10)
EFFECTIVE = NIGHT + timedelta(minutes=20)
AFTER = T0 + timedelta(days=3, hours=3)
SPEC = load_specs("rotation")[0]


def with_action(action: str) -> ModelSpec:
    """A specification in which a rolling IC below zero asks for ``action``, and nothing else asks for anything."""
    never = {"psi": 1e9, "feature_z": 98.0, "rolling_sharpe": -1e9}
    limits = {name: DriftLimit(limit=limit, action="alert") for name, limit in never.items()}
    return SPEC.model_copy(update={"drift": SPEC.drift.model_copy(update={**limits, "rolling_ic": DriftLimit(limit=0.0, action=action)})})


@pytest.fixture(scope="module")
def drifted() -> World:
    """A desk whose model liked the market of before, which fell back: its experience of two days is complete."""
    market = moody_market(T0 - timedelta(days=40), T0, T0 + timedelta(days=4), pairs=6, pull_frac=-0.0008)
    world = World(market, load_desk("rotation", ["training.shadow_min_periods=5"]))
    store(trained(a_version("contrarian", "v1", T0)), world.models, world.settings.training, T0, T0)
    for hour in range(0, 48, 2):
        world.run("feature_rebalance", T0 + timedelta(hours=hour, minutes=30))
    panel = market.panel.closed_at(NIGHT)
    assert compile_experience(world.settings, panel, world.trace, world.experience, NIGHT)
    return world


@pytest.fixture
def world(drifted: World) -> World:
    fresh = World(drifted.market, drifted.settings, trace=drifted.trace, experience=drifted.experience)
    fresh.models.objects.contents.update(deepcopy(drifted.models.objects.contents))
    return fresh


def reviewed(world: World, *specs: ModelSpec):
    return review_models(world.settings, specs, world.ports(), NIGHT, EFFECTIVE)


def the_tick_after(world: World) -> dict:
    world.run("feature_rebalance", AFTER)
    return world.trace.read(Tick(AFTER, "feature_rebalance"))


def test_a_market_that_did_not_change_asks_for_nothing(world):
    steady = with_action("shrink").model_copy(update={"name": "rotation_24h"})
    assert reviewed(world, steady).as_facts() == {"changes": {}, "drift": {}, "waiting": {}}
    assert world.notifier.alerts == []


def test_a_night_that_is_made_up_for_sees_what_was_known_then_and_no_more(world):
    before = NIGHT - timedelta(days=1)
    assert len(list(world.experience.days("rotation"))) == 2
    found = review_models(world.settings, [with_action("stop")], world.ports(), before, EFFECTIVE - timedelta(days=1))
    # Of one day there are four periods that share nothing, of both eight; five are asked for.
    assert found.drift[NAME]["rolling_ic"] is None
    assert "rolling_ic" in found.drift[NAME]["unknown"]
    assert found.changes == {}
    assert reviewed(world, with_action("stop")).drift[NAME]["rolling_ic"] < 0.0


@pytest.mark.parametrize(("action", "early"), [("alert", False), ("retrain", True), ("shrink", True), ("stop", True)])
def test_each_action_tells_people_once_and_all_but_the_mildest_train_at_once(world, action, early):
    found = reviewed(world, with_action(action))
    assert (NAME in found.early) == early
    assert found.drift[NAME]["action"] == action
    assert [subject for subject, _ in world.notifier.alerts] == [f"model {NAME}@v1 has drifted: {action}"]
    assert world.metrics.counts["ModelDrifted"] == 1
    again = reviewed(world, with_action(action))
    assert len(world.notifier.alerts) == 1
    assert again.changes == {}


def test_an_alert_changes_no_trade(world):
    before = the_tick_after(World(world.market, world.settings, models=world.models))
    reviewed(world, with_action("alert"))
    assert the_tick_after(world)["targets"] == before["targets"]


def test_shrink_halves_what_is_held_from_the_next_tick_on(world):
    before = the_tick_after(World(world.market, world.settings, models=world.models))
    reviewed(world, with_action("shrink"))
    after = the_tick_after(world)
    assert before["targets"]
    assert after["targets"] == pytest.approx({pair: weight / 2.0 for pair, weight in before["targets"].items()})
    assert MODEL_DRIFT in after["limits"]
    assert after["models"] == {NAME: f"{NAME}@v1"}


def test_a_desk_that_was_out_for_weeks_keeps_what_drift_has_asked_for(world):
    shrink = with_action("shrink")
    reviewed(world, shrink)
    # Nothing was forecast since, and what lies within four weeks is a day by now: four periods, and five are asked for.
    late = T0 + timedelta(days=28.9)
    found = review_models(world.settings, [shrink], world.ports(), late, late)
    assert found.drift[NAME]["rolling_ic"] is None
    assert found.changes == {}
    assert found.as_facts()["drift"][NAME]["held"] == "shrink since 2024-06-04 stays: rolling_ic cannot be told"
    assert world.models.life(NAME).standing(late).size_frac == 0.5
    assert len(world.notifier.alerts) == 1


def test_stop_withdraws_the_model_and_the_strategy_falls_back(world):
    reviewed(world, with_action("stop"))
    after = the_tick_after(world)
    assert (after["models"], after["source"]) == ({}, "fallback")
    assert world.metrics.counts["ModelFallback"] == 1
    store(trained(a_version("contrarian", "v2", EFFECTIVE)), world.models, world.settings.training, NIGHT, EFFECTIVE)
    assert world.models.life(NAME).champion(AFTER).version == "v2", "the next that passes its gates takes the empty place"


def test_a_model_of_every_week_is_trained_the_same_night_when_it_drifts(world):
    weekly = with_action("retrain").model_copy(update={"retrain": SPEC.retrain.model_copy(update={"every_h": 168.0})})
    result = trained(a_version("follower", "v0", T0, trained_at="2024-06-01T02:00:00Z"))
    store(result, world.models, world.settings.training, T0, T0)
    due, waiting = due_specs([weekly], world.models, NIGHT)
    assert (due, list(waiting)) == ((), [NAME])
    assert "every 168 h" in waiting[NAME]
    assert due_specs([weekly], world.models, NIGHT, reviewed(world, weekly).early)[0] == (weekly,)
    assert due_specs([weekly], world.models, T0 + timedelta(days=7, hours=2))[0] == (weekly,)


def test_a_champion_that_a_tick_will_refuse_tomorrow_makes_room_tonight(world):
    late = T0 + timedelta(days=29.5)
    assert problem_of(world.models, NAME, "v1", T0 + timedelta(days=28), 30.0) == ""
    assert "max_model_age_days" in problem_of(world.models, NAME, "v1", late, 30.0)
    store(trained(a_version("blind", "v2", late)), world.models, world.settings.training, late, late)
    assert world.models.life(NAME).champion(late).version == "v2"


def test_old_versions_go_and_those_in_use_stay(world):
    failed = GateDecision(False, ("no",))
    for n in range(4):
        made = a_version("blind", f"w{n}", T0 + timedelta(hours=n + 1))
        store(trained(type(made)(**{**vars(made), "gate": failed})), world.models, world.settings.training, NIGHT, NIGHT)
    world.settings = load_desk("rotation", ["training.keep_versions=2"])
    reviewed(world, with_action("alert"))
    assert [version.version for version in world.models.versions(NAME)] == ["v1", "w2", "w3"]


def test_a_night_that_meets_a_promotion_by_hand_deletes_nothing(world, monkeypatch):
    for n in range(3):
        failed = replace(a_version("blind", f"w{n}", T0 + timedelta(hours=n + 1)), gate=GateDecision(False, ("no",)))
        store(trained(failed), world.models, world.settings.training, NIGHT, NIGHT)
    world.settings = load_desk("rotation", ["training.keep_versions=2"])
    delete = world.models.delete

    def after_a_promotion(name, versions, seen):
        world.models.promote(NAME, Promotion("w0", AFTER, NIGHT, "by hand"))
        delete(name, versions, seen)

    monkeypatch.setattr(world.models, "delete", after_a_promotion)
    reviewed(world, with_action("alert"))
    assert [version.version for version in world.models.versions(NAME)] == ["v1", "w0", "w1", "w2"]
    assert world.models.life(NAME).champion(AFTER).version == "w0"


def test_two_reviews_at_once_are_not_both_written(world, monkeypatch):
    seen = world.models._champion(NAME)
    store(trained(a_version("blind", "v2", T0 + timedelta(hours=1))), world.models, world.settings.training, NIGHT, NIGHT)
    monkeypatch.setattr(world.models, "_champion", lambda _name: seen)
    with pytest.raises(LedgerError, match="changed meanwhile"):
        reviewed(world, with_action("shrink"))


def put(world: World, key: str, content: bytes) -> None:
    world.models.objects.contents[key] = content


def test_a_life_that_cannot_be_read_ends_the_night_of_its_model_alone(world):
    put(world, f"{NAME}/champion.json", b"{")
    steady = with_action("shrink").model_copy(update={"name": "rotation_24h"})
    found = reviewed(world, with_action("shrink"), steady)
    assert list(found.waiting) == [NAME]
    assert "champion.json is not JSON" in found.waiting[NAME]
    assert world.metrics.counts["ModelRefused"] == 1


def test_a_champion_whose_manifest_is_damaged_is_replaced(world):
    put(world, f"{NAME}/v1/manifest.json", b"{")
    reviewed(world, with_action("shrink"))
    store(trained(a_version("blind", "v2", EFFECTIVE)), world.models, world.settings.training, NIGHT, EFFECTIVE)
    assert world.models.life(NAME).champion(AFTER).version == "v2"
    assert world.models.life(NAME).stage("v1", AFTER) == "retired"


def test_a_damaged_reference_leaves_the_other_measures(world):
    manifest = json.loads(world.models.objects.get(f"{NAME}/v1/manifest.json")[0])
    put(world, f"{NAME}/v1/manifest.json", json.dumps(manifest | {"drift_reference": {"features": 1}}).encode())
    assert reviewed(world, with_action("shrink")).drift[NAME]["action"] == "shrink"
    assert world.metrics.counts["ModelRefused"] == 1


def test_a_champion_of_other_features_stands_in_nobodys_way(world):
    manifest = json.loads(world.models.objects.get(f"{NAME}/v1/manifest.json")[0])
    names = ["r_6h"]
    artifact = export_onnx(OneTree(0.0, 1.0, 2.0, feature=0), names)
    digest = artifact_sha256(artifact)
    put(world, f"{NAME}/v1/artifact.onnx", artifact)
    put(world, f"{NAME}/v1/manifest.json", json.dumps(manifest | {"features": names, "sha256": digest}).encode())
    assert the_tick_after(world)["source"] == "fallback"
    assert "wants features r_6h" in problem_of(world.models, NAME, "v1", NIGHT, 30.0)


def test_a_damaged_shadow_is_no_fallback_and_people_are_told_once_when_it_leaves(world):
    artifact = a_version("blind", "v2", T0)
    store(trained(artifact), world.models, world.settings.training, T0, T0)
    assert world.models.life(NAME).stage("v2", AFTER) == "shadow"
    put(world, f"{NAME}/v2/artifact.onnx", b"damaged")

    trace = the_tick_after(world)

    assert trace["models"] == {NAME: f"{NAME}@v1"}
    assert trace["models_refused"][f"{NAME}@v2"]["stage"] == "shadow"
    assert world.metrics.counts["ShadowRefused"] == 1
    assert not {"ModelRefused", "ModelFallback"} & set(world.metrics.counts)
    assert world.notifier.alerts == []
    reviewed(world, with_action("alert"))
    reviewed(world, with_action("alert"))
    left = [message for subject, message in world.notifier.alerts if subject == f"model {NAME}@v2 leaves the shadow"]
    assert len(left) == 1
    assert "the artifact's sha256" in left[0]


def test_a_name_that_nobody_trains_and_nothing_has_rings_at_every_tick(world):
    settings = load_desk("rotation", ["strategy.rotation.model_24h=rotation_24", "training.shadow_min_periods=5"])
    mistyped = World(world.market, settings, models=world.models)
    trace = the_tick_after(mistyped)
    assert trace["models"] == {NAME: f"{NAME}@v1"}
    assert trace["models_refused"] == {
        "rotation_24": {
            "stage": "champion",
            "reason": "model rotation_24: nobody ever was champion, and without models/rotation_24/spec.toml nobody is trained to be",
        }
    }
    assert mistyped.metrics.counts["ModelRefused"] == 1
    assert [subject for subject, _ in mistyped.notifier.alerts] == ["model refused"]
    assert "models_refused" not in the_tick_after(World(world.market, world.settings, models=world.models)), "24 h waits for its training"


def test_a_backtest_starts_from_a_registry_whose_old_champion_was_deleted(world):
    direct = world.settings.training.model_copy(update={"promotion": "direct"})
    for n in range(2, 5):
        at = T0 + timedelta(hours=n)
        store(trained(a_version("blind", f"v{n}", at)), world.models, direct, at, at)
    world.models.delete(NAME, ["v1"])
    copy = MemoryModelStore()
    world.models.copy_to(copy)
    assert "v1: no manifest" in problem_of(copy, NAME, "v1", T0, 30.0)
    assert copy.life(NAME) == world.models.life(NAME)
    with pytest.raises(ArtifactError, match="was deleted"):
        copy.promote(NAME, Promotion("v1", NIGHT, NIGHT, "by hand"))


def test_a_damaged_day_of_experience_leaves_what_the_others_say(world):
    contents = world.experience.objects.contents
    kept = dict(contents)
    try:
        key = min(contents)
        contents[key] = contents[key][:40] + b"????" + contents[key][44:]
        contents["rotation/notes.jsonl.gz"] = b"mine"
        assert list(reviewed(world, with_action("shrink")).drift) == [NAME]
        assert world.metrics.counts["ModelRefused"] == 1
    finally:
        contents.clear()
        contents.update(kept)
