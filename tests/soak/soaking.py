"""One soak: the desk, its calendar, and what befalls each delivery."""

from __future__ import annotations

import random
import traceback
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any
from unittest.mock import patch

from tests.loopback import FeeIn, LoopbackExchange, World, loopback_exchange
from tests.loopback.exchange import PLACING
from tests.made_accounts import open_account
from tests.made_panels import MONDAY, walk
from tests.made_world import RUNS
from tests.soak.checks import STAKE, Checks, WatchedLedger
from tests.soak.mishaps import (
    CHANCES,
    DUPLICATE,
    HAPPENINGS,
    KILL,
    KILL_SENDING,
    LATE,
    LOSE,
    READING_CHANCES,
    SENDING_CHANCES,
    SHUFFLE,
    STORMY,
    Death,
    KilledError,
    Mortal,
)
from tickless.adapters.ccxt_exchange import CcxtExchange
from tickless.adapters.folder_market import FolderMarket
from tickless.adapters.memory import ManualClock, MemoryModelStore, MemoryParameterStore
from tickless.backtest.memory import PanelBars, Silence
from tickless.errors import TicklessError
from tickless.ports import Ports, Venue
from tickless.runs import gather
from tickless.runs.desk_strategies import HISTORIES
from tickless.settings import Settings, load_desk
from tickless.types import LedgerUpdate, Tick, evolve

PAIRS = ("ADA/USDT", "BNB/USDT", "BTC/USDT", "ETH/USDT", "SOL/USDT")
PRICES = (50.0, 500.0, 60_000.0, 3_000.0, 150.0)
STARTUP_DAYS = 40
WALLET = Decimal(20_000)
CROSSING = (
    "strategy.crossover.stake=700",
    "strategy.crossover.fast_bars=5",
    "strategy.crossover.slow_bars=20",
    "desk.dry_run_wallet=20000",
)
LIVELY = (*CROSSING, "portfolio.hysteresis_frac=0.0", "strategy.rotation.fallback_threshold_frac=0.0")
VARIANTS: Mapping[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "received": (LIVELY, {}),
    "limit": (
        (*LIVELY, "execution.order_type=limit", "execution.unfilled_timeout_s=900"),
        {"fee_in": FeeIn.QUOTE, "participation_frac": Decimal("0.002")},
    ),
    "bnb": (
        (*LIVELY, 'universe.pair_blacklist=["BNB/USDT"]'),
        {"fee_in": FeeIn.BNB, "spot": {STAKE: WALLET, "BNB": Decimal(1000)}, "trades_per_fill": 3},
    ),
    "market": (LIVELY, {"fee_in": FeeIn.QUOTE, "spread_ticks": 2, "unique_ids_for_ever": True}),
}
"""Desks and exchanges: overrides of the desk file, and what is other in the world."""
MORTAL = ("ledger", "trace", "notifier", "parameters")
RETRY_S = 60
"""Lambda retries a failed invocation twice, a minute and two later."""


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
    faults: Counter[str] = field(default_factory=Counter)
    """The exchange's, by kind."""
    mishaps: Counter[str] = field(default_factory=Counter)
    """All others."""
    outcomes: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)


class Soak:
    """One desk at one exchange. ``without`` names faults and mishaps that are left out."""

    def __init__(self, exchange: LoopbackExchange, url: str, variant: str, seed: int, settings: Settings, without: Collection[str]) -> None:
        self.exchange, self.url = exchange, url
        self.found = Findings(seed, variant)
        self.without = frozenset(without)
        self.settings = settings
        self.ledger = WatchedLedger()
        self.checks = Checks(self.ledger, exchange, WALLET)
        self.clock = ManualClock(exchange.world.start_at)
        self._market = FolderMarket(exchange.world.panel, {pair: exchange.world.rule(pair) for pair in PAIRS})
        self._parts = {
            "ledger": self.ledger,
            "trace": Texts(),
            "notifier": Silence(),
            "parameters": MemoryParameterStore(settings.sections()),
        }
        self._account: CcxtExchange | None = None
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
        self.found.sent = sum(self.exchange.orders_sent().values())
        self.found.trades, self.found.resent = len(self.exchange.spot.trades), len(self.exchange.resent())
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
        self.found.mishaps[happening] += struck and happening not in {KILL, KILL_SENDING}
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
            outcome = self._deliver(tick, f"invocation {number}", self._death())
            self.found.outcomes[outcome] += 1
            if outcome in {"done", "resumed", "already_done", "StaleTickError"} or self.found.violations:
                break
        self.exchange.faults.clear()
        self.exchange.clear_log()
        self._resume()
        undisturbed = outcome == "done" and sum(self.exchange.faults.seen.values()) == before and attempt == 0
        self._complain(tick, self.checks.always())
        if undisturbed:
            self.found.settled += 1
            self._complain(tick, self.checks.settled())

    def _death(self) -> Death:
        """At any call, or where it hurts most: around an order."""
        after = self._random.random() < 0.5
        if self._strikes(KILL_SENDING):
            return Death(self._random.randint(1, 2), after, "exchange.submit")
        return Death(self._random.randint(1, 20), after) if self._strikes(KILL) else Death()

    def _arm(self, number: int) -> None:
        """Faults of this tick: their own seed, so that they do not depend on how many requests there were before."""
        seed = self.found.seed * 1_000_003 + number
        for endpoint, chances, k in (("*", CHANCES, 0), (PLACING[0], SENDING_CHANCES, 1), ("GET *", READING_CHANCES, 2)):
            kept = {fault: chance for fault, chance in chances.items() if str(fault) not in self.without}
            self.exchange.faults.random(3 * seed + k, kept, endpoint)

    def _pass(self, at: Any) -> None:
        self.clock.set(at)
        self.exchange.set_time(at)

    def _deliver(self, tick: Tick, invocation: str, death: Death) -> str:
        ports = self._ports(death, invocation)
        try:
            return RUNS[tick.function](tick, ports).status
        except KilledError:
            self._account = None
            self.found.mishaps[KILL_SENDING if death.only else KILL] += 1
            return "killed"
        except TicklessError as error:
            return type(error).__name__
        except Exception:  # whatever it is, it is no error that a run may end with
            self._complain(tick, [traceback.format_exc(limit=-4)])
            return "crashed"

    def _ports(self, death: Death, invocation: str) -> Ports:
        named = {name: Mortal(name, self._parts[name], death) for name in MORTAL}
        silence = Silence()

        def connect(settings: Settings) -> Venue:
            self._account = self._account or open_account(self.exchange, self.url, timeout_s=1.0)
            return Venue(self._market, Mortal("exchange", self._account, death))  # type: ignore[arg-type]

        return Ports(
            connect=connect,
            bars=PanelBars(self.exchange.world.panel),
            models=MemoryModelStore(),
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

    def _complain(self, tick: Tick, sentences: Any) -> None:
        where = f"seed {self.found.seed}, variant {self.found.variant}, tick {self.found.ticks} ({tick.id})"
        self.found.violations += [f"{where}: {sentence}" for sentence in sentences]


def made_world(variant: str, seed: int, ticks: int) -> tuple[World, Settings]:
    """The exchange and the desk of a variant, with bars for so many ticks."""
    overrides, changes = VARIANTS[variant]
    days = STARTUP_DAYS + ticks // 200 + 2
    panel = walk(PAIRS, days * 96, start=MONDAY, seed=seed, price=PRICES, sigma=0.006)
    start = MONDAY + timedelta(days=STARTUP_DAYS)
    return World(panel, start, **{"spot": {STAKE: WALLET}, **changes}), load_desk("rotation", overrides)


@contextmanager
def histories_once(world: World, settings: Settings) -> Iterator[None]:
    """What the strategies see, computed once for the whole range, as a backtest does: rows do not depend on where a panel begins."""
    models = MemoryModelStore()
    pairs = gather.universe_pairs(PAIRS, settings.universe, STAKE)
    made = {name: HISTORIES[name](world.panel, pairs, settings, world.start_at, models) for name in settings.strategy}
    with patch.object(gather, "HISTORIES", {name: lambda *_, one=one: one for name, one in made.items()}):
        yield


@contextmanager
def opened(variant: str, seed: int, ticks: int, without: Collection[str] = ()) -> Iterator[Soak]:
    """A soak with bars for so many ticks."""
    world, settings = made_world(variant, seed, ticks)
    with histories_once(world, settings), loopback_exchange(world) as (exchange, url):
        yield Soak(exchange, url, variant, seed, settings, without)


def soak(variant: str, seed: int, ticks: int, without: Collection[str] = ()) -> Findings:
    """Run one variant from one seed for so many ticks, or up to its first violation."""
    with opened(variant, seed, ticks, without) as one:
        return one.run(ticks)


def kinds() -> list[str]:
    """Every fault and mishap by name."""
    return sorted({*map(str, (*CHANCES, *SENDING_CHANCES, *READING_CHANCES)), *HAPPENINGS})
