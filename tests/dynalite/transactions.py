"""A client for dynalite, with what that lacks of DynamoDB."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

from botocore.exceptions import ClientError

FAILED = "ConditionalCheckFailedException"


class SingleItems:
    """A DynamoDB client whose transactions are written item by item under a lock, and undone where a condition fails.

    What it is good for: every key, item, condition and expression of a transaction is judged by a second DynamoDB. What a transaction is
    (all or nothing, against other writers and a death in the middle) is not what it shows. A refused write that asks for the item as it is
    is followed by a read: dynalite does not tell.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._lock = Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def put_item(self, **request: Any) -> Any:
        return self._telling(self._client.put_item, {name: request["Item"][name] for name in ("pk", "sk")}, request)

    def update_item(self, **request: Any) -> Any:
        return self._telling(self._client.update_item, request["Key"], request)

    def _telling(self, write: Callable[..., Any], key: Any, request: dict[str, Any]) -> Any:
        asked = request.pop("ReturnValuesOnConditionCheckFailure", None)
        try:
            return write(**request)
        except ClientError as error:
            if asked and error.response["Error"]["Code"] == FAILED:
                error.response |= self._client.get_item(TableName=request["TableName"], Key=key, ConsistentRead=True)
            raise

    def transact_write_items(self, TransactItems: list[dict[str, Any]]) -> dict[str, Any]:
        with self._lock:
            undo: list[dict[str, Any]] = []
            codes = ["None"] * len(TransactItems)
            for number, action in enumerate(TransactItems):
                try:
                    undo.append(self._write(*next(iter(action.items()))))
                except ClientError as error:
                    if error.response["Error"]["Code"] != FAILED:
                        self._put_back(undo)
                        raise
                    codes[number] = "ConditionalCheckFailed"
            if set(codes) != {"None"}:
                self._put_back(undo)
                raise _cancelled(codes)
            return {}

    def _write(self, kind: str, request: dict[str, Any]) -> dict[str, Any]:
        """One write; what there was before."""
        key = request.get("Key") or {name: request["Item"][name] for name in ("pk", "sk")}
        match kind:
            case "Put":
                done = self._client.put_item(**request, ReturnValues="ALL_OLD")
            case "Delete":
                done = self._client.delete_item(**request, ReturnValues="ALL_OLD")
            case "ConditionCheck":  # An update that changes nothing, under the same condition.
                done = self._client.update_item(**request, ReturnValues="ALL_OLD")
            case _:
                raise AssertionError(f"no ledger of ours writes {kind}")
        return {"table": request["TableName"], "key": key, "item": done.get("Attributes")}

    def _put_back(self, writes: list[dict[str, Any]]) -> None:
        for before in reversed(writes):
            if before["item"]:
                self._client.put_item(TableName=before["table"], Item=before["item"])
            else:
                self._client.delete_item(TableName=before["table"], Key=before["key"])


def _cancelled(codes: list[str]) -> ClientError:
    answer: Any = {
        "Error": {"Code": "TransactionCanceledException", "Message": f"Transaction cancelled: {codes}"},
        "CancellationReasons": [{"Code": code} for code in codes],
    }
    return ClientError(answer, "TransactWriteItems")
