"""Which models a desk uses: those that its settings name, and one function says it for the night, the backtest and the commands."""

from __future__ import annotations

import pytest

from tickless.errors import SettingsError
from tickless.learn.spec import desk_specs, read_spec
from tickless.settings import load_desk

TEXT = 'name = "{name}"\nstrategy = "{strategy}"\nfeatures = "rotation"\nhorizon_h = {hours}\n[split]\nembargo_h = 24\n'


@pytest.fixture
def folder(tmp_path):
    for name, strategy, hours in (("slow", "rotation", 24), ("quick", "rotation", 6), ("idle", "rotation", 12), ("other", "crossover", 6)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "spec.toml").write_text(TEXT.format(name=name, strategy=strategy, hours=hours))
    return tmp_path


def names(settings, folder):
    return [spec.name for spec in desk_specs(settings, folder)[0]]


def test_a_desk_uses_the_models_that_its_settings_name_and_no_other(folder):
    settings = load_desk("rotation", ["strategy.rotation.model_6h=quick", "strategy.rotation.model_24h=slow"])
    assert settings.models == {"rotation": ("quick", "slow")}
    assert names(settings, folder) == ["quick", "slow"]
    assert desk_specs(settings, folder)[1] == {}


def test_one_model_in_both_places_is_one_model(folder):
    settings = load_desk("rotation", ["strategy.rotation.model_6h=slow", "strategy.rotation.model_24h=slow"])
    assert names(settings, folder) == ["slow"]


def test_a_desk_of_signals_names_none(folder):
    settings = load_desk("crossover")
    assert settings.models == {}
    assert desk_specs(settings, folder) == ((), {})


def test_a_model_without_a_specification_is_told_and_the_other_is_there(folder):
    settings = load_desk("rotation", ["strategy.rotation.model_6h=quick", "strategy.rotation.model_24h=gone"])
    specs, missing = desk_specs(settings, folder)
    assert [spec.name for spec in specs] == ["quick"]
    assert missing == {"gone": "strategy.rotation names it, and there is no models/gone/spec.toml"}


def test_a_model_of_another_strategy_is_told(folder):
    settings = load_desk("rotation", ["strategy.rotation.model_6h=other", "strategy.rotation.model_24h=slow"])
    assert desk_specs(settings, folder)[1] == {
        "other": "strategy.rotation names it, and its specification says that strategy 'crossover' owns it"
    }


def test_a_model_whose_horizon_ends_between_two_bars_is_told(folder):
    path = folder / "quick" / "spec.toml"
    path.write_text(path.read_text().replace("horizon_h = 6\n", "horizon_h = 0.4\n"))
    settings = load_desk("rotation", ["strategy.rotation.model_6h=quick", "strategy.rotation.model_24h=slow"])
    specs, missing = desk_specs(settings, folder)
    assert [spec.name for spec in specs] == ["slow"]
    assert missing == {"quick": "its specification's horizon_h = 0.4 is not a whole number of bars of 15 min"}


def test_a_strategy_that_there_is_not_is_refused_by_file_field_and_value(tmp_path):
    path = tmp_path / "m" / "spec.toml"
    path.parent.mkdir()
    path.write_text(TEXT.format(name="m", strategy="nobody", hours=6))
    with pytest.raises(SettingsError) as refused:
        read_spec(path)
    assert str(refused.value) == f"{path}: strategy: no such strategy; known: crossover, rotation (got 'nobody')"
