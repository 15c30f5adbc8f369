"""The life of an order: what may follow what. Pure; every change is written under the desk's fencing number.

::

    intent ──▶ submitted ──▶ open ──▶ partially_filled ──▶ filled
      │            │           │             │
      └────────────┴─▶ unknown ┘             ├──▶ canceled | expired
                       (asked for by id)     └──▶ rejected (before any fill)
"""

from __future__ import annotations

from collections.abc import Mapping

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


def next_status(now: S, reported: S, *, has_fills: bool) -> S:
    """The status of an order after the exchange has reported one; ``has_fills``: whether any of it has filled, by this report or before.

    Total, because a desk must not stop over a report. An exchange that calls an order open although some of it is filled means
    ``partially_filled``, and one that calls it rejected then means ``canceled``. What cannot follow changes nothing: a report from before
    a later one (open after partially_filled), and anything after an end. The fills of such a report count all the same; see ``book``.
    """
    told = _of_filled(reported) if has_fills else reported
    return told if told in FOLLOWS[now] else now


def _of_filled(reported: S) -> S:
    """What a status means of an order that has fills."""
    if reported in (S.OPEN, S.SUBMITTED, S.UNKNOWN):
        return S.PARTIALLY_FILLED
    return S.CANCELED if reported is S.REJECTED else reported
