"""What a tick says of its decision: each pair, what was done with it, and why. Spelled out only where somebody reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from math import inf
from typing import Any, NamedTuple

from tickless.execution.dust import DUST
from tickless.execution.planning import Plan
from tickless.risk.limits import Limited
from tickless.strategies.contract import Targets
from tickless.strategies.view import Action, MarketView, Proposals

KEPT: Action = ("keep", "on_target")


class PairTrace(Mapping[str, Mapping[str, Any]]):
    """By pair, sorted: action, reason, and the numbers behind them.

    A tick speaks of every pair, and nearly all are as they were: ``actions`` is what a reader compares, the rest is made when asked.
    """

    def __init__(
        self, actions: Mapping[str, Action], proposed: Proposals, targets: Mapping[str, float], held: Mapping[str, float], whole: float
    ) -> None:
        """``targets`` and ``held`` are in the stake currency, and are told as fractions of ``whole``: equity, inf where there is none."""
        self.actions = actions
        self._proposed = proposed
        self._targets, self._held, self._whole = targets, held, whole

    def __getitem__(self, pair: str) -> dict[str, Any]:
        action, reason = self.actions[pair]
        entry: dict[str, Any] = {"action": action, "reason": reason}
        verdict = self._proposed.verdicts.get(pair)
        if verdict is not None and verdict.score == verdict.score:
            entry |= {"score": verdict.score, "net": verdict.net}
        proposal = next((p for p in self._proposed.proposals if p.pair == pair), None)
        if proposal is not None and proposal.confidence == proposal.confidence:
            entry |= {"confidence": proposal.confidence, "volatility_frac": proposal.volatility_frac}
        if pair in self._targets or self._held.get(pair):
            entry |= {"target": self._targets.get(pair, 0.0) / self._whole, "held": self._held.get(pair, 0.0) / self._whole}
        return entry

    def __repr__(self) -> str:
        return repr(dict(self))

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.actions))

    def __len__(self) -> int:
        return len(self.actions)


class Steps(NamedTuple):
    """What led from a strategy's proposals to a tick's orders, in the order in which it came."""

    proposed: Proposals
    targets: Targets
    limited: Limited
    held: Mapping[str, float]
    """In the stake currency, by pair."""
    taken: Mapping[str, str]
    """Pairs that belong to another strategy, and to which."""
    dust: Set[str]
    plan: Plan


def decision_trace(view: MarketView, steps: Steps, equity: float) -> dict[str, Any]:
    """What was decided of every pair, and why; ``equity`` is in the stake currency."""
    whole = equity if equity > 0.0 else inf
    targets, limited = steps.targets, steps.limited
    tiers = dict(zip(view.pairs, view.tiers.tolist(), strict=True)) if limited.values else {}
    return {
        **_regime_trace(view),
        "models": dict(view.models),
        **({"models_refused": _refusals(view)} if view.refused else {}),
        "evidence": view.evidence(),
        "source": steps.proposed.source,
        **targets.facts,
        "targets": {pair: value / whole for pair, value in limited.values.items()},
        "tiers": {pair: tiers[pair] for pair in limited.values},
        "limits": [*targets.limits, *limited.limits, *(f"cash:{pair}" for pair in steps.plan.short)],
        "pairs": PairTrace(_actions(steps), steps.proposed, limited.values, steps.held, whole),
    }


def _refusals(view: MarketView) -> dict[str, dict[str, str]]:
    """Which models could not be used, by ``name@version``, in which stage, and why."""
    return {refusal.label: {"reason": refusal.reason, "stage": refusal.stage} for refusal in view.refused}


def _actions(steps: Steps) -> dict[str, Action]:
    """The action and its reason, of every pair that the strategy saw or the desk holds."""
    targets, limited, skipped = steps.targets, steps.limited, steps.plan.skipped
    actions = {pair: verdict.action for pair, verdict in steps.proposed.verdicts.items()}
    for proposal in steps.proposed.proposals:
        pair = proposal.pair
        reason = limited.held_back.get(pair) or targets.passed_over.get(pair) or skipped.get(pair)
        actions[pair] = ("pass", reason or ("no_weight_left" if limited.values.get(pair, 0.0) <= 0.0 else ""))
    for pair in steps.held:
        actions[pair] = ("keep", skipped[pair]) if pair in skipped else ("keep", DUST) if pair in steps.dust else KEPT
    for pair, owner in steps.taken.items():
        actions[pair] = ("pass", f"belongs_to_{owner}")
    for order in steps.plan.orders:
        actions[order.pair] = (order.side.value, order.reason)
    return actions


def _regime_trace(view: MarketView) -> dict[str, Any]:
    regime = view.regime
    if not regime.name:
        return {}
    return {
        "regime": regime.name,
        "volatility_regime": regime.volatility,
        "volatility_ann_frac": None if regime.volatility_ann_frac != regime.volatility_ann_frac else regime.volatility_ann_frac,
        "breadth_frac": regime.breadth_frac,
    }
