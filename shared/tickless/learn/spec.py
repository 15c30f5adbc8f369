"""What a model is: ``models/<name>/spec.toml``, parsed and validated like settings."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from tickless.errors import SettingsError
from tickless.settings import Section

Number = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0.0, le=1.0)]


class LabelSpec(Section):
    """What the model learns to forecast."""

    kind: Literal["forward_return_over_volatility"] = "forward_return_over_volatility"
    volatility: Literal["rv_24h"] = "rv_24h"
    """The feature, a 24 h volatility, that the forward return is divided by."""
    clip: Positive = 5.0
    """Scaled labels are clipped to plus or minus this."""


class FitSpec(Section):
    """LightGBM's hyper-parameters, by LightGBM's names."""

    rounds: int = Field(default=400, ge=1, le=5000)
    early_stopping_rounds: int = Field(default=50, ge=1, le=1000)
    learning_rate: Share = 0.05
    num_leaves: int = Field(default=31, ge=2, le=1024)
    min_data_in_leaf: int = Field(default=200, ge=1, le=100_000)
    feature_fraction: Share = 0.8
    bagging_fraction: Share = 0.8
    bagging_freq: int = Field(default=1, ge=0, le=100)


class SplitSpec(Section):
    """How the training window is cut by time."""

    inner_frac: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.2
    """The last share of the fitting time, used to stop early."""
    embargo_h: Positive = 24.0


class GateSpec(Section):
    """What a version must prove; the stricter of this and the desk's ``training`` section applies."""

    min_rank_ic: Number = 0.0
    min_rank_ic_t: Number = 2.0


class ModelSpec(Section):
    """One model specification."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,47}$")
    strategy: str = Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")
    """The strategy that owns the model."""
    features: Literal["rotation"]
    """The feature set."""
    horizon_h: Annotated[float, Field(gt=0.0, le=24.0 * 14)]
    algorithm: Literal["lightgbm_regression"] = "lightgbm_regression"
    label: LabelSpec = LabelSpec()
    fit: FitSpec = FitSpec()
    split: SplitSpec = SplitSpec()
    gates: GateSpec = GateSpec()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.split.embargo_h < self.horizon_h:
            raise ValueError(f"split.embargo_h = {self.split.embargo_h:g} must be at least horizon_h = {self.horizon_h:g}")
        return self


def models_folder() -> Path:
    """The folder of the model specifications: inside the installed package, or the checkout's ``models/``.

    A wheel or a Lambda layer carries the folder as ``tickless/models``; an editable install reads it where it is edited.
    """
    package = Path(__file__).resolve().parents[1]
    shipped = package / "models"
    return shipped if shipped.is_dir() else package.parents[1] / "models"


def read_spec(path: Path) -> ModelSpec:
    """The specification in a TOML file; raises SettingsError naming file, key and value."""
    try:
        spec = ModelSpec.model_validate(tomllib.loads(path.read_text("utf-8")))
    except FileNotFoundError as error:
        raise SettingsError(f"{path}: there is no such model specification") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not valid TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "specification"
        raise SettingsError(f"{path}: {where}: {first['msg']} (got {first['input']!r})") from error
    if spec.name != path.parent.name:
        raise SettingsError(f"{path}: name: {spec.name!r} must be the folder's name, {path.parent.name!r}")
    return spec


def load_specs(strategy: str, folder: Path | None = None) -> tuple[ModelSpec, ...]:
    """All specifications that ``strategy`` owns, by horizon, then name; raises SettingsError."""
    paths = sorted((folder or models_folder()).glob("*/spec.toml"))
    specs = [spec for spec in map(read_spec, paths) if spec.strategy == strategy]
    return tuple(sorted(specs, key=lambda spec: (spec.horizon_h, spec.name)))
