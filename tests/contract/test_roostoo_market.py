"""Roostoo's pairs with another exchange's bars."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest
from roostoo_loopback import Roostoo, serving

from tickless.adapters.folder_market import FolderMarket
from tickless.adapters.memory import ManualClock
from tickless.adapters.roostoo_client import RoostooClient
from tickless.adapters.roostoo_market import RoostooMarket
from tickless.adapters.synthetic_market import make_market
from tickless.bars import Panel
from tickless.errors import DataError, RetryableError
from tickless.types import PairRules

START = datetime(2024, 1, 1, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
NAMES = ("BNB/USDT", "BTC/USDT", "SOL/USDT")


@pytest.fixture(scope="module")
def roostoo() -> Iterator[Roostoo]:
    with serving(Roostoo(ManualClock(START))) as server:
        yield server


def source() -> FolderMarket:
    made = make_market(pairs=3, start=START, end=START + 40 * QUARTER, events=False).panel
    return FolderMarket(Panel(made.timeframe, NAMES, made.start_ms, made.open, made.high, made.low, made.close, made.volume))


def market(roostoo: Roostoo, renamed: dict[str, str] | None = None, stake: str = "USD") -> RoostooMarket:
    return RoostooMarket(RoostooClient(base_url=roostoo.url), source(), stake, "USDT", renamed)


def test_pairs_that_the_source_lacks_are_left_out(roostoo: Roostoo) -> None:
    found = market(roostoo)
    assert found.pairs() == ["BNB/USD", "BTC/USD"]
    assert found.left_out == ["NVDAB/USD", "OLD/USD"]


def test_a_pair_that_may_not_be_traded_is_no_pair_but_has_bars(roostoo: Roostoo) -> None:
    found = market(roostoo, {"OLD/USD": "SOL/USDT"})
    assert found.pairs() == ["BNB/USD", "BTC/USD"]
    assert found.left_out == ["NVDAB/USD"]
    assert not np.isnan(found.bars(["OLD/USD"], "15m", START, START + QUARTER).close).any()


def test_rules_are_roostoos(roostoo: Roostoo) -> None:
    rules = market(roostoo).rules()
    assert rules["BTC/USD"] == PairRules("BTC/USD", Decimal("0.01"), Decimal("0.000001"), Decimal("1.00000001"))
    assert sorted(rules) == ["BNB/USD", "BTC/USD", "NVDAB/USD", "OLD/USD"]


def test_bars_are_the_sources_under_our_names(roostoo: Roostoo) -> None:
    wanted = ["NVDAB/USD", "BTC/USD", "BNB/USD"]
    panel = market(roostoo).bars(wanted, "15m", START, START + 8 * QUARTER)
    there = source().bars(["BTC/USDT", "BNB/USDT"], "15m", START, START + 8 * QUARTER)
    assert list(panel.pairs) == wanted
    assert np.isnan(panel.close[:, 0]).all()
    np.testing.assert_array_equal(panel.close[:, 1:], there.close)
    np.testing.assert_array_equal(panel.volume[:, 1:], there.volume)


def test_opens_are_the_sources_under_our_names(roostoo: Roostoo) -> None:
    opens = market(roostoo).opens(["NVDAB/USD", "BTC/USD"], "15m", START)
    assert opens == {"BTC/USD": source().opens(["BTC/USDT"], "15m", START)["BTC/USDT"]}


def test_a_coin_with_another_name(roostoo: Roostoo) -> None:
    found = market(roostoo, {"NVDAB/USD": "SOL/USDT"})
    assert found.pairs() == ["BNB/USD", "BTC/USD", "NVDAB/USD"]
    assert found.opens(["NVDAB/USD"], "15m", START)["NVDAB/USD"] == source().opens(["SOL/USDT"], "15m", START)["SOL/USDT"]


def test_two_pairs_are_never_one_of_the_source(roostoo: Roostoo) -> None:
    with pytest.raises(DataError, match="two pairs are mapped to BTC/USDT"):
        market(roostoo, {"BNB/USD": "BTC/USDT"}).pairs()


def test_a_stake_without_pairs(roostoo: Roostoo) -> None:
    with pytest.raises(RetryableError, match="no pair is quoted in EUR"):
        market(roostoo, stake="EUR").rules()


def test_pairs_are_asked_for_once_and_malformed_ones_refused(roostoo: Roostoo) -> None:
    roostoo.faults["/v3/exchangeInfo"] = [(200, '{"IsRunning": true}')]
    found = market(roostoo)
    with pytest.raises(RetryableError, match="exchangeInfo: TradePairs"):
        found.rules()
    roostoo.requests.clear()
    for _ in range(3):
        found.pairs()
    assert roostoo.requests == ["/v3/exchangeInfo"]


def test_pairs_are_asked_for_again_every_hour_and_those_of_before_stay_where_they_cannot_be_read(roostoo: Roostoo) -> None:
    clock = ManualClock(START)
    found = RoostooMarket(RoostooClient(base_url=roostoo.url), source(), "USD", "USDT", now=clock.now)
    before = found.pairs()
    roostoo.requests.clear()
    clock.set(START + timedelta(minutes=59))
    assert (found.pairs(), roostoo.requests) == (before, [])
    roostoo.faults["/v3/exchangeInfo"] = [(200, '{"IsRunning": true}')]
    clock.set(START + timedelta(minutes=60))
    assert (found.pairs(), roostoo.requests) == (before, ["/v3/exchangeInfo"])
    one = {"CanTrade": True, "PricePrecision": 2, "AmountPrecision": 6, "MiniOrder": 1}
    roostoo.faults["/v3/exchangeInfo"] = [
        (200, json.dumps({"IsRunning": True, "TradePairs": {"SOL/USD": {"Coin": "SOL", "Unit": "USD", **one}}}))
    ]
    clock.set(START + timedelta(minutes=64))
    assert (found.pairs(), len(roostoo.requests)) == (before, 1)
    clock.set(START + timedelta(minutes=65))
    assert found.pairs() == ["SOL/USD"], "also in the mapping to the source"
