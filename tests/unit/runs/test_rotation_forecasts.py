"""Forecasts made for a whole range are those that each tick would make for itself, on the rebalances' grid and off it."""

from datetime import timedelta

import lightgbm
import numpy as np
import pytest

from made_panels import MONDAY, walk
from tickless.adapters.memory_models import MemoryModelStore
from tickless.alpha.onnx_model import artifact_sha256
from tickless.features.rotation import MODEL_FEATURES
from tickless.learn.onnx_export import export_onnx
from tickless.ports import Promotion
from tickless.runs.rotation_history import RotationHistory
from tickless.settings import load_desk
from tickless.types import iso

PAIRS = ("BTC/USDT", "ETH/USDT", "PEPE/USDT")
DAYS = 24
START = MONDAY + timedelta(days=9, minutes=45)


@pytest.fixture(scope="module")
def models():
    """A store with a champion for each horizon, usable from the first bar on."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((900, len(MODEL_FEATURES))).astype(np.float32) * 0.02
    store = MemoryModelStore()
    for name, horizon_h in (("rotation_6h", 6), ("rotation_24h", 24)):
        y = x[:, horizon_h % 5] + 0.1 * rng.standard_normal(len(x))
        params = {"num_leaves": 7, "min_data_in_leaf": 20, "verbosity": -1, "num_threads": 1, "seed": 5}
        artifact = export_onnx(lightgbm.train(params, lightgbm.Dataset(x, label=y), num_boost_round=12), MODEL_FEATURES)
        times = dict.fromkeys(("data_until", "label_until", "effective_at"), iso(MONDAY))
        manifest = {
            "model": name,
            "version": "v1",
            "sha256": artifact_sha256(artifact),
            "features": list(MODEL_FEATURES),
            "label": "forward_return_over_volatility",
            "horizon_h": horizon_h,
            **times,
        }
        store.register(name, "v1", manifest, artifact)
        store.promote(name, Promotion("v1", MONDAY, MONDAY, "made for a test"))
    return store


@pytest.mark.parametrize("every_min", [15, 30, 60])
def test_a_range_and_its_ticks_forecast_the_same_bits(models, every_min):
    settings = load_desk("rotation", [f"schedule.rebalance_every_min={every_min}", "training.max_model_age_days=60"])
    panel = walk(PAIRS, DAYS * 96, seed=2, price=(60_000.0, 3_000.0, 1e-5))
    whole = RotationHistory(panel, PAIRS, settings, START, models)
    # On and off the grid, forth and back, over the edge of what is forecast at once.
    steps = [0, 1, 2, 3, 671, 672, 673, 670, 1, 1340, 1343, 1344]
    for at in (START + timedelta(minutes=15 * step) for step in steps):
        alone = RotationHistory(panel.between(RotationHistory.strategy.first_bar(settings, at), at), PAIRS, settings, at, models).view(at)
        view = whole.view(at)
        assert sorted(view.forecasts) == ["rotation_24h", "rotation_6h"]
        for name, values in alone.forecasts.items():
            assert np.isfinite(values).all()
            assert np.array_equal(values, view.forecasts[name]), (name, at)
