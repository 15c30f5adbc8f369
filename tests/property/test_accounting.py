"""The ledger, told by reports alone, comes to what the exchange holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from made_play import WALLET, Play, plays
from made_world import D
from tickless.execution.accounting import book
from tickless.types import DeskState, Fill, LedgerUpdate, Order, OrderReport, OrderStatus, OrderType, Side, to_ms


def told(play: Play, tick: int) -> Iterator[tuple[str, OrderReport]]:
    """What the exchange says at a tick, fill by fill in the order in which things happened, then how each order stands."""
    reports = play.reports[tick]
    fills = [
        (fill.filled_at, play.orders[order_id].type is not OrderType.STOP and to_ms(fill.filled_at) % 1000 > 0, place, order_id, n)
        for place, order_id in enumerate(play.orders)
        if order_id in reports
        for n, fill in enumerate(reports[order_id].fills)
    ]
    for _, _, _, order_id, n in sorted(fills):
        yield order_id, replace(reports[order_id], fills=reports[order_id].fills[: n + 1], status=OrderStatus.OPEN)
    yield from reports.items()


def follow(play: Play, ticks: list[int], repeat: int = 1) -> tuple[DeskState, list[LedgerUpdate]]:
    """Book what the exchange says at some of the ticks, each report ``repeat`` times."""
    state = DeskState(cash=WALLET, peak_equity=WALLET)
    updates = []
    final: set[str] = set()
    for tick in ticks:
        over = set(final)
        for order_id, report in told(play, tick):
            if order_id in over:
                continue
            order = state.orders.get(order_id) or replace(play.orders[order_id], status=OrderStatus.INTENT)
            for _ in range(repeat):
                booking = book(state, order, report)
                state = booking.state
                if booking.update is not None:
                    updates.append(booking.update)
                    (order,) = booking.update.orders
            if report.status.is_final:
                final.add(order_id)
    return state, updates


ticks = st.lists(st.integers(0, 8), unique=True).map(lambda some: [*sorted(some), 9])


@settings(max_examples=50)
@given(plays(), ticks)
def test_cash_and_positions_are_the_exchanges(play: Play, ticks: list[int]) -> None:
    state, _ = follow(play, ticks)
    balances = play.balances[-1]
    assert state.cash == balances["USDT"]
    held = {pair.split("/")[0]: position.qty for pair, position in state.positions.items()}
    assert held == {asset: qty for asset, qty in balances.items() if asset != "USDT"}
    assert state.orders.keys() == {i for i, report in play.reports[-1].items() if not report.status.is_final}


@settings(max_examples=50)
@given(plays(), ticks)
def test_cash_can_be_rebuilt_from_the_booked_fills(play: Play, ticks: list[int]) -> None:
    state, updates = follow(play, ticks)
    fills = [fill for update in updates for fill in update.fills]
    assert len({(fill.client_order_id, fill.fill_id) for fill in fills}) == len(fills), "each fill is booked once"
    flows = [(-1 if fill.side is Side.BUY else 1) * fill.qty * fill.price - fill.fee for fill in fills]
    assert abs(WALLET + sum(flows, D(0)) - state.cash) <= D("1e-9")


@settings(max_examples=50)
@given(plays(), ticks)
def test_booking_every_report_twice_changes_nothing(play: Play, ticks: list[int]) -> None:
    once, updates = follow(play, ticks)
    twice, more = follow(play, ticks, repeat=2)
    assert twice == once
    assert more == updates


@settings(max_examples=50)
@given(plays(), ticks)
def test_value_is_conserved_but_for_the_fees(play: Play, ticks: list[int]) -> None:
    """Cash, what open positions cost net of what they sold, and closed trades add up to the wallet."""
    state, updates = follow(play, ticks)
    invested = sum((p.bought_value - p.sold_value + p.fees for p in state.positions.values()), D(0))
    pnl = sum((trade.pnl for update in updates for trade in update.trades), D(0))
    assert abs(state.cash + invested - pnl - WALLET) <= D("1e-9")
    fees = sum((order.fee for order in last_orders(updates)), D(0))
    assert fees == sum((fill.fee for fill in all_fills(updates)), D(0))


def last_orders(updates: list[LedgerUpdate]) -> list[Order]:
    return list({order.client_order_id: order for update in updates for order in update.orders}.values())


def all_fills(updates: list[LedgerUpdate]) -> list[Fill]:
    return [fill for update in updates for fill in update.fills]
