"""A small market view and desk state, put together by hand."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np

from tickless.features.crossover import NAMES as SIGNAL_NAMES
from tickless.features.half_hours import ATR
from tickless.features.rotation import NAMES
from tickless.regimes.ema_trend import Regime
from tickless.settings import load_desk
from tickless.strategies.view import MarketView
from tickless.types import DeskState, Position, StopState, Tick

T0 = datetime(2024, 6, 1, 0, 0, tzinfo=UTC)
SETTINGS = load_desk("rotation")
QUIET = {"rv_24h": 0.04, "atr_14_30m": 1.0, "r_6h": 0.0, "r_24h": 0.0, "rsi14": 50.0}


def a_tick(minutes: float = 0, function: str = "feature_rebalance") -> Tick:
    return Tick(T0 + timedelta(minutes=minutes), function)


def a_view(
    pairs: Mapping[str, Mapping[str, float]],
    *,
    minutes: float = 0,
    regime: str = "chop",
    models: bool = True,
) -> MarketView:
    """A view of pairs given as ``{pair: {close, score, tier, <feature>: value}}``; both horizons forecast ``score``."""
    names = tuple(sorted(pairs))
    features = np.array([[float(pairs[p].get(f, QUIET.get(f, 0.0))) for f in NAMES] for p in names]).reshape(len(names), len(NAMES))
    score = np.array([float(pairs[p].get("score", 0.0)) for p in names])
    return MarketView(
        at=T0 + timedelta(minutes=minutes),
        pairs=names,
        close=np.array([float(pairs[p].get("close", 100.0)) for p in names]),
        feature_names=NAMES,
        features=features,
        regime=Regime(regime, "low", 0.3, 0.5),
        forecasts={"rotation_6h": score, "rotation_24h": score} if models else {},
        models={"rotation_6h": "rotation_6h@1", "rotation_24h": "rotation_24h@1"} if models else {},
        tiers=np.array([int(pairs[p].get("tier", 1)) for p in names], dtype=np.int64),
        ineligible=tuple(str(pairs[p].get("ineligible", "")) for p in names),
    )


def a_position(
    pair: str, qty: str, price: str = "100", *, hours: float = 1.0, stop: StopState | None = None, strategy: str = "rotation"
) -> Position:
    """A position opened ``hours`` before T0."""
    return Position(
        pair, strategy, "entry", T0 - timedelta(hours=hours), Decimal(qty), Decimal(qty) * Decimal(price), stop=stop or StopState()
    )


def a_desk(*positions: Position, cash: str = "50000", peak: str = "50000", **changes: object) -> DeskState:
    state = DeskState(Decimal(cash), Decimal(peak), {p.pair: p for p in positions})
    return DeskState(**{**vars(state), **changes})


def a_signal_view(pairs: Mapping[str, Mapping[str, float | str]], *, minutes: float = 0) -> MarketView:
    """What ``crossover`` sees of pairs given as ``{pair: {close, trend, crossed, ineligible}}``; else: above, not crossed."""
    names = tuple(sorted(pairs))
    columns = (*SIGNAL_NAMES, ATR) if any(ATR in given for given in pairs.values()) else SIGNAL_NAMES
    quiet = {ATR: float("nan"), "sma_fast": 100.0, "sma_slow": 100.0, "trend": 1.0, "crossed": 0.0}
    return MarketView(
        at=T0 + timedelta(minutes=minutes),
        pairs=names,
        close=np.array([float(pairs[p].get("close", 100.0)) for p in names]),
        feature_names=columns,
        features=np.array([[float(pairs[p].get(name, quiet[name])) for name in columns] for p in names]).reshape(len(names), len(columns)),
        tiers=np.ones(len(names), dtype=np.int64),
        ineligible=tuple(str(pairs[p].get("ineligible", "")) for p in names),
    )
