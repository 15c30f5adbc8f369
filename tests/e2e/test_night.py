"""A night of training through the state machine of the synthesized stack: in Lambda, as SageMaker jobs, and where things fail."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest
from local_desk import DAY, LocalDesk, local_desk

from made_world import World
from tickless.adapters.folder_market import FolderMarket
from tickless.adapters.synthetic_market import make_market
from tickless.errors import LeakError, RetryableError
from tickless.learn import training_job
from tickless.learn.recipe import Recipe
from tickless.learn.reproduction import reproduce
from tickless.learn.spec import ModelSpec
from tickless.localcloud import Firing, InvocationResult
from tickless.runs import retrain, training_steps
from tickless.settings import load_desk
from tickless.types import Tick, iso

NIGHT = DAY + timedelta(hours=2, minutes=10)
MODELS = ("rotation_6h", "rotation_24h")
OVERRIDES = (
    "training.window_days=20",
    "training.min_window_days=10",
    "training.num_threads=1",
    "training.min_rank_ic_t=0.0",
    "execution.slippage_bps=0.0",
    "execution.taker_fee_bps=0.0",
)
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/desk/training:7"
ON_SAGEMAKER = (*OVERRIDES, "training.runs_on=sagemaker", f"training.image={IMAGE}")
Desk = Callable[..., AbstractContextManager[LocalDesk]]


@cache
def planted() -> FolderMarket:
    made = make_market(start=DAY - timedelta(days=36), end=DAY + timedelta(days=2), pairs=20, seed=5, signal_ic=0.2, events=False)
    return FolderMarket(made.panel, made.rules)


@pytest.fixture(scope="module")
def desks(root: Path) -> Desk:
    """Makes desks that have never run, on a market in which there is something to learn."""
    return lambda overrides=OVERRIDES: local_desk(root, planted(), at=NIGHT, overrides=overrides)


def night(desk: LocalDesk) -> Firing:
    """What the nightly schedule's one firing left."""
    (firing,) = desk.schedule(3.0, without=("risk_check", "feature_rebalance", "full_rebalance")).fire()
    assert firing.function == "retrain"
    return firing


def start(desk: LocalDesk) -> InvocationResult:
    """The machine, started by hand for the night."""
    desk.clock.set(max(desk.clock.now(), NIGHT + timedelta(seconds=1)))
    (machine,) = boto3.client("stepfunctions").list_state_machines()["stateMachines"]
    return desk.local.execute(machine["stateMachineArn"], {"scheduled_time": iso(NIGHT)})


def registered(desk: LocalDesk | World) -> dict[str, Any]:
    """Manifests and promotions of everything in the registry."""
    models = desk.models if isinstance(desk, World) else desk.cloud.models
    return {name: ([v.manifest for v in models.versions(name)], models.promotions(name)) for name in models.names()}


@pytest.fixture(scope="module")
def in_one_go() -> World:
    """A night of ``retrain.run`` in memory, as a backtest runs it."""
    world = World(planted(), load_desk("rotation", OVERRIDES))
    world.run("retrain", NIGHT)
    return world


def test_the_schedule_trains_registers_and_promotes_what_one_go_does_bit_for_bit(desks, in_one_go):
    tick = Tick(NIGHT, "retrain")
    with desks() as desk:
        result = night(desk).result
        again, before = start(desk), registered(desk)
        assert result.error is None
        assert (result.payload["status"], result.payload["ran"]) == ("done", [tick.id])
        assert {label.partition("@")[0] for label in result.payload["trained"]} == set(MODELS)
        assert "rotation_6h" in {label.partition("@")[0] for label in result.payload["promoted"]}, result.payload["gates"]
        assert before == registered(in_one_go)
        assert list(desk.cloud.ledger.ticks()) == [in_one_go.ledger.tick(tick)]
        for name in MODELS:
            (mine,), (theirs,) = desk.cloud.models.versions(name), in_one_go.models.versions(name)
            assert desk.cloud.models.artifact(mine) == in_one_go.models.artifact(theirs)
        assert (result.metric("TickDone"), result.metric("TickFailed")) == (1.0, None)
        assert again.payload == {"status": "already_done", "runs_on": "", "models": [], "experience": []}
        assert registered(desk) == before


def test_what_a_night_registered_comes_again_of_its_manifest_and_the_recorded_bars(in_one_go):
    for name in MODELS:
        (version,) = in_one_go.models.versions(name)
        manifest = json.loads(json.dumps(version.manifest))
        recipe = Recipe.read(manifest)
        assert recipe.effective_at == NIGHT + timedelta(minutes=20)
        again = reproduce(manifest, planted().bars(recipe.pairs, recipe.timeframe, recipe.start, recipe.end), None)
        assert again.same, again.differences


def test_two_deliveries_at_once_train_once(desks, monkeypatch):
    steps: Counter[str] = Counter()
    original = training_steps.run_step
    second: list[Any] = []

    def run_step(tick, ports, files, event):
        steps[event["step"]] += 1
        if event["step"] == "train":
            raise LeakError("what is trained does not matter here")
        answer = original(tick, ports, files, event)
        if event["step"] == "prepare" and steps["prepare"] == 1:
            second.append(start(desk).payload)
        return answer

    with desks() as desk:
        monkeypatch.setattr(training_steps, "run_step", run_step)
        start(desk)
    assert second == [{"status": "already_running", "runs_on": "", "models": [], "experience": []}]
    assert steps == {"prepare": 2, "train": 2, "promote": 1, "report": 1}


def test_a_model_that_fails_is_reported_and_the_other_is_registered(desks, monkeypatch):
    original = training_job.train_job

    def train_job(job, panel):
        if job.spec.name == "rotation_24h":
            raise LeakError("the label of BTC/USDT reaches further")
        return original(job, panel)

    monkeypatch.setattr(training_job, "train_job", train_job)
    with desks() as desk:
        firing = night(desk)
        answer = firing.result.payload
        assert firing.result.error is None
        assert [label.partition("@")[0] for label in answer["trained"]] == ["rotation_6h"]
        assert answer["failed"] == {
            "rotation_24h": "TrainingError: training of rotation_24h: LeakError: the label of BTC/USDT reaches further",
        }
        assert firing.result.metric("TrainingFailed") == 1.0
        assert list(desk.cloud.models.names()) == ["rotation_6h"]
        assert desk.cloud.ledger.tick(Tick(NIGHT, "retrain")).summary["failed"] == answer["failed"]


def test_steps_that_die_after_their_work_are_repeated_and_nothing_is_done_twice(desks, monkeypatch, in_one_go):
    original, died = training_steps.run_step, Counter()

    def run_step(tick, ports, files, event):
        answer = original(tick, ports, files, event)
        which = event["step"], event.get("model", {}).get("name")
        died[which] += 1
        if died[which] == 1:
            raise RetryableError("the answer was lost")
        return answer

    monkeypatch.setattr(training_steps, "run_step", run_step)
    with desks() as desk:
        firing = night(desk)
        assert firing.result.error is None
        assert set(died.values()) == {2}
        assert registered(desk) == registered(in_one_go)
        assert firing.result.payload["promoted"] == in_one_go.ledger.tick(Tick(NIGHT, "retrain")).summary["promoted"]


def test_a_night_that_cannot_be_prepared_fails_the_machine_and_trains_nothing(desks):
    with desks() as desk:
        desk.clock.set(NIGHT + timedelta(hours=1))
        firing = night(desk)
        assert firing.dead
        assert firing.result.error.type == "StaleTickError"
        assert "3600 s old" in firing.result.error.message
        assert list(desk.cloud.models.names()) == []


def test_calibrated_classifiers_pass_the_night_and_one_that_flatters_itself_does_not(desks, monkeypatch):
    fields = {"strategy": "rotation", "features": "rotation", "horizon_h": 6.0, "label": {"kind": "gain"}, "window": {"min_rows": 100}}
    named = {"odds_line": "logistic", "odds_trees": "lightgbm_classification", "odds_lies": "logistic"}
    specs = tuple(ModelSpec.model_validate({**fields, "name": name, "algorithm": algorithm}) for name, algorithm in named.items())
    monkeypatch.setattr(retrain, "desk_specs", lambda _settings: (specs, {}))
    honest = training_job.manifest_bytes

    def manifest_bytes(manifest):
        return honest({**manifest, "fit_until": "2020-01-01T00:00:00Z"} if manifest.get("model") == "odds_lies" else manifest)

    monkeypatch.setattr(training_job, "manifest_bytes", manifest_bytes)
    with desks() as desk:
        answer = night(desk).result.payload
        assert {label.partition("@")[0] for label in answer["trained"]} == {"odds_line", "odds_trees"}
        assert list(answer["failed"]) == ["odds_lies"]
        assert "fit_until is '2020-01-01T00:00:00Z' in the manifest, and '2024-" in answer["failed"]["odds_lies"]
        for name in ("odds_line", "odds_trees"):
            (version,) = desk.cloud.models.versions(name)
            assert version.manifest["calibration"]["method"] == "platt"
            assert set(version.manifest["data_sha256"]) == {"fit", "calibration", "validation"}


def test_sagemaker_jobs_train_the_same_bytes_and_a_job_that_fails_says_why(desks, in_one_go, monkeypatch):
    with desks(ON_SAGEMAKER) as desk:
        put = desk.cloud.training.put

        def spoil(key: str, content: bytes) -> None:
            put(key, content.replace(b"rotation", b"rotatio") if key.endswith("rotation_24h/job/job.json") else content)

        monkeypatch.setattr(desk.cloud.training, "put", spoil, raising=False)
        answer = night(desk).result.payload
        assert [label.partition("@")[0] for label in answer["trained"]] == ["rotation_6h"]
        assert answer["failed"]["rotation_24h"].startswith("AlgorithmError: DataError: hyperparameters.json: job_sha256 is ")
        assert answer["failed"]["rotation_24h"].endswith(", exit code: 1")
        (mine,), (theirs,) = desk.cloud.models.versions("rotation_6h"), in_one_go.models.versions("rotation_6h")
        assert mine.manifest == theirs.manifest
        jobs = boto3.client("sagemaker", region_name="us-east-1").list_training_jobs()["TrainingJobSummaries"]
        names = [name.split("20240603T0210Z") for name in sorted(job["TrainingJobName"] for job in jobs)]
        assert [name for name, _ in names] == ["tickless-dev-rotation-24h-", "tickless-dev-rotation-24h-", "tickless-dev-rotation-6h-"]
        assert [rest.rpartition("-")[2] for _, rest in names] == ["0", "1", "0"], "a second attempt has a name of its own"
