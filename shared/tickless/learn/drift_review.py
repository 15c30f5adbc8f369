"""Drift as experience shows it: what a version is given against what it was fitted on, and what its forecasts are worth of late. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import numpy as np

from tickless.learn.classification import calibration_error, reliability_curve
from tickless.learn.drift import DriftLimits, DriftReport, judge_drift, sustained_z
from tickless.learn.drift_reference import WINDOW_DAYS, DriftReference
from tickless.learn.experience import TickExperience, stack_features
from tickless.learn.measures import mean_and_error
from tickless.learn.track import Track
from tickless.types import to_ms

_Z_ROWS = 10
"""The mean of a day needs so many rows."""
_YEAR_H = 24.0 * 365.0


def measure_drift(
    reference: DriftReference | None,
    limits: DriftLimits,
    ticks: Sequence[TickExperience],
    track: Track | None,
    at: datetime,
    min_periods: int,
) -> DriftReport:
    """Everything a version's limits speak of, at ``at``: its inputs against ``reference``, and the worth of its forecasts of late.

    ``ticks`` are those of its strategy, in order, ``track`` its own. What there is too little of to tell is NaN and breaches nothing:
    forecasts are judged by ``min_periods`` horizons that share nothing, or not at all.
    """
    psi, feature_z = _inputs(reference, limits, ticks, at) if reference is not None else ({}, {})
    recent = track.since(at - timedelta(days=limits.rolling_days)) if track is not None else None
    if recent is not None and recent.periods < min_periods:
        recent = None
    ic, ic_error = _rank_ic(recent) if recent is not None else (math.nan, 0.0)
    sharpe, sharpe_error = _sharpe(recent, min_periods) if recent is not None else (math.nan, 0.0)
    return judge_drift(
        limits,
        psi=psi,
        feature_z=feature_z,
        psi_widest=reference.widest if reference is not None else None,
        rolling_ic=ic,
        rolling_ic_error=ic_error,
        rolling_sharpe=sharpe,
        rolling_sharpe_error=sharpe_error,
        calibration_error=_calibration(recent, limits.min_rows) if recent is not None else math.nan,
    )


def days_of_inputs(limits: DriftLimits) -> int:
    """How many days of ticks the measures of inputs look at."""
    return max(WINDOW_DAYS + limits.psi_windows - 1, limits.z_windows)


def _inputs(
    reference: DriftReference, limits: DriftLimits, ticks: Sequence[TickExperience], at: datetime
) -> tuple[dict[str, float], dict[str, float]]:
    """(sustained PSI, sustained z) by feature, of days counted back from the last tick: each holds the hours of a day once."""
    names = tuple(reference.features)
    # Once an hour: the ticks of one hour say nearly the same.
    by_hour: dict[datetime, TickExperience] = {}
    for tick in ticks:
        if tick.at < at:
            by_hour.setdefault(tick.at.replace(minute=0), tick)
    last = max(by_hour, default=at)
    days: dict[int, list[TickExperience]] = {}
    for hour, tick in by_hour.items():
        days.setdefault((last - hour) // timedelta(days=1), []).append(tick)
    ends = range(limits.psi_windows)
    windows = [_window(days, range(back, back + WINDOW_DAYS), reference.until_ms) for back in ends]
    psi = [_psi_of(reference, window, limits.min_rows) for window in windows]
    sustained = {name: float(np.min([one[name] for one in psi])) for name in names}
    each = [stack_features(_window(days, [back], reference.until_ms), names) for back in reversed(range(limits.z_windows))]
    z = reference.z([rows if len(rows) >= _Z_ROWS else rows[:0] for rows in each])
    return sustained, dict(zip(names, sustained_z(z, limits.z_windows).tolist(), strict=True))


def _window(days: Mapping[int, list[TickExperience]], chosen: Sequence[int], after_ms: int) -> list[TickExperience]:
    """The ticks of the chosen days, in order; none where a day has none, or the reference reaches into it."""
    ticks = [tick for day in sorted(chosen, reverse=True) for tick in days.get(day, ())]
    whole = all(day in days for day in chosen) and to_ms(ticks[0].at) > after_ms
    return ticks if whole else []


def _psi_of(reference: DriftReference, ticks: Sequence[TickExperience], min_rows: int) -> dict[str, float]:
    """The PSI by feature of a window that is whole and of a reference that knows how far its own windows lie apart, else NaN."""
    names = tuple(reference.features)
    if not ticks:
        return dict.fromkeys(names, math.nan)
    found = reference.psi(stack_features(ticks, names), to_ms(ticks[0].at), min_rows)
    return {name: math.nan if math.isnan(reference.widest[name]) else value for name, value in found.items()}


def _rank_ic(track: Track) -> tuple[float, float]:
    """(mean score, its standard error); an outcome also reads the bar in which it ends."""
    known = track.score[~np.isnan(track.score)]
    return (float(known.mean()), mean_and_error(known, track.overlap + 1)[1]) if len(known) else (math.nan, math.nan)


def _sharpe(track: Track, min_periods: int) -> tuple[float, float]:
    """(ratio, its standard error) of a year, from the returns of holding each tick's choice for a horizon.

    Neighbours overlap, so the period is the horizon. The error is that of the mean: what the standard deviation's adds is half of the
    squared ratio of one period, which is next to nothing (Lo, "The Statistics of Sharpe Ratios", 2002).
    """
    known = track.active_frac[~np.isnan(track.active_frac)]
    if len(known) < max(2, min_periods * track.overlap):
        return math.nan, math.nan
    spread = float(known.std(ddof=1))
    if spread <= 0.0:
        return math.nan, math.nan
    a_year = math.sqrt(_YEAR_H / track.horizon_h) / spread
    return float(known.mean()) * a_year, mean_and_error(known, track.overlap + 1)[1] * a_year


def _calibration(track: Track, min_rows: int) -> float:
    told = ~(np.isnan(track.probability) | np.isnan(track.won))
    if told.sum() < min_rows:
        return math.nan
    return calibration_error(reliability_curve(track.probability[told], track.won[told]))
