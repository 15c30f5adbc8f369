"""Ticks that real processes get in another order than that of their times, or all at once."""

from __future__ import annotations

from typing import Any

import pytest

from tests.acceptance.conftest import Row
from tests.acceptance.matrix import Difference, Matrix, Worlds, differences
from tests.acceptance.scenes import VENUES, at
from tickless.types import iso

EARLIER = "risk_check"
LATE_S = 300.0


def matrix_of(worlds: Worlds, venue: str) -> Matrix:
    """A rebalance whose minute has a risk check before it."""
    return Matrix.of(worlds, "feature_rebalance", venue)


def test_of_one_minute_the_later_tick_runs_the_earlier_one_first_which_then_finds_itself_done(worlds: Worlds) -> None:
    assert other_way_round(matrix_of(worlds, "spot")) == []


def test_of_one_minute_both_ticks_at_once_take_effect_in_their_order(worlds: Worlds) -> None:
    assert both_at_once(matrix_of(worlds, "spot")) == []


def test_an_older_tick_after_a_newer_one_is_refused_and_changes_nothing(worlds: Worlds) -> None:
    assert older_after_newer(matrix_of(worlds, "spot")) == []


@pytest.mark.acceptance
@pytest.mark.parametrize("venue", VENUES)
def test_on_every_venue_ticks_out_of_order_come_to_the_undisturbed_end(worlds: Worlds, venue: str, table: list[Row]) -> None:
    matrix = matrix_of(worlds, venue)
    found = [attempt(matrix) for attempt in (other_way_round, both_at_once, older_after_newer)]
    table.append(Row(venue, matrix.name, "ticks out of order", matrix.orders, len(found), sum(not one for one in found)))
    assert [difference for differences in found for difference in differences] == []


def other_way_round(matrix: Matrix) -> list[Difference]:
    """The rebalance first, then the risk check of its minute."""
    desk, scene = matrix.start.fork(), matrix.start.scene
    where = f"{matrix.name} on {scene.venue}, delivered before {EARLIER}"
    try:
        first = desk.tick(scene.function, scene.bar)
        then = desk.tick(EARLIER, scene.bar, late_s=5.0)
        found = _unless(where, first["ran"], [f"{iso(at(scene.bar))}#{name}" for name in (EARLIER, scene.function)])
        found += _unless(where, then["status"], "already_done")
        return [*found, *differences(where, "after both", matrix.retried, desk.outcome())]
    finally:
        desk.end()


def both_at_once(matrix: Matrix) -> list[Difference]:
    """Both in one moment, in two processes: one runs both ticks, or each its own, in their order."""
    desk, scene = matrix.start.fork(), matrix.start.scene
    where = f"{matrix.name} on {scene.venue}, with {EARLIER} at once"
    try:
        came = desk.deliver([desk.job(scene.function, scene.bar), desk.job(EARLIER, scene.bar)])
        found = [] if all(one["status"] in {"done", "already_done"} for one in came) else [Difference(where, f"they came to {came}")]
        return [*found, *differences(where, "after both", matrix.retried, desk.outcome())]
    finally:
        desk.end()


def older_after_newer(matrix: Matrix) -> list[Difference]:
    """The tick after the rebalance first; the rebalance, when it comes, has nothing to say any more."""
    desk, scene = matrix.start.fork(), matrix.start.scene
    where = f"{matrix.name} on {scene.venue}, delivered after the next tick"
    try:
        newer = desk.tick(scene.next_function, scene.bar + 1)
        found = _unless(where, newer["status"], "done")
        before = desk.outcome()
        older = desk.tick(scene.function, scene.bar, late_s=LATE_S)
        found += _unless(where, older["status"], "StaleTickError")
        found += _unless(where, [what for what in older["requests"] if what.startswith("exchange")], [])
        return [*found, *differences(where, "after the older one", before, desk.outcome())]
    finally:
        desk.end()


def _unless(where: str, came: Any, expected: Any) -> list[Difference]:
    return [] if came == expected else [Difference(where, f"it came to {came}, not {expected}")]
