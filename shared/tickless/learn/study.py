"""A tuning study: Optuna's seeded TPE over a journal file, so that it can be stopped at any time and gone on with.

Optuna is needed here alone, and imported inside. Every trial is one line or a few of JSON in the file; nothing is ever unpickled.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tickless.bars import Floats
from tickless.errors import DataError, InputError
from tickless.learn.spec import ModelSpec
from tickless.learn.tuning import Attempt, Objective, TuningData, suggest_fit, try_spec

_DIGITS = 8
"""Of a return that is kept."""


@dataclass(frozen=True)
class StudyResult:
    """All that was ever tried in a study file, over every time it was gone on with."""

    best: ModelSpec
    best_number: int
    best_value: float
    first_value: float
    """Of the specification as it was; NaN where it failed."""
    returns: tuple[Floats, ...]
    """Of every trial that came to an end, in their order."""
    failed: int
    """Trials that did not."""
    tried_now: int

    @property
    def count(self) -> int:
        """How many were tried."""
        return len(self.returns) + self.failed


def has_optuna() -> bool:
    """Whether Optuna is installed here."""
    from importlib.util import find_spec

    return find_spec("optuna") is not None


def run_study(
    path: Path,
    data: TuningData,
    objective: Objective,
    go_on: Callable[[int], bool],
    progress: Callable[[int], None] = lambda _count: None,
) -> StudyResult:
    """Try hyper-parameters for as long as ``go_on`` (asked with the number tried this time) says so, at least once in a new file.

    The first trial of a file is the specification as it is. Raises InputError for a file that is no study, or one of other data, other
    settings or another objective, or one that another run goes on with at the same time; DataError where no trial came to an end.
    """
    from optuna.exceptions import UpdateFinishedTrialError

    study = _open(path, data, objective)
    done = 0
    while (done == 0 and _is_new(study)) or go_on(done):
        try:
            _one(study, data, objective)
        except UpdateFinishedTrialError as error:
            raise InputError(f"--study {path}: another run has gone on with it meanwhile ({error})") from error
        done += 1
        progress(done)
    return _result(study, data.terms.spec, done)


def _is_new(study: Any) -> bool:
    """Whether nothing was tried yet; the trial that ``_open`` puts in line waits."""
    from optuna.trial import TrialState

    return all(trial.state == TrialState.WAITING for trial in study.get_trials(deepcopy=False))


_ABOUT = {"data": "data set (bars, timerange, settings or specification)"}
"""What of a study is named in more words than its key."""


def _open(path: Path, data: TuningData, objective: Objective) -> Any:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    name, about = data.terms.spec.name, {"model": data.terms.spec.name, "objective": objective, "data": data.sha256}
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = JournalFileOpenLock(str(path))
        _mend(path, lock)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            storage = JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
            study = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
    except (ValueError, KeyError, TypeError, AssertionError, OSError) as error:
        raise InputError(f"--study {path}: is no study that can be gone on with ({error})") from error
    stored = {key: study.user_attrs.get(key) for key in about}
    if study.trials and stored != about:
        differ = " and ".join(_ABOUT.get(key, key) for key in about if stored[key] != about[key])
        raise InputError(f"--study {path}: was made with another {differ}; name a new file")
    for key, value in about.items():
        if stored[key] != value:
            study.set_user_attr(key, value)
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        # It was cut off; it was tried all the same, and counts.
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    # Each time another seed, and the same ones in the same order: a study that is gone on with does not repeat itself.
    study.sampler = optuna.samplers.TPESampler(seed=data.terms.training.seed + len(study.trials), n_startup_trials=8)
    if not study.trials:
        study.enqueue_trial(_present(data.terms.spec))
    return study


def _mend(path: Path, lock: Any) -> None:
    """Take away the last line of a journal whose writer died in the middle of it: what is appended to it could never be read again.

    A file of something else is refused before Optuna writes to it.
    """
    if not path.is_file():
        return
    lock.acquire()
    try:
        content = path.read_bytes()
        if content and not content.startswith(b'{"op_code"'):
            raise ValueError("its first line is no journal's")
        if not content.endswith(b"\n"):
            os.truncate(path, content.rfind(b"\n") + 1)
    finally:
        lock.release()


def _present(spec: ModelSpec) -> dict[str, Any]:
    """The specification's own values of its search space."""

    class Reader:
        def __init__(self) -> None:
            self.names: list[str] = []

        def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:  # noqa: ARG002 - as Optuna's
            self.names.append(name)
            return min(high, max(low, float(getattr(spec.fit, name))))

        def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:  # noqa: ARG002 - as Optuna's
            self.names.append(name)
            return min(high, max(low, int(getattr(spec.fit, name))))

    reader = Reader()
    chosen = suggest_fit(spec, reader)
    return {name: getattr(chosen.fit, name) for name in reader.names}


def _one(study: Any, data: TuningData, objective: Objective) -> None:
    import optuna

    trial = study.ask()
    spec = suggest_fit(data.terms.spec, trial)
    if trial.number == 0:
        spec = data.terms.spec  # As it is, even where a value of its own lies outside the search space.
    trial.set_user_attr("fit", spec.fit.model_dump(mode="json"))
    try:
        attempt = try_spec(spec, data)
    except DataError as error:
        trial.set_user_attr("failed", str(error))
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return
    value = attempt.value(objective)
    trial.set_user_attr("active", [round(float(one), _DIGITS) for one in attempt.active])
    if np.isnan(value):
        trial.set_user_attr("failed", f"{objective} cannot be told from so few rows")
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    else:
        study.tell(trial, value)


def _result(study: Any, spec: ModelSpec, tried_now: int) -> StudyResult:
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False)
    ended = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not ended:
        raise DataError(f"model {spec.name}: of {len(trials)} trials none came to an end: {trials[-1].user_attrs.get('failed', '')}")
    best = max(ended, key=lambda trial: (trial.value, -trial.number))
    fit: Mapping[str, Any] = best.user_attrs["fit"]
    chosen = spec.model_copy(update={"fit": type(spec.fit).model_validate({**fit, "family": spec.fit.family})})
    first = next((trial.value for trial in ended if trial.number == 0), float("nan"))
    returns = tuple(np.asarray(trial.user_attrs["active"], dtype=np.float64) for trial in ended)
    return StudyResult(chosen, best.number, float(best.value), first, returns, len(trials) - len(ended), tried_now)


def best_attempt(result: StudyResult, data: TuningData) -> Attempt:
    """The best trial once more, for all its measures."""
    return try_spec(result.best, data)
