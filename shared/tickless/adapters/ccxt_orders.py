"""Orders and trades as ccxt tells them, as our reports and fills. Pure: whatever makes no sense is a ValueError naming the field.

Numbers are text on their way in; contracts become base units by the contract's size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from tickless.execution.rounding import money
from tickless.types import ZERO, Charge, Fill, Liquidity, Order, OrderStatus, Side, from_ms, to_ms

Raw = Mapping[str, Any]
PriceOf = Callable[[str], Decimal | None]
"""The price of an asset in the stake currency, now; None where there is no market for it."""

LARGEST = 18
"""The largest power of ten that can be an amount or a price: a number beyond is a mistake."""
_STATUSES: Mapping[str, OrderStatus] = {
    "open": OrderStatus.OPEN,
    "canceling": OrderStatus.OPEN,
    "closed": OrderStatus.FILLED,
    "canceled": OrderStatus.CANCELED,
    "expired": OrderStatus.EXPIRED,
    "rejected": OrderStatus.REJECTED,
}
MARKET_FIELDS = ("symbol", "instId")
"""Where an exchange's own answer names the market."""
TRIGGERED_IDS = ("actualOrderId", "ordId")
"""Where a conditional order names the order that it has become: Binance, OKX."""


@dataclass(frozen=True)
class Instrument:
    """One market of the exchange."""

    symbol: str
    """As ccxt writes it: ``BTC/USDT``, ``BTC/USDT:USDT``."""
    market_id: str
    base: str
    stake: str
    size: Decimal
    """Base units a contract; 1 for spot."""
    taker_rate: Decimal
    """For a fill whose fee the exchange does not tell."""
    filled_field: str = ""
    """The field of the exchange's own answer without which ccxt would take an order to be unfilled; empty = not known."""
    fee_field: str = ""
    """The field of a trade without which ccxt would take it to be free of charge; empty = not known."""
    write_id: Callable[[str], str] = str
    """From our id of an order to the one that the exchange was given."""


@dataclass(frozen=True)
class FoundOrder:
    """An order as the exchange knows it; quantities in base units."""

    exchange_id: str
    status: OrderStatus | None
    """None where the answer does not say."""
    filled: Decimal
    created_ms: int | None
    triggered_id: str = ""
    """The id of the order that a conditional order has become."""
    is_closed_unfilled: bool = False
    """Whether it is called closed with nothing filled: a conditional order that has gone off."""


def read_number(value: Any, field: str) -> Decimal:
    """A finite number; raises ValueError naming the field."""
    if value is None:
        raise ValueError(f"{field} is missing")
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{field}: {value!r} is not a number")
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise ValueError(f"{field}: {value!r} is not a number") from None
    if not number.is_finite() or number.adjusted() > LARGEST:
        raise ValueError(f"{field}: {value!r} is not a possible number")
    return number


def read_order(raw: Any, order: Order, instrument: Instrument, *, renamed: bool = False, sent: bool = False) -> FoundOrder:
    """The order that an answer tells of. Raises ValueError naming the field.

    It must be ours, unless it was ``renamed`` by the exchange. The answer to an order that was just ``sent`` need not tell its status.
    """
    if not isinstance(raw, Mapping):
        raise ValueError(f"order: {str(raw)[:80]!r} is not an object")
    exchange_id, status = raw.get("id"), raw.get("status")
    if not isinstance(exchange_id, str) or not exchange_id:
        raise ValueError(f"order.id: {exchange_id!r} is not an id")
    _expect_market(raw, order, instrument, "order")
    if not renamed:
        _expect(raw, "clientOrderId", instrument.write_id(order.client_order_id))
    if status not in _STATUSES and not (sent and status is None):
        raise ValueError(f"order.status: {status!r} is unknown")
    filled = ZERO if status is None else _filled(raw, order, instrument)
    apart = bool(raw.get("triggerPrice") or raw.get("stopLossPrice"))
    if status == "closed" and not filled and not apart:
        raise ValueError("order.filled: 0 of an order that is closed")
    created = raw.get("timestamp")
    return FoundOrder(
        exchange_id,
        None if status is None else _status(_STATUSES[status], filled, order),
        filled,
        created if isinstance(created, int) and created > 0 else None,
        _triggered_id(raw.get("info"), exchange_id),
        status == "closed" and not filled,
    )


def read_fill(raw: Any, order: Order, instrument: Instrument, price_of: PriceOf) -> Fill:
    """One trade of an order as a fill. Raises ValueError naming the field.

    The fee is converted to the stake currency: with the fill's own price where it was charged in base, with ``price_of`` where in a third
    asset. ``fee_asset`` and ``fee_qty`` stay as charged, and so does in ``further`` what was charged in other assets beside. A fee that the
    exchange does not tell, or in an asset that it has no market for, is taken to be the market's taker fee.
    """
    _expect_market(raw, order, instrument, "trade")
    trade_id, at = raw.get("id"), raw.get("timestamp")
    if not isinstance(trade_id, str) or not trade_id:
        raise ValueError(f"trade.id: {trade_id!r} is not an id")
    if not isinstance(at, int) or at <= 0:
        raise ValueError(f"trade.timestamp: {at!r} is not a time")
    qty = read_number(raw.get("amount"), "trade.amount") * instrument.size
    price = read_number(raw.get("price"), "trade.price")
    if qty <= 0 or price <= 0:
        raise ValueError(f"trade.amount {qty} at trade.price {price}: both must be above 0")
    first, *further = _fee(raw, instrument, qty, price, price_of)
    return Fill(
        fill_id=f"{instrument.market_id}-{trade_id}",
        client_order_id=order.client_order_id,
        filled_at=from_ms(at),
        pair=order.pair,
        side=Side(order.side),
        qty=_plain(qty),
        price=_plain(price),
        fee=sum([charge.worth for charge in further], first.worth),
        fee_asset=first.asset,
        fee_qty=first.qty,
        liquidity=Liquidity.MAKER if raw.get("takerOrMaker") == "maker" else Liquidity.TAKER,
        further=tuple(further),
    )


def trades_of(raw: Any, exchange_id: str) -> list[Raw]:
    """Those of an answer's trades that belong to an order; raises ValueError for one that names no order."""
    if not isinstance(raw, list):
        raise ValueError(f"trades: {str(raw)[:80]!r} is not a list")
    for trade in raw:
        if not isinstance(trade, Mapping):
            raise ValueError(f"trade: {str(trade)[:80]!r} is not an object")
        if not trade.get("order"):
            raise ValueError("trade.order is missing: nobody can tell which order was filled")
    return [trade for trade in raw if trade["order"] == exchange_id]


def sort_key(fill: Fill) -> tuple[int, int, str]:
    """Fills by time, then by trade id: later ones come last, for ever."""
    trade_id = fill.fill_id.rpartition("-")[2]
    return to_ms(fill.filled_at), int(trade_id) if trade_id.isdigit() else 0, trade_id


def _status(status: OrderStatus, filled: Decimal, order: Order) -> OrderStatus:
    """What ccxt calls "closed" is filled only where it is full: a market order that found no more sellers ends there too."""
    return OrderStatus.CANCELED if status is OrderStatus.FILLED and filled < order.qty else status


def _filled(raw: Raw, order: Order, instrument: Instrument) -> Decimal:
    """What has filled, in base units. A conditional order tells nothing of it: what it becomes does."""
    info = raw.get("info")
    if instrument.filled_field and isinstance(info, Mapping) and instrument.filled_field not in info and "algoId" not in info:
        raise ValueError(f"order.{instrument.filled_field} is missing")
    filled = read_number(raw.get("filled"), "order.filled") * instrument.size
    if not ZERO <= filled <= order.qty:
        raise ValueError(f"order.filled: {filled} is not between 0 and the order's {order.qty}")
    return _plain(filled)


def _expect_market(raw: Raw, order: Order, instrument: Instrument, what: str) -> None:
    """The pair and side that an answer names. What the exchange itself has written counts: ccxt puts in the pair that was asked for."""
    info = raw.get("info")
    if isinstance(info, Mapping):
        for field in MARKET_FIELDS:
            if field in info:
                _expect(info, field, instrument.market_id, what)
    _expect(raw, "symbol", instrument.symbol, what)
    _expect(raw, "side", str(order.side), what)


def _expect(raw: Raw, field: str, expected: str, what: str = "order") -> None:
    if raw.get(field) != expected:
        raise ValueError(f"{what}.{field}: {raw.get(field)!r} is not {expected!r}")


def _triggered_id(info: Any, own_id: str) -> str:
    told = (info.get(name) for name in TRIGGERED_IDS) if isinstance(info, Mapping) else ()
    return next((str(value) for value in told if value not in (None, "", 0, "0", own_id)), "")


def _fee(raw: Raw, instrument: Instrument, qty: Decimal, price: Decimal, price_of: PriceOf) -> list[Charge]:
    """What was charged, each asset once, in the order told; one charge at least."""
    info = raw.get("info")
    if instrument.fee_field and isinstance(info, Mapping) and instrument.fee_field not in info:
        raise ValueError(f"trade.{instrument.fee_field} is missing")
    estimate = qty * price * instrument.taker_rate
    charged: dict[str, Decimal] = {}
    for asset, cost in _charges(raw):
        charged[asset] = charged.get(asset, ZERO) + cost
    if not charged:
        return [Charge(instrument.stake, _plain(money(estimate)), money(estimate))]
    # What costs nothing says nothing, unless it is all that is told.
    told = {asset: cost for asset, cost in charged.items() if cost} or dict([next(iter(charged.items()))])
    charges = []
    for asset, cost in told.items():
        rate = {instrument.stake: Decimal(1), instrument.base: price}.get(asset) or (price_of(asset) if cost else ZERO)
        worth, estimate = (estimate, ZERO) if rate is None else (cost * rate, estimate)
        charges.append(Charge(asset, _plain(cost), money(worth)))
    return charges


def _charges(raw: Raw) -> Iterable[tuple[str, Decimal]]:
    told = raw.get("fees") or [raw.get("fee")]
    for charge in told:
        if not isinstance(charge, Mapping) or charge.get("cost") is None:
            continue
        asset = charge.get("currency")
        if not isinstance(asset, str) or not asset:
            raise ValueError(f"trade.fee.currency: {asset!r} is not an asset")
        yield asset, read_number(charge["cost"], "trade.fee.cost")


def _plain(value: Decimal) -> Decimal:
    """No exponent and no trailing zeros: a fill prints the same whatever the exchange's way of writing."""
    value = value.normalize()
    return value.quantize(Decimal(1)) if value == value.to_integral_value() else value
