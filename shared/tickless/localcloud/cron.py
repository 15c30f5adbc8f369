"""EventBridge Scheduler's schedule expressions: ``cron(min hour day month weekday year)``, ``rate(n unit)`` and ``at(time)``.

Source: EventBridge Scheduler user guide, "Schedule types". Weekdays count from 1 = SUN to 7 = SAT.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from tickless.errors import InputError
from tickless.types import utc

_MONTH_NAMES = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAY_NAMES = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_MONTHS = {name: number for number, name in enumerate(_MONTH_NAMES, 1)}
_WEEKDAYS = {name: number for number, name in enumerate(_WEEKDAY_NAMES, 1)}
_RATE_UNITS = {"minute": 60, "minutes": 60, "hour": 3600, "hours": 3600, "day": 86_400, "days": 86_400}


@dataclass(frozen=True)
class _Field:
    name: str
    low: int
    high: int
    names: Mapping[str, int]


_FIELDS = (
    _Field("minutes", 0, 59, {}),
    _Field("hours", 0, 23, {}),
    _Field("day-of-month", 1, 31, {}),
    _Field("month", 1, 12, _MONTHS),
    _Field("day-of-week", 1, 7, _WEEKDAYS),
    _Field("year", 1970, 2199, {}),
)


@dataclass(frozen=True)
class Cron:
    """A parsed ``cron()`` expression: the values each field allows, in order. ``None`` stands for ``?``."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int] | None
    months: frozenset[int]
    weekdays: frozenset[int] | None
    years: frozenset[int]

    def fires_on(self, day: date) -> bool:
        """Whether the schedule fires on a day at all."""
        if day.year not in self.years or day.month not in self.months:
            return False
        if self.days is not None:
            return day.day in self.days
        assert self.weekdays is not None
        return day.isoweekday() % 7 + 1 in self.weekdays


def parse_cron(expression: str) -> Cron:
    """Parse ``cron(...)``; raises InputError naming the expression, the field and the value."""
    match = re.fullmatch(r"cron\((.*)\)", expression.strip())
    parts = match.group(1).split() if match else []
    if len(parts) != len(_FIELDS):
        raise InputError(f"schedule {expression!r}: must be cron(minutes hours day-of-month month day-of-week year)")
    values = [_parse_field(expression, field, text.upper()) for field, text in zip(_FIELDS, parts, strict=True)]
    minutes, hours, days, months, weekdays, years = values
    if (days is None) == (weekdays is None):
        raise InputError(f"schedule {expression!r}: exactly one of day-of-month and day-of-week must be '?'")
    if minutes is None or hours is None or months is None or years is None:
        raise InputError(f"schedule {expression!r}: '?' stands for day-of-month or day-of-week only")
    return Cron(tuple(sorted(minutes)), tuple(sorted(hours)), days, months, weekdays, years)


def fire_times(expression: str, start: datetime, end: datetime) -> Iterator[datetime]:
    """Every time in [start, end) at which a schedule in UTC fires, rising.

    A ``rate`` counts from ``start``, as a schedule's does from the moment it is created. Raises InputError for an expression
    that is not valid, ValueError for a naive time.
    """
    start, end = utc(start), utc(end)
    if expression.startswith("rate("):
        return _rate_times(_parse_rate(expression), start, end)
    if expression.startswith("at("):
        at = _parse_at(expression)
        return iter((at,) if start <= at < end else ())
    return _cron_times(parse_cron(expression), start, end)


def _cron_times(cron: Cron, start: datetime, end: datetime) -> Iterator[datetime]:
    day = start.date()
    while day <= end.date():
        if cron.fires_on(day):
            for hour in cron.hours:
                for minute in cron.minutes:
                    at = datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC)
                    if start <= at < end:
                        yield at
        day += timedelta(days=1)


def _rate_times(seconds: int, start: datetime, end: datetime) -> Iterator[datetime]:
    at = start
    while at < end:
        yield at
        at += timedelta(seconds=seconds)


def _parse_rate(expression: str) -> int:
    match = re.fullmatch(r"rate\((\d+) (\w+)\)", expression.strip())
    if not match or match.group(2) not in _RATE_UNITS or int(match.group(1)) < 1:
        raise InputError(f"schedule {expression!r}: must be rate(n minutes|hours|days) with n of at least 1")
    return int(match.group(1)) * _RATE_UNITS[match.group(2)]


def _parse_at(expression: str) -> datetime:
    match = re.fullmatch(r"at\((\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\)", expression.strip())
    if not match:
        raise InputError(f"schedule {expression!r}: must be at(yyyy-mm-ddThh:mm:ss)")
    try:
        return datetime.fromisoformat(match.group(1)).replace(tzinfo=UTC)
    except ValueError as error:
        raise InputError(f"schedule {expression!r}: {error}") from error


def _parse_field(expression: str, field: _Field, text: str) -> frozenset[int] | None:
    if text == "?":
        return None
    values: set[int] = set()
    for part in text.split(","):
        values.update(_parse_part(expression, field, part))
    return frozenset(values)


def _parse_part(expression: str, field: _Field, part: str) -> range:
    span, slash, step_text = part.partition("/")
    if slash and (not step_text.isdigit() or int(step_text) < 1):
        raise _refusal(expression, field, part, "a step is a whole number of at least 1")
    first, dash, last = span.partition("-")
    low = field.low if span == "*" else _parse_value(expression, field, first)
    high = low
    if dash:
        high = _parse_value(expression, field, last)
    elif slash or span == "*":
        high = field.high
    if high < low:
        raise _refusal(expression, field, part, "a range must rise")
    return range(low, high + 1, int(step_text) if slash else 1)


def _parse_value(expression: str, field: _Field, text: str) -> int:
    if text in field.names:
        return field.names[text]
    if not text.isdigit():
        hint = "L, W and # are not supported here" if re.search("[LW#]", text) else "not a value of this field"
        raise _refusal(expression, field, text, hint)
    value = int(text)
    if not field.low <= value <= field.high:
        raise _refusal(expression, field, text, f"must be {field.low} to {field.high}")
    return value


def _refusal(expression: str, field: _Field, value: str, why: str) -> InputError:
    return InputError(f"schedule {expression!r}: {field.name} {value!r}: {why}")
