"""A small Roostoo on loopback: signatures, clock, orders of one account, and faults on demand."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

from tickless.adapters.memory import ManualClock
from tickless.types import to_ms

KEY, SECRET = "key-of-the-tests", "secret-of-the-tests"
CUT_BEFORE, CUT_AFTER, TRUNCATED = "cut before acceptance", "cut after acceptance", "truncated"
Fault = str | tuple[int, str] | tuple[int, str, dict[str, str]] | None


@dataclass
class Roostoo:
    """``clock`` is ours; the server's is ``skew_s`` ahead. ``faults`` are given once each, by path, in order; None = no fault."""

    clock: ManualClock
    skew_s: float = 0.0
    price: Decimal = Decimal("8149.07")
    fee_in_coin: bool = False
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    orders: list[dict[str, Any]] = field(default_factory=list)
    wallet: dict[str, Decimal] = field(default_factory=lambda: {"USD": Decimal(50_000), "BTC": Decimal(2)})
    wallet_name: str = "SpotWallet"
    next_id: int = 81
    bodies: list[str] = field(default_factory=list)
    """What place_order was sent."""
    lock: Lock = field(default_factory=Lock)
    url: str = ""

    @property
    def now_ms(self) -> int:
        return to_ms(self.clock.now()) + round(self.skew_s * 1000)

    def count(self, path: str) -> int:
        return self.requests.count(path)

    def add(self, side: str = "BUY", qty: str = "0.5", at_ms: int | None = None, kind: str = "MARKET", **changes: Any) -> dict[str, Any]:
        """An order on the books; market orders are filled at once."""
        filled, quantity, create = kind == "MARKET", Decimal(qty), self.now_ms if at_ms is None else at_ms
        value = quantity * self.price
        order = {
            "Pair": "BTC/USD",
            "OrderID": self.next_id,
            "Status": "FILLED" if filled else "PENDING",
            "Role": "TAKER" if filled else "MAKER",
            "ServerTimeUsage": Decimal("0.039723"),
            "CreateTimestamp": create,
            "FinishTimestamp": create + 40 if filled else 0,
            "Side": side,
            "Type": kind,
            "StopType": "GTC",
            "Price": self.price,
            "Quantity": quantity,
            "FilledQuantity": quantity,  # Also of an order that is pending: the document's examples lie like this.
            "FilledAverPrice": self.price if filled else 0,
            "CoinChange": quantity if filled else 0,
            "UnitChange": value if filled else 0,
            "CommissionCoin": "BTC" if self.fee_in_coin and side == "BUY" else "USD",
            "CommissionChargeValue": (quantity if self.fee_in_coin and side == "BUY" else value) * Decimal("0.001") if filled else 0,
            "CommissionPercent": Decimal("0.001"),
        }
        self.next_id += 1
        self.orders.insert(0, order | changes)
        return self.orders[0]

    def fill(self, order: dict[str, Any]) -> None:
        value = order["Quantity"] * order["Price"]
        order |= {"Status": "FILLED", "FinishTimestamp": self.now_ms, "FilledAverPrice": order["Price"], "UnitChange": value}
        order |= {"CommissionChargeValue": value * Decimal("0.001")}

    def answer(self, path: str, params: dict[str, str]) -> Any:
        if path == "/v3/serverTime":
            return {"ServerTime": self.now_ms}
        if path == "/v3/exchangeInfo":
            return exchange_info()
        if path == "/v3/balance":
            amounts = {asset: {"Free": amount, "Lock": 0} for asset, amount in self.wallet.items()}
            return {"Success": True, "ErrMsg": "", self.wallet_name: amounts}
        return getattr(self, f"_{path.removeprefix('/v3/')}")(params)

    def _place_order(self, params: dict[str, str]) -> Any:
        limit = params["type"] == "LIMIT"
        order = self.add(params["side"], params["quantity"], kind=params["type"], Pair=params["pair"])
        if limit:
            order["Price"] = Decimal(params["price"])
        return {"Success": True, "ErrMsg": "", "OrderDetail": order}

    def _query_order(self, params: dict[str, str]) -> Any:
        assert not ("order_id" in params and len(params) > 2), "order_id stands alone"
        found = [o for o in self.orders if params.get("order_id") in (None, str(o["OrderID"])) and params.get("pair") in (None, o["Pair"])]
        found = found[: int(params.get("limit", 100))]
        return {"Success": True, "ErrMsg": "", "OrderMatched": found} if found else {"Success": False, "ErrMsg": "no order matched"}

    def _cancel_order(self, params: dict[str, str]) -> Any:
        assert "order_id" in params, "everything would be cancelled"
        pending = [o for o in self.orders if str(o["OrderID"]) == params["order_id"] and o["Status"] == "PENDING"]
        for order in pending:
            order |= {"Status": "CANCELED", "FinishTimestamp": self.now_ms}
        if not pending:
            return {"Success": False, "ErrMsg": "no order canceled"}
        return {"Success": True, "ErrMsg": "", "CanceledList": [order["OrderID"] for order in pending]}

    def refusal(self, text: str, headers: Any) -> str:
        if (
            headers["RST-API-KEY"] != KEY
            or headers["MSG-SIGNATURE"] != hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).hexdigest()
        ):
            return "invalid signature"
        stamp = int(dict(part.split("=") for part in text.split("&"))["timestamp"])
        return "" if abs(self.now_ms - stamp) <= 60_000 else "timestamp is out of range"


def exchange_info() -> dict[str, Any]:
    def pair(coin: str, unit: str, price: int, amount: int, trades: bool = True) -> dict[str, Any]:
        names = {"Coin": coin, "CoinFullName": coin, "Unit": unit, "UnitFullName": unit}
        return names | {"CanTrade": trades, "PricePrecision": price, "AmountPrecision": amount, "MiniOrder": Decimal("1.0")}

    pairs = [pair("BNB", "USD", 4, 2), pair("BTC", "USD", 2, 6), pair("ETH", "BTC", 5, 4), pair("NVDAB", "USD", 2, 3)]
    pairs.append(pair("OLD", "USD", 2, 2, trades=False))
    return {"IsRunning": True, "InitialWallet": {"USD": 50000}, "TradePairs": {f"{p['Coin']}/{p['Unit']}": p for p in pairs}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    roostoo: Roostoo

    def do_GET(self) -> None:
        path, _, text = self.path.partition("?")
        self._serve(path, text)

    def do_POST(self) -> None:
        self._serve(self.path, self.rfile.read(int(self.headers["Content-Length"])).decode())

    def _serve(self, path: str, text: str) -> None:
        roostoo = self.roostoo
        with roostoo.lock:
            roostoo.requests.append(path)
            if path.endswith("place_order"):
                roostoo.bodies.append(text)
            faults = roostoo.faults.get(path, [])
            fault = faults.pop(0) if faults else None
            if isinstance(fault, tuple):
                return self._send(fault[0], fault[1].encode(), fault[2] if len(fault) == 3 else {})
            if fault == CUT_BEFORE:
                return self._cut()
            refusal = roostoo.refusal(text, self.headers) if text or self.command == "POST" else ""
            params = dict(part.split("=") for part in text.split("&")) if text else {}
            answer = {"Success": False, "ErrMsg": refusal} if refusal else roostoo.answer(path, params)
            if fault == CUT_AFTER:
                return self._cut()
            content = write_json(answer).encode()
            return self._send(200, content[: len(content) // 2] if fault == TRUNCATED else content, {}, len(content))

    def _send(self, status: int, content: bytes, headers: dict[str, str], length: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()
        self.close_connection = length is not None and length != len(content)

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: Any) -> None:
        pass


def write_json(value: Any) -> str:
    """JSON with Decimals as the numbers they are."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{write_json(part)}" for name, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(write_json(part) for part in value) + "]"
    return f"{value:f}" if isinstance(value, Decimal) else json.dumps(value)


@contextmanager
def serving(roostoo: Roostoo) -> Iterator[Roostoo]:
    handler = type("RoostooHandler", (Handler,), {"roostoo": roostoo})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    roostoo.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield roostoo
    finally:
        server.shutdown()
        server.server_close()
