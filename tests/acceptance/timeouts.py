"""Lambda ends a function in the middle of a tick, at moments at which the exchange and AWS keep their answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.acceptance import worker
from tests.acceptance.matrix import Desk, Difference, Matrix
from tests.acceptance.runtime_api import Invocation, invoke
from tests.acceptance.scenes import ORDERS, VENUES, at
from tests.acceptance.worlds import Hold
from tests.loopback.faults import Fault
from tickless.adapters.dynamodb_ledger import DynamoDbLedger
from tickless.execution.reconcile import TOLERANCE
from tickless.types import OrderStatus, base_asset, iso

BEYOND_S = 0.5
"""So long after the function's time is over an answer is still kept."""
SLOW_S = 0.05
"""How late the exchange answers everything else."""
AMPLE_S = 60.0
WRITES = "TransactWriteItems"
ACCOUNT = "GET /api/v3/account"


@dataclass(frozen=True)
class Moment:
    """Where the tick is when its time is over.

    ``write``: which of the ledger's writes AWS does not answer, and whether it is ``done`` all the same. ``request``, ``skip``, ``times``:
    which of the exchange's answers do not come; ``late``: neither has the request arrived by then.
    """

    name: str
    write: str = ""
    done: bool = False
    request: str = ""
    skip: int = 0
    times: int = 1
    late: bool = False


ORDER = ORDERS["spot"]
MOMENTS = (
    Moment("it reads the account", request=ACCOUNT, times=100),
    Moment("it writes its intents, which never arrive", write="intents"),
    Moment("it writes its intents, which arrive", write="intents", done=True),
    Moment("its first order is on its way", write="booking", request=ORDER, late=True),
    Moment("the answer to its first order is on its way", write="booking", request=ORDER),
    Moment("the answer to its first order is lost, and that is written", write="booking", done=True, request=ORDER),
    Moment("its second order is on its way", write="booking", request=ORDER, skip=1, late=True),
    Moment("the answer to its second order is on its way", write="booking", request=ORDER, skip=1),
    Moment("it writes its last record, which never arrives", write="booking"),
    Moment("it writes its last record, which arrives", write="booking", done=True),
)
IN_TIME = Moment("an answer comes too late, and AWS is as quick as ever", request=ORDER)


@dataclass
class Functions:
    """Ticks of one scene as Lambda runs them."""

    matrix: Matrix
    folder: Path

    def strike(self, desk: Desk, moment: Moment, timeout_s: float) -> None:
        """Let the exchange and AWS keep their answers at a moment of the scene's tick."""
        faults = desk.remote.faults
        if moment.request:
            fault = Fault.DELAY_BEFORE if moment.late else Fault.DELAY_AFTER
            faults.next(moment.request, fault, skip=moment.skip, times=moment.times, seconds=timeout_s + BEYOND_S)
        faults.always("*", Fault.DELAY_AFTER, seconds=SLOW_S)
        if moment.write:
            desk.aws.hold(Hold(WRITES, self._writes(moment.write), timeout_s + BEYOND_S, moment.done))

    def _writes(self, name: str) -> int:
        """How many writes of the undisturbed tick come before the one of that name."""
        requests = self.matrix.requests
        writes = [number for number, what in enumerate(requests) if what.endswith(WRITES)]
        first_order = next(number for number, what in enumerate(requests) if what == f"exchange {ORDER}")
        before = sum(number < first_order for number in writes)
        return before if name == "booking" else before - 1

    def deliver(self, desk: Desk, bar: int, *, timeout_s: float = AMPLE_S, late_s: float = 1.0, function: str = "") -> Invocation:
        """One invocation; both deliveries of a tick have the same request id."""
        name = function or desk.scene.function
        job = {"at": iso(at(bar)), "late_s": late_s, "market": desk.scene.market, "exchange": desk.exchange.url}
        environment = {
            "TICK": json.dumps({**job, "told": str(self.folder / "requests.jsonl")}),
            "TICKLESS_STAGE": worker.STAGE,
            "TICKLESS_TABLE": worker.TABLE,
            "TICKLESS_BUCKET": worker.BUCKET,
            "TICKLESS_TOPIC_ARN": worker.TOPIC,
            "AWS_ENDPOINT_URL": desk.aws.url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        desk.remote.set_time(at(bar) + timedelta(seconds=late_s))
        event = {"scheduled_time": iso(at(bar))}
        return invoke(name, Invocation(event, f"{name}-{bar}", timeout_s), environment, self.folder / "function.log")

    def told(self) -> list[Mapping[str, Any]]:
        """Every request that any of the functions has made of the exchange."""
        return [json.loads(line) for line in (self.folder / "requests.jsonl").read_text().splitlines()]

    def end(self, desk: Desk, moment: Moment, timeout_s: float) -> Invocation:
        """The tick that ends at a moment. What it left on its way arrives, then all is quick again."""
        self.strike(desk, moment, timeout_s)
        came = self.deliver(desk, desk.scene.bar, timeout_s=timeout_s)
        desk.exchange.wait_for_quiet()
        desk.aws.wait_for_quiet()
        desk.remote.faults.clear()
        desk.aws.hold(Hold("no such target", 0, 0.0, done=False))
        return came


def furnish_functions(desk: Desk) -> None:
    """The secret that the functions read their keys from."""
    import boto3

    client = boto3.client(
        "secretsmanager",
        endpoint_url=desk.aws.url,
        region_name="eu-central-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )
    keys = {"apiKey": worker.KEYS.api_key, "secret": worker.KEYS.secret}
    client.create_secret(Name=worker.KEYS.source, SecretString=json.dumps(keys))


def disagreements(where: str, desk: Desk) -> list[Difference]:
    """In what the ledger is not as the exchange is; nothing once both agree and nothing is open."""
    requests = worker.Requests(None, after=False)
    ledger = DynamoDbLedger(worker.TABLE, worker.point_at(desk.aws.url, requests)["dynamodb"])
    state, account = ledger.load(), desk.remote.state(VENUES[desk.scene.venue])
    assert state is not None
    stake = desk.scene.settings.desk.stake_currency
    held = {asset: Decimal(qty) for asset, qty in account["balances"].items()}
    cash = held.pop(stake)
    filled = sorted(order.client_order_id for order in ledger.orders() if order.status is OrderStatus.FILLED)
    pairs = {
        "cash": (abs(state.cash - cash) <= TOLERANCE, True),
        "positions": ({base_asset(pair): position.qty for pair, position in state.positions.items()}, held),
        "orders": (filled, sorted(order["client_id"] for order in account["orders"])),
        "open": (sorted(state.orders), account["open"]),
        "mode": (state.mode, "ACTIVE"),
        "external": (dict(state.external), {}),
        "sent twice": (desk.remote.resent(), []),
    }
    return [
        Difference(where, f"{part}: the ledger has {ours}, the exchange {theirs}")
        for part, (ours, theirs) in pairs.items()
        if ours != theirs
    ]
