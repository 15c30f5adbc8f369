"""Do the startup bars suffice? Every window begins weeks earlier, and nothing that counts may change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tickless.bars import Floats
from tickless.features.windows import TAIL
from tickless.runs.market_history import History

_WEEK_MS = 7 * 86_400_000


@dataclass(frozen=True)
class Settled:
    """One feature, or one column of the regime."""

    name: str
    largest_difference: float
    """Relative to the largest absolute value that the pair's feature takes in the range; of the regime's names, the share of rows that
    differ. Infinite where one of the two is NaN and the other is not."""

    @property
    def settled(self) -> bool:
        """What came before the window weighs less than ``TAIL``."""
        return self.largest_difference < TAIL


@dataclass(frozen=True)
class StartupProof:
    """What more history changed."""

    extra_bars: int
    """By how many base bars every window began earlier; 0 where the data do not reach back for a week more, so that nothing is shown."""
    columns: tuple[Settled, ...]


def prove_startup(whole: Callable[[int], History], spare_bars: int, weeks: int) -> StartupProof:
    """All that a history computes, with its own startup bars and with up to ``weeks`` weeks more.

    ``whole`` builds the history of the range with so many extra startup bars; ``spare_bars`` is how many the data have before its first
    window.
    """
    bars_a_week = _WEEK_MS // whole(0).step_ms
    extra = min(spare_bars, weeks * bars_a_week) if spare_bars >= bars_a_week else 0
    if extra == 0:
        return StartupProof(0, ())
    few, many = whole(0).columns(), whole(extra).columns()
    return StartupProof(extra, tuple(Settled(name, _difference(few[name], many[name])) for name in few))


def _difference(few: NDArray[Any], many: NDArray[Any]) -> float:
    """The largest relative difference of a column; of names the share of rows that differ."""
    if few.dtype.kind != "f":
        return float(np.mean(few != many))
    return float(np.max(_largest_difference(few, many), initial=0.0))


def _largest_difference(few: Floats, many: Floats) -> Floats:
    """(T, ...) twice → (...): the largest difference over time, relative to the largest absolute value of ``few``."""
    scale = np.fmax.reduce(np.abs(few), axis=0, initial=0.0)
    difference = np.where(np.isnan(few) & np.isnan(many), 0.0, np.abs(few - many))
    largest = np.max(np.where(np.isnan(difference), np.inf, difference), axis=0, initial=0.0)
    return np.asarray(largest / np.where(scale > 0.0, scale, 1.0))
