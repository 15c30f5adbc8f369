"""EventBridge Scheduler on a simulated clock: reads the stack's schedules back and fires functions and state machines as AWS would.

Delivery is at least once. Scheduler hands the event to Lambda asynchronously, so there are two kinds of retry: Scheduler's, when the
event cannot be delivered at all (its policy and dead-letter queue are the schedule's), and Lambda's, when the function fails
(its policy is the function's event-invoke config: by default two retries, after one and two minutes). A state machine that was started
has its own retries; where it fails, nobody starts it again.
"""

from __future__ import annotations

import heapq
import json
import random
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol

from tickless.errors import InputError
from tickless.localcloud.cloud import LocalCloud
from tickless.localcloud.cron import fire_times
from tickless.localcloud.runtime import InvocationResult
from tickless.settings import effect_rank
from tickless.types import iso, utc

DELIVERY_DELAY_S = 1.0
SHUFFLED_DELAY_S = 30.0
DUPLICATE_DELAY_S = 45.0
LAMBDA_BACKOFF_S = (60, 120)
"""Lambda waits one minute before its first retry of an asynchronous invocation, two before the second."""
SCHEDULER_BACKOFF_S = 60
"""Doubles with each attempt. AWS says that it backs off exponentially, not from where."""


class SettableClock(Protocol):
    """A clock that the scheduler moves."""

    def now(self) -> datetime:
        """Now, UTC."""
        ...

    def set(self, at: datetime) -> None:
        """Make it ``at``."""
        ...


@dataclass(frozen=True)
class Schedule:
    """A schedule as the scheduler service holds it."""

    name: str
    arn: str
    expression: str
    target_arn: str
    function: str
    """The short name of the function, or of the state machine."""
    strategy: str
    """Of a scan's event; else empty."""
    input: str
    max_retries: int
    max_age_s: int
    dead_letter_arn: str | None
    enabled: bool
    start: datetime | None = None
    end: datetime | None = None

    @property
    def is_machine(self) -> bool:
        """Whether it starts a state machine."""
        return self.target_arn.split(":")[2] == "states"


@dataclass(frozen=True)
class Firing:
    """One delivery, and what came of it."""

    schedule: str
    function: str
    scheduled_at: datetime
    delivered_at: datetime
    attempt: int
    """1 for the first; counts Scheduler's and Lambda's attempts alike."""
    duplicate: bool
    result: InvocationResult | None
    """None where the event could not be delivered."""
    dead: bool
    """Whether this was the last attempt and it failed."""


@dataclass(frozen=True, order=True)
class _Delivery:
    at: datetime
    rank: tuple[int, str, int]
    """Breaks ties: the desk's order within a minute, then the order of creation."""
    schedule: Schedule = field(compare=False)
    scheduled_at: datetime = field(compare=False)
    undelivered: int = field(default=0, compare=False)
    failed: int = field(default=0, compare=False)
    duplicate: bool = field(default=False, compare=False)
    event: Any = field(default=None, compare=False)
    """Set once Lambda has taken it: its retries carry the same event."""
    request_id: str = field(default="", compare=False)
    """Lambda's, which its retries keep; empty before the first attempt."""


class LocalScheduler:
    """Fires every schedule of a local cloud over [start, end).

    Args:
        cloud: where the schedules and the functions are.
        clock: moved to each delivery's time; never moved back.
        start, end: scheduled times in [start, end) fire.
        order: ``schedule`` delivers the ticks of one minute in the desk's order; ``shuffled`` in any order, up to half a minute late.
        duplicates: the share of events that are delivered a second time, up to 45 s later.
        seed: of the shuffling, the duplicates and the execution ids.
        without: functions whose schedules are switched off.
        before: called with an event's scheduled time before it is delivered: what people do to the desk while it runs.

    """

    def __init__(
        self,
        cloud: LocalCloud,
        clock: SettableClock,
        start: datetime,
        end: datetime,
        *,
        order: Literal["schedule", "shuffled"] = "schedule",
        duplicates: float = 0.0,
        seed: int = 0,
        without: Collection[str] = (),
        before: Callable[[datetime], None] = lambda _: None,
    ) -> None:
        self._cloud, self._clock, self._before = cloud, clock, before
        self._order, self._duplicates = order, duplicates
        self._random = random.Random(seed)
        self._created = 0
        schedules = [schedule for schedule in read_schedules(cloud) if schedule.function not in without]
        self._queue = self._plan(schedules, utc(start), utc(end))
        self.planned = len(self._queue)
        """Deliveries that are certain, duplicates included; retries come on top."""

    def run(self, on_fired: Callable[[Firing], None] = lambda _: None) -> int:
        """Fire everything; calls ``on_fired`` after each delivery; returns how many there were."""
        count = 0
        for firing in self.fire():
            count += 1
            on_fired(firing)
        return count

    def fire(self) -> Iterator[Firing]:
        """Deliver one event after the other, in time's order, and yield what came of each."""
        while self._queue:
            delivery = heapq.heappop(self._queue)
            now = max(delivery.at, self._clock.now())
            self._clock.set(now)
            self._before(delivery.scheduled_at)
            yield self._deliver(delivery, now)

    def _plan(self, schedules: Sequence[Schedule], start: datetime, end: datetime) -> list[_Delivery]:
        queue: list[_Delivery] = []
        for schedule in schedules:
            if not schedule.enabled:
                continue
            since = max(start, schedule.start or start)
            until = min(end, schedule.end or end)
            queue.extend(self._delivery(schedule, at) for at in fire_times(schedule.expression, since, until))
        # Drawn in time's order, so that one more schedule does not move every later draw of another.
        for delivery in sorted(queue):
            if self._duplicates and self._random.random() < self._duplicates:
                late = delivery.at + timedelta(seconds=self._random.uniform(0.0, DUPLICATE_DELAY_S))
                queue.append(replace(delivery, at=late, rank=self._rank(delivery.schedule), duplicate=True))
        heapq.heapify(queue)
        return queue

    def _delay(self) -> float:
        return DELIVERY_DELAY_S if self._order == "schedule" else self._random.uniform(DELIVERY_DELAY_S, SHUFFLED_DELAY_S)

    def _delivery(self, schedule: Schedule, scheduled_at: datetime) -> _Delivery:
        at = scheduled_at + timedelta(seconds=self._delay())
        return _Delivery(at, self._rank(schedule), schedule, scheduled_at)

    def _rank(self, schedule: Schedule) -> tuple[int, str, int]:
        self._created += 1
        return (effect_rank(schedule.function), schedule.strategy, self._created)

    def _deliver(self, delivery: _Delivery, now: datetime) -> Firing:
        event = delivery.event if delivery.event is not None else self._event(delivery)
        try:
            self._cloud.service_of(delivery.schedule.target_arn)
        except InputError:
            return self._not_delivered(delivery, event, now)
        if delivery.schedule.is_machine:
            result = self._cloud.execute(delivery.schedule.target_arn, event)
            return self._firing(delivery, now, result, dead=result.error is not None)
        result = self._cloud.invoke(delivery.schedule.target_arn, event, retry_of=delivery.request_id)
        dead = False
        if result.error is not None:
            dead = not self._retry_failed(replace(delivery, event=event, request_id=result.request_id), now)
            if dead:
                self._cloud.give_up(event, result, delivery.failed + 1)
        return self._firing(delivery, now, result, dead=dead)

    def _retry_failed(self, delivery: _Delivery, now: datetime) -> bool:
        """Whether Lambda will try again."""
        policy = self._cloud.async_policy(delivery.schedule.target_arn)
        wait = LAMBDA_BACKOFF_S[min(delivery.failed, len(LAMBDA_BACKOFF_S) - 1)]
        at = now + timedelta(seconds=wait)
        if delivery.failed >= policy.max_retries or at - delivery.scheduled_at > timedelta(seconds=policy.max_age_s):
            return False
        heapq.heappush(self._queue, replace(delivery, at=at, failed=delivery.failed + 1))
        return True

    def _not_delivered(self, delivery: _Delivery, event: Any, now: datetime) -> Firing:
        schedule = delivery.schedule
        at = now + timedelta(seconds=SCHEDULER_BACKOFF_S * 2**delivery.undelivered)
        if delivery.undelivered < schedule.max_retries and at - delivery.scheduled_at <= timedelta(seconds=schedule.max_age_s):
            heapq.heappush(self._queue, replace(delivery, at=at, undelivered=delivery.undelivered + 1))
            return self._firing(delivery, now, None, dead=False)
        if schedule.dead_letter_arn:
            attributes = {
                "ERROR_CODE": "ResourceNotFoundException",
                "ERROR_MESSAGE": f"Target not found: {schedule.target_arn}",
                "SCHEDULE_ARN": schedule.arn,
                "TARGET_ARN": schedule.target_arn,
                "RETRY_ATTEMPTS": str(delivery.undelivered),
            }
            self._cloud.send(schedule.dead_letter_arn, json.dumps(event), attributes)
        return self._firing(delivery, now, None, dead=True)

    def _event(self, delivery: _Delivery) -> Any:
        """The schedule's input with AWS's context attributes filled in."""
        values = {
            "schedule-arn": delivery.schedule.arn,
            "scheduled-time": iso(delivery.scheduled_at.replace(microsecond=0)),
            "execution-id": str(uuid.UUID(int=self._random.getrandbits(128), version=4)),
            "attempt-number": str(delivery.undelivered + 1),
        }
        text = delivery.schedule.input
        for name, value in values.items():
            text = text.replace(f"<aws.scheduler.{name}>", value)
        return json.loads(text)

    def _firing(self, delivery: _Delivery, now: datetime, result: InvocationResult | None, *, dead: bool) -> Firing:
        return Firing(
            schedule=delivery.schedule.name,
            function=delivery.schedule.function,
            scheduled_at=delivery.scheduled_at,
            delivered_at=now,
            attempt=1 + delivery.undelivered + delivery.failed,
            duplicate=delivery.duplicate,
            result=result,
            dead=dead,
        )


def read_schedules(cloud: LocalCloud) -> list[Schedule]:
    """Every schedule of the local cloud, by name. Raises InputError for one that cannot be simulated."""
    client = cloud.client("scheduler")
    listed = [item for page in client.get_paginator("list_schedules").paginate() for item in page["Schedules"]]
    listed.sort(key=lambda item: (item["GroupName"], item["Name"]))
    return [_schedule(cloud, client.get_schedule(GroupName=item["GroupName"], Name=item["Name"])) for item in listed]


def _schedule(cloud: LocalCloud, content: Mapping[str, Any]) -> Schedule:
    name, target = content["Name"], content["Target"]
    if content.get("ScheduleExpressionTimezone", "UTC") not in ("UTC", "Etc/UTC"):
        raise InputError(f"schedule {name}: time zone {content['ScheduleExpressionTimezone']!r}, must be UTC")
    if content["FlexibleTimeWindow"]["Mode"] != "OFF":
        raise InputError(f"schedule {name}: a flexible time window cannot be simulated")
    if target["Arn"].split(":")[2] not in ("lambda", "states"):
        raise InputError(f"schedule {name}: target {target['Arn']!r} is neither a Lambda function nor a state machine")
    try:
        event = json.loads(target.get("Input", "{}"))
    except ValueError as error:
        raise InputError(f"schedule {name}: input {target['Input']!r} is not JSON") from error
    return Schedule(
        name=name,
        arn=content["Arn"],
        expression=content["ScheduleExpression"],
        target_arn=target["Arn"],
        function=cloud.service_of(target["Arn"]),
        strategy=str(event.get("strategy", "")) if isinstance(event, Mapping) else "",
        input=target.get("Input", "{}"),
        max_retries=int(target["RetryPolicy"]["MaximumRetryAttempts"]),
        max_age_s=int(target["RetryPolicy"]["MaximumEventAgeInSeconds"]),
        dead_letter_arn=target.get("DeadLetterConfig", {}).get("Arn"),
        enabled=content["State"] == "ENABLED",
        start=_time(content.get("StartDate")),
        end=_time(content.get("EndDate")),
    )


def _time(value: datetime | None) -> datetime | None:
    return value.astimezone(UTC) if value is not None else None
