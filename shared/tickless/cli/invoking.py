"""``tickless invoke``: wake one function by hand, the deployed one or the same handler on the local AWS."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tickless import errors
from tickless.cli.deployed import DeployedDesk, Stage, find_desk, translated
from tickless.cli.options import PATH, Json, Overrides, bars_folder
from tickless.cli.printing import print_json
from tickless.errors import InputError, TicklessError
from tickless.settings import Settings, load_desk
from tickless.types import Tick, iso, parse_time

if TYPE_CHECKING:
    from tickless.adapters.folder_market import FolderMarket
    from tickless.localcloud.runtime import EmittedMetric

DEFAULT_DESK = "rotation"
LONGEST_S = 910
"""Lambda's longest time-out, and some seconds for the answer's way."""
SYNTHETIC_PAIRS = 24
SYNTHETIC_SEED = 7
AFTER_EVENT = timedelta(days=1)
"""How long a synthetic market goes on after the event: market orders fill at the open of the bar that opens at its time."""


@dataclass(frozen=True)
class Invocation:
    """What one invocation answered and wrote."""

    function: str
    answer: Any
    logs: Sequence[str]
    """The lines it wrote; of a deployed function the last 4 KB."""
    metrics: Sequence[EmittedMetric] = field(default_factory=tuple)
    error: TicklessError | None = None


def invoke(
    function: Annotated[str, typer.Argument(help="risk_check, feature_rebalance, full_rebalance, scan or retrain.")],
    event: Annotated[Path, typer.Option("--event", help="JSON file with the event; - reads it from stdin.")],
    stage: Stage = "dev",
    local: Annotated[bool, typer.Option("--local", help="On a local AWS with a new desk, not the deployed function.")] = False,
    data: Annotated[
        Path | None,
        typer.Option("--data", parser=bars_folder, metavar=PATH, help="With --local: bars of this folder; else a synthetic market."),
    ] = None,
    desk: Annotated[str | None, typer.Option("--desk", help="With --local: a built-in desk or a TOML file (rotation).")] = None,
    overrides: Overrides = None,
    now: Annotated[str | None, typer.Option("--now", help="With --local: the time it is; else a second after the event's.")] = None,
    json_: Json = False,
) -> None:
    """Invoke one function with an event, and print its answer and what it logged.

    A deployed function refuses an event that is older than schedule.max_event_age_s; on the local AWS the clock stands at the event's time.

    The event of a scan also names its strategy.

    Example: tickless invoke risk_check --event functions/risk_check/events/scheduled.json --local
    """
    content = read_event(event)
    if local:
        with _working(f"{function} on the local AWS"):
            done = invoke_local(function, content, stage=stage, data=data, desk=desk or DEFAULT_DESK, overrides=overrides or (), now=now)
    else:
        given = {"--data": data, "--desk": desk, "--set": overrides, "--now": now}
        for option in (name for name, value in given.items() if value):
            raise InputError(f"{option}: only with --local; a deployed function has its own")
        with _working(f"{function} of {stage}"):
            done = invoke_deployed(find_desk(stage), function, content)
    _print(done, json_=json_)
    if done.error is not None:
        raise done.error


def read_event(path: Path) -> Any:
    """The JSON of an event file, or of stdin for ``-``; raises InputError naming it."""
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text("utf8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--event {path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"--event {path}: not JSON ({error})") from error


def invoke_deployed(desk: DeployedDesk, function: str, event: Any) -> Invocation:
    """Invoke a deployed function and wait. What went wrong inside it is in ``error``; raises InputError for an unknown function."""
    if function not in desk.functions:
        raise InputError(f"function {function!r}: not in stack {desk.stack}; there are {', '.join(desk.functions) or 'none'}")
    with translated(desk.stack):
        import boto3
        from botocore.config import Config

        # Asking again after a lost answer would run the function twice; the tick's record would stop the second, but only for that.
        config = Config(connect_timeout=5, read_timeout=LONGEST_S, retries={"total_max_attempts": 1})
        client = boto3.client("lambda", config=config)
        answer: Mapping[str, Any] = client.invoke(FunctionName=desk.functions[function], LogType="Tail", Payload=json.dumps(event).encode())
        text = answer["Payload"].read().decode() or "null"
    logs = tuple(base64.b64decode(answer.get("LogResult", "")).decode("utf8", "replace").splitlines())
    payload = json.loads(text)
    if "FunctionError" in answer:
        return _invocation(function, payload, logs, failure(function, payload))
    return _invocation(function, payload, logs)


def invoke_local(
    function: str, event: Any, *, stage: str, data: Path | None, desk: str, overrides: Sequence[str], now: str | None
) -> Invocation:
    """Invoke a function on a local AWS made for it, with a desk that has never run. Raises InputError for anything given wrong."""
    from tickless import bootstrap
    from tickless.adapters.memory import ManualClock
    from tickless.cli.replaying import project_root
    from tickless.localcloud.assembly import ensure_assembly, load_assembly
    from tickless.localcloud.cloud import LocalCloud

    root = project_root()
    known = sorted(path.parent.name for path in (root / "functions").glob("*/handler.py"))
    if function not in known:
        raise InputError(f"function {function!r}: unknown; known: {', '.join(known)}")
    tick = bootstrap.parse_tick(function, event)
    settings = load_desk(desk, overrides)
    woken = list(dict.fromkeys(timer.function for timer in settings.calendar.timers()))
    if function not in woken:
        raise InputError(f"function {function!r}: the desk {desk} does not wake it; it wakes {', '.join(woken)}")
    clock = ManualClock(tick.scheduled_at + timedelta(seconds=1) if now is None else _time(now))
    wiring = bootstrap.Wiring(market=_market(tick, settings, data), clock=clock)
    assembly = load_assembly(ensure_assembly(root, desk, stage, tuple(overrides)))
    with LocalCloud(assembly.template, stage=stage, functions_dir=root / "functions", wiring=lambda: bootstrap.wired(wiring)) as cloud:
        result = cloud.invoke(function, event)
    error = None if result.error is None else failure(function, result.payload)
    return _invocation(function, result.payload, result.logs, error)


def failure(function: str, payload: Any) -> TicklessError:
    """Lambda's error object as the error of our tree that left the handler; anything else as a TicklessError that names it."""
    content = payload if isinstance(payload, Mapping) else {}
    name, message = str(content.get("errorType", "error")), str(content.get("errorMessage", payload))
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, TicklessError):
        return kind(message)
    return TicklessError(f"{function} failed: {name}: {message}")


def _invocation(function: str, payload: Any, logs: Sequence[str], error: TicklessError | None = None) -> Invocation:
    from tickless.localcloud.runtime import parse_metrics

    return Invocation(function, None if error else payload, logs, tuple(parse_metrics(tuple(logs))), error)


def _market(tick: Tick, settings: Settings, data: Path | None) -> FolderMarket:
    """The bars of a folder, or a synthetic market that reaches back as far as the function reads."""
    from tickless.adapters.folder_market import FolderMarket, load_market
    from tickless.adapters.synthetic_market import make_market
    from tickless.learn.spec import desk_specs
    from tickless.runs.desk_strategies import history_start
    from tickless.runs.retrain import training_start

    desk, at = settings.desk, tick.scheduled_at
    if data is not None:
        market, _ = load_market(data, desk.timeframe, quote=desk.stake_currency, now=datetime.now(UTC))
        if not market.panel.start < at <= market.panel.end:
            first, last = iso(market.panel.start), iso(market.panel.end)
            raise InputError(f"--data {data}: no bar has closed at {iso(at)}, the event's time; the bars reach from {first} to {last}")
        return market
    start = training_start(settings, at, desk_specs(settings)[0]) if tick.function == "retrain" else history_start(settings, at)
    made = make_market(
        pairs=SYNTHETIC_PAIRS,
        start=start,
        end=at + AFTER_EVENT,
        timeframe=desk.timeframe,
        seed=SYNTHETIC_SEED,
        quote=desk.stake_currency,
    )
    return FolderMarket(made.panel, made.rules)


def _time(text: str) -> datetime:
    try:
        return parse_time(text)
    except (ValueError, OverflowError) as error:
        raise InputError(f"--now {text}: not an ISO 8601 time with a zone, such as 2024-06-01T00:15:01Z") from error


@contextmanager
def _working(what: str) -> Iterator[None]:
    """Something that moves on stderr where that is a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(what):
        yield


def _print(done: Invocation, *, json_: bool) -> None:
    """The answer on stdout; for people also the log lines, and the metrics in a line of their own."""
    values = _metric_values(done.metrics)
    lines = [line for line in done.logs if '"_aws"' not in line]
    if json_:
        error = {"type": type(done.error).__name__, "message": str(done.error)} if done.error else None
        print_json({"function": done.function, "answer": done.answer, "error": error, "metrics": values, "logs": lines})
        return
    for line in lines:
        typer.echo(line, err=done.error is not None)
    if values:
        typer.echo("metrics: " + ", ".join(f"{name} {value:g}" for name, value in values.items()), err=done.error is not None)
    if done.error is None:
        print_json(done.answer)


def _metric_values(metrics: Sequence[EmittedMetric]) -> dict[str, float]:
    """The sum of each counter and the last value of each gauge, by name."""
    values: dict[str, float] = {}
    for metric in metrics:
        counted = metric.unit == "Count"
        values[metric.name] = values.get(metric.name, 0.0) + sum(metric.values) if counted else metric.values[-1]
    return values
