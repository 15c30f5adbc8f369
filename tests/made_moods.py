"""A market whose behaviour changes in the middle, and models by hand that like one of its two moods."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np

from tickless.adapters.folder_market import FolderMarket
from tickless.alpha.onnx_model import artifact_sha256
from tickless.bars import Panel
from tickless.features.rotation import MODEL_FEATURES
from tickless.learn.gates import GateDecision
from tickless.learn.onnx_export import export_onnx
from tickless.learn.training_run import TrainedModel, TrainingResult
from tickless.types import iso, to_ms

STEP = timedelta(minutes=15)
_LOOK_BACK = 24
"""Six hours of bars."""


def moody_market(start: datetime, turn: datetime, end: datetime, pairs: int = 8, seed: int = 1, pull_frac: float = 0.0004) -> FolderMarket:
    """Until ``turn`` what has risen over six hours goes on rising, by up to ``pull_frac`` a bar, and then falls back; below 0 the reverse.

    The whole market goes nowhere.
    """
    names = tuple(sorted(["BTC/USDT", *(f"C{n:02d}/USDT" for n in range(1, pairs))]))
    rows, turned = (end - start) // STEP, (turn - start) // STEP
    rng = np.random.default_rng(seed)
    level = np.zeros((rows + 1, pairs))
    for t in range(rows):
        risen = level[t] - level[max(0, t - _LOOK_BACK)]
        pull = pull_frac * np.tanh(risen / 0.01) * (1.0 if t < turned else -1.0)
        noise = 0.002 * rng.standard_normal(pairs)
        level[t + 1] = level[t] + pull - pull.mean() + noise - noise.mean() - 0.002 * level[t]
    price = 100.0 * np.exp(level)
    first, last = price[:-1], price[1:]
    volume = np.full((rows, pairs), 1e5)
    high, low = np.maximum(first, last) * 1.0005, np.minimum(first, last) * 0.9995
    return FolderMarket(Panel("15m", names, to_ms(start), first, high, low, last, volume), {})


class OneTree:
    """What ``export_onnx`` reads of a booster: one split."""

    def __init__(self, threshold: float, below: float, above: float, feature: int = MODEL_FEATURES.index("r_6h")) -> None:
        self._text = (
            f"tree\n\nTree=0\nnum_leaves=2\nsplit_feature={feature}\nthreshold={threshold}\ndecision_type=2\n"
            f"left_child=-1\nright_child=-2\nleaf_value={below} {above}\n\n\nend of trees\n"
        )

    def model_to_string(self, num_iteration: int | None = None) -> str:
        assert num_iteration is None
        return self._text


TASTES = {"follower": (0.0, -1.0, 2.0), "contrarian": (0.0, 2.0, -1.0), "blind": (1e9, 1.0, 1.0)}
"""Threshold of what has risen over six hours, and the forecasts below and above it."""


def a_version(taste: str, version: str, at: datetime, name: str = "rotation_6h", **changes: Any) -> TrainedModel:
    """A version by hand that may be used from ``at`` on, and that has passed its gates."""
    artifact = export_onnx(OneTree(*TASTES[taste]), MODEL_FEATURES)
    known = iso(at - timedelta(minutes=30))
    manifest = {
        "model": name,
        "version": version,
        "sha256": artifact_sha256(artifact),
        "features": list(MODEL_FEATURES),
        "horizon_h": 6.0 if name.endswith("6h") else 24.0,
        "label": "forward_return_over_volatility",
        "data_until": known,
        "label_until": known,
        "effective_at": iso(at),
        **changes,
    }
    return TrainedModel(name, version, manifest, artifact, GateDecision(True, ("made by hand",)))


def trained(*versions: TrainedModel) -> TrainingResult:
    """As if a night had trained them."""
    return TrainingResult(versions, {})
