"""One training, from bars to models that were judged. The ``retrain`` function and ``tickless train`` both call it; it stores nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from tickless.alpha.ensemble import round_trip_cost_frac
from tickless.alpha.onnx_model import Floats, OnnxModel, artifact_sha256
from tickless.bars import Panel
from tickless.features.rotation import MODEL_FEATURES
from tickless.features.table import FeatureTable
from tickless.learn.dataset import Samples, Split, build_samples, split_by_time
from tickless.learn.gates import GateDecision, Gates, decide
from tickless.learn.labels import build_labels
from tickless.learn.onnx_export import check_export, export_onnx, predict_booster
from tickless.learn.registry import Lineage, Verdict, build_manifest, unseen_by, version_name
from tickless.learn.spec import ModelSpec
from tickless.learn.train import fit_model
from tickless.learn.validate import Measures, Trial, validate
from tickless.settings import ExecutionSection, TrainingSection
from tickless.types import iso, to_ms

_DAY_MS = 86_400_000
MIN_ROWS = 1000
"""A slice with fewer rows than this is too small to fit or judge a model of this kind."""


@dataclass(frozen=True)
class TrainedModel:
    """A version, ready to be registered, and what the gates said."""

    name: str
    version: str
    manifest: Mapping[str, Any]
    artifact: bytes
    gate: GateDecision


@dataclass(frozen=True)
class TrainingResult:
    """What a training made, and why it did not make the rest (by model name). Every specification is in one of the two."""

    trained: tuple[TrainedModel, ...]
    skipped: Mapping[str, str]


def train_models(
    table: FeatureTable,
    panel: Panel,
    *,
    training: TrainingSection,
    execution: ExecutionSection,
    top_k: int,
    specs: Sequence[ModelSpec],
    as_of: datetime,
    effective_at: datetime,
    incumbents: Mapping[str, OnnxModel | None],
) -> TrainingResult:
    """Train, validate and judge every specification on the bars closed at or before ``as_of``.

    ``table`` is the feature table of ``panel``, row for row; both may reach past ``as_of``, what lies there is not looked at.
    ``incumbents`` are the loaded champions by model name. Deterministic: the same input gives the same bytes. Raises ArtifactError when
    an export is not exact, ValueError when table and panel do not belong together.
    """
    if (table.start_ms, table.rows, table.pairs, table.timeframe) != (panel.start_ms, panel.rows, panel.pairs, panel.timeframe):
        raise ValueError("the feature table does not belong to the panel")
    last = panel.closed_at(as_of).rows
    earliest = to_ms(as_of) - training.window_days * _DAY_MS
    first = min(last, max(0, -(-(earliest - panel.start_ms) // panel.step_ms)))
    terms = _Terms(training, execution, top_k, as_of, effective_at, panel.step_ms)
    trained: list[TrainedModel] = []
    skipped: dict[str, str] = {}
    for spec in specs:
        samples = _samples(table.take(first, last), panel.take(first, last), spec, training)
        embargo_ms = round(spec.split.embargo_h * 3_600_000)
        split = split_by_time(samples, training.validation_frac, spec.split.inner_frac, embargo_ms)
        problem = _problem(samples, split, terms)
        if problem:
            skipped[spec.name] = f"nothing trained, because {problem}"
        else:
            trained.append(_train(spec, split, terms, incumbents.get(spec.name)))
    return TrainingResult(tuple(trained), skipped)


@dataclass(frozen=True)
class _Terms:
    training: TrainingSection
    execution: ExecutionSection
    top_k: int
    as_of: datetime
    effective_at: datetime
    step_ms: int


def _samples(table: FeatureTable, panel: Panel, spec: ModelSpec, training: TrainingSection) -> Samples:
    labels = build_labels(panel, table.feature(spec.label.volatility), spec.horizon_h, spec.label.clip)
    return build_samples(table.select(MODEL_FEATURES), labels, training.sample_every_min)


def _problem(samples: Samples, split: Split, terms: _Terms) -> str:
    """Why the samples are too few to train on; empty where they are enough."""
    if not len(samples):
        return f"no pair has settled features and a label before {iso(terms.as_of)}"
    history_days = (to_ms(terms.as_of) - int(samples.start_ms[0])) / _DAY_MS
    if history_days < terms.training.min_window_days:
        return f"{history_days:.1f} days of history are fewer than min_window_days = {terms.training.min_window_days}"
    for name, part in (("training", split.train), ("early-stopping", split.inner), ("validation", split.validation)):
        if len(part) < MIN_ROWS:
            return f"the {name} slice has {len(part)} rows, fewer than {MIN_ROWS}"
    return ""


def _train(spec: ModelSpec, split: Split, terms: _Terms, champion: OnnxModel | None) -> TrainedModel:
    threads = terms.training.num_threads
    booster = fit_model(split, spec.fit, terms.training.seed, threads)
    artifact = export_onnx(booster, split.fit.features)
    model = OnnxModel.from_bytes(artifact, _draft(spec, artifact, terms))
    prediction = model.predict(split.validation.x)
    difference = check_export(predict_booster(booster, split.validation.x, threads), prediction, spec.name)
    verdict = _judge(spec, split.validation, prediction, difference, terms, champion)
    lineage = Lineage(terms.as_of, terms.effective_at, terms.step_ms, terms.training.seed, _libraries())
    manifest = build_manifest(spec, artifact, split, booster.current_iteration(), lineage, verdict)
    return TrainedModel(spec.name, model.version, manifest, artifact, verdict.gate)


def _draft(spec: ModelSpec, artifact: bytes, terms: _Terms) -> dict[str, Any]:
    """As much of the manifest as inference needs: the artifact is judged by what the desk will run, not by the trainer."""
    return {
        "model": spec.name,
        "version": version_name(terms.as_of),
        "sha256": artifact_sha256(artifact),
        "features": list(MODEL_FEATURES),
        "horizon_h": spec.horizon_h,
        "label": spec.label.kind,
    }


def _judge(spec: ModelSpec, rows: Samples, prediction: Floats, difference: float, terms: _Terms, champion: OnnxModel | None) -> Verdict:
    trial = Trial(spec.horizon_h, terms.training.sample_every_min, round_trip_cost_frac(terms.execution), terms.top_k)
    measures = validate(rows, prediction, trial)
    gates = Gates(
        min_rank_ic=max(spec.gates.min_rank_ic, terms.training.min_rank_ic),
        min_rank_ic_t=max(spec.gates.min_rank_ic_t, terms.training.min_rank_ic_t),
    )
    theirs: Measures | None = None
    mine = measures
    if champion is not None and _comparable(champion, spec):
        # A champion must not be judged on rows it was fitted on; both are judged on what neither has seen.
        common = unseen_by(rows, champion.manifest)
        theirs = validate(common, champion.predict(common.x), trial)
        mine = validate(common, prediction[len(rows) - len(common) :], trial)
    gate = decide(measures, theirs, gates, mine)
    return Verdict(measures, champion.label if champion and theirs else None, theirs, difference, gate)


def _comparable(champion: OnnxModel, spec: ModelSpec) -> bool:
    """Whether a champion forecasts what the specification does; one from before a change of features, label or horizon does not."""
    same_label = champion.manifest.get("label") == spec.label.kind
    return champion.features == MODEL_FEATURES and same_label and champion.horizon_h == spec.horizon_h


def _libraries() -> dict[str, str]:
    import lightgbm
    import onnx
    import onnxruntime

    modules = {"lightgbm": lightgbm, "numpy": np, "onnx": onnx, "onnxruntime": onnxruntime}
    return {name: str(module.__version__) for name, module in modules.items()}
