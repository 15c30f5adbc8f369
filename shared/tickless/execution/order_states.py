"""The life of an order: what may follow what. Pure; every change is written under the desk's fencing number.

::

    intent ──▶ submitted ──▶ open ──▶ partially_filled ──▶ filled
      │            │           │             │
      └────────────┴─▶ unknown ┘             ├──▶ canceled | expired
                       (asked for by id)     └──▶ rejected (before any fill)
"""

from __future__ import annotations

from collections.abc import Mapping

from tickless.errors import LedgerError
from tickless.types import OrderStatus as S

_ENDS = frozenset({S.FILLED, S.CANCELED, S.EXPIRED, S.REJECTED})
FOLLOWS: Mapping[S, frozenset[S]] = {
    S.INTENT: _ENDS | {S.SUBMITTED, S.OPEN, S.PARTIALLY_FILLED, S.UNKNOWN},
    S.SUBMITTED: _ENDS | {S.OPEN, S.PARTIALLY_FILLED, S.UNKNOWN},
    # An answer that was lost may have been any; an order that was seen open is not unknown again.
    S.UNKNOWN: _ENDS | {S.SUBMITTED, S.OPEN, S.PARTIALLY_FILLED},
    S.OPEN: _ENDS | {S.PARTIALLY_FILLED},
    S.PARTIALLY_FILLED: frozenset({S.FILLED, S.CANCELED, S.EXPIRED}),
    **dict.fromkeys(_ENDS, frozenset()),
}
"""Each status, and those that may come next; staying is always allowed."""


def next_status(client_order_id: str, now: S, reported: S, *, has_fills: bool) -> S:
    """The status of an order after the exchange has reported one.

    An exchange that calls an order open although some of it is filled means ``partially_filled``. A report from before a later one (open
    after partially_filled) changes nothing. Raises LedgerError for what cannot be: an end that is no end.
    """
    told = S.PARTIALLY_FILLED if has_fills and reported in (S.OPEN, S.SUBMITTED) else reported
    if told is now or told in FOLLOWS[now]:
        return told
    if not now.is_final and not told.is_final:
        return now
    raise LedgerError(f"order {client_order_id}: the exchange says {reported.value} of an order that is {now.value}")
