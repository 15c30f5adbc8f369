"""What the simulated exchange does where the price scale of a pair breaks: docs/fills.md, "A new price scale"."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from made_world import PAIR, D, Exchange, Row, at, make_order, steady
from tickless.adapters.price_scales import PanelScales
from tickless.adapters.sim_exchange import SimExchange, TextAccounts
from tickless.errors import OrderRejectedError
from tickless.execution.accounting import book
from tickless.execution.settlement import PRICE_SCALE_BREAK, settlement_due
from tickless.types import DeskState, OrderReport, OrderStatus, PairRules, Position, Side

BUY, SELL = Side.BUY, Side.SELL
OTHER = "BBB/USDT"
MS = timedelta(milliseconds=1)
OLD = (100.0, 101.0, 99.0, 100.0, 1000.0)
LAST = (100.0, 103.0, 99.0, 102.0, 1000.0)
NEW = (100_000.0, 101_000.0, 99_000.0, 100_500.0, 1000.0)
IDLE = (102.0, 102.0, 102.0, 102.0, 0.0)
AFTER_A_GAP: list[Row] = [OLD, LAST, None, None, NEW, NEW, NEW]
AFTER_IDLE_BARS: list[Row] = [OLD, LAST, IDLE, IDLE, NEW, NEW, NEW]
A_BREAK_AT_4 = pytest.mark.parametrize("rows", [AFTER_A_GAP, AFTER_IDLE_BARS])


def held(rows: list[Row], qty: str = "2", **options: object) -> Exchange:
    """An exchange on which some of the pair was bought at bar 0, for 100 each."""
    exchange = Exchange({PAIR: rows, OTHER: steady(len(rows))}, **options)  # type: ignore[arg-type]
    assert exchange.send(make_order(BUY, qty, order_id="first")).status is OrderStatus.FILLED
    return exchange


@A_BREAK_AT_4
def test_what_is_held_is_settled_at_the_last_close_before_it_at_the_taker_fee_and_without_slippage(rows):
    exchange = held(rows, taker_fee_bps=10.0, slippage_bps=50.0)
    cash = exchange.tick(3)["USDT"]
    assert exchange.tick(4) == {"USDT": cash + D(204) - D("0.204")}
    (fill,) = exchange.sim.snapshot(at(4), ()).settlements
    assert (fill.pair, fill.side, fill.qty, fill.price, fill.fee) == (PAIR, SELL, D(2), D(102), D("0.204"))
    assert fill.filled_at == at(4) - MS, "before anything of the new bar, and before the tick at its open"


@A_BREAK_AT_4
def test_nothing_is_known_of_it_before_the_bar_opens(rows):
    exchange = held(rows)
    assert exchange.tick(3.9)["AAA"] == 2
    assert exchange.sim.snapshot(at(3.9), ()).settlements == ()


def test_a_bar_that_turns_out_to_have_traded_nothing_is_known_for_a_new_scale_at_its_close():
    exchange = held([OLD, LAST, (*NEW[:4], 0.0), NEW, NEW])
    assert exchange.tick(2)["AAA"] == 2
    assert exchange.tick(3) == {"USDT": D(100_004)}
    (fill,) = exchange.sim.snapshot(at(3), ()).settlements
    assert (fill.price, fill.filled_at) == (D(102), at(3) - MS)


def test_what_rests_there_ends_with_it():
    exchange = held([OLD, LAST, (*NEW[:4], 0.0), NEW, NEW])
    orders = [
        make_order(SELL, "1", tick=1, order_id="limit", limit_price=150),
        make_order(SELL, "1", tick=1, order_id="stop", stop_price=90),
    ]
    for order in orders:
        exchange.send(order)
    assert [exchange.report(order, 3).status for order in orders] == [OrderStatus.CANCELED] * 2
    assert exchange.tick(4) == {"USDT": D(100_004)}


def test_a_jump_while_trading_goes_on_is_a_price():
    exchange = held([OLD, LAST, NEW, NEW, NEW])
    assert exchange.tick(4)["AAA"] == 2
    assert exchange.send(make_order(SELL, "2", tick=4, order_id="out")).fills[0].price == D(100_000)


@pytest.mark.parametrize("side", [BUY, SELL])
def test_no_order_fills_at_an_open_that_may_be_another_scale_until_its_bar_has_shown_volume(side):
    exchange = held([OLD, LAST, NEW, (100_500.0, 100_600.0, 100_400.0, 100_500.0, 1.0), NEW], "1", wallet="1000000")
    order = make_order(side, tick=2, order_id="second")
    assert exchange.send(order).status is OrderStatus.OPEN
    (fill,) = exchange.report(order, 3).fills
    assert (fill.price, fill.filled_at) == (D(100_500), at(3))


@pytest.mark.parametrize("latency_s", [0.0, 1.0])
@pytest.mark.parametrize("changes", [{"stop_price": 90}, {"limit_price": 150}])
@A_BREAK_AT_4
def test_what_rests_is_cancelled_before_the_new_bar_can_fill_it(rows, changes, latency_s):
    exchange = held(rows, latency_s=0.0)
    order = make_order(SELL, tick=1, order_id="second", **changes)
    exchange.send(order)
    assert exchange.report(order, 3.9).status is OrderStatus.OPEN
    report = exchange.report(order, 6)
    assert (report.status, report.fills) == (OrderStatus.CANCELED, ())
    assert report.message == f"{PRICE_SCALE_BREAK}: the prices of {PAIR} are on a new scale"


@pytest.mark.parametrize(("side", "changes"), [(BUY, {}), (SELL, {}), (BUY, {"limit_price": 500}), (SELL, {"limit_price": 50})])
@A_BREAK_AT_4
def test_what_waits_for_the_open_is_cancelled_before_it_can_fill_there(rows, side, changes):
    exchange = Exchange({PAIR: rows, OTHER: steady(7)}, latency_s=1.0)
    first = make_order(BUY, order_id="first")
    exchange.send(first)
    assert exchange.report(first, 1).status is OrderStatus.FILLED
    order = make_order(side, tick=3, order_id="second", **changes)
    exchange.send(order)
    report = exchange.report(order, 5)
    assert (report.status, report.fills) == (OrderStatus.CANCELED, ())
    assert "AAA" not in exchange.tick(6)


@pytest.mark.parametrize("bar", [4, 4.5])
@pytest.mark.parametrize("latency_s", [0.0, 1.0])
def test_an_order_sent_at_the_open_of_the_break_or_inside_its_bar_is_refused(bar, latency_s):
    """It was decided on the old scale: at that time no bar of the new one has closed."""
    exchange = Exchange({PAIR: AFTER_IDLE_BARS, OTHER: steady(7)}, latency_s=latency_s)
    with pytest.raises(OrderRejectedError, match="suspended until its first bar on the new scale has closed"):
        exchange.send(make_order(BUY, tick=bar))
    assert exchange.send(make_order(BUY, tick=bar)).status is OrderStatus.REJECTED
    assert exchange.send(make_order(BUY, tick=bar, order_id="other", pair=OTHER)).status in (OrderStatus.FILLED, OrderStatus.OPEN)


def test_once_the_new_bar_has_closed_the_pair_trades_at_its_new_price():
    exchange = held(AFTER_A_GAP, wallet="1000000")
    exchange.tick(4)
    (fill,) = exchange.send(make_order(BUY, tick=5, order_id="again")).fills
    assert fill.price == D(100_000)
    assert exchange.tick(6)["AAA"] == 1, "the settlement is not repeated"


def test_a_holding_worth_too_little_for_any_order_is_settled_too():
    exchange = held([(100.0, 100.0, 1.0, 1.0, 9.0), None, NEW], "0.1", rules={PAIR: PairRules(PAIR, min_notional=D(10))})
    assert exchange.tick(2) == {"USDT": D(100_000) - D(10) + D("0.1")}


@pytest.mark.parametrize(("ratio", "bars", "broke"), [(0.5, 96, True), (0.5, 95, False), (0.25, 97, True), (2.2, 200, False)])
def test_an_exact_split_over_a_day_is_a_break_and_nothing_less_is(ratio, bars, broke):
    price = 102.0 * ratio
    exchange = held([OLD, LAST, *[None] * bars, (price, price, price, price, 9.0)])
    assert ("AAA" not in exchange.tick(2 + bars)) is broke


def test_a_silence_of_weeks_is_looked_back_over_in_a_new_process():
    rows = [OLD, LAST, *[None] * (40 * 96), NEW, NEW]
    exchange = held(rows)
    exchange.tick(30 * 96)
    exchange.sim = SimExchange(TextAccounts(exchange.store), exchange.bars, exchange.market, exchange.settings)
    assert exchange.tick(len(rows) - 2) == {"USDT": D(100_004)}


def test_an_open_that_the_market_quoted_too_late_is_made_up_for_at_the_close():
    """A live market has no open yet at the very second of a tick."""
    exchange = held(AFTER_A_GAP)
    quoted = exchange.market.opens
    object.__setattr__(exchange.market, "opens", lambda pairs, timeframe, when: {} if when == at(4) else quoted(pairs, timeframe, when))
    assert exchange.tick(4)["AAA"] == 2
    assert exchange.tick(5) == {"USDT": D(100_004)}
    (fill,) = exchange.sim.snapshot(at(5), ()).settlements
    assert (fill.price, fill.filled_at) == (D(102), at(5) - MS)


@pytest.mark.parametrize("ticks", [[1, 2, 3, 4, 5, 6], [6], [2.5, 4.5, 6]])
@A_BREAK_AT_4
def test_it_makes_no_difference_how_often_the_exchange_is_asked_or_where_it_looks(rows, ticks):
    def play(whole: bool) -> tuple[object, ...]:
        exchange = held(rows)
        if whole:
            scales = PanelScales(exchange.panel)
            exchange.sim = SimExchange(TextAccounts(exchange.store), exchange.bars, exchange.market, exchange.settings, scales)
        exchange.send(make_order(SELL, order_id="rests", tick=1, limit_price=200))
        for bar in ticks:
            exchange.tick(bar)
        snapshot = exchange.sim.snapshot(at(6), (make_order(order_id="rests"),))
        return dict(snapshot.balances), dict(snapshot.reports), snapshot.settlements

    assert play(True) == play(False)
    assert play(True)[0] == {"USDT": D(100_004)}


# What the desk makes of it


def state_of(opened: float, qty: str = "2") -> DeskState:
    position = Position(PAIR, "rotation", "score", at(opened), D(qty), D(qty) * 100)
    return DeskState(D(99_800), D(100_000), {PAIR: position})


def test_the_desk_books_it_as_a_trade_of_its_own_reason_once_however_often_it_is_told():
    exchange = held(AFTER_A_GAP, taker_fee_bps=10.0)
    exchange.tick(4)
    (fill,) = exchange.sim.snapshot(at(4), ()).settlements
    state = state_of(0)
    order = settlement_due(state, fill)
    assert order is not None
    assert (order.client_order_id, order.reason, order.strategy, order.tick_at) == (
        fill.client_order_id,
        PRICE_SCALE_BREAK,
        "rotation",
        at(4),
    )
    booking = book(state, order, OrderReport(order.client_order_id, OrderStatus.FILLED, (fill,)))
    assert booking.update is not None
    (trade,) = booking.update.trades
    assert (trade.exit_reason, trade.close_price, trade.pnl) == (PRICE_SCALE_BREAK, D(102), D(4) - D("0.204"))
    assert booking.state.cash == D(99_800) + D(204) - D("0.204")
    assert booking.state.positions == {}
    assert settlement_due(booking.state, fill) is None
    assert settlement_due(replace(booking.state, positions=state_of(4).positions), fill) is None, "a later position is another thing"


def test_its_id_follows_from_pair_and_moment_alone():
    first, second = held(AFTER_A_GAP), held(AFTER_IDLE_BARS, "5")
    for exchange in (first, second):
        exchange.tick(6)
    (a,), (b,) = (exchange.sim.snapshot(at(6), ()).settlements for exchange in (first, second))
    assert a.client_order_id == b.client_order_id
    assert len(a.client_order_id) == 30
    assert a.client_order_id.isalnum()


def test_inside_a_bar_in_which_nothing_traded_nothing_fills():
    wide = (100.0, 120.0, 80.0, 100.0, 0.0)
    exchange = held([OLD, OLD, wide, (100.0, 120.0, 80.0, 100.0, 1.0), OLD], "2")
    stop = make_order(SELL, tick=1, order_id="stop", stop_price=90)
    limit = make_order(SELL, tick=1, order_id="limit", limit_price=110)
    for order in (stop, limit):
        exchange.send(order)
    assert [exchange.report(order, 3).fills for order in (stop, limit)] == [(), ()]
    assert exchange.report(stop, 4).fills[0].price == D(90)
