"""LightGBM to ONNX: a TreeEnsembleRegressor written node by node, followed by a sigmoid for a classifier; and the check of any export.

LightGBM decides ``value <= threshold`` with a float64 threshold, ONNX with a float32 one. Every threshold is rounded DOWN to a float32:
no float32 value lies between the two, so every float32 input takes the same branch. LightGBM also reads a value within 1e-35 of zero as
zero; a threshold in that range moves to its edge, which decides alike. What remains is the sum of leaves in float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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


def exact_threshold(threshold: float) -> float:
    """The float32 threshold that sends every float32 value where LightGBM sends it, as a float."""
    if -_ZERO <= threshold < 0.0:
        return float(np.nextafter(np.float32(-_ZERO), np.float32(-np.inf)))
    return max(round_down(threshold), _ZERO) if threshold >= 0.0 else round_down(threshold)


def round_down(threshold: float) -> float:
    """The largest float32 at or below ``threshold``, as a float."""
    near = np.float32(threshold)
    return float(near if float(near) <= threshold else np.nextafter(near, np.float32(-np.inf)))


def export_onnx(booster: Any, features: Sequence[str], *, probability: bool = False, rounds: int | None = None) -> bytes:
    """The booster as ONNX bytes: input ``x`` float32 (R, F), output ``y`` float32 (R, 1). Same booster, same bytes.

    With ``probability`` the output is the sigmoid of the sum of leaves, taken in float64. ``rounds`` keeps the first so many trees.
    Raises ArtifactError for a tree that is not purely numerical with ``<=`` splits.
    """
    from onnx import TensorProto, helper

    trees = booster.dump_model()["tree_info"]
    nodes: dict[str, Any] = _ensemble(trees if rounds is None else trees[:rounds])
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


def _ensemble(trees: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The attributes of ONNX's TreeEnsembleRegressor, one entry a node, and one a leaf for the targets."""
    names = ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids", "missing_value_tracks_true")
    nodes: dict[str, list[Any]] = {f"nodes_{name}": [] for name in names}
    targets: dict[str, list[Any]] = {f"target_{name}": [] for name in ("treeids", "nodeids", "ids", "weights")}
    for tree_id, tree in enumerate(trees):
        for row, leaf in _tree_nodes(tree_id, tree["tree_structure"]):
            for name, value in zip(names, row, strict=True):
                nodes[f"nodes_{name}"].append(value)
            if leaf is not None:
                for name, value in zip(("treeids", "nodeids", "ids", "weights"), (tree_id, row[1], 0, leaf), strict=True):
                    targets[f"target_{name}"].append(value)
    return nodes | targets


def _tree_nodes(tree_id: int, root: Mapping[str, Any]) -> Iterator[tuple[tuple[Any, ...], float | None]]:
    """(node's attributes, leaf value or None) of one tree, numbered as they are met; parents before children."""
    waiting: list[tuple[int, Mapping[str, Any]]] = [(0, root)]
    count = 1
    while waiting:
        node_id, node = waiting.pop()
        if "split_feature" not in node:
            yield (tree_id, node_id, 0, 0.0, "LEAF", 0, 0, 0), float(node["leaf_value"])
            continue
        threshold = node["threshold"]
        if node["decision_type"] != "<=" or node["missing_type"] == "Zero" or not np.isfinite(threshold):
            raise ArtifactError(
                f"tree {tree_id}: a split {node['decision_type']} {threshold} on {node['missing_type']} has no exact form in ONNX"
            )
        yes, no = count, count + 1
        count += 2
        waiting += [(no, node["right_child"]), (yes, node["left_child"])]
        yield (tree_id, node_id, int(node["split_feature"]), exact_threshold(float(threshold)), "BRANCH_LEQ", yes, no, 0), None
