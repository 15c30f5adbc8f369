"""A second opinion on DynamoDB: many threads contend for one item on dynalite, which is atomic in single items as moto is not."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
from botocore.exceptions import ClientError
from desk_values import T0, TABLE

from tests.dynalite import INSTALLED, LOCK, DynaliteError, install
from tickless.adapters.dynamodb_ledger import DynamoDbLedger
from tickless.adapters.dynamodb_sent import DynamoDbSentStore
from tickless.adapters.dynamodb_weight import DynamoDbWeightBudget
from tickless.adapters.weight_budget import WeightLimits
from tickless.errors import LeaseHeldError, RateLimitedError, RetryableError, TickRecordedError
from tickless.ports import RETAKE_AFTER_S
from tickless.types import Tick, TickRecord

THREADS, ROUNDS = 8, 50


def winners(attempt: Callable[[int], Any]) -> list[Any]:
    """What came of an attempt that ``THREADS`` threads make at the same moment, of those that were not refused."""
    start = Barrier(THREADS, timeout=20)

    def run(n: int) -> Any:
        start.wait()
        try:
            return attempt(n)
        except (LeaseHeldError, RetryableError, TickRecordedError):
            return None

    with ThreadPoolExecutor(THREADS) as pool:
        return [found for found in pool.map(run, range(THREADS)) if found is not None]


def test_of_many_who_want_the_lease_exactly_one_has_it_each_time(dynalite: Any) -> None:
    ledgers = [DynamoDbLedger(TABLE, dynalite) for _ in range(THREADS)]
    for number in range(1, ROUNDS + 1):
        (fence,) = winners(lambda n: ledgers[n].acquire(f"owner {n}", T0, 60, f"invocation {n}"))
        assert fence.number == number
        ledgers[0].release(fence)


def test_of_many_retries_of_one_killed_invocation_one_takes_its_lease_again(dynalite: Any) -> None:
    ledger = DynamoDbLedger(TABLE, dynalite)
    for number in range(1, ROUNDS + 1):
        now = T0 + timedelta(seconds=number * RETAKE_AFTER_S)
        (fence,) = winners(lambda n, now=now: ledger.acquire(f"attempt {n}", now, 900, "one invocation"))
        assert fence.number == number


def test_of_many_who_record_a_tick_without_a_lease_one_does(dynalite: Any) -> None:
    ledger = DynamoDbLedger(TABLE, dynalite)
    for bar in range(ROUNDS):
        tick = Tick(T0 + bar * timedelta(minutes=15), "retrain")

        def record(n: int, tick: Tick = tick) -> int:
            ledger.record_unfenced(TickRecord(tick, "journaled", n))
            return n

        (winner,) = winners(record)
        found = ledger.tick(tick)
        assert found is not None
        assert found.fence == winner


def test_many_functions_share_a_budget_to_the_last_unit(dynalite: Any) -> None:
    for number in range(ROUNDS // 10):
        at, limits = T0 + number * timedelta(minutes=5), WeightLimits(100, reserve_frac=0.0)
        budgets = [DynamoDbWeightBudget(TABLE, dynalite, "binance", limits, sleep=lambda _: None) for _ in range(THREADS)]

        def spend(n: int, budgets: Any = budgets, at: Any = at) -> int:
            taken = 0
            for _ in range(4):
                try:
                    taken += budgets[n].take(7, at, least=7).weight
                except RateLimitedError:
                    break
            return taken

        assert sum(winners(spend)) == 98


def test_of_many_who_note_what_they_send_one_does(dynalite: Any) -> None:
    stores = [DynamoDbSentStore(TABLE, dynalite) for _ in range(THREADS)]
    for version in range(ROUNDS):

        def save(n: int, version: int = version) -> int:
            stores[n].save(version, f"by {n}")
            return n

        (winner,) = winners(save)
        assert stores[0].load() == (version + 1, f"by {winner}")


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"ConditionExpression": "attribute_not_exists(sk)", "ExpressionAttributeValues": {":n": {"N": "1"}}}, "unused in expressions"),
        ({"Item": {"pk": {"S": "x"}, "sk": {"S": "x"}, "n": {"N": "1" * 41}}}, "38 significant digits"),
        ({"Item": {"pk": {"S": "x"}, "sk": {"S": ""}}}, "empty string"),
    ],
)
def test_it_refuses_what_dynamodb_refuses(dynalite: Any, request_: dict[str, Any], said: str) -> None:
    with pytest.raises(ClientError, match=said):
        dynalite.put_item(**{"TableName": TABLE, "Item": {"pk": {"S": "x"}, "sk": {"S": "x"}}, **request_})


def test_the_lock_names_versions_and_checksums_and_no_registry() -> None:
    text = LOCK.read_text()
    assert '"resolved"' not in text
    assert text.count('"integrity"') == text.count('    "node_modules/')


def test_a_registry_that_is_out_of_reach_is_named_as_the_cause(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for name in ("package.json", "package-lock.json"):
        (tmp_path / name).write_bytes((LOCK.parent / name).read_bytes())
    monkeypatch.setattr("tests.dynalite.HERE", tmp_path)
    monkeypatch.setattr("tests.dynalite.LOCK", tmp_path / LOCK.name)
    monkeypatch.setattr("tests.dynalite.INSTALLED", tmp_path / "node_modules" / INSTALLED.name)
    away = {
        "npm_config_registry": "http://127.0.0.1:9/",
        "npm_config_fetch_retries": "0",
        "npm_config_cache": os.fspath(tmp_path / "cache"),
        "npm_config_userconfig": os.devnull,
    }
    with pytest.raises(DynaliteError, match=r"npm could not install dynalite \(is its registry reachable from here\?\): .*127\.0\.0\.1:9"):
        install(60, away)
    assert not (tmp_path / "node_modules" / INSTALLED.name).exists()
