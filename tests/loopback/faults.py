"""Faults, switched per endpoint: scripted, standing or seeded random, and counted."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any


class Fault(StrEnum):
    """What goes wrong with a request. ``BEFORE``: nothing has happened at the exchange; ``AFTER``: everything has."""

    DELAY_BEFORE = "delay_before"
    """Waits ``seconds`` (0.05), then goes on as if nothing were."""
    DELAY_AFTER = "delay_after"
    """Done at once, answered ``seconds`` (0.05) later."""
    RATE_LIMIT = "rate_limit"
    """429 with ``retry_after`` (seconds, 7)."""
    BANNED = "banned"
    """418 with ``retry_after`` (seconds, 120)."""
    SERVER_ERROR = "server_error"
    """``status`` (500) and a body that is not JSON; nothing has happened."""
    SERVER_ERROR_AFTER = "server_error_after"
    """503, code -1007, send status unknown; everything has happened."""
    CUT_BEFORE = "cut_before"
    CUT_AFTER = "cut_after"
    """The connection is closed without an answer."""
    CUT_INSIDE = "cut_inside"
    """The connection is closed in the middle of the answer's body; everything has happened."""
    DUPLICATE_ID = "duplicate_id"
    """The order is taken, and the answer is that its id is a duplicate: a retry in front of the exchange was faster."""
    PARTIAL = "partial"
    """Only ``share`` ("0.5") of the order executes at once; a market order's rest expires, a limit's rests."""
    VANISHED = "vanished"
    """The exchange does not know the order, and lists none."""
    STALE = "stale"
    """Balances and positions as they were before the last change; a request that changes something is done and answered as ever."""
    CLOCK_SKEW = "clock_skew"
    """-1021, whatever the timestamp. (A clock that really is off: ``set_skew``.)"""
    REVOKED_KEY = "revoked_key"
    """-2015."""
    REFUSED = "refused"
    """An error with ``status`` (400), ``code`` (-2010) and ``msg``; nothing has happened."""
    TRUNCATED = "truncated"
    """The first half of the JSON, as if it were all; everything has happened."""
    MALFORMED = "malformed"
    """An HTML page with status 200; everything has happened."""
    STRINGS = "strings"
    """Every number is a string."""
    NAN = "nan"
    """Every price, quantity and amount is NaN; ids and times are not."""
    WRONG_PAIR = "wrong_pair"
    """Another pair's name (``pair``, XXXUSDT) wherever one stands."""
    MISSING = "missing"
    """The field ``name`` is nowhere in the answer; at random any one field, ``where`` (0 to 1) of the way through their names."""


NEVER_ACCEPTED = frozenset(
    {
        Fault.RATE_LIMIT,
        Fault.BANNED,
        Fault.SERVER_ERROR,
        Fault.CUT_BEFORE,
        Fault.CLOCK_SKEW,
        Fault.REVOKED_KEY,
        Fault.REFUSED,
        Fault.VANISHED,
    }
)
"""Faults under which the exchange does nothing."""


@dataclass
class Planned:
    """A fault that waits. ``left`` None = for ever; ``skip`` matching requests pass first."""

    endpoint: str
    fault: Fault
    arguments: Mapping[str, Any]
    left: int | None
    skip: int = 0

    def meets(self, endpoint: str) -> bool:
        return self.left != 0 and fnmatchcase(endpoint, self.endpoint)


@dataclass
class Dice:
    """Seeded random faults on the endpoints that match, each with its probability."""

    endpoint: str
    chances: Mapping[Fault, float]
    random: random.Random

    def roll(self) -> Fault | None:
        drawn = self.random.random()
        for fault, chance in self.chances.items():
            if drawn < chance:
                return fault
            drawn -= chance
        return None


@dataclass
class Faults:
    """An endpoint is ``POST /api/v3/order``, or a pattern of it: ``* /api/v3/*``. Scripted faults go first, in the order they came."""

    seen: Counter[tuple[str, Fault]] = field(default_factory=Counter)
    """How often each fault struck, by endpoint."""
    _planned: list[Planned] = field(default_factory=list)
    _dice: list[Dice] = field(default_factory=list)

    def next(self, endpoint: str, fault: Fault, *, times: int = 1, skip: int = 0, **arguments: Any) -> None:
        """Strike the next ``times`` requests, after ``skip`` that pass."""
        self._planned.append(Planned(endpoint, Fault(fault), arguments, times, skip))

    def always(self, endpoint: str, fault: Fault, **arguments: Any) -> None:
        """Strike until ``clear``."""
        self._planned.append(Planned(endpoint, Fault(fault), arguments, None))

    def random(self, seed: int, chances: Mapping[Fault, float], endpoint: str = "*") -> None:
        """Strike at random; the same seed and the same requests give the same faults."""
        self._dice.append(Dice(endpoint, {Fault(fault): chance for fault, chance in chances.items()}, random.Random(seed)))

    def clear(self) -> None:
        """Nothing goes wrong any more; what was ``seen`` stays."""
        self._planned.clear()
        self._dice.clear()

    def take(self, endpoint: str) -> tuple[Fault | None, Mapping[str, Any]]:
        """The fault of this request."""
        found = self._scripted(endpoint) or self._drawn(endpoint)
        if found is None:
            return None, {}
        self.seen[endpoint, found[0]] += 1
        return found

    def _scripted(self, endpoint: str) -> tuple[Fault, Mapping[str, Any]] | None:
        for one in self._planned:
            if one.meets(endpoint):
                if one.skip:
                    one.skip -= 1
                    continue
                if one.left is not None:
                    one.left -= 1
                return one.fault, one.arguments
        return None

    def _drawn(self, endpoint: str) -> tuple[Fault, Mapping[str, Any]] | None:
        for dice in self._dice:
            if fnmatchcase(endpoint, dice.endpoint):
                fault = dice.roll()
                if fault is not None:
                    return fault, {"where": dice.random.random()} if fault is Fault.MISSING else {}
        return None
