"""Firing schedules: what is delivered, in what order, how often, and where failures end."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import boto3
import pytest

from tickless.errors import InputError
from tickless.localcloud import LocalCloud, LocalScheduler, read_schedules

START = datetime(2024, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def seen(cloud: LocalCloud) -> list[dict[str, str]]:
    pages = boto3.client("dynamodb").get_paginator("scan").paginate(TableName=cloud.names["Table"])
    return [json.loads(item["event"]["S"]) for page in pages for item in page["Items"]]


def test_schedules_read_back_as_the_template_says(cloud):
    full, check = read_schedules(cloud)
    assert (full.name, full.expression, full.function) == ("full_rebalance-1", "cron(0 0,6,12,18 * * ? *)", "full_rebalance")
    assert (check.name, check.expression, check.function) == ("risk_check-1", "cron(0/15 * * * ? *)", "risk_check")
    assert (check.max_retries, check.max_age_s, check.enabled) == (1, 600, True)
    assert check.dead_letter_arn is not None
    assert check.dead_letter_arn.rpartition(":")[2] == cloud.names["Undelivered"].rpartition("/")[2]


def test_a_day_fires_every_schedule_in_order(cloud, clock):
    scheduler = LocalScheduler(cloud, clock, START, START + DAY)
    firings = list(scheduler.fire())
    assert scheduler.planned == len(firings) == 100
    assert Counter(firing.function for firing in firings) == {"risk_check": 96, "full_rebalance": 4}
    assert [firing.function for firing in firings[:3]] == ["risk_check", "full_rebalance", "risk_check"]
    assert [firing.delivered_at for firing in firings] == sorted(firing.delivered_at for firing in firings)
    assert all(firing.delivered_at == firing.scheduled_at + timedelta(seconds=1) for firing in firings)
    assert all(firing.result is not None and firing.result.error is None for firing in firings)
    assert clock.now() == START + DAY - timedelta(minutes=15) + timedelta(seconds=1)


def test_the_payload_is_what_aws_sends(cloud, clock):
    list(LocalScheduler(cloud, clock, START, START + timedelta(minutes=1)).fire())
    check = next(event for event in seen(cloud) if event["arn"].endswith("risk_check-1"))
    assert check["scheduled_time"] == "2024-06-01T00:00:00Z"
    assert check["arn"] == "arn:aws:scheduler:us-east-1:123456789012:schedule/tickless-dev/risk_check-1"
    assert check["attempt"] == "1"
    assert len(check["id"]) == 36


def test_the_clock_follows_and_never_goes_back(cloud, clock):
    times = []
    scheduler = LocalScheduler(cloud, clock, START, START + HOUR)
    for firing in scheduler.fire():
        times.append(firing.delivered_at)
        clock.sleep(1000)
    assert times[-1] > START + HOUR
    assert times == sorted(times)


def test_run_reports_each_delivery(cloud, clock):
    names = []
    assert LocalScheduler(cloud, clock, START, START + HOUR).run(lambda firing: names.append(firing.schedule)) == 5
    assert names == ["risk_check-1", "full_rebalance-1", "risk_check-1", "risk_check-1", "risk_check-1"]


def test_shuffled_order_is_seeded_and_changes_within_the_minute(cloud, clock):
    def order(seed: int, length: timedelta) -> list[str]:
        scheduler = LocalScheduler(cloud, type(clock)(START), START, START + length, order="shuffled", seed=seed)
        return [f"{firing.delivered_at:%H:%M:%S.%f} {firing.scheduled_at:%H:%M} {firing.function}" for firing in scheduler.fire()]

    first = order(1, 7 * HOUR)
    assert first == order(1, 7 * HOUR)
    assert first == sorted(first)
    scheduled = [line.split()[1] for line in first]
    assert scheduled == sorted(scheduled)
    starts = {tuple(line.split()[2] for line in order(seed, timedelta(minutes=1))) for seed in range(1, 7)}
    assert starts == {("risk_check", "full_rebalance"), ("full_rebalance", "risk_check")}


def test_scans_of_one_minute_come_last_and_by_strategy(cloud, clock):
    client = cloud.client("scheduler")
    current = client.get_schedule(GroupName="tickless-dev", Name="risk_check-1")
    name = client.get_schedule(GroupName="tickless-dev", Name="full_rebalance-1")["Target"]["Arn"]
    made = []
    for number, strategy in enumerate(("dca", "crossover", "swing")):
        event = json.dumps({"scheduled_time": "<aws.scheduler.scheduled-time>", "strategy": strategy})
        client.create_schedule(
            GroupName="tickless-dev", Name=f"a-{number}", ScheduleExpression="cron(0 * * * ? *)", State="ENABLED",
            FlexibleTimeWindow=current["FlexibleTimeWindow"], Target=current["Target"] | {"Arn": name, "Input": event},
        )  # fmt: skip
        made.append(f"a-{number}")
    assert {s.name: s.strategy for s in read_schedules(cloud) if s.strategy} == dict(zip(made, ("dca", "crossover", "swing"), strict=True))
    firings = list(LocalScheduler(cloud, clock, START, START + timedelta(minutes=1)).fire())
    assert [firing.schedule for firing in firings] == ["risk_check-1", "full_rebalance-1", "a-1", "a-0", "a-2"]


@pytest.mark.parametrize("event", ['["strategy"]', "7", '"crossover"', "{}"])
def test_an_event_without_a_strategy_has_none(cloud, event):
    client = cloud.client("scheduler")
    current = client.get_schedule(GroupName="tickless-dev", Name="risk_check-1")
    client.update_schedule(
        GroupName="tickless-dev", Name="risk_check-1", ScheduleExpression="cron(0 * * * ? *)", State="ENABLED",
        FlexibleTimeWindow=current["FlexibleTimeWindow"], Target=current["Target"] | {"Input": event},
    )  # fmt: skip
    assert [schedule.strategy for schedule in read_schedules(cloud)] == ["", ""]


def test_duplicates_carry_the_same_scheduled_time(cloud, clock):
    firings = list(LocalScheduler(cloud, clock, START, START + DAY, duplicates=0.3, seed=5).fire())
    again = [firing for firing in firings if firing.duplicate]
    assert 15 <= len(again) <= 45
    once = {(firing.function, firing.scheduled_at) for firing in firings if not firing.duplicate}
    assert len(once) == 100
    assert {(firing.function, firing.scheduled_at) for firing in again} <= once
    events = seen(cloud)
    assert len({event["id"] for event in events}) == len(events) == len(firings)


def failing(cloud: LocalCloud, clock, until: int) -> LocalScheduler:
    client = cloud.client("scheduler")
    current = client.get_schedule(GroupName="tickless-dev", Name="risk_check-1")
    target = current["Target"] | {"Input": json.dumps({"at": "<aws.scheduler.scheduled-time>", "fail_until": until})}
    client.update_schedule(
        GroupName="tickless-dev", Name="risk_check-1", ScheduleExpression="cron(5 * * * ? *)", State="ENABLED",
        FlexibleTimeWindow=current["FlexibleTimeWindow"], Target=target,
    )  # fmt: skip
    client.delete_schedule(GroupName="tickless-dev", Name="full_rebalance-1")
    return LocalScheduler(cloud, clock, START, START + HOUR)


def test_lambda_retries_a_failed_function_a_minute_later(cloud, clock):
    first, second = failing(cloud, clock, until=1).fire()
    assert first.result is not None
    assert first.result.error is not None
    assert (first.attempt, first.dead, second.attempt) == (1, False, 2)
    assert second.result is not None
    assert second.result.error is None
    assert second.delivered_at - first.delivered_at == timedelta(minutes=1)
    assert second.scheduled_at == first.scheduled_at
    assert second.result.request_id == first.result.request_id, "as Lambda's retries do"


def test_a_function_that_keeps_failing_ends_in_its_queues(cloud, clock):
    firings = list(failing(cloud, clock, until=99).fire())
    assert [firing.dead for firing in firings] == [False, True]
    sqs = cloud.client("sqs")
    (dead,) = sqs.receive_message(QueueUrl=cloud.names["Dead"], MaxNumberOfMessages=10)["Messages"]
    assert json.loads(dead["Body"]) == {"at": "2024-06-01T00:05:00Z", "fail_until": 99}
    (failed,) = sqs.receive_message(QueueUrl=cloud.names["Failed"], MaxNumberOfMessages=10)["Messages"]
    assert json.loads(failed["Body"])["requestContext"]["condition"] == "RetriesExhausted"
    assert "Messages" not in sqs.receive_message(QueueUrl=cloud.names["Undelivered"])


def test_an_event_that_cannot_be_delivered_is_retried_then_dead(cloud, clock):
    scheduler = failing(cloud, clock, until=0)
    cloud.client("lambda").delete_function(FunctionName="tickless-dev-risk_check")
    firings = list(scheduler.fire())
    assert [(firing.attempt, firing.dead, firing.result) for firing in firings] == [(1, False, None), (2, True, None)]
    (message,) = cloud.client("sqs").receive_message(
        QueueUrl=cloud.names["Undelivered"], MaxNumberOfMessages=10, MessageAttributeNames=["All"]
    )["Messages"]
    assert json.loads(message["Body"])["at"] == "2024-06-01T00:05:00Z"
    assert message["MessageAttributes"]["ERROR_CODE"]["StringValue"] == "ResourceNotFoundException"
    assert message["MessageAttributes"]["RETRY_ATTEMPTS"]["StringValue"] == "1"


def test_disabled_schedules_do_not_fire(template, functions_dir, clock):
    template["Resources"]["Check"]["Properties"]["State"] = "DISABLED"
    with LocalCloud(template, stage="dev", functions_dir=functions_dir) as cloud:
        assert {firing.function for firing in LocalScheduler(cloud, clock, START, START + HOUR).fire()} == {"full_rebalance"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ScheduleExpressionTimezone": "Europe/Berlin"}, "time zone 'Europe/Berlin', must be UTC"),
        ({"FlexibleTimeWindow": {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 5}}, "flexible time window"),
    ],
)
def test_schedules_that_cannot_be_simulated_are_refused(template, functions_dir, clock, change, message):
    template["Resources"]["Check"]["Properties"].update(change)
    with LocalCloud(template, stage="dev", functions_dir=functions_dir) as cloud, pytest.raises(InputError, match=message):
        LocalScheduler(cloud, clock, START, START + HOUR)


def test_input_that_is_not_json_is_refused(template, functions_dir):
    template["Resources"]["Check"]["Properties"]["Target"]["Input"] = "<aws.scheduler.scheduled-time>"
    with LocalCloud(template, stage="dev", functions_dir=functions_dir) as cloud, pytest.raises(InputError, match="is not JSON"):
        read_schedules(cloud)
