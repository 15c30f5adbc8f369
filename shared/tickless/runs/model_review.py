"""The nightly review of models, before anything is trained: what experience says of champions, shadows and drift, and what follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any

from tickless.alpha.champion import check_manifest, load_model
from tickless.alpha.ensemble import round_trip_cost_frac
from tickless.alpha.model_life import FORMER, LifeChange, ModelLife
from tickless.errors import ArtifactError, DataError, LedgerError
from tickless.features.rotation import MODEL_FEATURES
from tickless.learn.drift import DriftReport
from tickless.learn.drift_reference import DriftReference
from tickless.learn.drift_review import days_of_inputs, measure_drift
from tickless.learn.experience import ExperienceDay, experience_days
from tickless.learn.lifecycle import LATENCY_DAYS, LifeRules, Moment, dispensable, holds, react, review
from tickless.learn.spec import ModelSpec
from tickless.learn.track import Track, make_track
from tickless.ports import ModelStore, Ports
from tickless.settings import Settings
from tickless.types import parse_time, to_ms

RETRAINS = frozenset({"retrain", "shrink", "stop"})
"""Actions that train a model the same night, whatever its schedule: each holds the milder ones."""


@dataclass(frozen=True)
class Review:
    """What a review found and did, by model name."""

    changes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """A sentence a change."""
    drift: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The drift report of every champion."""
    early: frozenset[str] = frozenset()
    """Models that are to be trained this very night."""

    waiting: Mapping[str, str] = field(default_factory=dict)
    """Models that are not trained this night, and why."""

    def as_facts(self) -> dict[str, Any]:
        """For the tick's record: what changed, of the drift what matters, and who waits."""
        found = {name: report for name, report in self.drift.items() if report["breaches"] or report["held"]}
        told = {name: {key: report[key] for key in ("action", "breaches", "held")} for name, report in found.items()}
        changes = {name: list(sentences) for name, sentences in self.changes.items()}
        return {"changes": changes, "drift": told, "waiting": dict(self.waiting)}


def review_models(settings: Settings, specs: Sequence[ModelSpec], ports: Ports, at: datetime, effective_at: datetime) -> Review:
    """Measure drift, go back, promote and retire, and delete versions that nobody needs; changes count from ``effective_at`` on.

    Doing it again changes nothing. Raises LedgerError when somebody else changed a model's life meanwhile, RetryableError, DataError.
    """
    changes: dict[str, list[str]] = {}
    drift: dict[str, dict[str, Any]] = {}
    early: set[str] = set()
    known = _Experience(settings, ports, at)
    moment = Moment(effective_at, at)
    waiting: dict[str, str] = {}
    for spec in specs:
        try:
            life = ports.models.life(spec.name)
        except ArtifactError as error:
            # Nobody can say what became of its versions: the ticks do without it, and a night must not end for the others.
            waiting[spec.name] = str(error)
            _tell_damage(ports, spec.name, error)
            continue
        report, changed = _review_one(spec, life, known, moment, ports)
        ports.models.record(spec.name, changed, life)
        if report is not None:
            drift[spec.name] = report.as_json()
            ports.metrics.gauge("ModelDrift", 1.0 if report.breaches else 0.0)
            if any(breach.action in RETRAINS for breach in report.breaches):
                early.add(spec.name)
        if changed:
            changes[spec.name] = [f"{event.version} is {event.stage}: {event.reason}" for event in changed.events]
            _tell(spec.name, life, changed, ports, effective_at)
        _prune(spec.name, settings, ports, effective_at)
    return Review(changes, drift, frozenset(early), waiting)


def problem_of(models: ModelStore, name: str, version: str, at: datetime, max_age_days: float) -> str:
    """Why no tick on the day from ``at`` on could use a version; empty where it could."""
    try:
        found = models.manifest(name, version)
        check_manifest(found.manifest, at + timedelta(days=1), max_age_days)
        load_model(found.manifest, models.artifact(found)).require_features(MODEL_FEATURES)
    except ArtifactError as error:
        return str(error)
    return ""


def is_usable(models: ModelStore, name: str, at: datetime, max_age_days: float) -> bool:
    """Whether there is a champion that a tick from ``at`` on can use."""
    champion = models.life(name).champion(at)
    return champion is not None and not problem_of(models, name, champion.version, at, max_age_days)


def due_specs(
    specs: Sequence[ModelSpec], models: ModelStore, at: datetime, early: frozenset[str] = frozenset()
) -> tuple[tuple[ModelSpec, ...], dict[str, str]]:
    """(models to train now, why the others wait): a model is trained every ``retrain.every_h``, and at once where drift asks for it."""
    due, waiting = [], {}
    for spec in specs:
        last = _last_trained(models, spec) if spec.retrain.every_h > 24.0 and spec.name not in early else None
        # An hour's grace: nights are a day apart, give or take.
        if last is None or at - last >= timedelta(hours=spec.retrain.every_h - 1.0):
            due.append(spec)
        else:
            waiting[spec.name] = f"is trained every {spec.retrain.every_h:g} h, last at {last:%Y-%m-%dT%H:%MZ}"
    return tuple(due), waiting


def _last_trained(models: ModelStore, spec: ModelSpec) -> datetime | None:
    try:
        versions = models.versions(spec.name)
    except ArtifactError:
        return None  # Trained once more than it must be: better than never.
    times = [parse_time(str(version.manifest["trained_at"])) for version in versions if "trained_at" in version.manifest]
    return max(times, default=None)


class _Experience:
    """The days that a review may ask for, read once."""

    def __init__(self, settings: Settings, ports: Ports, at: datetime) -> None:
        self.settings, self._ports, self._at = settings, ports, at
        self._days: dict[str, tuple[ExperienceDay, ...]] = {}

    def of(self, spec: ModelSpec) -> tuple[ExperienceDay, ...]:
        """The days of a strategy back to the earliest that any rule looks at."""
        if spec.strategy not in self._days:
            rules = LifeRules(self.settings.training, spec.horizon_h)
            drift = timedelta(days=max(spec.drift.rolling_days, days_of_inputs(spec.drift) + LATENCY_DAYS + spec.horizon_h / 24.0))
            first = (self._at - max(rules.deadline, rules.watch, drift)).date()
            stored = [day for day in self._ports.experience.days(spec.strategy) if first <= day < self._at.date()]
            read = [found for day in stored if (found := self._read(spec.strategy, day)) is not None]
            # A night that is made up for must not see what only later nights knew.
            self._days[spec.strategy] = tuple(found for found in read if found.known_ms <= to_ms(self._at))
        return self._days[spec.strategy]

    def _read(self, strategy: str, day: date) -> ExperienceDay | None:
        """A day; None of one that is damaged: what the others say stands without it."""
        try:
            return self._ports.experience.read(strategy, day)
        except DataError as error:
            self._ports.metrics.count("ModelRefused")
            self._ports.log.warning("experience refused", strategy=strategy, day=day.isoformat(), error=str(error))
            return None

    def track(self, spec: ModelSpec, version: str) -> Track | None:
        """What a version's forecasts were worth."""
        portfolio, execution = self.settings.portfolio, self.settings.execution
        return make_track(self.of(spec), spec.name, version, round_trip_cost_frac(execution), portfolio.top_k.chop)


def _review_one(
    spec: ModelSpec, life: ModelLife, known: _Experience, moment: Moment, ports: Ports
) -> tuple[DriftReport | None, LifeChange]:
    training, models = known.settings.training, ports.models
    rules = LifeRules(training, spec.horizon_h)
    standing = life.standing(moment.at)
    versions = [*([standing.champion.version] if standing.champion else []), *(event.version for event in standing.shadows)]
    problems = {v: why for v in versions if (why := problem_of(models, spec.name, v, moment.at, training.max_model_age_days))}
    for shadow in standing.shadows:
        if shadow.version in problems:
            ports.metrics.count("ShadowRefused")
            ports.notifier.alert(f"model {spec.name}@{shadow.version} leaves the shadow", problems[shadow.version])
    tracks = {version: known.track(spec, version) for version in versions}
    report, changed = None, LifeChange()
    if standing.champion is not None and standing.champion.version not in problems:
        champion = standing.champion.version
        reference = _reference(ports, spec.name, champion)
        days = days_of_inputs(spec.drift) + LATENCY_DAYS + spec.horizon_h / 24.0
        ticks = experience_days(known.of(spec), moment.at - timedelta(days=days))
        report = measure_drift(reference, spec.drift, ticks, tracks[champion], moment.at, training.shadow_min_periods)
        report = replace(report, held=holds(life, report, moment.at))
        changed = react(life, report, spec.drift.shrink_frac, moment)
    return report, changed.and_(review(life.with_(changed), tracks, problems, rules, moment))


def _reference(ports: Ports, name: str, version: str) -> DriftReference | None:
    """What the version was fitted on; None of one that does not say, or no longer can."""
    content = ports.models.manifest(name, version).manifest.get("drift_reference")
    try:
        return DriftReference.from_json(content) if content is not None else None
    except ArtifactError as error:
        _tell_damage(ports, f"{name}@{version}", error)
        return None


def _tell_damage(ports: Ports, who: str, error: ArtifactError) -> None:
    ports.metrics.count("ModelRefused")
    ports.log.warning("model refused", model=who, error=str(error))


def _tell(name: str, life: ModelLife, changed: LifeChange, ports: Ports, at: datetime) -> None:
    """Count what became of a model's versions, and tell people of what changes trading."""
    for event in changed.events:
        ports.log.info("model changed", model=f"{name}@{event.version}", stage=event.stage, role=event.role, reason=event.reason)
    drifted = [event for event in changed.events if event.action]
    if drifted:
        ports.metrics.count("ModelDrifted", len(drifted))
        for event in drifted:
            ports.notifier.alert(f"model {name}@{event.version} has drifted: {event.action}", event.reason)
    formers = {event.version for event in life.shadows(at, FORMER)}
    for entry in changed.promotions:
        if entry.version in formers:
            ports.metrics.count("ModelRolledBack")
            ports.notifier.alert(f"model {name}: back to {entry.version}", entry.reason)
    ports.metrics.count("ModelPromoted", sum(bool(entry.version) for entry in changed.promotions))


def _prune(name: str, settings: Settings, ports: Ports, at: datetime) -> None:
    try:
        versions = [version.version for version in ports.models.versions(name)]
    except ArtifactError as error:
        # One that cannot be read has no place among the others: nothing is deleted until somebody has looked at it.
        _tell_damage(ports, name, error)
        return
    life = ports.models.life(name)
    gone = dispensable(life, versions, settings.training.keep_versions, at)
    if not gone:
        return
    try:
        ports.models.delete(name, gone, life)
    except LedgerError as error:
        # Somebody has just promoted one of them, perhaps: the next night decides anew, and nobody waits for it.
        ports.log.info("versions kept", model=name, error=str(error))
