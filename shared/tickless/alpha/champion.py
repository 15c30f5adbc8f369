"""Which model a tick may use: the champion of its time, refused where it is damaged, too old, or knows the future."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from tickless.alpha.onnx_model import OnnxModel, artifact_sha256, manifest_field
from tickless.errors import ArtifactError
from tickless.types import iso, parse_time


class Promoted(Protocol):
    """An entry of a champion pointer's history."""

    @property
    def version(self) -> str:
        """The version; empty where the entry withdraws the champion and names no other."""
        ...

    @property
    def effective_at(self) -> datetime:
        """From when on the version may be used."""
        ...


P = TypeVar("P", bound=Promoted)

_LOADED: dict[str, OnnxModel] = {}
"""Sessions of this process by sha256: a warm Lambda parses an artifact once. Oldest first, at most ``_KEEP``."""
_KEEP = 16


def champion_at(promotions: Sequence[P], at: datetime) -> P | None:
    """The last entry of a champion pointer's history that is effective at or before ``at``; None where there is none, or it names nobody.

    The order of promotion decides, not ``effective_at``: a rollback written after a promotion wins even where that one takes effect later.
    """
    last = next((entry for entry in reversed(promotions) if entry.effective_at <= at), None)
    return last if last is not None and last.version else None


def check_manifest(manifest: Mapping[str, Any], at: datetime, max_age_days: float) -> None:
    """Refuse a model that a tick at ``at`` must not use.

    Raises ArtifactError when the manifest lacks a time, when data, labels or ``effective_at`` reach past the tick, or when
    the data end more than ``max_age_days`` before it.
    """
    who = f"model {manifest_field(manifest, 'model')}@{manifest_field(manifest, 'version')}"
    for key in ("data_until", "label_until", "effective_at"):
        if _time(manifest, key, who) > at:
            raise ArtifactError(f"{who}: {key} {manifest[key]} lies after the tick at {iso(at)}")
    age = at - _time(manifest, "data_until", who)
    if age > timedelta(days=max_age_days):
        days = age / timedelta(days=1)
        raise ArtifactError(f"{who}: its data end {days:.1f} days before the tick at {iso(at)}; max_model_age_days is {max_age_days:g}")


def load_champion(
    name: str, manifest: Mapping[str, Any], artifact: bytes, *, at: datetime, max_age_days: float, features: Sequence[str]
) -> OnnxModel:
    """The checked model ``name`` for a tick at ``at`` whose inputs are ``features``, in order.

    The bytes are hashed at every call, so that damage in the store is seen by the next tick; only the parsed session is kept.
    Raises ArtifactError, see ``check_manifest`` and ``OnnxModel.from_bytes``.
    """
    if manifest_field(manifest, "model") != name:
        raise ArtifactError(f"model {name}: the manifest is that of {manifest['model']!r}")
    check_manifest(manifest, at, max_age_days)
    model = load_model(manifest, artifact)
    model.require_features(features)
    return model


def load_model(manifest: Mapping[str, Any], artifact: bytes) -> OnnxModel:
    """``OnnxModel.from_bytes`` with a process-wide cache by sha256. Raises ArtifactError."""
    sha256 = artifact_sha256(artifact)
    kept = _LOADED.get(sha256)
    if kept is not None and kept.manifest == manifest:
        return kept
    model = OnnxModel.from_bytes(artifact, manifest)
    while len(_LOADED) >= _KEEP:
        del _LOADED[next(iter(_LOADED))]
    _LOADED[sha256] = model
    return model


def _time(manifest: Mapping[str, Any], key: str, who: str) -> datetime:
    text = manifest_field(manifest, key)
    try:
        return parse_time(str(text))
    except ValueError as error:
        raise ArtifactError(f"{who}: {key} {text!r} is not a time") from error
