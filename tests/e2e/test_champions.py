"""Champions in S3: a tick says which version it used, uses none before its time, and trusts no damaged byte."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import boto3
import pytest
from local_desk import DAY, LocalDesk, local_desk, logged, register_tiny_models, small_market, tiny_model

from tickless.ports import Promotion

HALF = timedelta(minutes=30)
NAMES = ("rotation_6h", "rotation_24h")


def rebalance(desk: LocalDesk, at: object) -> dict[str, object]:
    result = desk.tick("feature_rebalance", at)
    assert result.error is None, result.error
    trace = desk.trace("feature_rebalance", at)
    assert trace is not None
    return {"models": trace["models"], "source": trace["source"], "refused": result.metric("ModelRefused"), "result": result}


def test_a_champion_is_used_from_its_effective_at_on(desk: LocalDesk) -> None:
    labels = register_tiny_models(desk.cloud.models, DAY + 2 * HALF)

    before = rebalance(desk, DAY + HALF)
    after = rebalance(desk, DAY + 2 * HALF)

    assert (before["models"], before["source"], before["refused"]) == ({}, "fallback", None)
    assert before["result"].metric("ModelFallback") == 1.0
    assert (after["models"], after["source"], after["refused"]) == (labels, "models", None)
    assert after["result"].payload["models"] == labels == {name: f"{name}@v1" for name in NAMES}
    assert after["result"].metric("ModelFallback") is None


def test_a_later_promotion_takes_over_and_a_rollback_takes_back(desk: LocalDesk) -> None:
    register_tiny_models(desk.cloud.models, DAY)
    register_tiny_models(desk.cloud.models, DAY + 2 * HALF, version="v2")

    assert rebalance(desk, DAY + HALF)["models"] == {name: f"{name}@v1" for name in NAMES}
    assert rebalance(desk, DAY + 2 * HALF)["models"] == {name: f"{name}@v2" for name in NAMES}

    back = DAY + 2 * HALF + timedelta(minutes=5)
    desk.cloud.models.promote("rotation_24h", Promotion("v1", back, back, "rolled back"))
    assert rebalance(desk, DAY + 3 * HALF)["models"] == {"rotation_6h": "rotation_6h@v2", "rotation_24h": "rotation_24h@v1"}


@pytest.mark.parametrize(("damaged", "source"), [(("rotation_6h",), "models"), (NAMES, "fallback")])
def test_one_damaged_byte_is_refused_at_the_next_tick(desk: LocalDesk, damaged: tuple[str, ...], source: str) -> None:
    """What is left of the ensemble goes on alone; with nothing left the tick falls back."""
    labels = register_tiny_models(desk.cloud.models, DAY)
    assert rebalance(desk, DAY + HALF)["models"] == labels

    for name in damaged:
        flip_one_bit(desk, f"models/{name}/v1/artifact.onnx")
    found = rebalance(desk, DAY + 2 * HALF)
    result = found["result"]
    assert found["models"] == {name: label for name, label in labels.items() if name not in damaged}
    assert (found["source"], found["refused"]) == (source, len(damaged))
    assert result.metric("ModelFallback") == (1.0 if source == "fallback" else None)
    assert result.metric("TickDone") == 1.0
    sentences = [line["error"] for line in logged(result, "model refused")]
    assert [sentence.partition(" is ")[0] for sentence in sentences] == [f"model {name}@v1: the artifact's sha256" for name in damaged]

    for name in damaged:
        flip_one_bit(desk, f"models/{name}/v1/artifact.onnx")
    mended = rebalance(desk, DAY + 3 * HALF)
    assert (mended["models"], mended["refused"]) == (labels, None)


def flip_one_bit(desk: LocalDesk, key: str) -> None:
    s3 = boto3.client("s3")
    content = bytearray(s3.get_object(Bucket=desk.bucket, Key=key)["Body"].read())
    content[len(content) // 2] ^= 0x01
    s3.put_object(Bucket=desk.bucket, Key=key, Body=bytes(content))


@pytest.mark.parametrize("key", ["data_until", "label_until"])
def test_a_model_that_knows_the_future_is_refused(desk: LocalDesk, key: str) -> None:
    for name in NAMES:
        manifest, artifact = tiny_model(name, "v1", DAY)
        manifest[key] = "2024-06-03T00:45:00Z"
        desk.cloud.models.register(name, "v1", manifest, artifact)
        desk.cloud.models.promote(name, Promotion("v1", DAY, DAY, "too clever"))

    early, late = rebalance(desk, DAY + HALF), rebalance(desk, DAY + 2 * HALF)
    assert (early["models"], early["refused"]) == ({}, 2.0)
    assert (late["models"], late["refused"]) == ({name: f"{name}@v1" for name in NAMES}, None)


@pytest.fixture(scope="module")
def retrained(root: Path) -> Iterator[LocalDesk]:
    """A desk on a market with a strong signal, after the night's retraining; its models may be used from 02:35 on."""
    with local_desk(root, small_market(pairs=30, history_days=60, seed=3)) as desk:
        # Without costs the planted signal pays for every trade, so that the gate is open by a wide margin.
        desk.parameter("execution", json.dumps(desk.settings("execution") | {"taker_fee_bps": 0.0, "slippage_bps": 0.0}))
        training = {"window_days": 45, "num_threads": 1, "effective_delay_min": 25}
        desk.parameter("training", json.dumps(desk.settings("training") | training))
        result = desk.tick("retrain", DAY + timedelta(hours=2, minutes=10))
        assert result.error is None, result.error
        assert result.payload["promoted"], result.payload
        yield desk


def test_what_the_night_trained_is_used_when_its_time_has_come(retrained: LocalDesk) -> None:
    champions = {name: f"{name}@20240603T0200Z" for name in NAMES if retrained.cloud.models.promotions(name)}
    early = rebalance(retrained, DAY + 5 * HALF)
    late = rebalance(retrained, DAY + 6 * HALF)

    assert "rotation_6h" in champions
    assert early["models"] == {}
    assert late["models"] == champions
    assert late["refused"] is None


def test_the_same_night_delivered_twice_trains_once(retrained: LocalDesk) -> None:
    versions = {name: retrained.cloud.models.versions(name) for name in NAMES}
    again = retrained.tick("retrain", DAY + timedelta(hours=2, minutes=10), late_s=60)

    assert again.payload["status"] == "already_done"
    assert {name: retrained.cloud.models.versions(name) for name in NAMES} == versions
