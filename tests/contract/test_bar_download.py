"""Downloads through the real ccxt client from a Binance on loopback: resumed, patient, bounded, and never a bar that has not closed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest
from binance_loopback import Binance, point_at, serving
from typer.testing import CliRunner

from tickless.adapters import bar_download, bar_pages
from tickless.adapters.bar_download import download
from tickless.adapters.bar_files import data_sha256, pair_bars, read_folder, write_file, write_folder
from tickless.adapters.ccxt_client import open_client
from tickless.adapters.markets_file import read_folder_markets, write_markets
from tickless.adapters.synthetic_market import make_market
from tickless.bars import COLUMNS
from tickless.errors import DataError, InputError, RetryableError, SettingsError
from tickless.types import PairRules, to_ms

START = datetime(2024, 1, 1, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
BARS = 3000
END = START + BARS * QUARTER
NOW = END + timedelta(minutes=7)
PAIRS = ["BTC/USDT", "ETH/USDT", "PEPE/USDT", "SOL/USDT"]


@pytest.fixture(scope="module")
def market():
    """SOL lists late, PEPE vanishes, ETH has a gap; the last row is the running bar."""
    made = make_market(pairs=4, start=START, end=END + QUARTER, events=False)
    panel = made.panel
    for name in COLUMNS:
        values = getattr(panel, name)
        values[:1200, panel.column["SOL/USDT"]] = np.nan
        values[2500:, panel.column["PEPE/USDT"]] = np.nan
        values[700:720, panel.column["ETH/USDT"]] = np.nan
    rules = dict(made.rules)
    rules["GONE/USDT"] = PairRules("GONE/USDT", Decimal("0.01"), Decimal("0.1"), Decimal(5), Decimal("0.1"), active=False)
    with serving(Binance(panel, rules)) as server:
        yield server


@pytest.fixture
def binance(market, monkeypatch):
    market.faults.clear()
    market.asked.clear()
    market.most_bars, market.now_ms = 1000, to_ms(NOW)

    def opened(exchange_id, timeout_s, market_type):
        client = open_client(exchange_id, timeout_s, market_type)
        point_at(client, market.url)
        return client

    monkeypatch.setattr(bar_download, "open_client", opened)
    monkeypatch.setattr(bar_download, "PAGE_BARS", 100)
    monkeypatch.setattr(bar_pages, "PAGE_BARS", 100)
    monkeypatch.setattr(bar_download, "BLOCK_PAGES", 5)
    return market


@pytest.fixture
def get(binance, tmp_path):
    def call(pairs=("BTC/USDT",), start=START, end=END, **options):
        slept: list[float] = []
        report = download("binance", list(pairs), "15m", start, end, tmp_path, **{"now": lambda: NOW, "sleep": slept.append} | options)
        return report, slept

    return call


def stored(folder, pairs=None):
    return read_folder(folder, "15m", pairs=pairs)[0]


def recorded(binance, pairs, first=0, last=BARS):
    """What should be stored: the recording, from the first bar of any of these pairs to the last."""
    part = binance.panel.take(first, last).select(sorted(pairs))
    here = np.flatnonzero(~np.isnan(part.close).all(axis=1))
    return part.take(int(here[0]), int(here[-1]) + 1)


def test_every_pair_is_stored_as_it_is_with_its_filters(get, binance, tmp_path):
    report, slept = get(PAIRS)
    assert data_sha256(stored(tmp_path)) == data_sha256(recorded(binance, PAIRS))
    assert slept == []
    assert [(pair.pair, pair.status, pair.added, pair.span.missing) for pair in report.pairs] == [
        ("BTC/USDT", "done", 3000, 0),
        ("ETH/USDT", "done", 2980, 20),
        ("PEPE/USDT", "done", 2500, 0),
        ("SOL/USDT", "done", 1800, 0),
    ]
    assert read_folder_markets(tmp_path) == {pair: binance.rules[pair] for pair in PAIRS}


def test_the_running_bar_is_never_stored(get, binance, tmp_path):
    report, _ = get(end=None)
    assert stored(tmp_path).end == END
    assert report.end_ms == to_ms(END)


@pytest.mark.parametrize(("ours", "theirs"), [(NOW + timedelta(hours=1), NOW), (NOW, NOW + timedelta(hours=1))])
def test_a_clock_that_is_ahead_makes_no_bar_close(get, binance, tmp_path, ours, theirs):
    binance.now_ms = to_ms(theirs)
    get(end=None, now=lambda: ours)
    assert stored(tmp_path).end == END


def test_called_again_it_asks_for_nothing_it_has(get, binance, tmp_path):
    get(["BTC/USDT", "SOL/USDT"])
    path = tmp_path / "BTC_USDT-15m.parquet"
    before = path.stat().st_mtime_ns
    binance.asked.clear()
    report, _ = get(["BTC/USDT", "SOL/USDT"])
    assert [pair.added for pair in report.pairs] == [0, 0]
    assert path.stat().st_mtime_ns == before
    # The last bar of each, and what there might be before SOL lists: one request a block.
    assert [asked["symbol"] for asked in binance.asked] == ["BTCUSDT", "SOLUSDT", "SOLUSDT", "SOLUSDT", "SOLUSDT"]


def test_it_goes_on_behind_the_last_bar_and_fills_what_precedes_the_first(get, binance, tmp_path):
    get(start=START + 1000 * QUARTER, end=START + 1500 * QUARTER)
    binance.asked.clear()
    report, _ = get(end=START + 1600 * QUARTER)
    assert report.pairs[0].added == 1100
    assert data_sha256(stored(tmp_path)) == data_sha256(recorded(binance, ["BTC/USDT"], last=1600))
    assert len(binance.asked) == 2 + 10


def test_a_range_that_does_not_touch_the_file_leaves_no_hole(get, binance, tmp_path):
    get(start=START + 1000 * QUARTER, end=START + 1100 * QUARTER)
    get(start=START + 2000 * QUARTER, end=START + 2100 * QUARTER)
    assert data_sha256(stored(tmp_path)) == data_sha256(recorded(binance, ["BTC/USDT"], first=1000, last=2100))
    get(start=START + 500 * QUARTER, end=START + 600 * QUARTER)
    assert data_sha256(stored(tmp_path)) == data_sha256(recorded(binance, ["BTC/USDT"], first=500, last=2100))


def interrupt_after(binance, pages):
    """The answer that comes after so many good ones is a refusal that is not tried again."""
    binance.faults = [None] * pages + [(400, '{"code": -1120, "msg": "Invalid interval."}')]


def test_an_interruption_in_the_middle_keeps_what_came_and_is_resumed(get, binance, tmp_path):
    interrupt_after(binance, 7)
    report, _ = get()
    assert (report.pairs[0].status, report.pairs[0].added) == ("failed", 700)
    assert "15m bars of BTC/USDT" in report.pairs[0].error
    assert data_sha256(stored(tmp_path)) == data_sha256(recorded(binance, ["BTC/USDT"], last=700))
    report, _ = get()
    assert (report.pairs[0].status, report.pairs[0].added) == ("done", 2300)
    assert data_sha256(stored(tmp_path)) == data_sha256(recorded(binance, ["BTC/USDT"]))


def test_an_interruption_before_the_first_bar_leaves_no_hole(get, binance, tmp_path):
    get(start=START + 2000 * QUARTER)
    interrupt_after(binance, 1 + 5 + 2)
    report, _ = get()
    assert (report.pairs[0].status, report.pairs[0].added) == ("failed", 500)
    assert data_sha256(stored(tmp_path)) == data_sha256(recorded(binance, ["BTC/USDT"], first=1500))
    assert get()[0].pairs[0].added == 1500
    assert data_sha256(stored(tmp_path)) == data_sha256(recorded(binance, ["BTC/USDT"]))


def test_a_person_who_stops_it_loses_nothing_that_came(get, binance, tmp_path):
    def stop(_seconds):
        raise KeyboardInterrupt

    binance.faults = [None, None, None, (429, "{}", {"Retry-After": "1"})]
    with pytest.raises(KeyboardInterrupt):
        get(sleep=stop)
    assert data_sha256(stored(tmp_path)) == data_sha256(recorded(binance, ["BTC/USDT"], last=300))
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["BTC_USDT-15m.parquet", "markets.json"]


def test_a_rate_limit_is_obeyed(get, binance, tmp_path):
    binance.faults = [
        (429, '{"code": -1003, "msg": "Too many requests."}', {"Retry-After": "7"}),
        None,
        (418, "banned", {"Retry-After": "120"}),
        (429, "{}"),
    ]
    report, slept = get()
    assert slept == [7.0, 120.0, 30.0]
    assert (report.pairs[0].status, report.pairs[0].added) == ("done", 3000)


def test_a_rate_limit_without_end_is_given_up_and_one_that_is_long_is_told(get, binance, tmp_path):
    binance.faults = [(429, "{}", {"retry-after": "2"})] * 5
    report, slept = get()
    assert (report.pairs[0].status, slept) == ("failed", [2.0] * 4)
    binance.faults = [(418, "{}", {"Retry-After": "86400"})]
    report, slept = get()
    assert slept == []
    assert "it asks for a pause of 86400 s: call again after that" in report.pairs[0].error


@pytest.mark.parametrize(
    "fault", [(503, "busy"), (500, "<html>"), (200, "<html>oops</html>"), (200, "[[1704067200000]]"), (200, '{"a": 1}')]
)
def test_a_bad_answer_is_asked_again_a_bounded_number_of_times(get, binance, tmp_path, fault):
    binance.faults = [None, fault, fault]
    report, slept = get()
    assert (report.pairs[0].status, report.pairs[0].added, slept) == ("done", 3000, [1.0, 2.0])
    binance.faults = [fault] * 5
    report, slept = get(["ETH/USDT", "BTC/USDT"])
    assert [pair.status for pair in report.pairs] == ["failed", "done"]
    assert slept == [1.0, 2.0, 4.0, 8.0]
    assert binance.faults == []


def test_three_failures_in_a_row_end_it(get, binance, tmp_path):
    binance.faults = [(400, '{"code": -1120, "msg": "Invalid interval."}')] * 3
    report, _ = get([*PAIRS])
    assert [pair.status for pair in report.pairs] == ["failed"] * 4
    assert report.pairs[3].error == "not tried after 3 failures in a row"
    assert len(binance.asked) == 3


def test_rows_that_are_no_bars_are_left_out(get, binance, tmp_path):
    first = to_ms(START)
    rows = [[first, "1", "2", "1", "2", "5"], [first + 900_000, "0", "2", "1", "2", "5"], [first + 1_800_001, "1", "2", "1", "2", "5"]]
    binance.faults = [(200, json.dumps(rows))]
    report, _ = get(end=START + 4 * QUARTER)
    assert (report.pairs[0].added, report.pairs[0].span.missing) == (2, 2)


def test_pairs_the_exchange_does_not_list_are_reported_and_their_bars_kept(get, binance, tmp_path):
    old = binance.panel.take(0, 50).select(["BTC/USDT"])
    write_folder(tmp_path, old)
    (tmp_path / "BTC_USDT-15m.parquet").rename(tmp_path / "LUNA_USDT-15m.parquet")
    write_markets(tmp_path, {"LUNA/USDT": PairRules("LUNA/USDT")})
    report, _ = get(["LUNA/USDT", "GONE/USDT", "ETH/USDT"])
    assert [(pair.status, pair.span.rows, pair.active) for pair in report.pairs] == [
        ("unknown", 50, False),
        ("unknown", 0, False),
        ("done", 2980, True),
    ]
    assert set(read_folder_markets(tmp_path)) == {"LUNA/USDT", "GONE/USDT", "ETH/USDT"}
    with pytest.raises(InputError, match="--pairs LUNA/USDT: binance lists no such spot pair"):
        get(["LUNA/USDT"])


def test_a_pair_that_has_no_bar_in_the_range_writes_no_file(get, binance, tmp_path):
    report, _ = get(["SOL/USDT"], end=START + 1000 * QUARTER)
    assert (report.pairs[0].status, report.pairs[0].added) == ("no_bars", 0)
    assert not (tmp_path / "SOL_USDT-15m.parquet").exists()
    assert len(binance.asked) == 2


def test_what_cannot_be_asked_for_is_refused(get, binance, tmp_path):
    with pytest.raises(SettingsError, match="'nowhere' is no exchange"):
        download("nowhere", ["BTC/USDT"], "15m", START, END, tmp_path)
    with pytest.raises(DataError, match="7m"):
        download("binance", ["BTC/USDT"], "7m", START, END, tmp_path)
    write_file(tmp_path, pair_bars(binance.panel.take(0, 5), "BTC/USDT"), "csv")
    with pytest.raises(DataError, match=r"BTC_USDT-15m.csv: is there already"):
        get()


def test_an_exchange_that_does_not_answer_is_a_sentence(get, binance, tmp_path, monkeypatch):
    def nowhere(exchange_id, timeout_s, market_type):
        client = open_client(exchange_id, timeout_s, market_type)
        point_at(client, "http://127.0.0.1:9/api/v3")
        return client

    monkeypatch.setattr(bar_download, "open_client", nowhere)
    with pytest.raises(RetryableError, match="binance: markets"):
        get()


def test_progress_ends_at_the_end_and_never_goes_back(get, binance, tmp_path):
    steps: list[tuple[int, int]] = []
    get(["BTC/USDT", "SOL/USDT"], advance=lambda done, total: steps.append((done, total)))
    done = [step[0] for step in steps]
    assert done == sorted(done)
    assert steps[-1] == (2 * BARS * 900, 2 * BARS * 900)
    assert len(steps) > 40


def command(*arguments, code=0):
    from tickless.cli.app import app

    result = CliRunner().invoke(app, ["data", "download", *map(str, arguments)])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def test_the_command(binance, tmp_path):
    names = tmp_path / "pairs.txt"
    names.write_text("BTC/USDT  # first\n\nSOL/USDT\nOLD/USDT\n")
    shared = ("--timeframe", "15m", "--timerange", "20240101-20240130", "--out", tmp_path / "out")
    report = json.loads(command("--pairs-file", names, *shared, "--json").stdout)
    assert [(pair["pair"], pair["status"], pair["rows"], pair["remark"]) for pair in report["pairs"]] == [
        ("BTC/USDT", "done", 29 * 96, ""),
        ("SOL/USDT", "done", 29 * 96 - 1200, "begins 2024-01-13 12:00"),
        ("OLD/USDT", "unknown", 0, "binance does not serve it"),
    ]
    assert report["end"] == "2024-01-30T00:00:00Z"
    names.write_text('["PEPE/USDT"]')
    table = command("--pairs-file", names, "--timeframe", "15m", "--timerange", "20240101-", "--out", tmp_path / "out").stdout
    assert "ends 2024-01-27 00:45" in table


def test_the_command_fails_where_a_pair_could_not_be_finished(binance, tmp_path):
    interrupt_after(binance, 2)
    shared = ("--timeframe", "15m", "--timerange", "20240101-20240130", "--out", tmp_path)
    result = command("--pairs", "BTC/USDT", *shared, code=1)
    assert "1 of 1 pairs are not finished (binance: 15m bars of BTC/USDT" in result.stderr
    command("--pairs", "BTC/USDT", *shared)
    assert len(stored(tmp_path).open_times_ms) == 29 * 96


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--timerange", "20240101-20240102"], "--pairs or --pairs-file: name the pairs in one of them"),
        (["--timerange", "20240101-20240102", "--pairs", ","], "--pairs: names no pair"),
        (["--timerange", "20240101-20240102", "--pairs", "BTCUSDT"], "--pairs: 'BTCUSDT' is no pair such as BTC/USDT"),
        (["--timerange", "20240101-20240102", "--pairs-file", "gone.txt"], "gone.txt: not readable as a list of pairs"),
        (["--timerange", "soon-", "--pairs", "BTC/USDT"], "--timerange soon-: must be YYYYMMDD-YYYYMMDD or YYYYMMDD-"),
    ],
)
def test_the_command_refuses_in_a_sentence(binance, tmp_path, arguments, sentence):
    result = command(*arguments, "--timeframe", "15m", "--out", tmp_path, code=2)
    assert f"tickless: {sentence}" in result.stderr
    assert list(tmp_path.iterdir()) == []
