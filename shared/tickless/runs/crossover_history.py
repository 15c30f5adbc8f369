"""What ``crossover`` sees: two averages a pair, and where they cross."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tickless.bars import Floats
from tickless.features import crossover as crossover_features
from tickless.features.table import FeatureTable
from tickless.runs.market_history import MarketHistory
from tickless.strategies.crossover import Crossover
from tickless.strategies.view import MarketView


class CrossoverHistory(MarketHistory):
    """Averages and crosses of ``crossover``."""

    strategy = Crossover()

    @cached_property
    def features(self) -> FeatureTable:
        """Features from ``first_row`` on."""
        return crossover_features.build_features(self.mine, self.settings, self.first_row, self.extra_startup_bars)

    def view(self, at: datetime) -> MarketView:
        """What a scan sees at ``at``."""
        row = self.mine.row_at(at) - 1
        if row < 0 and self.before is not None:
            return self.before.view(at)
        tiers, ineligible = self._universe(at, row)
        return MarketView(
            at=at,
            pairs=self.pairs,
            close=self.mine.close[row],
            feature_names=self.features.names,
            features=self.features.values[row - self.first_row],
            tiers=tiers,
            ineligible=ineligible,
        )

    def still(self, at: datetime) -> bool:
        """Every average lies on the side of the other where it lay, and the same pairs may be bought."""
        row = self.mine.row_at(at) - 1
        universe = self.settings.universe
        if row <= self.first_row or not self._unmoved[row - self.first_row]:
            return False
        if universe.min_age_days == 0.0 and universe.min_daily_volume == 0.0:
            return True
        before = at - timedelta(milliseconds=self.step_ms)
        return self._universe(at, row)[1] == self._universe(before, row - 1)[1]

    @cached_property
    def _unmoved(self) -> NDArray[np.bool_]:
        """Rows whose trends, and whose missing bars, are those of the row before. Shape (T,); no cross can be in one."""
        trend, here = self.features.feature(crossover_features.TREND), ~np.isnan(self.mine.close[self.first_row :])
        same = (trend[1:] == trend[:-1]) | (np.isnan(trend[1:]) & np.isnan(trend[:-1]))
        return np.concatenate(([False], (same & (here[1:] == here[:-1])).all(axis=1)))

    def columns(self) -> Mapping[str, NDArray[Any]]:
        """See ``History.columns``."""
        return {name: self.features.feature(name) for name in self.features.names}

    def _day(self, at: datetime) -> tuple[NDArray[np.int64], Floats]:
        """Signals are sized by a stake, not by a tier: volumes are ranked only where a filter asks for them."""
        if self.settings.universe.min_daily_volume > 0.0:
            return super()._day(at)
        return self._any_volume

    @cached_property
    def _any_volume(self) -> tuple[NDArray[np.int64], Floats]:
        return np.ones(len(self.pairs), dtype=np.int64), np.full(len(self.pairs), np.inf)
