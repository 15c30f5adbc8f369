"""A pair's series: short gaps bridged, long gaps and new price scales start it anew, and a part of a panel agrees with the whole."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rotation_oracle import segment_to

from made_panels import rescaled, walk, without
from tickless.features.indicators import simple_average
from tickless.features.rolling import window_sum
from tickless.features.series import pair_series

PAIRS = ("A/USDT", "GAP/USDT", "LATE/USDT", "NONE/USDT")


def market(rows=300):
    panel = walk(PAIRS, rows, seed=4, price=(60_000.0, 3.0, 1e-5, 1.0))
    for first, length in ((50, 2), (90, 5), (200, 6)):
        panel = without(panel, "GAP/USDT", first, first + length)
    panel = without(panel, "LATE/USDT", 0, 120)
    panel = without(panel, "LATE/USDT", 280, rows)
    return without(panel, "NONE/USDT", 0, rows)


@pytest.mark.parametrize("max_gap", [0, 1, 4, 5, 96])
def test_close_and_age_agree_with_a_slow_reference(max_gap):
    panel = market()
    series = pair_series(panel, max_gap)
    for n in range(len(PAIRS)):
        closes = [None if math.isnan(c) else float(c) for c in panel.close[:, n]]
        for t in range(panel.rows):
            run = segment_to(closes, t, max_gap)
            assert series.age[t, n] == len(run) - 1
            assert (series.close[t, n] == run[-1]) if run else math.isnan(series.close[t, n])


def test_a_panel_without_gaps_is_its_own_series():
    panel = walk(PAIRS, 20)
    series = pair_series(panel, 4)
    assert series.close is panel.close
    assert series.age.tolist() == [[t] * len(PAIRS) for t in range(20)]


@pytest.mark.parametrize(("gap", "ratio"), [(1, 1000.0), (1, 0.001), (3, 5.01), (96, 3.0)])
def test_a_new_price_scale_starts_the_series_anew_however_short_the_gap(gap, ratio):
    panel = rescaled(without(walk(PAIRS, 300), "GAP/USDT", 100, 100 + gap), "GAP/USDT", 100 + gap, ratio)
    series = pair_series(panel, 96)
    ages = series.age[:, 1].tolist()
    assert ages == [*range(100 + gap), *range(200 - gap)]
    # Until the new scale is seen the gap is bridged like any other.
    assert (series.close[99 : 100 + gap, 1] == panel.close[99, 1]).all()
    assert series.close[100 + gap, 1] == panel.close[100 + gap, 1]


def test_a_new_scale_between_bars_that_traded_nothing_starts_anew_and_a_crash_does_not():
    crash = rescaled(walk(PAIRS, 100), "A/USDT", 60, 0.15)
    assert pair_series(crash, 4).age[:, 0].tolist() == list(range(100))
    idle = crash.volume.copy()
    idle[59, 0] = 0.0
    assert pair_series(replace(crash, volume=idle), 4).age[:, 0].tolist() == [*range(60), *range(40)]


@settings(max_examples=60)
@given(begin=st.integers(0, 299), max_gap=st.integers(0, 8), gap=st.integers(1, 10), ratio=st.sampled_from([1.0, 0.001, 7.0]))
def test_a_part_agrees_with_the_whole_on_whatever_it_holds(begin, max_gap, gap, ratio):
    panel = rescaled(without(market(), "A/USDT", 140, 140 + gap), "A/USDT", 140 + gap, ratio)
    whole, part = pair_series(panel, max_gap), pair_series(panel.take(begin, 300), max_gap)
    for reach in (1, 20):
        rows = slice(reach + max_gap, None)
        held = np.minimum(whole.age[begin:][rows], reach)
        assert np.array_equal(np.minimum(part.age[rows], reach), held)
        assert np.array_equal(part.close[rows], whole.close[begin:][rows], equal_nan=True)


def test_an_empty_panel():
    series = pair_series(walk(PAIRS, 5).take(0, 0), 4)
    assert series.close.shape == series.age.shape == (0, 4)


@pytest.mark.parametrize("bars", [1, 2, 3, 20, 97, 100, 128])
def test_a_simple_average_is_the_mean_of_its_window(bars):
    panel = market()
    series = pair_series(panel, 4)
    average = simple_average(series.close, bars, series.age)
    for n in range(len(PAIRS)):
        closes = [None if math.isnan(c) else float(c) for c in panel.close[:, n]]
        for t in range(0, panel.rows, 7):
            run = segment_to(closes, t, 4)
            if len(run) < bars:
                assert math.isnan(average[t, n])
            else:
                assert average[t, n] == pytest.approx(float(sum(map(Fraction, run[-bars:])) / bars), rel=1e-15 * 8)


def test_an_average_does_not_reach_across_a_new_price_scale():
    panel = rescaled(without(walk(PAIRS, 200), "A/USDT", 100, 101), "A/USDT", 101, 1000.0)
    series = pair_series(panel, 4)
    average = simple_average(series.close, 20, series.age)
    assert np.isnan(average[101:120, 0]).all()
    assert average[100, 0] == pytest.approx(panel.close[80:101, 0][~np.isnan(panel.close[80:101, 0])].mean(), rel=0.01)
    assert average[120, 0] == pytest.approx(panel.close[101:121, 0].mean(), rel=1e-14)


@given(st.integers(1, 130), st.integers(0, 150), st.integers(0, 5))
def test_the_same_window_gives_the_same_bits(bars, begin, seed):
    x = walk(PAIRS, 300, seed=seed).close
    assert np.array_equal(window_sum(x[begin:], bars)[bars - 1 :], window_sum(x, bars)[begin + bars - 1 :])


def test_an_average_of_no_bars_is_refused():
    series = pair_series(market(), 4)
    with pytest.raises(ValueError, match="average of 0 bars"):
        simple_average(series.close, 0, series.age)
    with pytest.raises(ValueError, match="sum of 0 bars"):
        window_sum(series.close, 0)


def test_a_volume_without_a_bar_is_no_bar():
    panel = without(walk(PAIRS, 30), "NONE/USDT", 0, 30)
    volume = panel.volume.copy()
    volume[3, panel.column["NONE/USDT"]] = 0.0

    series = pair_series(replace(panel, volume=volume), 4)

    column = panel.column["NONE/USDT"]
    assert np.isnan(series.close[:, column]).all()
    assert (series.age[:, column] == -1).all()
