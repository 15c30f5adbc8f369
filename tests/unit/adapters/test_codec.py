"""The codec: whatever a domain value holds comes back bit for bit."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickless.adapters.codec import decode, encode, item_bytes, time_text
from tickless.adapters.ledger_items import DeskScalars, SettingsText
from tickless.errors import LedgerError
from tickless.types import EquityRow, Fill, Halt, Order, Position, Tick, TickRecord, Trade

decimals = st.decimals(allow_nan=False, allow_infinity=False).filter(lambda value: len(value.as_tuple().digits) <= 38)
times = st.datetimes(timezones=st.just(UTC))
finite = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(codec="utf-8"), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | texts, lambda inner: st.lists(inner, max_size=3), max_leaves=5
)

for kind, strategy in {Decimal: decimals, datetime: times, float: finite, str: texts}.items():
    st.register_type_strategy(kind, strategy)
summaries = st.dictionaries(texts, json_values, max_size=3)


def exact(value: Any) -> Any:
    """The value such that two are equal only where every bit and digit is."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, float):
        return value.hex()
    if hasattr(value, "__dataclass_fields__"):
        return {entry.name: exact(getattr(value, entry.name)) for entry in fields(value)}
    if isinstance(value, dict):
        return {name: exact(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [exact(part) for part in value]
    return value


records = st.builds(TickRecord, tick=st.from_type(Tick), summary=summaries)
values = st.one_of(
    *(st.from_type(kind) for kind in (Order, Fill, Position, Trade, EquityRow, SettingsText)),
    st.builds(DeskScalars, blocked=st.dictionaries(texts, texts, max_size=3)),
    records,
)


@given(values)
def test_every_value_survives_exactly(value: Any) -> None:
    item = encode(value)
    assert exact(decode(type(value), item)) == exact(value)


@given(st.lists(times, max_size=20))
def test_times_sort_as_their_text(moments: list[datetime]) -> None:
    assert sorted(moments, key=time_text) == sorted(moments)


def test_numbers_keep_the_digits_they_were_written_with() -> None:
    row = EquityRow(datetime(2024, 6, 1, tzinfo=UTC), Decimal("1.50"), Decimal("1E+3"), 0.1 + 0.2, -0.0, "chop")
    item = encode(row)
    assert (item["equity"], item["cash"]) == ({"S": "1.50"}, {"S": "1E+3"})
    assert (item["exposure_frac"], item["drawdown_frac"]) == ({"S": "0.30000000000000004"}, {"S": "-0.0"})


def test_an_absent_value_takes_no_room() -> None:
    scalars = DeskScalars(Decimal(1), Decimal(1), None, {}, "chop", None)
    assert encode(scalars)["halt"] == {"NULL": True}
    halted = DeskScalars(Decimal(1), Decimal(1), Halt("drawdown", datetime(2024, 6, 1, tzinfo=UTC)), {}, "chop", None)
    assert decode(DeskScalars, encode(halted)) == halted
    assert decode(DeskScalars, encode(scalars)) == scalars


@dataclass(frozen=True)
class Before:
    """A type as it was when the item was written."""

    name: str


@dataclass(frozen=True)
class After:
    """The same type with a field more."""

    name: str
    factor: float | None = 1.5


def test_an_item_from_before_a_field_existed_has_its_default() -> None:
    assert decode(After, encode(Before("a"))) == After("a", 1.5)
    assert decode(Before, encode(After("a"))) == Before("a")
    assert decode(After, encode(After("a", None))) == After("a", None)


@pytest.mark.parametrize("strategy", ["", "crossover"])
def test_a_record_keeps_the_strategy_of_its_tick_and_an_older_one_has_none(strategy: str) -> None:
    kept = TickRecord(Tick(datetime(2024, 6, 1, tzinfo=UTC), "scan", strategy), "done", 1)
    item = encode(kept)
    assert decode(TickRecord, item) == kept
    del item["tick"]["M"]["strategy"]
    assert decode(TickRecord, item).tick == Tick(datetime(2024, 6, 1, tzinfo=UTC), "scan")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_float_that_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(LedgerError, match=f"EquityRow.exposure_frac: value {value}"):
        encode(EquityRow(datetime(2024, 6, 1, tzinfo=UTC), Decimal(1), Decimal(1), value, 0.0, "chop"))


def test_what_cannot_be_read_is_named() -> None:
    with pytest.raises(LedgerError, match=r"EquityRow\.equity: cannot read"):
        decode(EquityRow, {"at": {"S": "2024-06-01T00:00:00Z"}, "equity": {"S": "much"}})
    with pytest.raises(LedgerError, match=r"EquityRow\.at: missing"):
        decode(EquityRow, {})


def test_the_size_of_an_item_counts_names_and_values() -> None:
    assert item_bytes({"pk": {"S": "DESK"}, "é": {"N": "12"}, "flag": {"BOOL": True}, "none": {"NULL": True}}) == 6 + 4 + 5 + 5
    assert item_bytes({"l": {"L": [{"S": "ab"}]}, "m": {"M": {"a": {"S": "b"}}}}) == 1 + 3 + 1 + 2 + 1 + 3 + 1 + 2
