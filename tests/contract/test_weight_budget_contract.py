"""What every shared request budget promises, in memory and in the table; and that the table's is one among many functions."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError
from desk_values import T0, TABLE, TABLES

from tickless.adapters.dynamodb_weight import TRIES, DynamoDbWeightBudget
from tickless.adapters.weight_budget import MemoryWeightBudget, WeightLimits, WeightPurse
from tickless.errors import RateLimitedError, RetryableError
from tickless.ports import Priority, WeightBudget, WeightGrant

LIMITS = WeightLimits(per_min=30, reserve_frac=0.2, hold_s=30.0)
KEY = {"pk": {"S": "WEIGHT"}, "sk": {"S": "roostoo"}}


def later(seconds: float) -> Any:
    return T0 + timedelta(seconds=seconds)


def shared(client: Any, limits: WeightLimits = LIMITS, exchange: str = "roostoo") -> DynamoDbWeightBudget:
    return DynamoDbWeightBudget(TABLE, client, exchange, limits, sleep=lambda _: None)


@pytest.fixture(params=["memory", *TABLES])
def budget(request: pytest.FixtureRequest) -> WeightBudget:
    return MemoryWeightBudget(LIMITS) if request.param == "memory" else shared(request.getfixturevalue(request.param))


def test_a_minute_of_requests(budget: WeightBudget) -> None:
    first = budget.take(20, T0)
    assert (first.weight, first.expires_at) == (20, later(30))
    assert budget.take(20, later(1)).weight == 4
    assert budget.take(20, later(2), Priority.EXIT).weight == 6
    with pytest.raises(RateLimitedError) as refused:
        budget.take(1, later(3), Priority.EXIT)
    assert refused.value.retry_at == later(90)
    budget.give_back(first, 3, later(4))
    assert budget.take(20, later(5)).weight == 11
    with pytest.raises(RateLimitedError) as refused:
        budget.take(10, later(6), Priority.EXIT, least=7)
    assert refused.value.retry_at == later(64)


def test_a_429_and_a_ban(budget: WeightBudget) -> None:
    assert budget.limited(T0, 10.0) == later(10)
    assert budget.limited(later(1), 3600.0, banned=True) == later(3601)
    assert budget.limited(later(2), 5.0) == later(3601)
    with pytest.raises(RateLimitedError):
        budget.take(1, later(3600), Priority.EXIT)
    assert budget.take(100, later(3601), Priority.EXIT).weight == 24
    assert budget.take(100, later(3601 + 420), Priority.EXIT).weight == 30


def test_functions_share_what_there_is(dynamodb: Any) -> None:
    one, other = shared(dynamodb), shared(dynamodb)
    one.take(10, T0)
    assert other.take(100, later(1)).weight == 14
    with pytest.raises(RateLimitedError):
        one.take(1, later(2))
    other.limited(later(3), 300.0, banned=True)
    with pytest.raises(RateLimitedError) as refused:
        one.take(1, later(200), Priority.EXIT)
    assert refused.value.retry_at == later(303)


def test_each_exchange_has_its_own(dynamodb: Any) -> None:
    assert shared(dynamodb).take(100, T0).weight == 24
    assert shared(dynamodb, exchange="binance").take(100, T0).weight == 24


def test_a_tick_costs_a_read_and_a_write_and_one_more_write_for_what_is_left(dynamodb: Any, calls: list[str]) -> None:
    budget = shared(dynamodb)
    purse = WeightPurse(budget, 8)
    calls.clear()
    for n in range(5):
        purse.spend(1, later(n))
    assert calls == ["GetItem", "PutItem"]
    purse.close(later(6))
    assert calls == ["GetItem", "PutItem", "PutItem"]
    calls.clear()
    warm = WeightPurse(budget, 8)
    for n in range(8):
        warm.spend(1, later(900 + n))
    warm.close(later(910))
    assert calls == ["PutItem"]


def test_an_item_stays_a_kilobyte_and_is_forgotten(dynamodb: Any) -> None:
    budget = shared(dynamodb, WeightLimits(6000))
    for n in range(60):
        budget.take(20, later(n / 2))
    item = dynamodb.get_item(TableName=TABLE, Key=KEY)["Item"]
    assert sum(len(name) + len(next(iter(value.values()))) for name, value in item.items()) < 1024
    assert int(item["ttl"]["N"]) > T0.timestamp() + 86_400
    dynamodb.delete_item(TableName=TABLE, Key=KEY)
    assert budget.take(6000, later(3600), Priority.EXIT).weight == 6000


def test_many_functions_at_once_get_no_more_than_there_is(dynamodb: Any) -> None:
    def function(n: int) -> list[WeightGrant]:
        budget, grants = shared(dynamodb, WeightLimits(100, reserve_frac=0.0)), []
        for step in range(6):
            try:
                grants.append(budget.take(7, later(step), least=7))
            except RateLimitedError:
                break
        return grants

    with ThreadPoolExecutor(6) as pool:
        found = [grant for grants in pool.map(function, range(6)) for grant in grants]
    assert len(found) == 14
    assert len({grant.id for grant in found}) == 14


def test_threads_of_one_purse_spend_each_weight_once(dynamodb: Any) -> None:
    purse = WeightPurse(shared(dynamodb, WeightLimits(40, reserve_frac=0.0)), 10)

    def spend(_: int) -> bool:
        try:
            purse.spend(1, T0)
        except RateLimitedError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(spend, range(60))) == 40


def test_a_table_that_is_not_there_or_does_not_answer(dynamodb: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = DynamoDbWeightBudget("no-such-table", dynamodb, "roostoo", LIMITS)
    with pytest.raises(RetryableError, match="no-such-table: the request budget of roostoo cannot be read"):
        missing.take(1, T0)
    budget = shared(dynamodb)
    budget.take(1, T0)
    with monkeypatch.context() as broken:
        broken.setattr(dynamodb, "put_item", lambda **_: (_ for _ in ()).throw(ReadTimeoutError(endpoint_url="https://table")))
        with pytest.raises(RetryableError, match="cannot be written"):
            budget.take(1, later(1))
    assert budget.take(1, later(2)).weight == 1


def test_a_refused_write_that_does_not_say_what_is_there_is_followed_by_a_read(dynamodb: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = shared(dynamodb), shared(dynamodb)
    one.take(4, T0)
    other.take(10, T0)
    put = dynamodb.put_item

    def terse(**request: Any) -> Any:
        return put(**{name: value for name, value in request.items() if name != "ReturnValuesOnConditionCheckFailure"})

    monkeypatch.setattr(dynamodb, "put_item", terse)
    assert one.take(100, T0).weight == 10


def test_writers_that_never_let_us_through(dynamodb: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    budget, other = shared(dynamodb, WeightLimits(6000)), shared(dynamodb, WeightLimits(6000))
    put, slept = dynamodb.put_item, []
    monkeypatch.setattr(budget, "_sleep", slept.append)

    def always_second(**request: Any) -> Any:
        monkeypatch.setattr(dynamodb, "put_item", put)
        other.take(1, T0)
        monkeypatch.setattr(dynamodb, "put_item", always_second)
        return put(**request)

    monkeypatch.setattr(dynamodb, "put_item", always_second)
    with pytest.raises(RetryableError, match=f"written to by others {TRIES} times"):
        budget.take(1, T0)
    assert sum(slept) < 2.0
