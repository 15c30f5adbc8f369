"""``tickless demo``: the main job on embedded data, as the README starts with it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tickless.adapters.synthetic_market import make_market
from tickless.backtest.audit import verify
from tickless.backtest.results import read_results
from tickless.cli import running
from tickless.settings import load_desk

FILES = {"summary.json", "orders.csv", "fills.csv", "trades.csv", "equity.csv", "ticks.jsonl", "report.html"}


@pytest.fixture(scope="module")
def demo(tickless: Callable[..., subprocess.CompletedProcess[str]], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """One day of the demo by the installed command: its folder, and what it printed."""
    out = tmp_path_factory.mktemp("demo") / "out"
    return out, tickless("demo", "--days", 1, "--out", out).stdout


def test_the_demo_fires_every_schedule_and_trades(demo: tuple[Path, str]) -> None:
    out, printed = demo
    summary = json.loads((out / "summary.json").read_text("utf8"))
    assert {path.name for path in out.iterdir()} == FILES
    assert summary["ticks"] == {"risk_check": 96, "feature_rebalance": 44, "full_rebalance": 4, "retrain": 1}
    assert len(summary["pairs"]) >= 20
    assert summary["orders"] > 0
    said = " ".join(printed.replace("│", " ").split())
    assert "96 risk_check, 44 feature_rebalance, 4 full_rebalance, 1 retrain" in said
    assert str(out / "report.html") in printed
    assert "its profit or loss means nothing" in said


def test_the_demo_passes_the_audit(demo: tuple[Path, str]) -> None:
    end = running.DEMO_START + timedelta(days=1, hours=1)
    start = running.DEMO_START - timedelta(days=running.DEMO_HISTORY_DAYS)
    made = make_market(pairs=running.DEMO_PAIRS, start=start, end=end, seed=running.DEMO_SEED, signal_ic=running.DEMO_SIGNAL_IC)
    assert verify(demo[0], made.panel, load_desk("rotation"), made.rules) == []


class Page(HTMLParser):
    """What a page shows and what it would load."""

    def __init__(self) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.loads: list[str] = []
        self.tags: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._open.append(tag)
        self.loads += [value for name, value in attrs if name in ("src", "href") and value and not value.startswith(("#", "data:"))]

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("title", "h1", "h2") and data.strip():
            self.headings.append(data.strip())


def test_the_report_opens_by_itself(demo: tuple[Path, str]) -> None:
    """Self-contained: it loads nothing, draws its charts, and says whose run it is. (A browser looks at reports in the unit tests.)"""
    text = (demo[0] / "report.html").read_text("utf8")
    page = Page()
    page.feed(text)
    assert page.loads == []
    assert "svg" in page.tags
    assert any("rotation" in heading for heading in page.headings)
    assert "its profit or loss means nothing" in text


def test_the_files_read_back(demo: tuple[Path, str]) -> None:
    results = read_results(demo[0])
    assert len(results.equity) == 96
    assert len(results.ticks) == 145
    assert len(results.orders) == results.summary["orders"]
    assert len(results.fills) == results.summary["fills"]
    trained = [line for line in results.ticks if line["function"] == "retrain"]
    assert len(trained) == 1
    assert trained[0]["trained"]
