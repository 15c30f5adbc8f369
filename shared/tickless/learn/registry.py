"""The registry's rules, pure: how a version is named and what its manifest says. The stores are adapters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tickless.alpha.onnx_model import artifact_sha256
from tickless.bars import floor_ms
from tickless.errors import ArtifactError
from tickless.learn.dataset import Samples, Split
from tickless.learn.gates import GateDecision
from tickless.learn.label_spec import is_relative
from tickless.learn.spec import ModelSpec
from tickless.learn.validate import Measures
from tickless.types import from_ms, iso, parse_time, to_ms, utc

MANIFEST_FORMAT = 1


def version_name(as_of: datetime) -> str:
    """The version trained as of a time: ``20240601T0210Z``. Sorts by time."""
    return utc(as_of).strftime("%Y%m%dT%H%MZ")


@dataclass(frozen=True)
class Lineage:
    """What a version was made from and with."""

    as_of: datetime
    effective_at: datetime
    step_ms: int
    seed: int
    libraries: Mapping[str, str]
    """Versions by library name."""
    platform: Mapping[str, str]
    """Versions of Python and of this package, and the kind of processor."""
    terms: Mapping[str, Any]
    """``recipe.terms_facts``."""
    bars: Mapping[str, Any] | None
    """``recipe.bars_facts``; None where the bars are not those of this version alone."""


@dataclass(frozen=True)
class Verdict:
    """What validation found."""

    measures: Measures
    champion: str | None
    """``name@version`` of the champion it was compared with."""
    champion_measures: Measures | None
    export_difference: float
    gate: GateDecision


def build_manifest(spec: ModelSpec, artifact: bytes, split: Split, rounds: int, lineage: Lineage, verdict: Verdict) -> dict[str, Any]:
    """A version's manifest, a JSON object without NaN. Times are ISO 8601 UTC.

    ``data_until`` is the last close that training could see, ``fit_until`` the last that the fitted rows saw (their labels included, and
    those of a calibration), ``label_until`` the last that any label saw, validation included. A tick before any of ``data_until``,
    ``label_until`` and ``effective_at`` must not use the model. With ``bars``, ``desk`` and ``spec`` the version can be made again from its
    bars (``recipe.Recipe``). A training adds what inference, the gates and later reviews read:
    ``output``, ``calibration``, ``worth``, ``class_measures``, ``baseline`` and, for drift, ``drift_reference``, which
    ``DriftReference.from_json`` reads; the rank IC to be expected is ``measures.rank_ic``.
    """
    fit, validation = split.fit, split.validation
    rows = {"train": split.train, "inner": split.inner, "fit": fit, "calibration": split.calibration, "validation": validation}
    return {
        "format": MANIFEST_FORMAT,
        "model": spec.name,
        "version": version_name(lineage.as_of),
        "sha256": artifact_sha256(artifact),
        "strategy": spec.strategy,
        "features": list(fit.features),
        "label": spec.label.kind,
        "relative": is_relative(spec.label),
        "horizon_h": spec.horizon_h,
        "trained_at": iso(lineage.as_of),
        "effective_at": iso(lineage.effective_at),
        "data_from": iso(from_ms(int(fit.start_ms[0]))),
        "data_until": iso(from_ms(floor_ms(to_ms(lineage.as_of), lineage.step_ms))),
        "fit_until": iso(from_ms(split.seen_ms)),
        "validation_from": iso(from_ms(int(validation.start_ms[0]))),
        "label_until": iso(from_ms(validation.known_ms)),
        "rows": {name: len(part) for name, part in rows.items() if part is not None},
        "pairs": len(fit.pairs),
        "rounds": rounds,
        "data_sha256": split.sha256,
        "seed": lineage.seed,
        "libraries": dict(lineage.libraries),
        "platform": dict(lineage.platform),
        **lineage.terms,
        "bars": dict(lineage.bars) if lineage.bars is not None else None,
        "spec": spec.model_dump(mode="json"),
        "measures": verdict.measures.as_json(),
        "champion": verdict.champion,
        "champion_measures": verdict.champion_measures.as_json() if verdict.champion_measures else None,
        "export_difference": verdict.export_difference,
        "gate": {"promote": verdict.gate.promote, "reasons": list(verdict.gate.reasons)},
    }


def seen_until_ms(manifest: Mapping[str, Any]) -> int:
    """Up to when a model's fit has seen data, in ms since the epoch; a manifest that does not say has seen all it could.

    Raises ArtifactError where what it says is no time.
    """
    text = manifest.get("fit_until") or manifest.get("data_until")
    try:
        return to_ms(parse_time(str(text)))
    except ValueError as error:
        who = f"model {manifest.get('model', '?')}@{manifest.get('version', '?')}"
        raise ArtifactError(f"{who}: fit_until or data_until {text!r} is not a time") from error


def unseen_by(rows: Samples, manifest: Mapping[str, Any]) -> Samples:
    """The samples that were decided after a model's fit had seen its last data."""
    return rows.between(seen_until_ms(manifest), rows.known_ms) if len(rows) else rows
