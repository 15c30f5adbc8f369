"""The feature table against a slow oracle written from the definitions."""

import math
from datetime import timedelta

import numpy as np
import pytest
from rotation_oracle import features_at

from made_panels import MONDAY, flat, walk, without
from tickless.errors import DataError
from tickless.features.rotation import MODEL_FEATURES, NAMES, build_features, startup_bars

ODD_PAIRS = ("A/USDT", "FLAT/USDT", "GAP/USDT", "HOLE/USDT", "LATE/USDT", "TINY/USDT")


def odd_market(timeframe, rows):
    panel = walk(ODD_PAIRS, rows, timeframe=timeframe, seed=7, price=(60_000.0, 1.0, 3.0, 0.25, 40.0, 1.1e-5))
    panel = without(panel, "LATE/USDT", 0, rows // 3)
    for first, length in ((37, 1), (211, 4), (rows // 2, 3)):
        panel = without(panel, "GAP/USDT", first, first + length)
    panel = without(panel, "HOLE/USDT", rows // 3, rows // 3 + 9)
    return flat(panel, "FLAT/USDT", 60, rows - 150, 0.9998)


@pytest.mark.parametrize(("timeframe", "rows"), [("15m", 900), ("5m", 1000)])
def test_features_agree_with_a_slow_reference(timeframe, rows):
    panel = odd_market(timeframe, rows)
    table = build_features(panel, 4)
    assert table.names == NAMES
    assert table.names[:13] == MODEL_FEATURES
    interesting = {0, 1, 5, 6, 7, 13, 14, 15, 19, 20, 36, 37, 38, 41, 95, 96, 97, 210, 212, 215, 216, 287, 288, 289, rows - 1}
    interesting |= {rows // 3 + k for k in (-1, 0, 3, 4, 5, 8, 9, 10, 20, 40)} | set(range(2, rows, 41))
    for n, pair in enumerate(panel.pairs):
        for t in sorted(interesting):
            expected = features_at(panel, n, t, 4)
            for k, name in enumerate(NAMES):
                got = float(table.values[t, n, k])
                wanted = expected[name]
                scale = max(1.0, abs(wanted)) if name != "atr_14_30m" else panel.close[np.isfinite(panel.close[:, n]), n][0] * 1e-3
                assert (math.isnan(got) and math.isnan(wanted)) or abs(got - wanted) < 1e-6 * scale, (pair, t, name, got, wanted)


def test_a_bridged_gap_changes_little_and_a_long_one_starts_anew():
    panel = walk(("A/USDT",), 600, seed=3)
    bridged = build_features(without(panel, "A/USDT", 300, 304), 4)
    anew = build_features(without(panel, "A/USDT", 300, 305), 4)
    r_24h = NAMES.index("r_24h")
    assert not np.isnan(bridged.values[97:, 0, :]).any()
    # The fifth missing bar breaks the series; a return never spans the break.
    assert not np.isnan(anew.values[303, 0, r_24h])
    assert np.isnan(anew.values[304 : 305 + 96, 0, r_24h]).all()
    assert not np.isnan(anew.values[305 + 96, 0, r_24h])
    assert np.isnan(anew.values[304, 0, NAMES.index("ema20_z")])
    assert anew.values[305, 0, NAMES.index("ema20_z")] == 0.0


def test_no_gap_is_bridged_where_the_setting_says_so():
    panel = without(walk(("A/USDT",), 300, seed=3), "A/USDT", 150, 151)
    values = build_features(panel, 0).values
    assert np.isnan(values[150, 0, NAMES.index("rsi7")])
    assert np.isnan(values[157, 0, NAMES.index("rsi7")])
    assert not np.isnan(values[158, 0, NAMES.index("rsi7")])


def test_a_price_that_does_not_move_is_neither_strong_nor_risky():
    panel = flat(walk(("A/USDT",), 400), "A/USDT", 0, 400, 1.0001)
    row = dict(zip(NAMES, build_features(panel, 4).values[-1, 0], strict=True))
    assert row == {name: {"rsi7": 50.0, "rsi14": 50.0, "bb_pos": 0.5}.get(name, 0.0) for name in NAMES}


def test_only_gains_are_a_full_rsi():
    panel = walk(("A/USDT",), 200)
    rising = np.linspace(100.0, 120.0, 200)[:, None]
    panel = type(panel)("15m", panel.pairs, panel.start_ms, rising, rising, rising, rising, panel.volume)
    assert build_features(panel, 4).values[-1, 0, NAMES.index("rsi14")] == 100.0


def test_scaling_every_price_changes_only_what_is_in_price_units():
    panel = walk(("A/USDT",), 500, seed=5)
    small = type(panel)(
        "15m", panel.pairs, panel.start_ms, *(getattr(panel, c) / 2**20 for c in ("open", "high", "low", "close")), panel.volume
    )
    one, other = build_features(panel, 4).values[-1, 0], build_features(small, 4).values[-1, 0]
    for name, a, b in zip(NAMES, one, other, strict=True):
        if name == "atr_14_30m":
            assert b == a / 2**20
        elif name not in ("ema20_z", "ema60_z"):  # their 1e-8 is in price units
            assert b == pytest.approx(a, rel=1e-9), name


def test_a_collapse_to_a_millionth_leaves_the_features_alive():
    panel = walk(("A/USDT", "B/USDT"), 500, seed=9)
    fall = np.ones((500, 1))
    fall[300:] = 1e-6
    crashed = type(panel)(
        "15m", panel.pairs, panel.start_ms, *(getattr(panel, c) * fall for c in ("open", "high", "low", "close")), panel.volume
    )
    table = build_features(crashed, 4)
    for t in (320, 410, 499):
        expected = features_at(crashed, 0, t, 4)
        for name in ("rsi7", "rsi14", "bb_pos", "rv_6h"):
            assert table.values[t, 0, NAMES.index(name)] == pytest.approx(expected[name], rel=1e-3), (t, name)


@pytest.mark.parametrize(("timeframe", "bars"), [("15m", 1410), ("5m", 1410), ("30m", 1409)])
def test_startup_bars_are_whole_half_hours(timeframe, bars):
    assert startup_bars(timeframe) == bars


def test_an_empty_panel_gives_an_empty_table():
    table = build_features(walk(("A/USDT",), 1).take(0, 0), 4)
    assert table.values.shape == (0, 1, 14)


def test_bars_longer_than_a_half_hour_are_refused():
    with pytest.raises(DataError, match="cannot resample 1h bars to 30m"):
        build_features(walk(("A/USDT",), 10, timeframe="1h"), 4)


@pytest.mark.parametrize("offset_min", [0, 15])
def test_half_hours_are_those_of_the_clock(offset_min):
    panel = walk(("A/USDT",), 500, start=MONDAY + timedelta(minutes=offset_min), seed=2)
    table = build_features(panel, 4)
    for t in (28, 29, 30, 31, 32, 200, 201, 499):
        expected = features_at(panel, 0, t, 4)["atr_14_30m"]
        assert table.feature("atr_14_30m")[t, 0] == pytest.approx(expected, nan_ok=True)
