"""Drift: whether what a model is given, or what its forecasts are worth, has left what it was trained on. Pure functions on arrays.

What features and forecasts were like in training is ``drift_reference``'s. What cannot be told, for want of rows, is NaN and never a
breach: a quiet market is not a drift. The report lists it as unknown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from tickless.bars import Floats
from tickless.learn.measures import without_nan
from tickless.settings import Section

Action = Literal["alert", "retrain", "shrink", "stop"]
SEVERITY: tuple[Action, ...] = ("alert", "retrain", "shrink", "stop")
"""Mildest first: tell people, train early, trade smaller, do without the model."""


class DriftLimit(Section):
    """One limit and what happens beyond it."""

    limit: Annotated[float, Field(allow_inf_nan=False)]
    action: Action


class DriftLimits(Section):
    """The limits of one model. Too large is a breach for the first two and the last, too small for the others."""

    psi: DriftLimit = DriftLimit(limit=0.25, action="retrain")
    """Population stability index of any feature, against the rows that the model was fitted on. Where single weeks of those rows lay
    farther from the rest of them, the farthest is the limit: what the model was fitted on is no drift."""
    feature_z: DriftLimit = DriftLimit(limit=3.0, action="alert")
    """How far a feature's mean lies from the reference's, in its standard deviations, window after window."""
    rolling_ic: DriftLimit = DriftLimit(limit=0.0, action="shrink")
    rolling_sharpe: DriftLimit = DriftLimit(limit=0.4, action="retrain")
    """Of a year, from the returns of the model's own choice."""
    calibration_error: DriftLimit = DriftLimit(limit=0.10, action="retrain")
    bins: int = Field(default=10, ge=2, le=50)
    min_rows: int = Field(default=500, ge=50, le=1_000_000)
    """A PSI needs so many rows on both sides: between two samples of n rows of one distribution it is about 2 (bins - 1) / n."""
    psi_windows: int = Field(default=2, ge=1, le=28)
    """A PSI is sustained when the windows that end on the last so many days are all beyond the limit."""
    z_windows: int = Field(default=3, ge=1, le=50)
    """A z is sustained when the last so many windows are all beyond the limit, on the same side."""
    rolling_days: Annotated[float, Field(gt=0.0, le=365.0)] = 28.0
    shrink_frac: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    """What is left of a position's size under the action ``shrink``."""


@dataclass(frozen=True)
class Breach:
    """One limit that was passed."""

    measure: str
    subject: str
    """The feature; empty where the measure is the model's."""
    value: float
    limit: float
    action: Action

    @property
    def sentence(self) -> str:
        """For people."""
        of = f" of {self.subject}" if self.subject else ""
        return f"{self.measure}{of} is {self.value:.3f}, beyond {self.limit:.4g}: {self.action}"


@dataclass(frozen=True)
class DriftReport:
    """What was measured at one time, and what follows. NaN = cannot be told."""

    psi: Mapping[str, float]
    """By feature: the smallest of the last windows, that of the last day, the day before, and so on."""
    feature_z: Mapping[str, float]
    """By feature: the mildest of the last windows where all lie on one side, 0 where they do not."""
    rolling_ic: float
    rolling_sharpe: float
    calibration_error: float
    breaches: tuple[Breach, ...]
    unknown: tuple[str, ...]
    """Measures that could not be told."""

    @property
    def action(self) -> Action | None:
        """The most severe action of all breaches; None where nothing has drifted."""
        return max((breach.action for breach in self.breaches), key=SEVERITY.index, default=None)

    def as_json(self) -> dict[str, Any]:
        """A JSON object; what cannot be told is null."""
        content: dict[str, Any] = without_nan(
            {
                "psi": self.psi,
                "feature_z": self.feature_z,
                "rolling_ic": self.rolling_ic,
                "rolling_sharpe": self.rolling_sharpe,
                "calibration_error": self.calibration_error,
                "action": self.action,
                "breaches": [breach.sentence for breach in self.breaches],
                "unknown": self.unknown,
            }
        )
        return content


def judge_drift(
    limits: DriftLimits,
    *,
    psi: Mapping[str, float],
    feature_z: Mapping[str, float],
    psi_widest: Mapping[str, float] | None = None,
    rolling_ic: float = math.nan,
    rolling_sharpe: float = math.nan,
    calibration_error: float = math.nan,
) -> DriftReport:
    """Hold measures against a model's limits. A measure that does not apply is left out, as NaN: it breaches nothing.

    ``psi_widest`` says of features how far single windows of the reference lay from the rest of it; a PSI breaches above both.
    """
    usual = psi_widest or {}
    psi_limits = {name: limits.psi.model_copy(update={"limit": max(limits.psi.limit, usual.get(name, 0.0))}) for name in psi}
    found = [
        *(("psi", name, value, psi_limits[name], value > psi_limits[name].limit) for name, value in psi.items()),
        *(("feature_z", name, value, limits.feature_z, abs(value) >= limits.feature_z.limit) for name, value in feature_z.items()),
        ("rolling_ic", "", rolling_ic, limits.rolling_ic, rolling_ic < limits.rolling_ic.limit),
        ("rolling_sharpe", "", rolling_sharpe, limits.rolling_sharpe, rolling_sharpe < limits.rolling_sharpe.limit),
        ("calibration_error", "", calibration_error, limits.calibration_error, calibration_error > limits.calibration_error.limit),
    ]
    breaches = tuple(
        Breach(measure, subject, value, limit.limit, limit.action) for measure, subject, value, limit, broken in found if broken
    )
    unknown = tuple(f"{measure} of {of}" if of else measure for measure, of, value, _, _ in found if math.isnan(value))
    return DriftReport(dict(psi), dict(feature_z), rolling_ic, rolling_sharpe, calibration_error, breaches, unknown)


def sustained_z(z: Floats, windows: int) -> Floats:
    """What all of the last ``windows`` rows of (K, F) share: the z nearest to zero where they lie on one side, else 0; (F,).

    NaN where there are fewer rows, or one of them is NaN.
    """
    last = z[-windows:]
    if len(last) < windows:
        return np.full(z.shape[1], np.nan)
    low, high = last.min(axis=0), last.max(axis=0)
    shared = np.where(low > 0.0, low, np.where(high < 0.0, high, 0.0))
    result: Floats = np.where(np.isnan(last).any(axis=0), np.nan, shared)
    return result


def rolling_mean(series: Floats, window: int) -> Floats:
    """Mean of the last ``window`` values at every tick, (T,): the rolling IC. NaN until there is a window, and where half of it is NaN."""
    count = _trailing((~np.isnan(series)).astype(np.float64), window)
    total = _trailing(np.nan_to_num(series), window)
    result: Floats = np.divide(total, count, out=np.full(len(series), np.nan), where=count > 0.5 * window)
    return result


def rolling_sharpe(returns: Floats, window: int, periods_a_year: float, overlap: int = 1) -> Floats:
    """The Sharpe ratio of a year over the last ``window`` returns at every tick, (T,); NaN where ``rolling_mean`` is, or nothing varies.

    ``overlap`` neighbours share their holding period: a return is then that of the period, of which a year has ``periods_a_year``. The
    standard deviation is that of the period's returns, and the mean of a year their mean times their number.
    """
    mean = rolling_mean(returns, window)
    square = rolling_mean(returns**2, window)
    independent = max(1.0, window / max(1, overlap))
    with np.errstate(invalid="ignore"):
        variance = (square - mean * mean) * (independent / (independent - 1.0) if independent > 1.0 else math.nan)
        varies = variance > 1e-12 * square
    ratio = np.divide(mean, np.sqrt(np.where(varies, variance, 1.0)), out=np.full(len(mean), np.nan), where=varies)
    a_year: Floats = ratio * math.sqrt(periods_a_year)
    return a_year


def last_known(series: Floats) -> float:
    """The last value of a rolling series; NaN where there is none or it cannot be told."""
    return float(series[-1]) if len(series) else math.nan


def _trailing(values: Floats, window: int) -> Floats:
    """Sums of the last ``window`` values; NaN before there are so many."""
    result: Floats = np.full(len(values), np.nan)
    if 0 < window <= len(values):
        result[window - 1 :] = np.convolve(values, np.ones(window), mode="valid")
    return result
