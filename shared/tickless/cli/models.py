"""``tickless models``: the registry of models, in a folder or in the bucket of a deployed desk."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tickless.cli.deployed import Stage, find_desk
from tickless.cli.options import Json
from tickless.cli.printing import print_json, print_table
from tickless.errors import ArtifactError, InputError
from tickless.types import iso, parse_time

if TYPE_CHECKING:
    from tickless.adapters.model_registry import ModelRegistry
    from tickless.ports import ModelVersion, Promotion

models_app = typer.Typer(no_args_is_help=True, help="Registered models: which there are, which is used, what each has proved.")

Models = Annotated[Path | None, typer.Option("--models", help="A model folder; without it, the bucket of the deployed desk.")]


@models_app.command("list")
def list_(models: Models = None, stage: Stage = "dev", json_: Json = False) -> None:
    """List every version of every model, and which one is the champion now.

    Example: tickless models list --models out/models
    """
    registry, now = _registry(models, stage), datetime.now(UTC)
    rows: list[dict[str, Any]] = []
    for name in registry.names():
        promotions = registry.promotions(name)
        rows += [_summary(version, promotions, now) for version in registry.versions(name)]
    if json_:
        print_json(rows)
    elif not rows:
        typer.echo("no model is registered")
    else:
        print_table("models", tuple(rows[0]), [tuple(row.values()) for row in rows], right=("rank_ic", "rank_ic_t", "top_k_net_frac"))


@models_app.command("show")
def show(
    model: Annotated[str, typer.Argument(help="name for the champion, or name@version.")],
    models: Models = None,
    stage: Stage = "dev",
    json_: Json = False,
) -> None:
    """Show one version: its manifest, its promotions, and whether its artifact is the one the manifest names (exit code 3 if not).

    Example: tickless models show rotation_6h@20240601T0210Z --models out/models
    """
    registry = _registry(models, stage)
    name, at, version = model.partition("@")
    promotions = registry.promotions(_known(registry, name))
    version = version if at else _champion(name, promotions)
    found = registry.manifest(name, version)
    size = len(registry.artifact(found))
    facts = {
        "model": found.label,
        "artifact_bytes": size,
        "promotions": [
            {"effective_at": iso(entry.effective_at), "promoted_at": iso(entry.promoted_at), "reason": entry.reason}
            for entry in promotions
            if entry.version == version
        ],
        "manifest": dict(found.manifest),
    }
    if json_:
        print_json(facts)
        return
    rows: list[tuple[str, Any]] = [("artifact", f"{size} bytes, sha256 as the manifest says")]
    rows += [("promoted", f"{iso(entry.promoted_at)}: {entry.reason}") for entry in promotions if entry.version == version]
    rows += [(key, value) for key, value in _flat(found.manifest)]
    print_table(found.label, ("field", "value"), rows)


@models_app.command("card")
def card(
    model: Annotated[str, typer.Argument(help="name for the champion, or name@version.")],
    models: Models = None,
    stage: Stage = "dev",
) -> None:
    """Print a version's card in Markdown: what it is, what it was made from, and its measures beside what they have to beat.

    Example: tickless models card rotation_6h@20240601T0000Z --models out/models
    """
    from tickless.learn.card import render_card

    registry = _registry(models, stage)
    name, at, version = model.partition("@")
    promotions = registry.promotions(_known(registry, name))
    typer.echo(render_card(registry.manifest(name, version if at else _champion(name, promotions)).manifest), nl=False)


@models_app.command("promote")
def promote(
    model: Annotated[str, typer.Argument(help="name@version.")],
    models: Models = None,
    stage: Stage = "dev",
    reason: Annotated[str, typer.Option(help="Why; kept with the promotion.")] = "by hand",
    json_: Json = False,
) -> None:
    """Make a version the champion, whatever its gates said: ticks from its effective_at on use it, until another is promoted.

    Example: tickless models promote rotation_6h@20240601T0000Z --models out/models
    """
    registry = _registry(models, stage)
    name, at, version = model.partition("@")
    if not at:
        raise InputError(f"model {model!r}: name a version as {model}@VERSION")
    found = registry.manifest(_known(registry, name), version)
    registry.artifact(found)  # Refused here where it is damaged, and not at the next tick.
    _promote(registry, found, parse_time(str(found.manifest["effective_at"])), reason, json_=json_)


@models_app.command("rollback")
def rollback(
    name: Annotated[str, typer.Argument(help="The model's name.")],
    models: Models = None,
    stage: Stage = "dev",
    reason: Annotated[str, typer.Option(help="Why; kept with the promotion.")] = "rollback by hand",
    json_: Json = False,
) -> None:
    """Go back to the champion before the present one, from now on.

    Example: tickless models rollback rotation_6h --stage prod
    """
    registry, now = _registry(models, stage), datetime.now(UTC)
    promotions = registry.promotions(_known(registry, name))
    champion = _champion(name, promotions)
    before = [entry.version for entry in promotions if entry.version != champion and entry.effective_at <= now]
    if not before:
        raise InputError(f"model {name}: {champion} is the only champion there has been")
    _promote(registry, registry.manifest(name, before[-1]), now, reason, json_=json_)


def _promote(registry: ModelRegistry, found: ModelVersion, effective_at: datetime, reason: str, *, json_: bool) -> None:
    from tickless.ports import Promotion

    registry.promote(found.name, Promotion(found.version, effective_at, datetime.now(UTC), reason))
    facts = {"model": found.label, "effective_at": iso(effective_at), "reason": reason}
    if json_:
        print_json(facts)
    else:
        typer.echo(f"{found.label} is the champion for ticks from {iso(effective_at)} on")


def _registry(models: Path | None, stage: str) -> ModelRegistry:
    from tickless.adapters.folder_models import FolderModelStore

    if models is None:
        return find_desk(stage).cloud.models
    if not models.is_dir():
        raise InputError(f"--models {models}: no such folder")
    return FolderModelStore(models)


def _known(registry: ModelRegistry, name: str) -> str:
    names = registry.names()
    if name not in names:
        raise InputError(f"model {name!r}: not registered; there are {', '.join(names) or 'none'}")
    return name


def _champion(name: str, promotions: Any) -> str:
    from tickless.alpha.champion import champion_at

    promotion = champion_at(promotions, datetime.now(UTC))
    if promotion is None:
        raise ArtifactError(f"model {name}: has no champion; name a version as {name}@VERSION")
    return str(promotion.version)


def _summary(version: ModelVersion, promotions: Any, now: datetime) -> dict[str, Any]:
    from tickless.alpha.champion import champion_at

    champion: Promotion | None = champion_at(promotions, now)
    promoted = [entry for entry in promotions if entry.version == version.version]
    status = "challenger"
    if champion is not None and champion.version == version.version:
        status = "champion"
    elif promoted:
        status = "promoted" if promoted[-1].effective_at > now else "former champion"
    manifest = version.manifest
    measures = manifest.get("measures") or {}
    shown = {key: measures.get(key) for key in ("rank_ic", "rank_ic_t", "top_k_net_frac")}
    return {
        "model": version.name,
        "version": version.version,
        "status": status,
        "effective_at": manifest.get("effective_at"),
        "data_until": manifest.get("data_until"),
        **{key: round(value, 6) if isinstance(value, float) else value for key, value in shown.items()},
    }


def _flat(content: Any, path: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in content.items():
        if isinstance(value, dict) and value:
            rows += _flat(value, f"{path}{key}.")
        else:
            rows.append((f"{path}{key}", ", ".join(map(str, value)) if isinstance(value, list) else value))
    return rows
