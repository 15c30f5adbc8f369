"""The trace of a tick's pairs: what was done with each, and why. Spelled out only where somebody reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tickless.strategies.view import Action, Proposals

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
