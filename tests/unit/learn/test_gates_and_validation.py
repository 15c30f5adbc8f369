from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tickless.learn.dataset import build_samples
from tickless.learn.gates import Gates, decide
from tickless.learn.labels import build_labels
from tickless.learn.validate import Measures, Trial, validate

GATES = Gates(min_rank_ic=0.0, min_rank_ic_t=2.0)
TRIAL = Trial(horizon_h=6.0, sample_every_min=60, cost_frac=0.0023, top_k=3)
NAN = float("nan")
GOOD = Measures(
    rows=1000,
    ticks=100,
    rank_ic=0.03,
    rank_ic_t=3.0,
    hit_rate=0.52,
    hit_rate_baseline=0.51,
    rmse=1.0,
    rmse_zero=1.01,
    mae=0.7,
    mae_zero=0.71,
    top_k_net_frac=0.001,
    top_k_net_t=1.5,
    top_k_turnover=0.4,
    universe_frac=0.002,
)


@pytest.mark.parametrize(
    ("challenger", "champion", "promoted", "first"),
    [
        (GOOD, None, True, "mean rank IC"),
        (GOOD, replace(GOOD, top_k_net_frac=0.0009), True, "mean rank IC"),
        (GOOD, replace(GOOD, top_k_net_frac=-0.01), True, "mean rank IC"),
        (GOOD, GOOD, False, "net top-k return 0.00100 is not above 0.00100, the champion"),
        (GOOD, replace(GOOD, top_k_net_frac=0.002), False, "net top-k return 0.00100 is not above 0.00200, the champion"),
        (replace(GOOD, rank_ic=0.0), None, False, "mean rank IC 0.00000 is not above"),
        (replace(GOOD, rank_ic_t=2.0), None, False, "t of rank IC 2.00000 is not above"),
        (replace(GOOD, top_k_net_frac=0.0), None, False, "net top-k return 0.00000 is not above 0.00000, doing nothing"),
        (
            replace(GOOD, top_k_net_frac=-0.001),
            replace(GOOD, top_k_net_frac=-0.002),
            False,
            "net top-k return -0.00100 is not above 0.00000",
        ),
        (replace(GOOD, rank_ic_t=NAN), None, False, "t of rank IC cannot be told"),
        (replace(GOOD, top_k_net_frac=NAN), None, False, "net top-k return cannot be told"),
        (GOOD, replace(GOOD, top_k_net_frac=NAN), False, "net top-k return 0.00100 cannot be compared"),
    ],
)
def test_a_model_must_beat_both_the_champion_and_doing_nothing(challenger, champion, promoted, first):
    decision = decide(challenger, champion, GATES)
    assert decision.promote is promoted
    assert decision.reasons[0].startswith(first)
    assert len(decision.reasons) == 4


def test_the_champion_is_met_on_the_rows_it_has_not_seen():
    worse_there = replace(GOOD, top_k_net_frac=0.0001)
    assert not decide(GOOD, replace(GOOD, top_k_net_frac=0.0005), GATES, worse_there).promote


@pytest.fixture(scope="module")
def samples(market):
    table, panel = market(11, 0.1, days=20, pairs=10)
    return build_samples(table, build_labels(panel, table.feature("rv_24h"), 6.0, 5.0), 60)


def test_knowing_the_label_is_perfect(samples):
    found = validate(samples, samples.y, TRIAL)
    assert found.rank_ic == pytest.approx(1.0)
    assert found.hit_rate == 1.0
    assert found.rmse == 0.0
    assert found.top_k_net_frac > 0.01
    assert found.rows == len(samples)


def test_the_zero_forecast_is_its_own_baseline_and_never_trades(samples):
    found = validate(samples, np.zeros(len(samples)), TRIAL)
    assert found.rank_ic == 0.0
    assert found.rmse == found.rmse_zero
    assert found.mae == found.mae_zero
    assert found.top_k_net_frac == found.top_k_turnover == found.cash_frac == 0.0
    assert found.hit_rate_baseline >= 0.5


def test_a_wild_forecast_that_says_nothing_pays_its_costs(samples):
    noise = np.random.default_rng(1).standard_normal(len(samples))
    found = validate(samples, noise, TRIAL)
    assert abs(found.rank_ic) < 0.03
    assert found.rmse > found.rmse_zero
    assert found.top_k_turnover > 1.0
    assert found.top_k_net_frac < 0.0


def test_no_rows_are_measured_as_unknown(samples):
    found = validate(samples.take(slice(0, 0)), np.empty(0), TRIAL)
    assert found.rows == found.ticks == 0
    assert np.isnan(found.rank_ic)
    assert found.as_json()["top_k_net_frac"] is None
