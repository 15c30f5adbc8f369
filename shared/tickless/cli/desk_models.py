"""What ``train``, ``walk-forward`` and ``tune`` share: the desk, the models that are meant, and the bars of a timerange."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tickless.adapters.folder_market import FolderMarket
    from tickless.learn.spec import ModelSpec
    from tickless.settings import Settings

Models = Annotated[
    list[str] | None, typer.Option("--model", help="Only this model; repeatable. Without it, those that the desk's settings name.")
]


@dataclass(frozen=True)
class ModelJob:
    """A desk, the models to work on, and the market of a timerange."""

    settings: Settings
    specs: tuple[ModelSpec, ...]
    market: FolderMarket
    pairs: tuple[str, ...]
    """The desk's, as far as they have bars."""
    start: datetime
    end: datetime


def load_market_of(settings: Settings, specs: tuple[ModelSpec, ...], data: Path, start: datetime, end: datetime) -> ModelJob:
    """The job on the bars of a folder; raises DataError, InputError."""
    from datetime import UTC

    from tickless.adapters.folder_market import load_market
    from tickless.runs.gather import pairs_to_run

    market, _ = load_market(data, settings.desk.timeframe, quote=settings.desk.stake_currency, now=datetime.now(UTC))
    pairs = pairs_to_run(market.panel, market.pairs(), settings, start, end)
    return ModelJob(settings, specs, market, tuple(pairs), start, end)


def chosen_specs(settings: Settings, desk: str, names: Sequence[str] | None) -> tuple[ModelSpec, ...]:
    """The specifications of the models that the desk's settings name, or of those of its strategies that ``names`` does.

    Raises InputError where there are none, or one is unknown.
    """
    from tickless.errors import InputError
    from tickless.learn.spec import desk_specs, load_specs

    if not names:
        used, missing = desk_specs(settings)
        for name, why in missing.items():
            raise InputError(f"--desk {desk}: model {name}: {why}")
        if used:
            return used
    owned = tuple(spec for strategy in sorted(settings.strategy) for spec in load_specs(strategy))
    if not owned:
        raise InputError(f"--desk {desk}: no strategy of this desk has models; it runs {', '.join(settings.strategy)}")
    known = ", ".join(spec.name for spec in owned)
    if not names:
        raise InputError(f"--desk {desk}: its settings name no model; choose with --model, known: {known}")
    for name in names:
        if all(spec.name != name for spec in owned):
            owner = next((spec.strategy for spec in load_specs(None) if spec.name == name), None)
            why = f"strategy {owner} owns it, and this desk runs {', '.join(sorted(settings.strategy))}" if owner else "unknown"
            raise InputError(f"--model {name}: {why}; known{' here' if owner else ''}: {known}")
    return tuple(spec for spec in owned if spec.name in names)
