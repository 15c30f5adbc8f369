"""What became of set-ups: entries, take-profit, stop and time limit, filled by the rules of ``docs/fills.md``, costs on both sides.

The desk's fill model (``execution.matching``) plays one account's orders in exact decimals; here thousands of set-ups are played at once in
floats, each alone, with money enough and nothing taken from the volume. ``tests/property/test_setup_fills.py`` holds the two together.

A set-up is decided at the close of a bar. Its entry orders are sent at the next open: at the market, or at limits (a grid has several),
and end after ``entry_bars`` bars. What is held is protected by a stop and a take-profit from the open at which it is known on: the entry's
own, where it filled at an open; the next, where a limit was met inside a bar. They are placed anew when a further entry fills. Once
anything is sold, entries that still wait are cancelled. After ``hold_bars`` bars from the first fill the rest is sold at the open, and
at the latest at the open after the bar at whose close the strategy itself says so (``Setups.leave``).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tickless.bars import Floats, Panel
from tickless.breaks import find_scale_breaks
from tickless.learn.labels import Labels, Millis, decided_ms, one_if_above
from tickless.learn.triple_barrier import STOP, TAKE_PROFIT, TIME, Rows
from tickless.settings import ExecutionSection
from tickless.types import Side

Mask = NDArray[np.bool_]
_NEVER = np.intp(np.iinfo(np.intp).max)


@dataclass(frozen=True)
class Setups:
    """Set-ups of one kind on one panel, one a row; every decision is one bar and pair, at most once."""

    row: Rows
    """The bar at whose close it is decided, (E,)."""
    pair: Rows
    """The panel's column, (E,)."""
    entry: Floats
    """Limit prices of the entry orders, (E, L); NaN is an order at the market."""
    share: Floats
    """The quantity of each, in any unit, (E, L); 0 = no such order."""
    take_profit: Floats
    """(E,): a price, or a distance as a fraction of the average entry; NaN = none."""
    stop: Floats
    """(E,), as ``take_profit``."""
    leave: Rows | None = None
    """The bar at whose close the strategy gives the set-up up, whatever has filled, (E,); the number of bars or more = it never does."""

    def __post_init__(self) -> None:
        count = len(self.row)
        given = [value for one in fields(self) if (value := getattr(self, one.name)) is not None]
        if any(len(value) != count for value in given) or self.entry.shape != self.share.shape:
            raise ValueError("the arrays of the set-ups do not belong together")

    def take(self, which: Mask) -> Setups:
        """Those of the mask, (E,)."""
        kept: dict[str, Any] = {one.name: None if (value := getattr(self, one.name)) is None else value[which] for one in fields(self)}
        return Setups(**kept)


@dataclass(frozen=True)
class SetupRules:
    """How set-ups of one kind are traded."""

    entry_bars: int
    """Bars after which an entry order that has not filled is cancelled."""
    hold_bars: int
    """Bars from the first fill after which what is held is sold."""
    levels: Literal["price", "distance"]
    """What ``take_profit`` and ``stop`` are: prices, or fractions of the average entry of what is held."""
    side: Side = Side.BUY


@dataclass(frozen=True)
class SetupOutcome:
    """How each set-up ended, (E,)."""

    net: Floats
    """Profit after all fees and slippage over the value entered; NaN = nothing was entered, or how it ends lies beyond the bars."""
    entered: Floats
    """The share of the planned quantity that was entered."""
    how: NDArray[np.int8]
    """What closed the position: 1 take-profit, -1 stop, 0 time or the strategy itself; 0 also where there is no outcome."""
    end_ms: Millis
    """The close of the bar in which it closed; the decision's own time without an outcome."""


def setup_outcome(panel: Panel, setups: Setups, rules: SetupRules, execution: ExecutionSection) -> SetupOutcome:
    """Play every set-up to its end. None has an outcome whose pair changes its price scale before that (``tickless.breaks``)."""
    count = len(setups.row)
    net, entered, how = np.full(count, np.nan), np.zeros(count), np.zeros(count, dtype=np.int8)
    end = decided_ms(panel)[setups.row] if count else np.empty(0, dtype=np.int64)
    market = _Market.of(panel, rules.side, execution)
    book = _Book.of(setups, rules)
    bar = 0
    while len(book.index):
        alive = book.row + 1 + bar < panel.rows
        rows = np.where(alive, book.row + 1 + bar, 0)
        alive &= ~market.breaks[rows, book.pair]
        _open(book, market, rows, bar, rules)
        _inside(book, market, rows)
        flat = book.held <= 0.0
        closed = alive & flat & book.sold
        ended = book.index[closed]
        net[ended] = (book.got - book.paid - book.fees)[closed] / book.value[closed]
        how[ended] = book.how[closed]
        entered[ended] = book.filled[closed] / book.planned[closed]
        end[ended] = panel.start_ms + (rows[closed] + 1) * panel.step_ms
        book.keep(alive & ~closed & ~(flat & ~book.waiting.any(axis=1)))
        bar += 1
    return SetupOutcome(net, entered, how, end)


def setup_labels(panel: Panel, setups: Setups, outcome: SetupOutcome, target: Literal["win", "net"] = "win") -> Labels:
    """Outcomes as labels of bars and pairs: 1 for a profit and 0 for a loss, or the profit itself.

    ``plain`` is AFTER cost, unlike that of other labels: fees and slippage depend on how a set-up filled, and are in it. Raises ValueError
    where two set-ups share a bar and pair.
    """
    shape = panel.open.shape
    where = (setups.row, setups.pair)
    if len(set(zip(setups.row.tolist(), setups.pair.tolist(), strict=True))) < len(setups.row):
        raise ValueError("two set-ups of one kind share a bar and pair")
    start = decided_ms(panel)
    plain = np.full(shape, np.nan)
    plain[where] = outcome.net
    end = np.repeat(start[:, None], shape[1], axis=1)
    end[where] = outcome.end_ms
    return Labels(one_if_above(plain, 0.0) if target == "win" else plain, plain, np.ones(shape), start, end)


@dataclass(frozen=True)
class _Market:
    """Bars (T, N) and costs. A short's prices are negated, so that up is always gain; bars that fill nothing inside have no reach."""

    open: Floats
    best: Floats
    worst: Floats
    breaks: Mask
    """Where a pair's first bar on a new scale opens."""
    taker: float
    maker: float
    slip: float

    @classmethod
    def of(cls, panel: Panel, side: Side, execution: ExecutionSection) -> _Market:
        sign = 1.0 if side is Side.BUY else -1.0
        best, worst = (panel.high, panel.low) if side is Side.BUY else (-panel.low, -panel.high)
        silent = np.isnan(panel.open) | (panel.volume == 0.0)
        breaks = np.zeros(panel.open.shape, dtype=bool)
        for found in find_scale_breaks(panel):
            breaks[found.row, panel.column[found.pair]] = True
        rates = (execution.taker_fee_bps, execution.maker_fee_bps, execution.slippage_bps)
        reach = np.where(silent, -np.inf, best), np.where(silent, np.inf, worst)
        return cls(sign * panel.open, *reach, breaks, *(rate / 10_000.0 for rate in rates))


@dataclass
class _Book:
    """Orders and holdings of the set-ups that are still open; (E,) or (E, L), prices negated for a short."""

    index: Rows
    row: Rows
    pair: Rows
    limit: Floats
    share: Floats
    planned: Floats
    leave: Rows
    goal: Floats
    guard: Floats
    """Take-profit and stop as they were given."""
    waiting: Mask
    """Entry orders that are open."""
    resting: Mask
    """Those of them that were not marketable on arrival."""
    held: Floats
    basis: Floats
    """What is held times its entry prices."""
    filled: Floats
    paid: Floats
    value: Floats
    got: Floats
    fees: Floats
    first_fill: Rows
    """The bar of the first fill; -1 before it."""
    protected: Mask
    """Whether stop and take-profit stand for what is held."""
    take_profit: Floats
    stop: Floats
    goal_rests: Mask
    changed: Mask
    """Whether an entry has filled since they were placed."""
    sold: Mask
    how: NDArray[np.int8]

    @classmethod
    def of(cls, setups: Setups, rules: SetupRules) -> _Book:
        sign = 1.0 if rules.side is Side.BUY else -1.0
        count = len(setups.row)
        level = sign if rules.levels == "price" else 1.0

        def none() -> Floats:
            return np.zeros(count)

        def never() -> Mask:
            return np.zeros(count, dtype=bool)

        return cls(
            index=np.arange(count, dtype=np.intp),
            row=setups.row,
            pair=setups.pair,
            limit=sign * setups.entry,
            share=setups.share,
            planned=setups.share.sum(axis=1),
            leave=np.full(count, _NEVER) if setups.leave is None else setups.leave,
            goal=level * setups.take_profit,
            guard=level * setups.stop,
            waiting=setups.share > 0.0,
            resting=np.zeros(setups.share.shape, dtype=bool),
            held=none(),
            basis=none(),
            filled=none(),
            paid=none(),
            value=none(),
            got=none(),
            fees=none(),
            first_fill=np.full(count, -1, dtype=np.intp),
            protected=never(),
            take_profit=none(),
            stop=none(),
            goal_rests=never(),
            changed=never(),
            sold=never(),
            how=np.zeros(count, dtype=np.int8),
        )

    def keep(self, mask: Mask) -> None:
        """Forget the set-ups outside the mask."""
        if not mask.all():
            for one in fields(self):
                setattr(self, one.name, getattr(self, one.name)[mask])

    def buy(self, orders: Mask, price: Floats, fee: float, rows: Rows) -> None:
        """Fill entry orders whole at prices; both (E, L)."""
        if not orders.any():
            return
        qty = np.where(orders, self.share, 0.0)
        cost = np.where(orders, qty * price, 0.0).sum(axis=1)
        bought = qty.sum(axis=1)
        worth = np.where(orders, qty * np.abs(price), 0.0).sum(axis=1)
        self.waiting &= ~orders
        self.held += bought
        self.filled += bought
        self.basis += cost
        self.paid += cost
        self.value += worth
        self.fees += worth * fee
        some = bought > 0.0
        self.changed |= some
        self.first_fill = np.where(some & (self.first_fill < 0), rows, self.first_fill)

    def sell(self, which: Mask, price: Floats, fee: float, how: int) -> None:
        """Sell all that is held at a price, (E,)."""
        if not which.any():
            return
        worth = np.where(which, self.held * price, 0.0)
        self.got += worth
        self.fees += np.abs(worth) * fee
        self.held[which] = self.basis[which] = 0.0
        self.protected &= ~which
        self.sold |= which
        self.how[which] = how

    def protect(self, which: Mask, levels: Literal["price", "distance"]) -> None:
        """Place stop and take-profit for all that is held."""
        if not which.any():
            return
        goal, guard = self.goal, self.guard
        if levels == "distance":
            average = np.divide(self.basis, self.held, out=np.zeros(len(self.held)), where=self.held > 0.0)
            reach = np.where(average == 0.0, 1.0, np.abs(average))
            goal, guard = average + goal * reach, average - guard * reach
        self.take_profit = np.where(which, goal, self.take_profit)
        self.stop = np.where(which, guard, self.stop)
        self.protected |= which
        self.goal_rests &= ~which
        self.changed &= ~which


def _open(book: _Book, market: _Market, rows: Rows, bar: int, rules: SetupRules) -> None:
    """What happens at an open: orders that waited for it, then cancels and the end of the time, entries, and orders for what is held."""
    price = market.open[rows, book.pair]
    slip = market.slip * np.abs(price)
    here = ~np.isnan(price)
    book.waiting &= bar < rules.entry_bars
    _take_profit_at(price, book, market)
    over = (book.first_fill >= 0) & (rows >= book.first_fill + rules.hold_bars)
    book.waiting &= ~(over | book.sold)[:, None]
    # What is to be sold at the market is protected no longer, also while it waits for a bar.
    book.protected &= ~over
    book.changed &= ~over
    book.sell(over & here & (book.held > 0.0), price - slip, market.taker, TIME)
    arriving = book.waiting & ~book.resting & here[:, None]
    at_market = arriving & np.isnan(book.limit)
    marketable = arriving & (price[:, None] <= book.limit)
    book.buy(at_market, np.broadcast_to((price + slip)[:, None], book.limit.shape), market.taker, rows)
    book.buy(marketable, np.broadcast_to(price[:, None], book.limit.shape), market.taker, rows)
    book.resting |= arriving & ~at_market & ~marketable
    _give_up(book, market, price - slip, rows > book.leave, here)
    book.protect(book.changed & (book.held > 0.0), rules.levels)
    _take_profit_at(price, book, market)
    book.goal_rests |= here


def _give_up(book: _Book, market: _Market, price: Floats, which: Mask, here: Mask) -> None:
    """What the strategy no longer wants is sold, with what has filled at this very open; entries that still wait are cancelled."""
    book.waiting &= ~which[:, None]
    book.protected &= ~which
    book.changed &= ~which
    book.sell(which & here & (book.held > 0.0), price, market.taker, TIME)


def _take_profit_at(price: Floats, book: _Book, market: _Market) -> None:
    """Take-profits that arrive at an open beyond them fill there, and end what still waits to enter."""
    reached = book.protected & ~book.goal_rests & (price >= book.take_profit)
    book.sell(reached, price, market.taker, TAKE_PROFIT)
    book.waiting &= ~reached[:, None]


def _inside(book: _Book, market: _Market, rows: Rows) -> None:
    """What happens inside a bar: stops first, then take-profits, then entries that rest; a stop leaves its take-profit nothing."""
    opened = market.open[rows, book.pair]
    best, worst = market.best[rows, book.pair], market.worst[rows, book.pair]
    stopped = book.protected & (worst <= book.stop)
    gained = book.protected & ~stopped & (best > book.take_profit)
    met = book.waiting & book.resting & (worst[:, None] < book.limit)
    price = np.minimum(book.stop, opened)
    book.sell(stopped, price - market.slip * np.abs(price), market.taker, STOP)
    book.sell(gained, book.take_profit, market.maker, TAKE_PROFIT)
    book.buy(met, book.limit, market.maker, rows)
