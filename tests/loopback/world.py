"""What a loopback exchange trades, holds and charges; a value that can be written to a file for an exchange in a process of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from tickless.bars import COLUMNS, Panel
from tickless.types import PairRules, iso, parse_time

TICK, STEP, NOTIONAL = Decimal("0.01"), Decimal("0.00001"), Decimal(5)


class FeeIn(StrEnum):
    """The asset a fee is charged in. A BNB balance that does not suffice falls back to RECEIVED, as at Binance."""

    RECEIVED = "received"
    """Base on a buy, quote on a sell: Binance's default."""
    QUOTE = "quote"
    BNB = "bnb"


class Timestamps(StrEnum):
    """Which clock a signed request's timestamp is held against, and which one the time endpoints tell."""

    MARKET = "market"
    """The clock that the test sets."""
    WALL = "wall"
    """The machine's, for clients that sign with it while the market stands at another time."""
    ANY = "any"
    """None: every timestamp is right. The time endpoints tell the market's."""


def usual_rules(pair: str) -> PairRules:
    return PairRules(pair, TICK, STEP, NOTIONAL, STEP)


@dataclass(frozen=True)
class World:
    """``panel`` holds all bars, those to come too. Fractions are of the notional; ``participation_frac`` 0 is no limit."""

    panel: Panel
    start_at: datetime
    rules: Mapping[str, PairRules] = field(default_factory=dict)
    """A pair that is absent has the usual ones."""
    spot: Mapping[str, Decimal] = field(default_factory=lambda: {"USDT": Decimal(10_000)})
    futures: Mapping[str, Decimal] = field(default_factory=lambda: {"USDT": Decimal(10_000)})
    roostoo: Mapping[str, Decimal] = field(default_factory=lambda: {"USD": Decimal(50_000)})
    key: str = "loopback-key"
    secret: str = "loopback-secret"
    taker_frac: Decimal = Decimal("0.001")
    maker_frac: Decimal = Decimal("0.0005")
    fee_in: FeeIn = FeeIn.RECEIVED
    spread_ticks: int = 0
    """The bid lies so many ticks below the ask, which is the price."""
    participation_frac: Decimal = Decimal(0)
    """How much of a bar's volume a resting limit may take; the rest waits, partially filled."""
    trades_per_fill: int = 1
    """Into how many trades every fill is split."""
    unique_ids_for_ever: bool = False
    """Binance holds a client order id unique among OPEN orders only: a market order sent twice trades twice."""
    timestamps: Timestamps = Timestamps.MARKET
    weight_limit: int | None = None
    """Weight a minute of the exchange's clock, above which it answers 429; None = told, never enforced."""
    roostoo_wallet: str = "SpotWallet"
    """What the wallet is called: ``SpotWallet`` (seen in 2026) or ``Wallet`` (documented)."""

    def rule(self, pair: str) -> PairRules:
        """The pair's filters, each of them there."""
        found, usual = self.rules.get(pair) or PairRules(pair), usual_rules(pair)
        return PairRules(
            pair,
            found.price_step or usual.price_step,
            found.qty_step or usual.qty_step,
            found.min_notional or usual.min_notional,
            found.min_qty or found.qty_step or usual.min_qty,
            found.active,
        )


def write_world(world: World, path: Path) -> None:
    """As ``.npz``: the panel's columns, and all else as JSON."""
    rest = {one.name: getattr(world, one.name) for one in fields(world) if one.name not in {"panel", "rules", "start_at"}}
    meta = {
        "rest": rest,
        "rules": {pair: asdict(rules) for pair, rules in world.rules.items()},
        "start_at": iso(world.start_at),
        "panel": {"timeframe": world.panel.timeframe, "pairs": world.panel.pairs, "start_ms": world.panel.start_ms},
    }
    columns = {name: getattr(world.panel, name) for name in COLUMNS}
    with path.open("wb") as file:
        np.savez(file, meta=np.array(json.dumps(meta, default=str)), **columns)


def read_world(path: Path) -> World:
    with np.load(path, allow_pickle=False) as stored:
        meta = json.loads(str(stored["meta"]))
        columns = {name: stored[name] for name in COLUMNS}
    told = meta["panel"]
    panel = Panel(told["timeframe"], tuple(told["pairs"]), told["start_ms"], **columns)
    bare = World(panel, parse_time(meta["start_at"]))
    rest = {name: _like(getattr(bare, name), value) for name, value in meta["rest"].items()}
    return replace(bare, rules={pair: _rules(one) for pair, one in meta["rules"].items()}, **rest)


def _like(example: Any, value: Any) -> Any:
    """``value`` out of JSON, of the example's type."""
    if isinstance(example, Mapping):
        return {name: Decimal(amount) for name, amount in value.items()}
    return type(example)(value) if isinstance(example, Decimal | StrEnum) else value


def _rules(told: Mapping[str, Any]) -> PairRules:
    steps = {name: None if told[name] is None else Decimal(told[name]) for name in ("price_step", "qty_step", "min_notional", "min_qty")}
    return PairRules(told["pair"], **steps, active=told["active"])
