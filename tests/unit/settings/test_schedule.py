"""The cloud's cron expressions and the desk's own calendar say the same."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickless.settings import SCAN, TRADING_ORDER, Calendar, ScheduleSection, Timer, effect_rank, load_desk
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


scans = st.dictionaries(st.sampled_from(["channel", "crossover", "dca"]), st.sampled_from([1, 5, 15]))
calendars = st.builds(
    lambda schedule, rebalanced, every, trains: Calendar(schedule, rebalanced, tuple(sorted(every.items())), trains),
    schedule=schedules,
    rebalanced=st.sampled_from(["", "rotation"]),
    every=scans,
    trains=st.booleans(),
)
ROTATION = Calendar(ScheduleSection(), "rotation", trains=True)
CROSSOVER = Calendar(ScheduleSection(), "", (("crossover", 15),))
BOTH = Calendar(ScheduleSection(), "rotation", (("crossover", 15),), trains=True)
CHECK = Timer("risk_check", "", ("cron(0/15 * * * ? *)",))
REBALANCES = (
    Timer("feature_rebalance", "", ("cron(0 1-5,7-11,13-17,19-23 * * ? *)", "cron(30 * * * ? *)")),
    Timer("full_rebalance", "", ("cron(0 0,6,12,18 * * ? *)",)),
    Timer("retrain", "", ("cron(10 2 * * ? *)",)),
)
SCANS = Timer("scan", "crossover", ("cron(0/15 * * * ? *)",))


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


@given(calendar=calendars)
def test_crons_fire_exactly_when_the_calendar_says(calendar: Calendar) -> None:
    timers = calendar.timers()
    firing = {timer[:2]: [fires(expression) for expression in timer.crons] for timer in timers}

    assert len(firing) == len(timers), "two timers wake the same ticks"
    for at in WEEK[: 24 * 60]:
        times = {name: sum((at.hour, at.minute) in fired for fired in crons) for name, crons in firing.items()}
        assert set(times.values()) <= {0, 1}, "two expressions of one timer fire in one minute"
        trading = sorted(
            (name for name in times if times[name] and name[0] in TRADING_ORDER), key=lambda name: (effect_rank(name[0]), name[1])
        )
        assert tuple(Tick(at, *name) for name in trading) == calendar.due_at(at)
        assert times.get(("retrain", ""), 0) == (calendar.trains and f"{at:%H:%M}" == calendar.schedule.retrain_at)


@given(calendar=calendars)
def test_every_strategy_and_only_those_have_their_timers(calendar: Calendar) -> None:
    timers = calendar.timers()

    assert all(timer.crons for timer in timers)
    assert [timer.strategy for timer in timers if timer.function == SCAN] == [name for name, _ in calendar.scans]
    assert {timer.strategy for timer in timers if timer.function != SCAN} == {""}
    assert {timer.function for timer in timers} - {"retrain"} == {tick.function for at in WEEK[: 24 * 60] for tick in calendar.due_at(at)}
    assert ("retrain" in {timer.function for timer in timers}) is calendar.trains
    assert not calendar.rebalanced or timers[0].function == "risk_check"
    if not calendar.rebalanced:
        assert {timer.function for timer in timers} - {SCAN, "retrain"} == {"risk_check"}


@pytest.mark.parametrize(
    ("calendar", "timers"),
    [(ROTATION, (CHECK, *REBALANCES)), (CROSSOVER, (CHECK, SCANS)), (BOTH, (CHECK, *REBALANCES, SCANS))],
)
def test_the_timers_of_a_desk(calendar: Calendar, timers: tuple[Timer, ...]) -> None:
    assert calendar.timers() == timers
    assert [timer.name for timer in timers if timer.strategy] == ["scan-crossover"] * bool(calendar.scans)


@pytest.mark.parametrize(
    ("calendar", "ticks"),
    [
        (ROTATION, {"risk_check": 672, "feature_rebalance": 308, "full_rebalance": 28}),
        (CROSSOVER, {"risk_check": 672, "scan-crossover": 672}),
        (BOTH, {"risk_check": 672, "feature_rebalance": 308, "full_rebalance": 28, "scan-crossover": 672}),
        (Calendar(ScheduleSection(), "", (("a", 1), ("b", 5))), {"risk_check": 672, "scan-a": 10_080, "scan-b": 2016}),
    ],
)
def test_a_week_has_the_ticks_of_the_contract(calendar: Calendar, ticks: dict[str, int]) -> None:
    assert Counter(tick.name for at in WEEK for tick in calendar.due_at(at)) == ticks


@pytest.mark.parametrize(
    ("hours", "rebalances", "fulls"),
    [((), ("cron(0 0-23 * * ? *)", "cron(30 * * * ? *)"), ()), (tuple(range(24)), ("cron(30 * * * ? *)",), 1), ((23,), 2, 1), ((0,), 2, 1)],
)
def test_schedules_without_a_kind_of_rebalance(hours: tuple[int, ...], rebalances: object, fulls: object) -> None:
    calendar = Calendar(ScheduleSection(full_rebalance_hours=hours), "rotation")
    crons = {"full_rebalance": ()} | {timer.function: timer.crons for timer in calendar.timers()}

    assert crons["feature_rebalance"] == rebalances or len(crons["feature_rebalance"]) == rebalances
    assert crons["full_rebalance"] == fulls or len(crons["full_rebalance"]) == fulls


@given(calendar=calendars, minute=st.integers(0, len(WEEK) - 1))
def test_earlier_ticks_are_the_due_ones_before(calendar: Calendar, minute: int) -> None:
    due = calendar.due_at(WEEK[minute])

    for place, tick in enumerate(due):
        assert calendar.earlier_ticks(tick) == due[:place]
    assert list(due) == sorted(due, key=lambda tick: (effect_rank(tick.function), tick.strategy))


def test_the_order_of_a_full_minute() -> None:
    check, full, scan = Tick(MONDAY, "risk_check"), Tick(MONDAY, "full_rebalance"), Tick(MONDAY, "scan", "crossover")

    assert BOTH.due_at(MONDAY) == (check, full, scan)
    assert BOTH.earlier_ticks(scan) == (check, full)
    assert BOTH.earlier_ticks(full) == (check,)
    assert BOTH.earlier_ticks(check) == ()


def test_a_tick_off_the_schedule_and_retraining_wait_for_nobody() -> None:
    assert BOTH.earlier_ticks(Tick(MONDAY, "retrain")) == ()
    assert BOTH.earlier_ticks(Tick(MONDAY + timedelta(minutes=7), "risk_check")) == ()
    assert BOTH.earlier_ticks(Tick(MONDAY, "scan", "dca")) == ()


def test_the_grid_of_a_tick_is_that_of_its_own_timer() -> None:
    calendar = Calendar(ScheduleSection(risk_check_every_min=30, rebalance_every_min=60), "rotation", (("crossover", 5),))

    assert calendar.interval_min(Tick(MONDAY, "scan", "crossover")) == 5
    assert [calendar.interval_min(Tick(MONDAY, name)) for name in ("risk_check", "feature_rebalance", "full_rebalance")] == [30] * 3


def test_any_time_zone_means_the_same_minute() -> None:
    elsewhere = datetime.fromisoformat("2024-06-03T05:30:00+05:30")

    assert BOTH.due_at(elsewhere) == BOTH.due_at(MONDAY)
    with pytest.raises(ValueError, match="no time zone"):
        BOTH.due_at(elsewhere.replace(tzinfo=None))


def test_the_built_in_desk_has_the_calendar_of_the_contract() -> None:
    assert load_desk("rotation").calendar == ROTATION
