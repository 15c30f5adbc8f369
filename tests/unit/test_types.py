"""Times in and out, and the small arithmetic of the frozen values."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickless.types import (
    EPOCH,
    DeskState,
    Order,
    OrderStatus,
    OrderType,
    Position,
    Side,
    Tick,
    from_ms,
    iso,
    parse_time,
    to_ms,
    utc,
)

AT = datetime(2024, 6, 1, tzinfo=UTC)
ORDER = Order("t-1", AT, "rotation", "BTC/USDT", Side.BUY, OrderType.MARKET, Decimal(2), "entry")
POSITION = Position("BTC/USDT", "rotation", "entry", AT, bought_qty=Decimal(4), bought_value=Decimal(400))


@given(st.integers(-62_135_596_800_000, 253_402_300_799_999))
def test_milliseconds_and_iso_times_round_trip(ms: int) -> None:
    at = from_ms(ms)

    assert to_ms(at) == ms
    assert parse_time(iso(at)) == at
    assert at.tzinfo is UTC


@given(st.integers(0, 4_000_000_000_000), st.integers(-14, 14))
def test_a_time_means_the_same_in_every_zone(ms: int, hours: int) -> None:
    at = from_ms(ms)
    elsewhere = at.astimezone(timezone(timedelta(hours=hours)))

    assert utc(elsewhere) == at
    assert iso(elsewhere) == iso(at)
    assert to_ms(elsewhere) == to_ms(at)


def test_iso_has_milliseconds_only_where_there_are_any() -> None:
    assert iso(AT) == "2024-06-01T00:00:00Z"
    assert iso(AT - timedelta(milliseconds=1)) == "2024-05-31T23:59:59.999Z"
    assert to_ms(EPOCH) == 0


@pytest.mark.parametrize(
    "text", ["2024-06-01T00:00:00", "2024-06-01", "yesterday", "", "9999-12-31T23:59:59-14:00", "2016-12-31T23:59:60Z"]
)
def test_a_time_without_a_zone_or_outside_the_calendar_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - datetime's own message for what is no time at all
        parse_time(text)


def test_ticks_sort_by_time_and_their_ids_too() -> None:
    ticks = [Tick(AT + timedelta(minutes=minutes), "risk_check") for minutes in (30, 0, 15)]

    assert [tick.id for tick in sorted(ticks)] == sorted(tick.id for tick in ticks)
    assert Tick(AT, "risk_check").id == "2024-06-01T00:00:00Z#risk_check"


@pytest.mark.parametrize("status", list(OrderStatus))
def test_only_open_orders_have_something_left(status: OrderStatus) -> None:
    order = replace(ORDER, status=status, filled_qty=Decimal("0.5"))

    assert status.is_final == (status in {OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.EXPIRED, OrderStatus.REJECTED})
    assert order.open_qty == (0 if status.is_final else Decimal("1.5"))


def test_a_position_knows_what_it_holds_and_paid() -> None:
    sold = replace(POSITION, sold_qty=Decimal(1), sold_value=Decimal(120))

    assert sold.qty == 3
    assert sold.entry_price == 100
    with pytest.raises(FrozenInstanceError):
        sold.fees = Decimal(1)  # type: ignore[misc]


def test_the_state_replaces_and_drops_positions_and_orders() -> None:
    state = DeskState(cash=Decimal(1), peak_equity=Decimal(1))
    held = state.with_position(POSITION).with_order(ORDER)
    gone = held.with_position(replace(POSITION, sold_qty=Decimal(4))).with_order(replace(ORDER, status=OrderStatus.FILLED))

    assert held.positions == {"BTC/USDT": POSITION}
    assert held.orders == {"t-1": ORDER}
    assert (gone.positions, gone.orders) == ({}, {})
    assert state.positions == {}, "the old state is untouched"
