"""``tickless data import`` as a person types it."""

import numpy as np
import pytest

from tests.made_panels import walk
from tickless.adapters.bar_files import read_folder, write_folder

HEADER = "ts,o,h,l,c,v"


@pytest.fixture
def prices(tmp_path):
    path = tmp_path / "prices.csv"
    rows = [f"{1704067200 + 60 * minute},1,3,0.5,2,7" for minute in range(44)]
    path.write_text("\n".join([HEADER, *rows, rows[-1], f"{1704067200 + 60 * 44},0,3,0.5,2,7"]) + "\n")
    return path


def test_minutes_of_a_csv_become_quarters_of_an_hour(tickless, prices, tmp_path):
    shared = ("data", "import", prices, "--out", tmp_path / "out", "--pair", "BTC/USDT", "--timeframe", "1m")
    report = tickless.json(*shared, "--resample", "15m", "--columns", "date=ts,volume=v")
    (pair,) = report["pairs"]
    assert (pair["pair"], pair["timeframe"], pair["rows_read"], pair["added"]) == ("BTC/USDT", "15m", 46, 2)
    assert pair["repairs"] == {"duplicate": 1, "impossible": 1}
    assert (pair["first"], pair["last"]) == ("2024-01-01T00:00:00Z", "2024-01-01T00:15:00Z")
    assert read_folder(tmp_path / "out", "15m")[0].volume[:, 0].tolist() == [105.0, 105.0]
    table = tickless(*shared).stdout
    assert "1 duplicate, 1 impossible" in table


def test_a_folder_of_freqtrade_is_converted(tickless, tmp_path):
    write_folder(tmp_path / "in", walk(["BTC/USDT", "ETH/BTC"], 30), "csv")
    (tmp_path / "in" / "notes.md").write_text("mine")
    result = tickless("data", "import", tmp_path / "in", "--out", tmp_path / "out", "--format", "feather", "--quote", "USDT")
    assert "BTC/USDT" in result.stdout
    assert result.stderr == "2 files left alone: ETH_BTC-15m.csv, notes.md\n"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["BTC_USDT-15m.feather"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--pair", "BTCUSDT"), "--pair 'BTCUSDT': must be <BASE>/<QUOTE>, as in BTC/USDT"),
        (("--resample", "7m"), "--resample '7m': unknown; known: 1m, "),
        (("--timeframe", "7m"), "--timeframe '7m': unknown; known: 1m, "),
        (("--columns", "ts"), "--columns 'ts': must be field=column"),
        ((), "prices.csv: the name tells no pair; name it, as in --pair BTC/USDT"),
        (("--kind", "binance"), "prices.csv: no file to import among prices.csv"),
    ],
)
def test_what_is_wrong_is_one_sentence(tickless, prices, tmp_path, options, sentence):
    assert sentence in tickless.refused("data", "import", prices, "--out", tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


def test_an_unreadable_date_is_refused_with_the_formats_that_are_read(tickless, tmp_path):
    path = tmp_path / "prices.csv"
    path.write_text(f"{HEADER}\n31.12.2024 00:00,1,3,0.5,2,7\n")
    sentence = tickless.refused("data", "import", path, "--out", tmp_path / "out", "--pair", "BTC/USDT", "--timeframe", "1m")
    assert "column date, row 1: '31.12.2024 00:00' is not a date; dates are ISO 8601, as 2024-12-31 or 2024-12-31T23:45:00Z, " in sentence
    assert "or an epoch in seconds, milliseconds, microseconds or nanoseconds" in sentence


@pytest.mark.parametrize(
    "date", ["2024-12-31", "2024-12-31T00:00:00Z", "1735603200", "1735603200000", "1735603200000000", "1735603200000000000"]
)
def test_the_formats_that_the_refusal_names_are_read(tickless, tmp_path, date):
    path = tmp_path / "prices.csv"
    path.write_text(f"{HEADER}\n{date},1,3,0.5,2,7\n")
    options = ("--out", tmp_path / "out", "--pair", "BTC/USDT", "--timeframe", "1m", "--columns", "date=ts")
    (pair,) = tickless.json("data", "import", path, *options)["pairs"]
    assert pair["first"] == "2024-12-31T00:00:00Z"


def test_help_shows_an_example(tickless):
    assert "tickless data import" in tickless("data", "import", "--help").stdout
    assert "tickless data download" in tickless("data", "download", "--help").stdout


@pytest.mark.realdata
def test_recorded_minutes_resample_as_the_panel_does(tickless, realdata, tmp_path):
    source = realdata / "perp_1m_2025" / "LAYER_USDT-1m.parquet"
    report = tickless.json("data", "import", source, "--out", tmp_path, "--resample", "1h")
    whole, _ = read_folder(source.parent, "1m", pairs=["LAYER/USDT"])
    expected = whole.resample("1h")
    found, _ = read_folder(tmp_path, "1h")
    assert report["pairs"][0]["rows_read"] == 43_199
    assert (found.start, found.end, found.rows) == (expected.start, expected.end, expected.rows)
    assert found.close.tolist() == expected.close.tolist()
    assert found.volume.tolist() == expected.volume.tolist()


@pytest.mark.realdata
def test_recorded_spot_data_has_no_break_and_no_jump(tickless, realdata):
    """A crash of the sort that August 2024 saw is a price: nothing in eight months of real bars may be taken for a new scale."""
    report = tickless.json("data", "check", "--data", realdata / "spot_2024", "--timeframe", "15m")
    pairs = report["timeframes"]["15m"]
    assert len(pairs) == 60
    assert [pair["pair"] for pair in pairs if pair["scale_breaks"] or pair["jumps"] or pair["missing"]] == []


@pytest.mark.realdata
def test_quarters_of_an_hour_resample_to_the_hours_the_exchange_recorded(realdata):
    pairs = ["BTC/USDT", "LUNA/USDT", "PEPE/USDT"]
    hours, _ = read_folder(realdata / "spot_2024", "1h", pairs=pairs)
    ours = read_folder(realdata / "spot_2024", "15m", pairs=pairs)[0].resample("1h")
    assert ours.start == hours.start
    both = np.flatnonzero(np.isfinite(ours.close[:5900]).all(axis=1) & np.isfinite(hours.close[:5900]).all(axis=1))
    assert len(both) == 5900
    for name in ("open", "high", "low", "close"):
        np.testing.assert_array_equal(getattr(ours, name)[both], getattr(hours, name)[both])
    np.testing.assert_allclose(ours.volume[both], hours.volume[both], rtol=1e-12)
