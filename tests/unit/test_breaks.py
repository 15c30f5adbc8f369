"""Breaks of the price scale: found after silence, never in a crash, and told from the bars up to then."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.made_panels import flat, rescaled, scrambled_after, walk, without
from tickless.bars import Panel
from tickless.breaks import ScaleBreak, find_scale_breaks

PAIRS = ("AAA/USDT", "BBB/USDT")


def silent(panel: Panel, pair: str, first: int, last: int) -> Panel:
    volume = panel.volume.copy()
    volume[first:last, panel.column[pair]] = 0.0
    return replace(panel, volume=volume)


@pytest.mark.parametrize("ratio", [1000.0, 100.0, 10.0, 5.001, 1 / 5.001, 1 / 60, 1e-6, 433.7])
def test_a_new_scale_after_a_gap_is_a_break(ratio):
    panel = rescaled(without(walk(PAIRS, 300), "BBB/USDT", 199, 200), "BBB/USDT", 200, ratio)
    (found,) = find_scale_breaks(panel)
    assert (found.pair, found.row) == ("BBB/USDT", 200)
    assert found.ratio == pytest.approx(ratio, rel=1e-6)


def test_bars_without_volume_are_silence_on_either_side_of_the_jump():
    panel = rescaled(walk(PAIRS, 300), "AAA/USDT", 200, 1000.0)
    assert find_scale_breaks(panel) == []
    for first, last in ((195, 200), (200, 205)):
        assert [found[:2] for found in find_scale_breaks(silent(panel, "AAA/USDT", first, last))] == [("AAA/USDT", 200)]


def test_a_crash_of_ninety_percent_while_trading_goes_on_is_a_price():
    panel = walk(PAIRS, 300)
    for name in ("open", "high", "low", "close"):
        getattr(panel, name)[200:, 0] *= 0.1
    assert find_scale_breaks(panel) == []


def test_a_gap_alone_or_a_fall_by_three_quarters_over_it_is_no_break():
    panel = without(walk(PAIRS, 300), "AAA/USDT", 100, 180)
    assert find_scale_breaks(panel) == []
    assert find_scale_breaks(rescaled(panel, "AAA/USDT", 180, 0.26)) == []


def test_a_swap_at_an_exact_small_ratio_needs_a_day_of_silence():
    def jumped(gap: int, ratio: float) -> list[ScaleBreak]:
        return find_scale_breaks(rescaled(without(walk(PAIRS, 400), "AAA/USDT", 200, 200 + gap), "AAA/USDT", 200 + gap, ratio))

    assert [found.row for found in jumped(96, 0.5)] == [296]
    assert [found.row for found in jumped(96, 3.0)] == [296]
    assert jumped(95, 0.5) == []
    assert jumped(96, 0.45) == []
    assert jumped(96, 1.0) == []


def test_every_break_of_every_pair_in_order():
    panel = walk(("B/USDT", "A/USDT"), 500)
    for pair, row, ratio in (("A/USDT", 100, 10.0), ("A/USDT", 300, 0.01), ("B/USDT", 400, 50.0)):
        panel = rescaled(without(panel, pair, row - 5, row), pair, row, ratio)
    assert [found[:2] for found in find_scale_breaks(panel)] == [("B/USDT", 400), ("A/USDT", 100), ("A/USDT", 300)]


def test_nothing_to_break():
    panel = walk(PAIRS, 50)
    assert find_scale_breaks(panel.take(0, 0)) == []
    assert find_scale_breaks(panel.take(0, 1)) == []
    assert find_scale_breaks(panel.select(["X/USDT"])) == []
    assert find_scale_breaks(without(panel, "AAA/USDT", 0, 49).select(["AAA/USDT"])) == []
    assert find_scale_breaks(flat(panel, "AAA/USDT", 0, 50, 7.0)) == []


@given(seed=st.integers(0, 10_000), row=st.integers(60, 198))
def test_what_comes_later_changes_no_break(seed, row):
    panel = walk(PAIRS, 200, seed=seed)
    panel = rescaled(without(panel, "BBB/USDT", 50, 58), "BBB/USDT", 58, 100.0)
    known = [found for found in find_scale_breaks(panel) if found.row <= row]
    assert [found for found in find_scale_breaks(scrambled_after(panel, row, seed)) if found.row <= row] == known
    assert [found[:2] for found in known] == [("BBB/USDT", 58)]
