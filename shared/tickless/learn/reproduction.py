"""A registered version, made again from its manifest and the bars, and held against what was registered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tickless.alpha.onnx_model import OnnxModel
from tickless.bars import Panel
from tickless.errors import DataError
from tickless.learn.recipe import Recipe, bars_sha256
from tickless.learn.training_files import manifest_bytes
from tickless.learn.training_job import train_on_bars

MADE_WITH = ("libraries", "platform")
"""What a version was computed with: another machine may have others, and come to the same."""
AGAINST_CHAMPION = ("champion", "champion_measures", "champion_class_measures", "gate")
"""What depends on the champion of the time, too."""


@dataclass(frozen=True)
class Reproduction:
    """What came of making a version again."""

    sha256: str
    """Of the artifact that came of it."""
    registered_sha256: str
    differences: tuple[str, ...]
    """Where the two manifests differ, as dotted keys, but for what was computed with, and the artifact's hash."""
    made_with: tuple[str, ...]
    """Libraries and the like whose versions differ, as ``numpy 2.1.0, registered with 2.0.2``."""

    @property
    def same(self) -> bool:
        """Whether the artifact is the same, byte for byte, and its manifest says the same of it."""
        return self.sha256 == self.registered_sha256 and not self.differences


def reproduce(manifest: Mapping[str, Any], panel: Panel, champion: OnnxModel | None) -> Reproduction:
    """Train again what a manifest describes, on ``panel``, beside ``champion``, the version that the manifest names as such.

    Without the champion what depends on it is not compared. Raises ArtifactError for a manifest that does not say how, DataError for bars
    that are not those the version was made from.
    """
    recipe = Recipe.read(manifest)
    name = recipe.spec.name
    found = bars_sha256(panel)
    if found != recipe.bars_sha256:
        raise DataError(f"these are not the bars that {name} was made from: their sha256 is {found}, the manifest's {recipe.bars_sha256}")
    result = train_on_bars(
        panel,
        [recipe.spec],
        {name: champion},
        training=recipe.training,
        execution=recipe.execution,
        top_k=recipe.top_k,
        scope=recipe.scope,
        as_of=recipe.as_of,
        effective_at=recipe.effective_at,
    )
    if not result.trained:
        raise DataError(f"model {name}: {result.skipped[name]}")
    said, again = json.loads(manifest_bytes(manifest)), json.loads(manifest_bytes(result.trained[0].manifest))
    left_out = {"sha256", *MADE_WITH, *(AGAINST_CHAMPION if recipe.champion and champion is None else ())}
    one, other = ({key: value for key, value in content.items() if key not in left_out} for content in (said, again))
    return Reproduction(again["sha256"], said["sha256"], tuple(_differing(one, other)), tuple(_versions(said, again)))


def _differing(one: Any, other: Any, path: str = "") -> list[str]:
    """The dotted keys at which two JSON values differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = sorted({*one, *other})
        return [found for key in keys for found in _differing(one.get(key), other.get(key), f"{path}.{key}" if path else key)]
    return [] if one == other else [path]


def _versions(said: Mapping[str, Any], again: Mapping[str, Any]) -> list[str]:
    registered, now = ({name: word for key in MADE_WITH for name, word in content[key].items()} for content in (said, again))
    return [
        f"{name} {now.get(name, 'none')}, registered with {registered.get(name, 'none')}"
        for name in sorted({*registered, *now})
        if registered.get(name) != now.get(name)
    ]
