"""Walk-forward: train again and again on what lies behind, and measure each version on the time right after, which it has not seen.

Folds, purge and embargo are those of ``splits``. What is measured is out of fold throughout: no number here is from rows that the version
it belongs to was fitted on, stopped on, or chosen by.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from tickless.bars import Floats, Panel
from tickless.errors import DataError
from tickless.features.rotation import MODEL_FEATURES
from tickless.features.table import FeatureTable
from tickless.learn.challenge import Candidate, Score, Terms, beats_linear, make_candidate, open_gates, returned, score_forecast
from tickless.learn.dataset import Samples, Split
from tickless.learn.drift_reference import DriftReference
from tickless.learn.gates import GateDecision
from tickless.learn.importance import gain_shares, permutation_losses
from tickless.learn.leak_checks import check_features, check_split
from tickless.learn.measures import MIN_PAIRS
from tickless.learn.sampling import Sampled, hold_out, make_samples
from tickless.learn.scope import Scope
from tickless.learn.spec import ModelSpec
from tickless.learn.splits import Fold, WalkForward, walk_forward
from tickless.learn.train import missing_library
from tickless.learn.training_run import Features
from tickless.learn.validate import Series, forecast_series
from tickless.settings import ExecutionSection, TrainingSection
from tickless.types import from_ms, to_ms

Progress = Callable[[int, int], None]
_DAY_MS = 86_400_000
_SHUFFLED_ROWS = 4000
"""About so many rows of a fold tell its permutation importance."""
_REFERENCE_ROWS = 20_000
"""So many of the fitted rows, evenly taken, stand for all of them in a PSI."""


@dataclass(frozen=True)
class WalkPlan:
    """When versions are trained, and on what."""

    start: datetime
    """No version is tested before it."""
    every_ms: int
    """From one training to the next: how long a version is tested."""
    sliding: bool
    """Whether a version looks back over its window only, else over everything."""
    workers: int = 2
    """Trainings at once, each on one thread."""


@dataclass(frozen=True)
class Said:
    """A model's outputs on rows, and the forecasts of the return that they stand for, both (R,)."""

    output: Floats
    forecast: Floats


@dataclass(frozen=True)
class TestedVersion:
    """The version of one fold, and what it was worth on the fold's test rows."""

    candidate: Candidate
    split: Split = field(repr=False)
    said: Said = field(repr=False)
    score: Score
    linear: Said | None = field(repr=False)
    linear_score: Score | None
    gain: Floats
    permutation: Floats
    """Loss of the mean rank IC, or of a single pair's squared error saved, when a feature is shuffled: (F,)."""
    psi: Floats
    """Of each feature, the test rows against the fitted ones: (F,)."""
    psi_widest: Floats
    """The largest PSI of a window as long within the fitted rows against the rest of them, (F,); NaN where there are too few."""

    def drifted(self, psi_limit: float) -> NDArray[np.bool_]:
        """Which features were above the limit and farther away than any such window of the fitted rows, (F,)."""
        above: NDArray[np.bool_] = (self.psi > psi_limit) & (self.psi > self.psi_widest)
        return above


@dataclass(frozen=True)
class FoldResult:
    """One fold: the version that was tested, or why there is none."""

    fold: Fold
    terms: Terms
    tested: TestedVersion | None
    skipped: str = ""


@dataclass(frozen=True)
class ModelWalk:
    """A model over all folds."""

    terms: Terms
    samples: Samples = field(repr=False)
    folds: tuple[FoldResult, ...]

    @property
    def spec(self) -> ModelSpec:
        """What was walked."""
        return self.terms.spec

    @property
    def tested(self) -> tuple[tuple[Fold, TestedVersion], ...]:
        """The folds that have a version."""
        return tuple((result.fold, result.tested) for result in self.folds if result.tested is not None)

    @cached_property
    def rows(self) -> Samples:
        """The test rows of all folds that have a version, in time."""
        parts = [np.arange(fold.validation.start, fold.validation.stop) for fold, _ in self.tested]
        return self.samples.take(np.concatenate(parts) if parts else np.empty(0, dtype=np.intp))

    @cached_property
    def said(self) -> Said:
        """What each row's own version said of it."""
        return _join([version.said for _, version in self.tested])

    @cached_property
    def linear(self) -> Said | None:
        """What each fold's linear baseline said; None where the model is linear itself."""
        parts = [version.linear for _, version in self.tested if version.linear is not None]
        return _join(parts) if parts else None

    @cached_property
    def score(self) -> Score:
        """The measures over all folds together."""
        return score_forecast(self.said.output, self.said.forecast, self.rows, self.terms)

    @cached_property
    def linear_score(self) -> Score | None:
        """The linear baseline's."""
        return None if self.linear is None else score_forecast(self.linear.output, self.linear.forecast, self.rows, self.terms)

    @cached_property
    def series(self) -> Series:
        """Rank IC and returns tick by tick, from the first test row on."""
        return forecast_series(returned(self.rows, self.spec), self.said.forecast, self.terms.trial)

    @cached_property
    def linear_series(self) -> Series | None:
        """The linear baseline's."""
        return None if self.linear is None else forecast_series(returned(self.rows, self.spec), self.linear.forecast, self.terms.trial)

    @cached_property
    def gate(self) -> GateDecision:
        """Whether all that was forecast, taken together, would open the gates of a first version."""
        decision = open_gates(self.score, self.terms)
        if self.spec.gates.beat_linear and self.linear_score is not None:
            decision = decision.also(*beats_linear(self.score, self.linear_score))
        return decision


def walk_models(
    table: FeatureTable,
    panel: Panel,
    *,
    training: TrainingSection,
    execution: ExecutionSection,
    top_k: int,
    specs: Sequence[ModelSpec],
    plan: WalkPlan,
    features: Features,
    scope: Scope | None = None,
    progress: Progress = lambda _done, _of: None,
) -> tuple[ModelWalk, ...]:
    """Walk every specification over the bars of ``panel``; ``table`` is its feature table, row for row.

    ``scope`` says which rows count, None: all. All models share their folds: the first begins at a midnight UTC, as soon as
    ``min_window_days`` of samples lie before it. Leaks are looked for as in every training. The same input gives the same results. Raises
    DataError where there are too few bars for one fold, LeakError where a check finds a leak, ArtifactError where an export is not exact.
    """
    check_features(features.make, panel, table.select(MODEL_FEATURES), training.seed, features.startup_bars)
    single = training.model_copy(update={"num_threads": 1})
    terms = [Terms(single, execution, top_k, panel.end, panel.end, panel.step_ms, spec, scope) for spec in specs]
    sampled = [_sampled(table, panel, one) for one in terms]
    first_ms = _first_test(sampled, terms, to_ms(plan.start))
    jobs = [
        (at, fold) for at, (made, one) in enumerate(zip(sampled, terms, strict=True)) for fold in _folds(made.samples, one, plan, first_ms)
    ]
    if not jobs:
        raise DataError(f"walk-forward: no test rows after {from_ms(first_ms):%Y-%m-%d}, before which the first version is trained")
    count, lock = _Counter(), Lock()

    def run(job: tuple[int, Fold]) -> FoldResult:
        at, fold = job
        result = _run_fold(fold, sampled[at].samples, terms[at])
        with lock:
            count.done += 1
            progress(count.done, len(jobs))
        return result

    with ThreadPoolExecutor(plan.workers) as pool:
        results = list(pool.map(run, jobs))
    return tuple(
        ModelWalk(one, made.samples, tuple(result for (at, _), result in zip(jobs, results, strict=True) if at == n))
        for n, (one, made) in enumerate(zip(terms, sampled, strict=True))
    )


@dataclass
class _Counter:
    done: int = 0


def _sampled(table: FeatureTable, panel: Panel, terms: Terms) -> Sampled:
    problem = missing_library(terms.spec)
    if problem:
        raise DataError(f"model {terms.spec.name}: {problem}")
    made = make_samples(table, panel, 0, terms)
    if not len(made.samples):
        raise DataError(f"model {terms.spec.name}: no pair has settled features and a label in these bars")
    made.check(terms.training.seed)
    return made


def _first_test(sampled: Sequence[Sampled], terms: Sequence[Terms], start_ms: int) -> int:
    """The first midnight UTC, not before ``start_ms``, with the least history of every model before it."""
    ready = [int(made.samples.start_ms[0]) + one.min_window_days * _DAY_MS for made, one in zip(sampled, terms, strict=True)]
    return -(-max(start_ms, *ready) // _DAY_MS) * _DAY_MS


def _folds(samples: Samples, terms: Terms, plan: WalkPlan, first_ms: int) -> tuple[Fold, ...]:
    split = terms.spec.split
    scheme = WalkForward(terms.window_days * _DAY_MS, plan.every_ms, terms.embargo_ms, split.inner_frac, plan.sliding)
    return walk_forward(samples, scheme, first_ms)


def _run_fold(fold: Fold, samples: Samples, terms: Terms) -> FoldResult:
    at = from_ms(fold.validation_from_ms)
    terms = replace(terms, as_of=at, effective_at=at)
    split = hold_out(fold.split(samples), terms)
    least = terms.spec.window.min_rows
    fitted = {"training": split.train, "early-stopping": split.inner, "calibration": split.calibration}
    for name, part in fitted.items():
        if part is not None and len(part) < least:
            return FoldResult(fold, terms, None, f"the {name} slice has {len(part)} rows, fewer than window.min_rows = {least}")
    if not len(split.validation):
        return FoldResult(fold, terms, None, "the test slice has 0 rows")
    check_split(split, terms.embargo_ms)
    try:
        candidate = make_candidate(split, terms)
    except DataError as error:
        return FoldResult(fold, terms, None, str(error))
    return FoldResult(fold, terms, _tested(candidate, split, terms))


def _tested(candidate: Candidate, split: Split, terms: Terms) -> TestedVersion:
    rows = split.validation
    psi, widest = _psi(split, terms)
    output = candidate.model.predict(rows.x)
    said = Said(output, candidate.worth.forecast(output))
    linear = None
    if candidate.baseline is not None:
        output = candidate.baseline.predict(rows.x)
        linear = Said(output, candidate.baseline_worth.forecast(output))
    return TestedVersion(
        candidate=candidate,
        split=split,
        said=said,
        score=score_forecast(said.output, said.forecast, rows, terms),
        linear=linear,
        linear_score=None if linear is None else score_forecast(linear.output, linear.forecast, rows, terms),
        gain=gain_shares(candidate.fitted, rows.x.shape[-1]),
        permutation=_permutation(candidate, rows, terms),
        psi=psi,
        psi_widest=widest,
    )


def _permutation(candidate: Candidate, rows: Samples, terms: Terms) -> Floats:
    times = np.unique(rows.start_ms)
    some = times[:: max(1, len(rows) // _SHUFFLED_ROWS)]
    chosen = rows.take(np.flatnonzero(np.isin(rows.start_ms, some)))

    def quality(part: Samples, output: Floats) -> float:
        part, forecast = returned(part, terms.spec), candidate.worth.forecast(output)
        if len(part.pairs) < MIN_PAIRS:
            return float(np.mean(part.y**2 - (part.y - forecast) ** 2))
        ic = forecast_series(part, forecast, terms.trial).rank_ic
        return float(np.nanmean(ic)) if not np.isnan(ic).all() else float("nan")

    return permutation_losses(candidate.model.predict, chosen, quality, terms.training.seed)


def _psi(split: Split, terms: Terms) -> tuple[Floats, Floats]:
    """(PSI of each feature, the widest of windows as long as the test within what was fitted), both (F,)."""
    before, now = (part.x if part.x.ndim == 2 else part.x[:, -1] for part in (split.fit, split.validation))
    every = slice(None, None, max(1, len(before) // _REFERENCE_ROWS))
    limits, at_ms = terms.spec.drift, split.fit.start_ms[every]
    tested_ms = int(split.validation.start_ms[-1] - split.validation.start_ms[0])
    days = max(1, round(tested_ms / _DAY_MS))
    reference = DriftReference.of(split.fit.features, before[every], at_ms, np.empty(0), limits.bins, days)
    values, widest = reference.psi(now, int(split.validation.start_ms[0]), limits.min_rows), reference.widest
    return np.asarray([values[name] for name in split.fit.features]), np.asarray([widest[name] for name in split.fit.features])


def _join(parts: Sequence[Said]) -> Said:
    nothing = np.empty(0)
    return Said(np.concatenate([nothing, *(part.output for part in parts)]), np.concatenate([nothing, *(part.forecast for part in parts)]))
