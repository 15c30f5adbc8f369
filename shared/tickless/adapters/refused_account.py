"""``ports.Exchange`` of an account that cannot be opened: its keys are missing, unreadable or may not be read. Everything is refused.

A tick that asks it anything does what it does where an exchange refuses the account: the desk is halted with this sentence, and people
are told.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NoReturn

from tickless.errors import AccountError
from tickless.types import Order


class RefusedAccount:
    """Every method raises AccountError with ``why``."""

    def __init__(self, why: str) -> None:
        self._why = why

    def snapshot(self, at: datetime, orders: Sequence[Order]) -> NoReturn:  # noqa: ARG002 — the same for all
        """See ``Exchange.snapshot``."""
        raise AccountError(self._why)

    def submit(self, order: Order, at: datetime) -> NoReturn:  # noqa: ARG002 — the same for all
        """See ``Exchange.submit``."""
        raise AccountError(self._why)

    def cancel(self, order: Order, at: datetime) -> NoReturn:  # noqa: ARG002 — the same for all
        """See ``Exchange.cancel``."""
        raise AccountError(self._why)

    def resting_stops(self, pair: str) -> NoReturn:  # noqa: ARG002 — the same for all
        """See ``Exchange.resting_stops``."""
        raise AccountError(self._why)

    def supports_stops(self, pair: str) -> NoReturn:  # noqa: ARG002 — the same for all
        """Nobody can say."""
        raise AccountError(self._why)
