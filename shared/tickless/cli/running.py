"""``tickless demo``, ``tickless replay``, ``tickless backtest``, ``tickless compare``."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tickless.cli.model_folders import Models, open_folder
from tickless.cli.options import Data, Desk, Json, Out, Overrides, Timerange, check_out, parse_timerange, progress_bar

if TYPE_CHECKING:
    from tickless.adapters.folder_models import FolderModelStore
    from tickless.backtest.compare import Comparison

Retrain = Annotated[Literal["schedule", "never"], typer.Option(help="Retrain on the desk's schedule, or never.")]

DEMO_START = datetime(2024, 6, 3, tzinfo=UTC)
DEMO_PAIRS = 24
DEMO_HISTORY_DAYS = 110
DEMO_SEED = 7
DEMO_SIGNAL_IC = 0.15


def demo(
    days: Annotated[int, typer.Option(min=1, max=60, help="Simulated days.")] = 3,
    out: Out = Path("out/demo"),
    json_: Json = False,
) -> None:
    """Run the whole desk on a synthetic market: local AWS up, every schedule fired through the real handlers, results written.

    Example: tickless demo --days 3 --out out/demo
    """
    from tickless.adapters.folder_market import FolderMarket
    from tickless.adapters.synthetic_market import make_market
    from tickless.cli.replaying import ReplayRequest
    from tickless.cli.replaying import replay as run

    check_out(out)
    end = DEMO_START + timedelta(days=days)
    start = DEMO_START - timedelta(days=DEMO_HISTORY_DAYS)
    made = make_market(pairs=DEMO_PAIRS, start=start, end=end + timedelta(hours=1), seed=DEMO_SEED, signal_ic=DEMO_SIGNAL_IC)
    note = (
        f"Synthetic market of {DEMO_PAIRS} pairs without drift, but with a planted signal (rank IC {DEMO_SIGNAL_IC:g}) for the models to "
        "find: it shows the machinery, its profit or loss means nothing."
    )
    request = ReplayRequest("rotation", (), FolderMarket(made.panel, made.rules), DEMO_START, end, out, note=note)
    with progress_bar("demo") as advance:
        summary = run(request, advance)
    _print_summary(summary, out, json_=json_)
    if not json_:
        typer.echo(note)


def replay(
    data: Data,
    timerange: Timerange,
    out: Out,
    desk: Desk = "rotation",
    models: Models = None,
    retrain: Retrain = "schedule",
    set_: Overrides = None,
    json_: Json = False,
) -> None:
    """Replay recorded bars through the real handlers on the local AWS.

    Example: tickless replay --desk rotation --data data/ --timerange 20240601-20240608 --out out/week
    """
    from tickless.cli.replaying import ReplayRequest
    from tickless.cli.replaying import replay as run

    prepared = _prepare(data, timerange, out, desk, models, set_)
    span = (prepared.start, prepared.end)
    request = ReplayRequest(desk, tuple(set_ or ()), prepared.market, *span, out, models, retrain == "schedule")
    with progress_bar("replay") as advance:
        summary = run(request, advance)
    _print_summary(summary, out, json_=json_)


def backtest(
    data: Data,
    timerange: Timerange,
    out: Out,
    desk: Desk = "rotation",
    models: Models = None,
    retrain: Retrain = "schedule",
    set_: Overrides = None,
    json_: Json = False,
) -> None:
    """Run the same decisions over history, in memory: what replay does, many times faster.

    Example: tickless backtest --desk rotation --data data/ --timerange 20240301-20240601 --out out/spring
    """
    import time

    from tickless.backtest.engine import BacktestRequest
    from tickless.backtest.engine import backtest as run
    from tickless.backtest.report import write_report
    from tickless.backtest.results import write_results

    began = time.monotonic()
    prepared = _prepare(data, timerange, out, desk, models, set_)
    store = open_folder(models) if models is not None else None
    request = BacktestRequest(prepared.settings, prepared.market, prepared.start, prepared.end, store, retrain == "schedule")
    with progress_bar("backtest") as advance:
        record = run(request, advance)
    record = replace(record, seconds=round(time.monotonic() - began, 3))
    summary = write_results(record, out)
    write_report(record, summary, out)
    _print_summary(summary, out, json_=json_)


@dataclass(frozen=True)
class _Prepared:
    settings: Any
    market: Any
    start: datetime
    end: datetime


def _prepare(data: Path, timerange: str, out: Path, desk: str, models: Path | None, overrides: list[str] | None) -> _Prepared:
    """Parse and load what replay and backtest have in common; bad input is refused before anything runs."""
    from tickless.adapters.folder_market import load_market
    from tickless.runs.gather import pairs_to_run
    from tickless.settings import cautions, load_desk

    start, end = parse_timerange(timerange)
    settings = load_desk(desk, overrides or ())
    store = open_folder(models) if models is not None else None
    check_out(out)
    market, report = load_market(data, settings.desk.timeframe, quote=settings.desk.stake_currency, now=datetime.now(UTC))
    _print_repairs(report)
    pairs_to_run(market.panel, market.pairs(), settings, start, end)  # Nothing is told about a run that will not be.
    for sentence in cautions(settings):
        typer.echo(sentence, err=True)
    _print_missing_bases(market, settings)
    _print_short_history(market, settings, start)
    if store is not None:
        _print_no_champion(store, f"--models {models}", end)
    return _Prepared(settings, market, start, end)


def compare(
    first: Annotated[Path, typer.Argument(help="A result folder.")],
    second: Annotated[Path, typer.Argument(help="Another result folder.")],
    json_: Json = False,
) -> None:
    """Compare two result folders order by order, and where they differ their key figures too; exit code 1 on a difference.

    Example: tickless compare out/replay out/backtest
    """
    from tickless.backtest.compare import compare as compare_folders

    comparison = compare_folders(first, second)
    if json_:
        facts = {
            "same": comparison.same,
            "orders": comparison.orders,
            "first_difference": comparison.first_difference,
            "settings_differ": comparison.settings_differ,
            "figures": {name: list(values) for name, values in comparison.figures.items()},
        }
        typer.echo(json.dumps(facts))
    else:
        _print_comparison(comparison, first, second)
    if not comparison.same:
        raise typer.Exit(1)


def _print_comparison(comparison: Comparison, first: Path, second: Path) -> None:
    from tickless.cli.printing import print_table

    if comparison.same:
        typer.echo(f"identical: {comparison.orders} orders")
    else:
        typer.echo(f"different: {comparison.first_difference}")
    if comparison.settings_differ:
        short = [str(sha256)[:12] for sha256 in comparison.figures["settings_sha256"]]
        typer.echo(f"settings differ: settings_sha256 {short[0]}… and {short[1]}…")
    if not comparison.same:
        rows = [
            (label, *(_figure(value, form) for value in comparison.figures[name]))
            for label, name, form in (
                ("return", "total_return_frac", "share"),
                ("max drawdown", "max_drawdown_frac", "share"),
                ("closed trades", "trades", "count"),
                ("fees paid", "fees_paid", "money"),
            )
        ]
        print_table("key figures", ("", str(first), str(second)), rows, right=(str(first), str(second)))


def _figure(value: Any, form: str) -> str:
    if not isinstance(value, int | float):
        return "–"
    return _percent(value) if form == "share" else f"{value:,.2f}" if form == "money" else f"{value:,}"


def _print_repairs(report: Any) -> None:
    """One line on stderr where rows of the data were repaired or dropped."""
    if report.repairs:
        counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in report.repairs.items())
        typer.echo(f"{report.folder}: repaired on reading: {counts} (tickless data check tells where)", err=True)
    if report.empty_pairs:
        typer.echo(f"{report.folder}: no usable bar for {', '.join(report.empty_pairs)}; left out", err=True)


def _print_missing_bases(market: Any, settings: Any) -> None:
    """One line on stderr where tier lists name base assets that the data lack."""
    from tickless.portfolio.universe import missing_bases
    from tickless.runs.desk_strategies import desk_strategies

    missing = missing_bases(tuple(market.pairs()), settings.universe)
    if missing:
        typer.echo(f"universe: {len(missing)} base assets of the tier lists have no bars here: {', '.join(missing)}", err=True)
    for strategy in desk_strategies(settings):
        for pair in sorted(set(strategy.extra_pairs(settings)) - set(market.pairs())):
            typer.echo(
                f"{strategy.name}: {pair}, which it looks at, has no bars here; without them the regime is chop throughout", err=True
            )


def _print_short_history(market: Any, settings: Any, start: datetime) -> None:
    """One line on stderr where the bars before the timerange do not settle what the first ticks decide on."""
    from tickless.runs.desk_strategies import history_start
    from tickless.types import iso

    needed = history_start(settings, start)
    if market.panel.start > needed:
        typer.echo(
            f"history: the bars begin {iso(market.panel.start)}; features, regime and volume ranks are settled only with bars from "
            f"{iso(needed)} on",
            err=True,
        )


def _print_no_champion(store: FolderModelStore, where: str, end: datetime) -> None:
    """One line on stderr where no tick before ``end`` finds a champion in the folder, and from when on one would."""
    from tickless.errors import ArtifactError
    from tickless.types import iso

    names, promotions = store.names(), []
    for name in names:
        # The ticks say why they refuse what is damaged.
        with suppress(ArtifactError):
            promotions += [(entry.effective_at, f"{name}@{entry.version}") for entry in store.promotions(name) if entry.version]
    if any(effective_at < end for effective_at, _ in promotions):
        return
    later = ", ".join(f"{label} is one from {iso(effective_at)} on" for effective_at, label in sorted(promotions))
    why = f"no model is champion before the run ends at {iso(end)}: {later or 'none was promoted'}" if names else "holds no model"
    typer.echo(f"{where}: {why}; the run starts without one", err=True)


def _print_summary(summary: dict[str, Any], out: Path, *, json_: bool) -> None:
    if json_:
        typer.echo((out / "summary.json").read_text("utf8"), nl=False)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{summary['desk']}, {summary['timerange']}, {len(summary['pairs'])} pairs", show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name, value in _figures(summary):
        table.add_row(name, value)
    console = Console()
    console.print(table)
    for refused in summary["models_refused"]:
        who = f"{refused['stage']} refused at {refused['rebalances']} of {_rebalances(summary)} rebalances"
        console.print(f"{who}: {refused['reason']}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"Results in {out}, the report is {out / 'report.html'}", highlight=False, soft_wrap=True)


def _figures(summary: dict[str, Any]) -> list[tuple[str, str]]:
    ticks = summary["ticks"]
    money = summary["stake_currency"]
    return [
        ("ticks", ", ".join(f"{count} {name}" for name, count in ticks.items())),
        ("start equity", f"{summary['start_equity']:,.2f} {money}"),
        ("end equity", f"{summary['end_equity']:,.2f} {money}"),
        ("total return", _percent(summary["total_return_frac"])),
        ("market return (equal weight)", _percent(summary["market_return_frac"])),
        ("max drawdown", _percent(summary["max_drawdown_frac"])),
        ("average exposure", _percent(summary["avg_exposure_frac"])),
        ("orders", str(summary["orders"])),
        ("closed trades", str(summary["trades"])),
        ("win rate", _percent(summary["win_rate_frac"])),
        ("fees paid", f"{summary['fees_paid']:,.2f} {money}"),
        *_model_figures(summary),
        ("seconds", f"{summary['seconds']:.1f}"),
    ]


def _model_figures(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """What a desk with models decided on: that it fell back should not have to be looked for."""
    fallback, rebalances = summary["fallback_rebalances"], _rebalances(summary)
    if not rebalances:
        return []
    rows = [(f"model {label}", f"used at {count} of {rebalances} rebalances") for label, count in summary["models"].items()]
    return [*rows[-4:], *([("no model could be used", f"at {fallback} of {rebalances} rebalances")] if fallback else [])]


def _rebalances(summary: dict[str, Any]) -> int:
    ticks = summary["ticks"]
    return int(ticks.get("feature_rebalance", 0) + ticks.get("full_rebalance", 0))


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value * 100:z.2f} %"
