"""A challenger: fitted and exported, then judged beside its linear baseline and the champion on rows that none of them was fitted on."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tickless.alpha.calibration import Calibration
from tickless.alpha.ensemble import round_trip_cost_frac
from tickless.alpha.onnx_model import OnnxModel, artifact_sha256
from tickless.bars import Floats
from tickless.errors import ArtifactError, DataError
from tickless.features.rotation import MODEL_FEATURES
from tickless.learn.algorithms.contract import Conditions, Fitted, Output, Rows, Slices
from tickless.learn.calibration import fit_calibration
from tickless.learn.classification import ClassMeasures, validate_classifier
from tickless.learn.dataset import Samples, Split
from tickless.learn.drift_reference import DriftReference
from tickless.learn.fit_spec import LinearFit
from tickless.learn.gates import GateDecision, Gates, decide, decide_classifier
from tickless.learn.label_spec import in_returns, is_relative
from tickless.learn.leak_checks import FittedStep, check_fitted
from tickless.learn.measures import concurrent_ticks
from tickless.learn.onnx_export import check_export
from tickless.learn.registry import Verdict, unseen_by, version_name
from tickless.learn.sample_weights import uniqueness_weights
from tickless.learn.scope import Scope
from tickless.learn.spec import ModelSpec
from tickless.learn.train import OUTPUTS, fit_linear, fit_model
from tickless.learn.trials import Tried
from tickless.learn.validate import Measures, Trial, validate
from tickless.learn.worth import Worth, fit_worth
from tickless.settings import ExecutionSection, TrainingSection


@dataclass(frozen=True)
class Terms:
    """On what terms a specification is trained: the desk's, except where the specification has its own."""

    training: TrainingSection
    execution: ExecutionSection
    top_k: int
    as_of: datetime
    effective_at: datetime
    step_ms: int
    spec: ModelSpec
    scope: Scope | None = None
    """Which rows count; None: every pair that has bars, at every close."""

    @property
    def window_days(self) -> int:
        """How far back a training reads."""
        return self.spec.window.days or self.training.window_days

    @property
    def min_window_days(self) -> int:
        """With less history than this nothing is trained."""
        ours, desks = self.spec.window, self.training.min_window_days
        return ours.min_days or (min(desks, ours.days) if ours.days else desks)

    @property
    def sample_every_min(self) -> int:
        """One sample a pair at every multiple of this. Set-ups come when they come: of them every close counts."""
        often = self.step_ms // 60_000 if self.spec.of_setups else self.training.sample_every_min
        return self.spec.window.sample_every_min or often

    @property
    def validation_frac(self) -> float:
        """The last share of the window, which judges the model."""
        return self.spec.split.validation_frac or self.training.validation_frac

    @property
    def embargo_ms(self) -> int:
        """Free time between the end of a label and the next slice."""
        return round(self.spec.split.embargo_h * 3_600_000)

    @property
    def trial(self) -> Trial:
        """How forecasts are judged."""
        return Trial(self.spec.horizon_h, self.sample_every_min, round_trip_cost_frac(self.execution), self.top_k)


@dataclass(frozen=True)
class Exported:
    """A model as it would be registered, whoever fitted it, and its linear baseline."""

    artifact: bytes = field(repr=False)
    model: OnnxModel
    output: Output
    worth: Worth
    rounds: int
    export_difference: float
    baseline: Fitted | None
    """None where the model is linear itself."""
    baseline_worth: Worth

    @property
    def calibration(self) -> Calibration:
        """What its probabilities go through."""
        return self.model.calibration


@dataclass(frozen=True)
class Candidate(Exported):
    """A model beside the trainer's own, from which it was exported."""

    fitted: Fitted = field(repr=False)


def make_candidate(split: Split, terms: Terms) -> Candidate:
    """Fit, export and check. Raises DataError for slices that teach nothing, ArtifactError for an export that is not exact.

    Raises LeakError where a scaler or a calibration has seen more than the rows it may be fitted on.
    """
    spec, output, slices = terms.spec, OUTPUTS[terms.spec.algorithm], slices_of(split, terms.spec)
    fitted = fit_model(slices, spec, Conditions(terms.training.seed, terms.training.num_threads))
    check_scaler(fitted, spec.name, slices, split)
    artifact = fitted.export(split.fit.features)
    # The artifact is judged by what the desk will run, not by the trainer.
    model = open_artifact(artifact, split, terms)
    difference = check_export(fitted.predict(split.validation.x), model.predict(split.validation.x), spec.name)
    model = calibrated(model, artifact, split, terms)
    worth = worth_on(fitted, output, split.inner, terms, model.calibration)
    baseline, baseline_worth = linear_beside(slices, split, terms, worth)
    return Candidate(artifact, model, output, worth, fitted.rounds, difference, baseline, baseline_worth, fitted)


def slices_of(split: Split, spec: ModelSpec) -> Slices:
    """What a model is fitted on."""
    return Slices(*(fit_rows(part, spec) for part in (split.train, split.inner, split.fit)))


def open_artifact(artifact: bytes, split: Split, terms: Terms) -> OnnxModel:
    """The exported model before its calibration; raises ArtifactError where it is none, or one of other features."""
    return OnnxModel.from_bytes(artifact, _draft(artifact, split.fit.features, terms))


def calibrated(model: OnnxModel, artifact: bytes, split: Split, terms: Terms) -> OnnxModel:
    """The model with the calibration that comes of the split's slice for it, if it has one. Raises DataError, LeakError."""
    if split.calibration is None:
        return model
    calibration = calibrate(model.predict, split.calibration, split, terms.spec)
    return OnnxModel.from_bytes(artifact, {**model.manifest, "calibration": calibration.as_json()})


def linear_beside(slices: Slices, split: Split, terms: Terms, worth: Worth) -> tuple[Fitted | None, Worth]:
    """The linear baseline and what its output is worth; none, and the model's own ``worth``, where the model is linear itself."""
    output = OUTPUTS[terms.spec.algorithm]
    if isinstance(terms.spec.fit, LinearFit):
        return None, worth
    linear = fit_linear(slices, output)
    check_scaler(linear, f"the linear baseline of {terms.spec.name}", slices, split)
    return linear, worth_on(linear, "value" if output == "score" else output, split.inner, terms)


def calibrate(predict: Callable[[NDArray[np.float32]], Floats], rows: Samples, split: Split, spec: ModelSpec) -> Calibration:
    """The calibration of a model that has not seen ``rows``, proved to come of them alone.

    Raises DataError where they are too few, LeakError.
    """

    def fit(part: Samples) -> Calibration:
        return fit_calibration(spec.calibrated_by, predict(part.x), part.won, part.start_ms, part.end_ms)

    def state(calibration: Calibration) -> bytes:
        return json.dumps(calibration.as_json()).encode()

    try:
        fitted = fit(rows)
    except ValueError as error:
        raise DataError(f"model {spec.name}: {error}") from error
    step = FittedStep(f"the calibration of {spec.name}", fitted.fitted_until_ms, state(fitted), lambda part: state(fit(part)))
    check_fitted(step, rows, split.validation)
    return fitted


def check_scaler(fitted: Fitted, name: str, used: Slices, split: Split) -> None:
    """The scaler inside a model comes of the fitted rows alone; raises LeakError."""

    def anew(allowed: Samples) -> bytes:
        parts = (split.train, split.inner, allowed)
        return fitted.scaler(Slices(*(Rows(part.x, part.y, None, part.start_ms) for part in parts)))

    step = FittedStep(f"the scaler of {name}", int(used.fit.time_ms.max()), fitted.scaler(), anew)
    check_fitted(step, split.fit, split.validation)


def judge(candidate: Exported, split: Split, terms: Terms, champion: OnnxModel | None) -> tuple[Verdict, dict[str, Any]]:
    """(what validation found, what the manifest says beside it: measures of the baseline and of classifiers, the drift reference)."""
    rows = split.validation
    judged = judge_model(candidate.model, candidate.worth, candidate.output, split, terms, champion)
    mine, theirs, gate = judged.mine, judged.champion, judged.gate
    baseline = _beside_linear(candidate, rows, mine, terms)
    if terms.spec.gates.beat_linear and baseline is not None:
        gate = gate.also(baseline["beaten"], baseline["sentence"])
    beaten = champion.label if champion and theirs else None
    verdict = Verdict(mine.measures, beaten, theirs.measures if theirs else None, candidate.export_difference, gate)
    forecast = candidate.worth.forecast(candidate.model.predict(rows.x)) * rows.scale
    reference = DriftReference.of(split.fit.features, split.fit.x, split.fit.start_ms, forecast, terms.spec.drift.bins)
    return verdict, {
        "class_measures": _classes_json(mine),
        "champion_class_measures": _classes_json(theirs),
        "baseline": baseline,
        "gates": asdict(gates_of(terms)),
        "drift_reference": reference.as_json(),
    }


def judge_model(model: OnnxModel, worth: Worth, output: Output, split: Split, terms: Terms, champion: OnnxModel | None) -> Judged:
    """What can be said of an exported model, whoever trained it: all but how it stands to a linear baseline."""
    rows = split.validation
    mine = score_model(model, worth, rows, terms)
    same, theirs = mine, None
    if champion is not None and _comparable(champion, terms.spec, output):
        # A champion must not be judged on rows it was fitted on; both are judged on what neither has seen.
        common = unseen_by(rows, champion.manifest)
        theirs = score_model(champion, worth_of(champion.manifest), common, terms)
        same = score_model(model, worth, common, terms)
    return Judged(mine, theirs, open_gates(mine, terms, theirs, same))


def open_gates(
    mine: Score, terms: Terms, champion: Score | None = None, same_rows: Score | None = None, tried: Tried | None = None
) -> GateDecision:
    """What the gates say of measures, wherever they were taken: in a training, over the folds of a walk, or of the best of many trials.

    ``same_rows`` are those on the champion's rows; ``tried``, how many were chosen from, is the specification's own where it is None.
    """
    gates, tried, same = gates_of(terms), tried or terms.spec.trials, same_rows or mine
    if mine.classes is None:
        return decide(mine.measures, champion.measures if champion else None, gates, same.measures, tried)
    decision = decide_classifier(mine.classes, champion.classes if champion else None, gates, same.classes, tried)
    return decision.also(*_earns(mine.measures))


@dataclass(frozen=True)
class Score:
    """A model on one set of rows: as forecasts of the return, and where it gives probabilities as a classifier."""

    measures: Measures
    classes: ClassMeasures | None


@dataclass(frozen=True)
class Judged:
    """A model on the validation slice, the champion on what neither has seen of it, and what the gates say."""

    mine: Score
    champion: Score | None
    gate: GateDecision


def _classes_json(score: Score | None) -> dict[str, Any] | None:
    return score.classes.as_json() if score is not None and score.classes is not None else None


def score_model(model: OnnxModel | Fitted, worth: Worth, rows: Samples, terms: Terms) -> Score:
    """What a model's own word on the rows is worth."""
    said = model.predict(rows.x)
    return score_forecast(said, worth.forecast(said), rows, terms)


def score_forecast(said: Floats, forecast: Floats, rows: Samples, terms: Terms) -> Score:
    """What outputs, and the forecasts of the return that they stand for, both (R,), were worth on the rows."""
    classes, trial = None, trial_on(rows, terms)
    if OUTPUTS[terms.spec.algorithm] == "probability":
        classes = validate_classifier(said, rows.won, rows.start_ms, trial.known_overlap, trial.sample_every_min * 60_000)
    return Score(validate(returned(rows, terms.spec), forecast, trial), classes)


def trial_on(rows: Samples, terms: Terms) -> Trial:
    """How forecasts of these rows are judged: set-ups do not come at every tick, so their own times say how many share a label's."""
    if not terms.spec.of_setups:
        return terms.trial
    return replace(terms.trial, concurrent=concurrent_ticks(rows.start_ms, rows.end_ms))


def returned(rows: Samples, spec: ModelSpec) -> Samples:
    """The rows with what the trade returned, in units of the scale, for a label: what forecasts are judged against."""
    return replace(rows, y=in_returns(spec.label, rows.y, rows.plain, rows.scale))


def _earns(measures: Measures) -> tuple[bool, str]:
    """The gate of a classifier's trades: worth something after fees and slippage."""
    earned = measures.top_k_net_frac
    if math.isnan(earned):
        return False, "net top-k return cannot be told from so few rows"
    passed = earned > measures.cash_frac
    return passed, f"net top-k return {earned:.5f} is {'above' if passed else 'not above'} {measures.cash_frac:.5f}, doing nothing"


def worth_of(manifest: Mapping[str, Any]) -> Worth:
    """What a registered model's output is worth; a manifest that does not say forecasts in the label's unit. Raises ArtifactError."""
    stated = manifest.get("worth") or {}
    try:
        worth = Worth(float(stated.get("slope", 1.0)), float(stated.get("intercept", 0.0)))
    except (AttributeError, TypeError, ValueError) as error:
        raise ArtifactError(f"model {manifest.get('model', '?')}@{manifest.get('version', '?')}: worth is damaged: {error!r}") from error
    if not (math.isfinite(worth.slope) and math.isfinite(worth.intercept)):
        raise ArtifactError(f"model {manifest.get('model', '?')}@{manifest.get('version', '?')}: worth {worth} is not finite")
    return worth


def fit_rows(samples: Samples, spec: ModelSpec) -> Rows:
    """Samples as what is fitted, weighted as the specification says."""
    weight = uniqueness_weights(samples) if spec.weights == "uniqueness" else None
    return Rows(samples.x, samples.y, weight, samples.start_ms)


def _draft(artifact: bytes, features: tuple[str, ...], terms: Terms) -> dict[str, Any]:
    """As much of the manifest as inference needs."""
    return {
        "model": terms.spec.name,
        "version": version_name(terms.as_of),
        "sha256": artifact_sha256(artifact),
        "features": list(features),
        "horizon_h": terms.spec.horizon_h,
        "label": terms.spec.label.kind,
        "relative": is_relative(terms.spec.label),
        "output": OUTPUTS[terms.spec.algorithm],
        "sequence_bars": terms.spec.sequence_bars,
    }


def worth_on(fitted: Fitted, output: Output, inner: Samples, terms: Terms, calibration: Calibration | None = None) -> Worth:
    """What the output is worth: as its label says, or fitted on what a model that has not seen ``inner`` said of it."""
    stated = stated_worth(output, terms)
    if stated is not None:
        return stated
    said = fitted.inner_prediction if calibration is None else calibration.apply(fitted.inner_prediction)
    return fit_worth(said, in_returns(terms.spec.label, inner.y, inner.plain, inner.scale))


def stated_worth(output: Output, terms: Terms) -> Worth | None:
    """What an output is worth that is a return in units of the scale: itself, plus the cost where that was subtracted; None for others."""
    kind = terms.spec.label.kind
    if output == "value" and kind == "forward_return_net":
        return Worth(1.0, round_trip_cost_frac(terms.execution))
    return Worth() if output == "value" and kind in {"forward_return", "forward_return_over_volatility"} else None


def gates_of(terms: Terms) -> Gates:
    """The stricter of the specification's gates and the desk's."""
    ours, desks = terms.spec.gates, terms.training
    return Gates(
        min_rank_ic=max(ours.min_rank_ic, desks.min_rank_ic),
        min_rank_ic_t=max(ours.min_rank_ic_t, desks.min_rank_ic_t),
    )


def _beside_linear(candidate: Exported, rows: Samples, mine: Score, terms: Terms) -> dict[str, Any] | None:
    if candidate.baseline is None:
        return None
    linear = score_model(candidate.baseline, candidate.baseline_worth, rows, terms)
    beaten, sentence = beats_linear(mine, linear)
    return {
        "algorithm": "logistic" if linear.classes else "ridge",
        "measures": linear.measures.as_json(),
        "class_measures": _classes_json(linear),
        "beaten": beaten,
        "sentence": sentence,
    }


def beats_linear(model: Score, linear: Score) -> tuple[bool, str]:
    """Whether a model is better than its linear baseline on the same rows, and the sentence that says so."""
    by, ours, theirs, beaten = _compare(model, linear)
    return beaten, f"{by} {ours:.5f} {'beats' if beaten else 'does not beat'} {theirs:.5f}, the linear baseline"


def _compare(model: Score, linear: Score) -> tuple[str, float, float, bool]:
    """(measure, the model's, the linear model's, whether the model's is better).

    Probabilities by log loss, forecasts of many pairs by rank IC, those of one pair by their squared error.
    """
    if model.classes is not None and linear.classes is not None:
        ours, theirs = model.classes.log_loss, linear.classes.log_loss
        return "log loss", ours, theirs, ours < theirs
    ours, theirs = model.measures.rank_ic, linear.measures.rank_ic
    if math.isnan(ours) or math.isnan(theirs):
        ours, theirs = model.measures.rmse, linear.measures.rmse
        return "RMSE", ours, theirs, ours < theirs
    return "mean rank IC", ours, theirs, ours > theirs


def _comparable(champion: OnnxModel, spec: ModelSpec, output: Output) -> bool:
    """Whether a champion forecasts what the specification does; one from before a change of features, label or horizon does not."""
    same_label = champion.manifest.get("label") == spec.label.kind and champion.output == output
    same_label = same_label and bool(champion.manifest.get("relative", False)) is is_relative(spec.label)
    same_input = champion.features == MODEL_FEATURES and champion.sequence_bars == spec.sequence_bars
    return same_input and same_label and champion.horizon_h == spec.horizon_h
