from __future__ import annotations

import numpy as np
import pytest

from tickless.learn.measures import average_ranks, overlap_t, rank_ic, samples_in, top_k_net_returns, top_k_weights


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
