"""Build the Lambda layers: download, prune, weigh.

``python layers/build.py [NAME ...]`` fills ``layers/<name>/build/python`` with the wheels that ``requirements.lock`` pins for
Python 3.13 on Amazon Linux 2023, leaves out what never runs in a function, prints a table, and fails where a function and its
layers would exceed Lambda's limit. With a Python 3.13 (``--python``, or one on the PATH) the modules are compiled too, because
``/opt`` is read-only and every cold start would compile them again, and each function's imports are tried on its layers alone.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "shared")]

from infra.layers import LAYERS, LOCK, LayerError, fingerprint, layer_names, package_content, requirements  # noqa: E402
from infra.settings import FUNCTIONS  # noqa: E402  (a script's own folder is on its path, the project's root is not)

LIMIT_MB = 250.0
"""What a function and its layers may weigh, unzipped: 250 MiB."""

PYTHON_VERSION = "3.13"
GLIBC_MINORS = range(28, 16, -1)
"""Lambda's python3.13 runs on glibc 2.34; wheels for 2.17 to 2.28 are what projects publish."""

NEVER_RUN_FOLDERS = frozenset({"tests", "test", "testing_data", "testdata", "__pycache__", "include", "sbom", "sboms"})
NEVER_RUN_SUFFIXES = frozenset({".pyi", ".pyc", ".pyx", ".pxd", ".pxi", ".h", ".hpp", ".c", ".cpp", ".proto", ".a", ".lib"})

NEVER_RUN: Mapping[str, tuple[str, ...]] = {
    "ccxt": ("ccxt/async_support", "ccxt/pro", "ccxt/prediction", "ccxt/test"),
    "numpy": ("numpy/_pyinstaller", "bin"),
    "onnx": ("onnx/backend", "onnx/reference", "onnx/tools", "bin"),
    "onnxruntime": ("onnxruntime/transformers", "onnxruntime/tools", "onnxruntime/quantization", "onnxruntime/datasets", "bin"),
    "protobuf": ("google/protobuf/testdata",),
    "scipy": ("scipy/sparse/linalg",),
    "narwhals": ("narwhals/_polars", "narwhals/_spark_like", "narwhals/_duckdb", "narwhals/_dask", "narwhals/_ibis"),
}
"""Folders that no function imports, by distribution."""

ONLY_RUN: Mapping[str, tuple[str, ...]] = {"scipy": ("scipy/sparse", "scipy/_lib", "scipy/_external")}
"""Where a function imports so little of a distribution that it is shorter to name what stays. LightGBM's one use of scipy is
its sparse matrices, which need neither the rest nor its 29 MB of linear algebra in ``scipy.libs``."""

BORROWED: Mapping[str, tuple[str, str]] = {"training": ("scikit_learn.libs/libgomp-*.so*", "libgomp.so.1")}
"""A library that a layer's wheels expect of the system and Lambda lacks: where it lies in the wheel of ``borrowed.txt``, and its
name in ``/opt/lib``."""

LAMBDA_LIBRARIES = (
    *("ld-linux-x86-64", "libc", "libdl", "libm", "libpthread", "librt", "libutil", "libgcc_s", "libstdc++"),
    *("libbz2", "libcrypto", "libffi", "liblzma", "libsqlite3", "libssl", "libuuid", "libz"),
)
"""What the python3.13 runtime itself brings."""

TRIED: Mapping[str, tuple[str, ...]] = {
    "core": ("numpy", "pydantic", "talib", "aws_lambda_powertools", "tickless.settings"),
    "market": ("ccxt",),
    "inference": ("onnxruntime",),
    "training": ("lightgbm", "scipy.sparse", "onnx", "onnx.checker", "onnx.helper", "onnx.numpy_helper"),
}
"""Modules that every function with the layer must be able to import, beside its own run."""


@dataclass(frozen=True)
class Weight:
    """What a layer weighs, unzipped (MiB), before and after pruning."""

    name: str
    raw_mb: float
    mb: float


def pinned(names: Iterable[str], lock: str) -> str:
    """Pip requirements with versions and hashes for ``names``, in order, out of the text of ``requirements.lock``.

    The markers are evaluated for Python 3.13 on Linux. Raises LayerError for a name that the lock does not pin exactly once.
    """
    entries: dict[str, list[str]] = {}
    for entry in re.split(r"\n(?=[A-Za-z0-9])", "\n" + lock):
        match = re.match(r"\s*([A-Za-z0-9._-]+)==([^\s;\\]+)\s*(?:;\s*([^\\\n]+?))?\s*\\\n", entry)
        if match is None or not _applies(match[3] or ""):
            continue
        hashes = re.findall(r"--hash=(sha256:[0-9a-f]{64})", entry)
        entries.setdefault(match[1].lower(), []).append(" ".join([f"{match[1]}=={match[2]}", *(f"--hash={h}" for h in hashes)]))
    chosen = []
    for name in names:
        found = entries.get(name, [])
        if len(found) != 1:
            raise LayerError(f"{name}: requirements.lock pins it {len(found)} times for Python {PYTHON_VERSION} on Linux, must be once")
        chosen.append(found[0])
    return "\n".join(chosen) + "\n"


def _applies(marker: str) -> bool:
    """Whether a lock entry's marker holds on the Lambda runtime."""
    from packaging.markers import Marker

    environment = {
        "python_version": PYTHON_VERSION,
        "python_full_version": f"{PYTHON_VERSION}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "os_name": "posix",
    }
    return not marker or Marker(marker).evaluate(environment)


def build(name: str, python: str | None) -> Weight:
    """Build one layer into ``layers/<name>/build``; what was there before is replaced only when all has gone well."""
    with tempfile.TemporaryDirectory(dir=LAYERS / name, prefix="build-") as folder:
        target = Path(folder) / "layer" / "python"
        target.mkdir(parents=True)
        _download(pinned(requirements(name), LOCK.read_text("utf8")), target)
        raw_mb = weigh(target)
        prune(target, requirements(name))
        if name in BORROWED:
            _borrow(name, target.parent / "lib")
        if name == "market":
            import_exchanges_lazily(target / "ccxt" / "__init__.py")
        if name == "core":
            for place, path in package_content().items():
                copy = target / place
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
        if python is not None:
            _compile(target, python)
        (target.parent / "fingerprint").write_text(fingerprint(name) + "\n", "utf8")
        finished = LAYERS / name / "build"
        shutil.rmtree(finished, ignore_errors=True)
        shutil.move(str(target.parent), finished)
    return Weight(name, raw_mb, weigh(finished))


def _download(pins: str, target: Path) -> None:
    """Install hashed requirements for the runtime's Python and system, wheels only, into ``target``."""
    wanted = target.parent / "requirements.txt"
    wanted.write_text(pins, "utf8")
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in GLIBC_MINORS] + ["manylinux2014_x86_64"]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--only-binary=:all:", "--require-hashes"]
    command += [part for platform in platforms for part in ("--platform", platform)]
    command += ["--implementation", "cp", "--python-version", PYTHON_VERSION, "--target", str(target), "--requirement", str(wanted)]
    # pip compares with the Python it runs on, not with the one it installs for; the hashes say what is right.
    command += ["--ignore-requires-python", "--disable-pip-version-check", "--root-user-action", "ignore"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603  (no shell, our own words)
    wanted.unlink()
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise LayerError(f"pip failed: {last}")


def _borrow(name: str, lib: Path) -> None:
    """Take one library out of a wheel that the layer does not install."""
    pattern, library = BORROWED[name]
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "python"
        target.mkdir()
        _download((LAYERS / name / "borrowed.txt").read_text("utf8"), target)
        found = sorted(target.glob(pattern))
        if len(found) != 1:
            raise LayerError(f"layer {name}: borrowed.txt holds {len(found)} files like {pattern}, must be one")
        lib.mkdir()
        shutil.copy(found[0], lib / library)


def prune(target: Path, distributions: Iterable[str]) -> None:
    """Remove what no function imports: tests, headers, stubs, sources of extensions, tools. Never strips a library."""
    for distribution in distributions:
        for unused in NEVER_RUN.get(distribution, ()):
            shutil.rmtree(target / unused, ignore_errors=True)
        if distribution in ONLY_RUN:
            _keep_only(target, distribution, ONLY_RUN[distribution])
    folders = sorted((path for path in target.rglob("*") if path.is_dir()), key=lambda path: len(path.parts), reverse=True)
    for folder in folders:
        if folder.name in NEVER_RUN_FOLDERS and not _needed(folder, target):
            shutil.rmtree(folder, ignore_errors=True)
    for path in sorted(target.rglob("*")):
        if path.is_file() and path.suffix in NEVER_RUN_SUFFIXES:
            path.unlink()
    for info in target.glob("*.dist-info"):
        for path in info.iterdir():
            # METADATA answers importlib.metadata.version; licences must travel with the code.
            if (
                path.is_file()
                and path.name not in {"METADATA", "entry_points.txt"}
                and not path.name.upper().startswith(("LICEN", "NOTICE"))
            ):
                path.unlink()


def _keep_only(target: Path, distribution: str, kept: tuple[str, ...]) -> None:
    shutil.rmtree(target / f"{distribution}.libs", ignore_errors=True)
    for path in (target / distribution).iterdir():
        if path.is_dir() and path.relative_to(target).as_posix() not in kept:
            shutil.rmtree(path)


def _needed(folder: Path, target: Path) -> bool:
    """Folders named like tests that packages import all the same."""
    return folder.relative_to(target).as_posix() in {"numpy/testing"}


_LAZY_EXCHANGES = '''

import sys as _sys
from importlib import import_module as _import_module
from types import ModuleType as _ModuleType


class _Exchanges(_ModuleType):
    """Loads an exchange when it is first asked for. Its name stands for the class, as ever, never for the module."""

    def __getattr__(self, name):
        if name not in exchanges:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        _import_module(f"{self.__name__}.{name}")
        return self.__dict__[name]

    def __setattr__(self, name, value):
        if name in exchanges and isinstance(value, _ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)


_sys.modules[__name__].__class__ = _Exchanges
'''


def import_exchanges_lazily(path: Path) -> None:
    """Make ``import ccxt`` load an exchange when it is first asked for, not all of them: every one stays usable."""
    text = path.read_text("utf8")
    names = re.search(r"^exchanges = \[(.*?)^\]", text, re.DOTALL | re.MULTILINE)
    if names is None:
        raise LayerError("ccxt/__init__.py: no list of exchanges; its layout has changed")
    exchanges = set(re.findall(r"'([a-z0-9_]+)'", names[1]))
    kept = [
        line for line in text.splitlines() if not ((match := re.match(r"from ccxt\.(\w+) import \1\b", line)) and match[1] in exchanges)
    ]
    kept += _LAZY_EXCHANGES.splitlines()
    path.write_text("\n".join(kept) + "\n", "utf8")


def _compile(target: Path, python: str) -> None:
    # Unchecked hashes: file times differ between two builds, and nobody edits a layer.
    command = [
        python,
        "-m",
        "compileall",
        "-q",
        "-j",
        "2",
        "--invalidation-mode",
        "unchecked-hash",
        "-s",
        str(target),
        "-p",
        "/opt/python",
        ".",
    ]
    done = subprocess.run(command, check=False, cwd=target, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        raise LayerError(f"compiling with {python} failed: {done.stdout.strip()[:300]}")


def weigh(folder: Path) -> float:
    """The size of all files below ``folder``, in MiB."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()) / 2**20


def function_weights(layer_mb: Mapping[str, float]) -> dict[str, float]:
    """What each function whose layers are all in ``layer_mb`` weighs with them (MiB)."""
    own = {name: weigh(ROOT / "functions" / name) for name in FUNCTIONS}
    return {
        name: own[name] + sum(layer_mb[layer] for layer in function.layers)
        for name, function in FUNCTIONS.items()
        if set(function.layers) <= set(layer_mb)
    }


def check_weights(weights: Mapping[str, float]) -> None:
    """Raise LayerError for a function that Lambda would refuse."""
    for name, mb in weights.items():
        if mb > LIMIT_MB:
            raise LayerError(f"function {name}: {mb:.1f} MB with its layers, at most {LIMIT_MB:.0f}")


def _python_3_13(asked: str | None) -> str | None:
    """A Python that makes byte code for the runtime; None where there is none."""
    candidates = [asked] if asked else [sys.executable, f"python{PYTHON_VERSION}"]
    for candidate in candidates:
        path = shutil.which(candidate)
        if path is None:
            continue
        code = "import sys; print('%d.%d' % sys.version_info[:2])"
        done = subprocess.run([path, "-c", code], check=False, capture_output=True, text=True)  # noqa: S603
        if done.stdout.strip() == PYTHON_VERSION:
            return path
    if asked:
        raise LayerError(f"--python {asked}: is not a Python {PYTHON_VERSION}")
    return None


_TRY = """
import importlib, sys
layers, allowed, *names = sys.argv[1:]
for name in names:
    importlib.import_module(name)
loaded = {line.split()[-1] for line in open("/proc/self/maps") if ".so" in line}
for path in sorted(path for path in loaded if not path.startswith((layers, sys.base_prefix))):
    stem = path.rsplit("/", 1)[1].split(".so")[0]
    if not any(stem == name or stem.startswith(name + "-") for name in allowed.split()):
        sys.exit(f"loads {path}, which Lambda does not have")
"""


def try_imports(python: str, built: Iterable[str]) -> None:
    """Import what each function needs with nothing but its layers on the path, on Linux.

    Raises LayerError with the import that fails, or the library that came from this system and would be missing on Lambda.
    """
    for name, function in FUNCTIONS.items():
        if not set(function.layers) <= set(built):
            continue
        folders = [LAYERS / layer / "build" for layer in function.layers]
        modules = [module for layer in function.layers for module in TRIED[layer]]
        environment = {
            "PYTHONPATH": os.pathsep.join(str(folder / "python") for folder in folders),
            "LD_LIBRARY_PATH": os.pathsep.join(str(folder / "lib") for folder in folders),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
        }
        command = [python, "-S", "-c", _TRY, str(LAYERS), " ".join(LAMBDA_LIBRARIES), f"tickless.runs.{name}", *modules]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)  # noqa: S603
        if done.returncode:
            raise LayerError(f"function {name}: {(done.stderr.strip().splitlines() or ['an import failed'])[-1]}")


def main(arguments: Sequence[str] | None = None, say: Callable[[str], object] = lambda line: sys.stdout.write(line + "\n")) -> int:
    """Build the layers named, or all; 0 when every function that can be weighed is light enough."""
    parser = argparse.ArgumentParser(prog="python layers/build.py", description="Build the Lambda layers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"layers to build (default: all of {', '.join(layer_names())})")
    parser.add_argument("--python", help=f"a Python {PYTHON_VERSION} that compiles the modules (default: one on the PATH)")
    options = parser.parse_args(arguments)
    try:
        python = _python_3_13(options.python)
        say(f"{'layer':<18}{'raw MB':>9}{'MB':>9}")
        for name in options.names or layer_names():
            weight = build(name, python)
            say(f"{weight.name:<18}{weight.raw_mb:>9.1f}{weight.mb:>9.1f}")
        built = {name: weigh(LAYERS / name / "build") for name in layer_names() if (LAYERS / name / "build").is_dir()}
        weights = function_weights(built)
        say(f"\n{'function':<18}{'':>9}{'MB':>9}   of {LIMIT_MB:.0f}")
        for name, mb in weights.items():
            say(f"{name:<18}{'':>9}{mb:>9.1f}   {', '.join(FUNCTIONS[name].layers)}")
        if python is None:
            say(f"\nNeither compiled nor tried: no Python {PYTHON_VERSION} found. Cold starts will compile every module they import.")
        else:
            try_imports(python, built)
        check_weights(weights)
    except LayerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
