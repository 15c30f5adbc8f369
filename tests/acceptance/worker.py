"""``python -m tests.acceptance.worker``: runs ticks, each in a process of its own, and ends one with SIGKILL at a request if told so.

Reads a line of JSON for each job: ``{"ticks": [...]}`` are run at once, each by a fork of this process, which has loaded everything and
opened nothing. Answers with a line: for each tick ``{"killed": signal}``, or what it came to and the requests that it made.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from tests.acceptance import scenes
from tests.acceptance.worlds import MEANT
from tests.loopback.remote import RemoteExchange
from tests.loopback.transport import LoopbackTransport
from tickless.adapters.ccxt_exchange import CcxtExchange
from tickless.adapters.dynamodb_ledger import DynamoDbLedger
from tickless.adapters.dynamodb_sent import DynamoDbSentStore
from tickless.adapters.experience_archive import s3_experience
from tickless.adapters.memory import MemoryLog, MemoryMetrics
from tickless.adapters.roostoo_client import RoostooClient
from tickless.adapters.roostoo_exchange import RoostooExchange
from tickless.adapters.roostoo_market import RoostooMarket
from tickless.adapters.s3_bars import S3BarStore
from tickless.adapters.s3_models import S3ModelStore
from tickless.adapters.s3_trace import S3Trace
from tickless.adapters.secrets import ApiKeys
from tickless.adapters.sns_notifier import SnsNotifier
from tickless.adapters.ssm_parameters import SsmParameterStore
from tickless.ports import Ports, Venue
from tickless.runs import feature_rebalance, full_rebalance, risk_check, scan
from tickless.types import Tick, parse_time, to_ms

RUNS = {module.NAME: module.run for module in (risk_check, feature_rebalance, full_rebalance, scan)}
TABLE, BUCKET, STAGE = "desk", "desk-bucket", "dev"
TOPIC = "arn:aws:sns:eu-central-1:123456789012:alerts"
SERVICES = ("dynamodb", "s3", "ssm", "sns")
KEYS = ApiKeys("desk/keys", "loopback-key", "loopback-secret")


class Requests:
    """Numbers every request of a tick. At number ``kill_at`` the process is killed, before it is sent or after its answer came."""

    def __init__(self, kill_at: int | None, *, after: bool) -> None:
        self.made: list[str] = []
        self._kill_at, self._after = kill_at, after

    def make(self, what: str, send: Callable[[], Any]) -> Any:
        number = len(self.made)
        self.made.append(what)
        if number == self._kill_at and not self._after:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = send()
        if number == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer


class AwsTransport:
    """botocore's last step, led to the AWS of this job."""

    def __init__(self, session: Any, url: str, requests: Requests) -> None:
        self._session, self._url, self._requests = session, url, requests

    def send(self, request: Any) -> Any:
        meant = urlsplit(request.url)
        request.url = f"{self._url}{meant.path or '/'}" + (f"?{meant.query}" if meant.query else "")
        request.headers[MEANT] = meant.netloc
        target = request.headers.get("X-Amz-Target", b"")
        name = target.decode() if isinstance(target, bytes) else target
        what = f"{meant.netloc.split('.amazonaws')[0]} {name or request.method + ' ' + meant.path}"
        return self._requests.make(what, lambda: self._session.send(request))

    def close(self) -> None:
        self._session.close()


class CountedTransport(LoopbackTransport):
    """ccxt's last step."""

    def __init__(self, url: str, requests: Requests) -> None:
        super().__init__(url)
        self._requests = requests

    def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        what = f"exchange {request.method} {urlsplit(request.url).path}"
        return self._requests.make(what, lambda: super(CountedTransport, self).send(request, *args, **kwargs))


class CountedRoostoo(RoostooClient):
    """Our own client's last step."""

    def __init__(self, url: str, requests: Requests, now: Callable[[], datetime]) -> None:
        super().__init__(KEYS, base_url=url, now=now)
        self._counted = requests

    def _exchange(self, method: str, path: str, *args: Any) -> tuple[int, str | None, bytes]:
        ask = super()._exchange
        return tuple(self._counted.make(f"exchange {method} {path}", lambda: ask(method, path, *args)))  # type: ignore[return-value]


class SharedClock:
    """The time of a tick and its exchange, which stands still unless the tick waits."""

    def __init__(self, at: datetime, url: str) -> None:
        self._at, self._url = at, url

    def now(self) -> datetime:
        return self._at

    def sleep(self, seconds: float) -> None:
        self._at += timedelta(seconds=seconds)
        RemoteExchange(self._url).set_time(self._at)


class TickClock:
    """The scheduled time, so much later, running on."""

    def __init__(self, begins_at: datetime) -> None:
        self._begins_at, self._started = begins_at, time.monotonic()

    def now(self) -> datetime:
        return self._begins_at + timedelta(seconds=time.monotonic() - self._started)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@cache
def aws_clients() -> dict[str, Any]:
    """Clients that have sent nothing yet; where to is told by ``point_at``."""
    import boto3
    from botocore.config import Config

    session = boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing", region_name="eu-central-1")
    config = Config(read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3}, request_checksum_calculation="when_required")
    return {service: session.client(service, config=config) for service in SERVICES}


_sessions: dict[str, Any] = {}


def point_at(url: str, requests: Requests) -> dict[str, Any]:
    """The clients, led to an AWS."""
    clients = aws_clients()
    for service, client in clients.items():
        session = _sessions.setdefault(service, client._endpoint.http_session)
        client._endpoint.http_session = AwsTransport(session, url, requests)
    return clients


def open_ports(job: dict[str, Any], requests: Requests) -> Ports:
    """A desk in the cloud, as ``bootstrap`` wires one, on an account at the exchange."""
    clients = point_at(job["aws"], requests)
    begins_at = parse_time(job["at"]) + timedelta(seconds=job["late_s"])
    market, log = scenes.market(job["market"]), MemoryLog()

    def connect(settings: Any) -> Venue:
        if job["venue"] != "roostoo":
            return Venue(market, open_exchange(job["exchange"], begins_at, requests, job["venue"]))
        clock = SharedClock(begins_at, job["exchange"])
        client = CountedRoostoo(job["exchange"], requests, clock.now)
        account = RoostooExchange(client, DynamoDbSentStore(TABLE, clients["dynamodb"]), "USD", now=clock.now, sleep=clock.sleep)
        return Venue(RoostooMarket(client, market, "USD", "USDT"), account)

    return Ports(
        connect=connect,
        bars=S3BarStore(BUCKET, clients["s3"]),
        ledger=DynamoDbLedger(TABLE, clients["dynamodb"]),
        models=S3ModelStore(BUCKET, clients["s3"]),
        parameters=SsmParameterStore(clients["ssm"], STAGE),
        clock=TickClock(begins_at),
        metrics=MemoryMetrics(),
        trace=S3Trace(BUCKET, clients["s3"]),
        experience=s3_experience(BUCKET, clients["s3"]),
        notifier=SnsNotifier(TOPIC, clients["sns"], log),
        log=log,
        invocation=job["request_id"],
    )


def open_exchange(url: str, now: datetime, requests: Requests, venue: Any = "spot") -> CcxtExchange:
    account = CcxtExchange("binance", KEYS, "USDT", market_type=venue, now=lambda: now, timeout_s=5.0)
    account.client.milliseconds = lambda: to_ms(now)
    account.client.enableRateLimit = False
    for prefix in ("https://", "http://"):
        account.client.session.mount(prefix, CountedTransport(url, requests))
    return account


def run(job: dict[str, Any]) -> dict[str, Any]:
    """One tick; never returns where the job says that it is killed."""
    requests = Requests(job.get("kill_at"), after=job.get("after", False))
    function, _, strategy = job["function"].partition("-")
    ports = open_ports(job, requests)
    try:
        report = RUNS[function](Tick(parse_time(job["at"]), function, strategy), ports)
    except Exception as error:  # What the handler would log; the driver judges it.
        return {"status": type(error).__name__, "error": str(error), "requests": requests.made}
    metrics = sorted(ports.metrics.counts)  # type: ignore[attr-defined]
    return {"status": report.status, "ran": list(report.ran), "requests": requests.made, "metrics": metrics}


def start(job: dict[str, Any]) -> tuple[int, int]:
    """The process of one tick, and where its result can be read."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    try:
        os.close(reading)
        with os.fdopen(writing, "w") as pipe:
            json.dump(run(job), pipe)
    finally:
        os._exit(0)


def finish(pid: int, reading: int) -> dict[str, Any]:
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    _, status = os.waitpid(pid, 0)
    return {"killed": os.WTERMSIG(status)} if os.WIFSIGNALED(status) else json.loads(text or "{}")


def main() -> None:
    for name in ("calm", "crash"):
        scenes.market(name)
    aws_clients()
    open_exchange("http://127.0.0.1:9", scenes.T0, Requests(None, after=False))
    for line in sys.stdin:
        started = [start(job) for job in json.loads(line)["ticks"]]
        sys.stdout.write(json.dumps([finish(*one) for one in started]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
