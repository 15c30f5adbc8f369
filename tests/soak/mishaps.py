"""What goes wrong in a soak beside the exchange's faults: a process that dies at one of its calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.loopback import Fault

CHANCES: dict[Fault, float] = {
    Fault.DELAY_BEFORE: 0.004,
    Fault.DELAY_AFTER: 0.004,
    Fault.RATE_LIMIT: 0.012,
    Fault.BANNED: 0.006,
    Fault.SERVER_ERROR: 0.016,
    Fault.SERVER_ERROR_AFTER: 0.016,
    Fault.CUT_BEFORE: 0.016,
    Fault.CUT_AFTER: 0.016,
    Fault.CUT_INSIDE: 0.016,
    Fault.CLOCK_SKEW: 0.008,
    Fault.REVOKED_KEY: 0.008,
    Fault.VANISHED: 0.02,
    Fault.TRUNCATED: 0.016,
    Fault.MALFORMED: 0.016,
    Fault.STRINGS: 0.02,
    Fault.NAN: 0.016,
    Fault.WRONG_PAIR: 0.012,
    Fault.MISSING: 0.016,
    Fault.STALE: 0.016,
}
"""Of any request of a stormy tick."""
SENDING_CHANCES: dict[Fault, float] = {Fault.PARTIAL: 0.1, Fault.DUPLICATE_ID: 0.04, Fault.REFUSED: 0.04, Fault.CUT_AFTER: 0.05}
"""Of an order, besides."""
KILL, KILL_SENDING, DUPLICATE, SHUFFLE, LOSE, LATE = "kill", "kill_sending", "duplicate", "shuffle", "lose", "late"
AT_ONCE, AT_ONCE_SENDING, HANG = "at_once", "at_once_sending", "hang"
HAPPENINGS: dict[str, float] = {
    KILL: 0.05,
    KILL_SENDING: 0.2,
    DUPLICATE: 0.05,
    SHUFFLE: 0.1,
    LOSE: 0.02,
    LATE: 0.02,
    AT_ONCE: 0.04,
    AT_ONCE_SENDING: 0.1,
    HANG: 0.03,
}
"""Of a delivery. What waits for an order finds none in most ticks.

``at_once``: while it makes a call, another process runs the same tick, from its beginning to its end; ``hang``: likewise, and its lease has
run out before, so that it is the late writer.
"""
STORMY = 0.5
"""Share of the ticks with faults: what they leave behind, a quiet one has to settle."""


class KilledError(BaseException):
    """The process is gone: nothing below may catch it."""


@dataclass
class Moment:
    """Something befalls a process at its ``calls``-th call from now on, before it or after; 0 = never."""

    calls: int = 0
    after: bool = False
    only: str = ""
    """Of calls that begin like this alone; empty = of any."""
    befalls: Callable[[], None] | None = None
    """What happens, after which it goes on; None = it dies, and who is dead makes no further call."""
    dead: bool = False
    struck: bool = False

    def comes(self, name: str, *, after: bool) -> None:
        if not self.struck and self.calls and after == self.after and name.startswith(self.only):
            self.calls -= 1
            if not self.calls:
                self.struck, self.dead = True, self.befalls is None
                if self.befalls is not None:
                    self.befalls()
        if self.dead:
            raise KilledError(f"{'after' if after else 'before'} {name}")


class Mortal:
    """A port every call of which may be a process's last."""

    def __init__(self, name: str, port: Any, moment: Moment) -> None:
        self._name, self._port, self._moment = name, port, moment

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._port, name)
        if not callable(call):
            return call

        def mortal(*args: Any, **kwargs: Any) -> Any:
            what = f"{self._name}.{name}"
            self._moment.comes(what, after=False)
            result = call(*args, **kwargs)
            self._moment.comes(what, after=True)
            return result

        return mortal
