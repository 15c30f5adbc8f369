"""Plain, net and gain labels; the triple barrier on bars made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from made_panels import MONDAY, rescaled, walk, without
from tickless.bars import Panel
from tickless.learn.labels import Labels, gain_labels, net_labels, plain_labels
from tickless.learn.triple_barrier import Barriers, barrier_labels, triple_barrier
from tickless.types import Side, to_ms

STEP = 900_000
ENTRY = (100.0, 100.0, 100.0, 100.0, 10.0)


def bars(*rows):
    """15m bars of one pair: a bar at which is decided, then these; (open, high, low, close, volume)."""
    values = np.asarray([ENTRY, *rows], dtype=np.float64).T[:, :, None]
    return Panel("15m", ("A/USDT",), to_ms(MONDAY), *values)


def ended(panel, barriers, side=Side.BUY):
    """(return, touched, bars read) of the trade decided at the first bar."""
    outcome = triple_barrier(panel, np.ones(panel.open.shape), barriers, side)
    read = (outcome.end_ms[0, 0] - outcome.start_ms[0]) // STEP
    return outcome.plain[0, 0], int(outcome.touched[0, 0]), int(read)


FIVE = Barriers(0.05, 0.05, 3)
CALM = (100.0, 101.0, 99.0, 100.0, 10.0)


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([CALM, (100, 105.1, 99, 104, 10), CALM, CALM], (0.05, 1, 2)),
        ([CALM, (100, 105.0, 99, 104, 10), CALM, (101, 101, 101, 101, 10)], (0.01, 0, 4)),  # a touch is not a trade through
        ([CALM, (100, 101, 95.0, 96, 10), CALM, CALM], (-0.05, -1, 2)),  # a stop is hit by a touch
        ([CALM, (100, 110, 90, 100, 10), CALM, CALM], (-0.05, -1, 2)),  # both inside one bar: the stop
        ([CALM, (90, 91, 89, 90, 10), CALM, CALM], (-0.10, -1, 2)),  # a gap past the stop costs the open
        ([CALM, (120, 121, 119, 120, 10), CALM, CALM], (0.05, 1, 2)),  # a gap past the take-profit still fills at it
        ([CALM, (100, 110, 90, 100, 0.0), CALM, (98, 98, 98, 98, 10)], (-0.02, 0, 4)),  # nothing traded inside that bar
        ([(100, 106, 99, 100, 10), CALM, CALM, CALM], (0.05, 1, 1)),  # the bar that is entered counts
        ([CALM, CALM, CALM, (94, 120, 80, 100, 10)], (-0.06, 0, 4)),  # time is over at an open: what comes inside is too late
    ],
)
def test_which_barrier_ends_a_long_trade(rows, found):
    gained, touched, read = ended(bars(*rows), FIVE)
    assert (round(gained, 9), touched, read) == found


def test_a_short_trade_is_the_mirror_of_a_long_one():
    assert ended(bars(CALM, (100, 101, 94.9, 96, 10), CALM, CALM), FIVE, Side.SELL) == (pytest.approx(0.05), 1, 2)
    assert ended(bars(CALM, (100, 105, 99, 96, 10), CALM, CALM), FIVE, Side.SELL) == (pytest.approx(-0.05), -1, 2)
    assert ended(bars(CALM, (110, 111, 109, 110, 10), CALM, CALM), FIVE, Side.SELL) == (pytest.approx(-0.10), -1, 2)
    assert ended(bars(CALM, CALM, CALM, (98, 98, 98, 98, 10)), FIVE, Side.SELL) == (pytest.approx(0.02), 0, 4)


def test_a_trade_that_ended_before_the_bars_did_is_known_and_one_that_did_not_is_not():
    assert ended(bars(CALM, (100, 105.1, 99, 104, 10)), FIVE) == (pytest.approx(0.05), 1, 2)
    assert np.isnan(ended(bars(CALM, CALM, CALM), FIVE)[0])


def test_a_barrier_may_be_missing():
    rows = [CALM, (100, 110, 90, 100, 10), CALM, (97, 97, 97, 97, 10)]
    assert ended(bars(*rows), Barriers(np.inf, 0.05, 3))[1] == -1
    assert ended(bars(*rows), Barriers(0.05, np.inf, 3))[1] == 1
    assert ended(bars(*rows), Barriers(np.inf, np.inf, 3)) == (pytest.approx(-0.03), 0, 4)
    with pytest.raises(ValueError, match="away from the entry"):
        Barriers(0.05, 0.0, 3)


def test_barriers_are_multiples_of_what_was_known_at_the_decision():
    panel = walk(("A/USDT", "B/USDT"), 300, seed=5)
    unit = np.where(np.arange(300)[:, None] % 2 == 0, 0.01, 0.02) * np.ones((300, 2))
    outcome = triple_barrier(panel, unit, Barriers(1.5, 1.0, 40))
    for touched, share in ((1, 1.5), (-1, -1.0)):
        rows = outcome.touched == touched
        rows &= ~np.isnan(outcome.plain)
        assert rows.sum() > 50
        bound = share * unit[rows]
        assert (outcome.plain[rows] <= bound + 1e-12).all()
        assert np.isclose(outcome.plain[rows], bound).mean() > 0.9
    unit[7, 0] = np.nan
    assert np.isnan(triple_barrier(panel, unit, Barriers(1.5, 1.0, 40)).plain[7, 0])


def test_only_decisions_of_the_mask_have_an_outcome():
    panel = walk(("A/USDT", "B/USDT"), 60, seed=6)
    chosen = np.zeros((60, 2), dtype=bool)
    chosen[[5, 9], [0, 1]] = True
    some = triple_barrier(panel, np.ones((60, 2)), FIVE, decided=chosen)
    every = triple_barrier(panel, np.ones((60, 2)), FIVE)
    assert np.argwhere(~np.isnan(some.plain)).tolist() == [[5, 0], [9, 1]]
    assert some.plain[5, 0] == every.plain[5, 0]
    assert some.end_ms[9, 1] == every.end_ms[9, 1]


def test_a_trade_across_a_new_price_scale_has_no_outcome_and_one_that_ended_before_has():
    panel = walk(("A/USDT",), 80, seed=7)
    silent = without(panel, "A/USDT", 37, 40)
    broken = rescaled(silent, "A/USDT", 40, 1000.0)
    unit = np.full((80, 1), 0.004)
    before, after = (triple_barrier(one, unit, Barriers(1.0, 1.0, 20)) for one in (silent, broken))
    rows = np.arange(16, 36)
    last_read = (before.end_ms[rows, 0] - panel.start_ms) // STEP - 1
    across = last_read >= 40
    assert across.any()
    assert not across.all()
    assert np.isnan(after.plain[rows[across], 0]).all()
    assert np.array_equal(after.plain[rows[~across]], before.plain[rows[~across]])


def test_classes_of_an_outcome():
    panel = walk(("A/USDT", "B/USDT"), 400, seed=8)
    outcome = triple_barrier(panel, np.full((400, 2), 0.01), Barriers(1.0, 1.0, 12))
    known = ~np.isnan(outcome.plain)
    touch, win = barrier_labels(outcome, "touch"), barrier_labels(outcome, "win", 0.0023)
    assert np.array_equal(np.isnan(touch.target), ~known)
    assert set(touch.target[known]) == {0.0, 1.0, 2.0}
    assert (touch.target[known] == outcome.touched[known] + 1).all()
    assert np.array_equal(win.target[known], (outcome.plain[known] > 0.0023).astype(float))
    assert np.array_equal(win.end_ms, outcome.end_ms)


def test_net_and_gain_labels_are_the_forward_return_after_cost():
    panel = walk(("A/USDT", "B/USDT"), 50, seed=9)
    plain = plain_labels(panel, 1.0)
    known = ~np.isnan(plain.plain)
    assert np.array_equal(plain.target, plain.plain, equal_nan=True)
    assert (plain.scale == 1.0).all()
    net, gain = net_labels(panel, 1.0, 0.002), gain_labels(panel, 1.0, 0.002)
    assert np.array_equal(net.target[known], plain.plain[known] - 0.002)
    assert np.array_equal(net.plain, plain.plain, equal_nan=True)
    assert np.array_equal(gain.target[known], (plain.plain[known] > 0.002).astype(float))
    assert np.isnan(gain.target[~known]).all()
    assert (plain.end_ms[:, 1] - plain.start_ms == 5 * STEP).all()


def test_labels_refuse_arrays_that_do_not_belong_together():
    panel = walk(("A/USDT",), 20)
    labels = plain_labels(panel, 1.0)
    with pytest.raises(ValueError, match="plain has shape"):
        replace(labels, plain=labels.plain[1:])
    with pytest.raises(ValueError, match="start_ms has shape"):
        Labels(labels.target, labels.plain, labels.scale, labels.start_ms[1:], labels.end_ms)
