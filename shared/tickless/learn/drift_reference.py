"""What a version was trained on, in the few numbers that drift is measured against. Stands in its manifest under ``drift_reference``.

The manifest is all that a later review needs: the bins, mean and standard deviation of every feature on the rows the version was fitted on,
how far single weeks of those rows lay from the rest, and the bins of its own forecasts, as plain returns, on its validation slice. The rank
IC to be expected is ``measures.rank_ic``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tickless.bars import Floats
from tickless.errors import ArtifactError
from tickless.learn.labels import Millis

WINDOW_DAYS = 7
"""The window that is held against the reference, and the windows of the reference itself: every hour of the week is in it."""
Z_CAP = 99.0
"""A z beyond this says nothing more; also what a feature that never varied gets when it moves."""
_EMPTY = 1e-4
"""The share that an empty bin counts for: the logarithm of nothing is not a number."""
_DAY_MS = 86_400_000
Places = NDArray[np.intp]
"""The bin of each row, (R,)."""


@dataclass(frozen=True)
class Distribution:
    """One feature, or the forecast, on the reference rows."""

    rows: int
    edges: tuple[float, ...]
    """Quantiles of the known values, rising, each once; a bin reaches up to its edge."""
    heaps: tuple[bool, ...]
    """Which edges are values that so many rows share that each has a bin of its own."""
    shares: tuple[float, ...]
    """Of the rows in each bin: between two edges and at the edge by turns, then what is NaN."""
    mean: float | None
    """Of the known values; None where there are none."""
    spread: float | None
    """Their standard deviation."""
    widest: float | None = None
    """The largest PSI of a window of these rows against the rest of them; None where they do not reach over two windows."""

    @classmethod
    def of(cls, sample: Floats, bins: int, at_ms: Millis | None = None, window_days: int = WINDOW_DAYS) -> Self:
        """The distribution of a sample (R,) in ``bins`` bins of equal shares, before heaps and NaNs get theirs.

        ``at_ms`` (R,), rising, says when each row was seen: without it nothing is known of the sample's own windows.
        """
        known = sample[~np.isnan(sample)]
        edges = np.unique(np.quantile(known, np.arange(1, bins) / bins, method="inverted_cdf")) if len(known) else np.empty(0)
        heaps = np.asarray([(known == edge).sum() >= len(known) / bins for edge in edges], dtype=np.bool_)
        places, count = _places(sample, edges, heaps), 2 * len(edges) + 3
        shares = np.bincount(places, minlength=count) / max(1, len(sample))
        mean, spread = (float(known.mean()), float(known.std())) if len(known) else (None, None)
        widest = _widest(places, count, at_ms, window_days) if at_ms is not None and len(sample) else None
        return cls(len(sample), tuple(edges.tolist()), tuple(heaps.tolist()), tuple(shares.tolist()), mean, spread, widest)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """What ``dataclasses.asdict`` made; raises KeyError, TypeError or ValueError for anything else."""
        edges, shares = (tuple(map(float, content[key])) for key in ("edges", "shares"))
        mean, spread = (None if content[key] is None else float(content[key]) for key in ("mean", "spread"))
        # Of a version from before windows were measured, nothing is known of them.
        widest = None if content.get("widest") is None else float(content["widest"])
        made = cls(int(content["rows"]), edges, tuple(map(bool, content["heaps"])), shares, mean, spread, widest)
        if len(made.heaps) != len(made.edges) or len(made.shares) != 2 * len(made.edges) + 3:
            raise ValueError(f"{len(made.edges)} edges, {len(made.heaps)} heaps and {len(made.shares)} shares do not belong together")
        return made

    def psi(self, current: Floats, min_rows: int = 0) -> float:
        """The population stability index of a sample (R,) against this one: the sum over bins of (b - a) · ln(b / a), a before, b now.

        Bins are quantiles of the reference, so that no rising transformation of the feature changes the index. A value that many reference
        rows share has a bin of its own, a constant too; so do the NaNs, where there are any. 0 = alike; NaN where one side has fewer than
        ``min_rows`` rows, or none. Siddiqi, "Credit Risk Scorecards" (2006), has the customary limits of 0.10 and 0.25.
        """
        if min(self.rows, len(current)) < max(1, min_rows):
            return math.nan
        places = _places(current, np.asarray(self.edges), np.asarray(self.heaps, dtype=np.bool_))
        return float(_index(np.asarray(self.shares), np.bincount(places, minlength=len(self.shares)) / len(current)))

    def z(self, sample: Floats) -> float:
        """How far the mean of a sample (R,) lies from this one's, in its standard deviations, NaNs left out; NaN where nothing is left.

        Held within ``Z_CAP``, which is also what a feature that did not vary in the reference gets when it moves.
        """
        known = sample[~np.isnan(sample)]
        if not len(known) or self.mean is None or self.spread is None:
            return math.nan
        away, size = float(known.mean()) - self.mean, max(1.0, abs(self.mean))
        if self.spread > 1e-12 * size:
            return float(np.clip(away / self.spread, -Z_CAP, Z_CAP))
        return 0.0 if abs(away) <= 1e-9 * size else math.copysign(Z_CAP, away)


@dataclass(frozen=True)
class DriftReference:
    """What later windows are held against."""

    until_ms: int
    """The last decision among the reference rows of the features; a current window may begin after it."""
    features: Mapping[str, Distribution]
    forecast: Distribution
    """The version's forecasts as plain returns over its horizon, of rows that it was not fitted on."""

    @classmethod
    def of(
        cls,
        features: Sequence[str],
        x: NDArray[np.floating[Any]],
        at_ms: Millis,
        forecast: Floats,
        bins: int,
        window_days: int = WINDOW_DAYS,
    ) -> Self:
        """From the fitted rows (R, F), or sequences (R, L, F) of which the last bar counts, and the forecasts (V,).

        ``at_ms`` (R,), rising, says when each row was decided. Raises ValueError without rows.
        """
        if not len(at_ms):
            raise ValueError("a drift reference needs rows")
        last = np.asarray(x[:, -1] if x.ndim == 3 else x, dtype=np.float64)
        columns = {name: Distribution.of(last[:, at], bins, at_ms, window_days) for at, name in enumerate(features)}
        return cls(int(at_ms[-1]), columns, Distribution.of(forecast, bins))

    def as_json(self) -> dict[str, Any]:
        """A JSON object for the manifest; ``from_json`` gives the same numbers, bit for bit."""
        content: dict[str, Any] = {"until_ms": self.until_ms, "forecast": _plain(self.forecast)}
        return content | {"features": {name: _plain(column) for name, column in self.features.items()}}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The reference that a manifest holds; raises ArtifactError for one that ``as_json`` cannot have written."""
        try:
            features = {str(name): Distribution.from_json(column) for name, column in content["features"].items()}
            return cls(int(content["until_ms"]), features, Distribution.from_json(content["forecast"]))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"the drift reference is damaged: {error!r}") from error

    def psi(self, current: NDArray[np.floating[Any]], current_from_ms: int, min_rows: int = 0) -> dict[str, float]:
        """The PSI of each column of (R, F), in the order of ``features``, by name.

        Raises ValueError where the windows share time: two windows that overlap are alike by construction.
        """
        if current_from_ms <= self.until_ms:
            raise ValueError(f"the current window begins at {current_from_ms}, and the reference reaches to {self.until_ms}")
        now = _as_trained(current)
        return {name: column.psi(now[:, at], min_rows) for at, (name, column) in enumerate(self.features.items())}

    @property
    def widest(self) -> dict[str, float]:
        """By feature, the largest PSI of a window of the reference against the rest of it; NaN where that is not known."""
        return {name: math.nan if column.widest is None else column.widest for name, column in self.features.items()}

    def z(self, windows: Sequence[NDArray[np.floating[Any]]]) -> Floats:
        """The z of each feature in each window (Rk, F), oldest first: (K, F)."""
        z = np.full((len(windows), len(self.features)), np.nan)
        for k, window in enumerate(windows):
            now = _as_trained(window)
            z[k] = [column.z(now[:, at]) for at, column in enumerate(self.features.values())]
        return z


def _as_trained(values: NDArray[np.floating[Any]]) -> Floats:
    """Rounded to float32, as training and inference see features: else a value that rows share would not be the same value."""
    with np.errstate(over="ignore"):
        return np.asarray(values, dtype=np.float32).astype(np.float64)


def _plain(column: Distribution) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(column).items()}


def _places(sample: Floats, edges: Floats, heaps: NDArray[np.bool_]) -> Places:
    """The bin of each row: twice the number of edges below it, one more exactly at an edge that is a heap; NaN has the last bin."""
    place = 2 * np.searchsorted(edges, sample, side="left")
    if len(edges):
        nearest = np.minimum(place // 2, len(edges) - 1)
        place = place + ((sample == edges[nearest]) & heaps[nearest])
    found: Places = np.where(np.isnan(sample), 2 * len(edges) + 2, place)
    return found


def _index(before: Floats, now: Floats) -> Floats:
    """The PSI of shares (..., B) against others."""
    before, now = np.maximum(before, _EMPTY), np.maximum(now, _EMPTY)
    found: Floats = np.sum((now - before) * np.log(now / before), axis=-1)
    return found


def _widest(places: Places, bins: int, at_ms: Millis, window_days: int) -> float | None:
    """The largest PSI of ``window_days`` days of the rows, begun on every day, against all other days; None of less than two windows.

    Days are counted back from the last row. A window of less than half of its share of the rows says more of its holes than of the feature.
    """
    day = (int(at_ms[-1]) - at_ms) // _DAY_MS
    days = int(day[0]) + 1
    if days < 2 * window_days:
        return None
    counts = np.bincount(day * bins + places, minlength=days * bins).reshape(days, bins)
    sums = np.vstack([np.zeros((1, bins)), counts.cumsum(axis=0)])
    inside = sums[window_days:] - sums[:-window_days]
    outside = sums[-1] - inside
    rows = inside.sum(axis=1)
    whole = (rows >= 0.5 * len(places) * window_days / days) & (rows < len(places))
    inside, outside = inside[whole], outside[whole]
    found = _index(outside / outside.sum(axis=1, keepdims=True), inside / inside.sum(axis=1, keepdims=True))
    return float(found.max()) if len(found) else None
