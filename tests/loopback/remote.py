"""An exchange in a process of its own, which outlives a desk process that is killed; steered over its control endpoint."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.loopback.exchange import Logged
from tests.loopback.faults import Fault
from tests.loopback.server import CONTROL
from tests.loopback.world import World, write_world
from tickless.types import iso

ROOT = Path(__file__).resolve().parents[2]


class RemoteFaults:
    """As ``faults.Faults``."""

    def __init__(self, exchange: RemoteExchange) -> None:
        self._ask = exchange.ask

    def next(self, endpoint: str, fault: Fault, *, times: int = 1, skip: int = 0, **arguments: Any) -> None:
        self._ask("next", endpoint=endpoint, fault=fault, times=times, skip=skip, **arguments)

    def always(self, endpoint: str, fault: Fault, **arguments: Any) -> None:
        self._ask("always", endpoint=endpoint, fault=fault, **arguments)

    def random(self, seed: int, chances: Mapping[Fault, float], endpoint: str = "*") -> None:
        self._ask("random", seed=seed, chances=chances, endpoint=endpoint)

    def clear(self) -> None:
        self._ask("clear")

    @property
    def seen(self) -> Counter[tuple[str, Fault]]:
        return Counter({(endpoint, Fault(fault)): n for endpoint, fault, n in self._ask("seen")})


class RemoteExchange:
    """The same face as ``LoopbackExchange``, as far as tests steer and look at it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.faults = RemoteFaults(self)

    def ask(self, what: str, **told: Any) -> Any:
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=10)
        try:
            connection.request("POST", CONTROL, json.dumps({"do": what, "with": told}, default=str))
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def set_time(self, at: datetime) -> None:
        self.ask("set_time", at=iso(at))

    def set_skew(self, milliseconds: int) -> None:
        self.ask("set_skew", milliseconds=milliseconds)

    def set_status(self, venue: str, pair: str, status: str) -> None:
        self.ask("set_status", venue=venue, pair=pair, status=status)

    def set_key_works(self, venue: str, *, works: bool) -> None:
        self.ask("set_key_works", venue=venue, works=works)

    def move(self, venue: str, asset: str, amount: Decimal) -> None:
        self.ask("move", venue=venue, asset=asset, amount=amount)

    def balances(self, venue: str) -> dict[str, Decimal]:
        return {asset: Decimal(amount) for asset, amount in self.ask("balances", venue=venue).items()}

    def state(self, venue: str) -> dict[str, Any]:
        return dict(self.ask("state", venue=venue))

    @property
    def log(self) -> list[Logged]:
        return self.log_since(0)

    def log_since(self, number: int) -> list[Logged]:
        """What came from that number on."""
        return [Logged(**{**one, "fault": one["fault"] and Fault(one["fault"])}) for one in self.ask("log", since=number)]

    def clear_log(self) -> None:
        self.ask("clear_log")

    def orders_sent(self) -> Counter[str]:
        return Counter(self.ask("orders_sent"))

    def resent(self) -> list[str]:
        return list(self.ask("resent"))


@contextmanager
def separate_exchange(world: World, folder: Path) -> Iterator[RemoteExchange]:
    """``python -m tests.loopback`` over a world written to ``folder``; ended when the block ends."""
    file = folder / "world.npz"
    write_world(world, file)
    command = [sys.executable, "-m", "tests.loopback", "--world", str(file), "--port", "0"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        assert port.isdigit(), f"the exchange did not start: {port!r}"
        yield RemoteExchange(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(timeout=10)
        if process.stdout is not None:
            process.stdout.close()
