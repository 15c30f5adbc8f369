"""What a run tells its caller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tickless.types import Tick


@dataclass(frozen=True)
class RunReport:
    """The outcome of one invocation."""

    tick: Tick
    status: str
    """``done``, ``resumed``, or ``already_done``."""
    ran: tuple[str, ...] = ()
    """Ids of the ticks that took effect in this invocation, earlier ones of the same minute included."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Small facts for people: equity, orders, regime, models."""

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values: what a handler returns."""
        return {"tick": self.tick.id, "status": self.status, "ran": list(self.ran), **self.facts}
