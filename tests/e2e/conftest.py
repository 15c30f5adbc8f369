"""Fixtures of the end-to-end tests: desks on the local AWS, and the ``tickless`` command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from local_desk import LocalDesk, local_desk, small_market

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def desk(root: Path) -> Iterator[LocalDesk]:
    """A desk that has never run, on a small synthetic market."""
    with local_desk(root, small_market()) as desk:
        yield desk


@pytest.fixture(scope="session")
def desks(root: Path) -> Callable[[], AbstractContextManager[LocalDesk]]:
    """Makes desks that have never run, on the same small synthetic market."""
    return lambda: local_desk(root, small_market())


@pytest.fixture(scope="session")
def tickless(root: Path) -> Run:
    """Runs the installed command as a person would, from the checkout."""

    def run(*arguments: object, code: int = 0, env: Sequence[tuple[str, str]] = ()) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("tickless")), *map(str, arguments)]
        done = subprocess.run(command, cwd=root, env={**os.environ, **dict(env)}, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


@pytest.fixture(scope="session")
def first_of_june() -> datetime:
    return datetime(2024, 6, 1, tzinfo=UTC)
