"""What a strategy sees of the market: built once for a range of ticks, sliced at each.

A tick of the cloud builds it from its own window of bars, for that one tick; a backtest from the whole history, for all. It is the same
code, and its rows do not depend on where the panel begins (rule 8 of the architecture), so that both see the same bits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tickless.bars import Floats, Panel
from tickless.portfolio.universe import LOW_VOLUME, NO_BAR, OK, TOO_YOUNG, assign_tiers, median_daily_volume
from tickless.ports import ModelStore
from tickless.settings import Settings
from tickless.strategies.contract import Strategy
from tickless.strategies.view import MarketView
from tickless.types import to_ms


class History(Protocol):
    """The views of one strategy, for every tick from some time on."""

    pairs: tuple[str, ...]
    forecasting: bool
    """Whether the strategy has models to fall back from."""

    table_start_ms: int
    """When the first row of ``columns`` opens."""
    step_ms: int
    """Milliseconds of a row."""

    def view(self, at: datetime) -> MarketView:
        """What the strategy sees at ``at``."""
        ...

    def still(self, at: datetime) -> bool:
        """Whether all that the strategy sees at ``at`` makes it do nothing, and say of every pair what it said one bar before.

        False where nobody has looked. Holdings that have changed since are the caller's business.
        """
        ...

    def columns(self) -> Mapping[str, NDArray[Any]]:
        """All that was computed from bars, by name: (T, N) a feature, (T,) what is the market's. Proofs compare them."""
        ...


class HistoryFactory(Protocol):
    """Builds a history from ``panel``, all bars known, of which ``pairs`` are the universe; ``start`` is the first tick."""

    def __call__(
        self, panel: Panel, pairs: Sequence[str], settings: Settings, start: datetime, models: ModelStore, extra_startup_bars: int = 0
    ) -> History:
        """Build it. ``extra_startup_bars`` begins every window that much earlier, which must change nothing that counts."""
        ...


class MarketHistory(ABC):
    """What every strategy's history has: the universe's bars, its tiers, and who may be bought.

    ``panel`` holds all bars known to the run, those before ``start`` included; nothing after a tick's time reaches its view.
    """

    strategy: Strategy
    forecasting = False

    def __init__(
        self, panel: Panel, pairs: Sequence[str], settings: Settings, start: datetime, models: ModelStore, extra_startup_bars: int = 0
    ) -> None:
        self.before: MarketHistory | None = None
        """What a tick sees at which no bar has closed yet: nothing."""
        if panel.start >= start:
            nothing = Panel.empty(panel.timeframe, panel.pairs, start - timedelta(milliseconds=panel.step_ms), start)
            self.before = type(self)(nothing, pairs, settings, start, models)
            start = panel.start + timedelta(milliseconds=panel.step_ms)
        self.panel = panel
        self.pairs = tuple(pairs)
        self.settings = settings
        self.models = models
        self.mine = panel.select(self.pairs)
        self.extra_startup_bars = extra_startup_bars
        self.first_row = self.mine.row_at(start) - 1
        self.step_ms = panel.step_ms
        self.table_start_ms = panel.start_ms + self.first_row * panel.step_ms
        self._all_fine = (OK,) * len(self.pairs)
        self._days: dict[datetime, tuple[NDArray[np.int64], Floats]] = {}

    @abstractmethod
    def view(self, at: datetime) -> MarketView:
        """See ``History.view``."""

    @abstractmethod
    def columns(self) -> Mapping[str, NDArray[Any]]:
        """See ``History.columns``."""

    def still(self, at: datetime) -> bool:  # noqa: ARG002 - the protocol's signature
        """See ``History.still``."""
        return False

    def _universe(self, at: datetime, row: int) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """Tiers, and why each pair may not be bought."""
        tiers, volume = self._day(at)
        return tiers, self._ineligible(at, row, volume)

    def _day(self, at: datetime) -> tuple[NDArray[np.int64], Floats]:
        """Tiers (N,) and median daily volumes (N,), which change at midnight."""
        day = at.replace(hour=0, minute=0, second=0, microsecond=0)
        if day not in self._days:
            volume = median_daily_volume(self.mine, day, self.settings.universe)
            self._days[day] = (assign_tiers(self.pairs, volume, self.settings.universe), volume)
        return self._days[day]

    @cached_property
    def _bars_before(self) -> NDArray[np.int32]:
        """How many bars each pair has in rows [0, t), shape (T + 1, N)."""
        count = np.zeros((self.mine.rows + 1, len(self.pairs)), dtype=np.int32)
        np.cumsum(~np.isnan(self.mine.close), axis=0, out=count[1:])
        return count

    @cached_property
    def _all_here(self) -> NDArray[np.bool_]:
        """Rows in which no pair lacks its bar, (T,)."""
        return np.asarray(~np.isnan(self.mine.close).any(axis=1))

    def _ineligible(self, at: datetime, row: int, volume: Floats) -> tuple[str, ...]:
        """``portfolio.universe.eligibility`` on the window that a live tick reads, from counts of bars."""
        universe, panel = self.settings.universe, self.mine
        if self._all_here[row] and universe.min_age_days == 0.0 and universe.min_daily_volume == 0.0:
            return self._all_fine
        first = max(0, -(-(to_ms(self.strategy.first_bar(self.settings, at)) - panel.start_ms) // panel.step_ms))
        min_age_bars = int(universe.min_age_days * 86_400_000 // panel.step_ms)
        until = min(max(first, row + 1 - min_age_bars + 1), row + 1)
        here = self._bars_before[row + 1] > self._bars_before[row]
        old = self._bars_before[until] > self._bars_before[first]
        liquid = np.nan_to_num(volume) >= universe.min_daily_volume
        if here.all() and old.all() and liquid.all():
            return self._all_fine
        flags = zip(here.tolist(), old.tolist(), liquid.tolist(), strict=True)
        return tuple(NO_BAR if not h else TOO_YOUNG if not o else LOW_VOLUME if not v else OK for h, o, v in flags)
