"""What real data do to a pair, done to a panel: each returns the panel with one more scar."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from tickless.bars import COLUMNS, Floats, Panel

PRICES = COLUMNS[:4]


def _changed(panel: Panel, change: Callable[[dict[str, Floats]], None]) -> Panel:
    columns = {name: getattr(panel, name).copy() for name in COLUMNS}
    change(columns)
    return replace(panel, **columns)


def absent(panel: Panel, pair: str, first: int, last: int | None = None) -> Panel:
    """No bars in rows [first, last): a gap, a late listing, or, without ``last``, the end of a pair."""

    def change(columns: dict[str, Floats]) -> None:
        for values in columns.values():
            values[first:last, panel.column[pair]] = np.nan

    return _changed(panel, change)


def rescaled(panel: Panel, pair: str, row: int, factor: float, gap: int = 24) -> Panel:
    """A redenomination: no bars in the ``gap`` rows before ``row``, and ``factor`` times the price from there on."""

    def change(columns: dict[str, Floats]) -> None:
        n = panel.column[pair]
        for name in PRICES:
            columns[name][row:, n] *= factor
        columns["volume"][row:, n] /= factor

    return absent(_changed(panel, change), pair, row - gap, row)


def idle(panel: Panel, pair: str, first: int, last: int) -> Panel:
    """Nothing traded in rows [first, last): bars without volume at the last close."""

    def change(columns: dict[str, Floats]) -> None:
        n = panel.column[pair]
        for name in PRICES:
            columns[name][first:last, n] = columns["close"][first - 1, n]
        columns["volume"][first:last, n] = 0.0

    return _changed(panel, change)


def crashed(panel: Panel, pair: str, row: int, path: Sequence[float] = (0.8, 0.5, 0.3, 0.2), at_once: bool = False) -> Panel:
    """A fall along ``path`` (fractions of what the price would have been) while trading goes on; it stays at the last of them.

    ``at_once`` opens the first of its bars at its close: a hole in the price, where else the bar falls through the prices between.
    """

    def change(columns: dict[str, Floats]) -> None:
        n = panel.column[pair]
        was = 1.0
        for k, part in enumerate(path):
            close = columns["close"][row + k, n] * part
            opened = close if at_once and k == 0 else columns["open"][row + k, n] * was
            columns["open"][row + k, n], columns["close"][row + k, n] = opened, close
            columns["high"][row + k, n], columns["low"][row + k, n] = max(opened, close), min(opened, close)
            columns["volume"][row + k, n] *= 5.0
            was = part
        for name in PRICES:
            columns[name][row + len(path) :, n] *= path[-1]

    return _changed(panel, change)


def battered(panel: Panel, first: int, seed: int, spared: str = "") -> Panel:
    """Scars of every kind at random times after row ``first``, on every pair but one."""
    rng = np.random.default_rng(seed)
    room = panel.rows - first
    for pair in panel.pairs:
        if pair == spared:
            continue
        at = first + int(rng.integers(room // 8, room // 2))
        kind = int(rng.integers(0, 8))
        if kind == 0:
            panel = rescaled(panel, pair, at, float(rng.choice([1000.0, 0.001, 5.5, 0.1])), int(rng.integers(1, 40)))
        elif kind == 1:
            quiet = idle(panel, pair, at - int(rng.integers(1, 30)), at)
            panel = rescaled(quiet, pair, at, float(rng.choice([1000.0, 0.01])), gap=0)
        elif kind == 2:
            panel = absent(panel, pair, at)
        elif kind == 3:
            panel = crashed(panel, pair, at, at_once=bool(rng.integers(0, 2)))
        elif kind == 4:
            panel = idle(panel, pair, at, at + int(rng.integers(1, 60)))
        elif kind == 5:
            panel = absent(panel, pair, 0, at)
        elif kind == 6:
            panel = rescaled(panel, pair, at + 120, float(rng.choice([2.0, 0.25])), gap=100)
        else:
            panel = rescaled(rescaled(panel, pair, at, 1000.0, 3), pair, at + 6, 0.001, 3)
    return panel
