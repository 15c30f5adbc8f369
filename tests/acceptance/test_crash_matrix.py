"""A process killed with SIGKILL at any request of a tick: delivered again, the desk comes to what it would have come to undisturbed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import pytest

from tests.acceptance.matrix import Difference, Matrix, Point, Worlds, open_worlds
from tests.acceptance.scenes import SCENES

SEED = 4
SAMPLE = 6
"""Crash points that every run of the tests tries."""
RACES = 100
Row = tuple[str, int, int, int]
"""Scene, orders that it sends, crash points, of which equal to the undisturbed run."""


@pytest.fixture(scope="module")
def worlds() -> Iterator[Worlds]:
    with open_worlds() as opened:
        yield opened


def test_a_sample_of_the_crash_matrix_is_equal_to_the_undisturbed_run(worlds: Worlds) -> None:
    matrix = Matrix.of(worlds, "feature_rebalance")
    assert matrix.orders >= 2
    # The orders themselves in any case: a crash there is what could double one.
    around = [point for point in matrix.points if matrix.requests[point.number].startswith("exchange POST")]
    chosen = random.Random(SEED)
    points = {*chosen.sample(around, 2), *chosen.sample(matrix.points, SAMPLE - 2)}
    assert [found for point in sorted(points) for found in matrix.crash(point)] == []


def test_one_tick_delivered_to_two_processes_at_once_trades_once(worlds: Worlds) -> None:
    matrix = Matrix.of(worlds, "full_rebalance")
    assert matrix.race() == []


@pytest.mark.acceptance
@pytest.mark.parametrize("name", SCENES)
def test_every_crash_point_is_equal_to_the_undisturbed_run(worlds: Worlds, name: str, table: list[Row]) -> None:
    matrix = Matrix.of(worlds, name)
    assert crash_all(matrix, matrix.points, table) == []


@pytest.mark.acceptance
@pytest.mark.parametrize("name", ["feature_rebalance", "risk_check"])
def test_every_crash_point_on_futures_is_equal_to_the_undisturbed_run(worlds: Worlds, name: str, table: list[Row]) -> None:
    matrix = Matrix.of(worlds, name, "swap")
    assert crash_all(matrix, matrix.venue_points, table) == []


def crash_all(matrix: Matrix, points: Sequence[Point], table: list[Row]) -> list[Difference]:
    assert matrix.orders >= 2
    found = {point: matrix.crash(point) for point in points}
    table.append((matrix.name, matrix.orders, len(found), sum(not differences for differences in found.values())))
    return [difference for differences in found.values() for difference in differences]


@pytest.mark.acceptance
def test_one_tick_delivered_to_two_processes_at_once_trades_once_every_time(worlds: Worlds) -> None:
    matrix = Matrix.of(worlds, "full_rebalance")
    found = [matrix.race() for _ in range(RACES)]
    assert [difference for differences in found for difference in differences] == []


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[list[Row]]:
    """Printed at the end, whatever the tests say."""
    rows: list[Row] = []
    yield rows
    if rows:
        lines = [f"{name:<30}{orders:>8}{points:>14}{equal:>8}" for name, orders, points, equal in rows]
        total = f"{'all':<30}{sum(row[1] for row in rows):>8}{sum(row[2] for row in rows):>14}{sum(row[3] for row in rows):>8}"
        reporter = request.config.pluginmanager.getplugin("terminalreporter")
        for line in ("", f"{'killed':<30}{'orders':>8}{'crash points':>14}{'equal':>8}", *lines, total):
            reporter.write_line(line)
