"""What a model is: ``models/<name>/spec.toml``, parsed and validated like settings."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from tickless.alpha.calibration import Method
from tickless.bars import step_ms
from tickless.errors import SettingsError
from tickless.learn.drift import DriftLimits
from tickless.learn.fit_spec import CLASSIFIERS, FAMILIES, FIT_KEY, Algorithm, FitSpec, GruFit, TreeFit
from tickless.learn.label_spec import KINDS, LabelSpec, ScaledReturnLabel, is_class, is_relative
from tickless.learn.trials import Tried
from tickless.settings import STRATEGY_SECTIONS, ScanSection, Section, Settings, models_folder

Number = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


_TAGS = {*FAMILIES.values(), *KINDS}
"""What pydantic names in an error's path beside the file's own keys."""


class WindowSpec(Section):
    """How much history a training reads. What is left out is taken from the desk's ``[training]``."""

    days: int | None = Field(default=None, ge=1, le=730)
    min_days: int | None = Field(default=None, ge=1, le=730)
    """With less history than this nothing is trained."""
    sample_every_min: Literal[1, 5, 15, 30, 60, 120, 240] | None = None
    min_rows: int = Field(default=1000, ge=100, le=1_000_000)
    """A slice with fewer rows than this is too small to fit or judge the model."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.days is not None and self.min_days is not None and self.min_days > self.days:
            raise ValueError(f"min_days = {self.min_days} is more than days = {self.days}")
        return self


class SplitSpec(Section):
    """How the training window is cut by time."""

    inner_frac: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.2
    """The last share of the fitting time, used to stop early."""
    validation_frac: Annotated[float, Field(gt=0.0, lt=0.5)] | None = None
    """The last share of the window, which judges the model; left out: the desk's."""
    embargo_h: Positive = 24.0
    calibration_frac: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.15
    """The last share of the fitting time, on which a classifier's probabilities are calibrated; others leave it to the fit."""


class FoldSpec(Section):
    """How a walk-forward cuts history into folds. A nightly training has one, the holdout at the end of its window."""

    window: Literal["expanding", "sliding"] = "sliding"
    """Whether a fold trains on all that lies before it, or on the last ``window.days`` of it."""
    count: int = Field(default=5, ge=2, le=400)
    test_days: Positive = 7.0
    """How long the version of a fold is tested: the time between two retrainings."""


class GateSpec(Section):
    """What a version must prove; the stricter of this and the desk's ``training`` section applies."""

    min_rank_ic: Number = 0.0
    min_rank_ic_t: Number = 2.5
    beat_linear: bool = False
    """Whether a version must also beat its linear baseline; the card says in any case whether it does."""


class RetrainSpec(Section):
    """When a model is trained anew."""

    every_h: float = Field(default=24.0, ge=24.0, allow_inf_nan=False)
    """The night is the only time at which anything is trained."""


class ModelSpec(Section):
    """One model specification."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,47}$")
    strategy: str = Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")
    """The strategy that owns the model."""
    features: Literal["rotation"]
    """The feature set."""
    horizon_h: Annotated[float, Field(gt=0.0, le=24.0 * 14)]
    algorithm: Algorithm = "lightgbm_regression"
    label: LabelSpec = ScaledReturnLabel()
    pairs: tuple[str, ...] = ()
    """Learn from these pairs alone; empty = from all of the desk's, together."""
    weights: Literal["equal", "uniqueness"] = "equal"
    """``uniqueness``: labels that overlap count for less, by their average uniqueness."""
    calibration: Method | None = None
    """How a classifier's output becomes a probability that keeps its word; left out: ``platt`` for a classifier, else ``none``."""
    fit: FitSpec = TreeFit()
    window: WindowSpec = WindowSpec()
    split: SplitSpec = SplitSpec()
    folds: FoldSpec = FoldSpec()
    gates: GateSpec = GateSpec()
    retrain: RetrainSpec = RetrainSpec()
    drift: DriftLimits = DriftLimits()
    """From where on a version has drifted away from what it was fitted on, and what is done then."""
    trials: Tried = Tried()
    """How many specifications were tried before this one was chosen, and what that leaves of its result."""

    @field_validator("strategy")
    @classmethod
    def _known_strategy(cls, value: str) -> str:
        if value not in STRATEGY_SECTIONS:
            raise ValueError(f"no such strategy; known: {', '.join(sorted(STRATEGY_SECTIONS))}")
        return value

    @model_validator(mode="before")
    @classmethod
    def _tables_know_their_kind(cls, data: Any) -> Any:
        """Tell the ``[fit]`` table which algorithm it is for: its keys are that one's. A ``[label]`` without a kind is the default."""
        if not isinstance(data, Mapping):
            return data
        fit = data.get("fit", {})
        family = FAMILIES.get(str(data.get("algorithm", "lightgbm_regression")))
        if family is None or not isinstance(fit, Mapping):
            return data
        if FIT_KEY in fit and fit[FIT_KEY] != family:
            raise ValueError(f"fit.{FIT_KEY}: no such key")
        label = data.get("label")
        if isinstance(label, Mapping):
            data = {**data, "label": {"kind": ScaledReturnLabel().kind, **label}}
        return {**data, "fit": {**fit, FIT_KEY: family}}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.split.embargo_h < self.horizon_h:
            raise ValueError(f"split.embargo_h = {self.split.embargo_h:g} must be at least horizon_h = {self.horizon_h:g}")
        if self.fit.family != FAMILIES[self.algorithm]:
            raise ValueError(f"fit: these are the settings of {self.fit.family}, and algorithm is {self.algorithm!r}")
        if is_relative(self.label) and len(self.pairs) == 1:
            raise ValueError(f"label.relative: {self.pairs[0]} alone has no other pairs to be compared with")
        if self.calibration not in (None, "none") and self.algorithm not in CLASSIFIERS:
            raise ValueError(f"calibration = {self.calibration!r}: algorithm {self.algorithm!r} gives no probability")
        if self.label.kind == "setup" and not self.of_setups:
            scans = ", ".join(name for name in sorted(STRATEGY_SECTIONS) if _scans(name))
            raise ValueError(
                f"label.kind = 'setup': strategy {self.strategy!r} is rebalanced and has no set-ups; strategies that have: {scans}"
            )
        if is_class(self.label) and self.algorithm == "lightgbm_ranking":
            raise ValueError(f"label.kind = {self.label.kind!r} is won or lost: it gives a ranking nothing to grade")
        return self

    @property
    def of_setups(self) -> bool:
        """Whether the owner scans for set-ups: its models learn from these alone, at whatever close they come."""
        return _scans(self.strategy)

    @property
    def calibrated_by(self) -> Method:
        """The calibration that applies."""
        return self.calibration or ("platt" if self.algorithm in CLASSIFIERS else "none")

    @property
    def sequence_bars(self) -> int:
        """How many rows of features one sample holds; 0 = one row, no sequence."""
        return self.fit.sequence_bars if isinstance(self.fit, GruFit) else 0


def _scans(strategy: str) -> bool:
    return issubclass(STRATEGY_SECTIONS[strategy], ScanSection)


_SHOWN = 80
"""So much of a refused value is told."""


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
        where = ".".join(str(part) for part in first["loc"] if part not in _TAGS)
        said, given = first["msg"].removeprefix("Value error, "), repr(first["input"])
        # A rule over several keys names them and their values itself.
        got = "" if isinstance(first["input"], dict) else f" (got {given if len(given) <= _SHOWN else given[: _SHOWN - 3] + '...'})"
        raise SettingsError(f"{path}: {where}{': ' if where else ''}{said}{got}") from error
    if spec.name != path.parent.name:
        raise SettingsError(f"{path}: name: {spec.name!r} must be the folder's name, {path.parent.name!r}")
    return spec


def load_specs(strategy: str | None, folder: Path | None = None) -> tuple[ModelSpec, ...]:
    """All specifications that ``strategy`` owns, None: all there are, by horizon, then name; raises SettingsError."""
    paths = sorted((folder or models_folder()).glob("*/spec.toml"))
    specs = [spec for spec in map(read_spec, paths) if strategy in (None, spec.strategy)]
    return tuple(sorted(specs, key=lambda spec: (spec.horizon_h, spec.name)))


def desk_specs(settings: Settings, folder: Path | None = None) -> tuple[tuple[ModelSpec, ...], dict[str, str]]:
    """(the specifications of the models that a desk uses, why a model that its settings name has none, by name).

    What a desk uses is what its settings name (``Settings.models``). The nightly training, a backtest's and the commands all ask here.
    By horizon, then name; raises SettingsError for a file that is no specification.
    """
    root, step_min = folder or models_folder(), step_ms(settings.desk.timeframe) / 60_000
    specs: list[ModelSpec] = []
    missing: dict[str, str] = {}
    for strategy, names in settings.models.items():
        for name in names:
            path = root / name / "spec.toml"
            spec = read_spec(path) if path.is_file() else None
            if spec is None:
                missing[name] = f"strategy.{strategy} names it, and there is no models/{name}/spec.toml"
            elif spec.strategy != strategy:
                missing[name] = f"strategy.{strategy} names it, and its specification says that strategy {spec.strategy!r} owns it"
            elif spec.horizon_h * 60 % step_min:
                missing[name] = f"its specification's horizon_h = {spec.horizon_h:g} is not a whole number of bars of {step_min:g} min"
            else:
                specs.append(spec)
    return tuple(sorted(specs, key=lambda spec: (spec.horizon_h, spec.name))), missing
