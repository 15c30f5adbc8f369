"""What ``rotation`` sees: features, regime and forecasts, computed for a range and sliced at each tick."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tickless.alpha.champion import check_manifest, load_champion
from tickless.alpha.ensemble import forecast_return
from tickless.alpha.model_life import ModelLife
from tickless.alpha.onnx_model import OnnxModel
from tickless.bars import Floats, Panel
from tickless.errors import ArtifactError
from tickless.features import rotation as rotation_features
from tickless.features.table import FeatureTable
from tickless.ports import ModelStore
from tickless.regimes import ema_trend
from tickless.runs.market_history import MarketHistory
from tickless.settings import Settings, specified_models
from tickless.strategies.rotation import Rotation, market_pair
from tickless.strategies.view import MarketView, ModelForecast, ModelRefusal

_CHUNK_TICKS = 7 * 48
"""Rebalances forecast at once: a week of them."""
_MINUTE_MS = 60_000
_NOTHING_KNOWN = ModelLife()


class RotationHistory(MarketHistory):
    """Features, regimes and forecasts of ``rotation``."""

    strategy = Rotation()
    forecasting = True

    def __init__(
        self, panel: Panel, pairs: Sequence[str], settings: Settings, start: datetime, models: ModelStore, extra_startup_bars: int = 0
    ) -> None:
        super().__init__(panel, pairs, settings, start, models, extra_startup_bars)
        self._models: dict[tuple[str, str], OnnxModel] = {}
        self._forecasts: dict[tuple[str, str, int, int], Floats] = {}
        self._rows_a_tick = max(1, settings.schedule.rebalance_every_min * _MINUTE_MS // self.step_ms)

    @cached_property
    def features(self) -> FeatureTable:
        """Features from ``first_row`` on."""
        return rotation_features.build_features(self.mine, self.settings.universe.max_gap_bars, self.first_row, self.extra_startup_bars)

    @cached_property
    def regimes(self) -> ema_trend.RegimeTable:
        """Regimes from ``first_row`` on."""
        market = self.panel.select([market_pair(self.settings)])
        r_24h = self.features.feature("r_24h")
        return ema_trend.detect(market, r_24h, self.settings.rotation, self.settings.universe.max_gap_bars, self.extra_startup_bars)

    def view(self, at: datetime) -> MarketView:
        """What a rebalance sees at ``at``."""
        row = self.mine.row_at(at) - 1
        if row < 0 and self.before is not None:
            return self.before.view(at)
        tiers, ineligible = self._universe(at, row)
        said, refused, size_frac = self._forecast(at, row)
        champions = [forecast for forecast in said if forecast.stage == "champion"]
        return MarketView(
            at=at,
            pairs=self.pairs,
            close=self.mine.close[row],
            feature_names=self.features.names,
            features=self.features.values[row - self.first_row],
            regime=self.regimes.at(row - self.first_row),
            forecasts={forecast.model: forecast.forecast for forecast in champions},
            models={forecast.model: f"{forecast.model}@{forecast.version}" for forecast in champions},
            said=said,
            refused=refused,
            size_frac=size_frac,
            tiers=tiers,
            ineligible=ineligible,
        )

    def columns(self) -> Mapping[str, NDArray[Any]]:
        """See ``History.columns``."""
        regimes = self.regimes
        return {
            **{name: self.features.feature(name) for name in self.features.names},
            "regime": np.array(ema_trend.REGIMES)[regimes.names],
            "volatility_regime": np.array(ema_trend.VOLATILITY_REGIMES)[regimes.volatility],
            "volatility_ann_frac": regimes.volatility_ann_frac,
            "breadth_frac": regimes.breadth_frac,
        }

    def _forecast(self, at: datetime, row: int) -> tuple[tuple[ModelForecast, ...], tuple[ModelRefusal, ...], float]:
        """What every version says that may be used at ``at``, champions and shadows, which may not, and how far the champions are trusted.

        A version that is damaged, too old, or knows the future is refused; without a champion the strategy falls back.
        """
        said: list[ModelForecast] = []
        refused: list[ModelRefusal] = []
        size_frac = 1.0
        for name in (self.settings.rotation.model_6h, self.settings.rotation.model_24h):
            try:
                life = self.models.life(name)
            except ArtifactError as error:
                refused.append(ModelRefusal(name, "", "champion", str(error)))
                continue
            if life == _NOTHING_KNOWN and name not in specified_models():
                reason = f"model {name}: nobody ever was champion, and without models/{name}/spec.toml nobody is trained to be"
                refused.append(ModelRefusal(name, "", "champion", reason))
                continue
            standing = life.standing(at)
            versions = [(standing.champion.version, "champion")] if standing.champion is not None else []
            versions += [(event.version, "shadow") for event in standing.shadows]
            for version, stage in versions:
                try:
                    model = self._model(name, version, at)
                    said.append(ModelForecast(name, version, stage, model.horizon_h, self._rows(model, row)))
                except ArtifactError as error:
                    refused.append(ModelRefusal(name, version, stage, str(error)))
                    continue
                if stage == "champion":
                    size_frac = min(size_frac, standing.size_frac)
        return tuple(said), tuple(refused), size_frac

    def _model(self, name: str, version: str, at: datetime) -> OnnxModel:
        key = (name, version)
        max_age_days = self.settings.training.max_model_age_days
        if key not in self._models:
            found = self.models.manifest(name, version)
            artifact = self.models.artifact(found)
            model = load_champion(
                name, found.manifest, artifact, at=at, max_age_days=max_age_days, features=rotation_features.MODEL_FEATURES
            )
            if round(model.horizon_h * 3_600_000) % self.step_ms:
                # Nobody could ever say what came of what it forecasts.
                raise ArtifactError(
                    f"model {model.label}: horizon_h {model.horizon_h:g} is no whole number of bars of {self.step_ms // 60_000} min"
                )
            self._models[key] = model
        check_manifest(self._models[key].manifest, at, max_age_days)
        return self._models[key]

    def _rows(self, model: OnnxModel, row: int) -> Floats:
        """The model's forecasts of one row, (N,)."""
        # Only rows that rebalances fall on: those between would double the cost, and nobody asks for them.
        tick, phase = divmod(row - self.first_row, self._rows_a_tick)
        chunk, offset = divmod(tick, _CHUNK_TICKS)
        key = (model.name, model.version, chunk, phase)
        if key not in self._forecasts:
            size = _CHUNK_TICKS * self._rows_a_tick
            values = self.features.values[chunk * size + phase : (chunk + 1) * size : self._rows_a_tick]
            columns = [self.features.names.index(name) for name in rotation_features.MODEL_FEATURES]
            x = values[:, :, columns].reshape(-1, len(columns))
            rv = values[:, :, self.features.names.index("rv_24h")].ravel()
            self._forecasts = {k: v for k, v in self._forecasts.items() if k[2] >= chunk - 1}
            self._forecasts[key] = forecast_return(model, x, rv).reshape(len(values), len(self.pairs))
        row_forecasts: Floats = self._forecasts[key][offset]
        return row_forecasts
