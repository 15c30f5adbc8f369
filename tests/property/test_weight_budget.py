"""The shared request budget: no minute sees more than the limit, whatever functions do and when they die."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickless.adapters.weight_budget import (
    MAX_BLOCKS,
    BudgetState,
    MemoryWeightBudget,
    UnlimitedWeight,
    WeightLimits,
    WeightPurse,
    grant_block,
    limit_at,
    limit_state,
    parse_retry_after,
    settle_block,
)
from tickless.errors import RateLimitedError
from tickless.ports import Priority
from tickless.types import from_ms, to_ms

T0 = datetime(2024, 6, 1, tzinfo=UTC)
T0_MS = to_ms(T0)
MINUTE_MS = 60_000
FIVE_MINUTES_MS = 300_000


def later(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def refusal(call: Callable[..., object], *arguments: object) -> RateLimitedError | None:
    try:
        call(*arguments)
    except RateLimitedError as error:
        return error
    return None


@dataclass
class Spent:
    """The requests that really went out, as (ms, weight, priority)."""

    rows: list[tuple[int, int, Priority]] = field(default_factory=list)

    def busiest_minute(self) -> int:
        """The largest weight in any [t, t + 60 s)."""
        starts = [at for at, _, _ in self.rows]
        return max((sum(w for at, w, _ in self.rows if start <= at < start + MINUTE_MS) for start in starts), default=0)


@dataclass
class Function:
    """A function of the desk in the middle of a tick; ``drop`` is its death, without giving back."""

    budget: MemoryWeightBudget
    block: int
    purse: WeightPurse = field(init=False)

    def __post_init__(self) -> None:
        self.drop()

    def drop(self) -> None:
        self.purse = WeightPurse(self.budget, self.block)


steps = st.lists(
    st.tuples(
        st.integers(0, 3),  # which function
        st.sampled_from(["spend", "spend", "spend", "exit", "close", "die", "429"]),
        st.integers(1, 7),  # weight
        st.one_of(st.integers(0, 2_000), st.integers(0, 90_000)),  # time that passes first, ms
    ),
    max_size=120,
)


@given(steps, st.integers(5, 60), st.integers(1, 20), st.sampled_from([0.0, 1.0, 30.0]))
def test_no_minute_sees_more_than_the_limit(plan, per_min: int, block: int, hold_s: float) -> None:
    limits = WeightLimits(per_min, reserve_frac=0.2, hold_s=hold_s)
    budget = MemoryWeightBudget(limits)
    functions = [Function(budget, block) for _ in range(4)]
    spent, now, blocked_until = Spent(), T0_MS, 0
    for n, action, weight, passed in plan:
        now += passed
        function, at = functions[n], from_ms(now)
        if action in ("spend", "exit"):
            priority = Priority.EXIT if action == "exit" else Priority.ORDINARY
            refused = refusal(function.purse.spend, weight, at, priority)
            if refused is None:
                spent.rows.append((now, weight, priority))
            else:
                assert refused.retry_at > at
        elif action == "close":
            function.purse.close(at)
        elif action == "die":
            function.drop()
        else:
            blocked_until = to_ms(function.purse.limited(at, 7.0).retry_at)
            assert blocked_until >= now + 7000
    assert spent.busiest_minute() <= per_min
    ordinary = Spent([row for row in spent.rows if row[2] is Priority.ORDINARY])
    assert ordinary.busiest_minute() <= per_min * 0.8


@given(steps, st.integers(5, 60))
def test_what_is_granted_at_once_never_exceeds_the_limit_and_entries_stay_few(plan, per_min: int) -> None:
    limits, state, now = WeightLimits(per_min, reserve_frac=0.0, hold_s=10.0), BudgetState(), T0_MS
    grants = []
    for n, (_, action, weight, passed) in enumerate(plan):
        now += passed
        if action == "close" and grants:
            grant = grants.pop()
            state = settle_block(state, grant, min(weight, grant.weight), now)
        elif action != "close":
            request = (state, limits, str(n), weight, now, Priority.EXIT, 1)
            refused = refusal(grant_block, *request)
            if refused is None:
                state, grant = grant_block(*request)
                grants.append(grant)
            else:
                assert state.used(now) == per_min
                assert state.used(to_ms(refused.retry_at)) < per_min
        assert state.used(now) <= per_min
        assert len(state.blocks) <= MAX_BLOCKS


@given(st.lists(st.tuples(st.integers(0, 400_000), st.integers(1, 400), st.booleans()), min_size=1, max_size=12))
def test_nobody_is_granted_anything_before_a_pause_or_ban_ends(limitings) -> None:
    budget = MemoryWeightBudget(WeightLimits(100))
    now, ends = T0_MS, 0
    for passed, pause_s, banned in limitings:
        now += passed
        ends = max(ends, now + pause_s * 1000)
        assert to_ms(budget.limited(from_ms(now), pause_s, banned=banned)) == ends
        for at in {now, ends - 1}:
            with pytest.raises(RateLimitedError) as refused:
                budget.take(1, from_ms(at), Priority.EXIT)
            assert to_ms(refused.value.retry_at) == ends
    assert budget.take(1, from_ms(ends), Priority.EXIT).weight == 1


@given(st.integers(1, 12), st.integers(0, 2_000_000))
def test_the_recovery_is_exact(times: int, after_ms: int) -> None:
    """A fifth off for each 429; from five quiet minutes on a tenth of the capacity more for every whole minute."""
    limits, state, level, now = WeightLimits(1000), BudgetState(), 1000, T0_MS
    for _ in range(times):
        state = limit_state(state, limits, now, 1.0, banned=False)
        level = max(100, level * 4 // 5)
        assert limit_at(state, limits, now) == level
        now += 1000
    quiet_minutes = (after_ms - FIVE_MINUTES_MS) // MINUTE_MS
    assert limit_at(state, limits, now + after_ms) == min(1000, level + 100 * max(0, quiet_minutes))


def test_the_recovery_minute_by_minute() -> None:
    limits = WeightLimits(1000)
    state = limit_state(BudgetState(), limits, T0_MS, 30.0, banned=False)
    ends = T0_MS + 30_000
    limit = [limit_at(state, limits, ends + minute * MINUTE_MS) for minute in range(9)]
    assert limit == [800, 800, 800, 800, 800, 800, 900, 1000, 1000]
    assert limit_at(state, limits, ends + 6 * MINUTE_MS - 1) == 800


def test_a_second_429_during_the_recovery_cuts_what_had_come_back() -> None:
    limits = WeightLimits(1000)
    state = limit_state(BudgetState(), limits, T0_MS, 1.0, banned=False)
    again = T0_MS + 1000 + 6 * MINUTE_MS
    assert limit_at(limit_state(state, limits, again, 1.0, banned=False), limits, again) == 720


def test_answers_that_were_under_way_are_the_same_429() -> None:
    limits = WeightLimits(1000)
    state = BudgetState()
    for ms in (0, 40, 90):
        state = limit_state(state, limits, T0_MS + ms, 5.0, banned=False)
    assert limit_at(state, limits, T0_MS) == 800
    assert state.blocked_until_ms == T0_MS + 5090


@pytest.mark.parametrize(("banned", "pause_s"), [(False, 60), (True, 120)])
def test_without_retry_after_a_429_pauses_a_minute_and_a_ban_two(banned: bool, pause_s: int) -> None:
    assert MemoryWeightBudget(WeightLimits(10)).limited(T0, None, banned=banned) == later(pause_s)


def test_a_pause_of_years_is_cut_to_three_days() -> None:
    assert MemoryWeightBudget(WeightLimits(10)).limited(T0, 1e12) == T0 + timedelta(days=3)


def test_exits_use_the_last_reserve_and_rebalances_leave_it() -> None:
    budget = MemoryWeightBudget(WeightLimits(30, reserve_frac=0.2))
    assert budget.take(100, T0).weight == 24
    with pytest.raises(RateLimitedError, match="24 of 24 request weight are spent"):
        budget.take(1, T0)
    assert budget.take(100, T0, Priority.EXIT).weight == 6
    with pytest.raises(RateLimitedError, match="30 of 30 request weight are spent; ask again at 2024-06-01T00:01:30Z"):
        budget.take(1, T0, Priority.EXIT)


def test_what_was_not_used_can_be_taken_at_once_and_what_was_comes_back_in_a_minute() -> None:
    budget = MemoryWeightBudget(WeightLimits(30, reserve_frac=0.0))
    grant = budget.take(30, T0)
    budget.give_back(grant, 12, later(5))
    assert budget.take(30, later(5)).weight == 18
    with pytest.raises(RateLimitedError):
        budget.take(1, later(64.999))
    assert budget.take(30, later(65)).weight == 12


def test_a_block_that_is_not_given_back_counts_from_its_expiry() -> None:
    budget = MemoryWeightBudget(WeightLimits(30, hold_s=20.0))
    assert budget.take(24, T0).expires_at == later(20)
    with pytest.raises(RateLimitedError) as refused:
        budget.take(1, later(79.999))
    assert refused.value.retry_at == later(80)
    assert budget.take(30, later(80)).weight == 24


def test_a_function_whose_write_took_its_time_still_sees_what_counted_when_it_asked() -> None:
    budget = MemoryWeightBudget(WeightLimits(30, reserve_frac=0.0, hold_s=0.0))
    budget.take(30, T0)
    budget.take(1, later(60))
    with pytest.raises(RateLimitedError):
        budget.take(1, later(59.999))


def test_what_cannot_be_asked_for() -> None:
    budget = MemoryWeightBudget(WeightLimits(30))
    with pytest.raises(ValueError, match="weight 0"):
        budget.take(0, T0)
    with pytest.raises(RateLimitedError):
        budget.take(40, T0, least=31)
    grant = budget.take(5, T0)
    with pytest.raises(ValueError, match="used weight 6: must be 0 to 5"):
        budget.give_back(grant, 6, T0)


def test_an_exit_spends_what_others_left_and_never_the_other_way_round() -> None:
    budget = MemoryWeightBudget(WeightLimits(10, reserve_frac=0.5))
    purse = WeightPurse(budget, 5)
    purse.spend(2, T0)
    purse.spend(3, T0, Priority.EXIT)
    assert budget.state.used(T0_MS) == 5
    purse.spend(1, T0, Priority.EXIT)
    assert budget.state.used(T0_MS) == 10
    with pytest.raises(RateLimitedError):
        purse.spend(1, T0)
    purse.close(T0)
    assert budget.state.used(T0_MS) == 6


def test_a_purse_that_was_told_to_wait_spends_nothing_of_what_it_holds() -> None:
    budget = MemoryWeightBudget(WeightLimits(30))
    purse = WeightPurse(budget, 10)
    purse.spend(1, T0)
    told = purse.limited(later(1), 9.0, banned=True)
    assert told.retry_at == later(10)
    with pytest.raises(RateLimitedError, match="told us to wait"):
        purse.spend(1, later(9.999), Priority.EXIT)
    purse.spend(1, later(10), Priority.EXIT)


def test_an_expired_block_is_not_spent() -> None:
    budget = MemoryWeightBudget(WeightLimits(30, reserve_frac=0.0, hold_s=10.0))
    purse = WeightPurse(budget, 20)
    purse.spend(1, T0)
    purse.spend(1, later(10))
    assert budget.state.used(to_ms(later(10))) == 30


def test_the_unlimited_budget_grants_everything() -> None:
    budget = UnlimitedWeight()
    grants = [budget.take(10**9, T0, Priority.ORDINARY) for _ in range(3)]
    assert {grant.weight for grant in grants} == {10**9}
    budget.give_back(grants[0], 0, T0)
    assert budget.limited(T0, 3.0) == later(3)


def retry_afters() -> Iterator[tuple[str | None, float | None]]:
    yield from ((None, None), ("17", 17.0), ("0.5", 0.5), ("-3", 0.0), ("soon", None), ("nan", None), ("inf", None), ("", None))
    yield "Sat, 01 Jun 2024 00:00:42 GMT", 42.0
    yield "Fri, 31 May 2024 00:00:00 GMT", 0.0


@pytest.mark.parametrize(("text", "seconds"), list(retry_afters()))
def test_retry_after_in_both_forms(text: str | None, seconds: float | None) -> None:
    assert parse_retry_after(text, T0) == seconds
