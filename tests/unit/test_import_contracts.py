"""The contracts of .importlinter hold, and catch an import that points the wrong way."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def lint_imports(root: Path, source: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter on the package in ``source``, which comes before the installed one on the path."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--config", str(root / ".importlinter"), "--no-cache"]
    path = os.environ | {"PYTHONPATH": str(source)}
    return subprocess.run(command, cwd=source, env=path, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    shutil.copytree(root / "shared" / "tickless", tmp_path / "tickless", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_contracts_hold(root: Path) -> None:
    result = lint_imports(root, root / "shared")

    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("module", "line", "complaint"),
    [
        ("types.py", "from tickless.settings import Settings", "tickless.types is not allowed to import tickless.settings"),
        ("bars.py", "def f():\n    import tickless.ports", "tickless.bars is not allowed to import tickless.ports"),
        ("risk/planted.py", "import tickless.portfolio", "tickless.risk is not allowed to import tickless.portfolio"),
        ("features/planted.py", "import tickless.alpha", "tickless.features is not allowed to import tickless.alpha"),
        ("runs/planted.py", "import tickless.adapters", "tickless.runs is not allowed to import tickless.adapters"),
        ("runs/planted.py", "import boto3", "tickless is not allowed to import boto3"),
        ("learn/planted.py", "from pickle import loads", "tickless is not allowed to import pickle"),
        ("helpers.py", "", "tickless.helpers"),
    ],
    ids=[
        "upward",
        "upward-inside-a-function",
        "sideways",
        "sideways-against-an-exception",
        "runs-adapters",
        "vendor",
        "pickle",
        "no-place",
    ],
)
def test_a_planted_import_is_caught(root: Path, copy: Path, module: str, line: str, complaint: str) -> None:
    planted = copy / "tickless" / module
    before = planted.read_text("utf8") if planted.exists() else ""
    planted.parent.mkdir(exist_ok=True)
    planted.write_text(f"{before}\n{line}\n", "utf8")

    result = lint_imports(root, copy)

    assert result.returncode == 1, result.stdout
    assert complaint in result.stdout
