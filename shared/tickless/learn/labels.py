"""Labels: what happened after a decision, and the interval each one looks at.

Row t is a decision at the close of bar t. The desk trades it at the open of bar t+1, so a label of H bars is open[t+1+H] / open[t+1] - 1:
the return between two prices at which a market order would really have filled. It reads bars t+1 to t+1+H and nothing else. Where the
price scale breaks between the decision and the label's last open (``tickless.breaks``), the two are prices of different things: no label.

Labels that depend on the path, and so end when the path says, are made by ``triple_barrier`` and ``setup_outcome``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tickless.alpha.ensemble import volatility_scale
from tickless.bars import Floats, Panel
from tickless.breaks import find_scale_breaks
from tickless.errors import DataError

Millis = NDArray[np.int64]


@dataclass(frozen=True)
class Labels:
    """Labels of every bar and pair; ``target`` is NaN where there is none."""

    target: Floats
    """What a model learns, (T, N): a return, a return over ``scale``, or the number of a class."""
    plain: Floats
    """What the trade returned as a fraction, (T, N). Before cost, unless the label's maker says otherwise."""
    scale: Floats
    """What a forecast of the target is multiplied by to be a plain return, (T, N): a volatility, or 1."""
    start_ms: Millis
    """The decision: the close of bar t, (T,). The label looks at [start_ms, end_ms)."""
    end_ms: Millis
    """The close of the last bar the label read, (T, N): from here on it is known. Means nothing where there is no label."""

    def __post_init__(self) -> None:
        shape = self.target.shape
        for name in ("plain", "scale", "end_ms"):
            if getattr(self, name).shape != shape:
                raise ValueError(f"labels: {name} has shape {getattr(self, name).shape}, expected {shape}")
        if self.start_ms.shape != shape[:1]:
            raise ValueError(f"labels: start_ms has shape {self.start_ms.shape}, expected {shape[:1]}")


def horizon_bars(horizon_h: float, step_ms: int) -> int:
    """Bars in a horizon; raises DataError unless it is a whole number of them."""
    bars, rest = divmod(round(horizon_h * 3_600_000), step_ms)
    if rest or bars < 1:
        raise DataError(f"a horizon of {horizon_h:g} h is not a whole number of bars of {step_ms // 60_000} min")
    return bars


def decided_ms(panel: Panel) -> Millis:
    """When each row is decided, the close of its bar, (T,)."""
    return panel.open_times_ms + panel.step_ms


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
    """Forward returns over the volatility of the horizon, clipped; ``rv_24h`` (T, N) as it was known at the decision."""
    labels = plain_labels(panel, horizon_h)
    scale = volatility_scale(rv_24h, horizon_h)
    return Labels(np.clip(labels.plain / scale, -clip, clip), labels.plain, scale, labels.start_ms, labels.end_ms)


def plain_labels(panel: Panel, horizon_h: float) -> Labels:
    """Forward returns as they are."""
    bars = horizon_bars(horizon_h, panel.step_ms)
    plain = forward_return(panel, bars)
    start = decided_ms(panel)
    end = np.broadcast_to((start + (bars + 1) * panel.step_ms)[:, None], plain.shape)
    return Labels(plain, plain, np.ones_like(plain), start, end)


def net_labels(panel: Panel, horizon_h: float, cost_frac: float) -> Labels:
    """Forward returns less ``cost_frac``, the cost of a round trip: what buying and selling would have left. ``plain`` is before cost."""
    labels = plain_labels(panel, horizon_h)
    return Labels(labels.plain - cost_frac, labels.plain, labels.scale, labels.start_ms, labels.end_ms)


def gain_labels(panel: Panel, horizon_h: float, cost_frac: float) -> Labels:
    """1 where the forward return was above the cost of a round trip, 0 where it was not. ``plain`` is before cost."""
    labels = plain_labels(panel, horizon_h)
    return Labels(one_if_above(labels.plain, cost_frac), labels.plain, labels.scale, labels.start_ms, labels.end_ms)


def one_if_above(values: Floats, limit: float) -> Floats:
    """1.0 where a value is above a limit, 0.0 where it is not, NaN where it is NaN."""
    return np.where(np.isnan(values), np.nan, (values > limit).astype(np.float64))
