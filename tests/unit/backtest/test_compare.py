from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tickless.backtest.compare import compare
from tickless.errors import DataError


@pytest.fixture
def other(folder: Path) -> Path:
    return Path(shutil.copytree(folder, folder.parent / "other"))


def edit(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    lines = path.read_text().split("\n")[:-1]
    path.write_text("".join(f"{line}\n" for line in change(lines)))


def test_a_folder_is_the_same_as_its_copy(folder: Path, other: Path) -> None:
    found = compare(folder, other)
    assert found.same
    assert found.orders == len((folder / "orders.csv").read_text().split("\n")) - 2
    assert found.first_difference is None


def test_how_long_it_took_is_no_difference(folder: Path, other: Path) -> None:
    (other / "summary.json").write_text('{"seconds": 99}')
    assert compare(folder, other).same


@pytest.mark.parametrize(
    ("name", "change", "parts"),
    [
        (
            "orders.csv",
            lambda lines: [*lines[:2], lines[2].replace(",market,", ",limit,"), *lines[3:]],
            ("orders.csv line 3, type", "'market'", "'limit'"),
        ),
        ("orders.csv", lambda lines: lines[:-1], ("orders.csv:", "rows in", "is only in")),
        ("fills.csv", lambda lines: [*lines, lines[-1]], ("fills.csv:", "is only in")),
        ("trades.csv", lambda lines: [lines[0] + ",more", *lines[1:]], ("trades.csv line 1", "the columns differ")),
        ("equity.csv", lambda lines: [*lines[:9], lines[9].replace("T02:00", "T02:01"), *lines[10:]], ("equity.csv line 10, at", "02:01")),
        ("ticks.jsonl", lambda lines: lines[:-1], ("ticks.jsonl:", "ticks in", "is only in")),
        (
            "ticks.jsonl",
            lambda lines: [*lines[:1], lines[1].replace('"top_k":6', '"top_k":7'), *lines[2:]],
            ("line 2, top_k", "6 in", "7 in"),
        ),
        (
            "ticks.jsonl",
            lambda lines: [*lines[:1], lines[1].replace('"limits":[]', '"limits":["x"]'), *lines[2:]],
            ("line 2, limits[0]", "'x'"),
        ),
        ("ticks.jsonl", lambda lines: [lines[0].replace('"stops":{}', '"stops":{"A/B":1}'), *lines[1:]], ("line 1, stops.A/B", "'absent'")),
    ],
)
def test_the_first_difference_is_named(
    folder: Path, other: Path, name: str, change: Callable[[list[str]], list[str]], parts: tuple[str, ...]
) -> None:
    edit(other / name, change)
    found = compare(folder, other)
    assert not found.same
    assert found.first_difference is not None
    assert all(part in found.first_difference for part in parts), found.first_difference


def test_the_same_number_written_otherwise_is_a_difference(folder: Path, other: Path) -> None:
    edit(other / "equity.csv", lambda lines: [lines[0], lines[1].replace("50000", "50000.0", 1), *lines[2:]])
    assert not compare(folder, other).same


def test_a_missing_file_is_an_error(folder: Path, other: Path) -> None:
    (other / "trades.csv").unlink()
    with pytest.raises(DataError, match=r"is no result folder, trades\.csv is missing"):
        compare(folder, other)
