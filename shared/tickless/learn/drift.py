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
_OF_FORECASTS = ("rolling_ic", "rolling_sharpe", "calibration_error")
SEVERITY: tuple[Action, ...] = ("alert", "retrain", "shrink", "stop")
"""Mildest first: tell people, train early, trade smaller, do without the model."""


class DriftLimit(Section):
    """One limit and what happens beyond it."""

    limit: Annotated[float, Field(allow_inf_nan=False)]
    action: Action


class DriftLimits(Section):
    """The limits of one model. Too large is a breach for the first two and the last, too small by more than chance for the others."""

    psi: DriftLimit = DriftLimit(limit=0.25, action="retrain")
    """Population stability index of any feature, against the rows that the model was fitted on. Where single weeks of those rows lay
    farther from the rest of them, the farthest is the limit: what the model was fitted on is no drift."""
    feature_z: DriftLimit = DriftLimit(limit=3.0, action="alert")
    """How far a feature's mean lies from the reference's, in its standard deviations, window after window."""
    rolling_ic: DriftLimit = DriftLimit(limit=0.0, action="shrink")
    rolling_sharpe: DriftLimit = DriftLimit(limit=0.4, action="retrain")
    """Of a year, from the returns of the model's own choice, with the costs of changing it."""
    chance_t: Annotated[float, Field(ge=0.0, le=10.0)] = 2.0
    """The rolling measures breach where they lie below their limits by more than so many of their standard errors, which are robust to
    overlapping outcomes: what is nearer, chance explains. 0 = at the limit itself."""
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
    error: float = 0.0
    """The standard error of the value; 0 where it is taken as it is."""

    @property
    def name(self) -> str:
        """What was measured, as a report lists it."""
        return _name(self.measure, self.subject)

    @property
    def sentence(self) -> str:
        """For people."""
        away = f"{(self.limit - self.value) / self.error:.1f} standard errors below" if self.error else "beyond"
        return f"{self.name} is {self.value:.3f}, {away} {self.limit:.4g}: {self.action}"


def _name(measure: str, subject: str) -> str:
    return f"{measure} of {subject}" if subject else measure


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
    rolling_ic_error: float = 0.0
    """Standard errors, robust to overlap."""
    rolling_sharpe_error: float = 0.0
    held: str = ""
    """Why an action stays that no breach asks for any more; empty where none does."""

    @property
    def action(self) -> Action | None:
        """The most severe action of all breaches; None where nothing has drifted."""
        return max((breach.action for breach in self.breaches), key=SEVERITY.index, default=None)

    @property
    def causes(self) -> tuple[str, ...]:
        """The measures that ask for the action."""
        return tuple(breach.name for breach in self.breaches if breach.action == self.action)

    def tells(self, name: str) -> bool:
        """Whether a measure, named as in ``causes``, was measured and could be told."""
        named = {_name("psi", of) for of in self.psi} | {_name("feature_z", of) for of in self.feature_z} | set(_OF_FORECASTS)
        return name in named and name not in self.unknown

    def as_json(self) -> dict[str, Any]:
        """A JSON object; what cannot be told is null."""
        content: dict[str, Any] = without_nan(
            {
                "psi": self.psi,
                "feature_z": self.feature_z,
                "rolling_ic": self.rolling_ic,
                "rolling_ic_error": self.rolling_ic_error,
                "rolling_sharpe": self.rolling_sharpe,
                "rolling_sharpe_error": self.rolling_sharpe_error,
                "calibration_error": self.calibration_error,
                "action": self.action,
                "breaches": [breach.sentence for breach in self.breaches],
                "unknown": self.unknown,
                "held": self.held or None,
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
    rolling_ic_error: float = 0.0,
    rolling_sharpe: float = math.nan,
    rolling_sharpe_error: float = 0.0,
    calibration_error: float = math.nan,
) -> DriftReport:
    """Hold measures against a model's limits. A measure that does not apply is left out, as NaN: it breaches nothing.

    ``psi_widest`` says of features how far single windows of the reference lay from the rest of it; a PSI breaches above both. The errors
    are standard errors, of which a rolling measure must lie ``chance_t`` below its limit; of a NaN one the measure cannot be told.
    """
    usual = psi_widest or {}
    psi_limits = {name: limits.psi.model_copy(update={"limit": max(limits.psi.limit, usual.get(name, 0.0))}) for name in psi}
    rolling = (
        ("rolling_ic", rolling_ic, limits.rolling_ic, rolling_ic_error),
        ("rolling_sharpe", rolling_sharpe, limits.rolling_sharpe, rolling_sharpe_error),
    )
    found = [
        *(("psi", name, value, psi_limits[name], value > psi_limits[name].limit, 0.0) for name, value in psi.items()),
        *(("feature_z", name, value, limits.feature_z, abs(value) >= limits.feature_z.limit, 0.0) for name, value in feature_z.items()),
        *((name, "", value, limit, value + limits.chance_t * error < limit.limit, error) for name, value, limit, error in rolling),
        ("calibration_error", "", calibration_error, limits.calibration_error, calibration_error > limits.calibration_error.limit, 0.0),
    ]
    broken = [(measure, of, value, limit, error) for measure, of, value, limit, beyond, error in found if beyond]
    breaches = tuple(Breach(measure, of, value, limit.limit, limit.action, error) for measure, of, value, limit, error in broken)
    unknown = tuple(_name(measure, of) for measure, of, value, _, _, error in found if math.isnan(value + error))
    rolled = (rolling_ic, rolling_sharpe, calibration_error)
    return DriftReport(dict(psi), dict(feature_z), *rolled, breaches, unknown, rolling_ic_error, rolling_sharpe_error)


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
