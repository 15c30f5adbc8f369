"""The loopback exchange in a process of its own: it outlives a client that is killed, and answers at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import ccxt
import numpy as np
import pytest

from tests.loopback import Fault, FeeIn, LoopbackExchange, RemoteExchange, ccxt_client, loopback_exchange, separate_exchange
from tests.loopback.made_worlds import made_world
from tests.loopback.world import read_world, usual_rules, write_world
from tickless.bars import COLUMNS

CLIENT = """
import sys
from pathlib import Path
from tests.loopback import ccxt_client
from tests.loopback.world import read_world
world = read_world(Path(sys.argv[2]))
client = ccxt_client("binance", sys.argv[1], world, lambda: int(sys.argv[3]))
client.load_markets()
print("ready", flush=True)
sys.stdin.readline()
client.create_order("BTC/USDT", "market", "buy", 0.01, None, {"clientOrderId": "from-the-dead"})
print("answered", flush=True)
"""


def test_a_world_survives_its_file(tmp_path: Path) -> None:
    rules = {"BTC/USDT": usual_rules("BTC/USDT")}
    world = made_world(rules=rules, fee_in=FeeIn.BNB, spot={"BTC": Decimal("0.1"), "USDT": Decimal(5)}, spread_ticks=2, weight_limit=50)
    write_world(world, tmp_path / "world.npz")

    found = read_world(tmp_path / "world.npz")

    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(found.panel, name), getattr(world.panel, name))
    assert (found.panel.pairs, found.panel.start_ms, found.panel.timeframe) == (world.panel.pairs, world.panel.start_ms, "15m")
    same = ("start_at", "rules", "fee_in", "spot", "futures", "roostoo", "key", "taker_frac", "spread_ticks", "weight_limit", "timestamps")
    assert {name: getattr(found, name) for name in same} == {name: getattr(world, name) for name in same}


def play(exchange: LoopbackExchange | RemoteExchange, url: str) -> dict[str, object]:
    """A few orders and a fault, and everything that can be looked at afterwards."""
    world = made_world()
    now_ms = int(world.start_at.timestamp() * 1000)
    client = ccxt_client("binance", url, world, lambda: now_ms)
    exchange.faults.next("POST /api/v3/order", Fault.CUT_AFTER)
    with pytest.raises(ccxt.NetworkError):
        client.create_order("BTC/USDT", "market", "buy", 0.01, None, {"clientOrderId": "a"})
    exchange.faults.always("GET /api/v3/openOrders", Fault.VANISHED)
    exchange.faults.random(1, {Fault.STALE: 1.0}, "GET /api/v3/account")
    client.create_order("BTC/USDT", "limit", "buy", 0.01, 50_000, {"clientOrderId": "b"})
    assert client.fetch_open_orders("BTC/USDT") == []
    client.fetch_balance()
    exchange.faults.clear()
    exchange.move("spot", "USDT", Decimal("1.5"))
    exchange.set_status("spot", "ETH/USDT", "BREAK")
    exchange.set_key_works("futures", works=False)
    exchange.set_skew(-5)
    exchange.set_time(world.start_at + timedelta(days=1))
    told = {name: getattr(exchange, name)() for name in ("orders_sent", "resent")}
    told |= {
        f"{what} of {venue}": getattr(exchange, what)(venue) for what in ("state", "balances") for venue in ("spot", "futures", "roostoo")
    }
    return {**told, "log": exchange.log, "seen": exchange.faults.seen}


def test_both_faces_tell_the_same(tmp_path: Path) -> None:
    with loopback_exchange(made_world()) as (exchange, url):
        here = play(exchange, url)
    with separate_exchange(made_world(), tmp_path) as remote:
        there = play(remote, remote.url)

    assert here == there
    assert here["orders_sent"] == {"a": 1, "b": 1}


def test_an_order_of_a_client_that_was_killed_before_the_answer_is_there(tmp_path: Path) -> None:
    world = made_world()
    now_ms = int(world.start_at.timestamp() * 1000)
    with separate_exchange(world, tmp_path) as exchange:
        exchange.faults.next("POST /api/v3/order", Fault.DELAY_AFTER, seconds=20)
        command = [sys.executable, "-c", CLIENT, exchange.url, str(tmp_path / "world.npz"), str(now_ms)]
        root = Path(__file__).resolve().parents[2]
        with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
            assert client.stdin is not None
            assert client.stdout is not None
            assert client.stdout.readline() == "ready\n"
            client.stdin.write("go\n")
            client.stdin.flush()
            deadline = time.monotonic() + 10
            while not exchange.orders_sent() and time.monotonic() < deadline:
                time.sleep(0.01)
            os.kill(client.pid, signal.SIGKILL)
            assert client.stdout.read() == ""
        survivor = ccxt_client("binance", exchange.url, world, lambda: now_ms)
        found = survivor.fetch_order("", "BTC/USDT", {"origClientOrderId": "from-the-dead"})

    assert (found["status"], found["filled"]) == ("closed", 0.01)


def test_starting_and_answering_are_quick() -> None:
    world = made_world()
    began = time.perf_counter()
    with loopback_exchange(world) as (exchange, url):
        started = time.perf_counter() - began
        client = ccxt_client("binance", url, world, lambda: exchange.clock.now_ms)
        client.load_markets()
        times = []
        for _ in range(40):
            began = time.perf_counter()
            client.fetch_balance()
            times.append(time.perf_counter() - began)

    assert started < 0.3
    assert min(times) < 0.003
