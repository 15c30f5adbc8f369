"""An order hears reports in any order, repeated, early and late: no fill counts twice, and no end is left."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from made_world import D, at, make_order
from tickless.execution.accounting import book
from tickless.execution.order_states import FOLLOWS
from tickless.types import DeskState, Fill, Liquidity, Order, OrderReport, OrderStatus, Side

WALLET = D(10_000)


class OrderLife(RuleBasedStateMachine):
    """One order at an exchange that may tell anything of it, at any time; and the ledger that listens."""

    def __init__(self) -> None:
        super().__init__()
        self.state = DeskState(cash=WALLET, peak_equity=WALLET)
        self.order = make_order(Side.BUY, "10")
        self.fills: list[Fill] = []
        self.told: set[str] = set()
        self.written: list[Fill] = []
        self.statuses = [self.order.status]

    @initialize(qty=st.integers(1, 5), price=st.integers(90, 110))
    def trade_first(self, qty: int, price: int) -> None:
        self.trade(qty, price)

    @rule(qty=st.integers(1, 5), price=st.integers(90, 110))
    def trade(self, qty: int, price: int) -> None:
        """Some of it fills; nobody has been told yet."""
        name = f"t{len(self.fills)}"
        side, pair = self.order.side, self.order.pair
        fee = D(qty) / 10
        self.fills.append(Fill(name, "o1", at(len(self.fills)), pair, side, D(qty), D(price), fee, "USDT", fee, Liquidity.TAKER))

    @rule(status=st.sampled_from(list(OrderStatus)), data=st.data())
    def tell(self, status: OrderStatus, data: st.DataObject) -> None:
        """A report with any status and any of the fills, in any order, some of them repeatedly."""
        fills = data.draw(st.lists(st.sampled_from(self.fills), max_size=6)) if self.fills else []
        booking = book(self.state, self.order, OrderReport("o1", status, tuple(fills)))
        self.told |= {fill.fill_id for fill in fills}
        self.state = booking.state
        if booking.update is not None:
            (self.order,) = booking.update.orders
            self.written += booking.update.fills
        self.statuses.append(self.order.status)

    @invariant()
    def every_fill_that_was_told_counts_once(self) -> None:
        counted = [fill for fill in self.fills if fill.fill_id in self.told]
        assert sorted(fill.fill_id for fill in self.written) == sorted(fill.fill_id for fill in counted)
        assert sorted(self.order.fill_ids) == sorted(self.told)
        assert self.order.filled_qty == total(counted, lambda fill: fill.qty)
        assert self.order.fee == total(counted, lambda fill: fill.fee)
        assert self.state.cash == WALLET - total(counted, lambda fill: fill.qty * fill.price + fill.fee)
        held = self.state.positions.get(self.order.pair)
        assert (held.qty if held else 0) == self.order.filled_qty

    @invariant()
    def a_status_only_moves_as_the_table_says(self) -> None:
        for before, after in pairwise(self.statuses):
            assert after is before or after in FOLLOWS[before]
            assert after is before or not before.is_final

    @invariant()
    def the_ledger_asks_about_it_until_its_end(self) -> None:
        known: Order | None = self.state.orders.get("o1")
        if len(self.statuses) > 1 and self.order.status is not OrderStatus.INTENT:
            assert (known is None) == self.order.status.is_final
            assert known in (None, self.order)


def total(fills: list[Fill], of) -> Decimal:  # type: ignore[no-untyped-def]
    return sum((of(fill) for fill in fills), D(0))


TestOrderLife = OrderLife.TestCase
TestOrderLife.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
