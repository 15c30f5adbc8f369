"""Tiers, ranks and eligibility, all from bars known at the tick."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from made_panels import MONDAY, walk, without
from tickless.portfolio.universe import LOW_VOLUME, NO_BAR, OK, TOO_YOUNG, assign_tiers, eligibility, median_daily_volume, missing_bases
from tickless.settings import UniverseSection, load_desk

PAIRS = ("A/USDT", "B/USDT", "C/USDT", "D/USDT")
SECTION = UniverseSection(rank_window_days=3, tier1_rank_count=1, tier2_rank_count=2)


def volumes(panel, daily):
    """The panel with day d, pair n trading exactly daily[d][n] of quote volume."""
    volume = np.full_like(panel.volume, np.nan)
    for day, values in enumerate(daily):
        rows = slice(96 * day, 96 * (day + 1))
        volume[rows] = np.asarray(values, dtype=float) / 96 / panel.close[rows]
    return replace(panel, volume=volume)


def test_the_median_is_of_whole_days_before_the_tick():
    panel = volumes(walk(PAIRS, 5 * 96), [(9e9,) * 4, (10, 20, 30, 40), (30, 20, 10, 40), (20, 50, 20, 1), (9e9,) * 4])
    # At noon of the fifth day: the three whole days before it, neither the first day nor the one that has begun.
    got = median_daily_volume(panel, MONDAY + timedelta(days=4, hours=12), SECTION)
    assert got.tolist() == pytest.approx([20, 20, 20, 40])
    assert median_daily_volume(panel, MONDAY + timedelta(days=4), SECTION).tolist() == pytest.approx([20, 20, 20, 40])
    assert median_daily_volume(panel, MONDAY + timedelta(days=3, hours=23, minutes=45), SECTION)[3] == pytest.approx(40)


def test_an_even_number_of_days_takes_the_middle_and_days_without_bars_do_not_count():
    panel = volumes(walk(PAIRS, 3 * 96), [(10, 20, 30, 40), (30, 20, 10, 80), (20, 50, 20, 60)])
    panel = without(without(panel, "A/USDT", 0, 96), "B/USDT", 0, 3 * 96)
    got = median_daily_volume(panel, MONDAY + timedelta(days=3), SECTION)
    assert got[[0, 2, 3]].tolist() == pytest.approx([25, 20, 60])
    assert np.isnan(got[1])


def test_a_panel_that_begins_inside_a_day_gives_no_part_of_it():
    panel = volumes(walk(PAIRS, 3 * 96), [(1e6,) * 4, (10, 20, 30, 40), (10, 20, 30, 40)]).take(50, 3 * 96)
    assert median_daily_volume(panel, MONDAY + timedelta(days=3), SECTION).tolist() == pytest.approx([10, 20, 30, 40])
    assert np.isnan(median_daily_volume(panel.take(0, 40), MONDAY + timedelta(days=1), SECTION)).all()


def test_a_tier_follows_the_rank_and_unknown_volume_ranks_last():
    volume = np.array([5.0, 9.0, np.nan, 7.0])
    assert assign_tiers(PAIRS, volume, SECTION).tolist() == [2, 1, 3, 2]
    assert assign_tiers(PAIRS, np.full(4, np.nan), SECTION).tolist() == [1, 2, 2, 3]
    assert assign_tiers(PAIRS, np.ones(4), SECTION).tolist() == [1, 2, 2, 3]


def test_lists_win_over_the_rank_and_hold_their_place_in_it():
    section = SECTION.model_copy(update={"tier3": ("B",), "tier1": ("C",)})
    assert assign_tiers(PAIRS, np.array([5.0, 9.0, np.nan, 7.0]), section).tolist() == [2, 3, 1, 2]


def test_the_desk_lists_the_tiers_of_its_system():
    universe = load_desk("rotation").universe
    pairs = tuple(f"{base}/USDT" for base in ("BTC", "TRX", "ICP", "SEI", "PEPE", "1000CHEEMS"))
    assert assign_tiers(pairs, np.full(6, np.nan), universe).tolist() == [1, 1, 2, 2, 3, 3]
    assert (len(universe.tier1), len(universe.tier2), len(universe.tier3)) == (12, 9, 6)
    assert (universe.tier1_rank_count, universe.tier2_rank_count, universe.rank_window_days) == (15, 25, 30)


def test_listed_bases_without_a_pair_are_reported_in_the_order_of_the_lists():
    section = SECTION.model_copy(update={"tier1": ("Z", "A"), "tier2": ("B",), "tier3": ("Y",)})
    assert missing_bases(PAIRS, section) == ("Z", "Y")


def eligible(panel, at, section=SECTION, volume=None):
    return eligibility(panel, at, np.ones(len(PAIRS)) if volume is None else volume, section)


def test_a_pair_must_have_the_bar_that_has_just_closed():
    panel = without(walk(PAIRS, 200), "B/USDT", 199, 200)
    assert eligible(panel, panel.end) == [OK, NO_BAR, OK, OK]
    # A panel that stops short of the tick knows nobody's bar.
    assert eligible(panel, panel.end + timedelta(minutes=15)) == [NO_BAR] * 4


def test_a_pair_is_old_enough_a_day_after_its_first_bar_opened():
    panel = without(walk(PAIRS, 300), "B/USDT", 0, 200)
    assert eligible(panel.take(0, 295), panel.start + timedelta(minutes=15 * 295)) == [OK, TOO_YOUNG, OK, OK]
    assert eligible(panel.take(0, 296), panel.start + timedelta(minutes=15 * 296)) == [OK] * 4
    # A hole since then makes nobody young.
    assert eligible(without(panel, "A/USDT", 150, 250), panel.end)[0] == OK


def test_an_age_that_the_panel_does_not_show_is_not_assumed():
    panel = walk(PAIRS, 96)
    assert eligible(panel, panel.end, SECTION.model_copy(update={"min_age_days": 1.0})) == [OK] * 4
    assert eligible(panel, panel.end, SECTION.model_copy(update={"min_age_days": 2.0})) == [TOO_YOUNG] * 4
    assert eligible(panel, panel.end, SECTION.model_copy(update={"min_age_days": 0.0})) == [OK] * 4


def test_a_thin_pair_is_passed_over():
    section = SECTION.model_copy(update={"min_daily_volume": 100.0})
    panel = walk(PAIRS, 200)
    assert eligible(panel, panel.end, section, np.array([99.9, 100.0, np.nan, 1e9])) == [LOW_VOLUME, OK, LOW_VOLUME, OK]


def test_a_delisted_pair_is_no_longer_bought():
    panel = without(walk(PAIRS, 300), "D/USDT", 250, 300)
    assert eligible(panel, panel.end)[3] == NO_BAR
