"""The worlds that scenes are set on, and the table that is printed at the end, whatever the tests say."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.acceptance.matrix import Worlds, open_worlds

# AWS builds its runtime client for Linux alone, where its functions run.
collect_ignore = [] if sys.platform == "linux" else ["test_function_timeouts.py"]

EXCHANGES = {"spot": "Binance, spot", "swap": "Binance, futures", "roostoo": "Roostoo"}


class Row(NamedTuple):
    """What was tried of a scene on a venue, how often, and how often all was as it should be."""

    venue: str
    scene: str
    what: str
    orders: int
    points: int
    equal: int


@pytest.fixture(scope="session")
def worlds() -> Iterator[Worlds]:
    with open_worlds() as opened:
        yield opened


@pytest.fixture(scope="session")
def table(request: pytest.FixtureRequest) -> Iterator[list[Row]]:
    rows: list[Row] = []
    yield rows
    capture = request.config.pluginmanager.getplugin("capturemanager")
    reporter = request.config.pluginmanager.getplugin("terminalreporter")
    if rows and capture is not None and reporter is not None:
        with capture.global_and_fixture_disabled():
            for line in ("", *lines_of(rows)):
                reporter.write_line(line)


def lines_of(rows: list[Row]) -> Iterator[str]:
    """The table: an exchange and a function a row, and what they add up to."""
    yield f"{'exchange':<18}{'scene':<22}{'what':<34}{'orders':>7}{'points':>8}{'equal':>7}{'different':>11}"
    for row in rows:
        yield _line(EXCHANGES[row.venue], row.scene, row.what, row.orders, row.points, row.equal)
    for what in dict.fromkeys(row.what for row in rows):
        of = [row for row in rows if row.what == what]
        yield _line("all", "", what, sum(row.orders for row in of), sum(row.points for row in of), sum(row.equal for row in of))


def _line(exchange: str, scene: str, what: str, orders: int, points: int, equal: int) -> str:
    return f"{exchange:<18}{scene:<22}{what:<34}{orders:>7}{points:>8}{equal:>7}{points - equal:>11}"
