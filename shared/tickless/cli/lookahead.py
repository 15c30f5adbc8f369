"""``tickless lookahead``: the proof that no decision knows its future."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from tickless.cli.model_folders import Models, open_folder
from tickless.cli.options import Data, Desk, Json, Overrides, Timerange, parse_timerange, progress_bar
from tickless.cli.printing import note, print_json, print_table

LEAKS_SHOWN = 40


def lookahead(
    data: Data,
    timerange: Timerange,
    desk: Desk = "rotation",
    cuts: Annotated[int, typer.Option(min=2, help="At how many ticks the data are cut.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Chooses the cuts.")] = 0,
    models: Models = None,
    set_: Overrides = None,
    json_: Json = False,
) -> None:
    """Cut the data at many ticks and prove that no earlier decision changes, and that the startup bars suffice; nothing is retrained.

    Exit code 1 where something looks ahead or is not settled; it is named with its pair and tick.

    Example: tickless lookahead --desk rotation --data data/ --timerange 20240601-20240615
    """
    from tickless.adapters.folder_market import load_market
    from tickless.backtest.lookahead import LookaheadRequest, check
    from tickless.settings import load_desk

    began = time.monotonic()
    start, end = parse_timerange(timerange)
    settings = load_desk(desk, set_ or ())
    store = open_folder(models) if models is not None else None
    market, _ = load_market(data, settings.desk.timeframe, quote=settings.desk.stake_currency, now=datetime.now(UTC))
    with progress_bar("lookahead") as advance:
        proof = check(LookaheadRequest(settings, market, start, end, store, cuts, seed), advance)
    facts = _facts(proof) | {"seconds": round(time.monotonic() - began, 3)}
    if json_:
        print_json(facts)
    else:
        _print(facts)
    for name, startup in facts["startup"].items():
        if not startup["extra_bars"]:
            note(f"startup of {name}: not shown, because the data do not reach a week further back than the first tick's window")
    if not proof.passed:
        raise typer.Exit(1)


def _facts(proof: Any) -> dict[str, Any]:
    from tickless.types import iso

    return {
        "passed": proof.passed,
        "retrained": False,
        "cuts": [iso(at) for at in proof.cuts],
        "whole_runs": [iso(at) for at in proof.whole_runs],
        "compared": proof.compared,
        "differences": [
            {
                "proof": one.proof,
                "field": one.found.field,
                "pair": one.found.pair or None,
                "tick_at": iso(one.found.at),
                "cut": iso(one.cut),
                "on_all_data": str(one.found.first),
                "up_to_the_cut": str(one.found.second),
            }
            for one in proof.differences
        ],
        "startup": {name: _startup_facts(startup) for name, startup in proof.startup.items()},
    }


def _startup_facts(startup: Any) -> dict[str, Any]:
    return {
        "extra_bars": startup.extra_bars,
        "columns": [
            {
                "name": column.name,
                "largest_difference": column.largest_difference if math.isfinite(column.largest_difference) else None,
                "settled": column.settled,
            }
            for column in startup.columns
        ],
    }


def _print(facts: dict[str, Any]) -> None:
    for name, startup in facts["startup"].items():
        if not startup["columns"]:
            continue
        rows = [
            (column["name"], _difference(column["largest_difference"]), "yes" if column["settled"] else "NO")
            for column in startup["columns"]
        ]
        title = f"Startup of {name}: every window begins {startup['extra_bars']} bars earlier"
        print_table(title, ("feature", "largest relative difference", "settled"), rows, right=("largest relative difference",))
    leaks = facts["differences"]
    if leaks:
        columns = ("proof", "field", "pair", "tick_at", "cut", "on_all_data", "up_to_the_cut")
        rows = [tuple(leak[name] for name in columns) for leak in leaks[:LEAKS_SHOWN]]
        print_table("Looks ahead: the first difference of each field", [name.replace("_", " ") for name in columns], rows)
        if len(leaks) > LEAKS_SHOWN:
            typer.echo(f"… and {len(leaks) - LEAKS_SHOWN} more (--json has them all)")
    compared = facts["compared"]
    typer.echo(
        f"{len(facts['cuts'])} cuts, {len(facts['whole_runs'])} of them run whole, nothing retrained: compared "
        f"{compared['table_values']:,} values of features and regimes, {compared['views']:,} views, {compared['windows']} windows, "
        f"{compared['tick_lines']:,} tick lines, {compared['orders']:,} orders, {compared['fills']:,} fills, "
        f"{compared['equity_rows']:,} equity rows in {facts['seconds']:.1f} s"
    )
    typer.echo(_verdict(facts))


def _verdict(facts: dict[str, Any]) -> str:
    if facts["differences"]:
        first = min(facts["differences"], key=lambda leak: leak["tick_at"])
        whose = f" of {first['pair']}" if first["pair"] else ""
        return f"failed: {first['field']}{whose} at {first['tick_at']} changes with the data after {first['cut']}"
    unsettled = [column["name"] for startup in facts["startup"].values() for column in startup["columns"] if not column["settled"]]
    if unsettled:
        return f"failed: the startup bars do not settle {', '.join(unsettled)}"
    return "passed: no decision changes with the data that follow it"


def _difference(value: float | None) -> str:
    return "NaN on one side" if value is None else f"{value:.1e}"
