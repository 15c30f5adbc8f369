"""The real ccxt client, its code and its URLs unchanged: only the last step, the transport, leads to loopback.

ccxt chooses some of its exceptions by the host of a URL (-4116 is InvalidOrder at fapi.binance.com and nothing in particular elsewhere), so
a client whose ``urls`` are overwritten would see other errors than one that talks to Binance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.loopback.world import World


def point_at(client: Any, url: str) -> Any:
    """Lead every request of a ccxt client to ``url``; nothing it sends reaches another host. Returns the client."""
    from tests.loopback.transport import LoopbackTransport

    for prefix in ("https://", "http://"):
        client.session.mount(prefix, LoopbackTransport(url))
    return client


def ccxt_client(exchange_id: str, url: str, world: World, now_ms: Callable[[], int] | None = None, **config: Any) -> Any:
    """A ccxt client with the world's key, pointed at ``url``. ``now_ms`` is the clock it signs with; None = the machine's."""
    import ccxt

    settings = {"apiKey": world.key, "secret": world.secret, "enableRateLimit": False, "timeout": 2000, **config}
    client = getattr(ccxt, exchange_id)(settings)
    client.options["fetchMargins"] = False
    client.options["fetchOpenOrders"] = {"warnWithoutSymbol": False}
    client.has["fetchCurrencies"] = False
    if exchange_id == "binance":
        client.options["fetchMarkets"] = {"types": ["spot"]}
    if now_ms is not None:
        client.milliseconds = now_ms
    return point_at(client, url)
