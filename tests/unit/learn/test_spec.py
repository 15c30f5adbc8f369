from __future__ import annotations

from pathlib import Path

import pytest

from tickless.errors import SettingsError
from tickless.learn.spec import load_specs, models_folder, read_spec

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
            "min_data_in_leaf": 200,
            "feature_fraction": 0.8,
            "bagging_fraction": 0.8,
            "bagging_freq": 1,
        }
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
    ],
)
def test_a_spec_that_is_wrong_is_refused_by_key(tmp_path, text, message):
    with pytest.raises(SettingsError, match=message) as caught:
        read_spec(write(tmp_path, text))
    assert "spec.toml" in str(caught.value)


def test_a_spec_in_another_folder_or_nowhere_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="must be the folder's name"):
        read_spec(write(tmp_path, TEXT, folder="other"))
    with pytest.raises(SettingsError, match="no such model specification"):
        read_spec(tmp_path / "gone" / "spec.toml")
