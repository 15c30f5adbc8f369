"""How much of a result is luck when many were tried. Sharpe ratios here are per period, not per year: mean over standard deviation.

Returns are float64, one a period, of periods that share nothing; where holding periods overlap, say so with ``overlap``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist
from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from tickless.bars import Floats
from tickless.settings import Section

_NORMAL = NormalDist()
_EULER = 0.5772156649015329
_SAME = 1e-12
"""Returns that vary by less than this share of their size do not vary."""
_CHUNK = 1024


@dataclass(frozen=True)
class SharpeStats:
    """What the formulas need of one series of returns. NaN where the returns do not vary, or are fewer than two."""

    periods: float
    sharpe: float
    """Mean over standard deviation, a period."""
    skew: float
    kurtosis: float
    """3 for a normal distribution."""


@dataclass(frozen=True)
class Trials:
    """Everything that was tried before one was chosen, whether it was kept or not. Leaving out failures makes luck look like skill."""

    sharpes: tuple[float, ...]
    """Sharpe ratio a period, of each trial; NaN for one that failed: it counts, and its ratio is unknown."""
    returns: Floats | None = None
    """Returns of every trial over the same periods, (T, trials); None where they were not kept."""

    @property
    def count(self) -> int:
        """How many were tried."""
        return len(self.sharpes)

    @classmethod
    def of_returns(cls, returns: Floats, overlap: int = 1) -> Trials:
        """The trials whose returns these are, (T, trials)."""
        return cls(tuple(sharpe_stats(column, overlap).sharpe for column in returns.T), returns)

    @property
    def variance(self) -> float:
        """Variance of the known Sharpe ratios over the trials (n - 1); 0 with fewer than two."""
        known = np.asarray([value for value in self.sharpes if not math.isnan(value)])
        return float(known.var(ddof=1)) if len(known) > 1 else 0.0


@dataclass(frozen=True)
class Overfitting:
    """What combinatorially symmetric cross-validation found. NaN where it could not be done."""

    probability: float
    """PBO: how often the trial that was best on one half of the time was no better than the median on the other half."""
    loss_probability: float
    """How often the chosen trial lost on the other half."""
    splits: int
    trials: int


class Tried(Section):
    """The ``[trials]`` table of a specification: what the trials say of the one that was chosen among them. Without it there was one."""

    count: int = Field(default=1, ge=1)
    """All that were tried before this one was chosen, failures and this one included."""
    deflated_sharpe: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    """Of the chosen one's returns over the whole study; left out: it cannot be told."""
    overfitting: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    """The probability of backtest overfitting; left out where the trials' returns were not kept."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.count == 1 and (self.deflated_sharpe is not None or self.overfitting is not None):
            raise ValueError("count = 1: where nothing else was tried there is no luck to deflate")
        return self

    @classmethod
    def of_study(cls, chosen: Floats, trials: Trials, overlap: int = 1) -> Self:
        """What a study found: ``chosen`` are the returns (T,) of the trial that was chosen, one of ``trials``."""
        if trials.count < 2:
            return cls()
        deflated = deflated_sharpe(sharpe_stats(chosen, overlap), trials)
        found = math.nan if trials.returns is None else backtest_overfitting(trials.returns).probability
        known = [None if math.isnan(value) else value for value in (deflated, found)]
        return cls(count=trials.count, deflated_sharpe=known[0], overfitting=known[1])


def sharpe_stats(returns: Floats, overlap: int = 1) -> SharpeStats:
    """Moments of a series of returns (T,). ``overlap`` neighbours share their holding period: the series counts for T / overlap periods."""
    periods = len(returns) / max(1, overlap)
    unknown = SharpeStats(periods, math.nan, math.nan, math.nan)
    if len(returns) < 2 or np.isnan(returns).any():
        return unknown
    mean = float(returns.mean())
    centred = returns - mean
    second = float(np.mean(centred**2))
    if math.sqrt(second) <= _SAME * (abs(mean) + float(np.abs(returns).max())):
        return unknown
    deviation = math.sqrt(second * len(returns) / (len(returns) - 1))
    skew = float(np.mean(centred**3)) / second**1.5
    return SharpeStats(periods, mean / deviation, skew, float(np.mean(centred**4)) / second**2)


def probabilistic_sharpe(stats: SharpeStats, benchmark: float = 0.0) -> float:
    """The probability that the true Sharpe ratio is above ``benchmark``, both a period. NaN with fewer than two periods.

    Bailey and López de Prado, "The Sharpe Ratio Efficient Frontier" (2012), equation 11.
    """
    if stats.periods < 2.0 or math.isnan(stats.sharpe):
        return math.nan
    return _NORMAL.cdf((stats.sharpe - benchmark) * math.sqrt(stats.periods - 1.0) / _spread(stats))


def min_track_record(stats: SharpeStats, benchmark: float = 0.0, level: float = 0.95) -> float:
    """How many periods it takes until ``probabilistic_sharpe`` reaches ``level``, from the same paper (equation 13).

    Infinite where the ratio is not above the benchmark: no length would do. NaN where the ratio is unknown.
    """
    if math.isnan(stats.sharpe):
        return math.nan
    if stats.sharpe <= benchmark:
        return math.inf
    return 1.0 + (_spread(stats) * _NORMAL.inv_cdf(level) / (stats.sharpe - benchmark)) ** 2


def expected_max_sharpe(variance: float, trials: int) -> float:
    """The Sharpe ratio that the best of so many trials without skill is expected to show, where theirs have this variance.

    Bailey and López de Prado, "The Deflated Sharpe Ratio" (2014), equation 1. 0 for a single trial.
    """
    if trials < 2:
        return 0.0
    far = _NORMAL.inv_cdf(1.0 - 1.0 / trials)
    farther = _NORMAL.inv_cdf(1.0 - 1.0 / (trials * math.e))
    return math.sqrt(max(0.0, variance)) * ((1.0 - _EULER) * far + _EULER * farther)


def deflated_sharpe(stats: SharpeStats, trials: Trials) -> float:
    """The probability that the chosen trial's true Sharpe ratio is above what the best of as many without skill would show.

    Equation 2 of the same paper.
    """
    return probabilistic_sharpe(stats, expected_max_sharpe(trials.variance, trials.count))


def backtest_overfitting(returns: Floats, blocks: int = 16) -> Overfitting:
    """Bailey, Borwein, López de Prado and Zhu, "The Probability of Backtest Overfitting" (2015), on returns of all trials (T, trials).

    Time is cut into ``blocks`` (even) equal blocks, a rest at the start is left out. For each choice of half of them the trial with the
    best Sharpe ratio there is ranked on the other half. A trial whose returns do not vary has a ratio of 0. Ties of the best go to the
    earlier trial, ties of the rank share it. NaN with fewer than two trials or two rows a block; raises ValueError for odd ``blocks``.
    """
    if blocks < 2 or blocks % 2:
        raise ValueError(f"blocks = {blocks}: must be even and at least 2")
    rows, count = returns.shape
    size = rows // blocks
    if count < 2 or size < 2 or np.isnan(returns).any():
        return Overfitting(math.nan, math.nan, 0, count)
    parts = returns[rows - size * blocks :].reshape(blocks, size, count)
    sums, squares = parts.sum(axis=1), (parts * parts).sum(axis=1)
    halves = combinations(range(blocks), blocks // 2)
    chosen = np.asarray([np.isin(np.arange(blocks), half) for half in halves], dtype=np.float64)
    below = losing = 0
    for first in range(0, len(chosen), _CHUNK):
        inside = chosen[first : first + _CHUNK]
        outside = 1.0 - inside
        best = np.argmax(_ratios(inside @ sums, inside @ squares, size * blocks // 2), axis=1)[:, None]
        ratios = _ratios(outside @ sums, outside @ squares, size * blocks // 2)
        mine = np.take_along_axis(ratios, best, axis=1)
        rank = (ratios < mine).sum(axis=1) + 0.5 * ((ratios == mine).sum(axis=1) + 1.0)
        # The logit of rank / (trials + 1) is not above zero.
        below += int((rank <= (count + 1.0) / 2.0).sum())
        losing += int((np.take_along_axis(outside @ sums, best, axis=1) < 0.0).sum())
    return Overfitting(below / len(chosen), losing / len(chosen), len(chosen), count)


def _ratios(total: Floats, squares: Floats, rows: int) -> Floats:
    mean = total / rows
    variance = (squares / rows - mean * mean) * rows / (rows - 1)
    varies = variance > _SAME * (squares / rows)
    return np.divide(mean, np.sqrt(np.where(varies, variance, 1.0)), out=np.zeros_like(mean), where=varies)


def _spread(stats: SharpeStats) -> float:
    """The standard deviation of an estimated Sharpe ratio, times the root of the periods less one: Mertens (2002)."""
    variance = 1.0 - stats.skew * stats.sharpe + (stats.kurtosis - 1.0) / 4.0 * stats.sharpe**2
    # Not below zero for any distribution: kurtosis is at least 1 + skew².
    return math.sqrt(max(variance, _SAME))


def stack_returns(series: Sequence[Floats]) -> Floats:
    """Returns of trials over the same periods as one matrix (T, trials); raises ValueError where their lengths differ."""
    lengths = {len(one) for one in series}
    if len(lengths) > 1:
        raise ValueError(f"trials over different periods cannot be compared: {', '.join(map(str, sorted(lengths)))} of them")
    return np.column_stack(list(series)) if series else np.empty((0, 0))
