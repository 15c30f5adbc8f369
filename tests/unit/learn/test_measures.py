from __future__ import annotations

import numpy as np
import pytest

from tickless.learn.measures import average_ranks, chain_returns, ic_decay, mean_interval, overlap_t, rank_ic, samples_in
from tickless.learn.portfolio_measures import (
    quantile_returns,
    quantile_spread,
    top_k_active_returns,
    top_k_net_returns,
    top_k_weights,
)


def test_ranks_share_ties_and_skip_what_is_missing():
    np.testing.assert_array_equal(average_ranks(np.array([[3.0, np.nan, 1.0, 3.0, 2.0]])), [[3.5, np.nan, 1.0, 3.5, 2.0]])


def test_rank_ic_is_spearmans():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    a = np.round(rng.standard_normal((300, 12)), 1)
    b = a + rng.standard_normal(a.shape)
    b[5, :3] = np.nan
    got = rank_ic(a, b)
    for t in (0, 5, 17, 299):
        here = ~np.isnan(b[t])
        assert got[t] == pytest.approx(spearmanr(a[t, here], b[t, here]).statistic)


def test_rank_ic_of_a_constant_is_zero_and_of_too_few_pairs_unknown():
    outcome = np.arange(12.0).reshape(2, 6)
    outcome[1, :3] = np.nan
    ic = rank_ic(np.ones((2, 6)), outcome)
    assert ic[0] == 0.0
    assert np.isnan(ic[1])


@pytest.mark.parametrize(("n", "overlap"), [(431, 25), (431, 7)])
def test_overlapping_noise_seldom_looks_significant(n, overlap):
    rng = np.random.default_rng(3)
    found = []
    for _ in range(400):
        noise = np.cumsum(rng.standard_normal(n + overlap))
        found.append(overlap_t((noise[overlap:] - noise[:-overlap])[:n], overlap))
    share = float(np.mean(np.asarray(found) > 2.0))
    # A naive t-statistic is above 2 in more than a fifth of these.
    assert share < 0.07


def test_t_of_independent_values_is_the_ordinary_one():
    values = np.random.default_rng(4).standard_normal(20_000) + 0.02
    ordinary = values.mean() / values.std() * np.sqrt(len(values))
    assert overlap_t(values, 1) == pytest.approx(ordinary, rel=0.05)


@pytest.mark.parametrize(
    ("series", "overlap"), [(np.ones(10), 5), (np.ones(4), 1), (np.ones(100), 2), (np.full(50, np.nan), 1), (np.empty(0), 1)]
)
def test_t_is_unknown_where_there_is_too_little_or_nothing_varies(series, overlap):
    assert np.isnan(overlap_t(series, overlap))


def test_top_k_holds_only_what_is_worth_a_round_trip():
    forecast = np.array([[0.05, 0.01, np.nan, 0.03, 0.002]])
    np.testing.assert_allclose(top_k_weights(forecast, 0.0023, 2), [[0.5, 0, 0, 0.5, 0]])
    np.testing.assert_allclose(top_k_weights(forecast, 0.0023, 4), [[0.25, 0.25, 0, 0.25, 0]])
    np.testing.assert_allclose(top_k_weights(forecast, 0.06, 2), np.zeros((1, 5)))
    np.testing.assert_allclose(top_k_weights(forecast, 0.0, 50), [[0.02, 0.02, 0, 0.02, 0.02]])


def test_a_position_that_is_kept_pays_for_one_round_trip():
    forecast = np.tile([0.1, 0.0], (6, 1))
    plain = np.tile([0.01, -0.5], (6, 1))
    net, turnover = top_k_net_returns(forecast, plain, cost_frac=0.002, top_k=1, period=2)
    assert turnover.sum() == pytest.approx(2 * 2.0)
    assert net.sum() == pytest.approx(6 * 0.01 - 2 * 0.002)


def test_changing_everything_at_every_rebalance_pays_every_time():
    forecast = np.array([[1.0, 0.0], [0.0, 1.0]] * 3)
    net, turnover = top_k_net_returns(forecast, np.zeros((6, 2)), cost_frac=0.002, top_k=1, period=1)
    assert turnover.sum() == pytest.approx(12.0)
    assert net.sum() == pytest.approx(-0.012)


def test_a_horizon_spans_whole_samples():
    assert [samples_in(6, 60), samples_in(6, 240), samples_in(24, 15), samples_in(0.25, 60)] == [6, 2, 96, 1]


@pytest.mark.parametrize(("n", "overlap"), [(431, 7), (1152, 25)])
def test_the_interval_covers_the_mean_of_overlapping_noise_about_as_often_as_it_says(n, overlap):
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(300):
        noise = np.cumsum(rng.standard_normal(n + overlap) + 0.1)
        low, high = mean_interval((noise[overlap:] - noise[:-overlap])[:n], overlap)
        covered += low <= 0.1 * overlap <= high
    assert 0.88 <= covered / 300 <= 0.98


def test_the_interval_and_the_test_say_the_same():
    series = np.random.default_rng(6).standard_normal(300) + 0.12
    low, high = mean_interval(series, 3)
    assert (low > 0.0) is (overlap_t(series, 3) > 1.96)
    assert (low + high) / 2.0 == pytest.approx(series.mean())
    narrow = mean_interval(series, 3, 0.5)
    assert low < narrow[0] < narrow[1] < high
    assert np.isnan(mean_interval(np.ones(4), 1)).all()


def test_chained_returns_are_those_of_the_whole_way():
    price = np.exp(np.cumsum(np.random.default_rng(7).standard_normal((40, 3)) * 0.02, axis=0))
    price[20, 1] = np.nan
    one = np.full(price.shape, np.nan)
    one[:-2] = price[2:] / price[:-2] - 1.0
    three = chain_returns(one, 2, 3)
    whole = price[6:] / price[:-6] - 1.0
    holes = np.isnan(three[:-6])
    np.testing.assert_allclose(three[:-6][~holes], whole[~holes])
    assert np.isnan(three[-6:]).all()
    assert holes[:, [0, 2]].sum() == 0
    np.testing.assert_array_equal(chain_returns(one, 2, 1)[:-2], one[:-2])


def test_a_signal_that_fades_has_a_falling_ic():
    rng = np.random.default_rng(8)
    signal = rng.standard_normal((400, 30))
    steps = [0.5 * signal + rng.standard_normal(signal.shape), rng.standard_normal(signal.shape)]
    decay = ic_decay(signal, {6.0: steps[0], 12.0: steps[0] + steps[1], 24.0: np.full(signal.shape, np.nan)})
    assert decay[6.0] > decay[12.0] + 0.05 > 0.2
    assert np.isnan(decay[24.0])


def test_quantiles_share_ties_and_need_enough_pairs():
    forecast = np.array([[1.0, 2.0, 3.0, 4.0], [5.0, 5.0, 5.0, 5.0], [1.0, np.nan, np.nan, 2.0]])
    plain = np.array([[-0.02, 0.0, 0.01, 0.05], [0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4]])
    halves = quantile_returns(forecast, plain, 2)
    np.testing.assert_allclose(halves, [[-0.01, 0.03], [np.nan, 0.25], [0.1, 0.4]])
    np.testing.assert_allclose(quantile_spread(halves), [0.04, np.nan, 0.3])
    assert np.isnan(quantile_returns(forecast, plain, 4)[2]).all()


def test_what_the_market_did_is_not_the_choices_merit():
    rng = np.random.default_rng(9)
    forecast, own = rng.standard_normal((60, 8)), 0.01 * rng.standard_normal((60, 8))
    market = 0.05 * rng.standard_normal((60, 1))
    options = {"cost_frac": 0.002, "top_k": 3, "period": 4}
    np.testing.assert_allclose(top_k_active_returns(forecast, own + market, **options), top_k_active_returns(forecast, own, **options))
    all_alike = top_k_active_returns(np.ones((60, 8)), own + market, cost_frac=0.0, top_k=8, period=4)
    np.testing.assert_allclose(all_alike, 0.0, atol=1e-15)
    net, turnover = top_k_net_returns(forecast, np.zeros((60, 8)), **options)
    np.testing.assert_allclose(net, -0.001 * turnover)
