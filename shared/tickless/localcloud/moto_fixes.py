"""What moto must do better here: atomic DynamoDB, transactions and queries that do not slow down as the table grows, bounded memory.

Everything is patched for the life of a local cloud and put back afterwards. None of it changes an answer moto gives.
"""

from __future__ import annotations

import base64
import copy
import functools
import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import RLock
from typing import Any
from unittest.mock import patch

_LOCKED_SERVICES = frozenset({"dynamodb", "s3", "ssm"})
_ROUTED_SERVICES = _LOCKED_SERVICES | {"lambda", "sns", "sqs"}
_PLAIN_ACTIONS = frozenset({"GetItem", "PutItem", "UpdateItem", "DeleteItem", "Query", "Scan", "TransactGetItems"})


class _Forgetful(list[object]):
    """Stands for moto's list of every model it ever made, overwritten objects and copied items included: megabytes a tick."""

    def append(self, _: object) -> None:
        """Forget it."""


@contextmanager
def applied() -> Iterator[None]:
    """Apply every fix while the context lasts."""
    with ExitStack() as stack:
        for fix in (_forget_models, _fix_transactions, _fix_queries, _fix_answers, _fix_bucket_policies, _fix_dispatch):
            fix(stack)
        yield


def _forget_models(stack: ExitStack) -> None:
    from moto.core.model_instances import model_data

    for models in model_data.values():
        for model in models.values():
            stack.enter_context(patch.object(model, "instances_tracked", _Forgetful()))


def _fix_transactions(stack: ExitStack) -> None:
    """A transaction copies the whole table once for every item in it; the items it touches are enough to undo one."""
    from moto.dynamodb import models
    from moto.dynamodb.models.table import Table

    class Copies:
        """Stands for the module ``copy`` in moto's backend."""

        copy = staticmethod(copy.copy)

        @staticmethod
        def deepcopy(value: Any, memo: Any = None) -> Any:
            return value if isinstance(value, Table) else copy.deepcopy(value, memo)

    original = models.DynamoDBBackend.transact_write_items

    def transact_write_items(self: Any, transact_items: list[dict[str, Any]]) -> None:
        before = [_touched(self, item) for item in transact_items]
        try:
            original(self, transact_items)
        except Exception:
            for entry in before:
                if entry is not None:
                    _put_back(*entry)
            raise

    stack.enter_context(patch.object(models, "copy", Copies))
    stack.enter_context(patch.object(models.DynamoDBBackend, "transact_write_items", transact_write_items))


def _touched(backend: Any, transact_item: dict[str, Any]) -> tuple[Any, Any, Any, Any] | None:
    """The table, the keys and a copy of the item that one entry of a transaction may change."""
    from moto.dynamodb.models.dynamo_type import DynamoType

    operation = next(iter(transact_item.values()))
    table = backend.tables.get(operation["TableName"])
    key = operation.get("Key") or operation.get("Item")
    if table is None or not key or table.hash_key_attr not in key or (table.range_key_attr and table.range_key_attr not in key):
        return None
    hash_key = DynamoType(key[table.hash_key_attr])
    range_key = DynamoType(key[table.range_key_attr]) if table.range_key_attr else None
    return table, hash_key, range_key, copy.deepcopy(table.get_item(hash_key, range_key))


def _put_back(table: Any, hash_key: Any, range_key: Any, item: Any) -> None:
    container, key = (table.items, hash_key) if range_key is None else (table.items[hash_key], range_key)
    if item is None:
        container.pop(key, None)
    else:
        container[key] = item


def _fix_queries(stack: ExitStack) -> None:
    """A query sorts and compares every item of the table; here it sees only those that its key condition can match."""
    from moto.dynamodb.models.table import Table

    original, all_items = Table.query, Table.all_items

    def query(self: Any, hash_key: Any, range_comparison: Any, range_objs: Any, *args: Any, **kwargs: Any) -> Any:
        index = kwargs.get("index_name") or (args[4] if len(args) > 4 else None)
        if index is None and self.range_key_attr:
            self.matching_items = _matching(self, hash_key, range_comparison, range_objs)
        try:
            return original(self, hash_key, range_comparison, range_objs, *args, **kwargs)
        finally:
            self.matching_items = None

    def narrowed(self: Any) -> Any:
        matching = getattr(self, "matching_items", None)
        return all_items(self) if matching is None else matching

    stack.enter_context(patch.object(Table, "query", query))
    stack.enter_context(patch.object(Table, "all_items", narrowed))


def _matching(table: Any, hash_key: Any, comparison: str | None, operands: Any) -> list[Any]:
    partition = table.items.get(hash_key, {})
    if comparison == "BEGINS_WITH" and operands[0].type == "S":
        prefix = operands[0].value
        return [item for key, item in partition.items() if key.type == "S" and key.value.startswith(prefix)]
    if comparison == "BETWEEN" and all(operand.type == "S" for operand in operands):
        low, high = operands[0].value, operands[1].value
        return [item for key, item in partition.items() if key.type == "S" and low <= key.value <= high]
    return list(partition.values())


def _fix_answers(stack: ExitStack) -> None:
    """Answers walk the service model for every attribute of every item; one made of items is JSON already."""
    from moto.core.responses import BaseResponse
    from moto.dynamodb.responses import DynamoHandler, DynamoResult

    original = BaseResponse.serialized

    def serialized(self: Any, action_result: Any) -> Any:
        if not isinstance(action_result, DynamoResult) or self._get_action() not in _PLAIN_ACTIONS:
            return original(self, action_result)
        content = action_result.result
        if not isinstance(content, dict):
            return original(self, action_result)
        body = json.dumps({k: v for k, v in content.items() if v is not None}, default=_binary)
        return 200, {"Content-Type": "application/x-amz-json-1.0", **self.response_headers}, body

    stack.enter_context(patch.object(DynamoHandler, "serialized", serialized, create=True))


def _binary(value: Any) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} in a DynamoDB answer")


def _fix_bucket_policies(stack: ExitStack) -> None:
    """A bucket policy is enforced without its conditions, so that "nobody without TLS" would mean nobody at all."""
    from moto.iam.access_control import IAMPolicy, PermissionResult
    from moto.s3.models import FakeBucket

    def get_permission(self: Any, action: str, resource: str) -> Any:
        statements = _over_tls(self.policy or b"{}")
        if not statements:
            return PermissionResult.NEUTRAL
        return IAMPolicy(json.dumps({"Statement": statements})).is_action_permitted(action, resource)

    stack.enter_context(patch.object(FakeBucket, "get_permission", get_permission))


@functools.cache
def _over_tls(policy: bytes) -> tuple[dict[str, Any], ...]:
    """The statements of a policy without those that only speak of connections with less than TLS 1.2."""
    statements = json.loads(policy).get("Statement", [])
    kept = []
    for statement in [statements] if isinstance(statements, dict) else statements:
        keys = {key for condition in statement.get("Condition", {}).values() for key in condition}
        if not keys or not keys <= {"aws:SecureTransport", "s3:TlsVersion"}:
            kept.append(statement)
    return tuple(kept)


def _fix_dispatch(stack: ExitStack) -> None:
    """A request is matched against the patterns of every AWS service, and nothing is locked.

    Conditional writes and transactions are atomic in AWS, so requests to stores run one at a time here. Lambda is not locked:
    a handler may use threads that need the stores.
    """
    from moto.core import responses
    from moto.core.botocore_stubber import BotocoreStubber
    from moto.core.request import normalize_request
    from moto.core.utils import method_names_from_class
    from werkzeug.exceptions import HTTPException

    original = BotocoreStubber.process_request
    routes: dict[str, list[tuple[re.Pattern[str], Callable[..., Any]]]] = {}
    lock = RLock()

    def process_request(self: Any, request: Any) -> Any:
        scheme, _, rest = request.url.partition("://")
        host, slash, path = rest.partition("/")
        service = _service_of(host)
        if service is None:
            return original(self, request)
        if service not in routes:
            routes[service] = _routes(service)
        url = f"{scheme}://{host}{slash}{path.partition('?')[0]}"
        method = next((method for pattern, method in routes[service] if pattern.match(url)), None)
        if method is None:
            return original(self, request)
        normalized = normalize_request(request)
        with ExitStack() as held:
            if service in _LOCKED_SERVICES:
                held.enter_context(lock)
            try:
                return method(normalized, normalized.raw_url, normalized.headers)
            except HTTPException as error:
                return error.code, error.get_headers(), error.get_body()

    stack.enter_context(patch.object(BotocoreStubber, "process_request", process_request))
    names = functools.lru_cache(maxsize=None)(method_names_from_class)
    stack.enter_context(patch.object(responses, "method_names_from_class", names))


def _service_of(host: str) -> str | None:
    if not host.endswith(".amazonaws.com"):
        return None
    labels = host.removesuffix(".amazonaws.com").split(".")
    if "s3" in labels:
        return "s3"
    return labels[0] if labels[0] in _ROUTED_SERVICES else None


def _routes(service: str) -> list[tuple[re.Pattern[str], Callable[..., Any]]]:
    import moto.backends
    from moto.core.models import DEFAULT_ACCOUNT_ID

    regions: Any = moto.backends.get_backend(service)[DEFAULT_ACCOUNT_ID]  # type: ignore[call-overload]
    backend = regions["us-east-1"] if "us-east-1" in regions else regions["aws"]
    return [(re.compile(url), method) for url, method in backend.urls.items()]
