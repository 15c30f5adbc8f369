"""The desks of a soak: overrides of the desk file, and what is other in the world."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from tests.loopback import FeeIn, World
from tests.made_panels import MONDAY, walk
from tickless.bars import Panel
from tickless.settings import Settings, load_desk
from tickless.types import PairRules

PAIRS = ("ADA/USDT", "BNB/USDT", "BTC/USDT", "ETH/USDT", "SOL/USDT")
PRICES = (50.0, 500.0, 60_000.0, 3_000.0, 150.0)
STARTUP_DAYS = 40
WALLET = Decimal(20_000)
LIVELY = (
    "strategy.crossover.stake=700",
    "strategy.crossover.fast_bars=5",
    "strategy.crossover.slow_bars=20",
    "desk.dry_run_wallet=20000",
    "portfolio.hysteresis_frac=0.0",
    "strategy.rotation.fallback_threshold_frac=0.0",
)
LIMIT = ("execution.order_type=limit", "execution.unfilled_timeout_s=900")
STOPS = ("execution.stoploss_on_exchange=true",)
SWAP = ("desk.market_type=swap",)
ROOSTOO = ("desk.exchange=roostoo", "desk.stake_currency=USD", "desk.bars_exchange=binance", "desk.bars_currency=USDT")


@dataclass(frozen=True)
class Variant:
    """``account`` is spot, swap or roostoo; ``ledger`` memory or dynamodb; ``world`` changes the usual one."""

    overrides: tuple[str, ...] = ()
    account: str = "spot"
    ledger: str = "memory"
    world: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        return load_desk("rotation", [*LIVELY, *self.overrides])

    def pair(self, pair: str) -> str:
        """A pair of the bars as the desk calls it."""
        return pair.replace("/USDT", "/USD") if self.account == "roostoo" else pair

    def made_world(self, seed: int, ticks: int) -> World:
        """The exchange, with bars for so many ticks."""
        days = STARTUP_DAYS + ticks // 200 + 2
        panel = walk(PAIRS, days * 96, start=MONDAY, seed=seed, price=PRICES, sigma=0.006)
        wallets: Mapping[str, Any] = {"spot": {"USDT": WALLET}, "futures": {"USDT": WALLET}, "roostoo": {"USD": WALLET}}
        return World(panel, MONDAY + timedelta(days=STARTUP_DAYS), **{**wallets, **self.world})

    def panel(self, world: World) -> Panel:
        """The bars under the desk's names."""
        return replace(world.panel, pairs=tuple(map(self.pair, world.panel.pairs)))

    def rules(self, world: World) -> dict[str, PairRules]:
        return {self.pair(pair): replace(world.rule(pair), pair=self.pair(pair)) for pair in PAIRS}


VARIANTS: Mapping[str, Variant] = {
    "received": Variant(),
    "limit": Variant(LIMIT, world={"fee_in": FeeIn.QUOTE, "participation_frac": Decimal("0.002")}),
    "bnb": Variant(world={"fee_in": FeeIn.BNB, "spot": {"USDT": WALLET, "BNB": Decimal(1000)}, "trades_per_fill": 3}),
    "market": Variant(world={"fee_in": FeeIn.QUOTE, "spread_ticks": 2, "unique_ids_for_ever": True}),
    "external": Variant(world={"spot": {"USDT": WALLET, "ETH": Decimal(3), "ADA": Decimal(500)}, "trades_per_fill": 2}),
    "dynamodb": Variant(ledger="dynamodb", world={"trades_per_fill": 2}),
    "stops": Variant(STOPS, world={"fee_in": FeeIn.QUOTE}),
    "stops_limit": Variant((*STOPS, *LIMIT), world={"participation_frac": Decimal("0.002"), "trades_per_fill": 2}),
    "swap_stops": Variant((*SWAP, *STOPS), "swap", world={"trades_per_fill": 2}),
    "swap": Variant(SWAP, "swap", world={"fee_in": FeeIn.QUOTE, "trades_per_fill": 2}),
    "swap_limit": Variant((*SWAP, *LIMIT), "swap", world={"participation_frac": Decimal("0.002")}),
    "swap_bnb": Variant(SWAP, "swap", "dynamodb", {"fee_in": FeeIn.BNB, "futures": {"USDT": WALLET, "BNB": Decimal(1000)}}),
    "roostoo": Variant(ROOSTOO, "roostoo"),
    "roostoo_limit": Variant((*ROOSTOO, *LIMIT), "roostoo", world={"fee_in": FeeIn.QUOTE}),
    "roostoo_dynamodb": Variant(ROOSTOO, "roostoo", "dynamodb", {"roostoo": {"USD": WALLET, "SOL": Decimal(40)}}),
}
