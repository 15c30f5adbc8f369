"""What the market's price is at a moment, and which bars close in between, in Decimal on the pair's tick.

Inside a bar the price stands at the bar's open until the bar closes: the rest of the bar is known at its close only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import numpy as np

from tests.loopback.world import World
from tickless.bars import COLUMNS, step_ms
from tickless.errors import DataError


@dataclass(frozen=True)
class Bar:
    """One bar of one pair; volume in base units."""

    pair: str
    open_ms: int
    close_ms: int
    open: Decimal
    high: Decimal
    low: Decimal
    volume: Decimal


class Prices:
    """Prices of a world's panel. Times are milliseconds since the epoch."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._panel = world.panel
        self._ticks = {pair: world.rule(pair).price_step or Decimal(1) for pair in world.panel.pairs}

    def on_tick(self, pair: str, price: Decimal) -> Decimal:
        tick = self._ticks[pair]
        return (price / tick).to_integral_value(ROUND_HALF_EVEN) * tick

    def ask(self, pair: str, now_ms: int) -> Decimal | None:
        """What a market buy pays: the running bar's open, else the last close; None before the pair's first bar."""
        panel, n = self._panel, self._panel.column.get(pair)
        if n is None:
            return None
        row = min((now_ms - panel.start_ms) // panel.step_ms, panel.rows)
        if 0 <= row < panel.rows and not math.isnan(panel.open[row, n]):
            return self._decimal(pair, panel.open[row, n])
        known = np.flatnonzero(~np.isnan(panel.close[: max(row, 0), n]))
        return self._decimal(pair, panel.close[known[-1], n]) if len(known) else None

    def bid(self, pair: str, now_ms: int) -> Decimal | None:
        """What a market sell gets."""
        ask = self.ask(pair, now_ms)
        return None if ask is None else ask - self._world.spread_ticks * self._ticks[pair]

    def closed(self, pair: str, after_ms: int, to_ms: int) -> Iterator[Bar]:
        """The pair's bars that close in (after, to], with a volume, oldest first."""
        panel, n = self._panel, self._panel.column[pair]
        first = max(0, (after_ms - panel.start_ms) // panel.step_ms)
        for row in range(first, max(first, min(panel.rows, (to_ms - panel.start_ms) // panel.step_ms))):
            if panel.volume[row, n] > 0:
                at = panel.start_ms + row * panel.step_ms
                opened, high, low = (self._decimal(pair, column[row, n]) for column in (panel.open, panel.high, panel.low))
                yield Bar(pair, at, at + panel.step_ms, opened, high, low, Decimal(repr(float(panel.volume[row, n]))))

    def klines(self, pair: str, interval: str, start_ms: int | None, end_ms: int | None, limit: int, now_ms: int) -> list[list[Any]]:
        """Binance's rows, the running bar last: it has its open and no volume yet. Raises DataError for an interval we do not have."""
        panel = self._panel
        step = step_ms(interval)
        if step % panel.step_ms:
            raise DataError(f"interval {interval}: the bars are {panel.timeframe}")
        last = min(now_ms, panel.end_ms - 1 if end_ms is None else end_ms)
        last -= last % step
        asked = last - (limit - 1) * step if start_ms is None else -(-start_ms // step) * step
        first = max(panel.start_ms - panel.start_ms % step, asked)
        found: list[list[Any]] = []
        for at in range(first, last + 1, step):
            row = self._kline(panel.column[pair], at, step, now_ms)
            if row is not None:
                found.append(row)
            if len(found) == limit:
                break
        return found

    def _kline(self, n: int, at: int, step: int, now_ms: int) -> list[Any] | None:
        panel = self._panel
        low, high = ((moment - panel.start_ms) // panel.step_ms for moment in (at, at + step))
        closed = max(low, min(high, (now_ms - panel.start_ms) // panel.step_ms))
        known = slice(max(low, 0), max(0, min(closed, panel.rows)))
        columns = [[value for value in getattr(panel, name)[known, n].tolist() if value == value] for name in COLUMNS]
        if low <= closed < min(high, panel.rows) and not math.isnan(panel.open[closed, n]):
            running = float(panel.open[closed, n])
            columns = [[*values, value] for values, value in zip(columns, (running, running, running, running, 0.0), strict=True)]
        if not columns[0]:
            return None
        opens, highs, lows, closes, volumes = columns
        values = (opens[0], max(highs), min(lows), closes[-1], math.fsum(volumes))
        return [at, *(_text(value) for value in values), at + step - 1, "0.0", len(opens), "0.0", "0.0", "0"]

    def _decimal(self, pair: str, value: float) -> Decimal:
        return self.on_tick(pair, Decimal(repr(float(value))))


def _text(value: float) -> str:
    """Plain digits, never an exponent."""
    return f"{Decimal(repr(value)):f}"
