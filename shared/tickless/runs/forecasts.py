"""Forecasts of a tick: load the champions of its time, refuse what cannot be trusted, and fall back without a word of a lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from tickless.alpha.champion import champion_at, load_champion
from tickless.alpha.ensemble import forecast_return
from tickless.alpha.onnx_model import OnnxModel
from tickless.bars import Floats
from tickless.errors import ArtifactError
from tickless.features.rotation import MODEL_FEATURES
from tickless.ports import Ports
from tickless.settings import Settings

Forecasts = Callable[[Floats, Floats], tuple[Mapping[str, Floats], Mapping[str, str]]]
"""(model features (N, F), rv_24h (N,)) → forecasts as plain returns by model name, and ``name@version`` by model name."""


def forecast(
    ports: Ports, settings: Settings, at: datetime, features: Floats, rv_24h: Floats
) -> tuple[Mapping[str, Floats], Mapping[str, str]]:
    """Forecasts of every model that may be used at ``at``.

    A model that is damaged, too old, or knows the future is refused with a warning and the metric ModelRefused; the strategy then falls
    back. ModelFallback counts ticks that had to.
    """
    forecasts: dict[str, Floats] = {}
    labels: dict[str, str] = {}
    for name in (settings.rotation.model_6h, settings.rotation.model_24h):
        try:
            model = load_model_at(ports, settings, name, at)
            if model is None:
                continue
            forecasts[name] = forecast_return(model, features, rv_24h)
            labels[name] = model.label
        except ArtifactError as error:
            ports.metrics.count("ModelRefused")
            ports.log.warning("model refused", model=name, error=str(error))
            ports.notifier.alert("model refused", str(error))
    if not forecasts:
        ports.metrics.count("ModelFallback")
    return forecasts, labels


def load_model_at(ports: Ports, settings: Settings, name: str, at: datetime) -> OnnxModel | None:
    """The champion of ``name`` at ``at``, checked; None where there is none yet. Raises ArtifactError."""
    promotion = champion_at(ports.models.promotions(name), at)
    if promotion is None:
        return None
    version = ports.models.manifest(name, promotion.version)
    artifact = ports.models.artifact(version)
    return load_champion(
        name, version.manifest, artifact, at=at, max_age_days=settings.training.max_model_age_days, features=MODEL_FEATURES
    )
