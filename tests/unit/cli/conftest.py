"""A deployed desk on the local AWS, and the command as a person types it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from typer.testing import CliRunner, Result

from tickless import bootstrap
from tickless.adapters.folder_market import FolderMarket
from tickless.adapters.memory import ManualClock
from tickless.adapters.synthetic_market import make_market
from tickless.bootstrap import Cloud, Environment, Wiring
from tickless.localcloud import Assembly, InvocationResult, LocalCloud, ensure_assembly, load_assembly
from tickless.settings import load_desk
from tickless.types import iso, parse_time

MARKET_START = datetime(2024, 4, 1, tzinfo=UTC)
MARKET_END = datetime(2024, 6, 3, tzinfo=UTC)
PATH = "/tickless/dev/"


@dataclass(frozen=True)
class Deployed:
    """The desk of stage dev on the local AWS."""

    cloud: LocalCloud
    wiring: Wiring

    @property
    def adapters(self) -> Cloud:
        return self.wiring.cloud(Environment.read(self.cloud.functions()["risk_check"].environment))

    def tick(self, function: str, at: str) -> InvocationResult:
        """Fire one tick as the schedule would, at its time."""
        moment = parse_time(at)
        assert isinstance(self.wiring.clock, ManualClock)
        self.wiring.clock.set(moment)
        result = self.cloud.invoke(function, {"scheduled_time": iso(moment)})
        assert result.error is None, result.error
        return result


class Command:
    """``tickless`` with arguments, through the root app: exit codes and streams are what a shell sees."""

    def __call__(self, *arguments: Any, code: int = 0, stdin: str | None = None) -> Result:
        from tickless.cli.app import app

        result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)
        assert result.exit_code == code, (result.output, result.exception)
        return result

    def json(self, *arguments: Any, code: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", code=code).stdout)

    def refused(self, *arguments: Any, code: int = 2, stdin: str | None = None) -> str:
        """What it says on stderr: one sentence, and nothing on stdout."""
        result = self(*arguments, code=code, stdin=stdin)
        assert result.stdout == ""
        (sentence,) = result.stderr.splitlines()
        return sentence


@pytest.fixture(scope="session")
def tickless() -> Command:
    return Command()


@pytest.fixture(scope="session")
def assembly(root: Path) -> Assembly:
    return load_assembly(ensure_assembly(root, "rotation", "dev"))


@pytest.fixture(scope="session")
def market() -> FolderMarket:
    made = make_market(pairs=12, start=MARKET_START, end=MARKET_END + timedelta(days=1), seed=3)
    return FolderMarket(made.panel, made.rules)


@pytest.fixture(scope="module")
def deployment(root: Path, assembly: Assembly, market: FolderMarket) -> Iterator[Deployed]:
    wiring = Wiring(market=market, clock=ManualClock(MARKET_START))
    with LocalCloud(assembly.template, stage="dev", functions_dir=root / "functions", wiring=lambda: bootstrap.wired(wiring)) as cloud:
        yield Deployed(cloud, wiring)


@pytest.fixture
def deployed(deployment: Deployed) -> Deployed:
    """The desk as it is right after the deploy: parameters from the desk file, an empty table."""
    for name in read_parameters().keys() - load_desk("rotation").sections().keys():
        boto3.client("ssm").delete_parameter(Name=PATH + name)
    for name, text in load_desk("rotation").sections().items():
        put_parameter(name, text)
    table = deployment.adapters.environment.table
    client = boto3.client("dynamodb")
    for page in client.get_paginator("scan").paginate(TableName=table):
        for item in page["Items"]:
            client.delete_item(TableName=table, Key={"pk": item["pk"], "sk": item["sk"]})
    return deployment


def read_parameters() -> dict[str, str]:
    pages = boto3.client("ssm").get_paginator("get_parameters_by_path").paginate(Path=PATH)
    return {item["Name"].removeprefix(PATH): item["Value"] for page in pages for item in page["Parameters"]}


def put_parameter(section: str, text: str) -> None:
    boto3.client("ssm").put_parameter(Name=PATH + section, Value=text, Type="String", Overwrite=True)


@pytest.fixture
def parameters(deployed: Deployed) -> Callable[[], dict[str, str]]:
    """Reads what is in SSM now."""
    return read_parameters


@pytest.fixture
def put(deployed: Deployed) -> Callable[[str, str], None]:
    """Writes into SSM as a person would in the console."""
    return put_parameter


@pytest.fixture
def event(tmp_path):
    """Writes an event file."""

    def write(content):
        path = tmp_path / "event.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write
