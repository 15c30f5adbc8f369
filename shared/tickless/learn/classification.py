"""Measures of a classifier: forecast probabilities (R,) of an event beside the event, (R,) of 0 or 1. Nothing here takes a NaN.

The baseline is the base rate of the very rows that are measured: the best constant in hindsight, stricter than one known beforehand.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from tickless.alpha.calibration import SURE
from tickless.bars import Floats
from tickless.learn.labels import Millis
from tickless.learn.measures import known_mean, overlap_t, without_nan

BINS = 10


@dataclass(frozen=True)
class CurveBin:
    """One bin of a reliability curve."""

    count: int
    forecast: float
    """Mean forecast."""
    frequency: float
    """How often the event came."""
    low: float
    high: float
    """Wilson's 95 % interval of the frequency."""


@dataclass(frozen=True)
class BrierParts:
    """Brier score = reliability - resolution + uncertainty + within."""

    reliability: float
    """How far forecasts lie from frequencies, squared; 0 is best."""
    resolution: float
    """How far frequencies lie from the base rate, squared; large is good."""
    uncertainty: float
    """The Brier score of the base rate."""
    within: float
    """What putting unequal forecasts into one bin adds; 0 where every bin holds one forecast."""


@dataclass(frozen=True)
class ClassMeasures:
    """A classifier on one set of rows. NaN = cannot be told."""

    rows: int
    ticks: int
    base_rate: float
    log_loss: float
    log_loss_base: float
    """The log loss of always forecasting the base rate."""
    brier: float
    brier_base: float
    brier_parts: BrierParts
    skill_t: float
    """t of the log loss saved against the base rate, a tick, robust to overlap: Diebold and Mariano (1995)."""
    periods: float
    """Label lengths that share nothing: the effective number of times the classifier was tried."""
    auc: float
    """0.5 says nothing."""
    calibration_error: float
    curve: tuple[CurveBin, ...]

    def as_json(self) -> dict[str, Any]:
        """The measures as a JSON object; what cannot be told is null."""
        content: dict[str, Any] = without_nan(asdict(self))
        return content


def validate_classifier(forecast: Floats, won: Floats, start_ms: Millis, overlap: int, sample_every_ms: int) -> ClassMeasures:
    """Measure probabilities on rows decided at ``start_ms`` (rising), whose labels share samples with ``overlap`` neighbours.

    Raises ValueError for a probability outside [0, 1] or an event that is neither 0 nor 1.
    """
    _check(forecast, won)
    rate = float(won.mean()) if len(won) else math.nan
    series = saved_by_tick(forecast, won, start_ms, sample_every_ms)
    known = int((~np.isnan(series)).sum())
    # Rows of one tick, and labels that overlap, fall together; an interval that counted each row would be far too narrow.
    curve = reliability_curve(forecast, won, shared=max(1.0, len(won) * overlap / max(1, known)))
    return ClassMeasures(
        rows=len(won),
        ticks=known,
        base_rate=rate,
        log_loss=known_mean(row_losses(forecast, won)),
        log_loss_base=known_mean(row_losses(np.full(len(won), rate), won)),
        brier=known_mean((forecast - won) ** 2),
        brier_base=rate * (1.0 - rate),
        brier_parts=brier_parts(forecast, won),
        skill_t=overlap_t(series, overlap),
        periods=known / max(1, overlap),
        auc=auc(forecast, won),
        calibration_error=calibration_error(curve),
        curve=curve,
    )


def saved_by_tick(forecast: Floats, won: Floats, start_ms: Millis, sample_every_ms: int) -> Floats:
    """The log loss saved against the rows' base rate, in nats: the mean of every tick from the first to the last, (T,), or NaN."""
    rate = float(won.mean()) if len(won) else math.nan
    return _mean_by_tick(row_losses(np.full(len(won), rate), won) - row_losses(forecast, won), start_ms, sample_every_ms)


def row_losses(forecast: Floats, won: Floats) -> Floats:
    """The log loss of every row in nats, (R,); held within ``SURE`` of 0 and 1: one wrong row must not cost infinitely much."""
    held = np.clip(forecast, SURE, 1.0 - SURE)
    return -np.log(np.where(won > 0.0, held, 1.0 - held))


def auc(forecast: Floats, won: Floats) -> float:
    """The chance that a row with the event was given more than one without it, ties counting half; NaN where all rows are alike.

    Mann and Whitney's U over its largest value: Hanley and McNeil (1982).
    """
    positive = float(won.sum())
    negative = len(won) - positive
    if not positive or not negative:
        return math.nan
    _, place, count = np.unique(forecast, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2.0)[place]
    return (float(ranks[won > 0.0].sum()) - positive * (positive + 1.0) / 2.0) / (positive * negative)


def brier_parts(forecast: Floats, won: Floats, bins: int = BINS) -> BrierParts:
    """The Brier score taken apart over quantile bins: Murphy (1973); the rest within bins: Stephenson, Coelho and Jolliffe (2008)."""
    if not len(won):
        return BrierParts(math.nan, math.nan, math.nan, math.nan)
    rate = float(won.mean())
    count, mean, frequency = _binned(forecast, won, bins)
    share = count / len(won)
    reliability = float(share @ (mean - frequency) ** 2)
    resolution = float(share @ (frequency - rate) ** 2)
    uncertainty = rate * (1.0 - rate)
    brier = float(np.mean((forecast - won) ** 2))
    return BrierParts(reliability, resolution, uncertainty, brier - (reliability - resolution + uncertainty))


def reliability_curve(forecast: Floats, won: Floats, bins: int = BINS, shared: float = 1.0) -> tuple[CurveBin, ...]:
    """Forecast against frequency in quantile bins of the forecast, lowest first; equal forecasts share a bin, empty bins are left out.

    ``shared`` rows count as one in the intervals, where labels fall together.
    """
    columns = _binned(forecast, won, bins)
    return tuple(
        CurveBin(int(count), float(mean), float(frequency), *wilson_interval(float(frequency), float(count) / shared))
        for count, mean, frequency in zip(*columns, strict=True)
    )


def calibration_error(curve: tuple[CurveBin, ...]) -> float:
    """Mean distance of forecast and frequency over the bins, by their counts: Naeini, Cooper and Hauskrecht (2015). NaN without bins."""
    rows = sum(part.count for part in curve)
    return sum(part.count * abs(part.forecast - part.frequency) for part in curve) / rows if rows else math.nan


def wilson_interval(frequency: float, count: float, level: float = 0.95) -> tuple[float, float]:
    """The interval of a probability of which ``count`` tries showed ``frequency``: Wilson (1927). (0, 1) without tries."""
    if count <= 0.0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + level / 2.0)
    scale = 1.0 + z * z / count
    middle = (frequency + z * z / (2.0 * count)) / scale
    reach = z / scale * math.sqrt(max(0.0, frequency * (1.0 - frequency)) / count + z * z / (4.0 * count * count))
    return max(0.0, middle - reach), min(1.0, middle + reach)


def _binned(forecast: Floats, won: Floats, bins: int) -> tuple[Floats, Floats, Floats]:
    """(rows, mean forecast, frequency) of every quantile bin that is not empty."""
    if not len(won):
        return np.empty(0), np.empty(0), np.empty(0)
    edges = np.unique(np.quantile(forecast, np.arange(1, bins) / bins, method="inverted_cdf"))
    place = np.searchsorted(edges, forecast, side="left")
    count = np.bincount(place, minlength=len(edges) + 1).astype(np.float64)
    full = count > 0.0
    mean = np.bincount(place, weights=forecast, minlength=len(count))[full] / count[full]
    frequency = np.bincount(place, weights=won, minlength=len(count))[full] / count[full]
    return count[full], mean, frequency


def _mean_by_tick(values: Floats, start_ms: Millis, sample_every_ms: int) -> Floats:
    """The mean of every tick on the regular grid from the first to the last, NaN where a tick has no rows."""
    if not len(values):
        return np.empty(0)
    tick = (start_ms - start_ms[0]) // sample_every_ms
    count = np.bincount(tick).astype(np.float64)
    total = np.bincount(tick, weights=values)
    means: Floats = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0.0)
    return means


def _check(forecast: Floats, won: Floats) -> None:
    if not bool(((forecast >= 0.0) & (forecast <= 1.0)).all()):
        raise ValueError("a forecast is not a probability between 0 and 1")
    if not bool(((won == 0.0) | (won == 1.0)).all()):
        raise ValueError("an event is neither 0 nor 1")
