"""The strategies there are, what each sees, and which of them a function runs. A new strategy adds itself here and to its settings."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from tickless.errors import EventError
from tickless.runs.crossover_history import CrossoverHistory
from tickless.runs.market_history import HistoryFactory
from tickless.runs.rotation_history import RotationHistory
from tickless.settings import Settings
from tickless.strategies.contract import Strategy
from tickless.types import Tick

STRATEGIES: Mapping[str, Strategy] = {strategy.name: strategy for strategy in (CrossoverHistory.strategy, RotationHistory.strategy)}
HISTORIES: Mapping[str, HistoryFactory] = {"crossover": CrossoverHistory, "rotation": RotationHistory}


def strategy_of(tick: Tick, settings: Settings) -> Strategy:
    """The strategy that a tick runs: a scan's own, else the one that the desk rebalances.

    Raises EventError where the desk does not run it.
    """
    name = tick.strategy or settings.calendar.rebalanced
    if name not in settings.strategy:
        what = f"the strategy {tick.strategy!r}" if tick.strategy else "a strategy that is rebalanced"
        raise EventError(f"event of {tick.function}: this desk does not run {what}; it runs {', '.join(sorted(settings.strategy))}")
    return STRATEGIES[name]


def desk_strategies(settings: Settings) -> list[Strategy]:
    """Every strategy of the desk, by name."""
    return [STRATEGIES[name] for name in sorted(settings.strategy)]


def history_start(settings: Settings, at: datetime) -> datetime:
    """The first bar that a trading tick at ``at`` needs: the earliest that any strategy of the desk asks for."""
    return min(strategy.first_bar(settings, at) for strategy in desk_strategies(settings))


def extra_pairs(settings: Settings) -> set[str]:
    """Pairs that the desk's strategies look at, whether they are in the universe or not."""
    return {pair for strategy in desk_strategies(settings) for pair in strategy.extra_pairs(settings)}
