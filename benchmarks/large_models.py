"""Two models of 300 trees for ``rotation``, trained without early stopping on a synthetic market that ends where the bars begin.

Early stopping leaves a few trees on honest bars, which hides what a model costs. These are for timing: no gate has judged them, they are
promoted whatever they are worth, and they know nothing of the bars that they are used on.
"""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from measuring import PAIRS

from tickless.adapters.folder_models import FolderModelStore
from tickless.adapters.synthetic_market import make_market
from tickless.alpha.onnx_model import OnnxModel, artifact_sha256
from tickless.features.rotation import MODEL_FEATURES, build_features
from tickless.learn.dataset import Samples, build_samples
from tickless.learn.fit_spec import TreeFit
from tickless.learn.label_spec import make_labels
from tickless.learn.onnx_export import check_export, export_onnx, predict_booster
from tickless.learn.registry import version_name
from tickless.learn.spec import ModelSpec, load_specs
from tickless.ports import Promotion
from tickless.types import iso

TREES = 300
HISTORY_DAYS = 120
GAP_BARS = 4
SAMPLE_EVERY_MIN = 60
PLANTED_IC = 0.15
COST_FRAC = 0.0
"""Rotation's labels are before cost."""
SEED = 7


def make_models(folder: Path, at: datetime) -> list[str]:
    """Register and promote both models, usable from ``at`` on; returns a line on each."""
    panel = make_market(pairs=PAIRS, start=at - timedelta(days=HISTORY_DAYS), end=at, seed=SEED, signal_ic=PLANTED_IC).panel
    table = build_features(panel, GAP_BARS)
    store, made = FolderModelStore(folder), []
    for spec in load_specs("rotation"):
        labels = make_labels(panel, table, spec.horizon_h, spec.label, COST_FRAC)
        samples = build_samples(table.select(MODEL_FEATURES), labels, SAMPLE_EVERY_MIN)
        assert isinstance(spec.fit, TreeFit)
        artifact, manifest = _fit(spec, spec.fit, samples, at)
        store.register(spec.name, manifest["version"], manifest, artifact)
        store.promote(spec.name, Promotion(manifest["version"], at, at, "promoted by hand, to measure what it costs"))
        made.append(f"{spec.name}: {manifest['rounds']} trees of {spec.fit.num_leaves} leaves, {len(artifact) / 1024:,.0f} KB")
    return made


def _fit(spec: ModelSpec, fit: TreeFit, samples: Samples, at: datetime) -> tuple[bytes, dict[str, Any]]:
    """The artifact and as much of a manifest as a tick asks for."""
    import lightgbm

    hyper = fit.model_dump(
        include={"learning_rate", "num_leaves", "min_data_in_leaf", "feature_fraction", "bagging_fraction", "bagging_freq"}
    )
    params = {**hyper, "objective": "regression", "deterministic": True, "force_row_wise": True, "seed": SEED, "num_threads": 1}
    data = lightgbm.Dataset(samples.x, label=samples.y, feature_name=list(samples.features))
    booster = lightgbm.train({**params, "verbosity": -1}, data, num_boost_round=TREES)
    artifact = export_onnx(booster, samples.features)
    manifest = {
        "model": spec.name,
        "version": version_name(at),
        "sha256": artifact_sha256(artifact),
        "features": list(samples.features),
        "label": spec.label.kind,
        "horizon_h": spec.horizon_h,
        "data_until": iso(at),
        "label_until": iso(at),
        "effective_at": iso(at),
        "rounds": booster.current_iteration(),
    }
    some = samples.x[:10_000]
    model = OnnxModel.from_bytes(artifact, manifest)
    check_export(predict_booster(booster, some, 1), model.predict(some), spec.name)
    return artifact, manifest


if __name__ == "__main__":
    for line in make_models(Path(sys.argv[1]), datetime.fromisoformat(sys.argv[2])):
        sys.stdout.write(line + "\n")
