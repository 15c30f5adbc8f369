"""What a model goes by: what its splits or weights say, and what is lost when a feature is shuffled on rows it has not seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tickless.bars import Floats
from tickless.learn.algorithms.contract import Fitted
from tickless.learn.algorithms.linear import FittedLine
from tickless.learn.algorithms.trees import FittedTrees
from tickless.learn.dataset import Samples

Predict = Callable[[NDArray[Any]], Floats]
Score = Callable[[Samples, Floats], float]
"""How good forecasts of rows are; more is better."""


def gain_shares(fitted: Fitted, features: int) -> Floats:
    """Each feature's share of all that fitting gained, (F,), summing to 1; NaN for a network, of which nobody can tell.

    Of trees the squared (or log) loss that its splits saved; of a line the absolute weights of standardised features, those of one
    feature added up over the bars of a sequence.
    """
    if isinstance(fitted, FittedTrees):
        gains = np.asarray(fitted.booster.feature_importance("gain", iteration=fitted.rounds), dtype=np.float64)
    elif isinstance(fitted, FittedLine):
        gains = np.abs(fitted.weights).reshape(-1, features).sum(axis=0)
    else:
        return np.full(features, np.nan)
    total = gains.sum()
    return gains / total if total > 0.0 else gains


def permutation_losses(predict: Predict, rows: Samples, score: Score, seed: int) -> Floats:
    """How much worse the forecasts of rows score when one feature's values change places among them, (F,).

    Breiman, "Random Forests" (2001), section 10. Of sequences a feature's whole sequence changes places. Below zero: by luck the shuffled
    one did better. NaN where the score cannot be told. Deterministic.
    """
    features = rows.x.shape[-1]
    if not len(rows):
        return np.full(features, np.nan)
    rng = np.random.default_rng(seed)
    whole = score(rows, predict(rows.x))
    losses = np.empty(features)
    for at in range(features):
        shuffled = rows.x.copy()
        shuffled[..., at] = rows.x[rng.permutation(len(rows))][..., at]
        losses[at] = whole - score(rows, predict(shuffled))
    return losses
