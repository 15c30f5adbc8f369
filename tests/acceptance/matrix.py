"""Kills a tick at every request, delivers it again, and compares with the run that nobody disturbed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any, NamedTuple

from tests.acceptance import worker
from tests.acceptance.scenes import ORDERS, SCENES, T0, VENUES, Scene, at
from tests.acceptance.worlds import Served
from tests.loopback import RemoteExchange
from tickless.adapters.dynamodb_ledger import DynamoDbLedger
from tickless.adapters.s3_bars import S3BarStore
from tickless.adapters.ssm_parameters import SsmParameterStore
from tickless.ports import RETAKE_AFTER_S
from tickless.types import iso, parse_time

ROOT = Path(__file__).resolve().parents[2]
RETRY_S = 61.0
"""Lambda retries after a minute, with the same request id."""
SIGKILL = 9
assert RETRY_S > RETAKE_AFTER_S


class Point(NamedTuple):
    """Where a process is killed."""

    number: int
    after: bool


@dataclass
class Desk:
    """An AWS and an exchange, each a process that can copy itself."""

    aws: Served
    exchange: Served
    scene: Scene
    workers: Workers

    def fork(self) -> Desk:
        return replace(self, aws=self.aws.fork(), exchange=self.exchange.fork())

    def end(self) -> None:
        self.aws.end()
        self.exchange.end()

    @property
    def remote(self) -> RemoteExchange:
        return RemoteExchange(self.exchange.url)

    def job(self, function: str, bar: int, late_s: float = 1.0, kill: Point | None = None, request_id: str = "") -> dict[str, Any]:
        told = {"function": function, "at": iso(at(bar)), "late_s": late_s, "market": self.scene.market, "venue": self.scene.venue}
        where = {"aws": self.aws.url, "exchange": self.exchange.url, "request_id": request_id or f"{function}-{bar}"}
        return told | where | ({} if kill is None else {"kill_at": kill.number, "after": kill.after})

    def tick(self, function: str, bar: int, late_s: float = 1.0, kill: Point | None = None) -> dict[str, Any]:
        """One delivery."""
        return self.deliver([self.job(function, bar, late_s, kill)])[0]

    def deliver(self, jobs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Several at once, each in a process of its own."""
        self.remote.set_time(max(parse_time(job["at"]) + timedelta(seconds=job["late_s"]) for job in jobs))
        return self.workers.run(jobs)

    def outcome(self) -> dict[str, Any]:
        """All that must be equal, by part: the ledger and the exchange, without the moments at which requests arrived."""
        requests = worker.Requests(None, after=False)
        ledger = DynamoDbLedger(worker.TABLE, worker.point_at(self.aws.url, requests)["dynamodb"])
        state, account = ledger.load(), self.remote.state(VENUES[self.scene.venue])
        assert state is not None
        return {
            "cash": (state.cash, state.peak_equity, state.reducing, dict(state.external), dict(state.blocked), state.halt),
            "positions": [replace(position, opened_at=T0) for _, position in sorted(state.positions.items())],
            "open orders": sorted(state.orders),
            # When an order was sent is kept only where its answer was lost: a time of day.
            "orders": [repr(replace(order, sent_at=None)) for order in ledger.orders()],
            "fills": sorted(repr(replace(fill, filled_at=T0)) for fill in ledger.fills()),
            "trades": sorted(repr(replace(trade, opened_at=T0, closed_at=T0)) for trade in ledger.trades()),
            "equity": [repr(row) for row in ledger.equity()],
            "ticks": [(record.tick.id, record.status, tuple(record.intents)) for record in ledger.ticks()],
            "balances": (account["balances"], account["positions"]),
            "accepted": [{name: value for name, value in order.items() if name != "created_ms"} for order in account["orders"]],
            "open at the exchange": account["open"],
            "sent": dict(self.remote.orders_sent()),
            "resent": self.remote.resent(),
        }


class Workers:
    """The process that forks ticks."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.acceptance.worker"]
        self._process = Popen(command, cwd=ROOT, stdin=PIPE, stdout=PIPE, text=True)

    def run(self, jobs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"ticks": jobs}) + "\n")
        self._process.stdin.flush()
        return list(json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        self._process.communicate(timeout=30)


@dataclass
class Worlds:
    """One worker, one AWS, an exchange a market: what scenes are set on."""

    stack: ExitStack
    workers: Workers = field(default_factory=Workers)
    matrices: dict[tuple[str, str], Matrix] = field(default_factory=dict)
    _served: dict[str, Served] = field(default_factory=dict)

    def served(self, kind: str) -> Served:
        if kind not in self._served:
            self._served[kind] = Served.start(kind)
            self.stack.callback(self._served[kind].end)
        return self._served[kind]

    def set_scene(self, name: str, venue: str) -> Desk:
        """A desk just before the scene's tick."""
        scene = replace(SCENES[name], venue=venue)
        desk = Desk(self.served("aws").fork(), self.served(scene.market).fork(), scene, self.workers)
        self.stack.callback(desk.end)
        _furnish(desk)
        for function, bar in scene.before:
            done = desk.tick(function, bar)
            assert done.get("status") == "done", done
        return desk


@contextmanager
def open_worlds() -> Iterator[Worlds]:
    with ExitStack() as stack:
        worlds = Worlds(stack)
        stack.callback(worlds.workers.close)
        yield worlds


def _furnish(desk: Desk) -> None:
    """What ``cdk deploy`` makes, the desk's parameters, and its bars up to an hour before T0."""
    clients = worker.point_at(desk.aws.url, worker.Requests(None, after=False))
    keys = {"pk": "HASH", "sk": "RANGE"}
    clients["dynamodb"].create_table(
        TableName=worker.TABLE,
        KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in keys.items()],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in keys],
        BillingMode="PAY_PER_REQUEST",
    )
    clients["s3"].create_bucket(Bucket=worker.BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    clients["sns"].create_topic(Name=worker.TOPIC.rpartition(":")[2])
    parameters = SsmParameterStore(clients["ssm"], worker.STAGE)
    for section, text in desk.scene.settings.sections().items():
        parameters.write(section, text)
    S3BarStore(worker.BUCKET, clients["s3"]).write(desk.scene.panel().closed_at(at(-4)))


@dataclass
class Difference:
    """A crash after which something is not as it should be."""

    where: str
    what: str


@dataclass
class Matrix:
    """All crash points of one scene."""

    name: str
    start: Desk
    requests: list[str]
    retried: dict[str, Any]
    """What the undisturbed run comes to after the tick."""
    later: dict[str, Any]
    """And after the next one."""

    @classmethod
    def of(cls, worlds: Worlds, name: str, venue: str = "spot") -> Matrix:
        """The undisturbed run, and the desk from which every other starts; made once, as nothing changes it."""
        if (name, venue) not in worlds.matrices:
            worlds.matrices[name, venue] = cls._run(worlds, name, venue)
        return worlds.matrices[name, venue]

    @classmethod
    def _run(cls, worlds: Worlds, name: str, venue: str) -> Matrix:
        start = worlds.set_scene(name, venue)
        desk = start.fork()
        try:
            done = desk.tick(desk.scene.function, desk.scene.bar)
            assert done.get("status") == "done", done
            retried = desk.outcome()
            following = desk.tick(desk.scene.next_function, desk.scene.bar + 1)
            assert following.get("status") == "done", following
            return cls(name, start, done["requests"], retried, desk.outcome())
        finally:
            desk.end()

    @property
    def points(self) -> list[Point]:
        return [Point(number, after) for number in range(len(self.requests)) for after in (False, True)]

    @property
    def venue_points(self) -> list[Point]:
        """Those at a request to the exchange or to the ledger; bars and traces are the same at every venue."""
        return [point for point in self.points if self.requests[point.number].startswith(("exchange", "dynamodb"))]

    @property
    def orders(self) -> int:
        """How many orders the tick sends."""
        return sum(what == f"exchange {ORDERS[self.start.scene.venue]}" for what in self.requests)

    def crash(self, point: Point) -> list[Difference]:
        """Kill there, deliver again, run the next tick; what differs from the undisturbed run, nothing if all is well."""
        desk, scene = self.start.fork(), self.start.scene
        where = (
            f"{self.name} on {scene.venue}: {'after' if point.after else 'before'} request {point.number}, {self.requests[point.number]}"
        )
        try:
            died = desk.tick(scene.function, scene.bar, kill=point)
            if died != {"killed": SIGKILL}:
                return [Difference(where, f"not killed: {died}")]
            again = desk.tick(scene.function, scene.bar, late_s=RETRY_S)
            if again["status"] not in {"done", "resumed", "already_done"}:
                return [Difference(where, f"the retry came to {again['status']}: {again.get('error')}")]
            found = list(differences(where, "after the retry", self.retried, desk.outcome()))
            following = desk.tick(scene.next_function, scene.bar + 1)
            if following["status"] != "done" or "LedgerMismatch" in following["metrics"]:
                return [*found, Difference(where, f"the next tick came to {following}")]
            return found + list(differences(where, "after the next tick", self.later, desk.outcome()))
        finally:
            desk.end()

    def race(self) -> list[Difference]:
        """A scene's tick delivered to two processes at once: one trades, the other leaves, and the desk is as after one alone."""
        desk, scene = self.start.fork(), self.start.scene
        where = f"{self.name} on {scene.venue}, delivered twice at once"
        try:
            came = desk.deliver([desk.job(scene.function, scene.bar, request_id=request_id) for request_id in ("one", "other")])
            statuses = sorted(str(one.get("status")) for one in came)
            if statuses not in (["already_done", "done"], ["LeaseHeldError", "done"]):
                return [Difference(where, f"they came to {came}")]
            return list(differences(where, "after both", self.retried, desk.outcome()))
        finally:
            desk.end()


def differences(where: str, when: str, expected: Mapping[str, Any], outcome: Mapping[str, Any]) -> Iterator[Difference]:
    if outcome["resent"]:
        yield Difference(where, f"{when}: sent twice: {outcome['resent']}")
    for part, value in expected.items():
        if outcome[part] != value:
            yield Difference(where, f"{when}: {part} is {outcome[part]}, undisturbed {value}")
