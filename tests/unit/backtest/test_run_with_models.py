"""A run that starts from a model folder: only what a tick would use matters, and what it refuses is told with its reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from made_moods import a_version, moody_market, trained
from tickless.adapters.folder_market import FolderMarket
from tickless.adapters.folder_models import FolderModelStore
from tickless.backtest.engine import BacktestRequest, backtest
from tickless.backtest.report import write_report
from tickless.backtest.results import write_results
from tickless.learn.gates import GateDecision
from tickless.runs.retrain import store
from tickless.settings import TrainingSection, load_desk

START = datetime(2024, 6, 3, tzinfo=UTC)
END = START + timedelta(hours=6)
DIRECT = TrainingSection(promotion="direct")
REBALANCES = 12


@pytest.fixture(scope="module")
def market() -> FolderMarket:
    return moody_market(START - timedelta(days=40), END, END + timedelta(hours=1), pairs=4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of the 6 h model one version is retired, one champion and one a candidate; the 24 h model has a champion."""
    models = FolderModelStore(tmp_path / "models")
    for days, version in ((2, "old"), (1, "new")):
        store(trained(a_version("follower", version, START - timedelta(days=days))), models, DIRECT, START, START - timedelta(days=days))
    candidate = replace(a_version("blind", "tried", START), gate=GateDecision(False, ("no",)))
    store(trained(candidate), models, DIRECT, START, START)
    store(trained(a_version("follower", "only", START, name="rotation_24h")), models, DIRECT, START, START)
    return tmp_path / "models"


def run(market: FolderMarket, folder: Path, out: Path, *overrides: str) -> dict[str, Any]:
    request = BacktestRequest(load_desk("rotation", overrides), market, START, END, FolderModelStore(folder), retrain=False)
    record = backtest(request)
    summary = write_results(record, out)
    write_report(record, summary, out)
    return summary


def test_damage_that_no_tick_would_meet_changes_nothing(market: FolderMarket, folder: Path, tmp_path: Path) -> None:
    whole = run(market, folder, tmp_path / "whole")
    (folder / "rotation_6h" / "old" / "artifact.onnx").write_bytes(b"damaged")
    (folder / "rotation_6h" / "tried" / "manifest.json").write_bytes(b"{")
    (folder / "notes").mkdir()
    (folder / "notes" / "mine.txt").write_text("not a model")

    damaged = run(market, folder, tmp_path / "damaged")

    assert whole["models"] == damaged["models"] == {"rotation_24h@only": REBALANCES, "rotation_6h@new": REBALANCES}
    assert (damaged["models_refused"], damaged["fallback_rebalances"]) == ([], 0)
    assert whole["orders_sha256"] == damaged["orders_sha256"]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 0x01
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("damage", "label", "reason"),
    [
        (lambda model: flip(model / "new" / "artifact.onnx"), "rotation_6h@new", "the artifact's sha256 is"),
        (lambda model: (model / "new" / "artifact.onnx").unlink(), "rotation_6h@new", "no artifact"),
        (lambda model: (model / "new" / "manifest.json").unlink(), "rotation_6h@new", "no manifest"),
        (lambda model: (model / "champion.json").write_bytes(b"{"), "rotation_6h", "champion.json is not JSON"),
    ],
    ids=["another artifact", "no artifact", "no manifest", "no life"],
)
def test_a_champion_that_cannot_be_used_is_told_with_its_reason(
    market: FolderMarket, folder: Path, tmp_path: Path, damage: Callable[[Path], object], label: str, reason: str
) -> None:
    damage(folder / "rotation_6h")
    summary = run(market, folder, tmp_path / "out")
    (refused,) = summary["models_refused"]
    assert (refused["model"], refused["stage"], refused["rebalances"]) == (label, "champion", REBALANCES)
    assert refused["reason"].startswith(f"model {label}: {reason}")
    assert (summary["models"], summary["fallback_rebalances"]) == ({"rotation_24h@only": REBALANCES}, 0)
    assert f"{label}, champion, refused at {REBALANCES} rebalances: model {label}" in (tmp_path / "out" / "report.html").read_text("utf8")


def test_a_champion_that_grows_too_old_within_the_run_is_told_from_then_on(market: FolderMarket, folder: Path, tmp_path: Path) -> None:
    summary = run(market, folder, tmp_path / "out", "training.max_model_age_days=1.125")
    (refused,) = summary["models_refused"]
    assert (refused["model"], refused["rebalances"], summary["models"]["rotation_6h@new"]) == ("rotation_6h@new", 6, 6)
    assert "max_model_age_days is 1.125" in refused["reason"]


def test_a_mistyped_name_is_told(market: FolderMarket, folder: Path, tmp_path: Path) -> None:
    summary = run(market, folder, tmp_path / "out", "strategy.rotation.model_6h=rotation_6hh")
    assert summary["models"] == {"rotation_24h@only": REBALANCES}
    (refused,) = summary["models_refused"]
    assert (refused["model"], refused["rebalances"]) == ("rotation_6hh", REBALANCES)
    assert "without models/rotation_6hh/spec.toml nobody is trained to be" in refused["reason"]
