"""What a strategy sees at a tick, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from math import isnan

import numpy as np
from numpy.typing import NDArray

from tickless.bars import Floats
from tickless.regimes.ema_trend import Regime
from tickless.types import ExitPlan


@dataclass(frozen=True)
class MarketView:
    """The market at a tick, from bars closed at or before it. Arrays over the N pairs of the universe, in sorted order."""

    at: datetime
    pairs: tuple[str, ...]
    close: Floats
    """Close of the bar that closed last, (N,); NaN for a pair without that bar."""
    feature_names: tuple[str, ...]
    features: Floats
    """(N, F); NaN = not settled."""
    regime: Regime
    forecasts: Mapping[str, Floats]
    """Forecasts as plain returns over the model's horizon, (N,), by model name; a model that may not be used is absent."""
    models: Mapping[str, str]
    """``name@version`` of every model that made a forecast, by name."""
    tiers: NDArray[np.int64]
    ineligible: tuple[str, ...]
    """Why a pair may not be bought, by position; empty = it may."""

    def feature(self, name: str) -> Floats:
        """One feature, (N,)."""
        return self.features[:, self.feature_names.index(name)]

    def closes(self) -> dict[str, float]:
        """The last closes by pair, pairs without one left out."""
        return {pair: close for pair, close in zip(self.pairs, self.close.tolist(), strict=True) if not isnan(close)}


@dataclass(frozen=True)
class Proposal:
    """A strategy's wish to hold a pair."""

    strategy: str
    pair: str
    side: str
    score: float
    """Ranks and sizes: a return as a fraction, before costs."""
    volatility_frac: float
    """24 h volatility: the denominator of the size."""
    tier: int
    confidence: float
    """0 to 1: score over score plus its cost; 0.5 = a forecast that just pays its costs twice over."""
    expected_value_frac: float
    """Net of the round trip's costs."""
    exits: ExitPlan
    reason: str
    """The enter tag."""


@dataclass(frozen=True)
class Verdict:
    """What a strategy said of one pair: for the trace."""

    reason: str
    """Why it is no proposal; empty for a proposal."""
    score: float
    net: float


@dataclass(frozen=True)
class Proposals:
    """All proposals of a strategy at a tick, and a verdict on every pair."""

    proposals: tuple[Proposal, ...]
    verdicts: Mapping[str, Verdict]
    source: str
    """``models`` or ``fallback``."""
