"""What differs between stages, and how large each function is. What the desk does comes from its desk file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tickless.errors import SettingsError
from tickless.settings import SCAN, ScheduleSection, Settings, Timer

ROOT = Path(__file__).resolve().parents[1]
"""The project's root: where ``functions/`` and ``layers/`` are."""


@dataclass(frozen=True)
class StageSettings:
    """What a stage keeps, and for how long (days)."""

    stage: str
    retain_state: bool
    """Table, bucket, logs and dead letters outlive the stack."""
    log_retention_days: int
    noncurrent_version_days: int
    """How long overwritten versions of an object can be brought back."""
    trace_infrequent_days: int
    """Traces move to infrequent access after this long."""
    trace_expiry_days: int
    training_expiry_days: int
    """What the steps of a nightly training handed one another is deleted after this long; the models that came of it stay."""
    retrain_concurrency: int | None
    """Reserved for ``retrain``. An account with the initial limit of 10 executions has none to reserve."""


STAGES: Mapping[str, StageSettings] = {
    "dev": StageSettings(
        stage="dev",
        retain_state=False,
        log_retention_days=14,
        noncurrent_version_days=7,
        trace_infrequent_days=30,
        trace_expiry_days=90,
        training_expiry_days=7,
        retrain_concurrency=None,
    ),
    "prod": StageSettings(
        stage="prod",
        retain_state=True,
        log_retention_days=365,
        noncurrent_version_days=90,
        trace_infrequent_days=30,
        trace_expiry_days=730,
        training_expiry_days=30,
        retrain_concurrency=2,
    ),
}


@dataclass(frozen=True)
class FunctionSettings:
    """One Lambda function: its size, its layers, and which parts of the bucket it may touch."""

    name: str
    memory_mb: int
    timeout_s: int
    """A ceiling; a trading function's time-out also stays below the desk's lease."""
    layers: tuple[str, ...]
    reads: tuple[str, ...]
    """Prefixes of the bucket it may read."""
    writes: tuple[str, ...]
    """Prefixes of the bucket it may write."""
    deletes: tuple[str, ...] = ()
    """Prefixes of the bucket whose objects it may delete; the bucket keeps what was deleted for a while."""
    trades: bool = True
    """Takes the desk's lease and moves its state."""
    threads: int = 1


_RUNS_NO_MODELS = ("core", "market")
_RUNS_MODELS = (*_RUNS_NO_MODELS, "inference")

FUNCTIONS: Mapping[str, FunctionSettings] = {
    function.name: function
    for function in (
        FunctionSettings("risk_check", 1024, 120, _RUNS_NO_MODELS, reads=("bars", "trace"), writes=("bars", "trace")),
        FunctionSettings("feature_rebalance", 1769, 180, _RUNS_MODELS, reads=("bars", "models", "trace"), writes=("bars", "trace")),
        FunctionSettings("full_rebalance", 1769, 180, _RUNS_MODELS, reads=("bars", "models", "trace"), writes=("bars", "trace")),
        # It runs the rebalance of its minute where that is late, so it must be able to.
        FunctionSettings(SCAN, 1769, 180, _RUNS_MODELS, reads=("bars", "models", "trace"), writes=("bars", "trace")),
        FunctionSettings(
            "retrain",
            3008,
            900,
            (*_RUNS_MODELS, "training"),
            reads=("bars", "models", "trace", "experience", "training"),
            writes=("bars", "models", "experience", "training"),
            deletes=("models",),
            trades=False,
            threads=2,
        ),
    )
}
"""1,769 MB is one whole processor; 3,008 MB the most that a new account may ask for."""

_SCAN_ALONE = FunctionSettings(SCAN, 1024, 120, _RUNS_NO_MODELS, reads=("bars", "trace"), writes=("bars", "trace"))
"""On a desk that rebalances nothing."""

LEASE_MARGIN_S = 10
"""A trading function ends this long before its lease may be taken over."""

LEAST_WORK_S = 15
"""What must be left of a time-out after the longest wait for the lease."""


def stage_settings(stage: str) -> StageSettings:
    """The settings of a stage; raises SettingsError for one that does not exist."""
    if stage not in STAGES:
        raise SettingsError(f"stage {stage!r}: must be one of {', '.join(STAGES)}")
    return STAGES[stage]


def desk_functions(settings: Settings) -> dict[str, FunctionSettings]:
    """The functions that the desk's schedule wakes, by name, each no larger than the desk needs it."""
    woken = {timer.function for timer in settings.calendar.timers()}
    functions = {name: function for name, function in FUNCTIONS.items() if name in woken}
    if SCAN in functions and not settings.calendar.rebalanced:
        functions[SCAN] = _SCAN_ALONE
    return functions


def title(name: str) -> str:
    """The name of a function or a timer as the CDK spells names: ``RiskCheck``, ``ScanCrossover``."""
    return "".join(word.capitalize() for word in name.replace("-", "_").split("_"))


def timeout_s(function: FunctionSettings, schedule: ScheduleSection) -> int:
    """A function's time-out in seconds: a trading function ends before its lease may be taken over.

    Raises SettingsError where the lease is too short for the wait and some work.
    """
    if not function.trades:
        return function.timeout_s
    seconds = min(function.timeout_s, schedule.lease_ttl_s - LEASE_MARGIN_S)
    if seconds < schedule.lease_wait_s + LEAST_WORK_S:
        raise SettingsError(
            f"schedule.lease_ttl_s: {schedule.lease_ttl_s} leaves {function.name} a time-out of {seconds} s, "
            f"too little for schedule.lease_wait_s ({schedule.lease_wait_s}) and {LEAST_WORK_S} s of work"
        )
    return seconds


def longest_gap(timer: Timer, settings: Settings) -> timedelta:
    """The longest time between two ticks of a timer of the desk."""
    if timer.function == "retrain":
        return timedelta(days=1)
    day = datetime(2024, 1, 1, tzinfo=UTC)
    times = (day + timedelta(minutes=m) for m in range(24 * 60))
    minutes = [at.hour * 60 + at.minute for at in times if timer.name in {tick.name for tick in settings.calendar.due_at(at)}]
    following = [*minutes[1:], minutes[0] + 24 * 60]
    return timedelta(minutes=max(later - earlier for earlier, later in zip(minutes, following, strict=True)))
