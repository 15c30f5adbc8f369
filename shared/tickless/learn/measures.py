"""Measures of a forecast over many ticks. Matrices are float64 (T, N), one row a sampled tick; NaN = no sample."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, isnan, sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tickless.bars import Floats

MIN_PAIRS = 5
"""With fewer pairs at a tick there is no rank IC."""
MIN_PERIODS = 5
"""A t-statistic needs at least so many label lengths of data that do not overlap."""


def average_ranks(values: Floats) -> Floats:
    """Ranks within each row, 1 the smallest, ties sharing their mean rank; NaN where the value is NaN."""
    order = np.argsort(values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    place = np.broadcast_to(np.arange(values.shape[1]), values.shape)
    edge = np.ones((len(values), max(0, values.shape[1] - 1)), dtype=np.bool_)
    np.not_equal(ordered[:, 1:], ordered[:, :-1], out=edge)
    begins = np.pad(edge, ((0, 0), (1, 0)), constant_values=True)[:, : values.shape[1]]
    ends = np.pad(edge, ((0, 0), (0, 1)), constant_values=True)[:, : values.shape[1]]
    first = np.maximum.accumulate(np.where(begins, place, 0), axis=1)
    last = np.minimum.accumulate(np.where(ends, place, values.shape[1])[:, ::-1], axis=1)[:, ::-1]
    ranks = np.empty(values.shape)
    np.put_along_axis(ranks, order, 0.5 * (first + last) + 1.0, axis=1)
    return np.where(np.isnan(values), np.nan, ranks)


def rank_ic(forecast: Floats, outcome: Floats, min_pairs: int = MIN_PAIRS) -> Floats:
    """Spearman's rank correlation of forecast and outcome across pairs at every tick, shape (T,).

    NaN where fewer than ``min_pairs`` pairs have both. A forecast that is the same for all pairs scores 0: it says nothing.
    """
    here = ~(np.isnan(forecast) | np.isnan(outcome))
    count = here.sum(axis=1)
    a = _centred_ranks(forecast, here)
    b = _centred_ranks(outcome, here)
    norm = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    ic = np.divide((a * b).sum(axis=1), norm, out=np.zeros(len(norm)), where=norm > 0)
    return np.where(count >= max(2, min_pairs), ic, np.nan)


def _centred_ranks(values: Floats, here: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Floats:
    ranks = np.where(here, average_ranks(np.where(here, values, np.nan)), 0.0)
    middle = (here.sum(axis=1, keepdims=True) + 1.0) / 2.0
    return np.where(here, ranks - middle, 0.0)


def concurrent_ticks(start_ms: NDArray[np.int64], end_ms: NDArray[np.int64]) -> int:
    """How many ticks, its own included, lie in the time that the labels of a tick look at, on average, rounded up; 1 without samples.

    For samples that come when they come and labels that end when their path says: their average concurrency (López de Prado 2018, 4.3).
    """
    if not len(start_ms):
        return 1
    ticks, first = np.unique(start_ms, return_index=True)
    inside = np.searchsorted(ticks, np.maximum.reduceat(end_ms, first), side="left") - np.arange(len(ticks))
    return ceil(float(inside.mean()))


def overlap_t(series: Floats, overlap: int) -> float:
    """The t-statistic of a mean whose neighbours share up to ``overlap`` samples of their labels. NaN where it cannot be told.

    Newey and West (1987), Bartlett kernel. The bandwidth is twice the overlap: labels that overlap have autocorrelations that fall in a
    straight line to zero at ``overlap``, of which a kernel of that same width loses a third (t too large by 22 %), one of twice the width
    a sixth. The rest, and the noise of estimating a variance from few periods, is taken off with the fixed-bandwidth critical value of
    Kiefer and Vogelsang (2005, table 1): the statistic is scaled so that 1.96 again means a 5 % two-sided test. On overlapping
    sums of noise the test so made rejects in 6 to 9 %; a naive one in half of them or more.
    """
    mean, error = mean_and_error(series, overlap)
    return mean / error


def mean_interval(series: Floats, overlap: int, level: float = 0.95) -> tuple[float, float]:
    """The interval that covers the mean of such a series with probability ``level``: every mean that ``overlap_t``'s test does not reject.

    (NaN, NaN) where it cannot be told.
    """
    mean, error = mean_and_error(series, overlap)
    reach = NormalDist().inv_cdf(0.5 + level / 2.0) * error
    return mean - reach, mean + reach


def mean_and_error(series: Floats, overlap: int) -> tuple[float, float]:
    """The mean and its standard error, the error scaled as ``overlap_t`` says; NaN where it cannot be told."""
    values = series[~np.isnan(series)]
    n = len(values)
    if overlap < 1 or n < MIN_PERIODS * overlap or n < MIN_PERIODS:
        return float("nan"), float("nan")
    lags = min(2 * overlap, n - 1)
    mean = float(values.mean())
    centred = values - mean
    variance = float(centred @ centred) / n
    for lag in range(1, lags + 1):
        variance += 2.0 * (1.0 - lag / (lags + 1.0)) * float(centred[lag:] @ centred[:-lag]) / n
    if variance <= 0.0:
        return mean, float("nan")
    b = lags / n
    critical = 1.96 + 2.9694 * b + 0.4160 * b**2 - 0.5324 * b**3
    return mean, sqrt(variance / n) * critical / 1.96


def chain_returns(plain: Floats, period: int, times: int) -> Floats:
    """Returns over ``times`` horizons, (T, N), from returns over one: (1 + r_t)(1 + r_{t+period})… - 1.

    Exact where a horizon spans exactly ``period`` ticks, since each return begins at the price at which the one before it ends. NaN where
    a part is missing, and at the end.
    """
    result = 1.0 + plain
    for step in range(1, times):
        later = np.full(plain.shape, np.nan)
        if step * period < len(plain):
            later[: -step * period] = plain[step * period :]
        result = result * (1.0 + later)
    return result - 1.0


def ic_decay(forecast: Floats, outcomes: Mapping[float, Floats], min_pairs: int = MIN_PAIRS) -> dict[float, float]:
    """The mean rank IC of today's forecast with the outcome at each horizon, by horizon; NaN where no tick has one."""
    decay = {}
    for horizon, outcome in outcomes.items():
        decay[horizon] = known_mean(rank_ic(forecast, outcome, min_pairs))
    return decay


def known_mean(values: Floats) -> float:
    """The mean of what is no NaN; NaN where nothing is left."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def without_nan(value: Any) -> Any:
    """Measures as JSON holds them: what cannot be told is null, tuples are lists."""
    if isinstance(value, Mapping):
        return {key: without_nan(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(part) for part in value]
    return None if isinstance(value, float) and isnan(value) else value


def samples_in(horizon_h: float, sample_every_min: int) -> int:
    """How many samples a horizon spans, rounded up."""
    return max(1, ceil(horizon_h * 60.0 / sample_every_min))
