"""Whole ticks on an account at the exchange on loopback: real runs, the real ccxt client, and a ledger in memory or in DynamoDB."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from desk_values import TABLE

from tests.loopback import FeeIn, LoopbackExchange, point_at
from tests.loopback import World as Loopback
from tests.made_accounts import open_account
from tests.made_world import NO_THRESHOLDS, REQUOTED, T0, World, at
from tickless.adapters.ccxt_exchange import CcxtExchange
from tickless.adapters.folder_market import FolderMarket
from tickless.adapters.synthetic_market import make_market
from tickless.bars import COLUMNS, Panel
from tickless.bootstrap import Accounts, Cloud, Environment, Wiring, open_venue
from tickless.ports import Ports
from tickless.settings import Settings, load_desk
from tickless.types import OrderStatus, PairRules, base_asset, from_ms

pytest_plugins = ["tests.loopback.fixtures"]

D = Decimal
EAGER = "strategy.rotation.fallback_threshold_frac=-1.0"
QUICK = ("strategy.crossover.fast_bars=1", "strategy.crossover.slow_bars=2")
BNB = D(5)


@pytest.fixture(scope="module")
def market() -> FolderMarket:
    """Eight pairs, on steps that all of their prices can keep."""
    made = make_market(start=T0 - timedelta(days=45), end=T0 + timedelta(days=1), pairs=8, seed=2, events=False)
    pairs = made.panel.pairs
    return FolderMarket(made.panel, {pair: PairRules(pair, D("0.00000001"), D("0.00001"), D(5), D("0.00001")) for pair in pairs})


def with_bnb(panel: Panel) -> Panel:
    """The panel and one pair more, which the desk does not trade: fees are paid in it."""
    columns = (getattr(panel, name) for name in COLUMNS)
    eth = panel.column["ETH/USDT"]
    return Panel(panel.timeframe, ("BNB/USDT", *panel.pairs), panel.start_ms, *(np.insert(one, 0, one[:, eth], axis=1) for one in columns))


@dataclass
class Desk:
    """A desk in memory whose account is the one on loopback."""

    world: World
    loopback: LoopbackExchange
    url: str

    def account(self) -> CcxtExchange:
        return open_account(self.loopback, self.url)

    def ports(self) -> Ports:
        """Of a new process: nothing of an earlier one is remembered."""
        return self.world.ports(lambda name, port: self.account() if name == "exchange" else port)

    def run(self, name: str, when: datetime, late_s: float = 2.0) -> Any:
        self.loopback.set_time(when + timedelta(seconds=late_s))
        return self.world.run(name, when, self.ports(), late_s)

    def sent(self) -> int:
        return sum(one.endpoint == "POST /api/v3/order" for one in self.loopback.log)

    def refuse_differences(self) -> None:
        """Ledger and exchange hold the same, each order is there once, and each fill is booked with its fee."""
        state, balances = self.world.ledger.load(), self.account().snapshot(self.world.clock.now(), ()).balances
        held = {base_asset(pair): position.qty for pair, position in state.positions.items()}
        assert {asset: qty for asset, qty in balances.items() if asset not in ("USDT", "BNB")} == held
        assert balances["USDT"] == pytest.approx(state.cash, abs=D("0.01"))
        orders = list(self.world.ledger.orders())
        assert self.sent() == len(orders) == len({order.client_order_id for order in orders})
        assert not self.loopback.resent()
        trades = self.loopback.state("spot")["trades"]
        fills = list(self.world.ledger.fills())
        assert len(fills) == len(trades) > 0
        assert len({fill.fill_id for fill in fills}) == len(fills)
        assert all(fill.fee > 0 for fill in fills)
        assert self.world.metrics.counts.get("LedgerMismatch", 0) == 0
        assert (state.mode, self.world.notifier.alerts) == ("ACTIVE", [])


@pytest.fixture(params=["memory", "dynamodb"])
def new_desk(request: pytest.FixtureRequest, market: FolderMarket, serve: Any) -> Callable[..., Desk]:
    """Makes a desk."""

    def make(settings: Settings, fee_in: FeeIn = FeeIn.RECEIVED) -> Desk:
        spot = {"USDT": D(50_000), **({"BNB": BNB} if fee_in is FeeIn.BNB else {})}
        rules = {pair: market.rules()[pair] for pair in market.panel.pairs}
        loopback, url = serve(Loopback(with_bnb(market.panel), T0, rules, spot=spot, fee_in=fee_in, trades_per_fill=2))
        world = World(market, settings)
        if request.param == "dynamodb":
            from tickless.adapters.dynamodb_ledger import DynamoDbLedger

            world.ledger = DynamoDbLedger(TABLE, request.getfixturevalue("dynamodb"))  # type: ignore[assignment]
        return Desk(world, loopback, url)

    return make


@pytest.mark.parametrize("fee_in", list(FeeIn))
def test_rebalances_and_risk_checks_leave_ledger_and_exchange_alike(new_desk, fee_in):
    desk = new_desk(load_desk("rotation", [EAGER, *NO_THRESHOLDS]), fee_in)
    for bar in (0, 2):
        desk.run("feature_rebalance", at(bar))
        desk.run("risk_check", at(bar + 1))
    desk.refuse_differences()
    assert len(desk.world.ledger.load().positions) > 2
    bases = {base_asset(order.pair) for order in desk.world.ledger.orders()}
    charged = {FeeIn.QUOTE: {"USDT"}, FeeIn.BNB: {"BNB"}}.get(fee_in, bases | {"USDT"})
    assert {fill.fee_asset for fill in desk.world.ledger.fills()} <= charged
    left = D(desk.loopback.state("spot")["balances"].get("BNB", "0"))
    assert 0 < left < BNB if fee_in is FeeIn.BNB else left == 0


def test_a_scan_enters_and_leaves_at_the_exchange(new_desk):
    desk = new_desk(load_desk("crossover", ["execution.filters=true", *QUICK]), FeeIn.QUOTE)
    for bar in range(4):
        desk.run("scan-crossover", at(bar))
    desk.refuse_differences()
    assert {order.side.value for order in desk.world.ledger.orders()} == {"buy", "sell"}


def test_limits_that_run_out_of_time_are_cancelled_quoted_again_and_crossed_at_the_exchange(new_desk):
    """Binance ends no order by itself."""
    desk = new_desk(load_desk("rotation", [EAGER, *REQUOTED, "execution.unfilled_action=cross"]), FeeIn.QUOTE)
    desk.run("full_rebalance", at(0))
    resting = desk.world.ledger.load().orders
    assert len(resting) == 2
    for bar in (1, 2):
        desk.run("risk_check", at(bar))
    desk.refuse_differences()
    orders = list(desk.world.ledger.orders())
    assert [(order.attempt, order.status.value, order.type.value) for order in orders] == [
        *[(0, "expired", "limit")] * 2,
        *[(1, "expired", "limit")] * 2,
        *[(2, "filled", "market")] * 2,
    ]
    held = {pair: position.qty for pair, position in desk.world.ledger.load().positions.items()}
    assert held == {order.pair: order.qty for order in resting.values()}


@pytest.mark.parametrize("name", ["risk_check", "feature_rebalance"])
def test_the_same_tick_again_sends_nothing(new_desk, name):
    desk = new_desk(load_desk("rotation", [EAGER, *NO_THRESHOLDS]))
    desk.run("feature_rebalance", at(0))
    desk.run(name, at(2))
    before, sent = desk.world.ledger.load(), desk.sent()
    assert desk.run(name, at(2), late_s=40).status == "already_done"
    assert (desk.world.ledger.load(), desk.sent()) == (before, sent)
    assert sent > 0
    assert {order.status for order in desk.world.ledger.orders()} == {OrderStatus.FILLED}


def test_the_account_that_bootstrap_opens_reads_its_secret_and_spends_of_the_shared_budget(aws, dynamodb, serve, market):
    aws("secretsmanager").create_secret(Name="desk/keys", SecretString='{"apiKey": "loopback-key", "secret": "loopback-secret"}')
    settings = load_desk("rotation", ["execution.requests_per_min=1000"])
    account = settings.desk.model_copy(update={"mode": "live", "secret_name": "desk/keys"})
    loopback, url = serve(Loopback(market.panel, T0, spot={"USDT": D(123)}))
    cloud = Cloud(Environment("dev", TABLE, "bucket", "arn:aws:sns:eu-central-1:123456789012:alerts"))
    accounts = Accounts(TABLE, aws, now=lambda: from_ms(loopback.clock.now_ms))
    cloud.accounts = accounts
    exchange = open_venue(Wiring(), cloud, settings.model_copy(update={"desk": account})).exchange
    assert isinstance(exchange, CcxtExchange)
    point_at(exchange.client, url).milliseconds = lambda: loopback.clock.now_ms
    assert exchange.snapshot(T0, ()).balances == {"USDT": D(123)}
    assert spent(dynamodb) == 100, "a block"
    accounts.close()
    assert 0 < spent(dynamodb) < 100


def spent(dynamodb: Any) -> int:
    """The request weight of Binance that counts just now."""
    item = dynamodb.get_item(TableName=TABLE, Key={"pk": {"S": "WEIGHT"}, "sk": {"S": "binance"}})["Item"]
    return sum(int(block.split(":")[1]) for block in item["blocks"]["S"].split(","))
