"""One contract for every Market: recorded bars, and a live exchange (a Binance on loopback behind the real ccxt client)."""

from __future__ import annotations

import importlib
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest
from binance_loopback import Binance, point_at, serving

from tickless.adapters.bar_files import data_sha256
from tickless.adapters.ccxt_market import CcxtMarket
from tickless.adapters.folder_market import FolderMarket
from tickless.adapters.synthetic_market import make_market
from tickless.bars import COLUMNS, Panel
from tickless.errors import DataError, ExchangeError, RetryableError
from tickless.types import PairRules

START = datetime(2024, 1, 1, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
NOW = START + 1500 * QUARTER + timedelta(minutes=7)


def recording() -> tuple[Panel, dict[str, PairRules]]:
    made = make_market(pairs=4, start=START, end=START + 1501 * QUARTER, events=False)
    panel = made.panel
    for name in COLUMNS:
        getattr(panel, name)[[0, 40, 41, 42, 1100], 1] = np.nan
        getattr(panel, name)[1500, 2] = np.nan
    return panel, dict(made.rules)


@pytest.fixture(scope="module")
def binance():
    panel, rules = recording()
    rules["OLD/USDT"] = PairRules("OLD/USDT", Decimal("0.01"), Decimal("0.1"), Decimal(5), Decimal("0.1"), active=False)
    rules["ETH/BTC"] = PairRules("ETH/BTC", Decimal("0.00001"), Decimal("0.0001"), Decimal("0.0001"), Decimal("0.0001"))
    with serving(Binance(panel, rules)) as server:
        yield server


@pytest.fixture
def live(binance):
    binance.faults.clear()
    binance.requests.clear()
    binance.most_bars = 1000
    slept: list[float] = []
    market = CcxtMarket("binance", "USDT", threads=2, timeout_s=5.0, now=lambda: NOW, sleep=slept.append)
    market.slept = slept
    point_at(market.client, binance.url)
    return market


@pytest.fixture(params=["recorded", "live"])
def market(request, binance):
    if request.param == "recorded":
        return FolderMarket(binance.panel, {pair: rule for pair, rule in binance.rules.items() if pair.endswith("/USDT")})
    return request.getfixturevalue("live")


def test_pairs_are_sorted_and_quoted_in_the_stake_currency(market):
    assert market.pairs() == ["BTC/USDT", "ETH/USDT", "PEPE/USDT", "SOL/USDT"]


def test_bars_are_those_of_the_recording_and_closed(market, binance):
    end = START + 1500 * QUARTER
    panel = market.bars(market.pairs(), "15m", START, end)
    assert (panel.start, panel.end, panel.rows) == (START, end, 1500)
    assert data_sha256(panel) == data_sha256(binance.panel.between(START, end))


def test_bars_keep_the_order_asked_for_and_do_not_know_a_strange_pair(market, binance):
    panel = market.bars(["SOL/USDT", "X/USDT", "BTC/USDT"], "15m", START + 20 * QUARTER, START + 60 * QUARTER)
    assert panel.pairs == ("SOL/USDT", "X/USDT", "BTC/USDT")
    assert np.isnan(panel.close[:, 1]).all()
    assert panel.close[:, 2].tolist() == binance.panel.close[20:60, binance.panel.column["BTC/USDT"]].tolist()


def test_missing_bars_stay_missing(market, binance):
    pair = binance.panel.pairs[1]
    panel = market.bars([pair], "15m", START + 38 * QUARTER, START + 45 * QUARTER)
    assert np.isnan(panel.close[:, 0]).tolist() == [False, False, True, True, True, False, False]


def test_an_end_between_two_closes_takes_closed_bars_only(market):
    panel = market.bars(["BTC/USDT"], "15m", START, START + 2 * QUARTER + timedelta(minutes=14))
    assert panel.rows == 2
    assert market.bars(["BTC/USDT"], "15m", START, START).rows == 0
    assert market.bars(["BTC/USDT"], "15m", START + QUARTER, START).rows == 0


def test_opens_are_those_of_the_bar_that_opens_then(market, binance):
    at = START + 1500 * QUARTER
    pairs = market.pairs()
    expected = {pair: float(binance.panel.open[1500, n]) for n, pair in enumerate(binance.panel.pairs) if n != 2}
    assert market.opens([*pairs, "X/USDT"], "15m", at) == expected
    assert market.opens([binance.panel.pairs[1]], "15m", START + 41 * QUARTER) == {}
    with pytest.raises(DataError, match="is not the open of a 15m bar"):
        market.opens(pairs, "15m", at + timedelta(minutes=1))


def test_rules_are_exact(market, binance):
    rules = market.rules()
    for pair in ("BTC/USDT", "PEPE/USDT", "OLD/USDT"):
        assert rules[pair] == binance.rules[pair]
    assert "ETH/BTC" not in rules


def test_no_pairs_no_bars(market):
    assert market.bars([], "15m", START, START + QUARTER).close.shape == (1, 0)
    assert market.opens([], "15m", START) == {}


def test_an_unknown_timeframe_is_refused(market):
    with pytest.raises(DataError, match="7m"):
        market.bars(["BTC/USDT"], "7m", START, START + QUARTER)


def test_the_running_bar_is_dropped_even_where_it_is_asked_for(live):
    panel = live.bars(["BTC/USDT"], "15m", START + 1498 * QUARTER, START + 1510 * QUARTER)
    assert panel.end == START + 1500 * QUARTER
    assert np.isfinite(panel.close).all()


def test_pages_follow_one_another_however_short(live, binance):
    binance.most_bars = 300
    panel = live.bars(list(binance.panel.pairs[:2]), "15m", START, START + 1500 * QUARTER)
    assert data_sha256(panel) == data_sha256(binance.panel.between(START, START + 1500 * QUARTER).select(binance.panel.pairs[:2]))
    assert sum(path.endswith("/klines") for path in binance.requests) == 10


def test_markets_are_asked_for_once(live, binance):
    live.pairs()
    live.rules()
    live.opens(["BTC/USDT"], "15m", START)
    assert sum(path.endswith("/exchangeInfo") for path in binance.requests) == 1
    assert all(path.startswith("/api/v3/") for path in binance.requests)


def test_markets_are_asked_for_again_after_an_hour_and_kept_where_that_fails(binance):
    now = [NOW]
    market = CcxtMarket("binance", "USDT", now=lambda: now[0], sleep=lambda _seconds: None)
    point_at(market.client, binance.url)
    assert "OLD/USDT" not in market.pairs()
    binance.rules["OLD/USDT"] = replace(binance.rules["OLD/USDT"], active=True)
    try:
        now[0] = NOW + timedelta(minutes=59)
        assert "OLD/USDT" not in market.pairs()
        now[0] = NOW + timedelta(minutes=60)
        assert "OLD/USDT" in market.pairs()
        point_at(market.client, "http://127.0.0.1:9/api/v3")
        now[0] = NOW + timedelta(hours=3)
        assert "OLD/USDT" in market.pairs()
    finally:
        binance.rules["OLD/USDT"] = replace(binance.rules["OLD/USDT"], active=False)


@pytest.mark.parametrize("name", ["status", "filters", "orderTypes"])
def test_markets_that_do_not_say_what_trades_how_are_refused_and_asked_for_again(live, monkeypatch, name):
    told = Binance._symbol
    with monkeypatch.context() as broken:
        broken.setattr(Binance, "_symbol", lambda self, pair: {key: value for key, value in told(self, pair).items() if key != name})
        with pytest.raises(RetryableError, match=rf"binance: markets: malformed answer: .*: {name} is missing"):
            live.pairs()
    assert live.pairs() == ["BTC/USDT", "ETH/USDT", "PEPE/USDT", "SOL/USDT"]


@pytest.mark.parametrize("number", ["NaN", "-1"])
def test_markets_whose_steps_are_no_steps_are_refused_and_asked_for_again(live, monkeypatch, number):
    told = Binance._symbol
    with monkeypatch.context() as broken:
        broken.setattr(
            Binance,
            "_symbol",
            lambda self, pair: json.loads(re.sub(r'"stepSize": "[^"]*"', f'"stepSize": "{number}"', json.dumps(told(self, pair)))),
        )
        with pytest.raises(RetryableError, match=r"binance: markets: malformed answer: .*filter"):
            live.rules()
    assert live.rules()["BTC/USDT"].qty_step


def test_a_server_error_is_asked_again_a_bounded_number_of_times(live, binance):
    binance.faults = [(503, "busy"), (500, "busy")]
    assert live.opens(["BTC/USDT"], "15m", START) == {"BTC/USDT": float(binance.panel.open[0, 0])}
    assert live.slept == [0.5, 1.0]
    binance.faults = [(503, "busy")] * 3
    with pytest.raises(RetryableError, match="binance: 15m bars of BTC/USDT: ExchangeNotAvailable"):
        live.opens(["BTC/USDT"], "15m", START)
    assert binance.faults == []


@pytest.mark.parametrize("status", [429, 418])
def test_a_rate_limit_is_not_asked_again(live, binance, status):
    binance.faults = [(status, '{"code": -1003, "msg": "Too many requests."}')]
    with pytest.raises(RetryableError, match="15m bars of BTC/USDT: the exchange limits our rate"):
        live.bars(["BTC/USDT"], "15m", START, START + QUARTER)
    assert live.slept == []


@pytest.mark.parametrize(
    "body",
    [
        "<html>",
        "[",
        '{"a": 1}',
        "[[1704067200000]]",
        '[[1704067200000, "x", "1", "1", "1", "1"]]',
        '[["a", "1", "1", "1", "1", "1"]]',
        "[7]",
        "null",
    ],
)
def test_a_malformed_answer_is_no_answer(live, binance, body):
    binance.faults = [(200, body)] * 3
    with pytest.raises(RetryableError, match=r"15m bars of BTC/USDT: .*malformed answer"):
        live.bars(["BTC/USDT"], "15m", START, START + QUARTER)


def test_an_impossible_bar_is_a_missing_one(live, binance):
    binance.faults = [(200, '[[1704067200000, "0", "1", "1", "1", "1"], [1704068100000, "1", "2", "1", "1.5", "3"]]')]
    panel = live.bars(["BTC/USDT"], "15m", START, START + 2 * QUARTER)
    assert np.isnan(panel.close[:, 0]).tolist() == [True, False]


class Refusing:
    """ccxt's candles, but for some pairs an error."""

    def __init__(self, market: CcxtMarket, **errors: Exception) -> None:
        self._fetch, self._errors = market.client.fetch_ohlcv, errors
        self.unread: list[tuple[str, str]] = []
        market.client.fetch_ohlcv = self
        market._unread = lambda pair, why: self.unread.append((pair, why))

    def __call__(self, pair, *asked):
        error = self._errors.get(pair.partition("/")[0])
        if error is not None:
            raise error
        return self._fetch(pair, *asked)


def bad_symbol() -> Exception:
    return importlib.import_module("ccxt.base.errors").BadSymbol('binance {"code":-1121,"msg":"Invalid symbol."}')


def cut_off() -> Exception:
    return importlib.import_module("ccxt.base.errors").NetworkError("binance GET ...")


def test_a_pair_that_is_refused_is_missing_and_told_of(live):
    refusing = Refusing(live, OLD=bad_symbol())
    pairs = sorted(recording()[1])
    panel = live.bars([*pairs, "OLD/USDT"], "15m", START + QUARTER, START + 2 * QUARTER)
    assert np.isnan(panel.close[0, -1])
    assert np.isfinite(panel.close[0, panel.column["BTC/USDT"]])
    (pair, why) = refusing.unread[0]
    assert pair == "OLD/USDT"
    assert why.startswith("binance: 15m bars of OLD/USDT: BadSymbol")
    assert live.opens([*pairs, "OLD/USDT"], "15m", START + QUARTER).keys() >= {"BTC/USDT"}
    assert len(refusing.unread) == 2
    assert np.isnan(live.bars(["OLD/USDT"], "15m", START, START + QUARTER).close).all()


def test_a_refused_pair_has_the_markets_read_again(live, binance):
    now = [NOW]
    live._now = lambda: now[0]
    live.pairs()
    Refusing(live, OLD=bad_symbol())
    live.bars(["BTC/USDT", "OLD/USDT"], "15m", START, START + QUARTER)
    binance.requests.clear()
    now[0] = NOW + timedelta(minutes=6)
    live.pairs()
    assert any("exchangeInfo" in str(request) for request in binance.requests)


def test_a_pair_whose_answer_does_not_come_is_missing_beside_others(live):
    refusing = Refusing(live, BTC=cut_off())
    panel = live.bars(sorted(recording()[1]), "15m", START + QUARTER, START + 2 * QUARTER)
    assert np.isnan(panel.close[0, panel.column["BTC/USDT"]])
    assert np.isfinite(panel.close).sum() >= 2
    assert [pair for pair, _ in refusing.unread] == ["BTC/USDT"]


def test_where_many_pairs_fail_the_exchange_does(live):
    refusing = Refusing(live, BTC=cut_off(), OLD=bad_symbol())
    pairs = sorted([*recording()[1], "OLD/USDT"])
    with pytest.raises(RetryableError, match="binance: 15m bars of BTC/USDT: NetworkError"):
        live.bars(pairs, "15m", START, START + QUARTER)
    with pytest.raises(RetryableError, match="binance: 15m bars of BTC/USDT"):
        live.bars(["BTC/USDT"], "15m", START, START + QUARTER)
    assert refusing.unread == []


def test_a_refusal_of_every_pair_is_an_exchange_error_naming_the_first(live):
    Refusing(live, BTC=bad_symbol(), OLD=bad_symbol())
    with pytest.raises(ExchangeError, match="binance: 15m bars of BTC/USDT: BadSymbol") as raised:
        live.bars(["BTC/USDT", "OLD/USDT"], "15m", START, START + QUARTER)
    assert not isinstance(raised.value, RetryableError)


def test_a_server_that_does_not_answer_times_out(live):
    live.client.timeout = 200
    live.client.urls["api"] = dict.fromkeys(live.client.urls["api"], "http://127.0.0.1:9/api/v3")
    with pytest.raises(RetryableError, match="binance: markets"):
        live.pairs()


def test_an_exchange_without_our_quote_currency_is_no_market(binance):
    market = CcxtMarket("binance", "EUR")
    point_at(market.client, binance.url)
    with pytest.raises(RetryableError, match="no spot pair is quoted in EUR"):
        market.pairs()


def test_recorded_rules_are_handed_out_as_they_are():
    panel, rules = recording()
    assert FolderMarket(panel, rules).rules() == rules
    assert replace(FolderMarket(panel), filters=rules).rules() == rules
