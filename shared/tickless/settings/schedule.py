"""When each function runs, and in what order ticks of one minute take effect.

The CDK app takes its cron expressions from here, so that the cloud's schedules and the desk's own calendar cannot differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Literal, NamedTuple, Self

from pydantic import Field, model_validator

from tickless.settings.sections import Section
from tickless.types import Tick, utc

SCAN = "scan"
"""The function that runs one strategy a tick."""

TRADING_ORDER: tuple[str, ...] = ("risk_check", "feature_rebalance", "full_rebalance", SCAN)
"""Trading functions in the order in which ticks of one minute take effect. ``retrain`` takes no lease and has no place here."""


def effect_rank(function: str) -> int:
    """The place of a function among the ticks of one minute; what does not trade comes last."""
    return TRADING_ORDER.index(function) if function in TRADING_ORDER else len(TRADING_ORDER)


class ScheduleSection(Section):
    """When each function runs (UTC). The CDK app makes its cron expressions from this section."""

    risk_check_every_min: Literal[5, 15, 30] = 15
    rebalance_every_min: Literal[15, 30, 60] = 30
    full_rebalance_hours: tuple[int, ...] = (0, 6, 12, 18)
    retrain_at: str = Field(default="02:10", pattern=r"^([01]\d|2[0-3]):[0-5]\d$")
    max_event_age_s: int = Field(default=600, ge=60, le=3540)
    """A tick that arrives later than this is refused."""
    lease_ttl_s: int = Field(default=240, ge=10, le=900)
    """A lease that was abandoned for so long may be taken over. Must exceed the longest trading function."""
    lease_wait_s: int = Field(default=45, ge=0, le=300)
    """How long a tick waits for the lease before it fails and is retried."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        hours = self.full_rebalance_hours
        if any(not 0 <= hour <= 23 for hour in hours) or list(hours) != sorted(set(hours)):
            raise ValueError(f"full_rebalance_hours: {list(hours)} must be rising hours of the day (0 to 23)")
        if self.rebalance_every_min % self.risk_check_every_min:
            every = self.risk_check_every_min
            raise ValueError(f"rebalance_every_min: {self.rebalance_every_min} must be a multiple of risk_check_every_min ({every})")
        return self


class Timer(NamedTuple):
    """What wakes one function, for one strategy where the function runs one."""

    function: str
    strategy: str
    """Empty for a function that runs no single strategy."""
    crons: tuple[str, ...]
    """EventBridge Scheduler cron expressions (UTC)."""

    @property
    def name(self) -> str:
        """As the names of its ticks: ``<function>``, or ``<function>-<strategy>``."""
        return f"{self.function}-{self.strategy}" if self.strategy else self.function


@dataclass(frozen=True)
class Calendar:
    """When the ticks of one desk are due: its schedule, and the strategies that it runs."""

    schedule: ScheduleSection
    rebalanced: str = ""
    """The strategy that is rebalanced; empty where the desk runs signals alone."""
    scans: tuple[tuple[str, int], ...] = ()
    """(strategy, minutes between two scans), sorted by name."""
    trains: bool = False
    """Whether the desk has a nightly training: where a strategy names a model, and where one is rebalanced, whose experience is kept."""

    def due_at(self, at: datetime) -> tuple[Tick, ...]:
        """The trading ticks scheduled for the minute ``at``, in the order they take effect."""
        at = utc(at)
        return tuple(Tick(at, function, strategy) for function, strategy in self._by_minute.get(at.hour * 60 + at.minute, ()))

    def earlier_ticks(self, tick: Tick) -> tuple[Tick, ...]:
        """The trading ticks of the same minute that take effect before ``tick``."""
        due = self.due_at(tick.scheduled_at)
        return due[: due.index(tick)] if tick in due else ()

    def interval_min(self, tick: Tick) -> int:
        """The grid, in minutes, on which a trading tick must lie: of its own scans, else of the risk checks."""
        return dict(self.scans).get(tick.strategy, self.schedule.risk_check_every_min)

    def timers(self) -> tuple[Timer, ...]:
        """What wakes the desk's functions: together they fire exactly when ``due_at`` says, and at ``retrain_at``."""
        schedule = self.schedule
        timers = [Timer("risk_check", "", (f"cron(0/{schedule.risk_check_every_min} * * * ? *)",))]
        if self.rebalanced:
            full = list(schedule.full_rebalance_hours)
            timers += [
                Timer("feature_rebalance", "", _rebalance_crons(full, schedule.rebalance_every_min)),
                Timer("full_rebalance", "", (f"cron(0 {','.join(map(str, full))} * * ? *)",) if full else ()),
            ]
        if self.trains:
            hour, minute = schedule.retrain_at.split(":")
            timers.append(Timer("retrain", "", (f"cron({int(minute)} {int(hour)} * * ? *)",)))
        timers += [Timer(SCAN, name, (f"cron(0/{every} * * * ? *)",)) for name, every in self.scans]
        return tuple(timer for timer in timers if timer.crons)

    @cached_property
    def _by_minute(self) -> dict[int, tuple[tuple[str, str], ...]]:
        """(function, strategy) of what is due at each minute of a day."""
        days = {minute: self._due_in(minute) for minute in range(24 * 60)}
        return {minute: due for minute, due in days.items() if due}

    def _due_in(self, minute: int) -> tuple[tuple[str, str], ...]:
        schedule = self.schedule
        full = minute % 60 == 0 and minute // 60 in schedule.full_rebalance_hours
        due = {
            "risk_check": minute % schedule.risk_check_every_min == 0,
            "feature_rebalance": bool(self.rebalanced) and minute % schedule.rebalance_every_min == 0 and not full,
            "full_rebalance": bool(self.rebalanced) and full,
        }
        scans = [(SCAN, name) for name, every in self.scans if minute % every == 0]
        return (*((name, "") for name in TRADING_ORDER if due.get(name)), *scans)


def _rebalance_crons(full_hours: list[int], every_min: int) -> tuple[str, ...]:
    """Ordinary rebalances: on the hour where no full one is, and within the hour."""
    ordinary_hours = [hour for hour in range(24) if hour not in full_hours]
    within_hour = [minute for minute in range(0, 60, every_min) if minute]
    crons = []
    if ordinary_hours:
        crons.append(f"cron(0 {_ranges(ordinary_hours)} * * ? *)")
    if within_hour:
        crons.append(f"cron({','.join(map(str, within_hour))} * * * ? *)")
    return tuple(crons)


def _ranges(hours: list[int]) -> str:
    """Hours as cron ranges: [1, 2, 3, 7] → ``1-3,7``."""
    parts: list[str] = []
    start = previous = hours[0]
    for hour in [*hours[1:], -1]:
        if hour == previous + 1:
            previous = hour
            continue
        parts.append(str(start) if start == previous else f"{start}-{previous}")
        start = previous = hour
    return ",".join(parts)
