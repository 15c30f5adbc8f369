from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tickless.backtest.compare import compare
from tickless.cli.app import app
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
    found = compare(folder, other)
    assert found.same
    assert not found.settings_differ
    assert found.figures["trades"] == (found.figures["trades"][0], None)


def change_summary(folder: Path, **values: object) -> None:
    path = folder / "summary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_difference_comes_with_the_key_figures_of_both(folder: Path, other: Path) -> None:
    edit(other / "orders.csv", lambda lines: lines[:-1])
    change_summary(other, settings_sha256="b" * 64, total_return_frac=-0.0312, trades=1234, fees_paid=1050.5, max_drawdown_frac=0.081)
    change_summary(folder, settings_sha256="a" * 64, total_return_frac=0.1, trades=0, fees_paid=0.0, max_drawdown_frac=None)
    result = CliRunner().invoke(app, ["compare", str(folder), str(other)])
    assert result.exit_code == 1
    assert result.stdout.startswith("different: orders.csv: ")
    assert "settings differ: settings_sha256 aaaaaaaaaaaa… and bbbbbbbbbbbb…\n" in result.stdout
    cells = [re.split(r"\s{2,}", line.strip(" │┃|")) for line in re.sub(r"[│┃]", "  ", result.stdout).splitlines()]
    for row in (
        ["return", "10.00 %", "-3.12 %"],
        ["max drawdown", "–", "8.10 %"],
        ["closed trades", "0", "1,234"],
        ["fees paid", "0.00", "1,050.50"],
    ):
        assert row in cells, result.stdout
    facts = json.loads(CliRunner().invoke(app, ["compare", str(folder), str(other), "--json"]).stdout)
    assert facts["settings_differ"] is True
    assert facts["figures"] == {
        "settings_sha256": ["a" * 64, "b" * 64],
        "total_return_frac": [0.1, -0.0312],
        "max_drawdown_frac": [None, 0.081],
        "trades": [0, 1234],
        "fees_paid": [0.0, 1050.5],
    }


def test_the_same_orders_from_other_settings_are_the_same_and_the_settings_are_told(folder: Path, other: Path) -> None:
    change_summary(other, settings_sha256="b" * 64)
    result = CliRunner().invoke(app, ["compare", str(folder), str(other)])
    assert result.exit_code == 0
    assert re.fullmatch(r"identical: \d+ orders\nsettings differ: settings_sha256 \w{12}… and bbbbbbbbbbbb…\n", result.stdout)


@pytest.mark.parametrize("name", ["orders.csv", "fills.csv", "trades.csv", "equity.csv"])
def test_a_table_without_a_header_is_refused(folder: Path, other: Path, name: str) -> None:
    (other / name).write_text("")
    for pair in ((folder, other), (other, folder)):
        result = CliRunner().invoke(app, ["compare", *map(str, pair)])
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr == f"tickless: {other / name}: is empty; even a table without rows has a header\n"


@pytest.mark.parametrize("content", [None, "{", "[]", '"text"'])
def test_a_summary_that_cannot_be_read_is_no_difference(folder: Path, other: Path, content: str | None) -> None:
    if content is None:
        (other / "summary.json").unlink()
    else:
        (other / "summary.json").write_text(content)
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
