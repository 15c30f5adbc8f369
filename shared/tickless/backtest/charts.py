"""Charts as plain SVG: drawn once, here, so that the page needs no library, no network and no script to show them.

A plot is a stretched SVG (lines keep their width) under HTML labels, so that it fits a phone and a wide screen alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import escape
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tickless.types import to_ms

Floats = NDArray[np.float64]
WIDTH, HEIGHT = 1000, 300
_STEPS_H = (1, 2, 3, 6, 12, 24, 48, 72, 168, 336)


@dataclass(frozen=True)
class Series:
    """A line: what it is called, its style class and its values, shape (T,)."""

    name: str
    style: str
    values: Floats
    filled: bool = False


@dataclass(frozen=True)
class Axis:
    """A value axis: its range, and where its labels stand."""

    low: float
    high: float
    marks: tuple[float, ...]

    def y(self, values: Floats) -> Floats:
        """Heights in the SVG, 0 at the top."""
        return (self.high - values) / (self.high - self.low) * HEIGHT


@dataclass(frozen=True)
class TimeAxis:
    """The time axis, shared by all plots of a page."""

    start_ms: int
    end_ms: int

    def x(self, at_ms: NDArray[np.int64] | Sequence[int]) -> Floats:
        """Places in the SVG, clipped to the plot."""
        share = (np.asarray(at_ms, dtype=np.float64) - self.start_ms) / max(1, self.end_ms - self.start_ms)
        return np.clip(share, 0.0, 1.0) * WIDTH

    def marks(self, most: int = 8) -> list[tuple[float, str]]:
        """Labels at round times: (place as a share of the width, text)."""
        start, end = (datetime.fromtimestamp(ms / 1000, UTC) for ms in (self.start_ms, self.end_ms))
        times = _month_starts(start, end) if end - start > timedelta(days=100) else _round_times(start, end, most)
        while len(times) > most:
            times = times[::2]
        wanted = "%b %Y" if end - start > timedelta(days=100) else "%H:%M" if end - start <= timedelta(days=1) else "%-d %b"
        labels = [at.strftime(wanted) for at in times]
        if wanted == "%-d %b" and len(set(labels)) < len(labels):
            # Several ticks a day: what is no midnight says its hour.
            labels = [at.strftime("%-d %b" if (at.hour, at.minute) == (0, 0) else "%H:%M") for at in times]
        return [(float(self.x([to_ms(at)])[0]) / WIDTH, label) for at, label in zip(times, labels, strict=True)]


def value_axis(values: Iterable[float], most: int = 5, include: float | None = None) -> Axis:
    """An axis with round marks around all values; a flat line gets room on both sides."""
    known = [value for value in values if math.isfinite(value)] + ([] if include is None else [include])
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    if high - low <= 1e-9 * max(1.0, abs(high)):
        room = abs(high) * 0.01 or 1.0
        low, high = low - (0 if include == low else room), high + room
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    marks = tuple(round(n * step, 12) for n in range(first, last + 1))
    return Axis(marks[0], marks[-1], marks)


def sample(values: Floats, buckets: int = 700) -> NDArray[np.intp]:
    """Rows that draw the same picture as all rows: of each bucket the lowest, the highest and the last; rising."""
    rows = len(values)
    if rows <= 3 * buckets:
        return np.arange(rows)
    edges = np.linspace(0, rows, buckets + 1).astype(int)
    chosen = {0, rows - 1}
    for first, last in pairwise(edges.tolist()):
        part = values[first:last]
        chosen |= {first + int(part.argmin()), first + int(part.argmax()), last - 1}
    return np.asarray(sorted(chosen), dtype=np.intp)


def line_plot(
    name: str, series: Sequence[Series], axis: Axis, times: TimeAxis, at_ms: NDArray[np.int64], texts: Sequence[str], back: str = ""
) -> str:
    """Lines over time. ``texts`` label the axis marks; ``back`` is SVG behind the lines."""
    x = times.x(at_ms)
    shapes = [back, grid(axis)]
    base = float(axis.y(np.asarray([0.0]))[0])
    for line in series:
        corners = points(x, axis.y(line.values))
        if line.filled and corners:
            area = f"M{x[0]:.1f} {base:.1f}L{corners}L{x[-1]:.1f} {base:.1f}Z"
            shapes.append(f'<path class="area {line.style}" d="{area}"/>')
        if corners:
            shapes.append(f'<path class="line {line.style}" d="M{corners}"/>')
    return framed(name, "".join(shapes), y_labels(axis, texts) + x_labels(times.marks()))


def bar_plot(name: str, edges: Sequence[float], counts: Sequence[int], labels: Sequence[tuple[float, str]]) -> str:
    """A histogram; bars left of zero and right of it differ in style. ``edges`` has one more entry than ``counts``."""
    axis = value_axis([0, *counts], most=4, include=0.0)
    low, high = edges[0], edges[-1]
    shapes = [grid(axis)]
    for n, count in enumerate(counts):
        if count:
            left, right = ((edge - low) / (high - low) * WIDTH for edge in edges[n : n + 2])
            top = float(axis.y(np.asarray([float(count)]))[0])
            style = "gain" if edges[n] >= -1e-12 else "loss"
            text = f"{count:,} trades from {edges[n] * 100:.2f} % to {edges[n + 1] * 100:.2f} %"
            box = f'x="{left + 1:.1f}" y="{top:.1f}" width="{max(1.0, right - left - 2):.1f}" height="{HEIGHT - top:.1f}"'
            shapes.append(f'<rect class="{style}" {box}><title>{text}</title></rect>')
    texts = [f"{mark:,.0f}" if mark == int(mark) else "" for mark in axis.marks]
    return framed(name, "".join(shapes), y_labels(axis, texts) + x_labels(labels))


def bands(times: TimeAxis, at_ms: NDArray[np.int64], names: Sequence[str]) -> str:
    """Background bands: one path for each name, over the runs of rows that carry it."""
    paths: dict[str, list[str]] = {}
    first = 0
    for n in range(1, len(names) + 1):
        if n == len(names) or names[n] != names[first]:
            left, right = times.x([int(at_ms[first]), int(at_ms[n]) if n < len(names) else times.end_ms])
            paths.setdefault(names[first], []).append(f"M{left:.1f} 0H{right:.1f}V{HEIGHT}H{left:.1f}Z")
            first = n
    return "".join(f'<path class="band {_style(name)}" d="{"".join(paths[name])}"/>' for name in sorted(paths))


def moments(times: TimeAxis, marks: Sequence[tuple[int, str]]) -> str:
    """Short lines at the top edge at moments (milliseconds), each with a text that shows when pointed at."""
    parts = []
    for at, text in marks:
        x = f"{float(times.x([at])[0]):.1f}"
        parts.append(f'<line class="mark" x1="{x}" x2="{x}" y1="0" y2="{HEIGHT / 8:g}"><title>{escape(text)}</title></line>')
    return "".join(parts)


def _style(name: str) -> str:
    return "r-" + ("".join(c if c.isalnum() else "-" for c in name.lower()) or "none")


def framed(name: str, shapes: str, labels: str) -> str:
    """A plot: stretched shapes under their labels."""
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{escape(name)}">{shapes}</svg>'
    return f'<div class="plot" data-plot="{escape(name)}">{svg}{labels}</div>'


def points(x: Floats, y: Floats) -> str:
    """A line's corners as SVG."""
    return " ".join(f"{a:.1f} {b:.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True))


def grid(axis: Axis) -> str:
    """A line at every mark."""
    heights = axis.y(np.asarray(axis.marks)).tolist()
    return "".join(f'<line class="grid" x1="0" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>' for y in heights)


def y_labels(axis: Axis, texts: Sequence[str]) -> str:
    """A text at every mark."""
    tops = (axis.y(np.asarray(axis.marks)) / HEIGHT * 100).tolist()
    return "".join(f'<span class="y" style="top:{top:.2f}%">{escape(text)}</span>' for top, text in zip(tops, texts, strict=True))


def x_labels(marks: Sequence[tuple[float, str]]) -> str:
    """Texts below, each at a share of the width."""
    parts = []
    for n, (share, text) in enumerate(marks):
        odd = " odd" if n % 2 else ""
        parts.append(f'<span class="x{odd}" style="left:{share * 100:.2f}%">{escape(text)}</span>')
    return "".join(parts)


def _month_starts(start: datetime, end: datetime) -> list[datetime]:
    months = range(start.year * 12 + start.month - 1, end.year * 12 + end.month)
    times = [datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC) for month in months]
    return [at for at in times if start <= at <= end]


def _round_times(start: datetime, end: datetime, most: int) -> list[datetime]:
    hours = (end - start) / timedelta(hours=1)
    step = timedelta(hours=next((h for h in _STEPS_H if hours / h <= most), _STEPS_H[-1]))
    at = start.replace(hour=0, minute=0, second=0, microsecond=0)
    times = []
    while at <= end:
        if at >= start:
            times.append(at)
        at += step
    return times
