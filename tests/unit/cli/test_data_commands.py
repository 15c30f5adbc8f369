"""``tickless data check`` and ``data make``."""

import json
from contextlib import contextmanager

import pytest
from typer.testing import CliRunner

from tickless.adapters.bar_files import data_sha256, read_folder
from tickless.adapters.markets_file import read_folder_markets
from tickless.cli.data import data_app
from tickless.errors import DataError, InputError

DOWNLOAD = ["download", "--pairs", "BTC/USDT", "--timeframe", "15m", "--timerange", "20240101-20240102"]
MAKE = ["make", "--pairs", "9", "--days", "3", "--seed", "5"]


def run(*arguments, code=0):
    result = CliRunner().invoke(data_app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


def refused(*arguments, kind=DataError):
    result = CliRunner().invoke(data_app, [str(argument) for argument in arguments])
    assert isinstance(result.exception, kind), result.output
    return str(result.exception)


@pytest.mark.parametrize("file_format", ["parquet", "feather", "csv", "json"])
def test_make_writes_a_market_that_reads_back(tmp_path, file_format):
    out = tmp_path / "market"
    made = json.loads(run(*MAKE, "--out", out, "--format", file_format, "--json").stdout)
    panel, report = read_folder(out, "15m")
    assert (made["files"], made["bars"]) == (9, 288)
    assert (made["start"], made["end"]) == ("2024-01-01T00:00:00Z", "2024-01-04T00:00:00Z")
    assert data_sha256(panel) == made["data_sha256"]
    assert report.repairs == {}
    assert set(read_folder_markets(out)) == set(panel.pairs)


def test_make_again_is_the_same_and_a_mixture_is_refused(tmp_path):
    first = run(*MAKE, "--out", tmp_path, "--json").stdout
    assert run(*MAKE, "--out", tmp_path, "--json").stdout == first
    assert "of another market; choose an empty folder" in refused(*MAKE, "--out", tmp_path, "--format", "csv")
    assert "9 pairs × 72 1h bars" in run(*MAKE, "--out", tmp_path, "--timeframe", "1h").stdout


def test_make_refuses_what_is_out_of_range(tmp_path):
    assert "--start 'soon': not a date" in refused("make", "--out", tmp_path / "x", "--start", "soon")
    for start in ("9999-12-31", "0001-01-01T00:00:00+02:00", "1969-01-01"):
        assert f"--start {start!r}: not in the years 2009 to 2200" in refused("make", "--out", tmp_path / "x", "--start", start)
    for quote in ("../x", "usdt", "", "U", "USDT\n"):
        assert f"--quote {quote!r}: must be" in refused("make", "--out", tmp_path / "x", "--quote", quote, kind=InputError)
    for signal_ic in ("0.9", "-5", "nan"):
        sentence = refused("make", "--out", tmp_path / "x", "--signal-ic", signal_ic, kind=InputError)
        assert sentence == f"--signal-ic {signal_ic}: must lie between -0.2 and 0.2"
    assert "--timeframe '7m': unknown" in refused("make", "--out", tmp_path / "x", "--timeframe", "7m", kind=InputError)
    run("make", "--out", tmp_path / "x", "--pairs", "0", code=2)
    assert not (tmp_path / "x").exists()


def test_making_tells_how_far_it_is_pair_by_pair(tmp_path, monkeypatch):
    told = {}

    @contextmanager
    def heard(what):
        yield lambda done, total: told.setdefault(what, []).append((done, total))

    monkeypatch.setattr("tickless.cli.data.progress_bar", heard)
    run(*MAKE, "--out", tmp_path)
    assert told == {what: [(done, 9) for done in range(1, 10)] for what in ("pairs drawn", "pairs written")}


@pytest.mark.parametrize("command", [["make"], ["import", "nothing"], DOWNLOAD])
def test_an_empty_out_is_not_the_folder_one_is_in(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    assert "Invalid value for '--out': Value error, must name a path" in run(*command, "--out", "", code=2).output.replace("\n", " ")
    assert not list(tmp_path.iterdir())


def test_an_exchange_that_nobody_knows_is_told_by_its_option(tmp_path):
    sentence = refused(*DOWNLOAD, "--out", tmp_path / "x", "--exchange", "nosuch", kind=InputError)
    assert sentence == "--exchange: 'nosuch' is no exchange that ccxt knows"
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("command", [["make"], ["import", "nothing"], DOWNLOAD])
def test_an_out_that_can_be_no_folder_is_refused(tmp_path, command):
    (tmp_path / "afile").write_text("precious")
    file = refused(*command, "--out", tmp_path / "afile", kind=InputError)
    assert file == f"--out {tmp_path / 'afile'}: is a file, the bars need a folder"
    below = refused(*command, "--out", tmp_path / "afile" / "x", kind=InputError)
    assert below == f"--out {tmp_path / 'afile' / 'x'}: the bars need a folder, and none can be written there (Not a directory)"
    assert (tmp_path / "afile").read_text() == "precious"


def test_check_reports_every_pair(tmp_path):
    run(*MAKE, "--out", tmp_path, "--format", "json")
    path = tmp_path / "ETH_USDT-15m.json"
    rows = json.loads(path.read_text())
    path.write_text(json.dumps([*rows, rows[-1], [rows[0][0] + 1, 1, 1, 1, 1, 1], [rows[-1][0] + 900_000, 0, 1, 1, 1, 1]]))
    (tmp_path / "notes.txt").write_text("mine")
    report = json.loads(run("check", "--data", tmp_path, "--json").stdout)
    pairs = {pair["pair"]: pair for pair in report["timeframes"]["15m"]}
    eth = pairs["ETH/USDT"]
    assert (len(pairs), report["markets"], report["ignored_files"]) == (9, 9, ["notes.txt"])
    assert (eth["rows"], eth["duplicate"], eth["off_grid"], eth["impossible"]) == (len(rows), 1, 1, 1)
    assert pairs["PEPE/USDT"]["longest_gap"] == 20
    table = run("check", "--data", tmp_path, "--timeframe", "15m").stdout
    assert "ETH/USDT" in table
    assert "1 other files ignored; filters for 9 pairs in markets.json." in table


def test_check_drops_bars_of_the_future(tmp_path):
    run("make", "--out", tmp_path, "--pairs", "1", "--days", "2", "--start", "2200-01-01")
    assert "no pair has a usable bar" in refused("check", "--data", tmp_path)


def test_check_refuses_folders_that_cannot_be_used(tmp_path):
    assert refused("check", "--data", tmp_path / "gone", kind=InputError) == f"--data {tmp_path / 'gone'}: no such folder"
    assert "no bar file; timeframes there: none" in refused("check", "--data", tmp_path)
    run(*MAKE, "--out", tmp_path)
    assert "no 1h bar file; timeframes there: 15m" in refused("check", "--data", tmp_path, "--timeframe", "1h")
    for path in tmp_path.glob("*.parquet"):
        path.write_bytes(b"damaged")
    assert "no pair has a usable bar; " in (said := refused("check", "--data", tmp_path))
    assert ".parquet: not a readable parquet file" in said


def test_check_tells_what_it_cannot_read_and_goes_on(tmp_path):
    run(*MAKE, "--out", tmp_path)
    (tmp_path / "BTC_USDT-15m.parquet").write_bytes(b"damaged")
    (tmp_path / "markets.json").write_text("[" * 100_000)
    report = json.loads(run("check", "--data", tmp_path, "--json").stdout)
    markets, btc = report["unreadable_files"]
    assert markets.startswith(f"{tmp_path / 'markets.json'}: not readable as JSON")
    assert btc.startswith(f"{tmp_path / 'BTC_USDT-15m.parquet'}: not a readable parquet file")
    assert (len(report["timeframes"]["15m"]), report["markets"]) == (8, None)
    table = run("check", "--data", tmp_path).stdout
    assert f"unreadable: {btc}" in table
    assert "no filters: markets.json cannot be read." in table


def test_help_shows_an_example():
    assert "tickless data check --data" in run("check", "--help").stdout
    assert "tickless data make --out" in run("make", "--help").stdout
