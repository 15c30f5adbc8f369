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


def test_the_same_booster_gives_the_same_bytes(booster, artifact):
    assert export_onnx(booster, ("a", "b", "c")) == artifact


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
