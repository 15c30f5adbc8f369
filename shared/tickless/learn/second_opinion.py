"""A version that came back from a training is measured anew, by the desk, before it is believed.

The container that trained it may be anybody's. What it says of itself, its sha256, the data it was fitted on, its measures and whether its
gates opened, must be what the desk finds on the same bars.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tickless.alpha.onnx_model import OnnxModel
from tickless.bars import Panel
from tickless.errors import ArtifactError
from tickless.features import rotation as rotation_features
from tickless.learn.challenge import Terms, judge_model, worth_of
from tickless.learn.gates import GateDecision
from tickless.learn.registry import version_name
from tickless.learn.training_files import Job
from tickless.learn.training_run import prepare
from tickless.learn.worth import Worth
from tickless.types import iso

_REL, _ABS = 1e-4, 1e-6
"""How far two processors' measures of the same version may lie apart."""


def check_version(job: Job, panel: Panel, manifest: Mapping[str, Any], artifact: bytes) -> GateDecision:
    """What the gates say of a version, found anew. Raises ArtifactError where the manifest says anything else."""
    spec = job.spec
    asked = {
        "model": spec.name,
        "version": version_name(job.as_of),
        "spec": spec.model_dump(mode="json"),
        "trained_at": iso(job.as_of),
        "effective_at": iso(job.effective_at),
    }
    who = f"model {asked['model']}@{asked['version']}"
    for key, value in asked.items():
        _same(who, key, manifest.get(key), value)
    model = OnnxModel.from_bytes(artifact, manifest)
    table = rotation_features.build_features(panel, job.scope.universe.max_gap_bars)
    terms = Terms(job.training, job.execution, job.top_k, job.as_of, job.effective_at, panel.step_ms, spec, job.scope)
    split = prepare(table, panel, terms).split
    _same(who, "data_sha256", manifest.get("data_sha256"), {"fit": split.fit.sha256, "validation": split.validation.sha256})
    output: Any = model.output  # OnnxModel lets no other in.
    judged = judge_model(model, _worth(manifest, who), output, split, terms, job.incumbent())
    gate = judged.gate
    baseline = manifest.get("baseline")
    if spec.gates.beat_linear and isinstance(baseline, Mapping):
        # The linear baseline itself did not come back; what was said of it can only be believed.
        gate = gate.also(bool(baseline.get("beaten")), str(baseline.get("sentence", "")))
    _same(who, "measures", manifest.get("measures"), judged.mine.measures.as_json())
    _same(who, "gate.promote", (manifest.get("gate") or {}).get("promote"), gate.promote)
    return gate


def _worth(manifest: Mapping[str, Any], who: str) -> Worth:
    try:
        return worth_of(manifest)
    except (TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{who}: worth cannot be read: {error!r}") from error


def _same(who: str, key: str, said: Any, found: Any) -> None:
    """Raise ArtifactError at the first difference between what a manifest says and what was found."""
    if isinstance(found, Mapping) and isinstance(said, Mapping) and said.keys() == found.keys():
        for name, value in found.items():
            _same(who, f"{key}.{name}", said[name], value)
    elif isinstance(found, list | tuple) and isinstance(said, list | tuple) and len(said) == len(found):
        for place, (one, other) in enumerate(zip(said, found, strict=True)):
            _same(who, f"{key}[{place}]", one, other)
    elif not _equal(said, found):
        raise ArtifactError(f"{who}: {key} is {said!r} in the manifest, and {found!r} when the desk looks")


def _equal(said: Any, found: Any) -> bool:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (said, found))
    return math.isclose(said, found, rel_tol=_REL, abs_tol=_ABS) if numbers else bool(said == found)
