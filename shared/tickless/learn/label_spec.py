"""The ``[label]`` table of a model specification, and the labels it asks for.

A classifier learns whether a label is above zero, a ranker its order among the pairs of a tick; every other algorithm the label itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Discriminator, Field, Tag

from tickless.bars import Floats, Panel
from tickless.features.table import FeatureTable
from tickless.learn.labels import Labels, build_labels, gain_labels, horizon_bars, net_labels, plain_labels
from tickless.learn.scope import ENTER, LEAVE
from tickless.learn.setup_outcome import SetupRules, Setups, setup_labels, setup_outcome
from tickless.learn.triple_barrier import Barriers, barrier_labels, triple_barrier
from tickless.settings import ExecutionSection, Section

Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


class ScaledReturnLabel(Section):
    """The forward return over the volatility of the horizon."""

    kind: Literal["forward_return_over_volatility"] = "forward_return_over_volatility"
    volatility: Literal["rv_24h"] = "rv_24h"
    """The feature, a 24 h volatility, that the forward return is divided by."""
    clip: Positive = 5.0
    """Scaled labels are clipped to plus or minus this."""
    relative: bool = False
    """Less the mean over the pairs of its tick: a choice of pairs does not need the market's own move, which drowns what it needs."""


class ReturnLabel(Section):
    """The forward return as it is."""

    kind: Literal["forward_return"] = "forward_return"


class NetReturnLabel(Section):
    """The forward return less the cost of a round trip."""

    kind: Literal["forward_return_net"] = "forward_return_net"


class GainLabel(Section):
    """1 where the forward return is above the cost of a round trip, else 0."""

    kind: Literal["gain"] = "gain"


class BarrierLabel(Section):
    """1 where a trade with a take-profit, a stop and the horizon as its time limit earns more than its cost, else 0."""

    kind: Literal["triple_barrier"] = "triple_barrier"
    unit: Literal["rv_24h", "rv_6h", "atr_14_30m_frac"] = "atr_14_30m_frac"
    """The feature, a fraction of the price, that the barriers are multiples of."""
    take_profit: Positive = 2.0
    stop: Positive = 1.0


class SetupLabel(Section):
    """1 where a set-up of the strategy, filled by the desk's own rules, earns more than it costs, else 0.

    It is entered where the strategy enters and left where the strategy leaves, or at a take-profit, a stop, or after the horizon.
    """

    kind: Literal["setup"] = "setup"
    unit: Literal["rv_24h", "rv_6h", "atr_14_30m_frac"] = "atr_14_30m_frac"
    """The feature, a fraction of the price, that the distances are multiples of."""
    take_profit: Positive | None = None
    """From the average entry; left out: none."""
    stop: Positive | None = None
    """From the average entry; left out: none."""
    limits_below: tuple[Positive, ...] = ()
    """Entries wait at limits so far below the close, in equal parts (a grid); empty: all is bought at the market, at the next open."""
    entry_bars: int = Field(default=1, ge=1, le=500)
    """Bars after which an entry that has not filled is cancelled."""


@dataclass(frozen=True)
class SetupHistory:
    """What the label of a set-up needs besides bars and features."""

    execution: ExecutionSection
    signals: FeatureTable
    """Where the strategy enters and leaves (``scope``), row for row."""


def _kind(label: Any) -> str:
    """Which of the labels a table, or a label, is."""
    return str(label.get("kind") if isinstance(label, Mapping) else getattr(label, "kind", None))


LabelSpec = Annotated[
    Annotated[ScaledReturnLabel, Tag("forward_return_over_volatility")]
    | Annotated[ReturnLabel, Tag("forward_return")]
    | Annotated[NetReturnLabel, Tag("forward_return_net")]
    | Annotated[GainLabel, Tag("gain")]
    | Annotated[BarrierLabel, Tag("triple_barrier")]
    | Annotated[SetupLabel, Tag("setup")],
    Discriminator(_kind),
]
KINDS = ("forward_return_over_volatility", "forward_return", "forward_return_net", "gain", "triple_barrier", "setup")
_CLASSES = ("gain", "triple_barrier", "setup")


def make_labels(
    panel: Panel, table: FeatureTable, horizon_h: float, label: LabelSpec, cost_frac: float, history: SetupHistory | None = None
) -> Labels:
    """The labels of a panel; ``table`` is its feature table, ``cost_frac`` a round trip, ``history`` what a set-up's label needs.

    Raises KeyError for a missing feature, ValueError for a set-up without a history.
    """
    match label:
        case ScaledReturnLabel():
            return build_labels(panel, table.feature(label.volatility), horizon_h, label.clip)
        case ReturnLabel():
            return plain_labels(panel, horizon_h)
        case NetReturnLabel():
            return net_labels(panel, horizon_h, cost_frac)
        case GainLabel():
            return gain_labels(panel, horizon_h, cost_frac)
        case BarrierLabel():
            barriers = Barriers(label.take_profit, label.stop, horizon_bars(horizon_h, panel.step_ms))
            return barrier_labels(triple_barrier(panel, table.feature(label.unit), barriers), "win", cost_frac)
        case SetupLabel():
            if history is None:
                raise ValueError("label 'setup': nothing says where the strategy enters")
            return _setup_labels(panel, table.feature(label.unit), horizon_h, label, history, cost_frac)


def _setup_labels(panel: Panel, unit: Floats, horizon_h: float, label: SetupLabel, history: SetupHistory, cost_frac: float) -> Labels:
    """Every entry of the strategy, played to its end; NaN where it enters nothing. ``unit`` (T, N) is what distances are multiples of."""
    row, pair = np.nonzero((history.signals.feature(ENTER) > 0.0) & ~np.isnan(panel.close))
    size, count = unit[row, pair], len(row)
    below = np.asarray(label.limits_below or (np.nan,))
    with np.errstate(invalid="ignore"):
        entry = panel.close[row, pair][:, None] * (1.0 - below * size[:, None])
    setups = Setups(
        row=row,
        pair=pair,
        entry=entry,
        share=np.full(entry.shape, 1.0 / len(below)),
        take_profit=np.full(count, np.nan) if label.take_profit is None else label.take_profit * size,
        stop=np.full(count, np.nan) if label.stop is None else label.stop * size,
        leave=_next_leave(history.signals)[row, pair],
    )
    if label.limits_below or label.take_profit is not None or label.stop is not None:
        setups = setups.take(np.isfinite(size))
    rules = SetupRules(label.entry_bars, horizon_bars(horizon_h, panel.step_ms), "distance")
    labels = setup_labels(panel, setups, setup_outcome(panel, setups, rules, history.execution))
    # Measures take a round trip off what a trade returned: given the return before it, they come to what the set-up earned.
    return replace(labels, plain=labels.plain + cost_frac)


def _next_leave(signals: FeatureTable) -> NDArray[np.intp]:
    """The first row after each at which the strategy leaves, (T, N); the number of rows where there is none."""
    last = signals.rows
    row = np.where(signals.feature(LEAVE) > 0.0, np.arange(last, dtype=np.intp)[:, None], last)
    nearest = np.minimum.accumulate(row[::-1], axis=0)[::-1]
    return np.concatenate((nearest[1:], np.full((min(1, last), row.shape[1]), last, dtype=np.intp)))


def reach_bars(label: LabelSpec, horizon_h: float, step_ms: int) -> int:
    """How many bars after the open that follows its decision a label may end at the latest: an entry that waits begins its time later."""
    return horizon_bars(horizon_h, step_ms) + (label.entry_bars if isinstance(label, SetupLabel) else 0)


def is_class(label: LabelSpec) -> bool:
    """Whether the label is 0 or 1 and so no return itself."""
    return label.kind in _CLASSES


def is_relative(label: LabelSpec) -> bool:
    """Whether a label, and so a forecast of it, is relative to the mean of the pairs of its tick."""
    return isinstance(label, ScaledReturnLabel) and label.relative


def in_returns(label: LabelSpec, y: Floats, plain: Floats, scale: Floats) -> Floats:
    """What the trade returned in units of ``scale``, (R,), which is what a forecast is judged against.

    The scaled label itself where it is one, clipped as it is learned; the plain return over ``scale`` for all others.
    """
    return y if label.kind == "forward_return_over_volatility" else plain / scale
