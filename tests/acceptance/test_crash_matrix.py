"""A process killed with SIGKILL at any request of a tick: delivered again, the desk comes to what it would have come to undisturbed."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from tests.acceptance.conftest import Row
from tests.acceptance.matrix import Difference, Matrix, Point, Worlds
from tests.acceptance.scenes import ORDERS, SCENES, VENUES

SEED = 4
SAMPLE = 5
"""Crash points that every run of the tests tries."""
RACES = 100
FUNCTIONS = ["risk_check", "feature_rebalance", "full_rebalance", "scan"]
STOPS = ["stops placed", "stops moved", "exit with a stop", "stops gone off"]


def test_a_sample_of_the_crash_matrix_is_equal_to_the_undisturbed_run(worlds: Worlds) -> None:
    matrix = Matrix.of(worlds, "feature_rebalance")
    assert matrix.orders >= 2
    # The orders themselves in any case: a crash there is what could double one.
    around = [point for point in matrix.points if matrix.requests[point.number].startswith("exchange POST")]
    chosen = random.Random(SEED)
    points = {*chosen.sample(around, 2), *chosen.sample(matrix.points, SAMPLE - 2)}
    assert [found for point in sorted(points) for found in matrix.crash(point)] == []


def test_a_crash_between_the_note_and_the_order_at_roostoo_is_equal_to_the_undisturbed_run(worlds: Worlds) -> None:
    """Nothing at the exchange tells that this order was never sent but its list, once the note is older than a request may be."""
    matrix = Matrix.of(worlds, "scan", "roostoo")
    orders = [number for number, what in enumerate(matrix.requests) if what == f"exchange {ORDERS['roostoo']}"]
    points = [Point(orders[0], after=False), Point(orders[-1], after=False)]
    assert [found for point in points for found in matrix.crash(point)] == []


def test_a_crash_while_a_stop_is_moved_is_equal_to_the_undisturbed_run(worlds: Worlds) -> None:
    """Between the end of the old stop and the new one, and after both: no stop is lost, none rests twice."""
    matrix = Matrix.of(worlds, "stops moved")
    moves = [
        number for number, what in enumerate(matrix.requests) if what in {"exchange DELETE /api/v3/order", f"exchange {ORDERS['spot']}"}
    ]
    assert len(moves) == 2
    points = [Point(moves[0], after=True), Point(moves[1], after=False), Point(moves[1], after=True)]
    assert [found for point in points for found in matrix.crash(point)] == []


def test_one_tick_delivered_to_two_processes_at_once_trades_once(worlds: Worlds) -> None:
    matrix = Matrix.of(worlds, "full_rebalance")
    assert matrix.race() == []


@pytest.mark.acceptance
@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_crash_point_is_equal_to_the_undisturbed_run(worlds: Worlds, name: str, venue: str, table: list[Row]) -> None:
    matrix = Matrix.of(worlds, name, venue)
    assert matrix.orders >= 2
    # Requests for bars and traces are the same at every venue.
    assert crash_all(matrix, matrix.points if venue == "spot" else matrix.venue_points, table) == []


@pytest.mark.acceptance
@pytest.mark.parametrize("venue", ["spot", "swap"])
@pytest.mark.parametrize("name", STOPS)
def test_every_crash_point_of_a_desk_with_resting_stops_is_equal_to_the_undisturbed_run(
    worlds: Worlds, name: str, venue: str, table: list[Row]
) -> None:
    matrix = Matrix.of(worlds, name, venue)
    assert bool(matrix.retried["open at the exchange"]) == (name != "stops gone off")
    assert crash_all(matrix, matrix.venue_points, table) == []


def crash_all(matrix: Matrix, points: Sequence[Point], table: list[Row]) -> list[Difference]:
    found = {point: matrix.crash(point) for point in points}
    scene = matrix.start.scene
    equal = sum(not differences for differences in found.values())
    table.append(Row(scene.venue, matrix.name, "killed at a request", matrix.orders, len(found), equal))
    return [difference for differences in found.values() for difference in differences]


@pytest.mark.acceptance
@pytest.mark.parametrize(("venue", "races"), [("spot", RACES), ("swap", RACES // 10), ("roostoo", RACES // 10)])
def test_one_tick_delivered_to_two_processes_at_once_trades_once_every_time(
    worlds: Worlds, venue: str, races: int, table: list[Row]
) -> None:
    matrix = Matrix.of(worlds, "full_rebalance", venue)
    found = [matrix.race() for _ in range(races)]
    table.append(Row(venue, matrix.name, "delivered twice at once", matrix.orders, races, sum(not one for one in found)))
    assert [difference for differences in found for difference in differences] == []


def test_every_trading_function_has_a_scene() -> None:
    assert set(FUNCTIONS) <= set(SCENES)
