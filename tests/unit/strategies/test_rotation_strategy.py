"""What rotation proposes, and why it passes over the rest."""

import math

import numpy as np
import pytest

from made_desk import SETTINGS, a_view
from tickless.alpha.ensemble import round_trip_cost_frac
from tickless.settings import load_desk
from tickless.strategies.rotation import propose

ROTATION = SETTINGS.rotation
COST = round_trip_cost_frac(SETTINGS.execution)


def proposals(view, rotation=ROTATION, cost=COST):
    answer = propose(view, rotation, cost)
    return answer, {p.pair: p for p in answer.proposals}


def test_a_round_trip_costs_23_bps_by_default():
    assert pytest.approx(0.0023, abs=1e-15) == COST
    dear = load_desk("rotation", ["execution.taker_fee_bps=30", "execution.slippage_bps=0"])
    assert round_trip_cost_frac(dear.execution) == pytest.approx(0.0060, abs=1e-15)


def test_costs_are_subtracted_once_and_the_net_must_exceed_the_threshold():
    answer, got = proposals(a_view({"A/USDT": {"score": 0.0024}, "B/USDT": {"score": 0.0022}, "C/USDT": {"score": 0.01}}))
    assert list(got) == ["A/USDT", "C/USDT"]
    assert got["C/USDT"].score == pytest.approx(0.01)
    assert got["C/USDT"].expected_value_frac == pytest.approx(0.01 - 0.0023)
    assert answer.verdicts["B/USDT"].reason == "net_below_threshold"
    assert answer.verdicts["B/USDT"].net == pytest.approx(-0.0001)
    exact = ROTATION.model_copy(update={"score_threshold_frac": float(answer.verdicts["C/USDT"].net)})
    assert proposals(a_view({"C/USDT": {"score": 0.01}}), exact)[1] == {}


@pytest.mark.parametrize(("regime", "w_6h", "w_24h"), [("chop", 0.6, 0.4), ("trend", 0.3, 0.7), ("down", 0.3, 0.7)])
def test_the_regime_weighs_the_horizons(regime, w_6h, w_24h):
    view = a_view({"A/USDT": {}}, regime=regime)
    view = type(view)(**{**vars(view), "forecasts": {"rotation_6h": np.array([0.01]), "rotation_24h": np.array([0.05])}})
    answer, got = proposals(view)
    assert got["A/USDT"].score == pytest.approx(w_6h * 0.01 + w_24h * 0.05)
    assert (answer.source, got["A/USDT"].reason) == ("models", f"models_{regime}")


def test_the_fallback_has_the_momentum_formula_and_its_own_threshold():
    quiet, strong = {"r_6h": 0.02, "r_24h": 0.04, "rsi14": 50.0}, {"r_6h": 0.04, "r_24h": 0.08, "rsi14": 80.0}
    answer, got = proposals(a_view({"A/USDT": quiet, "B/USDT": strong}, models=False))
    expected = 0.6 * (0.5 * 0.04 + 0.3 * 0.3) + 0.4 * (0.5 * 0.08 + 0.3 * 0.3)
    assert answer.source == "fallback"
    assert got["B/USDT"].score == pytest.approx(expected)
    assert list(got) == ["B/USDT"]
    assert answer.verdicts["A/USDT"].score == pytest.approx(0.6 * 0.01 + 0.4 * 0.02)


@pytest.mark.parametrize("models", [True, False])
def test_neither_tier_nor_name_moves_a_score(models):
    facts = {"score": 0.02, "r_6h": 0.05, "r_24h": 0.05, "rsi14": 75.0}
    _, got = proposals(
        a_view({name: {**facts, "tier": tier} for name, tier in (("BTC/USDT", 1), ("SUI/USDT", 2), ("ZZZ/USDT", 3))}, models=models)
    )
    assert len({p.score for p in got.values()}) == 1
    assert [p.tier for p in got.values()] == [1, 2, 3]
    flat, none = proposals(a_view({"BTC/USDT": {"tier": 1}}, models=False))
    assert (flat.verdicts["BTC/USDT"].score, none) == (0.0, {})


def test_what_is_not_settled_or_not_eligible_is_never_proposed():
    answer, got = proposals(
        a_view(
            {
                "A/USDT": {"score": math.nan},
                "B/USDT": {"score": 0.02, "rv_24h": math.nan},
                "C/USDT": {"score": 0.02, "ineligible": "too_young"},
                "D/USDT": {"score": 0.02, "atr_14_30m": math.nan},
            }
        )
    )
    assert list(got) == ["D/USDT"]
    assert got["D/USDT"].exits.atr is None
    assert {p: v.reason for p, v in answer.verdicts.items()} == {
        "A/USDT": "features_not_settled",
        "B/USDT": "features_not_settled",
        "C/USDT": "too_young",
        "D/USDT": "",
    }


def test_a_proposal_carries_what_sizing_and_stops_need():
    _, got = proposals(a_view({"A/USDT": {"score": 0.0046, "rv_24h": 0.07, "atr_14_30m": 2.5, "tier": 2}}))
    proposal = got["A/USDT"]
    assert (proposal.volatility_frac, proposal.tier, proposal.exits.atr, proposal.side) == (0.07, 2, 2.5, "long")
    assert proposal.confidence == pytest.approx(2.0 / 3.0)


def test_a_negative_threshold_proposes_without_confidence():
    loose = ROTATION.model_copy(update={"score_threshold_frac": -0.1})
    _, got = proposals(a_view({"A/USDT": {"score": -0.01}}), loose)
    assert got["A/USDT"].confidence == 0.0
