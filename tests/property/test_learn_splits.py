"""No label that a model is fitted on sees the slice that judges it, whatever the window, sampling, horizon or gaps."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tickless.bars import Panel
from tickless.features.table import FeatureTable
from tickless.learn.dataset import build_samples, hold_out_calibration, less_tick_mean, split_by_time
from tickless.learn.labels import build_labels
from tickless.learn.onnx_export import exact_threshold, round_down

HOUR = 3_600_000


@settings(max_examples=60)
@given(
    rows=st.integers(30, 400),
    horizon_h=st.sampled_from([1, 2, 6, 24]),
    sample_every_min=st.sampled_from([60, 120, 240]),
    extra_h=st.integers(0, 12),
    validation_frac=st.floats(0.05, 0.45),
    inner_frac=st.floats(0.05, 0.45),
    offset=st.integers(0, 1000),
    missing=st.floats(0.0, 0.6),
    seed=st.integers(0, 2**16),
)
def test_slices_never_share_time(rows, horizon_h, sample_every_min, extra_h, validation_frac, inner_frac, offset, missing, seed):
    rng = np.random.default_rng(seed)
    price = np.where(rng.random((rows, 3)) < missing, np.nan, rng.uniform(90, 110, (rows, 3)))
    panel = Panel("1h", ("A/B", "C/B", "D/B"), offset * HOUR, price, price, price, price, price)
    values = np.where(np.isnan(price)[:, :, None], np.nan, rng.standard_normal((rows, 3, 2)))
    table = FeatureTable("1h", panel.pairs, ("a", "b"), panel.start_ms, values)
    samples = build_samples(table, build_labels(panel, np.full(price.shape, 0.04), horizon_h, 5.0), sample_every_min)
    embargo = (horizon_h + extra_h) * HOUR
    split = split_by_time(samples, validation_frac, inner_frac, embargo)
    for before, after in ((split.train, split.inner), (split.inner, split.validation), (split.fit, split.validation)):
        if len(before) and len(after):
            assert before.end_ms.max() + embargo <= after.start_ms.min()
    assert len(split.train) + len(split.inner) <= len(split.fit)
    assert len(split.fit) + len(split.validation) <= len(samples)
    assert (samples.end_ms <= panel.end_ms).all()
    calibrated = hold_out_calibration(split, inner_frac, inner_frac, embargo)
    parts = (calibrated.train, calibrated.inner, calibrated.calibration, calibrated.validation)
    for before, after in (*pairwise(parts), (calibrated.fit, calibrated.calibration)):
        if len(before) and len(after):
            assert before.end_ms.max() + embargo <= after.start_ms.min()
    relative = less_tick_mean(samples)
    assert np.abs(np.bincount(relative.start_ms // HOUR, weights=relative.y)).max(initial=0.0) < 1e-9
    cut_first = split_by_time(relative, validation_frac, inner_frac, embargo)
    for first, later in ((cut_first.fit, split.fit), (cut_first.validation, split.validation), (cut_first.inner, split.inner)):
        np.testing.assert_array_equal(first.y, less_tick_mean(later).y)


@given(
    st.floats(allow_nan=False, allow_infinity=False, min_value=-3e38, max_value=3e38),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
)
def test_a_rounded_threshold_decides_as_the_exact_one(threshold, value):
    down = round_down(threshold)
    assert float(np.float32(down)) == down
    assert (value <= threshold) == (value <= down)
    beside = np.float32(down)
    for near in (beside, np.nextafter(beside, np.float32(np.inf)), np.nextafter(beside, np.float32(-np.inf))):
        assert (float(near) <= threshold) == (float(near) <= down)
        read = 0.0 if abs(float(near)) <= float(np.float32(1e-35)) else float(near)
        assert (read <= threshold) == (float(near) <= exact_threshold(threshold))
