"""A version that came back from a training is looked at anew, by the desk, before it is believed.

The container that trained it may be anybody's. So the desk writes the version's manifest itself, from the job, the bars and the artifact,
and refuses one that says anything else. It takes the trainer's word only for what the artifact does not show: how many rounds it was
fitted for, by how much export and trainer differ, what an output that is no return is worth, and what it was computed with. Each of these
must be something that a training can have said.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Never, TypeGuard

from tickless.alpha.onnx_model import artifact_sha256
from tickless.bars import Panel
from tickless.errors import ArtifactError
from tickless.learn.challenge import Exported, Terms, calibrated, linear_beside, open_artifact, slices_of, stated_worth
from tickless.learn.dataset import Split
from tickless.learn.fit_spec import GruFit, TreeFit
from tickless.learn.gates import GateDecision
from tickless.learn.onnx_export import TOLERANCE
from tickless.learn.registry import version_name
from tickless.learn.spec import ModelSpec
from tickless.learn.train import OUTPUTS, library_names, platform_facts
from tickless.learn.training_files import Job, manifest_bytes
from tickless.learn.training_run import Features, MadeWith, judged, lay_ground, prepare
from tickless.learn.worth import Worth
from tickless.types import iso

_REL, _ABS = 1e-4, 1e-6
"""How far two processors' measures of the same version may lie apart."""
_DECIMALS = re.compile(r"-?\d+\.\d+")
"""A measure in a sentence: it may differ by one in its last place."""
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
"""A version of a library, or the name of a processor."""
_LINE_STEPS = 50
"""Linear models are fitted in at most so many steps."""
_SHOWN = 200
_MISSING = object()
_MEASURED = frozenset(
    {
        "measures",
        "class_measures",
        "champion_measures",
        "champion_class_measures",
        "baseline",
        "calibration",
        "drift_reference",
        "gate",
    }
)
"""What comes of the model's numbers, and of fits to them; all else is the same on every processor, or told."""


@dataclass(frozen=True)
class Told:
    """What only the trainer can say, and is believed."""

    rounds: int
    export_difference: float
    worth: Worth
    made_with: MadeWith


def check_version(job: Job, panel: Panel, manifest: Mapping[str, Any], artifact: bytes) -> GateDecision:
    """What the gates say of a version, found anew.

    Raises ArtifactError where the manifest says anything else than the desk finds, DataError or LeakError where nothing could have been
    trained on these bars.
    """
    spec = job.spec
    asked = {
        "model": spec.name,
        "version": version_name(job.as_of),
        "spec": spec.model_dump(mode="json"),
        "trained_at": iso(job.as_of),
        "effective_at": iso(job.effective_at),
        "sha256": artifact_sha256(artifact),
    }
    who = f"model {asked['model']}@{asked['version']}"
    said = json.loads(manifest_bytes(manifest))
    for key, value in asked.items():
        _same(who, key, said.get(key, _MISSING), value)
    features = Features.of_rotation(panel.timeframe, job.scope.universe.max_gap_bars)
    ground = lay_ground(features.make(panel), panel, job.as_of, features, job.training.seed)
    terms = Terms(job.training, job.execution, job.top_k, job.as_of, job.effective_at, panel.step_ms, spec, job.scope)
    data = prepare(ground.table, ground.panel, terms)
    _same(who, "data_sha256", said.get("data_sha256", _MISSING), data.split.sha256)
    told = _told(said, terms, who)
    version = judged(_rebuilt(artifact, told, data.split, terms), ground, data, terms, job.incumbent(), told.made_with)
    found = json.loads(manifest_bytes(version.manifest))
    for key in sorted({*said, *found}):
        _same(who, key, said.get(key, _MISSING), found.get(key, _MISSING), measured=key in _MEASURED)
    return version.gate


def _rebuilt(artifact: bytes, told: Told, split: Split, terms: Terms) -> Exported:
    """The version as its trainer had it, but for the trainer's own model; calibration and linear baseline are fitted here."""
    model = calibrated(open_artifact(artifact, split, terms), artifact, split, terms)
    baseline, baseline_worth = linear_beside(slices_of(split, terms.spec), split, terms, told.worth)
    output = OUTPUTS[terms.spec.algorithm]
    return Exported(artifact, model, output, told.worth, told.rounds, told.export_difference, baseline, baseline_worth)


def _told(said: Mapping[str, Any], terms: Terms, who: str) -> Told:
    """What a manifest says that nobody but its trainer can know; raises ArtifactError for what no training can have said."""
    spec, rounds, difference = terms.spec, said.get("rounds"), said.get("export_difference")
    if isinstance(rounds, bool) or not isinstance(rounds, int) or not 0 <= rounds <= _most_rounds(spec):
        _refuse(who, "rounds", rounds, f"a whole number from 0 to {_most_rounds(spec)}")
    if not _is_number(difference) or not 0.0 <= difference <= TOLERANCE:
        _refuse(who, "export_difference", difference, f"a number from 0 to {TOLERANCE:g}")
    libraries = _words(said, "libraries", library_names(spec), who)
    made_with = MadeWith(libraries, _words(said, "platform", frozenset(platform_facts()), who))
    return Told(rounds, float(difference), _worth(said.get("worth"), terms, who), made_with)


def _most_rounds(spec: ModelSpec) -> int:
    match spec.fit:
        case TreeFit():
            return spec.fit.rounds
        case GruFit():
            return spec.fit.epochs
    return _LINE_STEPS


def _worth(said: Any, terms: Terms, who: str) -> Worth:
    """What an output is worth: as its label says where that is so, else the trainer's line, which must not fall."""
    stated = stated_worth(OUTPUTS[terms.spec.algorithm], terms)
    if stated is not None:
        return stated
    if not isinstance(said, Mapping) or said.keys() != {"slope", "intercept"} or not all(map(_is_number, said.values())):
        _refuse(who, "worth", said, "a slope and an intercept")
    if said["slope"] < 0.0:
        _refuse(who, "worth", said, "a line that does not fall")
    return Worth(float(said["slope"]), float(said["intercept"]))


def _words(said: Mapping[str, Any], key: str, names: frozenset[str], who: str) -> dict[str, str]:
    found = said.get(key)
    if not isinstance(found, Mapping) or found.keys() != names:
        _refuse(who, key, found, f"one entry each of {', '.join(sorted(names))}")
    for name, word in found.items():
        if not isinstance(word, str) or not _WORD.fullmatch(word):
            _refuse(who, f"{key}.{name}", word, "a version or a name")
    return dict(found)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _refuse(who: str, key: str, said: Any, wanted: str) -> Never:
    raise ArtifactError(f"{who}: {key} is {_shown(said)} in the manifest, and must be {wanted}")


def _same(who: str, key: str, said: Any, found: Any, *, measured: bool = False) -> None:
    """Raise ArtifactError at the first difference between what a manifest says and what was found."""
    if isinstance(found, Mapping) and isinstance(said, Mapping):
        for name in sorted({*said, *found}):
            _same(who, f"{key}.{name}", said.get(name, _MISSING), found.get(name, _MISSING), measured=measured)
    elif isinstance(found, list) and isinstance(said, list) and len(said) == len(found):
        for place, (one, other) in enumerate(zip(said, found, strict=True)):
            _same(who, f"{key}[{place}]", one, other, measured=measured)
    # True is not 1 here: it would be read as something else.
    elif not (type(said) is type(found) and (said == found or (measured and _near(said, found)))):
        raise ArtifactError(f"{who}: {key} is {_shown(said)} in the manifest, and {_shown(found)} when the desk looks")


def _near(said: Any, found: Any) -> bool:
    """Whether two values of one type may be the same measure on two processors."""
    if isinstance(found, float):
        return math.isclose(said, found, rel_tol=_REL, abs_tol=_ABS)
    return isinstance(found, str) and _same_sentence(said, found)


def _same_sentence(said: str, found: str) -> bool:
    """Whether two sentences differ by no more than the last place of their measures."""
    if _DECIMALS.split(said) != _DECIMALS.split(found):
        return False
    pairs = zip(_DECIMALS.findall(said), _DECIMALS.findall(found), strict=True)
    return all(abs(float(one) - float(other)) <= 1.5 * 10.0 ** -len(other.partition(".")[2]) for one, other in pairs)


def _shown(value: Any) -> str:
    if value is _MISSING:
        return "missing"
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
