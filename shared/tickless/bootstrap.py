"""The only place that chooses adapters: from the environment of a function, or from what a local run wires in.

``invocation`` is what a handler enters: it parses the event, opens the ports, and writes logs and metrics whatever happens. AWS clients
live as long as the process, so that a warm start pays for none of them. A real account is opened only where nothing of the outside world is
replaced: a replay of a live desk trades at the simulated exchange.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from tickless.adapters.dynamodb_ledger import DynamoDbLedger
from tickless.adapters.dynamodb_sim import DynamoDbSimStore
from tickless.adapters.experience_archive import ExperienceArchive, s3_experience
from tickless.adapters.powertools_log import PowertoolsLog
from tickless.adapters.powertools_metrics import PowertoolsMetrics
from tickless.adapters.s3_bars import S3BarStore
from tickless.adapters.s3_models import S3ModelStore
from tickless.adapters.s3_trace import S3Trace
from tickless.adapters.s3_training import S3TrainingFiles
from tickless.adapters.sim_exchange import SimExchange, TextAccounts
from tickless.adapters.sns_notifier import SnsNotifier
from tickless.adapters.ssm_parameters import SsmParameterStore
from tickless.adapters.system_clock import SystemClock
from tickless.errors import AccountError, EventError, InputError, RetryableError, SettingsError
from tickless.execution.rounding import exact
from tickless.ports import Clock, Exchange, Market, Ports, Venue
from tickless.settings import ROOSTOO, SCAN, STRATEGY_SECTIONS, ScanSection, Settings
from tickless.types import FIRST_YEAR, LAST_YEAR, Tick, parse_time

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger

    from tickless.adapters.ccxt_exchange import CcxtExchange
    from tickless.adapters.secrets import ApiKeys
    from tickless.adapters.weight_budget import WeightPurse

KEYS_FOR_S = 600.0
"""How long a process keeps the keys it has read: new ones are in use soon after somebody has replaced them."""
BLOCKS_A_MIN = 10
"""Into how many blocks the request weight of a minute is cut: each is one write."""
ROOSTOO_REQUESTS_PER_MIN = 30


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
    markets: dict[tuple[Any, ...], Market] = field(default_factory=dict)

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
    def experience(self) -> ExperienceArchive:
        """What came of the desk's decisions."""
        return s3_experience(self.environment.bucket, self._client("s3"))

    @cached_property
    def training(self) -> S3TrainingFiles:
        """What the steps of a nightly training hand one another."""
        return S3TrainingFiles(self.environment.bucket, self._client("s3"))

    @cached_property
    def parameters(self) -> SsmParameterStore:
        """The desk's parameters."""
        return SsmParameterStore(self._client("ssm"), self.environment.stage)

    @cached_property
    def accounts(self) -> Accounts:
        """The exchange accounts."""
        return Accounts(self.environment.table, self._client)

    def market(self, settings: Settings) -> Market:
        """Public market data of the desk's exchange, made once; its requests are paid for out of the shared budget."""
        desk, execution = settings.desk, settings.execution
        budget = (execution.requests_per_min, execution.request_reserve_frac)
        key = (desk.exchange, desk.stake_currency, desk.bars_exchange, desk.bars_currency, desk.market_type, *budget)
        if key not in self.markets:
            self.markets[key] = _open_market(settings, self.accounts)
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


@dataclass
class Accounts:
    """The exchange accounts of a process. A ccxt account stays open with its markets loaded; what it may spend is each invocation's own."""

    table: str
    client: Callable[[str], Any]
    """Makes boto3's client of a service."""
    now: Callable[[], datetime] = field(default_factory=lambda: SystemClock().now)
    monotonic: Callable[[], float] = time.monotonic
    time_left_s: Callable[[], float] = lambda: float("inf")
    """What is left of the invocation's time."""
    unread: Callable[[str, str], None] = lambda _pair, _why: None
    """Hears, in this invocation, of a pair whose bars could not be read, and why."""
    _keys: dict[str, tuple[float, ApiKeys]] = field(default_factory=dict)
    _purses: dict[tuple[str, int, float], WeightPurse] = field(default_factory=dict)
    _opened: dict[tuple[Any, ...], CcxtExchange] = field(default_factory=dict)

    def open(self, settings: Settings) -> Exchange:
        """The account of a live desk; one that refuses everything where its keys cannot be had. Raises SettingsError, RetryableError."""
        desk, purse = settings.desk, self.purse(settings.desk.exchange, settings)
        try:
            keys = self._read_keys(desk.secret_name)
        except (AccountError, SettingsError) as error:
            from tickless.adapters.refused_account import RefusedAccount

            # Not raised: a tick that cannot be opened tells nobody, while one whose account refuses halts the desk and says why.
            return RefusedAccount(str(error))
        if desk.exchange == ROOSTOO:
            from tickless.adapters.dynamodb_sent import DynamoDbSentStore
            from tickless.adapters.roostoo_client import RoostooClient
            from tickless.adapters.roostoo_exchange import RoostooExchange

            # Anew in each invocation: another function may have written down orders since.
            roostoo = RoostooClient(keys, purse=purse, time_left_s=self.left_s, now=self.now)
            return RoostooExchange(roostoo, DynamoDbSentStore(self.table, self.client("dynamodb")), desk.stake_currency, now=self.now)
        execution = settings.execution
        key = (desk, keys, execution.requests_per_min, execution.request_reserve_frac, execution.stoploss_limit_frac)
        if key not in self._opened:
            from tickless.adapters.ccxt_exchange import CcxtExchange

            self._opened = {
                key: CcxtExchange(
                    desk.exchange,
                    keys,
                    desk.stake_currency,
                    market_type=desk.market_type,
                    sandbox=desk.sandbox,
                    leverage=desk.leverage,
                    margin_mode=desk.margin_mode,
                    time_left_s=self.left_s,
                    purse=purse,
                    stop_limit_frac=exact(execution.stoploss_limit_frac),
                    now=self.now,
                )
            }
        return self._opened[key]

    def close(self) -> None:
        """Give back the request weight that the invocation has not spent. Raises RetryableError; what stays out comes back by itself."""
        for purse in self._purses.values():
            purse.close(self.now())

    def clock(self) -> datetime:
        """Now, by the clock that the accounts go by."""
        return self.now()

    def left_s(self) -> float:
        """What is left of the time of the invocation that runs now."""
        return self.time_left_s()

    def bars_unread(self, pair: str, why: str) -> None:
        """Tell the invocation that runs now."""
        self.unread(pair, why)

    def _read_keys(self, name: str) -> ApiKeys:
        read_at, keys = self._keys.get(name, (0.0, None))
        if keys is None or self.monotonic() - read_at >= KEYS_FOR_S:
            from tickless.adapters.secrets import load_keys

            keys = load_keys(name, self.client)
            self._keys[name] = self.monotonic(), keys
        return keys

    def purse(self, exchange: str, settings: Settings) -> WeightPurse:
        """The request weight of an exchange; ``execution.requests_per_min`` is that of the desk's own, another has its usual one."""
        execution = settings.execution
        asked_for = execution.requests_per_min if exchange == settings.desk.exchange else 0
        key = (exchange, asked_for, execution.request_reserve_frac)
        if key not in self._purses:
            from tickless.adapters.dynamodb_weight import DynamoDbWeightBudget
            from tickless.adapters.weight_budget import WeightLimits, WeightPurse

            limits = WeightLimits(asked_for or _usual_per_min(exchange), execution.request_reserve_frac)
            budget = DynamoDbWeightBudget(self.table, self.client("dynamodb"), exchange, limits)
            self._purses[key] = WeightPurse(budget, max(1, limits.per_min // BLOCKS_A_MIN))
        return self._purses[key]


def _usual_per_min(exchange: str) -> int:
    """The request weight a minute that an exchange is known to allow."""
    if exchange == ROOSTOO:
        return ROOSTOO_REQUESTS_PER_MIN
    from tickless.adapters.ccxt_client import exchange_class
    from tickless.adapters.ccxt_requests import weight_per_min

    return weight_per_min(exchange_class(exchange)())


def _open_market(settings: Settings, accounts: Accounts) -> Market:
    from tickless.adapters.ccxt_market import CcxtMarket

    desk = settings.desk
    name, quote = (desk.bars_exchange, desk.bars_currency or desk.stake_currency) if desk.exchange == ROOSTOO else (desk.exchange, "")
    bars = CcxtMarket(
        name,
        quote or desk.stake_currency,
        market_type=desk.market_type,
        purse=accounts.purse(name, settings),
        time_left_s=accounts.left_s,
        now=accounts.clock,
        unread=accounts.bars_unread,
    )
    if desk.exchange != ROOSTOO:
        return bars
    from tickless.adapters.roostoo_client import RoostooClient
    from tickless.adapters.roostoo_market import RoostooMarket

    client = RoostooClient(purse=accounts.purse(ROOSTOO, settings), time_left_s=accounts.left_s, now=accounts.clock)
    return RoostooMarket(client, bars, desk.stake_currency, quote, now=accounts.clock)


def open_venue(wiring: Wiring, cloud: Cloud, settings: Settings) -> Venue:
    """The venue that the settings name; simulated wherever the market is replaced. Raises as ``Accounts.open``."""
    if settings.desk.mode == "live" and wiring.market is None:
        return Venue(cloud.market(settings), cloud.accounts.open(settings))
    market = wiring.market or cloud.market(settings)
    return Venue(market, SimExchange(TextAccounts(cloud.sim_store), cloud.bars, market, settings, ends_at=wiring.ends_at))


_wirings: list[Wiring] = [Wiring()]


@contextmanager
def wired(wiring: Wiring) -> Iterator[None]:
    """Inside, handlers of this process use ``wiring``. One ``Wiring`` serves one local cloud for its whole life."""
    _wirings.append(wiring)
    try:
        yield
    finally:
        _wirings.pop()


def training_files() -> S3TrainingFiles:
    """The files of the training steps, inside an invocation."""
    return _wirings[-1].cloud(Environment.read(os.environ)).training


def parse_tick(function: str, event: Any) -> Tick:
    """The tick of an event ``{"scheduled_time": "2024-06-01T00:00:00Z"}``; a ``scan`` also has ``"strategy": "crossover"``.

    Raises EventError naming what is wrong with it.
    """
    if not isinstance(event, Mapping) or "scheduled_time" not in event:
        raise EventError(f"event of {function}: 'scheduled_time' is missing; expected a time such as 2024-06-01T00:00:00Z")
    text = event["scheduled_time"]
    if not isinstance(text, str):
        raise EventError(f"event of {function}: scheduled_time {text!r} is not a text; expected a time such as 2024-06-01T00:00:00Z")
    try:
        at = parse_time(text)
    except ValueError as error:
        raise EventError(
            f"event of {function}: scheduled_time {text!r} is not an ISO 8601 time with a zone, or no calendar has it"
        ) from error
    if not FIRST_YEAR <= at.year <= LAST_YEAR:
        raise EventError(f"event of {function}: scheduled_time {text!r} is not in the years {FIRST_YEAR} to {LAST_YEAR}")
    if at.second or at.microsecond:
        raise EventError(f"event of {function}: scheduled_time {text!r} is not a whole minute")
    return Tick(at, function, _strategy(event) if function == SCAN else "")


def _strategy(event: Mapping[str, Any]) -> str:
    """The strategy of a ``scan``; raises EventError."""
    known = sorted(name for name, section in STRATEGY_SECTIONS.items() if issubclass(section, ScanSection))
    name = event.get("strategy")
    if "strategy" not in event:
        raise EventError(f"event of {SCAN}: 'strategy' is missing; known: {', '.join(known)}")
    if not isinstance(name, str) or name not in known:
        raise EventError(f"event of {SCAN}: strategy {name!r} is unknown; known: {', '.join(known)}")
    return name


def time_left_s(context: Any) -> Callable[[], float]:
    """What tells the seconds that are left of a Lambda's invocation; without end where the context does not say."""
    remaining = getattr(context, "get_remaining_time_in_millis", None)
    return (lambda: remaining() / 1000) if callable(remaining) else (lambda: float("inf"))


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
        accounts = wiring.cloud(environment).accounts
        accounts.time_left_s, accounts.unread = time_left_s(context), partial(_tell_unread, logger, metrics)
        yield tick, open_ports(wiring, environment, PowertoolsLog(logger), metrics, invocation_id)
    except Exception:
        logger.exception("tick failed", extra={"event": event})
        metrics.count("TickFailed")
        raise
    finally:
        try:
            wiring.cloud(environment).accounts.close()
        except RetryableError as error:
            logger.warning("request weight not given back", extra={"error": str(error)})
        metrics.flush()


def _tell_unread(logger: Logger, metrics: PowertoolsMetrics, pair: str, why: str) -> None:
    """What people hear of a pair that is not seen at this tick: a stop on it is not checked."""
    logger.warning("bars cannot be read", extra={"pair": pair, "error": why})
    metrics.count("BarsUnread")


def open_ports(wiring: Wiring, environment: Environment, log: PowertoolsLog, metrics: PowertoolsMetrics, invocation_id: str = "") -> Ports:
    """The ports of a function in the cloud, with what ``wiring`` replaces. Lambda's retries keep ``invocation_id``, its request id."""
    cloud = wiring.cloud(environment)

    return Ports(
        connect=lambda settings: open_venue(wiring, cloud, settings),
        bars=cloud.bars,
        ledger=cloud.ledger,
        models=cloud.models,
        parameters=cloud.parameters,
        clock=wiring.clock or SystemClock(),
        metrics=metrics,
        trace=cloud.trace,
        experience=cloud.experience,
        notifier=cloud.notifier(log),
        log=log,
        invocation=invocation_id,
        time_left_s=cloud.accounts.left_s,
    )
