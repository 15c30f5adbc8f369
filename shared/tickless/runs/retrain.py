"""``retrain``: every night, experience ⇒ train ⇒ validate ⇒ register ⇒ promote what is better. Takes no lease, trades nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from tickless.alpha.champion import champion_at, load_model
from tickless.alpha.onnx_model import OnnxModel
from tickless.bars import Panel, step_ms
from tickless.errors import ArtifactError, EventError, TickRecordedError
from tickless.features import rotation as rotation_features
from tickless.features.windows import window_start
from tickless.learn.challenge import worth_of
from tickless.learn.lifecycle import LifeRules, Moment, enter
from tickless.learn.registry import seen_until_ms, version_name
from tickless.learn.scope import Scope
from tickless.learn.spec import ModelSpec, desk_specs
from tickless.learn.training_job import train_on_bars
from tickless.learn.training_run import TrainedModel, TrainingResult
from tickless.portfolio.universe import volume_window_start
from tickless.ports import ModelStore, Ports
from tickless.runs.admission import refuse_stale
from tickless.runs.experience import compile_experience
from tickless.runs.gather import needed_pairs, refresh_bars, universe_pairs
from tickless.runs.model_review import Review, due_specs, is_usable, review_models
from tickless.runs.parameters import resolve_settings
from tickless.runs.report import RunReport
from tickless.settings import Settings, TrainingSection
from tickless.types import Tick, TickRecord, parse_time, to_ms

NAME = "retrain"
DONE = "done"
UNFENCED = 0
"""The fencing number in the record of a tick that takes no lease."""


@dataclass(frozen=True)
class Night:
    """What a nightly training works on."""

    settings: Settings
    specs: tuple[ModelSpec, ...]
    panel: Panel
    as_of: datetime
    """The last close that the training may see."""
    effective_at: datetime
    experience: tuple[str, ...]
    """The days of experience that were stored on the way, as ``<strategy>/<day>``."""
    review: Review = field(default_factory=Review)
    """What became of the models that there are, before any is trained."""


def run(tick: Tick, ports: Ports) -> RunReport:
    """Retrain the models of the desk's strategy as of the tick, in one go; they may be used ``effective_delay_min`` later.

    In the cloud a state machine does the same step by step (``training_steps``).
    """
    if ports.ledger.tick(tick) is not None:
        ports.metrics.count("TickDone")
        return RunReport(tick, "already_done")
    night = gather(tick, ports)
    result = train_specs(night.panel, night.settings, ports.models, night.specs, night.as_of, night.effective_at)
    at, training, early = tick.scheduled_at, night.settings.training, night.review.early
    promoted = store(result, ports.models, training, at, night.effective_at, early)
    return report(tick, ports, result, promoted, experience=night.experience, reviewed=night.review.as_facts())


def gather(tick: Tick, ports: Ports) -> Night:
    """The settings, the models and the bars of a night, brought up to date. Raises EventError, StaleTickError."""
    stored = ports.ledger.load()
    loaded = resolve_settings(ports.parameters.read(), stored.settings if stored is not None else {})
    for sentence in loaded.refused:
        ports.metrics.count("SettingsRefused")
        ports.log.warning("parameter refused", error=sentence)
    settings = loaded.settings
    if not settings.calendar.trains:
        raise EventError(f"event of {NAME}: no strategy of this desk names a model; it runs {', '.join(settings.strategy)}")
    refuse_stale(tick, ports, settings.schedule)
    market = ports.connect(settings).market
    at, timeframe = tick.scheduled_at, settings.desk.timeframe
    specs, missing = desk_specs(settings)
    start = training_start(settings, at, specs)
    known = market.pairs()
    as_of = at - timedelta(milliseconds=int(at.timestamp() * 1000) % step_ms(timeframe))
    refresh_bars(ports.bars, market, needed_pairs(known, settings, {}), timeframe, start, as_of)
    pairs = universe_pairs(known, settings.universe, settings.desk.stake_currency)
    panel = ports.bars.read(timeframe, start, as_of).select(pairs)
    compiled = compile_experience(settings, panel, ports.trace, ports.experience, as_of)
    effective_at = at + timedelta(minutes=settings.training.effective_delay_min)
    for name, why in missing.items():
        ports.log.warning("model without a specification", model=name, error=why)
    reviewed = review_models(settings, specs, ports, at, effective_at)
    readable = [spec for spec in specs if spec.name not in reviewed.waiting]
    due, waiting = due_specs(readable, ports.models, at, reviewed.early)
    reviewed = replace(reviewed, waiting={**missing, **reviewed.waiting, **waiting})
    return Night(settings, due, panel, as_of, effective_at, tuple(compiled), reviewed)


def report(
    tick: Tick,
    ports: Ports,
    result: TrainingResult,
    promoted: Sequence[str],
    *,
    experience: Sequence[str],
    reviewed: Mapping[str, Any],
    failed: Mapping[str, str] | None = None,
) -> RunReport:
    """Record the tick, with what came of each model; ``failed`` says why by name, ``reviewed`` what the review found, as facts.

    Doing it again changes nothing.
    """
    facts: dict[str, Any] = {
        "trained": [f"{model.name}@{model.version}" for model in result.trained],
        "promoted": list(promoted),
        "skipped": {**reviewed.get("waiting", {}), **result.skipped},
        "gates": {model.name: model.gate.reason for model in result.trained},
        "stages": stages(result, ports.models),
        "experience": list(experience),
        **{key: value for key, value in reviewed.items() if key != "waiting"},
    }
    if failed:
        facts["failed"] = dict(failed)
    # A retry after a lost answer finds the record that it has written.
    with suppress(TickRecordedError):
        ports.ledger.record_unfenced(TickRecord(tick, DONE, UNFENCED, (), facts))
    ports.metrics.count("ModelPromoted", len(promoted))
    if failed:
        ports.metrics.count("TrainingFailed", len(failed))
        ports.log.warning("training failed", tick=tick.id, failed=dict(failed))
    ports.metrics.count("TickDone")
    ports.log.info("tick done", tick=tick.id, **facts)
    return RunReport(tick, DONE, (tick.id,), facts)


def training_start(settings: Settings, at: datetime, specs: Sequence[ModelSpec]) -> datetime:
    """The first bar a training as of ``at`` reads: the longest window of the desk and its specifications, and what comes before.

    Before the window's first week lies the startup of features and signals, before the window the age and the volumes that a pair needs to
    be bought.
    """
    step, universe = step_ms(settings.desk.timeframe), settings.universe
    first = at - timedelta(days=max([settings.training.window_days, *(spec.window.days or 0 for spec in specs)]))
    startup = max(rotation_features.startup_bars(settings.desk.timeframe), Scope.of(settings).startup_bars())
    starts = [window_start(first, startup, step), first - timedelta(days=universe.min_age_days)]
    if universe.min_daily_volume > 0.0:
        starts.append(volume_window_start(first, universe))
    # A training begins at a whole bar.
    return min(start - timedelta(milliseconds=to_ms(start) % step) for start in starts)


def train_specs(
    panel: Panel,
    settings: Settings,
    models: ModelStore,
    specs: Sequence[ModelSpec],
    as_of: datetime,
    effective_at: datetime,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> TrainingResult:
    """Train and judge models on ``panel``, against those who are champion when they may be used."""
    return train_on_bars(
        panel,
        specs,
        {spec.name: _loaded(incumbent(models, spec.name, as_of, effective_at)) for spec in specs},
        training=settings.training,
        execution=settings.execution,
        top_k=settings.portfolio.top_k.chop,
        scope=Scope.of(settings),
        as_of=as_of,
        effective_at=effective_at,
        progress=progress,
    )


def store(
    result: TrainingResult,
    models: ModelStore,
    training: TrainingSection,
    now: datetime,
    effective_at: datetime,
    early: frozenset[str] = frozenset(),
) -> list[str]:
    """Register every trained model, and let those whose gates opened into the shadow, or make them champion where there is none.

    ``early`` names the models that were trained because the champion has drifted. Returns the champions among them as ``name@version``.
    Doing it again changes nothing. Raises ArtifactError for a model whose life cannot be read, once all others are stored.
    """
    promoted: list[str] = []
    damaged: list[ArtifactError] = []
    for model in result.trained:
        try:
            promoted += _store_one(model, models, training, Moment(effective_at, now), early=model.name in early)
        except ArtifactError as error:
            damaged.append(error)
    if damaged:
        raise damaged[0]
    return promoted


def _store_one(model: TrainedModel, models: ModelStore, training: TrainingSection, moment: Moment, *, early: bool) -> list[str]:
    """``name@version`` where it has become champion, else nothing."""
    version = models.register(model.name, model.version, model.manifest, model.artifact)
    usable = is_usable(models, model.name, moment.at, training.max_model_age_days)
    rules = LifeRules(training, float(version.manifest["horizon_h"]))
    life = models.life(model.name)
    entered = enter(life, model.version, model.gate, rules, moment, usable=usable, early=early)
    models.record(model.name, entered, life)
    return [version.label] if models.life(model.name).stage(model.version, moment.at) == "champion" else []


def stages(result: TrainingResult, models: ModelStore) -> dict[str, str]:
    """Where every trained version stands from its ``effective_at`` on, by ``name@version``."""
    found: dict[str, str] = {}
    for model in result.trained:
        at = parse_time(str(model.manifest["effective_at"]))
        found[f"{model.name}@{model.version}"] = models.life(model.name).stage(model.version, at)
    return found


def incumbent(models: ModelStore, name: str, as_of: datetime, effective_at: datetime) -> tuple[Mapping[str, Any], bytes] | None:
    """Manifest and artifact of the champion a challenger of ``as_of`` has to beat: who is champion when it may be used, ``effective_at``.

    The challenger itself is left out, an earlier try of the same night may have promoted it; a damaged champion counts as none.
    """
    others = [entry for entry in models.life(name).promotions if entry.version != version_name(as_of)]
    promotion = champion_at(others, effective_at)
    if promotion is None:
        return None
    try:
        version = models.manifest(name, promotion.version)
        artifact = models.artifact(version)
        load_model(version.manifest, artifact)
        worth_of(version.manifest)
        seen_until_ms(version.manifest)
    except ArtifactError:
        return None
    return version.manifest, artifact


def _loaded(champion: tuple[Mapping[str, Any], bytes] | None) -> OnnxModel | None:
    return None if champion is None else load_model(*champion)
