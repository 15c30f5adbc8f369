"""Linear models: ridge regression in closed form and logistic regression by Newton's method. The baseline of every other model.

Features are standardised with the mean and the standard deviation of the fitted rows and clipped; a sequence counts as one long row of
features. The penalty is on the weights and not on the intercept. All in float64, inside the artifact too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tickless.bars import Floats
from tickless.learn.algorithms.contract import Rows, Slices
from tickless.learn.algorithms.graphs import graph_bytes
from tickless.learn.fit_spec import LinearFit

_CHUNK = 8192
"""Rows standardised at once: bounds the float64 copy in memory."""
_STEPS = 50
_SETTLED = 1e-10
"""Newton's method ends where no weight moves by more than this."""


@dataclass(frozen=True)
class FittedLine:
    """Weights of standardised features."""

    mean: Floats
    scale: Floats
    clip_z: float
    weights: Floats
    """(F,)"""
    intercept: float
    probability: bool
    rounds: int
    sequence_bars: int
    inner_prediction: Floats = field(repr=False)

    def predict(self, x: NDArray[np.float32]) -> Floats:
        """See ``Fitted``."""
        parts = [z @ self.weights + self.intercept for _, z in _standardised(x, self.mean, self.scale, self.clip_z)]
        line: Floats = np.concatenate(parts) if parts else np.empty(0)
        return sigmoid(line) if self.probability else line

    def scaler(self, slices: Slices | None = None) -> bytes:
        """See ``Fitted``."""
        mean, scale = (self.mean, self.scale) if slices is None else _moments(slices.fit.x)
        return mean.tobytes() + scale.tobytes()

    def export(self, features: Sequence[str]) -> bytes:
        """See ``Fitted``."""
        from onnx import TensorProto, helper, numpy_helper

        values = {
            "mean": self.mean,
            "scale": self.scale,
            "low": np.asarray(-self.clip_z),
            "high": np.asarray(self.clip_z),
            "weights": self.weights[:, None],
            "intercept": np.asarray([self.intercept]),
        }
        flat = "x"
        nodes: list[Any] = []
        if self.sequence_bars:
            nodes.append(helper.make_node("Flatten", ["x"], ["flat"], axis=1))
            flat = "flat"
        steps: list[tuple[str, list[str], str, dict[str, Any]]] = [
            ("Cast", [flat], "wide", {"to": TensorProto.DOUBLE}),
            ("Sub", ["wide", "mean"], "centred", {}),
            ("Div", ["centred", "scale"], "z", {}),
            ("Clip", ["z", "low", "high"], "clipped", {}),
            ("MatMul", ["clipped", "weights"], "product", {}),
            ("Add", ["product", "intercept"], "line", {}),
            *([("Sigmoid", ["line"], "chance", {})] if self.probability else []),
            ("Cast", ["chance" if self.probability else "line"], "y", {"to": TensorProto.FLOAT}),
        ]
        nodes += [helper.make_node(kind, inputs, [output], **settings) for kind, inputs, output, settings in steps]
        return graph_bytes(nodes, features, [numpy_helper.from_array(value, name) for name, value in values.items()], self.sequence_bars)


def fit_ridge(slices: Slices, fit: LinearFit) -> FittedLine:
    """Ridge regression: the weights that minimise the weighted squared error plus ``ridge_per_row`` times the rows' weight times |w|².

    Hoerl and Kennard (1970), Technometrics 12 (1).
    """
    return _fit(slices, fit, probability=False)


def fit_logistic(slices: Slices, fit: LinearFit) -> FittedLine:
    """Logistic regression of "the label is above zero", with the same penalty, by Newton's method with halved steps."""
    return _fit(slices, fit, probability=True)


def sigmoid(line: Floats) -> Floats:
    """1 / (1 + e^-x), without overflow."""
    tail = np.exp(-np.abs(line))
    return np.where(line >= 0.0, 1.0, tail) / (1.0 + tail)


def _fit(slices: Slices, fit: LinearFit, *, probability: bool) -> FittedLine:
    said = _solve(slices.train, fit, np.empty(0), probability=probability).predict(slices.inner.x)
    return _solve(slices.fit, fit, said, probability=probability)


def _solve(rows: Rows, fit: LinearFit, said: Floats, *, probability: bool) -> FittedLine:
    weight = np.ones(len(rows)) if rows.weight is None else rows.weight / rows.weight.mean()
    mean, scale = _moments(rows.x)
    solver = _newton if probability else _closed_form
    solution, rounds = solver(rows, weight, mean, scale, fit)
    bars = rows.x.shape[1] if rows.x.ndim == 3 else 0
    return FittedLine(mean, scale, fit.clip_z, solution[1:], float(solution[0]), probability, rounds, bars, said)


def _closed_form(rows: Rows, weight: Floats, mean: Floats, scale: Floats, fit: LinearFit) -> tuple[Floats, int]:
    width = len(mean) + 1
    gram, moment = np.zeros((width, width)), np.zeros(width)
    for part, z in _standardised(rows.x, mean, scale, fit.clip_z):
        a = _with_one(z)
        weighted = a * weight[part, None]
        gram += weighted.T @ a
        moment += weighted.T @ rows.y[part]
    return np.asarray(np.linalg.solve(gram + _penalty(width, fit, len(rows)), moment), dtype=np.float64), 1


def _newton(rows: Rows, weight: Floats, mean: Floats, scale: Floats, fit: LinearFit) -> tuple[Floats, int]:
    width = len(mean) + 1
    penalty = _penalty(width, fit, len(rows))
    w = np.zeros(width)
    loss, gradient, hessian = _logistic_terms(rows, weight, mean, scale, fit.clip_z, w, penalty)
    for step in range(1, _STEPS + 1):
        move = np.linalg.solve(hessian, gradient)
        for _ in range(_STEPS):
            trial = _logistic_terms(rows, weight, mean, scale, fit.clip_z, w - move, penalty)
            if trial[0] <= loss:
                break
            move = move / 2.0
        else:
            return w, step
        w = w - move
        loss, gradient, hessian = trial
        if float(np.abs(move).max()) <= _SETTLED:
            return w, step
    return w, _STEPS


def _logistic_terms(
    rows: Rows, weight: Floats, mean: Floats, scale: Floats, clip_z: float, w: Floats, penalty: Floats
) -> tuple[float, Floats, Floats]:
    """The penalised log loss at ``w``, its gradient and its matrix of second derivatives."""
    loss, gradient, hessian = 0.5 * float(w @ penalty @ w), penalty @ w, penalty.copy()
    for part, z in _standardised(rows.x, mean, scale, clip_z):
        a = _with_one(z)
        won = (rows.y[part] > 0.0).astype(np.float64)
        line = a @ w
        chance = sigmoid(line)
        loss += float(weight[part] @ (np.logaddexp(0.0, line) - won * line))
        gradient += a.T @ (weight[part] * (chance - won))
        hessian += (a * (weight[part] * chance * (1.0 - chance))[:, None]).T @ a
    return loss, gradient, hessian


def _penalty(width: int, fit: LinearFit, rows: int) -> Floats:
    diagonal = np.full(width, fit.ridge_per_row * rows)
    diagonal[0] = 0.0
    return np.diag(diagonal)


def _moments(x: NDArray[np.float32]) -> tuple[Floats, Floats]:
    """(mean, standard deviation) of every feature, (F,); a feature that never changes has scale 1."""
    flat = x.reshape(len(x), -1)
    mean = flat.mean(axis=0, dtype=np.float64)
    square = np.zeros(len(mean))
    for first in range(0, len(flat), _CHUNK):
        square += ((flat[first : first + _CHUNK] - mean) ** 2).sum(axis=0)
    deviation = np.sqrt(square / len(flat))
    return mean, np.where(deviation > 1e-12 * np.maximum(np.abs(mean), 1e-30), deviation, 1.0)


def _standardised(x: NDArray[np.float32], mean: Floats, scale: Floats, clip_z: float) -> Iterator[tuple[slice, Floats]]:
    flat = x.reshape(len(x), len(mean))
    for first in range(0, len(flat), _CHUNK):
        part = slice(first, first + _CHUNK)
        yield part, np.clip((flat[part].astype(np.float64) - mean) / scale, -clip_z, clip_z)


def _with_one(z: Floats) -> Floats:
    return np.hstack([np.ones((len(z), 1)), z])
