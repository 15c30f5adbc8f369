"""Labels, weights and folds against slow loops that say the same in the plainest way."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tickless.bars import Panel
from tickless.features.table import FeatureTable
from tickless.learn.dataset import Samples, build_samples, cut, tradable_then
from tickless.learn.leak_checks import check_purged, check_split
from tickless.learn.sample_weights import average_uniqueness, uniqueness_weights
from tickless.learn.sequence_windows import build_sequences
from tickless.learn.splits import WalkForward, equal_folds, walk_forward
from tickless.learn.triple_barrier import Barriers, barrier_labels, triple_barrier
from tickless.portfolio.universe import OK, eligibility, median_daily_volume
from tickless.settings import UniverseSection
from tickless.types import Side, from_ms

HOUR = 3_600_000
MINUTE = 60_000


@st.composite
def panels(draw: st.DrawFn, rows: int = 40, pairs: int = 2) -> Panel:
    """Bars on a coarse price grid, so that levels are met exactly; some are missing, in some nothing traded."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (draw(st.integers(1, rows)), pairs)
    price = 100.0 + rng.integers(-6, 7, (4, *shape))
    opened, close = price[0], price[1]
    high, low = np.maximum(price.max(axis=0), opened), np.minimum(price.min(axis=0), close)
    volume = np.where(rng.random(shape) < 0.15, 0.0, 10.0)
    missing = rng.random(shape) < draw(st.sampled_from([0.0, 0.1, 0.4]))
    columns = [np.where(missing, np.nan, values) for values in (opened, high, low, close, volume)]
    return Panel("15m", tuple(f"P{n}/USDT" for n in range(pairs)), 0, *columns)


def slow_barrier(panel, t, n, unit, barriers, side):
    """(return, touched, row of the end) of one trade, bar by bar; None without an outcome."""
    sign = 1.0 if side is Side.BUY else -1.0
    first, last = t + 1, t + 1 + barriers.bars
    if first >= panel.rows or np.isnan(panel.open[first, n]) or not unit > 0.0:
        return None
    entry = panel.open[first, n]
    target = entry + sign * entry * unit * barriers.take_profit
    stop = entry - sign * entry * unit * barriers.stop
    for row in range(first, min(last, panel.rows)):
        opened, high, low = panel.open[row, n], panel.high[row, n], panel.low[row, n]
        if np.isnan(opened) or panel.volume[row, n] == 0.0:
            continue
        if (low <= stop) if side is Side.BUY else (high >= stop):
            price = min(stop, opened) if side is Side.BUY else max(stop, opened)
            return sign * (price - entry) / entry, -1, row
        if (high > target) if side is Side.BUY else (low < target):
            return sign * (target - entry) / entry, 1, row
    if last >= panel.rows or np.isnan(panel.open[last, n]):
        return None
    return sign * (panel.open[last, n] - entry) / entry, 0, last


@settings(max_examples=120)
@given(
    panels(),
    st.integers(1, 20),
    st.sampled_from([0.01, 0.02, 0.03, 0.08, np.inf]),
    st.sampled_from([0.01, 0.02, 0.04, np.inf]),
    st.sampled_from(list(Side)),
    st.integers(0, 9),
)
def test_the_triple_barrier_is_that_of_a_walk_along_the_bars(panel, bars, take_profit, stop, side, seed):
    barriers = Barriers(take_profit, stop, bars)
    unit = np.random.default_rng(seed).choice([1.0, 1.0, 2.0, 0.0, np.nan], panel.open.shape)
    outcome = triple_barrier(panel, unit, barriers, side)
    for t in range(panel.rows):
        for n in range(len(panel.pairs)):
            slow = slow_barrier(panel, t, n, unit[t, n], barriers, side)
            if slow is None:
                assert np.isnan(outcome.plain[t, n])
                continue
            assert np.isclose(outcome.plain[t, n], slow[0], rtol=0.0, atol=1e-12)
            assert outcome.touched[t, n] == slow[1]
            assert outcome.end_ms[t, n] == panel.open_times_ms[slow[2]] + panel.step_ms


@settings(max_examples=60)
@given(panels(rows=80, pairs=3), st.integers(1, 30), st.integers(1, 79))
def test_a_barrier_label_reads_the_bars_of_its_interval_and_no_other(panel, bars, last):
    assume(last < panel.rows)
    unit = np.full(panel.open.shape, 0.02)
    whole = triple_barrier(panel, unit, Barriers(1.0, 1.0, bars))
    part = triple_barrier(panel.take(0, last), unit[:last], Barriers(1.0, 1.0, bars))
    known = ~np.isnan(whole.plain[:last]) & (whole.end_ms[:last] <= panel.start_ms + last * panel.step_ms)
    assert np.array_equal(~np.isnan(part.plain), known)
    assert np.array_equal(part.plain[known], whole.plain[:last][known])
    assert np.array_equal(part.end_ms[known], whole.end_ms[:last][known])


@st.composite
def samples_of_any_length(draw: st.DrawFn) -> Samples:
    """Samples whose labels last from one to many hours, in no order of ends, with holes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows, pairs = draw(st.integers(0, 120)), draw(st.integers(1, 4))
    longest = draw(st.sampled_from([1, 3, 24]))
    hour, pair = np.nonzero(rng.random((rows, pairs)) < draw(st.sampled_from([0.2, 0.9, 1.0])))
    count = len(hour)
    start = (hour + draw(st.integers(0, 1000))) * HOUR
    return Samples(
        ("a",),
        tuple(f"P{n}" for n in range(pairs)),
        rng.standard_normal((count, 1)).astype(np.float32),
        *(rng.standard_normal(count) for _ in range(2)),
        np.ones(count),
        pair,
        start,
        start + rng.integers(1, longest + 1, count) * HOUR,
    )


@settings(max_examples=100)
@given(samples_of_any_length(), st.integers(0, 1200), st.integers(0, 30))
def test_a_cut_keeps_no_label_that_reaches_over_it_and_chooses_by_no_outcome(samples, hour, embargo_h):
    at, embargo = hour * HOUR, embargo_h * HOUR
    before, after = cut(samples, at, embargo)
    assert (before.end_ms + embargo <= at).all()
    assert (after.start_ms >= at).all()
    check_purged(before, after, embargo, "the later slice")
    assert len(after) == int((samples.start_ms >= at).sum())
    # Whether a decision is kept depends on its time alone, not on how soon its trade ended.
    kept = samples.start_ms[: len(before)]
    assert not len(kept) or len(before) == int((samples.start_ms <= kept[-1]).sum())
    dropped = samples.take(slice(len(before), len(samples)))
    assert (dropped.start_ms + samples.longest_ms + embargo > at).all()
    assert np.shares_memory(before.x, samples.x) or not len(before)


@settings(max_examples=100)
@given(samples_of_any_length(), st.integers(0, 1200), st.integers(0, 1200))
def test_between_gives_what_was_decided_and_is_known_in_a_time(samples, begin, end):
    found = samples.between(begin * HOUR, end * HOUR)
    wanted = (samples.start_ms >= begin * HOUR) & (samples.end_ms <= end * HOUR)
    assert np.array_equal(found.y, samples.y[wanted])
    assert np.array_equal(found.end_ms, samples.end_ms[wanted])


@settings(max_examples=100)
@given(
    samples_of_any_length(),
    st.integers(1, 60),
    st.integers(1, 40),
    st.integers(0, 30),
    st.floats(0.0, 0.9),
    st.booleans(),
    st.sampled_from([0, 5, 50]),
)
def test_folds_walk_forward_purged_and_never_shuffled(samples, train_h, validation_h, embargo_h, inner_frac, sliding, step_h):
    scheme = WalkForward(train_h * HOUR, validation_h * HOUR, embargo_h * HOUR, inner_frac, sliding, step_h * HOUR)
    folds = walk_forward(samples, scheme)
    for fold in folds:
        split = fold.split(samples)
        check_split(split, scheme.embargo_ms)
        assert ((split.validation.start_ms >= fold.validation_from_ms) & (split.validation.start_ms < fold.validation_until_ms)).all()
        assert fold.fit.start == fold.train.start
        assert fold.train.stop <= fold.inner.start
        assert fold.inner.stop == fold.fit.stop <= fold.validation.start
        if sliding and len(split.fit):
            assert split.fit.start_ms[0] >= fold.validation_from_ms - scheme.train_ms
        elif len(split.fit):
            assert fold.fit.start == 0
    if not step_h:
        # Every decision after the first training time is judged in one fold, and in one only.
        judged = [row for fold in folds for row in range(fold.validation.start, fold.validation.stop)]
        first = int(samples.start_ms[0]) + scheme.train_ms if len(samples) else 0
        assert judged == np.flatnonzero(samples.start_ms >= first).tolist()


@settings(max_examples=50)
@given(samples_of_any_length(), st.integers(1, 6), st.booleans())
def test_equal_folds_share_the_time_evenly(samples, count, sliding):
    folds = equal_folds(samples, count, 2 * HOUR, sliding=sliding)
    assert len(folds) <= count
    for fold in folds:
        check_split(fold.split(samples), 2 * HOUR)
    lengths = {fold.validation_until_ms - fold.validation_from_ms for fold in folds}
    assert len(lengths) <= 1
    assert not folds or folds[-1].validation_until_ms > samples.start_ms[-1] or len(folds) < count


def slow_uniqueness(samples):
    result = []
    for pair, start, end in zip(samples.pair, samples.start_ms, samples.end_ms, strict=True):
        hours = range(int(start), int(end), HOUR)
        same = samples.pair == pair
        shares = [1.0 / int((same & (samples.start_ms <= hour) & (hour < samples.end_ms)).sum()) for hour in hours]
        result.append(sum(shares) / len(shares))
    return np.asarray(result)


@settings(max_examples=60)
@given(samples_of_any_length())
def test_uniqueness_is_that_of_a_count_hour_by_hour(samples):
    unique = average_uniqueness(samples)
    np.testing.assert_allclose(unique, slow_uniqueness(samples), rtol=1e-9)
    if len(samples):
        assert ((unique > 0.0) & (unique <= 1.0 + 1e-9)).all()
        assert np.isclose(uniqueness_weights(samples).mean(), 1.0)


@settings(max_examples=60)
@given(panels(rows=60, pairs=3), st.integers(1, 20), st.integers(0, 2**16))
def test_sequences_are_the_last_rows_of_the_table(panel, length, seed):
    assume(length <= panel.rows)
    values = np.random.default_rng(seed).standard_normal((panel.rows, 3, 2))
    values[np.isnan(panel.close)] = np.nan
    table = FeatureTable("15m", panel.pairs, ("a", "b"), panel.start_ms, values)
    labels = barrier_labels(triple_barrier(panel, np.full(panel.open.shape, 0.02), Barriers(1.0, 1.0, 4)), "win")
    samples = build_samples(table, labels, 15)
    sequences = build_sequences(table, length)
    kept = samples.take(sequences.whole_rows(samples))
    found = sequences.of(kept)
    assert found.shape == (len(kept), length, 2)
    assert np.isfinite(found).all()
    assert np.array_equal(found[:, -1], kept.x)
    for k in range(len(kept)):
        row = (kept.start_ms[k] - panel.start_ms) // panel.step_ms - 1
        assert np.array_equal(found[k], values[row - length + 1 : row + 1, kept.pair[k]].astype(np.float32))
    rows = ((samples.start_ms - panel.start_ms) // panel.step_ms - 1).tolist()
    whole = [
        row >= length - 1 and bool(np.isfinite(values[row - length + 1 : row + 1, n]).all())
        for row, n in zip(rows, samples.pair.tolist(), strict=True)
    ]
    assert len(kept) == sum(whole)


@settings(max_examples=25)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 0.1, 1.0, 2.5]),
    st.sampled_from([0.0, 150_000.0]),
    st.integers(1, 4),
    st.integers(0, 23),
    st.sampled_from([0.0, 0.2, 0.9]),
)
def test_who_was_tradable_is_what_the_desk_would_have_said(seed, min_age_days, min_volume, window_days, hour, missing):
    rng = np.random.default_rng(seed)
    shape = (rng.integers(1, 160), 3)
    gone = rng.random(shape) < missing
    gone[: rng.integers(0, 100), 0] = True
    columns = [np.where(gone, np.nan, values) for values in [np.full(shape, 100.0)] * 4 + [rng.integers(0, 200, shape).astype(float)]]
    panel = Panel("1h", ("A/USDT", "B/USDT", "C/USDT"), (19_000 * 24 + hour) * HOUR, *columns)
    universe = UniverseSection(min_age_days=min_age_days, min_daily_volume=min_volume, rank_window_days=window_days)
    mask = tradable_then(panel, universe)
    for row in rng.integers(0, panel.rows, 25).tolist():
        at = from_ms(panel.start_ms + (row + 1) * HOUR)
        part = panel.closed_at(at)
        said = eligibility(part, at, median_daily_volume(part, at, universe), universe)
        assert mask[row].tolist() == [why == OK for why in said]
