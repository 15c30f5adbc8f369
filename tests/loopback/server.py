"""The exchange over HTTP on loopback, and the control endpoint for an exchange in another process."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from tests.loopback.exchange import LoopbackExchange, Reply
from tests.loopback.wire import Request
from tests.loopback.world import World
from tickless.types import parse_time

CONTROL = "/loopback/control"


class LoopbackServer(ThreadingHTTPServer):
    """One exchange behind one port."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, exchange: LoopbackExchange, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.exchange = exchange

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed in the middle is no error here."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    timeout = 30
    server: LoopbackServer

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        if url.path == CONTROL:
            self._send(Reply(200, json.dumps(perform(self.server.exchange, json.loads(body)), default=str)))
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        self._send(self.server.exchange.answer(Request(self.command, url.path, url.query, body, headers)))

    do_POST = do_DELETE = do_PUT = do_GET

    def _send(self, reply: Reply) -> None:
        if reply.wait_s:
            time.sleep(reply.wait_s)
        if reply.text is None:
            self._cut()
            return
        data = reply.text.encode()
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json" if reply.text[:1] in {"{", "["} else "text/html")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: reply.sent])
        if reply.sent is not None:
            self._cut()

    def _cut(self) -> None:
        """Close the connection after what was written."""
        self.close_connection = True
        try:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    def log_message(self, *args: object) -> None:
        """Silence: the exchange has a log."""


@contextmanager
def loopback_exchange(world: World) -> Iterator[tuple[LoopbackExchange, str]]:
    """The exchange in a thread of this process, and its URL."""
    exchange = LoopbackExchange(world)
    server = LoopbackServer(exchange)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield exchange, server.url
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


def perform(exchange: LoopbackExchange, order: Mapping[str, Any]) -> Any:
    """What ``remote.RemoteExchange`` asks for, by name."""
    return COMMANDS[order["do"]](exchange, order.get("with", {}))


COMMANDS: Mapping[str, Callable[[LoopbackExchange, Mapping[str, Any]], Any]] = {
    "set_time": lambda exchange, told: exchange.set_time(parse_time(told["at"])),
    "set_skew": lambda exchange, told: exchange.set_skew(told["milliseconds"]),
    "set_status": lambda exchange, told: exchange.set_status(told["venue"], told["pair"], told["status"]),
    "set_key_works": lambda exchange, told: exchange.set_key_works(told["venue"], works=told["works"]),
    "move": lambda exchange, told: exchange.move(told["venue"], told["asset"], Decimal(told["amount"])),
    "balances": lambda exchange, told: exchange.balances(told["venue"]),
    "state": lambda exchange, told: exchange.state(told["venue"]),
    "log": lambda exchange, told: [asdict(one) for one in list(exchange.log) if one.number >= told["since"]],
    "clear_log": lambda exchange, told: exchange.clear_log(),
    "orders_sent": lambda exchange, told: exchange.orders_sent(),
    "resent": lambda exchange, told: exchange.resent(),
    "next": lambda exchange, told: exchange.faults.next(**told),
    "always": lambda exchange, told: exchange.faults.always(**told),
    "random": lambda exchange, told: exchange.faults.random(told["seed"], told["chances"], told["endpoint"]),
    "clear": lambda exchange, told: exchange.faults.clear(),
    "seen": lambda exchange, told: [[endpoint, fault, n] for (endpoint, fault), n in exchange.faults.seen.items()],
}
