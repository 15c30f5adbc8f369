"""Averages and crosses on closes that tie, vanish and come back: equal to exact arithmetic, and to themselves in any window."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from crossover_oracle import exact_rows
from made_panels import closes_only
from tickless.features.crossover import build_features
from tickless.settings import CrossoverSection, Settings

NAN = float("nan")
FEW = st.sampled_from([1.1, 1.2, 1.3, 0.7])
"""Few prices, none of which a float holds: averages tie often, and never by their bits."""
MANY = st.integers(70_000, 130_000).map(lambda cents: cents / 100)
CLOSES = (
    st.one_of(FEW, MANY)
    .flatmap(lambda _: st.sampled_from([FEW, MANY]))
    .flatmap(lambda prices: st.lists(st.one_of(prices, prices, prices, prices, st.none()), min_size=1, max_size=60))
)


def desk(section: CrossoverSection, max_gap_bars: int) -> Settings:
    """A desk without stops: its features are the averages alone."""
    risk = {"initial_stop_atr": None, "trail_arm_atr": None}
    return Settings.model_validate({"strategy": {"crossover": section}, "universe": {"max_gap_bars": max_gap_bars}, "risk": risk})


@st.composite
def sections(draw: st.DrawFn) -> CrossoverSection:
    slow = draw(st.integers(2, 12))
    return CrossoverSection(fast_bars=draw(st.integers(1, slow - 1)), slow_bars=slow)


@effort(max_examples=200)
@given(CLOSES, sections(), st.integers(0, 3))
def test_every_bar_is_what_exact_arithmetic_says(closes, section, max_gap_bars):
    table = build_features(closes_only(closes), desk(section, max_gap_bars))
    rows = list(exact_rows(closes, section.fast_bars, section.slow_bars, max_gap_bars))
    assert table.feature("crossed")[:, 0].tolist() == [row.crossed for row in rows]
    trend = [NAN if row.trend is None else float(row.trend) for row in rows]
    np.testing.assert_array_equal(table.feature("trend")[:, 0], trend)
    slow = [NAN if row.slow is None else float(row.slow) for row in rows]
    np.testing.assert_allclose(table.feature("sma_slow")[:, 0], slow, rtol=1e-13)


@effort(max_examples=100)
@given(CLOSES, sections(), st.integers(0, 3), st.data())
def test_a_row_does_not_depend_on_where_its_window_begins_or_on_what_follows(closes, section, max_gap_bars, data):
    panel = closes_only(closes)
    whole = build_features(panel, desk(section, max_gap_bars)).values
    row = data.draw(st.integers(0, len(closes) - 1))
    np.testing.assert_array_equal(build_features(panel, desk(section, max_gap_bars), row).values, whole[row:])
    np.testing.assert_array_equal(build_features(panel.take(0, row + 1), desk(section, max_gap_bars)).values, whole[: row + 1])
