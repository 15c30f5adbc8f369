from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from tickless.errors import SettingsError
from tickless.learn.fit_spec import GruFit, LinearFit
from tickless.learn.spec import ModelSpec, load_specs, read_spec
from tickless.settings import models_folder

TEXT = 'name = "m"\nstrategy = "rotation"\nfeatures = "rotation"\nhorizon_h = 6\n'


def write(tmp_path: Path, text: str, folder: str = "m") -> Path:
    path = tmp_path / folder / "spec.toml"
    path.parent.mkdir()
    path.write_text(text)
    return path


def test_the_rotation_models_are_those_of_the_design():
    six, day = load_specs("rotation")
    assert (six.name, six.horizon_h, six.split.embargo_h) == ("rotation_6h", 6, 6)
    assert (day.name, day.horizon_h, day.split.embargo_h) == ("rotation_24h", 24, 24)
    for spec in (six, day):
        assert spec.fit.model_dump() == {
            "rounds": 400,
            "early_stopping_rounds": 50,
            "learning_rate": 0.05,
            "num_leaves": 31,
            "max_depth": -1,
            "min_data_in_leaf": 200,
            "max_bin": 255,
            "feature_fraction": 0.8,
            "bagging_fraction": 0.8,
            "bagging_freq": 1,
            "data_sample_strategy": "bagging",
            "lambda_l2": 0.0,
            "rank_grades": 5,
            "refit": True,
        }
        assert spec.algorithm == "lightgbm_regression"
        assert (spec.label.kind, spec.pairs, spec.weights, spec.sequence_bars) == ("forward_return_over_volatility", (), "equal", 0)
        assert (spec.label.relative, spec.calibrated_by, spec.trials.count, spec.gates.min_rank_ic_t) == (True, "none", 1, 2.5)
        assert (spec.folds.window, spec.folds.count, spec.retrain.every_h, spec.drift.psi.limit) == ("sliding", 5, 24, 0.25)
        assert (models_folder() / spec.name / "card.md").read_text().startswith(f"# {spec.name}\n")
    assert load_specs("nobody") == ()


def test_a_minimal_spec_takes_the_defaults(tmp_path):
    assert read_spec(write(tmp_path, TEXT)).fit.rounds == 400


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TEXT + "nonsense = 1\n", "nonsense"),
        (TEXT.replace('"rotation"\nhor', '"other"\nhor'), "features"),
        (TEXT.replace("= 6", '= "soon"'), "horizon_h"),
        (TEXT + "[fit]\nlearning_rate = 1.5\n", "fit.learning_rate"),
        (TEXT + "[split]\nembargo_h = 5\n", "embargo_h = 5 must be at least horizon_h = 6"),
        (TEXT + "[gates]\nmin_rank_ic = nan\n", "gates.min_rank_ic"),
        ("name = ", "not valid TOML"),
        (TEXT + 'algorithm = "forest"\n', "algorithm: "),
        (TEXT + 'algorithm = "gru"\n[fit]\nnum_leaves = 31\n', "fit.num_leaves: Extra inputs are not permitted"),
        (TEXT + 'algorithm = "ridge"\n[fit]\nridge_per_row = 0\n', "fit.ridge_per_row: "),
        (TEXT + "[fit]\nsequence_bars = 60\n", "fit.sequence_bars: Extra"),
        (TEXT + 'algorithm = "gru"\n[fit]\ndropout = 1.0\n', "fit.dropout: "),
        (TEXT + '[fit]\nfamily = "linear"\n', "fit.family: no such key"),
        (TEXT + "[fit]\ndata_sample_strategy = 'goss'\n", "set bagging_fraction = 1.0"),
        (TEXT + '[label]\nkind = "tomorrow"\n', "label: "),
        (TEXT + '[label]\nkind = "forward_return"\nclip = 5.0\n', "label.clip: Extra"),
        (TEXT + '[label]\nkind = "triple_barrier"\nstop = -1.0\n', "label.stop: "),
        (TEXT + 'algorithm = "lightgbm_ranking"\n[label]\nkind = "gain"\n', "gives a ranking nothing to grade"),
        (TEXT + 'weights = "some"\n', "weights: "),
        (TEXT + "[window]\ndays = 10\nmin_days = 20\n", "min_days = 20 is more than days = 10"),
        (TEXT + "[window]\nsample_every_min = 7\n", "window.sample_every_min: "),
        (TEXT + '[folds]\nwindow = "shuffled"\n', "folds.window: "),
        (TEXT + "[folds]\ncount = 1\n", "folds.count: "),
        (TEXT + "[gates]\nbeat_linear = 1\n", "gates.beat_linear: "),
        (TEXT + 'pairs = ["P/USDT"]\n[label]\nrelative = true\n', "P/USDT alone has no other pairs"),
        (TEXT + '[label]\nkind = "gain"\nrelative = true\n', "label.relative: Extra"),
        (TEXT + 'calibration = "platt"\n', "calibration = 'platt': algorithm 'lightgbm_regression' gives no probability"),
        (TEXT + "[split]\ncalibration_frac = 0.0\n", "split.calibration_frac: "),
        (TEXT + "[trials]\ncount = 0\n", "trials.count: "),
        (TEXT + "[trials]\ndeflated_sharpe = 0.99\n", "nothing else was tried"),
        (TEXT + "[retrain]\nevery_h = 6\n", "retrain.every_h: "),
        (TEXT + '[drift]\npsi = { limit = 0.25, action = "pray" }\n', "drift.psi.action: "),
    ],
)
def test_a_spec_that_is_wrong_is_refused_by_key(tmp_path, text, message):
    with pytest.raises(SettingsError, match=re.escape(message)) as caught:
        read_spec(write(tmp_path, text))
    assert "spec.toml" in str(caught.value)


def test_each_algorithm_takes_its_own_settings(tmp_path):
    trees = read_spec(write(tmp_path, TEXT + "[fit]\nnum_leaves = 64\nmax_depth = 8\n", "m"))
    assert (trees.fit.num_leaves, trees.fit.max_depth, trees.sequence_bars) == (64, 8, 0)
    for algorithm, fit in (("ridge", LinearFit()), ("logistic", LinearFit()), ("gru", GruFit())):
        folder = tmp_path / algorithm
        folder.mkdir()
        spec = read_spec(write(folder, TEXT + f'algorithm = "{algorithm}"\n'))
        assert spec.fit == fit
        assert spec.sequence_bars == (60 if algorithm == "gru" else 0)
    with pytest.raises(ValidationError, match="settings of linear"):
        ModelSpec(name="m", strategy="rotation", features="rotation", horizon_h=6, fit=LinearFit())


def test_classifiers_are_calibrated_unless_they_say_otherwise(tmp_path):
    fields = {"name": "m", "strategy": "rotation", "features": "rotation", "horizon_h": 6}
    assert ModelSpec.model_validate(fields).calibrated_by == "none"
    assert ModelSpec.model_validate({**fields, "algorithm": "logistic"}).calibrated_by == "platt"
    assert ModelSpec.model_validate({**fields, "algorithm": "logistic", "calibration": "none"}).calibrated_by == "none"


def test_a_spec_says_how_many_were_tried(tmp_path):
    tried = read_spec(write(tmp_path, TEXT + "[trials]\ncount = 60\ndeflated_sharpe = 0.97\n")).trials
    assert (tried.count, tried.deflated_sharpe, tried.overfitting) == (60, 0.97, None)


@pytest.mark.parametrize("algorithm", ["lightgbm_ranking", "logistic", "gru"])
def test_a_manifest_holds_the_whole_specification(algorithm):
    spec = ModelSpec.model_validate({"name": "m", "strategy": "rotation", "features": "rotation", "horizon_h": 6.0, "algorithm": algorithm})
    assert ModelSpec.model_validate(json.loads(json.dumps(spec.model_dump(mode="json")))) == spec


def test_a_spec_in_another_folder_or_nowhere_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="must be the folder's name"):
        read_spec(write(tmp_path, TEXT, folder="other"))
    with pytest.raises(SettingsError, match="no such model specification"):
        read_spec(tmp_path / "gone" / "spec.toml")


def test_a_rule_over_two_keys_is_told_in_one_sentence_without_the_whole_file(tmp_path):
    path = write(tmp_path, TEXT + "[split]\nembargo_h = 5\n")
    with pytest.raises(SettingsError) as refused:
        read_spec(path)
    assert str(refused.value) == f"{path}: split.embargo_h = 5 must be at least horizon_h = 6"
