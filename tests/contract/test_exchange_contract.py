"""One contract for every Exchange: the simulated one, and the real ccxt client on loopback, spot and contracts, over the same bars.

What each does apart from the others is in test_ccxt_exchange.py and in tests/unit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal

import pytest

from tests.loopback import FeeIn, World
from tests.made_accounts import open_account
from tests.made_world import T0, at, make_order, make_panel
from tests.made_world import Exchange as SimulatedDesk
from tickless.errors import OrderRejectedError
from tickless.ports import Exchange
from tickless.types import Order, OrderReport, OrderStatus, PairRules, Side

pytest_plugins = ["tests.loopback.fixtures"]

PAIR = "BTC/USDT"
D = Decimal
BARS = [
    (100.0, 101.0, 99.0, 100.0, 10.0),
    (100.0, 101.0, 99.0, 100.0, 10.0),
    (100.0, 101.0, 97.0, 98.0, 10.0),
    (98.0, 99.0, 90.0, 91.0, 10.0),
    (91.0, 92.0, 90.0, 91.0, 10.0),
    (91.0, 92.0, 90.0, 91.0, 10.0),
]
RULES = {PAIR: PairRules(PAIR, D("0.01"), D("0.001"), D(5), D("0.001"))}
KINDS = ("sim", "spot", "swap")


@dataclass
class Stage:
    """An exchange, and how its time is moved to the open of a bar."""

    exchange: Exchange
    move: Callable[[float], object]

    def ask(self, bar: float, *orders: Order) -> Mapping[str, OrderReport]:
        self.move(bar)
        return self.exchange.snapshot(at(bar), orders).reports

    def holds(self, bar: float) -> dict[str, Decimal]:
        self.move(bar)
        return {asset: amount for asset, amount in self.exchange.snapshot(at(bar), ()).balances.items() if amount}

    def send(self, order: Order) -> OrderReport:
        return self.exchange.submit(order, order.tick_at)


@pytest.fixture(params=KINDS)
def open_stage(request, serve):
    def opened(participation: str = "0") -> Stage:
        if request.param == "sim":
            fees = {"taker_fee_bps": 10.0, "maker_fee_bps": 10.0, "max_participation_frac": float(participation)}
            desk = SimulatedDesk({PAIR: BARS}, wallet="10000", rules=RULES, **fees)
            return Stage(desk.sim, desk.tick)
        rate = D("0.001")
        panel = make_panel({PAIR: BARS})
        world = World(panel, T0, RULES, taker_frac=rate, maker_frac=rate, fee_in=FeeIn.QUOTE, participation_frac=D(participation))
        loopback, url = serve(world)
        return Stage(open_account(loopback, url, request.param), lambda bar: loopback.set_time(at(bar)))

    return opened


@pytest.fixture
def stage(open_stage):
    return open_stage()


def order(side: Side = Side.BUY, qty: str = "2", **changes: object) -> Order:
    return make_order(side, qty, pair=PAIR, **changes)


def test_a_fresh_account_holds_its_cash_and_knows_no_order(stage):
    assert stage.holds(0) == {"USDT": D(10_000)}
    assert stage.ask(0, order()) == {}


def test_a_market_order_fills_at_the_open_and_moves_the_balances(stage):
    report = stage.send(order())
    assert (report.status, report.client_order_id) == (OrderStatus.FILLED, "o1")
    (fill,) = report.fills
    assert (fill.pair, fill.side, fill.qty, fill.price, fill.liquidity) == (PAIR, Side.BUY, D(2), D(100), "taker")
    assert (fill.fee, fill.fee_asset, fill.fee_qty) == (D("0.2"), "USDT", D("0.2"))
    assert stage.holds(0) == {"BTC": D(2), "USDT": D("9799.8")}
    assert stage.ask(0, order()) == {"o1": report}


def test_a_sell_closes_what_was_bought_and_the_cash_is_what_the_fills_say(stage):
    stage.send(order())
    stage.move(3)
    report = stage.send(order(Side.SELL, order_id="o2", tick=3, reduce_only=True))
    assert (report.status, report.fills[0].price) == (OrderStatus.FILLED, D(98))
    assert stage.holds(3) == {"USDT": D(10_000) - D("200.2") + D("195.804")}


def test_a_second_submission_reports_the_first_and_sends_nothing(stage):
    first = stage.send(order())
    held = stage.holds(0)
    assert stage.send(order()) == first
    assert stage.holds(0) == held


def test_a_resting_limit_is_open_then_fills_as_maker(stage):
    limit = order(limit_price=98)
    assert stage.send(limit) == OrderReport("o1", OrderStatus.OPEN)
    assert stage.ask(2, limit) == {"o1": OrderReport("o1", OrderStatus.OPEN)}
    report = stage.ask(3, limit)["o1"]
    assert (report.status, [(fill.price, fill.qty, fill.liquidity) for fill in report.fills]) == (
        OrderStatus.FILLED,
        [(D(98), D(2), "maker")],
    )
    assert stage.holds(3)["BTC"] == D(2)


def test_a_cancelled_order_is_reported_cancelled_and_gives_back_what_it_held(stage):
    limit = order(limit_price=90)
    stage.send(limit)
    assert stage.exchange.cancel(limit, at(0)).status is OrderStatus.CANCELED
    assert stage.exchange.cancel(limit, at(0)).status is OrderStatus.CANCELED
    assert stage.ask(5, limit)["o1"] == OrderReport("o1", OrderStatus.CANCELED, (), stage.ask(5, limit)["o1"].message)
    assert stage.holds(5) == {"USDT": D(10_000)}


def test_cancelling_what_has_filled_reports_the_fills_and_what_is_unknown_is_cancelled(stage):
    filled = stage.send(order())
    assert stage.exchange.cancel(order(), at(0)) == filled
    unknown = stage.exchange.cancel(order(order_id="never"), at(0))
    assert unknown == OrderReport("never", OrderStatus.CANCELED, (), "unknown to the exchange")


@pytest.mark.parametrize("changes", [{"qty": "0.0005"}, {"qty": "0.01", "limit_price": 98}, {"qty": "0.01"}])
def test_an_order_below_the_exchanges_minimum_is_rejected_and_leaves_nothing(stage, changes):
    with pytest.raises(OrderRejectedError, match=PAIR):
        stage.send(order(**changes))
    assert stage.holds(0) == {"USDT": D(10_000)}


def test_an_order_the_account_cannot_pay_is_rejected(stage):
    with pytest.raises(OrderRejectedError, match=PAIR):
        stage.send(order(qty="200"))
    assert stage.holds(0) == {"USDT": D(10_000)}


def test_a_partial_fill_stays_open_and_keeps_its_fills_in_front(open_stage):
    stage = open_stage("0.1")
    limit = order(limit_price=98)
    stage.send(limit)
    part = stage.ask(3, limit)["o1"]
    assert (part.status, [fill.qty for fill in part.fills]) == (OrderStatus.OPEN, [D(1)])
    whole = stage.ask(4, limit)["o1"]
    assert (whole.status, [fill.qty for fill in whole.fills]) == (OrderStatus.FILLED, [D(1), D(1)])
    assert whole.fills[:1] == part.fills
    assert len({fill.fill_id for fill in whole.fills}) == 2


def test_what_is_left_of_a_partial_fill_can_be_cancelled(open_stage):
    stage = open_stage("0.1")
    limit = order(limit_price=98)
    stage.send(limit)
    part = stage.ask(3, limit)["o1"]
    report = stage.exchange.cancel(limit, at(3))
    assert (report.status, report.fills) == (OrderStatus.CANCELED, part.fills)
    assert stage.holds(3)["BTC"] == D(1)


def test_a_stop_rests_and_sells_when_it_is_reached(stage):
    stage.send(order())
    stop = order(Side.SELL, order_id="s1", stop_price=95, reduce_only=True)
    assert stage.send(stop) == OrderReport("s1", OrderStatus.OPEN)
    assert stage.ask(3, stop) == {"s1": OrderReport("s1", OrderStatus.OPEN)}
    report = stage.ask(4, stop)["s1"]
    assert (report.status, sum(fill.qty for fill in report.fills)) == (OrderStatus.FILLED, D(2))
    assert {(fill.price, fill.client_order_id) for fill in report.fills} == {(D(95), "s1")}
    assert "BTC" not in stage.holds(4)


def test_a_stop_that_is_not_needed_any_more_is_cancelled(stage):
    stage.send(order())
    stop = order(Side.SELL, order_id="s1", stop_price=95, reduce_only=True)
    stage.send(stop)
    assert stage.exchange.cancel(stop, at(0)) == OrderReport("s1", OrderStatus.CANCELED, (), "")
    assert stage.ask(5, stop)["s1"].status is OrderStatus.CANCELED
    assert stage.holds(5)["BTC"] == D(2)
