"""A replay: recorded bars, the real handlers, the local AWS. What ``tickless replay`` and ``tickless demo`` run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import tickless
from tickless import bootstrap
from tickless.adapters.folder_market import FolderMarket
from tickless.adapters.folder_models import FolderModelStore
from tickless.adapters.memory import ManualClock
from tickless.adapters.price_scales import PanelScales
from tickless.adapters.sim_exchange import SimExchange, TextAccounts
from tickless.backtest.engine import ParameterChange
from tickless.backtest.memory import PanelBars
from tickless.backtest.record import FinishedRun, collect, stored_lines
from tickless.backtest.report import write_report
from tickless.backtest.results import write_results
from tickless.bootstrap import Cloud, Environment, Wiring
from tickless.cli.options import check_out
from tickless.errors import InputError, TicklessError
from tickless.localcloud.assembly import ensure_assembly, load_assembly
from tickless.localcloud.cloud import LocalCloud
from tickless.localcloud.scheduler import Firing, LocalScheduler
from tickless.runs.gather import pairs_to_run
from tickless.settings import load_desk
from tickless.types import iso

STAGE = "dev"
Progress = Callable[[int, int], None]
"""(ticks fired, ticks planned)."""


@dataclass(frozen=True)
class ReplayRequest:
    """What to replay."""

    desk: str
    overrides: tuple[str, ...]
    market: FolderMarket
    start: datetime
    end: datetime
    out: Path
    models: Path | None = None
    retrain: bool = True
    note: str = ""
    changes: Sequence[ParameterChange] = ()
    """In order of time; written to SSM before the first event from their time on is delivered."""


def project_root() -> Path:
    """The checkout that holds ``functions/`` and ``infra/``; raises InputError where there is none."""
    for folder in (Path.cwd(), *Path.cwd().parents, Path(tickless.__file__).resolve().parents[2]):
        if (folder / "functions").is_dir() and (folder / "infra" / "app.py").is_file():
            return folder
    raise InputError(f"{Path.cwd()}: not inside a checkout of tickless; the local AWS needs its functions/ and infra/")


def replay(request: ReplayRequest, progress: Progress = lambda _done, _of: None) -> dict[str, Any]:
    """Fire every schedule of the desk over the timerange through its real handlers, write the result folder, return the summary.

    Raises InputError for bad input before anything is written, TicklessError when a tick fails for good.
    """
    began = time.monotonic()
    settings = load_desk(request.desk, request.overrides)
    pairs = pairs_to_run(request.market.panel, request.market.pairs(), settings, request.start, request.end)
    check_out(request.out)
    root = project_root()
    assembly = load_assembly(ensure_assembly(root, request.desk, STAGE, request.overrides))
    clock = ManualClock(request.start - timedelta(minutes=1))
    wiring = Wiring(market=request.market, clock=clock, ends_at=request.end)
    with LocalCloud(assembly.template, stage=STAGE, functions_dir=root / "functions", wiring=lambda: bootstrap.wired(wiring)) as local:
        cloud = wiring.cloud(Environment.read(local.functions()["risk_check"].environment))
        if request.models is not None:
            FolderModelStore(request.models).copy_to(cloud.models, shadows=request.retrain)
        without = () if request.retrain else ("retrain",)
        before = partial(_write_due, list(request.changes), cloud)
        scheduler = LocalScheduler(local, clock, request.start, request.end, without=without, before=before)
        for done, firing in enumerate(scheduler.fire(), start=1):
            _require_success(firing)
            progress(done, scheduler.planned)
        panel, ledger = request.market.panel, cloud.ledger
        # What ends the run looks at bars that have closed since the last tick, which no tick has stored.
        exchange = SimExchange(TextAccounts(cloud.sim_store), PanelBars(panel), request.market, settings, PanelScales(panel))
        lines = partial(stored_lines, cloud.trace)
        run = FinishedRun(settings, panel, pairs, request.start, request.end, ledger, lines, exchange, request.note)
        record = collect(run)
    record = replace(record, seconds=round(time.monotonic() - began, 3))
    summary = write_results(record, request.out)
    write_report(record, summary, request.out)
    return summary


def _write_due(changes: list[ParameterChange], cloud: Cloud, at: datetime) -> None:
    """Write the changes that are due at ``at``, and forget them."""
    while changes and changes[0].at <= at:
        change = changes.pop(0)
        cloud.parameters.write(change.section, change.text)


def _require_success(firing: Firing) -> None:
    if firing.dead:
        error = firing.result.error if firing.result is not None else None
        what = f"{error.type}: {error.message}" if error is not None else "not delivered"
        raise TicklessError(f"{firing.function} at {iso(firing.scheduled_at)} failed for good: {what}")
    answer = firing.result.payload if firing.result is not None else None
    # In the cloud a night goes on without a model that failed; a backtest stops there, and so does its replay.
    for model, why in (answer.get("failed") or {}).items() if isinstance(answer, dict) else ():
        raise TicklessError(f"{firing.function} at {iso(firing.scheduled_at)}: {model} failed: {why}")
