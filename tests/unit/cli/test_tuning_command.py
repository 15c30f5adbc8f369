"""``tickless tune``: from bars to a specification to copy."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tickless.adapters.bar_files import write_folder
from tickless.adapters.synthetic_market import make_market
from tickless.learn.spec import read_spec

RANGE = ("--timerange", "20240301-20240520", "--model", "rotation_6h")


@pytest.fixture(scope="module")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bars")
    start, end = datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 5, 20, tzinfo=UTC)
    write_folder(folder, make_market(pairs=24, start=start, end=end, seed=5, signal_ic=0.1, events=False).panel)
    return folder


def test_it_writes_the_best_specification_with_a_plain_statement(tickless, bars, tmp_path) -> None:
    study = tmp_path / "six.journal"
    found = tickless.json("tune", "--data", bars, *RANGE, "--study", study, "--trials", "2", "--budget", "5m")
    assert (found["trials"], found["tried_now"], found["failed"]) == (2, 2, 0)
    assert found["best_value"] >= found["value_before"]
    assert 0.0 <= found["deflated_sharpe"] <= 1.0
    folder = tmp_path / "rotation_6h"
    folder.mkdir()
    out = folder / "spec.toml"
    said = tickless("tune", "--data", bars, *RANGE, "--study", study, "--trials", "0", "--out", out).stdout
    assert "the best of 2 trials" in said
    assert f"Nothing from {found['holdout_from']} on was looked at" in said
    assert out.read_text().startswith("# rotation_6h: the best of 2 trials")
    assert read_spec(out).fit.model_dump(mode="json") == found["fit"]
    assert read_spec(out).gates == read_spec(Path(__file__).parents[3] / "models" / "rotation_6h" / "spec.toml").gates
    assert read_spec(out).trials.count == 2
    changed = tickless.refused("tune", "--data", bars, *RANGE, "--study", study, "--trials", "1", "--set", "training.seed=1")
    assert "was made with another data" in changed


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--budget", "10"), "--budget 10: must be seconds, minutes or hours"),
        (("--budget", "0s"), "--budget 0s: must be seconds, minutes or hours"),
        (("--model", "rotation_9h"), "--model rotation_9h: unknown"),
        (
            ("--desk", "crossover"),
            "--model rotation_6h: strategy rotation owns it, and this desk runs crossover; known here: crossover_setup",
        ),
        (("--timerange", "20240301-20240304"), "model rotation_6h: "),
        (("--timerange", "20240301-20240303"), "rows before the holdout are too few for folds.count = 5; give it a longer timerange"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(tickless, bars, tmp_path, options, sentence) -> None:
    said = tickless.refused("tune", "--data", bars, *RANGE, "--study", tmp_path / "new" / "s.journal", *options)
    assert sentence in said
    assert not (tmp_path / "new").exists()


def test_a_study_that_is_a_folder_is_refused(tickless, bars, tmp_path) -> None:
    assert "is a folder, expected a file" in tickless.refused("tune", "--data", bars, *RANGE, "--study", tmp_path)


def test_without_optuna_it_says_what_to_install(tickless, bars, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("tickless.learn.study.has_optuna", lambda: False)
    said = tickless.refused("tune", "--data", bars, *RANGE, "--study", tmp_path / "s.journal", code=1)
    assert "install tickless[research]" in said
