"""Domain values for the contract suites."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from tickless.types import DeskState, EquityRow, ExitPlan, Fill, Liquidity, Order, OrderStatus, OrderType, Position, Side, StopState, Trade

TABLE = "desk"
TABLES = ("dynamodb", "dynalite")
"""The fixtures that are a client with that table: moto's, and a second opinion."""
BUCKET = "desk-bucket"
T0 = datetime(2024, 6, 1, tzinfo=UTC)
D = Decimal
DESK = DeskState(cash=D("50000"), peak_equity=D("50000"))


def at(minutes: float) -> datetime:
    return T0 + timedelta(minutes=minutes)


def an_order(number: int = 1, minutes: float = 0, status: OrderStatus = OrderStatus.INTENT) -> Order:
    return Order(
        client_order_id=f"o-{number:05d}",
        tick_at=at(minutes),
        strategy="rotation",
        pair="BTC/USDT",
        side=Side.BUY,
        type=OrderType.LIMIT,
        qty=D("0.0500"),
        reason="entry",
        limit_price=D("67123.10"),
        expires_at=at(minutes + 2),
        exits=ExitPlan(atr=0.1 + 0.2),
        status=status,
    )


def a_fill(number: int = 1, minutes: float = 0, pair: str = "BTC/USDT") -> Fill:
    return Fill(
        fill_id=f"f-{number:05d}",
        client_order_id="o-00001",
        filled_at=at(minutes),
        pair=pair,
        side=Side.BUY,
        qty=D("0.0500"),
        price=D("67123.10"),
        fee=D("3.356155"),
        fee_asset="USDT",
        fee_qty=D("3.356155"),
        liquidity=Liquidity.TAKER,
    )


def a_position(pair: str = "BTC/USDT", sold: str = "0") -> Position:
    return Position(
        pair=pair,
        strategy="rotation",
        enter_tag="rank 1",
        opened_at=T0,
        bought_qty=D("0.05"),
        bought_value=D("3356.155"),
        sold_qty=D(sold),
        stop=StopState(stop_price=65000.1, kind="trailing_stop_loss", anchor_price=67200.0, atr=1 / 3),
    )


def a_trade(minutes: float = 0, trade_id: str = "f-1", pair: str = "BTC/USDT") -> Trade:
    return Trade(
        pair=pair,
        strategy="rotation",
        side="long",
        enter_tag="rank 1",
        opened_at=T0,
        open_price=D("67123.1"),
        closed_at=at(minutes),
        close_price=D("68000"),
        qty=D("0.05"),
        fees=D("6.7"),
        pnl=D("37.1"),
        pnl_frac=D("0.011"),
        exit_reason="target",
        trade_id=trade_id,
    )


def an_equity_row(minutes: float = 0) -> EquityRow:
    return EquityRow(at=at(minutes), equity=D("50000.10"), cash=D("46000"), exposure_frac=0.08, drawdown_frac=-0.0, regime="trend")


def moved(order: Order, status: OrderStatus) -> Order:
    return replace(order, status=status)
