from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tickless.learn.classification import BrierParts, ClassMeasures
from tickless.learn.dataset import build_samples
from tickless.learn.gates import Gates, decide, decide_classifier
from tickless.learn.labels import build_labels
from tickless.learn.trials import Tried
from tickless.learn.validate import Measures, Trial, forecast_series, validate

GATES = Gates(min_rank_ic=0.0, min_rank_ic_t=2.0)
TRIAL = Trial(horizon_h=6.0, sample_every_min=60, cost_frac=0.0023, top_k=3)
NAN = float("nan")
GOOD = Measures(
    rows=1000,
    ticks=100,
    pairs=20,
    periods=14.0,
    rank_ic=0.03,
    rank_ic_t=3.0,
    rank_ic_low=0.01,
    rank_ic_high=0.05,
    rank_ic_decay={"6": 0.03},
    hit_rate=0.52,
    hit_rate_baseline=0.51,
    rmse=1.0,
    rmse_zero=1.01,
    rmse_t=2.5,
    mae=0.7,
    mae_zero=0.71,
    quantile_returns_frac=(-0.001, 0.001),
    quantile_spread_frac=0.002,
    quantile_spread_t=2.0,
    top_k_net_frac=0.002,
    top_k_net_t=1.5,
    top_k_active_frac=0.001,
    top_k_active_t=1.2,
    top_k_turnover=0.4,
    universe_frac=0.002,
)
ONE_PAIR = replace(GOOD, pairs=1, rank_ic=NAN, rank_ic_t=NAN, top_k_active_frac=NAN)


@pytest.mark.parametrize(
    ("challenger", "champion", "promoted", "first"),
    [
        (GOOD, None, True, "independent periods 14.0 is above 10.0"),
        (GOOD, replace(GOOD, top_k_active_frac=0.0009), True, "independent periods"),
        (GOOD, replace(GOOD, top_k_active_frac=-0.01), True, "independent periods"),
        (GOOD, GOOD, False, "net top-k return over the market's 0.00100 is not above 0.00100, the champion"),
        (
            GOOD,
            replace(GOOD, top_k_active_frac=0.002),
            False,
            "net top-k return over the market's 0.00100 is not above 0.00200, the champion",
        ),
        (replace(GOOD, periods=10.0), None, False, "independent periods 10.0 is not above 10.0, the limit"),
        (replace(GOOD, rank_ic=0.0), None, False, "mean rank IC 0.00000 is not above"),
        (replace(GOOD, rank_ic_t=2.0), None, False, "t of rank IC 2.00000 is not above"),
        (
            replace(GOOD, top_k_active_frac=0.0),
            None,
            False,
            "net top-k return over the market's 0.00000 is not above 0.00000, doing nothing",
        ),
        (
            replace(GOOD, top_k_active_frac=-0.001),
            replace(GOOD, top_k_active_frac=-0.002),
            False,
            "net top-k return over the market's -0.00100 is not above 0.00000",
        ),
        (replace(GOOD, rank_ic_t=NAN), None, False, "t of rank IC cannot be told"),
        (replace(GOOD, periods=NAN), None, False, "independent periods cannot be told"),
        (replace(GOOD, top_k_active_frac=NAN), None, False, "net top-k return over the market's cannot be told"),
        (GOOD, replace(GOOD, top_k_active_frac=NAN), False, "net top-k return over the market's 0.00100 cannot be compared"),
        (replace(GOOD, top_k_net_frac=-0.001, top_k_net_t=-0.6), None, True, "independent periods"),
        (replace(GOOD, top_k_net_frac=-0.001, top_k_net_t=-2.1), None, False, "t of net top-k return -2.10000 is not above -2.00000"),
        (replace(GOOD, top_k_net_frac=-0.001, top_k_net_t=NAN), None, False, "t of net top-k return cannot be told"),
        (replace(GOOD, top_k_net_frac=NAN, top_k_net_t=NAN), None, False, "t of net top-k return cannot be told"),
        (ONE_PAIR, replace(ONE_PAIR, top_k_net_frac=0.0019), True, "independent periods"),
        (ONE_PAIR, replace(ONE_PAIR, top_k_net_frac=0.0021), False, "net return 0.00200 is not above 0.00210, the champion"),
        (replace(ONE_PAIR, rmse_t=1.9), None, False, "t of the squared error saved 1.90000 is not above"),
        (replace(ONE_PAIR, rmse_t=NAN), None, False, "t of the squared error saved cannot be told"),
        (replace(ONE_PAIR, top_k_net_frac=-0.0001), None, False, "net return -0.00010 is not above 0.00000, doing nothing"),
    ],
)
def test_a_model_must_beat_both_the_champion_and_doing_nothing(challenger, champion, promoted, first):
    decision = decide(challenger, champion, GATES)
    assert decision.promote is promoted
    assert decision.reasons[0].startswith(first)
    assert len(decision.reasons) == (6 if challenger.pairs > 1 else 4)


def test_the_champion_is_met_on_the_rows_it_has_not_seen():
    worse_there = replace(GOOD, top_k_active_frac=0.0001)
    assert not decide(GOOD, replace(GOOD, top_k_active_frac=0.0005), GATES, worse_there).promote


@pytest.mark.parametrize(
    ("deflated", "overfit", "promoted"),
    [(0.96, 0.2, True), (0.96, None, True), (0.94, 0.2, False), (0.96, 0.5, False), (None, 0.2, False)],
)
def test_the_best_of_many_must_be_more_than_the_luckiest(deflated, overfit, promoted):
    decision = decide(GOOD, None, GATES, tried=Tried(count=20, deflated_sharpe=deflated, overfitting=overfit))
    assert decision.promote is promoted
    assert any("best of 20" in reason for reason in decision.reasons)


CLASSES = ClassMeasures(
    rows=5000,
    ticks=700,
    base_rate=0.4,
    log_loss=0.66,
    log_loss_base=0.673,
    brier=0.236,
    brier_base=0.24,
    brier_parts=BrierParts(0.001, 0.005, 0.24, 0.0),
    skill_t=2.6,
    periods=100.0,
    auc=0.55,
    calibration_error=0.02,
    curve=(),
)


@pytest.mark.parametrize(
    ("challenger", "champion", "promoted", "first"),
    [
        (CLASSES, None, True, "independent periods"),
        (CLASSES, replace(CLASSES, log_loss=0.661), True, "independent periods"),
        (CLASSES, CLASSES, False, "log loss 0.66000 is not below 0.66000, the champion"),
        (replace(CLASSES, log_loss=0.673), None, False, "log loss 0.67300 is not below 0.67300, the base rate"),
        (replace(CLASSES, skill_t=2.0), None, False, "t of the log loss saved"),
        (replace(CLASSES, auc=NAN), None, False, "AUC cannot be told"),
        (replace(CLASSES, calibration_error=0.11), None, False, "calibration error 0.11000 is not below 0.10000"),
        (replace(CLASSES, periods=3.0), None, False, "independent periods"),
    ],
)
def test_a_classifier_must_beat_the_base_rate_and_keep_its_word(challenger, champion, promoted, first):
    decision = decide_classifier(challenger, champion, GATES)
    assert decision.promote is promoted
    assert decision.reasons[0].startswith(first)


def test_one_gate_more_can_only_refuse():
    good = decide(GOOD, None, GATES)
    assert good.also(True, "it beats the linear baseline").promote
    refused = good.also(False, "it does not beat the linear baseline")
    assert not refused.promote
    assert refused.reason.startswith("it does not beat")


@pytest.fixture(scope="module")
def samples(market):
    table, panel = market(11, 0.1, days=20, pairs=10)
    return build_samples(table, build_labels(panel, table.feature("rv_24h"), 6.0, 5.0), 60)


def test_knowing_the_label_is_perfect(samples):
    found = validate(samples, samples.y, TRIAL)
    assert found.rank_ic == pytest.approx(1.0)
    assert found.hit_rate == 1.0
    assert found.rmse == 0.0
    assert found.rank_ic_decay["6"] == found.rank_ic
    assert found.rank_ic_decay["6"] > found.rank_ic_decay["12"] > found.rank_ic_decay["48"] > 0.1
    assert np.all(np.diff(found.quantile_returns_frac) > 0.0)
    assert found.quantile_spread_frac == pytest.approx(found.quantile_returns_frac[-1] - found.quantile_returns_frac[0])
    assert found.top_k_active_frac > 0.01
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
    assert found.rank_ic_low < 0.0 < found.rank_ic_high
    assert found.rmse > found.rmse_zero
    assert found.rmse_t < -2.0
    assert found.top_k_turnover > 1.0
    assert found.top_k_net_frac < 0.0


def test_no_rows_are_measured_as_unknown(samples):
    found = validate(samples.take(slice(0, 0)), np.empty(0), TRIAL)
    assert found.rows == found.ticks == 0
    assert np.isnan(found.rank_ic)
    content = found.as_json()
    assert content["top_k_net_frac"] is None
    assert content["rank_ic_decay"]["6"] is None
    assert content["quantile_returns_frac"] == [None] * 5
    assert json.loads(json.dumps(content, allow_nan=False)) == content


def test_the_series_are_what_the_measures_are_means_of(samples):
    noise = np.random.default_rng(2).standard_normal(len(samples))
    series, found = forecast_series(samples, noise, TRIAL), validate(samples, noise, TRIAL)
    assert np.nanmean(series.rank_ic) == pytest.approx(found.rank_ic)
    assert series.net.mean() == pytest.approx(found.top_k_net_frac)
    assert series.active.mean() == pytest.approx(found.top_k_active_frac)
    assert found.periods == found.ticks / 7
