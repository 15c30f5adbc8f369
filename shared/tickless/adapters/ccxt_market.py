"""``ports.Market`` over an exchange's public endpoints, through ccxt: what a dry-run or live desk sees.

Spot pairs are ``BTC/USDT``; perpetual contracts that are quoted and settled in the stake currency are ``BTC/USDT:USDT``, as ccxt and
freqtrade write them. Contracts that expire are left out.

One pair whose bars cannot be read keeps nobody from the others': its bars are missing, and whoever is told of it hears so.

Requests are paid for out of the request budget that the account shares, at ordinary priority: what only exits may spend is not touched. A
first tick, which asks for weeks of bars, waits for its turn; a 429 or 418 is told to everybody and waited for by nobody.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from tickless.adapters.bar_pages import BarPages
from tickless.adapters.ccxt_client import MARKETS_AGAIN, MARKETS_FOR, MarketType, ask, load_markets, open_client, refuse_untold_market
from tickless.adapters.ccxt_orders import read_number
from tickless.bars import COLUMNS, Panel, floor_ms, step_ms
from tickless.errors import DataError, ExchangeError, RateLimitedError, RetryableError
from tickless.types import PairRules, evolve, from_ms, to_ms

if TYPE_CHECKING:
    from tickless.adapters.weight_budget import WeightPurse

T = TypeVar("T")
KEPT_BACK_S = 20.0
"""What a wait for request weight leaves of the invocation's time, for everything that follows."""
MOST_WAITS = 10
UNREAD_FRAC = 0.1
"""Where requests fail for more of the pairs than this, and more than one, it is the exchange that fails, and there are no bars at all."""
_DECIMAL_PLACES, _TICK_SIZE = 2, 4  # ccxt's precision modes


class CcxtMarket:
    """Market data of one exchange; ``client`` is the ccxt client, whose markets are loaded when first needed, and again every hour.

    At most ``threads`` requests run at a time, each with a time-out and at most ``attempts`` tries; the exchange's rate limit is kept, by
    the shared ``purse`` where there is one. ``time_left_s`` is what is left of the invocation's time. ``now`` tells which bars have closed.
    ``unread`` is told of a pair that could not be read, and why.
    """

    def __init__(
        self,
        exchange_id: str,
        quote: str,
        *,
        market_type: MarketType = "spot",
        purse: WeightPurse | None = None,
        time_left_s: Callable[[], float] = lambda: float("inf"),
        threads: int = 4,
        timeout_s: float = 10.0,
        attempts: int = 3,
        backoff_s: float = 0.5,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], None] = time.sleep,
        unread: Callable[[str, str], None] = lambda _pair, _why: None,
    ) -> None:
        self.client = open_client(exchange_id, timeout_s, market_type)
        self._bar_pages = BarPages(self.client)
        self._type = market_type
        self._quote = quote
        self._purse = purse
        self._time_left_s = time_left_s
        self._sleep = sleep
        self._threads = threads
        self._now = now
        self._unread = unread
        self._ask = partial(ask, attempts=attempts, backoff_s=backoff_s, sleep=sleep, limited=self._limited)
        self._loading = Lock()
        self._ours: dict[str, Mapping[str, Any]] | None = None
        self._renew_at = from_ms(0)
        if purse is not None:
            # In the place of ccxt's own brake, which knows of this process alone.
            self.client.throttle = self._spend

    def pairs(self) -> Sequence[str]:
        """Every pair quoted in the stake currency that trades, sorted. Raises RetryableError, ExchangeError."""
        return [pair for pair, market in self._markets().items() if market.get("active") is not False]

    def rules(self) -> Mapping[str, PairRules]:
        """The exchange's filters by pair. Raises RetryableError, ExchangeError."""
        mode = self.client.precisionMode
        return {pair: pair_rules(pair, market, mode) for pair, market in self._markets().items()}

    def bars(self, pairs: Sequence[str], timeframe: str, start: datetime, end: datetime) -> Panel:
        """The bars that open at or after ``start`` and have closed by ``end`` (and by now), a row for each, these pairs in this order.

        Missing bars, pairs the exchange does not have, and single pairs that it refuses or whose answer does not come, are NaN. Raises
        RetryableError or ExchangeError naming a pair where more of them fail, DataError for a timeframe the exchange does not serve.
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
        for pair, found in rows.items():
            n = panel.column[pair]
            for at, *values in found:
                for name, value in zip(COLUMNS, values, strict=True):
                    getattr(panel, name)[(at - panel.start_ms) // step, n] = value
        return panel

    def opens(self, pairs: Sequence[str], timeframe: str, at: datetime) -> Mapping[str, float]:
        """The open of the bar that opens at ``at``, running or closed; pairs that have not traded in it are absent, as is one that fails.

        Raises RetryableError or ExchangeError naming a pair where more of them fail, DataError off the timeframe's grid.
        """
        at_ms = to_ms(at)
        if at_ms % step_ms(timeframe):
            raise DataError(f"time {at.isoformat()} is not the open of a {timeframe} bar")
        known = [pair for pair in pairs if pair in self._markets()]
        first = self._each(known, lambda pair: self._page(pair, timeframe, at_ms, 1))
        return {pair: rows[0][1] for pair, rows in first.items() if rows and rows[0][0] == at_ms}

    def _markets(self) -> dict[str, Mapping[str, Any]]:
        """The markets of our type in our quote currency by pair, sorted; those of before where they cannot be read anew."""
        with self._loading:
            now = self._now()
            if self._ours is None or now >= self._renew_at:
                self._renew_at = now + MARKETS_AGAIN
                try:
                    self._ours = self._ask(f"{self.client.id}: markets", lambda: load_markets(self.client, self._read))
                    self._renew_at = now + MARKETS_FOR
                except ExchangeError:
                    if self._ours is None:
                        raise
            return self._ours

    def _read(self, found: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
        ours = {pair: found[pair] for pair in sorted(found) if is_ours(found[pair], self._type, self._quote)}
        if not ours:
            raise RetryableError(f"{self.client.id}: markets: no {self._type} pair is quoted in {self._quote}")
        for pair, market in ours.items():
            refuse_untold_market(self.client, market)
            pair_rules(pair, market, self.client.precisionMode)
        return ours

    def _spend(self, cost: float | None = None) -> None:
        """In the place of ccxt's rate limiter. Where other functions have spent the minute's weight, wait while there is time for it."""
        from tickless.adapters.ccxt_requests import weight_of

        assert self._purse is not None
        for waits_left in reversed(range(MOST_WAITS)):
            now = self._now()
            try:
                self._purse.spend(weight_of(cost), now)
            except RateLimitedError as error:
                wait_s = (error.retry_at - now).total_seconds()
                if not waits_left or self._purse.is_blocked(now) or wait_s + KEPT_BACK_S > self._time_left_s():
                    raise
                self._sleep(max(wait_s, 0.01))
            else:
                return

    def _limited(self, error: Exception) -> None:
        """Tell the shared budget of a 429 or 418, so that no other function asks either; raises RateLimitedError."""
        if self._purse is None:
            return
        from tickless.adapters.ccxt_errors import Failure, classify
        from tickless.adapters.weight_budget import parse_retry_after

        now, headers = self._now(), getattr(self.client, "last_response_headers", None) or {}
        known = self._purse.limited(now, parse_retry_after(headers.get("Retry-After"), now), banned=classify(error) is Failure.BANNED)
        raise RateLimitedError(f"{self.client.id}: {known}", known.retry_at) from error

    def _each(self, pairs: Sequence[str], request: Callable[[str], T]) -> dict[str, T]:
        """The answer for each pair that has one. Raises the first error where too many fail; requests that wait are then dropped.

        One pair that is refused says nothing of the exchange, one whose answer does not come may be all that was asked. A refused pair may
        have left the exchange since its markets were read: they are read again soon.
        """
        pool = ThreadPoolExecutor(max_workers=self._threads)
        found: dict[str, T] = {}
        failed: dict[str, ExchangeError] = {}
        try:
            running = [pool.submit(request, pair) for pair in pairs]
            for pair, future in zip(pairs, running, strict=True):
                try:
                    found[pair] = future.result()
                except RateLimitedError:
                    raise
                except ExchangeError as error:
                    failed[pair] = error
                    alone = len(pairs) == 1 and not isinstance(error, RetryableError)
                    if not alone and (len(failed) > max(1.0, UNREAD_FRAC * len(pairs)) or len(failed) == len(pairs)):
                        raise next(iter(failed.values())) from error
        finally:
            pool.shutdown(cancel_futures=True)
        if failed:
            self._renew_at = min(self._renew_at, self._now() + MARKETS_AGAIN)
        for pair, why in failed.items():
            self._unread(pair, str(why))
        return found

    def _pages(self, pair: str, timeframe: str, start_ms: int, end_ms: int) -> list[list[Any]]:
        """The possible bars of one pair in [start, end), page by page."""
        pages = self._bar_pages.read(partial(self._page, pair, timeframe), start_ms, end_ms, step_ms(timeframe))
        return [row for page, _ in pages for row in page if is_possible(row)]

    def _page(self, pair: str, timeframe: str, since: int, limit: int) -> list[list[Any]]:
        """One request; a row is [open time, open, high, low, close, volume], all numbers."""
        what = f"{self.client.id}: {timeframe} bars of {pair}"
        return self._ask(what, lambda: self._bar_pages.fetch(pair, timeframe, since, limit, step_ms(timeframe)))


def is_possible(row: Sequence[float]) -> bool:
    """Whether ``[ms, open, high, low, close, volume]`` can be a bar: finite, prices above zero, high not below low, volume not negative."""
    prices = row[1:5]
    return all(math.isfinite(value) for value in row) and min(prices) > 0 and row[2] >= row[3] and row[5] >= 0


def is_ours(market: Mapping[str, Any], market_type: MarketType, stake: str) -> bool:
    """Whether one of ccxt's markets is quoted in the stake currency, and, if it is a contract, perpetual and settled in it."""
    if market.get("quote") != stake:
        return False
    return bool(market.get("spot")) if market_type == "spot" else bool(market.get("swap")) and market.get("settle") == stake


def pair_rules(pair: str, market: Mapping[str, Any], mode: int) -> PairRules:
    """The filters of one of ccxt's markets, in base units; ``mode`` is its exchange's ``precisionMode``. Raises ValueError for NaN."""
    precision = market.get("precision") or {}
    limits = market.get("limits") or {}
    rules = PairRules(
        pair=pair,
        price_step=_step(precision.get("price"), mode),
        qty_step=_step(precision.get("amount"), mode),
        min_notional=_limit((limits.get("cost") or {}).get("min")),
        min_qty=_limit((limits.get("amount") or {}).get("min")),
        active=market.get("active") is not False,
    )
    size = contract_size(market)
    if size == 1:
        return rules
    in_base = {name: value * size for name in ("qty_step", "min_qty") if (value := getattr(rules, name)) is not None}
    return evolve(rules, **in_base)


def contract_size(market: Mapping[str, Any]) -> Decimal:
    """How much of the base one contract is: what an exchange counts in contracts, times this, is in base units. 1 on spot."""
    size = market.get("contractSize") if market.get("contract") else None
    return Decimal(1) if size is None else read_number(size, f"{market.get('symbol')}: contractSize")


def _step(value: Any, mode: int) -> Decimal | None:
    """A step size; significant digits, the third of ccxt's modes, are none."""
    if value is None:
        return None
    if mode == _TICK_SIZE:
        return _limit(value)
    return Decimal(1).scaleb(-int(value)) if mode == _DECIMAL_PLACES else None


def _limit(value: Any) -> Decimal | None:
    """A number of ccxt's: a float that prints as the exchange wrote it; zero is no limit. Raises ValueError for NaN, and for below zero."""
    number = None if value is None else read_number(value, "filter")
    if number is not None and number < 0:
        raise ValueError(f"filter: {number} is below zero")
    return number if number else None
