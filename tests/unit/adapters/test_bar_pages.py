"""Bars by the page at every exchange where a desk may go live: ccxt's own requests, answered as the exchange's endpoint would."""

from __future__ import annotations

import time
from datetime import timedelta
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pytest

from tickless.adapters.bar_pages import LEAST_PAGE_BARS, MOST_DOUBTS, BarPages, page_bars
from tickless.adapters.ccxt_client import open_client
from tickless.adapters.ccxt_market import CcxtMarket
from tickless.settings import PROVEN_EXCHANGES
from tickless.types import from_ms

STEP = 900_000
BARS = 3253
"""What rotation reads back, 34 days of 15m."""
END = int(time.time() * 1000) // STEP * STEP
START = END - BARS * STEP
BEGINS = ("startTime", "start", "startAt", "start_ts", "from", "since", "before")
ENDS = ("endTime", "end", "endAt", "end_ts", "to", "after")
MOST_GIVEN = {"bitget": 200, "bybit": 1000, "coinbase": 350, "cryptocom": 300, "kraken": 720, "kucoin": 1500, "mexc": 500}
MOST_GIVEN |= {"okx": 300, "myokx": 300, "okxus": 300, "bingx": 1440}
"""The bars that an exchange gives at once, whatever it is asked for; others give 1000."""
COUNTING_BACK = frozenset({"bitget", "coinbase", "cryptocom", "gate", "gateeu", "htx", "kucoin", "mexc", "myokx", "okx", "okxus"})
"""Exchanges that, where a window holds more bars than they give at once, are taken to give its last: as Bitget does, as others may."""
EVERYWHERE = [(name, kind) for name, kinds in PROVEN_EXCHANGES.items() for kind in kinds]


class Endpoint:
    """The endpoint of bars of one exchange, for one pair that has bars from ``listed`` on but for ``gaps``: it reads ccxt's own request.

    Both ends of a window are in it, unless ``open_end``; at Gate they always are. ``most`` bars are given at once.
    """

    def __init__(self, exchange, kind, *, listed=START - 5000 * STEP, gaps=(), most=None, back=None, open_end=True):
        self.exchange, self.kind, self.listed, self.gaps, self.open_end = (
            exchange,
            kind,
            listed,
            set(gaps),
            open_end and "gate" not in exchange,
        )
        self.most = most or MOST_GIVEN.get(exchange, 1000)
        self.back = exchange in COUNTING_BACK if back is None else back
        self.asked: list[dict[str, str]] = []
        self.client = open_client(exchange, 1.0, kind)
        self.client.enableRateLimit = False
        quote, settle = ("USDT", "USDT") if kind == "swap" else ("USDT", None)
        self.pair = f"BTC/{quote}:{settle}" if settle else f"BTC/{quote}"
        is_swap = kind == "swap"
        facts = {"id": "BTC-USDT", "symbol": self.pair, "base": "BTC", "quote": quote, "baseId": "BTC", "quoteId": quote}
        facts |= {
            "type": kind,
            "spot": not is_swap,
            "swap": is_swap,
            "contract": is_swap,
            "linear": True if is_swap else None,
            "active": True,
        }
        facts |= {"settle": settle, "settleId": settle, "future": False, "option": False, "contractSize": 1.0 if is_swap else None}
        facts |= {"inverse": False if is_swap else None, "index": False, "margin": False, "info": {}}
        self.client.set_markets([self.client.safe_market_structure(facts)])
        self.client.fetch = self.answer

    def rows(self):
        """All of the pair's bars."""
        return [at for at in range(self.listed, END + STEP, STEP) if at not in self.gaps]

    def answer(self, url, method="GET", headers=None, body=None):
        query = dict(parse_qsl(urlsplit(url).query))
        self.asked.append(query)
        begin = max((self._ms(query[name]) for name in BEGINS if name in query), default=0)
        end = min((self._ms(query[name]) for name in ENDS if name in query), default=END + STEP)
        within = [at for at in self.rows() if begin <= at < end or (at == end and not self.open_end)]
        most = min(self.most, int(query.get("limit", query.get("size", query.get("count", self.most)))))
        if self.exchange == "kraken":  # the latest there are, whatever is asked for
            within = [at for at in self.rows()[-self.most :] if at > begin]
        return self._shaped(within[-most:] if self.back else within[:most])

    @staticmethod
    def _ms(text):
        number = int(float(text))
        return number if number > 10**12 else number * 1000

    def _shaped(self, times):
        name = self.exchange.removesuffix("us").removesuffix("usdm").removesuffix("eu").removeprefix("my")
        if name == "coinbase":
            row = {"low": "1", "high": "2", "open": "1", "close": "1", "volume": "3"}
            return {"candles": [{"start": str(at // 1000), **row} for at in reversed(times)]}
        if name == "cryptocom":
            return {"code": 0, "result": {"data": [{"t": at, "o": "1", "h": "2", "l": "1", "c": "1", "v": "3"} for at in times]}}
        if name == "htx":
            row = {"low": 1, "high": 2, "open": 1, "close": 1, "amount": 3, "vol": 3, "count": 1}
            return {"status": "ok", "data": [{"id": at // 1000, **row} for at in reversed(times)]}
        if name == "kraken":
            return {"error": [], "result": {"BTC-USDT": [[at // 1000, "1", "2", "1", "1", "1", "3", 1] for at in times], "last": 0}}
        if name == "kucoin":
            return {"code": "200000", "data": [[str(at // 1000), "1", "1", "2", "1", "3", "3"] for at in reversed(times)]}
        if name == "gate":
            return [[str(at // 1000), "3", "1", "2", "1", "1", "3", "true"] for at in times]
        rows = [[at if name in ("binance", "mexc", "bingx") else str(at), "1", "2", "1", "1", "3", at, "3"] for at in times]
        if name in ("binance", "mexc"):
            return rows
        if name == "bybit":
            return {"retCode": 0, "result": {"category": self.kind, "list": rows[::-1]}}
        return {"code": {"bitget": "00000", "okx": "0"}.get(name, 0), "data": rows}

    def read(self, start=START, end=END):
        """The times of the bars that a market gets, and its panel's holes are looked at by whoever asks."""
        pages = BarPages(self.client)
        found = pages.read(lambda since, count: pages.fetch(self.pair, "15m", since, count, STEP), start, end, STEP)
        return [row[0] for page, _ in found for row in page], pages

    def expected(self, start=START, end=END):
        return [at for at in self.rows() if start <= at < end]


@pytest.mark.parametrize(("exchange", "kind"), [where for where in EVERYWHERE if where[0] != "kraken"])
def test_every_exchange_gives_all_of_a_pairs_bars(exchange, kind):
    endpoint = Endpoint(exchange, kind)
    found, _ = endpoint.read()
    assert found == endpoint.expected()
    assert len(found) == BARS
    assert len(endpoint.asked) <= BARS // 150 + 2


@pytest.mark.parametrize(("exchange", "kind"), [where for where in EVERYWHERE if where[0] != "kraken"])
def test_every_exchange_gives_the_bars_of_a_pair_that_was_listed_late_and_fell_silent(exchange, kind):
    gaps = [END - n * STEP for n in (*range(30, 36), *range(200, 950), 1400)]
    endpoint = Endpoint(exchange, kind, listed=START + 1777 * STEP, gaps=gaps)
    found, pages = endpoint.read()
    assert found == endpoint.expected()
    assert pages.limit == page_bars(endpoint.client)


@pytest.mark.parametrize("open_end", [True, False], ids=["end excluded", "end included"])
@pytest.mark.parametrize("most", [100, 300, 500])
@pytest.mark.parametrize("exchange", sorted(COUNTING_BACK))
def test_an_exchange_that_gives_the_last_of_less_than_it_is_known_to_give_is_asked_for_less(exchange, most, open_end):
    endpoint = Endpoint(exchange, "spot", most=most, back=True, open_end=open_end)
    found, pages = endpoint.read()
    assert sorted(set(found)) == endpoint.expected()
    assert LEAST_PAGE_BARS <= pages.limit <= page_bars(endpoint.client)


def test_bitget_gives_two_hundred_bars_of_long_ago_and_all_of_them_come():
    endpoint = Endpoint("bitget", "spot")
    for days in (20, 30, 60, 90):
        start = END - days * 96 * STEP
        assert endpoint.read(start)[0] == endpoint.expected(start)
    assert max(int(query["limit"]) for query in endpoint.asked) == 200


def test_where_the_end_of_a_window_is_in_it_the_bar_at_its_begin_is_not_lost():
    endpoint = Endpoint("cryptocom", "spot", most=300, back=True, open_end=False)
    assert endpoint.read()[0] == endpoint.expected()


def test_kraken_gives_its_latest_bars_and_no_others_and_that_is_not_asked_about_for_ever():
    endpoint = Endpoint("kraken", "spot")
    found, _ = endpoint.read()
    assert found == [at for at in endpoint.rows()[-720:] if at < END]
    assert len(endpoint.asked) <= 3


def test_a_pair_that_trades_now_and_then_is_doubted_a_bounded_number_of_times():
    gaps = [START + n * STEP for n in range(BARS) if n % 7]
    endpoint = Endpoint("coinbase", "spot", gaps=gaps)
    found, pages = endpoint.read()
    assert found == endpoint.expected()
    assert pages.limit == 300
    assert len(endpoint.asked) <= -(-BARS // 295) + MOST_DOUBTS + 1


def test_no_page_of_a_usual_tick_is_doubted():
    endpoint = Endpoint("okx", "spot", gaps=[END - n * STEP for n in range(2, 20)])
    assert endpoint.read(END - 20 * STEP)[0] == endpoint.expected(END - 20 * STEP)
    assert len(endpoint.asked) <= 2


@pytest.mark.parametrize("exchange", ["bingx", "htx", "mexc"])
def test_where_ccxt_would_name_no_end_one_is_named(exchange):
    endpoint = Endpoint(exchange, "spot")
    endpoint.read()
    assert all(endpoint._ms(query.get("endTime") or query["to"]) % STEP in (0, STEP - 1, STEP - 1000) for query in endpoint.asked)


def test_the_markets_bars_are_those_of_the_pages(monkeypatch):
    endpoint = Endpoint("bitget", "spot")
    monkeypatch.setattr("tickless.adapters.ccxt_market.open_client", lambda *_: endpoint.client)
    monkeypatch.setattr("tickless.adapters.ccxt_market.load_markets", lambda client, read: read(client.markets))
    market = CcxtMarket("bitget", "USDT", now=lambda: from_ms(END), sleep=lambda _s: None)
    panel = market.bars(["BTC/USDT"], "15m", from_ms(END) - timedelta(days=90), from_ms(END))
    assert panel.rows == 8640
    assert np.isnan(panel.close[:, 0]).sum() == max(0, 8640 - BARS - 5000)
    assert market.opens(["BTC/USDT"], "15m", from_ms(END - STEP)) == {"BTC/USDT": 1.0}


def test_an_exchange_that_ccxt_tells_no_limit_of_is_asked_for_a_thousand():
    client = Endpoint("okx", "spot").client
    assert page_bars(client) == 300
    client.features = {"spot": {"fetchOHLCV": None}}
    assert page_bars(client) == 1000
