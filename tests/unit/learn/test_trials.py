from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tickless.learn.trials import (
    SharpeStats,
    Trials,
    Tried,
    backtest_overfitting,
    deflated_sharpe,
    expected_max_sharpe,
    min_track_record,
    probabilistic_sharpe,
    sharpe_stats,
    stack_returns,
)


def test_moments_are_scipys():
    from scipy.stats import kurtosis, skew

    returns = np.random.default_rng(1).standard_t(5, 400) * 0.01 + 0.001
    found = sharpe_stats(returns)
    assert found.sharpe == pytest.approx(returns.mean() / returns.std(ddof=1))
    assert found.skew == pytest.approx(skew(returns))
    assert found.kurtosis == pytest.approx(kurtosis(returns, fisher=False))
    assert sharpe_stats(returns, overlap=8).periods == 50.0
    assert math.isnan(sharpe_stats(np.full(10, 0.1)).sharpe)
    assert math.isnan(sharpe_stats(np.array([0.1, np.nan, 0.2])).sharpe)


def test_the_worked_example_of_the_deflated_sharpe_ratio():
    # Bailey and López de Prado (2014), "A numerical example": an annual ratio of 2.5 over 1250 days of 250 a year, skew -3, kurtosis 10,
    # 100 trials whose annual ratios vary by 0.5. Expected maximum 0.1132 a day, DSR 0.9004.
    best = SharpeStats(1250, 2.5 / math.sqrt(250), -3.0, 10.0)
    assert expected_max_sharpe(0.5 / 250, 100) == pytest.approx(0.1132, abs=5e-5)
    assert probabilistic_sharpe(best, expected_max_sharpe(0.5 / 250, 100)) == pytest.approx(0.9004, abs=5e-5)
    # With 46 trials the paper finds 0.9505.
    assert probabilistic_sharpe(best, expected_max_sharpe(0.5 / 250, 46)) == pytest.approx(0.9505, abs=5e-4)


def test_the_track_record_that_is_just_long_enough():
    # Bailey and López de Prado (2012), section 6: an annual ratio of 2 against 1 at 95 %, daily normal returns: 2.73 years of 250 days.
    daily = SharpeStats(0, 2 / math.sqrt(250), 0.0, 3.0)
    assert min_track_record(daily, 1 / math.sqrt(250)) / 250 == pytest.approx(2.73, abs=5e-3)
    stats = SharpeStats(min_track_record(daily), daily.sharpe, 0.0, 3.0)
    assert probabilistic_sharpe(stats) == pytest.approx(0.95)
    assert min_track_record(daily, 1.0) == math.inf
    assert math.isnan(min_track_record(SharpeStats(10, math.nan, 0, 3)))


def test_the_expected_maximum_is_that_of_simulated_luck():
    best = np.random.default_rng(2).standard_normal((20_000, 50)).max(axis=1).mean()
    assert expected_max_sharpe(1.0, 50) == pytest.approx(best, rel=0.02)
    assert expected_max_sharpe(1.0, 1) == 0.0


@settings(max_examples=50)
@given(st.floats(-0.5, 0.5), st.floats(-3, 3), st.floats(0, 20), st.integers(2, 3000), st.integers(2, 500), st.floats(1e-6, 0.1))
def test_more_trials_deflate_more_and_longer_records_prove_more(sharpe, skew, extra, periods, trials, variance):
    stats = SharpeStats(periods, sharpe, skew, 1.0 + skew**2 + extra)
    assert 0.0 <= probabilistic_sharpe(stats) <= 1.0
    assert expected_max_sharpe(variance, trials + 1) > expected_max_sharpe(variance, trials) > 0.0
    few = probabilistic_sharpe(stats, expected_max_sharpe(variance, trials))
    assert probabilistic_sharpe(stats, expected_max_sharpe(variance, 10 * trials)) <= few <= probabilistic_sharpe(stats)
    longer = probabilistic_sharpe(SharpeStats(2 * periods, sharpe, skew, stats.kurtosis))
    assert longer >= probabilistic_sharpe(stats) if sharpe > 0 else longer <= probabilistic_sharpe(stats)


def test_failed_trials_count_and_scale_does_not_matter():
    returns = np.random.default_rng(3).standard_normal((300, 8)) * 0.01
    trials = Trials.of_returns(returns)
    assert trials.count == 8
    assert Trials((*trials.sharpes, math.nan)).count == 9
    assert Trials((*trials.sharpes, math.nan)).variance == trials.variance
    assert Trials((0.1,)).variance == 0.0
    best = sharpe_stats(returns[:, int(np.argmax(trials.sharpes))])
    assert deflated_sharpe(best, Trials((*trials.sharpes, math.nan))) < deflated_sharpe(best, trials) < probabilistic_sharpe(best)
    assert Trials.of_returns(returns * 7.0).sharpes == pytest.approx(trials.sharpes)


def test_the_best_of_worthless_trials_is_deflated_and_a_good_one_is_not():
    rng = np.random.default_rng(4)
    kept = 0
    for _ in range(100):
        returns = rng.standard_normal((250, 40))
        trials = Trials.of_returns(returns)
        kept += deflated_sharpe(sharpe_stats(returns[:, int(np.argmax(trials.sharpes))]), trials) > 0.95
    assert kept <= 5
    returns[:, 7] += 0.4
    assert deflated_sharpe(sharpe_stats(returns[:, 7]), Trials.of_returns(returns)) > 0.95


def test_overfitting_by_hand():
    # Two blocks of two rows, two trials: each is best in one block and worst in the other, so both splits choose wrongly.
    returns = np.array([[0.02, -0.01], [0.01, -0.02], [-0.01, 0.02], [-0.02, 0.01]])
    found = backtest_overfitting(returns, blocks=2)
    assert (found.probability, found.loss_probability, found.splits, found.trials) == (1.0, 1.0, 2, 2)
    always = np.column_stack([np.array([0.02, 0.01, 0.03, 0.01]), np.array([-0.02, 0.01, -0.03, 0.01])])
    assert backtest_overfitting(always, blocks=2).probability == 0.0


def test_overfitting_as_the_definition_says_it():
    from itertools import combinations

    returns = np.random.default_rng(5).standard_normal((61, 7)) * 0.01
    parts = np.split(returns[1:], 6)
    logits = []
    for half in combinations(range(6), 3):
        inside = np.concatenate([parts[b] for b in half])
        outside = np.concatenate([parts[b] for b in range(6) if b not in half])
        best = np.argmax(inside.mean(axis=0) / inside.std(axis=0, ddof=1))
        ratio = outside.mean(axis=0) / outside.std(axis=0, ddof=1)
        relative = (np.sum(ratio < ratio[best]) + 1) / 8
        logits.append(math.log(relative / (1 - relative)))
    found = backtest_overfitting(returns, blocks=6)
    assert found.splits == 20
    assert found.probability == pytest.approx(np.mean(np.asarray(logits) <= 0.0))


def test_luck_overfits_and_skill_does_not():
    rng = np.random.default_rng(6)
    luck = rng.standard_normal((480, 20))
    assert backtest_overfitting(luck).splits == 12_870
    assert np.mean([backtest_overfitting(rng.standard_normal((240, 20)), 8).probability for _ in range(30)]) == pytest.approx(0.5, abs=0.15)
    skill = luck.copy()
    skill[:, 3] += 0.5
    assert backtest_overfitting(skill, 8).probability == 0.0


@settings(max_examples=25)
@given(st.integers(0, 2**16), st.floats(0.001, 100.0))
def test_neither_order_nor_scale_of_trials_matters(seed, scale):
    rng = np.random.default_rng(seed)
    returns = rng.standard_normal((64, 6))
    found = backtest_overfitting(returns, 8)
    assert 0.0 <= found.probability <= 1.0
    assert backtest_overfitting(returns[:, rng.permutation(6)] * scale, 8) == found


def test_what_cannot_be_told_is_unknown_and_nonsense_refused():
    assert math.isnan(backtest_overfitting(np.ones((100, 1))).probability)
    assert math.isnan(backtest_overfitting(np.ones((20, 3))).probability)
    assert math.isnan(backtest_overfitting(np.full((100, 3), np.nan)).probability)
    with pytest.raises(ValueError, match="even"):
        backtest_overfitting(np.ones((100, 3)), 5)
    assert stack_returns([np.ones(3), np.zeros(3)]).shape == (3, 2)
    with pytest.raises(ValueError, match="3, 4 of them"):
        stack_returns([np.ones(3), np.ones(4)])


def test_what_a_study_found_goes_into_the_specification():
    rng = np.random.default_rng(12)
    returns = 0.01 * rng.standard_normal((400, 30))
    returns[:, 7] += 0.004
    trials = Trials.of_returns(returns)
    tried = Tried.of_study(returns[:, 7], trials)
    assert tried.count == 30
    assert tried.deflated_sharpe == deflated_sharpe(sharpe_stats(returns[:, 7]), trials) > 0.95
    assert tried.overfitting == backtest_overfitting(returns).probability < 0.1
    assert Tried.of_study(returns[:, 7], Trials(trials.sharpes)).overfitting is None
    assert Tried.of_study(np.zeros(400), trials).deflated_sharpe is None
    assert Tried.of_study(returns[:, 7], Trials.of_returns(returns[:, 7:8])) == Tried()
    with pytest.raises(ValidationError, match="nothing else was tried"):
        Tried(count=1, deflated_sharpe=0.99)
