"""Whole trainings of every algorithm and every label, from bars to a judged version."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from functools import partial

import numpy as np
import pytest

from tickless.alpha.champion import load_champion
from tickless.alpha.ensemble import forecast_return, round_trip_cost_frac
from tickless.alpha.onnx_model import OnnxModel, artifact_sha256
from tickless.errors import ArtifactError, LeakError
from tickless.features.rotation import MODEL_FEATURES
from tickless.learn import challenge, sampling, training_run
from tickless.learn.card import render_card
from tickless.learn.drift_reference import DriftReference
from tickless.learn.fit_spec import GruFit, LinearFit, TreeFit
from tickless.learn.label_spec import KINDS, GainLabel, ScaledReturnLabel
from tickless.learn.leak_checks import rows_of
from tickless.learn.spec import GateSpec, ModelSpec, SplitSpec, WindowSpec
from tickless.learn.train import OUTPUTS
from tickless.learn.training_run import Features, train_models
from tickless.learn.trials import Tried
from tickless.learn.worth import Worth, fit_worth
from tickless.settings import ExecutionSection, TrainingSection
from tickless.types import from_ms, iso, parse_time, to_ms

TREES = TreeFit(rounds=40, early_stopping_rounds=10)
FITS = {
    "lightgbm_regression": TREES,
    "lightgbm_classification": TREES,
    "lightgbm_ranking": TREES,
    "ridge": LinearFit(),
    "logistic": LinearFit(),
    "gru": GruFit(sequence_bars=4, hidden=4, dense=4, epochs=2, batch_rows=128, learning_rate=0.02, refit=False),
}
ALGORITHMS = [pytest.param(name, marks=pytest.mark.gru) if name == "gru" else name for name in FITS]
TRAINING = TrainingSection(num_threads=1, window_days=60)
COST = round_trip_cost_frac(ExecutionSection())


def spec(algorithm: str = "lightgbm_regression", **changes) -> ModelSpec:
    fields = {
        "name": "m6",
        "strategy": "rotation",
        "features": "rotation",
        "horizon_h": 6,
        "split": SplitSpec(embargo_h=6),
        "fit": FITS[algorithm],
        "window": WindowSpec(sample_every_min=240, min_rows=200) if algorithm == "gru" else WindowSpec(),
    }
    return ModelSpec(algorithm=algorithm, **(fields | changes))


@pytest.fixture(scope="module")
def planted(market):
    return market(21, 0.15, days=45, pairs=12)


def train(planted, model: ModelSpec, **changes):
    table, panel = planted
    return train_models(
        table,
        panel,
        training=TRAINING,
        execution=ExecutionSection(),
        top_k=3,
        specs=[model],
        as_of=panel.end,
        effective_at=panel.end + timedelta(minutes=20),
        incumbents=changes.pop("incumbents", {}),
        features=changes.pop("features", Features(partial(rows_of, table), startup_bars=0)),
        **changes,
    )


@pytest.fixture(scope="module")
def trained(planted):
    made = {}

    def make(algorithm: str):
        if algorithm not in made:
            result = train(planted, spec(algorithm))
            assert not result.skipped, result.skipped
            made[algorithm] = result.trained[0]
        return made[algorithm]

    return make


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_planted_signal_is_found_and_judged_beside_a_linear_model(algorithm, trained):
    manifest = trained(algorithm).manifest
    assert json.loads(json.dumps(manifest, allow_nan=False)) == manifest
    assert manifest["algorithm"] == algorithm
    assert manifest["output"] == OUTPUTS[algorithm]
    assert manifest["export_difference"] < 1e-5
    assert manifest["measures"]["rank_ic"] > (0.02 if algorithm == "gru" else 0.1)
    if algorithm in {"ridge", "logistic"}:
        assert manifest["baseline"] is None
    else:
        assert manifest["baseline"]["measures"]["rank_ic"] > 0.1
        assert manifest["baseline"]["algorithm"] == ("logistic" if algorithm == "lightgbm_classification" else "ridge")
    assert (manifest["class_measures"] is not None) == (OUTPUTS[algorithm] == "probability")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_same_training_gives_the_same_artifact_hash(algorithm, trained, planted):
    again = train(planted, spec(algorithm)).trained[0]
    assert artifact_sha256(again.artifact) == trained(algorithm).manifest["sha256"]
    assert again.manifest == trained(algorithm).manifest


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_version_meets_itself_as_champion_and_does_not_beat_itself(algorithm, trained, planted):
    before = trained(algorithm)
    at = planted[1].end + timedelta(days=1)
    champion = load_champion("m6", before.manifest, before.artifact, at=at, max_age_days=14, features=MODEL_FEATURES)
    manifest = train(planted, spec(algorithm), incumbents={"m6": champion}).trained[0].manifest
    assert manifest["champion_measures"] == before.manifest["measures"]
    assert not manifest["gate"]["promote"]


@pytest.mark.parametrize("damage", [{"baseline": 5}, {"baseline": {}}, {"calibration": "x"}, {"measures": [1]}, {"horizon_h": "six"}])
def test_a_damaged_manifest_has_no_card_and_says_so(damage, trained):
    with pytest.raises(ArtifactError, match=r"model m6@\d+T\d+Z: manifest.json cannot be told as a card"):
        render_card(trained("lightgbm_regression").manifest | damage)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_card_states_verdict_measures_and_baseline(algorithm, trained):
    manifest = trained(algorithm).manifest
    card = render_card(manifest)
    assert card.startswith(f"# m6@{manifest['version']}\n")
    assert manifest["sha256"] in card
    assert f"{manifest['measures']['rank_ic']:.5f}" in card
    if manifest["baseline"] is None:
        assert "a linear model itself" in card
    else:
        assert ("does not beat a linear model" in card) is not manifest["baseline"]["beaten"]
        assert f"{manifest['baseline']['measures']['rmse']:.5f}" in card
    assert "nan" not in card.lower()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "setup"])  # Of set-ups: test_setup_models.py.
def test_every_label_can_be_trained_by_regression_and_by_a_classifier(kind, planted):
    for algorithm in ("ridge", "logistic"):
        model = ModelSpec.model_validate({**spec(algorithm, window=WindowSpec(min_rows=500)).model_dump(), "label": {"kind": kind}})
        (made,) = train(planted, model).trained
        assert made.manifest["label"] == kind
        assert made.manifest["measures"]["rank_ic"] > 0.1
        if kind == "forward_return_net" and algorithm == "ridge":
            assert made.manifest["worth"] == {"slope": 1.0, "intercept": COST}


def test_a_classifier_keeps_its_word_by_rows_of_its_own(trained, planted):
    manifest = trained("lightgbm_classification").manifest
    calibration = manifest["calibration"]
    assert calibration["method"] == "platt"
    assert calibration["rows"] == manifest["rows"]["calibration"]
    assert calibration["fitted_until_ms"] < to_ms(parse_time(manifest["validation_from"]))
    assert manifest["fit_until"] == iso(from_ms(calibration["fitted_until_ms"]))
    assert set(manifest["data_sha256"]) == {"fit", "calibration", "validation"}
    model = OnnxModel.from_bytes(trained("lightgbm_classification").artifact, manifest)
    raw = OnnxModel.from_bytes(trained("lightgbm_classification").artifact, {**manifest, "calibration": None})
    x = np.random.default_rng(3).standard_normal((50, len(MODEL_FEATURES)))
    np.testing.assert_array_equal(model.predict(x), model.calibration.apply(raw.predict(x)))
    assert not np.array_equal(model.predict(x), raw.predict(x))
    assert trained("lightgbm_regression").manifest["calibration"] is None
    (plain,) = train(planted, spec("logistic", calibration="none")).trained
    assert plain.manifest["calibration"] is None
    assert "calibration" not in plain.manifest["rows"]
    (stairs,) = train(planted, spec("logistic", calibration="isotonic")).trained
    assert stairs.manifest["class_measures"]["calibration_error"] < 0.1
    assert "by a rising staircase" in render_card(stairs.manifest)


def test_a_calibration_that_has_seen_other_rows_stops_the_training(planted, monkeypatch):
    honest = challenge.fit_calibration
    seen = []

    def remembering(method, output, won, *interval):
        seen.append((output, won))
        return honest(method, *(np.concatenate(part) for part in zip(*seen, strict=True)), *interval)

    monkeypatch.setattr(challenge, "fit_calibration", remembering)
    with pytest.raises(LeakError, match="the calibration of m6, fitted anew"):
        train(planted, spec("logistic", label=GainLabel()))


def test_where_too_few_rows_are_left_to_calibrate_on_nothing_is_trained(planted, monkeypatch):
    monkeypatch.setattr("tickless.learn.calibration.MIN_ROWS_OF_A_CLASS", 100_000)
    assert "a calibration needs 100000 rows with and without the event" in train(planted, spec("logistic")).skipped["m6"]


def test_a_relative_label_finds_what_the_markets_move_drowns(market):
    moved = market(5, 0.05, days=45, pairs=12)
    rng = np.random.default_rng(105)
    # All prices move together, each by its own volatility, and more than it does by itself.
    panel = moved[1]
    volatility = moved[0].feature("rv_24h")[0] / np.sqrt(24.0)
    together = np.exp(np.cumsum(3.0 * rng.standard_normal(panel.rows + 1))[:, None] * volatility)
    prices = {"open": panel.open * together[:-1], "close": panel.close * together[1:]}
    prices |= {"high": np.maximum(prices["open"], prices["close"]), "low": np.minimum(prices["open"], prices["close"])}
    loud = (moved[0], replace(panel, **prices))
    label = ScaledReturnLabel(clip=50.0)
    plain, relative = (train(loud, spec(label=one)).trained[0].manifest for one in (label, label.model_copy(update={"relative": True})))
    assert (plain["relative"], relative["relative"]) == (False, True)
    assert relative["measures"]["rank_ic"] > 1.5 * plain["measures"]["rank_ic"]
    assert relative["measures"]["rmse_zero"] < 0.5 * plain["measures"]["rmse_zero"]
    assert relative["measures"]["universe_frac"] == plain["measures"]["universe_frac"]
    assert "less the mean over the pairs of its tick" in render_card(relative)


def test_a_relative_label_that_reads_other_ticks_stops_the_training(planted, monkeypatch):
    monkeypatch.setattr(sampling, "less_tick_mean", lambda samples: replace(samples, y=samples.y - samples.y.mean()))
    with pytest.raises(LeakError, match=r"the relative label of P00/USDT .* does not come of the rows of its tick alone"):
        train(planted, spec("ridge", label=ScaledReturnLabel(relative=True)))


def test_a_champion_of_absolute_forecasts_is_not_compared_with_relative_ones(trained, planted):
    before = trained("ridge")
    champion = OnnxModel.from_bytes(before.artifact, before.manifest)
    (made,) = train(planted, spec("ridge", label=ScaledReturnLabel(relative=True)), incumbents={"m6": champion}).trained
    assert made.manifest["champion"] is None


@pytest.mark.parametrize(("deflated", "promoted"), [(0.99, True), (0.6, False)])
def test_the_trials_behind_a_specification_count(planted, trained, deflated, promoted):
    tried = Tried(count=40, deflated_sharpe=deflated, overfitting=0.2)
    (made,) = train(planted, spec("lightgbm_regression", trials=tried)).trained
    assert made.gate.promote is promoted
    assert any("deflated Sharpe ratio of the best of 40" in reason for reason in made.gate.reasons)
    assert made.manifest["spec"]["trials"] == {"count": 40, "deflated_sharpe": deflated, "overfitting": 0.2}
    assert made.manifest["sha256"] == trained("lightgbm_regression").manifest["sha256"]
    assert f"the best of 40 trials; deflated Sharpe ratio {deflated:.5f}" in render_card(made.manifest)
    assert trained("lightgbm_regression").manifest["spec"]["trials"]["count"] == 1


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_manifest_holds_what_drift_is_measured_against(algorithm, trained, planted):
    manifest = trained(algorithm).manifest
    reference = DriftReference.from_json(manifest["drift_reference"])
    assert tuple(reference.features) == MODEL_FEATURES
    assert reference.until_ms < to_ms(parse_time(manifest["validation_from"]))
    assert reference.forecast.rows == manifest["rows"]["validation"]
    # Plain returns over six hours, not probabilities or scores.
    assert 0.0 < reference.forecast.spread < 0.05
    table, _ = planted
    late = table.values[-200:].reshape(-1, len(MODEL_FEATURES))
    begins = table.start_ms + (table.rows - 200) * table.step_ms
    found = reference.psi(late, begins)
    assert max(found.values()) < 0.25
    assert reference.psi(late + np.eye(len(MODEL_FEATURES))[2], begins)[MODEL_FEATURES[2]] > 0.25


def test_a_score_is_worth_a_return_before_costs_are_taken_from_it(trained):
    for algorithm in ("lightgbm_classification", "lightgbm_ranking"):
        manifest = trained(algorithm).manifest
        assert manifest["worth"]["slope"] > 0.0
        # As forecasts of the scaled return: a probability taken as one would be wrong by half a standard deviation.
        assert manifest["measures"]["rmse"] < manifest["measures"]["rmse_zero"]
    assert trained("lightgbm_regression").manifest["worth"] == {"slope": 1.0, "intercept": 0.0}


def test_rotation_refuses_a_model_whose_output_is_no_return(trained, planted):
    made = trained("lightgbm_classification")
    at = planted[1].end + timedelta(days=1)
    model = load_champion("m6", made.manifest, made.artifact, at=at, max_age_days=14, features=MODEL_FEATURES)
    with pytest.raises(ArtifactError, match="its output is a probability"):
        forecast_return(model, np.zeros((1, len(MODEL_FEATURES))), np.ones(1))


def test_a_gate_can_ask_for_more_than_a_line(trained, planted):
    beaten = trained("lightgbm_regression").manifest["baseline"]["beaten"]
    (gated,) = train(planted, spec(gates=GateSpec(beat_linear=True))).trained
    assert not beaten, "the planted signal is a line: trees cannot do better"
    assert not gated.gate.promote
    assert gated.gate.reasons[0].endswith("the linear baseline")
    assert "does not beat" in gated.gate.reasons[0]
    assert trained("lightgbm_regression").gate.promote


def test_one_pair_alone_is_a_data_set(planted):
    model = spec("ridge", pairs=("P03/USDT",), window=WindowSpec(min_rows=100))
    (made,) = train(planted, model).trained
    assert made.manifest["pairs"] == 1
    assert made.manifest["measures"]["rank_ic"] is None
    assert not made.gate.promote
    assert "no bars of Q/USDT" in train(planted, spec("ridge", pairs=("Q/USDT",))).skipped["m6"]


def test_the_window_of_a_specification_wins_over_the_desks(planted):
    whole, short = (train(planted, spec("ridge", window=window)).trained[0].manifest for window in (WindowSpec(), WindowSpec(days=30)))
    assert whole["data_from"] < short["data_from"]
    sparse = train(planted, spec("ridge", window=WindowSpec(sample_every_min=120, min_rows=100))).trained[0].manifest
    assert sparse["rows"]["fit"] < whole["rows"]["fit"] * 0.6
    later = train(planted, spec("ridge", split=SplitSpec(embargo_h=6, validation_frac=0.4))).trained[0].manifest
    assert later["validation_from"] < whole["validation_from"]


def test_overlapping_labels_may_count_for_less(planted, trained):
    (weighted,) = train(planted, spec("ridge", weights="uniqueness")).trained
    assert weighted.manifest["sha256"] != trained("ridge").manifest["sha256"]
    assert weighted.manifest["measures"]["rank_ic"] > 0.1


def test_without_pytorch_a_network_is_skipped_by_name_and_the_others_are_trained(planted, monkeypatch):
    monkeypatch.setattr("tickless.learn.train.has_torch", lambda: False)
    table, panel = planted
    result = train_models(
        table,
        panel,
        training=TRAINING,
        execution=ExecutionSection(),
        top_k=3,
        specs=[spec("gru", name="net"), spec("ridge")],
        as_of=panel.end,
        effective_at=panel.end,
        incumbents={},
        features=Features(partial(rows_of, table), startup_bars=0),
    )
    assert [made.name for made in result.trained] == ["m6"]
    assert "PyTorch is not installed" in result.skipped["net"]


def test_a_feature_that_looks_ahead_stops_the_training(planted):
    table, _ = planted
    honest = Features(lambda bars: rows_of(table, bars), startup_bars=0)
    (made,) = train(planted, spec("ridge"), features=honest).trained
    assert made.manifest["startup"] == {"timeframe": "1h", "bars": 0}

    def peeking(bars):
        part = rows_of(table, bars)
        values = part.values.copy()
        values[-1, :, MODEL_FEATURES.index("r_1h")] = 0.0  # What it says of the last bar changes when the next one is there.
        return replace(part, values=values)

    with pytest.raises(LeakError, match=r"r_1h .* looks ahead"):
        train(planted, spec("ridge"), features=Features(peeking, startup_bars=0))


def test_a_label_that_reads_on_stops_the_training(planted, monkeypatch):
    honest = sampling.make_labels

    def reaching(*arguments):
        labels = honest(*arguments)
        return replace(labels, end_ms=labels.end_ms - 2 * 3_600_000)

    monkeypatch.setattr(sampling, "make_labels", reaching)
    with pytest.raises(LeakError, match="window reaches further"):
        train(planted, spec("ridge"))


def test_an_unpurged_split_stops_the_training(planted, monkeypatch):
    honest = training_run.split_by_time
    monkeypatch.setattr(training_run, "split_by_time", lambda samples, validation, inner, embargo: honest(samples, validation, inner, 0))
    with pytest.raises(LeakError, match="reach into"):
        train(planted, spec("ridge"))


def test_what_an_output_is_worth_never_falls():
    output = np.array([0.1, 0.2, 0.3, 0.4])
    assert fit_worth(output, 2.0 * output + 1.0) == Worth(pytest.approx(2.0), pytest.approx(1.0))
    assert fit_worth(output, -output) == Worth(0.0, pytest.approx(-0.25))
    assert fit_worth(np.full(4, 0.5), output) == Worth(0.0, pytest.approx(0.25))
    np.testing.assert_allclose(Worth(2.0, -1.0).forecast(output), [-0.8, -0.6, -0.4, -0.2])
