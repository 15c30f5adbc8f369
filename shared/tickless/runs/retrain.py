"""``retrain``: every night, experience ⇒ train ⇒ validate ⇒ register ⇒ promote what is better. Takes no lease, trades nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tickless.alpha.champion import champion_at, load_model
from tickless.alpha.onnx_model import OnnxModel
from tickless.bars import Panel, step_ms
from tickless.errors import ArtifactError, EventError, TickRecordedError
from tickless.features import rotation as rotation_features
from tickless.features.windows import window_start
from tickless.learn.spec import ModelSpec, load_specs
from tickless.learn.training_job import train_on_bars
from tickless.learn.training_run import TrainedModel, TrainingResult
from tickless.ports import ModelStore, Ports, Promotion
from tickless.runs.admission import refuse_stale
from tickless.runs.experience import compile_experience
from tickless.runs.gather import needed_pairs, refresh_bars, universe_pairs
from tickless.runs.parameters import resolve_settings
from tickless.runs.report import RunReport
from tickless.settings import Settings
from tickless.types import Tick, TickRecord

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


def run(tick: Tick, ports: Ports) -> RunReport:
    """Retrain the models of the desk's strategy as of the tick, in one go; they may be used ``effective_delay_min`` later.

    In the cloud a state machine does the same step by step (``training_steps``).
    """
    if ports.ledger.tick(tick) is not None:
        ports.metrics.count("TickDone")
        return RunReport(tick, "already_done")
    night = gather(tick, ports)
    result = train_specs(night.panel, night.settings, ports.models, night.specs, night.as_of, night.effective_at)
    promoted = store(result, ports.models, tick.scheduled_at, night.effective_at)
    return report(tick, ports, result, promoted, experience=night.experience)


def gather(tick: Tick, ports: Ports) -> Night:
    """The settings, the models and the bars of a night, brought up to date. Raises EventError, StaleTickError."""
    stored = ports.ledger.load()
    loaded = resolve_settings(ports.parameters.read(), stored.settings if stored is not None else {})
    for sentence in loaded.refused:
        ports.metrics.count("SettingsRefused")
        ports.log.warning("parameter refused", error=sentence)
    settings = loaded.settings
    if not settings.calendar.rebalanced:
        raise EventError(f"event of {NAME}: no strategy of this desk has models; it runs {', '.join(settings.strategy)}")
    refuse_stale(tick, ports, settings.schedule)
    market = ports.connect(settings).market
    at, timeframe = tick.scheduled_at, settings.desk.timeframe
    start = training_start(settings, at)
    known = market.pairs()
    as_of = at - timedelta(milliseconds=int(at.timestamp() * 1000) % step_ms(timeframe))
    refresh_bars(ports.bars, market, needed_pairs(known, settings, {}), timeframe, start, as_of)
    pairs = universe_pairs(known, settings.universe, settings.desk.stake_currency)
    panel = ports.bars.read(timeframe, start, as_of).select(pairs)
    compiled = compile_experience(settings, panel, ports.trace, ports.experience, as_of)
    effective_at = at + timedelta(minutes=settings.training.effective_delay_min)
    return Night(settings, load_specs(settings.calendar.rebalanced), panel, as_of, effective_at, tuple(compiled))


def report(
    tick: Tick,
    ports: Ports,
    result: TrainingResult,
    promoted: Sequence[str],
    *,
    experience: Sequence[str],
    failed: Mapping[str, str] | None = None,
) -> RunReport:
    """Record the tick, with what came of each model; ``failed`` says why by name. Doing it again changes nothing."""
    facts: dict[str, Any] = {
        "trained": [f"{model.name}@{model.version}" for model in result.trained],
        "promoted": list(promoted),
        "skipped": dict(result.skipped),
        "gates": {model.name: model.gate.reason for model in result.trained},
        "experience": list(experience),
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


def training_start(settings: Settings, at: datetime) -> datetime:
    """The first bar a training as of ``at`` reads: its window, and the startup of the window's first week."""
    step = step_ms(settings.desk.timeframe)
    startup = rotation_features.startup_bars(settings.desk.timeframe)
    return window_start(at - timedelta(days=settings.training.window_days), startup, step)


def train_specs(
    panel: Panel, settings: Settings, models: ModelStore, specs: Sequence[ModelSpec], as_of: datetime, effective_at: datetime
) -> TrainingResult:
    """Train and judge models on ``panel``, against the champions of ``as_of``."""
    return train_on_bars(
        panel,
        specs,
        {spec.name: _loaded(incumbent(models, spec.name, as_of)) for spec in specs},
        training=settings.training,
        execution=settings.execution,
        top_k=settings.portfolio.top_k.chop,
        max_gap_bars=settings.universe.max_gap_bars,
        as_of=as_of,
        effective_at=effective_at,
    )


def store(result: TrainingResult, models: ModelStore, now: datetime, effective_at: datetime) -> list[str]:
    """Register every trained model and promote those whose gates opened; returns the promoted as ``name@version``."""
    promoted = []
    for model in result.trained:
        models.register(model.name, model.version, model.manifest, model.artifact)
        if model.gate.promote:
            if not _is_promoted(models, model):
                models.promote(model.name, Promotion(model.version, effective_at, now, model.gate.reason))
            promoted.append(f"{model.name}@{model.version}")
    return promoted


def incumbent(models: ModelStore, name: str, as_of: datetime) -> tuple[Mapping[str, Any], bytes] | None:
    """Manifest and artifact of the champion a challenger has to beat; a damaged one counts as none, so that it can be replaced."""
    promotion = champion_at(models.promotions(name), as_of)
    if promotion is None:
        return None
    try:
        version = models.manifest(name, promotion.version)
        artifact = models.artifact(version)
        load_model(version.manifest, artifact)
    except ArtifactError:
        return None
    return version.manifest, artifact


def _loaded(champion: tuple[Mapping[str, Any], bytes] | None) -> OnnxModel | None:
    return None if champion is None else load_model(*champion)


def _is_promoted(models: ModelStore, model: TrainedModel) -> bool:
    """Whether an earlier run of the same tick got as far as the promotion."""
    return any(entry.version == model.version for entry in models.promotions(model.name))
