"""The cloud's cron expressions and the desk's own calendar say the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickless.settings import TRADING_ORDER, ScheduleSection
from tickless.types import Tick

MONDAY = datetime(2024, 6, 3, tzinfo=UTC)
WEEK = [MONDAY + timedelta(minutes=minute) for minute in range(7 * 24 * 60)]

schedules = st.builds(
    lambda every, hours, at: ScheduleSection(
        risk_check_every_min=every[0], rebalance_every_min=every[1], full_rebalance_hours=tuple(sorted(hours)), retrain_at=at
    ),
    every=st.sampled_from([(5, 15), (5, 30), (5, 60), (15, 15), (15, 30), (15, 60), (30, 30), (30, 60)]),
    hours=st.sets(st.integers(0, 23)),
    at=st.builds("{:02d}:{:02d}".format, st.integers(0, 23), st.integers(0, 59)),
)


def cron_field(text: str, top: int) -> set[int]:
    """The values of one cron field: ``*``, ``5``, ``1-3,7``, ``0/15``."""
    if text == "*":
        return set(range(top + 1))
    values: set[int] = set()
    for part in text.split(","):
        if "/" in part:
            start, step = map(int, part.split("/"))
            values |= set(range(start, top + 1, step))
        else:
            first, _, last = part.partition("-")
            values |= set(range(int(first), int(last or first) + 1))
    assert values <= set(range(top + 1)), text
    return values


def fires(expression: str) -> set[tuple[int, int]]:
    """Every (hour, minute) of a day at which an EventBridge cron expression that runs daily fires."""
    assert expression.startswith("cron(")
    minutes, hours, *date = expression.removeprefix("cron(").removesuffix(")").split(" ")
    assert date == ["*", "*", "?", "*"]
    return {(hour, minute) for hour in cron_field(hours, 23) for minute in cron_field(minutes, 59)}


@given(schedule=schedules)
def test_crons_fire_exactly_when_the_calendar_says(schedule: ScheduleSection) -> None:
    crons = schedule.crons()
    firing = {name: [fires(expression) for expression in expressions] for name, expressions in crons.items()}
    day = WEEK[: 24 * 60]

    assert list(crons) == [*TRADING_ORDER, "retrain"]
    for at in day:
        times = {name: sum((at.hour, at.minute) in fired for fired in firing[name]) for name in crons}
        assert set(times.values()) <= {0, 1}, "two expressions of one function fire in one minute"
        assert tuple(name for name in TRADING_ORDER if times[name]) == schedule.due_at(at)
        assert times["retrain"] == (f"{at:%H:%M}" == schedule.retrain_at)


def test_a_week_has_the_ticks_of_the_contract() -> None:
    schedule = ScheduleSection()
    due = [name for at in WEEK for name in schedule.due_at(at)]

    assert {name: due.count(name) for name in TRADING_ORDER} == {"risk_check": 672, "feature_rebalance": 308, "full_rebalance": 28}
    assert schedule.crons() == {
        "risk_check": ("cron(0/15 * * * ? *)",),
        "feature_rebalance": ("cron(0 1-5,7-11,13-17,19-23 * * ? *)", "cron(30 * * * ? *)"),
        "full_rebalance": ("cron(0 0,6,12,18 * * ? *)",),
        "retrain": ("cron(10 2 * * ? *)",),
    }


@pytest.mark.parametrize(
    ("hours", "rebalances", "fulls"),
    [((), ("cron(0 0-23 * * ? *)", "cron(30 * * * ? *)"), ()), (tuple(range(24)), ("cron(30 * * * ? *)",), 1), ((23,), 2, 1), ((0,), 2, 1)],
)
def test_schedules_without_a_kind_of_rebalance(hours: tuple[int, ...], rebalances: object, fulls: object) -> None:
    crons = ScheduleSection(full_rebalance_hours=hours).crons()

    assert crons["feature_rebalance"] == rebalances or len(crons["feature_rebalance"]) == rebalances
    assert crons["full_rebalance"] == fulls or len(crons["full_rebalance"]) == fulls


@given(schedule=schedules, minute=st.integers(0, len(WEEK) - 1))
def test_earlier_ticks_are_the_due_ones_before(schedule: ScheduleSection, minute: int) -> None:
    at = WEEK[minute]
    due = schedule.due_at(at)

    for place, name in enumerate(due):
        assert schedule.earlier_ticks(Tick(at, name)) == tuple(Tick(at, before) for before in due[:place])
    assert list(due) == sorted(due, key=TRADING_ORDER.index)


def test_the_order_of_a_full_minute() -> None:
    schedule = ScheduleSection()

    assert schedule.due_at(MONDAY) == ("risk_check", "full_rebalance")
    assert schedule.earlier_ticks(Tick(MONDAY, "full_rebalance")) == (Tick(MONDAY, "risk_check"),)
    assert schedule.earlier_ticks(Tick(MONDAY, "risk_check")) == ()


def test_a_tick_off_the_schedule_and_retraining_wait_for_nobody() -> None:
    schedule = ScheduleSection()

    assert schedule.earlier_ticks(Tick(MONDAY, "retrain")) == ()
    assert schedule.earlier_ticks(Tick(MONDAY + timedelta(minutes=7), "risk_check")) == ()


def test_any_time_zone_means_the_same_minute() -> None:
    elsewhere = datetime.fromisoformat("2024-06-03T05:30:00+05:30")

    assert ScheduleSection().due_at(elsewhere) == ScheduleSection().due_at(MONDAY)
    with pytest.raises(ValueError, match="no time zone"):
        ScheduleSection().due_at(elsewhere.replace(tzinfo=None))
