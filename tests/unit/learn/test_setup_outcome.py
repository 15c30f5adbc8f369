"""Set-ups on bars made by hand; the rest is in ``tests/property/test_setup_fills.py``."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from made_panels import MONDAY
from tickless.bars import Panel
from tickless.learn.dataset import build_samples, cut
from tickless.learn.leak_checks import check_labels
from tickless.learn.setup_outcome import SetupRules, Setups, setup_labels, setup_outcome
from tickless.settings import ExecutionSection
from tickless.types import to_ms

STEP = 900_000
COSTS = ExecutionSection(taker_fee_bps=30.0, maker_fee_bps=20.0, slippage_bps=15.0)
CALM = (100.0, 101.0, 99.0, 100.0, 10.0)
MISSING = (np.nan,) * 5


def given_up(entry, leave):
    """One set-up without stop and take-profit that the strategy gives up at the close of bar ``leave``."""
    return replace(one(entry, np.nan, np.nan), leave=np.asarray([leave], np.intp))


def bars(*rows):
    values = np.asarray([CALM, *rows], dtype=np.float64).T[:, :, None]
    return Panel("15m", ("A/USDT",), to_ms(MONDAY), *values)


def one(entry, take_profit, stop, share=None):
    """One set-up, decided at the first bar."""
    orders = np.asarray([entry], dtype=np.float64)
    shares = np.ones(orders.shape) if share is None else np.asarray([share], dtype=np.float64)
    return Setups(np.zeros(1, np.intp), np.zeros(1, np.intp), orders, shares, np.asarray([float(take_profit)]), np.asarray([float(stop)]))


def ended(panel, setups, rules):
    """(net, how, bars read, share entered)."""
    outcome = setup_outcome(panel, setups, rules, COSTS)
    read = (outcome.end_ms[0] - panel.start_ms) // STEP - 1
    return float(outcome.net[0]), int(outcome.how[0]), int(read), float(outcome.entered[0])


def test_fees_and_slippage_are_charged_on_both_sides():
    net, how, read, entered = ended(bars(CALM, CALM, (104, 111, 104, 110, 10)), one([np.nan], 0.10, 0.05), SetupRules(1, 10, "distance"))
    bought = 100.0 * 1.0015
    # The take-profit is a limit order: it lies 10 % above what was paid, pays no slippage and the maker's fee.
    sold = bought * 1.10
    assert net == pytest.approx((sold * (1 - 0.0020) - bought * (1 + 0.0030)) / bought)
    assert (how, read, entered) == (1, 3, 1.0)


def test_a_stop_costs_slippage_and_the_takers_fee():
    net, how, read, _ = ended(bars(CALM, (100, 100, 94, 95, 10)), one([np.nan], 110.0, 95.0), SetupRules(1, 10, "price"))
    bought, sold = 100.0 * 1.0015, 95.0 * (1 - 0.0015)
    assert net == pytest.approx((sold * (1 - 0.0030) - bought * (1 + 0.0030)) / bought)
    assert (how, read) == (-1, 2)


def test_a_grid_is_left_from_the_average_of_what_filled_only():
    """Two of three levels fill. A label that filled all levels the path ever touched would have bought at 90, after the exit."""
    panel = bars(CALM, (100, 100, 97.5, 98, 10), (98, 98, 95.5, 96, 10), (97, 108, 97, 107, 10), (107, 107, 80, 85, 10))
    net, how, read, entered = ended(panel, one([98.0, 96.0, 90.0], 0.10, 0.20), SetupRules(8, 20, "distance"))
    average = 97.0
    assert net == pytest.approx((average * 1.10 * (1 - 0.0020) - average * (1 + 0.0020)) / average)
    assert (how, read) == (1, 4)
    assert entered == pytest.approx(2 / 3)


def test_a_limit_that_is_never_met_gives_no_outcome():
    net, how, _, entered = ended(bars(CALM, CALM, (100, 100, 80, 90, 10), CALM), one([98.0], 110.0, 70.0), SetupRules(2, 5, "price"))
    assert np.isnan(net)
    assert (how, entered) == (0, 0.0)


def test_what_is_to_be_sold_when_the_time_is_over_is_sold_at_the_market_even_when_bars_were_missing():
    """Placed while no bar was there, the take-profit still waits for an open when the time ends: it is cancelled before it sees one."""
    panel = bars(CALM, (100, 100, 97, 99, 10), MISSING, MISSING, (120, 121, 119, 120, 10))
    net, how, read, _ = ended(panel, one([98.0], 0.10, 0.20), SetupRules(4, 2, "distance"))
    assert net == pytest.approx((120.0 * (1 - 0.0015) * (1 - 0.0030) - 98.0 * (1 + 0.0020)) / 98.0)
    assert (how, read) == (0, 5)
    waits = ended(panel, one([98.0], 0.10, 0.20), SetupRules(4, 9, "distance"))
    assert waits[0] == pytest.approx((120.0 * (1 - 0.0030) - 98.0 * (1 + 0.0020)) / 98.0)
    assert waits[1:3] == (1, 5)


def test_a_set_up_without_barriers_ends_with_its_time():
    net, how, read, _ = ended(bars(*[CALM] * 6), one([np.nan], np.nan, np.nan), SetupRules(1, 4, "price"))
    assert (how, read) == (0, 5)
    assert net == pytest.approx((100 * (1 - 0.0015) * (1 - 0.003) - 100.15 * 1.003) / 100.15)
    assert np.isnan(ended(bars(*[CALM] * 4), one([np.nan], np.nan, np.nan), SetupRules(1, 4, "price"))[0])


def many(seed=3, rows=600):
    """Set-ups after every tenth bar of three pairs."""
    from made_panels import walk

    panel = walk(("A/USDT", "B/USDT", "C/USDT"), rows, seed=seed)

    def setups(part):
        at = (part.start_ms - panel.start_ms) // STEP + np.arange(part.rows)
        row, pair = (index.ravel() for index in np.meshgrid(np.flatnonzero(at % 10 == 0), np.arange(3), indexing="ij"))
        some = np.ones((len(row), 1))
        return Setups(row, pair, np.nan * some, some, 0.02 * some[:, 0], 0.01 * some[:, 0])

    return panel, setups


def test_set_ups_become_samples_whose_labels_end_when_they_did():
    from tickless.features.table import FeatureTable

    panel, setups = many()
    rules = SetupRules(2, 48, "distance")

    def make(part):
        chosen = setups(part)
        return setup_labels(part, chosen, setup_outcome(part, chosen, rules, COSTS))

    labels = make(panel)
    assert check_labels(make, panel, labels, seed=1) > 20
    table = FeatureTable("15m", panel.pairs, ("c",), panel.start_ms, panel.close[:, :, None])
    samples = build_samples(table, labels, 15)
    assert 150 < len(samples) < 180
    assert set(samples.y) == {0.0, 1.0}
    assert ((samples.plain > 0.0) == (samples.y == 1.0)).all()
    assert len(set(samples.end_ms - samples.start_ms)) > 5
    before, _ = cut(samples, int(samples.start_ms[90]), 0)
    assert before.known_ms <= samples.start_ms[90]
    net = setup_labels(panel, setups(panel), setup_outcome(panel, setups(panel), rules, COSTS), "net")
    assert np.array_equal(net.target, net.plain, equal_nan=True)


def test_set_ups_that_do_not_belong_together_are_refused():
    panel, setups = many()
    chosen = setups(panel)
    with pytest.raises(ValueError, match="belong together"):
        Setups(chosen.row[1:], chosen.pair, chosen.entry, chosen.share, chosen.take_profit, chosen.stop)
    twice = Setups(*(np.concatenate([getattr(chosen, name)] * 2) for name in ("row", "pair", "entry", "share", "take_profit", "stop")))
    with pytest.raises(ValueError, match="share a bar and pair"):
        setup_labels(panel, twice, setup_outcome(panel, twice, SetupRules(2, 48, "distance"), COSTS))


def test_no_set_ups_have_no_outcome():
    panel, _ = many()
    empty = Setups(*(np.empty(0, np.intp),) * 2, *(np.empty((0, 1)),) * 2, *(np.empty(0),) * 2)
    outcome = setup_outcome(panel, empty, SetupRules(2, 48, "distance"), COSTS)
    assert len(outcome.net) == 0
    assert np.isnan(setup_labels(panel, empty, outcome).target).all()


def test_what_the_strategy_gives_up_is_sold_at_the_next_open():
    panel = bars(CALM, CALM, (104, 105, 103, 104, 10), (106, 107, 105, 106, 10))
    net, how, read, _ = ended(panel, given_up([np.nan], 2), SetupRules(1, 10, "distance"))
    bought, sold = 100.0 * 1.0015, 104.0 * (1 - 0.0015)
    assert net == pytest.approx((sold * (1 - 0.0030) - bought * (1 + 0.0030)) / bought)
    assert (how, read) == (0, 3)


def test_the_time_limit_comes_first_where_it_is_shorter():
    panel = bars(CALM, (102, 102, 102, 102, 10), CALM, CALM, CALM)
    assert ended(panel, given_up([np.nan], 3), SetupRules(1, 1, "distance"))[2] == 2


def test_an_entry_that_waits_is_cancelled_where_the_strategy_gives_up():
    panel = bars(CALM, CALM, (98, 99, 90, 95, 10), CALM)
    net, _, _, entered = ended(panel, given_up([97.0], 2), SetupRules(8, 10, "distance"))
    assert np.isnan(net)
    assert entered == 0.0
    assert ended(panel, given_up([97.0], 3), SetupRules(8, 10, "distance"))[3] == 1.0


def test_a_set_up_that_the_strategy_never_gives_up_ends_as_one_that_does_not_know_of_it():
    panel, rules = bars(CALM, CALM, CALM, CALM), SetupRules(1, 2, "distance")
    assert ended(panel, given_up([np.nan], panel.rows), rules) == ended(panel, one([np.nan], np.nan, np.nan), rules)
