"""The recurrent network at its real size, and what it leaves of PyTorch's state. Left out, by name, where PyTorch is not installed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tickless.alpha.onnx_model import OnnxModel, artifact_sha256
from tickless.errors import ArtifactError
from tickless.learn.algorithms.contract import Conditions, Rows, Slices
from tickless.learn.algorithms.gru import fit_gru
from tickless.learn.fit_spec import GruFit

pytestmark = pytest.mark.gru
BARS, WIDTH = 60, 12
FEATURES = tuple(f"f{n}" for n in range(WIDTH))


def rows(count: int, seed: int, bars: int = BARS, width: int = WIDTH) -> Rows:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, bars, width)).astype(np.float32)
    return Rows(x, x[:, -2, 0].astype(np.float64), None, np.arange(count, dtype=np.int64))


def slices(count: int, **shape: int) -> Slices:
    return Slices(rows(count, 1, **shape), rows(count // 2, 2, **shape), rows(count, 3, **shape))


def load(artifact: bytes, bars: int, features: tuple[str, ...]) -> OnnxModel:
    manifest = {"model": "g", "version": "v", "sha256": artifact_sha256(artifact), "features": list(features), "horizon_h": 1, "label": "x"}
    return OnnxModel.from_bytes(artifact, manifest | {"sequence_bars": bars})


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_two_layers_of_a_hundred_are_exported_exactly(layers):
    fit = GruFit(layers=layers, epochs=1, hidden=100 if layers == 2 else 20)
    model = fit_gru(slices(48), fit, Conditions(1, 1))
    x = rows(300, 4).x * 4.0
    got = load(model.export(FEATURES), BARS, FEATURES).predict(x)
    assert np.abs(got - model.predict(x)).max() < 2e-6
    assert np.ptp(got) > 1e-3


def test_the_course_of_a_sequence_counts_and_not_only_its_end():
    fit = GruFit(sequence_bars=6, hidden=8, dense=8, epochs=40, patience=40, batch_rows=32, learning_rate=0.02, dropout=0.0)
    model = fit_gru(slices(256, bars=6, width=2), fit, Conditions(1, 1))
    unseen = rows(300, 9, bars=6, width=2)
    assert np.corrcoef(model.predict(unseen.x), unseen.y)[0, 1] > 0.8


def test_scales_come_from_the_fitted_rows_alone():
    fit = GruFit(sequence_bars=6, hidden=4, dense=4, epochs=2, refit=False)
    given = slices(64, bars=6, width=2)
    shifted = replace(given, inner=replace(given.inner, x=given.inner.x * 100.0 + 7.0))
    assert fit_gru(given, fit, Conditions(1, 1)).scaling.median.tolist() == fit_gru(shifted, fit, Conditions(1, 1)).scaling.median.tolist()


def test_fitting_stops_when_the_inner_slice_gains_no_more_and_keeps_the_best():
    noise = np.random.default_rng(0)
    given = slices(64, bars=6, width=2)
    given = replace(given, inner=replace(given.inner, y=noise.standard_normal(len(given.inner))))
    fit = GruFit(sequence_bars=6, hidden=4, dense=4, epochs=200, patience=3, slow_after=1, learning_rate=0.05, refit=False)
    model = fit_gru(given, fit, Conditions(1, 1))
    assert model.rounds < 100
    np.testing.assert_array_equal(model.predict(given.inner.x), model.inner_prediction)


def test_the_seed_counts_and_pytorch_is_left_as_it_was():
    import torch

    torch.manual_seed(5)
    expected = torch.rand(3).tolist()
    torch.manual_seed(5)
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    fit = GruFit(sequence_bars=6, hidden=4, dense=4, epochs=1)
    given = slices(40, bars=6, width=2)
    first, second = (fit_gru(given, fit, Conditions(seed, 2)).export(("a", "b")) for seed in (1, 2))
    assert first != second
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before
    assert torch.rand(3).tolist() == expected


def test_sequences_of_another_length_are_refused():
    fit = GruFit(sequence_bars=6, hidden=4, dense=4, epochs=1)
    model = load(fit_gru(slices(40, bars=6, width=2), fit, Conditions(1, 1)).export(("a", "b")), 6, ("a", "b"))
    assert model.predict(np.zeros((0, 6, 2))).shape == (0,)
    for shape in ((3, 5, 2), (3, 6, 3), (3, 12), (6, 2)):
        with pytest.raises(ArtifactError, match=r"expected \(rows, 6, 2\)"):
            model.predict(np.zeros(shape))
