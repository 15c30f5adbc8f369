"""Every stateful port in memory: for backtests, which need no AWS, and for tests, which need to look inside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import RLock
from typing import Any

from tickless.adapters.memory_bars import MemoryBarStore
from tickless.adapters.memory_ledger import MemoryLedger
from tickless.adapters.memory_models import MemoryModelStore
from tickless.adapters.sections import check_section
from tickless.adapters.trace_json import trace_text
from tickless.errors import RetryableError
from tickless.types import Tick, utc

__all__ = [
    "ManualClock",
    "MemoryBarStore",
    "MemoryLedger",
    "MemoryLog",
    "MemoryMetrics",
    "MemoryModelStore",
    "MemoryNotifier",
    "MemoryParameterStore",
    "MemorySimStore",
    "MemoryTrace",
]


class MemoryParameterStore:
    """The ParameterStore port in memory."""

    def __init__(self, sections: Mapping[str, str] | None = None) -> None:
        self._sections = dict(sections or {})

    def read(self) -> Mapping[str, str]:
        """See ``ParameterStore.read``."""
        return {name: self._sections[name] for name in sorted(self._sections)}

    def write(self, section: str, text: str) -> None:
        """See ``ParameterStore.write``; raises SettingsError for a name or text that SSM would not take."""
        check_section(section, text)
        self._sections[section] = text


class MemorySimStore:
    """Where the simulated exchange keeps its account: in memory, with the conditional save of the DynamoDB one."""

    def __init__(self) -> None:
        self._version = 0
        self._account = ""
        self._orders: dict[str, str] = {}
        self._lock = RLock()

    def load(self) -> tuple[int, str] | None:
        """The version and text of the account; None where there is none yet."""
        with self._lock:
            return (self._version, self._account) if self._version else None

    def order(self, client_order_id: str) -> str | None:
        """The text of an order, or None."""
        return self._orders.get(client_order_id)

    def save(self, version: int, account: str, orders: Mapping[str, str]) -> None:
        """Store account and orders as ``version + 1``; raises RetryableError unless the stored version is ``version`` (0 = none yet)."""
        with self._lock:
            if version != self._version:
                raise RetryableError(f"simulated account: version {version} was replaced by {self._version}; nothing was saved")
            self._version, self._account = version + 1, account
            self._orders.update(orders)


class MemoryTrace:
    """The Trace port in memory. Keeps what it is given and makes it plain JSON when it is read, as S3 does."""

    def __init__(self) -> None:
        self.written: dict[Tick, Mapping[str, Any]] = {}

    def write(self, tick: Tick, content: Mapping[str, Any]) -> None:
        """See ``Trace.write``."""
        self.written[tick] = content

    def read(self, tick: Tick) -> Mapping[str, Any] | None:
        """See ``Trace.read``."""
        if tick not in self.written:
            return None
        content: Mapping[str, Any] = json.loads(trace_text(self.written[tick]))
        return content


@dataclass
class MemoryMetrics:
    """The Metrics port in memory: sums of the counters, and every value of the gauges in order."""

    counts: dict[str, float] = field(default_factory=dict)
    gauges: dict[str, list[float]] = field(default_factory=dict)

    def count(self, name: str, value: float = 1.0) -> None:
        """See ``Metrics.count``."""
        self.counts[name] = self.counts.get(name, 0.0) + value

    def gauge(self, name: str, value: float, unit: str = "None") -> None:  # noqa: ARG002
        """See ``Metrics.gauge``."""
        self.gauges.setdefault(name, []).append(value)


@dataclass
class MemoryNotifier:
    """The Notifier port in memory: the alerts, as (subject, message)."""

    alerts: list[tuple[str, str]] = field(default_factory=list)

    def alert(self, subject: str, message: str) -> None:
        """See ``Notifier.alert``."""
        self.alerts.append((subject, message))


@dataclass
class MemoryLog:
    """The Log port in memory: the lines, as (level, message, fields)."""

    lines: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)

    def info(self, message: str, **fields: Any) -> None:
        """See ``Log.info``."""
        self.lines.append(("info", message, fields))

    def warning(self, message: str, **fields: Any) -> None:
        """See ``Log.warning``."""
        self.lines.append(("warning", message, fields))


class ManualClock:
    """The Clock port with hands that somebody moves; to sleep moves them, too."""

    def __init__(self, now: datetime) -> None:
        self._now = utc(now)

    def now(self) -> datetime:
        """See ``Clock.now``."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """See ``Clock.sleep``."""
        self._now += timedelta(seconds=seconds)

    def set(self, now: datetime) -> None:
        """Turn the clock to a time."""
        self._now = utc(now)
