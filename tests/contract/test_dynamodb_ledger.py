"""What the DynamoDB ledger does beyond the contract: pages, races, failures, limits, the number of calls."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from desk_values import DESK, T0, TABLE, D, a_fill, a_position, an_equity_row, an_order, at

from tickless.adapters.dynamodb_ledger import DynamoDbLedger
from tickless.errors import FencedError, LeaseHeldError, LedgerError, TickRecordedError
from tickless.ports import Fence
from tickless.types import LedgerUpdate, OrderStatus, Tick, TickRecord


@pytest.fixture
def ledger(dynamodb: Any) -> DynamoDbLedger:
    return DynamoDbLedger(TABLE, dynamodb, sleep=lambda _: None)


def cancelled(*codes: str) -> ClientError:
    reasons = [{"Code": code} for code in codes]
    answer: Any = {"Error": {"Code": "TransactionCanceledException", "Message": "cancelled"}, "CancellationReasons": reasons}
    return ClientError(answer, "TransactWriteItems")


def test_the_state_and_the_history_may_fill_many_pages(ledger: DynamoDbLedger, calls: list[str]) -> None:
    fence = ledger.acquire("first", T0, 60)
    orders = [replace(an_order(n), reason="x" * 30_000) for n in range(90)]
    ledger.journal(fence, [LedgerUpdate(desk=DESK), *(LedgerUpdate(orders=(order,)) for order in orders)])
    fills = [replace(a_fill(n, n), fee_asset="x" * 30_000) for n in range(90)]
    ledger.journal(fence, [LedgerUpdate(fills=(fill,)) for fill in fills])
    calls.clear()
    loaded = ledger.load()
    assert loaded is not None
    assert list(loaded.orders.values()) == orders
    assert list(ledger.fills()) == fills
    assert calls.count("Query") >= 6


def test_a_transaction_stays_below_four_megabytes(ledger: DynamoDbLedger, calls: list[str]) -> None:
    fence = ledger.acquire("first", T0, 60)
    orders = [replace(an_order(n), reason="x" * 300_000) for n in range(30)]
    calls.clear()
    ledger.journal(fence, [LedgerUpdate(orders=(order,)) for order in orders])
    assert calls == ["TransactWriteItems"] * 3
    assert list(ledger.orders()) == orders


def test_an_item_too_large_is_refused_before_anything_is_written(ledger: DynamoDbLedger, calls: list[str]) -> None:
    fence = ledger.acquire("first", T0, 60)
    calls.clear()
    with pytest.raises(LedgerError, match=r"item NOW#ORDER#.*#o-00150: 4\d\d\d\d\d bytes exceed"):
        ledger.journal(
            fence,
            [
                *(LedgerUpdate(orders=(an_order(n),)) for n in range(150)),
                LedgerUpdate(orders=(replace(an_order(150), reason="x" * 400_000),)),
            ],
        )
    assert calls == []


def test_a_tick_costs_few_calls(ledger: DynamoDbLedger, calls: list[str]) -> None:
    fence = ledger.acquire("first", T0, 60)
    ledger.load()
    ledger.journal(
        fence, [LedgerUpdate(desk=DESK, equity=an_equity_row()), LedgerUpdate(record=TickRecord(Tick(T0, "risk_check"), "done", 1))]
    )
    ledger.release(fence)
    assert calls == ["UpdateItem", "Query", "TransactWriteItems", "UpdateItem"]


def test_what_a_transaction_asks_for(ledger: DynamoDbLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(ledger._client, "transact_write_items", lambda **request: sent.append(request["TransactItems"]))
    fence = ledger.acquire("first", T0, 60)
    tick = Tick(T0, "risk_check")
    updates = [LedgerUpdate(fills=(a_fill(),), record=TickRecord(tick, "journaled", 1)), LedgerUpdate(record=TickRecord(tick, "done", 1))]
    ledger.journal(fence, updates)
    (writes,) = sent
    assert writes[0]["ConditionCheck"]["ExpressionAttributeValues"] == {":number": {"N": "1"}}
    conditions = {write["Put"]["Item"]["sk"]["S"].split("#")[1]: write["Put"].get("ConditionExpression") for write in writes[1:]}
    assert conditions == {"FILL": "attribute_not_exists(sk)", "TICK": "attribute_not_exists(sk)"}


def test_of_many_who_want_the_lease_one_gets_it(ledger: DynamoDbLedger) -> None:
    def acquire(n: int) -> int | None:
        try:
            return ledger.acquire(f"owner {n}", T0, 60).number
        except LeaseHeldError:
            return None

    for round_ in range(1, 4):
        with ThreadPoolExecutor(8) as pool:
            numbers = [number for number in pool.map(acquire, range(16)) if number is not None]
        assert numbers == [round_]
        ledger.release(Fence(round_, "whoever won"))


def test_of_many_who_record_one_tick_one_does_and_the_rest_write_nothing(ledger: DynamoDbLedger) -> None:
    fence = ledger.acquire("first", T0, 60)
    tick = Tick(T0, "full_rebalance")

    def journal(n: int) -> bool:
        try:
            ledger.journal(fence, [LedgerUpdate(orders=(an_order(n),), record=TickRecord(tick, "journaled", 1, (f"o-{n:05d}",)))])
        except TickRecordedError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = [n for n, done in enumerate(pool.map(journal, range(16))) if done]
    record = ledger.tick(tick)
    assert record is not None
    assert record.intents == tuple(f"o-{n:05d}" for n in won)
    assert [order.client_order_id for order in ledger.orders()] == [f"o-{won[0]:05d}"]


def test_a_writer_overtaken_between_two_chunks_stops_there(ledger: DynamoDbLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    fence = ledger.acquire("first", T0, 60)
    send = ledger._client.transact_write_items

    def overtaken(**request: Any) -> Any:
        answer = send(**request)
        monkeypatch.undo()
        ledger.acquire("second", T0 + timedelta(seconds=60), 60)
        return answer

    monkeypatch.setattr(ledger._client, "transact_write_items", overtaken)
    with pytest.raises(FencedError):
        ledger.journal(fence, [LedgerUpdate(orders=(an_order(n),)) for n in range(150)])
    assert len(list(ledger.orders())) == 99


def test_a_lost_answer_to_acquire_is_not_a_lost_lease(ledger: DynamoDbLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    send = ledger._client.update_item

    def twice(**request: Any) -> Any:
        send(**request)
        return send(**request)

    monkeypatch.setattr(ledger._client, "update_item", twice)
    assert ledger.acquire("first", T0, 60).number == 1


@pytest.mark.parametrize("conflicts", [1, 5, 6])
def test_a_collision_is_tried_again_a_few_times(ledger: DynamoDbLedger, monkeypatch: pytest.MonkeyPatch, conflicts: int) -> None:
    fence = ledger.acquire("first", T0, 60)
    send, tries = ledger._client.transact_write_items, []

    def collide(**request: Any) -> Any:
        tries.append(request)
        if len(tries) <= conflicts:
            raise cancelled("TransactionConflict", "None")
        return send(**request)

    monkeypatch.setattr(ledger._client, "transact_write_items", collide)
    if conflicts < 6:
        ledger.journal(fence, [LedgerUpdate(desk=DESK)])
        assert ledger.load() == DESK
    else:
        with pytest.raises(LedgerError, match="another transaction kept hold"):
            ledger.journal(fence, [LedgerUpdate(desk=DESK)])
    assert len(tries) == min(conflicts + 1, 6)


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        (("ConditionalCheckFailed", "ConditionalCheckFailed", "ConditionalCheckFailed"), FencedError),
        (("None", "ConditionalCheckFailed", "ConditionalCheckFailed"), TickRecordedError),
        (("None", "ConditionalCheckFailed", "None"), LedgerError),
        (("None", "ThrottlingError", "None"), LedgerError),
        (("None", "TransactionConflict", "ConditionalCheckFailed"), TickRecordedError),
    ],
)
def test_each_reason_has_its_error(
    ledger: DynamoDbLedger, monkeypatch: pytest.MonkeyPatch, codes: tuple[str, ...], expected: type[LedgerError]
) -> None:
    fence = ledger.acquire("first", T0, 60)

    def refuse(**_: Any) -> Any:
        raise cancelled(*codes)

    monkeypatch.setattr(ledger._client, "transact_write_items", refuse)
    with pytest.raises(LedgerError) as caught:
        ledger.journal(fence, [LedgerUpdate(fills=(a_fill(),), record=TickRecord(Tick(T0, "risk_check"), "done", 1))])
    assert type(caught.value) is expected


def test_every_other_failure_is_a_ledger_error(ledger: DynamoDbLedger, dynamodb: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fence = ledger.acquire("first", T0, 60)
    record = TickRecord(Tick(T0, "retrain"), "done", 0)

    def down(*_: Any, **__: Any) -> Any:
        raise ReadTimeoutError(endpoint_url="https://dynamodb")

    operations = [
        lambda on: on.acquire("second", at(5), 60),
        lambda on: on.release(fence),
        lambda on: on.load(),
        lambda on: on.tick(record.tick),
        lambda on: on.journal(fence, [LedgerUpdate(desk=DESK)]),
        lambda on: on.record_unfenced(record),
        lambda on: list(on.orders()),
    ]
    elsewhere = DynamoDbLedger("no-such-table", dynamodb)
    for operation in operations:
        with pytest.raises(LedgerError, match="table no-such-table: "):
            operation(elsewhere)
    monkeypatch.setattr(ledger._client, "_make_api_call", down)
    for operation in operations:
        with pytest.raises(LedgerError, match=f"table {TABLE}: .* failed: "):
            operation(ledger)


def test_a_poll_for_the_lease_that_collides_with_a_write_is_tried_again_later(
    ledger: DynamoDbLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def collide(**_: Any) -> Any:
        raise ClientError({"Error": {"Code": "TransactionConflictException", "Message": "ongoing"}}, "UpdateItem")

    monkeypatch.setattr(ledger._client, "update_item", collide)
    with pytest.raises(LeaseHeldError):
        ledger.acquire("second", T0, 60)


def test_the_keys_are_those_of_the_decision_page(ledger: DynamoDbLedger, dynamodb: Any) -> None:
    fence = ledger.acquire("first", T0, 60)
    update = LedgerUpdate(
        desk=DESK,
        orders=(an_order(),),
        positions=(a_position(),),
        fills=(a_fill(),),
        equity=an_equity_row(),
        record=TickRecord(Tick(T0, "risk_check"), "journaled", 1),
        settings={"risk": "{}"},
    )
    ledger.journal(fence, [update])
    rows = dynamodb.scan(TableName=TABLE)["Items"]
    assert {row["pk"]["S"] for row in rows} == {"DESK"}
    assert sorted(row["sk"]["S"] for row in rows) == [
        "LEASE",
        "LOG#EQUITY#2024-06-01T00:00:00.000000Z",
        "LOG#FILL#2024-06-01T00:00:00.000000Z#f-00001#BTC/USDT",
        "LOG#TICK#2024-06-01T00:00:00.000000Z#risk_check",
        "NOW#DESK",
        "NOW#ORDER#2024-06-01T00:00:00.000000Z#o-00001",
        "NOW#POSITION#BTC/USDT",
        "NOW#SETTINGS#risk",
    ]


def test_items_of_before_are_read_without_what_they_lack(ledger: DynamoDbLedger, dynamodb: Any) -> None:
    """A desk that was deployed before there were fill ids, mismatches that last, or flattens."""
    fence = ledger.acquire("first", T0, 60)
    order = replace(an_order(1, 0, OrderStatus.OPEN), filled_qty=D("0.02"))
    ledger.journal(fence, [LedgerUpdate(desk=DESK, orders=(order,))])
    for row in dynamodb.scan(TableName=TABLE)["Items"]:
        for name in ("fill_ids", "reducing", "external", "flatten", "accept", "quarantined", "taken_at_ms"):
            row.pop(name, None)
        dynamodb.put_item(TableName=TABLE, Item=row)
    assert ledger.load() == replace(DESK, orders={"o-00001": order})
    with pytest.raises(LeaseHeldError):
        ledger.acquire("first", T0, 60, "request-1")


def test_an_item_with_a_part_missing_is_named(ledger: DynamoDbLedger, dynamodb: Any) -> None:
    dynamodb.put_item(TableName=TABLE, Item={"pk": {"S": "DESK"}, "sk": {"S": "NOW#DESK"}, "cash": {"S": "1"}})
    with pytest.raises(LedgerError, match=r"DeskScalars\.peak_equity: missing"):
        ledger.load()
    dynamodb.put_item(TableName=TABLE, Item={"pk": {"S": "DESK"}, "sk": {"S": "NOW#OTHER"}})
    with pytest.raises(LedgerError, match="'NOW#OTHER'"):
        list(ledger._query("NOW#OTHER"))
