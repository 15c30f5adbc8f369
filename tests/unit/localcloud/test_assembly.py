"""Synthesizing once, keeping it, and reading it back."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tickless.errors import InputError, SettingsError, TicklessError
from tickless.localcloud import ensure_assembly, load_assembly

APP = """
from pathlib import Path
def synthesize(desk, stage, outdir=None, overrides=()):
    with Path(__file__).with_name("calls").open("a") as calls:
        calls.write("called\\n")
    return {"Resources": {}, "Metadata": {"desk": desk, "stage": stage, "overrides": list(overrides)}}
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "infra").mkdir()
    (tmp_path / "infra" / "__init__.py").write_text("")
    (tmp_path / "infra" / "app.py").write_text(APP)
    return tmp_path


def calls(checkout: Path) -> int:
    file = checkout / "infra" / "calls"
    return len(file.read_text().splitlines()) if file.exists() else 0


def test_synthesizes_once_and_again_when_the_desk_or_the_app_changes(checkout: Path):
    first = ensure_assembly(checkout, "rotation", "dev")
    assembly = load_assembly(first)
    assert assembly.stack_name == "tickless-dev"
    assert assembly.template["Metadata"] == {"desk": "rotation", "stage": "dev", "overrides": []}
    assert ensure_assembly(checkout, "rotation", "dev") == first
    assert calls(checkout) == 1
    other = ensure_assembly(checkout, "rotation", "dev", ["execution.slippage_bps=0"])
    assert other != first
    assert load_assembly(other).template["Metadata"]["overrides"] == ["execution.slippage_bps=0"]
    (checkout / "infra" / "app.py").write_text(APP + "# changed\n")
    assert ensure_assembly(checkout, "rotation", "dev") not in (first, other)
    assert sorted(path.name[:6] for path in (checkout / "cdk.out").iterdir()) == ["local-"] * 3


def test_concurrent_runs_end_with_one_whole_folder(checkout: Path):
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(ensure_assembly(checkout, "rotation", "dev"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(set(found)) == 1
    assert len(found) == 3
    assert list((checkout / "cdk.out").iterdir()) == [found[0]]
    assert load_assembly(found[0]).template["Resources"] == {}


def test_refuses_a_folder_without_an_app_and_a_desk_that_is_not_valid(checkout: Path, tmp_path: Path):
    with pytest.raises(InputError, match=r"has no infra/app.py"):
        ensure_assembly(tmp_path / "elsewhere", "rotation", "dev")
    with pytest.raises(SettingsError, match=r"execution.slippage_bps"):
        ensure_assembly(checkout, "rotation", "dev", ["execution.slippage_bps=-1"])
    assert calls(checkout) == 0


def test_a_failed_synthesis_says_why_and_leaves_nothing(checkout: Path):
    (checkout / "infra" / "app.py").write_text("raise RuntimeError('no node here')")
    with pytest.raises(TicklessError, match=r"does not synthesize for desk rotation: RuntimeError: no node here"):
        ensure_assembly(checkout, "rotation", "dev")
    assert list((checkout / "cdk.out").iterdir()) == []
