"""``tickless practise``: operate a desk on a synthetic market and a local AWS, without an account anywhere."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import typer

from tickless.cli.clock import going_by
from tickless.cli.invoking import failure
from tickless.cli.options import Desk, Overrides
from tickless.cli.printing import note
from tickless.errors import InputError, RefusedError, TicklessError
from tickless.settings import Settings, load_desk
from tickless.types import Tick, iso

if TYPE_CHECKING:
    from tickless.localcloud.runtime import InvocationResult

START = datetime(2024, 6, 3, tzinfo=UTC)
LENGTH = timedelta(days=30)
PAIRS, SEED = 12, 3
STAGE = "dev"
ELSEWHERE = ("demo", "replay", "practise")
"""Commands with a local AWS of their own."""
HELP = "tick [N]: let the next N times at which the desk wakes come. Any command of tickless, such as status. exit: the end."


def practise(
    desk: Desk = "rotation",
    overrides: Overrides = None,
) -> None:
    """Operate a desk on a synthetic market and a local AWS: type `tick` to let time pass, or any command, such as `status`.

    Nothing is kept at the end, and no desk goes live here. Models are not trained: rotation decides without them.

    Example: tickless practise
    """
    with _practice_desk(desk, tuple(overrides or ())) as wake:
        note(HELP)
        for line in _lines():
            try:
                _obey(shlex.split(line), wake)
            except (TicklessError, ValueError) as error:
                note(f"tickless: {error}")


def _obey(words: list[str], wake: Callable[[], str]) -> None:
    """Carry out one line. Raises TicklessError for what is refused here; commands tell their own errors."""
    words = words[1:] if words[:1] == ["tickless"] else words  # As it is typed everywhere else.
    if not words or words[0] == "help":
        note(HELP)
    elif words[0] == "tick":
        times = " ".join(words[1:]) or "1"
        if not times.isdecimal() or not 1 <= int(times) <= 1000:
            raise InputError(f"tick {times}: must be a number from 1 to 1000")
        for _ in range(int(times)):
            typer.echo(wake())
    elif words[0] in ELSEWHERE or "--local" in words:
        raise InputError(f"{words[0]}: has a local AWS of its own; run it outside")
    elif "--live" in words:
        raise RefusedError("--live: no desk goes live where one practises")
    else:
        from tickless.cli.app import app

        try:
            app(words, prog_name="tickless")
        except SystemExit:
            return  # Its exit code is a shell's business.


@contextmanager
def _practice_desk(desk: str, overrides: tuple[str, ...]) -> Iterator[Callable[[], str]]:
    """A deployed desk that has never run; yields what lets its next tick come, and tells what came of it."""
    from tickless import bootstrap
    from tickless.adapters.folder_market import FolderMarket
    from tickless.adapters.memory import ManualClock
    from tickless.adapters.synthetic_market import make_market
    from tickless.cli.replaying import project_root
    from tickless.localcloud.assembly import ensure_assembly, load_assembly
    from tickless.localcloud.cloud import LocalCloud
    from tickless.runs.desk_strategies import history_start

    settings = load_desk(desk, overrides)
    if settings.desk.mode == "live":
        raise RefusedError(f"{desk}: desk.mode is 'live'; practise with --set desk.mode=dry_run")
    root, clock = project_root(), ManualClock(START)
    made = make_market(
        pairs=PAIRS,
        start=history_start(settings, START),
        end=START + LENGTH + timedelta(days=1),
        timeframe=settings.desk.timeframe,
        seed=SEED,
        quote=settings.desk.stake_currency,
    )
    wiring = bootstrap.Wiring(market=FolderMarket(made.panel, made.rules), clock=clock)
    assembly = load_assembly(ensure_assembly(root, desk, STAGE, overrides))
    with LocalCloud(assembly.template, stage=STAGE, functions_dir=root / "functions", wiring=lambda: bootstrap.wired(wiring)) as local:
        times = _times(settings)

        def wake() -> str:
            due = next(times, None)
            if due is None:
                raise InputError(f"tick: the market ends at {iso(START + LENGTH)}; begin anew")
            clock.set(due[0].scheduled_at + timedelta(seconds=1))
            told = [f"{tick.name} {_outcome(tick, local.invoke(tick.function, _event(tick)))}" for tick in due]
            return f"{iso(due[0].scheduled_at)}: {', '.join(told)}"

        with going_by(clock):
            yield wake


def _times(settings: Settings) -> Iterator[tuple[Tick, ...]]:
    """The ticks of each minute at which the desk wakes, in their order."""
    minutes = (START + timedelta(minutes=n) for n in range(int(LENGTH.total_seconds()) // 60))
    return (due for due in map(settings.calendar.due_at, minutes) if due)


def _event(tick: Tick) -> dict[str, Any]:
    return {"scheduled_time": iso(tick.scheduled_at)} | ({"strategy": tick.strategy} if tick.strategy else {})


def _outcome(tick: Tick, result: InvocationResult) -> str:
    if result.error is not None:
        return f"failed ({failure(tick.function, result.payload)})"
    count = result.payload.get("orders", 0)
    return f"{result.payload['status']}, {count} order{'' if count == 1 else 's'}"


def _lines() -> Iterator[str]:
    """What a person types, or what is in a pipe, up to ``exit`` or its end."""
    while True:
        if sys.stdin.isatty():
            sys.stderr.write("practise> ")
            sys.stderr.flush()
        line = sys.stdin.readline()
        if not line or line.strip() in ("exit", "quit"):
            return
        yield line
