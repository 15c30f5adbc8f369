"""Other people's files: what their names say, every way they write a table, what is refused, and unions that lose nothing."""

from __future__ import annotations

import gzip
import hashlib
import json
import zipfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.made_panels import walk, without
from tickless.adapters.bar_files import PairBars, data_sha256, pair_bars, read_file, read_folder, write_file, write_folder
from tickless.adapters.bar_import import import_bars, resampled
from tickless.adapters.bar_union import unite
from tickless.adapters.binance_archive import pair_of, parse_archive_name
from tickless.adapters.csv_import import parse_columns
from tickless.adapters.import_sources import SourceChoice, SourceKind, checked_pair
from tickless.adapters.markets_file import read_folder_markets, write_markets
from tickless.errors import DataError, InputError
from tickless.types import PairRules, from_ms

START = datetime(2024, 1, 30, tzinfo=UTC)
BTC = "BTC/USDT"


@pytest.fixture
def panel():
    return walk([BTC, "ETH/USDT"], 4 * 1440, timeframe="1m", start=START)


def kline_lines(panel, pair, *, unit=1, first=0, last=None, header=False):
    bars = pair_bars(panel.take(first, panel.rows if last is None else last), pair)
    lines = ["open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"] * header
    for at, row in zip(bars.open_times_ms.tolist(), bars.values.T.tolist(), strict=True):
        lines.append(",".join([str(at * unit), *map(repr, row), str((at + 60_000) * unit - 1), "1.0", "3", "0.5", "0.5", "0"]))
    return lines


def put_zip(folder: Path, name: str, lines: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}.csv", "\n".join(lines) + "\n")
    return folder / f"{name}.zip"


def put(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def only(report):
    (pair,) = report.pairs
    return pair


def test_months_and_days_of_the_archive_become_one_file(tmp_path, panel):
    source = tmp_path / "spot"
    put_zip(source / "monthly", "BTCUSDT-1m-2024-01", kline_lines(panel, BTC, last=2 * 1440))
    put_zip(source / "monthly", "BTCUSDT-1m-2024-02", kline_lines(panel, BTC, first=2 * 1440, last=3 * 1440, header=True))
    put(source / "daily" / "BTCUSDT-1m-2024-02-01.csv", *kline_lines(panel, BTC, first=2 * 1440, last=3 * 1440))
    put(source / "daily" / "BTCUSDT-1m-2024-02-02.csv", *kline_lines(panel, BTC, unit=1000, first=3 * 1440, header=True))
    report = only(import_bars(source, tmp_path / "out", SourceChoice()))
    found, _ = read_folder(tmp_path / "out", "1m")
    assert data_sha256(found) == data_sha256(panel.select([BTC]))
    assert (report.files, report.rows_read, report.overlapping, report.disagreeing) == (4, 5 * 1440, 1440, 0)
    assert (report.added, report.same, report.conflicting, report.repairs) == (4 * 1440, 0, 0, {})
    assert (report.span.rows, report.span.missing) == (4 * 1440, 0)


def test_what_a_month_and_a_day_disagree_about_is_counted_and_the_last_name_wins(tmp_path, panel):
    put_zip(tmp_path / "in", "BTCUSDT-1m-2024-01", kline_lines(panel, BTC, last=100))
    other = replace(panel, volume=panel.volume * 2)
    put_zip(tmp_path / "in", "BTCUSDT-1m-2024-01-30", kline_lines(other, BTC, first=90, last=100))
    report = only(import_bars(tmp_path / "in", tmp_path / "out", SourceChoice()))
    assert (report.overlapping, report.disagreeing) == (0, 10)
    found, _ = read_folder(tmp_path / "out", "1m")
    assert found.volume[90:, 0].tolist() == (panel.volume[90:100, 0] * 2).tolist()


def test_a_file_that_goes_from_milliseconds_to_microseconds(tmp_path, panel):
    lines = [*kline_lines(panel, BTC, last=40), *kline_lines(panel, BTC, unit=1000, first=40, last=80)]
    put(tmp_path / "in" / "BTCUSDT-1m-2024-01.csv", *lines)
    assert only(import_bars(tmp_path / "in", tmp_path / "out", SourceChoice())).repairs == {}
    assert data_sha256(read_folder(tmp_path / "out", "1m")[0]) == data_sha256(panel.select([BTC]).take(0, 80))


def test_names_of_the_archive():
    path = Path("data/spot/monthly/klines/BTCFDUSD/1m/BTCFDUSD-1m-2024-01.zip")
    assert parse_archive_name(path).symbol == "BTCFDUSD"
    assert pair_of(path, "BTCFDUSD", None) == "BTC/FDUSD"
    assert pair_of(path, "BTCFDUSD", "USDT") is None
    assert pair_of(path, "1000SATSUSDT", None) == "1000SATS/USDT"
    assert pair_of(path, "USDT", None) is None
    assert pair_of(Path("data/futures/um/daily/x.zip"), "BTCUSDT", None) == "BTC/USDT:USDT"
    for name in ("BTCUSD_PERP-1m-2024-01.zip", "BTC_USDT-1m.csv", "BTCUSDT-1m-2024.zip", "BTCUSDT-1m-2024-01.zip.CHECKSUM"):
        assert parse_archive_name(Path(name)) is None
    assert parse_archive_name(Path("futures/um/monthly/markPriceKlines/BTCUSDT/1m/BTCUSDT-1m-2024-01.zip")) is None


def test_spot_and_futures_of_one_symbol_stay_apart_and_prices_that_nobody_traded_stay_out(tmp_path, panel):
    for place in ("spot/daily/klines", "futures/um/daily/klines", "futures/um/daily/markPriceKlines"):
        put(tmp_path / "in" / place / "BTCUSDT-1m-2024-01-30.csv", *kline_lines(panel, BTC, last=30))
    put(tmp_path / "in" / "BTCUSDT-1s-2024-01-30.csv", *kline_lines(panel, BTC, last=30))
    report = import_bars(tmp_path / "in", tmp_path / "out", SourceChoice())
    assert [pair.pair for pair in report.pairs] == [BTC, "BTC/USDT:USDT"]
    assert len(report.ignored) == 2


def test_a_zip_is_held_to_its_checksum(tmp_path, panel):
    path = put_zip(tmp_path / "in", "BTCUSDT-1m-2024-01", kline_lines(panel, BTC, last=50))
    beside = put(path.with_name(path.name + ".CHECKSUM"), f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}")
    assert only(import_bars(tmp_path / "in", tmp_path / "out", SourceChoice())).added == 50
    put(beside, f"{'0' * 64}  {path.name}")
    with pytest.raises(DataError, match=r"BTCUSDT-1m-2024-01.zip: its sha256 is [0-9a-f]{64}, and .*CHECKSUM says 0{64}"):
        import_bars(tmp_path / "in", tmp_path / "out", SourceChoice())


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-40]), "not readable: File is not a zip file"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b"1", b"2", 400)), "not readable"),
        (lambda path: zipfile.ZipFile(path, "a").writestr("b.csv", "1"), "holds 2 files"),
    ],
)
def test_a_damaged_zip_is_refused_and_nothing_is_written(tmp_path, panel, damage, sentence):
    path = put_zip(tmp_path / "in", "BTCUSDT-1m-2024-01", kline_lines(panel, BTC, last=50))
    damage(path)
    with pytest.raises(DataError, match=f"BTCUSDT-1m-2024-01.zip: {sentence}"):
        import_bars(tmp_path / "in", tmp_path / "out", SourceChoice())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("1706572800000,1,2,x,1,5,0,0,0,0,0,0", "column low, row 2: 'x' is not a number"),
        ("soon,1,2,1,1,5,0,0,0,0,0,0", "column date, row 2: .soon. is not a date"),
        ("1706572800000,1,2,1,1", r"not readable as CSV: .*Expected 12 columns, got 5"),
    ],
)
def test_a_bad_value_is_refused_with_its_place(tmp_path, panel, line, sentence):
    put(tmp_path / "in" / "BTCUSDT-1m-2024-01-30.csv", *kline_lines(panel, BTC, last=1), line)
    with pytest.raises(DataError, match=f"BTCUSDT-1m-2024-01-30.csv: {sentence}"):
        import_bars(tmp_path / "in", tmp_path / "out", SourceChoice())


def test_impossible_doubled_and_unsorted_rows_are_repaired_and_counted(tmp_path, panel):
    lines = kline_lines(panel, BTC, last=5)
    bad = lines[4].split(",")
    off_grid = ",".join([str(int(bad[0]) + 1), *bad[1:]])
    zero = ",".join([bad[0], "0", *bad[2:]])
    put(tmp_path / "in" / "BTCUSDT-1m-2024-01-30.csv", lines[1], lines[0], lines[2], lines[2], lines[3], zero, off_grid)
    report = only(import_bars(tmp_path / "in", tmp_path / "out", SourceChoice()))
    assert report.repairs == {"unsorted": 1, "duplicate": 1, "impossible": 1, "off_grid": 1}
    assert (report.rows_read, report.added, report.span.rows) == (7, 4, 4)


def test_a_bar_that_has_not_closed_is_not_imported(tmp_path, panel):
    put(tmp_path / "in" / "BTCUSDT-1m-2024-01-30.csv", *kline_lines(panel, BTC, last=10))
    report = only(import_bars(tmp_path / "in", tmp_path / "out", SourceChoice(), now=START + timedelta(minutes=9, seconds=59)))
    assert (report.added, report.repairs) == (9, {"future": 1})


@pytest.mark.parametrize("file_format", ["feather", "parquet", "csv", "json"])
def test_freqtrade_folders_of_any_format(tmp_path, panel, file_format):
    part = panel.take(0, 300)
    write_folder(tmp_path / "in" / "binance", part, file_format)
    report = import_bars(tmp_path / "in", tmp_path / "out", SourceChoice(kind=SourceKind.FREQTRADE), file_format="feather")
    assert [pair.added for pair in report.pairs] == [300, 300]
    assert data_sha256(read_folder(tmp_path / "out", "1m")[0]) == data_sha256(part)


def test_zipped_json_and_futures_of_freqtrade(tmp_path, panel):
    bars = pair_bars(panel.take(0, 60), BTC)
    rows = [[at, *row] for at, row in zip(bars.open_times_ms.tolist(), bars.values.T.tolist(), strict=True)]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "BTC_USDT-1m.json.gz").write_bytes(gzip.compress(json.dumps(rows).encode()))
    write_file(tmp_path / "in", replace(bars, pair="BTC/USDT:USDT"), "feather").rename(tmp_path / "in" / "BTC_USDT_USDT-1m-futures.feather")
    report = import_bars(tmp_path / "in", tmp_path / "out", SourceChoice())
    assert [(pair.pair, pair.added) for pair in report.pairs] == [(BTC, 60), ("BTC/USDT:USDT", 60)]
    (tmp_path / "in" / "BTC_USDT-1m.json.gz").write_bytes(gzip.compress(b"[]")[:-9])
    with pytest.raises(DataError, match=r"BTC_USDT-1m.json.gz: not a readable json.gz file"):
        import_bars(tmp_path / "in", tmp_path / "out", SourceChoice())


@pytest.mark.parametrize(
    ("header", "line", "columns"),
    [
        ("ts;o;h;l;c;v;x", "{s};1;3;0.5;2;7;", "date=ts,open=o"),
        ("Timestamp,Open,High,Low,Close,Volume", "{iso},1,3,0.5,2,7", ""),
        ("unix\topen\thigh\tlow\tclose\tvol", "{s}.0\t1\t3\t0.5\t2\t7", ""),
        ("volume,close,low,high,open,date", "7,2,0.5,3,1,{iso}+00:00", ""),
        ("a,a,open,high,low,close,Volume BTC", "x,{us},1,3,0.5,2,7", "date=2,volume=Volume BTC"),
        (None, "{s},9,1,3,0.5,2,7", "date=1,open=3,high=4,low=5,close=6,volume=7"),
    ],
)
def test_csv_of_every_kind(tmp_path, header, line, columns):
    def row(at):
        seconds = int(at.timestamp())
        return line.format(s=seconds, us=seconds * 10**6, iso=at.strftime("%Y-%m-%d %H:%M:%S"))

    path = put(tmp_path / "prices.csv", *([header] if header else []), row(START), row(START + timedelta(minutes=15)))
    choice = SourceChoice(SourceKind.AUTO, BTC, "15m", None, parse_columns(columns))
    report = only(import_bars(path, tmp_path / "out", choice))
    assert (report.added, report.repairs) == (2, {})
    bars, _ = read_file(report.path)
    assert from_ms(int(bars.open_times_ms[0])) == START
    assert bars.values[:, 1].tolist() == [1, 3, 0.5, 2, 7]


@pytest.mark.parametrize(
    ("lines", "columns", "sentence"),
    [
        (["time,price,volume", "1,2,3"], "", "no column 'open' for open; columns there: time, price, volume; see --columns"),
        (["ts,o,h,l,c,v", "1,2,3,4,5,6"], "date=when", "no column 'when' for date"),
        (["ts,o,h,l,c,v", "1,2,3,4,5,6"], "date=9", "no column 9 for date; the file has 6"),
        (["1704067200,1,2,1,1,5"], "", "has no header; name date's column by its number, as in --columns date=1"),
        (["ts,o,h,l,c,v", "1704067200,1,2,1,1,5", "1704068100,1,2,1,1e,5"], "", "column c, row 2: '1e' is not a number"),
        (["ts,o,h,l,c,v", "1704067200,1,2,1,1,5", "31.12.2024,1,2,1,1,5"], "", "column date, row 2: '31.12.2024' is not a date"),
        (["ts,o,h,l,c,v", "1704067200.5,1,2,1,1,5"], "", "column date, row 1: 1704067200.5 is not a date"),
        ([""], "", "the first line is empty"),
    ],
)
def test_csv_that_cannot_be_read_is_refused_in_a_sentence(tmp_path, lines, columns, sentence):
    path = put(tmp_path / "prices.csv", *lines)
    with pytest.raises(DataError) as raised:
        import_bars(path, tmp_path / "out", SourceChoice(SourceKind.CSV, BTC, "15m", None, parse_columns(columns)))
    assert str(raised.value).startswith(f"{path}: {sentence}")


def test_csv_whose_name_says_nothing_needs_pair_and_timeframe(tmp_path):
    path = put(tmp_path / "prices.csv", "ts,o,h,l,c,v", "1704067200,1,2,1,1,5")
    with pytest.raises(DataError, match=r"prices.csv: the name tells no pair; name it, as in --pair BTC/USDT"):
        import_bars(path, tmp_path / "out", SourceChoice())
    with pytest.raises(DataError, match=r"prices.csv: the name tells no timeframe; name it, as in --timeframe 1m"):
        import_bars(path, tmp_path / "out", SourceChoice(pair=BTC))


@pytest.mark.parametrize("text", ["open", "price=p", "open=", "open=a,open=b"])
def test_a_column_map_that_says_nothing_is_refused(text):
    with pytest.raises(InputError, match="--columns"):
        parse_columns(text)


@pytest.mark.parametrize("text", ["BTC", "BTC_USDT", "/USDT", "BTC/", "BTC/USDT/X", "BTC-X/USDT"])
def test_what_is_no_pair_is_refused(text):
    with pytest.raises(InputError, match=r"--pair .*must be <BASE>/<QUOTE>"):
        checked_pair(text)


def test_a_minute_becomes_any_timeframe_without_an_unfinished_bar(tmp_path, panel):
    put(tmp_path / "in" / "BTCUSDT-1m-2024-01-30.csv", *kline_lines(panel, BTC, first=7, last=15 * 50 + 14))
    report = only(import_bars(tmp_path / "in", tmp_path / "out", SourceChoice(), resample="15m"))
    found, _ = read_folder(tmp_path / "out", "15m")
    expected = panel.select([BTC]).take(15, 15 * 50).resample("15m")
    assert (report.timeframe, report.added) == ("15m", 49)
    assert data_sha256(found) == data_sha256(expected)
    with pytest.raises(DataError, match="cannot resample 1h bars to 15m"):
        import_bars(write_file(tmp_path, resampled(pair_bars(panel, BTC), "1h")), tmp_path / "out", SourceChoice(), resample="15m")


def test_a_pair_at_two_timeframes_is_not_resampled_from_either(tmp_path, panel):
    write_folder(tmp_path / "in", panel)
    write_folder(tmp_path / "in", panel.resample("5m"))
    with pytest.raises(DataError, match=r"BTC/USDT is there at 1m and at 5m; choose one with --timeframe"):
        import_bars(tmp_path / "in", tmp_path / "out", SourceChoice(), resample="1h")
    report = import_bars(tmp_path / "in", tmp_path / "out", SourceChoice(timeframe="5m"), resample="1h")
    assert [pair.added for pair in report.pairs] == [96, 96]


def test_a_folder_keeps_every_bar_it_has(tmp_path, panel):
    old = without(panel, BTC, 500, 700).select([BTC]).take(0, 1000)
    write_folder(tmp_path / "out", old)
    new = replace(panel, close=panel.close.copy(), high=panel.high * 2).select([BTC]).take(400, 800)
    write_folder(tmp_path / "in", new)
    report = only(import_bars(tmp_path / "in", tmp_path / "out", SourceChoice(), keep_existing=True))
    assert (report.added, report.same, report.conflicting, report.span.rows) == (200, 0, 200, 1000)
    found, _ = read_folder(tmp_path / "out", "1m")
    assert found.high[400:500, 0].tolist() == panel.high[400:500, 0].tolist()
    assert found.high[500:700, 0].tolist() == (panel.high[500:700, 0] * 2).tolist()
    again = only(import_bars(tmp_path / "in", tmp_path / "out", SourceChoice()))
    assert (again.added, again.same, again.conflicting) == (0, 200, 200)
    assert read_folder(tmp_path / "out", "1m")[0].high[400:500, 0].tolist() == (panel.high[400:500, 0] * 2).tolist()
    path = only(import_bars(tmp_path / "in", tmp_path / "out", SourceChoice())).path
    before = path.stat().st_mtime_ns
    assert only(import_bars(tmp_path / "in", tmp_path / "out", SourceChoice())).same == 400
    assert path.stat().st_mtime_ns == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["BTC_USDT-1m.parquet"]


def test_a_folder_in_another_format_is_refused_before_anything_is_written(tmp_path, panel):
    part = panel.take(0, 60)
    write_folder(tmp_path / "in", part)
    write_folder(tmp_path / "out", part.select(["ETH/USDT"]), "csv")
    with pytest.raises(DataError, match=r"ETH_USDT-1m.csv: is there already; write this folder with --format csv"):
        import_bars(tmp_path / "in", tmp_path / "out", SourceChoice())
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["ETH_USDT-1m.csv"]


def test_filters_beside_the_source_come_along(tmp_path, panel):
    write_folder(tmp_path / "in", panel.take(0, 60))
    write_markets(tmp_path / "in", {BTC: PairRules(BTC, active=False)})
    (tmp_path / "out").mkdir()
    write_markets(tmp_path / "out", {BTC: PairRules(BTC), "OLD/USDT": PairRules("OLD/USDT")})
    report = import_bars(tmp_path / "in", tmp_path / "out", SourceChoice(quote="USDT"))
    assert (report.markets, report.ignored) == (1, ())
    assert read_folder_markets(tmp_path / "out") == {BTC: PairRules(BTC, active=False), "OLD/USDT": PairRules("OLD/USDT")}


def test_a_folder_with_nothing_to_import_says_what_is_there(tmp_path):
    put(tmp_path / "BTC_USDT-1m.h5", "x")
    with pytest.raises(DataError, match=r"no file to import among BTC_USDT-1m.h5; HDF5 files are not read"):
        import_bars(tmp_path, tmp_path / "out", SourceChoice())
    with pytest.raises(DataError, match="gone: no such file or folder"):
        import_bars(tmp_path / "gone", tmp_path / "out", SourceChoice())


records = st.dictionaries(st.integers(0, 30), st.integers(1, 4), max_size=20).map(
    lambda rows: PairBars(
        BTC,
        "1m",
        np.array(sorted(rows), dtype=np.int64) * 60_000,
        np.array([[float(rows[at])] * 5 for at in sorted(rows)]).reshape(-1, 5).T,
    )
)


def as_dict(bars: PairBars) -> dict[int, float]:
    return dict(zip(bars.open_times_ms.tolist(), bars.values[0].tolist(), strict=True))


@given(first=records, second=records, keep=st.booleans())
def test_a_union_is_a_union(first, second, keep):
    joined = unite(first, second, keep_first=keep)
    a, b = as_dict(first), as_dict(second)
    assert as_dict(joined.bars) == ({**b, **a} if keep else {**a, **b})
    assert joined.bars.open_times_ms.tolist() == sorted(a.keys() | b.keys())
    assert joined.added == len(b.keys() - a.keys())
    assert joined.conflicting == sum(a[at] != b[at] for at in a.keys() & b.keys())
    assert joined.same + joined.conflicting == len(a.keys() & b.keys())
