"""Labels, samples, weights, folds and leak checks of 60 pairs over the whole history; a triple barrier also as a loop over bars.

    python benchmarks/bench_labels.py

The loop walks along the bars of one trade after another, in Python, on a thousandth of the trades; its time is scaled up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from measuring import machine, market, peak_mb, say, spread, table

from tickless.bars import Floats, Panel
from tickless.features.rotation import MODEL_FEATURES, build_features, startup_bars
from tickless.learn.dataset import Samples, build_samples, tradable_then
from tickless.learn.labels import Labels, build_labels
from tickless.learn.leak_checks import check_features, check_labels, check_samples, check_split, rows_of
from tickless.learn.sample_weights import average_uniqueness
from tickless.learn.sequence_windows import build_sequences
from tickless.learn.setup_outcome import SetupRules, Setups, setup_outcome
from tickless.learn.splits import Fold, WalkForward, walk_forward
from tickless.learn.triple_barrier import Barriers, barrier_labels, triple_barrier
from tickless.settings import ExecutionSection, UniverseSection

RUNS = 5
DAY_MS = 86_400_000
BARS = 96
"""A day: the time barrier, and the longest a set-up is held."""
SLOW_SHARE = 1000


def measured(function: Callable[[], Any]) -> tuple[str, Any]:
    """(milliseconds of CPU time, the result)."""
    taken = []
    result = None
    for _ in range(RUNS):
        began = time.process_time()
        result = function()
        taken.append(1000.0 * (time.process_time() - began))
    return spread(taken, 0), result


def walked(panel: Panel, unit: Floats, barriers: Barriers) -> float:
    """Milliseconds of CPU time that a walk along the bars would take for all trades."""
    rng = np.random.default_rng(1)
    rows = rng.integers(0, panel.rows - BARS - 2, panel.open.size // SLOW_SHARE)
    pairs = rng.integers(0, len(panel.pairs), len(rows))
    began = time.process_time()
    for t, n in zip(rows.tolist(), pairs.tolist(), strict=True):
        entry = panel.open[t + 1, n]
        up, down = entry * (1 + barriers.take_profit * unit[t, n]), entry * (1 - barriers.stop * unit[t, n])
        for row in range(t + 1, t + 1 + BARS):
            if panel.low[row, n] <= down or panel.high[row, n] > up:
                break
    return 1000.0 * (time.process_time() - began) * panel.open.size / len(rows)


def main() -> None:
    """Measure and print."""
    source, what = market()
    panel = source.panel
    say(f"{machine()}; {what}")
    whole = build_features(panel, 4)
    features = whole.select(MODEL_FEATURES)
    rv = features.feature("rv_24h")
    unit = features.feature("atr_14_30m_frac")
    barriers = Barriers(3.0, 2.0, BARS)

    def scaled(part: Panel) -> Labels:
        return build_labels(part, rows_of(features, part).feature("rv_24h"), 24.0, 5.0)

    rows = []

    def step(name: str, function: Callable[[], Any], size: Callable[[Any], object] = lambda _result: "") -> Any:
        taken, result = measured(function)
        found = size(result)
        rows.append((name, taken, f"{found:,}" if isinstance(found, int) else found))
        return result

    labels = step("forward return over volatility, every bar", lambda: build_labels(panel, rv, 24.0, 5.0), lambda r: known(r.target))
    step("triple barrier, every bar, a day", lambda: triple_barrier(panel, unit, barriers), lambda r: known(r.plain))
    rows.append(("… as a walk along the bars in Python (scaled up)", f"{walked(panel, unit, barriers):,.0f}", ""))
    setups = some_setups(panel, unit)
    rules = SetupRules(16, BARS, "distance")
    step("set-ups with a grid of 3 limits, a day", lambda: setup_outcome(panel, setups, rules, ExecutionSection()), lambda r: known(r.net))
    step("who was tradable", lambda: tradable_then(panel, UniverseSection(min_daily_volume=1e5)))
    hourly = step("samples, hourly", lambda: build_samples(features, labels, 60), len)
    every = step("samples, every bar", lambda: build_samples(features, labels, 15), len)
    ended = barrier_labels(triple_barrier(panel, unit, barriers), "win")
    paths = build_samples(features, ended, 15)
    step("average uniqueness, hourly", lambda: average_uniqueness(hourly), len)
    step("average uniqueness, every bar", lambda: average_uniqueness(every), len)
    step("average uniqueness, every bar, triple barrier", lambda: average_uniqueness(paths), len)
    step("sequences of 60 bars, as views", lambda: build_sequences(features, 60), lambda r: f"{r.windows.size:,}")
    scheme = WalkForward(90 * DAY_MS, 7 * DAY_MS, DAY_MS)
    folds = step("folds, weekly", lambda: walk_forward(hourly, scheme), len)
    step("leak check: features", lambda: check_features(lambda p: build_features(p, 4), panel, features, 1, startup_bars("15m")), int)
    step("leak check: labels", lambda: check_labels(scaled, panel, labels, 1), int)
    step("leak check: samples, hourly", lambda: check_samples(hourly, features, labels))
    step("leak check: all weekly splits", lambda: check_folds(folds, hourly), int)
    table(f"{len(panel.pairs)} pairs × {panel.rows:,} bars, median of {RUNS}", ("", "CPU time, ms", "how many"), rows)
    say(f"\npeak memory {peak_mb():,.0f} MB, bars and features included")


def check_folds(folds: Sequence[Fold], samples: Samples) -> int:
    """How many folds were checked."""
    for fold in folds:
        check_split(fold.split(samples), DAY_MS)
    return len(folds)


def some_setups(panel: Panel, unit: Floats) -> Setups:
    """A set-up after every hundredth bar of a pair: three limits below the close."""
    rng = np.random.default_rng(2)
    row, pair = np.nonzero((rng.random(panel.open.shape) < 0.01) & np.isfinite(unit))
    entry = panel.close[row, pair][:, None] * np.asarray([0.995, 0.985, 0.975])
    return Setups(row, pair, entry, np.ones(entry.shape), np.full(len(row), 0.03), np.full(len(row), 0.02))


def known(values: Floats) -> str:
    """How many are not NaN."""
    return f"{int((~np.isnan(values)).sum()):,}"


if __name__ == "__main__":
    main()
