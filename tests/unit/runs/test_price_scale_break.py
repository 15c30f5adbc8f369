"""A position that the exchange settles where a price scale breaks: told at every snapshot, booked once, whatever dies in between."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from test_crash_matrix import LATE_S, check_books, crashes, undisturbed

from made_scars import rescaled
from made_world import World, at
from tickless.adapters.folder_market import FolderMarket
from tickless.execution.settlement import PRICE_SCALE_BREAK
from tickless.types import OrderStatus

BROKEN_AT = 4
"""The bar that opens on a new scale, after three that are missing."""


@pytest.fixture
def holding(new_world: Callable[..., World], market: FolderMarket) -> tuple[Callable[[], World], str]:
    """A desk that holds some pairs, of which one is about to be redenominated; and that pair."""
    calm = ("risk.initial_stop_atr=50", "risk.max_position_loss_frac=1.0")
    scout = new_world(*calm)
    scout.run("full_rebalance", at(0))
    pair = min(scout.ledger.load().positions)
    row = market.panel.row_at(at(BROKEN_AT))
    broken = FolderMarket(rescaled(market.panel, pair, row, 1000.0, BROKEN_AT - 1), market.filters)

    def start() -> World:
        world = new_world(*calm, on=broken)
        world.run("full_rebalance", at(0))
        assert pair in world.ledger.load().positions
        return world

    return start, pair


def test_the_desk_books_a_settlement_as_a_trade_and_tells_people(holding):
    start, pair = holding
    world = start()
    before = world.ledger.load()
    last = float(world.market.panel.close[world.market.panel.row_at(at(0)), world.market.panel.column[pair]])
    world.run("risk_check", at(BROKEN_AT))
    state = world.ledger.load()
    (trade,) = world.ledger.trades()
    (order,) = [order for order in world.ledger.orders() if order.reason == PRICE_SCALE_BREAK]
    assert (trade.pair, trade.exit_reason, float(trade.close_price)) == (pair, PRICE_SCALE_BREAK, last)
    assert (order.status, order.filled_qty, order.strategy) == (OrderStatus.FILLED, before.positions[pair].qty, "rotation")
    assert pair not in state.positions
    assert pair not in state.blocked
    assert any(pair in subject and "price scale" in message for subject, message in world.notifier.alerts)
    assert abs(float(list(world.ledger.equity())[-1].equity) / float(before.peak_equity) - 1) < 0.05
    check_books(world, "after the break")


def test_later_snapshots_repeat_it_and_nothing_is_booked_again(holding):
    start, pair = holding
    world = start()
    for bar in range(BROKEN_AT, BROKEN_AT + 4):
        world.run("risk_check", at(bar))
        world.run("feature_rebalance", at(bar)) if bar % 2 == 0 else None
    assert [trade.pair for trade in world.ledger.trades() if trade.exit_reason == PRICE_SCALE_BREAK] == [pair]
    assert "LedgerMismatch" not in world.metrics.counts
    check_books(world, "later")


def test_a_redelivered_tick_comes_to_what_an_undisturbed_one_does(holding):
    start, _ = holding
    plain, _ = undisturbed(start, "risk_check", BROKEN_AT)
    expected = plain.outcome()
    assert [trade.exit_reason for trade in expected["trades"]] == [PRICE_SCALE_BREAK]
    for where, world in crashes(start, "risk_check", BROKEN_AT):
        world.run("risk_check", at(BROKEN_AT), late_s=LATE_S)
        assert world.outcome() == expected, where


def test_where_it_is_not_redelivered_the_next_tick_books_it(holding):
    start, pair = holding
    for where, world in crashes(start, "risk_check", BROKEN_AT):
        world.run("risk_check", at(BROKEN_AT + 1))
        check_books(world, where)
        assert "LedgerMismatch" not in world.metrics.counts, where
        assert [trade.pair for trade in world.ledger.trades()] == [pair], where
