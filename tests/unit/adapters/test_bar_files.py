"""Bar files: four formats, every repair counted, every refusal naming file, column, row and value."""

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from tickless.adapters.bar_files import data_sha256, file_name, list_files, pair_bars, parse_name, read_file, read_folder, write_folder
from tickless.adapters.import_sources import SourceFile, SourceKind, read_source
from tickless.bars import COLUMNS, Panel
from tickless.errors import DataError
from tickless.types import to_ms

START = datetime(2024, 1, 1, tzinfo=UTC)
STEP = 900_000
T0 = to_ms(START)
ROW = [10.0, 11.0, 9.0, 10.5, 100.0]


def rows(*numbers, values=ROW):
    return [[T0 + n * STEP, *values] for n in numbers]


def write_json(folder: Path, content, name="A_USDT-15m.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(content))
    return path


def write_csv(folder: Path, *lines: str, header="date,open,high,low,close,volume") -> Path:
    path = folder / "A_USDT-15m.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def write_parquet(folder: Path, dates, **changes) -> Path:
    columns = {name: pa.array([value] * len(dates)) for name, value in zip(COLUMNS, ROW, strict=True)} | changes
    path = folder / "A_USDT-15m.parquet"
    pq.write_table(pa.table({"date": dates} | columns), path)
    return path


def small_panel(pairs=("A/USDT", "B/USDT"), count=6):
    rng = np.random.default_rng(1)
    close = rng.uniform(1, 2, (count, len(pairs)))
    columns = [close * 0.999, close * 1.1, close * 0.9, close, rng.uniform(0, 9, close.shape)]
    for values in columns:
        values[2, 0] = np.nan
    return Panel("15m", tuple(pairs), T0, *columns)


@pytest.mark.parametrize("file_format", ["parquet", "feather", "csv", "json"])
def test_what_is_written_is_read_back_bit_by_bit(tmp_path, file_format):
    panel = small_panel()
    paths = write_folder(tmp_path, panel, file_format)
    assert [path.name for path in paths] == [f"A_USDT-15m.{file_format}", f"B_USDT-15m.{file_format}"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [path.name for path in paths]
    got, report = read_folder(tmp_path, "15m")
    assert data_sha256(got) == data_sha256(panel)
    assert np.isnan(got.close[2, 0])
    assert report.repairs == {}
    assert [file.rows_used for file in report.files] == [5, 6]


def test_the_hash_knows_values_pairs_and_times():
    panel = small_panel()
    moved = Panel("15m", panel.pairs, panel.start_ms + STEP, *(getattr(panel, name) for name in COLUMNS))
    renamed = Panel("15m", ("A/USDT", "C/USDT"), panel.start_ms, *(getattr(panel, name) for name in COLUMNS))
    changed = Panel("15m", panel.pairs, panel.start_ms, panel.open + 1e-9, panel.high, panel.low, panel.close, panel.volume)
    hashes = {data_sha256(one) for one in (panel, moved, renamed, changed, panel.take(0, 5))}
    assert len(hashes) == 5
    assert data_sha256(panel.select(panel.pairs)) == data_sha256(panel)


@pytest.mark.parametrize(
    ("name", "pair", "timeframe"),
    [
        ("BTC_USDT-15m.feather", "BTC/USDT", "15m"),
        ("BTC_USDT_USDT-1m.parquet", "BTC/USDT:USDT", "1m"),
        ("BTC_USDT_USDT-1h-futures.feather", "BTC/USDT:USDT", "1h"),
        ("1000SATS_USDT-1d.csv", "1000SATS/USDT", "1d"),
        ("btc_usdt-15m.csv", "BTC/USDT", "15m"),
        ("btc_usdt_usdt-15m.csv", "BTC/USDT:USDT", "15m"),
        ("kPEPE_USDC_USDC-1h-futures.feather", "kPEPE/USDC:USDC", "1h"),
    ],
)
def test_names_as_freqtrade_writes_them(name, pair, timeframe):
    file = parse_name(Path(name))
    assert file is not None
    assert (file.pair, file.timeframe) == (pair, timeframe)


@pytest.mark.parametrize(
    "name", ["BTC_USDT-15m.txt", "BTCUSDT-15m.csv", "BTC_USDT-7m.csv", "BTC_USDT_USDT-1h-mark.feather", "BTC_USDT-8h-funding_rate.feather"]
)
def test_other_names_hold_no_bars(name):
    assert parse_name(Path(name)) is None


def test_file_names():
    assert file_name("BTC/USDT", "15m", "csv") == "BTC_USDT-15m.csv"
    assert file_name("BTC/USDT:USDT", "1m", "json") == "BTC_USDT_USDT-1m.json"


def test_unsorted_and_duplicate_rows_are_repaired_and_counted(tmp_path):
    other = [10.0, 12.0, 9.0, 11.0, 5.0]
    path = write_json(tmp_path, [*rows(0, 2, 1), *rows(2), *rows(3), *rows(3, values=other)])
    bars, report = read_file(path)
    assert bars.open_times_ms.tolist() == [T0 + n * STEP for n in range(4)]
    assert bars.column("close").tolist() == [10.5, 10.5, 10.5, 11.0]
    assert report.repairs == {"unsorted": 1, "duplicate": 1, "conflicting": 1}
    assert (report.rows_read, report.rows_used) == (6, 4)


@pytest.mark.parametrize(
    "values",
    [
        [0.0, 11.0, 9.0, 10.0, 1.0],
        [10.0, 11.0, -9.0, 10.0, 1.0],
        [10.0, 9.0, 11.0, 10.0, 1.0],
        [10.0, 11.0, 9.0, float("nan"), 1.0],
        [10.0, float("inf"), 9.0, 10.0, 1.0],
        [10.0, 11.0, 9.0, 10.0, -1.0],
        [10.0, 11.0, 9.0, 10.0, None],
    ],
)
def test_an_impossible_row_is_dropped_and_its_time_stays_missing(tmp_path, values):
    path = write_json(tmp_path, [*rows(0), *rows(1, values=values), *rows(2)])
    bars, report = read_file(path)
    assert bars.open_times_ms.tolist() == [T0, T0 + 2 * STEP]
    assert report.repairs == {"impossible": 1}


def test_a_possible_row_wins_over_an_impossible_one_of_the_same_date(tmp_path):
    path = write_json(tmp_path, [*rows(0), *rows(0, values=[0.0] * 5)])
    bars, report = read_file(path)
    assert bars.column("close").tolist() == [10.5]
    assert report.repairs == {"impossible": 1}


def test_rows_off_the_grid_and_in_the_future_are_dropped(tmp_path):
    path = write_json(tmp_path, [*rows(0, 1, 2), [T0 + 1000, *ROW]])
    now = START + timedelta(minutes=31)
    bars, report = read_file(path, now=now)
    assert bars.open_times_ms.tolist() == [T0, T0 + STEP]
    assert report.repairs == {"off_grid": 1, "future": 1}
    assert read_file(path)[1].repairs == {"off_grid": 1}


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", None])
def test_dates_of_any_unit_and_zone(tmp_path, unit, zone):
    dates = pa.array([T0, T0 + STEP], pa.int64()).cast(pa.timestamp("ms", tz=zone)).cast(pa.timestamp(unit, tz=zone))
    bars, report = read_file(write_parquet(tmp_path, dates))
    assert bars.open_times_ms.tolist() == [T0, T0 + STEP]
    assert report.naive_dates is (zone is None)


@pytest.mark.parametrize("scale", [1 / 1000, 1, 1000, 1_000_000])
def test_epochs_of_any_unit(tmp_path, scale):
    dates = pa.array([int(T0 * scale), int((T0 + STEP) * scale)], pa.int64())
    bars, _ = read_file(write_parquet(tmp_path, dates))
    assert bars.open_times_ms.tolist() == [T0, T0 + STEP]


@pytest.mark.parametrize(
    ("dates", "naive"),
    [
        (["2024-01-01 00:00:00+00:00", "2024-01-01 00:15:00+00:00"], False),
        (["2024-01-01T00:00:00Z", "2024-01-01T00:15:00Z"], False),
        (["2024-01-01T01:00:00+01:00", "2024-01-01T00:15:00Z"], False),
        (["2024-01-01 00:00:00", "2024-01-01 00:15:00"], True),
        (["1704067200000", "1704068100000"], False),
        (["1704067200", "1704068100"], False),
    ],
)
def test_csv_dates(tmp_path, dates, naive):
    bars, report = read_file(write_csv(tmp_path, *(f"{date},10,11,9,10.5,100" for date in dates)))
    assert bars.open_times_ms.tolist() == [T0, T0 + STEP]
    assert report.naive_dates is naive


def test_the_feather_of_another_writer(tmp_path):
    dates = pa.array([T0], pa.int64()).cast(pa.timestamp("ms", tz="UTC")).cast(pa.timestamp("ns", tz="UTC"))
    table = pa.table({"date": dates} | {name: [value] for name, value in zip(COLUMNS, ROW, strict=True)})
    path = tmp_path / "A_USDT-15m.feather"
    pyarrow.feather.write_feather(table, path, compression="lz4")
    assert read_file(path)[0].values[:, 0].tolist() == ROW


def test_empty_fields_and_dates_are_impossible_rows(tmp_path):
    path = write_csv(tmp_path, "2024-01-01T00:00:00Z,10,11,9,10.5,100", "2024-01-01T00:15:00Z,10,,9,nan,100", ",10,11,9,10.5,100")
    bars, report = read_file(path)
    assert len(bars.open_times_ms) == 1
    assert report.repairs == {"impossible": 2}


def test_text_in_a_number_column_is_refused_by_row_and_value(tmp_path):
    path = write_csv(tmp_path, "2024-01-01T00:00:00Z,10,11,9,10.5,100", "2024-01-01T00:15:00Z,10,11,9,abc,100")
    with pytest.raises(DataError, match=r"A_USDT-15m.csv: column close, row 2: 'abc' is not a number"):
        read_file(path)
    path = write_parquet(tmp_path, pa.array([T0]), high=pa.array(["eleven"]))
    with pytest.raises(DataError, match=r"A_USDT-15m.parquet: column high, row 1: 'eleven' is not a number"):
        read_file(path)
    path = write_parquet(tmp_path, pa.array([T0]), high=pa.array(["11"]))
    with pytest.raises(DataError, match=r"column high holds string, not numbers; the first value is '11'"):
        read_file(path)
    path = write_json(tmp_path, [*rows(0), [T0 + STEP, 10, 11, 9, "10.5", 1]])
    with pytest.raises(DataError, match=r"A_USDT-15m.json: column close, row 2: '10.5' is not a number"):
        read_file(path)


def test_a_missing_column_is_refused_by_name(tmp_path):
    with pytest.raises(DataError, match=r"A_USDT-15m.csv: no column 'volume'; columns there: date, open, high, low, close"):
        read_file(write_csv(tmp_path, "2024-01-01T00:00:00Z,10,11,9,10.5", header="date,open,high,low,close"))
    with pytest.raises(DataError, match=r"A_USDT-15m.json: row 2: .* is not \[ms, open, high, low, close, volume\]"):
        read_file(write_json(tmp_path, [*rows(0), [T0, 1, 2]]))


def test_what_is_no_date_is_refused(tmp_path):
    with pytest.raises(DataError, match="column date, row 2: 'yesterday' is not a date"):
        read_file(write_csv(tmp_path, "2024-01-01T00:00:00Z,10,11,9,10.5,100", "yesterday,10,11,9,10.5,100"))
    with pytest.raises(DataError, match=r"column date, row 1: 1\.5 is not a date"):
        read_file(write_parquet(tmp_path, pa.array([1.5])))


@pytest.mark.parametrize("suffix", ["parquet", "feather", "csv", "json"])
def test_a_damaged_file_is_refused_by_name(tmp_path, suffix):
    path = tmp_path / f"A_USDT-15m.{suffix}"
    path.write_bytes(b"")
    with pytest.raises(DataError, match=rf"A_USDT-15m.{suffix}: not a readable {suffix} file"):
        read_file(path)


@pytest.mark.parametrize(
    "content", ["[" * 100_000, f"[[{T0}, 10, 11, 9, {'9' * 400}, 1]]", f"[[{T0}, 10, 11, 9, {'9' * 5000}, 1]]"], ids=["deep", "400", "5000"]
)
def test_json_that_python_cannot_take_is_refused_by_file(tmp_path, content):
    path = tmp_path / "A_USDT-15m.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"A_USDT-15m.json: not a readable json file: "):
        read_file(path)
    path.with_suffix(".json.gz").write_bytes(gzip.compress(content.encode()))
    source = SourceFile(path.with_suffix(".json.gz"), "A/USDT", "15m", SourceKind.FREQTRADE)
    with pytest.raises(DataError, match=r"A_USDT-15m.json.gz: not a readable json.gz file: "):
        read_source(source, {})


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("date", [1e30, -1e30, 2.0**63, float("inf"), None])
def test_a_date_beyond_64_bits_is_an_impossible_row(tmp_path, date):
    bars, report = read_file(write_json(tmp_path, [*rows(0), [date, *ROW]]))
    assert (len(bars.open_times_ms), report.impossible_rows) == (1, 1)


def test_a_json_object_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds dict, not a list"):
        read_file(write_json(tmp_path, {"date": []}))


def test_a_file_of_another_name_is_refused(tmp_path):
    with pytest.raises(DataError, match="the name is not"):
        read_file(write_json(tmp_path, rows(0), name="bars.json"))


def test_a_pair_in_two_formats_is_refused_naming_both(tmp_path):
    write_folder(tmp_path, small_panel(), "csv")
    write_json(tmp_path, rows(0))
    with pytest.raises(DataError, match=r"A/USDT 15m is there twice, as A_USDT-15m.csv and as A_USDT-15m.json"):
        list_files(tmp_path)


def test_a_folder_is_read_by_quote_pairs_and_range(tmp_path):
    write_folder(tmp_path, small_panel(("A/USDT", "B/USDT", "C/BTC")))
    (tmp_path / "notes.txt").write_text("mine")
    panel, report = read_folder(tmp_path, "15m", quote="USDT", start=START + timedelta(minutes=15), end=START + timedelta(minutes=60))
    assert panel.pairs == ("A/USDT", "B/USDT")
    assert (panel.start, panel.rows) == (START + timedelta(minutes=15), 3)
    assert report.ignored_files == ("notes.txt",)
    assert read_folder(tmp_path, "15m", pairs=["C/BTC"])[0].pairs == ("C/BTC",)


def test_a_pair_without_a_usable_bar_is_left_out_and_reported(tmp_path):
    write_folder(tmp_path, small_panel(("B/USDT",)))
    write_json(tmp_path, rows(0, values=[0.0] * 5))
    panel, report = read_folder(tmp_path, "15m")
    assert panel.pairs == ("B/USDT",)
    assert report.empty_pairs == ("A/USDT",)
    assert report.repairs == {"impossible": 1}
    with pytest.raises(DataError, match="pair A/USDT has no usable 15m bar"):
        read_folder(tmp_path, "15m", pairs=["A/USDT", "B/USDT"])


def test_folders_that_cannot_be_used(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        read_folder(tmp_path / "gone", "15m")
    with pytest.raises(DataError, match="no 15m bar file; timeframes there: none"):
        read_folder(tmp_path, "15m")
    write_json(tmp_path, rows(0, values=[0.0] * 5))
    with pytest.raises(DataError, match=r"no pair has a usable 15m bar$"):
        read_folder(tmp_path, "15m")
    write_json(tmp_path, rows(0, 1))
    with pytest.raises(DataError, match="no 1h bar file; timeframes there: 15m"):
        read_folder(tmp_path, "1h")
    with pytest.raises(DataError, match="pair X/USDT has no 15m bar file"):
        read_folder(tmp_path, "15m", pairs=["A/USDT", "X/USDT"])
    with pytest.raises(DataError, match="no 15m pair is quoted in EUR"):
        read_folder(tmp_path, "15m", quote="EUR")
    with pytest.raises(DataError, match="the data runs from 2024-01-01T00:00:00Z to 2024-01-01T00:15:00Z"):
        read_folder(tmp_path, "15m", start=START + timedelta(days=9))
    with pytest.raises(DataError, match="timeframe '7m': unknown"):
        read_folder(tmp_path, "7m")


def test_a_format_that_is_not_known_is_refused_and_nothing_written(tmp_path):
    with pytest.raises(DataError, match="format 'xlsx': unknown"):
        write_folder(tmp_path, small_panel(), "xlsx")
    assert list(tmp_path.iterdir()) == []


def test_pair_bars_leaves_missing_rows_out():
    bars = pair_bars(small_panel(), "A/USDT")
    assert bars.open_times_ms.tolist() == [T0 + n * STEP for n in (0, 1, 3, 4, 5)]
    assert np.isfinite(bars.values).all()


@pytest.mark.realdata
def test_recorded_spot_bars_are_read_whole(realdata):
    panel, report = read_folder(realdata / "spot_2024", "15m", quote="USDT")
    assert len(panel.pairs) == 60
    assert panel.start == START
    assert report.repairs == {}
    assert sum(file.rows_used for file in report.files) == int(np.isfinite(panel.close).sum())


@pytest.mark.realdata
def test_recorded_perpetual_bars_are_read(realdata):
    panel, report = read_folder(realdata / "perp_1m_2025", "1m", pairs=["ADA/USDT", "BTC/USDT"])
    assert [file.rows_used for file in report.files] == [43_199, 43_199]
    assert np.isfinite(panel.close).sum(axis=0).tolist() == [43_199, 43_199]
