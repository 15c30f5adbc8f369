"""Labels: what happened after a decision, and the interval each one looks at.

Row t is a decision at the close of bar t. The desk trades it at the open of bar t+1, so a label of H bars is open[t+1+H] / open[t+1] - 1:
the return between two prices at which a market order would really have filled. It reads bars t+1 to t+1+H and nothing else. Where the
price scale breaks between the decision and the label's last open (``tickless.breaks``), the two are prices of different things: no label.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tickless.alpha.ensemble import volatility_scale
from tickless.bars import Floats, Panel
from tickless.breaks import find_scale_breaks

Millis = NDArray[np.int64]


@dataclass(frozen=True)
class Labels:
    """Labels of every bar and pair. NaN where one of the two opens, or the volatility, is missing, and across a break of the scale."""

    plain: Floats
    """Forward return as a fraction, (T, N)."""
    scaled: Floats
    """``plain`` over ``scale``, clipped, (T, N)."""
    scale: Floats
    """The volatility of the horizon, (T, N): what a scaled forecast is multiplied by."""
    start_ms: Millis
    """The decision: the close of bar t, (T,). The label looks at [start_ms, end_ms)."""
    end_ms: Millis
    """The close of the last bar the label reads: from here on it is known, (T,)."""


def horizon_bars(horizon_h: float, step_ms: int) -> int:
    """Bars in a horizon; raises ValueError unless it is a whole number of them."""
    bars, rest = divmod(round(horizon_h * 3_600_000), step_ms)
    if rest or bars < 1:
        raise ValueError(f"a horizon of {horizon_h:g} h is not a whole number of bars of {step_ms // 60_000} min")
    return bars


def forward_return(panel: Panel, bars: int) -> Floats:
    """open[t+1+bars] / open[t+1] - 1, shape (T, N); NaN at the end, where an open is missing, and where a break lies in between."""
    result = np.full(panel.open.shape, np.nan)
    rows = panel.rows - bars - 1
    if rows > 0:
        result[:rows] = panel.open[1 + bars :] / panel.open[1 : 1 + rows] - 1.0
    for found in find_scale_breaks(panel):
        result[max(0, found.row - 1 - bars) : found.row, panel.column[found.pair]] = np.nan
    return result


def build_labels(panel: Panel, rv_24h: Floats, horizon_h: float, clip: float) -> Labels:
    """The labels of a panel, volatility-scaled with the pairs' ``rv_24h`` (T, N) as it was known at the decision."""
    bars = horizon_bars(horizon_h, panel.step_ms)
    plain = forward_return(panel, bars)
    scale = volatility_scale(rv_24h, horizon_h)
    start = panel.open_times_ms + panel.step_ms
    return Labels(plain, np.clip(plain / scale, -clip, clip), scale, start, start + (bars + 1) * panel.step_ms)
