"""What the contracts of an account have paid and cost, as the exchange's own history tells it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from tickless.adapters.ccxt_orders import read_number
from tickless.adapters.ccxt_requests import AccountRequests
from tickless.types import Funding, from_ms, to_ms

TELLING = frozenset({"binance", "binanceusdm"})
"""Exchanges that tell of a whole account at once; elsewhere funding shows as a small deposit or withdrawal."""
WINDOW = timedelta(days=7)
"""How far back is asked: payments that a desk has missed for longer cannot be told apart from deposits."""
PAGE, PAGES = 1000, 20


def funding_since(at: datetime) -> datetime:
    """From when on the payments are told that an account which is looked at ``at`` a time has seen."""
    return at - WINDOW


def fetch_funding(requests: AccountRequests, stake: str, at: datetime) -> tuple[Funding, ...]:
    """The payments in the stake currency after ``funding_since(at)``, by time. Raises RetryableError, AccountError, ExchangeError."""
    client, since_ms = requests.client, to_ms(funding_since(at))
    found: dict[tuple[str, str], Funding] = {}
    since = since_ms
    for _ in range(PAGES):
        page = requests.ask(f"{client.id}: funding", partial(_page, client, since, stake))
        found |= {(payment.id, payment.pair): payment for payment in page if payment is not None}
        if len(page) < PAGE:
            break
        # Payments of the same moment may go on in the next page: what is told again counts once.
        since = max((to_ms(payment.paid_at) for payment in page if payment is not None), default=since + 1)
    kept = (payment for payment in found.values() if to_ms(payment.paid_at) > since_ms)
    return tuple(sorted(kept, key=lambda payment: (payment.paid_at, payment.id, payment.pair)))


def _page(client: Any, since: int, stake: str) -> list[Funding | None]:
    """The payments of a page, None for those in another currency. Raises ValueError naming the field."""
    raws = client.fetch_funding_history(None, since, PAGE)
    if not isinstance(raws, list):
        raise ValueError(f"funding: {str(raws)[:80]!r} is not a list")
    return [_read(raw, stake) for raw in raws]


def _read(raw: Any, stake: str) -> Funding | None:
    if not isinstance(raw, Mapping):
        raise ValueError(f"funding: {str(raw)[:80]!r} is not an object")
    number, paid_ms, code = raw.get("id"), raw.get("timestamp"), raw.get("code")
    if not number or not isinstance(paid_ms, int) or not isinstance(code, str):
        raise ValueError(f"funding: id {number!r}, timestamp {paid_ms!r} or code {code!r} makes no sense")
    amount = read_number(raw.get("amount"), "funding.amount")
    return Funding(str(number), from_ms(paid_ms), str(raw.get("symbol")), amount) if code == stake else None
