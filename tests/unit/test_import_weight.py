"""Importing a module of the core loads nothing heavy and touches no environment: a cold start pays for what it uses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "shared" / "tickless"
HEAVY = (
    "aws_lambda_powertools",
    "boto3",
    "botocore",
    "ccxt",
    "lightgbm",
    "moto",
    "onnx",
    "onnxruntime",
    "pandas",
    "plotly",
    "pyarrow",
    "scipy",
    "sklearn",
    "torch",
)
AWS_EDGE = (
    "tickless.adapters.dynamodb_",
    "tickless.adapters.s3_",
    "tickless.adapters.sns_",
    "tickless.adapters.ssm_",
    "tickless.bootstrap",
    "tickless.cli.replaying",
)
PROBE = """
import importlib, json, os, sys
before = dict(os.environ)
found = {}
for name in sys.argv[2:]:
    importlib.import_module(name)
    found[name] = [heavy for heavy in json.loads(sys.argv[1]) if heavy in sys.modules]
print(json.dumps({"heavy": found, "environment": dict(os.environ) == before}))
"""


def modules(part: str) -> list[str]:
    """The dotted names of a module of the package, or of everything inside a folder of it."""
    path = PACKAGE / part
    files = [path.with_suffix(".py")] if path.with_suffix(".py").is_file() else sorted(path.rglob("*.py"))
    names = (".".join(("tickless", *file.relative_to(PACKAGE).with_suffix("").parts)) for file in files)
    return [name.removesuffix(".__init__") for name in names]


def probe(names: list[str]) -> dict[str, Any]:
    """Import modules in a fresh interpreter; report, after each, the heavy libraries that are loaded by then."""
    result = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(HEAVY), *names],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    report: dict[str, Any] = json.loads(result.stdout)
    return report


def parts() -> list[str]:
    """What lies directly in the package; not the AWS edge, and not the local AWS, made of moto's classes."""
    found = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")}
    return sorted(found - {"__init__", "bootstrap", "localcloud"})


@pytest.mark.parametrize("part", parts())
def test_importing_loads_nothing_heavy(part: str) -> None:
    names = [name for name in modules(part) if not name.startswith(AWS_EDGE)]
    report = probe(names)

    assert names
    assert report["heavy"] == {name: [] for name in names}
    assert report["environment"]


def test_the_aws_edge_loads_the_error_classes_it_translates_and_no_client() -> None:
    names = [name for part in ("adapters", "bootstrap", "cli") for name in modules(part) if name.startswith(AWS_EDGE)]
    report = probe(names)

    assert names
    assert {tuple(heavy) for heavy in report["heavy"].values()} <= {(), ("botocore",)}
    assert report["environment"]


@pytest.mark.parametrize("run", ["tickless.runs.risk_check", "tickless.runs.scan"])
def test_a_risk_check_and_a_scan_import_no_model_library_and_no_frames(run: str) -> None:
    report = probe([run])

    assert report["heavy"] == {run: []}


def test_the_probe_sees_a_heavy_import() -> None:
    assert probe(["scipy"])["heavy"] == {"scipy": ["scipy"]}
