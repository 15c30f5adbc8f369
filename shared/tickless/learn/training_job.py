"""The one entry point of every training: a folder in, a folder out, as SageMaker lays them out.

::

    <root>/input/config/hyperparameters.json   strings: the model's name, and the sha256 of job.json
    <root>/input/data/job/job.json             what is asked for; beside it champion.onnx, where there is one to beat
    <root>/input/data/bars/panel.npz           the bars
    <root>/model/artifact.onnx, manifest.json  the version; or skipped.json, where the bars teach nothing
    <root>/output/failure                      one sentence, where it failed

``root`` is ``/opt/ml`` in a container. The exit code is 0 where the model folder holds a result, else another, and the model folder is
then empty. SIGTERM ends a training with nothing half-written. The ``retrain`` function calls :func:`run_job` on a folder of its own; a
container and a laptop run ``python -m tickless.learn.training_job``.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from types import FrameType

from tickless.alpha.onnx_model import OnnxModel
from tickless.bars import Panel
from tickless.errors import DataError, TicklessError
from tickless.learn.scope import Scope
from tickless.learn.spec import ModelSpec
from tickless.learn.training_files import Job, manifest_bytes, read_bars, read_job
from tickless.learn.training_run import Features, TrainingResult, train_models
from tickless.settings import ExecutionSection, TrainingSection

ROOT = Path("/opt/ml")
FAILED = 1
STOPPED = 128 + int(signal.SIGTERM)
FAILURE_CHARS = 1024
"""As much as SageMaker keeps of a failure."""
ARTIFACT, MANIFEST, SKIPPED = "artifact.onnx", "manifest.json", "skipped.json"
"""What a model folder may hold."""


class _StoppedError(Exception):
    """SIGTERM."""


def train_on_bars(
    panel: Panel,
    specs: Sequence[ModelSpec],
    incumbents: Mapping[str, OnnxModel | None],
    *,
    training: TrainingSection,
    execution: ExecutionSection,
    top_k: int,
    scope: Scope,
    as_of: datetime,
    effective_at: datetime,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> TrainingResult:
    """``training_run.train_models`` on the features of ``panel``, and the rows of it on which the desk could have acted."""
    features = Features.of_rotation(panel.timeframe, scope.universe.max_gap_bars)
    return train_models(
        features.make(panel),
        panel,
        training=training,
        execution=execution,
        top_k=top_k,
        specs=specs,
        as_of=as_of,
        effective_at=effective_at,
        incumbents=incumbents,
        features=features,
        scope=scope,
        progress=progress,
    )


def train_job(job: Job, panel: Panel) -> TrainingResult:
    """The version that ``job`` asks for, or why there is none. Raises ArtifactError, LeakError."""
    return train_on_bars(
        panel,
        [job.spec],
        {job.spec.name: job.incumbent()},
        training=job.training,
        execution=job.execution,
        top_k=job.top_k,
        scope=job.scope,
        as_of=job.as_of,
        effective_at=job.effective_at,
    )


def run_job(root: Path = ROOT) -> int:
    """Run the training that lies under ``root`` and leave what came of it there; the exit code."""
    try:
        files = _train(root)
        _write(root / "model", files)
    except BaseException as error:
        _empty(root / "model")
        _write_failure(root / "output", error)
        if isinstance(error, _StoppedError):
            return STOPPED
        if isinstance(error, Exception):
            return FAILED
        raise
    return 0


def read_inputs(root: Path) -> tuple[Job, Panel]:
    """What lies under ``root/input``; raises DataError where it is not what the hyperparameters name."""
    wanted = json.loads(_read(root / "input" / "config" / "hyperparameters.json"))
    channel = root / "input" / "data" / "job"
    content, champion = _read(channel / "job.json"), channel / "champion.onnx"
    found = sha256(content).hexdigest()
    if wanted.get("job_sha256") != found:
        raise DataError(f"hyperparameters.json: job_sha256 is {wanted.get('job_sha256')!r}, that of job.json is {found}")
    job = read_job(content, champion.read_bytes() if champion.is_file() else None)
    if wanted.get("model") != job.spec.name:
        raise DataError(f"hyperparameters.json: model is {wanted.get('model')!r}, job.json is for {job.spec.name!r}")
    return job, read_bars(_read(root / "input" / "data" / "bars" / "panel.npz"), job.bars_sha256)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one training; the exit code. A container's further words (``train``, hyperparameters as options) say nothing new."""
    parser = argparse.ArgumentParser(prog="python -m tickless.learn.training_job", description="Run one training in SageMaker's folders.")
    parser.add_argument("--root", type=Path, default=ROOT, help="where the folders are (default: /opt/ml)")
    options, _ = parser.parse_known_args(arguments)
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        return run_job(options.root)
    finally:
        signal.signal(signal.SIGTERM, before)


def _train(root: Path) -> Mapping[str, bytes]:
    """What belongs into the model folder, by file name, in the order of writing."""
    job, panel = read_inputs(root)
    result = train_job(job, panel)
    for model in result.trained:
        return {ARTIFACT: model.artifact, MANIFEST: manifest_bytes(model.manifest)}
    reason = {"model": job.spec.name, "skipped": result.skipped[job.spec.name]}
    return {SKIPPED: manifest_bytes(reason)}


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    """The manifest comes last: a folder without one holds no version, whatever ended the process."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _empty(folder: Path) -> None:
    for name in (MANIFEST, SKIPPED, ARTIFACT):
        (folder / name).unlink(missing_ok=True)


def _write_failure(folder: Path, error: BaseException) -> None:
    expected = isinstance(error, TicklessError | _StoppedError)
    name = "Stopped" if isinstance(error, _StoppedError) else type(error).__name__
    if not expected:
        traceback.print_exception(error, file=sys.stderr)
    text = f"{name}: {error}"[:FAILURE_CHARS]
    sys.stderr.write(f"{text}\n")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "failure").write_text(text, "utf8")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def _stop(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a signal handler
    # A second signal must not end the clearing up that the first one began.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _StoppedError("by SIGTERM, before the training was done")


if __name__ == "__main__":
    sys.exit(main())
