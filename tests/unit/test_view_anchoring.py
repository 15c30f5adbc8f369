"""One tick and eight months compute the same bits: a view equals the row of a long table, for features and for the regime."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from made_panels import MONDAY, walk, without
from tickless.adapters.bar_files import read_folder
from tickless.adapters.memory_models import MemoryModelStore
from tickless.features import rotation
from tickless.features.rotation import build_features
from tickless.regimes import ema_trend
from tickless.runs.rotation_history import RotationHistory
from tickless.settings import load_desk

PAIRS = ("BTC/USDT", "DEAD/USDT", "HOLE/USDT", "PEPE/USDT", "YOUNG/USDT")
EDGES = (
    timedelta(0),
    timedelta(minutes=15),
    timedelta(minutes=30),
    timedelta(minutes=45),
    timedelta(days=6, hours=23, minutes=30),
    timedelta(days=6, hours=23, minutes=45),
)


def tables(panel, settings):
    market = panel.select([f"{settings.rotation.market_base}/USDT"])
    table = build_features(panel, settings.universe.max_gap_bars)
    return table, ema_trend.detect(market, table.feature("r_24h"), settings.rotation, settings.universe.max_gap_bars)


def assert_same_bits(panel, settings, ticks):
    """Every tick's view, from no more bars than a live desk has, against the table over all bars."""
    table, regimes = tables(panel, settings)
    for at in ticks:
        live = panel.between(RotationHistory.strategy.first_bar(settings, at), at)
        view = RotationHistory(live, panel.pairs, settings, at, MemoryModelStore()).view(at)
        row = table.row_closing_at(at)
        assert np.array_equal(view.features, table.values[row], equal_nan=True), at
        wanted = regimes.at(row)
        assert (view.regime.name, view.regime.volatility, view.regime.breadth_frac) == (wanted.name, wanted.volatility, wanted.breadth_frac)
        assert np.array_equal(view.regime.volatility_ann_frac, wanted.volatility_ann_frac, equal_nan=True), at


@pytest.mark.parametrize(("timeframe", "weeks"), [("15m", 9), ("5m", 6)])
def test_a_tick_and_a_long_table_agree_bit_for_bit(timeframe, weeks):
    settings = load_desk("rotation", [f"desk.timeframe={timeframe}"])
    a_week = 7 * 24 * (12 if timeframe == "5m" else 4)
    rows = weeks * a_week
    panel = walk(PAIRS, rows, timeframe=timeframe, seed=11, price=(60_000.0, 2.0, 30.0, 1e-5, 7.0))
    panel = without(panel, "DEAD/USDT", rows - a_week, rows)
    panel = without(panel, "HOLE/USDT", rows - a_week - 60, rows - a_week - 40)
    panel = without(panel, "HOLE/USDT", rows - a_week // 2, rows - a_week // 2 + 3)
    panel = without(panel, "YOUNG/USDT", 0, rows - a_week - 150)
    last_monday = MONDAY + timedelta(weeks=weeks - 1)
    ticks = [monday + edge for monday in (last_monday - timedelta(weeks=1), last_monday) for edge in EDGES]
    ticks += [last_monday + timedelta(hours=7 * k, minutes=15 * (k % 4)) for k in range(1, 23)]
    assert_same_bits(panel, settings, ticks)


@pytest.mark.realdata
def test_recorded_bars_agree_bit_for_bit(realdata):
    settings = load_desk("rotation")
    pairs = ["BTC/USDT", "ETH/USDT", "PEPE/USDT", "BONK/USDT", "1000SATS/USDT", "SOL/USDT"]
    panel, _ = read_folder(realdata / "spot_2024", "15m", pairs=pairs)
    monday = datetime(2024, 6, 3, tzinfo=UTC)
    ticks = [monday + edge + timedelta(weeks=week) for week in (0, 9) for edge in EDGES]
    ticks += [monday + timedelta(minutes=30 * 37 * k) for k in range(1, 30)]
    assert_same_bits(panel, settings, ticks)


def relative_change(one, other):
    scale = np.nanmax(np.abs(one), axis=0)
    return np.nanmax(np.abs(one - other) / np.where(scale > 0.0, scale, 1.0))


def test_more_history_changes_nothing():
    panel = walk(PAIRS, 6 * 672, seed=5, price=(60_000.0, 2.0, 30.0, 1e-5, 7.0))
    short = build_features(panel, 4, 5 * 672)
    long = build_features(panel, 4, 5 * 672, 2 * rotation.startup_bars("15m"))
    assert not np.array_equal(short.values, long.values)
    assert relative_change(long.values, short.values) < 1e-6


@pytest.mark.realdata
def test_more_history_changes_nothing_on_recorded_bars(realdata):
    panel, _ = read_folder(realdata / "spot_2024", "15m", start=datetime(2024, 4, 1, tzinfo=UTC), end=datetime(2024, 6, 1, tzinfo=UTC))
    settings = load_desk("rotation")
    since = panel.rows - 14 * 96
    short, market = build_features(panel, 4, since), panel.select(["BTC/USDT"])
    few = ema_trend.detect(market, short.feature("r_24h"), settings.rotation, 4)
    more = 3 * rotation.startup_bars("15m")
    long = build_features(panel, 4, since, more)
    many = ema_trend.detect(market, long.feature("r_24h"), settings.rotation, 4, more)
    assert not np.array_equal(short.values, long.values)
    assert relative_change(long.values, short.values) < 1e-6
    assert np.array_equal(few.names, many.names)
    assert np.array_equal(few.volatility, many.volatility)
