"""The simulated exchange as an exchange: ids, restarts, cancels, the order of events. Its fill rules: unit/execution/test_fill_rules.py."""

from __future__ import annotations

import pytest

from made_world import PAIR, D, Exchange, at, make_order, steady
from tickless.adapters.sim_exchange import SimExchange, TextAccounts
from tickless.errors import OrderRejectedError, RetryableError
from tickless.types import Liquidity, OrderStatus, Side

OTHER = "BBB/USDT"
FLAT = (100.0, 101.0, 99.0, 100.0, 1000.0)
FALLING = [(100.0 - 10 * n, 101.0 - 10 * n, 89.0 - 10 * n, 90.0 - 10 * n, 1000.0) for n in range(5)]


def restarted(exchange: Exchange) -> Exchange:
    """The same account in a new process."""
    exchange.sim = SimExchange(TextAccounts(exchange.store), exchange.bars, exchange.market, exchange.settings)
    return exchange


def test_a_new_account_holds_the_wallet():
    assert Exchange({PAIR: steady()}, wallet="1234.5").tick(0) == {"USDT": D("1234.5")}


def test_the_wallet_is_that_of_the_first_look():
    exchange = Exchange({PAIR: steady()}, wallet="1234.5")
    exchange.settings = Exchange({PAIR: steady()}, wallet="77").settings
    assert restarted(exchange).tick(1) == {"USDT": D("1234.5")}
    exchange.send(make_order(tick=1))
    assert exchange.tick(2) == {"USDT": D("1134.5"), "AAA": D(1)}


def test_a_second_submission_reports_the_first_and_sends_nothing():
    exchange = Exchange({PAIR: steady()})
    first = exchange.send(make_order(qty="2"))
    balances = exchange.tick(1)
    again = restarted(exchange).send(make_order(qty="2"), 1)
    assert again == first
    assert exchange.tick(1) == balances == {"USDT": D(99800), "AAA": D(2)}


def test_a_second_submission_of_a_refused_order_stays_refused():
    exchange = Exchange({PAIR: steady()})
    with pytest.raises(OrderRejectedError):
        exchange.send(make_order(qty="2000"))
    report = exchange.send(make_order(qty="2"))
    assert (report.status, report.fills) == (OrderStatus.REJECTED, ())


def test_a_snapshot_reports_what_it_is_asked_about_and_leaves_out_what_it_does_not_know():
    exchange = Exchange({PAIR: steady()})
    known, unknown = make_order(limit_price=95), make_order(order_id="never")
    exchange.send(known)
    snapshot = exchange.sim.snapshot(at(1), (known, unknown))
    assert set(snapshot.reports) == {"o1"}
    assert snapshot.reports["o1"].status is OrderStatus.OPEN
    assert snapshot.at == at(1)


def test_asking_twice_and_restarting_in_between_changes_nothing():
    exchange = Exchange({PAIR: FALLING}, max_participation_frac=0.001)
    order = make_order(qty="3", tick=1)
    exchange.send(order)
    first = exchange.report(order, 3)
    assert restarted(exchange).report(order, 3) == first
    assert exchange.report(order, 2) == first, "a time before the last settlement settles nothing anew"


def test_bars_are_worked_off_one_after_the_other_whether_asked_at_each_tick_or_once():
    def play(ticks: list[int]) -> tuple[object, ...]:
        exchange = Exchange({PAIR: FALLING, OTHER: steady()}, max_participation_frac=0.002)
        orders = [
            make_order(qty="5", tick=1),
            make_order(qty="2", tick=1, limit_price=75, order_id="o2"),
            make_order(qty="3", tick=1, pair=OTHER, order_id="o3"),
        ]
        for order in orders:
            exchange.send(order)
        for bar in ticks:
            exchange.tick(bar)
        return tuple(exchange.report(order, 4) for order in orders), dict(exchange.tick(4))

    assert play([2, 3, 4]) == play([4])


def test_resting_orders_are_settled_on_closed_bars_before_waiting_orders_fill_at_the_open():
    # The limit sell inside bar 2 brings the cash that the waiting buy needs at the open of bar 3.
    exchange = Exchange({PAIR: [(100.0, 106.0, 99.0, 100.0, 1e3)] * 4, OTHER: steady()}, wallet="101", latency_s=1.0)
    exchange.send(make_order())
    exchange.send(make_order(Side.SELL, tick=1, limit_price=105, order_id="o2"))
    buy = make_order(pair=OTHER, tick=2, order_id="o3")
    exchange.send(buy)
    assert exchange.report(buy, 3).status is OrderStatus.FILLED
    assert exchange.tick(3) == {"USDT": D(6), "BBB": D(1)}


def test_cancelling_ends_what_is_open_and_keeps_what_was_filled():
    exchange = Exchange({PAIR: steady(volume=10.0)}, max_participation_frac=0.1)
    order = make_order(qty="5", tick=1)
    exchange.send(order)
    report = exchange.sim.cancel(order, at(1))
    assert (report.status, [fill.qty for fill in report.fills]) == (OrderStatus.CANCELED, [D(1)])
    assert exchange.tick(4)["AAA"] == D(1)


def test_cancelling_first_works_off_the_bars_that_have_closed():
    exchange = Exchange({PAIR: FALLING})
    order = make_order(limit_price=95)
    exchange.send(order)
    exchange.bars.write(exchange.panel.closed_at(at(1)))
    assert exchange.sim.cancel(order, at(1)).status is OrderStatus.FILLED


def test_cancelling_an_order_that_is_over_or_unknown_reports_it_as_it_is():
    exchange = Exchange({PAIR: steady()})
    order = make_order()
    exchange.send(order)
    assert exchange.sim.cancel(order, at(1)).status is OrderStatus.FILLED
    unknown = exchange.sim.cancel(make_order(order_id="never"), at(1))
    assert (unknown.status, unknown.message) == (OrderStatus.CANCELED, "unknown to the exchange")


def test_liquidation_fills_whole_at_the_price_given_at_the_taker_fee_and_once():
    exchange = Exchange({PAIR: steady(volume=10.0)}, taker_fee_bps=10.0, slippage_bps=50.0, max_participation_frac=1.0)
    exchange.send(make_order(qty="8", tick=1))
    cash = exchange.tick(3)["USDT"]
    close = make_order(Side.SELL, "8", tick=3, order_id="close")
    report = exchange.sim.liquidate(close, at(3), 97.5)
    (fill,) = report.fills
    assert (report.status, fill.price, fill.fee, fill.liquidity) == (OrderStatus.FILLED, D("97.5"), D("0.78"), Liquidity.TAKER)
    assert exchange.sim.liquidate(close, at(3), 97.5) == report
    assert exchange.tick(3) == {"USDT": cash + 780 - D("0.78")}


def test_a_save_that_comes_second_has_no_effect_and_may_be_repeated():
    exchange = Exchange({PAIR: steady()})
    exchange.send(make_order())
    stale = exchange.store.load()
    assert stale is not None
    exchange.send(make_order(order_id="o2"))
    with pytest.raises(RetryableError):
        exchange.store.save(stale[0], stale[1], {})
    assert exchange.tick(1)["AAA"] == D(2)


def test_settings_of_the_tick_apply():
    exchange = Exchange({PAIR: [FLAT] * 4}, taker_fee_bps=10.0)
    first = exchange.send(make_order())
    exchange.settings = exchange.settings.model_copy(
        update={"execution": exchange.settings.execution.model_copy(update={"taker_fee_bps": 20.0})}
    )
    second = restarted(exchange).send(make_order(order_id="o2"))
    assert [report.fills[0].fee for report in (first, second)] == [D("0.1"), D("0.2")]
