"""``tickless models reproduce``: make a registered version again from its manifest and recorded bars, and say whether it is the same."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from tickless.cli.deployed import Stage
from tickless.cli.model_folders import RegistryOf, open_registry, registered_version
from tickless.cli.options import Data, Json
from tickless.cli.printing import note, print_json
from tickless.errors import ArtifactError, InputError

if TYPE_CHECKING:
    from tickless.adapters.model_registry import ModelRegistry
    from tickless.alpha.onnx_model import OnnxModel

DIFFERENT = 1
"""The exit code where what came of it is not what was registered."""


def reproduce(
    model: Annotated[str, typer.Argument(help="name@version.")],
    data: Data,
    models: RegistryOf = None,
    stage: Stage = "dev",
    json_: Json = False,
) -> None:
    """Train a version again, from its manifest and the bars it names, and compare: the artifact byte for byte, and the manifest.

    Exit code 1 where they differ, 2 where there is no such version or the bars are not those that its manifest names. Changes nothing.

    Example: tickless models reproduce rotation_6h@20240601T0000Z --data market --models out/models
    """
    from tickless.adapters.folder_market import load_market
    from tickless.learn.recipe import Recipe
    from tickless.learn.reproduction import reproduce as make_again

    name, at, version = model.partition("@")
    if not at:
        raise InputError(f"model {model!r}: name a version as {model}@VERSION")
    registry = open_registry(models, stage)
    registered = registry.manifest(name, registered_version(registry, name, version))
    registry.artifact(registered)  # What is damaged is not what was made.
    recipe = Recipe.read(registered.manifest)
    market, _ = load_market(data, recipe.timeframe, now=datetime.now(UTC))
    panel = market.bars(recipe.pairs, recipe.timeframe, recipe.start, recipe.end)
    champion = _champion(registry, recipe.champion)
    if recipe.champion and champion is None:
        note(f"{recipe.champion}, the champion it was compared with, cannot be read here: what depends on it is not compared")
    made = make_again(registered.manifest, panel, champion)
    if json_:
        print_json(
            {
                "model": registered.label,
                "same": made.same,
                "sha256": made.sha256,
                "registered_sha256": made.registered_sha256,
                "differences": list(made.differences),
                "made_with": list(made.made_with),
            }
        )
    elif made.same:
        typer.echo(f"{registered.label}: the same artifact, byte for byte (sha256 {made.sha256}), and the same manifest")
    else:
        typer.echo(f"{registered.label}: {_what_differs(made.sha256, made.registered_sha256, made.differences)}")
    for sentence in made.made_with:
        note(f"made with {sentence}")
    if not made.same:
        raise typer.Exit(DIFFERENT)


def _champion(registry: ModelRegistry, label: str | None) -> OnnxModel | None:
    from tickless.alpha.champion import load_model

    name, _, version = (label or "").partition("@")
    try:
        found = registry.manifest(name, version) if version else None
        return load_model(found.manifest, registry.artifact(found)) if found is not None else None
    except ArtifactError:
        return None


def _what_differs(sha256: str, registered: str, differences: tuple[str, ...]) -> str:
    artifact = "the same artifact" if sha256 == registered else f"another artifact (sha256 {sha256}, registered {registered})"
    manifest = f"; the manifests differ in {', '.join(differences)}" if differences else ""
    return artifact + manifest
