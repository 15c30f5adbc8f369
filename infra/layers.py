"""What each Lambda layer is made from, and whether what was built is still that. Imports no CDK: ``layers/build.py`` uses it too."""

from __future__ import annotations

import hashlib
from pathlib import Path

from infra.settings import ROOT

LAYERS = ROOT / "layers"
LOCK = ROOT / "requirements.lock"

LEFT_OUT = frozenset({"cli", "localcloud", "backtest", "__pycache__"})
"""Parts of the package that no function imports."""


class LayerError(Exception):
    """A layer cannot be built, or weighs too much."""


def layer_names() -> tuple[str, ...]:
    """Every layer that has a list of requirements, sorted."""
    return tuple(sorted(path.parent.name for path in LAYERS.glob("*/requirements.txt")))


def requirements(name: str) -> tuple[str, ...]:
    """The distributions that a layer holds; raises LayerError where there is no such layer."""
    path = LAYERS / name / "requirements.txt"
    if not path.is_file():
        raise LayerError(f"layer {name}: unknown; there are {', '.join(layer_names())}")
    lines = (line.partition("#")[0].strip() for line in path.read_text("utf8").splitlines())
    return tuple(line for line in lines if line)


def package_content() -> dict[str, Path]:
    """What the core layer holds of the project itself: path in the layer → file, sorted by path.

    The package, and the specifications of the models beside it: an installed package looks for them inside itself.
    """
    package = ROOT / "shared" / "tickless"
    files = {path.relative_to(package): path for path in package.rglob("*") if path.is_file()}
    files |= {path.relative_to(ROOT): path for path in (ROOT / "models").glob("*/spec.toml")}
    return {f"tickless/{path.as_posix()}": files[path] for path in sorted(files) if not LEFT_OUT & set(path.parts)}


def fingerprint(name: str) -> str:
    """The hash of everything that a layer is made from: equal fingerprints mean equal layers."""
    sources = [LAYERS / "build.py", *sorted((LAYERS / name).glob("*.txt")), LOCK]
    if name == "core":
        sources += package_content().values()
    digest = hashlib.sha256()
    for path in sources:
        digest.update(f"{path.relative_to(ROOT).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def is_built(name: str) -> bool:
    """Whether ``layers/<name>/build`` holds what the layer is made from today."""
    stamp = LAYERS / name / "build" / "fingerprint"
    return stamp.is_file() and stamp.read_text("utf8").strip() == fingerprint(name)
