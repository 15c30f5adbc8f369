"""LightGBM: regression, classification and ranking on float32 features, the same bits every time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tickless.bars import Floats
from tickless.learn.algorithms.contract import Conditions, Output, Rows, Slices
from tickless.learn.fit_spec import TreeFit
from tickless.learn.onnx_export import export_onnx, predict_booster

_OBJECTIVES: dict[Output, dict[str, Any]] = {
    "value": {"objective": "regression", "metric": "l2"},
    "probability": {"objective": "binary", "metric": "binary_logloss"},
    "score": {"objective": "lambdarank", "metric": "ndcg", "eval_at": [5]},
}
_NOT_LIGHTGBMS = {"rounds", "early_stopping_rounds", "rank_grades", "refit"}


@dataclass(frozen=True)
class FittedTrees:
    """A LightGBM booster."""

    booster: Any = field(repr=False)
    output: Output
    num_threads: int
    rounds: int
    inner_prediction: Floats = field(repr=False)

    def predict(self, x: NDArray[np.float32]) -> Floats:
        """See ``Fitted``."""
        return np.asarray(self.booster.predict(x, num_threads=self.num_threads, num_iteration=self.rounds), dtype=np.float64)

    def scaler(self, slices: Slices | None = None) -> bytes:  # noqa: ARG002 - as of every model
        """See ``Fitted``. Trees split features as they are."""
        return b""

    def export(self, features: Sequence[str]) -> bytes:
        """See ``Fitted``."""
        return export_onnx(self.booster, features, probability=self.output == "probability", rounds=self.rounds)


def fit_trees(slices: Slices, fit: TreeFit, output: Output, conditions: Conditions) -> FittedTrees:
    """Fit ``slices.train``, stop early on ``slices.inner``; then, unless ``fit.refit`` is off, fit all for as many rounds as did best."""
    import lightgbm

    params = _params(fit, output, conditions)
    train = _dataset(slices.train, params, fit, output)
    inner = _dataset(slices.inner, params, fit, output, reference=train)
    stop = lightgbm.early_stopping(fit.early_stopping_rounds, verbose=False)
    # keep_training_booster: else LightGBM writes the whole model out as text and reads it back, for the same trees.
    probe = lightgbm.train(params, train, num_boost_round=fit.rounds, valid_sets=[inner], callbacks=[stop], keep_training_booster=True)
    rounds = max(1, probe.best_iteration)
    said = predict_booster(probe, slices.inner.x, conditions.num_threads)
    if not fit.refit:
        return FittedTrees(probe, output, conditions.num_threads, rounds, said)
    everything = _dataset(slices.fit, params, fit, output)
    booster = lightgbm.train(params, everything, num_boost_round=rounds, keep_training_booster=True)
    return FittedTrees(booster, output, conditions.num_threads, booster.current_iteration(), said)


def _params(fit: TreeFit, output: Output, conditions: Conditions) -> dict[str, Any]:
    return {
        **fit.model_dump(exclude=_NOT_LIGHTGBMS),
        **_OBJECTIVES[output],
        "deterministic": True,
        "force_row_wise": True,
        "seed": conditions.seed,
        "num_threads": conditions.num_threads,
        "verbosity": -1,
    }


def _dataset(rows: Rows, params: dict[str, Any], fit: TreeFit, output: Output, reference: Any = None) -> Any:
    import lightgbm

    label: NDArray[Any] = rows.y
    group = None
    if output == "probability":
        label = (rows.y > 0.0).astype(np.float64)
    elif output == "score":
        starts = group_starts(rows.time_ms)
        group = np.diff(np.append(starts, len(rows)))
        label = grades(rows.y, starts, fit.rank_grades)
    return lightgbm.Dataset(rows.x, label=label, weight=rows.weight, group=group, params=params, reference=reference)


def group_starts(time_ms: NDArray[np.int64]) -> NDArray[np.intp]:
    """Where each run of equal times begins."""
    return np.flatnonzero(np.diff(time_ms, prepend=time_ms[:1] - 1))


def grades(y: Floats, starts: NDArray[np.intp], count: int) -> NDArray[np.int64]:
    """Each row's grade among the rows of its time: 0 for the lowest ``1/count`` of the labels, ``count - 1`` for the highest.

    Equal labels may get neighbouring grades, in the order of the rows.
    """
    sizes = np.diff(np.append(starts, len(y)))
    group = np.repeat(np.arange(len(starts)), sizes)
    place = np.empty(len(y), dtype=np.int64)
    place[np.lexsort((y, group))] = np.arange(len(y)) - np.repeat(starts, sizes)
    return np.asarray(place * count // np.repeat(sizes, sizes))
