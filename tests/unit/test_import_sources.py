"""Rules about the source that import-linter cannot see: clocks, environment, chance, mode flags, and what lies outside the package."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "shared" / "tickless"
EDGES = ("adapters", "bootstrap", "localcloud", "cli")
CLOCKS = {
    "datetime.now",
    "datetime.utcnow",
    "datetime.today",
    "datetime.datetime.now",
    "datetime.datetime.utcnow",
    "date.today",
    "time.time",
    "time.time_ns",
    "time.sleep",
    "time.monotonic",
    "time.monotonic_ns",
}
FUNCTIONS = ("feature_rebalance", "full_rebalance", "retrain", "risk_check", "scan")


def dotted(node: ast.AST) -> str:
    """``a.b.c`` of an attribute chain; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return ""


def imported(node: ast.AST) -> list[str]:
    """The modules, and the names taken from them, that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def reads_environment(node: ast.AST) -> bool:
    names = [dotted(node), *imported(node)]
    return any(name in ("os.environ", "os.getenv", "os.putenv") for name in names)


def reads_clock(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom) and node.module == "time":
        return any(f"time.{alias.name}" in CLOCKS for alias in node.names)
    return isinstance(node, ast.Attribute) and dotted(node) in CLOCKS


def leaves_to_chance(node: ast.AST) -> bool:
    if any(name.split(".")[0] in ("random", "secrets", "uuid") for name in imported(node)):
        return True
    if not isinstance(node, ast.Call):
        return False
    name = dotted(node.func)
    if name in ("np.random.default_rng", "numpy.random.default_rng"):
        return not (node.args or node.keywords)
    return name.startswith(("np.random.", "numpy.random.")) and name.rsplit(".", 1)[1] not in ("SeedSequence", "Generator", "PCG64")


def depends_on_hash(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and dotted(node.func) in ("hash", "id")


def asks_for_the_mode(node: ast.AST) -> bool:
    name = node.attr if isinstance(node, ast.Attribute) else node.arg if isinstance(node, ast.arg) else getattr(node, "id", "")
    return name in ("is_live", "is_dry_run", "is_backtest", "dry_run", "live_mode") or dotted(node).endswith("desk.mode")


def sources() -> Iterator[tuple[str, str, ast.Module]]:
    """Every module of the package: its top folder or module, its path, its tree."""
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE)
        yield relative.parts[0].removesuffix(".py"), str(relative), ast.parse(path.read_text("utf8"))


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [
        (reads_environment, EDGES),
        (reads_clock, EDGES),
        (leaves_to_chance, ("adapters", "localcloud")),
        (depends_on_hash, ()),
        (asks_for_the_mode, ("bootstrap", "cli", "settings")),  # Settings refuse what a real account must not have.
    ],
)
def test_only_the_edges_touch_the_world(rule: Callable[[ast.AST], bool], allowed: tuple[str, ...]) -> None:
    found = [
        f"{path}:{getattr(node, 'lineno', 0)}"
        for part, path, tree in sources()
        if part not in allowed
        for node in ast.walk(tree)
        if rule(node)
    ]

    assert found == []


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (reads_environment, "import os\nos.environ['A']"),
        (reads_environment, "from os import getenv"),
        (reads_clock, "from datetime import datetime\ndatetime.now()"),
        (reads_clock, "from time import time"),
        (leaves_to_chance, "import random"),
        (leaves_to_chance, "np.random.default_rng()"),
        (leaves_to_chance, "np.random.normal()"),
        (depends_on_hash, "hash('BTC')"),
        (asks_for_the_mode, "def f(dry_run): ..."),
        (asks_for_the_mode, "settings.desk.mode == 'dry_run'"),
    ],
)
def test_the_rules_catch_what_they_forbid(rule: Callable[[ast.AST], bool], text: str) -> None:
    assert any(rule(node) for node in ast.walk(ast.parse(text)))


@pytest.mark.parametrize("text", ["np.random.default_rng(seed)", "from datetime import datetime, timedelta", "desk.dry_run_wallet"])
def test_the_rules_leave_the_rest_alone(text: str) -> None:
    rules = (reads_environment, reads_clock, leaves_to_chance, depends_on_hash, asks_for_the_mode)

    assert not any(rule(node) for rule in rules for node in ast.walk(ast.parse(text)))


def test_infra_knows_nothing_of_the_package_but_its_settings_and_errors() -> None:
    files = sorted((ROOT / "infra").glob("*.py"))
    names = [(path.name, name) for path in files for node in ast.walk(ast.parse(path.read_text("utf8"))) for name in imported(node)]

    allowed = ("tickless.settings", "tickless.errors")

    assert files
    assert [pair for pair in names if pair[1].startswith("tickless") and not pair[1].startswith(allowed)] == []


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_handler_fits_on_a_page_and_has_a_sample_event(function: str) -> None:
    folder = ROOT / "functions" / function
    lines = (folder / "handler.py").read_text("utf8").splitlines()
    names = [name for node in ast.walk(ast.parse("\n".join(lines))) for name in imported(node)]

    assert len(lines) <= 40
    assert list((folder / "events").glob("*.json"))
    assert not [name for name in names if name.startswith(("boto3", "ccxt", "tickless.adapters"))]
