"""Frozen values that cross module borders. Money is Decimal, time is timezone-aware UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import cache, lru_cache
from typing import Any, TypeVar

ZERO = Decimal(0)
V = TypeVar("V")
TIMEFRAME_MINUTES: Mapping[str, int] = {"1m": 1, "3m": 3, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "4h": 240, "1d": 1440}

FIRST_YEAR, LAST_YEAR = 2009, 2200
"""The years in which a tick or a made bar may lie: from the first traded coin on, and short of what 64-bit nanoseconds hold."""


class Side(StrEnum):
    """The side of an order or fill."""

    BUY = "buy"
    SELL = "sell"


class OrderType(StrEnum):
    """How an order executes. ``STOP`` is a stop-market order that rests on the exchange."""

    MARKET = "market"
    LIMIT = "limit"
    STOP = "stop"


class RestingStops(StrEnum):
    """Whether a protective stop can rest at an exchange, and how one takes the place of another."""

    NONE = "none"
    CANCEL_FIRST = "cancel_first"
    """Spot: a stop locks the coins that it would sell, so the old one has to go before the new one, or a sale, can come."""
    PLACE_FIRST = "place_first"
    """Contracts: reduce-only stops lock nothing, so the new one rests before the old one goes."""


class OrderStatus(StrEnum):
    """The life of an order; ``execution.order_states`` says what may follow what.

    ``INTENT`` is written to the ledger before anything is sent. ``UNKNOWN``: sent, and the answer was lost; the exchange is asked for the
    id, and the order is never sent again.
    """

    INTENT = "intent"
    SUBMITTED = "submitted"
    OPEN = "open"
    PARTIALLY_FILLED = "partially_filled"
    UNKNOWN = "unknown"
    FILLED = "filled"
    CANCELED = "canceled"
    EXPIRED = "expired"
    REJECTED = "rejected"

    @property
    def is_final(self) -> bool:
        """Whether nothing more can happen to the order."""
        return self in _FINAL


_FINAL = frozenset({OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.EXPIRED, OrderStatus.REJECTED})


class Liquidity(StrEnum):
    """Whether a fill took liquidity or made it."""

    TAKER = "taker"
    MAKER = "maker"


def evolve(value: V, **changes: Any) -> V:
    """``dataclasses.replace`` for the plain frozen values of this package, several times as fast: no ``__init__`` runs.

    Raises TypeError for a field that the value does not have. Not for classes with ``__post_init__``, slots or cached properties.
    """
    fields = value.__dict__
    changed = fields | changes
    if len(changed) != len(fields):
        raise TypeError(f"{type(value).__name__} has no field {', '.join(sorted(changes.keys() - fields.keys()))}")
    new = object.__new__(type(value))
    object.__setattr__(new, "__dict__", changed)
    return new


@cache
def base_asset(pair: str) -> str:
    """``BTC`` of ``BTC/USDT``."""
    return pair.partition("/")[0]


@cache
def quote_asset(pair: str) -> str:
    """``USDT`` of ``BTC/USDT``, also of ``BTC/USDT:USDT``."""
    return pair.partition("/")[2].partition(":")[0]


def utc(value: datetime) -> datetime:
    """Return ``value`` in UTC; raises ValueError for a naive time (rule 6)."""
    if value.tzinfo is None:
        raise ValueError(f"time {value!r} has no time zone")
    return value.astimezone(UTC)


def parse_time(text: str) -> datetime:
    """Parse an ISO 8601 time with a zone (``2024-06-01T00:00:00Z``) to UTC; raises ValueError."""
    try:
        return utc(datetime.fromisoformat(text))
    except OverflowError as error:
        raise ValueError(f"time {text!r} lies outside the calendar in UTC") from error


@lru_cache(maxsize=1 << 12)
def iso(value: datetime) -> str:
    """Format a time as ISO 8601 UTC with ``Z``: whole seconds, or milliseconds where there are any."""
    value = value if value.tzinfo is UTC else utc(value)
    precision = "milliseconds" if value.microsecond else "seconds"
    return value.isoformat(timespec=precision)[:-6] + "Z"  # It ends in +00:00.


def to_ms(value: datetime) -> int:
    """Milliseconds since the epoch, exactly."""
    delta = (value if value.tzinfo is UTC else utc(value)) - EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1000 + delta.microseconds // 1000


def from_ms(value: int) -> datetime:
    """The UTC time ``value`` milliseconds after the epoch."""
    return EPOCH + timedelta(milliseconds=int(value))


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, order=True)
class Tick:
    """One scheduled invocation. Its identity is the scheduled time, the function, and the strategy where the function runs one."""

    scheduled_at: datetime
    function: str
    strategy: str = ""
    """The strategy that a ``scan`` runs; empty for every other function."""

    @property
    def name(self) -> str:
        """``<function>``, or ``<function>-<strategy>``."""
        return f"{self.function}-{self.strategy}" if self.strategy else self.function

    @property
    def id(self) -> str:
        """``<scheduled time>#<name>``: sorts by time, unique for ever."""
        return f"{iso(self.scheduled_at)}#{self.name}"


@dataclass(frozen=True)
class PairRules:
    """What an exchange demands of an order for one pair. ``None`` means no filter."""

    pair: str
    price_step: Decimal | None = None
    qty_step: Decimal | None = None
    min_notional: Decimal | None = None
    min_qty: Decimal | None = None
    active: bool = True


@cache
def no_rules(pair: str) -> PairRules:
    """Of a pair that has no filters."""
    return PairRules(pair)


@dataclass(frozen=True)
class ExitPlan:
    """What a strategy wants for the exits of a new position; the stop engine does the rest."""

    atr: float | None = None
    """ATR at the decision, in price units; None = no ATR stop."""


@dataclass(frozen=True)
class Order:
    """An order as the ledger knows it. Created as an intent by a decision, then updated by reports."""

    client_order_id: str
    tick_at: datetime
    strategy: str
    pair: str
    side: Side
    type: OrderType
    qty: Decimal
    reason: str
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    reduce_only: bool = False
    expires_at: datetime | None = None
    exits: ExitPlan = field(default_factory=ExitPlan)
    status: OrderStatus = OrderStatus.INTENT
    filled_qty: Decimal = ZERO
    avg_price: Decimal | None = None
    fee: Decimal = ZERO
    """Fees so far, in the stake currency."""
    fill_ids: tuple[str, ...] = ()
    """The exchange's trade ids that are booked: a fill counts once, in whatever order an exchange tells of them."""
    attempt: int = 0
    """How often what it asks for had been asked for before: 0 is the first order, each re-quote of its rest is one more."""
    timed_out: bool = False
    """The desk is cancelling it because its time is over; written down before the cancellation is sent."""
    sent_at: datetime | None = None
    """When an order of unknown outcome was sent, by the clock: until it must have arrived, nobody concludes that it never did."""

    @property
    def open_qty(self) -> Decimal:
        """What may still fill."""
        return ZERO if self.status.is_final else self.qty - self.filled_qty

    @property
    def protects(self) -> bool:
        """Whether it is a stop that rests on the exchange to leave a position: no exit under way, until it goes off."""
        return self.type is OrderType.STOP and self.side is Side.SELL


@dataclass(frozen=True)
class Charge:
    """What a fill was charged in one asset; below zero for a rebate."""

    asset: str
    qty: Decimal
    worth: Decimal
    """In the stake currency."""


@dataclass(frozen=True)
class Fill:
    """One execution. ``fill_id`` is the exchange's trade id: a fill is applied once."""

    fill_id: str
    client_order_id: str
    filled_at: datetime
    pair: str
    side: Side
    qty: Decimal
    price: Decimal
    fee: Decimal
    """In the stake currency, all charges together."""
    fee_asset: str
    """Of the first charge, and mostly the only one."""
    fee_qty: Decimal
    liquidity: Liquidity
    further: tuple[Charge, ...] = ()
    """What was charged in other assets beside the first, each asset once."""

    @property
    def charges(self) -> tuple[Charge, ...]:
        """All that was charged, by asset; together worth ``fee``."""
        worth = self.fee - sum([charge.worth for charge in self.further], ZERO) if self.further else self.fee
        return (Charge(self.fee_asset, self.fee_qty, worth), *self.further)


@dataclass(frozen=True)
class OrderReport:
    """What the exchange says of an order: its state and every fill it had so far."""

    client_order_id: str
    status: OrderStatus
    fills: tuple[Fill, ...] = ()
    message: str = ""


@dataclass(frozen=True)
class Funding:
    """One payment between the holders of a perpetual contract: ``amount`` of the stake currency came, or, below zero, went."""

    id: str
    paid_at: datetime
    pair: str
    amount: Decimal


@dataclass(frozen=True)
class AccountSnapshot:
    """What the exchange holds for us at a moment: total balances by asset, and the orders we asked about.

    An order that the exchange does not know is absent from ``reports``.
    """

    at: datetime
    balances: Mapping[str, Decimal]
    reports: Mapping[str, OrderReport]
    settlements: tuple[Fill, ...] = ()
    """What the exchange sold of its own accord because a price scale broke: the latest of each pair, told again at every snapshot."""
    funding: tuple[Funding, ...] = ()
    """What was paid after ``funding_since`` and is in the balances, told again at every snapshot."""
    funding_since: datetime | None = None
    """None = the account pays no funding, or the exchange does not tell it apart."""


@dataclass(frozen=True)
class StopState:
    """The protective stop the desk keeps for a position. ``stop_price`` only ever rises (long)."""

    stop_price: float | None = None
    kind: str = "stop_loss"
    """``stop_loss``, ``trailing_stop_loss`` or, where the loss limit rests on the exchange, ``max_loss``: the exit reason if it is hit."""
    anchor_price: float | None = None
    """Highest close seen since the trail was armed; None = not armed."""
    atr: float | None = None
    """Latest ATR, in price units."""
    hit: str = ""
    """Why it is being sold, once a stop was hit: an exit that ends before all is sold goes on under the same reason."""


@dataclass(frozen=True)
class Position:
    """A long position, and what it has bought and sold since it was opened."""

    pair: str
    strategy: str
    enter_tag: str
    opened_at: datetime
    bought_qty: Decimal
    bought_value: Decimal
    """Price times quantity of all buys, without fees, in the stake currency."""
    sold_qty: Decimal = ZERO
    sold_value: Decimal = ZERO
    fees: Decimal = ZERO
    stop: StopState = field(default_factory=StopState)
    held_cost: Decimal | None = None
    """What is held, at its average entry price; None = nothing has been sold yet, so it is all that was bought."""

    @property
    def qty(self) -> Decimal:
        """What is held now."""
        return self.bought_qty - self.sold_qty

    @property
    def entry_price(self) -> Decimal:
        """Average entry price of what is held, without fees: a sale leaves it as it is, a further buy moves it."""
        if self.held_cost is None or self.qty <= 0:
            return self.bought_value / self.bought_qty
        return self.held_cost / self.qty


@dataclass(frozen=True)
class Trade:
    """A closed round trip, from the first buy to the sell that left nothing."""

    pair: str
    strategy: str
    side: str
    enter_tag: str
    opened_at: datetime
    open_price: Decimal
    closed_at: datetime
    close_price: Decimal
    qty: Decimal
    fees: Decimal
    pnl: Decimal
    """Net of fees, in the stake currency."""
    pnl_frac: Decimal
    """``pnl`` over what was paid for the position, without fees."""
    exit_reason: str
    trade_id: str = ""
    """The fill that closed it: makes the ledger's key unique."""


@dataclass(frozen=True)
class EquityRow:
    """The portfolio at a risk tick, before the tick's own orders."""

    at: datetime
    equity: Decimal
    cash: Decimal
    exposure_frac: float
    drawdown_frac: float
    regime: str


@dataclass(frozen=True)
class Halt:
    """Why and since when the desk takes no new positions."""

    reason: str
    since: datetime


@dataclass(frozen=True)
class Reducing:
    """Why and since when the desk only sells: its ledger claims what the exchange does not have."""

    reason: str
    since: datetime


@dataclass(frozen=True)
class Flatten:
    """Why and since when the desk sells everything; a person asked for it, and it is over when nothing is left to sell."""

    reason: str
    since: datetime


@dataclass(frozen=True)
class Accept:
    """A person's word that the exchange is right and the ledger wrong, and since when; it holds for the mismatch that the person saw."""

    reason: str
    since: datetime
    mismatch: str


@dataclass(frozen=True)
class FundingBook:
    """Which funding is in the desk's cash: of what was paid after ``since``, payments of ``booked`` in sum."""

    since: datetime
    booked: Decimal
    total: Decimal
    """All that was ever booked."""


@dataclass(frozen=True)
class TickRecord:
    """The ledger's record of a tick: its existence is the idempotency."""

    tick: Tick
    status: str
    """``journaled`` (its intents are complete and may be sent) or ``done``."""
    fence: int
    intents: tuple[str, ...] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    """Small facts for people: regime, equity, model versions."""


@dataclass(frozen=True)
class Unfilled:
    """What a limit order left when its time was over, until the tick that quotes it again or lets it go."""

    client_order_id: str
    """Of the order that ended."""
    pair: str
    strategy: str
    side: Side
    qty: Decimal
    """What it left."""
    reason: str
    exits: ExitPlan
    attempt: int
    """That of the order to come."""
    since: datetime
    """When the order's time was over."""


@dataclass(frozen=True)
class DeskState:
    """Everything the desk needs to restore itself: one query of the ledger."""

    cash: Decimal
    peak_equity: Decimal
    positions: Mapping[str, Position] = field(default_factory=dict)
    orders: Mapping[str, Order] = field(default_factory=dict)
    """Orders that are not final yet, by client_order_id."""
    halt: Halt | None = None
    reducing: Reducing | None = None
    external: Mapping[str, Decimal] = field(default_factory=dict)
    """Assets that the exchange holds beyond the ledger, by how much: reported, never touched. Of the stake currency, what somebody else's
    coins were sold for."""
    flatten: Flatten | None = None
    """What risk checks turn into exits of everything that is held."""
    quarantined: Mapping[str, str] = field(default_factory=dict)
    """Pairs whose market is closed, and since when (ISO 8601): nothing is ordered of them, and all others go on."""
    unprotected: Mapping[str, str] = field(default_factory=dict)
    """Positions whose stop should rest on the exchange and does not, and why: the desk alone checks them, at every risk check."""
    accept: Accept | None = None
    """What the next tick that can compare ledger and exchange carries out."""
    unfilled: Mapping[str, Unfilled] = field(default_factory=dict)
    """What limit orders left that is to be quoted again, by the id of the order that ended."""
    blocked: Mapping[str, str] = field(default_factory=dict)
    """Pairs that were stopped out, and when (ISO 8601): not bought again before the next full rebalance."""
    regime: str = "chop"
    """The last regime a rebalance saw; for the equity rows of risk checks."""
    regime_at: datetime | None = None
    marks: Mapping[str, float] = field(default_factory=dict)
    """The last close seen of every held pair: a pair whose bars stop keeps its value."""
    last_tick_at: datetime | None = None
    """The scheduled time of the latest trading tick that was recorded: an earlier one that arrives later is refused."""
    funding: FundingBook | None = None
    """None = the exchange has never told of any."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """The last good text of each settings section."""

    @property
    def mode(self) -> str:
        """``ACTIVE``, ``REDUCING`` (exits only, until ledger and exchange agree) or ``HALTED`` (exits only, until a person resumes)."""
        return "HALTED" if self.halt is not None else "REDUCING" if self.reducing is not None else "ACTIVE"

    @property
    def may_move(self) -> bool:
        """Whether the desk may go to another account: it is halted, and nothing of its ledger but dust is in the old one."""
        left = sum((position.qty * position.entry_price for position in self.positions.values()), ZERO)
        return self.halt is not None and not self.orders and left * 1000 <= self.cash

    def with_position(self, position: Position) -> DeskState:
        """The state with one position replaced, or removed when nothing is held."""
        positions = dict(self.positions)
        positions.pop(position.pair, None)
        if position.qty > 0:
            positions[position.pair] = position
        return evolve(self, positions=positions)

    def with_order(self, order: Order) -> DeskState:
        """The state with one order replaced, or removed when it is final."""
        orders = dict(self.orders)
        orders.pop(order.client_order_id, None)
        if not order.status.is_final:
            orders[order.client_order_id] = order
        return evolve(self, orders=orders)


@dataclass(frozen=True)
class LedgerUpdate:
    """Changes that become visible together. The ledger may join neighbours, never tear one apart.

    ``desk`` carries the scalars of the state after the update (cash, peak, halt, blocks, regime, marks); its
    ``positions``, ``orders`` and ``settings`` are ignored. An order in ``orders`` that is final leaves the open set and
    goes to the history; a position with nothing left is deleted.
    """

    desk: DeskState | None = None
    orders: tuple[Order, ...] = ()
    positions: tuple[Position, ...] = ()
    fills: tuple[Fill, ...] = ()
    trades: tuple[Trade, ...] = ()
    equity: EquityRow | None = None
    record: TickRecord | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
