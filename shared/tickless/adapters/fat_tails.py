"""Fat-tailed noise whose exponential has a known mean: Student's t with 4 degrees of freedom, cut off and scaled to unit variance.

Returns of coins have about such tails. Cutting them off makes E[exp(sigma z)] finite, and tabulating the distribution makes it exact, which
is what lets the synthetic market promise an expected return of zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from tickless.bars import Floats

DEGREES = 4.0
CUT = 10.0
"""In units of the uncut distribution, of which one draw in 1,800 lies beyond."""
MAX_SIGMA = 0.2
"""The largest volatility of one draw for which the cumulant is tabulated."""


@dataclass(frozen=True)
class FatTails:
    """A piecewise uniform distribution: cell borders ``edges`` (K + 1,), their cumulated mass, and the cumulant's table."""

    edges: Floats
    cumulated: Floats
    sigmas: Floats
    ratios: Floats

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
        """Independent draws of mean zero and variance one."""
        drawn: Floats = np.interp(rng.random(shape), self.cumulated, self.edges)
        return drawn

    def cumulant(self, sigma: Floats) -> Floats:
        """The cumulant log E[exp(sigma z)] for 0 <= sigma <= MAX_SIGMA.

        The table holds its ratio to the normal's sigma^2 / 2, which is nearly flat.
        """
        ratio: NDArray[np.float64] = np.interp(sigma, self.sigmas, self.ratios)
        return ratio * sigma * sigma * 0.5


@cache
def fat_tails() -> FatTails:
    """The tables, computed once a process."""
    raw = np.sinh(np.linspace(-1.0, 1.0, 2001) * np.arcsinh(CUT * 4)) / 4
    middle = (raw[1:] + raw[:-1]) / 2
    mass = (1 + middle**2 / DEGREES) ** (-(DEGREES + 1) / 2) * np.diff(raw)
    mass = (mass + mass[::-1]) / (2 * mass.sum())
    low, high = raw[:-1], raw[1:]
    variance = float((mass * (low * low + low * high + high * high)).sum() / 3)
    edges = raw / np.sqrt(variance)
    width = np.diff(edges)
    sigmas = np.linspace(0.0, MAX_SIGMA, 201)
    ratios = np.ones_like(sigmas)
    for n, sigma in enumerate(sigmas[1:], start=1):
        mean = float((mass * np.exp(sigma * edges[:-1]) * np.expm1(sigma * width) / (sigma * width)).sum())
        ratios[n] = np.log(mean) / (sigma * sigma / 2)
    cumulated = np.concatenate(([0.0], np.cumsum(mass)))
    return FatTails(edges, cumulated / cumulated[-1], sigmas, ratios)
