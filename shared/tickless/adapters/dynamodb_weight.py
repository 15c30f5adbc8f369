"""``ports.WeightBudget`` in the desk's table: one item an exchange, one conditional write a change.

The item's version is the condition, so two functions never grant the same weight. A refused write answers with the item as it is, and a
process remembers the item of its last write: a read is needed once a cold start.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar, cast

from botocore.exceptions import BotoCoreError, ClientError

from tickless.adapters.aws_errors import code_of
from tickless.adapters.weight_budget import (
    QUIET_MS,
    WINDOW_MS,
    Block,
    BudgetState,
    WeightLimits,
    grant_block,
    limit_state,
    settle_block,
)
from tickless.errors import RetryableError
from tickless.ports import Priority, WeightGrant
from tickless.types import from_ms, to_ms

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

T = TypeVar("T")

PARTITION = "WEIGHT"
TRIES = 12
"""Of writers at once, one gets through each time; the desk has at most as many functions."""
_FORGET_S = 86_400
"""After this long without a write the item says nothing that its absence does not: see ``_ttl_s``."""


class DynamoDbWeightBudget:
    """The WeightBudget port on a table with keys ``pk`` and ``sk``. ``client`` is boto3's low-level DynamoDB client."""

    def __init__(
        self, table_name: str, client: DynamoDBClient, exchange: str, limits: WeightLimits, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._table = table_name
        self._client = client
        self._key: dict[str, Any] = {"pk": {"S": PARTITION}, "sk": {"S": exchange}}
        self._limits = limits
        self._sleep = sleep
        self._known: tuple[int, BudgetState] | None = None

    def take(self, weight: int, at: datetime, priority: Priority = Priority.ORDINARY, least: int = 1) -> WeightGrant:
        """See ``WeightBudget.take``: one conditional write; none where it is refused."""
        return self._change(lambda state, new_id: grant_block(state, self._limits, new_id, weight, to_ms(at), priority, least))[1]

    def give_back(self, grant: WeightGrant, used: int, at: datetime) -> None:
        """See ``WeightBudget.give_back``: one conditional write."""
        self._change(lambda state, _: (settle_block(state, grant, used, to_ms(at)), None))

    def limited(self, at: datetime, retry_after_s: float | None, *, banned: bool = False) -> datetime:
        """See ``WeightBudget.limited``: one conditional write."""
        state, _ = self._change(lambda state, _: (limit_state(state, self._limits, to_ms(at), retry_after_s, banned=banned), None))
        return from_ms(state.blocked_until_ms)

    def _change(self, change: Callable[[BudgetState, str], tuple[BudgetState, T]]) -> tuple[BudgetState, T]:
        """Apply a change to the latest state. What ``change`` refuses is asked again of the table if the state was a remembered one."""
        remembered = self._known is not None
        version, state = self._known or self._read()
        for attempt in range(TRIES):
            if attempt > 1:
                self._sleep(random.uniform(0.0, 0.02 * attempt))
            try:
                changed, result = change(state, str(version))
            except RetryableError:
                if not remembered:
                    raise
                remembered = False
                version, state = self._read()
                continue
            current = self._write(version, changed)
            if current is None:
                self._known = version + 1, changed
                return changed, result
            remembered = False
            version, state = self._known = current
        raise RetryableError(f"table {self._table}: the request budget of {self._key['sk']['S']} was written to by others {TRIES} times")

    def _read(self) -> tuple[int, BudgetState]:
        try:
            answer = self._client.get_item(TableName=self._table, Key=self._key, ConsistentRead=True)
        except (ClientError, BotoCoreError) as error:
            raise self._failed("read", error) from error
        self._known = _decode(answer.get("Item", {}))
        return self._known

    def _write(self, version: int, state: BudgetState) -> tuple[int, BudgetState] | None:
        """Put the state as ``version + 1``; what is there instead where somebody else was faster."""
        condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(sk)"}
        if version:
            condition = {
                "ConditionExpression": "#version = :version",
                "ExpressionAttributeNames": {"#version": "version"},
                "ExpressionAttributeValues": {":version": {"N": str(version)}},
            }
        try:
            self._client.put_item(
                TableName=self._table,
                Item=self._key | _encode(version + 1, state),
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
                **condition,
            )
        except ClientError as error:
            if code_of(error) != "ConditionalCheckFailedException":
                raise self._failed("written", error) from error
            found = cast("Mapping[str, Any]", error.response.get("Item", {}))
            return _decode(found) if found else self._read()
        except BotoCoreError as error:
            raise self._failed("written", error) from error
        return None

    def _failed(self, what: str, error: Exception) -> RetryableError:
        self._known = None
        return RetryableError(f"table {self._table}: the request budget of {self._key['sk']['S']} cannot be {what}: {error}")


def _encode(version: int, state: BudgetState) -> dict[str, Any]:
    return {
        "version": {"N": str(version)},
        "blocks": {"S": ",".join(f"{block.until_ms}:{block.weight}:{block.id}" for block in state.blocks)},
        "level": {"N": str(state.level)},
        "limited_ms": {"N": str(state.limited_ms)},
        "blocked_until_ms": {"N": str(state.blocked_until_ms)},
        "ttl": {"N": str(_ttl_s(state))},
    }


def _ttl_s(state: BudgetState) -> int:
    """A day after everything has come back and the limit is whole again."""
    last_ms = max((block.until_ms for block in state.blocks), default=0)
    quiet_ms = max(state.limited_ms, state.blocked_until_ms) + QUIET_MS + 10 * WINDOW_MS
    return max(last_ms, quiet_ms) // 1000 + _FORGET_S


def _decode(item: Mapping[str, Any]) -> tuple[int, BudgetState]:
    """(version, state); (0, a fresh one) of an item that is not there."""
    if not item:
        return 0, BudgetState()
    parts = [text.split(":") for text in item["blocks"]["S"].split(",") if text]
    blocks = tuple(Block(int(until_ms), int(weight), block_id) for until_ms, weight, block_id in parts)
    numbers = {name: int(item[name]["N"]) for name in ("level", "limited_ms", "blocked_until_ms")}
    return int(item["version"]["N"]), BudgetState(blocks, **numbers)
