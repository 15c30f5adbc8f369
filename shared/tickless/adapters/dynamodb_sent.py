"""Where the desk remembers what it has sent to an exchange without client order ids: one item of its table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from tickless.adapters.aws_errors import code_of
from tickless.adapters.codec import MAX_ITEM_BYTES, item_bytes
from tickless.errors import LedgerError, RetryableError

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

PARTITION = "SENT"


class DynamoDbSentStore:
    """The SentStore of one exchange on the desk's table. ``client`` is boto3's low-level DynamoDB client."""

    def __init__(self, table_name: str, client: DynamoDBClient, exchange: str = "roostoo") -> None:
        self._table = table_name
        self._client = client
        self._key: dict[str, Any] = {"pk": {"S": PARTITION}, "sk": {"S": exchange}}

    def load(self) -> tuple[int, str]:
        """See ``SentStore.load``: one strongly consistent read."""
        try:
            item = self._client.get_item(TableName=self._table, Key=self._key, ConsistentRead=True).get("Item")
        except (ClientError, BotoCoreError) as error:
            raise RetryableError(f"table {self._table}: the orders sent cannot be read: {error}") from error
        return (int(item["version"]["N"]), str(item["content"]["S"])) if item else (0, "")

    def save(self, version: int, text: str) -> None:
        """See ``SentStore.save``: one conditional write. Raises LedgerError for what no item could hold."""
        item = self._key | {"version": {"N": str(version + 1)}, "content": {"S": text}}
        if item_bytes(item) > MAX_ITEM_BYTES:
            raise LedgerError(f"orders sent: {len(text)} characters exceed the {MAX_ITEM_BYTES} bytes of an item")
        condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(sk)"}
        if version:
            condition = {
                "ConditionExpression": "#version = :version",
                "ExpressionAttributeNames": {"#version": "version"},
                "ExpressionAttributeValues": {":version": {"N": str(version)}},
            }
        try:
            self._client.put_item(TableName=self._table, Item=item, **condition)
        except ClientError as error:
            if code_of(error) == "ConditionalCheckFailedException":
                raise RetryableError(f"table {self._table}: the orders sent were written by somebody else; nothing was saved") from error
            raise RetryableError(f"table {self._table}: the orders sent cannot be saved: {error}") from error
        except BotoCoreError as error:
            raise RetryableError(f"table {self._table}: the orders sent cannot be saved: {error}") from error
