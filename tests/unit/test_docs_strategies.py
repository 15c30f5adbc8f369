"""The strategy of docs/strategies.md, pasted into a copy of the package as the page says and run there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from made_panels import rescaled, walk, without
from tickless.adapters.bar_files import write_folder
from tickless.backtest.results import read_results
from tickless.bars import Panel
from tickless.settings import Settings, load_desk
from tickless.types import from_ms

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "strategies.md"
DAYS = 40
Run = Callable[..., subprocess.CompletedProcess[str]]


def files() -> Iterator[tuple[str, str, str]]:
    """(path, language, text) of every block below a heading that is a path."""
    for section in re.split(r"(?m)^### ", PAGE.read_text("utf8"))[1:]:
        path = re.match(r"`([^`]+)`\n", section)
        if path:
            yield from ((path[1], language, text) for language, text in re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL))


def changed(text: str, diff: str) -> str:
    """The text with what the diff takes out replaced by what it puts in; the old lines must stand there once."""
    lines = diff.splitlines(keepends=True)
    old = "".join(line[1:] for line in lines if line[0] in " -")
    assert text.count(old) == 1, old
    return text.replace(old, "".join(line[1:] for line in lines if line[0] in " +"))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with the page's files in it."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "shared" / "tickless", folder / "shared" / "tickless")
    for path, language, text in files():
        file = folder / path
        if language == "diff":
            file.write_text(changed(file.read_text("utf8"), text), "utf8")
        else:
            assert not file.exists(), f"{path} is pasted over a file"
            file.write_text(text, "utf8")
    return folder


@pytest.fixture(scope="module")
def panel() -> Panel:
    """Three pairs; one comes back from a gap a thousand times as dear."""
    panel = walk(("A/USDT", "B/USDT", "C/USDT"), DAYS * 96, seed=3)
    return rescaled(without(panel, "C/USDT", 3500, 3520), "C/USDT", 3520, 1000.0)


@pytest.fixture(scope="module")
def tickless(checkout: Path, panel: Panel) -> Run:
    """The command of that copy, in its folder."""
    write_folder(checkout / "market", panel, "csv")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from tickless.cli.app import main; main()", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(checkout / "shared")}
        return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=120, check=False)

    return run


def timerange(panel: Panel, first: int, days: int) -> str:
    start = from_ms(panel.start_ms) + timedelta(days=first)
    return f"{start:%Y%m%d}-{start + timedelta(days=days):%Y%m%d}"


def test_the_page_names_whole_files() -> None:
    assert {path for path, language, _ in files() if language != "diff"} == {
        "shared/tickless/settings/breakout.py",
        "shared/tickless/strategies/breakout.py",
        "shared/tickless/runs/breakout_history.py",
        "breakout.toml",
    }
    assert all(text.startswith('"""') and "from __future__" in text for _, language, text in files() if language == "python")


def test_what_the_desk_file_keeps_is_what_a_desk_inherits(tmp_path: Path) -> None:
    (text,) = (text for path, _, text in files() if path == "breakout.toml")
    head, _, _ = text.partition("[strategy.breakout]")
    (tmp_path / "desk.toml").write_text(head + "[strategy.crossover]\n")
    desk, plain = load_desk(str(tmp_path / "desk.toml")), Settings()
    off = ("initial_stop_atr", "trail_arm_atr", "max_position_loss_frac", "time_stop_h")
    assert desk.risk == plain.risk.model_copy(update=dict.fromkeys(off))
    assert (desk.portfolio, desk.universe, desk.execution) == (plain.portfolio, plain.universe, plain.execution)
    for key, value in re.findall(r"(\w+) = \"off\" +# inherited: ([\d.]+)", text):
        assert getattr(plain.risk, key) == float(value)


def test_the_desk_is_good_and_stops_that_it_cannot_have_are_told(tickless: Run) -> None:
    good = tickless("desk", "check", "breakout.toml")
    assert (good.returncode, good.stderr) == (0, "")
    told = tickless("desk", "check", "breakout.toml", "--set", "risk.initial_stop_atr=2")
    assert told.returncode == 0
    assert told.stderr.startswith("breakout.toml: strategy breakout has no feature atr_14_30m, ")


def test_it_enters_on_new_highs_and_leaves_what_fell_back(tickless: Run, checkout: Path, panel: Panel) -> None:
    run = tickless("backtest", "--desk", "breakout.toml", "--data", "market", "--timerange", timerange(panel, 32, 8), "--out", "out")
    assert run.returncode == 0, run.stderr
    results = read_results(checkout / "out")
    assert len(results.trades) > 4
    assert {trade.enter_tag for trade in results.trades} == {"new_high"}
    assert {trade.exit_reason for trade in results.trades} == {"fell_back"}
    for order in (order for order in results.orders if order.reason == "new_high"):
        row, column = panel.row_at(order.tick_at) - 1, panel.column[order.pair]
        assert panel.close[row, column] > panel.close[row - 96 : row, column].max()
    assert max(trade.pnl_frac for trade in results.trades) < 1


def test_it_looks_at_nothing_ahead(tickless: Run, panel: Panel) -> None:
    given = ("--desk", "breakout.toml", "--data", "market", "--timerange", timerange(panel, 33, 5), "--cuts", "6")
    proof = tickless("lookahead", *given, "--json")
    assert proof.returncode == 0, (proof.stdout, proof.stderr)
    facts = json.loads(proof.stdout)
    assert facts["passed"] is True
    assert facts["compared"]["orders"] > 2
