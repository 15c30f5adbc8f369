"""The real ccxt client, its code and its URLs unchanged: only the last step, the transport, leads to loopback.

ccxt chooses some of its exceptions by the host of a URL (-4116 is InvalidOrder at fapi.binance.com and nothing in particular elsewhere), so
a client whose ``urls`` are overwritten would see other errors than one that talks to Binance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter

from tests.loopback.world import World


class LoopbackTransport(HTTPAdapter):
    """Sends what was meant for any host to one on loopback; path, query, headers and body stay as they are."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        meant = urlsplit(request.url or "")
        sent = request.copy()
        sent.url = f"{self._url}{meant.path}" + (f"?{meant.query}" if meant.query else "")
        kwargs["proxies"] = {}
        response = super().send(sent, *args, **kwargs)
        response.url = request.url or ""
        return response


def point_at(client: Any, url: str) -> Any:
    """Lead every request of a ccxt client to ``url``; nothing it sends reaches another host. Returns the client."""
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
