"""Limits on targets: drawdown scaling, halts, pairs blocked after a stop. They only ever reduce."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tickless.risk.drawdown import target_scale
from tickless.settings import RiskSection


class Limited(NamedTuple):
    """Targets after limits, the limits that bound, and why a pair was held back."""

    values: dict[str, float]
    limits: tuple[str, ...]
    held_back: dict[str, str]
    """Pair → reason, for pairs whose target was cut to what is held."""


def limit(
    targets: Mapping[str, float],
    held: Mapping[str, float],
    drawdown: float,
    *,
    halted: bool,
    blocked: Mapping[str, str],
    settings: RiskSection,
) -> Limited:
    """Scale all targets by the drawdown's factor; let nothing grow while the desk is halted; let no blocked pair be bought.

    ``targets`` and ``held`` are what to hold and what is held of each pair, both in the stake currency or both as shares of equity; a pair
    that may not be bought keeps the smaller of the two.
    """
    scale = target_scale(drawdown, settings)
    scaled = {pair: target * scale for pair, target in targets.items() if target * scale > 0.0}
    limited = Limited(scaled, (f"drawdown_scale:{scale:g}",) if scale < 1.0 else (), {})
    reasons = dict.fromkeys(limited.values, "halted") if halted else {p: "blocked_after_stop" for p in limited.values if p in blocked}
    held_back = {p: reason for p, reason in reasons.items() if limited.values[p] > held.get(p, 0.0)}
    if not held_back:
        return limited
    reduced = {p: held.get(p, 0.0) if p in held_back else value for p, value in limited.values.items()}
    return limited._replace(
        values={p: value for p, value in reduced.items() if value > 0.0},
        limits=(*limited.limits, *(["halted"] if halted else [f"blocked:{p}" for p in held_back])),
        held_back=held_back,
    )
