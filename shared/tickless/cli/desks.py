"""``tickless desk``: the built-in desk files."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Annotated

import typer

from tickless.cli.options import Json, Overrides
from tickless.cli.printing import note, print_json
from tickless.errors import SettingsError
from tickless.features.half_hours import ATR
from tickless.settings import ROOSTOO, Settings, builtin_desks, cautions, did_you_mean, load_desk, read_desk

_ANY_TIME = datetime(2024, 1, 1, tzinfo=UTC)
"""What strategies see without a bar is the same at any time; how far they look back differs by the days that a volume rank begins with."""

desk_app = typer.Typer(
    no_args_is_help=True,
    help="Desk files: show one to copy and change, check your own.",
    epilog="Example: tickless desk show rotation > my-desk.toml",
)


@desk_app.command("show")
def show(name: Annotated[str, typer.Argument(help="A built-in name, such as rotation or crossover, or a file.")] = "rotation") -> None:
    """Print a desk file with its comments, to copy and change.

    Example: tickless desk show rotation > my-desk.toml
    """
    text, _ = read_desk(name)
    load_desk(name)
    typer.echo(text, nl=False)


@desk_app.command("list")
def list_desks() -> None:
    """List the built-in desks.

    Example: tickless desk list
    """
    for name in builtin_desks():
        typer.echo(name)


@desk_app.command("check")
def check(
    desk: Annotated[str, typer.Argument(help="A built-in name or a file.")],
    set_: Overrides = None,
    json_: Json = False,
) -> None:
    """Validate a desk file; exit code 2 and one sentence where it is wrong. Settings that do less than they say are noted.

    Example: tickless desk check my-desk.toml --set risk.initial_stop_atr=2
    """
    from tickless.learn.lifecycle import never_proven
    from tickless.learn.spec import desk_specs
    from tickless.runs.short_history import short_history

    settings = _load(desk, set_ or ())
    _refuse_what_no_exchange_has(settings, desk)
    short = short_history(settings, _ANY_TIME)
    notes = [
        *cautions(settings),
        *([short] if short else []),
        *never_proven(settings.training, {spec.name: spec.horizon_h for spec in desk_specs(settings)[0]}),
        *(
            f"strategy {name} has no feature {ATR}, which some stops of [risk] are measured in: its positions get none of those"
            for name in _without_atr(settings)
        ),
    ]
    if json_:
        print_json({"desk": desk, "settings_sha256": settings.sha256(), "notes": notes})
        return
    typer.echo(f"{desk}: good; settings_sha256 {settings.sha256()}")
    for sentence in notes:
        note(f"{desk}: {sentence}")


def _load(desk: str, overrides: Sequence[str]) -> Settings:
    """The desk; where it is refused for a live desk's reasons, an exchange that nobody knows is told first."""
    try:
        return load_desk(desk, overrides)
    except SettingsError as refused:
        try:
            dry = load_desk(desk, [*overrides, "desk.mode=dry_run"])
        except SettingsError:
            raise refused from None
        _refuse_unknown_exchange(dry, desk)
        raise


def _refuse_unknown_exchange(settings: Settings, desk: str) -> None:
    """Raise SettingsError for an exchange that nobody knows, and for a sandbox that it does not have."""
    key = "bars_exchange" if settings.desk.exchange == ROOSTOO else "exchange"
    exchange = getattr(settings.desk, key)
    # Where ccxt is not installed nobody can tell.
    if find_spec("ccxt") is None:
        return
    from tickless.adapters.ccxt_client import exchange_class, exchange_ids, refuse_no_sandbox

    try:
        client = exchange_class(exchange)()
    except SettingsError as error:
        meant = did_you_mean(exchange, exchange_ids())
        raise SettingsError(f"{desk}: desk.{key}: {exchange!r} is no exchange that ccxt knows{meant}") from error
    if settings.desk.sandbox:
        try:
            refuse_no_sandbox(client, settings.desk.market_type)
        except SettingsError as error:
            raise SettingsError(f"{desk}: {error}; begin with a dry run, then with an account that holds little") from error


def _refuse_what_no_exchange_has(settings: Settings, desk: str) -> None:
    """Raise SettingsError for an exchange or a sandbox that there is not, or for names of spot pairs where contracts are traded."""
    _refuse_unknown_exchange(settings, desk)
    if settings.desk.market_type != "swap":
        return
    for key in ("pair_whitelist", "pair_blacklist"):
        for pair in getattr(settings.universe, key):
            if pair != "*" and ":" not in pair:
                contract = settings.desk.pair(pair.partition("/")[0])
                raise SettingsError(
                    f"{desk}: universe.{key}: {pair!r} is no contract's name; "
                    f"with desk.market_type = 'swap' it must be such as {contract!r}"
                )


def _without_atr(settings: Settings) -> list[str]:
    """Strategies whose positions get no stop in ATR though the desk asks for one. Looks at the view of a market without a bar."""
    from tickless.adapters.memory import MemoryModelStore
    from tickless.bars import Panel
    from tickless.runs.desk_strategies import HISTORIES, extra_pairs, history_start

    if not settings.risk.uses_atr:
        return []
    at = _ANY_TIME
    pairs = tuple(sorted({settings.desk.pair("A"), *extra_pairs(settings)}))
    empty = Panel.empty(settings.desk.timeframe, pairs, history_start(settings, at), at)
    views = {name: HISTORIES[name](empty, pairs, settings, at, MemoryModelStore()).view(at) for name in settings.strategy}
    return [name for name, view in views.items() if ATR not in view.feature_names]
