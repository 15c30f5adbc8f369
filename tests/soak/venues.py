"""The accounts that a soak trades on: how each is opened, what it holds, and under which ids its trades reach the ledger."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from tests.loopback import LoopbackExchange
from tests.loopback.futures_account import FuturesAccount
from tests.made_accounts import open_account
from tickless.adapters.roostoo_client import RoostooClient
from tickless.adapters.roostoo_exchange import RoostooExchange
from tickless.adapters.roostoo_sent import MemorySentStore
from tickless.adapters.secrets import ApiKeys
from tickless.types import ZERO, base_asset, from_ms


class Charged(NamedTuple):
    """A fee, and the id of the fill that it belongs to."""

    fill_id: str
    asset: str
    fee: Decimal


class Spot:
    """Binance's spot account through ccxt."""

    name, stake, placing = "spot", "USDT", "POST /api/v3/order"
    market_type = "spot"

    def __init__(self, exchange: LoopbackExchange, url: str, sleep: Callable[[float], None]) -> None:
        self.exchange, self.url, self.sleep = exchange, url, sleep
        self.before = {asset: qty for asset, qty in exchange.balances(self.name).items() if asset != self.stake}
        """What was in the account before the desk, which is not the desk's."""

    def open(self, mortal: Callable[[str, Any], Any]) -> Any:
        """The account, as a new process opens it; ``mortal`` goes around every port of its own."""
        del mortal
        return open_account(self.exchange, self.url, self.market_type, timeout_s=1.0)

    def charged(self, since: int) -> Iterator[Charged]:
        """Trades from number ``since`` on."""
        for trade in self.exchange.venues[self.name].trades[since:]:
            yield Charged(f"{trade.pair.replace('/', '')}-{trade.id}", trade.fee_asset, trade.fee)

    def holdings(self) -> dict[str, Decimal]:
        """What is there by asset, the stake currency as the ledger counts it."""
        return self.exchange.balances(self.name)

    def below_zero(self) -> Iterator[str]:
        """What no account of this kind may hold."""
        yield from (f"the exchange holds {amount} {asset}" for asset, amount in self.holdings().items() if amount < 0)

    def sold(self, fees: Mapping[str, Decimal]) -> Iterator[str]:
        """What was there before the desk and is not any more; ``fees`` of all trades by asset."""
        held = self.holdings()
        for asset, qty in self.before.items():
            # Fees may be paid in an asset that the desk also trades; what it buys pays for itself.
            least = qty - (fees.get(asset, ZERO) if asset == "BNB" else ZERO)
            if held.get(asset, ZERO) < least:
                yield f"{asset}: {held.get(asset, ZERO)} of the {least} that are not the desk's"


class Swap(Spot):
    """Binance's USDT perpetuals through ccxt; cash is the wallet less what the positions cost."""

    name, placing, market_type = "futures", "POST /fapi/v1/order", "swap"

    def holdings(self) -> dict[str, Decimal]:
        account = self.exchange.futures.account
        assert isinstance(account, FuturesAccount)
        positions = account.open_positions()
        held = {base_asset(one.pair): one.qty for one in positions}
        return held | {self.stake: account.wallet.get(self.stake, ZERO) - sum((one.qty * one.entry for one in positions), ZERO)}

    def sold(self, fees: Mapping[str, Decimal]) -> Iterator[str]:
        return iter(())


class Roostoo(Spot):
    """Roostoo: no client order ids; an order's number is its one fill's id."""

    name, stake, placing = "roostoo", "USD", "POST /v3/place_order"

    def __init__(self, exchange: LoopbackExchange, url: str, sleep: Callable[[float], None]) -> None:
        super().__init__(exchange, url, sleep)
        self.sent = MemorySentStore()

    def open(self, mortal: Callable[[str, Any], Any]) -> Any:
        keys = ApiKeys("desk/keys", self.exchange.world.key, self.exchange.world.secret)

        def now() -> Any:
            return from_ms(self.exchange.clock.now_ms)

        client = RoostooClient(keys, base_url=self.url, now=now, timeout_s=1.0)
        return RoostooExchange(client, mortal("sent", self.sent), self.stake, now=now, sleep=self.sleep)

    def charged(self, since: int) -> Iterator[Charged]:
        fees: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
        for trade in self.exchange.roostoo.trades[since:]:
            fees[str(trade.order_id), self.stake if trade.fee_asset == "USDT" else trade.fee_asset] += trade.fee
        yield from (Charged(fill_id, asset, fee) for (fill_id, asset), fee in fees.items())


VENUES: Mapping[str, type[Spot]] = {"spot": Spot, "swap": Swap, "roostoo": Roostoo}
