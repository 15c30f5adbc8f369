"""One soak: the desk, its calendar, and what befalls each delivery."""

from __future__ import annotations

import random
import traceback
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any
from unittest.mock import patch

from tests.loopback import LoopbackExchange, World, loopback_exchange
from tests.made_world import RUNS
from tests.soak.checks import Broken, Checks, Property, WatchedLedger
from tests.soak.mishaps import (
    AT_ONCE,
    AT_ONCE_SENDING,
    CHANCES,
    DUPLICATE,
    HANG,
    HAPPENINGS,
    KILL,
    KILL_SENDING,
    LATE,
    LOSE,
    SENDING_CHANCES,
    SHUFFLE,
    STORMY,
    KilledError,
    Moment,
    Mortal,
)
from tests.soak.variants import VARIANTS, WALLET, Variant
from tests.soak.venues import VENUES
from tickless.adapters.dynamodb_ledger import DynamoDbLedger
from tickless.adapters.experience_archive import MemoryExperience
from tickless.adapters.folder_market import FolderMarket
from tickless.adapters.memory import ManualClock, MemoryLedger, MemoryModelStore, MemoryParameterStore
from tickless.backtest.memory import PanelBars, Silence
from tickless.errors import TicklessError
from tickless.ports import Ledger, Ports, Venue
from tickless.runs import gather
from tickless.runs.desk_strategies import HISTORIES
from tickless.settings import Settings
from tickless.types import LedgerUpdate, Tick, evolve

MORTAL = ("ledger", "trace", "notifier", "parameters")
RETRY_S = 60
"""Lambda retries a failed invocation twice, a minute and two later."""
ENDED = frozenset({"done", "resumed", "already_done", "StaleTickError"})
WAITING = frozenset({KILL, KILL_SENDING, AT_ONCE, AT_ONCE_SENDING, HANG})
"""Happenings that wait for a call, and may wait in vain."""


class Texts:
    """The Trace port as the ledger's tests need it: what a tick has written last."""

    def __init__(self) -> None:
        self._last: dict[Tick, Mapping[str, Any]] = {}

    def write(self, tick: Tick, content: Mapping[str, Any]) -> None:
        self._last = {tick: content}

    def read(self, tick: Tick) -> Mapping[str, Any] | None:
        return self._last.get(tick)


@dataclass
class Findings:
    """What a soak has seen. ``violations`` name seed, variant and tick: enough to run up to them again."""

    seed: int
    variant: str
    ticks: int = 0
    settled: int = 0
    """Ticks after which ledger and exchange were compared."""
    sent: int = 0
    trades: int = 0
    resent: int = 0
    refused_again: int = 0
    """Of those, how many the exchange refused as duplicates."""
    faults: Counter[str] = field(default_factory=Counter)
    """The exchange's, by kind."""
    mishaps: Counter[str] = field(default_factory=Counter)
    """All others."""
    outcomes: Counter[str] = field(default_factory=Counter)
    broken: Counter[Property] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)


class Soak:
    """One desk at one exchange. ``without`` names faults and mishaps that are left out."""

    def __init__(
        self, exchange: LoopbackExchange, url: str, name: str, seed: int, variant: Variant, ledger: Ledger, without: Collection[str]
    ) -> None:
        self.exchange, self.variant = exchange, variant
        self.found = Findings(seed, name)
        self.without = frozenset(without)
        self.settings = variant.settings
        self.clock = ManualClock(exchange.world.start_at)
        self.venue = VENUES[variant.account](exchange, url, self._sleep)
        self.ledger = WatchedLedger(ledger, self.venue.stake)
        self.checks = Checks(self.ledger, exchange, self.venue, WALLET, promised=self.settings.execution.stoploss_on_exchange)
        self.bars = variant.panel(exchange.world)
        self._market = FolderMarket(self.bars, variant.rules(exchange.world))
        self._parts = {
            "ledger": self.ledger,
            "trace": Texts(),
            "notifier": Silence(),
            "parameters": MemoryParameterStore(self.settings.sections()),
        }
        self._accounts: dict[str, Any] = {}
        self._late: list[Tick] = []
        self._at = exchange.world.start_at
        self._random = random.Random(0)

    def run(self, ticks: int) -> Findings:
        """Deliver ticks until there were so many in all, or up to the first violation."""
        while self.found.ticks < ticks and not self.found.violations:
            self._random = random.Random(f"{self.found.seed} {self.found.variant} {self.found.ticks}")
            for tick in self._delivered(list(self.settings.calendar.due_at(self._at))):
                if self.found.ticks == ticks or self.found.violations:
                    break
                self._tick(tick)
            self._at += timedelta(minutes=15)
        venue = self.exchange.venues[self.venue.name]
        taken = self.exchange.orders_sent()
        self.found.sent, self.found.trades, self.found.resent = len(venue.orders), len(venue.trades), len(self.exchange.resent())
        self.found.refused_again = self.found.resent - (taken.total() - len(taken))
        self.found.faults = Counter()
        for (_, fault), times in self.exchange.faults.seen.items():
            self.found.faults[str(fault)] += times
        return self.found

    def _delivered(self, due: list[Tick]) -> Iterator[Tick]:
        """The ticks of a minute as they are delivered, and late ones of the minute before."""
        if self._strikes(SHUFFLE):
            self._random.shuffle(due)
        late, self._late = self._late, []
        for tick in due:
            if self._strikes(LOSE):
                continue
            if self._strikes(LATE):
                self._late.append(tick)
                continue
            yield tick
            if self._strikes(DUPLICATE):
                yield tick
        yield from late

    def _strikes(self, happening: str) -> bool:
        struck = happening not in self.without and self._random.random() < HAPPENINGS[happening]
        self.found.mishaps[happening] += struck and happening not in WAITING
        return struck

    def _tick(self, tick: Tick) -> None:
        """Deliver one tick, as often as Lambda would, and look at what it leaves."""
        number = self.found.ticks = self.found.ticks + 1
        self._random = random.Random(f"{self.found.seed} {self.found.variant} tick {number}")
        stormy = self._random.random() < STORMY
        if stormy:
            self._arm(number)
        before = sum(self.exchange.faults.seen.values())
        self._pass(max(self.clock.now(), tick.scheduled_at) + timedelta(seconds=self._random.choice([0, 0, 1, 20])))
        outcome = ""
        for attempt in range(3):
            if attempt:
                self._pass(self.clock.now() + timedelta(seconds=attempt * RETRY_S))
            moment = self._moment(tick, f"visitor {number} {attempt}")
            outcome = self._deliver(tick, f"invocation {number}", moment)
            self.found.outcomes[outcome] += 1
            if outcome in ENDED or self.found.violations:
                break
        self.exchange.faults.clear()
        self.exchange.clear_log()
        self._resume()
        undisturbed = outcome == "done" and sum(self.exchange.faults.seen.values()) == before and attempt == 0 and not moment.struck
        self._complain(tick, self.checks.always())
        if undisturbed:
            self.found.settled += 1
            self._complain(tick, self.checks.settled())

    def _moment(self, tick: Tick, invocation: str) -> Moment:
        """At any call, or where it hurts most: around an order. One that hangs was not about to send: no function waits that long there."""
        after, calls, few = self._random.random() < 0.5, self._random.randint(1, 20), self._random.randint(1, 2)
        if self._strikes(KILL_SENDING):
            return Moment(few, after, "exchange.submit")
        if self._strikes(KILL):
            return Moment(calls, after)
        for happening, only, count in ((AT_ONCE_SENDING, "exchange.submit", few), (AT_ONCE, "", calls), (HANG, "ledger.", calls % 5 + 1)):
            if self._strikes(happening):
                return Moment(count, after, only, partial(self._visit, tick, invocation, happening))
        return Moment()

    def _visit(self, tick: Tick, invocation: str, happening: str) -> None:
        """Another process runs the same tick in the middle of the one that is running."""
        self.found.mishaps[happening] += 1
        if happening == HANG:
            self._pass(self.clock.now() + timedelta(seconds=self.settings.schedule.lease_ttl_s + 1))
        outcome = self._deliver(tick, invocation, Moment())
        self.found.outcomes[f"{outcome}, at once" if happening != HANG else f"{outcome}, after a hang"] += 1

    def _arm(self, number: int) -> None:
        """Faults of this tick: their own seed, so that they do not depend on how many requests there were before."""
        seed = self.found.seed * 1_000_003 + number
        for endpoint, chances, k in (("*", CHANCES, 0), (self.venue.placing, SENDING_CHANCES, 1)):
            kept = {fault: chance for fault, chance in chances.items() if str(fault) not in self.without}
            self.exchange.faults.random(3 * seed + k, kept, endpoint)

    def _pass(self, at: Any) -> None:
        self.clock.set(max(at, self.clock.now()))
        self.exchange.set_time(at)

    def _sleep(self, seconds: float) -> None:
        self._pass(self.clock.now() + timedelta(seconds=seconds))

    def _deliver(self, tick: Tick, invocation: str, moment: Moment) -> str:
        ports = self._ports(moment, invocation)
        try:
            return RUNS[tick.function](tick, ports).status
        except KilledError:
            self._accounts.clear()
            self.found.mishaps[KILL_SENDING if moment.only else KILL] += 1
            return "killed"
        except TicklessError as error:
            return type(error).__name__
        except Exception:  # whatever it is, it is no error that a run may end with
            self._complain(tick, [Broken(Property.ENDS, traceback.format_exc(limit=-4))])
            return "crashed"

    def _ports(self, moment: Moment, invocation: str) -> Ports:
        """Of a process; a warm one finds its account open, a visitor's is its own."""
        named = {name: Mortal(name, self._parts[name], moment) for name in MORTAL}
        silence, process = Silence(), invocation.split()[0]

        def connect(settings: Settings) -> Venue:
            del settings
            if self.variant.account == "roostoo" or process not in self._accounts:
                self._accounts[process] = self.venue.open(lambda name, port: Mortal(name, port, moment))
            return Venue(self._market, Mortal("exchange", self._accounts[process], moment))  # type: ignore[arg-type]

        return Ports(
            connect=connect,
            bars=PanelBars(self.bars),
            models=MemoryModelStore(),
            experience=MemoryExperience(),
            clock=self.clock,
            metrics=silence,
            log=silence,
            invocation=invocation,
            **named,  # type: ignore[arg-type]
        )

    def _resume(self) -> None:
        """What a person does once the exchange takes the account again: ``tickless resume``."""
        state = self.ledger.load()
        if state is None or state.halt is None:
            return
        self.found.outcomes["halted, resumed by a person"] += 1
        self._pass(self.clock.now() + timedelta(seconds=self.settings.schedule.lease_ttl_s))
        fence = self.ledger.acquire("person", self.clock.now(), 60)
        self.ledger.journal(fence, [LedgerUpdate(desk=evolve(state, halt=None))])
        self.ledger.release(fence)

    def _complain(self, tick: Tick, broken: Iterable[Broken]) -> None:
        where = f"seed {self.found.seed}, variant {self.found.variant}, tick {self.found.ticks} ({tick.id})"
        for promise, what in broken:
            self.found.broken[promise] += 1
            self.found.violations.append(f"{where}: {promise}: {what}")


@contextmanager
def histories_once(variant: Variant, world: World) -> Iterator[None]:
    """What the strategies see, computed once for the whole range, as a backtest does: rows do not depend on where a panel begins."""
    models, settings, panel = MemoryModelStore(), variant.settings, variant.panel(world)
    pairs = gather.universe_pairs(panel.pairs, settings.universe, settings.desk.stake_currency)
    made = {name: HISTORIES[name](panel, pairs, settings, world.start_at, models) for name in settings.strategy}
    with patch.object(gather, "HISTORIES", {name: lambda *_, one=one: one for name, one in made.items()}):
        yield


@contextmanager
def opened_ledger(kind: str) -> Iterator[Ledger]:
    """An empty ledger: in memory, or a table of moto's, with one lock around its calls."""
    if kind == "memory":
        yield MemoryLedger()
        return
    import boto3
    from moto import mock_aws

    from tickless.localcloud import moto_fixes

    with mock_aws(), moto_fixes.applied():
        client = boto3.client("dynamodb", region_name="eu-central-1", aws_access_key_id="testing", aws_secret_access_key="testing")
        keys = {"pk": "HASH", "sk": "RANGE"}
        client.create_table(
            TableName="desk",
            KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in keys.items()],  # type: ignore[typeddict-item]
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in keys],
            BillingMode="PAY_PER_REQUEST",
        )
        yield DynamoDbLedger("desk", client)


@contextmanager
def opened(name: str, seed: int, ticks: int, without: Collection[str] = ()) -> Iterator[Soak]:
    """A soak with bars for so many ticks."""
    variant = VARIANTS[name]
    world = variant.made_world(seed, ticks)
    with histories_once(variant, world), loopback_exchange(world) as (exchange, url), opened_ledger(variant.ledger) as ledger:
        yield Soak(exchange, url, name, seed, variant, ledger, without)


def soak(variant: str, seed: int, ticks: int, without: Collection[str] = ()) -> Findings:
    """Run one variant from one seed for so many ticks, or up to its first violation."""
    with opened(variant, seed, ticks, without) as one:
        return one.run(ticks)


def kinds() -> list[str]:
    """Every fault and mishap by name."""
    return sorted({*map(str, (*CHANCES, *SENDING_CHANCES)), *HAPPENINGS})
