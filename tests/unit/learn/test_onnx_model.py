from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tickless.alpha.onnx_model import OnnxModel
from tickless.errors import ArtifactError


def test_predicts_what_the_trainer_predicts(booster, artifact, manifest):
    x = np.random.default_rng(1).standard_normal((500, 3)).astype(np.float32)
    model = OnnxModel.from_bytes(artifact, manifest)
    got = model.predict(x)
    assert got.dtype == np.float64
    assert np.abs(got - booster.predict(x)).max() < 1e-5


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_a_row_that_is_not_finite_gives_nan_and_leaves_the_others_alone(artifact, manifest, bad):
    model = OnnxModel.from_bytes(artifact, manifest)
    x = np.random.default_rng(2).standard_normal((6, 3))
    clean = model.predict(x)
    x[2, 1] = bad
    got = model.predict(x)
    assert np.isnan(got[2])
    np.testing.assert_array_equal(np.delete(got, 2), np.delete(clean, 2))


def test_all_rows_missing_and_no_rows(artifact, manifest):
    model = OnnxModel.from_bytes(artifact, manifest)
    assert np.isnan(model.predict(np.full((4, 3), np.nan))).all()
    assert model.predict(np.empty((0, 3))).shape == (0,)


def test_a_row_predicts_the_same_alone_and_in_a_batch(artifact, manifest):
    model = OnnxModel.from_bytes(artifact, manifest)
    x = np.random.default_rng(3).standard_normal((64, 3)).astype(np.float32)
    alone = np.concatenate([model.predict(x[i : i + 1]) for i in range(len(x))])
    np.testing.assert_array_equal(alone, model.predict(x))


def test_many_rows_predict_what_few_do(artifact, manifest):
    model = OnnxModel.from_bytes(artifact, manifest)
    x = np.random.default_rng(4).standard_normal((9001, 3)).astype(np.float32)
    x[17, 0] = np.nan
    few = np.concatenate([model.predict(x[i : i + 60]) for i in range(0, len(x), 60)])
    np.testing.assert_array_equal(few, model.predict(x))


def test_every_damaged_byte_is_refused(artifact, manifest):
    for place in range(0, len(artifact), max(1, len(artifact) // 50)):
        damaged = bytearray(artifact)
        damaged[place] ^= 1
        with pytest.raises(ArtifactError, match="sha256"):
            OnnxModel.from_bytes(bytes(damaged), manifest)


def test_bytes_that_are_no_model_are_refused_even_with_the_right_hash(manifest):
    import hashlib

    junk = b"not a model"
    with pytest.raises(ArtifactError, match="ONNX Runtime can load"):
        OnnxModel.from_bytes(junk, manifest | {"sha256": hashlib.sha256(junk).hexdigest()})


@pytest.mark.parametrize("features", [["a", "b"], ["b", "a", "c"], ["a", "b", "d"], ["a", "b", "c", "d"]])
def test_a_manifest_with_other_features_than_the_artifact_is_refused(artifact, manifest, features):
    with pytest.raises(ArtifactError, match=r"trained on|takes"):
        OnnxModel.from_bytes(artifact, manifest | {"features": features})


@pytest.mark.parametrize("key", ["sha256", "features", "horizon_h", "version", "label"])
def test_a_manifest_without_a_field_is_refused_by_name(artifact, manifest, key):
    del manifest[key]
    with pytest.raises(ArtifactError, match=key):
        OnnxModel.from_bytes(artifact, manifest)


def test_inputs_of_another_order_or_width_are_refused(artifact, manifest):
    model = OnnxModel.from_bytes(artifact, manifest)
    model.require_features(("a", "b", "c"))
    with pytest.raises(ArtifactError, match="wants features a, b, c; got a, c, b"):
        model.require_features(("a", "c", "b"))
    with pytest.raises(ArtifactError, match="shape"):
        model.predict(np.zeros((2, 4)))


def test_only_a_probability_can_be_calibrated(artifact, manifest):
    platt = {"method": "platt", "x": [0.5, 0.1], "y": [], "fitted_from_ms": 1, "fitted_until_ms": 2, "rows": 50}
    with pytest.raises(ArtifactError, match="calibrates a value"):
        OnnxModel.from_bytes(artifact, {**manifest, "calibration": platt})
    with pytest.raises(ArtifactError, match="the calibration is damaged"):
        OnnxModel.from_bytes(artifact, {**manifest, "output": "probability", "calibration": {"method": "platt"}})


class BadSession:
    """A graph that loads and then cannot be run, or runs and answers of other rows."""

    def __init__(self, session, answer):
        self._session, self._answer = session, answer

    def get_inputs(self):
        return self._session.get_inputs()

    def run(self, _outputs, _inputs):
        if self._answer is None:
            raise RuntimeError("node 7: index out of bounds")
        return [self._answer]


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [(None, "cannot be run on 4 rows: node 7"), (np.zeros((3, 1), np.float32), "gives 3 values for 4 rows")],
)
def test_a_model_that_fails_on_a_tick_is_refused_like_a_damaged_one(artifact, manifest, answer, sentence):
    model = OnnxModel.from_bytes(artifact, manifest)
    model = replace(model, _session=BadSession(model._session, answer))
    with pytest.raises(ArtifactError, match=sentence):
        model.predict(np.zeros((4, 3)))


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"features": None}, "features are None, no list"),
        ({"features": 5}, "features are 5, no list"),
        ({"horizon_h": None}, "horizon_h is None"),
        ({"horizon_h": "six"}, "horizon_h is 'six'"),
        ({"horizon_h": -6}, "horizon_h is -6"),
        ({"horizon_h": float("nan")}, "horizon_h is nan"),
        ({"horizon_h": float("inf")}, "horizon_h is inf"),
    ],
)
def test_a_manifest_with_a_value_that_is_none_is_refused(artifact, manifest, changed, sentence):
    with pytest.raises(ArtifactError, match=sentence):
        OnnxModel.from_bytes(artifact, {**manifest, **changed})
