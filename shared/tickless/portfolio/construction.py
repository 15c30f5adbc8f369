"""From scored candidates to target weights: top-k, inverse volatility, caps, sleeve, cash buffer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tickless.settings import PortfolioSection


@dataclass(frozen=True)
class Candidate:
    """A pair that may be in the target."""

    pair: str
    score: float
    """Before costs: decides rank and, over volatility, weight."""
    volatility_frac: float
    """24 h volatility."""
    tier: int


@dataclass(frozen=True)
class Allocation:
    """Target weights (shares of equity) in rank order, and what limited them."""

    weights: dict[str, float]
    limits: tuple[str, ...]
    """Limits that bound, such as ``top_k``, ``tier1_cap:BTC/USDT``, ``tier3_sleeve:PEPE/USDT``."""
    beyond_top_k: tuple[str, ...]
    """Candidates that were good enough but ranked too low."""


def construct(candidates: Sequence[Candidate], regime: str, settings: PortfolioSection) -> Allocation:
    """Weights of the first k candidates by score, by score over volatility, within caps, sleeve and buffer.

    ``w_i = (1 - buffer) * raw_i / sum(raw)`` with ``raw_i = max(0, score_i) / max(volatility_i, floor)``, then the tier's cap, then tier 3
    together at most the sleeve, in rank order. What is cut off stays cash, or goes to the candidates below their caps, by setting.
    Ties rank by name.
    """
    ranked = sorted(candidates, key=lambda c: (-c.score, c.pair))
    top_k = settings.top_k.of(regime)
    chosen = ranked[:top_k]
    limits = ["top_k"] if len(ranked) > top_k else []
    raw = {c.pair: max(0.0, c.score) / max(c.volatility_frac, settings.volatility_floor_frac) for c in chosen}
    total = sum(raw.values())
    budget = 1.0 - settings.cash_buffer_frac.of(regime)
    wanted = {pair: budget * share / total for pair, share in raw.items()} if total > 0.0 else {}
    weights, bound = _cap(chosen, wanted, settings)
    if settings.cut_off_goes_to == "candidates":
        weights, bound = _redistribute(chosen, raw, budget, weights, bound, settings)
    kept = {pair: weight for pair, weight in weights.items() if weight > 0.0}
    return Allocation(kept, (*limits, *bound), tuple(c.pair for c in ranked[top_k:]))


def _cap(chosen: Sequence[Candidate], wanted: dict[str, float], settings: PortfolioSection) -> tuple[dict[str, float], list[str]]:
    weights: dict[str, float] = {}
    bound: list[str] = []
    sleeve = settings.tier3_sleeve_frac
    for candidate in chosen:
        weight = wanted.get(candidate.pair, 0.0)
        cap = settings.tier_cap_frac(candidate.tier)
        if weight > cap:
            weight = cap
            bound.append(f"tier{candidate.tier}_cap:{candidate.pair}")
        if candidate.tier == 3:
            if weight > sleeve:
                weight = max(0.0, sleeve)
                bound.append(f"tier3_sleeve:{candidate.pair}")
            sleeve -= weight
        weights[candidate.pair] = weight
    return weights, bound


def _redistribute(
    chosen: Sequence[Candidate],
    raw: dict[str, float],
    budget: float,
    weights: dict[str, float],
    bound: list[str],
    settings: PortfolioSection,
) -> tuple[dict[str, float], list[str]]:
    """Give what caps cut off to candidates that are not capped yet, in proportion; each round caps at least one more or ends."""
    for _ in chosen:
        spare = budget - sum(weights.values())
        capped = {limit.partition(":")[2] for limit in bound}
        free = [c for c in chosen if c.pair not in capped and raw[c.pair] > 0.0]
        share = sum(raw[c.pair] for c in free)
        if spare <= 1e-12 or share <= 0.0:
            break
        free_pairs = {c.pair for c in free}
        wanted = {p: w + (spare * raw[p] / share if p in free_pairs else 0.0) for p, w in weights.items()}
        weights, bound_now = _cap(chosen, wanted, settings)
        bound = list(dict.fromkeys([*bound, *bound_now]))
    return weights, bound
