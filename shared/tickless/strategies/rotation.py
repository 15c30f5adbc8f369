"""``rotation``: propose every pair whose score, net of a round trip's costs, exceeds the threshold. Nothing else."""

from __future__ import annotations

import numpy as np

from tickless.alpha.ensemble import Scores, rotation_scores
from tickless.settings import RotationSection
from tickless.strategies.view import MarketView, Proposal, Proposals, Verdict
from tickless.types import ExitPlan

NAME = "rotation"
NOT_SETTLED = "features_not_settled"
BELOW_THRESHOLD = "net_below_threshold"


def propose(view: MarketView, settings: RotationSection, cost_frac: float) -> Proposals:
    """Score every pair and propose the good ones. Pure; ``cost_frac`` is the cost of a round trip.

    A pair whose features are not settled, or that the universe rules out, is never proposed; the verdicts say why.
    """
    scores = rotation_scores(
        view.forecasts.get(settings.model_6h),
        view.forecasts.get(settings.model_24h),
        r_6h=view.feature("r_6h"),
        r_24h=view.feature("r_24h"),
        rsi14=view.feature("rsi14"),
        regime=view.regime.name,
        rotation=settings,
        cost_frac=cost_frac,
    )
    volatility, atr = view.feature("rv_24h"), view.feature("atr_14_30m")
    proposals: list[Proposal] = []
    verdicts: dict[str, Verdict] = {}
    for n, pair in enumerate(view.pairs):
        score, net = float(scores.score[n]), float(scores.net[n])
        reason = view.ineligible[n] or _reason(scores, n, float(volatility[n]))
        verdicts[pair] = Verdict(reason, score, net)
        if reason:
            continue
        proposals.append(
            Proposal(
                strategy=NAME,
                pair=pair,
                side="long",
                score=score,
                volatility_frac=float(volatility[n]),
                tier=int(view.tiers[n]),
                confidence=score / (score + scores.cost_frac) if score > 0.0 else 0.0,
                expected_value_frac=net,
                exits=ExitPlan(atr=float(atr[n]) if atr[n] > 0.0 else None),
                reason=f"{scores.source}_{view.regime.name}",
            )
        )
    return Proposals(tuple(proposals), verdicts, scores.source)


def _reason(scores: Scores, n: int, volatility: float) -> str:
    if np.isnan(scores.net[n]) or np.isnan(volatility):
        return NOT_SETTLED
    return "" if scores.net[n] > scores.threshold_frac else BELOW_THRESHOLD
