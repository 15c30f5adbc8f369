"""Every algorithm: it learns a planted relation, the same way twice, exports exactly, and refuses what cannot be learned from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tickless.alpha.onnx_model import OnnxModel, artifact_sha256
from tickless.errors import ArtifactError, DataError
from tickless.learn.algorithms.contract import Conditions, Rows, Slices
from tickless.learn.algorithms.linear import fit_logistic, fit_ridge, sigmoid
from tickless.learn.algorithms.trees import grades, group_starts
from tickless.learn.fit_spec import GruFit, LinearFit, TreeFit
from tickless.learn.onnx_export import TOLERANCE, check_export
from tickless.learn.spec import ModelSpec, SplitSpec
from tickless.learn.train import OUTPUTS, fit_linear, fit_model, library_versions

FEATURES = ("a", "b", "c")
BARS = 8
PAIRS = 6
CONDITIONS = Conditions(seed=3, num_threads=1)
TREES = TreeFit(rounds=60, early_stopping_rounds=10, min_data_in_leaf=10, num_leaves=15)
FITS = {
    "lightgbm_regression": TREES,
    "lightgbm_classification": TREES,
    "lightgbm_ranking": TREES,
    "ridge": LinearFit(),
    "logistic": LinearFit(),
    "gru": GruFit(sequence_bars=BARS, hidden=6, dense=5, epochs=6, batch_rows=32, learning_rate=0.03, dropout=0.1),
}
# The recurrent network is fitted for real wherever PyTorch is installed; CI installs it before it runs the tests.
ALGORITHMS = [pytest.param(name, marks=pytest.mark.gru) if name == "gru" else name for name in FITS]


def spec(algorithm: str, **changes) -> ModelSpec:
    fields = {
        "name": "m",
        "strategy": "rotation",
        "features": "rotation",
        "horizon_h": 6,
        "split": SplitSpec(embargo_h=6),
        "fit": FITS[algorithm],
    }
    return ModelSpec(algorithm=algorithm, **(fields | changes))


def rows(algorithm: str, count: int, seed: int) -> Rows:
    """Rows whose label is half a line of their (last) features, half noise; the feature b is far from zero, as prices are."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, BARS, 3)) if algorithm == "gru" else rng.standard_normal((count, 3))
    last = x[:, -1] if algorithm == "gru" else x
    y = 0.6 * last[:, 0] - 0.4 * last[:, 1] + 0.7 * rng.standard_normal(count)
    x[..., 1] = 5.0e4 + 1.0e3 * x[..., 1]
    return Rows(x.astype(np.float32), y, None, np.arange(count, dtype=np.int64) // PAIRS * 60_000)


def window(algorithm: str, seed: int) -> Slices:
    """A fitting window; a short one for the network, which takes a second for what the others do in an instant."""
    whole = rows(algorithm, 420 if algorithm == "gru" else 900, seed)
    at = len(whole) * 7 // 10
    return Slices(part(whole, 0, at - 30), part(whole, at, len(whole)), whole)


@pytest.fixture(scope="module")
def slices():
    made = {}

    def make(algorithm: str) -> Slices:
        kind = "gru" if algorithm == "gru" else "table"
        if kind not in made:
            made[kind] = window(algorithm, 1)
        return made[kind]

    return make


def part(whole: Rows, first: int, last: int) -> Rows:
    weight = None if whole.weight is None else whole.weight[first:last]
    return Rows(whole.x[first:last], whole.y[first:last], weight, whole.time_ms[first:last])


def load(artifact: bytes, algorithm: str, **changes) -> OnnxModel:
    manifest = {
        "model": "m",
        "version": "v",
        "sha256": artifact_sha256(artifact),
        "features": list(FEATURES),
        "horizon_h": 6,
        "label": "x",
        "output": OUTPUTS[algorithm],
        "sequence_bars": BARS if algorithm == "gru" else 0,
    }
    return OnnxModel.from_bytes(artifact, manifest | changes)


@pytest.fixture(scope="module")
def fitted(slices):
    made = {}

    def make(algorithm: str):
        if algorithm not in made:
            made[algorithm] = fit_model(slices(algorithm), spec(algorithm), CONDITIONS)
        return made[algorithm]

    return make


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_it_learns_a_planted_relation(algorithm, fitted):
    unseen = rows(algorithm, 600, 2)
    said = fitted(algorithm).predict(unseen.x)
    assert np.corrcoef(said, unseen.y)[0, 1] > 0.5
    if OUTPUTS[algorithm] == "probability":
        assert ((said > 0.0) & (said < 1.0)).all()
        assert ((said > 0.5) == (unseen.y > 0.0)).mean() > 0.65


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_same_fit_gives_the_same_bytes(algorithm, fitted, slices):
    again = fit_model(slices(algorithm), spec(algorithm), CONDITIONS)
    assert artifact_sha256(again.export(FEATURES)) == artifact_sha256(fitted(algorithm).export(FEATURES))
    np.testing.assert_array_equal(again.inner_prediction, fitted(algorithm).inner_prediction)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_other_rows_give_other_bytes(algorithm, fitted):
    other = fit_model(window(algorithm, 5), spec(algorithm), CONDITIONS)
    assert other.export(FEATURES) != fitted(algorithm).export(FEATURES)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_export_says_what_the_trainer_says(algorithm, fitted):
    unseen = rows(algorithm, 3000, 4)
    model = load(fitted(algorithm).export(FEATURES), algorithm)
    difference = check_export(fitted(algorithm).predict(unseen.x), model.predict(unseen.x), "m")
    assert difference < TOLERANCE / 10
    assert model.output == OUTPUTS[algorithm]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_row_that_is_not_finite_gives_nan_and_leaves_the_others_alone(algorithm, fitted):
    x = rows(algorithm, 12, 6).x
    model = load(fitted(algorithm).export(FEATURES), algorithm)
    clean = model.predict(x)
    x[3, ..., 0] = np.nan
    said = model.predict(x)
    assert np.isnan(said[3])
    np.testing.assert_array_equal(np.delete(said, 3), np.delete(clean, 3))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_damaged_artifact_is_refused(algorithm, fitted):
    artifact = fitted(algorithm).export(FEATURES)
    for place in range(0, len(artifact), len(artifact) // 20):
        damaged = bytearray(artifact)
        damaged[place] ^= 4
        with pytest.raises(ArtifactError, match="sha256"):
            load(bytes(damaged), algorithm, sha256=artifact_sha256(artifact))
    with pytest.raises(ArtifactError, match="ONNX Runtime can load"):
        load(artifact[: len(artifact) // 2], algorithm)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.nan}, "features of the training slice hold a NaN"),
        ({"x": np.inf}, "features of the training slice hold a NaN or an infinity"),
        ({"y": np.nan}, "labels of the training slice hold a NaN"),
        ({"weight": 0.0}, "weights of the training slice must be finite and above zero"),
        ({"time_ms": 10**15}, "not in the order of their times"),
    ],
)
def test_bad_data_is_refused_by_name(algorithm, change, message, slices):
    whole = slices(algorithm)
    ((name, value),) = change.items()
    train = replace(whole.train, weight=np.ones(len(whole.train)))
    column = getattr(train, name).copy()
    column[5] = value
    with pytest.raises(DataError, match=f"model m: .*{message}"):
        fit_model(replace(whole, train=replace(train, **{name: column})), spec(algorithm), CONDITIONS)
    with pytest.raises(DataError, match="the early-stopping slice is empty"):
        fit_model(replace(whole, inner=part(whole.inner, 0, 0)), spec(algorithm), CONDITIONS)


@pytest.mark.parametrize("algorithm", ["lightgbm_classification", "logistic"])
def test_a_classifier_needs_both_outcomes(algorithm, slices):
    whole = slices(algorithm)
    won = replace(whole.train, y=np.abs(whole.train.y) + 0.1)
    with pytest.raises(DataError, match="all labels of the training slice are above zero"):
        fit_model(replace(whole, train=won), spec(algorithm), CONDITIONS)


def test_a_ranking_needs_several_pairs_at_a_time(slices):
    whole = slices("lightgbm_ranking")
    alone = replace(whole.train, time_ms=np.arange(len(whole.train), dtype=np.int64))
    with pytest.raises(DataError, match="several pairs at one time"):
        fit_model(replace(whole, train=alone), spec("lightgbm_ranking"), CONDITIONS)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_weights_count(algorithm, slices):
    """Half of the rows say the opposite, with next to no weight."""
    whole = slices(algorithm)

    def turned(given: Rows) -> Rows:
        twice = np.repeat(np.arange(len(given)), 2)
        sign = np.tile([1.0, -1.0], len(given))
        return Rows(given.x[twice], given.y[twice] * sign, np.where(sign > 0, 1.0, 1e-3), given.time_ms[twice])

    heavy = Slices(turned(whole.train), turned(whole.inner), turned(whole.fit))
    unseen = rows(algorithm, 600, 2)
    said = fit_model(heavy, spec(algorithm), CONDITIONS).predict(unseen.x)
    # A ranking weighs whole ticks in LightGBM: its rows' weights cannot tell the two halves of a tick apart.
    assert algorithm == "lightgbm_ranking" or np.corrcoef(said, unseen.y)[0, 1] > 0.4


def test_the_inner_prediction_comes_from_a_model_that_has_not_seen_the_inner_slice(slices):
    whole = slices("ridge")
    scrambled = replace(whole, inner=replace(whole.inner, y=-5.0 * whole.inner.y))
    np.testing.assert_array_equal(
        fit_model(scrambled, spec("ridge"), CONDITIONS).inner_prediction, fit_model(whole, spec("ridge"), CONDITIONS).inner_prediction
    )


def test_without_a_second_fit_the_trees_keep_their_best_round(slices):
    once = fit_model(slices("lightgbm_regression"), spec("lightgbm_regression", fit=TREES.model_copy(update={"refit": False})), CONDITIONS)
    inner = slices("lightgbm_regression").inner
    np.testing.assert_array_equal(once.predict(inner.x), once.inner_prediction)
    model = load(once.export(FEATURES), "lightgbm_regression")
    assert np.abs(model.predict(inner.x) - once.inner_prediction).max() < TOLERANCE


def test_ridge_is_the_closed_form(slices):
    """By hand: standardise, clip, solve the normal equations with the penalty on the weights alone."""
    whole = slices("ridge").fit
    x = whole.x.astype(np.float64)
    z = np.clip((x - x.mean(axis=0)) / x.std(axis=0), -5.0, 5.0)
    a = np.hstack([np.ones((len(z), 1)), z])
    penalty = np.diag([0.0, 1.0, 1.0, 1.0]) * 0.25 * len(z)
    w = np.linalg.solve(a.T @ a + penalty, a.T @ whole.y)
    line = fit_ridge(slices("ridge"), LinearFit(ridge_per_row=0.25))
    np.testing.assert_allclose(line.predict(whole.x), a @ w, rtol=1e-9, atol=1e-12)


def test_logistic_regression_ends_where_the_gradient_is_zero(slices):
    whole = slices("logistic").fit
    line = fit_logistic(slices("logistic"), LinearFit(ridge_per_row=0.01))
    z = np.clip((whole.x.astype(np.float64) - line.mean) / line.scale, -5.0, 5.0)
    rest = line.predict(whole.x) - (whole.y > 0.0)
    assert abs(rest.sum()) < 1e-7
    np.testing.assert_allclose(z.T @ rest + 0.01 * len(z) * line.weights, 0.0, atol=1e-7)
    assert line.rounds < 15


def test_a_perfectly_separable_label_still_has_finite_weights(slices):
    whole = slices("logistic")
    separable = [replace(given, y=given.x[:, 0].astype(np.float64)) for given in (whole.train, whole.inner, whole.fit)]
    line = fit_logistic(Slices(*separable), LinearFit())
    assert np.isfinite(line.weights).all()
    assert ((line.predict(whole.fit.x) > 0.5) == (whole.fit.x[:, 0] > 0.0)).mean() > 0.97


def test_a_feature_that_never_changes_does_no_harm(slices):
    whole = slices("ridge")

    def flat(given: Rows) -> Rows:
        x = given.x.copy()
        x[:, 2] = 7.5
        return replace(given, x=x)

    line = fit_ridge(Slices(flat(whole.train), flat(whole.inner), flat(whole.fit)), LinearFit())
    said = line.predict(flat(rows("ridge", 100, 9)).x)
    assert np.isfinite(said).all()
    assert line.weights[2] == 0.0


def test_the_sigmoid_does_not_overflow():
    assert sigmoid(np.array([-1e4, 0.0, 1e4])).tolist() == [0.0, 0.5, 1.0]


def test_the_baseline_of_a_classifier_is_logistic_and_of_all_others_ridge(slices):
    whole = slices("ridge")
    for output, fit in (("probability", fit_logistic), ("value", fit_ridge), ("score", fit_ridge)):
        baseline, expected = fit_linear(whole, output), fit(whole, LinearFit())
        np.testing.assert_array_equal(baseline.predict(whole.inner.x), expected.predict(whole.inner.x))


def test_grades_are_even_within_each_time():
    time = np.array([0, 0, 0, 0, 60, 60, 120])
    y = np.array([0.3, -1.0, 0.1, 9.0, 5.0, -5.0, 0.0])
    starts = group_starts(time)
    assert starts.tolist() == [0, 4, 6]
    assert grades(y, starts, 2).tolist() == [1, 0, 0, 1, 1, 0, 0]
    assert grades(y, starts, 4).tolist() == [2, 0, 1, 3, 2, 0, 0]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_libraries_named_are_those_that_computed(algorithm):
    found = set(library_versions(spec(algorithm)))
    assert {"numpy", "onnx", "onnxruntime"} <= found
    assert ("lightgbm" in found) == algorithm.startswith("lightgbm")
    assert ("torch" in found) == (algorithm == "gru")


@pytest.mark.parametrize("changes", [{"sequence_bars": 5}, {"features": ["a", "b"]}])
def test_a_manifest_that_names_another_shape_is_refused(changes, fitted):
    with pytest.raises(ArtifactError, match="the artifact takes"):
        load(fitted("ridge").export(FEATURES), "ridge", **changes)


@pytest.mark.parametrize("changes", [{"output": "class"}, {"sequence_bars": -1}, {"sequence_bars": "8"}])
def test_a_manifest_with_an_unknown_output_or_length_is_refused(changes, fitted):
    with pytest.raises(ArtifactError, match="is none that a model has"):
        load(fitted("ridge").export(FEATURES), "ridge", **changes)
