"""What a shell sees of outputs that cannot be written, and of paths that name nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tickless.adapters.bar_files import write_folder
from tickless.adapters.synthetic_market import make_market
from tickless.types import parse_time

COMMAND = (sys.executable, "-c", "from tickless.cli.app import main; main()")


def test_an_output_that_is_full_ends_in_one_sentence() -> None:
    with Path(os.devnull).with_name("full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, "desk", "show", "rotation"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert done.stderr == "tickless: the output: cannot be read or written (No space left on device)\n"
    assert done.returncode == 1


@pytest.mark.parametrize("option", ["--data", "--out"])
def test_an_empty_path_is_refused(tickless: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"--data": str(tmp_path), "--out": str(tmp_path / "out"), "--timerange": "20240601-20240602"} | {option: ""}
    sentence = tickless.refused("backtest", *(word for pair in given.items() for word in pair))
    assert sentence == f"tickless: Invalid value for '{option}': must name a path (got ''); `tickless backtest --help` shows how"
    assert not list(tmp_path.iterdir())


def test_features_for_machines(tickless: Any, tmp_path: Path) -> None:
    made = make_market(pairs=3, start=parse_time("2024-05-28T00:00:00Z"), end=parse_time("2024-06-02T00:00:00Z"), events=False)
    write_folder(tmp_path / "data", made.panel)
    out = tmp_path / "features.csv"
    facts = tickless.json("features", "--data", tmp_path / "data", "--timerange", "20240601-20240602", "--out", out)
    assert (facts["out"], facts["rows"], facts["pairs"]) == (str(out), 3 * 96, sorted(made.panel.pairs))
    assert len(facts["features"]) == len(out.read_text().splitlines()[0].split(",")) - 3
