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
    powers = [x]
    while 2 ** len(powers) <= max(lengths):
        powers.append(_add_earlier(powers[-1], powers[-1], 2 ** (len(powers) - 1)))
    sums = []
    for bars in lengths:
        # The longest part last in time order costs nothing more and leaves the fewest rows to copy.
        parts = [k for k in range(len(powers)) if bars >> k & 1]
        total, reach = powers[parts[-1]], 2 ** parts[-1]
        for k in reversed(parts[:-1]):
            total = _add_earlier(total, powers[k], reach)
            reach += 2**k
        sums.append(total.copy() if total is x else total)
    return sums


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
        if bars & width:
            joined = (width, mean, spread) if joined is None else _join_moments(joined, (width, mean, spread))
        if joined is not None and 2 * width > bars:
            return joined[1], joined[2] / bars
        width, mean, spread = _join_moments((width, mean, spread), (width, mean, spread))


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
    power, width, reach = x, 1, 0
    total: Floats | None = None
    while True:
        if bars & width:
            total = power if total is None else _add_decayed(total, power, reach, decay**reach, age)
            reach += width
        if total is not None and 2 * width > bars:
            return total
        power, width = _add_decayed(power, power, width, decay**width, age), 2 * width


def _add_earlier(x: Floats, y: Floats, rows: int) -> Floats:
    """``x`` plus ``y`` of ``rows`` rows before."""
    out = np.empty_like(x)
    out[:rows] = x[:rows]
    if rows < len(x):
        np.add(x[rows:], y[:-rows], out=out[rows:])
    return out


def _add_decayed(x: Floats, y: Floats, rows: int, weight: float, age: Ages) -> Floats:
    """``x`` plus ``weight`` times ``y`` of ``rows`` rows before, where the series is that old."""
    if rows >= len(x):
        return x
    out = np.empty_like(x)
    out[:rows] = x[:rows]
    earlier = np.multiply(y[:-rows], weight, out=out[rows:])
    young = age[rows:] < rows
    if young.any():
        earlier[young] = 0.0
    earlier += x[rows:]
    return out
