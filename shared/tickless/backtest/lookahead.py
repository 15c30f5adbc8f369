"""Proof of no look-ahead: what the desk decides on the whole history, it decides on the history up to the tick.

Three proofs, none of which knows how a feature is made:

* *cut*: at many ticks the data end: only bars that had closed at the tick are left. Features and regimes of the timerange up
  to there, and the views of the last two days (tiers, eligibility, forecasts, closes), equal those of the whole history bit for bit. A
  decision is a function of view and ledger alone, so equal views make equal decisions.
* *decisions*: at some of the cuts the whole run is done again; tick lines, orders, fills, trades and equity up to the cut are the same.
  Here the data have one number more, the open of the bar that opens at the cut: orders of the cut's tick are filled at it, as on an
  exchange, after the decision. The cut proof does without, so a feature that peeks at that open is caught there.
* *window*: the view that a tick gathers from its own window of bars, as in the cloud, equals the long table's row bit for bit.

Nothing is retrained: models come from the store as they are, and that a model knows nothing of its tick's future is the registry's rule
(``effective_at``, and the end of data and labels), which refuses it otherwise. The list of pairs is taken as given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise

import numpy as np

from tickless.adapters.folder_market import FolderMarket
from tickless.adapters.memory import ManualClock
from tickless.adapters.memory_models import MemoryModelStore
from tickless.adapters.model_registry import ModelRegistry
from tickless.adapters.sim_exchange import PlainAccounts, SimExchange
from tickless.backtest.differences import Found, compare_runs, compare_tables, compare_views, count_rows, first_of_each
from tickless.backtest.engine import BacktestRequest, Progress, backtest, calendar
from tickless.backtest.memory import FixedParameters, LineTrace, PanelBars, RunExperience, RunLedger, Silence
from tickless.backtest.results import RunRecord
from tickless.backtest.startup import StartupProof, prove_startup
from tickless.bars import COLUMNS, Panel
from tickless.ports import Ports, Venue
from tickless.runs.desk_strategies import HISTORIES, STRATEGIES
from tickless.runs.gather import view_market
from tickless.runs.market_history import History, HistoryFactory
from tickless.settings import Settings
from tickless.strategies.view import MarketView
from tickless.types import to_ms

EXTRA_WEEKS = 4
"""How much earlier the windows begin to show that the startup bars suffice."""
_VIEW_SPAN = timedelta(days=2)
_ORDER_CUTS = 3
"""Ticks with orders at which the whole run is done again."""
CUT, DECISIONS, WINDOW = "cut", "decisions", "window"


@dataclass(frozen=True)
class LookaheadRequest:
    """What to prove."""

    settings: Settings
    market: FolderMarket
    start: datetime
    end: datetime
    models: ModelRegistry | None = None
    cuts: int = 20
    """How many, at least 2; every tick where the timerange has fewer."""
    seed: int = 0
    histories: Mapping[str, HistoryFactory] = field(default_factory=lambda: HISTORIES)
    """How a run computes what each strategy sees: what is put to the proof."""


@dataclass(frozen=True)
class Difference:
    """A value that the data after a tick have changed, or that a tick's own window gives otherwise."""

    proof: str
    """``cut``, ``decisions`` or ``window``."""
    cut: datetime
    """Where the data ended."""
    found: Found
    """``first`` is the value on all data, ``second`` the one on the data up to the cut."""


@dataclass(frozen=True)
class Proof:
    """What was compared, and what differed."""

    cuts: tuple[datetime, ...]
    whole_runs: tuple[datetime, ...]
    """The cuts at which the whole run was done again."""
    compared: dict[str, int]
    differences: tuple[Difference, ...]
    """The first of each field, of each proof."""
    startup: Mapping[str, StartupProof]
    """By strategy."""

    @property
    def passed(self) -> bool:
        """Nothing looks ahead, and every feature whose startup could be looked at is settled."""
        return not self.differences and all(column.settled for proof in self.startup.values() for column in proof.columns)


def check(request: LookaheadRequest, progress: Progress = lambda _done, _of: None) -> Proof:
    """Run all proofs. Raises InputError for a timerange outside the data or an empty universe."""
    # A sale at the end of the data is no decision, and the data end elsewhere at every cut.
    execution = request.settings.execution.model_copy(update={"close_at_end": False})
    return _Check(replace(request, settings=request.settings.model_copy(update={"execution": execution})), progress).run()


def choose_cuts(settings: Settings, start: datetime, end: datetime, count: int, seed: int) -> tuple[datetime, ...]:
    """``count`` ticks spread over [start, end), the same for one seed; all where there are fewer.

    Among them a Monday 00:00 and another full rebalance, where the timerange has them, and every minute of the hour at which a tick may
    be: what reads an unfinished bar of a longer timeframe betrays itself only while that bar is unfinished.
    """
    rng = np.random.default_rng(seed)
    due: dict[datetime, list[str]] = {}
    for tick in calendar(settings, start, end, with_retrain=False):
        due.setdefault(tick.scheduled_at, []).append(tick.function)
    ticks = list(due)
    if len(ticks) <= count:
        return tuple(ticks)
    chosen: set[datetime] = set()
    later = ticks[1:]  # Before the first tick there is nothing to compare.
    mondays = [at for at in later if (at.weekday(), at.hour, at.minute) == (0, 0, 0)]
    full = [at for at in later if "full_rebalance" in due[at] and at not in mondays]
    chosen |= {pool[rng.integers(len(pool))] for pool in (mondays, full) if pool}
    rest = [at for at in ticks if at not in chosen]
    minutes = sorted({at.minute for at in rest})
    edges = np.linspace(0, len(rest), count - len(chosen) + 1).astype(int).tolist()
    for k, (first, last) in enumerate(pairwise(edges)):
        here = rest[first:last]
        pool = [at for at in here if at.minute == minutes[k % len(minutes)]] or here
        chosen.add(pool[rng.integers(len(pool))])
    return tuple(sorted(chosen))


@dataclass(frozen=True)
class _CutMarket(FolderMarket):
    """A market whose bars end, and whose list of pairs is that of the whole one."""

    listed: Sequence[str] = ()

    def pairs(self) -> Sequence[str]:
        """The pairs of the whole market: which there are is given, not found in the bars."""
        return list(self.listed)


class _Check:
    def __init__(self, request: LookaheadRequest, progress: Progress) -> None:
        self._request, self._progress = request, progress
        self._panel = request.market.panel
        self._models = MemoryModelStore()
        if request.models is not None:
            request.models.copy_to(self._models)
        self._differences: dict[tuple[str, str], Difference] = {}
        self._compared = dict.fromkeys(("table_values", "views", "tick_lines", "orders", "fills", "equity_rows", "windows"), 0)

    def run(self) -> Proof:
        request = self._request
        settings = request.settings
        run = self._run(request.market, request.end)
        cuts = choose_cuts(settings, request.start, request.end, request.cuts, request.seed)
        whole_runs = _whole_runs(cuts, settings, run)
        steps = 2 + len(cuts) + len(whole_runs)
        self._progress(1, steps)
        wholes = {name: self._history(name, self._panel, run.pairs) for name in sorted(settings.strategy)}
        for done, cut in enumerate(cuts, start=2):
            for name, whole in wholes.items():
                self._cut(name, whole, cut)
                self._window(name, whole, cut)
            self._progress(done, steps)
        for done, cut in enumerate(whole_runs, start=2 + len(cuts)):
            self._decisions(run, cut)
            self._progress(done, steps)
        startup = {name: self._startup(name, run.pairs) for name in wholes}
        self._progress(steps, steps)
        differences = sorted(self._differences.values(), key=lambda one: (one.proof, one.found.at))
        return Proof(cuts, whole_runs, self._compared, tuple(differences), startup)

    def _startup(self, name: str, pairs: Sequence[str]) -> StartupProof:
        """Features of every bar that closes in the timerange, with their own startup bars and with more."""
        settings, start = self._request.settings, self._request.start
        known = self._panel.between(self._panel.start, self._request.end)
        first = STRATEGIES[name].first_feature_bar(settings, max(start, known.start))
        spare = (to_ms(first) - known.start_ms) // known.step_ms
        return prove_startup(
            lambda extra: self._request.histories[name](known, pairs, settings, start, self._models, extra), spare, EXTRA_WEEKS
        )

    def _cut(self, name: str, whole: History, cut: datetime) -> None:
        part = self._history(name, self._panel.closed_at(cut), whole.pairs)
        self._note(CUT, cut, compare_tables(whole, part))
        self._compared["table_values"] += sum(column.size for column in part.columns().values())
        self._note(CUT, cut, self._views(whole, part, cut))

    def _views(self, whole: History, part: History, cut: datetime) -> Iterator[Found]:
        """The views of the last ticks up to the cut."""
        step = timedelta(minutes=self._request.settings.schedule.risk_check_every_min)
        at = cut
        while at >= max(self._request.start, cut - _VIEW_SPAN):
            self._compared["views"] += 1
            yield from compare_views(whole.view(at), part.view(at))
            if whole.still(at) != part.still(at):
                yield Found(at, "", "still", whole.still(at), part.still(at))
            at -= step

    def _window(self, name: str, whole: History, cut: datetime) -> None:
        self._compared["windows"] += 1
        self._note(WINDOW, cut, compare_views(whole.view(cut), self._tick_view(name, cut)))

    def _tick_view(self, name: str, at: datetime) -> MarketView:
        """What a tick of the cloud gathers at ``at``: its own window, read from bars that have closed."""
        settings, market, silence = self._request.settings, self._request.market, Silence()
        bars = PanelBars(self._panel.closed_at(at))
        venue = Venue(market, SimExchange(PlainAccounts(), bars, market, settings))
        ports = Ports(
            connect=lambda _settings: venue,
            bars=bars,
            ledger=RunLedger(),
            models=self._models,
            parameters=FixedParameters(settings.sections()),
            clock=ManualClock(at),
            metrics=silence,
            trace=LineTrace(),
            experience=RunExperience(),
            notifier=silence,
            log=silence,
        )
        return view_market(ports, venue, settings, STRATEGIES[name], at)

    def _decisions(self, run: RunRecord, cut: datetime) -> None:
        market = self._request.market
        known = _CutMarket(_with_open(self._panel, cut), market.filters, tuple(market.pairs()))
        again = self._run(known, cut + timedelta(milliseconds=self._panel.step_ms))
        self._note(DECISIONS, cut, compare_runs(run, again, cut))
        for name, count in count_rows(run, cut).items():
            self._compared[name] += count

    def _run(self, market: FolderMarket, end: datetime) -> RunRecord:
        request = self._request
        histories = request.histories
        return backtest(BacktestRequest(request.settings, market, request.start, end, self._models, False, histories=histories))

    def _history(self, name: str, panel: Panel, pairs: Sequence[str]) -> History:
        return self._request.histories[name](panel, pairs, self._request.settings, self._request.start, self._models)

    def _note(self, proof: str, cut: datetime, found: Iterable[Found]) -> None:
        """Keep the earliest finding of each field."""
        for one in first_of_each(found):
            known = self._differences.get((proof, one.field))
            if known is None or one.at < known.found.at:
                self._differences[proof, one.field] = Difference(proof, cut, one)


def _whole_runs(cuts: Sequence[datetime], settings: Settings, run: RunRecord) -> tuple[datetime, ...]:
    """The cuts whose run is done again: the last of all, of the Mondays 00:00, and of the other full rebalances.

    And, whether they are cuts or not, a few ticks that sent orders: how an order fills shows at its own tick only.
    """
    mondays = [at for at in cuts if (at.weekday(), at.hour, at.minute) == (0, 0, 0)]
    full = [at for at in cuts if any(tick.function == "full_rebalance" for tick in settings.calendar.due_at(at)) and at not in mondays]
    sent = sorted({order.tick_at for order in run.orders})
    trading = [sent[k] for k in np.linspace(0, len(sent) - 1, _ORDER_CUTS + 2).astype(int)[1:-1].tolist()] if sent else []
    return tuple(sorted({*(pool[-1] for pool in (cuts, mondays, full) if pool), *trading}))


def _with_open(panel: Panel, cut: datetime) -> Panel:
    """The bars that have closed at ``cut``, and of the one that opens then its open alone."""
    row = panel.row_at(cut)
    known = panel.take(0, min(row + 1, panel.rows))
    if row >= panel.rows:
        return known
    columns = {name: getattr(known, name).copy() for name in COLUMNS}
    for name in COLUMNS:
        if name != "open":
            columns[name][row] = np.nan
    return replace(known, **columns)
