"""The five handlers on a mocked AWS: short, loud about bad events, and never without their metrics."""

from __future__ import annotations

import importlib.util
import json
import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from moto import mock_aws

from made_world import T0, at
from tickless import bootstrap
from tickless.adapters.folder_market import FolderMarket
from tickless.adapters.memory import ManualClock
from tickless.adapters.synthetic_market import make_market
from tickless.errors import EventError, StaleTickError
from tickless.settings import load_desk
from tickless.types import iso

FUNCTIONS = Path(__file__).resolve().parents[2] / "functions"
NAMES = ("risk_check", "feature_rebalance", "full_rebalance", "scan", "retrain")
SCAN = {"strategy": "crossover"}
"""What the event of a scan holds beside its time."""


def load(name: str) -> Callable[[Any, Any], dict[str, Any]]:
    spec = importlib.util.spec_from_file_location(f"handler_of_{name}", FUNCTIONS / name / "handler.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.handler


@pytest.fixture(scope="module")
def market() -> FolderMarket:
    made = make_market(start=T0 - timedelta(days=45), end=T0 + timedelta(days=1), pairs=6, seed=2, events=False)
    return FolderMarket(made.panel, made.rules)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(at(0))


@pytest.fixture(autouse=True)
def cold_loggers() -> None:
    """Powertools' loggers live as long as the process, and keep the stream of the test that made them: every test makes its own."""
    for name in NAMES:
        logging.Logger.manager.loggerDict.pop(name, None)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    topic = "arn:aws:sns:eu-central-1:123456789012:alerts"
    for name, value in (("STAGE", "dev"), ("TABLE", "desk"), ("BUCKET", "bucket"), ("TOPIC_ARN", topic)):
        monkeypatch.setenv(f"TICKLESS_{name}", value)


@pytest.fixture
def aws(environment: None, market: FolderMarket, clock: ManualClock) -> Iterator[None]:
    """The desk's resources, its parameters, and a market that is a recording."""
    with mock_aws():
        key = [("pk", "HASH"), ("sk", "RANGE")]
        boto3.client("dynamodb").create_table(
            TableName="desk",
            KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in key],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name, _ in key],
            BillingMode="PAY_PER_REQUEST",
        )
        boto3.client("s3").create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        boto3.client("sns").create_topic(Name="alerts")
        settings = load_desk("rotation", ["strategy.rotation.fallback_threshold_frac=-1.0", "training.window_days=7"])
        for section, text in (settings.sections() | {"strategy.crossover": "{}"}).items():
            boto3.client("ssm").put_parameter(Name=f"/tickless/dev/{section}", Value=text, Type="String")
        with bootstrap.wired(bootstrap.Wiring(market, clock)):
            yield


def invoke(name: str, event: Any) -> dict[str, Any]:
    return load(name)(event, SimpleNamespace(aws_request_id=f"request-of-{name}"))


def event_at(bar: float) -> dict[str, str]:
    return {"scheduled_time": iso(at(bar))}


def written(capsys: pytest.CaptureFixture[str]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(EMF lines, log lines) since the last look."""
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [line for line in lines if "_aws" in line], [line for line in lines if "_aws" not in line]


@pytest.mark.parametrize("name", NAMES)
def test_a_handler_is_short_and_has_a_sample_event(name):
    assert len((FUNCTIONS / name / "handler.py").read_text().splitlines()) <= 40
    events = sorted((FUNCTIONS / name / "events").glob("*.json"))
    assert events
    for path in events:
        assert bootstrap.parse_tick(name, json.loads(path.read_text())).function == name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("aws")
def test_a_tick_answers_in_json_and_tells_who_it_was(name, capsys):
    answer = invoke(name, event_at(0) | (SCAN if name == "scan" else {}))
    assert json.loads(json.dumps(answer)) == answer
    tick = "scan-crossover" if name == "scan" else name
    assert (answer["tick"], answer["status"]) == (f"2024-06-01T00:00:00Z#{tick}", "done")
    (emf,), logs = written(capsys)
    assert emf["TickDone"] == [1.0]
    assert (emf["service"], emf["stage"]) == (name, "dev")
    (directive,) = emf["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "Tickless"
    by_strategy = ["strategy"] if name == "scan" else []
    assert [sorted(dimensions) for dimensions in directive["Dimensions"]] == [["service", "stage", *by_strategy]]
    assert emf.get("strategy") == ("crossover" if name == "scan" else None)
    assert logs
    for line in logs:
        assert line["tick_id"] == answer["tick"]
        assert (line["service"], line["stage"], line["request_id"]) == (name, "dev", f"request-of-{name}")


@pytest.mark.usefixtures("aws")
def test_the_lease_knows_its_invocation_by_lambdas_request_id():
    invoke("risk_check", event_at(0))
    lease = boto3.client("dynamodb").get_item(TableName="desk", Key={"pk": {"S": "DESK"}, "sk": {"S": "LEASE"}})["Item"]
    assert lease["invocation"] == {"S": "request-of-risk_check"}


@pytest.mark.usefixtures("environment")
def test_a_scan_without_a_strategy_leaves_as_an_exception_and_its_metric_is_the_functions_own(capsys):
    with pytest.raises(EventError, match="event of scan: 'strategy' is missing; known: crossover"):
        invoke("scan", event_at(0))
    (emf,), _ = written(capsys)
    assert emf["TickFailed"] == [1.0]
    assert "strategy" not in emf


@pytest.mark.usefixtures("aws")
def test_a_redelivery_is_done_already(capsys):
    first = invoke("full_rebalance", event_at(0))
    assert first["orders"] > 0
    written(capsys)
    assert invoke("full_rebalance", event_at(0)) == {"tick": first["tick"], "status": "already_done", "ran": []}
    (emf,), _ = written(capsys)
    assert emf["TickDone"] == [1.0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("environment")
def test_a_bad_event_leaves_as_an_exception_and_its_metric_is_written(name, capsys):
    with pytest.raises(EventError, match=f"event of {name}: 'scheduled_time' is missing"):
        invoke(name, {"time": "2024-06-01T00:00:00Z"})
    (emf,), (line,) = written(capsys)
    assert emf["TickFailed"] == [1.0]
    assert (line["level"], line["message"], line["event"]) == ("ERROR", "tick failed", {"time": "2024-06-01T00:00:00Z"})
    assert "EventError" in line["exception"]


@pytest.mark.parametrize("name", ["risk_check", "retrain"])
@pytest.mark.usefixtures("aws")
def test_a_stale_event_leaves_as_an_exception_with_its_metric_and_tick_id(name, capsys, clock):
    clock.set(at(4))
    with pytest.raises(StaleTickError):
        invoke(name, event_at(0))
    (emf,), (line,) = written(capsys)
    assert (emf["StaleTick"], emf["TickFailed"], "TickDone" in emf) == ([1.0], [1.0], False)
    assert line["tick_id"] == f"2024-06-01T00:00:00Z#{name}"


@pytest.mark.usefixtures("aws")
def test_an_event_without_a_tick_is_not_logged_under_the_one_before(capsys):
    invoke("risk_check", event_at(0))
    written(capsys)
    with pytest.raises(EventError):
        invoke("risk_check", {})
    _, (line,) = written(capsys)
    assert "tick_id" not in line


@pytest.mark.usefixtures("aws")
def test_the_state_is_in_aws_and_a_cold_start_goes_on_from_it(market, clock):
    bought = invoke("full_rebalance", event_at(0))
    clock.set(at(1))
    with bootstrap.wired(bootstrap.Wiring(market, clock)):
        answer = invoke("risk_check", event_at(1))
    assert answer["positions"] == bought["positions"] > 0
    keys = {item["Key"] for item in boto3.client("s3").list_objects_v2(Bucket="bucket")["Contents"]}
    assert any(key.startswith("bars/15m/") for key in keys)
    assert any(key.startswith("trace/2024-06-01/0000-full_rebalance") for key in keys)
