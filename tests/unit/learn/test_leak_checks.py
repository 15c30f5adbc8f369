"""Planted leaks, each caught by a check that runs in every training; and an honest training passes them all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from made_panels import rescaled, walk, without
from tickless.bars import Panel
from tickless.errors import LeakError, RefusedError
from tickless.features.rotation import MODEL_FEATURES, build_features, startup_bars
from tickless.features.table import FeatureTable
from tickless.learn.dataset import Samples, Split, build_samples, cut, split_by_time
from tickless.learn.labels import build_labels
from tickless.learn.leak_checks import (
    FittedStep,
    check_features,
    check_fitted,
    check_labels,
    check_purged,
    check_samples,
    check_sequences,
    check_split,
    rows_of,
)
from tickless.learn.sequence_windows import build_sequences
from tickless.learn.triple_barrier import Barriers, barrier_labels, triple_barrier

HOUR = 3_600_000
PAIRS = ("A/USDT", "B/USDT", "C/USDT")
EMBARGO = 6 * HOUR


@pytest.fixture(scope="module")
def panel():
    return walk(PAIRS, 1200, timeframe="1h", seed=3)


def make_table(panel):
    """Two causal features and a volatility."""
    before = np.full(panel.close.shape, np.nan)
    before[1:] = panel.close[1:] / panel.close[:-1] - 1.0
    slow = np.full(panel.close.shape, np.nan)
    slow[6:] = panel.close[6:] / panel.close[:-6] - 1.0
    values = np.stack([before, slow, np.full(before.shape, 0.04)], axis=2)
    return FeatureTable(panel.timeframe, panel.pairs, ("r_1h", "r_6h", "rv_24h"), panel.start_ms, values)


def label_maker(table, horizon_h=6.0, claimed_h=None):
    """Labels of ``horizon_h`` that say they look at ``claimed_h``."""

    def make(part):
        labels = build_labels(part, rows_of(table, part).feature("rv_24h"), horizon_h, 5.0)
        if claimed_h is None:
            return labels
        return replace(labels, end_ms=labels.end_ms - round((horizon_h - claimed_h) * HOUR))

    return make


@dataclass(frozen=True)
class Evidence:
    """What a training was made of, and the checks in the order in which it runs them."""

    panel: Panel
    table: FeatureTable
    make_features: Callable
    make_labels: Callable
    samples: Samples
    split: Split
    startup_bars: int | None = None
    fitted: tuple[FittedStep, ...] = ()

    def check(self, seed):
        features = check_features(self.make_features, self.panel, self.table, seed, self.startup_bars)
        labels = self.make_labels(self.panel)
        windows = check_labels(self.make_labels, self.panel, labels, seed)
        check_samples(self.samples, self.table, labels)
        check_split(self.split, EMBARGO)
        for step in self.fitted:
            check_fitted(step, self.split.fit, self.split.validation)
        return features, windows


def evidence_of(panel, **changes):
    table = changes.pop("table", make_table(panel))
    make_labels = changes.pop("make_labels", label_maker(table))
    samples = changes.pop("samples", build_samples(table, make_labels(panel), 60))
    split = changes.pop("split", split_by_time(samples, 0.2, 0.2, EMBARGO))
    return Evidence(panel, table, changes.pop("make_features", make_table), make_labels, samples, split, **changes)


def test_an_honest_training_passes_and_says_what_was_compared(panel):
    features, windows = evidence_of(panel, startup_bars=6).check(seed=1)
    assert features == 3 * 96 * 3 * 3
    assert windows > 500


@pytest.mark.parametrize("startup", [None, 6])
@pytest.mark.parametrize("seed", range(5))
def test_a_feature_that_peeks_one_bar_is_caught(panel, startup, seed):
    def peeking(part):
        table = make_table(part)
        values = table.values.copy()
        values[:-1, :, 0] = table.values[1:, :, 0]
        return replace(table, values=values)

    with pytest.raises(LeakError, match=r"feature r_1h of A/USDT at .* it looks ahead"):
        evidence_of(panel, table=peeking(panel), make_features=peeking, startup_bars=startup).check(seed)


def test_a_feature_scaled_with_all_bars_is_caught(panel):
    def scaled(part):
        table = make_table(part)
        return replace(table, values=table.values / np.nanstd(table.values, axis=0, keepdims=True).clip(1e-9))

    with pytest.raises(LeakError, match="looks ahead"):
        check_features(scaled, panel, scaled(panel), seed=0)


def test_a_table_that_another_function_made_is_caught(panel):
    table = make_table(panel)
    with pytest.raises(LeakError, match="feature r_6h"):
        check_features(make_table, panel, replace(table, values=table.values + np.array([0.0, 1e-12, 0.0])), seed=0)
    with pytest.raises(ValueError, match="does not belong"):
        check_features(make_table, panel, table.take(1, table.rows), seed=0)


def test_the_rotation_features_pass_with_their_own_startup_bars():
    panel = walk(PAIRS, 1500, seed=4)
    table = build_features(panel, 4).select(MODEL_FEATURES)
    compared = check_features(lambda part: build_features(part, 4), panel, table, 2, startup_bars("15m"))
    assert compared == 3 * 96 * 3 * 13


@pytest.mark.parametrize("seed", range(5))
def test_a_label_whose_window_is_longer_than_it_says_is_caught(panel, seed):
    """Its interval says 6 h, so a purge by intervals lets 18 h of the validation slice into the training labels."""
    maker = label_maker(make_table(panel), horizon_h=24.0, claimed_h=6.0)
    with pytest.raises(LeakError, match="its window reaches further"):
        evidence_of(panel, make_labels=maker).check(seed)


def test_labels_that_end_when_the_path_says_pass(panel):
    def make(part):
        return barrier_labels(triple_barrier(part, np.full(part.open.shape, 0.01), Barriers(1.0, 1.0, 48)), "win")

    assert check_labels(make, panel, make(panel), seed=5) > 100
    early = replace(make(panel), end_ms=make(panel).end_ms - HOUR)
    with pytest.raises(LeakError, match="decided at"):
        check_labels(make, panel, early, seed=5)


def test_a_new_price_scale_after_a_silence_is_no_leak(panel):
    """Bars that begin inside the silence do not show the price before it, and so not the break."""
    silent = without(panel, "B/USDT", 400, 520)
    broken = rescaled(silent, "B/USDT", 520, 1000.0)
    make = label_maker(make_table(panel))
    labels = make(broken)
    for seed in range(60):
        assert check_labels(make, broken, labels, seed, cuts=9) > 500


def test_samples_shifted_against_their_table_are_caught(panel):
    table = make_table(panel)
    labels = label_maker(table)(panel)
    samples = build_samples(table, labels, 60)
    check_samples(samples, table, labels)
    shifted = replace(samples, x=np.roll(samples.x, -3, axis=0))
    with pytest.raises(LeakError, match="the features of A/USDT decided at"):
        evidence_of(panel, samples=shifted).check(seed=0)
    with pytest.raises(LeakError, match="the label of"):
        check_samples(replace(samples, y=samples.y + 0.1), table, labels)
    with pytest.raises(LeakError, match="the end of the label of"):
        check_samples(replace(samples, end_ms=samples.end_ms - HOUR), table, labels)
    with pytest.raises(LeakError, match="other features"):
        check_samples(replace(samples, features=("a", "b", "c")), table, labels)


def test_a_sequence_that_reaches_past_its_decision_is_caught(panel):
    table = make_table(panel)
    samples = build_samples(table, label_maker(table)(panel), 60)
    sequences = build_sequences(table, 12)
    kept = samples.take(sequences.whole_rows(samples))
    honest = replace(kept, x=sequences.of(kept))
    check_sequences(honest, table)
    ahead = build_sequences(replace(table, start_ms=table.start_ms - HOUR), 12)
    late = kept.take(np.flatnonzero(kept.start_ms < kept.start_ms[-1]))
    with pytest.raises(LeakError, match=r"the sequence of A/USDT decided at .* is not that of the bars that had closed"):
        check_sequences(replace(late, x=ahead.of(late)), table)


def test_an_unpurged_split_is_caught(panel):
    honest = evidence_of(panel)
    at = int(honest.split.validation.start_ms[0])
    unpurged = honest.samples.between(0, at + 6 * HOUR)
    assert unpurged.start_ms.max() < at
    with pytest.raises(LeakError, match=r"training labels reach into the validation slice, which begins at .* embargo of 6 h"):
        evidence_of(panel, split=replace(honest.split, fit=unpurged)).check(seed=0)
    with pytest.raises(LeakError, match="the early-stopping slice"):
        check_split(replace(honest.split, train=honest.split.fit), EMBARGO)


def test_a_purge_without_the_embargo_is_caught(panel):
    samples = evidence_of(panel).samples
    before, after = cut(samples, int(samples.start_ms[2000]), 0)
    check_purged(before, after, 0, "the later slice")
    with pytest.raises(LeakError, match=r"3 of [\d,]+ training labels reach into the later slice"):
        check_purged(before, after, HOUR, "the later slice")


def test_a_shuffled_split_is_caught(panel):
    samples = evidence_of(panel).samples
    order = np.random.default_rng(0).permutation(len(samples))
    with pytest.raises(LeakError, match="reach into"):
        check_purged(samples.take(np.sort(order[:2500])), samples.take(np.sort(order[2500:])), 0, "the rest")


def test_a_label_without_a_window_is_caught(panel):
    samples = evidence_of(panel).samples
    with pytest.raises(LeakError, match="known at its own decision"):
        check_purged(replace(samples, end_ms=samples.start_ms), samples, 0, "the rest")


def scaler(name, rows, until_ms=None):
    """A scaler fitted on some rows; it says until when."""
    return FittedStep(name, int(rows.start_ms.max()) if until_ms is None else until_ms, mean_of(rows), mean_of)


def mean_of(rows):
    return rows.x.mean(axis=0, dtype=np.float64).tobytes()


def test_a_scaler_fitted_on_everything_is_caught(panel):
    honest = evidence_of(panel)
    replace(honest, fitted=(scaler("the scaler", honest.split.fit),)).check(seed=0)
    with pytest.raises(LeakError, match=r"the scaler was fitted on data up to .* the validation slice begins at"):
        replace(honest, fitted=(scaler("the scaler", honest.samples),)).check(seed=0)


def test_a_scaler_fitted_on_everything_that_denies_it_is_caught(panel):
    honest = evidence_of(panel)
    lying = scaler("the scaler", honest.samples, int(honest.split.fit.start_ms.max()))
    with pytest.raises(LeakError, match="comes out otherwise: it has seen other rows"):
        replace(honest, fitted=[lying]).check(seed=0)


def test_a_step_that_is_allowed_fewer_rows_than_it_saw_is_caught(panel):
    split = evidence_of(panel).split
    with pytest.raises(LeakError, match="and its rows end at"):
        check_fitted(scaler("the calibration", split.inner), split.train, split.validation)


def test_a_leak_is_a_refusal():
    assert issubclass(LeakError, RefusedError)
