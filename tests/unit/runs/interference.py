"""What may come between a run and its ports: a crash at any call, and a record of all calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from made_world import World
from tickless.ports import Fence, LedgerUpdate, Ports


class Crash(Exception):
    """The process is gone."""


class Calls:
    """Counts every call of every port. At call number ``die_at`` the process dies, before or after the call took effect.

    A dead process makes no further call: each raises again, without effect. ``die_at`` None only records.
    """

    def __init__(self, die_at: int | None = None, *, after: bool = False) -> None:
        self.die_at, self.after = die_at, after
        self.made: list[tuple[str, str, tuple[Any, ...]]] = []
        self.dead = False

    def ports(self, world: World) -> Ports:
        return world.ports(self.wrap)

    def wrap(self, name: str, port: Any) -> Any:
        return _Port(self, name, Torn(port) if name == "ledger" else port)

    def call(self, name: str, method: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.dead:
            raise Crash
        number = len(self.made)
        self.made.append((name, method, args))
        if number == self.die_at and not self.after:
            self.dead = True
            raise Crash
        result = function(*args, **kwargs)
        if number == self.die_at:
            self.dead = True
            raise Crash
        return result

    def named(self, name: str, method: str) -> list[int]:
        """The numbers of all calls of a method."""
        return [n for n, call in enumerate(self.made) if call[:2] == (name, method)]


class _Port:
    def __init__(self, calls: Calls, name: str, port: Any) -> None:
        self._calls, self._name, self._port = calls, name, port

    def __getattr__(self, method: str) -> Any:
        function = getattr(self._port, method)

        def call(*args: Any, **kwargs: Any) -> Any:
            if method == "journal":
                # Each update may become visible by itself: the ledger joins neighbours, but need not.
                for update in args[1]:
                    self._calls.call(self._name, "write", self._port.write, (args[0], update), {})
                return None
            return self._calls.call(self._name, method, function, args, kwargs)

        return call


class Torn:
    """A ledger that writes every update of a journal by itself."""

    def __init__(self, ledger: Any) -> None:
        self._ledger = ledger

    def __getattr__(self, method: str) -> Any:
        return getattr(self._ledger, method)

    def write(self, fence: Fence, update: LedgerUpdate) -> None:
        self._ledger.journal(fence, [update])
