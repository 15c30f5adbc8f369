"""Options that several commands share, and the values they parse to."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Protocol

import typer

from tickless.errors import InputError
from tickless.types import TIMEFRAME_MINUTES

Desk = Annotated[str, typer.Option("--desk", help="A built-in desk (tickless desk list) or a TOML file.")]


def path_of(text: str | Path) -> Path:
    """The path that an option names. An empty text names none: as a path it would be the folder one happens to be in."""
    if not str(text):
        raise ValueError("must name a path")
    return Path(text)


def bars_folder(text: str | Path) -> Path:
    """The folder that ``--data`` names; raises InputError where there is none."""
    folder = path_of(text)
    if not folder.is_dir():
        raise InputError(f"--data {folder}: {'is a file, the bars are a folder' if folder.exists() else 'no such folder'}")
    return folder


PATH = "<path>"
Data = Annotated[Path, typer.Option("--data", parser=bars_folder, metavar=PATH, help="Folder of bars in freqtrade's layout.")]
Timerange = Annotated[str, typer.Option("--timerange", help="YYYYMMDD-YYYYMMDD, UTC, the end excluded.")]
Out = Annotated[Path, typer.Option("--out", parser=path_of, metavar=PATH, help="Folder for the results.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="section.key=value for this run; repeatable.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def parse_timerange(text: str) -> tuple[datetime, datetime]:
    """``20240601-20240608`` as [start, end) in UTC; raises InputError."""
    found = re.fullmatch(r"([0-9]{8})-([0-9]{8})?", text)
    if found is None:
        raise InputError(f"--timerange {text}: must be YYYYMMDD-YYYYMMDD")
    start = _midnight(found[1], text)
    if found[2] is None:
        raise InputError(f"--timerange {text}: must name its end too, as {text}YYYYMMDD (`tickless data check` tells where bars end)")
    end = _midnight(found[2], text)
    if start >= end:
        raise InputError(f"--timerange {text}: must end after it starts")
    return start, end


def _midnight(day: str, text: str) -> datetime:
    try:
        return datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise InputError(f"--timerange {text}: there is no day {day[:4]}-{day[4:6]}-{day[6:]}") from error


def check_timeframe(timeframe: str, option: str = "--timeframe") -> None:
    """Raise InputError, naming the option, for a timeframe that is not known."""
    if timeframe not in TIMEFRAME_MINUTES:
        raise InputError(f"{option} {timeframe!r}: unknown; known: {', '.join(TIMEFRAME_MINUTES)}")


def check_out(out: Path, option: str = "--out", what: str = "the results") -> None:
    """Make sure, before anything runs, that ``out`` is a folder one can write into, or can be made one; leaves nothing behind.

    Raises InputError naming the option. It tries, because permissions do not tell: root has all of them, and cannot write everywhere.
    """
    if os.path.lexists(out) and not os.path.isdir(out):  # noqa: PTH112 (pathlib raises where a name is too long)
        raise InputError(f"{option} {out}: is a file, {what} need a folder")
    _try_folder(out, f"{option} {out}: {what} need a folder, and none can be written there")


def check_out_file(out: Path, option: str = "--out") -> None:
    """Make sure, before anything runs, that the file ``out`` can be written; leaves nothing behind. Raises InputError naming the option."""
    if os.path.isdir(out):  # noqa: PTH112 (as above)
        raise InputError(f"{option} {out}: is a folder, expected a file")
    _try_folder(out.parent, f"{option} {out}: no file can be written there")


def _try_folder(folder: Path, complaint: str) -> None:
    """Make the missing folders inside a scratch folder of the nearest one that exists: other runs may make the real ones meanwhile."""
    try:
        wanted = folder.resolve()
        there = next(step for step in (wanted, *wanted.parents) if step.exists())
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=there) as scratch:
            (Path(scratch) / wanted.relative_to(there)).mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:
        raise InputError(f"{complaint} ({getattr(error, 'strerror', None) or error})") from error


class Advance(Protocol):
    """Tells a progress bar how far a job is."""

    def __call__(self, done: int, total: int, /) -> None:
        """``done`` of ``total`` steps."""
        ...


@contextmanager
def progress_bar(what: str) -> Iterator[Advance]:
    """A progress bar on stderr where that is a terminal; nothing otherwise."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _done, _total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
