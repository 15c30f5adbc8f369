"""Sample weights: labels that look at the same bars say the same thing more than once."""

from __future__ import annotations

import numpy as np

from tickless.bars import Floats
from tickless.learn.dataset import Samples


def average_uniqueness(samples: Samples) -> Floats:
    """The average uniqueness of every label, (R,), in (0, 1]: the mean over its interval of 1 / (labels of its pair that look there).

    López de Prado, *Advances in Financial Machine Learning* (2018), section 4.4, over time instead of over bars: the same where the bars
    are regular. Pairs are counted apart. Give it the very rows that are fitted on: rows purged since would still weigh on the rest.
    Raises ValueError for a label that looks at no time at all.
    """
    if not len(samples):
        return np.empty(0)
    if (samples.end_ms <= samples.start_ms).any():
        raise ValueError("a label looks at no time at all: it ends where it starts")
    times = np.unique(np.concatenate((samples.start_ms, samples.end_ms)))
    start, end = np.searchsorted(times, samples.start_ms), np.searchsorted(times, samples.end_ms)
    steps, columns = len(times), len(samples.pairs)
    opened = np.bincount(start * columns + samples.pair, minlength=steps * columns)
    closed = np.bincount(end * columns + samples.pair, minlength=steps * columns)
    concurrent = np.cumsum((opened - closed).reshape(steps, columns), axis=0)
    share = np.divide(1.0, concurrent, out=np.zeros(concurrent.shape), where=concurrent > 0)
    share[:-1] *= np.diff(times)[:, None]
    until = np.zeros((steps + 1, columns))
    np.cumsum(share, axis=0, out=until[1:])
    return np.asarray((until[end, samples.pair] - until[start, samples.pair]) / (samples.end_ms - samples.start_ms))


def uniqueness_weights(samples: Samples) -> Floats:
    """Average uniqueness scaled to a mean of 1, (R,): weights that leave limits on a leaf's weight where they were."""
    unique = average_uniqueness(samples)
    return unique / unique.mean() if len(unique) else unique
