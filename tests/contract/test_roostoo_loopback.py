"""The account at Roostoo on loopback: after many ticks of random faults every order has one name and the money adds up."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.loopback import Fault, LoopbackExchange, World
from tests.loopback.made_worlds import made_world
from tickless.adapters.roostoo_client import RoostooClient
from tickless.adapters.roostoo_exchange import RoostooExchange
from tickless.adapters.roostoo_sent import MemorySentStore
from tickless.adapters.secrets import ApiKeys
from tickless.errors import ExchangeError, OrderRejectedError, RetryableError, UnknownOutcomeError
from tickless.types import Fill, Order, OrderReport, OrderType, Side, base_asset, from_ms

pytest_plugins = ["tests.loopback.fixtures"]

STEP = timedelta(minutes=15)
FAULTS = dict.fromkeys(
    (
        Fault.RATE_LIMIT,
        Fault.SERVER_ERROR,
        Fault.SERVER_ERROR_AFTER,
        Fault.CUT_BEFORE,
        Fault.CUT_AFTER,
        Fault.CUT_INSIDE,
        Fault.VANISHED,
        Fault.TRUNCATED,
        Fault.MALFORMED,
        Fault.STRINGS,
        Fault.NAN,
        Fault.WRONG_PAIR,
    ),
    0.02,
)


class Desk:
    """Sends orders tick by tick and books what is reported, each fill once."""

    def __init__(self, loopback: LoopbackExchange, url: str) -> None:
        self.loopback, self.url, self.store = loopback, url, MemorySentStore()
        self.open: dict[str, Order] = {}
        self.fills: dict[str, Fill] = {}
        self.count = 0

    def process(self) -> RoostooExchange:
        world = self.loopback.world
        keys = ApiKeys("desk/roostoo", world.key, world.secret)
        client = RoostooClient(keys, base_url=self.url, timeout_s=2.0, now=lambda: from_ms(self.loopback.clock.now_ms))
        return RoostooExchange(client, self.store, "USD", now=lambda: from_ms(self.loopback.clock.now_ms), sleep=lambda _: None)

    def book(self, report: OrderReport) -> None:
        for fill in report.fills:
            assert self.fills.setdefault(fill.client_order_id, fill) == fill
        if report.status.is_final:
            self.open.pop(report.client_order_id, None)

    def tick(self, chance: random.Random) -> None:
        exchange = self.process()
        asked = list(self.open.values())
        try:
            reports = exchange.snapshot(from_ms(self.loopback.clock.now_ms), asked).reports
        except ExchangeError:
            return
        for report in reports.values():
            self.book(report)
        for order in asked:
            if order.client_order_id not in reports:
                del self.open[order.client_order_id]
        for order in list(self.open.values()):
            if chance.random() < 0.3:
                self.attempt(exchange.cancel, order)
        for _ in range(chance.randrange(4)):
            order = self.new(chance)
            self.open[order.client_order_id] = order
            self.attempt(exchange.submit, order)

    def attempt(self, action: Callable[[Order, Any], OrderReport], order: Order) -> None:
        sending = action.__name__ == "submit"
        try:
            self.book(action(order, order.tick_at))
        except UnknownOutcomeError:
            return
        except (OrderRejectedError, RetryableError):
            if sending:
                del self.open[order.client_order_id]

    def new(self, chance: random.Random) -> Order:
        self.count += 1
        at = from_ms(self.loopback.clock.now_ms)
        pair, side = chance.choice(self.pairs), chance.choice([Side.BUY, Side.BUY, Side.SELL])
        price = self.price(pair)
        limit = (price * Decimal("0.999")).quantize(Decimal("0.01")) if chance.random() < 0.4 and side is Side.BUY else None
        kind = OrderType.MARKET if limit is None else OrderType.LIMIT
        qty = (Decimal(40) / price).quantize(Decimal("0.001")) + Decimal("0.001")
        return Order(f"o-{self.count}", at, "s", pair, side, kind, qty, "entry", limit)

    @property
    def pairs(self) -> list[str]:
        return [f"{base_asset(pair)}/USD" for pair in self.loopback.world.panel.pairs][:2]

    def price(self, pair: str) -> Decimal:
        panel = self.loopback.world.panel
        first = panel.close[0, panel.column[f"{base_asset(pair)}/USDT"]]
        return Decimal(str(round(float(first), 1)))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_through_random_faults_every_order_keeps_its_name_and_the_money_adds_up(serve: Any, seed: int) -> None:
    world: World = made_world()
    loopback, url = serve(world)
    desk, chance = Desk(loopback, url), random.Random(seed)
    for path in ("place_order", "query_order", "cancel_order", "balance"):
        verb = "GET" if path == "balance" else "POST"
        loopback.faults.random(seed, FAULTS, f"{verb} /v3/{path}")
    for n in range(1, 201):
        loopback.set_time(world.start_at + n * STEP)
        desk.tick(chance)
    loopback.faults.clear()
    for n in (201, 202):
        loopback.set_time(world.start_at + n * STEP)
        desk.tick(random.Random(0))
        for order in list(desk.open.values()):
            desk.attempt(desk.process().cancel, order)
    told = {str(order["id"]): order for order in loopback.state("roostoo")["orders"] if Decimal(order["filled"])}
    assert desk.count > 100
    assert not desk.open
    assert sorted(fill.fill_id for fill in desk.fills.values()) == sorted(told, key=str)
    held = desk.process().snapshot(world.start_at, []).balances
    cash = world.roostoo["USD"]
    for fill in desk.fills.values():
        cash += fill.qty * fill.price * (1 if fill.side is Side.SELL else -1)
        cash -= fill.fee_qty if fill.fee_asset == "USD" else 0
    assert abs(held["USD"] - cash) < Decimal("0.0001")
