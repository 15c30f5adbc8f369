"""How each exchange is told our id of an order, and the proof, before anything is sent, that it is told.

An order is looked for under the id that we gave it. ccxt hands that id on under ``clientOrderId`` at most exchanges; at some it wants
another name, drops the id without a word, or refuses one that is too long. So each exchange has a form here, by which our id is written
both when an order is sent and when it is looked for; and each request that creates an order is looked at on its way out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

from tickless.adapters.ccxt_client import MarketType
from tickless.errors import OrderRejectedError, SettingsError
from tickless.settings import exchange_refusal

_NAMESPACE = UUID("6f1d2c0a-5c1e-5e0b-9f43-6a0f4b6f7c21")
GATE_LETTERS = 26
"""Gate's ``text`` is ``t-`` and more; ccxt takes 28 characters in all."""


@dataclass(frozen=True)
class IdForm:
    """How one exchange is told an order's id."""

    sent_as: tuple[str, ...]
    """The field of the exchange's own request that holds it; one for each kind of order."""
    param: str = "clientOrderId"
    """What ccxt calls it."""
    write: Callable[[str], str] = str
    """From our id to the exchange's: the same for the same, and different for different ones."""


def _for_gate(client_order_id: str) -> str:
    """The end of our id is its digest."""
    return f"t-{client_order_id[-GATE_LETTERS:]}"


def _for_kraken(client_order_id: str) -> str:
    """Kraken takes 18 characters of free text, or the 32 of a UUID."""
    return uuid5(_NAMESPACE, client_order_id).hex


_BINANCE, _OKX, _GATE = IdForm(("newClientOrderId", "clientAlgoId")), IdForm(("clOrdId",)), IdForm(("text",), write=_for_gate)
FORMS: Mapping[str, IdForm] = {
    "binance": _BINANCE,
    "binanceus": _BINANCE,
    "binanceusdm": _BINANCE,
    "bingx": IdForm(("newClientOrderId",)),
    "bitget": IdForm(("clientOid",)),
    "bybit": IdForm(("orderLinkId",)),
    "coinbase": IdForm(("client_order_id",), "client_order_id"),
    "cryptocom": IdForm(("client_oid",), "client_oid"),
    "gate": _GATE,
    "gateeu": _GATE,
    "htx": IdForm(("client-order-id",)),
    "kraken": IdForm(("cl_ord_id",), write=_for_kraken),
    "kucoin": IdForm(("clientOid",)),
    "mexc": IdForm(("newClientOrderId",)),
    "myokx": _OKX,
    "okx": _OKX,
    "okxus": _OKX,
}
"""By ccxt's name; those of ``PROVEN_EXCHANGES``."""


def id_form(exchange_id: str, market_type: MarketType) -> IdForm:
    """The form of an exchange; raises SettingsError for one that a live desk may not trade at."""
    why = exchange_refusal(exchange_id, market_type)
    if why:
        raise SettingsError(f"desk.exchange: {exchange_id!r}: {why}")
    return FORMS[exchange_id]


class SentIds:
    """Stands where ccxt signs every request: inside ``holding`` none that changes anything goes out without the id."""

    def __init__(self, client: Any, form: IdForm) -> None:
        self._form = form
        self._expected = ""
        self._sign: Callable[..., Any] = client.sign
        client.sign = self._checked

    @contextmanager
    def holding(self, client_order_id: str) -> Iterator[dict[str, Any]]:
        """What ccxt must be given for an id to be sent. Inside, a request without it is an OrderRejectedError, and nothing is sent."""
        self._expected = self._form.write(client_order_id)
        try:
            yield {self._form.param: self._expected}
        finally:
            self._expected = ""

    def _checked(self, *args: Any, **kwargs: Any) -> Any:
        request = self._sign(*args, **kwargs)
        if self._expected and request.get("method") != "GET" and not self._holds(f"{request.get('url')} {request.get('body') or ''}"):
            names = " or ".join(self._form.sent_as)
            raise OrderRejectedError(f"not sent: the request has no {names} {self._expected!r}, so the order could never be found again")
        return request

    def _holds(self, text: str) -> bool:
        """Whether a field of a query or of JSON is the id, to the letter."""
        names = "|".join(map(re.escape, self._form.sent_as))
        return re.search(rf'(?<![\w-])(?:{names})(?:=|"\s*:\s*"){re.escape(self._expected)}(?![\w-])', text) is not None
