"""An account at the exchange on loopback, through the real ccxt client."""

from __future__ import annotations

from typing import Any

from tests.loopback import LoopbackExchange, point_at
from tickless.adapters.ccxt_exchange import CcxtExchange
from tickless.adapters.secrets import ApiKeys
from tickless.types import from_ms

VENUES = {"spot": "spot", "swap": "futures"}
"""What loopback calls an account, by ccxt's type of market."""
ORDER_PATHS = {"spot": "/api/v3/order", "swap": "/fapi/v1/order"}
TRADE_PATHS = {"spot": "/api/v3/myTrades", "swap": "/fapi/v1/userTrades"}
BALANCE_PATHS = {"spot": "/api/v3/account", "swap": "/fapi/v3/account"}


def open_account(loopback: LoopbackExchange, url: str, market_type: str = "spot", **changes: Any) -> CcxtExchange:
    """A ``CcxtExchange`` whose clock is the exchange's, and which waits for nothing."""
    keys = ApiKeys("desk/keys", loopback.world.key, loopback.world.secret)
    settings = {"now": lambda: from_ms(loopback.clock.now_ms), "sleep": lambda seconds: None, "timeout_s": 2.0, **changes}
    account = CcxtExchange("binance", keys, "USDT", market_type=market_type, **settings)  # type: ignore[arg-type]
    account.client.milliseconds = lambda: loopback.clock.now_ms
    account.client.enableRateLimit = settings.get("purse") is not None
    point_at(account.client, url)
    return account
