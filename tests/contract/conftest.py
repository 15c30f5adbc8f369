"""One contract suite a port: it runs against memory, and against the real adapter on moto; what is in one table on dynalite, too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from threading import RLock
from typing import Any

import boto3
import pytest
from botocore.config import Config
from desk_values import BUCKET, TABLE, TABLES
from moto import mock_aws
from moto.dynamodb.responses import DynamoHandler

from tests.dynalite import DynaliteError, serving
from tests.dynalite.transactions import SingleItems
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
    """moto's client, and the desk's table with the key schema of the template."""
    client = aws("dynamodb")
    _create_table(client)
    return client


@pytest.fixture(scope="session")
def dynalite_client() -> Iterator[Any]:
    """A client of a second DynamoDB, which npm brings (``tests/dynalite``)."""
    with ExitStack() as stack:
        try:
            url = stack.enter_context(serving())
        except DynaliteError as error:
            pytest.fail(str(error), pytrace=False)
        session = boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing", region_name="eu-central-1")
        config = Config(max_pool_connections=20, retries={"total_max_attempts": 1}, read_timeout=20)
        yield session.client("dynamodb", endpoint_url=url, config=config)


@pytest.fixture
def dynalite(dynalite_client: Any) -> Iterator[SingleItems]:
    """Its client, and the desk's table. It has no transactions; see ``SingleItems``."""
    _create_table(dynalite_client)
    dynalite_client.get_waiter("table_exists").wait(TableName=TABLE, WaiterConfig={"Delay": 0.02, "MaxAttempts": 500})
    yield SingleItems(dynalite_client)
    dynalite_client.delete_table(TableName=TABLE)
    dynalite_client.get_waiter("table_not_exists").wait(TableName=TABLE, WaiterConfig={"Delay": 0.02, "MaxAttempts": 500})


def _create_table(client: Any) -> None:
    client.create_table(
        TableName=TABLE,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}, {"AttributeName": "sk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )


@pytest.fixture
def s3(aws: Callable[[str], Any]) -> Any:
    """A client, and the desk's bucket."""
    client = aws("s3")
    client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    return client


@pytest.fixture(params=["memory", *TABLES])
def ledger(request: pytest.FixtureRequest) -> Ledger:
    """An empty ledger."""
    return MemoryLedger() if request.param == "memory" else DynamoDbLedger(TABLE, request.getfixturevalue(request.param))


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
