"""The reference loop: train on 2,880 one-minute rows, predict the next hour, and so every hour; CPU seconds per 1,000 bars tested.

python benchmarks/bench_reference_loop.py [--hours 17] [--quality BTC,ETH --every 1]

One pair's minutes, 19 features, LightGBM as a 1-minute strategy runs it: 64 leaves, 8 deep, up to 1,000 trees at a rate of 0.03, 100
rounds of patience on the last fifth of the window. Each hour's model is fitted, exported to ONNX, checked against its trainer and asked
through ONNX Runtime, as a desk would; a linear baseline is fitted beside it. ``--quality`` asks what other settings cost in forecasts, on
recorded minutes: every hour of the month, or every so many.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import measuring  # before numpy: it says how many threads there are
import numpy as np
from reference_minutes import HORIZON, NAMES, Minutes, made_minutes, recorded_minutes

from tickless.alpha.onnx_model import OnnxModel, artifact_sha256
from tickless.bars import Floats
from tickless.learn.algorithms.contract import Conditions, Fitted, Rows, Slices
from tickless.learn.algorithms.linear import fit_ridge
from tickless.learn.algorithms.trees import fit_trees
from tickless.learn.fit_spec import LinearFit, TreeFit
from tickless.learn.measures import mean_interval, overlap_t, rank_ic
from tickless.learn.onnx_export import check_export

MINUTES = measuring.ROOT.parent / "shared" / "data" / "perp_1m_2025"
WINDOW, HOUR = 2880, 60
HOURS = 17
"""1,020 bars tested."""
RUNS = 5
REFERENCE = "as the reference states it"
SETTINGS = {
    REFERENCE: TreeFit(
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
SETTINGS["30 rounds of patience"] = SETTINGS[REFERENCE].model_copy(update={"early_stopping_rounds": 30})
SETTINGS["63 bins"] = SETTINGS[REFERENCE].model_copy(update={"max_bin": 63})
SETTINGS["63 bins, 30 rounds of patience"] = SETTINGS["63 bins"].model_copy(update={"early_stopping_rounds": 30})
PARTS = ("bins and trees", "export", "load and check", "linear baseline", "ask both for the hour")


@dataclass
class Done:
    """What a run over some hours left: CPU seconds by part, and by hour the trees kept, the truth and the forecasts, (hours, 60)."""

    parts: Counter[str] = field(default_factory=Counter)
    trees: list[int] = field(default_factory=list)
    truth: list[Floats] = field(default_factory=list)
    said: list[Floats] = field(default_factory=list)
    line: list[Floats] = field(default_factory=list)

    @property
    def cpu(self) -> float:
        """CPU seconds per 1,000 bars tested."""
        return sum(self.parts.values()) * 1000.0 / (len(self.trees) * HOUR)


def slices_at(minutes: Minutes, now: int) -> Slices:
    """The window that ends at minute ``now``: labels that are known by then, the last fifth purged and kept to stop early."""

    def rows(first: int, last: int) -> Rows:
        return Rows(minutes.x[first:last], minutes.y[first:last], None, minutes.time_ms[first:last])

    first, last = now - WINDOW, now - HORIZON
    cut = first + (last - first) * 4 // 5
    return Slices(rows(first, cut - HORIZON), rows(cut, last), rows(first, last))


def test_hour(minutes: Minutes, now: int, fit: TreeFit, done: Done) -> None:
    """One hour of the loop; CPU seconds go to its parts as they pass."""
    marks = [time.process_time()]
    slices = slices_at(minutes, now)
    fitted: Fitted = fit_trees(slices, fit, "value", Conditions(seed=42, num_threads=1))
    marks.append(time.process_time())
    artifact = fitted.export(NAMES)
    marks.append(time.process_time())
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
    marks.append(time.process_time())
    line = fit_ridge(slices, LinearFit())
    marks.append(time.process_time())
    ahead = slice(now, now + HOUR)
    done.said.append(model.predict(minutes.x[ahead]))
    done.line.append(line.predict(minutes.x[ahead]))
    marks.append(time.process_time())
    done.parts.update(dict(zip(PARTS, np.diff(marks), strict=True)))
    done.trees.append(fitted.rounds)
    done.truth.append(minutes.y[ahead])


def loop(minutes: Minutes, fit: TreeFit, hours: Sequence[int]) -> Done:
    """The loop over the hours that begin at these minutes."""
    done = Done()
    for now in hours:
        test_hour(minutes, now, fit, done)
    return done


def measure_time(name: str, minutes: Minutes, hours: int) -> None:
    """Print what the loop costs by settings, and where the CPU goes."""
    starts = range(WINDOW, WINDOW + hours * HOUR, HOUR)
    rows, parts = [], []
    for setting, fit in SETTINGS.items():
        loop(minutes, fit, starts[:2])  # The first use of the libraries is not the loop's.
        runs = [loop(minutes, fit, starts) for _ in range(RUNS)]
        first = runs[0]
        truth = np.concatenate(first.truth)
        errors = (float(np.sqrt(np.mean((np.concatenate(said) - truth) ** 2))) for said in (first.said, first.line, [0.0 * truth]))
        kept = f"{np.median(first.trees):g} ({min(first.trees)} to {max(first.trees)})"
        rows.append((setting, kept, measuring.spread([run.cpu for run in runs], 2), *(f"{error:.4f}" for error in errors)))
        parts.append((setting, *(f"{np.median([1000.0 * run.parts[part] / hours for run in runs]):.1f}" for part in PARTS)))
    head = ("settings", "trees kept", "CPU s", "RMSE, %", "linear", "zero")
    measuring.table(
        f"{name}: CPU seconds per 1,000 bars tested, median of {RUNS}; load average {measuring.load()}; aim below 1", head, rows
    )
    measuring.table(f"{name}: CPU ms an hour", ("settings", *PARTS), parts)


def measure_quality(pairs: Sequence[str], folder: Path, every: int) -> None:
    """Print what each of the settings' forecasts are worth beside the reference's, hour by hour, on recorded minutes."""
    found = {pair: recorded_minutes(folder / f"{pair}_USDT-1m.parquet") for pair in pairs}
    last = min(len(minutes.y) for minutes in found.values())
    starts = range(WINDOW, last - HOUR + 1, HOUR * every)
    count = len(starts) * len(pairs)
    measuring.say(f"{len(starts)} hours of each of {', '.join(pairs)}: {count:,} trainings a row, {count * HOUR:,} bars tested")
    rows = []
    reference: Floats | None = None
    lines: list[Done] = []
    for setting, fit in SETTINGS.items():
        lines = [loop(minutes, fit, starts) for minutes in found.values()]
        said = np.array([one.said for one in lines])
        reference = said if reference is None else reference
        cpu = sum(one.cpu for one in lines) / len(lines)
        trees = np.median([one.trees for one in lines])
        rows.append((setting, f"{trees:g}", f"{cpu:.2f}", *quality(said, np.array([one.truth for one in lines]), reference)))
        measuring.say(f"{setting}: done")
    truth, line = np.array([one.truth for one in lines]), np.array([one.line for one in lines])
    if reference is not None:
        rows += [("linear", "", "", *quality(line, truth, reference)), ("zero", "", "", *quality(0.0 * truth, truth, reference))]
    head = ("settings", "trees kept", "CPU s", "RMSE to zero's", "squared error saved to the reference's settings", "rank IC", "hit rate")
    measuring.table("Forecasts by settings", head, rows)


def quality(said: Floats, truth: Floats, reference: Floats) -> tuple[str, ...]:
    """A row of the table for forecasts (pairs, hours, 60): an hour counts once, as the mean of its pairs, which move together."""
    scale = np.mean(truth**2, axis=(1, 2), keepdims=True)
    error = float(np.mean(np.sqrt(np.mean((said - truth) ** 2, axis=(1, 2)) / scale[:, 0, 0])))
    saved = 100.0 * np.mean(((reference - truth) ** 2 - (said - truth) ** 2) / scale, axis=(0, 2))
    low, high = mean_interval(saved, 1)
    gain = f"{saved.mean():.2f} % [{low:.2f}, {high:.2f}]" if saved.any() else "0"
    ic = np.mean([rank_ic(one, other) for one, other in zip(said, truth, strict=True)], axis=0)
    moved = truth != 0.0
    hit = float(np.mean(np.sign(said[moved]) == np.sign(truth[moved])))
    if not said.any():
        return f"{error:.4f}", gain, "0", ""
    return f"{error:.4f}", gain, f"{ic.mean():.4f}, t {overlap_t(ic, 1):.2f}", f"{100.0 * hit:.2f} %"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=int, default=HOURS, help="hours timed; each is one training")
    parser.add_argument("--quality", default="", help="pairs to judge the settings' forecasts on, joined by commas")
    parser.add_argument("--every", type=int, default=1, help="judge one hour in so many")
    asked = parser.parse_args()
    measuring.say(f"{measuring.machine()}; {WINDOW:,} minutes × {len(NAMES)} features a training, {asked.hours * HOUR:,} bars timed")
    if asked.quality:
        measure_quality(asked.quality.split(","), MINUTES, asked.every)
        return
    if MINUTES.is_dir():
        measure_time("Recorded minutes of BTC", recorded_minutes(MINUTES / "BTC_USDT-1m.parquet"), asked.hours)
    else:
        measure_time("Made minutes", made_minutes(WINDOW + asked.hours * HOUR), asked.hours)


if __name__ == "__main__":
    main()
