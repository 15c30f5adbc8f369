"""What goes wrong in a soak beside the exchange's faults: a process that dies at one of its calls."""

from __future__ import annotations

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
}
"""Of any request of a stormy tick."""
SENDING_CHANCES: dict[Fault, float] = {Fault.PARTIAL: 0.1, Fault.DUPLICATE_ID: 0.04, Fault.REFUSED: 0.04, Fault.CUT_AFTER: 0.05}
"""Of an order, besides."""
READING_CHANCES: dict[Fault, float] = {Fault.STALE: 0.02}
"""Of a question, besides."""
KILL, KILL_SENDING, DUPLICATE, SHUFFLE, LOSE, LATE = "kill", "kill_sending", "duplicate", "shuffle", "lose", "late"
HAPPENINGS: dict[str, float] = {KILL: 0.05, KILL_SENDING: 0.2, DUPLICATE: 0.05, SHUFFLE: 0.1, LOSE: 0.02, LATE: 0.02}
"""Of a delivery. A death that waits for an order finds none in most ticks."""
STORMY = 0.5
"""Share of the ticks with faults: what they leave behind, a quiet one has to settle."""


class KilledError(BaseException):
    """The process is gone: nothing below may catch it."""


@dataclass
class Death:
    """Kills at the ``calls``-th call from now on, before it or after; who is dead makes no further call."""

    calls: int = 0
    after: bool = False
    only: str = ""
    """Of this call alone; empty = of any."""
    dead: bool = False
    where: str = ""

    def comes(self, name: str, *, after: bool) -> None:
        if not self.dead and self.calls and after == self.after and self.only in {"", name}:
            self.calls -= 1
            if not self.calls:
                self.dead, self.where = True, f"{'after' if after else 'before'} {name}"
        if self.dead:
            raise KilledError(self.where)


class Mortal:
    """A port every call of which may be a process's last."""

    def __init__(self, name: str, port: Any, death: Death) -> None:
        self._name, self._port, self._death = name, port, death

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._port, name)
        if not callable(call):
            return call

        def mortal(*args: Any, **kwargs: Any) -> Any:
            what = f"{self._name}.{name}"
            self._death.comes(what, after=False)
            result = call(*args, **kwargs)
            self._death.comes(what, after=True)
            return result

        return mortal
