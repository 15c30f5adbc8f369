"""Where the price scale breaks, every feature starts anew; and it does so alike in one tick and in eight months."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rotation_oracle import features_at

from made_panels import rescaled, walk, without
from tickless.features import rotation
from tickless.features.rotation import NAMES, build_features, startup_bars
from tickless.settings.sections import UniverseSection

PAIRS = ("A/USDT", "B/USDT")
ROWS = 700
STARTUP = startup_bars("15m")
LONG = walk(PAIRS, STARTUP + 400, seed=21)


def broken(panel, row, gap, ratio):
    """The panel with the first pair silent for ``gap`` bars before ``row``, and ``ratio`` times as dear from there on."""
    return rescaled(without(panel, "A/USDT", row - gap, row), "A/USDT", row, ratio)


@pytest.mark.parametrize(
    ("gap", "ratio", "max_gap"), [(1, 1000.0, 4), (4, 0.001, 4), (9, 1000.0, 4), (30, 0.001, 40), (97, 3.0, 96), (96, 1 / 3, 96)]
)
def test_features_around_a_break_agree_with_a_slow_reference(gap, ratio, max_gap):
    row = 351
    panel = broken(walk(PAIRS, ROWS, seed=8), row, gap, ratio)
    table = build_features(panel, max_gap)
    for t in [row - gap - 1, row - gap, *range(row - 2, row + 40), *range(row + 90, row + 100), row + 287, ROWS - 1]:
        expected = features_at(panel, 0, t, max_gap, breaks={row})
        for name, got in zip(NAMES, table.values[t, 0].tolist(), strict=True):
            wanted = expected[name]
            assert (math.isnan(got) and math.isnan(wanted)) or got == pytest.approx(wanted, rel=1e-6, abs=1e-8), (t, name)


@settings(max_examples=60)
@given(row=st.integers(20, ROWS - 2), gap=st.integers(1, 19), factor=st.floats(5.01, 1e8), up=st.booleans(), max_gap=st.integers(0, 20))
def test_no_feature_sees_across_a_break(row, gap, factor, up, max_gap):
    plain = without(walk(PAIRS, ROWS, seed=9), "A/USDT", row - gap, row)
    panel = broken(plain, row, gap, factor if up else 1.0 / factor)
    values = build_features(panel, max_gap).values
    assert np.array_equal(values[:row], build_features(plain, max_gap).values[:row], equal_nan=True)
    # From there on it is as if nothing had ever been there.
    assert np.array_equal(values[row:], build_features(without(panel, "A/USDT", 0, row), max_gap).values[row:], equal_nan=True)
    assert np.array_equal(values[:, 1], build_features(plain, max_gap).values[:, 1], equal_nan=True)


@settings(max_examples=40)
@given(gap=st.integers(5, 60), power=st.integers(3, 8), up=st.booleans())
def test_a_new_scale_after_a_long_gap_changes_nothing_but_price_units(gap, power, up):
    row, ratio = 300, 2.0 ** (power if up else -power)
    plain = broken(walk(PAIRS, ROWS, seed=9), row, gap, 1.0)
    one, other = build_features(plain, 4).values, build_features(broken(walk(PAIRS, ROWS, seed=9), row, gap, ratio), 4).values
    for k, name in enumerate(NAMES):
        if name == "atr_14_30m":
            assert np.array_equal(other[row:, 0, k], one[row:, 0, k] * ratio, equal_nan=True)
        else:
            # The logarithm of another number rounds differently; the 1e-8 of the EMA distances is in price units.
            np.testing.assert_allclose(other[..., k], one[..., k], rtol=1e-4 if name.startswith("ema") else 1e-9)


def test_a_crash_by_eighty_percent_within_an_hour_is_a_return():
    panel = rescaled(walk(PAIRS, ROWS, seed=8), "A/USDT", 400, 0.2)
    values = build_features(panel, 4).values
    assert not np.isnan(values[400:, 0]).any()
    assert values[400, 0, NAMES.index("r_1h")] == pytest.approx(-0.8, abs=0.02)
    assert values[420, 0, NAMES.index("dd_from_peak")] < -0.75
    for t in (400, 404, 495, 496):
        expected = features_at(panel, 0, t, 4)
        assert values[t, 0].tolist() == pytest.approx([expected[name] for name in NAMES], rel=1e-6, abs=1e-8)


@settings(max_examples=150)
@given(
    offset=st.integers(-150, 150),
    gap=st.integers(1, 120),
    ratio=st.sampled_from([1.0, 3.0, 1000.0, 1e-4]),
    max_gap=st.sampled_from([0, 4, 96]),
    early=st.integers(0, 8),
    idle=st.booleans(),
)
def test_a_tick_with_only_its_startup_bars_has_the_bits_of_the_whole_history(offset, gap, ratio, max_gap, early, idle):
    """A silence or a break before, at and after the first bars that a tick reads."""
    t = LONG.rows - 1
    begin = t - STARTUP
    row = max(gap + 1, begin + offset)
    panel = broken(LONG, row, gap, ratio)
    if idle:
        panel.volume[row, 0] = 0.0
    whole = build_features(panel, max_gap, t - 3)
    tick = build_features(panel.take(max(0, begin - early), t + 1), max_gap, min(begin, early) + STARTUP)
    assert np.array_equal(tick.values[-1], whole.values[-1], equal_nan=True)


def test_the_startup_bars_hold_the_longest_gap_that_may_be_bridged():
    bound = next(m.le for m in UniverseSection.model_fields["max_gap_bars"].metadata if hasattr(m, "le"))
    without_gaps = max(1024 + 288, 97)
    assert startup_bars("15m") >= without_gaps + bound + 1


def test_neither_blocks_nor_threads_change_a_bit(monkeypatch):
    panel = walk(PAIRS, 4_700, seed=3)
    whole = build_features(panel, 4)
    monkeypatch.setattr(rotation, "_BLOCK_VALUES", 2 * 700)
    for since in (0, 1, 699, 700, 3500, 4699, 4700):
        part = build_features(panel, 4, since)
        assert np.array_equal(part.values, whole.values[since:], equal_nan=True)
        assert part.start_ms == panel.start_ms + since * panel.step_ms


def test_longer_memory_changes_no_feature():
    panel = walk(PAIRS, 3 * STARTUP, seed=5, price=(60_000.0, 1e-5))
    few, many = build_features(panel, 4, 2 * STARTUP), build_features(panel, 4, 2 * STARTUP, STARTUP)
    assert not np.array_equal(few.values, many.values)
    assert np.nanmax(np.abs(few.values - many.values) / np.nanmax(np.abs(few.values), axis=0)) < 1e-9
