"""Which tick may run, and when: not too old, on the desk's grid, and one at a time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from tickless.errors import EventError, LeaseHeldError, SettingsError, StaleTickError
from tickless.ports import Fence, Ledger, Ports
from tickless.runs.parameters import schedule_section
from tickless.settings import ScheduleSection, Settings
from tickless.types import Tick, iso

_EARLY_S = 60
"""How far ahead of the clock a tick may be."""
_LEASE_POLL_S = 1.0


def schedule_of(texts: Mapping[str, str], ledger: Ledger) -> ScheduleSection:
    """The schedule before the lease is taken: as the parameter says, else its last good value, else the default."""
    try:
        return schedule_section(texts.get("schedule", ""))
    except SettingsError:
        stored = ledger.load()
        if stored is None or "schedule" not in stored.settings:
            return ScheduleSection()
        return schedule_section(stored.settings["schedule"], "last good")


def refuse_off_grid(tick: Tick, settings: Settings) -> None:
    """Raise EventError for a tick of a strategy that the desk does not run, or between two bars that it decides on."""
    if tick.strategy and tick.strategy not in settings.strategy:
        raise EventError(f"event of {tick.function}: strategy {tick.strategy!r} is not one of this desk's: {', '.join(settings.strategy)}")
    every = settings.calendar.interval_min(tick)
    if (tick.scheduled_at.hour * 60 + tick.scheduled_at.minute) % every:
        raise EventError(f"event of {tick.function}: scheduled_time {iso(tick.scheduled_at)} is not a multiple of {every} minutes")


def refuse_stale(tick: Tick, ports: Ports, schedule: ScheduleSection) -> None:
    """Raise StaleTickError for a tick that is older than the schedule allows, or lies in the future."""
    age = (ports.clock.now() - tick.scheduled_at).total_seconds()
    if -_EARLY_S <= age <= schedule.max_event_age_s:
        return
    ports.metrics.count("StaleTick")
    if age < 0:
        raise StaleTickError(f"tick {tick.id}: scheduled {-age:.0f} s in the future")
    raise StaleTickError(f"tick {tick.id}: {age:.0f} s old, at most schedule.max_event_age_s = {schedule.max_event_age_s} s")


def take_lease(tick: Tick, ports: Ports, schedule: ScheduleSection) -> Fence:
    """The desk's lease; waits for another tick to finish, for a bounded time."""
    deadline = ports.clock.now() + timedelta(seconds=schedule.lease_wait_s)
    while True:
        now = ports.clock.now()
        try:
            return ports.ledger.acquire(tick.id, now, schedule.lease_ttl_s, ports.invocation)
        except LeaseHeldError:
            if now >= deadline:
                raise
            ports.clock.sleep(_LEASE_POLL_S)
