"""Target weights: examples worked by hand from the strategy's steps."""

import pytest

from tickless.portfolio.construction import Candidate, construct
from tickless.settings import PortfolioSection, RegimeCounts, RegimeFracs

SETTINGS = PortfolioSection()
WIDE = PortfolioSection(
    tier1_cap_frac=1.0,
    tier2_cap_frac=1.0,
    tier3_cap_frac=1.0,
    tier3_sleeve_frac=1.0,
    cash_buffer_frac=RegimeFracs(trend=0.0, chop=0.0, down=0.0),
)


def named(*specs):
    return [Candidate(f"{name}/USDT", score, volatility, tier) for name, score, volatility, tier in specs]


def test_weights_are_score_over_volatility():
    got = construct(named(("A", 0.02, 0.04, 1), ("B", 0.02, 0.01, 1), ("C", 0.01, 0.04, 1)), "chop", WIDE)
    # raw: 0.5, 2.0, 0.25
    assert got.weights == pytest.approx({"A/USDT": 0.5 / 2.75, "B/USDT": 2.0 / 2.75, "C/USDT": 0.25 / 2.75})
    assert list(got.weights) == ["A/USDT", "B/USDT", "C/USDT"]
    assert got.limits == ()


def test_a_volatility_below_the_floor_counts_as_the_floor():
    got = construct(named(("A", 0.02, 0.0, 1), ("B", 0.02, 0.001, 1)), "trend", WIDE)
    assert got.weights == pytest.approx({"A/USDT": 0.5, "B/USDT": 0.5})


@pytest.mark.parametrize(("regime", "count", "invested"), [("trend", 8, 0.9), ("chop", 6, 0.8), ("down", 4, 0.4)])
def test_the_regime_sets_how_many_and_how_much(regime, count, invested):
    settings = SETTINGS.model_copy(update={"tier1_cap_frac": 1.0})
    got = construct(named(*((f"P{k:02}", 0.02, 0.04, 1) for k in range(12))), regime, settings)
    assert got.weights == pytest.approx({f"P{k:02}/USDT": invested / count for k in range(count)})
    assert got.limits == ("top_k",)
    assert got.beyond_top_k == tuple(f"P{k:02}/USDT" for k in range(count, 12))


def test_caps_cut_and_what_they_cut_off_stays_cash():
    got = construct(named(("A", 0.03, 0.03, 1), ("B", 0.02, 0.02, 2), ("C", 0.01, 0.01, 3)), "trend", SETTINGS)
    assert got.weights == {"A/USDT": 0.15, "B/USDT": 0.10, "C/USDT": 0.05}
    assert got.limits == ("tier1_cap:A/USDT", "tier2_cap:B/USDT", "tier3_cap:C/USDT")


def test_the_sleeve_trims_in_rank_order():
    got = construct(
        named(*((name, score, 0.02, 3) for name, score in zip("DCBA", (0.01, 0.02, 0.03, 0.04), strict=True))), "trend", SETTINGS
    )
    assert got.weights == pytest.approx({"A/USDT": 0.05, "B/USDT": 0.05, "C/USDT": 0.02})
    assert "D/USDT" not in got.weights
    assert [name for name in got.limits if "sleeve" in name] == ["tier3_sleeve:C/USDT", "tier3_sleeve:D/USDT"]


def test_the_sleeve_leaves_other_tiers_alone():
    got = construct(named(("A", 0.04, 0.02, 3), ("B", 0.03, 0.02, 3), ("C", 0.02, 0.02, 3), ("D", 0.01, 0.02, 1)), "trend", SETTINGS)
    assert got.weights == pytest.approx({"A/USDT": 0.05, "B/USDT": 0.05, "C/USDT": 0.02, "D/USDT": 0.09})


def test_what_is_cut_off_may_go_to_the_other_candidates():
    settings = SETTINGS.model_copy(update={"cut_off_goes_to": "candidates"})
    candidates = named(("A", 0.08, 0.02, 1), ("B", 0.01, 0.02, 1), ("C", 0.01, 0.02, 1), ("D", 0.01, 0.02, 3))
    cash = construct(candidates, "down", SETTINGS).weights
    got = construct(candidates, "down", settings)
    # The budget is 0.4: A stays at its cap, D at its own, and the others share the rest until they meet theirs.
    assert cash == pytest.approx({"A/USDT": 0.15, "B/USDT": 0.4 / 11, "C/USDT": 0.4 / 11, "D/USDT": 0.4 / 11})
    assert got.weights == pytest.approx({"A/USDT": 0.15, "B/USDT": 0.10, "C/USDT": 0.10, "D/USDT": 0.05})
    assert sum(got.weights.values()) == pytest.approx(0.4)


def test_a_budget_beyond_all_caps_fills_the_caps():
    settings = SETTINGS.model_copy(update={"cut_off_goes_to": "candidates"})
    got = construct(named(("A", 0.08, 0.02, 1), ("B", 0.01, 0.02, 2)), "trend", settings)
    assert got.weights == pytest.approx({"A/USDT": 0.15, "B/USDT": 0.10})


def test_ties_rank_by_name():
    settings = WIDE.model_copy(update={"top_k": RegimeCounts(trend=2, chop=2, down=2)})
    got = construct(named(("C", 0.02, 0.04, 1), ("A", 0.02, 0.04, 1), ("B", 0.02, 0.04, 1)), "chop", settings)
    assert list(got.weights) == ["A/USDT", "B/USDT"]
    assert got.beyond_top_k == ("C/USDT",)


def test_a_score_of_zero_or_below_gets_no_weight():
    got = construct(named(("A", 0.0, 0.04, 1), ("B", -0.02, 0.04, 1), ("C", 0.02, 0.04, 1)), "chop", WIDE)
    assert got.weights == {"C/USDT": 1.0}
    assert construct(named(("A", 0.0, 0.04, 1), ("B", -0.02, 0.04, 1)), "chop", SETTINGS).weights == {}


def test_nothing_to_choose_from_is_all_cash():
    assert construct([], "trend", SETTINGS).weights == {}
    none = SETTINGS.model_copy(update={"top_k": RegimeCounts(trend=0, chop=0, down=0)})
    got = construct(named(("A", 0.02, 0.04, 1)), "trend", none)
    assert (got.weights, got.beyond_top_k) == ({}, ("A/USDT",))
