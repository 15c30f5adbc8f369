"""Schedule expressions against a brute-force reading of the same rules."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickless.errors import InputError
from tickless.localcloud import fire_times, parse_cron

MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
DAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def fired(expression: str, start: str, end: str) -> list[str]:
    return [time.strftime("%m-%d %H:%M") for time in fire_times(expression, at(start), at(end))]


def test_quarter_hours_are_half_open():
    assert fired("cron(0/15 * * * ? *)", "2024-06-01", "2024-06-01T01:00") == ["06-01 00:00", "06-01 00:15", "06-01 00:30", "06-01 00:45"]


def test_lists_and_ranges_of_hours():
    assert fired("cron(0 1-3,22 * * ? *)", "2024-06-01", "2024-06-02") == ["06-01 01:00", "06-01 02:00", "06-01 03:00", "06-01 22:00"]


def test_weekdays_count_from_sunday():
    # 2 June 2024 was a Sunday.
    assert fired("cron(0 0 ? * 1 *)", "2024-06-01", "2024-06-10") == ["06-02 00:00", "06-09 00:00"]
    assert fired("cron(0 0 ? * MON-TUE *)", "2024-06-01", "2024-06-10") == ["06-03 00:00", "06-04 00:00"]


def test_day_of_month_that_a_month_lacks_does_not_fire():
    assert fired("cron(0 12 31 * ? *)", "2024-04-01", "2024-07-01") == ["05-31 12:00"]


def test_year_and_month_names():
    assert fired("cron(5 4 29 FEB ? 2024)", "2023-01-01", "2026-01-01") == ["02-29 04:05"]


def test_start_inside_the_day_leaves_out_what_is_past():
    assert fired("cron(30 * * * ? *)", "2024-06-01T22:31", "2024-06-02T00:31") == ["06-01 23:30", "06-02 00:30"]


def test_rate_counts_from_the_start():
    assert fired("rate(90 minutes)", "2024-06-01T00:10", "2024-06-01T04:00") == ["06-01 00:10", "06-01 01:40", "06-01 03:10"]
    assert len(fired("rate(1 hour)", "2024-06-01", "2024-06-02")) == 24


def test_one_time_schedule():
    assert fired("at(2024-06-01T10:00:00)", "2024-06-01", "2024-06-02") == ["06-01 10:00"]
    assert fired("at(2024-06-02T00:00:00)", "2024-06-01", "2024-06-02") == []


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("cron(0 0 * * ?)", "must be cron"),
        ("every minute", "must be cron"),
        ("cron(60 * * * ? *)", "minutes '60': must be 0 to 59"),
        ("cron(0 0 L * ? *)", "day-of-month 'L': L, W and # are not supported"),
        ("cron(0 0 ? * 2#1 *)", "not supported"),
        ("cron(0 0 * * * *)", "exactly one of day-of-month and day-of-week"),
        ("cron(0 0 ? * ? *)", "exactly one of day-of-month and day-of-week"),
        ("cron(? 0 * * ? *)", "stands for day-of-month or day-of-week only"),
        ("cron(0 5-3 * * ? *)", "a range must rise"),
        ("cron(0/0 * * * ? *)", "a step is a whole number"),
        ("cron(0 0 1 FOO ? *)", "month 'FOO': not a value"),
        ("rate(0 minutes)", "must be rate"),
        ("rate(5 fortnights)", "must be rate"),
        ("at(yesterday)", "must be at"),
        ("at(2024-13-01T00:00:00)", "month must be in 1..12"),
    ],
)
def test_refuses_what_it_cannot_follow(expression: str, message: str):
    with pytest.raises(InputError, match="schedule") as caught:
        list(fire_times(expression, at("2024-01-01"), at("2024-01-02")))
    assert message in str(caught.value)


def test_refuses_naive_times():
    with pytest.raises(ValueError, match="no time zone"):
        list(fire_times("rate(1 hour)", datetime(2024, 1, 1), at("2024-01-02")))  # noqa: DTZ001


def part(low: int, high: int, names: list[str] | None = None) -> st.SearchStrategy[tuple[str, frozenset[int]]]:
    """One comma-separated part of a field, with the values that the user guide gives it."""

    def spell(value: int, by_name: bool) -> str:
        return names[value - low] if names and by_name else str(value)

    value = st.integers(low, high)
    single = st.builds(lambda v, by_name: (spell(v, by_name), frozenset({v})), value, st.booleans())
    span = st.builds(
        lambda a, b, by_name: (f"{spell(min(a, b), by_name)}-{spell(max(a, b), by_name)}", frozenset(range(min(a, b), max(a, b) + 1))),
        value, value, st.booleans(),
    )  # fmt: skip
    step = st.builds(
        lambda v, s: (f"{v}/{s}", frozenset(x for x in range(low, high + 1) if x >= v and (x - v) % s == 0)), value, st.integers(1, 70)
    )
    every = st.builds(lambda s: (f"*/{s}", frozenset(x for x in range(low, high + 1) if (x - low) % s == 0)), st.integers(1, 70))
    return st.one_of(st.just(("*", frozenset(range(low, high + 1)))), single, span, step, every)


def whole(low: int, high: int, names: list[str] | None = None) -> st.SearchStrategy[tuple[str, frozenset[int]]]:
    parts = st.lists(part(low, high, names), min_size=1, max_size=3)
    return parts.map(lambda found: (",".join(text for text, _ in found), frozenset().union(*(values for _, values in found))))


@settings(max_examples=60, deadline=None)
@given(
    minutes=whole(0, 59), hours=whole(0, 23), days=whole(1, 31), months=whole(1, 12, MONTHS), weekdays=whole(1, 7, DAYS),
    by_weekday=st.booleans(), day=st.integers(0, 394), minute=st.integers(0, 1439), length=st.integers(1, 3000),
)  # fmt: skip
def test_fires_exactly_when_a_minute_by_minute_reading_says(minutes, hours, days, months, weekdays, by_weekday, day, minute, length):
    day_text, weekday_text = ("?", weekdays[0]) if by_weekday else (days[0], "?")
    expression = f"cron({minutes[0]} {hours[0]} {day_text} {months[0]} {weekday_text} *)"
    start = at("2023-12-01") + timedelta(days=day, minutes=minute, seconds=length % 60)
    end = start + timedelta(minutes=length)
    minute = start.replace(second=0, microsecond=0)
    expected = []
    while minute < end:
        on_day = (minute.weekday() + 1) % 7 + 1 in weekdays[1] if by_weekday else minute.day in days[1]
        if minute >= start and minute.minute in minutes[1] and minute.hour in hours[1] and minute.month in months[1] and on_day:
            expected.append(minute)
        minute += timedelta(minutes=1)
    assert list(fire_times(expression, start, end)) == expected


def test_parsed_fields_are_plain_values():
    cron = parse_cron("cron(10 2 * * ? *)")
    assert (cron.minutes, cron.hours, cron.weekdays) == ((10,), (2,), None)
    assert cron.days == frozenset(range(1, 32))
