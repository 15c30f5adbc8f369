"""What this desk has sent to Roostoo: the memory that its missing client order ids make necessary.

An order is written down before it is sent, with the likeness under which it will be found. Of two orders that are alike, the second is
sent only when the first one's number at Roostoo is known: so at any time one number at most is looked for under a likeness, and every
other number is known to be somebody else's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from threading import Lock
from typing import Protocol

from tickless.adapters.roostoo_answers import Likeness
from tickless.errors import LedgerError, RetryableError

KEPT_MS = 86_400_000
"""A final order is remembered for a day: until long after the ledger has booked it."""
FORGOTTEN_MS = 30 * KEPT_MS
MAX_KEPT = 400


@dataclass(frozen=True)
class SentOrder:
    """One order that was, or may have been, sent."""

    client_order_id: str
    like: Likeness
    sent_ms: int
    """The time stamp it carried, server time."""
    after_id: int
    """The largest number that was known when it was sent; Roostoo numbers orders upwards."""
    order_id: int = 0
    """Roostoo's number; 0 = not known."""
    final: bool = False
    """Filled, cancelled or never accepted: nothing more can happen."""


class SentStore(Protocol):
    """Where the memory is kept, as text."""

    def load(self) -> tuple[int, str]:
        """(version, text); (0, "") where there is none yet. Raises RetryableError."""
        ...

    def save(self, version: int, text: str) -> None:
        """Store the text as ``version + 1`` if the stored version is still ``version``. Raises RetryableError; it may be stored then."""
        ...


class MemorySentStore:
    """A SentStore in memory, with the conditional save of the DynamoDB one."""

    def __init__(self) -> None:
        self._version, self._text = 0, ""
        self._lock = Lock()

    def load(self) -> tuple[int, str]:
        """See ``SentStore.load``."""
        with self._lock:
            return self._version, self._text

    def save(self, version: int, text: str) -> None:
        """See ``SentStore.save``."""
        with self._lock:
            if version != self._version:
                raise RetryableError(f"orders sent to roostoo: version {version} was replaced by {self._version}")
            self._version, self._text = version + 1, text


class SentOrders:
    """The orders sent, in order of sending. Changes are saved by ``save``, all at once; a save that fails forgets them."""

    def __init__(self, store: SentStore) -> None:
        self._store = store
        self._version: int | None = None
        self._orders: dict[str, SentOrder] = {}
        self._largest_id = 0
        self._changed = False

    def get(self, client_order_id: str) -> SentOrder | None:
        """The order under an id, or None: then it was never sent."""
        return self._loaded().get(client_order_id)

    def unsettled(self, like: Likeness) -> SentOrder | None:
        """The order of a likeness whose number is not known, if there is one: there is one at most."""
        return next((sent for sent in self._loaded().values() if sent.like == like and not sent.order_id and not sent.final), None)

    def likenesses(self) -> dict[int, Likeness]:
        """What our orders look like, by number."""
        return {sent.order_id: sent.like for sent in self._loaded().values() if sent.order_id}

    def newest_id(self, pair: str) -> int:
        """The largest number of our orders of a pair; 0 where there is none."""
        return max((sent.order_id for sent in self._loaded().values() if sent.like.pair == pair), default=0)

    def largest_id(self) -> int:
        """The largest number seen of any order of the account."""
        self._loaded()
        return self._largest_id

    def saw(self, order_ids: Iterable[int]) -> None:
        """Note numbers that Roostoo has told of; not worth a write by themselves."""
        self._loaded()
        self._largest_id = max(self._largest_id, *order_ids, 0)

    def put(self, sent: SentOrder) -> None:
        """Add or replace an order."""
        if self._loaded().get(sent.client_order_id) != sent:
            self._orders[sent.client_order_id] = sent
            self._changed = True
        self.saw([sent.order_id])

    def learn(self, client_order_id: str, order_id: int, *, final: bool) -> None:
        """What the exchange says of an order that was sent."""
        known = self._loaded()[client_order_id]
        self.put(replace(known, order_id=order_id or known.order_id, final=known.final or final))

    def drop(self, client_order_id: str) -> None:
        """Forget an order that Roostoo has refused: it may be sent again under the same id."""
        if self._loaded().pop(client_order_id, None) is not None:
            self._changed = True

    def save(self, now_ms: int) -> None:
        """Store what has changed, if anything, without what is long over. Raises RetryableError."""
        orders = self._loaded()
        if not self._changed or self._version is None:
            return
        kept = [sent for sent in orders.values() if now_ms - sent.sent_ms < (KEPT_MS if sent.final else FORGOTTEN_MS)]
        over = [sent.client_order_id for sent in kept if sent.final][: max(0, len(kept) - MAX_KEPT)]
        kept = [sent for sent in kept if sent.client_order_id not in over]
        version, self._version = self._version, None
        self._store.save(version, _encode(self._largest_id, kept))
        self._version, self._changed = version + 1, False
        self._orders = {sent.client_order_id: sent for sent in kept}

    def _loaded(self) -> dict[str, SentOrder]:
        if self._version is None:
            self._version, text = self._store.load()
            self._largest_id, self._orders = _decode(text)
            self._changed = False
        return self._orders


def _encode(largest_id: int, orders: Iterable[SentOrder]) -> str:
    rows = [
        [s.client_order_id, s.like.pair, s.like.side, s.like.type, str(s.like.qty), s.sent_ms, s.after_id, s.order_id, int(s.final)]
        for s in orders
    ]
    return json.dumps({"largest_id": largest_id, "orders": rows}, separators=(",", ":"))


def _decode(text: str) -> tuple[int, dict[str, SentOrder]]:
    if not text:
        return 0, {}
    try:
        content = json.loads(text)
        orders = [
            SentOrder(name, Likeness(pair, side, kind, Decimal(qty)), sent_ms, after_id, order_id, bool(final))
            for name, pair, side, kind, qty, sent_ms, after_id, order_id, final in content["orders"]
        ]
        return int(content["largest_id"]), {sent.client_order_id: sent for sent in orders}
    except (ValueError, TypeError, LookupError, ArithmeticError) as error:
        raise LedgerError(f"orders sent to roostoo: the stored text cannot be read: {error}") from error
