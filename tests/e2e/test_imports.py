"""What a cold start loads, as ``python -X importtime`` tells: a risk check pays for no model library and no data frames."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"pandas", "onnxruntime", "lightgbm", "scipy", "pyarrow", "sklearn", "ccxt", "onnx"}


def loaded(root: Path, program: str) -> set[str]:
    """The top-level packages that a fresh interpreter loads for a program."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", program],
        cwd=root,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


def test_the_run_of_a_risk_check(root: Path) -> None:
    names = loaded(root, "import tickless.runs.risk_check")
    assert "tickless" in names
    assert names & HEAVY == set()
    assert names & {"boto3", "botocore", "aws_lambda_powertools"} == set()


@pytest.mark.parametrize("function", ["risk_check", "feature_rebalance", "full_rebalance", "retrain"])
def test_the_handlers(root: Path, function: str) -> None:
    """Models and training load when they are used, never at import."""
    path = root / "functions" / function / "handler.py"
    names = loaded(root, f"import runpy; assert callable(runpy.run_path({str(path)!r})['handler'])")
    assert "tickless" in names
    assert names & HEAVY == set()


def test_importtime_sees_a_heavy_import(root: Path) -> None:
    assert loaded(root, "import scipy") >= {"scipy"}
