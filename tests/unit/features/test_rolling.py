"""Rolling windows against windows cut out one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickless.features.rolling import decayed_sum, window_max, window_moments, window_sum, window_sums

RNG = np.random.default_rng(2)
X = RNG.normal(100.0, 5.0, (170, 3))
AGE = np.tile(np.arange(170, dtype=np.int32)[:, None], (1, 3))


def windows(x, bars):
    """(T - bars + 1, N, bars)."""
    return np.lib.stride_tricks.sliding_window_view(x, bars, axis=0)


@given(st.integers(1, 170))
def test_sums_maxima_and_moments(bars):
    cut = windows(X, bars)
    np.testing.assert_allclose(window_sum(X, bars)[bars - 1 :], cut.sum(axis=2), rtol=1e-13)
    assert np.array_equal(window_max(X, bars)[bars - 1 :], cut.max(axis=2))
    mean, variance = window_moments(X, bars)
    np.testing.assert_allclose(mean[bars - 1 :], cut.mean(axis=2), rtol=1e-13)
    np.testing.assert_allclose(variance[bars - 1 :], cut.var(axis=2), rtol=1e-10, atol=1e-20)


@given(st.lists(st.integers(1, 200), min_size=1, max_size=4))
def test_lengths_share_passes_and_no_bits(lengths):
    for bars, total in zip(lengths, window_sums(X, lengths), strict=True):
        assert np.array_equal(total, window_sum(X, bars))
        assert total is not X


def test_equal_values_have_no_variance_however_large():
    _, variance = window_moments(np.full((50, 2), 61_234.567), 20)
    assert (variance == 0.0).all()


def test_a_variance_far_smaller_than_the_values_keeps_its_digits():
    x = 1.0 + 1e-9 * X
    np.testing.assert_allclose(window_moments(x, 20)[1][19:], windows(x - 1.0, 20).var(axis=2), rtol=1e-6)


@given(st.integers(1, 200), st.sampled_from([0.3, 0.9, 1.0]), st.integers(0, 169))
def test_a_decayed_sum_ends_at_its_length_and_at_the_start_of_the_series(bars, decay, start):
    age = AGE.copy()
    age[start:, 1] -= start
    got = decayed_sum(X, decay, bars, age)
    for t in range(0, 170, 13):
        for n in range(3):
            count = min(bars, int(age[t, n]) + 1)
            wanted = sum(decay**k * X[t - k, n] for k in range(count))
            assert got[t, n] == pytest.approx(wanted, rel=1e-12)


def test_what_is_missing_makes_its_windows_missing_and_no_other():
    x = X.copy()
    x[60, 1] = np.nan
    for got in (window_sum(x, 10), window_max(x, 10), window_moments(x, 10)[1]):
        assert np.flatnonzero(np.isnan(got[9:, 1])).tolist() == list(range(51, 61))
        assert not np.isnan(got[9:, [0, 2]]).any()
