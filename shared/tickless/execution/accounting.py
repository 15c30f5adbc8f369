"""Ledger arithmetic: reports of the exchange become fills, positions, cash and closed trades. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from tickless.execution.order_states import next_status
from tickless.execution.rounding import money
from tickless.types import (
    ZERO,
    Charge,
    DeskState,
    Fill,
    LedgerUpdate,
    Order,
    OrderReport,
    OrderStatus,
    Position,
    Side,
    Trade,
    base_asset,
    evolve,
    quote_asset,
)

PAID_AS_FEE = "fee"
"""Why a position is closed of which fees have taken all."""
FILLS_AT_ONCE = 40
"""Fills an update: with order, positions and trades it stays far below the items of one transaction."""


@dataclass(frozen=True)
class Booking:
    """The state after a report, and the update that records it; ``update`` is None where the report said nothing new."""

    state: DeskState
    update: LedgerUpdate | None


def in_slices(order: Order, report: OrderReport) -> tuple[OrderReport, ...]:
    """The report; before it, where more than 40 of its fills are not booked yet, reports that each add 40 of them.

    Booked one after the other they come to the same, each by an update that a transaction can hold. Up to the last the order is partially
    filled: who dies in between finds it open, asks for it, and books the rest.
    """
    if len(report.fills) <= FILLS_AT_ONCE:
        return (report,)
    ends = {fill.fill_id for fill in _unbooked(_with_ids(order, report), report)[FILLS_AT_ONCE - 1 : -1 : FILLS_AT_ONCE]}
    told = tuple({fill.fill_id: fill for fill in report.fills}.values())
    cuts = [n for n, fill in enumerate(told, 1) if fill.fill_id in ends]
    return (*[evolve(report, status=OrderStatus.PARTIALLY_FILLED, fills=told[:n]) for n in cuts], report)


def book(state: DeskState, order: Order, report: OrderReport) -> Booking:
    """Apply what a report adds to an order: its new fills, each once, and its status.

    Fills are cumulative in a report; those whose ids the order has were booked before. Cash and holding move as they do at the exchange:
    by price times quantity, and by the fee in the assets that it was charged in. A sell of a pair without position is booked to cash and
    its order alone. A fee in a third asset is taken of what lies beyond the ledger, and where that is not enough, of the desk's own
    position in it, as a sale for what the fee was worth. A fill that comes after the order's end moves money all the same; the end stays.
    """
    order = _with_ids(order, report)
    fresh = _unbooked(order, report)
    status = next_status(order.status, report.status, has_fills=bool(report.fills) or order.filled_qty > 0)
    if not fresh and status is order.status:
        return Booking(state, None)
    positions = dict(state.positions)
    moved: dict[str, Position] = {}
    trades: list[Trade] = []
    cash, external = state.cash, state.external
    for fill in fresh:
        order = _fill_order(order, fill, status)
        signed = -1 if fill.side is Side.BUY else 1
        # Each fill is rounded by itself: the sum is then the same in whatever order fills are booked.
        # A fee in the base asset leaves the holding: a buy brings so much less, a sale takes so much more.
        in_base, in_quote, others = _charged(fill)
        cash = money(cash + signed * money(fill.qty * fill.price) - in_quote)
        holding = fill.qty + signed * in_base if in_base else fill.qty
        outcomes = [_fill_position(positions.pop(fill.pair, None), order, fill, holding)]
        for charge in others:
            external, owed = _from_external(external, charge)
            payer = _payer(fill, charge)
            if owed > 0 and payer in positions:
                outcomes.append(_pay_fee(positions.pop(payer), fill, charge, owed))
        for position, trade in outcomes:
            if position is not None:
                moved[position.pair] = position
                if position.qty > 0:
                    positions[position.pair] = position
            if trade is not None:
                trades.append(trade)
    if not fresh:
        order = evolve(order, status=status)
    orders = dict(state.orders)
    orders.pop(order.client_order_id, None)
    if not order.status.is_final:
        orders[order.client_order_id] = order
    marks = _marked(state.marks, positions, fresh)
    state = evolve(state, cash=cash, positions=positions, orders=orders, marks=marks, external=external)
    return Booking(state, LedgerUpdate(state, (order,), tuple(moved.values()), fresh, tuple(trades)))


def _marked(marks: Mapping[str, float], positions: Mapping[str, Position], fresh: Sequence[Fill]) -> Mapping[str, float]:
    """The marks of what is held; what is new is worth what it was bought at, until its bar closes."""
    if not marks.keys() <= positions.keys():
        marks = {pair: mark for pair, mark in marks.items() if pair in positions}
    new = {fill.pair: float(fresh[-1].price) for fill in fresh if fill.pair in positions and fill.pair not in marks}
    return {**marks, **new} if new else marks


def _from_external(external: Mapping[str, Decimal], charge: Charge) -> tuple[Mapping[str, Decimal], Decimal]:
    """What is there beyond the ledger, less a fee in a third asset: else a deposit would pass for somebody's sale. And what it lacked."""
    asset = charge.asset
    before = external.get(asset, ZERO)
    taken = min(before, charge.qty)
    if taken <= 0:
        return external, charge.qty
    left = {other: qty for other, qty in external.items() if other != asset}
    return left if taken == before else {**left, asset: before - taken}, charge.qty - taken


def _payer(fill: Fill, charge: Charge) -> str:
    """The pair whose position pays a fee in a third asset; a contract's position is no holding of its asset, and pays nothing."""
    return "" if ":" in fill.pair else f"{charge.asset}/{quote_asset(fill.pair)}"


def _pay_fee(position: Position, fill: Fill, charge: Charge, owed: Decimal) -> tuple[Position | None, Trade | None]:
    """The position less a fee, sold for what the fee was worth: the trade that the fee belongs to bears it, and nothing counts twice."""
    taken = min(owed, position.qty)
    worth = money(charge.worth * taken / charge.qty)
    held_cost = position.entry_price * (position.qty - taken)
    paid = evolve(position, sold_qty=position.sold_qty + taken, sold_value=position.sold_value + worth, held_cost=held_cost)
    return paid, closed_trade(paid, fill.filled_at, PAID_AS_FEE, f"{fill.fill_id}-fee") if paid.qty <= 0 else None


def _unbooked(order: Order, report: OrderReport) -> tuple[Fill, ...]:
    """The fills of a report that its order has not, each once."""
    if not report.fills:
        return ()
    fills = {fill.fill_id: fill for fill in report.fills}
    booked = frozenset(order.fill_ids)
    return tuple([fill for fill_id, fill in fills.items() if fill_id not in booked])


def _with_ids(order: Order, report: OrderReport) -> Order:
    """The order; one that was stored before fills were known by their ids, with those of the first so many that it has filled."""
    if order.fill_ids or order.filled_qty <= 0 or not report.fills:
        return order
    booked, ids = ZERO, []
    for fill in report.fills:
        if booked >= order.filled_qty:
            break
        booked += fill.qty
        ids.append(fill.fill_id)
    return evolve(order, fill_ids=tuple(ids))


def _charged(fill: Fill) -> tuple[Decimal, Decimal, tuple[Charge, ...]]:
    """(what left the holding, what left cash, what was charged in other assets)."""
    if fill.fee_asset == quote_asset(fill.pair) and not fill.further:
        return ZERO, fill.fee, ()
    in_base, in_quote, others = ZERO, ZERO, []
    for charge in fill.charges:
        if charge.asset == quote_asset(fill.pair):
            in_quote += charge.worth
        elif charge.asset == base_asset(fill.pair):
            in_base += charge.qty
        else:
            others.append(charge)
    return in_base, in_quote, tuple(others)


def _fill_order(order: Order, fill: Fill, status: OrderStatus) -> Order:
    qty = order.filled_qty + fill.qty
    value = (order.avg_price or ZERO) * order.filled_qty + fill.price * fill.qty
    return evolve(
        order, filled_qty=qty, avg_price=value / qty, fee=order.fee + fill.fee, status=status, fill_ids=(*order.fill_ids, fill.fill_id)
    )


def _fill_position(position: Position | None, order: Order, fill: Fill, moved: Decimal) -> tuple[Position | None, Trade | None]:
    """The position after its holding has changed by ``moved``, up or down, and the trade of one of which nothing is left."""
    value = moved * fill.price
    if fill.side is Side.BUY:
        if position is None:
            return Position(fill.pair, order.strategy, order.reason, fill.filled_at, moved, value, fees=fill.fee), None
        bought = evolve(
            position,
            bought_qty=position.bought_qty + moved,
            bought_value=position.bought_value + value,
            fees=position.fees + fill.fee,
            held_cost=None if position.held_cost is None else position.held_cost + value,
        )
        return bought, None
    if position is None:
        return None, None
    sold = evolve(
        position,
        sold_qty=position.sold_qty + moved,
        sold_value=position.sold_value + value,
        fees=position.fees + fill.fee,
        held_cost=position.entry_price * (position.qty - moved),
    )
    return sold, closed_trade(sold, fill.filled_at, order.reason, fill.fill_id) if sold.qty <= 0 else None


def closed_trade(position: Position, closed_at: datetime, exit_reason: str, trade_id: str) -> Trade:
    """The round trip of a position of which nothing is left."""
    pnl = position.sold_value - position.bought_value - position.fees
    return Trade(
        pair=position.pair,
        strategy=position.strategy,
        side="long",
        enter_tag=position.enter_tag,
        opened_at=position.opened_at,
        open_price=position.bought_value / position.bought_qty,
        closed_at=closed_at,
        close_price=position.sold_value / position.sold_qty,
        qty=position.bought_qty,
        fees=position.fees,
        pnl=pnl,
        pnl_frac=pnl / position.bought_value,
        exit_reason=exit_reason,
        trade_id=trade_id,
    )
