from __future__ import annotations

import json
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from tickless.backtest import tables
from tickless.backtest.results import tick_lines

finite = st.floats(allow_nan=False, allow_infinity=False)
decimals = st.decimals(allow_nan=False, allow_infinity=False, min_value=Decimal("-1e25"), max_value=Decimal("1e25"))


def is_plain(text: str) -> bool:
    whole, _, part = text.removeprefix("-").partition(".")
    return whole.isdigit() and (part == "" or (part.isdigit() and not part.endswith("0"))) and text != "-0"


@given(finite)
def test_a_float_reads_back_exactly(value: float) -> None:
    text = tables.plain(value)
    assert is_plain(text)
    assert float(text) == value
    assert float(json.loads(tables.json_text({"x": value}))["x"]) == value


@given(decimals)
def test_a_decimal_reads_back_exactly(value: Decimal) -> None:
    text = tables.plain(value)
    assert is_plain(text)
    assert Decimal(text) == value
    assert json.loads(tables.json_text([value]), parse_float=Decimal) == [value]


pair_actions = st.dictionaries(
    st.sampled_from("ABCD"),
    st.fixed_dictionaries({"action": st.sampled_from(("buy", "keep")), "reason": st.sampled_from("xy"), "score": st.integers(0, 3)}),
)


@given(st.lists(pair_actions, max_size=12))
def test_tick_lines_lose_no_change_and_repeat_nothing(ticks: list[dict[str, dict[str, object]]]) -> None:
    lines = tick_lines({"id": str(n), "function": "f", "at": str(n), "pairs": pairs} for n, pairs in enumerate(ticks))
    told: dict[str, tuple[object, object]] = {}
    for pairs, line in zip(ticks, lines, strict=True):
        for pair, what in line["pairs"].items():
            assert told.get(pair) != (what["action"], what["reason"])
            told[pair] = (what["action"], what["reason"])
        assert all(told[pair] == (what["action"], what["reason"]) for pair, what in pairs.items())
