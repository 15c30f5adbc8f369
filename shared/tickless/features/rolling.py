"""Rolling windows over arrays of shape (T, N), each value from its own window alone.

Everything is made by doubling: what is known of n rows, put behind what is known of the n rows after them, is known of 2n rows. A few
passes over whole arrays, and no running sum that carries rounding noise along or must start somewhere: the same window gives the same
bits wherever the array begins. NaN within a window makes NaN. The first rows, whose window is not full, hold what there is: the caller
masks them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tickless.bars import Floats
from tickless.features.series import Ages


def window_sum(x: Floats, bars: int) -> Floats:
    """The sum of the last ``bars`` rows; a new array. Raises ValueError for ``bars`` below 1."""
    return window_sums(x, (bars,))[0]


def window_sums(x: Floats, lengths: Sequence[int]) -> list[Floats]:
    """``window_sum`` for several lengths, which share their passes."""
    if min(lengths) < 1:
        raise ValueError(f"a sum of {min(lengths)} bars")
    totals: list[Floats | None] = [None] * len(lengths)
    power, width = x, 1
    while True:
        for k, bars in enumerate(lengths):
            if bars & width:
                # What is there so far covers the latest rows: as many as the lower digits of ``bars`` say.
                total = totals[k]
                totals[k] = power.copy() if total is None else _add_earlier(total, power, bars % width)
        if 2 * width > max(lengths):
            return [total for total in totals if total is not None]
        power, width = _add_earlier(power, power, width), 2 * width


def window_max(x: Floats, bars: int) -> Floats:
    """The maximum of the last ``bars`` rows."""
    width = 1
    while width < bars:
        # The last step overlaps itself: a maximum does not mind.
        step = min(width, bars - width)
        wider = np.empty_like(x)
        wider[:step] = x[:step]
        np.maximum(x[step:], x[:-step], out=wider[step:])
        x, width = wider, width + step
    return x


def window_moments(x: Floats, bars: int) -> tuple[Floats, Floats]:
    """Mean and population variance of the last ``bars`` rows; the variance of equal values is exactly 0.

    Parts are joined by their means, so that nothing cancels: Chan, Golub, LeVeque (1983), *Algorithms for Computing the Sample Variance*.
    """
    width, mean, spread = 1, x, np.zeros_like(x)
    joined: tuple[int, Floats, Floats] | None = None
    while True:
        part = (width, mean, spread)
        if bars & width:
            joined = part if joined is None else _join_moments(joined, part)
        if joined is not None and 2 * width > bars:
            return joined[1], joined[2] / bars
        width, mean, spread = _join_moments(part, part)


def _join_moments(late: tuple[int, Floats, Floats], early: tuple[int, Floats, Floats]) -> tuple[int, Floats, Floats]:
    """(rows, mean, sum of squared distances to it) of a window and of the one before it."""
    (n, mean, spread), (m, earlier_mean, earlier_spread) = late, early
    if n >= len(mean):
        return n + m, mean, spread
    difference = np.zeros_like(mean)
    np.subtract(earlier_mean[:-n], mean[n:], out=difference[n:])
    total = _add_earlier(spread, earlier_spread, n)
    total += np.square(difference) * (n * m / (n + m))
    difference *= m / (n + m)
    difference += mean
    return n + m, difference, total


def decayed_sum(x: Floats, decay: float, bars: int, age: Ages) -> Floats:
    """The sum of decay^k x[t-k] over the last ``bars`` rows that lie in the row's series: k < bars and k <= age."""
    # Where every series is older than the sum is long, nothing has to be kept apart.
    ages = age if x.size and age.min() < bars else None
    power, width = x, 1
    total: Floats | None = None
    while True:
        if bars & width:
            reach = bars % width
            total = power if total is None else _add_decayed(total, power, reach, decay**reach, ages)
        if total is not None and 2 * width > bars:
            return total
        power, width = _add_decayed(power, power, width, decay**width, ages), 2 * width


def _add_earlier(x: Floats, y: Floats, rows: int) -> Floats:
    """``x`` plus ``y`` of ``rows`` rows before."""
    out = np.empty_like(x)
    out[:rows] = x[:rows]
    if rows < len(x):
        np.add(x[rows:], y[:-rows], out=out[rows:])
    return out


def _add_decayed(x: Floats, y: Floats, rows: int, weight: float, age: Ages | None) -> Floats:
    """``x`` plus ``weight`` times ``y`` of ``rows`` rows before, where the series is that old."""
    if rows >= len(x):
        return x
    out = np.empty_like(x)
    out[:rows] = x[:rows]
    earlier = np.multiply(y[:-rows], weight, out=out[rows:])
    if age is not None:
        earlier[age[rows:] < rows] = 0.0
    earlier += x[rows:]
    return out
