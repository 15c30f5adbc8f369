"""The market's whole history at once: what a live tick gathers from its window, computed for a range and sliced at each tick.

Features and regimes are anchored at fixed instants, so a row of these tables has the bits that a tick's own window gives; the tests of
parity hold it to that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from math import isnan

import numpy as np
from numpy.typing import NDArray

from tickless.alpha.champion import champion_at, check_manifest, load_champion
from tickless.alpha.ensemble import forecast_return
from tickless.alpha.onnx_model import OnnxModel
from tickless.bars import Floats, Panel, join
from tickless.errors import ArtifactError
from tickless.features import rotation as rotation_features
from tickless.features.table import FeatureTable
from tickless.portfolio.universe import LOW_VOLUME, NO_BAR, OK, TOO_YOUNG, assign_tiers, median_daily_volume
from tickless.ports import ModelStore
from tickless.regimes import ema_trend
from tickless.runs.gather import history_start, market_pair
from tickless.settings import Settings
from tickless.strategies.view import MarketView
from tickless.types import to_ms

_CHUNK_ROWS = 7 * 96
"""Rows forecast at once: a week at 15m."""


class History:
    """Views of every tick from ``start`` on, for one set of settings.

    ``panel`` holds all bars known to the run, those before ``start`` included; nothing after a tick's time reaches its view.
    """

    def __init__(self, panel: Panel, pairs: Sequence[str], settings: Settings, start: datetime, models: ModelStore) -> None:
        if panel.start >= start:
            # The first tick decides on a bar that was never recorded: without a row of its own it would read the last one.
            before = start - timedelta(milliseconds=panel.step_ms)
            panel = join([Panel.empty(panel.timeframe, panel.pairs, before, start), panel])
        self.panel = panel
        self.pairs = tuple(pairs)
        self.settings = settings
        self.models = models
        self.mine = panel.select(self.pairs)
        self.first_row = self.mine.row_at(start) - 1
        self.refused: list[str] = []
        """Sentences about models that were refused, once each."""
        self._days: dict[datetime, tuple[NDArray[np.int64], Floats]] = {}
        self._models: dict[tuple[str, str], OnnxModel] = {}
        self._forecasts: dict[tuple[str, str, int], Floats] = {}

    @cached_property
    def features(self) -> FeatureTable:
        """Features from ``first_row`` on."""
        return rotation_features.build_features(self.mine, self.settings.universe.max_gap_bars, self.first_row)

    @cached_property
    def regimes(self) -> ema_trend.RegimeTable:
        """Regimes from ``first_row`` on."""
        market = self.panel.select([market_pair(self.settings)])
        r_24h = self.features.feature("r_24h")
        return ema_trend.detect(market, r_24h, self.settings.rotation, self.settings.universe.max_gap_bars)

    def view(self, at: datetime) -> MarketView:
        """What a rebalance sees at ``at``."""
        row = self.mine.row_at(at) - 1
        tiers, volume = self._day(at)
        forecasts, labels = self._forecast(at, row)
        return MarketView(
            at=at,
            pairs=self.pairs,
            close=self.mine.close[row],
            feature_names=self.features.names,
            features=self.features.values[row - self.first_row],
            regime=self.regimes.at(row - self.first_row),
            forecasts=forecasts,
            models=labels,
            tiers=tiers,
            ineligible=self._ineligible(at, row, volume),
        )

    def closes(self, pairs: Sequence[str], at: datetime) -> dict[str, float]:
        """The closes of pairs whose bar has just closed at ``at``."""
        row = self.panel.row_at(at) - 1
        close, column = self.panel.close[row], self.panel.column
        found = {pair: float(close[column[pair]]) for pair in pairs if pair in column}
        return {pair: value for pair, value in found.items() if not isnan(value)}

    def _day(self, at: datetime) -> tuple[NDArray[np.int64], Floats]:
        """Tiers and median volumes, which change at midnight."""
        day = at.replace(hour=0, minute=0, second=0, microsecond=0)
        if day not in self._days:
            volume = median_daily_volume(self.mine, day, self.settings.universe)
            self._days[day] = (assign_tiers(self.pairs, volume, self.settings.universe), volume)
        return self._days[day]

    @cached_property
    def _bars_before(self) -> NDArray[np.int32]:
        """How many bars each pair has in rows [0, t), shape (T + 1, N)."""
        count = np.zeros((self.mine.rows + 1, len(self.pairs)), dtype=np.int32)
        np.cumsum(~np.isnan(self.mine.close), axis=0, out=count[1:])
        return count

    def _ineligible(self, at: datetime, row: int, volume: Floats) -> tuple[str, ...]:
        """``portfolio.universe.eligibility`` on the window that a live tick reads, from counts of bars."""
        universe, panel = self.settings.universe, self.mine
        first = max(0, -(-(to_ms(history_start(self.settings, at)) - panel.start_ms) // panel.step_ms))
        min_age_bars = int(universe.min_age_days * 86_400_000 // panel.step_ms)
        until = max(first, row + 1 - min_age_bars + 1)
        here = self._bars_before[row + 1] > self._bars_before[row]
        old = self._bars_before[until] > self._bars_before[first]
        liquid = np.nan_to_num(volume) >= universe.min_daily_volume
        if here.all() and old.all() and liquid.all():
            return (OK,) * len(self.pairs)
        flags = zip(here.tolist(), old.tolist(), liquid.tolist(), strict=True)
        return tuple(NO_BAR if not h else TOO_YOUNG if not o else LOW_VOLUME if not v else OK for h, o, v in flags)

    def _forecast(self, at: datetime, row: int) -> tuple[Mapping[str, Floats], Mapping[str, str]]:
        """What ``runs.forecasts.forecast`` answers at ``at``, from forecasts made a week at a time."""
        forecasts: dict[str, Floats] = {}
        labels: dict[str, str] = {}
        for name in (self.settings.rotation.model_6h, self.settings.rotation.model_24h):
            try:
                model = self._champion(name, at)
            except ArtifactError as error:
                if str(error) not in self.refused:
                    self.refused.append(str(error))
                continue
            if model is not None:
                forecasts[name] = self._rows(model, row)
                labels[name] = model.label
        return forecasts, labels

    def _champion(self, name: str, at: datetime) -> OnnxModel | None:
        promotion = champion_at(self.models.promotions(name), at)
        if promotion is None:
            return None
        key = (name, promotion.version)
        max_age_days = self.settings.training.max_model_age_days
        if key not in self._models:
            version = self.models.manifest(name, promotion.version)
            artifact = self.models.artifact(version)
            self._models[key] = load_champion(
                name, version.manifest, artifact, at=at, max_age_days=max_age_days, features=rotation_features.MODEL_FEATURES
            )
        check_manifest(self._models[key].manifest, at, max_age_days)
        return self._models[key]

    def _rows(self, model: OnnxModel, row: int) -> Floats:
        """The model's forecasts of one row, (N,)."""
        chunk, offset = divmod(row - self.first_row, _CHUNK_ROWS)
        key = (model.name, model.version, chunk)
        if key not in self._forecasts:
            values = self.features.values[chunk * _CHUNK_ROWS : (chunk + 1) * _CHUNK_ROWS]
            columns = [self.features.names.index(name) for name in rotation_features.MODEL_FEATURES]
            x = values[:, :, columns].reshape(-1, len(columns))
            rv = values[:, :, self.features.names.index("rv_24h")].ravel()
            self._forecasts = {k: v for k, v in self._forecasts.items() if k[2] >= chunk - 1}
            self._forecasts[key] = forecast_return(model, x, rv).reshape(len(values), len(self.pairs))
        row_forecasts: Floats = self._forecasts[key][offset]
        return row_forecasts
