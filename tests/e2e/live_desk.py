"""A live desk: the handlers of the synthesized stack on the local AWS, its account at the exchange on loopback, over HTTP."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import pytest
from local_desk import DAY, STAGE, LocalDesk, small_market

from tests.loopback import LoopbackExchange, World, loopback_exchange, point_at
from tickless import bootstrap
from tickless.adapters import ccxt_client
from tickless.adapters.memory import ManualClock
from tickless.adapters.roostoo_client import RoostooClient
from tickless.bootstrap import Environment, Wiring
from tickless.localcloud import LocalCloud, ensure_assembly, load_assembly
from tickless.settings import load_desk
from tickless.types import PairRules, base_asset, from_ms

D = Decimal
SECRET = "desk/keys"
ACCOUNT = ("desk.mode=live", f"desk.secret_name={SECRET}", "strategy.rotation.fallback_threshold_frac=-1.0")
VENUES: dict[str, tuple[str, ...]] = {
    "spot": ACCOUNT,
    "swap": (*ACCOUNT, "desk.market_type=swap", "desk.leverage=2"),
    "roostoo": (*ACCOUNT, "desk.exchange=roostoo", "desk.stake_currency=USD", "desk.bars_exchange=binance", "desk.bars_currency=USDT"),
}
"""What makes a built-in desk a live one, by venue."""
ACCOUNTS = {"spot": "spot", "swap": "futures", "roostoo": "roostoo"}
KINDS = {"spot": "spot", "swap": "linear"}
PLACING = {"POST /api/v3/order", "POST /fapi/v1/order", "POST /fapi/v1/algoOrder", "POST /v3/place_order"}


class MarketClock(ManualClock):
    """A clock that the exchange goes by, too."""

    def __init__(self, now: datetime, exchange: LoopbackExchange) -> None:
        super().__init__(now)
        self._exchange = exchange

    def set(self, now: datetime) -> None:
        """See ``ManualClock.set``."""
        super().set(now)
        self._exchange.set_time(now)


@dataclass
class LiveDesk(LocalDesk):
    """A desk whose account is one of the exchange's three."""

    exchange: LoopbackExchange
    venue: str

    @property
    def stake(self) -> str:
        return "USD" if self.venue == "roostoo" else "USDT"

    def pair(self, base: str) -> str:
        return f"{base}/USDT:USDT" if self.venue == "swap" else f"{base}/{self.stake}"

    def state(self) -> Any:
        """The desk as its ledger restores it."""
        found = self.cloud.ledger.load()
        assert found is not None
        return found

    def secret(self, text: str | None) -> None:
        """Put this into the secret; None = the keys."""
        keys = json.dumps({"apiKey": self.exchange.world.key, "secret": self.exchange.world.secret})
        boto3.client("secretsmanager").put_secret_value(SecretId=SECRET, SecretString=keys if text is None else text)

    def own(self, base: str, qty: Decimal) -> dict[str, Decimal]:
        """What a person has on the account beside the desk: coins, and an order far from the market. What is held, by asset."""
        if self.venue == "roostoo":
            self.exchange.move("roostoo", base, qty)
            return {base: qty}
        client = ccxt_client.exchange_class("binance")({"apiKey": self.exchange.world.key, "secret": self.exchange.world.secret})
        client.options |= {"fetchMargins": False, "defaultType": self.venue, "fetchMarkets": {"types": [KINDS[self.venue]]}}
        client.has["fetchCurrencies"] = False
        self._person = client, self.pair(base)
        client.create_order(self.pair(base), "market", "buy", float(qty))
        client.create_order(self.pair(base), "limit", "buy", float(qty), client.fetch_ohlcv(self.pair(base), "15m", None, 1)[0][4] / 2)
        return self.held()

    def own_order_rests(self) -> bool:
        """Whether the person's order is as it was; Roostoo's person has none."""
        return self.venue == "roostoo" or len(self._person[0].fetch_open_orders(self._person[1])) == 1

    def held(self) -> dict[str, Decimal]:
        """What the exchange holds, by base asset, the stake currency left out."""
        told = self.exchange.state(ACCOUNTS[self.venue])
        if self.venue == "swap":
            return {base_asset(name): D(qty) for name, qty in told["positions"].items()}
        return {asset: D(qty) for asset, qty in told["balances"].items() if asset != self.stake}

    def cash(self) -> Decimal:
        """The exchange's stake currency, as the ledger counts it: a contract's cost has left it."""
        account = self.exchange.venues[ACCOUNTS[self.venue]].account
        wallet = self.exchange.balances(ACCOUNTS[self.venue])[self.stake]
        if self.venue != "swap":
            return wallet
        return wallet - sum((one.qty * one.entry for one in account.open_positions()), D(0))

    def sent(self) -> Counter[str]:
        """Orders sent, by pair."""
        return Counter(one.params.get("symbol") or one.params["pair"] for one in self.exchange.log if one.endpoint in PLACING)

    def refuse_differences(self, external: dict[str, Decimal] | None = None) -> None:
        """Ledger and exchange hold the same, every order was sent once, every fill is booked once."""
        state, beyond = self.state(), external or {}
        ours = {base_asset(pair): position.qty for pair, position in state.positions.items()}
        assert {asset: qty - beyond.get(asset, D(0)) for asset, qty in self.held().items() if qty != beyond.get(asset)} == ours
        assert float(self.cash()) == pytest.approx(float(state.cash), abs=0.02)
        orders = list(self.cloud.ledger.orders())
        assert sum(self.sent().values()) == len(orders) == len({order.client_order_id for order in orders})
        assert not self.exchange.resent()
        fills, trades = list(self.cloud.ledger.fills()), self.exchange.state(ACCOUNTS[self.venue])["trades"]
        assert len(fills) == len({fill.fill_id for fill in fills})
        assert sum(fill.qty for fill in fills) == sum((D(trade["qty"]) for trade in trades), D(0)) > 0
        assert dict(state.external) == beyond


@contextmanager
def live_desk(
    root: Path, venue: str, patch: pytest.MonkeyPatch, *, overrides: tuple[str, ...] = (), pairs: int = 5, at: datetime = DAY
) -> Iterator[LiveDesk]:
    """A live desk that has never run, with 50,000 at the venue; its clock is a minute before ``at``."""
    market = small_market(pairs)
    template = load_assembly(ensure_assembly(root, "rotation", STAGE)).template
    rules = {pair: PairRules(pair, D("0.00000001"), D("0.00001"), D(5), D("0.00001")) for pair in market.panel.pairs}
    money = {"spot": {"USDT": D(50_000)}, "futures": {"USDT": D(50_000)}, "roostoo": {"USD": D(50_000)}}
    with loopback_exchange(World(market.panel, at - timedelta(minutes=1), rules, **money, trades_per_fill=2)) as (exchange, url):
        clock = MarketClock(at - timedelta(minutes=1), exchange)
        _lead_to(url, exchange, patch)
        wiring = Wiring(clock=clock)
        local = LocalCloud(template, stage=STAGE, functions_dir=root / "functions", wiring=lambda: bootstrap.wired(wiring))
        with local:
            cloud = wiring.cloud(Environment.read(local.functions()["risk_check"].environment))
            cloud.accounts.now = lambda: from_ms(exchange.clock.now_ms)
            desk = LiveDesk(local, clock, cloud, exchange, venue)
            boto3.client("secretsmanager").create_secret(Name=SECRET, SecretString="{}")
            desk.secret(None)
            for section, text in load_desk("rotation", (*VENUES[venue], *overrides)).sections().items():
                desk.parameter(section, text)
            yield desk


def _lead_to(url: str, exchange: LoopbackExchange, patch: pytest.MonkeyPatch) -> None:
    """Lead what any client sends to the exchange, and let it sign by the exchange's true time."""
    chosen = ccxt_client.exchange_class

    def leading(exchange_id: str) -> Any:
        class Client(chosen(exchange_id)):  # type: ignore[misc]
            def __init__(self, config: Any = None) -> None:
                super().__init__(config or {})
                point_at(self, url)

            def milliseconds(self) -> int:
                return exchange.clock.now_ms

        return Client

    patch.setattr(ccxt_client, "exchange_class", leading)
    patch.setitem(RoostooClient.__init__.__kwdefaults__, "base_url", url)
