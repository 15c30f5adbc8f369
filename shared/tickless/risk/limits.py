"""Limits on targets: drawdown scaling, halts, pairs blocked after a stop. They only ever reduce."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tickless.risk.drawdown import target_scale
from tickless.settings import RiskSection


@dataclass(frozen=True)
class Limited:
    """Target weights after limits, the limits that bound, and why a pair was held back."""

    weights: dict[str, float]
    limits: tuple[str, ...]
    held_back: dict[str, str]
    """Pair → reason, for pairs whose weight was cut to what is held."""


def limit(
    weights: Mapping[str, float],
    held_weights: Mapping[str, float],
    drawdown: float,
    *,
    halted: bool,
    blocked: Mapping[str, str],
    settings: RiskSection,
) -> Limited:
    """Scale all weights by the drawdown's factor; let nothing grow while the desk is halted; let no blocked pair be bought.

    ``held_weights`` are the shares of equity held now; a pair that may not be bought keeps the smaller of target and holding.
    """
    scale = target_scale(drawdown, settings)
    scaled = {pair: weight * scale for pair, weight in weights.items() if weight * scale > 0.0}
    limited = Limited(scaled, (f"drawdown_scale:{scale:g}",) if scale < 1.0 else (), {})
    reasons = dict.fromkeys(limited.weights, "halted") if halted else {p: "blocked_after_stop" for p in limited.weights if p in blocked}
    held_back = {p: reason for p, reason in reasons.items() if limited.weights[p] > held_weights.get(p, 0.0)}
    if not held_back:
        return limited
    reduced = {p: held_weights.get(p, 0.0) if p in held_back else weight for p, weight in limited.weights.items()}
    return replace(
        limited,
        weights={p: weight for p, weight in reduced.items() if weight > 0.0},
        limits=(*limited.limits, *(["halted"] if halted else [f"blocked:{p}" for p in held_back])),
        held_back=held_back,
    )
