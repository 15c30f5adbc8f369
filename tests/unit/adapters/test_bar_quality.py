"""The quality report finds what was put there, and nothing else."""

from pathlib import Path

import numpy as np

from tickless.adapters.bar_files import FileReport, PairBars
from tickless.adapters.bar_quality import assess

STEP = 900_000


def quality_of(close, times=None, volume=None, opened=None):
    close = np.asarray(close, dtype=float)
    times = np.arange(len(close), dtype=np.int64) * STEP if times is None else np.asarray(times, dtype=np.int64)
    opened = close if opened is None else opened
    volume = np.ones_like(close) if volume is None else volume
    bars = PairBars("A/USDT", "15m", times, np.stack([opened, close, close, close, volume]))
    return assess(bars, FileReport(Path("A_USDT-15m.csv"), "A/USDT", "15m", len(close), len(close), impossible_rows=3))


def wander(count=500):
    return 100 * np.exp(np.cumsum(np.random.default_rng(3).normal(0, 0.001, count)))


def test_a_clean_file_is_clean():
    quality = quality_of(wander())
    assert (quality.rows, quality.first, quality.last) == (500, "1970-01-01T00:00:00Z", "1970-01-06T04:45:00Z")
    assert (quality.gap_runs, quality.zero_volume, quality.stale_runs, quality.outliers, quality.jumps) == (0, 0, 0, 0, 0)
    assert quality.scale_breaks == ()
    assert quality.impossible == 3


def test_gaps_are_counted_by_run_and_bar():
    quality = quality_of(wander(6), times=np.array([0, 1, 3, 4, 10, 11]) * STEP)
    assert (quality.gap_runs, quality.missing, quality.longest_gap) == (2, 6, 5)


def test_stale_runs_and_silence():
    close = wander()
    close[100:112] = close[100]
    close[200:205] = close[200]
    volume = np.ones(500)
    volume[100:112] = 0
    quality = quality_of(close, volume=volume)
    assert (quality.stale_runs, quality.longest_stale, quality.zero_volume) == (1, 12, 12)


def test_outliers_jumps_and_breaks_are_told_apart():
    close = wander()
    close[300:] *= 1000
    close[400] *= 1.2
    quality = quality_of(close, opened=np.concatenate([close[:1], close[:-1]]))
    assert (quality.outliers, quality.jumps, quality.scale_breaks) == (2, 1, ())


def test_a_jump_after_a_gap_is_a_break_and_is_told_with_its_time_and_ratio():
    times = np.arange(500, dtype=np.int64) * STEP
    times[300:] += 96 * STEP
    close = np.full(500, 100.0)
    close[300:] = 0.1
    quality = quality_of(close, times=times)
    (found,) = quality.scale_breaks
    assert (found.at, found.missing) == ("1970-01-05T03:00:00Z", 96)
    assert found.ratio == 0.001
    assert (quality.jumps, quality.outliers) == (0, 0)


def test_a_jump_out_of_bars_without_volume_is_a_break():
    close = np.full(60, 5.0)
    close[40:] = 50.0
    volume = np.ones(60)
    volume[30:40] = 0
    quality = quality_of(close, volume=volume)
    assert [(found.at, found.ratio, found.missing) for found in quality.scale_breaks] == [("1970-01-01T10:00:00Z", 10.0, 0)]
    assert (quality.zero_volume, quality.longest_silence) == (10, 10)


def test_an_open_outside_the_range_is_seen():
    close = wander(10)
    opened = close.copy()
    opened[4] *= 2
    assert quality_of(close, opened=opened).range_breaks == 1


def test_empty_and_single_bars():
    assert quality_of([]).first is None
    assert quality_of([5.0]).rows == 1
