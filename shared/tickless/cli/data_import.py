"""``tickless data import``: other people's bar files into a folder of ours."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from tickless.adapters.bar_import import ImportReport, PairImport, import_bars
from tickless.adapters.bar_union import Span
from tickless.adapters.csv_import import parse_columns
from tickless.adapters.import_sources import SourceChoice, SourceKind, checked_pair
from tickless.cli.data_formats import FileFormat
from tickless.cli.options import PATH, Json, check_out, check_timeframe, path_of, progress_bar
from tickless.cli.printing import note, print_json, print_table
from tickless.types import from_ms, iso

EXAMPLE = "Example: `tickless data import ~/archive/BTCUSDT --out market --resample 15m`"


def import_data(
    source: Annotated[Path, typer.Argument(help="A file, or a folder with everything below it.")],
    out: Annotated[
        Path, typer.Option("--out", parser=path_of, metavar=PATH, help="Folder to write; what it holds already is kept and completed.")
    ],
    file_format: Annotated[FileFormat, typer.Option("--format", help="Format of the files.")] = FileFormat.PARQUET,
    kind: Annotated[SourceKind, typer.Option(help="Who wrote the source; auto tells by the names.")] = SourceKind.AUTO,
    pair: Annotated[str | None, typer.Option(help="Only this pair; and the pair of CSV files whose names tell none.")] = None,
    timeframe: Annotated[str | None, typer.Option(help="Only this timeframe; and that of CSV files whose names tell none.")] = None,
    columns: Annotated[str, typer.Option(help="Columns of CSV files, date=ts,open=o,…; by name, or by number from 1.")] = "",
    resample: Annotated[str | None, typer.Option(help="Write this longer timeframe instead, complete bars only.")] = None,
    quote: Annotated[str | None, typer.Option(help="Only pairs quoted in this currency.")] = None,
    keep_existing: Annotated[bool, typer.Option(help="Where the folder has a bar with other values, keep the folder's.")] = False,
    as_json: Json = False,
) -> None:
    """Import freqtrade folders, files of Binance's public archive, and CSV: repaired, counted, united with what is there."""
    for option, given in (("--timeframe", timeframe), ("--resample", resample)):
        if given is not None:
            check_timeframe(given, option)
    check_out(out, what="the bars")
    choice = SourceChoice(kind, checked_pair(pair), timeframe, quote, parse_columns(columns))
    with progress_bar("importing") as advance:
        report = import_bars(
            source,
            out,
            choice,
            file_format=file_format,
            resample=resample,
            keep_existing=keep_existing,
            now=datetime.now(UTC),
            advance=advance,
        )
    if as_json:
        print_json(_as_json(out, report))
    else:
        _print(source, out, report)


def _as_json(out: Path, report: ImportReport) -> dict[str, Any]:
    return {
        "out": str(out),
        "pairs": [_pair_json(pair) for pair in report.pairs],
        "ignored_files": [str(path) for path in report.ignored],
        "markets": report.markets,
    }


def _pair_json(pair: PairImport) -> dict[str, Any]:
    return {
        "pair": pair.pair,
        "timeframe": pair.timeframe,
        "path": str(pair.path),
        "files": pair.files,
        "rows_read": pair.rows_read,
        "repairs": pair.repairs,
        "overlapping": pair.overlapping,
        "disagreeing": pair.disagreeing,
        "added": pair.added,
        "same": pair.same,
        "conflicting": pair.conflicting,
        **span_json(pair.span),
    }


def span_json(span: Span) -> dict[str, Any]:
    """A span for machines."""
    return {"rows": span.rows, "first": moment(span.first_ms), "last": moment(span.last_ms), "missing": span.missing}


def moment(at_ms: int | None) -> str | None:
    """A time for machines; None where there is none."""
    return None if at_ms is None else iso(from_ms(at_ms))


def day(at_ms: int | None) -> str:
    """A time for people."""
    return "–" if at_ms is None else iso(from_ms(at_ms))[:16].replace("T", " ")


def _print(source: Path, out: Path, report: ImportReport) -> None:
    columns = ("pair", "timeframe", "first", "last", "files", "rows read", "repairs", "added", "same", "conflicting", "bars now", "missing")
    rows = [
        (
            pair.pair,
            pair.timeframe,
            day(pair.span.first_ms),
            day(pair.span.last_ms),
            pair.files,
            pair.rows_read,
            repairs_of(pair),
            pair.added,
            pair.same or "·",
            pair.conflicting or "·",
            pair.span.rows,
            pair.span.missing or "·",
        )
        for pair in report.pairs
    ]
    print_table(f"{source} → {out}", columns, rows, right=columns[4:6] + columns[7:])
    if report.markets:
        note(f"filters of {report.markets} pairs united with {out}/markets.json")
    if report.ignored:
        names = ", ".join(path.name for path in report.ignored[:5]) + (", …" if len(report.ignored) > 5 else "")
        note(f"{len(report.ignored)} files left alone: {names}")


def repairs_of(pair: PairImport) -> str:
    """What was repaired in the source, in words."""
    counts = dict(pair.repairs)
    counts |= {"overlapping": pair.overlapping} if pair.overlapping else {}
    counts |= {"disagreeing": pair.disagreeing} if pair.disagreeing else {}
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items()) or "·"
