"""The steps of a nightly training, as the desk's state machine asks the ``retrain`` function for them one by one.

    prepare ⇒ for each model: train (here, or as a SageMaker job) ⇒ validate ⇒ register; then promote ⇒ report

Each step may be repeated: what was done is found done. ``retrain.run`` does the same in one go. All that a step needs of the one before
is in its event, or in the files that it names; settings are read once, by ``prepare``, and travel with the files.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from tickless.errors import ArtifactError, EventError, TrainingError
from tickless.learn.gates import GateDecision
from tickless.learn.model_archive import pack, unpack
from tickless.learn.registry import version_name
from tickless.learn.scope import Scope
from tickless.learn.second_opinion import check_version
from tickless.learn.spec import ModelSpec
from tickless.learn.training_files import Job, bars_bytes, job_bytes, read_bars, read_job
from tickless.learn.training_job import ARTIFACT, MANIFEST, SKIPPED, run_job
from tickless.learn.training_run import TrainedModel, TrainingResult
from tickless.ports import Ports, TrainingFiles
from tickless.runs import retrain
from tickless.runs.retrain import Night
from tickless.settings import TrainingSection
from tickless.types import Tick, parse_time

CLAIM_H = 12
"""How long an execution keeps its night to itself: longer than it may run."""
ALREADY_DONE, ALREADY_RUNNING = "already_done", "already_running"
PREPARED = "prepared"
_RESULTS = frozenset({ARTIFACT, MANIFEST, SKIPPED})
_JOB_NAME = 20
"""Characters of a model's name in that of its job."""
_SENTENCE = 500
_T = TypeVar("_T")


@dataclass(frozen=True)
class _Step:
    tick: Tick
    ports: Ports
    files: TrainingFiles
    event: Mapping[str, Any]

    @property
    def model(self) -> Mapping[str, Any]:
        """The model that the step is for, as ``prepare`` named it."""
        model: Mapping[str, Any] = _field(self.event, "model", dict)
        return model

    @property
    def results(self) -> list[Mapping[str, Any]]:
        """What came of each model."""
        return list(_field(self.event, "models", list))

    def output(self) -> Mapping[str, bytes]:
        """What the model's training left. Raises ArtifactError, TrainingError."""
        key = self.files.key_of(_field(self.event, "artifact", str))
        if not key.startswith(self.files.key_of(_field(self.model, "output", str))):
            raise ArtifactError(f"{self.event['artifact']}: not where the training of {self.model['name']} was to put its model")
        return unpack(self.files.get(key), _RESULTS)

    def reviewed(self) -> dict[str, Any]:
        """What the review before the training found, and the settings of the night."""
        content: dict[str, Any] = json.loads(self.files.get(f"{version_name(self.tick.scheduled_at)}/review.json"))
        return content

    def job(self) -> Job:
        """What the model's training was asked for."""
        key = self.files.key_of(_field(self.model, "job_files", str))
        content = self.files.get(f"{key}job.json")
        has_champion = json.loads(content).get("champion") is not None
        return read_job(content, self.files.get(f"{key}champion.onnx") if has_champion else None)


def run_step(tick: Tick, ports: Ports, files: TrainingFiles, event: Mapping[str, Any]) -> dict[str, Any]:
    """Do the step that the event names; its answer goes to the next. Raises EventError for a step that there is not."""
    step = STEPS.get(str(event.get("step")))
    if step is None:
        raise EventError(f"event of {retrain.NAME}: step {event.get('step')!r} is unknown; known: {', '.join(STEPS)}")
    return step(_Step(tick, ports, files, event))


def _prepare(step: _Step) -> dict[str, Any]:
    """Write the bars and a job a model; a night that is done, or that another execution works on, has no models left."""
    tick, ports, files = step.tick, step.ports, step.files
    execution = _field(step.event, "execution", str)
    nothing: dict[str, Any] = {"runs_on": "", "models": [], "experience": []}
    if ports.ledger.tick(tick) is not None:
        ports.metrics.count("TickDone")
        return {"status": ALREADY_DONE, **nothing}
    stamp, now = version_name(tick.scheduled_at), ports.clock.now()
    if not files.claim(f"{stamp}/claim.json", execution, now, now + timedelta(hours=CLAIM_H)):
        return {"status": ALREADY_RUNNING, **nothing}
    night = retrain.gather(tick, ports)
    bars = bars_bytes(night.panel)
    files.put(f"{stamp}/bars/panel.npz", bars)
    bars_sha256 = sha256(bars).hexdigest()
    models = [_order(step, night, spec, stamp, bars_sha256) for spec in night.specs]
    reviewed = {
        "facts": night.review.as_facts(),
        "early": sorted(night.review.early),
        "training": night.settings.training.model_dump(mode="json"),
    }
    files.put(f"{stamp}/review.json", json.dumps(reviewed).encode())
    return {
        "status": PREPARED,
        "runs_on": night.settings.training.runs_on,
        "models": models,
        "experience": list(night.experience),
    }


def _order(step: _Step, night: Night, spec: ModelSpec, stamp: str, bars_sha256: str) -> dict[str, Any]:
    """Write the job of one model; what the following steps need to know of it."""
    settings, files = night.settings, step.files
    champion = retrain.incumbent(step.ports.models, spec.name, night.as_of, night.effective_at)
    job = Job(
        spec=spec,
        training=settings.training,
        execution=settings.execution,
        top_k=settings.portfolio.top_k.chop,
        scope=Scope.of(settings),
        as_of=night.as_of,
        effective_at=night.effective_at,
        bars_sha256=bars_sha256,
        champion=champion,
    )
    content = job_bytes(job)
    files.put(f"{stamp}/{spec.name}/job/job.json", content)
    if champion is not None:
        files.put(f"{stamp}/{spec.name}/job/champion.onnx", champion[1])
    execution = sha256(str(step.event["execution"]).encode()).hexdigest()[:8]
    return {
        "name": spec.name,
        "job": f"{spec.name.replace('_', '-')[:_JOB_NAME].rstrip('-')}-{stamp}-{execution}",
        "bars": files.uri(f"{stamp}/bars/"),
        "job_files": files.uri(f"{stamp}/{spec.name}/job/"),
        "output": files.uri(f"{stamp}/{spec.name}/output/"),
        "hyperparameters": {"model": spec.name, "job_sha256": sha256(content).hexdigest()},
    }


def _train(step: _Step) -> dict[str, Any]:
    """What a SageMaker job does, in this function: fetch the channels, run the entry point, bring the model folder away."""
    model, files = step.model, step.files
    with tempfile.TemporaryDirectory(prefix="training-") as folder:
        root = Path(folder)
        _fetch(root, model, files)
        code = run_job(root)
        if code:
            raise TrainingError(f"training of {model['name']}: {(root / 'output' / 'failure').read_text('utf8')}")
        result = {path.name: path.read_bytes() for path in (root / "model").iterdir()}
    key = files.key_of(f"{model['output']}{model['job']}/output/model.tar.gz")
    files.put(key, pack(result))
    return {"artifact": files.uri(key)}


def _fetch(root: Path, model: Mapping[str, Any], files: TrainingFiles) -> None:
    bars, job = files.key_of(model["bars"]), files.key_of(model["job_files"])
    content = files.get(f"{job}job.json")
    channels = {"bars/panel.npz": files.get(f"{bars}panel.npz"), "job/job.json": content}
    if json.loads(content).get("champion") is not None:
        channels["job/champion.onnx"] = files.get(f"{job}champion.onnx")
    written = {f"data/{name}": body for name, body in channels.items()}
    written["config/hyperparameters.json"] = json.dumps(model["hyperparameters"]).encode()
    for name, body in written.items():
        path = root / "input" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)


def _validate(step: _Step) -> dict[str, Any]:
    """Measure what came back anew; the sha256 of what was found good. Raises ArtifactError where it is not what it says."""
    output, job = step.output(), step.job()
    if SKIPPED in output:
        return {"sha256": "", "skipped": str(json.loads(output[SKIPPED])["skipped"])}
    manifest, artifact = _version(output)
    bars = step.files.get(f"{step.files.key_of(step.model['bars'])}panel.npz")
    check_version(job, read_bars(bars, job.bars_sha256), manifest, artifact)
    return {"sha256": _digest(output), "skipped": ""}


def _register(step: _Step) -> dict[str, Any]:
    """Store the version that was validated; a model that had nothing to learn from has none."""
    name, validated = step.model["name"], _field(step.event, "validated", dict)
    if validated["skipped"]:
        return {"name": name, "version": "", "skipped": validated["skipped"], "failed": ""}
    output = step.output()
    if _digest(output) != validated["sha256"]:
        raise ArtifactError(f"model {name}: what is to be registered is not what was validated")
    manifest, artifact = _version(output)
    version = step.ports.models.register(name, str(manifest["version"]), manifest, artifact)
    return {"name": name, "version": version.version, "skipped": "", "failed": ""}


def _promote(step: _Step) -> dict[str, Any]:
    """Decide what becomes of the versions that were registered, all models together."""
    result, at = _result(step), step.tick.scheduled_at
    # As it was when the night was prepared: a parameter that has changed since changes nothing of it.
    effective_at = max((parse_time(str(model.manifest["effective_at"])) for model in result.trained), default=at)
    reviewed = step.reviewed()
    training, early = TrainingSection.model_validate(reviewed["training"]), frozenset(reviewed["early"])
    return {"promoted": retrain.store(result, step.ports.models, training, at, effective_at, early)}


def _report(step: _Step) -> dict[str, Any]:
    """Record the tick, and say of each model what came of it."""
    promoted = list(_field(_field(step.event, "promotion", dict), "promoted", list))
    failed = {result["name"]: _sentence(result["failed"]) for result in step.results if result["failed"]}
    experience = list(_field(step.event, "experience", list))
    facts = step.reviewed()["facts"]
    return retrain.report(step.tick, step.ports, _result(step), promoted, experience=experience, reviewed=facts, failed=failed).as_dict()


STEPS: Mapping[str, Callable[[_Step], dict[str, Any]]] = {
    "prepare": _prepare,
    "train": _train,
    "validate": _validate,
    "register": _register,
    "promote": _promote,
    "report": _report,
}


def _result(step: _Step) -> TrainingResult:
    """What the night made, read back from the registry."""
    trained = []
    for result in step.results:
        if result["version"]:
            version = step.ports.models.manifest(result["name"], result["version"])
            gate = GateDecision(bool(version.manifest["gate"]["promote"]), tuple(version.manifest["gate"]["reasons"]))
            trained.append(TrainedModel(version.name, version.version, version.manifest, step.ports.models.artifact(version), gate))
    return TrainingResult(tuple(trained), {result["name"]: result["skipped"] for result in step.results if result["skipped"]})


def _version(output: Mapping[str, bytes]) -> tuple[dict[str, Any], bytes]:
    if ARTIFACT not in output or MANIFEST not in output:
        raise ArtifactError(f"model.tar.gz: holds {', '.join(sorted(output)) or 'nothing'}, must hold {ARTIFACT} and {MANIFEST}")
    try:
        manifest = json.loads(output[MANIFEST])
    except ValueError as error:
        raise ArtifactError(f"model.tar.gz: {MANIFEST} is not JSON: {error}") from error
    if not isinstance(manifest, dict):
        raise ArtifactError(f"model.tar.gz: {MANIFEST} is not a JSON object")
    return manifest, output[ARTIFACT]


def _digest(output: Mapping[str, bytes]) -> str:
    return sha256(output[MANIFEST] + output[ARTIFACT]).hexdigest()


def _sentence(failed: Any) -> str:
    """Why a model's branch failed, from what Step Functions kept of it: our own sentence, where there is one in it."""
    if not isinstance(failed, Mapping):
        return str(failed)
    cause = str(failed.get("Cause", ""))
    try:
        said = json.loads(cause)
    except ValueError:
        said = None
    if isinstance(said, Mapping):
        cause = str(said.get("FailureReason") or f"{said.get('errorType', '')}: {said.get('errorMessage', '')}")
    return (cause or str(failed.get("Error", "")))[:_SENTENCE]


def _field(content: Mapping[str, Any], name: str, kind: type[_T]) -> _T:
    value = content.get(name)
    if not isinstance(value, kind):
        raise EventError(f"event of {retrain.NAME}: {name!r} is {'missing' if value is None else f'{value!r}'}, a step needs it")
    return value
