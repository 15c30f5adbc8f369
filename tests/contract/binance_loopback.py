"""A small Binance on loopback: exchangeInfo and klines, over a panel of bars, with faults on demand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from tickless.bars import Panel
from tickless.types import PairRules


@dataclass
class Binance:
    """``panel`` holds all bars, the running one too. ``faults`` are answers (status, body, headers) given once each, to klines, in order.

    A fault of None is no fault: it lets one request through. ``now_ms`` is what the clock says; None = the end of the panel.
    """

    panel: Panel
    rules: dict[str, PairRules]
    faults: list[tuple[int, str] | tuple[int, str, dict[str, str]] | None] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    most_bars: int = 1000
    now_ms: int | None = None
    asked: list[dict[str, str]] = field(default_factory=list)
    """The queries for klines."""
    lock: Lock = field(default_factory=Lock)
    url: str = ""

    def answer(self, path: str, query: dict[str, list[str]]) -> tuple[int, str, dict[str, str]]:
        with self.lock:
            self.requests.append(path)
            if path.endswith("/klines"):
                self.asked.append({name: values[0] for name, values in query.items()})
                fault = self.faults.pop(0) if self.faults else None
                if fault is not None:
                    return fault[0], fault[1], fault[2] if len(fault) == 3 else {}
        return *self._answer(path, query), {}

    def _answer(self, path: str, query: dict[str, list[str]]) -> tuple[int, str]:
        if path.endswith("/time"):
            return 200, json.dumps({"serverTime": self.panel.end_ms if self.now_ms is None else self.now_ms})
        if path.endswith("/exchangeInfo"):
            return 200, json.dumps({"timezone": "UTC", "rateLimits": [], "symbols": [self._symbol(pair) for pair in self.rules]})
        if path.endswith("/klines"):
            return self._klines(query)
        return 404, "{}"

    def _symbol(self, pair: str) -> dict[str, Any]:
        base, quote = pair.split("/")
        rules = self.rules[pair]
        filters = [
            {"filterType": "PRICE_FILTER", "minPrice": "0", "maxPrice": "0", "tickSize": f"{rules.price_step:f}"},
            {"filterType": "LOT_SIZE", "minQty": f"{rules.min_qty:f}", "maxQty": "9000", "stepSize": f"{rules.qty_step:f}"},
            {"filterType": "NOTIONAL", "minNotional": f"{rules.min_notional:f}", "applyMinToMarket": True},
        ]
        return {
            "symbol": base + quote,
            "status": "TRADING" if rules.active else "BREAK",
            "baseAsset": base,
            "quoteAsset": quote,
            "baseAssetPrecision": 8,
            "quotePrecision": 8,
            "quoteAssetPrecision": 8,
            "orderTypes": ["LIMIT", "MARKET"],
            "isSpotTradingAllowed": True,
            "isMarginTradingAllowed": False,
            "permissions": ["SPOT"],
            "permissionSets": [["SPOT"]],
            "filters": filters,
        }

    def _klines(self, query: dict[str, list[str]]) -> tuple[int, str]:
        panel = self.panel
        symbol = query["symbol"][0]
        n = next((n for n, pair in enumerate(panel.pairs) if pair.replace("/", "") == symbol), None)
        if n is None or query["interval"][0] != panel.timeframe:
            return 400, json.dumps({"code": -1121, "msg": "Invalid symbol."})
        first = int(query["startTime"][0])
        limit = min(int(query["limit"][0]), self.most_bars)
        rows = np.flatnonzero((panel.open_times_ms >= first) & ~np.isnan(panel.close[:, n]))[:limit]
        return 200, json.dumps([self._kline(int(row), n) for row in rows])

    def _kline(self, row: int, n: int) -> list[Any]:
        panel = self.panel
        at = int(panel.open_times_ms[row])
        values = [repr(float(getattr(panel, name)[row, n])) for name in ("open", "high", "low", "close", "volume")]
        return [at, *values, at + panel.step_ms - 1, "0", 1, "0", "0", "0"]


def _handler(binance: Binance) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = 1 << 16
        timeout = 5

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            status, body, headers = binance.answer(url.path, parse_qs(url.query))
            data = body.encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            """Silence: the tests look at ``requests``."""

    return Handler


@contextmanager
def serving(binance: Binance) -> Iterator[Binance]:
    """Serve until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(binance))
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        binance.url = f"http://127.0.0.1:{server.server_port}/api/v3"
        yield binance
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


def point_at(client: Any, url: str) -> None:
    """Send every request of a ccxt client to ``url``."""
    client.urls["api"] = dict.fromkeys(client.urls["api"], url)
    client.rateLimit = 0
