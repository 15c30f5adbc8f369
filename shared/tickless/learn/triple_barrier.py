"""The triple barrier: a trade ends at its take-profit, at its stop or when its time is over, whichever comes first.

López de Prado, *Advances in Financial Machine Learning* (2018), chapter 3; what is decided on bars follows ``docs/fills.md``:

* a decision at the close of bar t enters at the open of bar t+1, and the barriers stand from that open on;
* the stop is hit by a bar that reaches it and costs the worse of stop and open; the take-profit fills at its level when a bar trades
  strictly through it; where both lie inside one bar, the stop wins;
* nothing is hit inside a bar in which nothing traded, or that is missing;
* what has hit neither in H bars leaves at the open of bar t+1+H.

A label ends with the bar that ended the trade, so its interval differs by row and pair.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tickless.bars import Floats, Panel
from tickless.breaks import find_scale_breaks
from tickless.learn.labels import Labels, Millis, decided_ms, one_if_above
from tickless.types import Side

Rows = NDArray[np.intp]
TAKE_PROFIT, TIME, STOP = 1, 0, -1


@dataclass(frozen=True)
class Barriers:
    """Where a trade ends. Distances from the entry in units of what ``triple_barrier`` is given; infinity = no such barrier."""

    take_profit: float
    stop: float
    bars: int
    """The time barrier: bars held at most."""

    def __post_init__(self) -> None:
        if not (self.take_profit > 0.0 and self.stop > 0.0 and self.bars >= 1):
            raise ValueError(f"barriers must lie away from the entry: {self}")


@dataclass(frozen=True)
class BarrierOutcome:
    """How the trades of every bar and pair ended."""

    plain: Floats
    """What the trade returned before cost, as a fraction of the entry, (T, N); NaN = no trade, or its end lies beyond the bars."""
    touched: NDArray[np.int8]
    """1 take-profit, -1 stop, 0 time, (T, N); 0 also where there is no trade."""
    start_ms: Millis
    """The decision, (T,)."""
    end_ms: Millis
    """The close of the bar that ended the trade, (T, N); the decision's own time where there is none."""


def triple_barrier(
    panel: Panel, unit: Floats, barriers: Barriers, side: Side = Side.BUY, decided: NDArray[np.bool_] | None = None
) -> BarrierOutcome:
    """The outcome of a trade entered after every bar, or after those of the mask ``decided`` (T, N).

    ``unit`` (T, N) is what the barriers' distances are multiples of, as a fraction of the price and as it was known at the decision: an
    ATR over the close, a volatility of the horizon, or 1 for plain fractions. No outcome where it is not a positive number, where an
    open is missing that the trade needs, and where the price scale breaks between decision and end.
    """
    shape = panel.open.shape
    usable = np.isfinite(unit) & (unit > 0.0)
    usable[:-1] &= ~np.isnan(panel.open[1:])
    usable[-1:] = False
    if decided is not None:
        usable &= decided
    plain, touched = np.full(shape, np.nan), np.zeros(shape, dtype=np.int8)
    start = decided_ms(panel)
    end = np.repeat(start[:, None], shape[1], axis=1)
    breaks = _break_rows(panel)
    for n in range(shape[1]):
        rows = np.flatnonzero(usable[:, n])
        prices = _Column.of(panel, n, side)
        ended, gained, how = _outcomes(prices, rows, unit[rows, n], barriers)
        known = ~(np.isnan(gained) | _crosses(rows, ended, breaks.get(n)))
        rows = rows[known]
        plain[rows, n], touched[rows, n] = gained[known], how[known]
        end[rows, n] = start[ended[known]]
    return BarrierOutcome(plain, touched, start, end)


def barrier_labels(outcome: BarrierOutcome, kind: Literal["win", "touch"], cost_frac: float = 0.0) -> Labels:
    """Outcomes as classes. ``plain`` is before cost.

    ``win``: 1 where the trade returned more than ``cost_frac``, the cost of a round trip, else 0. ``touch``: 0 stop, 1 time, 2 take-profit.
    """
    target = one_if_above(outcome.plain, cost_frac)
    if kind == "touch":
        target = np.where(np.isnan(outcome.plain), np.nan, outcome.touched + 1.0)
    return Labels(target, outcome.plain, np.ones_like(outcome.plain), outcome.start_ms, outcome.end_ms)


@dataclass(frozen=True)
class _Column:
    """One pair's prices, (T,); a short's are negated, so that up is always gain. Bars that hit nothing have no reach."""

    open: Floats
    best: Floats
    worst: Floats

    @classmethod
    def of(cls, panel: Panel, n: int, side: Side) -> _Column:
        opened, high, low = (np.ascontiguousarray(values[:, n]) for values in (panel.open, panel.high, panel.low))
        silent = np.isnan(opened) | (panel.volume[:, n] == 0.0)
        best, worst = (high, low) if side is Side.BUY else (-low, -high)
        return cls(opened if side is Side.BUY else -opened, np.where(silent, -np.inf, best), np.where(silent, np.inf, worst))


def _outcomes(prices: _Column, rows: Rows, unit: Floats, barriers: Barriers) -> tuple[Rows, Floats, NDArray[np.int8]]:
    """(row of the bar that ended it, return, how) of the trades decided at ``rows``; the return is NaN where the bars end before."""
    total = len(prices.open)
    entry = prices.open[rows + 1]
    upper = entry + np.abs(entry) * unit * barriers.take_profit
    lower = entry - np.abs(entry) * unit * barriers.stop
    last = rows + 1 + barriers.bars
    ended = first_touch(prices.best, prices.worst, rows + 1, np.minimum(last, total), upper, lower)
    over = ended >= total
    at = np.where(over, 0, ended)
    timed = ended == last
    stopped = ~timed & (prices.worst[at] <= lower)
    leave = np.where(timed, prices.open[at], np.where(stopped, np.minimum(lower, prices.open[at]), upper))
    gained = np.where(over, np.nan, (leave - entry) / np.abs(entry))
    how = np.where(timed | over, TIME, np.where(stopped, STOP, TAKE_PROFIT)).astype(np.int8)
    return at, gained, how


def first_touch(best: Floats, worst: Floats, first: Rows, last: Rows, upper: Floats, lower: Floats) -> Rows:
    """The first row in [first, last) whose ``best`` is above ``upper`` or whose ``worst`` is at or below ``lower``; ``last`` if none.

    ``best`` and ``worst`` are one pair's (T,), the rest one value a trade (E,). Halves the window instead of walking along it: tables
    of the extremes of 1, 2, 4 … bars tell whether a whole stretch is free of a touch.
    """
    position = first.copy()
    longest = int((last - first).max()) if len(first) else 0
    for width, most, least in reversed(list(_extremes(best, worst, longest))):
        fits = position + width <= last
        at = np.where(fits, position, 0)
        free = fits & (most[at] <= upper) & (least[at] > lower)
        position += free * width
    return position


def _extremes(best: Floats, worst: Floats, longest: int) -> Iterator[tuple[int, Floats, Floats]]:
    """(width, highest, lowest of [t, t + width)) for each power of two up to ``longest``."""
    width = 1
    while width <= longest:
        yield width, best, worst
        best = np.maximum(best[:-width], best[width:])
        worst = np.minimum(worst[:-width], worst[width:])
        width *= 2


def _break_rows(panel: Panel) -> dict[int, Rows]:
    """By column, the rows at which a pair's price scale breaks, rising."""
    found: dict[int, list[int]] = {}
    for pair, row, _ in find_scale_breaks(panel):
        found.setdefault(panel.column[pair], []).append(row)
    return {n: np.asarray(rows, dtype=np.intp) for n, rows in found.items()}


def _crosses(rows: Rows, ended: Rows, breaks: Rows | None) -> NDArray[np.bool_]:
    """Whether a break lies after the decision and not after the end."""
    if breaks is None:
        return np.zeros(len(rows), dtype=bool)
    return np.searchsorted(breaks, rows, side="right") < np.searchsorted(breaks, ended, side="right")
