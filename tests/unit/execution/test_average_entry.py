"""The average entry price: what the loss limit and the initial stop are measured from."""

from datetime import UTC, datetime
from decimal import Decimal as D

from tickless.execution.accounting import book
from tickless.types import DeskState, Fill, Liquidity, Order, OrderReport, OrderStatus, OrderType, Side

AT = datetime(2024, 6, 1, tzinfo=UTC)


def trade(state, number, side, qty, price):
    order = Order(f"o{number}", AT, "rotation", "BTC/USDT", side, OrderType.MARKET, D(qty), "tag")
    fill = Fill(f"f{number}", f"o{number}", AT, "BTC/USDT", side, D(qty), D(price), D(0), "USDT", D(0), Liquidity.TAKER)
    return book(state.with_order(order), order, OrderReport(f"o{number}", OrderStatus.FILLED, (fill,)))


def test_a_sale_keeps_the_average_and_a_further_buy_moves_it_by_what_is_held():
    state = DeskState(cash=D(100_000), peak_equity=D(100_000))
    state = trade(state, 1, Side.BUY, 2, 100).state
    state = trade(state, 2, Side.SELL, 1, 150).state
    assert state.positions["BTC/USDT"].entry_price == 100
    state = trade(state, 3, Side.BUY, 1, 200).state
    assert state.positions["BTC/USDT"].entry_price == 150

    closed = trade(state, 4, Side.SELL, 2, 150)
    assert closed.state.positions == {}
    (closing,) = closed.update.trades
    assert closing.qty == 3
    assert closing.open_price == D(400) / 3
    assert closing.pnl == D(150 + 300 - 400)
