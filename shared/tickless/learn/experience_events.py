"""Whether the event of which a classifier's probability speaks came, by the code of its label: what its calibration is measured on. Pure.

A probability is that of the model's own label being above zero: for ``gain`` a return above the cost, for ``triple_barrier`` and ``setup``
a trade that ended well on its path. The sign of the plain outcome is none of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np

from tickless.alpha.ensemble import round_trip_cost_frac
from tickless.bars import Panel
from tickless.features.table import FeatureTable
from tickless.learn.experience import ExperienceDay, Said, TickExperience
from tickless.learn.label_spec import SetupHistory, is_relative, make_labels, reach_bars
from tickless.learn.leak_checks import rows_of
from tickless.learn.scope import Scope
from tickless.learn.spec import ModelSpec
from tickless.settings import ExecutionSection
from tickless.types import to_ms

_SCALES = ("rv_24h", "rv_6h", "atr_14_30m_frac")
"""What labels are measured in units of."""


def mark_events(day: ExperienceDay, panel: Panel, specs: Sequence[ModelSpec], execution: ExecutionSection, scope: Scope) -> ExperienceDay:
    """The day with ``won`` wherever a model of ``specs`` gave a probability; all else as it is.

    ``panel`` holds the bars from the startup of the strategies' signals up to where the last event is known (``label_spec.reach_bars``).
    A row of which the label says nothing, of no set-up or without a bar, has no event.
    """
    told = {said.model for tick in day.ticks for said in tick.said if _speaks(said)}
    events = {spec.name: _Event(day, panel, spec, execution, scope) for spec in specs if spec.name in told}
    if not events:
        return day

    def marked(tick: TickExperience, said: Said) -> Said:
        return events[said.model].mark(tick, said) if said.model in events and _speaks(said) else said

    return replace(day, ticks=tuple(replace(tick, said=tuple(marked(tick, said) for said in tick.said)) for tick in day.ticks))


def _speaks(said: Said) -> bool:
    return not np.isnan(said.probability).all()


class _Event:
    """The label of one specification over a day's ticks, made as trainings make it."""

    def __init__(self, day: ExperienceDay, panel: Panel, spec: ModelSpec, execution: ExecutionSection, scope: Scope) -> None:
        midnight, step = datetime(day.day.year, day.day.month, day.day.day, tzinfo=UTC), timedelta(milliseconds=panel.step_ms)
        self._reach_ms = (reach_bars(spec.label, spec.horizon_h, panel.step_ms) + 1) * panel.step_ms
        end = midnight + timedelta(days=1, milliseconds=self._reach_ms)
        self._panel, self._relative = panel.between(midnight - step, end), is_relative(spec.label)
        history = None
        if spec.of_setups:
            startup = scope.signal_startup_bars(spec.strategy)
            signals = scope.signals(panel.between(midnight - (startup + 1) * step, end), spec.strategy)
            history = SetupHistory(execution, rows_of(signals, self._panel))
        cost_frac = round_trip_cost_frac(execution)
        self._target = make_labels(self._panel, _seen(day, self._panel), spec.horizon_h, spec.label, cost_frac, history).target

    def mark(self, tick: TickExperience, said: Said) -> Said:
        """What was said, with the event where it is known, and when that was."""
        row = _row(self._panel, tick.at)
        if row is None:
            return said
        columns = np.array([self._panel.column.get(pair, -1) for pair in tick.pairs], dtype=np.intp)
        target = np.where(columns >= 0, self._target[row].take(columns, mode="clip"), np.nan)
        known = ~np.isnan(target)
        if self._relative and known.any():
            target = target - target[known].mean()
        won = np.where(known & ~np.isnan(said.probability), (target > 0.0).astype(np.float64), np.nan)
        return replace(said, won=won, until_ms=max(said.until_ms, to_ms(tick.at) + self._reach_ms))


def _seen(day: ExperienceDay, panel: Panel) -> FeatureTable:
    """What the ticks of the day saw of the scales of labels, row for row with the panel; NaN between ticks."""
    values = np.full((panel.rows, len(panel.pairs), len(_SCALES)), np.nan)
    for tick in day.ticks:
        row = _row(panel, tick.at)
        if row is None:
            continue
        here = [n for n, pair in enumerate(tick.pairs) if pair in panel.column]
        columns = [panel.column[tick.pairs[n]] for n in here]
        for place, name in enumerate(_SCALES):
            if name in tick.feature_names:
                values[row, columns, place] = tick.features[here, tick.feature_names.index(name)]
    return FeatureTable(panel.timeframe, panel.pairs, _SCALES, panel.start_ms, values)


def _row(panel: Panel, at: datetime) -> int | None:
    """The bar at whose close a tick decides; None where there is no such bar."""
    closed, rest = divmod(to_ms(at) - panel.start_ms, panel.step_ms)
    return int(closed) - 1 if not rest and 1 <= closed <= panel.rows else None
