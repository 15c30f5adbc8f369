"""The one error tree. Adapters translate vendors' errors into it; nothing else crosses a port.

::

    TicklessError
    ├── InputError            something a person gave us is wrong (exit code 2)
    │   ├── DataError         a bar file or folder
    │   ├── SettingsError     a desk file, parameter or override
    │   └── EventError        the event that woke a function
    ├── RefusedError          refused for safety (exit code 3)
    │   ├── HaltedError       the desk is halted
    │   ├── StaleTickError    the tick is too old, or in the future
    │   ├── ArtifactError     a model artifact that cannot be trusted
    │   └── LeakError         a training that would have looked into the future
    ├── TrainingError         a training that ended without a result
    ├── LedgerError           the ledger did not take a write
    │   ├── LeaseHeldError    another tick trades just now (retry)
    │   ├── FencedError       our lease was taken over: stop at once
    │   └── TickRecordedError the tick was recorded before
    └── ExchangeError         the exchange
        ├── RetryableError    try again later: the request had no effect
        │   └── RateLimitedError  too many requests: not before ``retry_at``
        ├── AccountError      keys, permissions or clock are refused: a person has to act
        ├── UnknownOutcomeError  the answer was lost: look the order up, never resend
        └── OrderRejectedError   the exchange said no to this order
            ├── MarketClosedError  and to every other of its pair: halted or delisted
            └── WouldTriggerError  a stop whose price has been reached already
"""

from __future__ import annotations

from datetime import datetime


class TicklessError(Exception):
    """Base of every error the package raises on purpose. The message is one sentence for a person."""


class InputError(TicklessError):
    """Something a person gave us is wrong; the message names the file, the field and the value."""


class DataError(InputError):
    """A bar file or folder that cannot be used."""


class SettingsError(InputError):
    """A desk file, parameter or override that is not valid; the message starts with the key's path."""


class EventError(InputError):
    """An event without the fields a function needs."""


class RefusedError(TicklessError):
    """Refused for safety: doing it could cost money."""


class HaltedError(RefusedError):
    """The desk is halted and a person has to resume it."""


class StaleTickError(RefusedError):
    """A tick that is too old, or lies in the future."""


class ArtifactError(RefusedError):
    """A model artifact that is missing, damaged, or knows the future."""


class LeakError(RefusedError):
    """A training in which something knows what it could not have known; the message names what, and when."""


class TrainingError(TicklessError):
    """A training, maybe in another process or on another machine, that ended without a result; the message is what it said."""


class LedgerError(TicklessError):
    """The ledger did not take a write."""


class LeaseHeldError(LedgerError):
    """Another tick holds the desk's lease; try again."""


class FencedError(LedgerError):
    """The desk's lease was taken over by a later fencing number: this invocation must stop at once."""


class TickRecordedError(LedgerError):
    """The tick has a record already."""


class ExchangeError(TicklessError):
    """The exchange did not do what was asked."""


class RetryableError(ExchangeError):
    """The request had no effect and may be repeated later."""


class RateLimitedError(RetryableError):
    """Too many requests, by our own budget or by the exchange's answer; before ``retry_at`` it makes no sense to ask again."""

    def __init__(self, message: str, retry_at: datetime) -> None:
        super().__init__(message)
        self.retry_at = retry_at


class AccountError(ExchangeError):
    """The exchange refuses us, not the request: a revoked key, a missing permission, a clock that is off. A person has to act."""


class UnknownOutcomeError(ExchangeError):
    """The answer was lost. The order must be looked up by its id, never sent again."""


class OrderRejectedError(ExchangeError):
    """The exchange refused this order; sending it again would be refused again."""


class MarketClosedError(OrderRejectedError):
    """The pair's market is closed, halted or gone: no order of the pair makes sense for a while."""


class WouldTriggerError(OrderRejectedError):
    """A stop that would go off as it is placed: the market has reached its price."""
