"""Tuning: hyper-parameters tried on walk-forward folds that end before the validation slice, and what so many tries are worth.

The last ``validation_frac`` of the time, on which a training judges its version, is cut off before anything is tried. Every trial's returns
are kept: the best of many is the luckiest of many, and only all of them together tell how lucky (``trials``).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from tickless.bars import Floats, Panel
from tickless.errors import DataError
from tickless.features.rotation import MODEL_FEATURES
from tickless.features.table import FeatureTable
from tickless.learn.algorithms.contract import Conditions, Slices
from tickless.learn.challenge import (
    Score,
    Terms,
    calibrate,
    check_scaler,
    fit_rows,
    open_gates,
    returned,
    score_forecast,
    worth_on,
)
from tickless.learn.dataset import Samples, rows_until
from tickless.learn.fit_spec import GruFit, LinearFit, TreeFit
from tickless.learn.gates import GateDecision
from tickless.learn.leak_checks import check_features, check_split
from tickless.learn.sampling import hold_out, make_samples
from tickless.learn.spec import ModelSpec
from tickless.learn.splits import Fold, WalkForward, equal_folds, walk_forward
from tickless.learn.train import OUTPUTS, fit_model, missing_library
from tickless.learn.training_run import Features
from tickless.learn.trials import Trials, Tried, stack_returns
from tickless.learn.validate import forecast_series

Objective = Literal["rank_ic", "net"]
Values = Mapping[str, float | int]
_DAY_MS = 86_400_000
_MORE_ROWS = "give it a longer timerange or more pairs, or lower window.min_rows or folds.count in its spec.toml"
"""What helps where folds have too few rows."""


class Chooser(Protocol):
    """Suggests the values of one trial, as Optuna's ``Trial`` does."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number between two others."""
        ...

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """A whole number between two others, both included."""
        ...


@dataclass(frozen=True)
class TuningData:
    """What trials are measured on."""

    terms: Terms
    samples: Samples = field(repr=False)
    """Only those whose labels were known before the holdout."""
    folds: tuple[Fold, ...]
    holdout_from_ms: int

    @property
    def sha256(self) -> str:
        """Of everything that a trial's value depends on but its hyper-parameters."""
        spec = self.terms.spec.model_dump(mode="json", exclude={"fit", "trials"})
        about = f"{self.samples.sha256} {spec} {self.terms.trial} {[fold.validation for fold in self.folds]} {self.terms.training.seed}"
        return hashlib.sha256(about.encode()).hexdigest()


@dataclass(frozen=True)
class Attempt:
    """One trial."""

    score: Score
    active: Floats
    """Net top-k return less the market's move, a rebalance, over the test rows of all folds (T,)."""
    rounds: tuple[int, ...]

    def value(self, objective: Objective) -> float:
        """What is sought to be large."""
        measures = self.score.measures
        return measures.rank_ic if objective == "rank_ic" else measures.top_k_net_frac


def prepare_tuning(table: FeatureTable, panel: Panel, terms: Terms, features: Features) -> TuningData:
    """Samples, folds and holdout; leaks are looked for as in every training. Raises DataError for too few rows, LeakError."""
    spec = terms.spec
    problem = missing_library(spec)
    if problem:
        raise DataError(f"model {spec.name}: {problem}")
    check_features(features.make, panel, table.select(MODEL_FEATURES), terms.training.seed, features.startup_bars)
    made = make_samples(table, panel, 0, terms)
    if not len(made.samples):
        raise DataError(f"model {spec.name}: no pair has settled features and a label in these bars")
    made.check(terms.training.seed)
    first, last = int(made.samples.start_ms[0]), int(made.samples.start_ms[-1])
    holdout = first + int((last - first) * (1.0 - terms.validation_frac))
    embargo_ms = round(spec.split.embargo_h * 3_600_000)
    samples = made.samples.take(slice(0, rows_until(made.samples, holdout - embargo_ms)))
    folds = _folds(samples, terms, embargo_ms)
    if not folds:
        why = f"{len(samples)} rows before the holdout are too few for folds.count = {spec.folds.count}"
        raise DataError(f"model {spec.name}: {why}; {_MORE_ROWS}")
    least = spec.window.min_rows
    for fold in folds:
        split = hold_out(fold.split(samples), terms)
        parts = {"training": split.train, "early-stopping": split.inner, "calibration": split.calibration, "test": split.validation}
        for name, part in parts.items():
            if part is not None and len(part) < least:
                why = f"the {name} slice of fold {fold.number} has {len(part)} rows, fewer than window.min_rows = {least}"
                raise DataError(f"model {spec.name}: {why}; {_MORE_ROWS}")
        check_split(split, embargo_ms)
    return TuningData(terms, samples, folds, holdout)


def _folds(samples: Samples, terms: Terms, embargo_ms: int) -> tuple[Fold, ...]:
    """``folds.count`` folds over all of the time; a sliding window looks back no farther than a training would."""
    spec = terms.spec
    folds = equal_folds(samples, spec.folds.count, embargo_ms, spec.split.inner_frac)
    if spec.folds.window == "expanding" or not folds:
        return folds
    length = folds[0].validation_until_ms - folds[0].validation_from_ms
    scheme = WalkForward(terms.window_days * _DAY_MS, length, embargo_ms, spec.split.inner_frac, sliding=True)
    return walk_forward(samples, scheme, folds[0].validation_from_ms)[: spec.folds.count]


def suggest_fit(spec: ModelSpec, chooser: Chooser) -> ModelSpec:
    """The specification with hyper-parameters of its algorithm's search space; numbers are cut to three digits."""
    match spec.fit:
        case TreeFit():
            values: dict[str, float | int] = {
                "learning_rate": chooser.suggest_float("learning_rate", 0.01, 0.2, log=True),
                "num_leaves": chooser.suggest_int("num_leaves", 4, 63, log=True),
                "min_data_in_leaf": chooser.suggest_int("min_data_in_leaf", 50, 5000, log=True),
                "feature_fraction": chooser.suggest_float("feature_fraction", 0.3, 1.0),
                "bagging_fraction": chooser.suggest_float("bagging_fraction", 0.3, 1.0),
                "lambda_l2": chooser.suggest_float("lambda_l2", 0.001, 100.0, log=True),
            }
        case LinearFit():
            values = {
                "ridge_per_row": chooser.suggest_float("ridge_per_row", 0.0001, 100.0, log=True),
                "clip_z": chooser.suggest_float("clip_z", 1.0, 20.0, log=True),
            }
        case GruFit():
            values = {
                "hidden": chooser.suggest_int("hidden", 16, 128, log=True),
                "layers": chooser.suggest_int("layers", 1, 2),
                "dropout": chooser.suggest_float("dropout", 0.0, 0.5),
                "learning_rate": chooser.suggest_float("learning_rate", 0.0002, 0.01, log=True),
            }
    return with_fit(spec, {name: value if isinstance(value, int) else float(f"{value:.3g}") for name, value in values.items()})


def with_fit(spec: ModelSpec, values: Values) -> ModelSpec:
    """The specification with some of its hyper-parameters replaced; raises ValueError for one that is out of range."""
    fit = type(spec.fit).model_validate({**spec.fit.model_dump(), **values})
    return spec.model_copy(update={"fit": fit})


def try_spec(spec: ModelSpec, data: TuningData) -> Attempt:
    """Fit on every fold, calibrate as a training would, and measure on all test rows together. Deterministic.

    Raises DataError for folds that teach nothing, LeakError.
    """
    terms = data.terms
    output = OUTPUTS[spec.algorithm]
    said, forecast, rounds = [], [], []
    for fold in data.folds:
        split = hold_out(fold.split(data.samples), terms)
        slices = Slices(*(fit_rows(part, spec) for part in (split.train, split.inner, split.fit)))
        fitted = fit_model(slices, spec, Conditions(terms.training.seed, terms.training.num_threads))
        check_scaler(fitted, spec.name, slices, split)
        words, calibration = fitted.predict(split.validation.x), None
        if split.calibration is not None:
            calibration = calibrate(fitted.predict, split.calibration, split, spec)
            words = calibration.apply(words)
        said.append(words)
        forecast.append(worth_on(fitted, output, split.inner, terms, calibration).forecast(words))
        rounds.append(fitted.rounds)
    rows = test_rows(data)
    joined = np.concatenate(forecast)
    series = forecast_series(returned(rows, spec), joined, terms.trial)
    return Attempt(score_forecast(np.concatenate(said), joined, rows, terms), series.active, tuple(rounds))


def test_rows(data: TuningData) -> Samples:
    """The rows that every trial is measured on."""
    return data.samples.take(slice(data.folds[0].validation.start, data.folds[-1].validation.stop))


@dataclass(frozen=True)
class Luck:
    """What the best of all trials is worth, given how many there were."""

    tried: Tried
    gate: GateDecision


def judge_luck(best: Attempt, returns: Sequence[Floats], failed: int, data: TuningData) -> Luck:
    """The best trial against the luck of as many: ``returns`` of every trial that ended, its own among them; ``failed`` did not."""
    overlap = data.terms.trial.overlap
    matrix = stack_returns(returns)
    known = Trials.of_returns(matrix, overlap)
    # What was tried before the specification came here counts too; what it returned is not known any more.
    unknown = failed + data.terms.spec.trials.count - 1
    tried = Tried.of_study(best.active, Trials((*known.sharpes, *[math.nan] * unknown), matrix), overlap)
    return Luck(tried, open_gates(best.score, data.terms, tried=tried))
