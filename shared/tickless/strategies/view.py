"""What a strategy sees at a tick, and what it answers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from math import isnan, nan
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tickless.bars import Floats
from tickless.features.half_hours import ATR
from tickless.regimes.ema_trend import Regime
from tickless.types import ExitPlan

NO_REGIME = Regime("", "", nan, nan)
"""Of a strategy that does not look for one."""


@lru_cache(maxsize=64)
def _as_set(pairs: tuple[str, ...]) -> frozenset[str]:
    return frozenset(pairs)


class ModelForecast(NamedTuple):
    """What one version of a model says at a tick: the champion's counts, a shadow's is only written down."""

    model: str
    version: str
    stage: str
    """``champion`` or ``shadow``."""
    horizon_h: float
    forecast: Floats
    """Plain returns over the horizon, (N,); NaN = none."""
    probability: Floats | None = None
    """Of a classifier: what it gives the event, (N,)."""


class ModelRefusal(NamedTuple):
    """Why a model could not be used at a tick."""

    model: str
    version: str
    """Empty where it is not about one version."""
    stage: str
    """``champion``: a forecast is missing; ``shadow``: no decision would have looked at it."""
    reason: str
    """A sentence that names the model."""

    @property
    def label(self) -> str:
        """``name@version``, or the name alone."""
        return f"{self.model}@{self.version}" if self.version else self.model


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
    tiers: NDArray[np.int64]
    ineligible: tuple[str, ...]
    """Why a pair may not be bought, by position; empty = it may."""
    regime: Regime = NO_REGIME
    forecasts: Mapping[str, Floats] = field(default_factory=dict)
    """Forecasts as plain returns over the model's horizon, (N,), by model name; a model that may not be used is absent."""
    models: Mapping[str, str] = field(default_factory=dict)
    """``name@version`` of every model that made a forecast, by name."""
    said: tuple[ModelForecast, ...] = ()
    """All that models said, those in shadow too: for the record, no decision looks at it."""
    refused: tuple[ModelRefusal, ...] = ()
    """The versions that ought to have made a forecast, and could not."""
    size_frac: float = 1.0
    """What is left of every target's size: less than 1 where a model has drifted."""

    def evidence(self) -> dict[str, Any]:
        """What a model learns from later and is judged by, for the trace."""
        return {
            "pairs": self.pairs,
            "features": {"names": self.feature_names, "values": self.features},
            "said": [forecast._asdict() for forecast in self.said],
        }

    @property
    def known(self) -> Set[str]:
        """The pairs, to look one up."""
        return _as_set(self.pairs)

    def feature(self, name: str) -> Floats:
        """One feature, (N,)."""
        return self.features[:, self.feature_names.index(name)]

    def atr(self, pairs: Collection[str]) -> dict[str, float]:
        """The ATR of ``pairs``, in price units, where the strategy's features have one and the view has the pair."""
        if ATR not in self.feature_names:
            return {}
        known = dict(zip(self.pairs, self.feature(ATR).tolist(), strict=True))
        return {pair: known[pair] for pair in sorted(pairs) if pair in known}

    def closes(self) -> dict[str, float]:
        """The last closes by pair, pairs without one left out."""
        known = dict(zip(self.pairs, self.close.tolist(), strict=True))
        return {pair: close for pair, close in known.items() if not isnan(close)} if np.isnan(self.close).any() else known


class Proposal(NamedTuple):
    """A strategy's wish to hold a pair. NaN = the strategy has no opinion."""

    strategy: str
    pair: str
    side: str
    exits: ExitPlan
    reason: str
    """The enter tag."""
    stake: float = nan
    """What to hold of it, in the stake currency, where the strategy sizes its trades itself."""
    score: float = nan
    """Ranks and sizes: a return as a fraction, before costs."""
    volatility_frac: float = nan
    """24 h volatility: the denominator of the size."""
    tier: int = 3
    confidence: float = nan
    """0 to 1: score over score plus its cost; 0.5 = a forecast that just pays its costs twice over."""
    expected_value_frac: float = nan
    """Net of the round trip's costs."""


Action = tuple[str, str]
"""(action, reason): ``buy``, ``sell``, ``keep`` or ``pass``, and why."""


class Verdict:
    """What a strategy said of one pair: for the trace."""

    __slots__ = ("action", "net", "reason", "score")

    def __init__(self, reason: str, score: float = nan, net: float = nan) -> None:
        """``reason`` is why it is no proposal, empty for a proposal; ``score`` and ``net`` are NaN where there is none."""
        self.reason = reason
        self.score = score
        self.net = net
        self.action: Action = ("pass", reason)


class Proposals(NamedTuple):
    """All that a strategy wants at a tick, and a verdict on every pair."""

    proposals: tuple[Proposal, ...]
    verdicts: Mapping[str, Verdict]
    source: str
    """Where the opinion comes from: ``models``, ``fallback``, ``signals``."""
    leaving: Mapping[str, str] = MappingProxyType({})
    """Pairs of its own that the strategy wants to be out of, and why: the exit reason."""
