"""Compile experience: once every outcome of a day is known, turn the traces of its ticks into one object that is never changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from tickless.bars import Panel
from tickless.learn.experience import EVIDENCE, PLAIN_HORIZON_H, ExperienceDay, known_after, make_day
from tickless.learn.experience_events import mark_events
from tickless.learn.label_spec import reach_bars
from tickless.learn.scope import Scope
from tickless.learn.spec import ModelSpec, desk_specs
from tickless.ports import ExperienceStore, Trace
from tickless.settings import Settings
from tickless.types import Tick

LOOK_BACK_DAYS = 14
"""How far nights that failed are made up for."""


def compile_experience(settings: Settings, panel: Panel, trace: Trace, store: ExperienceStore, at: datetime) -> list[str]:
    """Store every day whose outcomes are known at ``at`` and that is not stored yet, of each of the desk's strategies.

    ``panel`` holds the universe's bars of those days and up to ``at``. Goes back over days that are stored, and over days without traces as
    long as an earlier one is stored: a night may have died between two days, and a desk may have had a day off. Returns what was stored, as
    ``<strategy>/<day>``. A second call stores nothing. Raises RetryableError.
    """
    stored: list[str] = []
    specs, _ = desk_specs(settings)
    for strategy in sorted(settings.strategy):
        owned = [spec for spec in specs if spec.strategy == strategy]
        known = set(store.days(strategy))
        reach_h = [reach_bars(spec.label, spec.horizon_h, panel.step_ms) * panel.step_ms / 3_600_000 for spec in owned]
        for day in _complete_days(at, max([PLAIN_HORIZON_H, *reach_h]), panel.step_ms):
            if day in known:
                continue
            made = _day(settings, panel, trace, strategy, day, owned)
            if not made.ticks:
                if not any(earlier < day for earlier in known):
                    break
            elif store.write(made):
                stored.append(f"{strategy}/{day}")
    return stored


def _complete_days(at: datetime, horizon_h: float, step_ms: int) -> Iterator[date]:
    """Days whose outcomes are known at ``at``, latest first."""
    latest = (at - known_after(horizon_h, step_ms)).date()
    for back in range(LOOK_BACK_DAYS):
        yield latest - timedelta(days=back)


def _day(settings: Settings, panel: Panel, trace: Trace, strategy: str, day: date, specs: Sequence[ModelSpec]) -> ExperienceDay:
    """The day as its traces tell it, without ticks where there are none."""
    horizons = {spec.name: spec.horizon_h for spec in specs}
    made = make_day(strategy, day, _traces(settings, trace, strategy, day), panel, horizons)
    return mark_events(made, panel, specs, settings.execution, Scope.of(settings))


def _traces(settings: Settings, trace: Trace, strategy: str, day: date) -> Iterator[tuple[datetime, Mapping[str, Any]]]:
    """The traces of the strategy's ticks that hold evidence, in order of time."""
    midnight = datetime.combine(day, time(), UTC)
    for minute in range(24 * 60):
        for tick in settings.calendar.due_at(midnight + timedelta(minutes=minute)):
            found = trace.read(tick) if _runs(tick, strategy, settings) else None
            if found is not None and EVIDENCE in found:
                yield tick.scheduled_at, found


def _runs(tick: Tick, strategy: str, settings: Settings) -> bool:
    """Whether a tick decides for the strategy: its own scan, or a rebalance where it is the one that is rebalanced."""
    if tick.strategy:
        return tick.strategy == strategy
    return tick.function.endswith("_rebalance") and strategy == settings.calendar.rebalanced
