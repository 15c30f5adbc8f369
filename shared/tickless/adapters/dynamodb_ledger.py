"""The ledger in one DynamoDB table. Its keys are in ``ledger_items``, the reasons in ``docs/decisions/0009-one-table.md``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from heapq import merge
from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import BotoCoreError, ClientError

from tickless.adapters import codec
from tickless.adapters import ledger_items as items
from tickless.adapters.aws_errors import cancellation_codes, code_of
from tickless.errors import LeaseHeldError, LedgerError, TickRecordedError
from tickless.ports import RETAKE_AFTER_S, Fence
from tickless.types import DeskState, EquityRow, Fill, LedgerUpdate, Order, Tick, TickRecord, Trade, from_ms, iso, to_ms

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

MAX_TRANSACTION_BYTES = 3_900_000
"""Below the 4 MB of a transaction, as our count of an item's size is an estimate."""
CONFLICT_TRIES = 6
CONFLICT_PAUSE_S = 0.05
Item = Mapping[str, Any]


class DynamoDbLedger:
    """The Ledger port on a table with keys ``pk`` and ``sk``. ``client`` is boto3's low-level DynamoDB client.

    A transaction that collides with another (a tick that polls for the lease, say) is tried again a few times, up to 1.5 s in all; every
    other failure is a LedgerError that says whether anything can have been written.
    """

    def __init__(self, table_name: str, client: DynamoDBClient, sleep: Callable[[float], None] = time.sleep) -> None:
        self._table = table_name
        self._client = client
        self._sleep = sleep

    def acquire(self, owner: str, now: datetime, ttl_s: int, invocation: str = "") -> Fence:
        """See ``Ledger.acquire``. The token recognises our own request where the SDK repeated it after a lost answer."""
        token = os.urandom(8).hex()
        try:
            answer = self._client.update_item(
                TableName=self._table,
                Key=_key(items.LEASE),
                **_taking(owner, token, to_ms(now), ttl_s, invocation),
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
            lease: Item = answer["Attributes"]
        except ClientError as error:
            lease = cast(Item, error.response.get("Item", {}))
            if code_of(error) == "TransactionConflictException":
                raise LeaseHeldError(f"the lease is being written to; {owner} tries again") from error
            if code_of(error) != "ConditionalCheckFailedException":
                raise self._failed("acquire", error) from error
            if lease.get("token", {}).get("S") != token:
                raise _held(lease) from error
        except BotoCoreError as error:
            raise self._failed("acquire", error) from error
        return Fence(int(lease["number"]["N"]), owner, from_ms(int(lease["expires_at_ms"]["N"])))

    def release(self, fence: Fence, free_at: datetime | None = None) -> None:
        """See ``Ledger.release``. A failure is raised: the lease is then free once it expires."""
        free = {} if free_at is None else {":free": {"N": str(to_ms(free_at))}}
        try:
            self._client.update_item(
                TableName=self._table,
                Key=_key(items.LEASE),
                UpdateExpression="SET expires_at_ms = :free" if free else "REMOVE expires_at_ms",
                ConditionExpression="#number = :number",
                ExpressionAttributeNames={"#number": "number"},
                ExpressionAttributeValues={":number": {"N": str(fence.number)}} | free,
            )
        except ClientError as error:
            if code_of(error) != "ConditionalCheckFailedException":
                raise self._failed("release", error) from error
        except BotoCoreError as error:
            raise self._failed("release", error) from error

    def load(self) -> DeskState | None:
        """See ``Ledger.load``: one strongly consistent query of ``NOW#``."""
        return items.restore(self._query(items.NOW))

    def tick(self, tick: Tick) -> TickRecord | None:
        """See ``Ledger.tick``."""
        try:
            answer = self._client.get_item(TableName=self._table, Key=_key(items.tick_key(tick)), ConsistentRead=True)
        except (ClientError, BotoCoreError) as error:
            raise self._failed("get_item", error) from error
        return codec.decode(TickRecord, answer["Item"]) if "Item" in answer else None

    def journal(self, fence: Fence, updates: Sequence[LedgerUpdate]) -> None:
        """See ``Ledger.journal``. Updates are planned before anything is written, so one that is impossible writes nothing."""
        planned = [items.plan_update(update) for update in updates]
        batches = [(batch, [self._write(action) for action in batch]) for batch in items.pack(planned, self._size, MAX_TRANSACTION_BYTES)]
        for batch, writes in batches:
            self._transact(fence, batch, writes)

    def record_unfenced(self, record: TickRecord) -> None:
        """See ``Ledger.record_unfenced``."""
        action = items.plan_record(record)
        try:
            self._client.put_item(**self._write(action)["Put"])
        except ClientError as error:
            if code_of(error) == "ConditionalCheckFailedException":
                raise items.refusal(action) from error
            raise self._failed("put_item", error) from error
        except BotoCoreError as error:
            raise self._failed("put_item", error) from error

    def orders(self) -> Iterator[Order]:
        """See ``Ledger.orders``: two queries, merged. Open orders are read first, so one that closes meanwhile is seen as closed."""
        open_orders = [((order.tick_at, order.client_order_id), 1, order) for _, order in self._query(items.NOW_ORDER)]
        closed = (((order.tick_at, order.client_order_id), 0, order) for _, order in self._query(items.LOG_ORDER))
        last = None
        for key, _, order in merge(closed, open_orders, key=lambda entry: entry[:2]):
            if key != last:
                yield order
            last = key

    def ended(self, at: datetime) -> frozenset[str]:
        """See ``Ledger.ended``: one query, of that time's orders alone."""
        return frozenset(order.client_order_id for _, order in self._query(items.ended_prefix(at)))

    def fills(self) -> Iterator[Fill]:
        """See ``Ledger.fills``."""
        return (fill for _, fill in self._query(items.LOG_FILL))

    def trades(self) -> Iterator[Trade]:
        """See ``Ledger.trades``."""
        return (trade for _, trade in self._query(items.LOG_TRADE))

    def equity(self) -> Iterator[EquityRow]:
        """See ``Ledger.equity``."""
        return (row for _, row in self._query(items.LOG_EQUITY))

    def ticks(self) -> Iterator[TickRecord]:
        """See ``Ledger.ticks``."""
        return items.in_order_of_effect(record for _, record in self._query(items.LOG_TICK))

    def _query(self, prefix: str) -> Iterator[tuple[str, Any]]:
        """All items under a prefix by key, page by page, strongly consistent."""
        request: dict[str, Any] = {
            "TableName": self._table,
            "KeyConditionExpression": "pk = :pk AND begins_with(sk, :prefix)",
            "ExpressionAttributeValues": {":pk": {"S": items.PARTITION}, ":prefix": {"S": prefix}},
            "ConsistentRead": True,
        }
        while True:
            try:
                page = self._client.query(**request)
            except (ClientError, BotoCoreError) as error:
                raise self._failed("query", error) from error
            for item in page["Items"]:
                key = item["sk"]["S"]
                yield key, codec.decode(items.value_type(key), item)
            if "LastEvaluatedKey" not in page:
                return
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def _write(self, action: items.Action) -> dict[str, Any]:
        """The action as an element of TransactWriteItems; raises LedgerError for an item over 400 KB."""
        if action.value is None:
            return {"Delete": {"TableName": self._table, "Key": _key(action.key)}}
        item = _key(action.key) | codec.encode(action.value)
        size = codec.item_bytes(item)
        if size > codec.MAX_ITEM_BYTES:
            raise LedgerError(f"item {action.key}: {size} bytes exceed the {codec.MAX_ITEM_BYTES} bytes of an item")
        put: dict[str, Any] = {"TableName": self._table, "Item": item}
        if action.new:
            put["ConditionExpression"] = "attribute_not_exists(sk)"
        if action.over_journaled:
            put["ConditionExpression"] += " OR #status = :journaled"
            put["ExpressionAttributeNames"] = {"#status": "status"}
            put["ExpressionAttributeValues"] = {":journaled": {"S": items.JOURNALED}}
        return {"Put": put}

    def _size(self, action: items.Action) -> int:
        return codec.item_bytes(self._write(action).get("Put", {}).get("Item", {})) + len(action.key)

    def _transact(self, fence: Fence, batch: Sequence[items.Action], writes: Sequence[dict[str, Any]]) -> None:
        check = {
            "ConditionCheck": {
                "TableName": self._table,
                "Key": _key(items.LEASE),
                "ConditionExpression": "#number = :number",
                "ExpressionAttributeNames": {"#number": "number"},
                "ExpressionAttributeValues": {":number": {"N": str(fence.number)}},
            }
        }
        for attempt in range(CONFLICT_TRIES):
            if attempt:
                self._sleep(CONFLICT_PAUSE_S * 2 ** (attempt - 1))
            try:
                self._client.transact_write_items(TransactItems=cast(Any, [check, *writes]))
            except ClientError as error:
                codes = cancellation_codes(error)
                _raise_refusal(fence, batch, codes, error)
                if "TransactionConflict" not in codes and code_of(error) != "TransactionInProgressException":
                    raise self._failed("transact_write_items", error) from error
            except BotoCoreError as error:
                raise self._failed("transact_write_items", error) from error
            else:
                return
        raise LedgerError(f"table {self._table}: another transaction kept hold of our items; nothing was written")

    def _failed(self, call: str, error: Exception) -> LedgerError:
        return LedgerError(f"table {self._table}: {call} failed: {error}")


def _key(sk: str) -> dict[str, Any]:
    return {"pk": {"S": items.PARTITION}, "sk": {"S": sk}}


def _taking(owner: str, token: str, now_ms: int, ttl_s: int, invocation: str) -> dict[str, Any]:
    """The expressions that take the lease where it is free, abandoned, or of this very invocation's killed attempt."""
    values = {
        ":owner": {"S": owner},
        ":token": {"S": token},
        ":now": {"N": str(now_ms)},
        ":expires": {"N": str(now_ms + ttl_s * 1000)},
        ":one": {"N": "1"},
    }
    names = {"#owner": "owner", "#token": "token", "#number": "number"}
    update = "SET #owner = :owner, #token = :token, taken_at_ms = :now, expires_at_ms = :expires"
    condition = "attribute_not_exists(expires_at_ms) OR expires_at_ms <= :now"
    if invocation:
        update += ", invocation = :invocation ADD #number :one"
        condition += " OR (invocation = :invocation AND taken_at_ms <= :retakable)"
        values |= {":invocation": {"S": invocation}, ":retakable": {"N": str(now_ms - RETAKE_AFTER_S * 1000)}}
    else:
        update += " REMOVE invocation ADD #number :one"
    return {
        "UpdateExpression": update,
        "ConditionExpression": condition,
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": values,
    }


def _held(lease: Item) -> LeaseHeldError:
    owner = lease.get("owner", {}).get("S", "somebody")
    until = lease.get("expires_at_ms", {}).get("N")
    return LeaseHeldError(f"the lease is held by {owner}" + (f" until {iso(from_ms(int(until)))}" if until else ""))


def _raise_refusal(fence: Fence, batch: Sequence[items.Action], codes: Sequence[str], error: ClientError) -> None:
    """Raise what a failed condition means; the first code belongs to the fence. Nothing to raise for other reasons."""
    failed = [n for n, code in enumerate(codes) if code == "ConditionalCheckFailed"]
    if 0 in failed:
        raise items.fenced(fence.number) from error
    refusals = [items.refusal(batch[n - 1]) for n in failed]
    for refused in refusals:
        if isinstance(refused, TickRecordedError):
            raise refused from error
    if refusals:
        raise refusals[0] from error
