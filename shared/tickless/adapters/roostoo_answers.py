"""Roostoo's answers as our values. Pure: whatever makes no sense is a ValueError naming the field.

Two quirks of the exchange's document shape this module. An order that is PENDING or CANCELED may show its whole quantity as
``FilledQuantity``, so only a final order with an average price and an amount of money that fit together counts as filled. The wallet is
called ``Wallet`` in the document and ``SpotWallet`` by the server.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from tickless.execution.rounding import money
from tickless.types import ZERO, Fill, Liquidity, Order, OrderReport, OrderStatus, OrderType, PairRules, Side, base_asset, from_ms

Raw = Mapping[str, Any]

LARGEST = 18
"""The largest power of ten that can be an amount or a price: a number beyond is a mistake."""
MAX_PRECISION = 18
FIRST_MS, LAST_MS = 1_230_768_000_000, 7_258_118_400_000
"""2009 to 2200: a time outside is no time."""
STATUSES: Mapping[str, OrderStatus] = {"PENDING": OrderStatus.OPEN, "FILLED": OrderStatus.FILLED, "CANCELED": OrderStatus.CANCELED}
TYPES: Mapping[OrderType, str] = {OrderType.MARKET: "MARKET", OrderType.LIMIT: "LIMIT"}
SIDES: Mapping[Side, str] = {Side.BUY: "BUY", Side.SELL: "SELL"}
_ROUNDING = Decimal("0.001")
"""How far price times quantity may be from the money that changed hands, as a share: the server's own rounding."""


@dataclass(frozen=True)
class Likeness:
    """What Roostoo tells of an order that was ours before it was Roostoo's. There is no client order id."""

    pair: str
    side: str
    type: str
    qty: Decimal

    @classmethod
    def of(cls, order: Order) -> Likeness:
        """That of an order as it is sent; raises ValueError for a kind that Roostoo does not have."""
        if order.type not in TYPES:
            raise ValueError(f"Roostoo has no {order.type} orders")
        return cls(order.pair, SIDES[order.side], TYPES[order.type], order.qty)


@dataclass(frozen=True)
class OrderRow:
    """An order as Roostoo lists it. ``raw`` holds what only our own orders are asked for."""

    order_id: int
    like: Likeness
    created_ms: int
    raw: Raw


def parse_json(content: bytes) -> Any:
    """JSON with every digit kept; raises ValueError for what is no JSON, or has NaN."""

    def refuse(name: str) -> Any:
        raise ValueError(f"the number {name} is not finite")

    try:
        return json.loads(content.decode("utf-8"), parse_float=Decimal, parse_constant=refuse)
    except RecursionError:
        raise ValueError("JSON nested too deep") from None


def read_number(raw: Raw, field: str) -> Decimal:
    """A finite number that is not negative, told as number or text; raises ValueError naming the field."""
    value = raw.get(field)
    if value is None:
        raise ValueError(f"{field} is missing")
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise ValueError(f"{field}: {value!r} is not a number")
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise ValueError(f"{field}: {value!r} is not a number") from None
    if not number.is_finite() or number < 0 or number.adjusted() > LARGEST:
        raise ValueError(f"{field}: {value!r} is not a possible number")
    return number


def read_time(raw: Raw, field: str) -> int:
    """Milliseconds since the epoch; raises ValueError naming the field."""
    number = read_number(raw, field)
    if number != number.to_integral_value() or not FIRST_MS <= number <= LAST_MS:
        raise ValueError(f"{field}: {number} is not a time in milliseconds")
    return int(number)


def read_object(value: Any, field: str) -> Raw:
    """A JSON object; raises ValueError naming the field."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{field}: {str(value)[:80]!r} is not an object")
    return value


def read_text(raw: Raw, field: str) -> str:
    """A text that is not empty; raises ValueError naming the field."""
    value = raw.get(field)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{field}: {value!r} is not a text")
    return value


def read_wallet(answer: Raw) -> dict[str, Decimal]:
    """Free and locked together, by asset."""
    wallet = answer["SpotWallet"] if "SpotWallet" in answer else answer.get("Wallet")
    balances: dict[str, Decimal] = {}
    for asset, amounts in sorted(read_object(wallet, "Wallet").items()):
        try:
            held = read_object(amounts, "amounts")
            balances[asset] = read_number(held, "Free") + read_number(held, "Lock")
        except ValueError as error:
            raise ValueError(f"Wallet.{asset}: {error}") from None
    return balances


def read_rules(answer: Raw, quote: str) -> dict[str, PairRules]:
    """The filters of every pair in a currency, sorted.

    An order must be worth *more* than ``MiniOrder``: our least is the next amount above.
    """
    running = answer.get("IsRunning")
    if not isinstance(running, bool):
        raise ValueError(f"IsRunning: {running!r} is not true or false")
    rules: dict[str, PairRules] = {}
    for pair, told in sorted(read_object(answer.get("TradePairs"), "TradePairs").items()):
        try:
            found = read_object(told, "pair")
            if read_text(found, "Unit") == quote:
                rules[pair] = _pair_rules(pair, found, running=running)
        except ValueError as error:
            raise ValueError(f"TradePairs.{pair}: {error}") from None
    return rules


def _pair_rules(pair: str, told: Raw, *, running: bool) -> PairRules:
    if pair != f"{told.get('Coin')}/{told.get('Unit')}":
        raise ValueError(f"Coin and Unit: {told.get('Coin')!r} and {told.get('Unit')!r} are not this pair")
    can_trade = told.get("CanTrade")
    if not isinstance(can_trade, bool):
        raise ValueError(f"CanTrade: {can_trade!r} is not true or false")
    price_step, qty_step = _step(told, "PricePrecision"), _step(told, "AmountPrecision")
    return PairRules(
        pair=pair,
        price_step=price_step,
        qty_step=qty_step,
        min_notional=read_number(told, "MiniOrder") + price_step * qty_step,
        active=can_trade and running,
    )


def _step(told: Raw, field: str) -> Decimal:
    """10 to the minus precision."""
    number = read_number(told, field)
    if number != number.to_integral_value() or number > MAX_PRECISION:
        raise ValueError(f"{field}: {number} is not a number of decimals")
    return Decimal(1).scaleb(-int(number))


def read_rows(value: Any) -> list[OrderRow]:
    """The orders of a list; every one must be readable, else nobody could say that ours is not among them."""
    if not isinstance(value, list):
        raise ValueError(f"OrderMatched: {str(value)[:80]!r} is not a list")
    return [read_row(row) for row in value]


def read_row(value: Any) -> OrderRow:
    """One order, ours or not; raises ValueError naming the field."""
    raw = read_object(value, "order")
    like = Likeness(read_text(raw, "Pair"), read_text(raw, "Side"), read_text(raw, "Type"), read_number(raw, "Quantity"))
    return OrderRow(read_order_id(raw.get("OrderID")), like, read_time(raw, "CreateTimestamp"), raw)


def read_order_id(value: Any) -> int:
    """A positive whole number: with any other, Roostoo would cancel every order of the account. Raises ValueError."""
    number = int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value
    if isinstance(number, bool) or not isinstance(number, int) or number <= 0:
        raise ValueError(f"OrderID: {value!r} is not a positive whole number")
    return number


def read_report(row: OrderRow, order: Order) -> OrderReport:
    """What a row says of our order; raises ValueError naming the field, also where the row is another order's."""
    expected = Likeness.of(order)
    for field in ("pair", "side", "type", "qty"):
        told, ours = getattr(row.like, field), getattr(expected, field)
        if told != ours:
            raise ValueError(f"order {row.order_id}: {field} is {told}, ours is {ours}")
    try:
        status = _status(row.raw)
        fills = (read_fill(row, order),) if _has_filled(row.raw, status) else ()
    except ValueError as error:
        raise ValueError(f"order {row.order_id}: {error}") from None
    return OrderReport(order.client_order_id, status, fills)


def _status(raw: Raw) -> OrderStatus:
    told = read_text(raw, "Status")
    if told not in STATUSES:
        raise ValueError(f"Status: {told!r} is not one that Roostoo documents")
    return STATUSES[told]


def _has_filled(raw: Raw, status: OrderStatus) -> bool:
    """Whether a final order has traded. ``FilledQuantity`` alone says nothing: see the module."""
    if status is OrderStatus.FILLED:
        return True
    return status.is_final and read_number(raw, "FilledAverPrice") > 0 and read_number(raw, "UnitChange") > 0


def read_fill(row: OrderRow, order: Order) -> Fill:
    """The one fill of an order that is final: Roostoo numbers no trades, so the order's own number is the fill's."""
    raw = row.raw
    qty, price, value = (read_number(raw, field) for field in ("FilledQuantity", "FilledAverPrice", "UnitChange"))
    if not 0 < qty <= order.qty:
        raise ValueError(f"FilledQuantity: {qty} is not within 0 and the order's {order.qty}")
    if price <= 0:
        raise ValueError(f"FilledAverPrice: {price} is not above 0")
    if abs(qty * price - value) > _ROUNDING * value:
        raise ValueError(f"UnitChange: {value} is not FilledQuantity {qty} at {price}")
    fee_asset, fee_qty = _commission(raw, order.pair, qty, value)
    role = read_text(raw, "Role")
    if role not in ("TAKER", "MAKER"):
        raise ValueError(f"Role: {role!r} is neither TAKER nor MAKER")
    return Fill(
        fill_id=str(row.order_id),
        client_order_id=order.client_order_id,
        filled_at=from_ms(read_time(raw, "FinishTimestamp")),
        pair=order.pair,
        side=order.side,
        qty=qty,
        price=price,
        fee=money(fee_qty * price if fee_asset == base_asset(order.pair) else fee_qty),
        fee_asset=fee_asset,
        fee_qty=fee_qty,
        liquidity=Liquidity.TAKER if role == "TAKER" else Liquidity.MAKER,
    )


def _commission(raw: Raw, pair: str, qty: Decimal, value: Decimal) -> tuple[str, Decimal]:
    """(asset, amount) of a fill's fee, as charged; by its rate where the charge is not told."""
    asset = read_text(raw, "CommissionCoin")
    base, _, quote = pair.partition("/")
    if asset not in (base, quote):
        raise ValueError(f"CommissionCoin: {asset!r} is neither {base} nor {quote}")
    rate, charged = read_number(raw, "CommissionPercent"), read_number(raw, "CommissionChargeValue")
    if rate >= 1:
        raise ValueError(f"CommissionPercent: {rate} is not a share below 1")
    return asset, charged if charged > ZERO else rate * (qty if asset == base else value)
