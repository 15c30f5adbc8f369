"""The full life of models on the local AWS, on a market that changes its mood; and a drift's action, in replay and backtest alike."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import boto3
import pytest
from local_desk import DAY, LocalDesk, local_desk

from made_moods import a_version, moody_market, trained
from tickless.adapters.folder_market import FolderMarket
from tickless.adapters.folder_models import FolderModelStore
from tickless.backtest.engine import BacktestRequest, backtest
from tickless.backtest.results import write_results
from tickless.cli.replaying import ReplayRequest, replay
from tickless.runs.retrain import store
from tickless.settings import TrainingSection, load_desk

NAME = "rotation_6h"
TURN = DAY + timedelta(days=4)
TRAINING = TrainingSection(shadow_deadline_days=6.0, watch_days=6.0, min_window_days=89)
"""Nothing is trained: no desk of these tests has as much history as it asks for."""


def night(day: int) -> datetime:
    return DAY + timedelta(days=day, hours=2, minutes=10)


class Life:
    """A desk whose days pass: a rebalance every three hours, and the nightly review."""

    def __init__(self, desk: LocalDesk) -> None:
        self.desk, self.models = desk, desk.cloud.models
        self.refused, self.rolled_back = 0.0, 0.0
        desk.parameter("training", json.dumps(desk.settings("training") | json.loads(TRAINING.model_dump_json())))

    def days(self, first: int, last: int) -> None:
        """From the night of day ``first`` to just before that of day ``last``."""
        for day in range(first, last):
            self._fire("retrain", night(day))
            for hour in range(4, 26, 3):
                self._fire("feature_rebalance", DAY + timedelta(days=day, hours=hour, minutes=30))

    def _fire(self, function: str, at: datetime) -> None:
        result = self.desk.tick(function, at)
        assert result.error is None, result.error
        self.refused += result.metric("ShadowRefused") or 0.0
        assert result.metric("ModelRefused") is None, "no champion was refused"
        self.rolled_back += result.metric("ModelRolledBack") or 0.0

    def enter(self, taste: str, version: str, at: datetime, **changes: object) -> None:
        """As if a night had trained it, and its gates had opened."""
        store(trained(a_version(taste, version, at, **changes)), self.models, TRAINING, at, at)

    def stage(self, version: str, day: float) -> str:
        return self.models.life(NAME).stage(version, DAY + timedelta(days=day, hours=3))

    def reason(self, version: str, day: float) -> str:
        event = self.models.life(NAME).last_event(version, DAY + timedelta(days=day, hours=3))
        assert event is not None
        return event.reason


@pytest.fixture
def life(root: Path) -> Iterator[Life]:
    market = moody_market(DAY - timedelta(days=40), TURN, DAY + timedelta(days=10))
    with local_desk(root, market) as desk:
        yield Life(desk)


def test_the_full_life(life: Life) -> None:
    life.enter("blind", "v1", DAY)
    assert life.stage("v1", 0) == "champion", "the first model that passes its gates"

    life.enter("follower", "v2", DAY + timedelta(hours=2))
    life.enter("follower", "v3", DAY + timedelta(hours=2), label="forward_return")
    assert [life.stage(version, 1) for version in ("v1", "v2", "v3")] == ["champion", "shadow", "shadow"]
    life.days(0, 4)
    traced = life.desk.trace("feature_rebalance", DAY + timedelta(days=3, hours=4, minutes=30))
    assert traced is not None
    assert [(said["version"], said["stage"]) for said in traced["evidence"]["said"]] == [("v1", "champion"), ("v2", "shadow")]
    assert traced["models"] == {NAME: f"{NAME}@v1"}, "a shadow forecasts and decides nothing"
    assert life.stage("v2", 3) == "shadow", "as long as too little is known"

    life.days(4, 6)
    assert [life.stage(version, 4) for version in ("v1", "v2")] == ["shadow", "champion"]
    assert life.reason("v2", 4).startswith("beats v1 in shadow: +")

    life.enter("contrarian", "v4", night(5) + timedelta(minutes=20))
    flip_one_bit(life.desk, f"models/{NAME}/v4/artifact.onnx")
    life.days(6, 9)
    assert life.stage("v3", 6) == "retired", "jammed: it never forecast anything, and its deadline is over"
    assert "it never forecast anything" in life.reason("v3", 6)
    assert life.stage("v4", 6) == "retired"
    assert "the artifact's sha256" in life.reason("v4", 6), "damaged: no tick and no review trusts it"
    assert [life.stage(version, 8) for version in ("v1", "v2")] == ["champion", "retired"], "degraded: rolled back"
    assert "v2 is worse than it: -" in life.reason("v1", 8)
    assert life.refused > 0.0
    assert life.rolled_back == 1.0

    days = life.desk.cloud.experience.days("rotation")
    assert [str(day) for day in days][:2] == ["2024-06-03", "2024-06-04"]
    found = life.desk.cloud.experience.read("rotation", days[0])
    assert found is not None
    assert {(NAME, "v1"), (NAME, "v2")} <= found.versions
    keys = boto3.client("s3").list_objects_v2(Bucket=life.desk.bucket, Prefix="experience/")["Contents"]
    assert keys[0]["Key"] == "experience/rotation/2024-06-03.jsonl.gz"


def flip_one_bit(desk: LocalDesk, key: str) -> None:
    s3 = boto3.client("s3")
    content = bytearray(s3.get_object(Bucket=desk.bucket, Key=key)["Body"].read())
    content[len(content) // 2] ^= 0x01
    s3.put_object(Bucket=desk.bucket, Key=key, Body=bytes(content))


OVERRIDES = (
    "schedule.risk_check_every_min=30",
    "schedule.rebalance_every_min=60",
    "training.min_window_days=89",
    "training.shadow_min_periods=5",
)


def test_drift_shrinks_positions_in_a_replay_and_in_a_backtest_alike(tmp_path: Path) -> None:
    end = DAY + timedelta(days=3, hours=6)
    market: FolderMarket = moody_market(DAY - timedelta(days=40), DAY, end + timedelta(hours=1), pairs=6, pull_frac=-0.0008)
    models = FolderModelStore(tmp_path / "models")
    store(trained(a_version("contrarian", "v1", DAY)), models, TRAINING, DAY, DAY)

    replay(ReplayRequest("rotation", OVERRIDES, market, DAY, end, tmp_path / "replay", models=tmp_path / "models"))
    record = backtest(BacktestRequest(load_desk("rotation", OVERRIDES), market, DAY, end, models))
    write_results(record, tmp_path / "backtest")

    for name in ("orders.csv", "ticks.jsonl", "equity.csv"):
        assert (tmp_path / "replay" / name).read_bytes() == (tmp_path / "backtest" / name).read_bytes(), name
    lines = [json.loads(line) for line in (tmp_path / "replay" / "ticks.jsonl").read_text("utf8").splitlines()]
    shrunk = [line["at"] for line in lines if "model_drift" in line.get("limits", ())]
    nights = [line for line in lines if line["function"] == "retrain"]
    assert min(shrunk) > nights[-1]["at"] == "2024-06-06T02:10:00Z", "from the night on in which enough was known"
    assert models.life(NAME).standing(end).size_frac == 1.0, "a run changes nothing of the folder that it starts from"


def test_a_promotion_out_of_the_shadow_is_the_same_in_a_replay_and_in_a_backtest(tmp_path: Path) -> None:
    end = DAY + timedelta(days=3, hours=6)
    market: FolderMarket = moody_market(DAY - timedelta(days=40), end, end + timedelta(hours=1), pairs=6)
    models = FolderModelStore(tmp_path / "models")
    for taste, version in (("blind", "v1"), ("follower", "v2")):
        store(trained(a_version(taste, version, DAY)), models, TRAINING, DAY, DAY)
    store(trained(a_version("blind", "damaged", DAY, name="rotation_24h")), models, TRAINING, DAY, DAY)
    (tmp_path / "models" / "rotation_24h" / "damaged" / "artifact.onnx").write_bytes(b"damaged")

    replay(ReplayRequest("rotation", OVERRIDES, market, DAY, end, tmp_path / "replay", models=tmp_path / "models"))
    write_results(backtest(BacktestRequest(load_desk("rotation", OVERRIDES), market, DAY, end, models)), tmp_path / "backtest")

    for name in ("orders.csv", "ticks.jsonl", "equity.csv"):
        assert (tmp_path / "replay" / name).read_bytes() == (tmp_path / "backtest" / name).read_bytes(), name
    lines = [json.loads(line) for line in (tmp_path / "replay" / "ticks.jsonl").read_text("utf8").splitlines()]
    refused = [line["models_refused"]["rotation_24h@damaged"]["reason"] for line in lines if line.get("models")]
    assert all(reason.startswith("model rotation_24h@damaged: the artifact's sha256") for reason in refused)
    used = [(line["models"][NAME], line["at"]) for line in lines if line.get("models")]
    assert [version for version, _ in used] == sorted(version for version, _ in used)
    assert next(at for version, at in used if version == f"{NAME}@v2") > "2024-06-06T02:30:00Z", "from the night's effective_at on"
