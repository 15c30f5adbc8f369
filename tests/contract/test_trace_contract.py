"""What every trace promises."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from desk_values import BUCKET

from tickless.adapters.memory import MemoryTrace
from tickless.adapters.s3_trace import S3Trace
from tickless.ports import Trace
from tickless.types import Side, StopState, Tick

TICK = Tick(datetime(2024, 6, 1, 6, 30, tzinfo=UTC), "feature_rebalance")
CONTENT = {
    "why": {"SOL/USDT": "rank 9 of 8", "BTC/USDT": "kept"},
    "score": 0.1 + 0.2,
    "missing": [float("nan"), 1.0, float("-inf")],
    "qty": Decimal("1E-8"),
    "at": TICK.scheduled_at,
    "stop": StopState(stop_price=65000.1),
    "side": Side.BUY,
    "rows": np.asarray([1.0, np.nan]),
    "names": {"b", "a"},
    "é": (1, 2),
}
PLAIN = {
    "why": CONTENT["why"],
    "score": 0.1 + 0.2,
    "missing": [None, 1.0, None],
    "qty": "0.00000001",
    "at": "2024-06-01T06:30:00Z",
    "stop": {"stop_price": 65000.1, "kind": "stop_loss", "anchor_price": None, "atr": None, "hit": ""},
    "side": "buy",
    "rows": [1.0, None],
    "names": ["a", "b"],
    "é": [1, 2],
}


@pytest.fixture(params=["memory", "s3"])
def trace(request: pytest.FixtureRequest) -> Trace:
    return MemoryTrace() if request.param == "memory" else S3Trace(BUCKET, request.getfixturevalue("s3"))


def test_a_tick_without_a_trace(trace: Trace) -> None:
    assert trace.read(TICK) is None


def test_a_trace_is_read_back_as_plain_json(trace: Trace) -> None:
    trace.write(TICK, CONTENT)
    assert trace.read(TICK) == PLAIN


def test_a_trace_is_replaced(trace: Trace) -> None:
    trace.write(TICK, {"attempt": 1})
    trace.write(TICK, {"attempt": 2})
    assert trace.read(TICK) == {"attempt": 2}


def test_two_strategies_of_one_minute_have_traces_of_their_own(trace: Trace) -> None:
    ticks = [Tick(TICK.scheduled_at, "scan", strategy) for strategy in ("crossover", "dca")]
    for tick in ticks:
        trace.write(tick, {"strategy": tick.strategy})
    assert [trace.read(tick) for tick in ticks] == [{"strategy": "crossover"}, {"strategy": "dca"}]
    assert trace.read(Tick(TICK.scheduled_at, "scan")) is None


def test_the_trace_of_a_scan_is_found_by_its_strategy(s3: Any) -> None:
    S3Trace(BUCKET, s3).write(Tick(TICK.scheduled_at, "scan", "crossover"), {})
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET)["Contents"]] == ["trace/2024-06-01/0630-scan-crossover.json.gz"]


def test_the_same_content_is_the_same_bytes_under_the_tick_s_key(s3: Any) -> None:
    trace, key = S3Trace(BUCKET, s3), "trace/2024-06-01/0630-feature_rebalance.json.gz"
    bodies = []
    for content in ({"a": 1, "b": 2}, {"b": 2, "a": 1}):
        trace.write(TICK, content)
        bodies.append(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
    assert bodies[0] == bodies[1]
    assert gzip.decompress(bodies[0]) == b'{"a":1,"b":2}'


def test_what_cannot_be_traced_is_named(s3: Any) -> None:
    with pytest.raises(TypeError, match="a trace cannot hold a object"):
        S3Trace(BUCKET, s3).write(TICK, {"a": object()})
