"""Which rows a training may learn from: those on which the desk could have acted then, and of a strategy of set-ups would have.

A pair that was not listed yet, too young, too little traded, or without a bar at a close could not have been bought at it: what came after
is no lesson. A strategy that scans looks at a pair only where it finds a set-up; its models learn from these alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tickless.bars import Panel
from tickless.errors import DataError
from tickless.features import crossover as crossover_features
from tickless.features.table import FeatureTable
from tickless.learn.dataset import tradable_then
from tickless.learn.experience import TickExperience
from tickless.learn.experience_samples import entered
from tickless.settings import STRATEGY_SECTIONS, CrossoverSection, Section, Settings, UniverseSection

ENTER, LEAVE = "enter", "leave"
"""The columns of a table of signals: 1 where a strategy would enter at the next open, or leave what it holds; else 0."""


@dataclass(frozen=True)
class Scope:
    """What of a desk's settings says which rows it could have acted on."""

    universe: UniverseSection
    strategy: Mapping[str, Section]
    """The sections of the desk's strategies, by name."""
    experience: tuple[TickExperience, ...] | None = None
    """Take set-ups from these ticks, where an entry was decided; None: from bars, where the strategy would have entered."""

    @classmethod
    def of(cls, settings: Settings) -> Scope:
        """The scope of a desk."""
        return cls(settings.universe, dict(settings.strategy))

    def rows(self, panel: Panel, signals: FeatureTable | None = None) -> NDArray[np.bool_]:
        """Rows to learn from, (T, N): where a pair could have been bought, and where ``signals`` are given, would have been."""
        rows = tradable_then(panel, self.universe)
        return rows if signals is None else rows & (signals.feature(ENTER) > 0.0)

    def signals(self, panel: Panel, strategy: str) -> FeatureTable:
        """Where a strategy that scans enters and leaves, row for row with ``panel``. Raises DataError where nobody can say."""
        section = self.strategy.get(strategy)
        if section is None:
            raise DataError(f"the desk does not run the strategy {strategy!r}: nobody can say where it would have entered")
        if strategy not in SIGNALS:
            raise DataError(f"strategy {strategy!r}: learn.scope.SIGNALS does not say where it enters; known: {', '.join(SIGNALS)}")
        table = SIGNALS[strategy][0](panel, section, self.universe)
        if self.experience is None:
            return table
        enter = entered(self.experience, panel).astype(np.float64)
        return replace(table, values=np.stack((enter, table.feature(LEAVE)), axis=2))

    def startup_bars(self) -> int:
        """Bars before a row that settle the signals of every strategy that has any."""
        return max((self.signal_startup_bars(name) for name in self.strategy if name in SIGNALS), default=0)

    def signal_startup_bars(self, strategy: str) -> int:
        """Bars before a row that settle a strategy's signals."""
        return SIGNALS[strategy][1](self.strategy[strategy], self.universe)

    def as_json(self) -> dict[str, Any]:
        """As it travels with a training job, which has bars and nothing else; raises ValueError for a scope of experience."""
        if self.experience is not None:
            raise ValueError("a training job has bars, no experience: rows of experience are trained where they are")
        strategy = {name: section.model_dump(mode="json") for name, section in self.strategy.items()}
        return {"universe": self.universe.model_dump(mode="json"), "strategy": strategy}

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Scope:
        """Read what ``as_json`` wrote; raises ValueError, KeyError."""
        strategy = {name: STRATEGY_SECTIONS[name].model_validate(section) for name, section in said["strategy"].items()}
        return cls(UniverseSection.model_validate(said["universe"]), strategy)


def _crossover_section(section: Section) -> CrossoverSection:
    if not isinstance(section, CrossoverSection):
        raise TypeError(f"not a section of crossover: {type(section).__name__}")
    return section


def _crossover(panel: Panel, section: Section, universe: UniverseSection) -> FeatureTable:
    table = crossover_features.build_averages(panel, _crossover_section(section), universe.max_gap_bars)
    enter, leave = crossover_features.enters(table), crossover_features.leaves(table)
    values = np.stack((enter, leave), axis=2).astype(np.float64)
    return FeatureTable(panel.timeframe, panel.pairs, (ENTER, LEAVE), panel.start_ms, values)


def _crossover_startup(section: Section, universe: UniverseSection) -> int:
    return crossover_features.average_startup_bars(_crossover_section(section), universe.max_gap_bars)


_Maker = Callable[[Panel, Section, UniverseSection], FeatureTable]
_Startup = Callable[[Section, UniverseSection], int]
SIGNALS: Mapping[str, tuple[_Maker, _Startup]] = {"crossover": (_crossover, _crossover_startup)}
"""By strategy that scans: its signals over history, and how many bars settle them. A new strategy of set-ups adds itself here."""
