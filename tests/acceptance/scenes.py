"""The desks and markets of the crash matrix: for each function a tick that trades, after ticks that bring the desk there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache

from tests.loopback import Timestamps, World
from tickless.adapters.folder_market import FolderMarket
from tickless.adapters.synthetic_market import make_market
from tickless.bars import COLUMNS, Panel
from tickless.settings import Settings, load_desk
from tickless.types import base_asset, to_ms

T0 = datetime(2024, 6, 1, tzinfo=UTC)
STEP = timedelta(minutes=15)
WALLET = 10_000
EAGER = "strategy.rotation.fallback_threshold_frac=-1.0"
"""Without a model every pair is a candidate, so that a rebalance always has something to do."""
NO_THRESHOLDS = ("portfolio.hysteresis_frac=0.0", "portfolio.full_hysteresis_frac=0.0")
SHORT = ("strategy.crossover.fast_bars=1", "strategy.crossover.slow_bars=2", "execution.filters=true")
"""Averages so short that pairs cross at nearly every bar; and quantities that an exchange takes, which the desk file leaves as they are."""
RESTING = (EAGER, "execution.stoploss_on_exchange=true", "risk.trail_arm_atr=0.05", "risk.trail_distance_atr=0.9")
"""A stop rests at the exchange for each position, and trails it closely."""
ROOSTOO = ("desk.exchange=roostoo", "desk.stake_currency=USD", "desk.bars_exchange=binance", "desk.bars_currency=USDT")


@dataclass(frozen=True)
class Scene:
    """``function`` (``risk_check``, ``scan-crossover``) at bar ``bar`` of T0's day, after the ticks of ``before``; then a risk check."""

    function: str
    bar: int
    before: Sequence[tuple[str, int]] = ()
    desk: str = "rotation"
    overrides: tuple[str, ...] = (EAGER,)
    market: str = "calm"
    venue: str = "spot"
    """``spot``, ``swap`` or ``roostoo``."""

    @property
    def settings(self) -> Settings:
        return load_desk(self.desk, [*self.overrides, *(ROOSTOO if self.venue == "roostoo" else ()), f"desk.dry_run_wallet={WALLET}"])

    @property
    def next_function(self) -> str:
        """What runs a bar later."""
        return "risk_check" if self.desk == "rotation" else self.function

    def panel(self) -> Panel:
        """All bars, under the names that the venue has for the pairs."""
        panel = market(self.market).panel
        return replace(panel, pairs=tuple(f"{base_asset(pair)}/USD" for pair in panel.pairs)) if self.venue == "roostoo" else panel


SCENES = {
    "full_rebalance": Scene("full_rebalance", 0),
    "feature_rebalance": Scene("feature_rebalance", 2, [("full_rebalance", 0)], overrides=(EAGER, *NO_THRESHOLDS)),
    "risk_check": Scene("risk_check", 1, [("full_rebalance", 0)], market="crash"),
    "scan": Scene("scan-crossover", 2, desk="crossover", overrides=SHORT),
    "stops placed": Scene("full_rebalance", 0, overrides=RESTING),
    "stops moved": Scene("risk_check", 3, [("full_rebalance", 0), ("risk_check", 1)], overrides=RESTING),
    "exit with a stop": Scene("feature_rebalance", 2, [("full_rebalance", 0)], overrides=(*RESTING, *NO_THRESHOLDS)),
    "stops gone off": Scene("risk_check", 1, [("full_rebalance", 0)], overrides=RESTING, market="crash"),
}
VENUES = {"spot": "spot", "swap": "futures", "roostoo": "roostoo"}
"""What the exchange on loopback calls each account."""
ORDERS = {"spot": "POST /api/v3/order", "swap": "POST /fapi/v1/order", "roostoo": "POST /v3/place_order"}
"""How an order is sent."""


def at(bar: float) -> datetime:
    return T0 + bar * STEP


@cache
def market(name: str) -> FolderMarket:
    """Eight pairs; ``crash`` loses a tenth from the close of the bar that opens at T0 on."""
    made = make_market(start=T0 - timedelta(days=45), end=T0 + timedelta(days=1), pairs=8, seed=2, events=False)
    if name == "calm":
        return FolderMarket(made.panel, made.rules)
    panel = made.panel
    row = (to_ms(T0) - panel.start_ms) // panel.step_ms
    columns = {column: getattr(panel, column).copy() for column in COLUMNS}
    for column in ("open", "high", "low", "close"):
        columns[column][row + 1 :] *= 0.9
    columns["close"][row] *= 0.9
    columns["low"][row] *= 0.9
    return FolderMarket(replace(panel, **columns), made.rules)


def world(name: str) -> World:
    """The exchange's side of a market."""
    known = market(name)
    return World(known.panel, T0, known.filters, roostoo={"USD": Decimal(WALLET)}, timestamps=Timestamps.MARKET)
