"""The real CDK app's stack on the local AWS: nothing is missing, and what fires is what the template says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest

from tickless.localcloud import Assembly, LocalCloud, LocalScheduler, ensure_assembly, fire_times, load_assembly, read_schedules
from tickless.localcloud.cloud import NOT_CREATED
from tickless.settings import load_desk
from tickless.types import parse_time

FUNCTIONS = ("risk_check", "feature_rebalance", "full_rebalance", "retrain")
PROBE = """
import os

def handler(event, context):
    night = {"status": "already_done", "runs_on": "", "models": [], "experience": []} if event.get("step") else {}
    names = ("stage", "table", "bucket")
    return {**event, **night, **{name: os.environ[f"TICKLESS_{name.upper()}"] for name in names}}
"""


class StepClock:
    """A clock that only moves when it is told to."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at

    def set(self, at: datetime) -> None:
        self.at = at


@pytest.fixture(scope="module")
def assembly(root: Path) -> Assembly:
    return load_assembly(ensure_assembly(root, "rotation", "dev"))


@pytest.fixture(scope="module")
def cloud(assembly: Assembly, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """The stack, with functions that answer with what they were given."""
    folder = tmp_path_factory.mktemp("functions")
    for name in FUNCTIONS:
        (folder / name).mkdir()
        (folder / name / "handler.py").write_text(PROBE)
    with LocalCloud(assembly.template, stage="dev", functions_dir=folder) as cloud:
        yield cloud


def test_no_resource_is_silently_missing(assembly: Assembly, cloud: LocalCloud):
    missing = {r["Type"] for logical_id, r in assembly.template["Resources"].items() if not cloud.names.get(logical_id)}
    assert missing <= NOT_CREATED
    assert len(cloud.names) > 50


def test_schedules_read_back_equal_the_template(assembly: Assembly, cloud: LocalCloud):
    declared = {
        resource["Properties"]["Name"]: resource["Properties"]
        for resource in assembly.template["Resources"].values()
        if resource["Type"] == "AWS::Scheduler::Schedule"
    }
    found = {schedule.name: schedule for schedule in read_schedules(cloud)}
    assert set(found) == set(declared)
    for name, properties in declared.items():
        target = properties["Target"]
        assert found[name].expression == properties["ScheduleExpression"]
        assert found[name].input == target["Input"]
        assert found[name].max_retries == target["RetryPolicy"]["MaximumRetryAttempts"]
        ((kind, where),) = target["Arn"].items()
        function = kind == "Fn::GetAtt"
        arn = cloud.configuration(cloud.names[where[0]]).arn if function else cloud.names[where]
        assert found[name].target_arn == arn
        assert found[name].is_machine is not function
        assert found[name].dead_letter_arn is not None


def test_the_schedules_are_the_desks_calendar(cloud: LocalCloud):
    calendar = load_desk("rotation").calendar
    start = datetime(2024, 6, 1, tzinfo=UTC)
    end = start + timedelta(days=2)
    fired: dict[str, set[datetime]] = {}
    for schedule in read_schedules(cloud):
        fired.setdefault(schedule.function, set()).update(fire_times(schedule.expression, start, end))
    due: dict[str, set[datetime]] = {name: set() for name in fired}
    for minute in range(2 * 24 * 60):
        at = start + timedelta(minutes=minute)
        for tick in calendar.due_at(at):
            due[tick.function].add(at)
    trading = [name for name in fired if name != "retrain"]
    assert {name: fired[name] for name in trading} == {name: due[name] for name in trading}
    assert {name: len(times) for name, times in fired.items()} == {
        "risk_check": 192, "feature_rebalance": 88, "full_rebalance": 8, "retrain": 2,
    }  # fmt: skip


def test_a_day_is_fired_with_the_payload_of_the_template(cloud: LocalCloud):
    start = datetime(2024, 6, 1, tzinfo=UTC)
    firings = list(LocalScheduler(cloud, StepClock(start), start, start + timedelta(days=1)).fire())
    assert Counter(firing.function for firing in firings) == {"risk_check": 96, "feature_rebalance": 44, "full_rebalance": 4, "retrain": 1}
    for firing in firings:
        assert firing.result is not None
        assert firing.result.error is None
        if firing.function != "retrain":
            assert parse_time(firing.result.payload["scheduled_time"]) == firing.scheduled_at
    (night,) = [firing.result for firing in firings if firing.function == "retrain"]
    assert night is not None
    assert night.payload == {"status": "already_done", "runs_on": "", "models": [], "experience": []}
    names = set(cloud.names.values())
    payload = firings[0].result.payload if firings[0].result else {}
    assert payload["stage"] == "dev"
    assert {payload["table"], payload["bucket"]} <= names


def test_every_section_is_a_parameter(cloud: LocalCloud):
    pages = boto3.client("ssm").get_paginator("get_parameters_by_path").paginate(Path="/tickless/dev/", Recursive=True)
    found = {item["Name"].removeprefix("/tickless/dev/"): item["Value"] for page in pages for item in page["Parameters"]}
    assert found == load_desk("rotation").sections()


def test_every_alarm_is_there_and_tells_the_topic(assembly: Assembly, cloud: LocalCloud):
    declared = [r for r in assembly.template["Resources"].values() if r["Type"] == "AWS::CloudWatch::Alarm"]
    pages = boto3.client("cloudwatch").get_paginator("describe_alarms").paginate()
    alarms = [alarm for page in pages for alarm in page["MetricAlarms"]]
    assert len(alarms) == len(declared) > 0
    topics = {topic["TopicArn"] for topic in boto3.client("sns").list_topics()["Topics"]}
    assert all(set(alarm["AlarmActions"]) <= topics and alarm["AlarmActions"] for alarm in alarms)


def test_failures_have_somewhere_to_end(cloud: LocalCloud):
    for name in cloud.functions():
        policy = cloud.async_policy(name)
        assert policy.max_retries <= 1
        assert policy.on_failure_arn or policy.dead_letter_arn
