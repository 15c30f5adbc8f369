"""``tickless data download``: an exchange's bars into a folder of ours."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from tickless.adapters.bar_download import DownloadReport, PairDownload, download
from tickless.bars import step_ms
from tickless.cli.data_formats import FileFormat
from tickless.cli.data_import import day, moment, span_json
from tickless.cli.options import PATH, Json, check_out, check_timeframe, parse_timerange, path_of, progress_bar
from tickless.cli.printing import note, print_json, print_table
from tickless.errors import InputError, SettingsError

EXAMPLE = "Example: `tickless data download --pairs BTC/USDT,ETH/USDT --timeframe 15m --timerange 20240101-20240201 --out market`"
FAILED = 1


def download_data(
    timeframe: Annotated[str, typer.Option(help="Timeframe of the bars.")],
    timerange: Annotated[str, typer.Option(help="YYYYMMDD-YYYYMMDD, UTC, the end excluded; YYYYMMDD- until now.")],
    out: Annotated[Path, typer.Option("--out", parser=path_of, metavar=PATH, help="Folder to write; what it holds already is completed.")],
    exchange: Annotated[str, typer.Option(help="The exchange, by its name in ccxt.")] = "binance",
    pairs: Annotated[str | None, typer.Option(help="Pairs, separated by commas.")] = None,
    pairs_file: Annotated[Path | None, typer.Option(help="File of pairs: one a line, or a JSON list.")] = None,
    file_format: Annotated[FileFormat, typer.Option("--format", help="Format of the files.")] = FileFormat.PARQUET,
    as_json: Json = False,
) -> None:
    """Download closed bars; called again, it goes on where it stopped. Exit code 1 where a pair could not be finished."""
    check_timeframe(timeframe)
    start, end = _range(timerange)
    wanted = _pairs(pairs, pairs_file)
    check_out(out, what="the bars")
    with progress_bar(f"downloading {timeframe} bars") as advance:
        try:
            report = download(exchange, wanted, timeframe, start, end, out, file_format=file_format, advance=advance)
        except SettingsError as error:
            # The only setting of a download, which a desk would have in its file.
            raise InputError(str(error).replace("desk.exchange:", "--exchange:", 1)) from error
    if as_json:
        print_json(_as_json(out, report))
    else:
        _print(out, report)
    if any(pair.status == "failed" for pair in report.pairs):
        raise typer.Exit(FAILED)


def _range(text: str) -> tuple[datetime, datetime | None]:
    if not text.endswith("-"):
        return parse_timerange(text)
    try:
        return datetime.strptime(text, "%Y%m%d-").replace(tzinfo=UTC), None
    except ValueError as error:
        raise InputError(f"--timerange {text}: must be YYYYMMDD-YYYYMMDD or YYYYMMDD-") from error


def _pairs(text: str | None, path: Path | None) -> list[str]:
    if (text is None) == (path is None):
        raise InputError("--pairs or --pairs-file: name the pairs in one of them")
    found = [] if text is None else text.split(",")
    where = "--pairs"
    if path is not None:
        where = f"{path}"
        found = _read_pairs(path)
    found = [pair.strip() for pair in found if pair.strip()]
    if not found:
        raise InputError(f"{where}: names no pair")
    for pair in found:
        base, _, quote = pair.partition("/")
        if not base or not quote or not pair.isprintable() or any(sign in pair for sign in ' _-"'):
            raise InputError(f"{where}: {pair!r} is no pair such as BTC/USDT")
    return found


def _read_pairs(path: Path) -> list[str]:
    try:
        content = path.read_text(encoding="utf-8")
        listed = json.loads(content) if content.lstrip().startswith("[") else [line.split("#")[0] for line in content.splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as a list of pairs: {error}") from error
    if not all(isinstance(pair, str) for pair in listed):
        raise InputError(f"{path}: holds something that is no text")
    return [str(pair) for pair in listed]


def _remark(report: DownloadReport, pair: PairDownload) -> str:
    """What a person should know about a pair."""
    if pair.status == "unknown":
        return f"{report.exchange} does not serve it" + ("; what was stored before is kept" if pair.span.rows else "")
    if pair.error:
        return pair.error
    step = step_ms(report.timeframe)
    said = []
    if pair.span.first_ms is not None and pair.span.first_ms > report.start_ms:
        said.append(f"begins {day(pair.span.first_ms)}")
    if pair.span.last_ms is not None and pair.span.last_ms + step < report.end_ms:
        said.append(f"ends {day(pair.span.last_ms)}")
    if pair.status == "no_bars":
        said.append("no bars in the range")
    if not pair.active:
        said.append("does not trade now")
    return ", ".join(said)


def _as_json(out: Path, report: DownloadReport) -> dict[str, Any]:
    return {
        "out": str(out),
        "exchange": report.exchange,
        "timeframe": report.timeframe,
        "start": moment(report.start_ms),
        "end": moment(report.end_ms),
        "markets": report.markets,
        "pairs": [
            {
                "pair": pair.pair,
                "status": pair.status,
                "path": str(pair.path) if pair.span.rows else None,
                "added": pair.added,
                **span_json(pair.span),
                "active": pair.active,
                "remark": _remark(report, pair),
            }
            for pair in report.pairs
        ],
    }


def _print(out: Path, report: DownloadReport) -> None:
    columns = ("pair", "status", "first", "last", "added", "bars now", "missing", "remark")
    rows = [
        (
            pair.pair,
            pair.status.replace("_", " "),
            day(pair.span.first_ms),
            day(pair.span.last_ms),
            pair.added,
            pair.span.rows,
            pair.span.missing or "·",
            _remark(report, pair),
        )
        for pair in report.pairs
    ]
    print_table(f"{report.exchange} · {report.timeframe} → {out}", columns, rows, right=columns[4:7])
    failed = [pair for pair in report.pairs if pair.status == "failed"]
    if failed:
        why = failed[0].error
        note(f"tickless: {len(failed)} of {len(report.pairs)} pairs are not finished ({why}); call again to go on")
