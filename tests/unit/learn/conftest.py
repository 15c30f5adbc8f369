"""A small market whose signal is known, and a small model made of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from tickless.alpha.onnx_model import artifact_sha256
from tickless.bars import Panel
from tickless.features.rotation import MODEL_FEATURES
from tickless.features.table import FeatureTable
from tickless.learn.onnx_export import export_onnx
from tickless.types import to_ms

START = datetime(2024, 1, 1, tzinfo=UTC)
Market = tuple[FeatureTable, Panel]


def make_market(seed: int, strength: float, days: int = 60, pairs: int = 30) -> Market:
    """Hourly bars whose next return is ``strength`` standard deviations times a slow feature (``r_6h``), plus noise and a common factor.

    The other features are noise; ``rv_24h`` is the true volatility. Row t's features are known at the close of bar t.
    """
    rng = np.random.default_rng(seed)
    rows = days * 24
    values = rng.standard_normal((rows, pairs, len(MODEL_FEATURES)))
    signal = np.zeros((rows, pairs))
    for t in range(1, rows):
        signal[t] = 0.95 * signal[t - 1] + np.sqrt(1.0 - 0.95**2) * rng.standard_normal(pairs)
    hourly = np.linspace(0.006, 0.012, pairs)
    values[:, :, MODEL_FEATURES.index("r_6h")] = signal
    values[:, :, MODEL_FEATURES.index("rv_24h")] = hourly * np.sqrt(24.0)
    shocks = np.sqrt(0.7) * rng.standard_normal((rows, pairs)) + np.sqrt(0.3) * rng.standard_normal((rows, 1))
    # The return from open[t+1] to open[t+2] is driven by what is known at the close of bar t.
    steps = hourly * shocks
    steps[2:] += hourly * strength * signal[:-2]
    steps[0] = 0.0
    price = 100.0 * np.exp(np.cumsum(np.vstack([steps[:1], steps[1:]]), axis=0))
    close = np.vstack([price[1:], price[-1:]])
    names = tuple(f"P{n:02d}/USDT" for n in range(pairs))
    high, low = np.maximum(price, close), np.minimum(price, close)
    panel = Panel("1h", names, to_ms(START), price, high, low, close, np.full(price.shape, 1e6))
    return FeatureTable("1h", names, MODEL_FEATURES, to_ms(START), values), panel


@pytest.fixture(scope="session")
def market() -> Callable[..., Market]:
    return make_market


@pytest.fixture(scope="session")
def booster() -> Any:
    """A LightGBM model of three features, trained on a few hundred float32 rows."""
    import lightgbm

    rng = np.random.default_rng(7)
    x = np.round(rng.standard_normal((600, 3)), 1).astype(np.float32)
    y = x[:, 0] - 2.0 * (x[:, 1] > 0.3) + 0.1 * rng.standard_normal(600)
    params = {"objective": "regression", "num_leaves": 15, "min_data_in_leaf": 5, "verbosity": -1, "num_threads": 1, "deterministic": True}
    return lightgbm.train(params, lightgbm.Dataset(x, label=y), num_boost_round=40)


@pytest.fixture(scope="session")
def artifact(booster: Any) -> bytes:
    return export_onnx(booster, ("a", "b", "c"))


@pytest.fixture
def manifest(artifact: bytes) -> dict[str, Any]:
    return {
        "model": "rotation_6h",
        "version": "20240601T0210Z",
        "sha256": artifact_sha256(artifact),
        "features": ["a", "b", "c"],
        "horizon_h": 6.0,
        "label": "forward_return_over_volatility",
        "data_until": "2024-06-01T02:00:00Z",
        "label_until": "2024-06-01T02:00:00Z",
        "effective_at": "2024-06-01T02:30:00Z",
    }
