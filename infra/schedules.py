"""EventBridge Scheduler: wakes each function, or starts its machine, at the times the desk file says, and hands it the scheduled time."""

from __future__ import annotations

from collections.abc import Mapping

from aws_cdk import Aws, Duration, RemovalPolicy, TimeZone
from aws_cdk import aws_iam as iam
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_scheduler_targets as targets
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from infra.compute import DeskFunction
from infra.settings import title
from tickless.settings import Settings, Timer

EVENT = {"scheduled_time": "<aws.scheduler.scheduled-time>"}
"""A tick's identity is its scheduled time: an execution id would differ between two attempts. A scan's also holds its strategy."""


class Schedules(Construct):
    """One schedule for each cron expression of each of the desk's timers."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        stage: str,
        settings: Settings,
        functions: Mapping[str, DeskFunction],
        machines: Mapping[str, sfn.CfnStateMachine],
        undelivered: sqs.Queue,
    ) -> None:
        super().__init__(scope, construct_id)
        self._functions, self._machines = functions, machines
        self._undelivered = undelivered
        self._event_age = Duration.seconds(settings.schedule.max_event_age_s)
        self._group = scheduler.ScheduleGroup(self, "Group", schedule_group_name=f"tickless-{stage}", removal_policy=RemovalPolicy.DESTROY)
        timers = settings.calendar.timers()
        roles = {name: self._role(name) for name in dict.fromkeys(timer.function for timer in timers)}
        for timer in timers:
            self._schedule(timer, roles[timer.function])

    def _schedule(self, timer: Timer, role: iam.IRole) -> None:
        event = EVENT | ({"strategy": timer.strategy} if timer.strategy else {})
        for number, cron in enumerate(timer.crons, start=1):
            scheduler.Schedule(
                self,
                f"{title(timer.name)}{number}",
                schedule_name=f"{timer.name}-{number}",
                description=f"{timer.name}: {cron} UTC",
                schedule=scheduler.ScheduleExpression.expression(cron, TimeZone.ETC_UTC),
                schedule_group=self._group,
                time_window=scheduler.TimeWindow.off(),
                target=self._target(timer.function, event, role),
            )

    def _target(self, name: str, event: Mapping[str, str], role: iam.IRole) -> scheduler.IScheduleTarget:
        """The machine of a function that has one, else the function itself."""
        how = targets.ScheduleTargetBaseProps(
            input=scheduler.ScheduleTargetInput.from_object(event),
            retry_attempts=1,
            max_event_age=self._event_age,
            dead_letter_queue=self._undelivered,
            role=role,
        )
        machine = self._machines.get(name)
        if machine is None:
            return targets.LambdaInvoke(self._functions[name].function, **how._values)
        found = sfn.StateMachine.from_state_machine_arn(self, f"{title(name)}Machine", machine.ref)
        return targets.StepFunctionsStartExecution(found, **how._values)

    def _role(self, name: str) -> iam.IRole:
        """A role that may wake this one target; left to itself the target would add every version of a function (``:*``)."""
        role = iam.Role(
            self,
            f"{title(name)}Role",
            description=f"Lets the schedules of {name} wake it",
            assumed_by=iam.ServicePrincipal(
                "scheduler.amazonaws.com",
                conditions={
                    "StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID, "aws:SourceArn": self._group.schedule_group_arn},
                },
            ),
        )
        if name in self._machines:
            start, arn = "states:StartExecution", self._machines[name].ref
        else:
            start, arn = "lambda:InvokeFunction", self._functions[name].function.function_arn
        role.add_to_policy(iam.PolicyStatement(sid="Wake", actions=[start], resources=[arn]))
        role.add_to_policy(iam.PolicyStatement(sid="DeadLetters", actions=["sqs:SendMessage"], resources=[self._undelivered.queue_arn]))
        return role.without_policy_updates()
