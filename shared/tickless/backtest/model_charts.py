"""Charts of models: columns with whiskers, a mean inside its interval, a reliability curve. Plain SVG, like ``charts``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from tickless.backtest.charts import WIDTH, Axis, Floats, Series, TimeAxis, framed, grid, points, value_axis, x_labels, y_labels
from tickless.backtest.walk_results import OverTime
from tickless.learn.classification import CurveBin

Form = Callable[[float], str]


def ic_text(value: float) -> str:
    """A correlation with four decimals; a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:z.4f}".replace("-", "−")


def loss_text(value: float) -> str:
    """A log loss with three digits; a dash for NaN."""
    return "–" if math.isnan(value) else f"{value + 0.0:.3g}".replace("-", "−")


def percent_text(value: float) -> str:
    """A fraction in per cent, four digits."""
    return f"{value * 100 + 0.0:,.4g} %".replace("-", "−")


@dataclass(frozen=True)
class Column:
    """One column from zero to ``value``, with a whisker from ``low`` to ``high`` and a bar across at ``beside``. NaN = not drawn."""

    label: str
    """Under the column; may be empty."""
    title: str
    """Shows when pointed at."""
    value: float
    low: float = math.nan
    high: float = math.nan
    beside: float = math.nan


def column_plot(name: str, columns: Sequence[Column], form: Form) -> str:
    """Columns in their order; those above zero and those below differ in style."""
    values = [value for column in columns for value in (column.value, column.low, column.high, column.beside)]
    axis = value_axis(values, most=4, include=0.0)
    width = WIDTH / max(1, len(columns))
    shapes = [grid(axis)]
    labels = []
    for n, column in enumerate(columns):
        shapes.append(_column(column, axis, n * width, width))
        if column.label:
            labels.append(((n + 0.5) / len(columns), column.label))
    return framed(name, "".join(shapes), y_labels(axis, [form(mark) for mark in axis.marks]) + x_labels(labels))


def _column(column: Column, axis: Axis, left: float, width: float) -> str:
    if math.isnan(column.value):
        return ""
    zero, top = (float(y) for y in axis.y(np.asarray([0.0, column.value])))
    style = "gain" if column.value >= 0 else "loss"
    box = f'x="{left + 0.2 * width:.1f}" y="{min(zero, top):.1f}" width="{0.6 * width:.1f}" height="{max(1.0, abs(top - zero)):.1f}"'
    shapes = [f'<rect class="{style}" {box}><title>{escape(column.title)}</title></rect>']
    middle = left + 0.5 * width
    if not math.isnan(column.low + column.high):
        low, high = (float(y) for y in axis.y(np.asarray([column.low, column.high])))
        shapes.append(f'<line class="whisker" x1="{middle:.1f}" x2="{middle:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>')
    if not math.isnan(column.beside):
        y = float(axis.y(np.asarray([column.beside]))[0])
        ends = f'x1="{left + 0.1 * width:.1f}" x2="{left + 0.9 * width:.1f}"'
        shapes.append(f'<line class="beside" {ends} y1="{y:.1f}" y2="{y:.1f}"/>')
    return "".join(shapes)


def interval_plot(
    name: str, lines: Sequence[Series], low: Floats, high: Floats, times: TimeAxis, at_ms: NDArray[np.int64], form: Form
) -> str:
    """Lines over time with the band of an interval behind them; what is NaN is left out."""
    axis = value_axis([*low.tolist(), *high.tolist(), *(value for line in lines for value in line.values.tolist())], most=4, include=0.0)
    x = times.x(at_ms)
    known = np.isfinite(low) & np.isfinite(high)
    shapes = [grid(axis)]
    if known.any():
        there, back = points(x[known], axis.y(high[known])), points(x[known][::-1], axis.y(low[known])[::-1])
        shapes.append(f'<path class="area desk" d="M{there}L{back}Z"/>')
    for line in lines:
        here = np.isfinite(line.values)
        if here.any():
            shapes.append(f'<path class="line {line.style}" d="M{points(x[here], axis.y(line.values[here]))}"/>')
    return framed(name, "".join(shapes), y_labels(axis, [form(mark) for mark in axis.marks]) + x_labels(times.marks()))


def mean_plot(name: str, curve: OverTime, times: TimeAxis, form: Form) -> str:
    """A mean so far inside its interval, beside the linear baseline's."""
    # The first days' interval is so wide that nothing else could be seen beside it.
    settled = np.arange(len(curve.mean)) >= min(14, len(curve.mean) // 4)
    linear, mean, low, high = (np.where(settled, part, np.nan) for part in (curve.linear, curve.mean, curve.low, curve.high))
    lines = [Series("Linear baseline", "linear", linear), Series("Mean so far", "desk", mean)]
    return interval_plot(name, lines, low, high, times, curve.at_ms, form)


def reliability_plot(name: str, curve: Sequence[CurveBin], form: Form) -> str:
    """How often an event came against how likely it was said to be, with intervals; on the dotted line both agree."""
    axis = value_axis([value for part in curve for value in (part.forecast, part.low, part.high)], most=4)
    ends = np.asarray([axis.low, axis.high])

    def x(values: Floats) -> Floats:
        return (values - axis.low) / (axis.high - axis.low) * WIDTH

    shapes = [grid(axis), f'<path class="line btc" d="M{points(x(ends), axis.y(ends))}"/>']
    forecast, frequency = (np.asarray([getattr(part, key) for part in curve]) for key in ("forecast", "frequency"))
    for at, part in zip(x(forecast), curve, strict=True):
        bottom, top = axis.y(np.asarray([part.low, part.high]))
        shapes.append(f'<line class="whisker" x1="{at:.1f}" x2="{at:.1f}" y1="{bottom:.1f}" y2="{top:.1f}"/>')
    shapes.append(f'<path class="line desk" d="M{points(x(forecast), axis.y(frequency))}"/>')
    places = [((mark - axis.low) / (axis.high - axis.low), form(mark)) for mark in axis.marks]
    return framed(name, "".join(shapes), y_labels(axis, [form(mark) for mark in axis.marks]) + x_labels(places))
