from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from made_panels import rescaled, without
from tickless.errors import DataError
from tickless.learn.dataset import build_samples, cut, split_by_time
from tickless.learn.labels import build_labels, forward_return, horizon_bars

HOUR = 3_600_000


def test_a_label_is_the_return_between_the_two_opens_the_desk_could_trade_at(market):
    table, panel = market(1, 0.0, days=3, pairs=2)
    labels = build_labels(panel, table.feature("rv_24h"), 6.0, 5.0)
    t = 10
    assert labels.plain[t, 1] == panel.open[17, 1] / panel.open[11, 1] - 1.0
    assert labels.start_ms[t] == panel.open_times_ms[11]
    assert labels.end_ms[t, 1] == panel.open_times_ms[18]
    assert np.isnan(labels.plain[-7:]).all()
    assert not np.isnan(labels.plain[:-7]).any()


def test_a_label_changes_with_the_bars_of_its_interval_and_with_no_other(market):
    table, panel = market(2, 0.0, days=3, pairs=2)
    rv = table.feature("rv_24h")
    t = 20
    before = build_labels(panel, rv, 6.0, 5.0)
    for row in range(panel.rows):
        price = panel.open.copy()
        price[row] *= 1.5
        after = build_labels(replace(panel, open=price), rv, 6.0, 5.0)
        inside = before.start_ms[t] <= panel.open_times_ms[row] < before.end_ms[t, 0]
        if after.plain[t, 0] != before.plain[t, 0]:
            assert inside
        if row in (t + 1, t + 7):
            assert after.plain[t, 0] != before.plain[t, 0]
        assert panel.open_times_ms[row] + panel.step_ms <= before.end_ms[t, 0] or not inside


def test_a_missing_open_gives_no_label(market):
    table, panel = market(3, 0.0, days=2, pairs=2)
    price = panel.open.copy()
    price[15, 0] = np.nan
    labels = build_labels(replace(panel, open=price), table.feature("rv_24h"), 6.0, 5.0)
    assert np.flatnonzero(np.isnan(labels.target[:-7, 0])).tolist() == [8, 14]
    assert not np.isnan(labels.target[:-7, 1]).any()


@pytest.mark.parametrize(("gap", "ratio"), [(1, 1000.0), (3, 0.001), (24, 3.0)])
def test_a_label_whose_window_crosses_a_new_price_scale_is_no_label(market, gap, ratio):
    table, plain = market(3, 0.0, days=4, pairs=2)
    first, row, bars = plain.pairs[0], 50, 6
    silent = without(plain, first, row - gap, row)
    broken = rescaled(silent, first, row, ratio)
    before, after = forward_return(silent, bars), forward_return(broken, bars)
    # Decided up to the last bar before the break, and ending at its open or later.
    crossing = np.arange(row - 1 - bars, row)
    assert np.isnan(after[crossing, 0]).all()
    rest = np.setdiff1d(np.arange(plain.rows), crossing)
    np.testing.assert_allclose(after[rest], before[rest], rtol=1e-12, atol=1e-15)
    assert np.array_equal(after[:, 1], before[:, 1], equal_nan=True)
    samples = build_samples(table, build_labels(broken, table.feature("rv_24h"), 6.0, 5.0), 60)
    decided = samples.start_ms[samples.pair == 0]
    assert not np.isin(plain.open_times_ms[crossing] + plain.step_ms, decided).any()
    assert len(decided) > 20


def test_a_crash_while_trading_goes_on_is_a_label(market):
    _, panel = market(3, 0.0, days=4, pairs=1)
    assert forward_return(rescaled(panel, panel.pairs[0], 50, 0.2), 6)[48, 0] < -0.7


def test_scaled_labels_are_clipped_and_plain_ones_are_not(market):
    table, panel = market(4, 0.0, days=2, pairs=1)
    price = panel.open.copy()
    price[20] *= 3.0
    labels = build_labels(replace(panel, open=price), table.feature("rv_24h"), 1.0, 5.0)
    assert labels.target[18, 0] == 5.0
    assert labels.plain[18, 0] > 1.5
    assert labels.target[19, 0] == -5.0


def test_a_horizon_must_be_whole_bars():
    assert horizon_bars(6.0, 900_000) == 24
    with pytest.raises(DataError, match="whole number of bars"):
        horizon_bars(0.4, 3_600_000)
    assert np.isnan(forward_return_of_nothing()).all()


def forward_return_of_nothing():
    from tickless.bars import Panel

    columns = [np.ones((3, 1)) for _ in range(5)]
    return forward_return(Panel("1h", ("A/B",), 0, *columns), 6)


def test_samples_hold_no_nan_and_lie_on_the_grid(market):
    table, panel = market(5, 0.0, days=4, pairs=3)
    values = table.values.copy()
    values[10, 1, 4] = np.nan
    values[11, 2, 0] = np.inf
    table = replace(table, values=values)
    samples = build_samples(table, build_labels(panel, table.feature("rv_24h"), 6.0, 5.0), 120)
    assert np.isfinite(samples.x).all()
    assert np.isfinite(samples.y).all()
    assert (samples.start_ms % (120 * 60_000) == 0).all()
    assert (np.diff(samples.start_ms) >= 0).all()
    key = set(zip(((samples.start_ms - panel.start_ms) // HOUR - 1).tolist(), samples.pair.tolist(), strict=True))
    assert (11, 0) in key
    assert (11, 2) not in key
    assert (10, 0) not in key
    np.testing.assert_allclose(samples.y, samples.plain / samples.scale)


def test_a_cut_purges_every_label_that_reaches_over_it(market):
    table, panel = market(6, 0.0, days=10, pairs=2)
    samples = build_samples(table, build_labels(panel, table.feature("rv_24h"), 6.0, 5.0), 60)
    at = panel.start_ms + 100 * HOUR
    before, after = cut(samples, at, 6 * HOUR)
    assert before.end_ms.max() == at - 6 * HOUR
    assert after.start_ms.min() == at


def test_the_slices_follow_one_another(market):
    table, panel = market(7, 0.0, days=30, pairs=2)
    samples = build_samples(table, build_labels(panel, table.feature("rv_24h"), 6.0, 5.0), 60)
    split = split_by_time(samples, 0.2, 0.2, 6 * HOUR)
    assert split.train.end_ms.max() + 6 * HOUR <= split.inner.start_ms.min()
    assert split.inner.end_ms.max() + 6 * HOUR <= split.validation.start_ms.min()
    assert split.fit.end_ms.max() == split.inner.end_ms.max()
    assert len(split.validation) == pytest.approx(0.2 * len(samples), rel=0.02)


def test_the_data_hash_sees_every_array(market):
    table, panel = market(8, 0.0, days=4, pairs=2)
    samples = build_samples(table, build_labels(panel, table.feature("rv_24h"), 6.0, 5.0), 60)
    for name in ("x", "y", "plain", "start_ms"):
        changed = getattr(samples, name).copy()
        changed.flat[3] += 1
        assert replace(samples, **{name: changed}).sha256 != samples.sha256
    assert replace(samples, features=samples.features[::-1]).sha256 != samples.sha256
