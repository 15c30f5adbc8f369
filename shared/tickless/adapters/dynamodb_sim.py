"""Where the simulated exchange keeps its account in dry-run: partition ``SIM`` of the desk's table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import BotoCoreError, ClientError

from tickless.adapters.aws_errors import cancellation_codes
from tickless.adapters.codec import MAX_ITEM_BYTES, item_bytes
from tickless.adapters.ledger_items import MAX_ACTIONS
from tickless.errors import LedgerError, RetryableError

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

PARTITION = "SIM"
ACCOUNT = "ACCOUNT"
BESIDE_ACCOUNT = MAX_ACTIONS - 1
"""Orders that one transaction holds beside the account."""
CONFLICT_CODES = frozenset({"ConditionalCheckFailed", "TransactionConflict"})


class DynamoDbSimStore:
    """The SimStore of the simulated exchange on the desk's table. ``client`` is boto3's low-level DynamoDB client."""

    def __init__(self, table_name: str, client: DynamoDBClient) -> None:
        self._table = table_name
        self._client = client

    def load(self) -> tuple[int, str] | None:
        """The version and text of the account; None where there is none yet. Strongly consistent. Raises RetryableError."""
        item = self._get(ACCOUNT)
        return (int(item["version"]["N"]), item["content"]["S"]) if item else None

    def order(self, client_order_id: str) -> str | None:
        """The text of an order, or None. Raises RetryableError."""
        item = self._get(f"ORDER#{client_order_id}")
        return str(item["content"]["S"]) if item else None

    def save(self, version: int, account: str, orders: Mapping[str, str]) -> None:
        """Store account and orders as ``version + 1`` in one transaction, unless the stored version is not ``version`` (0 = none yet).

        Of more orders than fit beside the account, the first are written before it: what has become of them follows from the account as it
        was, so who takes it up again comes to the same. An order that has just come is the last. Raises RetryableError, the account not
        being saved, and LedgerError for an item that is too large.
        """
        condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(sk)"}
        if version:
            condition = {
                "ConditionExpression": "#version = :version",
                "ExpressionAttributeNames": {"#version": "version"},
                "ExpressionAttributeValues": {":version": {"N": str(version)}},
            }
        saved = {"Put": self._put(ACCOUNT, {"version": {"N": str(version + 1)}, "content": {"S": account}}) | condition}
        unsaved = {"ConditionCheck": {"TableName": self._table, "Key": _key(ACCOUNT)} | condition}
        puts = [{"Put": self._put(f"ORDER#{name}", {"content": {"S": text}})} for name, text in orders.items()]
        while len(puts) > BESIDE_ACCOUNT:
            ahead = min(BESIDE_ACCOUNT, len(puts) - BESIDE_ACCOUNT)
            self._transact(version, [unsaved, *puts[:ahead]])
            puts = puts[ahead:]
        self._transact(version, [saved, *puts])

    def _transact(self, version: int, actions: Sequence[Mapping[str, Any]]) -> None:
        try:
            self._client.transact_write_items(TransactItems=cast(Any, actions))
        except ClientError as error:
            if CONFLICT_CODES & set(cancellation_codes(error)):
                raise RetryableError(f"simulated account: version {version} was replaced meanwhile; nothing was saved") from error
            raise RetryableError(f"table {self._table}: the simulated account cannot be saved: {error}") from error
        except BotoCoreError as error:
            raise RetryableError(f"table {self._table}: the simulated account cannot be saved: {error}") from error

    def _get(self, sk: str) -> Mapping[str, Any] | None:
        try:
            answer = self._client.get_item(TableName=self._table, Key=_key(sk), ConsistentRead=True)
        except (ClientError, BotoCoreError) as error:
            raise RetryableError(f"table {self._table}: the simulated account cannot be read: {error}") from error
        return answer.get("Item")

    def _put(self, sk: str, content: Mapping[str, Any]) -> dict[str, Any]:
        item = _key(sk) | dict(content)
        size = item_bytes(item)
        if size > MAX_ITEM_BYTES:
            raise LedgerError(f"simulated account: item {sk} of {size} bytes exceeds the {MAX_ITEM_BYTES} bytes of an item")
        return {"TableName": self._table, "Item": item}


def _key(sk: str) -> dict[str, Any]:
    return {"pk": {"S": PARTITION}, "sk": {"S": sk}}
