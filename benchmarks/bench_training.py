"""One night's training: both models on 60 pairs × 90 days, and on 8 months; what loading and asking models costs a tick of 80 pairs.

python benchmarks/bench_training.py
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from measuring import DAY, FIRST, LAST, days, load, machine, market, peak_mb, say, spread, table

from tickless.adapters.folder_market import FolderMarket
from tickless.adapters.memory_models import MemoryModelStore
from tickless.alpha.onnx_model import OnnxModel, artifact_sha256
from tickless.bars import Floats
from tickless.features.rotation import build_features
from tickless.learn.onnx_export import export_onnx
from tickless.learn.spec import load_specs
from tickless.runs.retrain import train_specs, training_start
from tickless.settings import load_desk

RUNS = 3
TICK_PAIRS = 80
PREDICTIONS = 200


def timed(function: Callable[[], Any], runs: int = RUNS) -> tuple[Any, list[float]]:
    """The last result, and the seconds of each run."""
    taken, result = [], None
    for _ in range(runs):
        began = time.perf_counter()
        result = function()
        taken.append(time.perf_counter() - began)
    return result, taken


def inference(name: str, artifact: bytes, manifest: Mapping[str, Any], x: Floats) -> list[tuple[str, str]]:
    """What a tick pays for a model: loading it, once a process, and asking it."""
    loaded, loading = timed(partial(OnnxModel.from_bytes, artifact, manifest), 2 * RUNS)
    _, predicting = timed(partial(loaded.predict, x), PREDICTIONS)
    return [
        (f"{name}: ONNX load, ms", spread([1000 * t for t in loading])),
        (f"{name}: ONNX predict of {len(x)} rows, ms", spread([1000 * t for t in predicting], 2)),
    ]


def largest(manifest: Mapping[str, Any], x: Floats) -> list[tuple[str, str]]:
    """The same for a model as large as the specification allows: early stopping may leave a trained one with a few trees."""
    import lightgbm

    rng = np.random.default_rng(7)
    rows = rng.standard_normal((20_000, x.shape[1])).astype(np.float32)
    params = {"num_leaves": 31, "min_data_in_leaf": 200, "verbosity": -1, "num_threads": 1, "seed": 7}
    booster = lightgbm.train(params, lightgbm.Dataset(rows, label=rng.standard_normal(len(rows))), num_boost_round=400)
    artifact = export_onnx(booster, manifest["features"])
    name = f"400 trees of 31 leaves ({len(artifact) / 1024:.0f} KB)"
    return inference(name, artifact, {**manifest, "sha256": artifact_sha256(artifact)}, x)


def all_of_history(source: FolderMarket) -> list[tuple[str, str]]:
    """Both models on all bars there are: wall time, CPU time, and what was trained beside its linear baseline."""
    window = (LAST - FIRST).days
    settings = load_desk("rotation", (f"training.window_days={window}",))
    panel = source.bars(source.pairs(), "15m", FIRST, LAST)
    specs = load_specs("rotation")
    used = time.process_time()
    result, taken = timed(lambda: train_specs(panel, settings, MemoryModelStore(), specs, LAST, LAST + days(1)))
    used = (time.process_time() - used) / RUNS
    rows = [(f"{window} days: both models, features, baselines and leak checks included, s", f"{spread(taken, 1)}; CPU {used:.1f}")]
    for model in result.trained:
        rows.append((f"{window} days: {model.name}: rows fitted, trees", f"{model.manifest['rows']['fit']:,}, {model.manifest['rounds']}"))
        rows.append((f"{window} days: {model.name}", model.manifest["baseline"]["sentence"]))
    return rows


def main() -> None:
    """Measure and print."""
    source, what = market()
    say(f"{machine()}; {what}")
    settings = load_desk("rotation", ("training.window_days=90",))
    specs = load_specs("rotation")
    panel = source.bars(source.pairs(), "15m", training_start(settings, DAY, specs), DAY)
    _, features = timed(lambda: build_features(panel, settings.universe.max_gap_bars))
    result, both = timed(lambda: train_specs(panel, settings, MemoryModelStore(), specs, DAY, DAY + days(1)))
    rows = [("features of the window, s", spread(features, 2)), ("both models, features included, s", spread(both, 1))]
    tick = np.random.default_rng(7).standard_normal((TICK_PAIRS, 13))
    for model in result.trained:
        counts = model.manifest["rows"]
        rows += [
            (f"{model.name}: rows fitted / validated", f"{counts['fit']:,} / {counts['validation']:,}"),
            (f"{model.name}: trees, artifact in KB", f"{model.manifest['rounds']}, {len(model.artifact) / 1024:.0f}"),
            *inference(model.name, model.artifact, model.manifest, tick),
            (f"{model.name}: largest difference to LightGBM", f"{model.manifest['export_difference']:.1e}"),
        ]
    rows += largest(result.trained[0].manifest, tick)
    rows.append(("peak memory of the process, MB", f"{peak_mb():,.0f}"))
    rows += all_of_history(source)
    table(f"Training on 90 days, {settings.training.num_threads} threads, median of {RUNS}; load average {load()}", ("", ""), rows)


if __name__ == "__main__":
    main()
