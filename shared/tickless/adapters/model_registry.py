"""The registry of models over an object store; S3, a folder and memory share it.

Layout: ``<name>/<version>/artifact.onnx``, ``…/card.md``, ``…/manifest.json``, and ``<name>/champion.json``. The manifest is written last:
a version without one does not exist, so a training that died half-way leaves nothing behind that could be used.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from tickless.adapters.object_store import ObjectStore
from tickless.errors import ArtifactError, LedgerError
from tickless.learn.card import render_card
from tickless.ports import ModelVersion, Promotion
from tickless.types import iso, parse_time

_WORD = re.compile(r"[A-Za-z0-9_.-]+")
_HEAD = 12


class ModelRegistry:
    """The ModelStore port over an object store. Nothing is cached: a damaged object is seen at the next read."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def names(self) -> Sequence[str]:
        """See ``ModelStore.names``."""
        parts = (key.split("/") for key in self._objects.keys(""))
        return sorted({part[0] for part in parts if len(part) == 3 and part[2] == "manifest.json"})

    def versions(self, name: str) -> Sequence[ModelVersion]:
        """See ``ModelStore.versions``: by the manifest's ``effective_at`` where it has one, then by version. Raises ArtifactError."""
        parts = (key.split("/") for key in self._objects.keys(f"{_word(name, 'model name')}/"))
        found = [self.manifest(name, part[1]) for part in parts if len(part) == 3 and part[2] == "manifest.json"]
        return sorted(found, key=lambda version: (str(version.manifest.get("effective_at", "")), version.version))

    def promotions(self, name: str) -> Sequence[Promotion]:
        """See ``ModelStore.promotions``; raises ArtifactError where the pointer cannot be read."""
        return self._champion(name)[0]

    def manifest(self, name: str, version: str) -> ModelVersion:
        """See ``ModelStore.manifest``."""
        found = self._objects.get(_manifest_key(name, version))
        if found is None:
            raise ArtifactError(f"model {name}@{version}: no manifest")
        content = _parse(found[0], f"model {name}@{version}: manifest.json")
        if not isinstance(content.get("sha256"), str):
            raise ArtifactError(f"model {name}@{version}: manifest.json has no sha256")
        return ModelVersion(name, version, content)

    def artifact(self, version: ModelVersion) -> bytes:
        """See ``ModelStore.artifact``."""
        found = self._objects.get(_artifact_key(version.name, version.version))
        if found is None:
            raise ArtifactError(f"model {version.label}: no artifact")
        promised, actual = str(version.manifest.get("sha256", "")), sha256(found[0]).hexdigest()
        if actual != promised:
            raise ArtifactError(f"model {version.label}: the artifact's sha256 is {actual[:_HEAD]}…, its manifest says {promised[:_HEAD]}…")
        return found[0]

    def register(self, name: str, version: str, manifest: Mapping[str, Any], artifact: bytes) -> ModelVersion:
        """See ``ModelStore.register``; ``sha256`` is added to the manifest, or checked where it is there."""
        digest = sha256(artifact).hexdigest()
        if manifest.get("sha256", digest) != digest:
            raise ArtifactError(
                f"model {name}@{version}: the artifact's sha256 is {digest[:_HEAD]}…, its manifest says {manifest['sha256']!r}"
            )
        text = _text({**manifest, "sha256": digest}, f"model {name}@{version}: manifest")
        self._put_artifact(name, version, artifact)
        self._objects.put_if(_card_key(name, version), render_card(json.loads(text)).encode(), None)  # One that is there says the same.
        key = _manifest_key(name, version)
        if not self._objects.put_if(key, text, None):
            stored = self._objects.get(key)
            if stored is None or stored[0] != text:
                raise ArtifactError(f"model {name}@{version}: registered before with another manifest; versions are immutable")
        return ModelVersion(name, version, json.loads(text))

    def promote(self, name: str, promotion: Promotion) -> None:
        """See ``ModelStore.promote``. Promoting what was promoted last in the same words changes nothing, so a retry is safe.

        Raises ArtifactError for a version that is not registered.
        """
        self.manifest(name, promotion.version)
        promotions, tag = self._champion(name)
        if promotions and promotions[-1] == promotion:
            return
        rows = [_row(entry) for entry in (*promotions, promotion)]
        text = _text({"promotions": rows}, f"model {name}: champion.json")
        if not self._objects.put_if(_champion_key(name), text, tag):
            raise LedgerError(f"model {name}: champion.json changed meanwhile; {promotion.version} was not promoted")

    def _champion(self, name: str) -> tuple[tuple[Promotion, ...], str | None]:
        found = self._objects.get(_champion_key(name))
        if found is None:
            return (), None
        content = _parse(found[0], f"model {name}: champion.json")
        try:
            return tuple(_promotion(row) for row in content["promotions"]), found[1]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(f"model {name}: champion.json cannot be read: {error!r}") from error

    def _put_artifact(self, name: str, version: str, artifact: bytes) -> None:
        key = _artifact_key(name, version)
        if self._objects.put_if(key, artifact, None):
            return
        stored = self._objects.get(key)
        if stored is not None and stored[0] == artifact:
            return
        registered = self._objects.get(_manifest_key(name, version)) is not None
        if registered or stored is None or not self._objects.put_if(key, artifact, stored[1]):
            raise ArtifactError(f"model {name}@{version}: registered before with another artifact; versions are immutable")


def _word(value: str, what: str) -> str:
    if not _WORD.fullmatch(value) or not value.strip("."):
        raise ArtifactError(f"{what} {value!r}: only letters, 0-9, '_', '.' and '-' are allowed")
    return value


def _manifest_key(name: str, version: str) -> str:
    return f"{_word(name, 'model name')}/{_word(version, 'model version')}/manifest.json"


def _artifact_key(name: str, version: str) -> str:
    return f"{_word(name, 'model name')}/{_word(version, 'model version')}/artifact.onnx"


def _card_key(name: str, version: str) -> str:
    return f"{_word(name, 'model name')}/{_word(version, 'model version')}/card.md"


def _champion_key(name: str) -> str:
    return f"{_word(name, 'model name')}/champion.json"


def _parse(content: bytes, what: str) -> dict[str, Any]:
    try:
        parsed = json.loads(content)
    except ValueError as error:
        raise ArtifactError(f"{what} is not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise ArtifactError(f"{what} is not a JSON object")
    return parsed


def _text(content: Mapping[str, Any], what: str) -> bytes:
    try:
        return (json.dumps(content, sort_keys=True, indent=2, allow_nan=False) + "\n").encode()
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"{what} cannot be written as JSON: {error}") from error


def _row(promotion: Promotion) -> dict[str, str]:
    return {
        "version": promotion.version,
        "effective_at": iso(promotion.effective_at),
        "promoted_at": iso(promotion.promoted_at),
        "reason": promotion.reason,
    }


def _promotion(row: Mapping[str, str]) -> Promotion:
    return Promotion(row["version"], parse_time(row["effective_at"]), parse_time(row["promoted_at"]), row["reason"])
