"""EventBridge Scheduler: wakes each function at the times the desk file says, and hands it the scheduled time."""

from __future__ import annotations

from collections.abc import Mapping

from aws_cdk import Aws, Duration, RemovalPolicy, TimeZone
from aws_cdk import aws_iam as iam
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_scheduler_targets as targets
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.compute import DeskFunction
from tickless.settings import Settings

EVENT = {"scheduled_time": "<aws.scheduler.scheduled-time>"}
"""A tick's identity is its scheduled time: an execution id would differ between two attempts."""


class Schedules(Construct):
    """One schedule for each cron expression of the desk."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        stage: str,
        settings: Settings,
        functions: Mapping[str, DeskFunction],
        undelivered: sqs.Queue,
    ) -> None:
        super().__init__(scope, construct_id)
        self._undelivered = undelivered
        self._event_age = Duration.seconds(settings.schedule.max_event_age_s)
        self._group = scheduler.ScheduleGroup(self, "Group", schedule_group_name=f"tickless-{stage}", removal_policy=RemovalPolicy.DESTROY)
        for name, crons in settings.schedule.crons().items():
            if crons:
                self._schedule(name, crons, functions[name])

    def _schedule(self, name: str, crons: tuple[str, ...], function: DeskFunction) -> None:
        title = "".join(word.capitalize() for word in name.split("_"))
        role = self._role(title, function)
        for number, cron in enumerate(crons, start=1):
            scheduler.Schedule(
                self,
                f"{title}{number}",
                schedule_name=f"{name}-{number}",
                description=f"{name}: {cron} UTC",
                schedule=scheduler.ScheduleExpression.expression(cron, TimeZone.ETC_UTC),
                schedule_group=self._group,
                time_window=scheduler.TimeWindow.off(),
                target=targets.LambdaInvoke(
                    function.function,
                    input=scheduler.ScheduleTargetInput.from_object(EVENT),
                    retry_attempts=1,
                    max_event_age=self._event_age,
                    dead_letter_queue=self._undelivered,
                    role=role,
                ),
            )

    def _role(self, title: str, function: DeskFunction) -> iam.IRole:
        """A role that may invoke this one function; left to itself the target would add every version of it (``:*``)."""
        role = iam.Role(
            self,
            f"{title}Role",
            description=f"Lets the schedules of {function.settings.name} invoke it",
            assumed_by=iam.ServicePrincipal(
                "scheduler.amazonaws.com",
                conditions={
                    "StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID, "aws:SourceArn": self._group.schedule_group_arn},
                },
            ),
        )
        role.add_to_policy(iam.PolicyStatement(sid="Invoke", actions=["lambda:InvokeFunction"], resources=[function.function.function_arn]))
        role.add_to_policy(iam.PolicyStatement(sid="DeadLetters", actions=["sqs:SendMessage"], resources=[self._undelivered.queue_arn]))
        return role.without_policy_updates()
