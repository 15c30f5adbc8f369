"""A replay: recorded bars, the real handlers, the local AWS. What ``tickless replay`` and ``tickless demo`` run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import tickless
from tickless import bootstrap
from tickless.adapters.bar_files import data_sha256
from tickless.adapters.folder_market import FolderMarket
from tickless.adapters.folder_models import FolderModelStore
from tickless.adapters.memory import ManualClock
from tickless.adapters.sim_exchange import SimExchange
from tickless.backtest.report import write_report
from tickless.backtest.results import RunRecord, tick_lines, write_results
from tickless.bootstrap import Cloud, Environment, Wiring
from tickless.errors import InputError, TicklessError
from tickless.execution.accounting import book
from tickless.execution.planning import client_order_id
from tickless.localcloud.assembly import ensure_assembly, load_assembly
from tickless.localcloud.cloud import LocalCloud
from tickless.localcloud.scheduler import Firing, LocalScheduler
from tickless.pipeline import portfolio_value
from tickless.ports import ModelStore
from tickless.runs.gather import check_timerange, universe_pairs
from tickless.settings import TRADING_ORDER, Settings, load_desk
from tickless.types import DeskState, LedgerUpdate, Order, OrderType, Side, Tick, iso

STAGE = "dev"
END_OF_DATA = "end_of_data"
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
    check_timerange(request.market.panel, request.start, request.end)
    pairs = universe_pairs(request.market.pairs(), settings.universe, settings.desk.stake_currency)
    if not pairs:
        raise InputError(f"universe: no pair quoted in {settings.desk.stake_currency} is left to trade")
    if request.out.is_file():
        raise InputError(f"{request.out}: is a file, the results need a folder")
    root = project_root()
    assembly = load_assembly(ensure_assembly(root, request.desk, STAGE, request.overrides))
    clock = ManualClock(request.start - timedelta(minutes=1))
    wiring = Wiring(market=request.market, clock=clock)
    with LocalCloud(assembly.template, stage=STAGE, functions_dir=root / "functions", wiring=lambda: bootstrap.wired(wiring)) as local:
        cloud = wiring.cloud(Environment.read(local.functions()["risk_check"].environment))
        if request.models is not None:
            copy_models(FolderModelStore(request.models), cloud.models)
        without = () if request.retrain else ("retrain",)
        scheduler = LocalScheduler(local, clock, request.start, request.end, without=without)
        for done, firing in enumerate(scheduler.fire(), start=1):
            _require_success(firing)
            progress(done, scheduler.planned)
        record = _collect(request, settings, pairs, cloud)
    record = replace(record, seconds=round(time.monotonic() - began, 3))
    summary = write_results(record, request.out)
    write_report(record, summary, request.out)
    return summary


def copy_models(source: ModelStore, target: ModelStore) -> None:
    """Copy every version and promotion of a registry into another."""
    for name in source.names():
        for version in source.versions(name):
            target.register(name, version.version, version.manifest, source.artifact(version))
        for promotion in source.promotions(name):
            target.promote(name, promotion)


def _require_success(firing: Firing) -> None:
    if firing.dead:
        error = firing.result.error if firing.result is not None else None
        what = f"{error.type}: {error.message}" if error is not None else "not delivered"
        raise TicklessError(f"{firing.function} at {iso(firing.scheduled_at)} failed for good: {what}")


def _collect(request: ReplayRequest, settings: Settings, pairs: tuple[str, ...], cloud: Cloud) -> RunRecord:
    """Read everything the run left in the ledger and the traces."""
    ledger = cloud.ledger
    state = ledger.load() or DeskState(settings.desk.dry_run_wallet, settings.desk.dry_run_wallet)
    panel = request.market.panel
    closes = _last_closes(request)
    if settings.execution.close_at_end:
        state = _close_positions(request, settings, state, closes, cloud)
    records = sorted(ledger.ticks(), key=lambda r: (r.tick.scheduled_at, _rank(r.tick.function)))
    return RunRecord(
        settings=settings,
        start=request.start,
        end=request.end,
        pairs=pairs,
        start_equity=settings.desk.dry_run_wallet,
        end_equity=Decimal(repr(portfolio_value(state, closes))),
        orders=tuple(ledger.orders()),
        fills=tuple(ledger.fills()),
        trades=tuple(ledger.trades()),
        equity=tuple(ledger.equity()),
        ticks=tuple(tick_lines(_traces(cloud, [r.tick for r in records], {r.tick: r.summary for r in records}))),
        market=panel,
        data_sha256=data_sha256(panel.between(panel.start, request.end)),
        seconds=0.0,
        note=request.note,
    )


def _rank(function: str) -> int:
    return TRADING_ORDER.index(function) if function in TRADING_ORDER else len(TRADING_ORDER)


def _traces(cloud: Cloud, ticks: list[Tick], summaries: dict[Tick, Any]) -> Iterator[dict[str, Any]]:
    for tick in ticks:
        trace = cloud.trace.read(tick) or {**summaries[tick], "id": tick.id, "function": tick.function, "at": iso(tick.scheduled_at)}
        yield dict(trace)


def _last_closes(request: ReplayRequest) -> dict[str, float]:
    """The last close of every pair at or before the end of the run."""
    close = request.market.panel.closed_at(request.end).close
    closes = {}
    for n, pair in enumerate(request.market.panel.pairs):
        known = close[:, n][close[:, n] == close[:, n]]
        if len(known):
            closes[pair] = float(known[-1])
    return closes


def _close_positions(request: ReplayRequest, settings: Settings, state: DeskState, closes: dict[str, float], cloud: Cloud) -> DeskState:
    """Sell what is open at the last bar's close: ``execution.close_at_end``."""
    exchange = SimExchange(cloud.sim_store, cloud.bars, request.market, settings)
    tick = Tick(request.end, END_OF_DATA)
    fence = cloud.ledger.acquire(tick.id, request.end, settings.schedule.lease_ttl_s)
    for open_order in list(state.orders.values()):
        state = _book_at_end(state, open_order, exchange.cancel(open_order, request.end), cloud, fence)
    for pair, position in sorted(state.positions.items()):
        order = Order(
            client_order_id=client_order_id(settings.desk.name, position.strategy, tick, pair, Side.SELL.value),
            tick_at=request.end,
            strategy=position.strategy,
            pair=pair,
            side=Side.SELL,
            type=OrderType.MARKET,
            qty=position.qty,
            reason=END_OF_DATA,
            reduce_only=True,
        )
        state = state.with_order(order)
        state = _book_at_end(state, order, exchange.liquidate(order, request.end, closes[pair]), cloud, fence)
    cloud.ledger.release(fence)
    return state


def _book_at_end(state: DeskState, order: Order, report: Any, cloud: Cloud, fence: Any) -> DeskState:
    booking = book(state, order, report)
    updates: list[LedgerUpdate] = [booking.update] if booking.update is not None else []
    cloud.ledger.journal(fence, updates)
    return booking.state
