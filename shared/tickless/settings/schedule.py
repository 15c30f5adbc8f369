"""When each function runs, and in what order ticks of one minute take effect.

The CDK app takes its cron expressions from here, so that the cloud's schedules and the desk's own calendar cannot differ.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal, Self

from pydantic import Field, model_validator

from tickless.settings.sections import Section
from tickless.types import Tick, utc

TRADING_ORDER: tuple[str, ...] = ("risk_check", "feature_rebalance", "full_rebalance")
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

    def due_at(self, at: datetime) -> tuple[str, ...]:
        """The trading functions scheduled for the minute ``at``, in the order they take effect."""
        at = utc(at)
        minute = at.hour * 60 + at.minute
        full = at.minute == 0 and at.hour in self.full_rebalance_hours
        due = {
            "risk_check": minute % self.risk_check_every_min == 0,
            "feature_rebalance": minute % self.rebalance_every_min == 0 and not full,
            "full_rebalance": full,
        }
        return tuple(name for name in TRADING_ORDER if due[name])

    def earlier_ticks(self, tick: Tick) -> tuple[Tick, ...]:
        """The trading ticks of the same minute that take effect before ``tick``."""
        names = self.due_at(tick.scheduled_at)
        before = names[: names.index(tick.function)] if tick.function in names else ()
        return tuple(Tick(tick.scheduled_at, name) for name in before)

    def crons(self) -> dict[str, tuple[str, ...]]:
        """EventBridge Scheduler cron expressions (UTC) by function: together they fire exactly when ``due_at`` says, and ``retrain_at``."""
        full = list(self.full_rebalance_hours)
        ordinary_hours = [hour for hour in range(24) if hour not in full]
        within_hour = [minute for minute in range(0, 60, self.rebalance_every_min) if minute]
        rebalance = []
        if ordinary_hours:
            rebalance.append(f"cron(0 {_ranges(ordinary_hours)} * * ? *)")
        if within_hour:
            rebalance.append(f"cron({','.join(map(str, within_hour))} * * * ? *)")
        hour, minute = self.retrain_at.split(":")
        return {
            "risk_check": (f"cron(0/{self.risk_check_every_min} * * * ? *)",),
            "feature_rebalance": tuple(rebalance),
            "full_rebalance": (f"cron(0 {','.join(map(str, full))} * * ? *)",) if full else (),
            "retrain": (f"cron({int(minute)} {int(hour)} * * ? *)",),
        }


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
