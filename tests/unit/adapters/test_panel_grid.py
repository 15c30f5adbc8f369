"""One panel from pairs that begin and end at their own times, in whatever order they come."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from tests.made_panels import walk, without
from tickless.adapters.bar_files import pair_bars, panel_of, read_folder, write_folder
from tickless.bars import COLUMNS, Panel

PAIRS = ("AAA/USDT", "BBB/USDT", "CCC/USDT")


def staggered() -> Panel:
    """The first pair lives in the middle, the second until the end, the third from the start, with a hole."""
    panel = walk(PAIRS, 60)
    for pair, first, last in ((PAIRS[0], 0, 20), (PAIRS[0], 40, 60), (PAIRS[1], 0, 30), (PAIRS[2], 50, 60), (PAIRS[2], 7, 9)):
        panel = without(panel, pair, first, last)
    return panel


def same(one: Panel, other: Panel) -> None:
    assert (one.pairs, one.start_ms, one.rows) == (other.pairs, other.start_ms, other.rows)
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("order", list(permutations(PAIRS)))
def test_the_panel_does_not_depend_on_which_pair_came_first(order: tuple[str, ...]) -> None:
    panel = staggered()
    same(panel_of([pair_bars(panel, pair) for pair in order]), panel)


def test_a_folder_is_read_back_onto_one_grid(tmp_path: Path) -> None:
    panel = staggered()
    write_folder(tmp_path, panel)
    same(read_folder(tmp_path, "15m")[0], panel)


def test_a_pair_without_a_bar_in_the_range_takes_no_column(tmp_path: Path) -> None:
    panel = staggered()
    write_folder(tmp_path, panel)
    part = panel.take(0, 20)
    found, report = read_folder(tmp_path, "15m", start=part.start, end=part.end)
    same(found, part.select(PAIRS[2:]))
    assert report.empty_pairs == PAIRS[:2]


def test_bars_before_1970_have_a_place() -> None:
    panel = staggered()
    early = replace(panel, start_ms=-60 * panel.step_ms)
    same(panel_of([pair_bars(early, pair) for pair in PAIRS]), early)
