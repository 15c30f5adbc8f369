"""The synthetic market: the same bits every run, plausible bars, no free lunch, and a signal as strong as asked for."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest

from tickless.adapters.bar_files import data_sha256
from tickless.adapters.fat_tails import fat_tails
from tickless.adapters.synthetic_coins import list_coins
from tickless.adapters.synthetic_market import STATES, make_market
from tickless.bars import COLUMNS
from tickless.errors import DataError
from tickless.settings import load_desk

START = datetime(2024, 1, 1, tzinfo=UTC)


def days(count):
    return START + timedelta(days=count)


@pytest.fixture(scope="module")
def market():
    return make_market(start=START, end=days(60))


def rank_ic(panel, bars):
    """Mean rank correlation over the pairs between the past and the next ``bars`` bars, windows not overlapping; and its error."""
    logs = np.log(panel.close)
    past, future = logs[bars:-bars] - logs[: -2 * bars], logs[2 * bars :] - logs[bars:-bars]
    ranks = [part[::bars].argsort(axis=1).argsort(axis=1).astype(float) for part in (past, future)]
    one, other = (part - part.mean(axis=1, keepdims=True) for part in ranks)
    values = (one * other).sum(axis=1) / np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    return float(values.mean()), float(values.std() / np.sqrt(len(values)))


def t_value(values):
    values = np.asarray(values)
    return float(values.mean() / values.std(ddof=1) * np.sqrt(len(values)))


def test_the_same_arguments_give_the_same_bits(market):
    again = make_market(start=START, end=days(60))
    assert data_sha256(again.panel) == data_sha256(market.panel)
    assert again.rules == market.rules
    assert data_sha256(make_market(start=START, end=days(60), seed=8).panel) != data_sha256(market.panel)


def test_bars_are_possible_and_on_the_exchange_steps(market):
    panel = market.panel
    assert panel.rows == 60 * 96
    assert panel.pairs == tuple(sorted(panel.pairs))
    here = ~np.isnan(panel.close)
    assert all((np.isnan(getattr(panel, name)) == ~here).all() for name in COLUMNS)
    assert (panel.low[here] > 0).all()
    assert (panel.high[here] >= np.maximum(panel.open, panel.close)[here]).all()
    assert (panel.low[here] <= np.minimum(panel.open, panel.close)[here]).all()
    assert (panel.volume[here] >= 0).all()
    for pair in ("BTC/USDT", "PEPE/USDT", "DOGE/USDT"):
        n, rules = panel.column[pair], market.rules[pair]
        assert rules.min_notional == Decimal(5)
        for row in range(0, panel.rows, 500):
            if here[row, n]:
                assert Decimal(repr(float(panel.close[row, n]))) % rules.price_step == 0
                assert Decimal(repr(float(panel.volume[row, n]))) % rules.qty_step == 0


def test_a_bar_opens_where_the_last_one_closed_give_or_take_a_small_gap(market):
    panel = market.panel
    gap = np.abs(panel.open[1:] / panel.close[:-1] - 1)
    gap = gap[np.isfinite(gap)]
    assert (gap == 0).mean() > 0.8
    assert 0 < gap.max() < 0.02


def test_names_cover_every_tier_and_none():
    universe = load_desk("rotation").universe
    bases = {coin.base for coin in list_coins(24, 7)}
    assert "BTC" in bases
    assert min(len(bases & set(tier)) for tier in (universe.tier1, universe.tier2, universe.tier3)) >= 3
    assert bases - set(universe.tier1) - set(universe.tier2) - set(universe.tier3)
    prices = [coin.price for coin in list_coins(24, 7)]
    assert (min(prices), max(prices)) == (0.00001, 60_000.0)


def test_many_pairs_have_different_names():
    coins = list_coins(100, 7)
    assert len({coin.base for coin in coins}) == 100
    assert coins[:24] == list_coins(24, 7)


def test_listings_a_delisting_gaps_and_silence(market):
    here = ~np.isnan(market.panel.close)
    first, last = here.argmax(axis=0), here.shape[0] - here[::-1].argmax(axis=0)
    assert (first > 96).sum() == 3
    assert (last < here.shape[0]).sum() == 1
    runs = [int((~here[first[n] : last[n], n]).sum()) for n in range(24)]
    assert max(runs) == 20
    assert sum(1 for run in runs if 0 < run < 20) >= 3
    assert here[:, market.panel.column["BTC/USDT"]].all()
    silent = (market.panel.volume == 0).sum(axis=0)
    assert sorted(silent.tolist())[-2:] == [0, 36]


def test_a_flash_crash_that_recovers_and_a_wick_that_hits_all(market):
    panel = market.panel
    drop = panel.close[1:] / panel.close[:-1] - 1
    row, n = np.unravel_index(np.nanargmin(drop), drop.shape)
    assert drop[row, n] == pytest.approx(-0.4, abs=0.05)
    assert panel.close[row + 18, n] / panel.close[row, n] == pytest.approx(1, abs=0.1)
    wick = panel.low / np.minimum(panel.open, panel.close) - 1
    worst = np.nanmedian(wick, axis=1)
    assert worst.min() == pytest.approx(-0.1, abs=0.03)
    assert np.sort(worst)[1] > -0.02


def test_without_events_every_bar_is_there():
    panel = make_market(start=START, end=days(20), events=False).panel
    assert np.isfinite(panel.close).all()
    assert (panel.volume > 0).all()


def test_tails_are_fat_volatility_clusters_and_volume_follows(market):
    panel = make_market(start=START, end=days(120), events=False).panel
    returns = np.diff(np.log(panel.close), axis=0)
    standard = (returns - returns.mean(axis=0)) / returns.std(axis=0)
    assert ((standard**4).mean(axis=0) > 5).all()
    size = np.abs(standard)
    for lag in (1, 24):
        clustering = [np.corrcoef(size[lag:, n], size[:-lag, n])[0, 1] for n in range(24)]
        assert np.mean(clustering) > 0.03
    with_volume = [np.corrcoef(size[:, n], np.log(panel.volume[1:, n]))[0, 1] for n in range(24)]
    assert min(with_volume) > 0.2
    together = np.corrcoef(returns.T)[np.triu_indices(24, 1)]
    assert 0.1 < np.median(together) < 0.8


def test_all_states_are_visited_and_look_like_their_names():
    market = make_market(start=START, end=days(400), pairs=1, timeframe="1h", events=False)
    returns = np.diff(np.log(market.panel.close[:, 0]))
    up = {name: float((returns[market.states[1:] == k] > 0).mean()) for k, name in enumerate(STATES)}
    assert up["trend"] > up["chop"] > up["down"]


def test_the_noise_has_the_moments_it_claims():
    noise = fat_tails()
    drawn = noise.draw(np.random.default_rng(5), (400_000,))
    assert drawn.mean() == pytest.approx(0, abs=0.005)
    assert drawn.var() == pytest.approx(1, abs=0.02)
    for sigma in (0.001, 0.02, 0.2):
        exact = np.exp(noise.cumulant(np.array([sigma])))[0]
        error = np.exp(sigma * drawn).std() / np.sqrt(len(drawn))
        assert np.exp(sigma * drawn).mean() == pytest.approx(exact, abs=4 * error)
    assert noise.cumulant(np.array([0.0]))[0] == 0


def test_the_expected_return_is_zero_overall_and_within_each_state():
    """t-tests over independent markets; with fixed seeds they cannot flicker."""
    overall, held, by_state = [], [], {k: [] for k in range(len(STATES))}
    for seed in range(150):
        market = make_market(pairs=6, start=START, end=days(60), timeframe="1h", seed=seed, events=False)
        close = market.panel.close
        returns = close[1:] / close[:-1] - 1
        overall.append(returns.mean())
        held.append((close[-1] / close[0]).mean() - 1)
        for state, sums in by_state.items():
            sums.append(returns[market.states[1:] == state].sum())
    assert abs(t_value(overall)) < 2.5
    assert abs(t_value(held)) < 2.5
    assert all(abs(t_value(sums)) < 2.5 for sums in by_state.values())
    # The test has the power to see a drift that would matter: 30 % a year.
    assert t_value(np.asarray(overall) + 0.3 / (365 * 24)) > 2.5


@pytest.mark.parametrize("asked", [0.0, 0.05, 0.1, -0.1])
def test_the_planted_signal_has_the_strength_asked_for(asked):
    found = [
        rank_ic(make_market(pairs=60, start=START, end=days(60), seed=seed, signal_ic=asked, events=False).panel, 24) for seed in range(3)
    ]
    mean, error = np.mean([ic for ic, _ in found]), np.sqrt(sum(error**2 for _, error in found)) / 3
    assert error < 0.006
    assert mean == pytest.approx(asked, abs=3 * error)


def test_the_signal_adds_nothing_to_the_whole():
    gains = []
    for seed in range(60):
        plain, planted = (
            make_market(pairs=12, start=START, end=days(30), timeframe="1h", seed=seed, signal_ic=ic, events=False).panel
            for ic in (0.0, 0.2)
        )
        gains.append(np.diff(np.log(planted.close), axis=0).mean() - np.diff(np.log(plain.close), axis=0).mean())
    assert abs(np.mean(gains)) * 365 * 24 < 0.001


@pytest.mark.parametrize("timeframe", ["1m", "5m", "1h", "4h", "1d"])
def test_other_timeframes(timeframe):
    market = make_market(pairs=5, start=START, end=days(3 if timeframe in ("1m", "5m") else 60), timeframe=timeframe, signal_ic=0.05)
    assert market.panel.timeframe == timeframe
    assert market.panel.end == days(3 if timeframe in ("1m", "5m") else 60)


def test_one_pair_and_one_bar_will_do():
    market = make_market(pairs=1, start=START, end=START + timedelta(minutes=15), signal_ic=0.05)
    assert (market.panel.pairs, market.panel.rows) == (("BTC/USDT",), 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pairs": 0}, "pairs 0: a market needs at least one"),
        ({"end": START}, "no 15m bar opens between"),
        ({"signal_ic": 0.5}, "signal_ic 0.5: must lie between"),
        ({"signal_ic": float("nan")}, "signal_ic nan"),
        ({"timeframe": "7m"}, "timeframe '7m': unknown"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(DataError, match=message):
        make_market(**({"start": START, "end": days(1)} | arguments))
