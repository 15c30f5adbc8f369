"""Retraining on a market with a planted signal, and what the ticks after it make of the models."""

from __future__ import annotations

import json
from copy import deepcopy
from datetime import timedelta

import pytest
from interference import Calls, Crash

from made_world import T0, World, at
from tickless.adapters.folder_market import FolderMarket
from tickless.adapters.synthetic_market import make_market
from tickless.errors import ArtifactError
from tickless.learn.gates import GateDecision
from tickless.learn.spec import desk_specs
from tickless.learn.training_run import TrainedModel, TrainingResult
from tickless.ports import Promotion
from tickless.runs.retrain import gather, incumbent, store, training_start
from tickless.settings import load_desk
from tickless.types import Tick

MODELS = ("rotation_6h", "rotation_24h")
OVERRIDES = (
    "training.window_days=20",
    "training.min_window_days=10",
    "training.num_threads=1",
    "training.min_rank_ic_t=0.0",
    "execution.slippage_bps=0.0",
    "execution.taker_fee_bps=0.0",
    "strategy.rotation.fallback_threshold_frac=-1.0",
    "training.sample_every_min=60",
)


@pytest.fixture(scope="module")
def planted() -> FolderMarket:
    made = make_market(start=T0 - timedelta(days=36), end=T0 + timedelta(days=2), pairs=20, seed=2, signal_ic=0.2, events=False)
    return FolderMarket(made.panel, made.rules)


@pytest.fixture(scope="module")
def trained_once(planted: FolderMarket) -> World:
    world = World(planted, load_desk("rotation", OVERRIDES))
    world.run("retrain", at(0))
    return world


@pytest.fixture
def trained(trained_once: World, planted: FolderMarket) -> World:
    """A desk that has retrained at T0 and done nothing else."""
    world = World(planted, trained_once.settings)
    world.models.objects.contents.update(deepcopy(trained_once.models.objects.contents))
    return world


def used(world: World, function: str, bar: int) -> dict[str, str]:
    return world.run(function, at(bar)).facts["models"]


def test_it_registers_every_model_and_promotes_what_passes(trained_once):
    record = trained_once.ledger.tick(Tick(at(0), "retrain"))
    assert record.status == "done"
    assert {label.split("@")[0] for label in record.summary["trained"]} == set(MODELS)
    assert tuple(trained_once.models.names()) == tuple(sorted(MODELS))
    promoted = {label.split("@")[0] for label in record.summary["promoted"]}
    assert "rotation_6h" in promoted, record.summary["gates"]
    for name in MODELS:
        (version,) = trained_once.models.versions(name)
        gate = version.manifest["gate"]["promote"]
        assert gate == (name in promoted) == bool(trained_once.models.promotions(name))
    assert trained_once.metrics.counts == {"ModelPromoted": len(promoted), "TickDone": 1}


def test_it_takes_no_lease_and_trades_nothing(trained_once):
    assert trained_once.ledger.load() is None
    assert list(trained_once.ledger.orders()) == []
    assert trained_once.ledger.acquire("anybody", at(0), 60).number == 1


def test_a_redelivery_trains_nothing(trained_once):
    calls = Calls()
    report = trained_once.run("retrain", at(0), calls.ports(trained_once), late_s=60)
    assert report.status == "already_done"
    assert {call[:2] for call in calls.made} == {("ledger", "tick"), ("metrics", "count")}
    assert len(trained_once.models.versions("rotation_6h")) == 1


def test_a_crash_before_the_record_is_repeated_without_a_second_version_or_promotion(trained, trained_once):
    with pytest.raises(Crash):
        trained.run("retrain", at(0), trained.ports(lambda name, port: _Unrecorded(port) if name == "ledger" else port))
    report = trained.run("retrain", at(0), late_s=120)
    assert report.status == "done"
    for name in MODELS:
        assert trained.models.versions(name) == trained_once.models.versions(name)
        assert trained.models.promotions(name) == trained_once.models.promotions(name)


class _Unrecorded:
    """A ledger that dies when the record is written."""

    def __init__(self, ledger) -> None:
        self.tick, self.load = ledger.tick, ledger.load

    def record_unfenced(self, _record) -> None:
        raise Crash


def test_ticks_use_the_champion_from_its_effective_at_and_not_before(trained):
    promotion = trained.models.promotions("rotation_6h")[-1]
    assert promotion.effective_at == at(0) + timedelta(minutes=20)
    assert "rotation_6h" not in used(trained, "full_rebalance", 0)
    assert trained.metrics.counts["ModelFallback"] == 1
    assert used(trained, "feature_rebalance", 2)["rotation_6h"] == f"rotation_6h@{promotion.version}"


def test_bars_after_the_tick_change_nothing(trained, planted, trained_once):
    blind = World(FolderMarket(planted.panel.closed_at(at(0)), planted.filters), trained.settings)
    blind.run("retrain", at(0))
    for name in MODELS:
        assert blind.models.versions(name) == trained_once.models.versions(name)


def test_too_little_history_is_recorded_as_skipped_with_a_reason(planted):
    world = World(planted, load_desk("rotation", ["training.window_days=7", "training.min_window_days=14"]))
    report = world.run("retrain", at(0))
    assert report.status == "done"
    summary = world.ledger.tick(Tick(at(0), "retrain")).summary
    assert (summary["trained"], summary["promoted"]) == ([], [])
    assert set(summary["skipped"]) == set(MODELS)
    assert all("fewer than min_window_days = 14" in reason for reason in summary["skipped"].values())
    assert list(world.models.names()) == []


def test_the_training_window_begins_with_the_startup_of_its_first_week(trained):
    start = training_start(trained.settings, at(0), ())
    assert start < at(0) - timedelta(days=20)
    assert start == training_start(trained.settings, at(1), ())


def test_the_longest_window_of_a_specification_is_read(trained):
    specs, _ = desk_specs(trained.settings)
    longer = [
        spec.model_copy(update={"window": spec.window.model_copy(update={"days": days})})
        for spec, days in zip(specs, (400, 3), strict=True)
    ]
    start = training_start(trained.settings, at(0), longer)
    assert start <= at(0) - timedelta(days=400)
    assert training_start(trained.settings, at(0), longer[1:]) == training_start(trained.settings, at(0), ())


# Models that cannot be trusted


def assert_refused(world: World, function: str, when) -> None:
    models = world.run(function, when).facts["models"]
    assert "rotation_6h" not in models
    assert world.metrics.counts["ModelRefused"] >= 1
    assert "model refused" in {subject for subject, _ in world.notifier.alerts}


def only_6h(world: World) -> World:
    """The 24 h model away, so that refusing the other leaves nothing but the fallback."""
    contents = world.models.objects.contents
    for key in [key for key in contents if "rotation_24h" in key]:
        del contents[key]
    return world


def test_a_damaged_artifact_is_refused_and_the_desk_falls_back(trained):
    world = only_6h(trained)
    (key,) = [key for key in world.models.objects.contents if key.endswith("artifact.onnx")]
    body = world.models.objects.contents[key]
    world.models.objects.contents[key] = bytes([body[0] ^ 1]) + body[1:]
    assert_refused(world, "feature_rebalance", at(2))
    assert world.metrics.counts["ModelFallback"] == 1
    assert world.ledger.load().positions, "the fallback still trades"


def test_a_model_whose_horizon_ends_between_two_bars_is_refused(trained):
    """What became of its forecasts could never be told, and the night that compiles experience would end at every one of them."""
    world = only_6h(trained)
    (key,) = [key for key in world.models.objects.contents if key.endswith("manifest.json")]
    manifest = json.loads(world.models.objects.contents[key])
    world.models.objects.contents[key] = json.dumps(manifest | {"horizon_h": 6.1}).encode()
    assert_refused(world, "feature_rebalance", at(2))


def test_a_model_that_is_too_old_is_refused(planted, trained):
    old = only_6h(trained)
    old.parameters.write("training", old.settings.sections()["training"].replace('"max_model_age_days":30.0', '"max_model_age_days":0.5'))
    assert "rotation_6h" in used(old, "feature_rebalance", 2)
    assert_refused(old, "feature_rebalance", at(100))
    assert old.metrics.counts["ModelFallback"] == 1


def test_a_model_that_knows_the_future_is_refused_whoever_promoted_it(trained):
    world = only_6h(trained)
    (version,) = world.models.versions("rotation_6h")
    early = World(world.market, world.settings, models=type(world.models)())
    early.models.register("rotation_6h", version.version, version.manifest, world.models.artifact(version))
    early.models.promote("rotation_6h", Promotion(version.version, at(-8), at(-8), "by hand"))
    assert_refused(early, "feature_rebalance", at(-6))


def test_a_damaged_champion_counts_as_none_so_that_it_can_be_replaced(trained):
    world = only_6h(trained)
    for key in [key for key in world.models.objects.contents if key.endswith("artifact.onnx")]:
        world.models.objects.contents[key] = b"rubbish"
    world.run("retrain", at(96))
    versions = world.models.versions("rotation_6h")
    assert len(versions) == 2
    assert versions[-1].manifest["gate"]["promote"]
    assert world.models.promotions("rotation_6h")[-1].version == versions[-1].version


def test_a_life_that_is_damaged_meanwhile_keeps_no_other_model_from_being_stored(trained):
    models = [model for name in MODELS for model in trained.models.versions(name)]
    result = TrainingResult(
        tuple(TrainedModel(m.name, m.version, m.manifest, trained.models.artifact(m), GateDecision(True, ())) for m in models), {}
    )
    empty = World(trained.market, trained.settings, models=type(trained.models)()).models
    empty.objects.contents[f"{MODELS[0]}/champion.json"] = b"{"
    training = trained.settings.training.model_copy(update={"promotion": "direct"})
    with pytest.raises(ArtifactError, match=f"{MODELS[0]}: champion.json is not JSON"):
        store(result, empty, training, at(0), at(0) + timedelta(hours=1))
    assert [promotion.version for promotion in empty.promotions(MODELS[1])] == [models[1].version]


# Which models a night trains


@pytest.mark.parametrize(
    "damage", [{"fit_until": "yesterday"}, {"fit_until": 5}, {"worth": 5}, {"worth": {"slope": "x"}}, {"worth": {"slope": 1e999}}]
)
def test_a_champion_whose_manifest_cannot_be_compared_with_ends_no_night(trained, damage):
    (label,) = {promotion.version for promotion in trained.models.promotions(MODELS[0])}
    key = f"{MODELS[0]}/{label}/manifest.json"
    manifest = json.loads(trained.models.objects.contents[key])
    assert incumbent(trained.models, MODELS[0], at(0) + timedelta(days=1), at(0) + timedelta(days=1)) is not None
    trained.models.objects.contents[key] = json.dumps(manifest | damage).encode()
    assert incumbent(trained.models, MODELS[0], at(0) + timedelta(days=1), at(0) + timedelta(days=1)) is None


@pytest.fixture
def three_models(tmp_path, monkeypatch):
    """The desk's two and one that nobody uses."""
    from tickless.learn import spec

    for name in (*MODELS, "idle_6h"):
        text = (spec.models_folder() / name.replace("idle", "rotation") / "spec.toml").read_text()
        (tmp_path / name).mkdir()
        (tmp_path / name / "spec.toml").write_text(text.replace('name = "rotation_6h"', f'name = "{name}"'))
    monkeypatch.setattr(spec, "models_folder", lambda: tmp_path)


@pytest.mark.usefixtures("three_models")
@pytest.mark.parametrize(
    ("overrides", "trained"),
    [((), MODELS), (("strategy.rotation.model_6h=idle_6h",), ("idle_6h", "rotation_24h"))],
    ids=["preset", "another"],
)
def test_a_night_takes_the_models_that_the_settings_name(planted, overrides, trained):
    world = World(planted, load_desk("rotation", [*OVERRIDES, *overrides]))
    assert {spec.name for spec in gather(Tick(at(0), "retrain"), world.ports()).specs} == set(trained)


def test_a_night_says_of_which_model_there_is_no_specification(planted):
    world = World(planted, load_desk("rotation", [*OVERRIDES, "strategy.rotation.model_24h=gone"]))
    night = gather(Tick(at(0), "retrain"), world.ports())
    assert [spec.name for spec in night.specs] == ["rotation_6h"]
    assert night.review.as_facts()["waiting"] == {"gone": "strategy.rotation names it, and there is no models/gone/spec.toml"}
