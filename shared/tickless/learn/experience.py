"""Experience: what a strategy saw, forecast and decided at each tick of a day, and what came of it.

It is made from the ticks' traces once every outcome of the day is known, and never changed. Models are compared, and drift is measured, on
experience alone, so on what really was forecast in time. One row is a pair at a tick under one model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from math import nan
from typing import Any

import numpy as np

from tickless.alpha.ensemble import volatility_scale
from tickless.bars import Floats, Panel
from tickless.learn.labels import forward_return, horizon_bars
from tickless.types import to_ms

EVIDENCE = "evidence"
"""The key of a trace under which a tick's features and forecasts stand."""
VOLATILITY = "rv_24h"
"""The feature by which outcomes are scaled."""
PLAIN_HORIZON_H = 24.0
"""How far the outcome of a strategy without models looks."""
Decision = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Said:
    """What one model said of the pairs of a tick, and what came. Arrays are float64 (N,); NaN = nothing."""

    model: str
    """Empty for a strategy without models."""
    version: str
    """Empty where no version might be used: the outcome is there all the same."""
    stage: str
    """``champion`` or ``shadow`` when it spoke."""
    horizon_h: float
    forecast: Floats
    """A plain return over the horizon."""
    probability: Floats
    """Of a classifier: what it gave the event."""
    outcome: Floats
    """The return between the two prices at which a market order would have filled: the open after the tick, and that a horizon later."""
    scaled: Floats
    """The outcome over the volatility of the horizon as it was known at the tick."""
    until_ms: int
    """From when on the outcome was known, and the event."""
    won: Floats
    """1 where the event of which the probability speaks came, 0 where it did not; NaN where nobody knows, or no probability was given."""


@dataclass(frozen=True, eq=False)
class TickExperience:
    """One tick."""

    at: datetime
    pairs: tuple[str, ...]
    feature_names: tuple[str, ...]
    features: Floats
    """(N, F), as the strategy saw them; NaN = not settled."""
    said: tuple[Said, ...]
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    """By pair: action, reason, and score and confidence where there are any."""

    def scale(self, horizon_h: float) -> Floats:
        """The volatility of a horizon as it was known at the tick, (N,), by which outcomes are scaled; NaN where nobody knew it."""
        if VOLATILITY not in self.feature_names:
            return np.full(len(self.pairs), nan)
        return volatility_scale(self.features[:, self.feature_names.index(VOLATILITY)], horizon_h)

    def of(self, model: str, version: str) -> Said | None:
        """What a version said."""
        return next((said for said in self.said if said.model == model and said.version == version), None)


@dataclass(frozen=True, eq=False)
class ExperienceDay:
    """All ticks of one strategy on one UTC day, in order."""

    strategy: str
    day: date
    ticks: tuple[TickExperience, ...]

    @cached_property
    def kept(self) -> dict[Any, Any]:
        """What was worked out of the day, which never changes, by what it is: a backtest asks for the same every night."""
        return {}

    @cached_property
    def known_ms(self) -> int:
        """From when on every outcome of the day was known; 0 of a day without ticks."""
        return max((said.until_ms for tick in self.ticks for said in tick.said), default=0)

    @cached_property
    def versions(self) -> frozenset[tuple[str, str]]:
        """(model, version) of all that spoke."""
        return frozenset((said.model, said.version) for tick in self.ticks for said in tick.said if said.version)


def known_after(horizon_h: float, step_ms: int) -> timedelta:
    """How long after the midnight that begins a day all outcomes of its ticks are known, with the last bar that they read."""
    return timedelta(days=1, hours=horizon_h, milliseconds=step_ms)


def make_day(
    strategy: str, day: date, traces: Iterable[tuple[datetime, Mapping[str, Any]]], panel: Panel, horizons: Mapping[str, float]
) -> ExperienceDay:
    """A day's experience from its ticks' traces, in order of time. Traces without evidence are left out.

    ``panel`` holds the bars up to where the last outcome is known. ``horizons`` are those, by name, of all models that the strategy would
    use: where a tick had none of a name, its row says what came without a forecast, so that later models can learn from it. Whether a
    classifier's event came is for ``experience_events`` to say, which knows its label.
    """
    longest_h = max([PLAIN_HORIZON_H, *horizons.values()])
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    step = timedelta(milliseconds=panel.step_ms)
    outcomes = _Outcomes(panel.between(midnight - step, midnight + known_after(longest_h, panel.step_ms)))
    ticks = []
    for at, trace in traces:
        evidence = trace.get(EVIDENCE)
        if evidence is not None:
            ticks.append(_tick(at, evidence, trace.get("pairs", {}), outcomes, horizons))
    return ExperienceDay(strategy, day, tuple(ticks))


def _tick(
    at: datetime, evidence: Mapping[str, Any], decisions: Mapping[str, Decision], outcomes: _Outcomes, horizons: Mapping[str, float]
) -> TickExperience:
    pairs, names = tuple(evidence["pairs"]), tuple(evidence["features"]["names"])
    features = numbers(evidence["features"]["values"]).reshape(len(pairs), len(names))
    volatility = features[:, names.index(VOLATILITY)] if VOLATILITY in names else np.full(len(pairs), nan)
    said = [
        outcomes.add(at, pairs, volatility, entry, numbers(entry["forecast"]), _optional(entry.get("probability"), len(pairs)))
        for entry in evidence["said"]
    ]
    champions = {one.model for one in said if one.stage == "champion"}
    silent = {name: hours for name, hours in (horizons or {"": PLAIN_HORIZON_H}).items() if name not in champions}
    unknown = np.full(len(pairs), nan)
    for name, hours in silent.items():
        nobody = {"model": name, "version": "", "stage": "", "horizon_h": hours}
        said.append(outcomes.add(at, pairs, volatility, nobody, unknown, unknown))
    return TickExperience(at, pairs, names, features, tuple(said), decisions)


def numbers(values: Any) -> Floats:
    """A float64 array of what a trace holds: an array, or JSON in which null is NaN."""
    return np.asarray(values, dtype=np.float64)


def _optional(values: Any, count: int) -> Floats:
    return np.full(count, nan) if values is None else numbers(values)


class _Outcomes:
    """What came after a tick, by the desk's label rule."""

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        self._returns: dict[int, Floats] = {}
        self._columns: dict[tuple[str, ...], np.ndarray[tuple[int, ...], np.dtype[np.intp]]] = {}

    def add(
        self, at: datetime, pairs: tuple[str, ...], volatility: Floats, entry: Mapping[str, Any], forecast: Floats, probability: Floats
    ) -> Said:
        hours = float(entry["horizon_h"])
        bars = horizon_bars(hours, self._panel.step_ms)
        plain = self._plain(at, pairs, bars)
        until_ms = to_ms(at) + (bars + 1) * self._panel.step_ms
        scaled = plain / volatility_scale(volatility, hours)
        nobody_knows = np.full(len(pairs), nan)
        return Said(entry["model"], entry["version"], entry["stage"], hours, forecast, probability, plain, scaled, until_ms, nobody_knows)

    def _plain(self, at: datetime, pairs: tuple[str, ...], bars: int) -> Floats:
        if bars not in self._returns:
            self._returns[bars] = forward_return(self._panel, bars)
        if pairs not in self._columns:
            column = self._panel.column
            self._columns[pairs] = np.array([column.get(pair, -1) for pair in pairs], dtype=np.intp)
        columns = self._columns[pairs]
        row, rest = divmod(to_ms(at) - self._panel.start_ms, self._panel.step_ms)
        if rest or not 1 <= row <= self._panel.rows:
            return np.full(len(pairs), nan)
        return np.where(columns >= 0, self._returns[bars][row - 1].take(columns, mode="clip"), nan)


def experience_days(days: Iterable[ExperienceDay], since: datetime) -> tuple[TickExperience, ...]:
    """The ticks of days in order that lie at or after ``since``."""
    return tuple(tick for day in days for tick in day.ticks if tick.at >= since)


def stack_features(ticks: Sequence[TickExperience], names: Sequence[str]) -> Floats:
    """The features ``names`` of all pairs at all ticks, (R, F), as float32 saw them; a tick that lacks one of them is left out."""
    whole = [tick for tick in ticks if set(names) <= set(tick.feature_names)]
    parts = [tick.features[:, [tick.feature_names.index(name) for name in names]] for tick in whole]
    stacked: Floats = np.concatenate(parts).astype(np.float32).astype(np.float64) if parts else np.empty((0, len(names)))
    return stacked
