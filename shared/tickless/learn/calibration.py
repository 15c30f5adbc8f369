"""Fitting a calibration: Platt's line on log-odds, or a rising staircase. On its own slice, after the fit and before the validation."""

from __future__ import annotations

import numpy as np

from tickless.alpha.calibration import Calibration, Method, log_odds
from tickless.bars import Floats
from tickless.learn.labels import Millis

MIN_ROWS_OF_A_CLASS = 20
"""With fewer rows with, or without, the event nothing is fitted."""
_STEPS = 100
_SMALL = 1e-10


def fit_calibration(method: Method, output: Floats, won: Floats, start_ms: Millis, end_ms: Millis) -> Calibration:
    """Fit on a classifier's probabilities (R,) and what came of them (0 or 1).

    The result carries the time its rows span, so that a check can refuse one that overlaps the fit or the validation. Raises ValueError
    where one of the two outcomes has fewer than ``MIN_ROWS_OF_A_CLASS`` rows, or a number is not finite.
    """
    if not (np.isfinite(output).all() and np.isfinite(won).all()):
        raise ValueError("a calibration cannot be fitted on what is not a finite number")
    rarer = int(min(won.sum(), len(won) - won.sum()))
    if rarer < MIN_ROWS_OF_A_CLASS:
        raise ValueError(f"a calibration needs {MIN_ROWS_OF_A_CLASS} rows with and without the event; of one there are {rarer}")
    span = (int(start_ms.min()), int(end_ms.max()), len(won))
    if method == "platt":
        return Calibration("platt", fit_platt(output, won), (), *span)
    if method == "isotonic":
        return Calibration("isotonic", *fit_isotonic(output, won), *span)
    return Calibration("none", (), (), *span)


def fit_platt(output: Floats, won: Floats) -> tuple[float, float]:
    """(slope, intercept) of a logistic regression on the output's log-odds; (1, 0) would change nothing.

    Platt (1999) with his targets, which stay off 0 and 1; Newton's method with halved steps as Lin, Lin and Weng (2007). A slope that
    came out negative, from a classifier that is wrong more often than right, is held at 0: calibration does not turn a model round.
    """
    z = log_odds(output)
    positive = float(won.sum())
    negative = len(won) - positive
    target = np.where(won > 0.0, (positive + 1.0) / (positive + 2.0), 1.0 / (negative + 2.0))
    level = float(np.log(target.mean()) - np.log1p(-target.mean()))
    if z.max() - z.min() < _SMALL:
        return 0.0, level
    design = np.column_stack([z, np.ones(len(z))])
    line = np.array([0.0, level])
    loss = _logistic_loss(design @ line, target)
    for _ in range(_STEPS):
        p = 1.0 / (1.0 + np.exp(-(design @ line)))
        gradient = design.T @ (p - target)
        if np.abs(gradient).max() < _SMALL * len(z):
            break
        curvature = (design * (p * (1.0 - p))[:, None]).T @ design + 1e-12 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        size = 1.0
        while size > _SMALL and _logistic_loss(design @ (line - size * step), target) > loss:
            size /= 2.0
        line = line - size * step
        loss = _logistic_loss(design @ line, target)
    return (float(line[0]), float(line[1])) if line[0] > 0.0 else (0.0, level)


def fit_isotonic(output: Floats, won: Floats) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(outputs, probabilities): the rising staircase nearest to what came, by pooling neighbours that fall (Ayer et al. 1955).

    A step begins at the least and ends at the greatest output pooled into it; between two steps runs a straight line. No step is nearer
    to 0 or 1 than one row more of the other kind would leave it: rows that all won do not make a certainty.
    """
    x, place, count = np.unique(output, return_inverse=True, return_counts=True)
    total = np.bincount(place, weights=won)
    blocks: list[tuple[float, float, int, int]] = []  # (events, rows, first, last)
    for at in range(len(x)):
        block = (float(total[at]), float(count[at]), at, at)
        while blocks and blocks[-1][0] * block[1] >= block[0] * blocks[-1][1]:
            before = blocks.pop()
            block = (before[0] + block[0], before[1] + block[1], before[2], block[3])
        blocks.append(block)
    least = 1.0 / (len(output) + 2.0)
    xs: list[float] = []
    ys: list[float] = []
    for events, rows, first, last in blocks:
        for edge in {first: None, last: None}:
            xs.append(float(x[edge]))
            ys.append(min(max(events / rows, least), 1.0 - least))
    return tuple(xs), tuple(ys)


def _logistic_loss(margin: Floats, target: Floats) -> float:
    return float(np.sum(np.logaddexp(0.0, margin) - target * margin))
