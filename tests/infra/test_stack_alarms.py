"""What each alarm watches, and whom it tells."""

import itertools
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stack_reading import alarms, dimensions, fires, functions, of_type, properties, schedules, text, the

from infra.app import synthesize
from infra.monitoring import silence
from infra.settings import longest_gap
from tickless.settings import load_desk

ALL = ("risk_check", "feature_rebalance", "full_rebalance", "retrain")
MODELS = ("feature_rebalance", "full_rebalance")


def title(name):
    return "".join(word.capitalize() for word in name.split("_"))


def gaps(settings):
    return {timer.name: longest_gap(timer, settings) for timer in settings.calendar.timers()}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("metric", ["Errors", "Throttles"])
def test_one_error_or_throttle_of_a_function_rings(template, name, metric):
    alarm = alarms(template)[f"{title(name)}{metric}"]
    (logical,) = [n for n, r in of_type(template, "AWS::Lambda::Function").items() if r["Properties"] == functions(template)[name]]
    assert (alarm["Namespace"], alarm["MetricName"], alarm["Statistic"]) == ("AWS/Lambda", metric, "Sum")
    assert dimensions(alarm) == {"FunctionName": f"<{logical}>"}
    assert (alarm["Threshold"], alarm["ComparisonOperator"]) == (1, "GreaterThanOrEqualToThreshold")
    assert alarm["TreatMissingData"] == "notBreaching"


@pytest.mark.parametrize("queue", ["Undelivered", "Failed"])
def test_a_dead_letter_rings_until_somebody_takes_it_away(template, queue):
    alarm = alarms(template)[f"{queue}DeadLetters"]
    logical, _ = the(template, "AWS::SQS::Queue", queue)
    assert alarm["MetricName"] == "ApproximateNumberOfMessagesVisible"
    assert dimensions(alarm) == {"QueueName": f"<{logical}.QueueName>"}
    assert (alarm["Statistic"], alarm["Threshold"]) == ("Maximum", 1)


@pytest.mark.parametrize("name", ALL)
def test_silence_of_a_function_rings(template, name):
    alarm = alarms(template)[f"{title(name)}MissedTick"]
    assert (alarm["Namespace"], alarm["MetricName"], alarm["Statistic"]) == ("Tickless", "TickDone", "Sum")
    assert dimensions(alarm) == {"service": name, "stage": "dev"}
    assert (alarm["Threshold"], alarm["ComparisonOperator"]) == (1, "LessThanThreshold")
    assert alarm["TreatMissingData"] == "breaching"
    assert alarm.get("DatapointsToAlarm", alarm["EvaluationPeriods"]) == alarm["EvaluationPeriods"]


@pytest.mark.parametrize("name", ALL)
def test_a_desk_on_time_never_looks_silent_and_two_missed_ticks_do(template, desk, name):
    alarm = alarms(template)[f"{title(name)}MissedTick"]
    window = timedelta(seconds=alarm["Period"] * alarm["EvaluationPeriods"])
    times = sorted(at for schedule in schedules(template)[name] for at in fires(schedule["ScheduleExpression"], days=3))
    gap = max(later - earlier for earlier, later in itertools.pairwise(times))
    assert gap < window
    assert window <= 3 * gap


def test_the_longest_gap_is_that_of_the_desks_calendar(desk, crossover_file):
    assert gaps(desk) == {
        "risk_check": timedelta(minutes=15),
        "feature_rebalance": timedelta(hours=1),
        "full_rebalance": timedelta(hours=6),
        "retrain": timedelta(days=1),
    }
    often = load_desk(str(crossover_file), ["desk.timeframe=5m", "strategy.crossover.scan_every_min=5"])
    assert gaps(often) == {"risk_check": timedelta(minutes=15), "scan-crossover": timedelta(minutes=5)}


def test_silence_of_each_strategy_that_is_scanned_rings(crossover, both):
    for stack in (crossover, both):
        alarm = alarms(stack)["ScanCrossoverMissedTick"]
        assert (alarm["MetricName"], alarm["TreatMissingData"]) == ("TickDone", "breaching")
        assert dimensions(alarm) == {"service": "scan", "stage": "dev", "strategy": "crossover"}
        assert alarm["Period"] * alarm["EvaluationPeriods"] == 23 * 60
    assert {name for name in alarms(crossover) if name.startswith("Scan")} == {
        *("ScanErrors", "ScanThrottles", "ScanCrossoverSettingsRefused", "ScanCrossoverLedgerMismatch", "ScanCrossoverMissedTick"),
    }
    assert "ScanCrossoverModelRefused" in alarms(both)
    assert not [name for name in alarms(crossover) if name.startswith(("FeatureRebalance", "FullRebalance", "Retrain"))]


def test_the_dashboard_of_a_desk_shows_what_it_has(crossover):
    _, dashboard = the(crossover, "AWS::CloudWatch::Dashboard")
    body = text(dashboard["Properties"]["DashboardBody"])
    assert '"TickDone","service","scan","stage","dev","strategy","crossover"' in body
    assert "rebalance" not in body
    assert "retrain" not in body


def test_a_function_that_nothing_schedules_is_not_missed():
    template = synthesize("rotation", "dev", overrides=["schedule.full_rebalance_hours=[]"])
    assert "FullRebalanceMissedTick" not in alarms(template)
    assert "FeatureRebalanceMissedTick" in alarms(template)


@given(gap_min=st.integers(1, 24 * 60), late_s=st.integers(60, 4500))
def test_silence_is_longer_than_the_gap_and_within_what_cloudwatch_allows(gap_min, late_s):
    gap = timedelta(minutes=gap_min)
    period_s, periods = silence(gap, timedelta(seconds=late_s))
    window = timedelta(seconds=period_s * periods)
    assert gap < window <= gap * 1.5 + timedelta(seconds=period_s)
    assert period_s % 60 == 0
    assert window <= (timedelta(days=7) if period_s >= 3600 else timedelta(days=1))


def test_a_halted_desk_rings_until_a_tick_says_otherwise(template):
    alarm = alarms(template)["Halted"]
    assert (alarm["Namespace"], alarm["MetricName"], alarm["Statistic"]) == ("Tickless", "Halted", "Maximum")
    assert dimensions(alarm) == {"service": "risk_check", "stage": "dev"}
    assert (alarm["Threshold"], alarm["TreatMissingData"]) == (1, "ignore")


def test_a_desk_that_only_sells_as_its_ledger_differs_rings_until_they_agree(template):
    alarm = alarms(template)["Reducing"]
    assert (alarm["Namespace"], alarm["MetricName"], alarm["Statistic"]) == ("Tickless", "Reducing", "Maximum")
    assert dimensions(alarm) == {"service": "risk_check", "stage": "dev"}
    assert (alarm["Threshold"], alarm["TreatMissingData"]) == (1, "ignore")


def test_a_pair_whose_bars_cannot_be_read_rings(template):
    alarm = alarms(template)["BarsUnread"]
    assert (alarm["Namespace"], alarm["MetricName"], alarm["Statistic"]) == ("Tickless", "BarsUnread", "Sum")
    assert dimensions(alarm) == {"service": "risk_check", "stage": "dev"}
    assert (alarm["Threshold"], alarm["TreatMissingData"]) == (1, "notBreaching")


def test_a_position_whose_stop_could_not_be_placed_rings(template):
    alarm = alarms(template)["StopNotPlaced"]
    assert (alarm["Namespace"], alarm["MetricName"], alarm["Statistic"]) == ("Tickless", "StopNotPlaced", "Sum")
    assert dimensions(alarm) == {"service": "risk_check", "stage": "dev"}
    assert (alarm["Threshold"], alarm["TreatMissingData"]) == (1, "notBreaching")


def test_drawdown_rings_at_the_desks_own_limit(template, desk):
    alarm = alarms(template)["Drawdown"]
    assert (alarm["MetricName"], alarm["Statistic"]) == ("DrawdownFrac", "Maximum")
    assert dimensions(alarm) == {"service": "risk_check", "stage": "dev"}
    assert alarm["Threshold"] == desk.alerts.drawdown_alarm_frac
    assert alarm["ComparisonOperator"] == "GreaterThanOrEqualToThreshold"
    deeper = synthesize("rotation", "dev", overrides=["alerts.drawdown_alarm_frac=0.25"])
    assert alarms(deeper)["Drawdown"]["Threshold"] == 0.25


@pytest.mark.parametrize(
    ("metric", "names"),
    [("SettingsRefused", ALL), ("ModelRefused", MODELS), ("LedgerMismatch", ("risk_check", *MODELS))],
)
def test_refusals_ring_for_each_function_that_can_refuse(template, metric, names):
    found = {dimensions(alarm)["service"]: alarm for alarm in alarms(template).values() if alarm["MetricName"] == metric}
    assert sorted(found) == sorted(names)
    for alarm in found.values():
        assert dimensions(alarm)["stage"] == "dev"
        assert (alarm["Namespace"], alarm["Statistic"], alarm["Threshold"]) == ("Tickless", "Sum", 1)
        assert alarm["TreatMissingData"] == "notBreaching"


def test_every_alarm_tells_the_topic(template):
    topic, _ = the(template, "AWS::SNS::Topic")
    assert alarms(template)
    assert all([text(a) for a in alarm["AlarmActions"]] == [f"<{topic}>"] for alarm in alarms(template).values())


def test_alarms_of_this_account_may_publish_and_nobody_without_tls(template):
    _, policy = the(template, "AWS::SNS::TopicPolicy")
    allow, deny = [s for e in ("Allow", "Deny") for s in policy["Properties"]["PolicyDocument"]["Statement"] if s["Effect"] == e]
    assert allow["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert allow["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
    assert deny["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_the_owner_is_subscribed_where_the_desk_names_one(template, prod):
    assert properties(template, "AWS::SNS::Subscription") == []
    (subscription,) = properties(prod, "AWS::SNS::Subscription")
    assert (subscription["Protocol"], subscription["Endpoint"]) == ("email", "owner@example.com")


def test_the_dashboard_shows_every_alarm(template):
    _, dashboard = the(template, "AWS::CloudWatch::Dashboard")
    body = text(dashboard["Properties"]["DashboardBody"])
    assert [name for name in of_type(template, "AWS::CloudWatch::Alarm") if f"<{name}.Arn>" not in body] == []
