"""Stops that rest at the exchange on loopback, spot and contracts: whole ticks through the real ccxt client."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.loopback import Fault, FeeIn, LoopbackExchange
from tests.loopback import World as Loopback
from tests.made_accounts import VENUES, open_account
from tests.made_world import T0, World, at
from tickless.adapters.ccxt_exchange import CcxtExchange
from tickless.adapters.folder_market import FolderMarket
from tickless.adapters.synthetic_market import make_market
from tickless.bars import COLUMNS, Panel
from tickless.errors import WouldTriggerError
from tickless.settings import load_desk
from tickless.types import Flatten, Halt, LedgerUpdate, Order, OrderStatus, OrderType, PairRules, RestingStops, Side, base_asset

pytest_plugins = ["tests.loopback.fixtures"]

D = Decimal
EAGER = "strategy.rotation.fallback_threshold_frac=-1.0"
RESTING = "execution.stoploss_on_exchange=true"
CRASH = 6
"""The bar inside which all prices fall by a tenth, and recover."""


@dataclass
class Desk:
    """A desk in memory whose account is the one on loopback."""

    world: World
    loopback: LoopbackExchange
    url: str
    kind: str

    def account(self) -> CcxtExchange:
        return open_account(self.loopback, self.url, self.kind)

    def run(self, name: str, when: datetime) -> Any:
        self.loopback.set_time(when + timedelta(seconds=2))
        ports = self.world.ports(lambda what, port: self.account() if what == "exchange" else port)
        return self.world.run(name, when, ports, 2.0)

    def expect_protected(self) -> None:
        """Each position has one stop, of all that is held, in the ledger and at the exchange; nothing else rests there."""
        state = self.world.ledger.load()
        stops = {order.pair: order for order in state.orders.values()}
        assert stops.keys() == state.positions.keys(), dict(state.unprotected)
        assert len(stops) == len(state.orders)
        snapshot = self.account().snapshot(self.world.clock.now(), tuple(stops.values()))
        assert snapshot.reports.keys() == state.orders.keys()
        assert {report.status for report in snapshot.reports.values()} <= {OrderStatus.OPEN}
        for pair, order in stops.items():
            step = self.world.market.rules()[pair].qty_step
            assert (order.type, order.qty) == (OrderType.STOP, state.positions[pair].qty // step * step)
        assert self.resting() == len(stops)
        held = {base_asset(pair): position.qty for pair, position in state.positions.items()}
        assert {asset: qty for asset, qty in snapshot.balances.items() if asset != "USDT"} == held
        assert self.world.metrics.counts.get("LedgerMismatch", 0) == 0

    def resting(self) -> int:
        """How many orders are open at the exchange, whoever asks."""
        params = [{}] if self.kind == "spot" else [{}, {"trigger": True}]
        client = self.account().client
        client.options["warnOnFetchOpenOrdersWithoutSymbol"] = False
        return sum(len(client.fetch_open_orders(None, None, None, one)) for one in params)

    def stops(self) -> dict[str, Order]:
        return {order.pair: order for order in self.world.ledger.load().orders.values() if order.type is OrderType.STOP}


@pytest.fixture(scope="module")
def market() -> FolderMarket:
    """Eight pairs, on steps that all of their prices can keep, which fall by a tenth inside one bar and recover."""
    made = make_market(start=T0 - timedelta(days=45), end=T0 + timedelta(days=1), pairs=8, seed=2, events=False)
    panel = made.panel
    columns = {name: getattr(panel, name).copy() for name in COLUMNS}
    columns["low"][panel.row_at(T0) + CRASH] *= 0.9
    crashed = Panel(panel.timeframe, panel.pairs, panel.start_ms, **columns)
    return FolderMarket(crashed, {pair: PairRules(pair, D("0.00000001"), D("0.00001"), D(5), D("0.00001")) for pair in panel.pairs})


@pytest.fixture(params=["spot", "swap"])
def desk(request: pytest.FixtureRequest, market: FolderMarket, serve: Callable[..., Any]) -> Desk:
    """A desk that has just bought."""
    kind = str(request.param)
    wallet = {"spot" if kind == "spot" else VENUES[kind]: {"USDT": D(50_000)}}
    loopback, url = serve(Loopback(market.panel, T0, dict(market.rules()), fee_in=FeeIn.QUOTE, **wallet))
    overrides = [EAGER, RESTING, "risk.trail_arm_atr=0.05", "risk.trail_distance_atr=0.9"]
    desk = Desk(World(market, load_desk("rotation", overrides)), loopback, url, kind)
    desk.run("feature_rebalance", at(0))
    assert len(desk.stops()) > 2
    return desk


def test_stops_are_placed_with_the_entry_moved_as_they_rise_and_fill_inside_a_bar_once(desk):
    desk.expect_protected()
    seen = desk.stops()
    for bar in range(1, CRASH + 1):
        desk.run("risk_check", at(bar))
        desk.expect_protected()
    risen = {pair for pair, order in desk.stops().items() if pair in seen and order.stop_price > seen[pair].stop_price}
    assert risen, "the market moves within six bars"
    last = desk.stops()

    desk.run("risk_check", at(CRASH + 1))

    state = desk.world.ledger.load()
    assert not state.positions
    assert not state.orders
    assert desk.resting() == 0
    assert state.blocked.keys() >= last.keys()
    trades = {trade.pair: trade for trade in desk.world.ledger.trades() if trade.pair in last}
    assert {pair: trade.exit_reason for pair, trade in trades.items()} == {pair: order.reason for pair, order in last.items()}
    fills = list(desk.world.ledger.fills())
    assert len({fill.fill_id for fill in fills}) == len(fills)
    assert len(fills) == len(desk.loopback.state(VENUES[desk.kind])["trades"]), "each fill of the exchange is booked, once"
    sold = [order for order in desk.world.ledger.orders() if order.side is Side.SELL and order.filled_qty > 0]
    assert {order.type for order in sold if order.client_order_id in {one.client_order_id for one in last.values()}} == {OrderType.STOP}
    assert not desk.loopback.resent()


def test_an_exit_takes_its_stop_along(desk):
    ledger = desk.world.ledger
    fence = ledger.acquire("flatten by a person", at(0), 1)
    state = ledger.load()
    asked = replace(state, halt=Halt("flatten: leaving", at(0)), flatten=Flatten("leaving", at(0)))
    ledger.journal(fence, [LedgerUpdate(desk=asked)])
    ledger.release(fence)

    desk.run("risk_check", at(1))

    state = desk.world.ledger.load()
    assert not state.positions
    assert not state.orders
    assert desk.resting() == 0
    stops = [order for order in ledger.orders() if order.type is OrderType.STOP]
    assert {order.status for order in stops} == {OrderStatus.CANCELED}
    assert {trade.exit_reason for trade in ledger.trades()} == {"flatten"}
    assert not desk.loopback.resent()


def test_a_stop_that_the_market_has_reached_already_is_refused_as_such(desk):
    pair, stop = next(iter(desk.stops().items()))
    account = desk.account()
    assert account.resting_stops(pair) is (RestingStops.CANCEL_FIRST if desk.kind == "spot" else RestingStops.PLACE_FIRST)
    assert account.resting_stops("GONE/USDT") is RestingStops.NONE
    account.cancel(stop, at(0))
    price = D(
        repr(round(float(desk.world.market.panel.open[desk.world.market.panel.row_at(T0), desk.world.market.panel.column[pair]]) * 1.5, 4))
    )
    with pytest.raises(WouldTriggerError):
        account.submit(replace(stop, client_order_id="above", stop_price=price), at(0))


def test_what_a_sale_in_the_place_of_a_stop_leaves_over_is_sold_by_another_and_booked_once(desk):
    """The price falls through the stop before it rests, and the sale at market finds a counterpart for half of it."""
    pair, stop = min(desk.stops().items())
    desk.account().cancel(stop, at(0))
    stops, sales, code, says = {
        "spot": ("POST /api/v3/order", "POST /api/v3/order", -2010, "Stop price would trigger immediately."),
        "swap": ("POST /fapi/v1/algoOrder", "POST /fapi/v1/order", -2021, "Order would immediately trigger."),
    }[desk.kind]
    faults = desk.loopback.faults
    faults.next(stops, Fault.REFUSED, code=code, msg=says)
    faults.next(sales, Fault.PARTIAL)
    faults.next(stops, Fault.REFUSED, code=code, msg=says, skip=1)  # Another pair's stop lies between.

    desk.run("risk_check", at(1))

    assert sum(faults.seen.values()) == 3
    sold = [order for order in desk.world.ledger.orders() if (order.pair, order.type) == (pair, OrderType.MARKET) and order.reduce_only]
    assert len(sold) == 2
    assert sum(order.filled_qty for order in sold) == stop.qty
    fills = list(desk.world.ledger.fills())
    assert len(fills) == len(desk.loopback.state(VENUES[desk.kind])["trades"]), "each fill of the exchange is booked, once"
    desk.run("risk_check", at(2))
    assert pair not in desk.world.ledger.load().positions
    desk.expect_protected()
