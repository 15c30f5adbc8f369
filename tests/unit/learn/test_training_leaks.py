"""A leak planted in the code of a training stops that training: the checks run in it, not in a test only."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial

import numpy as np
import pytest

from tickless.errors import LeakError
from tickless.learn import challenge, sampling, training_run
from tickless.learn.algorithms.contract import Rows
from tickless.learn.fit_spec import GruFit, LinearFit
from tickless.learn.leak_checks import rows_of
from tickless.learn.spec import ModelSpec, SplitSpec, WindowSpec
from tickless.learn.training_run import Features, train_models
from tickless.settings import ExecutionSection, TrainingSection

SMALL = GruFit(sequence_bars=4, hidden=4, dense=4, epochs=1, batch_rows=256, refit=False)
FITS = {"ridge": LinearFit(), "logistic": LinearFit(), "gru": SMALL}


@pytest.fixture(scope="module")
def planted(market):
    return market(31, 0.1, days=45, pairs=6)


def train(planted, algorithm="ridge"):
    table, panel = planted
    spec = ModelSpec(
        name="m6",
        strategy="rotation",
        features="rotation",
        horizon_h=6,
        algorithm=algorithm,
        fit=FITS[algorithm],
        split=SplitSpec(embargo_h=6),
        window=WindowSpec(sample_every_min=240, min_rows=100),
    )
    return train_models(
        table,
        panel,
        training=TrainingSection(num_threads=1, window_days=60),
        execution=ExecutionSection(),
        top_k=3,
        specs=[spec],
        as_of=panel.end,
        effective_at=panel.end + timedelta(minutes=20),
        incumbents={},
        features=Features(partial(rows_of, table), startup_bars=0),
    )


def test_an_honest_training_passes(planted):
    assert [made.name for made in train(planted).trained] == ["m6"]


@pytest.mark.parametrize("algorithm", ["ridge", "logistic", pytest.param("gru", marks=pytest.mark.gru)])
def test_a_scaler_fitted_on_everything_stops_the_training(planted, monkeypatch, algorithm):
    honest_split, honest_fit = training_run.split_by_time, challenge.fit_model
    seen = {}

    def keep(*arguments):
        seen["split"] = honest_split(*arguments)
        return seen["split"]

    def fit_on_everything(slices, spec, conditions):
        parts = (seen["split"].fit, seen["split"].validation)
        x, y, time_ms = (np.concatenate([getattr(part, name) for part in parts]) for name in ("x", "y", "start_ms"))
        everything = Rows(x, y, None, time_ms)
        fitted = honest_fit(slices, spec, conditions)
        stained = fitted.scaler(replace(slices, train=everything, fit=everything))
        assert stained != fitted.scaler()
        return honest_fit(replace(slices, train=everything, fit=everything), spec, conditions)

    monkeypatch.setattr(training_run, "split_by_time", keep)
    monkeypatch.setattr(challenge, "fit_model", fit_on_everything)
    with pytest.raises(LeakError, match=r"the scaler of m6, fitted anew on the rows up to .* it has seen other rows"):
        train(planted, algorithm)


def test_an_unpurged_split_stops_the_training(planted, monkeypatch):
    honest = training_run.split_by_time

    def unpurged(samples, *arguments):
        split = honest(samples, *arguments)
        before = int(np.searchsorted(samples.start_ms, split.validation.start_ms[0]))
        return replace(split, fit=samples.take(slice(0, before)))

    monkeypatch.setattr(training_run, "split_by_time", unpurged)
    with pytest.raises(LeakError, match="training labels reach into the validation slice"):
        train(planted)


def test_samples_that_lag_their_features_stop_the_training(planted, monkeypatch):
    honest = sampling.build_samples

    def late(*arguments):
        samples = honest(*arguments)
        return replace(samples, x=np.roll(samples.x, -len(samples.pairs), axis=0))

    monkeypatch.setattr(sampling, "build_samples", late)
    with pytest.raises(LeakError, match=r"the features of .* not that of the bar that closed then"):
        train(planted)


def test_a_calibration_slice_that_the_fit_reaches_into_stops_the_training(planted, monkeypatch):
    honest = sampling.hold_out_calibration
    monkeypatch.setattr(sampling, "hold_out_calibration", lambda split, frac, inner, embargo: honest(split, frac, inner, 0))
    with pytest.raises(LeakError, match=r"training labels reach into the (early-stopping|calibration) slice"):
        train(planted, "logistic")
