"""LightGBM to ONNX: a TreeEnsembleRegressor written node by node, followed by a sigmoid for a classifier; and the check of any export.

LightGBM decides ``value <= threshold`` with a float64 threshold, ONNX with a float32 one. Every threshold is rounded DOWN to a float32:
no float32 value lies between the two, so every float32 input takes the same branch. LightGBM also reads a value within 1e-35 of zero as
zero; a threshold in that range moves to its edge, which decides alike. What remains is the sum of leaves in float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tickless.bars import Floats
from tickless.errors import ArtifactError
from tickless.learn.algorithms.graphs import graph_bytes

TOLERANCE = 1e-5
"""The largest difference between a trainer and ONNX Runtime at which an artifact may exist."""
_ZERO = float(np.float32(1e-35))
"""LightGBM's kZeroThreshold: values no farther from zero than this are zero."""
_CATEGORICAL, _ZERO_IS_MISSING = 1, 1
"""Of a split's ``decision_type``: the lowest bit, and what its third and fourth say of values that are missing."""


def exact_threshold(threshold: Floats | float) -> Floats:
    """The float32 threshold, of each, that sends every float32 value where LightGBM sends it; as float64."""
    exact = np.asarray(threshold, dtype=np.float64)
    below_zero = float(np.nextafter(np.float32(-_ZERO), np.float32(-np.inf)))
    exact = np.where(exact >= 0.0, np.maximum(round_down(exact), _ZERO), np.where(exact >= -_ZERO, below_zero, round_down(exact)))
    return np.asarray(exact)


def round_down(threshold: Floats | float) -> Floats:
    """The largest float32 at or below each threshold, as float64."""
    exact = np.asarray(threshold, dtype=np.float64)
    with np.errstate(over="ignore"):
        near = exact.astype(np.float32)
    return np.where(near <= exact, near, np.nextafter(near, np.float32(-np.inf))).astype(np.float64)


def export_onnx(booster: Any, features: Sequence[str], *, probability: bool = False, rounds: int | None = None) -> bytes:
    """The booster as ONNX bytes: input ``x`` float32 (R, F), output ``y`` float32 (R, 1). Same booster, same bytes.

    With ``probability`` the output is the sigmoid of the sum of leaves, taken in float64. ``rounds`` keeps the first so many trees.
    Raises ArtifactError for a tree that is not purely numerical with ``<=`` splits.
    """
    from onnx import TensorProto, helper

    nodes: dict[str, Any] = _ensemble(_trees(booster.model_to_string(num_iteration=rounds)))
    summed = "sum" if probability else "y"
    graph = [helper.make_node("TreeEnsembleRegressor", ["x"], [summed], domain="ai.onnx.ml", n_targets=1, post_transform="NONE", **nodes)]
    if probability:
        graph += [
            helper.make_node("Cast", [summed], ["exact"], to=TensorProto.DOUBLE),
            helper.make_node("Sigmoid", ["exact"], ["chance"]),
            helper.make_node("Cast", ["chance"], ["y"], to=TensorProto.FLOAT),
        ]
    return graph_bytes(graph, features)


def check_export(expected: Floats, got: Floats, name: str) -> float:
    """The largest absolute difference between the trainer's and ONNX Runtime's predictions on the same rows.

    Raises ArtifactError above ``TOLERANCE``, or where one of the two is not a number.
    """
    difference = float(np.max(np.abs(expected - got), initial=0.0))
    if not difference <= TOLERANCE:
        raise ArtifactError(
            f"model {name}: ONNX Runtime and its trainer differ by {difference:g} on the validation rows, above {TOLERANCE:g}"
        )
    return difference


def predict_booster(booster: Any, x: NDArray[np.float32], num_threads: int) -> Floats:
    """LightGBM's own predictions, float64 (R,)."""
    return np.asarray(booster.predict(x, num_threads=num_threads), dtype=np.float64)


def _trees(text: str) -> Iterator[dict[str, str]]:
    """The fields of each tree in LightGBM's model text: numbers to 17 digits, which are exact, and a tenth of what its JSON costs."""
    for block in text.split("\nTree=")[1:]:
        lines = block.partition("\n\n")[0].split("\n")[1:]
        yield dict(line.split("=", 1) for line in lines)


def _ensemble(trees: Iterable[Mapping[str, str]]) -> dict[str, list[Any]]:
    """The attributes of ONNX's TreeEnsembleRegressor, one entry a node, and one a leaf for the targets."""
    names = ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids", "missing_value_tracks_true")
    nodes: dict[str, list[Any]] = {f"nodes_{name}": [] for name in names}
    targets: dict[str, list[Any]] = {f"target_{name}": [] for name in ("treeids", "nodeids", "ids", "weights")}
    for tree_id, tree in enumerate(trees):
        features, thresholds = _indices(tree, "split_feature"), _thresholds(tree_id, tree)
        leaves = [float(word) for word in tree["leaf_value"].split()]
        ids, places, yes, no = zip(*_walk(_indices(tree, "left_child"), _indices(tree, "right_child")), strict=True)
        columns: tuple[Sequence[Any], ...] = (
            [tree_id] * len(ids),
            ids,
            [features[place] if place >= 0 else 0 for place in places],
            [thresholds[place] if place >= 0 else 0.0 for place in places],
            ["BRANCH_LEQ" if place >= 0 else "LEAF" for place in places],
            yes,
            no,
            [0] * len(ids),
        )
        for name, column in zip(names, columns, strict=True):
            nodes[f"nodes_{name}"].extend(column)
        ends = [(node_id, leaves[~place]) for node_id, place in zip(ids, places, strict=True) if place < 0]
        targets["target_treeids"].extend([tree_id] * len(ends))
        targets["target_nodeids"].extend(node_id for node_id, _ in ends)
        targets["target_ids"].extend([0] * len(ends))
        targets["target_weights"].extend(value for _, value in ends)
    return nodes | targets


def _thresholds(tree_id: int, tree: Mapping[str, str]) -> list[float]:
    """Where each split of a tree cuts, for ONNX. Raises ArtifactError for a split that is not ``<=`` on a number."""
    thresholds = np.array(tree["threshold"].split(), dtype=np.float64)
    kinds = np.array(tree["decision_type"].split(), dtype=np.int64)
    bad = np.flatnonzero((kinds & _CATEGORICAL) | (((kinds >> 2) & 3) == _ZERO_IS_MISSING) | ~np.isfinite(thresholds))
    if len(bad):
        raise ArtifactError(
            f"tree {tree_id}: split {bad[0]} at {thresholds[bad[0]]} of LightGBM's decision type {kinds[bad[0]]} has no exact form in ONNX"
        )
    return [float(value) for value in exact_threshold(thresholds)]


def _indices(tree: Mapping[str, str], name: str) -> list[int]:
    return [int(word) for word in tree[name].split()]


def _walk(left: Sequence[int], right: Sequence[int]) -> Iterator[tuple[int, int, int, int]]:
    """(node's number, its split or ~leaf, number of its left child, of its right) of one tree, numbered as they are met; parents first."""
    waiting = [(0, 0 if left else ~0)]
    count = 1
    while waiting:
        node_id, place = waiting.pop()
        if place < 0:
            yield node_id, place, 0, 0
            continue
        yes, no = count, count + 1
        count += 2
        waiting += [(no, right[place]), (yes, left[place])]
        yield node_id, place, yes, no
