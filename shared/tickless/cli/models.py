"""``tickless models``: the registry of models, in a folder or in the bucket of a deployed desk."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tickless.cli.deployed import Stage
from tickless.cli.model_folders import RegistryOf, known_model, open_registry, registered_version
from tickless.cli.options import Json
from tickless.cli.printing import note, print_json, print_table
from tickless.errors import ArtifactError, InputError
from tickless.types import iso, parse_time

if TYPE_CHECKING:
    from tickless.adapters.model_registry import ModelRegistry
    from tickless.alpha.model_life import ModelLife
    from tickless.ports import ModelVersion

models_app = typer.Typer(
    no_args_is_help=True,
    help="Registered models: which there are, which is used, what each has proved.",
    epilog="Example: tickless models list --models out/models",
)

PERSON = "person"
"""Who decided, of what is done by hand."""
NOW, TRAINED = "now", "trained"
UNREADABLE = "unreadable"
"""The stage of versions whose model's life cannot be read."""
REFUSED = 3
"""The exit code of what is refused for safety."""

From = Annotated[str, typer.Option("--effective-at", help="From when on: now, or a time; in a deployed desk not before now.")]
PromotedFrom = Annotated[
    str | None,
    typer.Option(
        "--effective-at",
        help="From when on: now, trained (from the end of its training), or a time. Without it trained in a folder, and now in a deployed "
        "desk, where nothing counts before now.",
        show_default=False,
    ),
]


@models_app.command("list")
def list_(models: RegistryOf = None, stage: Stage = "dev", json_: Json = False) -> None:
    """List every version of every model, and the stage it is in: candidate, shadow, champion or retired.

    What cannot be read is named on stderr, and is listed with what is known of it (exit code 3).

    Example: tickless models list --models out/models
    """
    registry, now = open_registry(models, stage), datetime.now(UTC)
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    for name in registry.names():
        rows += _rows(registry, name, now, problems)
    if json_:
        print_json(rows)
    elif not rows:
        typer.echo("no model is registered")
    else:
        print_table("models", tuple(rows[0]), [tuple(row.values()) for row in rows], right=("rank_ic", "rank_ic_t", "top_k_net_frac"))
    for problem in problems:
        note(problem)
    if problems:
        raise typer.Exit(REFUSED)


@models_app.command("show")
def show(
    model: Annotated[str, typer.Argument(help="name for the champion, or name@version.")],
    models: RegistryOf = None,
    stage: Stage = "dev",
    json_: Json = False,
) -> None:
    """Show one version: its manifest, its life, and whether its artifact is the one the manifest names (exit code 3 if not).

    Example: tickless models show rotation_6h@20240601T0210Z --models out/models
    """
    registry, now = open_registry(models, stage), datetime.now(UTC)
    name, at, version = model.partition("@")
    life = registry.life(known_model(registry, name))
    promotions = life.promotions
    version = registered_version(registry, name, version) if at else _champion(name, life, now)
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
    rows += [
        ("promoted", f"{iso(entry.promoted_at)}, for ticks from {iso(entry.effective_at)} on: {entry.reason}")
        for entry in promotions
        if entry.version == version
    ]
    rows += [(" ".join(filter(None, (event.stage, event.role))), f"{iso(event.at)}: {event.reason} ({event.by})") for event in events]
    # The bins of the reference are for drift to read, the desk's settings for whoever makes it again; --json has them.
    rows += [(key, value) for key, value in _flat(found.manifest) if not key.startswith(("drift_reference.", "desk."))]
    print_table(found.label, ("field", "value"), rows)


@models_app.command("card")
def card(
    model: Annotated[str, typer.Argument(help="name for the champion, or name@version.")],
    models: RegistryOf = None,
    stage: Stage = "dev",
) -> None:
    """Print a version's card in Markdown: what it is, what it was made from, and its measures beside what they have to beat.

    Example: tickless models card rotation_6h@20240601T0000Z --models out/models
    """
    from tickless.learn.card import render_card

    registry = open_registry(models, stage)
    name, at, version = model.partition("@")
    version = (
        registered_version(registry, name, version)
        if at
        else _champion(name, registry.life(known_model(registry, name)), datetime.now(UTC))
    )
    typer.echo(render_card(registry.manifest(name, version).manifest), nl=False)


@models_app.command("promote")
def promote(
    model: Annotated[str, typer.Argument(help="name@version.")],
    models: RegistryOf = None,
    stage: Stage = "dev",
    effective_at: PromotedFrom = None,
    reason: Annotated[str, typer.Option(help="Why; kept with the promotion.")] = "by hand",
    json_: Json = False,
) -> None:
    """Make a version the champion, whatever its gates said, until another is promoted; the champion before is retired.

    In a folder it counts from the end of its training on, as runs over the past need it; in a deployed desk from now on.

    Example: tickless models promote rotation_6h@20240601T0000Z --models out/models
    """
    registry, now = open_registry(models, stage), datetime.now(UTC)
    name, _, version = model.partition("@")
    if not version:
        raise InputError(f"model {model!r}: name a version as {name}@VERSION")
    found = registry.manifest(name, registered_version(registry, name, version))
    chosen = _time_of_promotion(effective_at or (NOW if models is None else TRAINED), found, now, in_bucket=models is None)
    _promote(registry, found, (chosen, now), reason, json_=json_)


@models_app.command("rollback")
def rollback(
    name: Annotated[str, typer.Argument(help="The model's name.")],
    models: RegistryOf = None,
    stage: Stage = "dev",
    effective_at: From = NOW,
    reason: Annotated[str, typer.Option(help="Why; kept with the promotion.")] = "rollback by hand",
    json_: Json = False,
) -> None:
    """Go back to the champion before the present one, from now on.

    Example: tickless models rollback rotation_6h --stage prod
    """
    registry, now = open_registry(models, stage), datetime.now(UTC)
    life, at = registry.life(known_model(registry, name)), _chosen(effective_at, now, in_bucket=models is None)
    champion = _champion(name, life, at)
    before = life.champion_before(at)
    if not before:
        raise InputError(f"model {name}: there is no champion before {champion} to go back to")
    if before not in registry.version_names(name):
        raise InputError(f"model {name}: {before}, the champion before {champion}, was deleted; `tickless models promote` takes another")
    _promote(registry, registry.manifest(name, before), (at, now), reason, json_=json_, seen=life)


@models_app.command("retire")
def retire(
    model: Annotated[str, typer.Argument(help="name to withdraw the champion, or name@version.")],
    models: RegistryOf = None,
    stage: Stage = "dev",
    effective_at: From = NOW,
    reason: Annotated[str, typer.Option(help="Why; kept with the version.")] = "retired by hand",
    json_: Json = False,
) -> None:
    """Withdraw a version from now on: a champion leaves no successor, and the strategy falls back; one in shadow forecasts no more.

    Example: tickless models retire rotation_6h --stage prod --reason "the exchange changed its fees"
    """
    from tickless.alpha.model_life import LifeChange
    from tickless.learn.lifecycle import Moment, withdraw

    registry, now = open_registry(models, stage), datetime.now(UTC)
    name, given, version = model.partition("@")
    life, at = registry.life(known_model(registry, name)), _chosen(effective_at, now, in_bucket=models is None)
    version = registered_version(registry, name, version) if given else _champion(name, life, at)
    moment = Moment(at, now, PERSON)
    if life.stage(version, at) == "champion":
        change = withdraw(life, reason, moment)
    else:
        change = LifeChange(events=(moment.event(version, "retired", reason),))
    registry.record(name, change, life)
    facts = {"model": f"{name}@{version}", "stage": "retired", "at": iso(at), "reason": reason}
    if json_:
        print_json(facts)
    else:
        falls = "; the model has no champion then, the strategy does without it" if change.promotions else ""
        typer.echo(f"{name}@{version} is retired from {iso(at)} on{falls}")


def _promote(
    registry: ModelRegistry,
    found: ModelVersion,
    times: tuple[datetime, datetime],
    reason: str,
    *,
    json_: bool,
    seen: ModelLife | None = None,
) -> None:
    """Make a version the champion; ``times`` are from when on, and now, ``seen`` the life on which that was decided."""
    from tickless.learn.lifecycle import Moment, roll_back

    registry.artifact(found)  # Refused here where it is damaged, and not at the next tick.
    life, moment = seen or registry.life(found.name), Moment(*times, PERSON)
    registry.record(found.name, roll_back(life, found.version, reason, moment), life)
    facts = {"model": found.label, "effective_at": iso(moment.at), "reason": reason}
    if json_:
        print_json(facts)
    else:
        typer.echo(f"{found.label} is the champion for ticks from {iso(moment.at)} on")


def _time_of_promotion(text: str, found: ModelVersion, now: datetime, *, in_bucket: bool) -> datetime:
    """From when on a version that is promoted by hand is champion. Raises InputError, ArtifactError."""
    texts = [str(found.manifest[key]) for key in ("effective_at", "data_until", "label_until") if key in found.manifest]
    try:
        earliest = max(map(parse_time, texts))
    except ValueError as error:
        raise ArtifactError(f"model {found.label}: manifest.json does not say from when on it may be used: {error}") from error
    if text == NOW:
        return max(now, earliest)  # A tick refuses what was trained for later.
    at = _chosen(iso(earliest) if text == TRAINED else text, now, in_bucket=in_bucket, words=f"{NOW}, {TRAINED}")
    if at < earliest:
        raise InputError(f"--effective-at {text}: {found.label} is for ticks from {iso(earliest)} on, before that it would know the future")
    return at


def _chosen(text: str, now: datetime, *, in_bucket: bool, words: str = NOW) -> datetime:
    """The time that ``--effective-at`` names, where ``words`` may stand for one.

    Raises InputError, also for one that rewrites what a deployed desk has decided on.
    """
    if text == NOW:
        return now
    try:
        at = parse_time(text)
    except (ValueError, OverflowError) as error:
        raise InputError(f"--effective-at {text}: must be {words}, or a time with its zone such as 2024-06-01T00:00:00Z") from error
    if in_bucket and at < now:
        raise InputError(
            f"--effective-at {text}: lies in the past, and a deployed desk's history stays as it was; name a folder by --models"
        )
    return at


def _champion(name: str, life: ModelLife, at: datetime) -> str:
    promotion = life.champion(at)
    if promotion is None:
        raise InputError(f"model {name}: has no champion; name a version as {name}@VERSION")
    return promotion.version


def _rows(registry: ModelRegistry, name: str, now: datetime, problems: list[str]) -> list[dict[str, Any]]:
    """What is known of every version of a model, oldest first; what cannot be read is added to ``problems``."""
    from tickless.ports import ModelVersion

    life: ModelLife | None = None
    try:
        life = registry.life(name)
    except ArtifactError as error:
        problems.append(str(error))
    rows = []
    there = registry.version_names(name)
    for version in there:
        try:
            found = registry.manifest(name, version)
        except ArtifactError as error:
            problems.append(str(error))
            found = ModelVersion(name, version, {})
        rows.append(_summary(found, life, now))
    standing = life.standing(now) if life is not None else None
    used = [standing.champion.version] if standing is not None and standing.champion is not None else []
    used += [event.version for event in standing.shadows] if standing is not None else []
    problems += [f"model {name}@{version}: is in use and has no manifest" for version in used if version not in there]
    return sorted(rows, key=lambda row: (str(row["effective_at"] or ""), row["version"]))


def _summary(version: ModelVersion, life: ModelLife | None, now: datetime) -> dict[str, Any]:
    event = life.last_event(version.version, now) if life is not None else None
    standing = life.stage(version.version, now) if life is not None else UNREADABLE
    promotions = life.promotions if life is not None else ()
    to_come = any(entry.version == version.version and entry.effective_at > now for entry in promotions)
    manifest = version.manifest
    stated = manifest.get("measures")
    measures = stated if isinstance(stated, Mapping) else {}
    return {
        "model": version.name,
        "version": version.version,
        "stage": "promoted" if to_come and standing != "champion" else standing,
        "role": event.role if event is not None and standing == "shadow" else "",
        **{key: value if isinstance(value := manifest.get(key), str) else None for key in ("effective_at", "data_until")},
        **{key: _rounded(measures.get(key)) for key in ("rank_ic", "rank_ic_t", "top_k_net_frac")},
    }


def _rounded(value: Any) -> float | None:
    """A measure to be shown; None for what is no number, whatever wrote it."""
    return round(value, 6) if isinstance(value, int | float) and math.isfinite(value) else None


def _flat(content: Any, path: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in content.items():
        if isinstance(value, dict) and value:
            rows += _flat(value, f"{path}{key}.")
        else:
            rows.append((f"{path}{key}", ", ".join(map(str, value)) if isinstance(value, list) else value))
    return rows
