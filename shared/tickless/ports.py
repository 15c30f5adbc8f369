"""What the desk needs of the world, as Protocols. Adapters implement them; ``bootstrap`` alone chooses which."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Protocol

from tickless.alpha.model_life import LifeChange, ModelLife
from tickless.alpha.model_life import Promotion as Promotion  # noqa: PLC0414 - the port speaks of it
from tickless.bars import Panel
from tickless.learn.experience import ExperienceDay
from tickless.settings import Settings
from tickless.types import (
    AccountSnapshot,
    DeskState,
    EquityRow,
    Fill,
    LedgerUpdate,
    Order,
    OrderReport,
    PairRules,
    RestingStops,
    Tick,
    TickRecord,
    Trade,
)


class Market(Protocol):
    """Public market data of one exchange."""

    def pairs(self) -> Sequence[str]:
        """Every pair quoted in the stake currency that has bars, sorted."""
        ...

    def bars(self, pairs: Sequence[str], timeframe: str, start: datetime, end: datetime) -> Panel:
        """Closed bars that open in [start, end); missing bars are NaN. Raises RetryableError."""
        ...

    def opens(self, pairs: Sequence[str], timeframe: str, at: datetime) -> Mapping[str, float]:
        """The open of the bar that opens at ``at``; pairs without one are absent. Raises RetryableError."""
        ...

    def rules(self) -> Mapping[str, PairRules]:
        """The exchange's filters by pair; a pair that is absent has none."""
        ...


class Exchange(Protocol):
    """An account at an exchange."""

    def snapshot(self, at: datetime, orders: Sequence[Order]) -> AccountSnapshot:
        """Balances, and a report on each of ``orders`` the exchange knows. Raises RetryableError."""
        ...

    def submit(self, order: Order, at: datetime) -> OrderReport:
        """Send an order. Keyed by client_order_id: a second submission reports the first one and sends nothing.

        Raises OrderRejectedError, UnknownOutcomeError or RetryableError.
        """
        ...

    def cancel(self, order: Order, at: datetime) -> OrderReport:
        """Cancel what is open of an order; reports its final state. Raises RetryableError, UnknownOutcomeError."""
        ...

    def resting_stops(self, pair: str) -> RestingStops:
        """Whether stops can rest for a pair, and how they are moved. Raises RetryableError, AccountError.

        ``submit`` refuses a stop whose price has been reached with WouldTriggerError.
        """
        ...


class Priority(StrEnum):
    """Who goes first when request weight runs short."""

    EXIT = "exit"
    """What reduces risk, or must be known to reduce it: may use the last of the budget."""
    ORDINARY = "ordinary"
    """Everything else: leaves the reserve."""


@dataclass(frozen=True)
class WeightGrant:
    """A block of request weight, to be spent before ``expires_at``; what is not given back counts as spent at that moment."""

    id: str
    weight: int
    expires_at: datetime


class WeightBudget(Protocol):
    """The request weight of one exchange, shared by every function of the desk. Times are those of the caller's clock."""

    def take(self, weight: int, at: datetime, priority: Priority = Priority.ORDINARY, least: int = 1) -> WeightGrant:
        """A block of ``weight``, or of what is left if that is at least ``least``.

        Raises RateLimitedError that says when to ask again, RetryableError where the budget cannot be reached.
        """
        ...

    def give_back(self, grant: WeightGrant, used: int, at: datetime) -> None:
        """All of the grant that will ever be used has been used by ``at``: ``used`` of its weight. Raises RetryableError."""
        ...

    def limited(self, at: datetime, retry_after_s: float | None, *, banned: bool = False) -> datetime:
        """The exchange said that we ask too often: 429, or 418 if ``banned``. Returns until when nobody is granted anything.

        Raises RetryableError where the budget cannot be reached.
        """
        ...


class BarStore(Protocol):
    """The desk's own copy of the bars, shared by all functions."""

    def through(self, timeframe: str) -> datetime | None:
        """Bars that close at or before this time have been stored; None where the store is empty."""
        ...

    def since(self, timeframe: str) -> datetime | None:
        """The open of the first stored row; None where the store is empty."""
        ...

    def read(self, timeframe: str, start: datetime, end: datetime) -> Panel:
        """The stored bars that open in [start, end), all pairs in sorted order; rows nobody stored are NaN."""
        ...

    def write(self, panel: Panel) -> None:
        """Store a panel. A value that is stored already is never overwritten; only missing ones are added."""
        ...


RETAKE_AFTER_S = 45
"""How old a lease must be for its own invocation to take it again.

Lambda retries a failed invocation after a minute at the earliest, with the same request id. A delivery of the same id that comes sooner
is a duplicate of the queue, and its twin may be alive.
"""


@dataclass(frozen=True)
class Fence:
    """A lease on the desk. Every write carries ``number``; the ledger refuses one that is not the latest."""

    number: int
    owner: str
    expires_at: datetime | None = field(default=None, compare=False)
    """From then on another may take it: who holds it sends no order any more, which no ledger could refuse. None = never."""


class Ledger(Protocol):
    """The record of positions, orders and fills that the desk trusts."""

    def acquire(self, owner: str, now: datetime, ttl_s: int, invocation: str = "") -> Fence:
        """Take the lease if it is free or abandoned; the fencing number rises. Raises LeaseHeldError.

        An ``invocation`` may take its own lease again once it has had it for ``RETAKE_AFTER_S``: it was killed, and this is its retry.
        """
        ...

    def release(self, fence: Fence, free_at: datetime | None = None) -> None:
        """Give the lease back, at once or from ``free_at`` on; does nothing where it was taken over."""
        ...

    def load(self) -> DeskState | None:
        """The desk's state; None where the desk has never run. Strongly consistent."""
        ...

    def tick(self, tick: Tick) -> TickRecord | None:
        """The record of a tick, or None. Strongly consistent."""
        ...

    def journal(self, fence: Fence, updates: Sequence[LedgerUpdate]) -> None:
        """Write updates in order, each whole or not at all.

        A ``record`` that is ``journaled`` must be new (TickRecordedError); one that is ``done`` must be new or journaled.
        Raises FencedError when a later fencing number exists: nothing of that update is then written.
        """
        ...

    def record_unfenced(self, record: TickRecord) -> None:
        """Write the record of a tick that trades nothing and so takes no lease (``retrain``).

        Raises TickRecordedError as ``journal`` does.
        """
        ...

    def orders(self) -> Iterator[Order]:
        """Every order, open ones too, by tick time and id."""
        ...

    def ended(self, at: datetime) -> frozenset[str]:
        """The ids of the orders of ticks scheduled at ``at`` that are over. Strongly consistent."""
        ...

    def fills(self) -> Iterator[Fill]:
        """Every fill by time and id."""
        ...

    def trades(self) -> Iterator[Trade]:
        """Every closed trade by closing time."""
        ...

    def equity(self) -> Iterator[EquityRow]:
        """Every equity row by time."""
        ...

    def ticks(self) -> Iterator[TickRecord]:
        """Every tick record by time, then order of effect within the minute."""
        ...


@dataclass(frozen=True)
class ModelVersion:
    """A registered model version, as its manifest says."""

    name: str
    version: str
    manifest: Mapping[str, Any]

    @property
    def label(self) -> str:
        """``name@version``, for traces."""
        return f"{self.name}@{self.version}"


class ModelStore(Protocol):
    """The registry of models. Versions are immutable; a model's life, champion pointer included, is one conditional write."""

    def names(self) -> Sequence[str]:
        """Names of all models that have versions, sorted."""
        ...

    def versions(self, name: str) -> Sequence[ModelVersion]:
        """All versions of a model, oldest first."""
        ...

    def promotions(self, name: str) -> Sequence[Promotion]:
        """The champion pointer's history, oldest first. A tick uses the last one effective at or before its time."""
        ...

    def manifest(self, name: str, version: str) -> ModelVersion:
        """One version; raises ArtifactError where it is missing or unreadable."""
        ...

    def artifact(self, version: ModelVersion) -> bytes:
        """The artifact's bytes, checked against the manifest's sha256; raises ArtifactError."""
        ...

    def register(self, name: str, version: str, manifest: Mapping[str, Any], artifact: bytes) -> ModelVersion:
        """Store a new version; registering the same content again is no error, other content raises ArtifactError."""
        ...

    def promote(self, name: str, promotion: Promotion) -> None:
        """Append to the champion pointer, in one conditional write; raises LedgerError when somebody else was faster."""
        ...

    def life(self, name: str) -> ModelLife:
        """Everything that became of the model's versions; an empty life where nothing is known of it."""
        ...

    def record(self, name: str, change: LifeChange, seen: ModelLife | None = None) -> None:
        """Append promotions and events together, in one conditional write; raises LedgerError when somebody else was faster.

        ``seen`` is the life on which the change was decided: what was written since then may speak against it.
        """
        ...

    def delete(self, name: str, versions: Sequence[str], seen: ModelLife | None = None) -> None:
        """Delete versions and their events; promotions stay. One that is not there is no error.

        That they are gone is written first, as ``record`` writes: nobody can promote what is about to vanish. Raises LedgerError, and
        deletes nothing, where somebody was faster.
        """
        ...


class TrainingFiles(Protocol):
    """What the steps of a nightly training hand one another: bytes by key, which a training job on another machine reaches by URI."""

    def put(self, key: str, content: bytes) -> None:
        """Store the content, whatever is there. Raises RetryableError."""
        ...

    def get(self, key: str) -> bytes:
        """The content; raises TrainingError where there is none, RetryableError."""
        ...

    def claim(self, key: str, owner: str, now: datetime, until: datetime) -> bool:
        """Whether ``owner`` may do what ``key`` names: it has the claim already, or nobody has one that lasts. Atomic."""
        ...

    def uri(self, key: str) -> str:
        """Where others find what lies at, or below, ``key``."""
        ...

    def key_of(self, uri: str) -> str:
        """The key behind a URI; raises ArtifactError for one that is not of these files."""
        ...


class ParameterStore(Protocol):
    """The desk's settings as people may change them while it runs."""

    def read(self) -> Mapping[str, str]:
        """The JSON text of every section, by section name. Raises RetryableError."""
        ...

    def write(self, section: str, text: str) -> None:
        """Store one section's text."""
        ...


class Clock(Protocol):
    """The time of day: only for stale events and leases, never for decisions."""

    def now(self) -> datetime:
        """Now, UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class Metrics(Protocol):
    """Numbers for alarms and dashboards."""

    def count(self, name: str, value: float = 1.0) -> None:
        """Add to a counter."""
        ...

    def gauge(self, name: str, value: float, unit: str = "None") -> None:
        """Record a value; ``unit`` is a CloudWatch unit (``Percent``, ``Milliseconds``, ``Count``, ``None``)."""
        ...


class Trace(Protocol):
    """Every tick's inputs, decision and reasons, so that it can be explained and replayed."""

    def write(self, tick: Tick, content: Mapping[str, Any]) -> None:
        """Store one tick's trace; writing it again replaces it."""
        ...

    def read(self, tick: Tick) -> Mapping[str, Any] | None:
        """One tick's trace, or None."""
        ...


class ExperienceStore(Protocol):
    """Every decision with what came of it, one object a strategy and day, written once."""

    def write(self, day: ExperienceDay) -> bool:
        """Store a day unless it is stored already; returns whether it was stored now."""
        ...

    def read(self, strategy: str, day: date) -> ExperienceDay | None:
        """One day, or None. Raises DataError for an object that is no day of experience."""
        ...

    def days(self, strategy: str) -> Sequence[date]:
        """The days that are stored, in order."""
        ...


class Notifier(Protocol):
    """Tells people."""

    def alert(self, subject: str, message: str) -> None:
        """Send an alert; never raises."""
        ...


class Log(Protocol):
    """Structured log lines."""

    def info(self, message: str, **fields: Any) -> None:
        """Something happened."""
        ...

    def warning(self, message: str, **fields: Any) -> None:
        """Something a person should look at."""
        ...


@dataclass(frozen=True)
class Venue:
    """Where a desk trades: public market data, and its account."""

    market: Market
    exchange: Exchange


@dataclass(frozen=True)
class Ports:
    """The world, wired by ``bootstrap``."""

    connect: Callable[[Settings], Venue]
    """Opens the venue that the settings name; settings are read from ``parameters`` first, at every tick."""
    bars: BarStore
    ledger: Ledger
    models: ModelStore
    parameters: ParameterStore
    clock: Clock
    metrics: Metrics
    trace: Trace
    experience: ExperienceStore
    notifier: Notifier
    log: Log
    invocation: str = ""
    """What retries of one invocation have in common and no other has: Lambda's request id; empty = unknown."""
    time_left_s: Callable[[], float] = lambda: float("inf")
    """What is left of the invocation's time, in seconds."""
