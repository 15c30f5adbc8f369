"""Windows anchored at fixed UTC instants, so that one tick and eight months compute the same bits.

Every bar belongs to the week (Monday 00:00 UTC) in which it opens. A tick reads bars from that Monday on, less the startup bars. What needs
a first row (the recursions and running sums of the regime) is computed on the window from there up to the bar itself, whichever caller
asks; a rolling feature looks at its own window alone (``features.rolling``), and any panel that holds its startup bars will do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import numpy as np

from tickless.bars import Floats, Panel
from tickless.types import from_ms, to_ms

_WEEK_MS = 7 * 86_400_000
_FIRST_MONDAY_MS = 4 * 86_400_000
"""1970-01-05 was a Monday."""

TAIL = 1e-6
"""A recursion is settled when what came before the window weighs less than this."""


def monday(at: datetime) -> datetime:
    """The Monday 00:00 UTC at or before ``at``."""
    return from_ms(_monday_ms(to_ms(at)))


def ema_startup_bars(bars: int) -> int:
    """Bars after which an EMA's memory of its start weighs below ``TAIL``: (1 - 2/(bars+1))^n < TAIL."""
    return math.ceil(math.log(TAIL) / math.log(1.0 - 2.0 / (bars + 1.0)))


def window_start(last_open: datetime, startup_bars: int, step_ms: int) -> datetime:
    """Where the window of the bar that opens at ``last_open`` begins."""
    return monday(last_open) - timedelta(milliseconds=startup_bars * step_ms)


def by_week(panel: Panel, startup_bars: int, compute: Callable[[Panel], Floats], since_row: int = 0) -> Floats:
    """Run ``compute`` on the window of every week that ``panel`` touches and put the rows of the weeks together.

    ``compute`` maps a panel to an array (L, ...) of its last L rows, row t from rows up to t only; L reaches back to the Monday at
    least. Returns (T, ...) for the panel's T rows; rows whose window begins before the panel are computed on what is there.
    With ``since_row`` only rows from there on are computed and returned; the ones before serve as startup.
    """
    out: Floats | None = None
    for begin, first, last in _weeks(panel, startup_bars):
        if last <= since_row:
            continue
        values = compute(panel.take(begin, last))
        if out is None:
            out = np.empty((panel.rows - since_row, *values.shape[1:]))
        wanted = last - max(first, since_row)
        out[last - since_row - wanted : last - since_row] = values[len(values) - wanted :]
    return compute(panel)[:0] if out is None else out


def _weeks(panel: Panel, startup_bars: int) -> Iterator[tuple[int, int, int]]:
    """(window's first row, week's first row, week's end row) of each week, clipped to the panel."""
    step = panel.step_ms
    first = 0
    while first < panel.rows:
        week_ms = _monday_ms(panel.start_ms + first * step)
        last = min(panel.rows, (week_ms + _WEEK_MS - panel.start_ms) // step)
        begin = max(0, (week_ms - panel.start_ms) // step - startup_bars)
        yield begin, first, last
        first = last


def _monday_ms(at_ms: int) -> int:
    return at_ms - (at_ms - _FIRST_MONDAY_MS) % _WEEK_MS
