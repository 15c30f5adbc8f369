"""One contract suite a port: it runs against memory, and against the real adapter on moto."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from threading import RLock
from typing import Any

import boto3
import pytest
from desk_values import BUCKET, TABLE
from moto import mock_aws
from moto.dynamodb.responses import DynamoHandler

from tickless.adapters.dynamodb_ledger import DynamoDbLedger
from tickless.adapters.memory import MemoryLedger
from tickless.ports import Ledger


@pytest.fixture(scope="session")
def clients() -> Callable[[str], Any]:
    """Low-level clients by service, with credentials that mean nothing."""
    session = boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing", region_name="eu-central-1")
    return cache(session.client)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, clients: Callable[[str], Any]) -> Iterator[Callable[[str], Any]]:
    """An empty AWS. moto's DynamoDB is not atomic between threads, DynamoDB is: a lock around each call makes up for it."""
    lock, call_action = RLock(), DynamoHandler.call_action

    def guarded(self: DynamoHandler) -> Any:
        with lock:
            return call_action(self)

    monkeypatch.setattr(DynamoHandler, "call_action", guarded)
    with mock_aws():
        yield clients


@pytest.fixture
def dynamodb(aws: Callable[[str], Any]) -> Any:
    """A client, and the desk's table with the key schema of the template."""
    client = aws("dynamodb")
    client.create_table(
        TableName=TABLE,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}, {"AttributeName": "sk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    return client


@pytest.fixture
def s3(aws: Callable[[str], Any]) -> Any:
    """A client, and the desk's bucket."""
    client = aws("s3")
    client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    return client


@pytest.fixture(params=["memory", "dynamodb"])
def ledger(request: pytest.FixtureRequest) -> Ledger:
    """An empty ledger."""
    if request.param == "memory":
        return MemoryLedger()
    return DynamoDbLedger(TABLE, request.getfixturevalue("dynamodb"))


@pytest.fixture
def calls(clients: Callable[[str], Any]) -> Iterator[list[str]]:
    """The AWS calls made, in order, such as ``GetObject``."""
    made: list[str] = []

    def count(model: Any, **_: Any) -> None:
        made.append(model.name)

    events = [clients(service).meta.events for service in ("dynamodb", "s3", "ssm")]
    for event in events:
        event.register("before-call.*", count, unique_id="count")
    yield made
    for event in events:
        event.unregister("before-call.*", unique_id="count")
