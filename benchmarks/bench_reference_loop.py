"""The reference loop: train on 2,880 one-minute rows, predict the next hour, and so every hour; seconds per 1,000 bars tested.

python benchmarks/bench_reference_loop.py [--hours 17]

One pair of seeded synthetic minutes, 19 features, LightGBM as a 1-minute strategy runs it: 64 leaves, 8 deep, up to 1,000 trees at a
rate of 0.03, 100 rounds of patience on the last fifth of the window. Each hour's model is fitted, exported to ONNX, checked against its
trainer and asked through ONNX Runtime, as a desk would; a linear baseline is fitted beside it.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from measuring import load, machine, say, spread, table
from numpy.typing import NDArray

from tickless.alpha.onnx_model import OnnxModel, artifact_sha256
from tickless.bars import Floats
from tickless.learn.algorithms.contract import Conditions, Fitted, Rows, Slices
from tickless.learn.algorithms.linear import fit_ridge
from tickless.learn.algorithms.trees import fit_trees
from tickless.learn.fit_spec import LinearFit, TreeFit
from tickless.learn.onnx_export import check_export

WINDOW, HOUR, HORIZON = 2880, 60, 10
HOURS = 17
"""1,020 bars tested."""
RUNS = 3
NAMES = tuple(f"f{n:02d}" for n in range(19))
SETTINGS = {
    "as the reference states it": TreeFit(
        rounds=1000,
        early_stopping_rounds=100,
        learning_rate=0.03,
        num_leaves=64,
        max_depth=8,
        min_data_in_leaf=20,
        bagging_fraction=0.8,
        feature_fraction=0.8,
        refit=False,
    ),
}
SETTINGS["… features in 63 bins"] = SETTINGS["as the reference states it"].model_copy(update={"max_bin": 63})
SETTINGS["… and 20 rounds of patience"] = SETTINGS["… features in 63 bins"].model_copy(update={"early_stopping_rounds": 20})


@dataclass(frozen=True)
class Minutes:
    """Features (T, 19), the return of the next minutes in per cent (T,), and the minutes' times."""

    x: NDArray[np.float32]
    y: Floats
    time_ms: NDArray[np.int64]


def make_minutes(count: int, seed: int = 7) -> Minutes:
    """Minutes of a random walk with clustered volatility, and a slow signal that explains a thousandth of what follows."""
    rng = np.random.default_rng(seed)
    total = count + 200 + HORIZON
    volatility = 5e-4 * np.exp(0.5 * _smooth(rng.standard_normal(total), 240) * np.sqrt(240))
    signal = _smooth(rng.standard_normal(total), 30) * np.sqrt(30)
    steps = volatility * rng.standard_normal(total)
    steps[1:] += 0.03 * volatility[1:] * signal[:-1]
    price = 50_000.0 * np.exp(np.cumsum(steps))
    volume = np.exp(rng.standard_normal(total))
    spans = (1, 5, 15, 30, 60)
    returns = [100.0 * (price / np.roll(price, k) - 1.0) for k in spans]
    spreads = [_smooth(np.abs(steps), k) * 100.0 for k in (5, 15, 60)]
    averages = [100.0 * (price / _smooth(price, k) - 1.0) for k in (12, 15, 26, 60)]
    volumes = [volume / _smooth(volume, k) for k in (5, 15, 60)]
    rest = [signal, 100.0 * np.gradient(steps), (volumes[1] - 1.0) * returns[1], _smooth(steps, 15) * 100.0]
    x = np.stack([*returns, *spreads, *averages, *volumes, *rest], axis=1)
    forward = 100.0 * (np.roll(price, -HORIZON) / price - 1.0)
    rows = slice(200, 200 + count)
    return Minutes(x[rows].astype(np.float32), forward[rows], np.arange(count, dtype=np.int64) * 60_000)


def _smooth(values: Floats, bars: int) -> Floats:
    """The mean of the last ``bars`` values."""
    total = np.cumsum(np.concatenate([np.zeros(bars), values]))
    return np.asarray((total[bars:] - total[:-bars]) / bars)


def slices_at(minutes: Minutes, now: int) -> Slices:
    """The window that ends at minute ``now``: labels that are known by then, the last fifth purged and kept to stop early."""

    def rows(first: int, last: int) -> Rows:
        return Rows(minutes.x[first:last], minutes.y[first:last], None, minutes.time_ms[first:last])

    first, last = now - WINDOW, now - HORIZON
    cut = first + (last - first) * 4 // 5
    return Slices(rows(first, cut - HORIZON), rows(cut, last), rows(first, last))


def hour(minutes: Minutes, now: int, fit: TreeFit) -> tuple[int, Floats, Floats]:
    """One hour of the loop: (trees, what the model said of its minutes, what the line said)."""
    slices = slices_at(minutes, now)
    fitted: Fitted = fit_trees(slices, fit, "value", Conditions(seed=42, num_threads=1))
    artifact = fitted.export(NAMES)
    manifest = {
        "model": "m",
        "version": str(now),
        "sha256": artifact_sha256(artifact),
        "features": list(NAMES),
        "horizon_h": 1,
        "label": "return",
    }
    model = OnnxModel.from_bytes(artifact, manifest)
    check_export(fitted.predict(slices.inner.x), model.predict(slices.inner.x), "m")
    line = fit_ridge(slices, LinearFit())
    ahead = minutes.x[now : now + HOUR]
    return fitted.rounds, model.predict(ahead), line.predict(ahead)


def loop(minutes: Minutes, hours: int, fit: TreeFit, workers: int) -> tuple[float, float, list[int], Floats, Floats]:
    """(seconds, CPU seconds per 1,000 bars, trees by hour, the models' and the lines' forecasts). Hours do not wait for one another."""
    began, used = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(workers) as pool:
        done = list(pool.map(lambda k: hour(minutes, WINDOW + k * HOUR, fit), range(hours)))
    per = 1000.0 / (hours * HOUR)
    seconds, cpu = (time.perf_counter() - began) * per, (time.process_time() - used) * per
    return seconds, cpu, [trees for trees, _, _ in done], np.concatenate([m for _, m, _ in done]), np.concatenate([n for _, _, n in done])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=int, default=HOURS, help="hours tested; each is one training")
    hours = parser.parse_args().hours
    minutes = make_minutes(WINDOW + hours * HOUR)
    truth = minutes.y[WINDOW : WINDOW + hours * HOUR]
    say(f"{machine()}; {hours} trainings on {WINDOW:,} minutes × {len(NAMES)} features, {hours * HOUR:,} bars tested")
    rows = []
    for name, fit in SETTINGS.items():
        loop(minutes, 2, fit, 1)  # The first use of the libraries is not the loop's.
        one = [loop(minutes, hours, fit, 1) for _ in range(RUNS)]
        two = [loop(minutes, hours, fit, 2) for _ in range(RUNS)]
        _, _, trees, said, line = one[0]
        error, linear, zero = (float(np.sqrt(np.mean((forecast - truth) ** 2))) for forecast in (said, line, np.zeros_like(truth)))
        wall, cpu, both = (spread(values, 2) for values in ([r[0] for r in one], [r[1] for r in one], [r[0] for r in two]))
        rows.append(
            (name, f"{np.median(trees):g} ({min(trees)} to {max(trees)})", wall, cpu, both, f"{error:.4f}", f"{linear:.4f}", f"{zero:.4f}")
        )
    head = ("settings", "trees", "s, one core", "CPU s", "s, two hours at a time", "RMSE, %", "linear", "zero")
    table(f"Seconds per 1,000 bars tested, median of {RUNS}; load average {load()}; aim below 1", head, rows)


if __name__ == "__main__":
    main()
