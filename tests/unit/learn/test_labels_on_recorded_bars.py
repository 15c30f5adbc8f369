"""Labels, samples and folds of recorded bars: with listings, gaps and all, they pass the checks of every training."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from tickless.adapters.folder_market import load_market
from tickless.features.rotation import MODEL_FEATURES, build_features, startup_bars
from tickless.learn.dataset import build_samples, split_by_time, tradable_then
from tickless.learn.labels import build_labels
from tickless.learn.leak_checks import check_features, check_labels, check_samples, check_split, rows_of
from tickless.learn.sample_weights import average_uniqueness
from tickless.learn.splits import WalkForward, walk_forward
from tickless.learn.triple_barrier import Barriers, barrier_labels, triple_barrier
from tickless.settings import UniverseSection

pytestmark = pytest.mark.realdata
DAY_MS = 86_400_000
STEP = 900_000


@pytest.fixture(scope="module")
def recorded(realdata):
    """(panel, its features): two months of a dozen pairs, the youngest among them."""
    start, end = datetime(2024, 3, 15, tzinfo=UTC), datetime(2024, 5, 15, tzinfo=UTC)
    whole = load_market(realdata / "spot_2024", "15m", quote="USDT", start=start, end=end)[0].panel
    age = (~np.isnan(whole.close)).sum(axis=0)
    young = np.argsort(age, kind="stable")[:6].tolist()
    panel = whole.select(tuple(whole.pairs[n] for n in sorted({*young, *range(0, len(whole.pairs), 10)})))
    return panel, build_features(panel, 4).select(MODEL_FEATURES)


@pytest.mark.parametrize("kind", ["scaled", "barrier"])
def test_recorded_bars_pass_the_checks_of_a_training(recorded, kind):
    panel, table = recorded

    def make(part):
        rows = rows_of(table, part)
        if kind == "scaled":
            return build_labels(part, rows.feature("rv_24h"), 24.0, 5.0)
        return barrier_labels(triple_barrier(part, rows.feature("atr_14_30m_frac"), Barriers(3.0, 2.0, 96)), "win", 0.0023)

    labels = make(panel)
    samples = build_samples(table, labels, 60, tradable_then(panel, UniverseSection()))
    split = split_by_time(samples, 0.2, 0.2, DAY_MS)
    check_features(lambda part: build_features(part, 4), panel, table, 3, startup_bars("15m"))
    assert check_labels(make, panel, labels, 3) > 2_000
    check_samples(samples, table, labels)
    check_split(split, DAY_MS)
    assert len(samples) > 10_000
    unique = average_uniqueness(samples)
    # A label of a day, every hour: some 25 look at each bar. A barrier often ends sooner.
    assert (unique.mean() < 0.06) == (kind == "scaled")
    folds = walk_forward(samples, WalkForward(21 * DAY_MS, 7 * DAY_MS, DAY_MS))
    assert len(folds) == 6
    for fold in folds:
        check_split(fold.split(samples), DAY_MS)
        assert len(fold.split(samples).validation) > 500


def test_barriers_of_recorded_bars_are_those_of_a_walk_along_them(recorded):
    panel, table = recorded
    unit = table.feature("atr_14_30m_frac")
    outcome = triple_barrier(panel, unit, Barriers(3.0, 2.0, 96))
    rng = np.random.default_rng(4)
    ends = set()
    for t, n in zip(rng.integers(0, panel.rows - 100, 400).tolist(), rng.integers(0, len(panel.pairs), 400).tolist(), strict=True):
        if np.isnan(outcome.plain[t, n]):
            continue
        last = int(outcome.end_ms[t, n] - panel.start_ms) // STEP - 1
        entry = panel.open[t + 1, n]
        up, down = entry * (1 + 3.0 * unit[t, n]), entry * (1 - 2.0 * unit[t, n])
        before = slice(t + 1, last)
        assert not (panel.low[before, n] <= down).any()
        assert not (panel.high[before, n] > up).any()
        touched = int(outcome.touched[t, n])
        ends.add(touched)
        leave = {1: up, 0: panel.open[last, n], -1: min(down, panel.open[last, n])}[touched]
        assert outcome.plain[t, n] == pytest.approx(leave / entry - 1.0)
        assert touched != 0 or last == t + 97
        assert touched != 1 or (panel.high[last, n] > up and not panel.low[last, n] <= down)
        assert touched != -1 or panel.low[last, n] <= down
    assert ends == {1, 0, -1}
