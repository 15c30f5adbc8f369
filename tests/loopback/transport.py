"""The last step of a client's request, apart from all else here: importing ``requests`` takes longer than starting an exchange."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter


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
