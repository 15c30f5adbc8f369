"""``rotation``: propose every pair whose score, net of a round trip's costs, exceeds the threshold; hold the best of them.

A strategy of target weights: every rebalance names the whole portfolio, and what is not in it is sold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from math import isnan

from tickless.alpha.ensemble import rotation_scores, round_trip_cost_frac
from tickless.bars import step_ms
from tickless.features import rotation as rotation_features
from tickless.features.windows import window_start
from tickless.portfolio.construction import Candidate, construct
from tickless.portfolio.universe import volume_window_start
from tickless.regimes import ema_trend
from tickless.settings import RotationSection, Settings
from tickless.strategies.contract import Own, Targets
from tickless.strategies.view import MarketView, Proposal, Proposals, Verdict
from tickless.types import ExitPlan

NAME = "rotation"
NOT_SETTLED = "features_not_settled"
BELOW_THRESHOLD = "net_below_threshold"
LEFT_TARGET = "left_target"


class Rotation:
    """See ``contract.Strategy``."""

    name = NAME

    def first_feature_bar(self, settings: Settings, at: datetime) -> datetime:
        """The earlier of the windows of features and regime."""
        timeframe = settings.desk.timeframe
        step = step_ms(timeframe)
        last_open = at - timedelta(milliseconds=step)
        startups = (rotation_features.startup_bars(timeframe), ema_trend.startup_bars(settings.rotation, timeframe))
        return min(window_start(last_open, startup, step) for startup in startups)

    def first_bar(self, settings: Settings, at: datetime) -> datetime:
        """The windows, the volume ranks' days, and the minimum age."""
        universe = settings.universe
        oldest = at - timedelta(days=universe.min_age_days)
        return min(self.first_feature_bar(settings, at), volume_window_start(at, universe), oldest)

    def extra_pairs(self, settings: Settings) -> tuple[str, ...]:
        """The pair whose bars decide the regime."""
        return (market_pair(settings),)

    def propose(self, view: MarketView, own: Own, settings: Settings) -> Proposals:  # noqa: ARG002 - what is held changes no score
        """See ``propose``."""
        return propose(view, settings.rotation, round_trip_cost_frac(settings.execution))

    def target(
        self, proposals: Sequence[Proposal], leaving: Mapping[str, str], view: MarketView, own: Own, equity: float, settings: Settings
    ) -> Targets:
        """Top-k by score, sized by inverse volatility within caps, sleeve and buffer; everything else is left."""
        candidates = [Candidate(p.pair, p.score, p.volatility_frac, p.tier) for p in proposals if p.pair not in leaving]
        portfolio, regime = settings.portfolio, view.regime.name
        allocation = construct(candidates, regime, portfolio)
        return Targets(
            values={pair: weight * equity for pair, weight in allocation.weights.items()},
            leaving={pair: leaving.get(pair, LEFT_TARGET) for pair in own.pairs if pair not in allocation.weights},
            limits=allocation.limits,
            passed_over=dict.fromkeys(allocation.beyond_top_k, "beyond_top_k"),
            facts={"top_k": portfolio.top_k.of(regime), "cash_buffer_frac": portfolio.cash_buffer_frac.of(regime)},
        )

    def hysteresis_frac(self, settings: Settings, *, full: bool) -> float:
        """Lower at a full rebalance."""
        return settings.portfolio.full_hysteresis_frac if full else settings.portfolio.hysteresis_frac


def market_pair(settings: Settings) -> str:
    """The pair whose bars decide the regime."""
    return settings.desk.pair(settings.rotation.market_base)


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
