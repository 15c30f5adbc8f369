"""What ``crossover`` sees: two averages a pair, and where they cross."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
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
        settings = self.settings
        return crossover_features.build_features(
            self.mine, settings.crossover, settings.universe.max_gap_bars, self.first_row, self.extra_startup_bars
        )

    def view(self, at: datetime) -> MarketView:
        """What a scan sees at ``at``."""
        row = self.mine.row_at(at) - 1
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
