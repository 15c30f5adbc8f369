"""The synthesized CDK app: read from a cloud assembly folder, and made there when the app or the desk has changed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tickless.errors import InputError, TicklessError
from tickless.settings import load_desk

SYNTH_TIMEOUT_S = 300
_SYNTHESIZE = """
import json, sys
from pathlib import Path
from infra.app import synthesize
desk, stage, out, *overrides = sys.argv[1:]
Path(out).write_text(json.dumps(synthesize(desk, stage, overrides=tuple(overrides)), indent=1))
"""
# A whole assembly would carry every built layer, hundreds of megabytes that no local run reads.
_TEMPLATE_FILE = "template.json"


@dataclass(frozen=True)
class Assembly:
    """One stack of a cloud assembly."""

    stack_name: str
    template: Mapping[str, Any]
    path: Path


def load_assembly(path: Path) -> Assembly:
    """Read the one stack of a cloud assembly folder (``cdk.out``); raises InputError where there is none or more than one."""
    manifest_path = path / "manifest.json"
    try:
        manifest = json.loads(manifest_path.read_text("utf8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{manifest_path}: not the manifest of a cloud assembly ({error})") from error
    stacks = {
        name: artifact for name, artifact in manifest.get("artifacts", {}).items() if artifact.get("type") == "aws:cloudformation:stack"
    }
    if len(stacks) != 1:
        raise InputError(f"{manifest_path}: {len(stacks)} stacks, must be one")
    ((name, artifact),) = stacks.items()
    properties = artifact["properties"]
    template = json.loads((path / properties["templateFile"]).read_text("utf8"))
    return Assembly(properties.get("stackName", name), template, path)


def ensure_assembly(root: Path, desk: str, stage: str, overrides: Sequence[str] = ()) -> Path:
    """A folder with the app's template for a desk, as :func:`load_assembly` reads it, synthesized only where no run has made it before.

    ``root`` is the project's checkout. Folders are kept under ``<root>/cdk.out`` by a hash of the app's source and the desk's sections;
    several processes may ask at once. Raises SettingsError for a desk that is not valid, InputError where ``root`` has no CDK
    app, TicklessError where synthesis fails.
    """
    if not (root / "infra" / "app.py").is_file():
        raise InputError(f"{root}: has no infra/app.py; run this from a checkout of the project")
    target = root / "cdk.out" / f"local-{_fingerprint(root, desk, stage, overrides)}"
    if (target / "manifest.json").is_file():
        return target
    target.parent.mkdir(exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".local-", dir=target.parent))
    try:
        _synthesize(root, work / _TEMPLATE_FILE, desk, stage, overrides)
        stack = {"type": "aws:cloudformation:stack", "properties": {"templateFile": _TEMPLATE_FILE, "stackName": f"tickless-{stage}"}}
        (work / "manifest.json").write_text(json.dumps({"artifacts": {f"tickless-{stage}": stack}}, indent=1), "utf8")
        try:
            work.rename(target)
        except OSError:
            if not (target / "manifest.json").is_file():
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _fingerprint(root: Path, desk: str, stage: str, overrides: Sequence[str]) -> str:
    sections = load_desk(desk, overrides).sections()
    digest = hashlib.sha256(json.dumps([stage, sections], sort_keys=True).encode())
    sources = [root / "cdk.json", *(root / "infra").rglob("*.py"), *(root / "shared" / "tickless" / "settings").rglob("*.py")]
    for source in sorted(path for path in sources if path.is_file()):
        digest.update(f"\0{source.relative_to(root)}\0".encode())
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _synthesize(root: Path, out: Path, desk: str, stage: str, overrides: Sequence[str]) -> None:
    search = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH", ""))))
    command = [sys.executable, "-P", "-c", _SYNTHESIZE, desk, stage, str(out), *overrides]
    try:
        done = subprocess.run(  # noqa: S603  # our own interpreter and our own program
            command, env={**os.environ, "PYTHONPATH": search}, capture_output=True, text=True, timeout=SYNTH_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise TicklessError(f"the CDK app did not synthesize within {SYNTH_TIMEOUT_S} s") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise TicklessError(f"the CDK app does not synthesize for desk {desk}: {lines[-1]}")
