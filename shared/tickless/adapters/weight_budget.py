"""``ports.WeightBudget``: its arithmetic, and the implementations that need no table.

Weight comes back a minute after it was spent, so that no minute, wherever it begins, sees more than the limit; a bucket that is refilled
steadily would allow twice that. A block that was granted and not given back counts as spent when it expires, so a function that dies with
one only delays the others.

The exchange's 429 cuts the limit by a fifth; from five quiet minutes on it rises by a tenth of the capacity a minute. Nothing is granted
before the exchange's ``Retry-After``, or the end of its ban, has passed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from math import ceil, isfinite
from threading import Lock
from typing import NamedTuple, TypeVar

from tickless.errors import RateLimitedError
from tickless.ports import Priority, WeightBudget, WeightGrant
from tickless.types import from_ms, iso, to_ms

T = TypeVar("T")

WINDOW_MS = 60_000
FULL = 1000
"""Levels are per mille of the capacity: whole numbers, so that every function computes the same."""
LEAST_LEVEL = 100
"""However often the exchange says 429, a tenth of the capacity stays: an exit must be possible."""
RECOVERY_STEP = 100
QUIET_MS = 300_000
MAX_BLOCKS = 24
"""Blocks kept apart; with them an item stays below 1 KB, the unit a write is charged in."""
MAX_PAUSE_S = 259_200.0
"""Three days, the longest ban that Binance's documentation names."""
_LATE_MS = 10_000
"""How long a block is remembered after it has come back, for a function whose write took its time."""


@dataclass(frozen=True)
class WeightLimits:
    """What may be spent on one exchange: ``per_min`` of weight in any minute, of which ``reserve_frac`` is kept for exits.

    A block must be spent within ``hold_s``. Without ``Retry-After`` a 429 stands for ``pause_s``, a ban for ``ban_s``.
    """

    per_min: int
    reserve_frac: float = 0.2
    hold_s: float = 30.0
    pause_s: float = 60.0
    ban_s: float = 120.0


class Block(NamedTuple):
    """Weight that was granted: it counts before ``until_ms``."""

    until_ms: int
    weight: int
    id: str


@dataclass(frozen=True)
class BudgetState:
    """What all functions know together. ``level`` is the one just after the last 429, at ``limited_ms``."""

    blocks: tuple[Block, ...] = ()
    """By the time at which they come back."""
    level: int = FULL
    limited_ms: int = 0
    blocked_until_ms: int = 0

    def level_at(self, at_ms: int) -> int:
        """Per mille of the capacity: +100 for every whole minute after five quiet ones, which begin when the exchange lets us ask again."""
        quiet_ms = at_ms - max(self.limited_ms, self.blocked_until_ms) - QUIET_MS
        return min(FULL, self.level + RECOVERY_STEP * max(0, quiet_ms // WINDOW_MS))

    def used(self, at_ms: int) -> int:
        """What counts at a moment."""
        return sum(block.weight for block in self.blocks if block.until_ms > at_ms)


def limit_at(state: BudgetState, limits: WeightLimits, at_ms: int) -> int:
    """The weight of a minute, as it stands; at least 1."""
    return max(1, limits.per_min * state.level_at(at_ms) // FULL)


def grant_block(
    state: BudgetState, limits: WeightLimits, block_id: str, weight: int, at_ms: int, priority: Priority, least: int
) -> tuple[BudgetState, WeightGrant]:
    """See ``WeightBudget.take``."""
    if not 1 <= least <= weight:
        raise ValueError(f"weight {weight}: must be at least {least}, and that at least 1")
    if at_ms < state.blocked_until_ms:
        raise _refused(state.blocked_until_ms, "the exchange has told us to wait")
    limit = limit_at(state, limits, at_ms)
    usable = limit if priority is Priority.EXIT else limit - ceil(limit * limits.reserve_frac)
    granted = min(weight, usable - state.used(at_ms))
    if granted < least:
        raise _refused(_free_at(state, usable - least, at_ms), f"{state.used(at_ms)} of {usable} request weight are spent")
    expires_ms = at_ms + round(limits.hold_s * 1000)
    block = Block(expires_ms + WINDOW_MS, granted, block_id)
    return replace(state, blocks=_kept((*state.blocks, block), at_ms)), WeightGrant(block_id, granted, from_ms(expires_ms))


def settle_block(state: BudgetState, grant: WeightGrant, used: int, at_ms: int) -> BudgetState:
    """See ``WeightBudget.give_back``; a block that is not known any more has come back already."""
    if not 0 <= used <= grant.weight:
        raise ValueError(f"used weight {used}: must be 0 to {grant.weight}")
    blocks = [
        Block(min(block.until_ms, at_ms + WINDOW_MS), used, block.id) if block.id == grant.id else block
        for block in state.blocks
        if block.id != grant.id or used
    ]
    return replace(state, blocks=_kept(blocks, at_ms))


def limit_state(state: BudgetState, limits: WeightLimits, at_ms: int, retry_after_s: float | None, *, banned: bool) -> BudgetState:
    """See ``WeightBudget.limited``. Answers to requests that were under way when it came are the same 429, not another."""
    pause_s = retry_after_s if retry_after_s is not None else limits.ban_s if banned else limits.pause_s
    pause_ms = ceil(1000 * min(max(pause_s, 1.0), MAX_PAUSE_S))
    same = at_ms < state.blocked_until_ms
    return replace(
        state,
        level=state.level if same else max(LEAST_LEVEL, state.level_at(at_ms) * 4 // 5),
        limited_ms=max(state.limited_ms, at_ms),
        blocked_until_ms=max(state.blocked_until_ms, at_ms + pause_ms),
    )


def parse_retry_after(text: str | None, at: datetime) -> float | None:
    """Seconds, from a ``Retry-After`` header of either form (RFC 9110, 10.2.3); None where there is none or it means nothing."""
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(text) - at).total_seconds()
        except (ValueError, TypeError):
            return None
    return max(0.0, seconds) if isfinite(seconds) else None


def _free_at(state: BudgetState, most_used: int, at_ms: int) -> int:
    """When at most ``most_used`` counts; a minute later where that is below zero, as only a higher limit helps."""
    used = state.used(at_ms)
    for block in state.blocks:
        if block.until_ms > at_ms:
            used -= block.weight
            if used <= most_used:
                return block.until_ms
    return at_ms + WINDOW_MS


def _kept(blocks: tuple[Block, ...] | list[Block], at_ms: int) -> tuple[Block, ...]:
    """Sorted, without what came back a while ago; the oldest are joined, as if granted later, where they are too many."""
    kept = sorted(block for block in blocks if block.until_ms > at_ms - _LATE_MS)
    while len(kept) > MAX_BLOCKS:
        first, second = kept[:2]
        kept[:2] = [Block(second.until_ms, first.weight + second.weight, "")]
    return tuple(kept)


def _refused(retry_ms: int, why: str) -> RateLimitedError:
    retry_at = from_ms(retry_ms)
    return RateLimitedError(f"request budget: {why}; ask again at {iso(retry_at)}", retry_at)


class UnlimitedWeight:
    """The WeightBudget port where nobody counts: a backtest, a simulated exchange."""

    def take(self, weight: int, at: datetime, priority: Priority = Priority.ORDINARY, least: int = 1) -> WeightGrant:  # noqa: ARG002
        """See ``WeightBudget.take``: always all of it."""
        return WeightGrant("", weight, from_ms(to_ms(at) + WINDOW_MS))

    def give_back(self, grant: WeightGrant, used: int, at: datetime) -> None:
        """See ``WeightBudget.give_back``: nothing to do."""

    def limited(self, at: datetime, retry_after_s: float | None, *, banned: bool = False) -> datetime:
        """See ``WeightBudget.limited``: remembers nothing."""
        return from_ms(limit_state(BudgetState(), WeightLimits(1), to_ms(at), retry_after_s, banned=banned).blocked_until_ms)


class MemoryWeightBudget:
    """The WeightBudget port in one process, with the arithmetic of the shared one."""

    def __init__(self, limits: WeightLimits) -> None:
        self._limits = limits
        self._lock = Lock()
        self._count = 0
        self.state = BudgetState()

    def take(self, weight: int, at: datetime, priority: Priority = Priority.ORDINARY, least: int = 1) -> WeightGrant:
        """See ``WeightBudget.take``."""
        return self._change(lambda state, new_id: grant_block(state, self._limits, new_id, weight, to_ms(at), priority, least))

    def give_back(self, grant: WeightGrant, used: int, at: datetime) -> None:
        """See ``WeightBudget.give_back``."""
        self._change(lambda state, _: (settle_block(state, grant, used, to_ms(at)), None))

    def limited(self, at: datetime, retry_after_s: float | None, *, banned: bool = False) -> datetime:
        """See ``WeightBudget.limited``."""
        self._change(lambda state, _: (limit_state(state, self._limits, to_ms(at), retry_after_s, banned=banned), None))
        return from_ms(self.state.blocked_until_ms)

    def _change(self, change: Callable[[BudgetState, str], tuple[BudgetState, T]]) -> T:
        with self._lock:
            state, result = change(self.state, str(self._count))
            self.state, self._count = state, self._count + 1
            return result


class WeightPurse:
    """Request weight of one invocation: taken from the budget in blocks, spent request by request, the rest given back at the end.

    An exit may spend what an ordinary request has left, never the other way round. Threads may share a purse.
    """

    def __init__(self, budget: WeightBudget, block: int) -> None:
        self._budget = budget
        self._block = block
        self._lock = Lock()
        self._left: dict[Priority, tuple[WeightGrant, int]] = {}
        self._blocked_until: datetime | None = None

    def spend(self, weight: int, at: datetime, priority: Priority = Priority.ORDINARY) -> None:
        """Spend weight on a request that is sent now. Raises as ``WeightBudget.take``; nothing is spent then."""
        with self._lock:
            if self._blocked_until is not None and at < self._blocked_until:
                raise _refused(to_ms(self._blocked_until), "the exchange has told us to wait")
            for kind in (Priority.ORDINARY, Priority.EXIT) if priority is Priority.EXIT else (Priority.ORDINARY,):
                grant, left = self._left.get(kind, (None, 0))
                if grant is not None and left >= weight and at < grant.expires_at:
                    self._left[kind] = grant, left - weight
                    return
            grant = self._budget.take(max(self._block, weight), at, priority, least=weight)
            self._left[priority] = grant, grant.weight - weight

    def is_blocked(self, at: datetime) -> bool:
        """Whether the exchange itself has told us to wait, as far as this purse knows."""
        return self._blocked_until is not None and at < self._blocked_until

    def limited(self, at: datetime, retry_after_s: float | None, *, banned: bool = False) -> RateLimitedError:
        """Tell everybody that the exchange limits us; the error to raise. Raises RetryableError where the budget cannot be reached."""
        with self._lock:
            self._blocked_until = self._budget.limited(at, retry_after_s, banned=banned)
            return RateLimitedError(f"the exchange limits our requests until {iso(self._blocked_until)}", self._blocked_until)

    def close(self, at: datetime) -> None:
        """Give back what was not spent: one write a block of which anything is left, none otherwise. Raises RetryableError."""
        with self._lock:
            blocks, self._left = self._left, {}
            for grant, left in blocks.values():
                if left:
                    self._budget.give_back(grant, grant.weight - left, at)
