"""A desk on the local AWS, as end-to-end tests drive it: one market, one clock, the functions of the synthesized stack."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import boto3

from made_moods import a_version
from tickless import bootstrap
from tickless.adapters.folder_market import FolderMarket
from tickless.adapters.memory import ManualClock
from tickless.adapters.synthetic_market import make_market
from tickless.bootstrap import Cloud, Environment, Wiring
from tickless.localcloud import InvocationResult, LocalCloud, LocalScheduler, ensure_assembly, load_assembly
from tickless.ports import ModelStore, Promotion
from tickless.types import iso

DAY = datetime(2024, 6, 3, tzinfo=UTC)
STAGE = "dev"


@cache
def small_market(pairs: int = 12, days: int = 2, history_days: int = 40, seed: int = 7) -> FolderMarket:
    """A synthetic market with a strong signal, so that there is something to trade: history before ``DAY``, then ``days`` days."""
    start, end = DAY - timedelta(days=history_days), DAY + timedelta(days=days)
    made = make_market(pairs=pairs, start=start, end=end, seed=seed, signal_ic=0.15)
    return FolderMarket(made.panel, made.rules)


@dataclass
class LocalDesk:
    """The local AWS with one desk on it."""

    local: LocalCloud
    clock: ManualClock
    cloud: Cloud

    def tick(self, function: str, at: datetime, *, late_s: float = 1.0, **event: Any) -> InvocationResult:
        """Invoke a function for a scheduled time, ``late_s`` after it; ``event`` is what its event holds beside the time."""
        self.clock.set(at + timedelta(seconds=late_s))
        return self.local.invoke(function, {"scheduled_time": iso(at), **event})

    def parameter(self, section: str, text: str) -> None:
        """What a person does in the SSM console."""
        boto3.client("ssm").put_parameter(Name=f"/tickless/{STAGE}/{section}", Value=text, Type="String", Overwrite=True)

    def settings(self, section: str) -> dict[str, Any]:
        """A section as SSM has it."""
        value = boto3.client("ssm").get_parameter(Name=f"/tickless/{STAGE}/{section}")["Parameter"]["Value"]
        return dict(json.loads(value))

    @property
    def bucket(self) -> str:
        return self.cloud.environment.bucket

    def trace(self, function: str, at: datetime) -> dict[str, Any] | None:
        """A tick's trace, read from S3; None where the tick left none."""
        s3 = boto3.client("s3")
        key = f"trace/{at:%Y-%m-%d}/{at:%H%M}-{function}.json.gz"
        if key not in {item["Key"] for item in s3.list_objects_v2(Bucket=self.bucket, Prefix=key).get("Contents", ())}:
            return None
        return dict(json.loads(gzip.decompress(s3.get_object(Bucket=self.bucket, Key=key)["Body"].read())))

    def items(self) -> list[dict[str, Any]]:
        """Every item of the table."""
        pages = boto3.client("dynamodb").get_paginator("scan").paginate(TableName=self.cloud.environment.table)
        return [item for page in pages for item in page["Items"]]

    def schedule(self, hours: float, **options: Any) -> LocalScheduler:
        """The scheduler of the stack's schedules over the first hours of ``DAY``."""
        return LocalScheduler(self.local, self.clock, DAY, DAY + timedelta(hours=hours), **options)

    def record(self) -> dict[str, Any]:
        """What a run leaves: orders, fills, trades, equity, and the stops and reasons of every tick."""
        ledger = self.cloud.ledger
        traces = {record.tick: self.cloud.trace.read(record.tick) or {} for record in ledger.ticks()}
        return {
            "orders": sorted(map(repr, ledger.orders())),
            "fills": sorted(map(repr, ledger.fills())),
            "trades": sorted(map(repr, ledger.trades())),
            "equity": list(map(repr, ledger.equity())),
            "stops": {tick.id: trace.get("stops") for tick, trace in traces.items()},
            "targets": {tick.id: trace.get("targets") for tick, trace in traces.items()},
            "pairs": {tick.id: trace.get("pairs") for tick, trace in traces.items()},
        }


@contextmanager
def local_desk(
    root: Path,
    market: FolderMarket,
    *,
    at: datetime = DAY,
    publish_metrics: bool = False,
    desk: str = "rotation",
    overrides: Sequence[str] = (),
) -> Iterator[LocalDesk]:
    """The stack of a desk on the local AWS, its clock a minute before ``at``."""
    template = load_assembly(ensure_assembly(root, desk, STAGE, overrides)).template
    clock = ManualClock(at - timedelta(minutes=1))
    wiring = Wiring(market=market, clock=clock)
    functions = root / "functions"
    local = LocalCloud(
        template, stage=STAGE, functions_dir=functions, wiring=lambda: bootstrap.wired(wiring), publish_metrics=publish_metrics
    )
    with local:
        cloud = wiring.cloud(Environment.read(local.functions()["risk_check"].environment))
        yield LocalDesk(local, clock, cloud)


def logged(result: InvocationResult, message: str) -> list[dict[str, Any]]:
    """The structured log lines of an invocation with this message."""
    lines = [json.loads(line) for line in result.logs if line.startswith("{")]
    return [line for line in lines if line.get("message") == message]


def tiny_model(name: str, version: str, effective_at: datetime) -> tuple[dict[str, Any], bytes]:
    """A manifest and an artifact that likes what has risen over six hours; the same arguments give the same bytes."""
    made = a_version("follower", version, effective_at, name)
    return dict(made.manifest), made.artifact


def register_tiny_models(models: ModelStore, effective_at: datetime, version: str = "v1") -> dict[str, str]:
    """Make tiny models the champions from ``effective_at`` on; returns ``name@version`` by name."""
    labels = {}
    for name in ("rotation_6h", "rotation_24h"):
        manifest, artifact = tiny_model(name, version, effective_at)
        labels[name] = models.register(name, version, manifest, artifact).label
        models.promote(name, Promotion(version, effective_at, effective_at - timedelta(minutes=10), "made by hand"))
    return labels
