"""When each function is woken, and with what."""

import json
from datetime import timedelta

import pytest
from stack_reading import DAY, fires, functions, of_type, schedules, text

from infra.app import synthesize
from infra.settings import FUNCTIONS, timeout_s
from tickless.errors import SettingsError
from tickless.settings import load_desk
from tickless.types import Tick

REBALANCED = ("risk_check", "feature_rebalance", "full_rebalance")
CHANGED = [
    "schedule.risk_check_every_min=30",
    "schedule.rebalance_every_min=60",
    "schedule.full_rebalance_hours=[7,19]",
    'schedule.retrain_at="23:45"',
]


@pytest.fixture(scope="module")
def changed():
    return synthesize("rotation", "dev", overrides=CHANGED)


def due(template, name):
    return [at for schedule in schedules(template).get(name, []) for at in fires(schedule["ScheduleExpression"])]


def minutes_due(settings, function, strategy=""):
    day = (DAY + timedelta(minutes=m) for m in range(24 * 60))
    return [at for at in day if Tick(at, function, strategy) in settings.calendar.due_at(at)]


@pytest.mark.parametrize("name", REBALANCED)
def test_schedules_fire_exactly_when_the_desk_says(template, desk, name):
    assert sorted(due(template, name)) == minutes_due(desk, name)


@pytest.mark.parametrize("name", REBALANCED)
def test_another_desk_fires_at_its_own_times(changed, name):
    settings = load_desk("rotation", CHANGED)
    assert sorted(due(changed, name)) == minutes_due(settings, name)
    assert minutes_due(settings, name) != minutes_due(load_desk("rotation"), name)


def test_retraining_is_nightly_at_the_time_set(template, changed):
    assert due(template, "retrain") == [DAY + timedelta(hours=2, minutes=10)]
    assert due(changed, "retrain") == [DAY + timedelta(hours=23, minutes=45)]


def test_a_desk_without_full_rebalances_schedules_none():
    template = synthesize("rotation", "dev", overrides=["schedule.full_rebalance_hours=[]"])
    assert "full_rebalance" not in schedules(template)
    assert sorted(functions(template)) == ["feature_rebalance", "retrain", "risk_check"]
    assert len(due(template, "feature_rebalance")) == 48


@pytest.mark.parametrize(("desk_of", "names"), [("crossover", ["risk_check", "scan"]), ("both", [*REBALANCED, "retrain", "scan"])])
def test_only_what_the_desk_wakes_is_created(request, desk_of, names):
    template = request.getfixturevalue(desk_of)
    assert sorted(functions(template)) == sorted(schedules(template)) == sorted(names)


@pytest.mark.parametrize("desk_of", ["crossover", "both"])
def test_each_strategy_that_is_scanned_has_a_schedule_of_its_own(request, desk_of):
    template = request.getfixturevalue(desk_of)
    settings = load_desk(str(request.getfixturevalue(f"{desk_of}_file")))
    (schedule,) = schedules(template)["scan"]
    assert schedule["Name"] == "scan-crossover-1"
    assert json.loads(schedule["Target"]["Input"]) == {"scheduled_time": "<aws.scheduler.scheduled-time>", "strategy": "crossover"}
    assert sorted(due(template, "scan")) == minutes_due(settings, "scan", "crossover")
    assert len(due(template, "scan")) == 96


def test_a_scan_may_be_as_frequent_as_its_strategy_asks(crossover_file):
    changes = ["desk.timeframe=5m", "strategy.crossover.scan_every_min=5"]
    often = synthesize(str(crossover_file), "dev", overrides=changes)
    assert len(due(often, "scan")) == 288
    assert len(due(often, "risk_check")) == 96


@pytest.mark.parametrize("desk_of", ["template", "crossover", "both"])
def test_every_schedule_hands_over_the_scheduled_time_in_utc_and_gives_up_soon(request, desk, desk_of):
    template = request.getfixturevalue(desk_of)
    found = [schedule for group in schedules(template).values() for schedule in group]
    assert found
    for schedule in found:
        target = schedule["Target"]
        event = json.loads(target["Input"])
        assert event.pop("scheduled_time") == "<aws.scheduler.scheduled-time>"
        assert event == ({"strategy": "crossover"} if schedule["Name"].startswith("scan-") else {})
        assert schedule["ScheduleExpressionTimezone"] == "Etc/UTC"
        assert schedule["FlexibleTimeWindow"] == {"Mode": "OFF"}
        assert schedule["State"] == "ENABLED"
        assert target["RetryPolicy"]["MaximumRetryAttempts"] <= 1
        assert target["RetryPolicy"]["MaximumEventAgeInSeconds"] == desk.schedule.max_event_age_s
        assert "Undelivered" in text(target["DeadLetterConfig"]["Arn"])


def test_a_failed_tick_is_tried_once_more_then_kept(template, desk):
    configs = {text(r["Properties"]["FunctionName"]): r["Properties"] for r in of_type(template, "AWS::Lambda::EventInvokeConfig").values()}
    assert set(configs) == {f"<{name}>" for name in of_type(template, "AWS::Lambda::Function")}
    for config in configs.values():
        assert config["MaximumRetryAttempts"] == 1
        assert config["MaximumEventAgeInSeconds"] == desk.schedule.max_event_age_s
        assert "Failed" in text(config["DestinationConfig"]["OnFailure"]["Destination"])


def test_trading_functions_end_before_their_lease_may_be_taken_over(template, crossover, both, desk):
    timeouts = [(name, f["Timeout"]) for stack in (template, crossover, both) for name, f in functions(stack).items() if name != "retrain"]
    assert {name for name, _ in timeouts} == {*REBALANCED, "scan"}
    for _, timeout in timeouts:
        assert desk.schedule.lease_wait_s < timeout < desk.schedule.lease_ttl_s


def test_a_shorter_lease_shortens_the_time_out():
    settings = load_desk("rotation", ["schedule.lease_ttl_s=90"])
    assert timeout_s(FUNCTIONS["full_rebalance"], settings.schedule) == 80
    assert timeout_s(FUNCTIONS["retrain"], settings.schedule) == 900


def test_a_lease_too_short_to_work_in_is_refused():
    settings = load_desk("rotation", ["schedule.lease_ttl_s=60"])
    with pytest.raises(SettingsError, match=r"schedule\.lease_ttl_s: 60 leaves risk_check a time-out of 50 s"):
        timeout_s(FUNCTIONS["risk_check"], settings.schedule)
