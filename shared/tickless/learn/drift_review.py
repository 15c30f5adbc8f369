"""Drift as experience shows it: what a version is given against what it was fitted on, and what its forecasts are worth of late. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np

from tickless.bars import Floats
from tickless.learn.classification import calibration_error, reliability_curve
from tickless.learn.drift import DriftLimits, DriftReport, judge_drift, sustained_z
from tickless.learn.drift_reference import DriftReference
from tickless.learn.experience import TickExperience, stack_features
from tickless.learn.track import Track
from tickless.types import to_ms

PSI_DAYS = 7.0
"""The window whose features are held against the reference: disjoint from it, and with every hour of the week in it."""
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

    ``ticks`` are those of its strategy, in order, ``track`` its own. What there is too little of to tell is NaN and breaches nothing.
    """
    psi, feature_z = _inputs(reference, limits, ticks, at) if reference is not None else ({}, {})
    recent = track.since(at - timedelta(days=limits.rolling_days)) if track is not None else None
    enough = recent is not None and recent.periods >= min_periods
    return judge_drift(
        limits,
        psi=psi,
        feature_z=feature_z,
        rolling_ic=_mean(recent.score) if recent is not None and enough else math.nan,
        rolling_sharpe=_sharpe(recent) if recent is not None and enough else math.nan,
        calibration_error=_calibration(recent, limits.min_rows) if recent is not None else math.nan,
    )


def _inputs(
    reference: DriftReference, limits: DriftLimits, ticks: Sequence[TickExperience], at: datetime
) -> tuple[dict[str, float], dict[str, float]]:
    """(PSI, sustained z) by feature. Days are the windows of z: each holds the hours of a day once."""
    names = tuple(reference.features)
    first_ms = max(to_ms(at - timedelta(days=PSI_DAYS)), reference.until_ms + 1)
    # Once an hour: the ticks of one hour say nearly the same.
    by_hour: dict[datetime, TickExperience] = {}
    for tick in ticks:
        if to_ms(tick.at) >= first_ms:
            by_hour.setdefault(tick.at.replace(minute=0), tick)
    hourly = list(by_hour.values())
    psi = reference.psi(stack_features(hourly, names), first_ms, limits.min_rows)
    days = sorted({tick.at.date() for tick in hourly})
    windows = [stack_features([tick for tick in hourly if tick.at.date() == day], names) for day in days]
    sustained = sustained_z(reference.z(windows), limits.z_windows)
    return psi, dict(zip(names, sustained.tolist(), strict=True))


def _mean(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def _sharpe(track: Track) -> float:
    """Of a year, from the returns of holding each tick's choice for a horizon; neighbours overlap, so the period is the horizon."""
    known = track.net_frac[~np.isnan(track.net_frac)]
    spread = float(known.std(ddof=1)) if len(known) > 1 else 0.0
    return float(known.mean()) / spread * math.sqrt(_YEAR_H / track.horizon_h) if spread > 0.0 else math.nan


def _calibration(track: Track, min_rows: int) -> float:
    told = ~(np.isnan(track.probability) | np.isnan(track.won))
    if told.sum() < min_rows:
        return math.nan
    return calibration_error(reliability_curve(track.probability[told], track.won[told]))
