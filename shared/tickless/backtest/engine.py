"""The backtest: the desk's own ticks over history, in memory. Decisions, orders and fills are those of the cloud, made by the same code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from tickless.adapters.folder_market import FolderMarket
from tickless.adapters.memory import ManualClock
from tickless.adapters.memory_models import MemoryModelStore
from tickless.adapters.price_scales import PanelScales
from tickless.adapters.sim_exchange import PlainAccounts, SimExchange
from tickless.backtest.history import History
from tickless.backtest.memory import FixedParameters, LineTrace, PanelBars, RunLedger, Silence
from tickless.backtest.record import FinishedRun, collect
from tickless.backtest.results import RunRecord
from tickless.bars import Panel
from tickless.pipeline import Decision, decide_rebalance, decide_risk
from tickless.ports import ModelStore, Ports, Venue
from tickless.runs import feature_rebalance, full_rebalance, retrain, risk_check
from tickless.runs.desk_tick import Step, TickContext, run_tick
from tickless.runs.gather import pairs_to_run
from tickless.settings import ScheduleSection, Settings, effect_rank
from tickless.types import Tick

Progress = Callable[[int, int], None]
HistoryFactory = Callable[[Panel, Sequence[str], Settings, datetime, ModelStore], History]
"""(panel, pairs, settings, start, models) → the history whose views the ticks decide on."""


@dataclass(frozen=True)
class BacktestRequest:
    """What to backtest."""

    settings: Settings
    market: FolderMarket
    start: datetime
    end: datetime
    models: ModelStore | None = None
    """Models to start from; none are changed."""
    retrain: bool = True
    note: str = ""
    history_factory: HistoryFactory = History


def backtest(request: BacktestRequest, progress: Progress = lambda _done, _of: None) -> RunRecord:
    """Run every tick of the desk's schedule over [start, end) and collect what it left.

    Raises InputError for a timerange outside the data or an empty universe.
    """
    settings, market = request.settings, request.market
    pairs = pairs_to_run(market.panel, market.pairs(), settings, request.start, request.end)
    models = MemoryModelStore()
    if request.models is not None:
        copy_models(request.models, models)
    desk = _Desk(request, pairs, models)
    ticks = calendar(settings.schedule, request.start, request.end, with_retrain=request.retrain)
    for done, tick in enumerate(ticks, start=1):
        desk.run(tick)
        progress(done, len(ticks))
    return collect(desk.finished())


def calendar(schedule: ScheduleSection, start: datetime, end: datetime, *, with_retrain: bool) -> list[Tick]:
    """Every tick of a schedule in [start, end), in the order of effect. ``start`` is the time of a risk check."""
    checks = -(-(end - start) // timedelta(minutes=schedule.risk_check_every_min))
    times = [start + n * timedelta(minutes=schedule.risk_check_every_min) for n in range(checks)]
    ticks = [Tick(at, function) for at in times for function in schedule.due_at(at)]
    if with_retrain:
        hour, minute = (int(part) for part in schedule.retrain_at.split(":"))
        first = start.replace(hour=hour, minute=minute)
        nights = [first + timedelta(days=n) for n in range((end - start).days + 2)]
        ticks += [Tick(at, retrain.NAME) for at in nights if start <= at < end]
    return sorted(ticks, key=lambda tick: (tick.scheduled_at, effect_rank(tick.function)))


def copy_models(source: ModelStore, target: ModelStore) -> None:
    """Copy every version and promotion of a registry into another."""
    for name in source.names():
        for version in source.versions(name):
            target.register(name, version.version, version.manifest, source.artifact(version))
        for promotion in source.promotions(name):
            target.promote(name, promotion)


class _Desk:
    """One desk in memory, and its history."""

    def __init__(self, request: BacktestRequest, pairs: tuple[str, ...], models: ModelStore) -> None:
        settings, market = request.settings, request.market
        self._request, self._pairs = request, pairs
        self._clock = ManualClock(request.start)
        self._ledger, self._trace = RunLedger(), LineTrace()
        self._bars = PanelBars(market.panel)
        self._accounts = PlainAccounts()
        self._history = request.history_factory(market.panel, pairs, settings, request.start, models)
        silence = Silence()
        venue = Venue(market, SimExchange(self._accounts, self._bars, market, settings, PanelScales(market.panel)))
        self._ports = Ports(
            connect=lambda _settings: venue,
            bars=self._bars,
            ledger=self._ledger,
            models=models,
            parameters=FixedParameters(settings.sections()),
            clock=self._clock,
            metrics=silence,
            trace=self._trace,
            notifier=silence,
            log=silence,
        )
        self._steps: dict[str, Step] = {
            risk_check.NAME: self._risk,
            feature_rebalance.NAME: partial(self._rebalance, full=False),
            full_rebalance.NAME: partial(self._rebalance, full=True),
        }

    def run(self, tick: Tick) -> None:
        self._clock.set(tick.scheduled_at)
        if tick.function == retrain.NAME:
            retrain.run(tick, self._ports)
        else:
            run_tick(tick, self._ports, self._steps)

    def finished(self) -> FinishedRun:
        request = self._request
        exchange = SimExchange(self._accounts, self._bars, request.market, request.settings)
        return FinishedRun(
            request.settings,
            request.market.panel,
            self._pairs,
            request.start,
            request.end,
            self._ledger,
            self._trace.lines,
            exchange,
            request.note,
        )

    def _risk(self, context: TickContext) -> Decision:
        closes = self._history.closes(sorted(context.state.positions), context.tick.scheduled_at)
        return decide_risk(context.tick, closes, context.state, context.settings, context.venue.market.rules())

    def _rebalance(self, context: TickContext, *, full: bool) -> Decision:
        at = context.tick.scheduled_at
        held = self._history.closes(sorted(context.state.positions), at)
        rules = context.venue.market.rules()
        view = self._history.view(at)
        return decide_rebalance(
            context.tick, view, context.state, context.settings, rules, full=full, reduce_only=context.mismatch, held_closes=held
        )
