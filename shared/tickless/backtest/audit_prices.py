"""The auditor's questions of price: could each fill have had its price, and each gain have been made? Files and bars only."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from itertools import pairwise
from math import isnan

import numpy as np

from tickless.backtest.results import Results
from tickless.bars import Panel
from tickless.breaks import find_scale_breaks
from tickless.settings import Settings
from tickless.types import EquityRow, Fill, Liquidity, Order, PairRules, Side, iso, to_ms

PRICE_SCALE_BREAK = "price_scale_break"
END_OF_DATA = "end_of_data"
_SLACK = 1e-9
"""What rounding to 12 digits may move a price by, as a fraction."""


@dataclass(frozen=True)
class _Settlement:
    """What the documents ask for at a break of a price scale: nothing is held past ``stamp_ms``, sold at ``price``."""

    row: int
    stamp_ms: int
    price: float


@dataclass(frozen=True)
class _Stretch:
    """What happened to one pair between two equity rows on one price scale: rows [first, last) and the opens of fills beyond them."""

    held: float
    """What was held when it began."""
    before: float
    """The close at which that was valued."""
    bought: float
    first: int
    last: int
    opens: Sequence[float]


@dataclass(frozen=True)
class PriceAudit:
    """Checks of a result folder's prices; each yields one sentence a finding."""

    results: Results
    panel: Panel
    settings: Settings | None
    rules: Mapping[str, PairRules]

    @cached_property
    def _orders(self) -> dict[str, Order]:
        return {order.client_order_id: order for order in self.results.orders}

    @cached_property
    def _breaks(self) -> dict[str, list[_Settlement]]:
        """Every break of a price scale by pair, in order of time."""
        panel, found = self.panel, dict[str, list[_Settlement]]()
        for pair, row, _ in find_scale_breaks(panel):
            column = panel.column[pair]
            last = int(np.flatnonzero(~np.isnan(panel.close[:row, column]))[-1])
            told_late = last == row - 1 and panel.volume[last, column] != 0
            known_ms = panel.start_ms + (row + told_late) * panel.step_ms
            found.setdefault(pair, []).append(_Settlement(row, known_ms - 1, float(panel.close[last, column])))
        return found

    @cached_property
    def _fills(self) -> dict[str, list[Fill]]:
        """The fills of each pair, by time."""
        found: dict[str, list[Fill]] = {}
        for fill in sorted(self.results.fills, key=lambda fill: fill.filled_at):
            found.setdefault(fill.pair, []).append(fill)
        return found

    def fill_ranges(self) -> Iterator[str]:
        """Each fill lies within the range of its bar, widened by the slippage, or has the price that the documents name."""
        for fill in self.results.fills:
            order, where = self._orders.get(fill.client_order_id), f"fills.csv {fill.client_order_id} at {iso(fill.filled_at)}"
            if order is None or fill.pair not in self.panel.column:
                continue
            if order.reason == PRICE_SCALE_BREAK:
                yield from self._settlement_price(fill, where)
            elif order.reason == END_OF_DATA:
                yield from self._final_price(fill, where)
            else:
                yield from self._range(fill, where)

    def _settlement_price(self, fill: Fill, where: str) -> Iterator[str]:
        known = [entry for entry in self._breaks.get(fill.pair, ()) if entry.stamp_ms == to_ms(fill.filled_at)]
        if not known:
            yield f"{where}: the price scale of {fill.pair} did not break then"
        elif float(fill.price) != known[0].price:
            yield f"{where}: settled at {fill.price}, the last close before the break is {known[0].price}"

    def _final_price(self, fill: Fill, where: str) -> Iterator[str]:
        column, row = self.panel.column[fill.pair], self._row(to_ms(fill.filled_at))
        rows = np.flatnonzero(~np.isnan(self.panel.close[:row, column]))
        # A break that only the last bar tells of comes after the last tick: the close before it counts.
        broken = len(rows) and any(entry.row == rows[-1] for entry in self._breaks.get(fill.pair, ()))
        closes = self.panel.close[rows[-2:] if broken else rows[-1:], column].tolist()
        if float(fill.price) not in closes:
            yield f"{where}: closed at {fill.price}, the last close is {closes[-1] if closes else None}"

    def _range(self, fill: Fill, where: str) -> Iterator[str]:
        at_ms, step = to_ms(fill.filled_at), self.panel.step_ms
        inside = at_ms % step != 0
        row, column = self._row(at_ms), self.panel.column[fill.pair]
        if inside and at_ms % step != step - 1:
            yield f"{where}: no bar opens then or is about to close"
            return
        if not 0 <= row < self.panel.rows or np.isnan(self.panel.close[row, column]):
            if inside:
                yield f"{where}: {fill.pair} has no bar that closes then"
            return
        if inside and self.panel.volume[row, column] == 0:
            yield f"{where}: nothing traded inside the bar"
        if any(entry.row == row for entry in self._breaks.get(fill.pair, ())):
            yield f"{where}: {fill.pair} trades in the first bar on a new price scale"
        slip = self.settings.execution.slippage_bps / 10_000 if self.settings is not None else 0.0
        rule = self.rules.get(fill.pair)
        slack = float(rule.price_step or 0) if rule is not None else 0.0
        low, high, price = float(self.panel.low[row, column]), float(self.panel.high[row, column]), float(fill.price)
        least = low if fill.side is Side.BUY else low * (1 - slip)
        most = high * (1 + slip) if fill.side is Side.BUY else high
        too_good = price < least * (1 - _SLACK) - slack if fill.side is Side.BUY else price > most * (1 + _SLACK) + slack
        # Whoever waits at a limit that the market gaps past still gets the limit, which is worse than any price of the bar.
        outside = not least * (1 - _SLACK) - slack <= price <= most * (1 + _SLACK) + slack
        judged = self.settings is not None and fill.liquidity is Liquidity.TAKER
        if too_good or (judged and outside):
            yield f"{where}: price {fill.price} lies outside the bar's {least} to {most}"

    def scale_breaks(self) -> Iterator[str]:
        """Nothing is held across a break of the price scale."""
        end_ms = to_ms(self.results.equity[-1].at) if self.results.equity else 0
        for pair, fills in self._fills.items():
            for entry in self._breaks.get(pair, ()):
                held = sum(_signed(fill) for fill in fills if to_ms(fill.filled_at) <= entry.stamp_ms)
                if held > 0 and entry.stamp_ms < end_ms:
                    at = iso(self.panel.start + entry.row * (self.panel.end - self.panel.start) / self.panel.rows)
                    yield f"fills.csv: {held} {pair} are held across the break of its price scale at {at}"

    def gains(self) -> Iterator[str]:
        """From one equity row to the next the desk gains at most what it held and bought could have earned on the bars between."""
        moments = {pair: [self._counts(fill) for fill in fills] for pair, fills in self._fills.items()}
        done = dict.fromkeys(self._fills, 0)
        held = dict.fromkeys(self._fills, Decimal(0))
        for before, after in pairwise(self.results.equity):
            most = 0.0
            for pair, fills in self._fills.items():
                first, last = done[pair], bisect_right(moments[pair], (after.at, 0))
                if held[pair] or first < last:
                    most += self._most(pair, float(held[pair]), fills[first:last], before, after)
                    held[pair] += sum(_signed(fill) for fill in fills[first:last])
                    done[pair] = last
            gain = float(after.equity - before.equity)
            if gain > most + 1e-6 + _SLACK * abs(float(before.equity)):
                yield f"equity.csv at {iso(after.at)}: a gain of {gain} since {iso(before.at)}, the bars allow at most {most}"

    def _counts(self, fill: Fill) -> tuple[datetime, int]:
        """When a fill counts: before the row of its own time, unless the tick of that time sent its order."""
        order = self._orders.get(fill.client_order_id)
        return fill.filled_at, int(order is not None and order.tick_at >= fill.filled_at)

    def _most(self, pair: str, held: float, fills: Sequence[Fill], before: EquityRow, after: EquityRow) -> float:
        """The most that a pair could have earned between two rows; a stretch ends where the price scale breaks."""
        if pair not in self.panel.column:
            return 0.0
        first, last = self._row(to_ms(before.at)), self._row(to_ms(after.at))
        cuts = [first, *(entry.row for entry in self._breaks.get(pair, ()) if first <= entry.row < last), last]
        close = self._last_close(pair, first)
        most = 0.0
        for n, (start, end) in enumerate(pairwise(cuts)):
            final = n == len(cuts) - 2
            mine = [
                fill for fill in fills if start <= self._row(to_ms(fill.filled_at)) and (final or self._row(to_ms(fill.filled_at)) < end)
            ]
            bought = float(sum((fill.qty for fill in mine if fill.side is Side.BUY), Decimal(0)))
            beyond = sorted({row for fill in mine if (row := self._row(to_ms(fill.filled_at))) >= end})
            opens = [float(self.panel.open[row, self.panel.column[pair]]) for row in beyond if row < self.panel.rows]
            most += self._stretch(pair, _Stretch(held if n == 0 else 0.0, close, bought, start, end, opens))
        return most

    def _stretch(self, pair: str, stretch: _Stretch) -> float:
        highs, lows = self._extremes[pair]
        rows = slice(max(0, stretch.first), max(0, stretch.last))
        high = max((p for p in (*highs[rows], *stretch.opens, stretch.before) if not isnan(p)), default=0.0)
        low = min((p for p in (*lows[rows], *stretch.opens, stretch.before) if not isnan(p)), default=0.0)
        earned = stretch.held * (high - stretch.before) if stretch.held > 0.0 else 0.0
        return earned + stretch.bought * (high - low)

    @cached_property
    def _extremes(self) -> dict[str, tuple[list[float], list[float]]]:
        """Highs and lows of every pair that was traded, as lists: they are read a bar at a time."""
        columns = {pair: self.panel.column[pair] for pair in self._fills if pair in self.panel.column}
        return {pair: (self.panel.high[:, n].tolist(), self.panel.low[:, n].tolist()) for pair, n in columns.items()}

    @cached_property
    def _closes(self) -> dict[str, list[float]]:
        """For each pair that was traded, the last close at or before each row."""
        found = {}
        for pair in self._extremes:
            close = self.panel.close[:, self.panel.column[pair]]
            rows = np.maximum.accumulate(np.where(np.isnan(close), -1, np.arange(self.panel.rows)))
            found[pair] = np.where(rows < 0, np.nan, close[rows]).tolist()
        return found

    def _last_close(self, pair: str, row: int) -> float:
        """The close of the pair's last bar before a row; NaN where there is none."""
        return self._closes[pair][min(row, self.panel.rows) - 1] if row > 0 else float("nan")

    def _row(self, at_ms: int) -> int:
        return (at_ms - self.panel.start_ms) // self.panel.step_ms


def _signed(fill: Fill) -> Decimal:
    """What a fill adds to the holding; a fee taken in the base asset comes out of it."""
    fee = fill.fee_qty if fill.fee_asset == fill.pair.partition("/")[0] else Decimal(0)
    return (fill.qty if fill.side is Side.BUY else -fill.qty) - fee
