"""Funding is booked once, in whatever order and however late an exchange tells of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from tickless.execution.funding import book_funding
from tickless.types import AccountSnapshot, DeskState, Funding, evolve

D = Decimal
START = datetime(2024, 6, 1, tzinfo=UTC)
WINDOW = timedelta(days=7)


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def looked(hours: float, payments: list[Funding]) -> AccountSnapshot:
    """What an exchange tells that keeps a week."""
    since = at(hours) - WINDOW
    return AccountSnapshot(at(hours), {}, {}, funding=tuple(p for p in payments if p.paid_at > since), funding_since=since)


def desk(cash: str = "1000") -> DeskState:
    return DeskState(cash=D(cash), peak_equity=D(cash))


def test_what_was_paid_before_the_first_look_is_in_the_balance_already():
    before = Funding("1", at(-5), "BTC/USDT:USDT", D("-3"))
    first = book_funding(desk(), looked(0, [before]))
    assert (first.cash, first.funding.total) == (D(1000), 0)
    second = book_funding(first, looked(1, [before, Funding("2", at(0.5), "BTC/USDT:USDT", D("-0.25"))]))
    assert (second.cash, second.peak_equity, second.funding.total) == (D("999.75"), D(1000), D("-0.25"))


def test_payments_of_one_moment_that_are_told_one_after_the_other_count_each():
    pays = [Funding(str(n), at(8), f"{base}/USDT:USDT", D("1.5")) for n, base in enumerate(("BTC", "ETH", "SOL"))]
    state = book_funding(desk(), looked(7, []))
    for told in (pays[2:], pays[:1] + pays[2:], pays):
        state = book_funding(state, looked(8, told))
    assert (state.cash, state.funding.total) == (D("1004.5"), D("4.5"))
    assert book_funding(state, looked(8, pays)) is state, "nothing is due"


def test_where_the_exchange_tells_of_none_nothing_is_booked():
    state = desk()
    assert book_funding(state, AccountSnapshot(at(0), {}, {})) is state


def test_a_desk_that_was_away_for_longer_than_is_told_books_what_came_since_its_last_tick():
    old, new = Funding("1", at(-1), "A/USDT:USDT", D(2)), Funding("2", at(24 * 8), "A/USDT:USDT", D(5))
    state = evolve(book_funding(desk(), looked(0, [old])), last_tick_at=at(24 * 4))
    back = book_funding(state, looked(24 * 9, [Funding("x", at(24 * 3), "A/USDT:USDT", D(7)), new]))
    assert back.cash == D(1005), "what was paid before its last tick is booked"


@given(
    st.lists(st.tuples(st.integers(1, 24 * 20), st.decimals(-50, 50, places=4), st.integers(0, 8)), max_size=40),
    st.lists(st.integers(1, 12), min_size=1, max_size=80),
)
def test_cash_is_that_of_all_payments_once_they_are_told(pays, steps):
    """Told up to eight hours late, at ticks up to twelve hours apart."""
    payments = [(Funding(str(n), at(hour), "A/USDT:USDT", amount), hour + late) for n, (hour, amount, late) in enumerate(pays)]
    state, now = book_funding(desk(), looked(0, [])), 0.0
    for step in steps:
        now += step
        state = evolve(book_funding(state, looked(now, [pay for pay, told in payments if told <= now])), last_tick_at=at(now))
    told = sum((pay.amount for pay, told in payments if told <= now), D(0))
    assert state.cash == D(1000) + told
    assert state.funding.total == told
