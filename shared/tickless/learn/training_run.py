"""One training, from bars to models that were judged. The ``retrain`` function and ``tickless train`` both call it; it stores nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tickless.alpha.onnx_model import OnnxModel
from tickless.bars import Panel
from tickless.errors import DataError
from tickless.features import rotation
from tickless.features.rotation import MODEL_FEATURES
from tickless.features.table import FeatureTable
from tickless.learn.challenge import Exported, Terms, judge, make_candidate
from tickless.learn.dataset import Samples, Split, split_by_time
from tickless.learn.gates import GateDecision
from tickless.learn.leak_checks import FeatureMaker, check_features, check_split
from tickless.learn.recipe import bars_facts, terms_facts
from tickless.learn.registry import Lineage, build_manifest, version_name
from tickless.learn.sampling import hold_out, make_samples
from tickless.learn.scope import Scope
from tickless.learn.spec import ModelSpec
from tickless.learn.train import library_versions, missing_library, platform_facts
from tickless.settings import ExecutionSection, TrainingSection
from tickless.types import iso, to_ms

_DAY_MS = 86_400_000


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


@dataclass(frozen=True)
class Features:
    """How the feature table that a training is given was made: for the leak checks and the manifest."""

    make: FeatureMaker
    startup_bars: int
    """Bars before a row that settle its features."""

    @classmethod
    def of_rotation(cls, timeframe: str, max_gap_bars: int) -> Features:
        """The feature set ``rotation`` on bars of a timeframe."""
        return cls(lambda bars: rotation.build_features(bars, max_gap_bars), rotation.startup_bars(timeframe))


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
    features: Features,
    scope: Scope | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> TrainingResult:
    """Train, validate and judge every specification on the bars closed at or before ``as_of``.

    ``table`` is the feature table of ``panel``, row for row; both may reach past ``as_of``, what lies there is not looked at.
    ``incumbents`` are the loaded champions by model name. ``features`` says how the table was made: it, labels, samples, splits and scalers
    are proved not to look ahead. ``scope`` says which rows count, None: all. ``progress`` is told the steps done and planned: the features'
    check, and of each specification the fit and the verdict. Deterministic: the same input gives the same bytes. Raises LeakError where a
    check finds a leak, ArtifactError where an export is not exact, ValueError where table and panel do not belong together.
    """
    ground = lay_ground(table, panel, as_of, features, training.seed)
    trained: list[TrainedModel] = []
    skipped: dict[str, str] = {}
    steps = 1 + 2 * len(specs)
    for done, spec in zip(range(1, steps, 2), specs, strict=True):
        progress(done, steps)
        terms = Terms(training, execution, top_k, as_of, effective_at, panel.step_ms, spec, scope)
        problem = missing_library(spec)
        if problem:
            skipped[spec.name] = f"nothing trained, because {problem}"
            continue
        try:
            data = prepare(ground.table, ground.panel, terms)
            candidate = make_candidate(data.split, terms)
        except DataError as error:
            skipped[spec.name] = f"nothing trained, because {error}"
            continue
        progress(done + 1, steps)
        made_with = MadeWith(library_versions(spec), platform_facts())
        trained.append(judged(candidate, ground, data, terms, incumbents.get(spec.name), made_with))
    progress(steps, steps)
    return TrainingResult(tuple(trained), skipped)


@dataclass(frozen=True)
class Ground:
    """What every model of a training stands on: bars that had closed, and their features, proved not to look ahead."""

    table: FeatureTable
    panel: Panel
    bars: Mapping[str, Any]
    """``recipe.bars_facts`` of the panel."""
    startup_bars: int
    feature_values: int
    """How many were compared."""


def lay_ground(table: FeatureTable, panel: Panel, as_of: datetime, features: Features, seed: int) -> Ground:
    """Take what had closed at ``as_of`` and check its features. Raises LeakError, ValueError for a table that is not the panel's."""
    if (table.start_ms, table.rows, table.pairs, table.timeframe) != (panel.start_ms, panel.rows, panel.pairs, panel.timeframe):
        raise ValueError("the feature table does not belong to the panel")
    last = panel.closed_at(as_of).rows
    table, panel = table.take(0, last), panel.take(0, last)
    compared = check_features(features.make, panel, table.select(MODEL_FEATURES), seed, features.startup_bars) if last else 0
    return Ground(table, panel, bars_facts(panel), features.startup_bars, compared)


@dataclass(frozen=True)
class Prepared:
    """The samples of a specification's window, and what was checked of them."""

    samples: Samples
    split: Split
    leak_checks: Mapping[str, int]


def prepare(table: FeatureTable, panel: Panel, terms: Terms) -> Prepared:
    """The samples of a specification's window, cut into slices and proved to be free of leaks; raises DataError where they are too few."""
    earliest = to_ms(terms.as_of) - terms.window_days * _DAY_MS
    first = min(panel.rows, max(0, -(-(earliest - panel.start_ms) // panel.step_ms)))
    made = make_samples(table, panel, first, terms)
    samples = made.samples
    split = hold_out(split_by_time(samples, terms.validation_frac, terms.spec.split.inner_frac, terms.embargo_ms), terms)
    problem = _problem(samples, split, terms)
    if problem:
        raise DataError(problem)
    checked = made.check(terms.training.seed)
    return Prepared(samples, split, {**checked, "split_labels": check_split(split, terms.embargo_ms)})


def _problem(samples: Samples, split: Split, terms: Terms) -> str:
    """Why the samples are too few to train on; empty where they are enough."""
    if not len(samples):
        return f"no pair has settled features and a label before {iso(terms.as_of)}"
    history_days = (to_ms(terms.as_of) - int(samples.start_ms[0])) / _DAY_MS
    if history_days < terms.min_window_days:
        return f"{history_days:.1f} days of history are fewer than min_window_days = {terms.min_window_days}"
    least = terms.spec.window.min_rows
    parts = {"training": split.train, "early-stopping": split.inner, "calibration": split.calibration, "validation": split.validation}
    for name, part in parts.items():
        if part is not None and len(part) < least:
            return f"the {name} slice has {len(part)} rows, fewer than window.min_rows = {least}"
    return ""


@dataclass(frozen=True)
class MadeWith:
    """What a version was computed with, as its manifest says."""

    libraries: Mapping[str, str]
    platform: Mapping[str, str]


def judged(
    candidate: Exported, ground: Ground, data: Prepared, terms: Terms, champion: OnnxModel | None, made_with: MadeWith
) -> TrainedModel:
    """The version with its whole manifest: all of it comes of the bars, the terms and the artifact, but for what the candidate brings."""
    verdict, beside = judge(candidate, data.split, terms, champion)
    spec = terms.spec
    lineage = Lineage(
        as_of=terms.as_of,
        effective_at=terms.effective_at,
        step_ms=terms.step_ms,
        seed=terms.training.seed,
        libraries=made_with.libraries,
        platform=made_with.platform,
        terms=terms_facts(terms),
        bars=ground.bars,
    )
    manifest = build_manifest(spec, candidate.artifact, data.split, candidate.rounds, lineage, verdict) | {
        "algorithm": spec.algorithm,
        "output": candidate.output,
        "sequence_bars": spec.sequence_bars,
        "worth": candidate.worth.as_json(),
        "calibration": candidate.calibration.as_json() if data.split.calibration is not None else None,
        **beside,
        "leak_checks": {"feature_values": ground.feature_values, **data.leak_checks, "fitted_steps": _fitted_steps(candidate, data.split)},
        "startup": {"timeframe": ground.table.timeframe, "bars": ground.startup_bars + max(0, spec.sequence_bars - 1)},
    }
    return TrainedModel(spec.name, version_name(terms.as_of), manifest, candidate.artifact, verdict.gate)


def _fitted_steps(candidate: Exported, split: Split) -> list[str]:
    """What was fitted besides the model, each proved to come of its rows alone."""
    scalers = ["scaler"] if candidate.baseline is None else ["scaler", "scaler of the linear baseline"]
    return scalers if split.calibration is None else [*scalers, "calibration"]
