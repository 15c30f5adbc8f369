"""Gates: a model is promoted only if it beats both doing nothing and the current champion, after costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tickless.learn.validate import Measures


@dataclass(frozen=True)
class Gates:
    """What a challenger must exceed."""

    min_rank_ic: float
    min_rank_ic_t: float


@dataclass(frozen=True)
class GateDecision:
    """Whether to promote, and why: one sentence a gate, those that failed first."""

    promote: bool
    reasons: tuple[str, ...]

    @property
    def reason(self) -> str:
        """All reasons as one line."""
        return "; ".join(self.reasons)


def decide(challenger: Measures, champion: Measures | None, gates: Gates, same_rows: Measures | None = None) -> GateDecision:
    """Judge a challenger.

    ``champion`` are the champion's measures, None where there is none. ``same_rows`` are the challenger's on the rows on which the
    champion was measured, where those are fewer than all. A measure that is NaN fails its gate.
    """
    checks = [
        _above("mean rank IC", challenger.rank_ic, gates.min_rank_ic, "the limit"),
        _above("t of rank IC", challenger.rank_ic_t, gates.min_rank_ic_t, "the limit"),
        _above("net top-k return", challenger.top_k_net_frac, challenger.cash_frac, "doing nothing"),
    ]
    if champion is not None:
        mine = challenger if same_rows is None else same_rows
        checks.append(_above("net top-k return", mine.top_k_net_frac, champion.top_k_net_frac, "the champion"))
    failed = tuple(text for passed, text in checks if not passed)
    passed = tuple(text for passed, text in checks if passed)
    if champion is None:
        passed += ("there is no champion to beat",)
    return GateDecision(promote=not failed, reasons=failed + passed)


def _above(what: str, value: float, limit: float, whose: str) -> tuple[bool, str]:
    if math.isnan(value):
        return False, f"{what} cannot be told from so few rows"
    if math.isnan(limit):
        return False, f"{what} {value:.5f} cannot be compared: {whose} has too few rows"
    passed = value > limit
    return passed, f"{what} {value:.5f} is {'above' if passed else 'not above'} {limit:.5f}, {whose}"
