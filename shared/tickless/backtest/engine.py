"""The backtest: the desk's own ticks over history, in memory. Decisions, orders and fills are those of the cloud, made by the same code."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

from tickless.adapters.folder_market import FolderMarket
from tickless.adapters.memory import ManualClock
from tickless.adapters.memory_models import MemoryModelStore
from tickless.adapters.model_registry import ModelRegistry
from tickless.adapters.price_scales import PanelScales
from tickless.adapters.sim_exchange import PlainAccounts, SimExchange
from tickless.backtest.memory import FixedParameters, LineTrace, PanelBars, RunExperience, RunLedger, Silence
from tickless.backtest.quiet import QuietTicks
from tickless.backtest.record import FinishedRun, collect
from tickless.backtest.results import RunRecord
from tickless.pipeline import Decision, decide_risk
from tickless.ports import Fence, ModelStore, Ports, Venue
from tickless.runs import feature_rebalance, full_rebalance, retrain, risk_check, scan
from tickless.runs.admission import refuse_off_grid
from tickless.runs.desk_state import looked_at, new_desk
from tickless.runs.desk_strategies import HISTORIES, strategy_of
from tickless.runs.desk_tick import Step, TickContext, TickRun
from tickless.runs.gather import pairs_to_run, universe_pairs
from tickless.runs.market_history import History, HistoryFactory
from tickless.runs.parameters import LoadedSettings, resolve_settings
from tickless.runs.strategy_step import decide_on, unseen
from tickless.settings import Settings, effect_rank
from tickless.types import DeskState, LedgerUpdate, Tick

Progress = Callable[[int, int], None]

EVIDENCE_DAYS = 17
"""How long a run keeps what a night's training may ask for: a day, the longest horizon, and two nights."""
_FENCE = Fence(1, "backtest")
"""A run has its ledger for itself."""


@dataclass(frozen=True)
class ParameterChange:
    """A parameter that somebody writes while the desk runs: it takes effect at the first tick from ``at`` on."""

    at: datetime
    section: str
    text: str
    """The section's whole JSON, good or not."""


@dataclass(frozen=True)
class BacktestRequest:
    """What to backtest."""

    settings: Settings
    market: FolderMarket
    start: datetime
    end: datetime
    models: ModelRegistry | None = None
    """Models to start from; none are changed."""
    retrain: bool = True
    note: str = ""
    histories: Mapping[str, HistoryFactory] = field(default_factory=lambda: HISTORIES)
    """What builds each strategy's view of the market, by strategy."""
    changes: Sequence[ParameterChange] = ()
    """In order of time."""


def backtest(request: BacktestRequest, progress: Progress = lambda _done, _of: None) -> RunRecord:
    """Run every tick of the desk's schedule over [start, end) and collect what it left.

    Raises InputError for a timerange outside the data or an empty universe.
    """
    settings, market = request.settings, request.market
    pairs = pairs_to_run(market.panel, market.pairs(), settings, request.start, request.end)
    models = MemoryModelStore()
    if request.models is not None:
        # A run that does not retrain has no use for what forecasts without trading.
        request.models.copy_to(models, shadows=request.retrain)
    desk = _Desk(request, pairs, models)
    ticks = calendar(settings, request.start, request.end, with_retrain=request.retrain)
    with _without_collector():
        for done, tick in enumerate(ticks, start=1):
            desk.run(tick)
            progress(done, len(ticks))
    return collect(desk.finished())


def calendar(settings: Settings, start: datetime, end: datetime, *, with_retrain: bool) -> list[Tick]:
    """Every tick of a desk's schedule in [start, end), in the order of effect; ``start`` is a whole minute."""
    due = settings.calendar
    # A tick can lie on any multiple of the shortest interval only.
    every = min([settings.schedule.risk_check_every_min, *(minutes for _, minutes in due.scans)])
    times = [start + n * timedelta(minutes=every) for n in range(-(-(end - start) // timedelta(minutes=every)))]
    ticks = [tick for at in times for tick in due.due_at(at)]
    if with_retrain and due.trains:
        hour, minute = (int(part) for part in settings.schedule.retrain_at.split(":"))
        first = start.replace(hour=hour, minute=minute)
        nights = [first + timedelta(days=n) for n in range((end - start).days + 2)]
        ticks += [Tick(at, retrain.NAME) for at in nights if start <= at < end]
    return sorted(ticks, key=order_of_effect)


def order_of_effect(tick: Tick) -> tuple[datetime, int, str]:
    """The key by which ticks sort in the order in which they take effect."""
    return tick.scheduled_at, effect_rank(tick.function), tick.name


@contextmanager
def _without_collector() -> Iterator[None]:
    """A run makes a million values and no cycles: looking for some costs a tenth of its time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Desk:
    """One desk in memory, and what its strategies see."""

    def __init__(self, request: BacktestRequest, pairs: tuple[str, ...], models: ModelStore) -> None:
        settings, market = request.settings, request.market
        self._request, self._pairs = request, pairs
        self._clock = ManualClock(request.start)
        self._ledger, self._trace = RunLedger(), LineTrace(keep_days=EVIDENCE_DAYS if request.retrain else 0)
        self._bars = PanelBars(market.panel)
        self._accounts = PlainAccounts()
        self._scales = PanelScales(market.panel)
        self._venues: dict[str, Venue] = {}
        self._histories: dict[tuple[str, str], History] = {}
        self._changes = list(request.changes)
        self._changed = False
        self._parameters = FixedParameters(settings.sections())
        self._loaded: LoadedSettings | None = None
        self._state: DeskState | None = None
        self._quiet = QuietTicks(self._bars.panel, self._scales, self._ledger, self._trace)
        silence = Silence()
        self._ports = Ports(
            connect=self._connect,
            bars=self._bars,
            ledger=self._ledger,
            models=models,
            parameters=self._parameters,
            clock=self._clock,
            metrics=silence,
            trace=self._trace,
            experience=RunExperience(),
            notifier=silence,
            log=silence,
        )
        self._steps: dict[str, Step] = {
            risk_check.NAME: self._risk,
            feature_rebalance.NAME: self._run_strategy,
            full_rebalance.NAME: partial(self._run_strategy, full=True),
            scan.NAME: self._run_strategy,
        }

    def run(self, tick: Tick) -> None:
        self._clock.set(tick.scheduled_at)
        while self._changes and self._changes[0].at <= tick.scheduled_at:
            change = self._changes.pop(0)
            self._parameters.write(change.section, change.text)
            self._loaded, self._changed = None, True
        if self._changed and tick.function != retrain.NAME:
            # The schedules are those of the run's start; a changed interval may refuse their ticks, as in the cloud.
            refuse_off_grid(tick, self._load_settings().settings)
        if tick.function == retrain.NAME:
            retrain.run(tick, self._ports)
        elif not self._is_quiet(tick):
            self._run_whole(tick)

    def _run_whole(self, tick: Tick) -> None:
        """``desk_tick.run_tick`` without what a run in one thread has no use for: no lease, no restart, nothing to resume."""
        loaded = self._load_settings()
        venue = self._connect(loaded.settings)
        state = new_desk(venue, loaded.settings, tick.scheduled_at) if self._state is None else self._quiet.caught_up(tick, self._state)
        self._state, _ = self._tick_run(tick).start(state)
        self._loaded = replace(loaded, fresh={})

    def _tick_run(self, tick: Tick) -> TickRun:
        loaded = self._load_settings()
        return TickRun(tick, self._ports, self._connect(loaded.settings), loaded, _FENCE, self._steps[tick.function])

    def _is_quiet(self, tick: Tick) -> bool:
        """Whether the tick needs less than the whole run; then all that it leaves is left."""
        if self._state is None or self._loaded is None:
            return False
        settings = self._loaded.settings
        if settings.execution.stoploss_on_exchange and self._state.positions:
            return False  # Each tick looks after the stops at the exchange, and what they protect.
        if tick.function == risk_check.NAME:
            return self._quiet.risk(tick, self._state, settings.risk)
        if not tick.strategy or not self._quiet.is_settled(tick, self._state):
            return False
        return self._quiet.scan(tick, self._state, settings.risk, self._history(tick.strategy, settings, tick.scheduled_at)) or self._scan(
            tick
        )

    def _scan(self, tick: Tick) -> bool:
        """A scan right after a quiet risk check: the exchange has nothing to tell, so it decides at once."""
        assert self._state is not None
        run = self._tick_run(tick)
        state = self._quiet.caught_up(tick, self._state)
        decision = self._run_strategy(TickContext(tick, self._ports, run.venue, run.settings, state))
        if decision.state is state and self._quiet.nothing_done(tick, decision):
            self._state = state
        else:
            self._state, _ = run.carry_out(decision)
        self._quiet.scanned(tick, decision, self._state)
        return True

    def _load_settings(self) -> LoadedSettings:
        """The settings in force: what the parameters say, and the last good value of every section that they say badly."""
        if self._loaded is None:
            stored = self._ledger.load()
            self._loaded = resolve_settings(self._parameters.read(), stored.settings if stored is not None else {})
        return self._loaded

    def finished(self) -> FinishedRun:
        request = self._request
        if self._state is not None:
            state = self._quiet.caught_up(Tick(request.end, "end"), self._state)
            self._ledger.journal(_FENCE, [LedgerUpdate(desk=state)])
        return FinishedRun(
            request.settings,
            request.market.panel,
            self._pairs,
            request.start,
            request.end,
            self._ledger,
            self._trace.lines,
            self._exchange(request.settings),
            request.note,
        )

    def _connect(self, settings: Settings) -> Venue:
        key = settings.sha256()
        if key not in self._venues:
            market = self._request.market
            self._venues[key] = Venue(market, self._exchange(settings))
        return self._venues[key]

    def _exchange(self, settings: Settings) -> SimExchange:
        request, bars = self._request, self._bars
        return SimExchange(self._accounts, bars, request.market, settings, self._scales, bars.last_bars, request.end)

    def _history(self, strategy: str, settings: Settings, at: datetime) -> History:
        """What a strategy sees from ``at`` on; made anew when a parameter has changed."""
        key = (strategy, settings.sha256())
        if key not in self._histories:
            market = self._request.market
            pairs = universe_pairs(market.pairs(), settings.universe, settings.desk.stake_currency)
            self._histories[key] = self._request.histories[strategy](market.panel, pairs, settings, at, self._ports.models)
        return self._histories[key]

    def _risk(self, context: TickContext) -> Decision:
        closes = self._bars.closes(looked_at(context.state), context.tick.scheduled_at)
        return decide_risk(context.tick, closes, context.state, context.settings, context.venue.market.rules(), context.available)

    def _run_strategy(self, context: TickContext, *, full: bool = False) -> Decision:
        """``runs.strategy_step.step``, on what was computed for the whole range."""
        tick, settings, at = context.tick, context.settings, context.tick.scheduled_at
        strategy = strategy_of(tick, settings)
        view = self._history(strategy.name, settings, at).view(at)
        held = self._bars.closes(unseen(context.state, view), at)
        return decide_on(context, strategy, view, held, full=full)
