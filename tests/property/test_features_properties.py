"""A feature, a regime and a universe at t know nothing of what comes after t."""

from datetime import timedelta

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from made_panels import MONDAY, scrambled_after, walk, without
from tickless.features.rotation import build_features
from tickless.portfolio.universe import assign_tiers, eligibility, median_daily_volume
from tickless.regimes import ema_trend
from tickless.settings import RotationSection, UniverseSection
from tickless.types import from_ms

PAIRS = ("BTC/USDT", "ETH/USDT", "NEW/USDT")
ROWS = 700
QUICK = RotationSection(ema_fast_bars=10, ema_slow_bars=40)
MARKETS = [
    without(without(walk(PAIRS, ROWS, seed=seed, start=MONDAY + timedelta(days=offset)), "NEW/USDT", 0, 180), "ETH/USDT", 300, 300 + gap)
    for seed, offset, gap in ((1, 0, 2), (2, 3, 7), (3, 5, 1))
]


@settings(max_examples=40)
@given(st.sampled_from(MARKETS), st.integers(0, ROWS - 2), st.integers(0, 2**32 - 1), st.integers(0, 8))
def test_nothing_after_a_bar_changes_what_was_known_at_it(panel, row, seed, max_gap_bars):
    other = scrambled_after(panel, row, seed)
    known = [build_features(p, max_gap_bars).values[: row + 1] for p in (panel, other)]
    assert np.array_equal(*known, equal_nan=True)
    regimes = [
        ema_trend.detect(p.select(["BTC/USDT"]), f[:, :, 3], QUICK, max_gap_bars)
        for p, f in zip((panel.take(0, row + 1), other.take(0, row + 1)), known, strict=True)
    ]
    whole = ema_trend.detect(other.select(["BTC/USDT"]), build_features(other, max_gap_bars).values[:, :, 3], QUICK, max_gap_bars)
    for table in (regimes[1], whole):
        for name in ("names", "volatility", "volatility_ann_frac", "breadth_frac"):
            assert np.array_equal(getattr(regimes[0], name), getattr(table, name)[: row + 1], equal_nan=True)


@settings(max_examples=40)
@given(st.sampled_from(MARKETS), st.integers(0, ROWS - 2), st.integers(0, 2**32 - 1), st.floats(0.0, 3.0))
def test_nothing_after_a_tick_changes_its_universe(panel, row, seed, min_age_days):
    section = UniverseSection(
        rank_window_days=5, tier1_rank_count=1, tier2_rank_count=1, min_age_days=min_age_days, min_daily_volume=50_000.0
    )
    at = from_ms(panel.start_ms + (row + 1) * panel.step_ms)
    answers = []
    for known in (panel, scrambled_after(panel, row, seed)):
        volume = median_daily_volume(known, at, section)
        answers.append(
            (volume.tobytes(), assign_tiers(PAIRS, volume, section).tolist(), eligibility(known.closed_at(at), at, volume, section))
        )
    assert answers[0] == answers[1]


@settings(max_examples=25)
@given(st.sampled_from(MARKETS), st.integers(0, ROWS - 1), st.permutations(PAIRS))
def test_neither_the_rows_asked_for_nor_the_other_pairs_change_a_feature(panel, since_row, order):
    whole = build_features(panel, 4)
    part = build_features(panel.select(order), 4, since_row)
    assert part.start_ms == panel.start_ms + since_row * panel.step_ms
    for n, pair in enumerate(order):
        assert np.array_equal(part.values[:, n], whole.values[since_row:, panel.column[pair]], equal_nan=True)
