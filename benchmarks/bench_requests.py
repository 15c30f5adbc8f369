"""What a tick asks of the exchange and of AWS: requests by endpoint with their weight, DynamoDB's units, S3 and SSM requests.

    python benchmarks/bench_requests.py [--pairs 15,60,120]

A live desk trades on the exchange on loopback (Binance spot, its request weights) through the real ccxt client, wired by ``bootstrap`` but
for the addresses; AWS is moto's. Units are computed from the items that are written and read, as DynamoDB charges them: moto does not count
them.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import ceil
from typing import Any
from unittest.mock import patch

from measuring import ROOT, say, table

sys.path.insert(0, str(ROOT))

from tests.loopback import LoopbackExchange, Timestamps, World, loopback_exchange, point_at
from tests.loopback.binance import BinanceApi
from tickless.adapters.codec import item_bytes
from tickless.adapters.memory import ManualClock, MemoryLog, MemoryMetrics
from tickless.adapters.synthetic_market import make_market
from tickless.bootstrap import Cloud, Environment, Wiring, open_venue
from tickless.ports import Ports, Venue
from tickless.runs import feature_rebalance, full_rebalance, risk_check, scan
from tickless.settings import Settings, load_desk
from tickless.types import PairRules, Tick, from_ms

RUNS = {module.NAME: module.run for module in (risk_check, feature_rebalance, full_rebalance, scan)}
T0 = datetime(2024, 6, 1, tzinfo=UTC)
STEP = timedelta(minutes=15)
HISTORY = timedelta(days=45)
RULES = (Decimal("0.00000001"), Decimal("0.00001"), Decimal(5), Decimal("0.00001"))
"""Price step, quantity step, least notional, least quantity."""
ENVIRONMENT = Environment("dev", "desk", "desk-bucket", "arn:aws:sns:eu-central-1:123456789012:alerts")
WALLET = 50_000
ROTATION = ("strategy.rotation.fallback_threshold_frac=-1.0",)
CROSSOVER = ("strategy.crossover.fast_bars=1", "strategy.crossover.slow_bars=2", "strategy.crossover.stake=500", "execution.filters=true")
READ_BYTES, WRITE_BYTES = 4096, 1024


@dataclass
class Meter:
    """What has been asked of AWS."""

    calls: Counter[str] = field(default_factory=Counter)
    """By service and operation, such as ``dynamodb PutItem``."""
    reads: float = 0.0
    writes: float = 0.0
    _sizes: dict[str, int] = field(default_factory=dict)

    def clear(self) -> None:
        self.calls, self.reads, self.writes = Counter(), 0.0, 0.0

    def watch(self, client: Any) -> None:
        """Count what this client does."""
        service = client.meta.service_model.service_name
        client.meta.events.register(f"provide-client-params.{service}", self._asked)
        client.meta.events.register(f"after-call.{service}", self._answered)

    def count(self, service: str) -> int:
        return sum(times for name, times in self.calls.items() if name.startswith(service))

    def _asked(self, params: Any, context: Any, **_: Any) -> None:
        context["asked"] = params

    def _answered(self, parsed: Any, model: Any, context: Any, **_: Any) -> None:
        service = model.service_model.service_name
        self.calls[f"{service} {model.name}"] += 1
        if service == "dynamodb":
            self._charge(model.name, context["asked"], parsed)

    def _charge(self, name: str, asked: Mapping[str, Any], parsed: Mapping[str, Any]) -> None:
        """Units of one request, as DynamoDB's pricing has them."""
        match name:
            case "GetItem" | "Query":
                found = parsed.get("Items") or [parsed.get("Item") or {}]
                units = max(1, ceil(sum(map(item_bytes, found)) / READ_BYTES))
                self.reads += units if asked.get("ConsistentRead") else units / 2
            case "PutItem" | "DeleteItem" | "UpdateItem":
                self.writes += self._written(asked, parsed.get("Attributes"))
            case "TransactWriteItems":
                self.writes += sum(2 * self._written(next(iter(one.values())), None) for one in asked["TransactItems"])
            case _:
                raise AssertionError(f"units of {name} are not known here")

    def _written(self, asked: Mapping[str, Any], after: Mapping[str, Any] | None) -> int:
        """The larger of what was there and what is."""
        item = asked.get("Item") or after or {}
        key = repr(sorted((asked.get("Key") or {name: item[name] for name in ("pk", "sk")}).items()))
        before, self._sizes[key] = self._sizes.get(key, 0), item_bytes(item)
        return max(1, ceil(max(before, self._sizes[key]) / WRITE_BYTES))


@dataclass
class Desk:
    """A live desk of so many pairs."""

    exchange: LoopbackExchange
    url: str
    settings: Settings
    meter: Meter
    cloud: Cloud
    clock: ManualClock

    def ports(self) -> Ports:
        """Of a warm process."""
        cloud: Any = self.cloud
        log = MemoryLog()
        live = self.settings.desk.model_copy(update={"mode": "live", "secret_name": "desk/keys"})

        def connect(settings: Settings) -> Venue:
            venue = open_venue(Wiring(), cloud, settings.model_copy(update={"desk": live}))
            parts: tuple[Any, Any] = (venue.market, venue.exchange)
            for part in parts:
                client = part.client
                point_at(client, self.url).milliseconds = lambda: self.exchange.clock.now_ms
            return venue

        parts = {name: getattr(cloud, name) for name in ("bars", "ledger", "models", "parameters", "trace", "experience")}
        return Ports(connect=connect, clock=self.clock, metrics=MemoryMetrics(), notifier=cloud.notifier(log), log=log, **parts)

    def tick(self, name: str, bar: float) -> Figures:
        """One invocation."""
        at = T0 + bar * STEP
        self.clock.set(at + timedelta(seconds=2))
        self.exchange.set_time(at + timedelta(seconds=2))
        self.exchange.clear_log()
        self.meter.clear()
        function, _, strategy = name.partition("-")
        report = RUNS[function](Tick(at, function, strategy), self.ports())
        self.cloud.accounts.close()
        assert report.status == "done", report
        assert report.ran == (Tick(at, function, strategy).id,), report
        return Figures.of(self.exchange, self.meter)


@dataclass(frozen=True)
class Figures:
    """One tick's requests."""

    endpoints: Counter[str]
    weights: Counter[str]
    calls: Counter[str]
    reads: float
    writes: float

    @classmethod
    def of(cls, exchange: LoopbackExchange, meter: Meter) -> Figures:
        api = exchange.apis["spot"]
        assert isinstance(api, BinanceApi)
        endpoints: Counter[str] = Counter()
        weights: Counter[str] = Counter()
        for one in exchange.log:
            route = api.routes[one.endpoint]
            endpoints[one.endpoint] += 1
            weights[one.endpoint] += route.weight if "symbol" in one.params or not route.weight_all else route.weight_all
        return cls(endpoints, weights, meter.calls.copy(), meter.reads, meter.writes)

    @property
    def orders(self) -> int:
        return self.endpoints["POST /api/v3/order"]

    def count(self, service: str) -> int:
        return sum(times for name, times in self.calls.items() if name.startswith(service))


@contextmanager
def desk(pairs: int, name: str, overrides: tuple[str, ...]) -> Iterator[Desk]:
    """A desk at an exchange of so many pairs, its bars stored up to T0."""
    from moto import mock_aws

    from tickless.localcloud import moto_fixes

    made = make_market(start=T0 - HISTORY, end=T0 + timedelta(days=1), pairs=pairs, seed=2, events=False)
    rules = {pair: PairRules(pair, *RULES) for pair in made.panel.pairs}
    world = World(made.panel, T0, rules, spot={"USDT": Decimal(WALLET)}, timestamps=Timestamps.ANY)
    settings = load_desk(name, [*overrides, f"desk.dry_run_wallet={WALLET}"])
    variables = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "eu-central-1"}
    with patch.dict(os.environ, variables), mock_aws(), moto_fixes.applied(), loopback_exchange(world) as (exchange, url):
        cloud, meter = Cloud(ENVIRONMENT), Meter()
        cloud.accounts.now = lambda: from_ms(exchange.clock.now_ms)
        for service in ("dynamodb", "s3", "ssm", "sns", "secretsmanager"):
            meter.watch(cloud._client(service))
        furnish(cloud, settings)
        cloud.bars.write(made.panel.closed_at(T0 - STEP))
        with patch("tickless.adapters.ccxt_market.datetime", wraps=datetime, now=lambda _: from_ms(exchange.clock.now_ms)):
            yield Desk(exchange, url, settings, meter, cloud, ManualClock(T0))


def furnish(cloud: Cloud, settings: Settings) -> None:
    """What a deployment makes."""
    keys = {"pk": "HASH", "sk": "RANGE"}
    with patch.object(Meter, "_charge"):
        cloud._client("dynamodb").create_table(
            TableName=ENVIRONMENT.table,
            KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in keys.items()],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in keys],
            BillingMode="PAY_PER_REQUEST",
        )
    cloud._client("s3").create_bucket(Bucket=ENVIRONMENT.bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    cloud._client("sns").create_topic(Name="alerts")
    cloud._client("secretsmanager").create_secret(Name="desk/keys", SecretString='{"apiKey": "loopback-key", "secret": "loopback-secret"}')
    for section, text in settings.sections().items():
        cloud.parameters.write(section, text)


def measure(pairs: int) -> dict[str, Figures]:
    """The ticks of a desk of so many pairs, by what they do."""
    found: dict[str, Figures] = {}
    with desk(pairs, "rotation", ROTATION) as one:
        found["risk_check, cold start"] = one.tick("risk_check", 0)
        found["full_rebalance, enters"] = one.tick("full_rebalance", 0)
        found["risk_check, nothing held moves"] = one.tick("risk_check", 1)
        one.tick("risk_check", 2)
        found["feature_rebalance"] = one.tick("feature_rebalance", 2)
        eager = one.settings.portfolio.model_copy(update={"hysteresis_frac": 0.0, "min_order_value": 10.0})
        one.cloud.parameters.write("portfolio", replace_section(one.settings, eager))
        one.tick("risk_check", 4)
        found["feature_rebalance, every pair moves"] = one.tick("feature_rebalance", 4)
    with desk(pairs, "crossover", CROSSOVER) as one:
        for name, bar in (("risk_check", 0), ("scan-crossover", 0), ("risk_check", 1)):
            one.tick(name, bar)
        found["scan"] = one.tick("scan-crossover", 1)
    return found


def replace_section(settings: Settings, portfolio: Any) -> str:
    """The text of the portfolio's section, changed."""
    return settings.model_copy(update={"portfolio": portfolio}).sections()["portfolio"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", default="15,60,120", help="how many, with commas between")
    counts = [int(text) for text in parser.parse_args().pairs.split(",")]
    measured = {count: measure(count) for count in counts}
    head = ("orders", "requests", "weight", "DynamoDB requests", "read units", "write units", "S3 reads", "S3 writes", "SSM")
    for count, found in measured.items():
        rows: list[tuple[object, ...]] = []
        for name, one in found.items():
            s3 = one.count("s3 Get") + one.count("s3 List") + one.count("s3 Head"), one.count("s3 Put")
            weight, requests = sum(one.weights.values()), sum(one.endpoints.values())
            rows.append(
                (name, one.orders, requests, weight, one.count("dynamodb"), f"{one.reads:g}", f"{one.writes:g}", *s3, one.count("ssm"))
            )
        table(f"{count} pairs: one tick", ("", *head), rows)
    found = measured[counts[-1]]
    names = sorted({endpoint for one in found.values() for endpoint in one.endpoints})
    rows = [
        (name, *(f"{one.endpoints[name]} ({one.weights[name]})" if one.endpoints[name] else "" for one in found.values())) for name in names
    ]
    table(f"{counts[-1]} pairs, by endpoint: requests (weight)", ("", *found), rows)
    names = sorted({call for one in found.values() for call in one.calls})
    table(
        f"{counts[-1]} pairs, by AWS operation",
        ("", *found),
        [(name, *(one.calls[name] or "" for one in found.values())) for name in names],
    )
    say()


if __name__ == "__main__":
    main()
