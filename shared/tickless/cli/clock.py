"""The clock that commands of a deployed desk go by: the world's, or that of a desk that somebody practises on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tickless.ports import Clock

_clocks: list[Clock] = []


def desk_clock() -> Clock:
    """The clock that stamps what a person tells the desk."""
    from tickless.adapters.system_clock import SystemClock

    return _clocks[-1] if _clocks else SystemClock()


@contextmanager
def going_by(clock: Clock) -> Iterator[None]:
    """Inside, commands of this process take ``clock`` for the time of the desk."""
    _clocks.append(clock)
    try:
        yield
    finally:
        _clocks.pop()
