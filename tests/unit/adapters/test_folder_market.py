"""The market of recorded bars."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest

from tickless.adapters.bar_files import write_folder
from tickless.adapters.folder_market import FolderMarket, load_market
from tickless.adapters.markets_file import write_markets
from tickless.bars import Panel
from tickless.errors import DataError
from tickless.types import PairRules, to_ms

START = datetime(2024, 1, 1, tzinfo=UTC)
QUARTER = timedelta(minutes=15)


def make_market(count=16):
    close = 100.0 + np.arange(count * 3, dtype=float).reshape(count, 3)
    columns = [close - 1, close + 2, close - 3, close, close * 10]
    for values in columns:
        values[5, 1] = np.nan
        values[:, 2] = np.nan
    return FolderMarket(Panel("15m", ("A/USDT", "B/USDT", "NONE/USDT"), to_ms(START), *columns))


def test_pairs_are_those_with_bars():
    assert make_market().pairs() == ["A/USDT", "B/USDT"]


def test_a_bar_that_has_not_closed_by_the_end_is_not_handed_out():
    market = make_market()
    end = START + 3 * QUARTER
    assert market.bars(["A/USDT"], "15m", START, end).end == end
    assert market.bars(["A/USDT"], "15m", START, end + timedelta(minutes=14)).end == end
    half = market.bars(["A/USDT"], "30m", START, end)
    assert half.end == START + 2 * QUARTER
    assert half.close[:, 0].tolist() == [market.panel.close[1, 0]]


def test_what_is_not_recorded_is_missing():
    market = make_market()
    panel = market.bars(["X/USDT", "A/USDT"], "15m", START - 2 * QUARTER, START + 18 * QUARTER)
    assert (panel.pairs, panel.rows, panel.start) == (("X/USDT", "A/USDT"), 20, START - 2 * QUARTER)
    assert np.isnan(panel.close[:, 0]).all()
    assert np.isnan(panel.close[[0, 1, 18, 19], 1]).all()
    assert panel.close[2:18, 1].tolist() == market.panel.close[:, 0].tolist()
    assert market.bars(["A/USDT"], "1h", START, START).rows == 0
    assert market.bars(["A/USDT"], "1h", START + timedelta(days=9), START + timedelta(days=10)).rows == 24


def test_longer_timeframes_are_the_resampled_recording():
    market = make_market()
    hours = market.bars(["A/USDT", "B/USDT"], "1h", START, START + timedelta(hours=4))
    expected = market.panel.select(["A/USDT", "B/USDT"]).resample("1h")
    assert np.array_equal(hours.close, expected.close)
    assert np.array_equal(hours.volume, expected.volume)
    with pytest.raises(DataError, match="cannot resample 15m bars to 5m"):
        market.bars(["A/USDT"], "5m", START, START + QUARTER)


def test_opens_know_the_bar_that_opens_now_and_nothing_more():
    market = make_market()
    assert market.opens(["A/USDT", "B/USDT", "X/USDT"], "15m", START + 5 * QUARTER) == {"A/USDT": 114.0}
    assert market.opens(["A/USDT"], "1h", START + 4 * QUARTER) == {"A/USDT": 111.0}
    assert market.opens(["A/USDT"], "15m", START - QUARTER) == {}
    assert market.opens(["A/USDT"], "15m", START + 16 * QUARTER) == {}
    with pytest.raises(DataError, match="not the open of a 1h bar"):
        market.opens(["A/USDT"], "1h", START + QUARTER)


def test_load_market_reads_bars_filters_and_reports(tmp_path):
    rules = {"A/USDT": PairRules("A/USDT", Decimal("0.01"))}
    write_folder(tmp_path, make_market().panel)
    write_markets(tmp_path, rules)
    market, report = load_market(tmp_path, "15m")
    assert market.pairs() == ["A/USDT", "B/USDT"]
    assert market.rules() == rules
    assert report.repairs == {}
