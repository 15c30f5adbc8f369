"""The life of a model's versions: candidate → shadow → champion → retired, read from what was written down of it. Pure.

Promotions say which version decides and from when on; events say what else became of each. Both only grow, and a tick reads them as of its
own time, so that a replay sees the life as it was.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Literal, NamedTuple, get_args

from tickless.alpha.champion import champion_at

Stage = Literal["candidate", "shadow", "champion", "retired"]
STAGES: tuple[Stage, ...] = get_args(Stage)
NOBODY = ""
"""The version of a promotion that withdraws the champion and names no other."""
CHALLENGER, FORMER = "challenger", "former"
"""The roles of a version in shadow: one that wants to become champion, and one that was."""


@dataclass(frozen=True)
class Promotion:
    """An entry of a model's champion pointer; ``NOBODY`` as its version withdraws the champion."""

    version: str
    effective_at: datetime
    promoted_at: datetime
    reason: str


@dataclass(frozen=True)
class ModelEvent:
    """Something that became of one version."""

    version: str
    stage: Stage
    at: datetime
    """From when on it counts."""
    reason: str
    by: str = "nightly"
    """Who decided: the nightly rules, or a person."""
    role: str = ""
    """Of a version in shadow: ``challenger`` or ``former``."""
    size_frac: float = 1.0
    """Of a champion: what is left of every position's size while this is its last event."""
    action: str = ""
    """Of a champion: what its drift asks for, empty where it has not drifted."""
    causes: tuple[str, ...] = ()
    """The measures that asked for it: it ends when they can be told, and ask for it no longer."""


class Standing(NamedTuple):
    """How a model's versions stand at one time."""

    champion: Promotion | None
    shadows: tuple[ModelEvent, ...]
    """Versions that forecast without trading, by when they began to."""
    size_frac: float
    """What is left of every position's size, as the champion's last event says."""


@dataclass(frozen=True)
class ModelLife:
    """All that is written down of a model's versions, oldest first. What is asked for a time is answered from what counted then."""

    promotions: tuple[Promotion, ...] = ()
    events: tuple[ModelEvent, ...] = ()
    deleted: tuple[str, ...] = ()
    """The versions that were deleted last: they may still be read for a moment, and must not be promoted any more."""

    def champion(self, at: datetime) -> Promotion | None:
        """The promotion in force; None where no version is champion."""
        return champion_at(self.promotions, at)

    def champion_before(self, at: datetime) -> str:
        """The version to go back to from the champion; empty where there is none. What one has gone back from is passed over."""
        line: list[str] = []
        for version in (entry.version for entry in self.promotions if entry.version and entry.effective_at <= at):
            line = line[: line.index(version)] if version in line else line
            line.append(version)
        present = self.champion(at)
        return line[-2] if present is not None and len(line) > 1 else ""

    def last_event(self, version: str, at: datetime) -> ModelEvent | None:
        """What last became of a version."""
        return next((event for event in reversed(self.events) if event.version == version and event.at <= at), None)

    def stage(self, version: str, at: datetime) -> Stage:
        """Where a version stands. One that was replaced without a word is retired, one of which nothing is known a candidate."""
        champion = self.champion(at)
        if champion is not None and champion.version == version:
            return "champion"
        event = self.last_event(version, at)
        if event is not None and event.stage != "champion":
            return event.stage
        was_champion = any(entry.version == version and entry.effective_at <= at for entry in self.promotions)
        return "retired" if was_champion or event is not None else "candidate"

    def standing(self, at: datetime) -> Standing:
        """How the versions stand; asked for at every tick, and worked out once between two changes."""
        place = bisect_right(self._moments, at)
        if place not in self._standings:
            champion = self.champion(at)
            event = self.last_event(champion.version, at) if champion is not None else None
            size_frac = event.size_frac if event is not None and event.stage == "champion" else 1.0
            self._standings[place] = Standing(champion, self._shadows(at), size_frac)
        return self._standings[place]

    def shadows(self, at: datetime, role: str = "") -> tuple[ModelEvent, ...]:
        """``Standing.shadows``, of one ``role`` only where one is named."""
        return tuple(event for event in self.standing(at).shadows if role in ("", event.role))

    def _shadows(self, at: datetime) -> tuple[ModelEvent, ...]:
        versions = dict.fromkeys(event.version for event in self.events if event.stage == "shadow")
        standing = [event for version in versions if self.stage(version, at) == "shadow" and (event := self.last_event(version, at))]
        return tuple(sorted(standing, key=lambda event: event.at))

    @cached_property
    def _moments(self) -> tuple[datetime, ...]:
        """When something changes, in order."""
        return tuple(sorted({*(entry.effective_at for entry in self.promotions), *(event.at for event in self.events)}))

    @cached_property
    def _standings(self) -> dict[int, Standing]:
        """By how many moments have passed."""
        return {}

    def with_(self, change: LifeChange) -> ModelLife:
        """The life after a change."""
        return ModelLife((*self.promotions, *change.promotions), (*self.events, *change.events), self.deleted)

    def without(self, versions: Sequence[str]) -> ModelLife:
        """The life once versions are deleted: their events are gone, the promotions stay as the history of what decided."""
        return ModelLife(self.promotions, tuple(event for event in self.events if event.version not in versions), tuple(sorted(versions)))


@dataclass(frozen=True)
class LifeChange:
    """What is written down together, or not at all."""

    promotions: tuple[Promotion, ...] = ()
    events: tuple[ModelEvent, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is anything to write."""
        return bool(self.promotions or self.events)

    def and_(self, other: LifeChange) -> LifeChange:
        """Both, in this order."""
        return LifeChange((*self.promotions, *other.promotions), (*self.events, *other.events))
