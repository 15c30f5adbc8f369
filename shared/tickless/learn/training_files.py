"""What a training is given and what it leaves, as bytes: the bars, the job, the model. Never pickled; the same content, the same bytes."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
from pydantic import ValidationError

from tickless.alpha.champion import load_model
from tickless.alpha.onnx_model import OnnxModel
from tickless.bars import COLUMNS, Panel
from tickless.errors import ArtifactError, DataError
from tickless.learn.scope import Scope
from tickless.learn.spec import ModelSpec
from tickless.settings import ExecutionSection, TrainingSection
from tickless.types import iso, parse_time

JOB_FORMAT = 2


class DeskTerms(NamedTuple):
    """What a training reads of its desk's settings."""

    training: TrainingSection
    execution: ExecutionSection
    top_k: int
    scope: Scope

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> DeskTerms:
        """From a job, or from a manifest's ``desk``; raises ValidationError, KeyError, TypeError or ValueError."""
        return cls(
            training=TrainingSection.model_validate_json(json.dumps(said["training"])),
            execution=ExecutionSection.model_validate_json(json.dumps(said["execution"])),
            top_k=int(said["top_k"]),
            scope=Scope.from_json(said["scope"]),
        )


def first_problem(error: ValidationError) -> str:
    """The first thing that is wrong with settings that were stored, by what they are and the key."""
    first = error.errors()[0]
    return f"{error.title}: {'.'.join(map(str, first['loc']))}: {first['msg']}"


@dataclass(frozen=True)
class Job:
    """What one training is asked for. With the bars it is all that a version depends on."""

    spec: ModelSpec
    training: TrainingSection
    execution: ExecutionSection
    top_k: int
    scope: Scope
    as_of: datetime
    effective_at: datetime
    bars_sha256: str
    champion: tuple[Mapping[str, Any], bytes] | None = None
    """Manifest and artifact of the version that has to be beaten."""

    def incumbent(self) -> OnnxModel | None:
        """The champion, loaded; None where there is none. Raises ArtifactError."""
        return None if self.champion is None else load_model(*self.champion)


def bars_bytes(panel: Panel) -> bytes:
    """A panel as ``panel.npz``: float64 columns (T, N) of a NumPy archive, uncompressed, and what they are in ``about``."""
    about = json.dumps({"timeframe": panel.timeframe, "pairs": list(panel.pairs), "start_ms": panel.start_ms})
    columns: dict[str, Any] = {name: getattr(panel, name) for name in COLUMNS}
    content = io.BytesIO()
    np.savez(content, about=np.frombuffer(about.encode(), dtype=np.uint8), **columns)
    return content.getvalue()


def read_bars(content: bytes, expected_sha256: str) -> Panel:
    """The panel in ``panel.npz``; raises DataError where it is not the one that was written."""
    found = sha256(content).hexdigest()
    if found != expected_sha256:
        raise DataError(f"panel.npz: its sha256 is {found}, the job names {expected_sha256}")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            about = json.loads(archive["about"].tobytes())
            columns = [np.ascontiguousarray(archive[name], dtype=np.float64) for name in COLUMNS]
        return Panel(str(about["timeframe"]), tuple(about["pairs"]), int(about["start_ms"]), *columns)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise DataError(f"panel.npz: cannot be read: {error}") from error


def job_bytes(job: Job) -> bytes:
    """``job.json``; the champion's artifact goes beside it."""
    content = {
        "format": JOB_FORMAT,
        "spec": job.spec.model_dump(mode="json"),
        "training": job.training.model_dump(mode="json"),
        "execution": job.execution.model_dump(mode="json"),
        "top_k": job.top_k,
        "scope": job.scope.as_json(),
        "as_of": iso(job.as_of),
        "effective_at": iso(job.effective_at),
        "bars_sha256": job.bars_sha256,
        "champion": None if job.champion is None else dict(job.champion[0]),
    }
    return (json.dumps(content, sort_keys=True, indent=1, allow_nan=False) + "\n").encode()


def read_job(content: bytes, champion: bytes | None) -> Job:
    """The job in ``job.json``; raises DataError naming what is wrong with it."""
    try:
        said = json.loads(content)
        if said["format"] != JOB_FORMAT:
            raise DataError(f"job.json: format is {said['format']!r}, this version reads {JOB_FORMAT}")
        manifest = said["champion"]
        if (manifest is None) != (champion is None):
            raise DataError("job.json: the champion's manifest and champion.onnx must be given together")
        desk = DeskTerms.from_json(said)
        return Job(
            spec=ModelSpec.model_validate_json(json.dumps(said["spec"])),
            training=desk.training,
            execution=desk.execution,
            top_k=desk.top_k,
            scope=desk.scope,
            as_of=parse_time(said["as_of"]),
            effective_at=parse_time(said["effective_at"]),
            bars_sha256=str(said["bars_sha256"]),
            champion=None if manifest is None or champion is None else (manifest, champion),
        )
    except ValidationError as error:
        raise DataError(f"job.json: {first_problem(error)}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"job.json: cannot be read: {error!r}") from error


def manifest_bytes(manifest: Mapping[str, Any]) -> bytes:
    """``manifest.json``; raises ArtifactError where the manifest is not JSON."""
    try:
        return (json.dumps(manifest, sort_keys=True, indent=1, allow_nan=False) + "\n").encode()
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"model {manifest.get('model', '?')}: the manifest cannot be written as JSON: {error}") from error
