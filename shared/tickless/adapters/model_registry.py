"""The registry of models over an object store; S3, a folder and memory share it.

Layout: ``<name>/<version>/artifact.onnx``, ``…/card.md``, ``…/manifest.json``, and ``<name>/champion.json``. The manifest is written last:
a version without one does not exist, so a training that died half-way leaves nothing behind that could be used.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from typing import Any

from tickless.adapters.object_store import ObjectStore
from tickless.alpha.model_life import FORMER, NOBODY, STAGES, LifeChange, ModelEvent, ModelLife
from tickless.errors import ArtifactError, LedgerError
from tickless.learn.card import render_card
from tickless.ports import ModelVersion, Promotion
from tickless.types import iso, parse_time

_WORD = re.compile(r"[A-Za-z0-9_.-]+")
_LIFE = "champion.json"
_OBJECT = re.compile(r"champion\.json|[A-Za-z0-9_.-]+/(artifact\.onnx|card\.md|manifest\.json)")
"""What lies below a model's name."""
_HEAD = 12
_NOTHING_DELETED = "nothing was deleted"


class ModelRegistry:
    """The ModelStore port over an object store. What is cached is known by its tag: a damaged object is seen at the next read."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._lives: dict[str, tuple[str, ModelLife]] = {}
        """By model name: the tag of the life that was parsed last, and that life."""

    def names(self) -> Sequence[str]:
        """See ``ModelStore.names``; what lies beside the models under a name that none can have is no model."""
        parts = (key.split("/") for key in self._objects.keys(""))
        return sorted({part[0] for part in parts if len(part) == 3 and part[2] == "manifest.json" and _is_word(part[0])})

    def versions(self, name: str) -> Sequence[ModelVersion]:
        """See ``ModelStore.versions``: by the manifest's ``effective_at`` where it has one, then by version. Raises ArtifactError."""
        found = [self.manifest(name, version) for version in self.version_names(name)]
        return sorted(found, key=lambda version: (str(version.manifest.get("effective_at", "")), version.version))

    def version_names(self, name: str) -> list[str]:
        """The names of all versions that have a manifest, sorted; whether it can be read is not looked at."""
        parts = (key.split("/") for key in self._objects.keys(f"{_word(name, 'model name')}/"))
        return [part[1] for part in parts if len(part) == 3 and part[2] == "manifest.json"]

    def promotions(self, name: str) -> Sequence[Promotion]:
        """See ``ModelStore.promotions``; raises ArtifactError where the pointer cannot be read."""
        return self._champion(name)[0].promotions

    def life(self, name: str) -> ModelLife:
        """See ``ModelStore.life``; raises ArtifactError where it cannot be read."""
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
        life, tag = self._champion(name)
        if not life.promotions or life.promotions[-1] != promotion:
            self._write(name, LifeChange((promotion,)), life, tag)

    def record(self, name: str, change: LifeChange, seen: ModelLife | None = None) -> None:
        """See ``ModelStore.record``. What is written there already is left out, so a retry is safe.

        Raises ArtifactError for a version that is not registered.
        """
        life, tag = self._champion(name)
        new = LifeChange(
            tuple(entry for entry in change.promotions if entry not in life.promotions),
            tuple(event for event in change.events if event not in life.events),
        )
        if new:
            self._write(name, new, life, tag, seen)

    def delete(self, name: str, versions: Sequence[str], seen: ModelLife | None = None) -> None:
        """See ``ModelStore.delete``. Of a version the manifest goes first: without one it does not exist."""
        life, tag = self._champion(name)
        if seen is not None and seen != life:
            raise LedgerError(f"model {name}: champion.json changed meanwhile; {_NOTHING_DELETED}")
        # Once more those of last time that are still there: a deletion may have died half-way.
        left = set(life.deleted).intersection(self.version_names(name))
        gone = sorted({*versions, *left})
        if not set(gone) <= set(life.deleted):
            # Who reads the life from now on sees that they are gone; who has read it before cannot write any more.
            self._put_life(name, life.without(gone), tag, _NOTHING_DELETED)
        for version in sorted({*life.deleted, *gone}):
            for key in (_manifest_key(name, version), _artifact_key(name, version), _card_key(name, version)):
                self._objects.delete(key)

    def copy_to(self, target: ModelRegistry, *, shadows: bool = True) -> None:
        """Copy every model as it is, damaged objects too: who uses one finds out, and nobody is stopped by what nobody uses.

        Without ``shadows`` the lives leave out what forecasts without trading. Raises ArtifactError where ``target`` has other content.
        """
        for key in self._objects.keys(""):
            name, _, rest = key.partition("/")
            found = self._objects.get(key) if _OBJECT.fullmatch(rest) else None
            if found is None:
                continue
            content = found[0]
            if rest == _LIFE and not shadows:
                # One that cannot be read stays as it is: the ticks refuse it.
                with suppress(ArtifactError):
                    life = self.life(name)
                    events = tuple(event for event in life.events if event.stage != "shadow")
                    content = _life_text(name, replace(life, events=events))
            if not target._objects.put_if(key, content, None):
                stored = target._objects.get(key)
                if stored is None or stored[0] != content:
                    raise ArtifactError(f"{key}: is there already, with another content")

    def _write(self, name: str, change: LifeChange, life: ModelLife, tag: str | None, seen: ModelLife | None = None) -> None:
        """Write a change of ``life``, which was read with ``tag`` before this looks at any version: one that is deleted meanwhile fails."""
        # One that goes need not be readable: what is damaged could never be taken away otherwise.
        stays = (event.version for event in change.events if event.stage != "retired" and event.role != FORMER)
        named = [*(entry.version for entry in change.promotions), *stays]
        for version in dict.fromkeys(version for version in named if version != NOBODY):
            if version in life.deleted:
                raise ArtifactError(f"model {name}@{version}: was deleted")
            self.manifest(name, version)
        last = change.promotions[-1].version or "nobody" if change.promotions else ""
        else_ = f"{last} was not promoted" if last else "nothing was written"
        if seen is not None and seen != life:
            raise LedgerError(f"model {name}: champion.json changed meanwhile; {else_}")
        self._put_life(name, life.with_(change), tag, else_)

    def _put_life(self, name: str, life: ModelLife, tag: str | None, else_: str) -> None:
        if not self._objects.put_if(_champion_key(name), _life_text(name, life), tag):
            raise LedgerError(f"model {name}: champion.json changed meanwhile; {else_}")

    def _champion(self, name: str) -> tuple[ModelLife, str | None]:
        """The model's life and the tag of the object that holds it."""
        found = self._objects.get(_champion_key(name))
        if found is None:
            return ModelLife(), None
        known = self._lives.get(name)
        if known is not None and known[0] == found[1]:
            return known[1], found[1]
        content = _parse(found[0], f"model {name}: champion.json")
        try:
            life = ModelLife(
                tuple(_promotion(row) for row in content["promotions"]),
                tuple(_event(row) for row in content.get("events", ())),
                tuple(str(version) for version in content.get("deleted", ())),
            )
        except KeyError as error:
            raise ArtifactError(f"model {name}: champion.json cannot be read: {error} is missing") from error
        except (TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(f"model {name}: champion.json cannot be read: {error}") from error
        self._lives[name] = found[1], life
        return life, found[1]

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


def _is_word(value: str) -> bool:
    return bool(_WORD.fullmatch(value) and value.strip("."))


def _word(value: str, what: str) -> str:
    if not _is_word(value):
        raise ArtifactError(f"{what} {value!r}: only letters, 0-9, '_', '.' and '-' are allowed")
    return value


def _manifest_key(name: str, version: str) -> str:
    return f"{_word(name, 'model name')}/{_word(version, 'model version')}/manifest.json"


def _artifact_key(name: str, version: str) -> str:
    return f"{_word(name, 'model name')}/{_word(version, 'model version')}/artifact.onnx"


def _card_key(name: str, version: str) -> str:
    return f"{_word(name, 'model name')}/{_word(version, 'model version')}/card.md"


def _champion_key(name: str) -> str:
    return f"{_word(name, 'model name')}/{_LIFE}"


def _parse(content: bytes, what: str) -> dict[str, Any]:
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{what} is not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise ArtifactError(f"{what} is not a JSON object")
    return parsed


def _text(content: Mapping[str, Any], what: str) -> bytes:
    try:
        return (json.dumps(content, sort_keys=True, indent=2, allow_nan=False) + "\n").encode()
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"{what} cannot be written as JSON: {error}") from error


def _life_text(name: str, life: ModelLife) -> bytes:
    content: dict[str, Any] = {
        "promotions": [_row(entry) for entry in life.promotions],
        "events": [_event_row(event) for event in life.events],
    }
    if life.deleted:
        content["deleted"] = list(life.deleted)
    return _text(content, f"model {name}: {_LIFE}")


def _named(row: Mapping[str, Any]) -> str:
    version = row["version"]
    if not isinstance(version, str):
        raise TypeError(f"version {version!r} is not text")
    return version


def _row(promotion: Promotion) -> dict[str, str]:
    return {
        "version": promotion.version,
        "effective_at": iso(promotion.effective_at),
        "promoted_at": iso(promotion.promoted_at),
        "reason": promotion.reason,
    }


def _promotion(row: Mapping[str, str]) -> Promotion:
    return Promotion(_named(row), parse_time(row["effective_at"]), parse_time(row["promoted_at"]), row["reason"])


def _event_row(event: ModelEvent) -> dict[str, Any]:
    """What says nothing is left out."""
    row = {"version": event.version, "stage": event.stage, "at": iso(event.at), "reason": event.reason, "by": event.by}
    extra: dict[str, Any] = {"role": event.role, "action": event.action, "size_frac": event.size_frac if event.size_frac != 1.0 else None}
    extra["causes"] = list(event.causes)
    return row | {key: value for key, value in extra.items() if value}


def _event(row: Mapping[str, Any]) -> ModelEvent:
    stage, size_frac = row["stage"], float(row.get("size_frac", 1.0))
    if stage not in STAGES or not 0.0 < size_frac <= 1.0:
        raise ValueError(f"an event of stage {stage!r} and size_frac {size_frac:g}")
    role, action = str(row.get("role", "")), str(row.get("action", ""))
    causes = tuple(map(str, row.get("causes", ())))
    return ModelEvent(_named(row), stage, parse_time(row["at"]), row["reason"], row["by"], role, size_frac, action, causes)
