from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from tickless.errors import DataError, InputError
from tickless.learn import study as study_module
from tickless.learn import tuning
from tickless.learn.challenge import Terms
from tickless.learn.fit_spec import GruFit, LinearFit, TreeFit
from tickless.learn.leak_checks import rows_of
from tickless.learn.sampling import hold_out
from tickless.learn.spec import ModelSpec, SplitSpec, WindowSpec, read_spec
from tickless.learn.spec_text import with_fit_values
from tickless.learn.study import run_study
from tickless.learn.training_run import Features
from tickless.learn.trials import Tried
from tickless.learn.tuning import judge_luck, prepare_tuning, suggest_fit, try_spec, with_fit
from tickless.settings import ExecutionSection, TrainingSection, models_folder

LINE = ModelSpec(
    name="m6",
    strategy="rotation",
    features="rotation",
    horizon_h=6,
    algorithm="ridge",
    fit=LinearFit(),
    split=SplitSpec(embargo_h=6),
    window=WindowSpec(min_rows=100),
)


def prepare(table, panel, spec=LINE):
    terms = Terms(TrainingSection(num_threads=1, window_days=30), ExecutionSection(), 5, panel.end, panel.end, panel.step_ms, spec)
    return prepare_tuning(table, panel, terms, Features(partial(rows_of, table), startup_bars=0))


@pytest.fixture(scope="module")
def planted(market):
    return market(21, 0.1, 50, 20)


@pytest.fixture(scope="module")
def data(planted):
    return prepare(*planted)


def times(count):
    return lambda done: done < count


def test_nothing_of_the_holdout_is_ever_read(data, planted):
    table, panel = planted
    assert len(data.folds) == 5
    assert data.samples.known_ms + 6 * 3_600_000 <= data.holdout_from_ms
    whole = panel.end_ms - panel.start_ms
    assert (panel.end_ms - data.holdout_from_ms) / whole == pytest.approx(0.2, abs=0.01)
    # Other bars in the holdout change no trial.
    row = (data.holdout_from_ms - panel.start_ms) // panel.step_ms
    price = panel.open.copy()
    price[row:] *= np.random.default_rng(1).uniform(0.9, 1.1, price[row:].shape)
    other = prepare(table, replace(panel, open=price))
    assert other.sha256 == data.sha256
    assert try_spec(LINE, other).value("rank_ic") == try_spec(LINE, data).value("rank_ic")


def test_a_trial_is_measured_on_all_folds_together(data):
    attempt = try_spec(LINE, data)
    assert attempt.score.measures.rows == len(tuning.test_rows(data))
    assert attempt.score.measures.rank_ic > 0.1
    assert len(attempt.rounds) == 5
    assert len(attempt.active) == attempt.score.measures.ticks
    assert attempt.value("net") == attempt.score.measures.top_k_net_frac


@pytest.mark.parametrize("fit", [TreeFit(), LinearFit(), GruFit()])
def test_every_corner_of_a_search_space_is_a_valid_specification(fit):
    algorithm = {"lightgbm": "lightgbm_ranking", "linear": "ridge", "gru_network": "gru"}[fit.family]
    spec = LINE.model_copy(update={"algorithm": algorithm, "fit": fit})
    for corner in (0, 1):
        chooser = SimpleNamespace(
            suggest_float=lambda name, low, high, *, log=False: (low, high)[corner],  # noqa: B023
            suggest_int=lambda name, low, high, *, log=False: (low, high)[corner],  # noqa: B023
        )
        chosen = suggest_fit(spec, chooser)
        assert type(chosen.fit) is type(fit)
        assert chosen.fit != fit
    with pytest.raises(ValueError, match=r"learning_rate|ridge_per_row"):
        with_fit(spec, {"learning_rate": -1.0, "ridge_per_row": -1.0})


def test_a_classifier_is_calibrated_on_its_own_slice_and_judged_by_what_it_earns_too(data, planted):
    spec = LINE.model_copy(update={"name": "c6", "algorithm": "logistic"})
    asked = prepare(*planted, spec)
    attempt = try_spec(spec, asked)
    raw = try_spec(spec.model_copy(update={"calibration": "none"}), asked)
    assert attempt.score.classes.log_loss != raw.score.classes.log_loss
    luck = judge_luck(attempt, [attempt.active], 0, asked)
    assert any(reason.startswith("net top-k return") for reason in luck.gate.reasons)
    split = hold_out(asked.folds[0].split(asked.samples), asked.terms)
    assert split.calibration is not None
    assert split.calibration.start_ms.min() > split.fit.start_ms.max()


def test_a_study_goes_on_where_it_stopped_and_counts_every_trial(data, tmp_path):
    path = tmp_path / "new" / "m6.journal"
    first = run_study(path, data, "rank_ic", times(3))
    assert (first.count, first.tried_now, first.failed) == (3, 3, 0)
    assert first.first_value == try_spec(LINE, data).value("rank_ic")
    more = run_study(path, data, "rank_ic", times(2))
    assert (more.count, more.tried_now) == (5, 2)
    assert more.best_value >= first.best_value
    for before, after in zip(first.returns, more.returns, strict=False):
        np.testing.assert_array_equal(before, after)
    assert try_spec(more.best, data).value("rank_ic") == more.best_value
    looked = run_study(path, data, "rank_ic", times(0))
    assert (looked.count, looked.tried_now, looked.best_number) == (5, 0, more.best_number)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert all(isinstance(line, dict) for line in lines)


def test_the_same_seed_tries_the_same(data, tmp_path):
    a, b = (run_study(tmp_path / name, data, "net", times(4)) for name in ("a", "b"))
    assert (a.best, a.best_value, a.best_number) == (b.best, b.best_value, b.best_number)
    assert [series.tolist() for series in a.returns] == [series.tolist() for series in b.returns]


def test_a_trial_that_fails_or_was_cut_off_counts_as_tried(data, tmp_path, monkeypatch):
    honest, calls = study_module.try_spec, []

    def sometimes(spec, on):
        calls.append(spec)
        if len(calls) == 2:
            raise DataError("nothing to learn")
        if len(calls) == 4:
            raise KeyboardInterrupt
        return honest(spec, on)

    monkeypatch.setattr(study_module, "try_spec", sometimes)
    with pytest.raises(KeyboardInterrupt):
        run_study(tmp_path / "s", data, "rank_ic", times(9))
    result = run_study(tmp_path / "s", data, "rank_ic", times(1))
    assert (result.count, result.failed, result.tried_now) == (5, 2, 1)
    luck = judge_luck(honest(result.best, data), result.returns, result.failed, data)
    assert luck.tried.count == 5
    before = replace(data, terms=replace(data.terms, spec=LINE.model_copy(update={"trials": Tried(count=30)})))
    assert before.sha256 == data.sha256
    assert judge_luck(honest(result.best, before), result.returns, result.failed, before).tried.count == 34


def test_a_new_study_tries_at_least_the_specification_as_it_is(data, tmp_path):
    path = tmp_path / "m6.journal"
    assert run_study(path, data, "rank_ic", times(0)).tried_now == 1
    assert run_study(path, data, "rank_ic", times(0)).tried_now == 0


def test_a_study_of_other_data_or_another_objective_is_refused(data, planted, tmp_path):
    path = tmp_path / "m6.journal"
    run_study(path, data, "rank_ic", times(1))
    with pytest.raises(InputError, match="made with another objective; name a new file"):
        run_study(path, data, "net", times(1))
    table, panel = planted
    shorter = prepare(table.take(0, table.rows - 48), panel.take(0, panel.rows - 48))
    with pytest.raises(InputError, match="made with another data"):
        run_study(path, shorter, "rank_ic", times(1))
    (tmp_path / "no").write_text("this is no journal\n")
    with pytest.raises(InputError, match="no study that can be gone on with"):
        run_study(tmp_path / "no", data, "rank_ic", times(1))


@pytest.mark.parametrize("left", [0.3, 0.5, 0.99])
def test_a_study_whose_last_line_was_cut_off_goes_on(data, tmp_path, monkeypatch, left):
    monkeypatch.setattr(study_module, "try_spec", lambda _spec, _on: SimpleNamespace(active=np.ones(3), value=lambda _objective: 0.1))
    path = tmp_path / "m6.journal"
    run_study(path, data, "rank_ic", times(2))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * left)])
    first = run_study(path, data, "rank_ic", times(1))
    again = run_study(path, data, "rank_ic", times(1))
    assert again.count == first.count + 1


@pytest.mark.parametrize("content", [b"notes of mine", b"notes\n", b'{"a": 1}\n', b'{"op_code": 99, "worker_id": "w"}\n'])
def test_a_file_that_is_no_study_is_refused_and_left_alone(data, tmp_path, content):
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is no study that can be gone on with"):
        run_study(path, data, "rank_ic", times(1))
    assert path.read_bytes() == content


def test_of_two_runs_on_one_study_the_later_goes_on(data, tmp_path, monkeypatch):
    path, counts = tmp_path / "m6.journal", []

    def try_spec(_spec, _on):
        if not counts:
            counts.append(0)
            counts[0] = run_study(path, data, "rank_ic", times(1)).count
        return SimpleNamespace(active=np.ones(3), value=lambda _objective: 0.1)

    monkeypatch.setattr(study_module, "try_spec", try_spec)
    with pytest.raises(InputError, match="another run has gone on with it meanwhile"):
        run_study(path, data, "rank_ic", times(1))
    assert counts == [2], "the trial that was cut off counts"


def test_where_every_trial_fails_it_says_why(data, tmp_path, monkeypatch):
    def nothing(spec, on):
        raise DataError("nothing to learn")

    monkeypatch.setattr(study_module, "try_spec", nothing)
    with pytest.raises(DataError, match="of 2 trials none came to an end: nothing to learn"):
        run_study(tmp_path / "s", data, "rank_ic", times(2))


def test_the_best_of_many_worthless_trials_is_called_luck(market, tmp_path):
    table, panel = market(4, 0.0, 50, 20)
    data = prepare(table, panel)
    rng = np.random.default_rng(5)
    attempt = try_spec(LINE, data)
    returns = [0.01 * rng.standard_normal(len(attempt.active)) for _ in range(50)]
    best = max(returns, key=lambda series: float(series.mean() / series.std()))
    luck = judge_luck(tuning.Attempt(attempt.score, best, attempt.rounds), returns, 0, data)
    assert luck.tried.deflated_sharpe < 0.95
    assert not luck.gate.promote
    assert any("best of 50" in reason for reason in luck.gate.reasons)


def test_too_few_rows_are_refused(planted):
    table, panel = planted
    starved = LINE.model_copy(update={"window": WindowSpec(min_rows=4000)})
    cure = "give it a longer timerange or more pairs, or lower window.min_rows"
    with pytest.raises(DataError, match=rf"slice of fold 1 has \d+ rows, fewer than window.min_rows = 4000; {cure}"):
        prepare(table, panel, starved)


def test_the_written_specification_keeps_its_comments_and_reads_back(tmp_path):
    text = (models_folder() / "rotation_6h" / "spec.toml").read_text()
    spec = read_spec(models_folder() / "rotation_6h" / "spec.toml")
    chosen = with_fit(spec, {"learning_rate": 0.0123, "num_leaves": 9, "lambda_l2": 2.5})
    written = with_fit_values(text, chosen, "one line\nanother")
    assert written.startswith("# one line\n# another\n")
    assert "early_stopping_rounds = 50         # on an inner slice" in written
    folder = tmp_path / "rotation_6h"
    folder.mkdir()
    (folder / "spec.toml").write_text(written)
    assert read_spec(folder / "spec.toml") == chosen
    assert with_fit_values(text, spec, "").strip() == text.strip()
    among = chosen.model_copy(update={"trials": Tried(count=40, deflated_sharpe=0.25, overfitting=0.5)})
    (folder / "spec.toml").write_text(with_fit_values(written, among, ""))
    assert read_spec(folder / "spec.toml") == among
    more = among.model_copy(update={"trials": Tried(count=41)})
    (folder / "spec.toml").write_text(with_fit_values((folder / "spec.toml").read_text(), more, ""))
    assert read_spec(folder / "spec.toml") == more
    bare = with_fit_values('name = "m"\n', LINE.model_copy(update={"fit": LinearFit(clip_z=3.0)}), "")
    assert tomllib.loads(bare) == {"name": "m", "fit": {"clip_z": 3.0}}
