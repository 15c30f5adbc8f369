"""Every sentence of docs/fills.md, as an example on hand-made bars."""

from __future__ import annotations

from datetime import timedelta

import pytest

from made_world import PAIR, D, Exchange, at, make_order, steady
from tickless.errors import OrderRejectedError
from tickless.types import Liquidity, OrderStatus, PairRules, Side

BUY, SELL = Side.BUY, Side.SELL
TAKER, MAKER = Liquidity.TAKER, Liquidity.MAKER
MS = timedelta(milliseconds=1)
FLAT = (100.0, 101.0, 99.0, 100.0, 1000.0)


def bought(exchange: Exchange, qty: str = "1") -> Exchange:
    """The same exchange with a holding, bought at bar 0."""
    assert exchange.send(make_order(BUY, qty, order_id="first")).status is OrderStatus.FILLED
    return exchange


# Market orders


def test_without_latency_a_market_order_fills_at_once_at_the_open_of_the_bar_that_opens_now():
    exchange = Exchange({PAIR: [FLAT, (103.0, 120.0, 90.0, 110.0, 1000.0)]})
    report = exchange.send(make_order(tick=1))
    (fill,) = report.fills
    assert (report.status, fill.price, fill.filled_at, fill.liquidity) == (OrderStatus.FILLED, D(103), at(1), TAKER)


@pytest.mark.parametrize("latency_s", [0.5, 899.0, 900.0])
def test_with_latency_it_fills_at_the_open_of_the_first_bar_that_opens_after_it_arrived(latency_s):
    exchange = Exchange({PAIR: [FLAT, (103.0, 120.0, 90.0, 110.0, 1000.0), (105.0, 106.0, 104.0, 105.0, 1000.0)]}, latency_s=latency_s)
    order = make_order()
    assert exchange.send(order).status is OrderStatus.OPEN
    assert exchange.report(order, 0.5).fills == ()
    (fill,) = exchange.report(order, 2).fills
    assert (fill.price, fill.filled_at) == (D(103), at(1))


def test_latency_beyond_a_bar_costs_two():
    exchange = Exchange({PAIR: [FLAT, FLAT, (105.0, 106.0, 104.0, 105.0, 1000.0)]}, latency_s=901.0)
    order = make_order()
    exchange.send(order)
    assert exchange.report(order, 1).fills == ()
    assert exchange.report(order, 2).fills[0].filled_at == at(2)


def test_an_order_sent_between_two_opens_waits_for_the_next():
    exchange = Exchange({PAIR: [FLAT, (103.0, 120.0, 90.0, 110.0, 1000.0), FLAT]})
    order = make_order(tick=0.4)
    assert exchange.send(order).status is OrderStatus.OPEN
    assert exchange.report(order, 1).fills[0].price == D(103)


@pytest.mark.parametrize(("side", "price"), [(BUY, "100.15"), (SELL, "99.85")])
def test_slippage_makes_each_side_worse_and_the_fee_is_charged_once_a_side(side, price):
    exchange = bought(Exchange({PAIR: steady()}, slippage_bps=15.0, taker_fee_bps=10.0, maker_fee_bps=2.0), "2")
    cash = exchange.tick(1)["USDT"]
    (fill,) = exchange.send(make_order(side, "2", tick=1, order_id="second")).fills
    value = D(2) * D(price)
    assert (fill.price, fill.fee, fill.fee_asset, fill.fee_qty) == (D(price), value / 1000, "USDT", value / 1000)
    assert exchange.tick(1)["USDT"] == cash + (value if side is SELL else -value) - value / 1000


def test_a_pair_with_no_bar_fills_nothing_and_its_order_waits():
    exchange = Exchange({PAIR: [FLAT, None, None, (104.0, 105.0, 103.0, 104.0, 9.0)], "BBB/USDT": steady()})
    order = make_order(tick=1)
    assert exchange.send(order).status is OrderStatus.OPEN
    assert exchange.report(order, 2).fills == ()
    assert exchange.report(order, 3).fills[0].price == D(104)


# Limit orders


@pytest.mark.parametrize(("side", "limit"), [(BUY, 105), (BUY, 100), (SELL, 95), (SELL, 100)])
def test_a_marketable_limit_fills_as_taker_at_the_open_without_slippage(side, limit):
    exchange = bought(Exchange({PAIR: steady()}, slippage_bps=15.0, taker_fee_bps=10.0, maker_fee_bps=2.0))
    (fill,) = exchange.send(make_order(side, tick=1, limit_price=limit, order_id="second")).fills
    assert (fill.price, fill.liquidity, fill.filled_at, fill.fee) == (D(100), TAKER, at(1), D("0.1"))


@pytest.mark.parametrize(("side", "limit"), [(BUY, 95), (SELL, 105)])
def test_any_other_limit_rests_and_fills_as_maker_when_a_bar_trades_strictly_through_it(side, limit):
    touching = (100.0, 105.0, 95.0, 100.0, 1000.0)
    past = (100.0, 105.01, 94.99, 100.0, 1000.0)
    exchange = bought(Exchange({PAIR: [FLAT, FLAT, touching, past, FLAT]}, slippage_bps=15.0, taker_fee_bps=10.0, maker_fee_bps=2.0))
    order = make_order(side, tick=1, limit_price=limit, order_id="second")
    assert exchange.send(order).status is OrderStatus.OPEN
    assert exchange.report(order, 3).fills == ()
    assert exchange.report(order, 3.9).fills == (), "a bar counts once it has closed"
    (fill,) = exchange.report(order, 4).fills
    assert (fill.price, fill.liquidity, fill.fee) == (D(limit), MAKER, D(limit) * 2 / 10000)
    assert fill.filled_at == at(4) - MS, "one millisecond before the bar's close"


def test_a_resting_limit_gets_its_limit_even_where_the_market_gaps_past_it():
    exchange = Exchange({PAIR: [FLAT, (90.0, 91.0, 89.0, 90.0, 1000.0), FLAT]})
    order = make_order(limit_price=95)
    exchange.send(order)
    (fill,) = exchange.report(order, 2).fills
    assert (fill.price, fill.liquidity) == (D(95), MAKER)


def test_a_limit_that_was_sent_with_latency_is_compared_with_the_open_it_arrives_at():
    exchange = Exchange({PAIR: [(100.0, 101.0, 80.0, 100.0, 1e3), (94.0, 96.0, 94.0, 95.0, 1e3), FLAT]}, latency_s=1.0)
    order = make_order(limit_price=95)
    exchange.send(order)
    (fill,) = exchange.report(order, 1).fills
    assert (fill.price, fill.liquidity) == (D(94), TAKER), "the bar it arrived in does not count"


# Expiry


def test_an_order_expires_after_the_unfilled_timeout():
    exchange = Exchange({PAIR: steady()})
    order = make_order(limit_price=95, expires_at=at(2))
    exchange.send(order)
    assert exchange.report(order, 1).status is OrderStatus.OPEN
    report = exchange.report(order, 2)
    assert (report.status, report.message) == (OrderStatus.EXPIRED, "unfilled timeout")


def test_a_market_order_of_a_pair_without_bars_expires_too():
    exchange = Exchange({PAIR: [FLAT, None, None, FLAT], "BBB/USDT": steady()})
    order = make_order(tick=1, expires_at=at(3))
    exchange.send(order)
    assert exchange.report(order, 4).status is OrderStatus.EXPIRED


def test_no_fill_is_stamped_after_the_end_of_its_order():
    through = (100.0, 101.0, 90.0, 100.0, 1000.0)
    exchange = Exchange({PAIR: [through, FLAT]})
    order = make_order(limit_price=95, expires_at=at(0.5))
    exchange.send(order)
    assert exchange.report(order, 1).status is OrderStatus.EXPIRED


def test_a_bar_that_closes_just_as_an_order_expires_still_counts():
    through = (100.0, 101.0, 90.0, 100.0, 1000.0)
    exchange = Exchange({PAIR: [through, FLAT]})
    order = make_order(limit_price=95, expires_at=at(1))
    exchange.send(order)
    assert exchange.report(order, 1).status is OrderStatus.FILLED


# Stops


@pytest.mark.parametrize(
    ("bar", "price"),
    [
        ((100.0, 101.0, 95.0, 99.0, 1e3), "94.9525"),  # touched: at the stop, less 5 bps
        ((100.0, 101.0, 80.0, 99.0, 1e3), "94.9525"),
        ((90.0, 99.0, 85.0, 98.0, 1e3), "89.955"),  # a gap: at the open
    ],
)
def test_a_stop_fills_inside_a_bar_at_the_worse_of_stop_and_open_with_slippage(bar, price):
    exchange = bought(Exchange({PAIR: [FLAT, bar, FLAT]}, slippage_bps=5.0, taker_fee_bps=10.0))
    order = make_order(SELL, stop_price=95, order_id="stop")
    assert exchange.send(order).status is OrderStatus.OPEN
    assert exchange.report(order, 1).fills == ()
    (fill,) = exchange.report(order, 2).fills
    assert (fill.price, fill.liquidity, fill.fee) == (D(price), TAKER, D(price) / 1000)
    assert fill.filled_at == at(2) - MS


def test_a_stop_to_buy_fills_at_the_higher_of_stop_and_open():
    exchange = Exchange({PAIR: [FLAT, (107.0, 110.0, 104.0, 105.0, 1e3), FLAT]})
    order = make_order(BUY, stop_price=105, order_id="stop")
    exchange.send(order)
    assert exchange.report(order, 2).fills[0].price == D(107)


def test_where_stop_and_take_profit_lie_inside_one_bar_the_stop_wins():
    exchange = bought(Exchange({PAIR: [FLAT, (100.0, 120.0, 80.0, 100.0, 1e3), FLAT]}))
    profit, stop = make_order(SELL, limit_price=110, order_id="profit"), make_order(SELL, stop_price=95, order_id="stop")
    exchange.send(profit)
    exchange.send(stop)
    exchange.tick(2)
    assert exchange.report(stop, 2).fills[0].price == D(95)
    assert exchange.report(profit, 2).fills == ()


def test_the_stop_wins_even_where_the_volume_leaves_something_of_it():
    thin, wild = (100.0, 101.0, 99.0, 100.0, 10.0), (100.0, 120.0, 80.0, 96.0, 10.0)
    exchange = Exchange({PAIR: [FLAT, thin, wild, thin]}, max_participation_frac=0.1)
    exchange.send(make_order(BUY, "3", tick=1, order_id="first"))
    profit = make_order(SELL, "3", tick=1, limit_price=110, order_id="profit")
    stop = make_order(SELL, "3", tick=1, stop_price=95, order_id="stop")
    exchange.send(profit)
    exchange.send(stop)
    exchange.tick(3)
    stopped = exchange.report(stop, 3).fills
    assert [(fill.qty, fill.price) for fill in stopped] == [(D(1), D(95)), (D(1), D(100))], "inside the bar, then the next open"
    assert exchange.report(profit, 3).fills == ()


# Participation


def test_a_fill_takes_at_most_a_share_of_the_volume_of_the_bar_before_and_the_rest_tries_again():
    volumes = [50.0, 30.0, 10.0, 0.0, 100.0, 100.0]
    exchange = Exchange({PAIR: [(100.0 + n, 111.0, 99.0, 100.0, v) for n, v in enumerate(volumes)]}, max_participation_frac=0.1)
    order = make_order(BUY, "10", tick=1)
    exchange.send(order)
    fills = exchange.report(order, 5).fills
    assert [(fill.qty, fill.price, fill.filled_at) for fill in fills] == [
        (D(5), D(101), at(1)),
        (D(3), D(102), at(2)),
        (D(1), D(103), at(3)),
        (D(1), D(105), at(5)),
    ]
    assert exchange.report(order, 5).status is OrderStatus.FILLED


def test_the_rest_is_given_up_when_the_order_expires():
    exchange = Exchange({PAIR: steady(volume=10.0)}, max_participation_frac=0.1)
    order = make_order(BUY, "10", tick=1, expires_at=at(3))
    exchange.send(order)
    report = exchange.report(order, 5)
    assert (report.status, sum(fill.qty for fill in report.fills)) == (OrderStatus.EXPIRED, D(2))


def test_no_share_means_no_limit():
    exchange = Exchange({PAIR: [(100.0, 101.0, 99.0, 100.0, 0.001)] * 3}, max_participation_frac=0.0)
    assert exchange.send(make_order(BUY, "900", tick=1)).status is OrderStatus.FILLED


def test_a_bar_that_is_missing_lends_no_volume():
    exchange = Exchange({PAIR: [FLAT, None, FLAT, FLAT], "BBB/USDT": steady()}, max_participation_frac=0.1)
    order = make_order(BUY, "5", tick=2)
    assert exchange.send(order).fills == ()
    assert exchange.report(order, 3).fills[0].filled_at == at(3)


def test_the_rest_of_a_marketable_limit_tries_the_following_opens_and_then_rests():
    bars = [FLAT, (100.0, 101.0, 98.0, 100.0, 20.0), (101.0, 102.0, 100.5, 101.0, 1e3), (103.0, 104.0, 100.0, 103.0, 1e3), FLAT]
    exchange = Exchange({PAIR: [(100.0, 101.0, 99.0, 100.0, 30.0), *bars[1:]]}, max_participation_frac=0.1)
    order = make_order(BUY, "10", tick=1, limit_price=101)
    exchange.send(order)
    fills = exchange.report(order, 4).fills
    assert [(f.qty, f.price, f.liquidity) for f in fills] == [(D(3), D(100), TAKER), (D(2), D(101), TAKER), (D(5), D(101), MAKER)]


def test_a_resting_limit_takes_its_share_bar_by_bar():
    dip = (100.0, 101.0, 90.0, 100.0, 20.0)
    exchange = Exchange({PAIR: [(100.0, 101.0, 99.0, 100.0, 20.0), dip, dip, dip, FLAT]}, max_participation_frac=0.1)
    order = make_order(BUY, "5", tick=1, limit_price=95)
    exchange.send(order)
    assert [fill.qty for fill in exchange.report(order, 4).fills] == [D(2), D(2), D(1)]


# Filters and refusals

RULES = {PAIR: PairRules(PAIR, price_step=D("0.5"), qty_step=D("0.1"), min_notional=D(10), min_qty=D("0.2"))}


@pytest.mark.parametrize(
    ("order", "sentence"),
    [
        (make_order(qty="0.25"), "quantity 0.25 is not a multiple of 0.1"),
        (make_order(qty="0.1"), "quantity 0.1 is below the minimum 0.2"),
        (make_order(qty="0"), "quantity 0 is not positive"),
        (make_order(limit_price="95.3"), "price 95.3 is not a multiple of 0.5"),
        (make_order(qty="0.2", limit_price="45"), "the notional at 45 is below the minimum 10"),
        (make_order(qty="1001"), "insufficient balance: 100000 USDT free"),
        (make_order(qty="1001", limit_price="100"), "insufficient balance: 100000 USDT free"),
        (make_order(SELL, "1"), "insufficient balance: 0 AAA held"),
    ],
)
def test_the_exchange_refuses_by_name(order, sentence):
    exchange = Exchange({PAIR: steady()}, rules=RULES)
    with pytest.raises(OrderRejectedError, match=sentence):
        exchange.send(order)
    assert exchange.report(order, 1).status is OrderStatus.REJECTED
    assert exchange.tick(1) == {"USDT": D(100000)}


def test_a_market_order_is_held_to_the_minimum_notional_at_its_fill():
    exchange = Exchange({PAIR: steady(price=20.0)}, rules=RULES)
    with pytest.raises(OrderRejectedError, match="the notional at 20 is below the minimum 10"):
        exchange.send(make_order(qty="0.4"))
    assert exchange.send(make_order(qty="0.5", order_id="o2")).status is OrderStatus.FILLED


def test_with_filters_off_any_quantity_and_price_will_do():
    exchange = Exchange({PAIR: steady()}, rules=RULES, filters=False)
    assert exchange.send(make_order(qty="0.0123")).status is OrderStatus.FILLED
    assert exchange.send(make_order(qty="0.01", limit_price="95.3", order_id="o2")).status is OrderStatus.OPEN


def test_partial_fills_keep_to_the_quantity_step():
    exchange = Exchange({PAIR: steady(volume=12.34)}, rules=RULES, max_participation_frac=0.1)
    order = make_order(BUY, "2", tick=1)
    exchange.send(order)
    assert [fill.qty for fill in exchange.report(order, 2).fills] == [D("1.2"), D("0.8")]


def test_cash_that_open_limit_buys_claim_cannot_be_spent_twice_and_includes_their_fee():
    exchange = Exchange({PAIR: steady()}, wallet="1000", taker_fee_bps=10.0, maker_fee_bps=10.0)
    with pytest.raises(OrderRejectedError, match="insufficient balance"):
        exchange.send(make_order(qty="10.1", limit_price=99, order_id="fee"))
    exchange.send(make_order(qty="9", limit_price=99))
    with pytest.raises(OrderRejectedError, match=r"insufficient balance: 108\.109 USDT free"):
        exchange.send(make_order(qty="2", order_id="o2"))
    assert exchange.send(make_order(qty="1", order_id="o3")).status is OrderStatus.FILLED


def test_an_order_that_cash_no_longer_covers_when_it_fills_is_refused_then():
    exchange = Exchange({PAIR: [FLAT, (200.0, 201.0, 199.0, 200.0, 1e3), FLAT]}, wallet="150", latency_s=1.0)
    order = make_order()
    assert exchange.send(order).status is OrderStatus.OPEN
    report = exchange.report(order, 1)
    assert (report.status, report.message) == (OrderStatus.REJECTED, "insufficient balance: 150 USDT free")


def test_a_sell_of_what_another_order_sold_first_is_cancelled():
    exchange = bought(Exchange({PAIR: steady()}, latency_s=0.0))
    limit = make_order(SELL, tick=1, limit_price=100.5, order_id="limit")
    exchange.send(limit)
    exchange.send(make_order(SELL, tick=1, order_id="market"))
    report = exchange.report(limit, 2)
    assert (report.status, report.message) == (OrderStatus.CANCELED, "nothing left to sell")
