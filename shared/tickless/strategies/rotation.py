"""``rotation``: propose every pair whose score, net of a round trip's costs, exceeds the threshold. Nothing else."""

from __future__ import annotations

from math import isnan

from tickless.alpha.ensemble import rotation_scores
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
    columns = (scores.score, scores.net, view.feature("rv_24h"), view.feature("atr_14_30m"), view.tiers)
    proposals: list[Proposal] = []
    verdicts: dict[str, Verdict] = {}
    for pair, ruled_out, score, net, volatility, atr, tier in zip(
        view.pairs, view.ineligible, *(column.tolist() for column in columns), strict=True
    ):
        reason = ruled_out or _reason(net, volatility, scores.threshold_frac)
        verdicts[pair] = Verdict(reason, score, net)
        if reason:
            continue
        proposals.append(
            Proposal(
                strategy=NAME,
                pair=pair,
                side="long",
                score=score,
                volatility_frac=volatility,
                tier=tier,
                confidence=score / (score + scores.cost_frac) if score > 0.0 else 0.0,
                expected_value_frac=net,
                exits=ExitPlan(atr=atr if atr > 0.0 else None),
                reason=f"{scores.source}_{view.regime.name}",
            )
        )
    return Proposals(tuple(proposals), verdicts, scores.source)


def _reason(net: float, volatility: float, threshold_frac: float) -> str:
    if isnan(net) or isnan(volatility):
        return NOT_SETTLED
    return "" if net > threshold_frac else BELOW_THRESHOLD
