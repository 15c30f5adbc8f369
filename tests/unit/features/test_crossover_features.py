"""Two averages and where they cross: ties, gaps, the first bar that has both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from crossover_oracle import exact_rows
from made_panels import closes_only, rescaled, walk
from tickless.features import rotation
from tickless.features.crossover import EQUAL_FRAC, NAMES, build_features, startup_bars
from tickless.settings import CrossoverSection, Settings

TWO_FOUR = CrossoverSection(fast_bars=2, slow_bars=4)
NAN = float("nan")


def desk(section: CrossoverSection, max_gap_bars: int, **risk: float | None) -> Settings:
    """A desk whose stops are off but for those given."""
    off = {"initial_stop_atr": None, "trail_arm_atr": None, "take_profit_atr": None}
    return Settings.model_validate(
        {"strategy": {"crossover": section}, "universe": {"max_gap_bars": max_gap_bars}, "risk": {**off, **risk}}
    )


def features(closes: Sequence[float | None], settings: CrossoverSection = TWO_FOUR, max_gap_bars: int = 0) -> dict[str, list[float]]:
    table = build_features(closes_only(closes), desk(settings, max_gap_bars))
    return {name: table.feature(name)[:, 0].tolist() for name in NAMES}


def test_the_averages_are_plain_means_of_the_last_closes():
    got = features([1.0, 2.0, 4.0, 8.0, 16.0])
    assert got["sma_fast"][1:] == [1.5, 3.0, 6.0, 12.0]
    assert got["sma_slow"][3:] == [3.75, 7.5]
    assert np.isnan(got["sma_slow"][:3]).all()


def test_the_first_bar_with_both_averages_has_a_trend_and_no_cross():
    got = features([1.0, 2.0, 3.0, 4.0, 5.0])
    assert np.isnan(got["trend"][:3]).all()
    assert got["trend"][3:] == [1.0, 1.0]
    assert got["crossed"] == [0.0] * 5


@pytest.mark.parametrize(
    ("closes", "trend", "crossed"),
    [
        ((4.0, 3.0, 2.0, 1.0, 9.0), [-1.0, 1.0], [0.0, 1.0]),
        ((1.0, 2.0, 3.0, 4.0, 0.0), [1.0, -1.0], [0.0, -1.0]),
        # Equal in between: the bar after it crosses, whichever way it goes, and equality itself never does.
        ((5.0, 5.0, 5.0, 5.0, 6.0), [0.0, 1.0], [0.0, 1.0]),
        ((5.0, 5.0, 5.0, 5.0, 4.0), [0.0, -1.0], [0.0, -1.0]),
        ((1.0, 2.0, 3.0, 4.0, 1.0, 7.0, 8.0), [1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.0]),
        ((4.0, 3.0, 2.0, 1.0, 4.0, 1.0, 0.5), [-1.0, 0.0, 1.0, -1.0], [0.0, 0.0, 1.0, -1.0]),
    ],
)
def test_a_cross_is_a_side_that_was_not_the_side_before(closes, trend, crossed):
    got = features(closes)
    assert got["trend"][3:] == trend
    assert got["crossed"][3:] == crossed


def test_averages_told_apart_by_rounding_alone_are_equal():
    settings = CrossoverSection(fast_bars=3, slow_bars=9)
    closes = [0.1, 0.2, 0.3] * 40
    got = features(closes, settings)
    plain = np.array(got["sma_fast"][8:]) - np.array(got["sma_slow"][8:])
    assert (plain != 0.0).any(), "these closes must add up to averages that floating point tells apart"
    assert set(got["trend"][8:]) == {0.0}
    assert set(got["crossed"]) == {0.0}


@pytest.mark.parametrize(("off", "trend"), [(0.5, 0.0), (-0.5, 0.0), (8.0, 1.0), (-8.0, -1.0)])
def test_the_line_between_equal_and_not_lies_at_1e_12_of_the_slow_average(off, trend):
    # One close of four differs: fast is off by half of it, slow by a quarter, so the averages by a quarter of ``off`` times the line.
    closes = [1000.0, 1000.0, 1000.0, 1000.0 * (1.0 + 4.0 * off * EQUAL_FRAC)]
    assert features(closes)["trend"][3] == trend


def test_short_gaps_are_bridged_and_long_ones_start_the_averages_anew():
    closes = [1.0, 2.0, 3.0, 4.0, None, None, 5.0, 1.0, 1.0, 1.0, 9.0]
    bridged = features(closes, max_gap_bars=2)
    assert bridged["sma_slow"][5] == (3.0 + 4.0 * 3) / 4
    assert bridged["sma_fast"][6] == 4.5
    anew = features(closes, max_gap_bars=1)
    assert np.isnan(anew["sma_slow"][5:9]).all()
    assert anew["sma_slow"][9] == 2.0
    assert anew["crossed"][5:] == [0.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    assert bridged["crossed"][7] == -1.0


def test_a_pair_without_bars_and_one_that_has_ended_know_nothing():
    assert np.isnan(features([None] * 6)["trend"]).all()
    ended = features([1.0, 2.0, 3.0, 4.0, 5.0, None, None, None], max_gap_bars=1)
    assert ended["trend"][3:6] == [1.0, 1.0, 1.0]
    assert np.isnan(ended["trend"][6:]).all()
    assert ended["crossed"] == [0.0] * 8


def test_a_new_price_scale_starts_the_averages_anew():
    panel = walk(("A/USDT",), 60, seed=3)
    panel.volume[28:30] = 0.0
    table = build_features(rescaled(panel, "A/USDT", 30, 1000.0), desk(TWO_FOUR, 4))
    assert np.isnan(table.feature("sma_slow")[30:33, 0]).all()
    assert table.feature("sma_slow")[33, 0] > 50_000.0
    assert table.feature("crossed")[30:34, 0].tolist() == [0.0] * 4
    assert not np.isnan(table.feature("trend")[33:, 0]).any()


def test_many_pairs_and_long_averages_agree_with_exact_arithmetic():
    panel = walk(tuple(f"P{n}/USDT" for n in range(4)), 700, seed=9, price=(60_000.0, 1.0, 25.0, 2e-5))
    digits = (2, 4, 3, 8)
    for n, places in enumerate(digits):
        panel.close[:, n] = np.round(panel.close[:, n], places)
    panel.close[300:303, 1] = panel.close[410:420, 2] = NAN
    settings = CrossoverSection()
    table = build_features(panel, desk(settings, 4))
    for n in range(4):
        closes = [None if np.isnan(close) else close for close in panel.close[:, n].tolist()]
        rows = list(exact_rows(closes, settings.fast_bars, settings.slow_bars, 4))
        assert table.feature("crossed")[:, n].tolist() == [row.crossed for row in rows]
        assert sum(row.crossed != 0 for row in rows) >= 4
        slow = [NAN if row.slow is None else float(row.slow) for row in rows]
        np.testing.assert_allclose(table.feature("sma_slow")[:, n], slow, rtol=1e-13)


def test_a_window_of_the_startup_bars_gives_the_bits_of_the_whole():
    panel = walk(("A/USDT", "B/USDT"), 400, seed=2)
    panel.close[195:198, 0] = panel.volume[195:198, 0] = NAN
    settings = CrossoverSection(fast_bars=5, slow_bars=30)
    whole = build_features(panel, desk(settings, 4))
    for row in (199, 200, 228, 250, 399):
        part = panel.take(row + 1 - startup_bars(desk(settings, 4)), row + 1)
        assert np.array_equal(build_features(part, desk(settings, 4)).values[-1], whole.values[row], equal_nan=True)
        assert np.array_equal(build_features(panel, desk(settings, 4), row).values, whole.values[row:], equal_nan=True)


def test_the_atr_is_there_where_a_stop_is_measured_in_it_and_is_that_of_rotation():
    panel = walk(("A/USDT", "B/USDT"), 400, seed=5)
    settings = desk(TWO_FOUR, 4, initial_stop_atr=1.3)
    table = build_features(panel, settings)

    assert table.names == (*NAMES, "atr_14_30m")
    assert build_features(panel, desk(TWO_FOUR, 4)).names == NAMES
    theirs = rotation.build_features(panel, 4).feature("atr_14_30m")
    assert np.array_equal(table.feature("atr_14_30m"), theirs, equal_nan=True)
    assert np.isfinite(theirs[100:]).all()
    for row in (300, 399):
        part = panel.take(row + 1 - startup_bars(settings), row + 1)
        assert np.array_equal(build_features(part, settings).values[-1], table.values[row], equal_nan=True)
