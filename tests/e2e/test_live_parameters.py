"""A parameter changed in SSM, through boto3 alone: the next tick obeys, or keeps the last good value and says so."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from local_desk import DAY, local_desk, small_market

from tickless.settings import load_desk

QUARTER = timedelta(minutes=15)
RISK = "/tickless/dev/risk"


class Operator:
    """A person with nothing but boto3, and a clock that follows the ticks."""

    def __init__(self, set_clock: Any) -> None:
        self._set_clock = set_clock
        functions = boto3.client("lambda").list_functions()["Functions"]
        services = {f["Environment"]["Variables"]["POWERTOOLS_SERVICE_NAME"]: f for f in functions if "Environment" in f}
        self.names = {service: function["FunctionName"] for service, function in services.items()}
        self.variables = services["risk_check"]["Environment"]["Variables"]

    def tick(self, function: str, at: datetime) -> dict[str, Any]:
        """The answer of one invocation that must not fail."""
        self._set_clock(at + timedelta(seconds=1))
        event = json.dumps({"scheduled_time": at.strftime("%Y-%m-%dT%H:%M:%SZ")})
        answer = boto3.client("lambda").invoke(FunctionName=self.names[function], Payload=event)
        payload: dict[str, Any] = json.load(answer["Payload"])
        assert "FunctionError" not in answer, payload
        return payload

    def trace(self, function: str, at: datetime) -> dict[str, Any]:
        key = f"trace/{at:%Y-%m-%d}/{at:%H%M}-{function}.json.gz"
        body = boto3.client("s3").get_object(Bucket=self.variables["TICKLESS_BUCKET"], Key=key)["Body"].read()
        return dict(json.loads(gzip.decompress(body)))

    def put(self, text: str) -> None:
        boto3.client("ssm").put_parameter(Name=RISK, Value=text, Type="String", Overwrite=True)

    def risk(self) -> dict[str, Any]:
        return dict(json.loads(boto3.client("ssm").get_parameter(Name=RISK)["Parameter"]["Value"]))

    def metric(self, name: str, function: str) -> float:
        """The sum of a metric so far, as CloudWatch has it."""
        dimensions = [{"Name": "service", "Value": function}, {"Name": "stage", "Value": "dev"}]
        now = datetime.now(UTC)
        points = boto3.client("cloudwatch").get_metric_statistics(
            Namespace="Tickless",
            MetricName=name,
            Dimensions=dimensions,
            StartTime=now - timedelta(hours=1),
            EndTime=now + timedelta(hours=1),
            Period=3600,
            Statistics=["Sum"],
        )["Datapoints"]
        return sum(point["Sum"] for point in points)


@pytest.fixture
def operator(root: Path) -> Iterator[Operator]:
    """A desk that has bought something at midnight, and been checked once since."""
    with local_desk(root, small_market(), publish_metrics=True) as desk:
        operator = Operator(desk.clock.set)
        operator.tick("risk_check", DAY)
        operator.tick("full_rebalance", DAY)
        operator.tick("risk_check", DAY + QUARTER)
        assert len(operator.trace("risk_check", DAY + QUARTER)["stops"]) >= 2
        yield operator


def test_the_next_tick_obeys(operator: Operator) -> None:
    before = operator.trace("risk_check", DAY + QUARTER)
    operator.put(json.dumps(operator.risk() | {"max_position_loss_frac": 0.000001}))
    answer = operator.tick("risk_check", DAY + 2 * QUARTER)

    after = operator.trace("risk_check", DAY + 2 * QUARTER)
    lost = {pair for pair, verdict in after["pairs"].items() if verdict["reason"] == "max_loss"}
    assert before["orders"] == []
    assert lost
    assert len(after["orders"]) == answer["orders"] == len(lost)
    assert not lost & set(after["stops"])
    assert after["settings_sha256"] != before["settings_sha256"]
    assert after["settings_sha256"] == load_desk("rotation", ("risk.max_position_loss_frac=0.000001",)).sha256()


def test_the_next_buys_get_the_new_stop_distance(operator: Operator) -> None:
    before = initial_stops(operator, DAY)
    operator.put(json.dumps(operator.risk() | {"initial_stop_atr": 2.6}))
    at = DAY + 6 * timedelta(hours=1)
    operator.tick("risk_check", at)
    operator.tick("full_rebalance", at)

    after = initial_stops(operator, at)
    assert before
    assert after
    assert all(distance == pytest.approx(1.3) for distance in before.values())
    assert all(distance == pytest.approx(2.6) for distance in after.values())


def initial_stops(operator: Operator, opened_at: datetime) -> dict[str, float]:
    """(entry - stop) / ATR of the positions opened at a time whose stop has not trailed yet, as the table has them."""
    pages = (
        boto3.client("dynamodb")
        .get_paginator("query")
        .paginate(
            TableName=operator.variables["TICKLESS_TABLE"],
            KeyConditionExpression="pk = :desk AND begins_with(sk, :position)",
            ExpressionAttributeValues={":desk": {"S": "DESK"}, ":position": {"S": "NOW#POSITION#"}},
        )
    )
    distances = {}
    for item in (item for page in pages for item in page["Items"]):
        stop = {name: next(iter(value.values())) for name, value in item["stop"]["M"].items()}
        if datetime.fromisoformat(item["opened_at"]["S"]) == opened_at and stop["kind"] == "stop_loss":
            entry = float(item["bought_value"]["S"]) / float(item["bought_qty"]["S"])
            distances[item["pair"]["S"]] = (entry - float(stop["stop_price"])) / float(stop["atr"])
    return distances


def test_a_tighter_kill_switch_halts_the_desk_and_nothing_is_bought(operator: Operator) -> None:
    operator.put(json.dumps(operator.risk() | {"kill_switch_drawdown_frac": 0.0001}))
    answer = operator.tick("risk_check", DAY + 2 * QUARTER)
    rebalance = operator.tick("feature_rebalance", DAY + 2 * QUARTER)

    assert answer["halted"] is True
    assert rebalance["halted"] is True
    assert rebalance["positions"] > 0
    assert operator.metric("Halted", "risk_check") == 1.0
    assert not [
        pair for pair, verdict in operator.trace("feature_rebalance", DAY + 2 * QUARTER)["pairs"].items() if verdict["action"] == "buy"
    ]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{not json", "not JSON"),
        ("[]", "risk"),
        ('{"kill_switch_drawdown_frac": 1.5}', "risk.kill_switch_drawdown_frac"),
        ('{"kil_switch": 0.1}', "risk.kil_switch"),
        ('{"initial_stop_atr": "wide"}', "risk.initial_stop_atr"),
    ],
)
def test_rubbish_is_refused_the_last_good_value_stays_and_a_repair_is_obeyed(operator: Operator, text: str, named: str) -> None:
    good = json.dumps(operator.risk() | {"initial_stop_atr": 1.25})
    operator.put(good)
    operator.tick("risk_check", DAY + 2 * QUARTER)
    assert operator.metric("SettingsRefused", "risk_check") == 0.0

    operator.put(text)
    done = operator.metric("TickDone", "risk_check")
    answer = operator.tick("risk_check", DAY + 3 * QUARTER)
    kept = operator.trace("risk_check", DAY + 3 * QUARTER)
    assert answer["status"] == "done"
    assert operator.metric("TickDone", "risk_check") == done + 1.0
    assert operator.metric("SettingsRefused", "risk_check") == 1.0
    assert kept["settings_sha256"] == load_desk("rotation", ("risk.initial_stop_atr=1.25",)).sha256()

    operator.put(json.dumps(json.loads(good) | {"initial_stop_atr": 1.5}))
    operator.tick("risk_check", DAY + 4 * QUARTER)
    repaired = operator.trace("risk_check", DAY + 4 * QUARTER)
    assert operator.metric("SettingsRefused", "risk_check") == 1.0
    assert repaired["settings_sha256"] == load_desk("rotation", ("risk.initial_stop_atr=1.5",)).sha256()
