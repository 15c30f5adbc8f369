"""The ``[label]`` table of a model specification, and the labels it asks for.

A classifier learns whether a label is above zero, a ranker its order among the pairs of a tick; every other algorithm the label itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from tickless.bars import Floats, Panel
from tickless.features.table import FeatureTable
from tickless.learn.labels import Labels, build_labels, gain_labels, horizon_bars, net_labels, plain_labels
from tickless.learn.triple_barrier import Barriers, barrier_labels, triple_barrier
from tickless.settings import Section

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


def _kind(label: Any) -> str:
    """Which of the labels a table, or a label, is."""
    return str(label.get("kind") if isinstance(label, Mapping) else getattr(label, "kind", None))


LabelSpec = Annotated[
    Annotated[ScaledReturnLabel, Tag("forward_return_over_volatility")]
    | Annotated[ReturnLabel, Tag("forward_return")]
    | Annotated[NetReturnLabel, Tag("forward_return_net")]
    | Annotated[GainLabel, Tag("gain")]
    | Annotated[BarrierLabel, Tag("triple_barrier")],
    Discriminator(_kind),
]
KINDS = ("forward_return_over_volatility", "forward_return", "forward_return_net", "gain", "triple_barrier")
_CLASSES = ("gain", "triple_barrier")


def make_labels(panel: Panel, table: FeatureTable, horizon_h: float, label: LabelSpec, cost_frac: float) -> Labels:
    """The labels of a panel; ``table`` is its feature table, ``cost_frac`` a round trip. Raises KeyError for a missing feature."""
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
