"""At least once, in any order, and sometimes not at the first attempt: what is delivered how changes nothing of what is traded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from local_desk import LocalDesk

from tickless.adapters.dynamodb_ledger import DynamoDbLedger
from tickless.adapters.s3_trace import S3Trace
from tickless.adapters.sim_exchange import SimExchange
from tickless.localcloud import Firing
from tickless.ports import Fence
from tickless.types import LedgerUpdate, Order

HOURS = 8.0
Desks = Callable[[], AbstractContextManager[LocalDesk]]
Record = dict[str, Any]


@pytest.fixture(scope="module")
def in_order(desks: Desks) -> Record:
    """What the run leaves when every event comes once, in order, and no attempt fails."""
    with desks() as desk:
        firings = list(desk.schedule(HOURS, without=("retrain",)).fire())
        assert all(firing.result is not None and firing.result.error is None for firing in firings)
        record = desk.record()
    assert len(record["orders"]) >= 10
    assert len(record["equity"]) == HOURS * 4
    return record


def same(record: Record, expected: Record) -> None:
    """Compares part by part, so that a failure names the first part that differs."""
    assert record.keys() == expected.keys()
    for part in expected:
        assert record[part] == expected[part], part


@pytest.mark.parametrize("seed", [0, 1])
def test_any_order_within_the_minute_and_duplicates_change_nothing(desks: Desks, in_order: Record, seed: int) -> None:
    with desks() as desk:
        firings = list(desk.schedule(HOURS, order="shuffled", duplicates=0.2, seed=seed, without=("retrain",)).fire())
        record = desk.record()

    statuses = Counter(firing.result.payload["status"] for firing in firings if firing.result is not None)
    assert not any(firing.dead for firing in firings)
    assert any(firing.duplicate for firing in firings)
    assert out_of_order(firings) >= 1
    assert statuses["already_done"] > sum(firing.duplicate for firing in firings) // 2
    same(record, in_order)


def out_of_order(firings: Sequence[Firing]) -> int:
    """How many deliveries came before one of the same minute that takes effect earlier."""
    rank = {"risk_check": 0, "feature_rebalance": 1, "full_rebalance": 2}
    first = [firing for firing in firings if not firing.duplicate]
    return sum(a.scheduled_at == b.scheduled_at and rank[a.function] > rank[b.function] for a, b in pairwise(first))


class InjectedError(Exception):
    """What a function does not expect."""


@dataclass
class FailOnce:
    """Lets every tick's first attempt fail at one of several points, in turn."""

    points: Sequence[str]
    failed: dict[tuple[str, str], int] = field(default_factory=dict)
    """Failures by (tick id, point)."""
    _turn: dict[str, str] = field(default_factory=dict)

    def __call__(self, tick_id: str, point: str) -> None:
        mine = self._turn.setdefault(tick_id, self.points[len(self._turn) % len(self.points)])
        if point == mine and (tick_id, point) not in self.failed:
            self.failed[tick_id, point] = 1
            raise InjectedError(f"{tick_id} at {point}")

    @property
    def counts(self) -> Counter[str]:
        return Counter(point for _, point in self.failed)


def inject(monkeypatch: pytest.MonkeyPatch, fail: FailOnce) -> None:
    """Put the failures around the ledger, the exchange and the trace."""
    journal, submit, write = DynamoDbLedger.journal, SimExchange.submit, S3Trace.write
    now: dict[str, str] = {"tick": ""}

    def failing_journal(self: DynamoDbLedger, fence: Fence, updates: Sequence[LedgerUpdate]) -> None:
        record = next((update.record for update in updates if update.record is not None), None)
        tick_id, status = (record.tick.id, record.status) if record is not None else ("", "")
        fail(tick_id, f"before {status}")
        journal(self, fence, updates)
        fail(tick_id, f"after {status}")

    def failing_submit(self: SimExchange, order: Order, at: Any) -> Any:
        report = submit(self, order, at)
        fail(now["tick"], "after submit")
        return report

    def failing_write(self: S3Trace, tick: Any, content: Any) -> None:
        now["tick"] = tick.id
        write(self, tick, content)

    monkeypatch.setattr(DynamoDbLedger, "journal", failing_journal)
    monkeypatch.setattr(SimExchange, "submit", failing_submit)
    monkeypatch.setattr(S3Trace, "write", failing_write)


@pytest.mark.parametrize(
    "points",
    [("before journaled", "before done"), ("after journaled", "after done"), ("after submit", "before done")],
    ids=["before_writing", "after_writing", "while_sending"],
)
def test_a_failed_first_attempt_and_its_retry_change_nothing(
    desks: Desks, in_order: Record, monkeypatch: pytest.MonkeyPatch, points: Sequence[str]
) -> None:
    fail = FailOnce(points)
    with desks() as desk:
        inject(monkeypatch, fail)
        firings = list(desk.schedule(HOURS, without=("retrain",)).fire())
        record = desk.record()

    assert not any(firing.dead for firing in firings)
    assert set(fail.counts) == set(points)
    statuses = Counter(firing.result.payload.get("status") for firing in firings if firing.result is not None)
    assert statuses["resumed"] > 0
    assert sum(firing.attempt == 2 for firing in firings) == sum(fail.counts.values())
    same(record, in_order)
