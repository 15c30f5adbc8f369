"""Do the startup bars suffice? Every window begins weeks earlier, and nothing that counts may change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from tickless.bars import Floats, Panel
from tickless.features import rotation as rotation_features
from tickless.features.windows import TAIL, window_start
from tickless.regimes import ema_trend
from tickless.runs.gather import market_pair
from tickless.settings import Settings
from tickless.types import from_ms, to_ms

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


def prove_startup(panel: Panel, pairs: Sequence[str], settings: Settings, start: datetime, end: datetime, weeks: int) -> StartupProof:
    """Features and regime of every bar that closes in [start, end), with their own startup bars and with up to ``weeks`` weeks more."""
    known = panel.between(panel.start, end)
    mine, market = known.select(pairs), known.select([market_pair(settings)])
    since, gap = max(0, mine.row_at(start) - 1), settings.universe.max_gap_bars
    extra = _extra_bars(mine, since, settings, weeks)
    if extra == 0:
        return StartupProof(0, ())
    few = rotation_features.build_features(mine, gap, since)
    many = rotation_features.build_features(mine, gap, since, extra)
    largest = _largest_difference(few.values, many.values).max(axis=0)
    columns = [Settled(name, float(value)) for name, value in zip(few.names, largest, strict=True)]
    r_24h = few.feature("r_24h")
    short = ema_trend.detect(market, r_24h, settings.rotation, gap)
    long = ema_trend.detect(market, r_24h, settings.rotation, gap, extra)
    columns += [
        Settled("regime", float(np.mean(short.names != long.names))),
        Settled("volatility_regime", float(np.mean(short.volatility != long.volatility))),
        Settled("volatility_ann_frac", float(_largest_difference(short.volatility_ann_frac, long.volatility_ann_frac))),
    ]
    return StartupProof(extra, tuple(columns))


def _extra_bars(panel: Panel, since: int, settings: Settings, weeks: int) -> int:
    """How many bars the data have before the first window, at most ``weeks`` weeks; 0 where that is less than one."""
    step, timeframe = panel.step_ms, panel.timeframe
    first_open = from_ms(panel.start_ms + since * step)
    startups = (rotation_features.startup_bars(timeframe), ema_trend.startup_bars(settings.rotation, timeframe))
    spare = min((to_ms(window_start(first_open, startup, step)) - panel.start_ms) // step for startup in startups)
    return min(spare, weeks * _WEEK_MS // step) if spare >= _WEEK_MS // step else 0


def _largest_difference(few: Floats, many: Floats) -> Floats:
    """(T, ...) twice → (...): the largest difference over time, relative to the largest absolute value of ``few``."""
    scale = np.fmax.reduce(np.abs(few), axis=0, initial=0.0)
    difference = np.where(np.isnan(few) & np.isnan(many), 0.0, np.abs(few - many))
    largest = np.max(np.where(np.isnan(difference), np.inf, difference), axis=0, initial=0.0)
    return np.asarray(largest / np.where(scale > 0.0, scale, 1.0))
