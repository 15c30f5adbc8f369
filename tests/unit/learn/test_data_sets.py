"""Data sets of one pair and of many, the universe as it was, sequences without copies, and how folds are laid out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tickless.learn.dataset import Samples, build_samples, tradable_then
from tickless.learn.labels import build_labels
from tickless.learn.leak_checks import rows_of
from tickless.learn.sample_weights import average_uniqueness, uniqueness_weights
from tickless.learn.sequence_windows import build_sequences
from tickless.learn.splits import WalkForward, equal_folds, walk_forward
from tickless.settings import UniverseSection

HOUR = 3_600_000
DAY = 24 * HOUR


@pytest.fixture(scope="module")
def made(market):
    """(table, panel, labels, samples) of 40 days and 3 pairs."""
    table, panel = market(11, 0.0, days=40, pairs=3)
    labels = build_labels(panel, table.feature("rv_24h"), 6.0, 5.0)
    return table, panel, labels, build_samples(table, labels, 60)


def intervals(*spans, pairs=None):
    """Samples that look at [start, end) hours."""
    start, end = (np.asarray(values, dtype=np.int64) * HOUR for values in zip(*spans, strict=True))
    count = len(start)
    pair = np.zeros(count, np.intp) if pairs is None else np.asarray(pairs, np.intp)
    numbers = np.arange(count, dtype=np.float64)
    return Samples(("a",), ("A", "B"), numbers[:, None].astype(np.float32), numbers, numbers, np.ones(count), pair, start, end)


def test_a_data_set_of_one_pair_holds_that_pair_alone(made):
    _, panel, labels, samples = made
    alone = samples.of_pair(panel.pairs[1])
    assert alone.pairs == (panel.pairs[1],)
    assert (alone.pair == 0).all()
    assert np.array_equal(alone.y, labels.target[:, 1][~np.isnan(labels.target[:, 1])])
    assert len(alone) * 3 == len(samples)
    with pytest.raises(ValueError, match="not in tuple"):
        samples.of_pair("NOBODY/USDT")


def test_tick_sizes_are_the_groups_of_a_ranking(made):
    samples = made[3]
    kept = samples.take(np.flatnonzero((samples.pair != 1) | (samples.start_ms % (2 * HOUR) == 0)))
    sizes = kept.tick_sizes
    assert sizes.sum() == len(kept)
    assert set(sizes.tolist()) == {2, 3}
    assert np.array_equal(np.repeat(np.unique(kept.start_ms), sizes), kept.start_ms)
    assert intervals((0, 1)).take(slice(0, 0)).tick_sizes.tolist() == []


def test_who_was_not_tradable_then_is_no_sample(made):
    table, panel, labels, samples = made
    mask = tradable_then(panel, UniverseSection(min_age_days=2.0))
    assert not mask[:47].any()
    assert mask[47:].all()
    some = build_samples(table, labels, 60, mask)
    assert some.start_ms[0] == panel.start_ms + 48 * HOUR
    assert np.array_equal(some.y, samples.y[samples.start_ms >= some.start_ms[0]])


def test_labels_of_other_bars_are_refused(made):
    table, panel, labels, _ = made
    with pytest.raises(ValueError, match="do not belong to a table"):
        build_samples(table.take(1, table.rows), labels, 60)
    shifted = build_labels(panel.take(1, panel.rows), table.feature("rv_24h")[1:], 6.0, 5.0)
    with pytest.raises(ValueError, match="another bar"):
        build_samples(table.take(0, table.rows - 1), shifted, 60)
    with pytest.raises(ValueError, match="do not belong to a table"):
        build_samples(table, labels, 60, np.ones((3, 3), dtype=bool))


def test_a_slice_of_samples_is_a_view_and_a_choice_of_rows_a_copy(made):
    samples = made[3]
    assert np.shares_memory(samples.take(slice(10, 20)).x, samples.x)
    some = samples.take(np.asarray([3, 7]))
    assert some.y.tolist() == samples.y[[3, 7]].tolist()
    assert some.sha256 != samples.take(slice(3, 5)).sha256


def test_when_the_last_label_is_known_is_not_when_the_last_decision_s_is():
    samples = intervals((0, 9), (1, 2), (2, 4))
    assert samples.known_ms == 9 * HOUR
    assert samples.longest_ms == 9 * HOUR
    assert samples.between(0, 4 * HOUR).y.tolist() == [1.0, 2.0]


def test_uniqueness_of_labels_that_overlap_by_hand():
    # Hours 0 to 4: one label, two, two, one.  A label of the other pair does not count.
    samples = intervals((0, 3), (0, 3), (1, 4), pairs=[0, 1, 0])
    assert average_uniqueness(samples) == pytest.approx([(1 + 0.5 + 0.5) / 3, 1.0, (0.5 + 0.5 + 1) / 3])
    assert uniqueness_weights(samples).mean() == pytest.approx(1.0)
    assert len(uniqueness_weights(samples.take(slice(0, 0)))) == 0
    with pytest.raises(ValueError, match="ends where it starts"):
        average_uniqueness(intervals((0, 0)))


def test_sequences_of_one_pair_are_views_of_one_block(made):
    table, panel, _, samples = made
    sequences = build_sequences(table, 24)
    assert sequences.length == 24
    alone = samples.take(np.flatnonzero(samples.pair == 2)[40:60])
    assert np.shares_memory(sequences.of(alone), sequences.windows)
    mixed = samples.take(slice(300, 320))
    assert not np.shares_memory(sequences.of(mixed), sequences.windows)
    with pytest.raises(ValueError, match="no whole sequence of 24 bars"):
        sequences.of(samples.take(slice(0, 3)))
    with pytest.raises(ValueError, match="do not lie on the table's bars"):
        sequences.of(replace(alone, start_ms=alone.start_ms + 1))
    with pytest.raises(ValueError, match=f"of a table of {panel.rows}"):
        build_sequences(table, panel.rows + 1)


def test_rows_of_a_table_that_are_not_there_are_refused(made):
    table, panel, _, _ = made
    assert rows_of(table, panel.take(5, 9)).start_ms == panel.start_ms + 5 * HOUR
    with pytest.raises(ValueError, match="does not have the rows"):
        rows_of(table.take(0, 8), panel.take(5, 9))


def test_folds_walk_forward_by_hand(made):
    samples = made[3]
    begin = int(samples.start_ms[0])
    folds = walk_forward(samples, WalkForward(10 * DAY, 7 * DAY, DAY, 0.2))
    assert [fold.number for fold in folds] == [1, 2, 3, 4, 5]
    assert [(fold.validation_from_ms - begin) // DAY for fold in folds] == [10, 17, 24, 31, 38]
    first = folds[0].split(samples)
    # The label looks at 7 hours: the last decision that may be fitted on lies 7 hours and the embargo before the validation.
    assert first.fit.start_ms[-1] == begin + 10 * DAY - DAY - 7 * HOUR
    assert first.train.known_ms + DAY <= first.inner.start_ms[0]
    assert len(folds[1].split(samples).fit) > len(first.fit)
    sliding = walk_forward(samples, WalkForward(10 * DAY, 7 * DAY, DAY, 0.2, sliding=True))
    assert len({len(fold.split(samples).fit) for fold in sliding}) == 1
    assert sliding[2].split(samples).fit.start_ms[0] == begin + 14 * DAY


def test_equal_folds_train_on_the_first_stretch_only(made):
    samples = made[3]
    folds = equal_folds(samples, 4, DAY)
    sizes = [len(fold.split(samples).validation) for fold in folds]
    assert len(sizes) == 4
    assert max(sizes) - min(sizes) <= 3
    assert sum(sizes) == pytest.approx(len(samples) * 4 / 5, rel=0.01)
    assert equal_folds(samples.take(slice(0, 0)), 4, DAY) == ()


def test_layouts_that_make_no_sense_are_refused(made):
    with pytest.raises(ValueError, match="times must be positive"):
        WalkForward(0, DAY, DAY)
    with pytest.raises(ValueError, match="inner_frac 1 is not"):
        WalkForward(DAY, DAY, DAY, 1.0)
    with pytest.raises(ValueError, match="0 folds"):
        equal_folds(made[3], 0, DAY)
