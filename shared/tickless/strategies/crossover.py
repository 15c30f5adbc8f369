"""``crossover``: be long while the fast simple moving average is above the slow one. A strategy of signals.

Enter on a cross up: fast > slow at the bar that has just closed, after fast <= slow at the one before. Leave when fast < slow: while a pair
is held that is its cross down, and an exit that did not fill is asked for again at the next scan. Averages that differ by less than 1e-12
of the slow one are equal (``features.crossover``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import numpy as np

from tickless.bars import step_ms
from tickless.features import crossover as crossover_features
from tickless.portfolio.universe import volume_window_start
from tickless.settings import Settings
from tickless.strategies.contract import Own, Targets
from tickless.strategies.view import MarketView, Proposal, Proposals, Verdict
from tickless.types import ExitPlan

NAME = "crossover"
CROSS_UP, CROSS_DOWN, LEFT_UNIVERSE = "cross_up", "cross_down", "left_universe"
NO_CROSS, NOT_SETTLED, ABOVE = "no_cross_up", "features_not_settled", "above_slow"
_NO_CROSS, _NOT_SETTLED, _DOWN, _UP = (Verdict(reason) for reason in (NO_CROSS, NOT_SETTLED, CROSS_DOWN, ""))
_ABOVE = Verdict(ABOVE, net=0.0)
"""A signal promises no return: nothing speaks for a position that a time stop ends."""
_NO_EXITS = ExitPlan()


class Crossover:
    """See ``contract.Strategy``."""

    name = NAME

    def first_feature_bar(self, settings: Settings, at: datetime) -> datetime:
        """Two rows of the slow average, with room for the longest gap that is bridged."""
        rows = crossover_features.startup_bars(settings)
        return at - timedelta(milliseconds=rows * step_ms(settings.desk.timeframe))

    def first_bar(self, settings: Settings, at: datetime) -> datetime:
        """The averages, and what the universe's filters ask for."""
        universe = settings.universe
        first = min(self.first_feature_bar(settings, at), at - timedelta(days=universe.min_age_days))
        return min(first, volume_window_start(at, universe)) if universe.min_daily_volume > 0.0 else first

    def extra_pairs(self, settings: Settings) -> tuple[str, ...]:  # noqa: ARG002 - the contract's signature
        """None."""
        return ()

    def propose(self, view: MarketView, own: Own, settings: Settings) -> Proposals:
        """Enter what has just crossed up and is not held; leave what lies below, and what the universe has dropped: nobody watches it."""
        stake = settings.crossover.stake
        trend, crossed = view.feature(crossover_features.TREND), view.feature(crossover_features.CROSSED)
        verdicts: dict[str, Verdict] = dict.fromkeys(view.pairs, _NO_CROSS)
        for n in np.flatnonzero(np.isnan(trend)).tolist():
            verdicts[view.pairs[n]] = _NOT_SETTLED
        if any(view.ineligible):
            verdicts |= {pair: Verdict(reason) for pair, reason in zip(view.pairs, view.ineligible, strict=True) if reason}
        entering = [n for n in np.flatnonzero(crossed > 0.0).tolist() if not view.ineligible[n]]
        below = {view.pairs[n] for n in np.flatnonzero(trend < 0.0).tolist()}
        leaving: dict[str, str] = {}
        mine = own.pairs
        for pair in mine:
            if pair not in verdicts:
                leaving[pair] = LEFT_UNIVERSE
                continue
            # NaN: the averages start anew after a gap; what is held waits for them.
            verdicts[pair] = _DOWN if pair in below else _ABOVE
            if pair in below:
                leaving[pair] = CROSS_DOWN
        atr = view.atr([view.pairs[n] for n in entering]) if entering else {}
        proposals = [
            Proposal(NAME, pair, "long", _exits(atr.get(pair, 0.0)), CROSS_UP, stake=stake)
            for n in entering
            if (pair := view.pairs[n]) not in mine
        ]
        verdicts |= {p.pair: _UP for p in proposals}
        return Proposals(tuple(proposals), verdicts, "signals", leaving)

    def target(
        self,
        proposals: Sequence[Proposal],
        leaving: Mapping[str, str],
        view: MarketView,  # noqa: ARG002 - the contract's signature
        own: Own,  # noqa: ARG002
        equity: float,  # noqa: ARG002
        settings: Settings,  # noqa: ARG002
    ) -> Targets:
        """A fixed stake for every entry; what is held and not left stays as it is."""
        return Targets({p.pair: p.stake for p in proposals}, leaving)

    def hysteresis_frac(self, settings: Settings, *, full: bool) -> float:  # noqa: ARG002 - the contract's signature
        """A signal is traded whatever share of the equity its stake is."""
        return 0.0


def _exits(atr: float) -> ExitPlan:
    """The desk's stops measure in this; NaN and zero are no ATR."""
    return ExitPlan(atr=atr) if atr > 0.0 else _NO_EXITS
