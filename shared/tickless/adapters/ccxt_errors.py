"""What ccxt's errors mean to us. None is swallowed, and none leaves an adapter as it is.

=========================================  ===========================  ================================================================
ccxt says                                  of a question                of an order
=========================================  ===========================  ================================================================
DDoSProtection, RateLimitExceeded          RateLimitedError             RateLimitedError: it was not accepted
(429, 418)
AuthenticationError (revoked or wrong      AccountError                 AccountError
key, bad signature), AccountNotEnabled,
AccountSuspended, RestrictedLocation
PermissionDenied                           AccountError                 OrderRejectedError: one pair or kind of order
InvalidNonce (Binance's -1021)             AccountError: a clock is     AccountError: it was not accepted
                                           off
no connection: refused, no such host,      asked again, then            RetryableError: it never left
time-out while connecting                  RetryableError
every other NetworkError or                asked again, then            looked up by its id: its report; where it is not found, or the
OperationFailed (time-out, connection      RetryableError               lookup fails, UnknownOutcomeError
cut, 5xx, maintenance), BadResponse, an
answer that is no JSON, has NaN, lacks
a field or names another pair
DuplicateOrderId, or "duplicate" in the    ExchangeError                looked up by its id: its report, else UnknownOutcomeError
message
OrderNotFound, Binance's -2026 (archived:  the order is not known       looked up, then OrderRejectedError
cancelled unfilled 90 days ago)
InvalidOrder, InsufficientFunds,           ExchangeError                OrderRejectedError
BadRequest, BadSymbol, MarketClosed,
OperationRejected, NotSupported,
ArgumentsRequired
ExchangeError with a code ccxt does not    ExchangeError                looked up by its id: its report, OrderRejectedError where it is
know                                                                    not found, UnknownOutcomeError where the lookup fails
=========================================  ===========================  ================================================================
"""

from __future__ import annotations

import importlib
import re
from enum import Enum, auto
from typing import Any

CLOSED_TO_OPENING = re.compile(r'"code":\s*-4140\b')
"""Binance's contracts: "Invalid symbol status for opening position", which ccxt takes for a stop that would trigger."""
ARCHIVED = re.compile(r'"code":\s*-2026\b')
"""Binance: the order was cancelled or expired unfilled over 90 days ago, and nothing is told of it any more."""
WALK = 8
"""How deep a chain of causes is looked through."""
_NEVER_SENT = frozenset({"NewConnectionError", "NameResolutionError", "ConnectTimeoutError", "ConnectTimeout", "ProxyError"})


class Failure(Enum):
    """What became of a request."""

    LIMITED = auto()
    """Refused: too many requests."""
    BANNED = auto()
    """Refused: far too many."""
    ACCOUNT = auto()
    """Refused: the key, the account or the place."""
    PERMISSION = auto()
    """Refused: this account may not do this."""
    CLOCK = auto()
    """Refused: our time stamp."""
    UNREACHED = auto()
    """It never left."""
    LOST = auto()
    """Nobody knows: the answer did not come, or made no sense."""
    DUPLICATE = auto()
    """Refused: the client order id is taken."""
    MISSING = auto()
    """There is no such order."""
    UNCHANGED = auto()
    """Refused: it is so already."""
    REFUSED = auto()
    """Refused for good."""
    UNCLEAR = auto()
    """An answer that says no, and nobody knows why."""


class RequestFailed(Exception):  # noqa: N818 — it never leaves the adapter
    """One request that failed; ``str`` of it is a sentence without keys and signatures."""

    def __init__(self, failure: Failure, sentence: str) -> None:
        super().__init__(sentence)
        self.failure = failure


def market_is_closed(failed: RequestFailed) -> bool:
    """Whether it is the pair that takes no order, and not this order that is wrong."""
    errors = importlib.import_module("ccxt.base.errors")
    if CLOSED_TO_OPENING.search(str(failed)):
        return True
    return isinstance(failed.__context__, (errors.MarketClosed, errors.BadSymbol))


def would_trigger(failed: RequestFailed) -> bool:
    """Whether a stop was refused because the market has reached its price."""
    errors = importlib.import_module("ccxt.base.errors")
    return isinstance(failed.__context__, errors.OrderImmediatelyFillable)


def classify(error: Exception) -> Failure:
    """What an error of a ccxt call means. Anything that is not ccxt's comes from reading an answer that makes no sense."""
    errors = importlib.import_module("ccxt.base.errors")
    if not isinstance(error, errors.BaseError):
        return Failure.LOST
    kinds = (
        (errors.DDoSProtection, Failure.BANNED if re.search(r"\b418\b", str(error)) else Failure.LIMITED),
        (errors.RateLimitExceeded, Failure.LIMITED),
        (errors.InvalidNonce, Failure.CLOCK),
        (errors.OperationFailed, Failure.UNREACHED if _never_sent(error) else Failure.LOST),
        (errors.AccountNotEnabled, Failure.ACCOUNT),
        (errors.PermissionDenied, Failure.PERMISSION),
        ((errors.AuthenticationError, errors.RestrictedLocation), Failure.ACCOUNT),
        (errors.NoChange, Failure.UNCHANGED),
        (errors.DuplicateOrderId, Failure.DUPLICATE),
        ((errors.OrderNotFound, errors.OrderNotCached), Failure.MISSING),
    )
    found = next((failure for kind, failure in kinds if isinstance(error, kind)), None)
    if found is not None:
        return found
    if ARCHIVED.search(str(error)):
        return Failure.MISSING
    if "duplicate" in str(error).lower():
        return Failure.DUPLICATE
    if type(error) is not errors.ExchangeError:
        return Failure.REFUSED
    return Failure.LOST if _broke_off(error) else Failure.UNCLEAR


def describe(error: Exception) -> str:
    """The error's kind and text, short, without the query strings in which signatures travel."""
    text = re.sub(r"\?\S*", "", " ".join(str(error).split()))
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def _never_sent(error: BaseException) -> bool:
    """Whether no connection came about, so that nothing was sent."""
    seen: list[Any] = [error]
    for cause in seen:
        if type(cause).__name__ in _NEVER_SENT:
            return True
        if len(seen) < WALK:
            # Requests wraps what urllib3 says: as its cause, its argument or its reason.
            around = (getattr(cause, "__cause__", None), getattr(cause, "reason", None), *getattr(cause, "args", ()))
            seen.extend(part for part in around if isinstance(part, BaseException))
    return False


def _broke_off(error: BaseException) -> bool:
    """Whether a plain ExchangeError stands for a connection that broke (TLS, decoding) or for a server's fault, not for an answer."""
    cause = error.__cause__
    if cause is None or not type(cause).__module__.startswith("requests"):
        return False
    answer = getattr(cause, "response", None)
    return answer is None or answer.status_code >= 500
