"""Orders and trades as an exchange keeps them, and why it refuses one."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import ROUND_DOWN, Decimal
from enum import StrEnum

ZERO = Decimal(0)
WORKING = ("NEW", "PARTIALLY_FILLED")


class Why(StrEnum):
    """Why an exchange refuses an order; each API says it in its own words."""

    UNKNOWN_PAIR = "unknown pair"
    CLOSED = "market is closed"
    NO_PRICE = "no price"
    PRICE_STEP = "price step"
    QTY_STEP = "quantity step"
    QTY = "quantity"
    NOTIONAL = "notional"
    BALANCE = "balance"
    TRIGGERS = "would trigger at once"
    TAKES = "would take"
    DUPLICATE = "duplicate id"
    REDUCE_ONLY = "reduce only"
    TYPE = "order type"
    SIDE = "position side"


class RefusedError(Exception):
    """The exchange does not take an order."""

    def __init__(self, why: Why) -> None:
        super().__init__(why.value)
        self.why = why


@dataclass(frozen=True)
class Trade:
    """One execution; ``fee`` in ``fee_asset``, ``realized`` in the quote (futures)."""

    id: int
    order_id: int
    pair: str
    side: str
    price: Decimal
    qty: Decimal
    fee: Decimal
    fee_asset: str
    at_ms: int
    is_maker: bool
    realized: Decimal = ZERO

    @property
    def quote_qty(self) -> Decimal:
        return self.price * self.qty


@dataclass
class Order:
    """An order, alive. ``kind`` is how it executes, ``type`` what the API calls it; ``stop`` waits for its price until ``triggered``."""

    id: int
    client_id: str
    pair: str
    side: str
    type: str
    kind: str
    """``market`` or ``limit``."""
    qty: Decimal
    created_ms: int
    price: Decimal | None = None
    stop: Decimal | None = None
    takes_profit: bool = False
    """A stop that waits for a better price, not a worse one."""
    time_in_force: str = "GTC"
    post_only: bool = False
    reduce_only: bool = False
    close_position: bool = False
    position_side: str = "BOTH"
    is_algo: bool = False
    """Waits in the algo service of the futures API; a triggered one places an order, ``child``."""
    status: str = "NEW"
    triggered: bool = False
    triggered_ms: int = 0
    child: Order | None = None
    filled: Decimal = ZERO
    quote: Decimal = ZERO
    """Price times quantity of all trades."""
    updated_ms: int = 0
    trades: list[Trade] = field(default_factory=list)
    quote_qty: Decimal = ZERO
    """What a market buy by value wanted to spend."""

    @property
    def is_buy(self) -> bool:
        return self.side == "BUY"

    @property
    def open_qty(self) -> Decimal:
        return self.qty - self.filled

    @property
    def is_working(self) -> bool:
        return self.status in WORKING

    @property
    def waits(self) -> bool:
        """Whether its stop price has not been reached yet."""
        return self.stop is not None and not self.triggered

    @property
    def average(self) -> Decimal:
        return self.quote / self.filled if self.filled else ZERO

    def reached(self, price: Decimal) -> bool:
        """Whether ``price`` sets it off."""
        if self.stop is None:
            return False
        return price >= self.stop if self.is_buy != self.takes_profit else price <= self.stop

    def crosses(self, price: Decimal) -> bool:
        """Whether a limit executes at ``price``."""
        return self.price is not None and (price <= self.price if self.is_buy else price >= self.price)


def floor_to(value: Decimal, step: Decimal) -> Decimal:
    """The last multiple of ``step`` at or below ``value``."""
    return (value / step).to_integral_value(ROUND_DOWN) * step
