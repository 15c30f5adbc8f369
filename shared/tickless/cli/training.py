"""``tickless train``: the nightly training, from a data folder into a model folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tickless.cli.desk_models import Models, chosen_specs, load_market_of
from tickless.cli.options import PATH, Data, Desk, Json, Overrides, Timerange, check_out, parse_timerange, path_of, progress_bar

if TYPE_CHECKING:
    from tickless.settings import Settings

LONGEST_DAYS = 730
"""Of a longer timerange the last days are trained on."""


def train(
    data: Data,
    timerange: Timerange,
    models: Annotated[
        Path, typer.Option("--models", parser=path_of, metavar=PATH, help="Model folder to register in; made if it is not there.")
    ],
    desk: Desk = "rotation",
    model: Models = None,
    set_: Overrides = None,
    json_: Json = False,
) -> None:
    """Train, validate and register models on the bars of a timerange; promote those that pass their gates.

    A promoted model may be used from the end of the timerange on. Exit code 1 where nothing could be trained.

    Example: tickless train --desk rotation --data data/ --timerange 20240101-20240601 --models out/models
    """
    from datetime import timedelta

    from tickless.adapters.folder_models import FolderModelStore
    from tickless.errors import TicklessError
    from tickless.runs.retrain import store, train_specs, training_start

    start, end = parse_timerange(timerange)
    check_out(models, "--models", "the models")
    settings = _settings(desk, set_ or [], (end - start).days)
    specs = chosen_specs(settings, desk, model)
    job = load_market_of(settings, specs, data, start, end)
    market = job.market
    # The timerange is the window, whatever the specifications say of theirs.
    first = max(training_start(settings, end, ()), market.panel.start)
    panel = market.bars(job.pairs, settings.desk.timeframe, min(first, end - timedelta(days=1)), end)
    registry = FolderModelStore(models)
    with progress_bar("training") as advance:
        result = train_specs(panel, settings, registry, specs, end, end, advance)
    # A folder has no live ticks on which a version in shadow could prove itself.
    training = settings.training.model_copy(update={"promotion": "direct"})
    # As of the bars' end, not of today: the folder is for runs that begin there.
    promoted = store(result, registry, training, end, end)
    _print_result(result, promoted, models, json_=json_)
    if not result.trained:
        raise TicklessError("; ".join(f"{name}: {why}" for name, why in result.skipped.items()))


def _settings(desk: str, overrides: list[str], days: int) -> Settings:
    """The desk's settings, with the timerange for a window. Raises InputError for a window that is given besides."""
    from tickless.errors import InputError
    from tickless.settings import load_desk

    for text in overrides:
        if text.partition("=")[0].strip() == "training.window_days":
            raise InputError(f"--set {text}: the window of this training is its --timerange; give another one")
    settings = load_desk(desk, overrides)
    # Past the settings' own limit: a day alone trains nothing, and is told as what it is.
    return settings.model_copy(update={"training": settings.training.model_copy(update={"window_days": min(days, LONGEST_DAYS)})})


def _print_result(result: Any, promoted: list[str], models: Path, *, json_: bool) -> None:
    facts = [
        {
            "model": trained.name,
            "version": trained.version,
            "promoted": f"{trained.name}@{trained.version}" in promoted,
            "passed_gates": trained.gate.promote,
            "gate": trained.gate.reason,
            "sha256": trained.manifest["sha256"],
        }
        for trained in result.trained
    ]
    if json_:
        typer.echo(json.dumps({"trained": facts, "skipped": dict(result.skipped)}))
        return
    if not facts:
        return
    for fact in facts:
        typer.echo(f"{fact['model']}@{fact['version']}: {_outcome(fact)}: {fact['gate']}")
    for name, why in result.skipped.items():
        typer.echo(f"{name}: {why}")
    typer.echo(f"Models in {models}")


def _outcome(fact: dict[str, Any]) -> str:
    if not fact["promoted"]:
        return "registered, not promoted"
    # The same version, trained again after somebody promoted what its gates refuse.
    return "promoted" if fact["passed_gates"] else "champion by hand, its gates would not promote it"
