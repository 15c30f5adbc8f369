from __future__ import annotations

import numpy as np
import pytest

from tickless.alpha.onnx_model import OnnxModel, artifact_sha256
from tickless.errors import ArtifactError
from tickless.learn.onnx_export import check_export, exact_threshold, export_onnx, round_down


def thresholds(booster) -> list[tuple[int, float]]:
    found = []
    for tree in booster.dump_model()["tree_info"]:
        waiting = [tree["tree_structure"]]
        while waiting:
            node = waiting.pop()
            if "split_feature" in node:
                found.append((node["split_feature"], node["threshold"]))
                waiting += [node["left_child"], node["right_child"]]
    return found


def test_values_at_and_beside_every_threshold_take_the_same_branch(booster, artifact, manifest):
    model = OnnxModel.from_bytes(artifact, manifest)
    base = np.random.default_rng(4).standard_normal((1, 3)).astype(np.float32)
    rows = []
    for feature, threshold in thresholds(booster):
        near = np.float32(threshold)
        for value in (near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))):
            row = base.copy()
            row[0, feature] = value
            rows.append(row)
    x = np.concatenate(rows)
    assert len(x) > 300
    assert np.abs(model.predict(x) - booster.predict(x)).max() < 1e-6


def test_rounding_down_leaves_no_float32_between():
    for value in (0.1, -0.1, 1e-35, 1.0000000180025095e-35, 3.0, -7.25, 16_777_217.0, -1e-40):
        down = np.float32(round_down(value))
        assert float(down) <= value < float(np.nextafter(down, np.float32(np.inf)))


def test_a_threshold_around_zero_treats_the_smallest_values_as_zero():
    zero = float(np.float32(1e-35))
    assert exact_threshold(-zero) < -zero
    assert exact_threshold(0.0) == zero
    assert exact_threshold(zero) == zero
    assert exact_threshold(0.25) == 0.25
    np.testing.assert_array_equal(exact_threshold(np.array([-0.5, -zero, 0.0, 0.25])), [-0.5, exact_threshold(-zero), zero, 0.25])


def test_the_same_booster_gives_the_same_bytes(booster, artifact):
    assert export_onnx(booster, ("a", "b", "c")) == artifact


def test_a_booster_still_tied_to_its_training_gives_the_bytes_of_one_read_back():
    import lightgbm

    rng = np.random.default_rng(8)
    x = rng.standard_normal((600, 3)).astype(np.float32)
    data = lightgbm.Dataset(x, label=x[:, 0] + 0.3 * rng.standard_normal(600))
    params = {"objective": "regression", "verbosity": -1, "num_threads": 1, "num_leaves": 7}
    fresh = lightgbm.train(params, data, 12, keep_training_booster=True)
    read_back = lightgbm.Booster(model_str=fresh.model_to_string())
    assert export_onnx(fresh, ("a", "b", "c")) == export_onnx(read_back, ("a", "b", "c"))
    assert fresh.predict(x).tobytes() == read_back.predict(x).tobytes()


def test_the_graph_holds_each_split_and_leaf_that_lightgbm_describes(booster):
    import onnx

    (node,) = onnx.load_model_from_string(export_onnx(booster, ("a", "b", "c"), rounds=2)).graph.node
    held = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    trees = booster.dump_model(num_iteration=2)["tree_info"]
    described, leaves = [], []
    for tree_id, tree in enumerate(trees):
        waiting = [tree["tree_structure"]]
        while waiting:
            part = waiting.pop()
            if "split_feature" in part:
                described.append((tree_id, part["split_feature"], np.float32(exact_threshold(part["threshold"]))))
                waiting += [part["right_child"], part["left_child"]]
            else:
                leaves.append((tree_id, np.float32(part["leaf_value"])))
    columns = zip(*(held[f"nodes_{name}"] for name in ("treeids", "featureids", "values", "modes")), strict=True)
    assert [(tree, feature, value) for tree, feature, value, mode in columns if mode == b"BRANCH_LEQ"] == described
    assert list(zip(held["target_treeids"], held["target_weights"], strict=True)) == leaves
    assert len(trees) == 2


def test_a_split_that_reads_zero_as_missing_is_refused():
    import lightgbm

    rng = np.random.default_rng(0)
    x = np.where(rng.random((400, 1)) < 0.3, 0.0, rng.standard_normal((400, 1))).astype(np.float32)
    params = {"objective": "regression", "verbosity": -1, "min_data_in_leaf": 5, "num_threads": 1, "zero_as_missing": True}
    booster = lightgbm.train(params, lightgbm.Dataset(x, label=x[:, 0] ** 2), 3)
    with pytest.raises(ArtifactError, match="no exact form"):
        export_onnx(booster, ("a",))


def test_a_model_that_never_splits_is_exported_as_its_constant():
    import lightgbm

    x = np.zeros((50, 2), dtype=np.float32)
    booster = lightgbm.train(
        {"objective": "regression", "verbosity": -1, "num_threads": 1}, lightgbm.Dataset(x, label=np.full(50, 0.25)), 3
    )
    artifact = export_onnx(booster, ("a", "b"))
    manifest = {"model": "m", "version": "v", "sha256": artifact_sha256(artifact), "features": ["a", "b"], "horizon_h": 1, "label": "x"}
    np.testing.assert_allclose(OnnxModel.from_bytes(artifact, manifest).predict(x[:3]), booster.predict(x[:3]), atol=1e-6)


def test_an_export_that_differs_is_refused():
    a = np.array([0.1, 0.2])
    assert check_export(a, a + 9e-6, "m") == pytest.approx(9e-6)
    with pytest.raises(ArtifactError, match="differ by"):
        check_export(a, a + 2e-5, "m")
    with pytest.raises(ArtifactError, match="differ by nan"):
        check_export(a, np.array([0.1, np.nan]), "m")


def test_a_categorical_split_is_refused():
    import lightgbm

    rng = np.random.default_rng(0)
    x = rng.integers(0, 8, (400, 1)).astype(np.float32)
    data = lightgbm.Dataset(x, label=np.sin(x[:, 0] * 3.0), categorical_feature=[0])
    params = {"objective": "regression", "verbosity": -1, "min_data_in_leaf": 5, "num_threads": 1, "min_data_per_group": 5}
    booster = lightgbm.train(params, data, 3)
    with pytest.raises(ArtifactError, match="no exact form"):
        export_onnx(booster, ("a",))
