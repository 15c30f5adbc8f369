from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest

from tickless.errors import DataError, LeakError
from tickless.features.rotation import MODEL_FEATURES
from tickless.learn import walk_forward as module
from tickless.learn.dataset import Samples
from tickless.learn.fit_spec import LinearFit, TreeFit
from tickless.learn.importance import permutation_losses
from tickless.learn.leak_checks import rows_of
from tickless.learn.spec import GateSpec, ModelSpec, SplitSpec, WindowSpec
from tickless.learn.training_run import Features
from tickless.learn.walk_forward import WalkPlan, walk_models
from tickless.settings import ExecutionSection, TrainingSection
from tickless.types import from_ms, to_ms

DAY_MS = 86_400_000
SPEC = ModelSpec(
    name="m6",
    strategy="rotation",
    features="rotation",
    horizon_h=6,
    fit=TreeFit(rounds=40, early_stopping_rounds=10),
    split=SplitSpec(embargo_h=6),
    window=WindowSpec(min_rows=100),
)
LINE = SPEC.model_copy(update={"name": "line", "algorithm": "ridge", "fit": LinearFit()})


def walk(table, panel, *specs, every_days=7, sliding=True, workers=2, start=None, features=None, window_days=30):
    training = TrainingSection(window_days=window_days, min_window_days=14)
    return walk_models(
        table,
        panel,
        training=training,
        execution=ExecutionSection(),
        top_k=5,
        specs=specs or (SPEC,),
        plan=WalkPlan(start or panel.start, every_days * DAY_MS, sliding, workers),
        features=features or Features(partial(rows_of, table), startup_bars=0),
    )


@pytest.fixture(scope="module")
def planted(market):
    return market(21, 0.1, 50, 20)


@pytest.fixture(scope="module")
def walked(planted):
    return walk(*planted, SPEC, LINE)


def test_folds_follow_one_another_and_no_version_has_seen_its_test_rows(walked, planted):
    for result in walked:
        folds = [fold for fold, _ in result.tested]
        assert [fold.number for fold in folds] == list(range(1, len(folds) + 1))
        assert len(folds) == len(result.folds) == 5
        assert all(fold.validation_from_ms % DAY_MS == 0 for fold in folds)
        assert all(a.validation_until_ms == b.validation_from_ms for a, b in pairwise(folds))
        for fold, version in result.tested:
            assert version.split.fit.known_ms + 6 * 3_600_000 <= fold.validation_from_ms
            assert fold.validation_from_ms - version.split.fit.start_ms[0] <= 30 * DAY_MS
            assert len(version.said.output) == len(version.split.validation) == version.score.measures.rows
    assert {fold.validation_from_ms for fold, _ in walked[0].tested} == {fold.validation_from_ms for fold, _ in walked[1].tested}


def test_a_planted_signal_is_found_out_of_fold(walked):
    trees, line = walked
    assert trees.score.measures.rank_ic_low > 0.05
    assert trees.gate.promote, trees.gate.reason
    assert line.linear is None
    assert line.linear_score is None
    assert line.score.measures.rank_ic == pytest.approx(trees.linear_score.measures.rank_ic)
    assert trees.score.measures.rows == sum(version.score.measures.rows for _, version in trees.tested)
    assert len(trees.series.rank_ic) == trees.score.measures.ticks


def test_importance_names_the_feature_that_carries_the_signal(walked):
    signal = MODEL_FEATURES.index("r_6h")
    for result in walked:
        for _, version in result.tested:
            assert version.gain.sum() == pytest.approx(1.0)
            assert version.gain.argmax() == signal
            assert version.permutation.argmax() == signal
            assert version.permutation[signal] > 0.05


def test_drift_of_a_feature_shows_in_the_fold_where_it_begins(planted):
    table, panel = planted
    values = table.values.copy()
    values[-5 * 24 :, :, MODEL_FEATURES.index("rsi7")] += 3.0
    (result,) = walk(replace(table, values=values), panel, LINE)
    at = MODEL_FEATURES.index("rsi7")
    psi = [version.psi for _, version in result.tested]
    assert psi[-1][at] > 0.25
    assert all(one[at] < 0.1 for one in psi[:-2])
    assert psi[-1][at] > result.tested[-1][1].psi_widest[at], "no week of the fitted rows was like that"
    assert np.flatnonzero(result.tested[-1][1].drifted(0.25)).tolist() == [at]
    assert not any(version.drifted(0.25).any() for _, version in result.tested[:-2])


def test_threads_do_not_change_the_bytes(walked, planted):
    (again,) = walk(*planted, workers=1)
    assert [v.candidate.artifact for _, v in again.tested] == [v.candidate.artifact for _, v in walked[0].tested]
    np.testing.assert_array_equal(again.said.forecast, walked[0].said.forecast)


def test_what_lies_after_a_fold_does_not_change_it(walked, planted):
    table, panel = planted
    cut = (to_ms(panel.end) // DAY_MS - 15) * DAY_MS
    rows = (cut - panel.start_ms) // panel.step_ms
    (part,) = walk(table.take(0, rows), panel.take(0, rows))
    whole = [version for _, version in walked[0].tested]
    known = [n for n, (fold, _) in enumerate(part.tested) if fold.validation_until_ms + 12 * 3_600_000 <= cut]
    assert len(known) >= 2
    for n in known:
        assert part.tested[n][1].candidate.artifact == whole[n].candidate.artifact
        np.testing.assert_array_equal(part.tested[n][1].said.forecast, whole[n].said.forecast)


def test_a_growing_window_keeps_what_a_sliding_one_drops(planted):
    (growing,) = walk(*planted, LINE, sliding=False, every_days=10)
    (sliding,) = walk(*planted, LINE, every_days=10)
    assert {int(v.split.fit.start_ms[0]) for _, v in growing.tested} == {int(growing.samples.start_ms[0])}
    assert len({int(v.split.fit.start_ms[0]) for _, v in sliding.tested}) > 1


def test_the_first_fold_waits_for_the_timerange_and_for_history(planted):
    table, panel = planted
    (late,) = walk(table, panel, LINE, start=from_ms(panel.start_ms + 30 * DAY_MS))
    assert late.tested[0][0].validation_from_ms == panel.start_ms + 30 * DAY_MS
    with pytest.raises(DataError, match="no test rows after"):
        walk(table.take(0, 14 * 24), panel.take(0, 14 * 24), LINE)


def test_a_fold_with_too_few_rows_has_no_version_and_says_why(planted):
    starved = SPEC.model_copy(update={"window": WindowSpec(min_rows=2000)})
    (result,) = walk(*planted, starved)
    assert result.folds[0].tested is None
    assert "the early-stopping slice has" in result.folds[0].skipped
    assert result.folds[-1].tested is not None
    assert len(result.rows) == sum(len(version.split.validation) for _, version in result.tested)


def test_leaks_stop_a_walk(planted, monkeypatch):
    table, panel = planted

    def peeking(bars):
        part = rows_of(table, bars)
        values = part.values.copy()
        values[-1, :, 0] = 0.0
        return replace(part, values=values)

    with pytest.raises(LeakError, match="looks ahead"):
        walk(table, panel, LINE, features=Features(peeking, startup_bars=0))
    honest = module.walk_forward
    monkeypatch.setattr(module, "walk_forward", lambda samples, scheme, first: honest(samples, replace(scheme, embargo_ms=0), first))
    with pytest.raises(LeakError, match="reach into"):
        walk(table, panel, LINE)


def test_a_classifier_s_walk_opens_no_gate_that_a_training_would_keep_shut(planted):
    gates = GateSpec(beat_linear=True)
    spec = SPEC.model_copy(update={"name": "c6", "algorithm": "lightgbm_classification", "gates": gates})
    (walked,) = walk(*planted, spec, every_days=14)
    assert any(reason.startswith("net top-k return") for reason in walked.gate.reasons)
    assert any(reason.startswith("log loss") and reason.endswith("the linear baseline") for reason in walked.gate.reasons)


def test_shuffling_what_a_model_does_not_read_costs_nothing():
    rng = np.random.default_rng(3)
    x = rng.standard_normal((400, 3)).astype(np.float32)
    zero = np.zeros(400)
    rows = Samples(
        ("a", "b", "c"), ("P",), x, x[:, 1] * 2.0, zero, zero + 1.0, np.zeros(400, dtype=np.intp), np.arange(400), np.arange(400) + 1
    )

    def score(part, output):
        return -float(np.mean((part.y - output) ** 2))

    lost = permutation_losses(lambda x: 2.0 * x[:, 1].astype(np.float64), rows, score, seed=1)
    assert lost[[0, 2]].tolist() == [0.0, 0.0]
    assert lost[1] == pytest.approx(8.0, rel=0.2)
    assert np.isnan(permutation_losses(lambda x: x[:, 0], rows.take(slice(0, 0)), score, 1)).all()
