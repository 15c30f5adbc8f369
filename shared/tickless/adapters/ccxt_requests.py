"""How requests to an exchange account are made: within the request budget, within the function's time, with every error translated.

A question is asked again once where its answer was lost. An order is never sent twice.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Any, TypeVar

from tickless.adapters.ccxt_errors import Failure, RequestFailed, classify, describe
from tickless.adapters.weight_budget import WeightPurse, parse_retry_after
from tickless.errors import AccountError, ExchangeError, RateLimitedError, RetryableError, TicklessError
from tickless.ports import Priority

T = TypeVar("T")

WEIGHT_PER_COST = 5
"""Request weight of one unit of ccxt's rate limiter: with it, weights on Binance's spot exchange are Binance's own."""
LEAST_TIME_S = 0.5
"""A request that has less time than this is not made."""
PAUSE_S = 60.0
"""How long a 429 without ``Retry-After`` stands where there is no budget to ask."""


def weight_per_min(client: Any) -> int:
    """The request weight a minute that ccxt thinks an exchange allows; what a ``WeightLimits`` for this client begins with."""
    return int(60_000 / client.rateLimit * WEIGHT_PER_COST)


def weight_of(cost: float | None) -> int:
    """The request weight of a cost of ccxt's rate limiter."""
    return max(1, ceil((1.0 if cost is None else float(cost)) * WEIGHT_PER_COST))


@dataclass
class AccountRequests:
    """The requests of one account. ``priority`` is that of what is being done, ``time_left_s`` what is left of the invocation."""

    client: Any
    secret_name: str
    redact: Callable[[str], str]
    now: Callable[[], datetime]
    sleep: Callable[[float], None]
    timeout_s: float = 5.0
    time_left_s: Callable[[], float] = lambda: float("inf")
    purse: WeightPurse | None = None
    attempts: int = 2
    backoff_s: float = 0.25
    priority: Priority = Priority.ORDINARY

    def __post_init__(self) -> None:
        self._base_error: type[Exception] = importlib.import_module("ccxt.base.errors").BaseError
        if self.purse is not None:
            # Within the shared budget a burst is allowed; ccxt's own brake would spend a second of every tick on waiting.
            self.client.throttle = self._spend

    def ask(self, what: str, request: Callable[[], T]) -> T:
        """The answer to a question. Raises RetryableError, RateLimitedError, AccountError or ExchangeError."""
        try:
            return self._ask(what, request)
        except RequestFailed as failed:
            raise self.translate(failed) from failed

    def ask_order(self, what: str, request: Callable[[], T]) -> T | None:
        """The answer to a question about one order, None where there is no such order. Raises as ``ask``."""
        try:
            return self._ask(what, request)
        except RequestFailed as failed:
            if failed.failure is Failure.MISSING:
                return None
            raise self.translate(failed) from failed

    def read(self, what: str, reading: Callable[[], T]) -> T:
        """What an answer that is here already says; raises RetryableError where it makes no sense."""
        try:
            return reading()
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise RetryableError(f"{what}: malformed answer: {describe(error)}") from error

    def _ask(self, what: str, request: Callable[[], T]) -> T:
        for attempt in range(1, self.attempts + 1):
            try:
                return self.send(what, request)
            except RequestFailed as failed:
                if failed.failure not in (Failure.LOST, Failure.UNREACHED) or attempt == self.attempts:
                    raise
                self.sleep(self.backoff_s)
        raise ValueError(f"attempts {self.attempts}: must be at least 1")

    def send(self, what: str, request: Callable[[], T]) -> T:
        """One request, made once. Raises RequestFailed; RetryableError where there is no time, RateLimitedError where no weight is left."""
        left = self.time_left_s() - LEAST_TIME_S
        if left < LEAST_TIME_S:
            raise RetryableError(f"{what}: not asked: {max(left + LEAST_TIME_S, 0):.1f} s are left of this function's time")
        self.client.timeout = int(1000 * min(self.timeout_s, left))
        # Binance's client takes a refused key for a passing ban once it was good: a key that is revoked would never be noticed.
        self.client.options.pop("hasAlreadyAuthenticatedSuccessfully", None)
        try:
            return request()
        except (TicklessError, RequestFailed):
            raise
        except (self._base_error, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            failure = classify(error)
            malformed = "" if isinstance(error, self._base_error) else "malformed answer: "
            raise RequestFailed(failure, f"{what}: {self.redact(malformed + describe(error))}") from None

    def translate(self, failed: RequestFailed) -> ExchangeError:
        """The error of our tree for a question that failed."""
        sentence = str(failed)
        if failed.failure in (Failure.LIMITED, Failure.BANNED):
            return self._limited(sentence, banned=failed.failure is Failure.BANNED)
        if failed.failure in (Failure.ACCOUNT, Failure.PERMISSION):
            return AccountError(f"{sentence} (the keys are those of secret {self.secret_name!r})")
        if failed.failure is Failure.CLOCK:
            return AccountError(f"{sentence} (is our clock right?)")
        if failed.failure in (Failure.LOST, Failure.UNREACHED):
            return RetryableError(sentence)
        return ExchangeError(sentence)

    def _limited(self, sentence: str, *, banned: bool) -> RateLimitedError:
        headers = getattr(self.client, "last_response_headers", None) or {}
        now = self.now()
        after_s = parse_retry_after(headers.get("Retry-After"), now)
        if self.purse is not None:
            known = self.purse.limited(now, after_s, banned=banned)
            return RateLimitedError(f"{sentence}; {known}", known.retry_at)
        return RateLimitedError(sentence, now + timedelta(seconds=PAUSE_S if after_s is None else after_s))

    def _spend(self, cost: float | None = None) -> None:
        """In the place of ccxt's rate limiter, which runs before a request is built: what is refused here was never sent."""
        assert self.purse is not None
        self.purse.spend(weight_of(cost), self.now(), self.priority)
