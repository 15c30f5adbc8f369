"""Orders alike at an exchange without client order ids: through lost answers and deaths of the process no name is lost or doubled."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "contract"))

from roostoo_loopback import CUT_AFTER, CUT_BEFORE, KEY, SECRET, TRUNCATED, Roostoo, serving

from tickless.adapters.memory import ManualClock
from tickless.adapters.roostoo_client import RoostooClient
from tickless.adapters.roostoo_exchange import RoostooExchange
from tickless.adapters.roostoo_sent import MemorySentStore
from tickless.adapters.secrets import ApiKeys
from tickless.errors import ExchangeError, RetryableError, UnknownOutcomeError
from tickless.types import Order, OrderReport, OrderType, Side, parse_time

T0 = parse_time("2024-06-01T00:00:00Z")
Q1, Q2 = Decimal("0.5"), Decimal("0.7")
KEYS = ApiKeys("tickless/roostoo", KEY, SECRET)


@pytest.fixture(scope="module")
def server() -> Iterator[Roostoo]:
    with serving(Roostoo(ManualClock(T0))) as running:
        yield running


faults = st.sampled_from([None, None, CUT_BEFORE, CUT_AFTER, TRUNCATED, (503, ""), (429, "", {"Retry-After": "5"})])
steps = st.lists(
    st.tuples(
        st.sampled_from(["submit", "submit", "again", "snapshot", "die"]),
        st.integers(0, 1),  # which of two likenesses
        faults,  # of the order
        faults,  # of the first lookup after it
        st.sampled_from([0, 1, 20, 70, 900]),  # seconds that pass first
    ),
    max_size=20,
)


class Desk:
    """What a desk does with the exchange, and the number under which each of its orders was filled."""

    def __init__(self, server: Roostoo) -> None:
        server.__dict__.update({k: v for k, v in Roostoo(ManualClock(T0)).__dict__.items() if k not in ("url", "lock")})
        self.server, self.store = server, MemorySentStore()
        self.asked: list[Order] = []
        self.given_up: set[str] = set()
        self.numbers: dict[str, str] = {}
        self.die()

    def die(self) -> None:
        """A new process, with nothing but the store."""
        now, sleep = self.server.clock.now, self.server.clock.sleep
        self.exchange = RoostooExchange(RoostooClient(KEYS, base_url=self.server.url, now=now), self.store, "USD", now=now, sleep=sleep)

    def note(self, report: OrderReport) -> None:
        for fill in report.fills:
            assert self.numbers.setdefault(report.client_order_id, fill.fill_id) == fill.fill_id

    def new(self, likeness: int) -> None:
        name = f"o-{len(self.asked) + len(self.given_up)}"
        self.asked.append(Order(name, T0, "s", "BTC/USD", Side.BUY, OrderType.MARKET, (Q1, Q2)[likeness], "entry"))

    def submit(self) -> None:
        """Submit the latest order, for the first time or again; what was certainly not accepted is given up, as the desk does."""
        try:
            self.note(self.exchange.submit(self.asked[-1], T0))
        except UnknownOutcomeError:
            return
        except RetryableError:
            self.given_up.add(self.asked.pop().client_order_id)

    def snapshot(self) -> None:
        with suppress(ExchangeError):
            for report in self.exchange.snapshot(T0, self.asked).reports.values():
                self.note(report)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=steps)
def test_every_order_keeps_its_name(server: Roostoo, plan) -> None:
    desk = Desk(server)
    for action, likeness, fault, lookup, passed in plan:
        server.clock.sleep(passed)
        server.faults = {"/v3/place_order": [fault], "/v3/query_order": [lookup]}
        if action == "die":
            desk.die()
        elif action == "snapshot":
            desk.snapshot()
        elif action == "submit" or desk.asked:
            if action == "submit":
                desk.new(likeness)
            desk.submit()
    server.faults = {}
    server.clock.sleep(900)
    desk.die()
    for report in desk.exchange.snapshot(T0, desk.asked).reports.values():
        assert report.status.is_final, report.message
        desk.note(report)
    there = {str(order["OrderID"]): order["Quantity"] for order in server.orders}
    assert sorted(desk.numbers.values()) == sorted(there)
    assert {name: there[number] for name, number in desk.numbers.items()} == {
        order.client_order_id: order.qty for order in desk.asked if order.client_order_id in desk.numbers
    }
