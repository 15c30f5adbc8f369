"""What holds for every panel."""

from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tickless.bars import COLUMNS, Panel, join
from tickless.types import from_ms, to_ms

START = datetime(2024, 1, 1, tzinfo=UTC)
STEP = timedelta(minutes=15)


@st.composite
def panels(draw, max_rows=40):
    rows = draw(st.integers(0, max_rows))
    count = draw(st.integers(1, 3))
    offset = draw(st.integers(0, 7))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    missing = rng.random((rows, count)) < draw(st.sampled_from([0.0, 0.3, 0.9]))
    close = np.where(missing, np.nan, rng.uniform(1, 2, (rows, count)))
    opened = np.where(missing, np.nan, rng.uniform(1, 2, (rows, count)))
    high = np.maximum(opened, close) + rng.random((rows, count))
    low = np.minimum(opened, close) - rng.random((rows, count)) / 2
    volume = np.where(missing, np.nan, rng.integers(0, 5, (rows, count)).astype(float))
    pairs = tuple(f"{name}/USDT" for name in "ABC"[:count])
    return Panel("15m", pairs, to_ms(START + offset * STEP), opened, high, low, close, volume)


def same(one: Panel, other: Panel) -> bool:
    return (one.timeframe, one.pairs, one.start_ms, one.rows) == (other.timeframe, other.pairs, other.start_ms, other.rows) and all(
        np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True) for name in COLUMNS
    )


@given(panels(), st.sampled_from(["30m", "1h", "4h"]))
def test_resampled_bars_agree_with_a_slow_reference(panel, timeframe):
    got = panel.resample(timeframe)
    factor = got.step_ms // panel.step_ms
    for row in range(got.rows):
        first = panel.row_at(from_ms(got.start_ms + row * got.step_ms))
        assert first >= 0
        assert first + factor <= panel.rows
        for n in range(len(panel.pairs)):
            here = [k for k in range(first, first + factor) if not np.isnan(panel.close[k, n])]
            values = [float(getattr(got, name)[row, n]) for name in COLUMNS]
            if not here:
                assert np.isnan(values).all()
                continue
            expected = [panel.open[here[0], n], max(panel.high[here, n]), min(panel.low[here, n]), panel.close[here[-1], n]]
            assert values[:4] == expected
            assert values[4] == sum(float(panel.volume[k, n]) for k in here)


@given(panels())
def test_resampling_in_two_steps_is_resampling_in_one(panel):
    two = panel.resample("30m").resample("1h")
    one = panel.resample("1h")
    if one.rows:
        assert same(two.between(one.start, one.end), one)


@given(panels(), st.integers(0, 40))
def test_resampling_knows_nothing_of_later_bars(panel, cut):
    whole = panel.resample("1h")
    part = panel.take(0, min(cut, panel.rows)).resample("1h")
    assert part.rows <= whole.rows
    if part.rows:
        assert same(part, whole.take(0, part.rows))


@given(panels(), st.integers(0, 40))
def test_what_is_cut_joins_again(panel, cut):
    first, second = panel.take(0, min(cut, panel.rows)), panel.take(min(cut, panel.rows), panel.rows)
    assert same(join([second, first]), panel)


@settings(max_examples=60)
@given(panels(), st.permutations(["A/USDT", "B/USDT", "C/USDT", "D/USDT"]))
def test_select_there_and_back(panel, order):
    assert same(panel.select(order).select(panel.pairs), panel)


@given(panels(), st.integers(-10, 60), st.integers(-10, 60))
def test_between_holds_exactly_the_bars_that_open_inside(panel, first, last):
    start, end = START + first * STEP, START + last * STEP
    expected = [at for at in panel.open_times_ms.tolist() if to_ms(start) <= at < to_ms(end)]
    assert panel.between(start, end).open_times_ms.tolist() == expected
