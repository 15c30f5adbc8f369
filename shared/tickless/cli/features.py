"""``tickless features``: one feature set as a table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from tickless.cli.options import (
    PATH,
    Advance,
    Data,
    Desk,
    Json,
    Overrides,
    Timerange,
    check_out_file,
    parse_timerange,
    path_of,
    progress_bar,
)
from tickless.cli.printing import print_json
from tickless.errors import InputError

FORMATS = (".parquet", ".feather", ".csv")


def features(
    data: Data,
    timerange: Timerange,
    out: Annotated[Path, typer.Option("--out", parser=path_of, metavar=PATH, help="A .parquet, .feather or .csv file.")],
    features_: Annotated[str, typer.Option("--features", help="The feature set: rotation.")] = "rotation",
    desk: Desk = "rotation",
    set_: Overrides = None,
    json_: Json = False,
) -> None:
    """Write a feature set as a table: a row a bar and pair, stamped by the bar's open, from bars up to that bar.

    Columns: date, pair, the features, tier (known when the bar closes).

    Example: tickless features --features rotation --data data/ --timerange 20240601-20240608 --out out/features.parquet
    """
    from tickless.adapters.folder_market import load_market
    from tickless.features.rotation import build_features
    from tickless.runs.desk_strategies import history_start
    from tickless.runs.gather import pairs_to_run
    from tickless.settings import load_desk

    if features_ != "rotation":
        raise InputError(f"--features {features_}: unknown; known: rotation")
    if out.suffix not in FORMATS:
        raise InputError(f"--out {out}: must end in one of {', '.join(FORMATS)}")
    check_out_file(out)
    start, end = parse_timerange(timerange)
    settings = load_desk(desk, set_ or ())
    market, _ = load_market(data, settings.desk.timeframe, quote=settings.desk.stake_currency, now=datetime.now(UTC))
    pairs = pairs_to_run(market.panel, market.pairs(), settings, start, end)
    first = max(history_start(settings, start + timedelta(milliseconds=market.panel.step_ms)), market.panel.start)
    panel = market.bars(pairs, settings.desk.timeframe, first, end)
    with progress_bar("blocks of features") as advance:
        table = build_features(panel, settings.universe.max_gap_bars, max(0, panel.row_at(start)), advance=advance)
    try:
        with progress_bar("days of tiers") as advance:
            rows = _write(out, table, panel, settings, advance)
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({error.strerror or error})") from error
    if json_:
        print_json({"out": str(out), "rows": rows, "features": list(table.names), "pairs": list(pairs)})
    else:
        typer.echo(f"{rows} rows of {len(table.names)} features for {len(pairs)} pairs in {out}")


def _write(out: Path, table: Any, panel: Any, settings: Any, advance: Advance) -> int:
    import numpy as np
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.feather
    import pyarrow.parquet

    from tickless.portfolio.universe import assign_tiers, median_daily_volume
    from tickless.types import from_ms

    rows, pairs = table.rows, len(table.pairs)
    here = ~np.isnan(panel.close[panel.rows - rows :])
    times = table.start_ms + np.arange(rows, dtype=np.int64) * table.step_ms
    tiers = np.zeros((rows, pairs), dtype=np.int64)
    days = np.unique((times + table.step_ms) // 86_400_000)
    for done, day in enumerate(days, start=1):
        at = from_ms(int(day) * 86_400_000)
        volume = median_daily_volume(panel, at, settings.universe)
        tiers[(times + table.step_ms) // 86_400_000 == day] = assign_tiers(table.pairs, volume, settings.universe)
        advance(done, len(days))
    columns: dict[str, Any] = {
        "date": pa.array(np.repeat(times, pairs)[here.ravel()], pa.timestamp("ms", tz="UTC")),
        "pair": pa.array(np.tile(np.array(table.pairs), rows)[here.ravel()].tolist()),
    }
    for index, name in enumerate(table.names):
        columns[name] = pa.array(table.values[:, :, index].ravel()[here.ravel()], from_pandas=True)
    columns["tier"] = pa.array(tiers.ravel()[here.ravel()])
    content = pa.table(columns)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.part")
    if out.suffix == ".parquet":
        pa.parquet.write_table(content, part)
    elif out.suffix == ".feather":
        pa.feather.write_feather(content, str(part))
    else:
        pa.csv.write_csv(content, part)
    part.rename(out)
    return int(here.sum())
