"""``ports.Market`` over an exchange's public endpoints, through ccxt: what a dry-run or live desk sees."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from threading import Lock
from typing import Any, TypeVar

from tickless.adapters.ccxt_client import ask, open_client
from tickless.bars import COLUMNS, Panel, floor_ms, step_ms
from tickless.errors import DataError, RetryableError
from tickless.types import PairRules, from_ms, to_ms

T = TypeVar("T")
PAGE_BARS = 1000
_DECIMAL_PLACES, _TICK_SIZE = 2, 4  # ccxt's precision modes


class CcxtMarket:
    """Spot market data of one exchange; ``client`` is the ccxt client, whose markets are loaded once, when first needed.

    At most ``threads`` requests run at a time, each with a time-out and at most ``attempts`` tries; the exchange's rate limit is kept.
    ``now`` tells which bars have closed.
    """

    def __init__(
        self,
        exchange_id: str,
        quote: str,
        *,
        threads: int = 4,
        timeout_s: float = 10.0,
        attempts: int = 3,
        backoff_s: float = 0.5,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.client = open_client(exchange_id, timeout_s)
        self._quote = quote
        self._threads = threads
        self._now = now
        self._ask = partial(ask, attempts=attempts, backoff_s=backoff_s, sleep=sleep)
        self._loading = Lock()
        self._spot: dict[str, Mapping[str, Any]] | None = None

    def pairs(self) -> Sequence[str]:
        """Every spot pair quoted in the stake currency that trades, sorted. Raises RetryableError, ExchangeError."""
        return [pair for pair, market in self._markets().items() if market.get("active") is not False]

    def rules(self) -> Mapping[str, PairRules]:
        """The exchange's filters by pair. Raises RetryableError, ExchangeError."""
        mode = self.client.precisionMode
        return {pair: pair_rules(pair, market, mode) for pair, market in self._markets().items()}

    def bars(self, pairs: Sequence[str], timeframe: str, start: datetime, end: datetime) -> Panel:
        """The bars that open at or after ``start`` and have closed by ``end`` (and by now), a row for each, these pairs in this order.

        Missing bars, and pairs the exchange does not have, are NaN. Raises RetryableError or ExchangeError naming the pair, DataError for
        a timeframe the exchange does not serve.
        """
        step = step_ms(timeframe)
        if timeframe not in (self.client.timeframes or {}):
            raise DataError(f"{self.client.id} serves no {timeframe} bars")
        closed = max(floor_ms(min(to_ms(end), to_ms(self._now())), step), to_ms(start))
        panel = Panel.empty(timeframe, pairs, start, from_ms(closed))
        if not panel.rows:
            return panel
        known = [pair for pair in pairs if pair in self._markets()]
        rows = self._each(known, lambda pair: self._pages(pair, timeframe, panel.start_ms, panel.end_ms))
        for pair, found in zip(known, rows, strict=True):
            n = panel.column[pair]
            for at, *values in found:
                for name, value in zip(COLUMNS, values, strict=True):
                    getattr(panel, name)[(at - panel.start_ms) // step, n] = value
        return panel

    def opens(self, pairs: Sequence[str], timeframe: str, at: datetime) -> Mapping[str, float]:
        """The open of the bar that opens at ``at``, running or closed; pairs that have not traded in it are absent.

        Raises RetryableError or ExchangeError naming the pair, DataError off the timeframe's grid.
        """
        at_ms = to_ms(at)
        if at_ms % step_ms(timeframe):
            raise DataError(f"time {at.isoformat()} is not the open of a {timeframe} bar")
        known = [pair for pair in pairs if pair in self._markets()]
        first = self._each(known, lambda pair: self._page(pair, timeframe, at_ms, 1))
        return {pair: rows[0][1] for pair, rows in zip(known, first, strict=True) if rows and rows[0][0] == at_ms}

    def _markets(self) -> dict[str, Mapping[str, Any]]:
        """The spot markets in our quote currency by pair, sorted."""
        with self._loading:
            if self._spot is None:
                found = self._ask(f"{self.client.id}: markets", self.client.load_markets)
                ours = {pair: found[pair] for pair in sorted(found) if found[pair].get("spot") and found[pair].get("quote") == self._quote}
                if not ours:
                    raise RetryableError(f"{self.client.id}: markets: no spot pair is quoted in {self._quote}")
                self._spot = ours
            return self._spot

    def _each(self, pairs: Sequence[str], request: Callable[[str], T]) -> list[T]:
        """The answer for each pair, in order; the first error ends it, and requests that wait are dropped."""
        pool = ThreadPoolExecutor(max_workers=self._threads)
        try:
            return list(pool.map(request, pairs))
        finally:
            pool.shutdown(cancel_futures=True)

    def _pages(self, pair: str, timeframe: str, start_ms: int, end_ms: int) -> list[list[Any]]:
        """The possible bars of one pair in [start, end), page by page; every page moves on, so the loop ends."""
        step = step_ms(timeframe)
        found: list[list[Any]] = []
        since = start_ms
        while since < end_ms:
            page = self._page(pair, timeframe, since, min(PAGE_BARS, (end_ms - since) // step))
            found.extend(row for row in page if since <= row[0] < end_ms and row[0] % step == 0 and is_possible(row))
            last = max((row[0] for row in page), default=end_ms)
            since = max(since, last) + step
        return found

    def _page(self, pair: str, timeframe: str, since: int, limit: int) -> list[list[Any]]:
        """One request; a row is [open time, open, high, low, close, volume], all numbers."""
        what = f"{self.client.id}: {timeframe} bars of {pair}"
        return list(self._ask(what, lambda: self.client.fetch_ohlcv(pair, timeframe, since, limit)))


def is_possible(row: Sequence[float]) -> bool:
    """Whether ``[ms, open, high, low, close, volume]`` can be a bar: finite, prices above zero, high not below low, volume not negative."""
    prices = row[1:5]
    return all(math.isfinite(value) for value in row) and min(prices) > 0 and row[2] >= row[3] and row[5] >= 0


def pair_rules(pair: str, market: Mapping[str, Any], mode: int) -> PairRules:
    """The filters of one of ccxt's markets; ``mode`` is its exchange's ``precisionMode``."""
    precision = market.get("precision") or {}
    limits = market.get("limits") or {}
    return PairRules(
        pair=pair,
        price_step=_step(precision.get("price"), mode),
        qty_step=_step(precision.get("amount"), mode),
        min_notional=_limit((limits.get("cost") or {}).get("min")),
        min_qty=_limit((limits.get("amount") or {}).get("min")),
        active=market.get("active") is not False,
    )


def _step(value: Any, mode: int) -> Decimal | None:
    """A step size; significant digits, the third of ccxt's modes, are none."""
    if value is None:
        return None
    if mode == _TICK_SIZE:
        return _limit(value)
    return Decimal(1).scaleb(-int(value)) if mode == _DECIMAL_PLACES else None


def _limit(value: Any) -> Decimal | None:
    """A number of ccxt's: a float that prints as the exchange wrote it; zero is no limit."""
    number = None if value is None else Decimal(str(value))
    return number if number else None
