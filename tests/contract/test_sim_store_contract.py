"""What every store of the simulated account promises."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from desk_values import TABLE, TABLES

from tickless.adapters.dynamodb_sim import DynamoDbSimStore
from tickless.adapters.memory import MemorySimStore
from tickless.adapters.sim_exchange import SimStore
from tickless.errors import LedgerError, RetryableError


@pytest.fixture(params=["memory", *TABLES])
def store(request: pytest.FixtureRequest) -> SimStore:
    return MemorySimStore() if request.param == "memory" else DynamoDbSimStore(TABLE, request.getfixturevalue(request.param))


def test_an_empty_store(store: SimStore) -> None:
    assert store.load() is None
    assert store.order("o-1") is None


def test_account_and_orders_are_saved_together(store: SimStore) -> None:
    store.save(0, '{"USDT": "50000.10"}', {"o-1": "open", "o-2": "open"})
    store.save(1, '{"USDT": "1"}', {"o-1": "filled"})
    assert store.load() == (2, '{"USDT": "1"}')
    assert (store.order("o-1"), store.order("o-2"), store.order("o-3")) == ("filled", "open", None)


@pytest.mark.parametrize("stale", [0, 1, 3])
def test_a_save_over_another_version_saves_nothing(store: SimStore, stale: int) -> None:
    store.save(0, "a", {})
    store.save(1, "b", {})
    with pytest.raises(RetryableError, match=f"version {stale} was replaced"):
        store.save(stale, "c", {"o-1": "open"})
    assert store.load() == (2, "b")
    assert store.order("o-1") is None


def test_of_many_savers_at_once_one_wins(store: SimStore) -> None:
    def save(n: int) -> bool:
        try:
            store.save(0, f"account {n}", {f"o-{n}": "open"})
        except RetryableError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = [n for n, done in enumerate(pool.map(save, range(16))) if done]
    assert len(won) == 1
    assert store.load() == (1, f"account {won[0]}")
    assert [n for n in range(16) if store.order(f"o-{n}")] == won


def test_what_no_transaction_holds_is_refused(dynamodb: Any) -> None:
    store = DynamoDbSimStore(TABLE, dynamodb)
    with pytest.raises(LedgerError, match="item ACCOUNT of 4000"):
        store.save(0, "x" * 400_000, {})
    store.save(0, "a", {f"o-{n}": "open" for n in range(99)})
    assert store.order("o-98") == "open"


@pytest.mark.parametrize("count", [100, 250])
def test_more_orders_than_a_transaction_holds_are_saved_before_their_account(
    dynamodb: Any, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    store = DynamoDbSimStore(TABLE, dynamodb)
    orders = {f"o-{n}": f"filled {n}" for n in range(count)}
    store.save(0, "a", {})
    store.save(1, "b", orders)
    assert store.load() == (2, "b")
    assert [store.order(name) for name in orders] == list(orders.values())
    with pytest.raises(RetryableError, match="version 1 was replaced meanwhile"):
        store.save(1, "c", dict.fromkeys(orders, "another's"))
    assert [store.order(name) for name in orders] == list(orders.values())

    calls = []

    def die(**request: Any) -> None:
        calls.append(request)
        raise EndpointConnectionError(endpoint_url="https://dynamodb")

    monkeypatch.setattr(dynamodb, "transact_write_items", die)
    with pytest.raises(RetryableError, match="cannot be saved"):
        store.save(2, "d", orders)
    assert len(calls) == 1
    assert store.load() == (2, "b"), "the account comes last"


def test_a_table_that_is_not_there(dynamodb: Any) -> None:
    store = DynamoDbSimStore("no-such-table", dynamodb)
    with pytest.raises(RetryableError, match="no-such-table"):
        store.load()
    with pytest.raises(RetryableError, match="no-such-table"):
        store.save(0, "a", {})
