"""Alarms and the dashboard: what a person must hear of, and what they look at then."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from infra.compute import DeskFunction
from infra.settings import longest_gap, timeout_s, title
from infra.storage import Storage
from tickless.settings import Settings, Timer

NAMESPACE = "Tickless"

FIVE_MINUTES = Duration.minutes(5)


class Monitoring(Construct):
    """Every alarm of a desk, all of which publish to the alert topic, and one dashboard."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        stage: str,
        settings: Settings,
        functions: Mapping[str, DeskFunction],
        machines: Mapping[str, sfn.CfnStateMachine],
        storage: Storage,
    ) -> None:
        super().__init__(scope, construct_id)
        self._stage = stage
        self._settings = settings
        self._action = actions.SnsAction(storage.topic)
        self._alarms: list[cloudwatch.Alarm] = []
        for name, function in functions.items():
            self._watch_function(name, function)
            for timer in (timer for timer in settings.calendar.timers() if timer.function == name):
                self._watch_ticks(timer, function)
        for name, machine in machines.items():
            self._watch_machine(name, machine)
        self._watch_queue("Undelivered", storage.undelivered, "A schedule could not deliver a tick.")
        self._watch_queue("Failed", storage.failed, "A tick failed for good.")
        self._watch_desk()
        self._dashboard(functions)

    def _watch_function(self, name: str, function: DeskFunction) -> None:
        """What Lambda itself tells of a function."""
        self._count_alarm(
            f"{title(name)}Errors", function.function.metric_errors(statistic="Sum", period=FIVE_MINUTES), f"{name} raised an error."
        )
        self._count_alarm(
            f"{title(name)}Throttles", function.function.metric_throttles(statistic="Sum", period=FIVE_MINUTES), f"{name} was throttled."
        )

    def _watch_machine(self, name: str, machine: sfn.CfnStateMachine) -> None:
        """Executions that ended badly, and models whose branch did in one that went on."""
        ends = {"Failed": "failed", "TimedOut": "took too long", "Aborted": "was stopped"}
        for end, what in ends.items():
            metric = cloudwatch.Metric(
                namespace="AWS/States",
                metric_name=f"Executions{end}",
                dimensions_map={"StateMachineArn": machine.ref},
                statistic="Sum",
                period=FIVE_MINUTES,
            )
            self._count_alarm(f"{title(name)}Machine{end}", metric, f"The state machine of {name} {what}.")
        self._count_alarm(f"{title(name)}ModelFailed", self._metric("TrainingFailed", name), f"{name} could not train a model.")
        self._count_alarm(f"{title(name)}ModelDrifted", self._metric("ModelDrifted", name), f"{name}: a model in use has drifted.")
        self._count_alarm(f"{title(name)}ModelRolledBack", self._metric("ModelRolledBack", name), f"{name} went back to a former champion.")

    def _watch_ticks(self, timer: Timer, function: DeskFunction) -> None:
        """What the ticks of a timer tell: of a function that runs several strategies each is heard by itself."""
        name, prefix = timer.name, title(timer.name)
        self._count_alarm(
            f"{prefix}SettingsRefused",
            self._of_timer("SettingsRefused", timer),
            f"{name} refused a parameter; the last good one is in force.",
        )
        if function.settings.trades and "models" in function.settings.reads:
            self._count_alarm(
                f"{prefix}ModelRefused",
                self._of_timer("ModelRefused", timer),
                f"{name} could not use a champion: the other model decides alone, or the strategy's own score.",
            )
        if function.settings.trades:
            self._count_alarm(
                f"{prefix}LedgerMismatch", self._of_timer("LedgerMismatch", timer), f"{name}: the ledger and the exchange disagree."
            )
        self._missed_tick(timer, timeout_s(function.settings, self._settings.schedule))

    def _missed_tick(self, timer: Timer, timeout: int) -> None:
        """An alarm that rings when so many periods in a row hold no finished tick that one must be missing."""
        gap = longest_gap(timer, self._settings)
        period_s, periods = silence(gap, timedelta(seconds=self._settings.schedule.max_event_age_s + timeout))
        self._alarm(
            f"{title(timer.name)}MissedTick",
            self._of_timer("TickDone", timer, period=Duration.seconds(period_s)),
            f"No tick of {timer.name} was done for {periods * period_s // 60} minutes.",
            threshold=1,
            comparison=cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD,
            periods=periods,
            missing=cloudwatch.TreatMissingData.BREACHING,
        )

    def _watch_queue(self, title: str, queue: sqs.Queue, description: str) -> None:
        metric = queue.metric_approximate_number_of_messages_visible(statistic="Maximum", period=FIVE_MINUTES)
        self._count_alarm(f"{title}DeadLetters", metric, description)

    def _watch_desk(self) -> None:
        """What every risk check reports of the desk. Between two reports the last one stands."""
        self._alarm(
            "Halted",
            self._metric("Halted", "risk_check", statistic="Maximum"),
            "The desk is halted: no entries until a person resumes it.",
            missing=cloudwatch.TreatMissingData.IGNORE,
        )
        self._alarm(
            "Reducing",
            self._metric("Reducing", "risk_check", statistic="Maximum"),
            "The ledger claims what the exchange does not have: the desk only sells until they agree.",
            missing=cloudwatch.TreatMissingData.IGNORE,
        )
        self._count_alarm(
            "StopNotPlaced",
            self._metric("StopNotPlaced", "risk_check"),
            "A position is owed a stop at the exchange and has none; the desk's own check remains.",
        )
        self._count_alarm(
            "BarsUnread",
            self._metric("BarsUnread", "risk_check"),
            "The bars of a pair cannot be read: a position in it is valued at its last close, and its stop is not checked.",
        )
        drawdown_frac = self._settings.alerts.drawdown_alarm_frac
        self._alarm(
            "Drawdown",
            self._metric("DrawdownFrac", "risk_check", statistic="Maximum"),
            f"Equity is {drawdown_frac:.0%} or more below its peak.",
            threshold=drawdown_frac,
            missing=cloudwatch.TreatMissingData.IGNORE,
        )

    def _count_alarm(self, alarm_id: str, metric: cloudwatch.IMetric, description: str) -> None:
        self._alarm(alarm_id, metric, description, missing=cloudwatch.TreatMissingData.NOT_BREACHING)

    def _alarm(
        self,
        alarm_id: str,
        metric: cloudwatch.IMetric,
        description: str,
        *,
        missing: cloudwatch.TreatMissingData,
        threshold: float = 1,
        comparison: cloudwatch.ComparisonOperator = cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
        periods: int = 1,
    ) -> None:
        alarm = cloudwatch.Alarm(
            self,
            alarm_id,
            alarm_name=f"tickless-{self._stage}-{alarm_id}",
            alarm_description=description,
            metric=metric,
            threshold=threshold,
            comparison_operator=comparison,
            evaluation_periods=periods,
            treat_missing_data=missing,
        )
        alarm.add_alarm_action(self._action)
        self._alarms.append(alarm)

    def _metric(
        self, name: str, function: str, strategy: str = "", *, statistic: str = "Sum", period: Duration = FIVE_MINUTES
    ) -> cloudwatch.Metric:
        return cloudwatch.Metric(
            namespace=NAMESPACE,
            metric_name=name,
            dimensions_map={"service": function, "stage": self._stage} | ({"strategy": strategy} if strategy else {}),
            statistic=statistic,
            period=period,
        )

    def _of_timer(self, name: str, timer: Timer, *, period: Duration = FIVE_MINUTES) -> cloudwatch.Metric:
        return self._metric(name, timer.function, timer.strategy, period=period)

    def _dashboard(self, functions: Mapping[str, DeskFunction]) -> None:
        def of_desk(name: str, statistic: str = "Maximum") -> cloudwatch.IMetric:
            return self._metric(name, "risk_check", statistic=statistic)

        def of_each(name: str, trades: bool) -> list[cloudwatch.IMetric]:
            timers = self._settings.calendar.timers()
            return [self._of_timer(name, timer) for timer in timers if functions[timer.function].settings.trades or not trades]

        cloudwatch.Dashboard(
            self,
            "Dashboard",
            dashboard_name=f"tickless-{self._stage}",
            default_interval=Duration.days(1),
            widgets=[
                [cloudwatch.AlarmStatusWidget(title="Alarms", alarms=self._alarms, width=24, height=5)],
                [
                    _graph("Equity", [of_desk("Equity", "Average")]),
                    _graph("Drawdown", [of_desk("DrawdownFrac")]),
                    _graph("Halted, reducing", [of_desk("Halted"), of_desk("Reducing")]),
                ],
                [
                    _graph("Ticks done", of_each("TickDone", trades=False)),
                    _graph("Orders sent", of_each("OrdersSent", trades=True)),
                    _graph("Orders rejected", of_each("OrderRejected", trades=True)),
                ],
                [
                    _graph("Duration", [f.function.metric_duration(statistic="Maximum") for f in functions.values()]),
                    _graph("Errors", [f.function.metric_errors(statistic="Sum") for f in functions.values()]),
                    _graph("Fallback instead of a model", of_each("ModelFallback", trades=True)),
                ],
            ],
        )


def silence(gap: timedelta, lateness: timedelta) -> tuple[int, int]:
    """How long no tick may be done before one counts as missed: (period in seconds, number of periods).

    The longest gap of the schedule, and what a tick may be late, but at most half the shortest wait so that a single missed
    tick is noticed before the next one is done. CloudWatch looks at windows of up to a day in periods below an hour, and of
    up to seven days in periods of an hour; short periods, because it waits for two or three more of them before it believes
    that data are missing.
    """
    slack = min(lateness, gap / 2)
    if gap + slack >= timedelta(hours=24):
        period = timedelta(hours=1)
    else:
        period = timedelta(minutes=1) if gap <= timedelta(hours=1) else timedelta(minutes=5)
    return int(period.total_seconds()), -(-(gap + slack) // period)


def _graph(title: str, metrics: list[cloudwatch.IMetric]) -> cloudwatch.GraphWidget:
    return cloudwatch.GraphWidget(title=title, left=metrics, width=8, height=6)
