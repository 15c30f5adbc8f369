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
    from tickless.alpha.model_life import ModelLife
    from tickless.ports import ModelVersion

models_app = typer.Typer(no_args_is_help=True, help="Registered models: which there are, which is used, what each has proved.")

PERSON = "person"
"""Who decided, of what is done by hand."""
Models = Annotated[Path | None, typer.Option("--models", help="A model folder; without it, the bucket of the deployed desk.")]


@models_app.command("list")
def list_(models: Models = None, stage: Stage = "dev", json_: Json = False) -> None:
    """List every version of every model, and the stage it is in: candidate, shadow, champion or retired.

    Example: tickless models list --models out/models
    """
    registry, now = _registry(models, stage), datetime.now(UTC)
    rows: list[dict[str, Any]] = []
    for name in registry.names():
        life = registry.life(name)
        rows += [_summary(version, life, now) for version in registry.versions(name)]
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
    """Show one version: its manifest, its life, and whether its artifact is the one the manifest names (exit code 3 if not).

    Example: tickless models show rotation_6h@20240601T0210Z --models out/models
    """
    registry = _registry(models, stage)
    name, at, version = model.partition("@")
    life, now = registry.life(_known(registry, name)), datetime.now(UTC)
    promotions = life.promotions
    version = version if at else _champion(name, life)
    found = registry.manifest(name, version)
    size = len(registry.artifact(found))
    events = [event for event in life.events if event.version == version]
    facts = {
        "model": found.label,
        "stage": life.stage(version, now),
        "artifact_bytes": size,
        "promotions": [
            {"effective_at": iso(entry.effective_at), "promoted_at": iso(entry.promoted_at), "reason": entry.reason}
            for entry in promotions
            if entry.version == version
        ],
        "events": [
            {"at": iso(event.at), "stage": event.stage, "role": event.role, "action": event.action, "by": event.by, "reason": event.reason}
            for event in events
        ],
        "manifest": dict(found.manifest),
    }
    if json_:
        print_json(facts)
        return
    rows: list[tuple[str, Any]] = [("artifact", f"{size} bytes, sha256 as the manifest says")]
    rows.append(("stage", life.stage(version, now)))
    rows += [("promoted", f"{iso(entry.promoted_at)}: {entry.reason}") for entry in promotions if entry.version == version]
    rows += [(" ".join(filter(None, (event.stage, event.role))), f"{iso(event.at)}: {event.reason} ({event.by})") for event in events]
    # The bins of the reference are for drift to read; --json has them.
    rows += [(key, value) for key, value in _flat(found.manifest) if not key.startswith("drift_reference.")]
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
    life = registry.life(_known(registry, name))
    typer.echo(render_card(registry.manifest(name, version if at else _champion(name, life)).manifest), nl=False)


@models_app.command("promote")
def promote(
    model: Annotated[str, typer.Argument(help="name@version.")],
    models: Models = None,
    stage: Stage = "dev",
    reason: Annotated[str, typer.Option(help="Why; kept with the promotion.")] = "by hand",
    json_: Json = False,
) -> None:
    """Make a version the champion, whatever its gates said: ticks from its effective_at on use it, until another is promoted.

    The champion before is retired.

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
    life = registry.life(_known(registry, name))
    champion = _champion(name, life)
    before = life.champion_before(now)
    if not before:
        raise InputError(f"model {name}: there is no champion before {champion} to go back to")
    _promote(registry, registry.manifest(name, before), now, reason, json_=json_)


@models_app.command("retire")
def retire(
    model: Annotated[str, typer.Argument(help="name to withdraw the champion, or name@version.")],
    models: Models = None,
    stage: Stage = "dev",
    reason: Annotated[str, typer.Option(help="Why; kept with the version.")] = "retired by hand",
    json_: Json = False,
) -> None:
    """Withdraw a version from now on: a champion leaves no successor, and the strategy falls back; one in shadow forecasts no more.

    Example: tickless models retire rotation_6h --stage prod --reason "the exchange changed its fees"
    """
    from tickless.alpha.model_life import LifeChange
    from tickless.learn.lifecycle import Moment, withdraw

    registry, now = _registry(models, stage), datetime.now(UTC)
    name, at, version = model.partition("@")
    life = registry.life(_known(registry, name))
    version = registry.manifest(name, version).version if at else _champion(name, life)
    moment = Moment(now, now, PERSON)
    if life.stage(version, now) == "champion":
        change = withdraw(life, reason, moment)
    else:
        change = LifeChange(events=(moment.event(version, "retired", reason),))
    registry.record(name, change, life)
    facts = {"model": f"{name}@{version}", "stage": "retired", "at": iso(now), "reason": reason}
    if json_:
        print_json(facts)
    else:
        typer.echo(f"{name}@{version} is retired" + ("; the model has no champion, its strategy falls back" if change.promotions else ""))


def _promote(registry: ModelRegistry, found: ModelVersion, effective_at: datetime, reason: str, *, json_: bool) -> None:
    from tickless.learn.lifecycle import Moment, roll_back

    now, life = datetime.now(UTC), registry.life(found.name)
    registry.record(found.name, roll_back(life, found.version, reason, Moment(effective_at, now, PERSON)), life)
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


def _champion(name: str, life: ModelLife) -> str:
    promotion = life.champion(datetime.now(UTC))
    if promotion is None:
        raise ArtifactError(f"model {name}: has no champion; name a version as {name}@VERSION")
    return promotion.version


def _summary(version: ModelVersion, life: ModelLife, now: datetime) -> dict[str, Any]:
    event = life.last_event(version.version, now)
    standing = life.stage(version.version, now)
    to_come = any(entry.version == version.version and entry.effective_at > now for entry in life.promotions)
    manifest = version.manifest
    measures = manifest.get("measures") or {}
    shown = {key: measures.get(key) for key in ("rank_ic", "rank_ic_t", "top_k_net_frac")}
    return {
        "model": version.name,
        "version": version.version,
        "stage": "promoted" if to_come and standing != "champion" else standing,
        "role": event.role if event is not None and standing == "shadow" else "",
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
