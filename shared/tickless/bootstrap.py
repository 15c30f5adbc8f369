"""The only place that chooses adapters: from the environment of a function, or from what a local run wires in.

``invocation`` is what a handler enters: it parses the event, opens the ports, and writes logs and metrics whatever happens. AWS clients
live as long as the process, so that a warm start pays for none of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from tickless.adapters.dynamodb_ledger import DynamoDbLedger
from tickless.adapters.dynamodb_sim import DynamoDbSimStore
from tickless.adapters.powertools_log import PowertoolsLog
from tickless.adapters.powertools_metrics import PowertoolsMetrics
from tickless.adapters.s3_bars import S3BarStore
from tickless.adapters.s3_models import S3ModelStore
from tickless.adapters.s3_trace import S3Trace
from tickless.adapters.sim_exchange import SimExchange, TextAccounts
from tickless.adapters.sns_notifier import SnsNotifier
from tickless.adapters.ssm_parameters import SsmParameterStore
from tickless.adapters.system_clock import SystemClock
from tickless.errors import EventError, InputError
from tickless.ports import Clock, Market, Ports, Venue
from tickless.settings import SCAN, STRATEGY_SECTIONS, ScanSection, Settings
from tickless.types import FIRST_YEAR, LAST_YEAR, Tick, parse_time


@dataclass(frozen=True)
class Environment:
    """What the CDK app tells a function."""

    stage: str
    table: str
    bucket: str
    topic_arn: str

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> Environment:
        """From ``TICKLESS_*`` variables; raises InputError naming the one that is missing."""
        values = {}
        for name in ("stage", "table", "bucket", "topic_arn"):
            key = f"TICKLESS_{name.upper()}"
            if not variables.get(key):
                raise InputError(f"environment variable {key}: missing")
            values[name] = variables[key]
        return cls(**values)


@dataclass
class Wiring:
    """What a local run puts in the place of the outside world, and the AWS adapters of its process."""

    market: Market | None = None
    clock: Clock | None = None
    ends_at: datetime | None = None
    """When the run ends."""
    clouds: dict[Environment, Cloud] = field(default_factory=dict)

    def cloud(self, environment: Environment) -> Cloud:
        """The AWS adapters of an environment, made once."""
        if environment not in self.clouds:
            self.clouds[environment] = Cloud(environment)
        return self.clouds[environment]


@dataclass
class Cloud:
    """The AWS side of a desk. Each client is made when it is first used."""

    environment: Environment
    markets: dict[tuple[str, str], Market] = field(default_factory=dict)

    @cached_property
    def ledger(self) -> DynamoDbLedger:
        """The ledger."""
        return DynamoDbLedger(self.environment.table, self._client("dynamodb"))

    @cached_property
    def sim_store(self) -> DynamoDbSimStore:
        """The simulated exchange's memory."""
        return DynamoDbSimStore(self.environment.table, self._client("dynamodb"))

    @cached_property
    def bars(self) -> S3BarStore:
        """The bar store."""
        return S3BarStore(self.environment.bucket, self._client("s3"))

    @cached_property
    def models(self) -> S3ModelStore:
        """The model registry."""
        return S3ModelStore(self.environment.bucket, self._client("s3"))

    @cached_property
    def trace(self) -> S3Trace:
        """The traces."""
        return S3Trace(self.environment.bucket, self._client("s3"))

    @cached_property
    def parameters(self) -> SsmParameterStore:
        """The desk's parameters."""
        return SsmParameterStore(self._client("ssm"), self.environment.stage)

    def market(self, exchange: str, quote: str) -> Market:
        """Public market data of a ccxt exchange, made once."""
        key = (exchange, quote)
        if key not in self.markets:
            from tickless.adapters.ccxt_market import CcxtMarket

            self.markets[key] = CcxtMarket(exchange, quote)
        return self.markets[key]

    def notifier(self, log: PowertoolsLog) -> SnsNotifier:
        """Alerts to the desk's topic."""
        return SnsNotifier(self.environment.topic_arn, self._client("sns"), log)

    def _client(self, service: str) -> Any:
        if service not in self._clients:
            import boto3
            from botocore.config import Config

            # Requests are fixed in code and checked by the adapters' tests; botocore's own check costs a cold start's worth of CPU a day.
            config = Config(
                connect_timeout=2,
                read_timeout=10,
                retries={"mode": "standard", "total_max_attempts": 3},
                parameter_validation=False,
                request_checksum_calculation="when_required",
            )
            self._clients[service] = boto3.client(service, config=config)  # type: ignore[call-overload]
        return self._clients[service]

    @cached_property
    def _clients(self) -> dict[str, Any]:
        return {}


_wirings: list[Wiring] = [Wiring()]


@contextmanager
def wired(wiring: Wiring) -> Iterator[None]:
    """Inside, handlers of this process use ``wiring``. One ``Wiring`` serves one local cloud for its whole life."""
    _wirings.append(wiring)
    try:
        yield
    finally:
        _wirings.pop()


def parse_tick(function: str, event: Any) -> Tick:
    """The tick of an event ``{"scheduled_time": "2024-06-01T00:00:00Z"}``; a ``scan`` also has ``"strategy": "crossover"``.

    Raises EventError naming what is wrong with it.
    """
    text = event.get("scheduled_time") if isinstance(event, Mapping) else None
    if not isinstance(text, str):
        raise EventError(f"event of {function}: 'scheduled_time' is missing; expected a time such as 2024-06-01T00:00:00Z")
    try:
        at = parse_time(text)
    except ValueError as error:
        raise EventError(f"event of {function}: scheduled_time {text!r} is not an ISO 8601 time with a zone") from error
    except OverflowError:
        at = None
    if at is None or not FIRST_YEAR <= at.year <= LAST_YEAR:
        raise EventError(f"event of {function}: scheduled_time {text!r} is not in the years {FIRST_YEAR} to {LAST_YEAR}")
    if at.second or at.microsecond:
        raise EventError(f"event of {function}: scheduled_time {text!r} is not a whole minute")
    return Tick(at, function, _strategy(event) if function == SCAN else "")


def _strategy(event: Mapping[str, Any]) -> str:
    """The strategy of a ``scan``; raises EventError."""
    known = sorted(name for name, section in STRATEGY_SECTIONS.items() if issubclass(section, ScanSection))
    name = event.get("strategy")
    if name is None:
        raise EventError(f"event of {SCAN}: 'strategy' is missing; known: {', '.join(known)}")
    if not isinstance(name, str) or name not in known:
        raise EventError(f"event of {SCAN}: strategy {name!r} is unknown; known: {', '.join(known)}")
    return name


@contextmanager
def invocation(function: str, event: Any, context: Any) -> Iterator[tuple[Tick, Ports]]:
    """The tick and the ports of one invocation. An error is logged and leaves; metrics are written in any case."""
    from aws_lambda_powertools import Logger

    environment = Environment.read(os.environ)
    wiring = _wirings[-1]
    logger = Logger(service=function)
    # A warm start finds the keys of the invocation before: an event without a tick must not be logged under that one's id.
    logger.append_keys(request_id=getattr(context, "aws_request_id", None), stage=environment.stage, tick_id=None)
    metrics = PowertoolsMetrics(function, environment.stage)
    try:
        tick = parse_tick(function, event)
        if tick.strategy:
            metrics.divide(strategy=tick.strategy)
        logger.append_keys(tick_id=tick.id)
        invocation_id = str(getattr(context, "aws_request_id", None) or "")
        yield tick, open_ports(wiring, environment, PowertoolsLog(logger), metrics, invocation_id)
    except Exception:
        logger.exception("tick failed", extra={"event": event})
        metrics.count("TickFailed")
        raise
    finally:
        metrics.flush()


def open_ports(wiring: Wiring, environment: Environment, log: PowertoolsLog, metrics: PowertoolsMetrics, invocation_id: str = "") -> Ports:
    """The ports of a function in the cloud, with what ``wiring`` replaces. Lambda's retries keep ``invocation_id``, its request id."""
    cloud = wiring.cloud(environment)

    def connect(settings: Settings) -> Venue:
        market = wiring.market or cloud.market(settings.desk.exchange, settings.desk.stake_currency)
        exchange = SimExchange(TextAccounts(cloud.sim_store), cloud.bars, market, settings, ends_at=wiring.ends_at)
        return Venue(market, exchange)

    return Ports(
        connect=connect,
        bars=cloud.bars,
        ledger=cloud.ledger,
        models=cloud.models,
        parameters=cloud.parameters,
        clock=wiring.clock or SystemClock(),
        metrics=metrics,
        trace=cloud.trace,
        notifier=cloud.notifier(log),
        log=log,
        invocation=invocation_id,
    )
