"""Bars of the desk: fetched by whoever needs them first, repaired, never overwritten, shared."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from made_world import D, World, at, make_panel, steady
from tickless.adapters.folder_market import FolderMarket
from tickless.adapters.memory import MemoryBarStore
from tickless.bars import COLUMNS
from tickless.errors import ExchangeError, RateLimitedError, RetryableError, SettingsError
from tickless.runs.desk_strategies import extra_pairs, history_start
from tickless.runs.gather import REFETCH_BARS, held_closes, needed_pairs, refresh_bars, universe_pairs
from tickless.settings import UniverseSection, load_desk

A, B = "AAA/USDT", "BBB/USDT"


class Asked:
    """A market that remembers what it was asked for."""

    def __init__(self, market: FolderMarket) -> None:
        self.market = market
        self.asked: list[tuple[tuple[str, ...], Any, Any]] = []

    def bars(self, pairs: Any, timeframe: str, start: Any, end: Any) -> Any:
        self.asked.append((tuple(pairs), start, end))
        return self.market.bars(pairs, timeframe, start, end)


@pytest.fixture
def panel():
    return make_panel({A: [(10.0 + n, 12.0 + n, 9.0 + n, 11.0 + n, 5.0) for n in range(30)], B: steady(30)})


@pytest.fixture
def asked(panel) -> Asked:
    return Asked(FolderMarket(panel))


def refresh(store, market, bar, pairs=(A, B), start=0) -> None:
    refresh_bars(store, market, pairs, "15m", at(start), at(bar))


def test_the_first_who_needs_bars_fetches_all_of_them(asked, panel):
    store = MemoryBarStore()
    refresh(store, asked, 10)
    assert asked.asked == [((A, B), at(0), at(10))]
    np.testing.assert_array_equal(store.read("15m", at(0), at(10)).close, panel.close[:10])


def test_whoever_comes_next_at_the_same_time_fetches_nothing(asked):
    store = MemoryBarStore()
    refresh(store, asked, 10)
    refresh(store, asked, 10)
    refresh(store, asked, 10.5)
    assert len(asked.asked) == 1


def test_later_only_the_new_bars_and_the_last_few_are_fetched(asked, panel):
    store = MemoryBarStore()
    refresh(store, asked, 10)
    refresh(store, asked, 12)
    assert asked.asked[1:] == [((A, B), at(10 - REFETCH_BARS), at(12))]
    np.testing.assert_array_equal(store.read("15m", at(0), at(12)).close, panel.close[:12])


def test_a_pair_that_is_new_in_the_whitelist_gets_its_history(asked, panel):
    store = MemoryBarStore()
    refresh(store, asked, 10, pairs=(A,))
    refresh(store, asked, 11)
    assert asked.asked[1:] == [((B,), at(0), at(10)), ((A, B), at(10 - REFETCH_BARS), at(11))]
    np.testing.assert_array_equal(store.read("15m", at(0), at(11)).close, panel.close[:11])


class Refusing:
    """A market that answers nobody who asks for one of these pairs."""

    def __init__(self, market: FolderMarket, pairs: set[str], error: ExchangeError) -> None:
        self.market, self.pairs, self.error = market, pairs, error

    def bars(self, pairs: Any, *asked: Any) -> Any:
        if self.pairs & set(pairs):
            raise self.error
        return self.market.bars(pairs, *asked)


def test_new_pairs_that_cannot_be_read_keep_nobody_from_the_others_and_get_their_history_once_they_can(panel):
    store, told = MemoryBarStore(), []
    refresh(store, FolderMarket(panel), 10, pairs=(A,))
    silent = Refusing(FolderMarket(panel), {B, "CCC/USDT"}, RetryableError("no answer"))
    for bar in (11, 12):
        both = (A, B, "CCC/USDT")
        refresh_bars(store, silent, both, "15m", at(0), at(bar), lambda pairs, why: told.append((*pairs, why)))
    assert told == [(B, "CCC/USDT", "no answer")] * 2
    assert store.read("15m", at(0), at(12)).pairs == (A,)
    assert store.through("15m") == at(12)
    refresh(store, FolderMarket(panel), 13)
    np.testing.assert_array_equal(store.read("15m", at(0), at(13)).close, panel.close[:13])


def test_a_new_pair_that_could_not_be_read_beside_another_new_one_gets_its_history_once_it_can(panel):
    three = make_panel({A: steady(30), B: steady(30), "CCC/USDT": steady(30)})
    store, market, asked = MemoryBarStore(), FolderMarket(three), []

    class Once:
        def bars(self, pairs: Any, *when: Any) -> Any:
            found = market.bars(pairs, *when)
            asked.append(tuple(pairs))
            if pairs == [B, "CCC/USDT"]:
                found = replace(found, **{name: np.where([True, False], getattr(found, name), np.nan) for name in COLUMNS})
            return found

    refresh(store, Once(), 10, pairs=(A,))
    refresh(store, Once(), 11, pairs=(A, B, "CCC/USDT"))
    assert asked[1:] == [(B, "CCC/USDT"), (A, B)]
    refresh(store, Once(), 12, pairs=(A, B, "CCC/USDT"))
    np.testing.assert_array_equal(store.read("15m", at(0), at(12)).close, three.close[:12])


@pytest.mark.parametrize("stored", [(A,), (A, B)], ids=["beside a new pair", "beside one that is back"])
def test_whoever_fails_before_the_last_bars_are_stored_leaves_them_to_the_next(stored):
    whole = make_panel({A: steady(30), B: [*steady(2), *[None] * 18, *steady(10)]})
    store = MemoryBarStore()
    for bar in (10, 20):
        refresh(store, FolderMarket(whole), bar, pairs=stored)

    class Dies:
        def bars(self, pairs: Any, timeframe: str, start: Any, end: Any) -> Any:
            if A in pairs and B not in stored:
                raise RetryableError("no answer")
            return FolderMarket(whole).bars(pairs, timeframe, start, end)

    write, written = store.write, []

    def write_once(found: Any) -> None:
        if written:
            raise RetryableError("no answer")
        written.append(found)
        write(found)

    store.write = write_once  # type: ignore[method-assign]
    with pytest.raises(RetryableError):
        refresh(store, Dies(), 21)
    assert written
    store.write = write  # type: ignore[method-assign]
    assert store.through("15m") == at(20)
    refresh(store, FolderMarket(whole), 21)
    np.testing.assert_array_equal(store.read("15m", at(0), at(21)).close, whole.close[:21])


def test_where_the_exchange_fails_a_new_pair_hides_nothing(panel):
    store = MemoryBarStore()
    refresh(store, FolderMarket(panel), 10, pairs=(A,))
    with pytest.raises(RateLimitedError):
        refresh(store, Refusing(FolderMarket(panel), {B}, RateLimitedError("too many", at(10))), 11)
    with pytest.raises(RetryableError):
        refresh(store, Refusing(FolderMarket(panel), {A, B}, RetryableError("no answer")), 11)
    with pytest.raises(RetryableError):
        refresh(store, Refusing(FolderMarket(panel), {B}, RetryableError("no answer")), 11, pairs=(B,))


def test_a_pair_that_was_left_out_for_a_while_is_fetched_from_its_last_bar(asked, panel):
    store = MemoryBarStore()
    refresh(store, asked, 10)
    for bar in range(11, 20):
        refresh(store, asked, bar, pairs=(A,))
    asked.asked.clear()
    refresh(store, asked, 20)
    assert asked.asked == [((A, B), at(19 - REFETCH_BARS), at(20)), ((B,), at(9), at(19))]
    np.testing.assert_array_equal(store.read("15m", at(0), at(20)).close, panel.close[:20])
    refresh(store, asked, 21)
    assert asked.asked[2:] == [((A, B), at(20 - REFETCH_BARS), at(21))]


def test_a_pair_that_trades_no_more_is_asked_for_as_any_other(panel):
    gone = make_panel({A: steady(30), B: [*steady(8), *[None] * 12, *steady(10)]})
    asked, store = Asked(FolderMarket(gone)), MemoryBarStore()
    for bar in range(5, 30):
        refresh(store, asked, bar)
    alone = [(start, end) for pairs, start, end in asked.asked if pairs == (B,)]
    assert alone == [(at(7), at(20))]
    np.testing.assert_array_equal(store.read("15m", at(0), at(29)).close, gone.close[:29])


def test_who_needs_an_earlier_start_fetches_what_lies_before(asked, panel):
    store = MemoryBarStore()
    refresh(store, asked, 10, start=5)
    refresh(store, asked, 10, start=0)
    assert asked.asked[1:] == [((A, B), at(0), at(5))]
    np.testing.assert_array_equal(store.read("15m", at(0), at(10)).close, panel.close[:10])


def test_a_bar_that_came_late_is_added_and_one_that_changed_is_not_overwritten(panel):
    store = MemoryBarStore()
    early = {name: getattr(panel, name).copy() for name in COLUMNS}
    for column in early.values():
        column[9, 0] = np.nan
        column[8, 1] = 77.0
    refresh(store, FolderMarket(replace(panel, **early)), 10)
    refresh(store, FolderMarket(panel), 11)
    stored = store.read("15m", at(0), at(11))
    assert stored.close[9, 0] == panel.close[9, 0]
    assert stored.close[8, 1] == 77.0


def test_closes_of_held_pairs_are_those_of_bars_that_have_just_closed(asked):
    store = MemoryBarStore()
    gap = make_panel({A: [*steady(4), None], B: steady(5)})
    store.write(gap)
    assert held_closes(store, [A, B], "15m", at(5)) == {B: 100.0}
    assert held_closes(store, [A, B], "15m", at(4)) == {A: 100.0, B: 100.0}
    assert held_closes(store, [A, "CCC/USDT"], "15m", at(5)) == {}
    assert held_closes(store, [], "15m", at(5)) == {}


# The universe


def test_the_universe_is_every_pair_in_the_stake_currency_or_the_list_less_the_blacklist():
    known = ("AAA/USDT", "BBB/BTC", "CCC/USDT", "DDD/USDT")
    everything = UniverseSection(pair_blacklist=("CCC/USDT",))
    assert universe_pairs(known, everything, "USDT") == ("AAA/USDT", "DDD/USDT")
    listed = UniverseSection(pair_whitelist=("DDD/USDT", "AAA/USDT"))
    assert universe_pairs(known, listed, "USDT") == ("AAA/USDT", "DDD/USDT")


def test_a_whitelisted_pair_that_does_not_exist_is_refused_by_name():
    with pytest.raises(SettingsError, match=r"universe\.pair_whitelist: 'ZZZ/USDT' has no bars on this market"):
        universe_pairs(("AAA/USDT",), UniverseSection(pair_whitelist=("AAA/USDT", "ZZZ/USDT")), "USDT")


SPOT, FUTURE, ITSELF = "AAA/USDT", "AAA/USDT:USDT", "USDT/USDT"


@pytest.mark.parametrize(
    ("known", "refused"),
    [
        ((SPOT, "BBB/USDT", FUTURE), "universe: AAA/USDT:USDT is AAA, and so is AAA/USDT; put one of them on universe.pair_blacklist"),
        ((SPOT, ITSELF), "universe: USDT/USDT is USDT, and so is the stake currency; put one of them on universe.pair_blacklist"),
    ],
)
@pytest.mark.parametrize("listed", [False, True])
def test_two_pairs_of_one_asset_are_refused(known: tuple[str, ...], refused: str, listed: bool):
    """An account holds assets: what a break of one pair settles would be taken from the other."""
    universe = UniverseSection(pair_whitelist=known) if listed else UniverseSection()
    with pytest.raises(SettingsError, match=f"^{refused}$"):
        universe_pairs(known, universe, "USDT")


def test_one_of_two_pairs_of_an_asset_may_be_traded():
    known = (SPOT, FUTURE, ITSELF, "AAA/EUR", "USDT/EUR")
    assert universe_pairs(known, UniverseSection(pair_blacklist=(SPOT, ITSELF)), "USDT") == (FUTURE,)
    assert universe_pairs(known, UniverseSection(pair_whitelist=(SPOT,)), "USDT") == (SPOT,)
    assert universe_pairs(known, UniverseSection(), "EUR") == ("AAA/EUR", "USDT/EUR")


def test_bars_are_needed_of_the_universe_of_what_is_held_and_of_the_market_pair():
    settings = load_desk("rotation", ['universe.pair_whitelist=["AAA/USDT"]'])
    assert extra_pairs(settings) == {"BTC/USDT"}
    assert needed_pairs(("AAA/USDT", "BTC/USDT"), settings, {"OLD/USDT": 1}) == ("AAA/USDT", "BTC/USDT", "OLD/USDT")
    assert needed_pairs(("AAA/USDT",), settings, {}) == ("AAA/USDT",)


def test_a_whitelisted_pair_that_the_market_has_lost_stops_no_risk_check():
    settings = load_desk("rotation", ['universe.pair_whitelist=["AAA/USDT", "GONE/USDT"]'])
    assert needed_pairs(("AAA/USDT", "BTC/USDT"), settings, {"GONE/USDT": 1}) == ("AAA/USDT", "BTC/USDT", "GONE/USDT")
    assert needed_pairs(("AAA/USDT", "BTC/USDT"), settings, {}) == ("AAA/USDT", "BTC/USDT")


# In ticks


def test_ticks_share_the_store_and_fetch_only_what_is_new(world: World, market):
    asked = Asked(market)
    for name in ("pairs", "opens", "rules"):
        setattr(asked, name, getattr(market, name))
    world.market = asked  # type: ignore[assignment]
    world.run("full_rebalance", at(0))
    first = history_start(world.settings, at(0))
    assert [(start, end) for _, start, end in asked.asked] == [(first, at(0))]
    world.run("risk_check", at(1))
    world.run("feature_rebalance", at(2))
    step = timedelta(minutes=15)
    assert [(start, end) for _, start, end in asked.asked[1:]] == [
        (at(0) - REFETCH_BARS * step, at(1)),
        (at(1) - REFETCH_BARS * step, at(2)),
    ]


def test_a_pair_added_to_the_whitelist_can_be_bought_at_the_next_rebalance(new_world, market):
    few = list(market.pairs())[:3]
    world = new_world(f"universe.pair_whitelist={str(few).replace(chr(39), chr(34))}")
    world.run("full_rebalance", at(0))
    assert {order.pair for order in world.ledger.orders()} <= set(few)
    world.parameters.write("universe", load_desk("rotation").sections()["universe"])
    world.run("feature_rebalance", at(2))
    settled = world.bars.read("15m", history_start(world.settings, at(2)), at(2))
    assert set(market.pairs()) <= set(settled.pairs)
    assert not np.isnan(settled.close).any()
    assert world.ledger.load().cash < D(50_000)
