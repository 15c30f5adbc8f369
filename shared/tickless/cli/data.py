"""``tickless data``: look at recorded bars, import and download them, make synthetic ones."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from tickless.adapters.bar_files import BarFile, data_sha256, file_name, list_files, read_file, write_folder
from tickless.adapters.bar_quality import OUTLIER_DEVIATIONS, STALE_BARS, BreakFound, PairQuality, assess
from tickless.adapters.markets_file import FILE_NAME as MARKETS_FILE
from tickless.adapters.markets_file import read_folder_markets, write_markets
from tickless.breaks import BREAK_FACTOR
from tickless.cli import data_download, data_import
from tickless.cli.data_formats import FileFormat
from tickless.cli.options import PATH, Data, Json, check_out, check_timeframe, path_of, progress_bar
from tickless.errors import DataError, InputError
from tickless.types import FIRST_YEAR, LAST_YEAR, iso

data_app = typer.Typer(
    help="Look at recorded bars, import and download them, make synthetic ones.",
    epilog="Example: `tickless data check --data market`",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

CHECK_EXAMPLE = "Example: `tickless data check --data data/ --timeframe 15m`"
MAKE_EXAMPLE = "Example: `tickless data make --out market --pairs 24 --days 60 --signal-ic 0.05`"


@data_app.command("check", epilog=CHECK_EXAMPLE)
def check(
    data: Data,
    timeframe: Annotated[str | None, typer.Option(help="Only this timeframe; without it, all that are there.")] = None,
    as_json: Json = False,
) -> None:
    """Report the quality of a folder of bars, and which files cannot be read; nothing is changed. Exit code 2 where no pair is usable."""
    files, ignored = list_files(data)
    chosen = [file for file in files if timeframe in (None, file.timeframe)]
    if not chosen:
        there = ", ".join(sorted({file.timeframe for file in files})) or "none"
        raise DataError(f"{data}: no {timeframe or ''} bar file; timeframes there: {there}".replace("  ", " "))
    unreadable: list[DataError] = []
    markets: int | None = None
    try:
        markets = len(read_folder_markets(data))
    except DataError as error:
        unreadable.append(error)
    ignored = tuple(name for name in ignored if name != MARKETS_FILE)
    quality: dict[str, list[PairQuality]] = {}
    for file in _progress(chosen, "reading"):
        try:
            quality.setdefault(file.timeframe, []).append(assess(*read_file(file.path, now=datetime.now(UTC))))
        except DataError as error:
            unreadable.append(error)
    if not any(pair.rows for pairs in quality.values() for pair in pairs):
        raise DataError(f"{data}: no pair has a usable bar" + "".join(f"; {error}" for error in unreadable[:1]))
    report = _Report(data, quality, tuple(str(error) for error in unreadable), ignored, markets)
    if as_json:
        _print_json(report)
    else:
        _print_tables(report)


data_app.command("import", epilog=data_import.EXAMPLE)(data_import.import_data)
data_app.command("download", epilog=data_download.EXAMPLE)(data_download.download_data)


@data_app.command("make", epilog=MAKE_EXAMPLE)
def make(
    out: Annotated[Path, typer.Option("--out", parser=path_of, metavar=PATH, help="Folder to write; made where it does not exist.")],
    pairs: Annotated[int, typer.Option(min=1, max=500, help="How many pairs.")] = 24,
    days: Annotated[float, typer.Option(min=0.01, max=4000, help="How many days.")] = 60.0,
    start: Annotated[str, typer.Option(help="Open of the first bar, UTC.")] = "2024-01-01",
    timeframe: Annotated[str, typer.Option(help="Timeframe of the bars.")] = "15m",
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same market.")] = 7,
    signal_ic: Annotated[float, typer.Option(help="Rank correlation of r_6h and the next six hours' return; 0 = no signal.")] = 0.0,
    quote: Annotated[str, typer.Option(help="Quote currency.")] = "USDT",
    file_format: Annotated[FileFormat, typer.Option("--format", help="Format of the files.")] = FileFormat.PARQUET,
    as_json: Json = False,
) -> None:
    """Write a synthetic market: seeded, realistic, with no return to be had but the planted signal."""
    from tickless.adapters.synthetic_market import MAX_SIGNAL_IC, make_market

    check_out(out, what="the bars")
    check_timeframe(timeframe)
    if not abs(signal_ic) <= MAX_SIGNAL_IC:
        raise InputError(f"--signal-ic {signal_ic:g}: must lie between -{MAX_SIGNAL_IC} and {MAX_SIGNAL_IC}")
    if not re.fullmatch(r"[A-Z0-9]{2,10}", quote):
        raise InputError(f"--quote {quote!r}: must be 2 to 10 capital letters or digits, such as USDT")
    first = _start(start)
    with progress_bar("pairs drawn") as advance:
        market = make_market(
            pairs=pairs,
            start=first,
            end=first + timedelta(days=days),
            timeframe=timeframe,
            seed=seed,
            signal_ic=signal_ic,
            quote=quote,
            advance=advance,
        )
    _refuse_mixture(out, timeframe, {file_name(pair, timeframe, file_format) for pair in market.panel.pairs})
    with progress_bar("pairs written") as advance:
        paths = write_folder(out, market.panel, file_format, advance)
    write_markets(out, market.rules)
    made = {
        "out": str(out),
        "files": len(paths),
        "timeframe": timeframe,
        "start": iso(market.panel.start),
        "end": iso(market.panel.end),
        "bars": market.panel.rows,
        "seed": seed,
        "signal_ic": signal_ic,
        "data_sha256": data_sha256(market.panel),
    }
    if as_json:
        typer.echo(json.dumps(made, indent=1))
    else:
        typer.echo(f"{made['files']} pairs × {made['bars']} {timeframe} bars, {made['start']} to {made['end']}, and markets.json in {out}")


def _start(text: str) -> datetime:
    try:
        first = datetime.fromisoformat(text)
    except ValueError:
        raise DataError(f"--start {text!r}: not a date such as 2024-01-01") from None
    if not FIRST_YEAR <= first.year <= LAST_YEAR:
        raise DataError(f"--start {text!r}: not in the years {FIRST_YEAR} to {LAST_YEAR}")
    return first.replace(tzinfo=UTC) if first.tzinfo is None else first.astimezone(UTC)


def _refuse_mixture(out: Path, timeframe: str, names: set[str]) -> None:
    """Bars of another market left beside the new ones would be read as part of it."""
    if not out.exists():
        return
    left = [file.path.name for file in list_files(out)[0] if file.timeframe == timeframe and file.path.name not in names]
    if left:
        raise DataError(f"{out}: holds {left[0]} of another market; choose an empty folder")


@dataclass(frozen=True)
class _Report:
    data: Path
    quality: dict[str, list[PairQuality]]
    unreadable: tuple[str, ...]
    """A sentence for every file that cannot be read; it begins with the file."""
    ignored: tuple[str, ...]
    markets: int | None
    """Pairs with filters in ``markets.json``; None where it cannot be read."""


def _progress(files: list[BarFile], what: str) -> Iterable[BarFile]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(files, description=what, console=console, transient=True, disable=not sys.stderr.isatty())


def _print_json(report: _Report) -> None:
    content: dict[str, Any] = {
        "data": str(report.data),
        "markets": report.markets,
        "ignored_files": list(report.ignored),
        "unreadable_files": list(report.unreadable),
        "timeframes": {timeframe: [asdict(pair) for pair in pairs] for timeframe, pairs in report.quality.items()},
    }
    typer.echo(json.dumps(content, indent=1))


def _print_tables(report: _Report) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 200)
    for timeframe, pairs in report.quality.items():
        table = Table(title=f"{report.data} · {timeframe} · {len(pairs)} pairs", caption_justify="left")
        for column in ("pair", "first", "last"):
            table.add_column(column, no_wrap=column == "pair")
        for column in _COUNTS:
            table.add_column(column, justify="right")
        for pair in pairs:
            counts = [str(count) if count else "·" for count in _counts(pair)]
            table.add_row(pair.pair, _day(pair.first), _day(pair.last), *counts)
        console.print(table)
        for pair in pairs:
            for found in pair.scale_breaks:
                console.print(_break_line(pair.pair, timeframe, found), markup=False, soft_wrap=True)
    for sentence in report.unreadable:
        console.print(f"unreadable: {sentence}", markup=False, soft_wrap=True)
    console.print(
        f"gaps: runs/bars/longest. repaired: unsorted, duplicate, conflicting. dropped: impossible, off grid, in the future. "
        f"stale: runs of {STALE_BARS} or more equal closes. outliers: beyond {OUTLIER_DEVIATIONS:g} robust deviations. "
        f"no volume: bars/longest run. breaks: a price {BREAK_FACTOR:g} times off after silence (no return is taken across one). "
        f"jumps: closes {BREAK_FACTOR:g} times apart without silence. range: open or close outside [low, high].",
        style="dim",
        markup=False,
        soft_wrap=True,
    )
    naive = sum(pair.naive_dates for pairs in report.quality.values() for pair in pairs)
    notes = [f"{naive} files have dates without a zone; read as UTC"] if naive else []
    notes += [f"{len(report.ignored)} other files ignored"] if report.ignored else []
    without = "no markets.json: no filters" if report.markets == 0 else "no filters: markets.json cannot be read"
    notes += [f"filters for {report.markets} pairs in markets.json" if report.markets else without]
    console.print("; ".join(notes) + ".", markup=False, soft_wrap=True)


_COUNTS = ("bars", "gaps", "repaired", "dropped", "no volume", "stale", "outliers", "breaks", "jumps", "range")


def _counts(pair: PairQuality) -> tuple[int | str, ...]:
    gaps = f"{pair.gap_runs}/{pair.missing}/{pair.longest_gap}" if pair.gap_runs else ""
    repaired = pair.unsorted + pair.duplicate + pair.conflicting
    dropped = pair.impossible + pair.off_grid + pair.future
    silent = f"{pair.zero_volume}/{pair.longest_silence}" if pair.zero_volume else ""
    odd = (pair.stale_runs, pair.outliers, len(pair.scale_breaks), pair.jumps, pair.range_breaks)
    return pair.rows, gaps, repaired, dropped, silent, *odd


def _break_line(pair: str, timeframe: str, found: BreakFound) -> str:
    before = f"{found.missing} missing {timeframe} bars" if found.missing else "bars without volume"
    return f"{pair}: the price scale breaks at {_day(found.at)}, times {found.ratio:.6g} after {before}"


def _day(moment: str | None) -> str:
    return "–" if moment is None else moment[:16].replace("T", " ")
