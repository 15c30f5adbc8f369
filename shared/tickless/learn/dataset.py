"""Samples and their splits. Everything is ordered and cut by time; nothing is ever shuffled."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tickless.bars import Floats
from tickless.features.table import FeatureTable
from tickless.learn.labels import Labels, Millis


@dataclass(frozen=True)
class Samples:
    """A cross-section of pairs at every sampled close, stacked by time, then pair. No NaN anywhere."""

    features: tuple[str, ...]
    pairs: tuple[str, ...]
    x: NDArray[np.float32]
    """Features, (R, F)."""
    y: Floats
    """Volatility-scaled label, (R,)."""
    plain: Floats
    """Forward return as a fraction, (R,)."""
    scale: Floats
    """What a scaled forecast is multiplied by to be a plain return, (R,)."""
    pair: NDArray[np.intp]
    """Index into ``pairs``, (R,)."""
    start_ms: Millis
    """The decision, (R,), rising. The label looks at [start_ms, end_ms)."""
    end_ms: Millis
    """When the label is known, (R,), rising."""

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: slice) -> Samples:
        """The rows of a slice, as views."""
        arrays: dict[str, Any] = {name: getattr(self, name)[rows] for name in _ARRAYS}
        return Samples(self.features, self.pairs, **arrays)

    def between(self, start_ms: int, end_ms: int) -> Samples:
        """The samples decided at or after ``start_ms`` whose labels are known at ``end_ms``."""
        first = int(np.searchsorted(self.start_ms, start_ms, side="left"))
        last = int(np.searchsorted(self.end_ms, end_ms, side="right"))
        return self.take(slice(first, max(first, last)))

    @property
    def sha256(self) -> str:
        """A hash of everything a training can see of the samples."""
        digest = hashlib.sha256("\n".join((*self.features, "", *self.pairs)).encode())
        for name in _ARRAYS:
            digest.update(np.ascontiguousarray(getattr(self, name)).tobytes())
        return digest.hexdigest()


_ARRAYS = ("x", "y", "plain", "scale", "pair", "start_ms", "end_ms")


@dataclass(frozen=True)
class Split:
    """A training window in slices that follow one another; every gap is purged and embargoed."""

    train: Samples
    inner: Samples
    """Where fitting stops early. Never used to judge the model."""
    fit: Samples
    """Everything before the validation slice: what the final model is fitted on."""
    validation: Samples


def build_samples(table: FeatureTable, labels: Labels, sample_every_min: int) -> Samples:
    """One sample for every pair at every close that falls on the sampling grid (UTC) and has all features and a label.

    ``table`` holds exactly the model's features. Features are rounded to float32 here, so that training and inference see one number.
    """
    grid = np.flatnonzero(labels.start_ms % (sample_every_min * 60_000) == 0)
    with np.errstate(over="ignore"):
        x = table.values[grid].astype(np.float32)
    usable = np.isfinite(x).all(axis=2) & np.isfinite(labels.scaled[grid])
    row, pair = np.nonzero(usable)
    return Samples(
        features=table.names,
        pairs=table.pairs,
        x=x[row, pair],
        y=labels.scaled[grid][row, pair],
        plain=labels.plain[grid][row, pair],
        scale=labels.scale[grid][row, pair],
        pair=pair,
        start_ms=labels.start_ms[grid][row],
        end_ms=labels.end_ms[grid][row],
    )


def cut(samples: Samples, at_ms: int, embargo_ms: int) -> tuple[Samples, Samples]:
    """(before, after) a time. After: decided at or after it. Before: label known ``embargo_ms`` before it, or earlier.

    Purging a sample whose label reaches into the later slice, and an embargo on top: López de Prado, Advances in Financial Machine
    Learning (2018), section 7.4.
    """
    last = int(np.searchsorted(samples.end_ms, at_ms - embargo_ms, side="right"))
    first = int(np.searchsorted(samples.start_ms, at_ms, side="left"))
    return samples.take(slice(0, last)), samples.take(slice(first, len(samples)))


def split_by_time(samples: Samples, validation_frac: float, inner_frac: float, embargo_ms: int) -> Split:
    """Cut a window into train | inner | validation by shares of time; slices may come out empty on a short window."""
    fit, validation = cut(samples, _time_at(samples, 1.0 - validation_frac), embargo_ms)
    train, inner = cut(fit, _time_at(fit, 1.0 - inner_frac), embargo_ms)
    return Split(train, inner, fit, validation)


def _time_at(samples: Samples, frac: float) -> int:
    if not len(samples):
        return 0
    first, last = int(samples.start_ms[0]), int(samples.start_ms[-1])
    return first + int((last - first) * frac)
