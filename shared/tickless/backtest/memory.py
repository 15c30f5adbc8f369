"""The ports of a backtest: the desk's own run over them is the cloud's, only nothing is written anywhere but in this process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from itertools import takewhile
from math import isnan
from typing import Any

from tickless.backtest.record import bare_trace
from tickless.backtest.results import TickLines
from tickless.bars import Panel
from tickless.errors import TickRecordedError
from tickless.learn.experience import EVIDENCE, ExperienceDay
from tickless.ports import Fence
from tickless.strategies.view import Action
from tickless.types import DeskState, EquityRow, Fill, LedgerUpdate, Order, Position, Tick, TickRecord, Trade, evolve


class RunLedger:
    """The Ledger port for one run in one thread: no fences to check, nothing to encode. The memory adapter is the strict one."""

    def __init__(self) -> None:
        self._desk: DeskState | None = None
        self._positions: dict[str, Position] = {}
        self._open: dict[str, Order] = {}
        self._settings: dict[str, str] = {}
        self._records: dict[Tick, TickRecord] = {}
        self._orders: dict[str, Order] = {}
        self._fills: list[Fill] = []
        self._trades: list[Trade] = []
        self._equity: list[EquityRow] = []
        self._number = 0

    def acquire(self, owner: str, now: datetime, ttl_s: int, invocation: str = "") -> Fence:  # noqa: ARG002 - the port's signature
        """A run has its ledger for itself."""
        self._number += 1
        return Fence(self._number, owner)

    def release(self, fence: Fence, free_at: datetime | None = None) -> None:
        """Nothing to give back."""

    def load(self) -> DeskState | None:
        """See ``Ledger.load``."""
        if self._desk is None:
            return None
        return evolve(self._desk, positions=dict(self._positions), orders=dict(self._open), settings=self._settings)

    def tick(self, tick: Tick) -> TickRecord | None:
        """See ``Ledger.tick``."""
        return self._records.get(tick)

    def journal(self, fence: Fence, updates: Sequence[LedgerUpdate]) -> None:  # noqa: ARG002 - the port's signature
        """See ``Ledger.journal``."""
        for update in updates:
            self._apply(update)

    def value(self, tick: Tick, row: EquityRow | None) -> None:
        """Record a tick that did no more than value the portfolio, or not even that."""
        if row is not None:
            self._equity.append(row)
        self._records[tick] = TickRecord(tick, "done", 0)

    def record_unfenced(self, record: TickRecord) -> None:
        """See ``Ledger.record_unfenced``."""
        if record.tick in self._records:
            raise TickRecordedError(f"tick {record.tick.id} is recorded already")
        self._records[record.tick] = record

    def orders(self) -> Iterator[Order]:
        """See ``Ledger.orders``."""
        return iter(sorted(self._orders.values(), key=lambda order: (order.tick_at, order.client_order_id)))

    def ended(self, at: datetime) -> frozenset[str]:
        """See ``Ledger.ended``; those of the latest tick stand last."""
        latest = takewhile(lambda order: order.tick_at >= at, reversed(self._orders.values()))
        return frozenset(order.client_order_id for order in latest if order.tick_at == at and order.status.is_final)

    def fills(self) -> Iterator[Fill]:
        """See ``Ledger.fills``."""
        return iter(sorted(self._fills, key=lambda fill: (fill.filled_at, fill.fill_id)))

    def trades(self) -> Iterator[Trade]:
        """See ``Ledger.trades``."""
        return iter(sorted(self._trades, key=lambda trade: (trade.closed_at, trade.trade_id)))

    def equity(self) -> Iterator[EquityRow]:
        """See ``Ledger.equity``."""
        return iter(self._equity)

    def ticks(self) -> Iterator[TickRecord]:
        """See ``Ledger.ticks``; in the order in which they were run."""
        return iter(self._records.values())

    def _apply(self, update: LedgerUpdate) -> None:
        if update.desk is not None:
            self._desk = update.desk
        for order in update.orders:
            self._orders[order.client_order_id] = order
            if order.status.is_final:
                self._open.pop(order.client_order_id, None)
            else:
                self._open[order.client_order_id] = order
        for position in update.positions:
            if position.qty > 0:
                self._positions[position.pair] = position
            else:
                self._positions.pop(position.pair, None)
        self._fills += update.fills
        self._trades += update.trades
        if update.equity is not None:
            self._equity.append(update.equity)
        if update.record is not None:
            self._records[update.record.tick] = update.record
        if update.settings:
            self._settings = {**self._settings, **update.settings}


@dataclass(frozen=True)
class PanelBars:
    """The BarStore port over a panel that holds the whole history. Readers ask for ranges that lie in their past."""

    panel: Panel

    def through(self, timeframe: str) -> datetime | None:  # noqa: ARG002 - one timeframe
        """See ``BarStore.through``."""
        return self.panel.end

    def since(self, timeframe: str) -> datetime | None:  # noqa: ARG002 - one timeframe
        """Everything there ever was is stored."""
        return datetime.min.replace(tzinfo=self.panel.start.tzinfo)

    def read(self, timeframe: str, start: datetime, end: datetime) -> Panel:  # noqa: ARG002 - one timeframe
        """See ``BarStore.read``; rows outside the recording are NaN."""
        return self.panel.spanning(start, end)

    def write(self, panel: Panel) -> None:
        """Nothing is fetched in a backtest."""

    def last_bars(self, pairs: Sequence[str], at: datetime) -> tuple[dict[str, float], dict[str, float]]:
        """``sim_exchange.LastBars``."""
        row = self.panel.row_at(at) - 1
        closes: dict[str, float] = {}
        volumes: dict[str, float] = {}
        for pair in pairs if 0 <= row < self.panel.rows else ():
            n = self.panel.column.get(pair)
            if n is not None and not isnan(close := float(self.panel.close[row, n])):
                closes[pair], volumes[pair] = close, float(self.panel.volume[row, n])
        return closes, volumes

    def closes(self, pairs: Sequence[str], at: datetime) -> dict[str, float]:
        """``runs.gather.held_closes``: the closes of pairs whose bar has just closed at ``at``."""
        row = self.panel.row_at(at) - 1
        if not 0 <= row < self.panel.rows:
            return {}
        close, column = self.panel.close[row], self.panel.column
        found = {pair: float(close[column[pair]]) for pair in pairs if pair in column}
        return {pair: value for pair, value in found.items() if not isnan(value)}


@dataclass
class FixedParameters:
    """The ParameterStore port: what the desk file says, until somebody writes."""

    sections: Mapping[str, str]

    def read(self) -> Mapping[str, str]:
        """See ``ParameterStore.read``."""
        return self.sections

    def write(self, section: str, text: str) -> None:
        """See ``ParameterStore.write``."""
        self.sections = {**self.sections, section: text}


class LineTrace:
    """The Trace port: makes a tick's line when the next tick writes, so that a long run keeps lines and not traces.

    Only what a night's training reads again stays for ``keep_days``: features are slices of the run's one table and cost nothing.
    """

    def __init__(self, keep_days: int = 0) -> None:
        self._maker = TickLines()
        self._keep = timedelta(days=keep_days)
        self._evidence: dict[Tick, Mapping[str, Any]] = {}
        """In order of time."""
        self._lines: dict[Tick, Mapping[str, Any]] = {}
        self._last: tuple[Tick, Mapping[str, Any]] | None = None

    def write(self, tick: Tick, content: Mapping[str, Any]) -> None:
        """See ``Trace.write``. Ticks come in order of effect."""
        if self._last is not None and self._last[0] != tick:
            self._finish()
        self._last = (tick, content)
        if self._keep and EVIDENCE in content:
            self._evidence[tick] = {EVIDENCE: content[EVIDENCE]}
            while next(iter(self._evidence)).scheduled_at < tick.scheduled_at - self._keep:
                del self._evidence[next(iter(self._evidence))]

    def add(self, tick: Tick, line: Mapping[str, Any]) -> None:
        """The finished line of a tick that wrote no trace."""
        if self._last is not None:
            self._finish()
        self._lines[tick] = line

    def news(self, trace: Mapping[str, Any], pairs: Sequence[str], action: Action) -> list[str]:
        """Of which of ``pairs`` a line of the trace's function has to say that ``action`` was taken; traces written before come first."""
        self._finish()
        return self._maker.news(trace, pairs, action)

    def line_of(self, tick: Tick) -> Mapping[str, Any]:
        """The line of a tick that has written its trace for the last time."""
        self._finish()
        return self._lines[tick]

    def read(self, tick: Tick) -> Mapping[str, Any] | None:
        """The trace of the tick that wrote last; of earlier ones what a training reads, as far as it is kept."""
        return self._last[1] if self._last is not None and self._last[0] == tick else self._evidence.get(tick)

    def lines(self, records: Sequence[TickRecord]) -> Iterator[Mapping[str, Any]]:
        """The lines of all ticks."""
        self._finish()
        for record in records:
            yield self._lines.get(record.tick) or TickLines().line(bare_trace(record))

    def _finish(self) -> None:
        if self._last is not None:
            tick, content = self._last
            self._lines[tick] = self._maker.line(content)
            self._last = None


class RunExperience:
    """The ExperienceStore port of one run: nothing is encoded, and what only people read is not kept."""

    def __init__(self) -> None:
        self._days: dict[str, dict[date, ExperienceDay]] = {}

    def write(self, day: ExperienceDay) -> bool:
        """See ``ExperienceStore.write``."""
        stored = self._days.setdefault(day.strategy, {})
        if day.day in stored:
            return False
        stored[day.day] = replace(day, ticks=tuple(replace(tick, decisions={}) for tick in day.ticks))
        return True

    def read(self, strategy: str, day: date) -> ExperienceDay | None:
        """See ``ExperienceStore.read``."""
        return self._days.get(strategy, {}).get(day)

    def days(self, strategy: str) -> Sequence[date]:
        """See ``ExperienceStore.days``."""
        return sorted(self._days.get(strategy, {}))


class Silence:
    """The Metrics, Notifier and Log ports of a run that nobody watches. Warnings are counted by their message."""

    def __init__(self) -> None:
        self.warnings: dict[str, int] = {}

    def count(self, name: str, value: float = 1.0) -> None:
        """See ``Metrics.count``."""

    def gauge(self, name: str, value: float, unit: str = "None") -> None:
        """See ``Metrics.gauge``."""

    def alert(self, subject: str, message: str) -> None:
        """See ``Notifier.alert``."""

    def info(self, message: str, **fields: Any) -> None:
        """See ``Log.info``."""

    def warning(self, message: str, **fields: Any) -> None:  # noqa: ARG002 - the port's signature
        """See ``Log.warning``."""
        self.warnings[message] = self.warnings.get(message, 0) + 1
