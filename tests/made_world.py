"""A desk in memory: hand-made bars for the simulated exchange, and a whole world of ports for runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np

from tickless.adapters.experience_archive import MemoryExperience
from tickless.adapters.folder_market import FolderMarket
from tickless.adapters.memory import (
    ManualClock,
    MemoryBarStore,
    MemoryLedger,
    MemoryLog,
    MemoryMetrics,
    MemoryModelStore,
    MemoryNotifier,
    MemoryParameterStore,
    MemorySimStore,
    MemoryTrace,
)
from tickless.adapters.sim_exchange import SimExchange, TextAccounts
from tickless.bars import COLUMNS, Panel
from tickless.execution.matching import SimOrder
from tickless.ports import Ports, Venue
from tickless.runs import feature_rebalance, full_rebalance, retrain, risk_check, scan
from tickless.runs.report import RunReport
from tickless.settings import ExecutionSection, Settings, load_desk
from tickless.types import Order, OrderReport, OrderType, PairRules, Side, Tick, to_ms

T0 = datetime(2024, 6, 1, tzinfo=UTC)
STEP = timedelta(minutes=15)
PAIR = "AAA/USDT"
D = Decimal
NO_THRESHOLDS = (
    "portfolio.hysteresis_frac=0.0",
    "portfolio.full_hysteresis_frac=0.0",
    "risk.initial_stop_atr=50",
    "risk.max_position_loss_frac=1.0",
)
"""A desk that follows its targets to the last coin, and is never stopped out."""
REQUOTED = (
    *NO_THRESHOLDS,
    "execution.order_type=limit",
    "execution.limit_offset_bps=-300",
    "execution.unfilled_timeout_s=900",
    "execution.unfilled_requotes=1",
    "schedule.rebalance_every_min=60",
    'portfolio.top_k={"trend": 2, "chop": 2, "down": 2}',
)
"""A desk of two pairs whose limit orders lie so far off that they run out of time after a bar; three risk checks between two rebalances."""
Row = Sequence[float] | None
"""(open, high, low, close, volume), or None where the pair has no bar."""

RUNS: Mapping[str, Callable[[Tick, Ports], RunReport]] = {
    module.NAME: module.run for module in (risk_check, feature_rebalance, full_rebalance, scan, retrain)
}


def at(bar: float) -> datetime:
    """When bar number ``bar`` opens."""
    return T0 + bar * STEP


def make_panel(bars: Mapping[str, Sequence[Row]], start: datetime = T0) -> Panel:
    """15m bars of some pairs, from a row of figures for each."""
    rows = max(len(rows) for rows in bars.values())
    values = np.full((len(COLUMNS), rows, len(bars)), np.nan)
    for n, pair in enumerate(sorted(bars)):
        for t, row in enumerate(bars[pair]):
            if row is not None:
                values[:, t, n] = row
    return Panel("15m", tuple(sorted(bars)), to_ms(start), *values)


def make_order(side: Side = Side.BUY, qty: str = "1", *, tick: float = 0, order_id: str = "o1", pair: str = PAIR, **changes: Any) -> Order:
    """A market order; with a limit or stop price, that kind of order."""
    kind = OrderType.LIMIT if "limit_price" in changes else OrderType.STOP if "stop_price" in changes else OrderType.MARKET
    prices = {name: D(str(changes.pop(name))) for name in ("limit_price", "stop_price") if name in changes}
    return replace(Order(order_id, at(tick), "rotation", pair, side, kind, D(qty), "entry"), **prices, **changes)


class Exchange:
    """The simulated exchange on hand-made bars, driven tick by tick."""

    def __init__(
        self, bars: Mapping[str, Sequence[Row]], *, wallet: str = "100000", rules: Mapping[str, PairRules] | None = None, **execution: Any
    ) -> None:
        plain = {"taker_fee_bps": 0.0, "maker_fee_bps": 0.0, "slippage_bps": 0.0, "max_participation_frac": 0.0}
        self.settings = load_desk("rotation", [f"desk.dry_run_wallet={wallet}"])
        self.settings = self.settings.model_copy(update={"execution": ExecutionSection(**{**plain, **execution})})
        self.panel = make_panel(bars)
        self.market = FolderMarket(self.panel, rules or {})
        self.store, self.bars = MemorySimStore(), MemoryBarStore()
        self.sim = SimExchange(TextAccounts(self.store), self.bars, self.market, self.settings)
        self.tick(0)

    def tick(self, bar: float) -> Mapping[str, Decimal]:
        """Work everything off up to the open of bar ``bar``; the balances then."""
        self.bars.write(self.panel.closed_at(at(bar)))
        return self.sim.snapshot(at(bar), ()).balances

    def send(self, order: Order, bar: float | None = None) -> OrderReport:
        """Submit at the order's own tick, or later."""
        when = order.tick_at if bar is None else at(bar)
        self.bars.write(self.panel.closed_at(when))
        return self.sim.submit(order, when)

    def report(self, order: Order, bar: float) -> OrderReport:
        """What the exchange says of an order at the open of bar ``bar``."""
        self.bars.write(self.panel.closed_at(at(bar)))
        return self.sim.snapshot(at(bar), (order,)).reports[order.client_order_id]


def steady(rows: int = 8, price: float = 100.0, volume: float = 1000.0) -> list[Row]:
    """Bars that go nowhere: one above, one below the price."""
    return [(price, price + 1, price - 1, price, volume)] * rows


@dataclass
class World:
    """Everything a run needs, in memory. ``wrap`` may put something between the run and each port."""

    market: FolderMarket
    settings: Settings
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    sim_store: MemorySimStore = field(default_factory=MemorySimStore)
    bars: MemoryBarStore = field(default_factory=MemoryBarStore)
    models: MemoryModelStore = field(default_factory=MemoryModelStore)
    trace: MemoryTrace = field(default_factory=MemoryTrace)
    experience: MemoryExperience = field(default_factory=MemoryExperience)
    clock: ManualClock = field(default_factory=lambda: ManualClock(T0))
    metrics: MemoryMetrics = field(default_factory=MemoryMetrics)
    notifier: MemoryNotifier = field(default_factory=MemoryNotifier)
    log: MemoryLog = field(default_factory=MemoryLog)
    parameters: MemoryParameterStore = field(init=False)

    def __post_init__(self) -> None:
        self.parameters = MemoryParameterStore(self.settings.sections())

    def ports(self, wrap: Callable[[str, Any], Any] = lambda _name, port: port) -> Ports:
        """The ports of one invocation."""
        bars, market = wrap("bars", self.bars), wrap("market", self.market)
        store = wrap("sim_store", self.sim_store)

        def connect(settings: Settings) -> Venue:
            return Venue(market, wrap("exchange", self.venue(store, bars, market, settings)))

        names = ("ledger", "models", "parameters", "clock", "metrics", "trace", "experience")
        named = {name: wrap(name, getattr(self, name)) for name in names}
        return Ports(connect=connect, bars=bars, notifier=wrap("notifier", self.notifier), log=wrap("log", self.log), **named)

    def venue(self, store: Any, bars: Any, market: Any, settings: Settings) -> Any:
        """The exchange of an invocation."""
        return SimExchange(TextAccounts(store), bars, market, settings)

    def run(self, name: str, when: datetime, ports: Ports | None = None, late_s: float = 0.0) -> RunReport:
        """One invocation, ``late_s`` after its scheduled time; ``name`` as a tick's: ``risk_check``, ``scan-crossover``."""
        self.clock.set(when + timedelta(seconds=late_s))
        function, _, strategy = name.partition("-")
        return RUNS[function](Tick(when, function, strategy), ports or self.ports())

    def account(self) -> dict[str, Decimal]:
        """The exchange's balances."""
        exchange = SimExchange(TextAccounts(self.sim_store), self.bars, self.market, self.settings)
        return dict(exchange.snapshot(self.clock.now() - timedelta(days=365), ()).balances)

    def exchange_orders(self) -> tuple[SimOrder, ...]:
        """What is open at the exchange."""
        stored = TextAccounts(self.sim_store).load()
        return stored[1].orders if stored is not None else ()

    def outcome(self) -> dict[str, Any]:
        """All that must be equal in two runs that came to the same: the ledger without fencing numbers, and the exchange."""
        return {
            "desk": self.ledger.load(),
            "orders": list(self.ledger.orders()),
            "fills": list(self.ledger.fills()),
            "trades": list(self.ledger.trades()),
            "equity": list(self.ledger.equity()),
            "ticks": [replace(record, fence=0) for record in self.ledger.ticks()],
            "balances": self.account(),
        }


class EndsNothing:
    """An exchange that knows no time-outs, as real ones do: an order rests until it is filled or cancelled."""

    def __init__(self, exchange: SimExchange) -> None:
        self._exchange = exchange

    def __getattr__(self, name: str) -> Any:
        return getattr(self._exchange, name)

    def submit(self, order: Order, when: datetime) -> OrderReport:
        return self._exchange.submit(replace(order, expires_at=None), when)


class Patient(World):
    """A world whose exchange ends no order by itself."""

    def venue(self, store: Any, bars: Any, market: Any, settings: Settings) -> Any:
        return EndsNothing(super().venue(store, bars, market, settings))


def plain_fields(world: World) -> dict[str, Any]:
    """What makes another world of the same market and settings."""
    return {"market": world.market, "settings": world.settings}
