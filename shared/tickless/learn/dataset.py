"""Samples and how they are cut. Everything is ordered and cut by time; nothing is ever shuffled."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tickless.bars import Floats, Panel
from tickless.features.table import FeatureTable
from tickless.learn.labels import Labels, Millis
from tickless.settings import UniverseSection

Picked = slice | NDArray[np.intp]
"""Rows of samples, rising: a slice takes views."""
_DAY_MS = 86_400_000


@dataclass(frozen=True)
class Samples:
    """A cross-section of pairs at every sampled close, stacked by time, then pair. No NaN anywhere."""

    features: tuple[str, ...]
    pairs: tuple[str, ...]
    x: NDArray[np.float32]
    """Features, (R, F)."""
    y: Floats
    """The label's target, (R,)."""
    plain: Floats
    """What the trade returned as a fraction, (R,)."""
    scale: Floats
    """What a forecast of ``y`` is multiplied by to be a plain return, (R,)."""
    pair: NDArray[np.intp]
    """Index into ``pairs``, (R,)."""
    start_ms: Millis
    """The decision, (R,), rising. The label looks at [start_ms, end_ms)."""
    end_ms: Millis
    """When the label is known, (R,); not rising where labels end when their path says."""

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: Picked) -> Samples:
        """Some of the rows; those of a slice as views."""
        arrays: dict[str, Any] = {name: getattr(self, name)[rows] for name in _ARRAYS}
        return Samples(self.features, self.pairs, **arrays)

    def between(self, start_ms: int, end_ms: int) -> Samples:
        """The samples decided at or after ``start_ms`` whose labels are known at ``end_ms``."""
        first = int(np.searchsorted(self.start_ms, start_ms, side="left"))
        known = self.end_ms[first:] <= end_ms
        count = int(known.sum())
        if known[:count].all():
            return self.take(slice(first, first + count))
        return self.take(first + np.flatnonzero(known))

    def of_pair(self, name: str) -> Samples:
        """The samples of one pair, as a data set of that pair alone; raises ValueError for an unknown one."""
        part = self.take(np.flatnonzero(self.pair == self.pairs.index(name)))
        return replace(part, pairs=(name,), pair=np.zeros(len(part), dtype=np.intp))

    @property
    def won(self) -> Floats:
        """1.0 where the label is above zero, else 0.0, (R,): what a classifier learns."""
        return (self.y > 0.0).astype(np.float64)

    @property
    def known_ms(self) -> int:
        """When the last of the labels is known; raises ValueError without samples."""
        return int(self.end_ms.max())

    @property
    def longest_ms(self) -> int:
        """The longest time that any label looks at; 0 without samples."""
        return int((self.end_ms - self.start_ms).max()) if len(self) else 0

    @property
    def tick_sizes(self) -> NDArray[np.int64]:
        """How many samples each decision time has, in order: the groups of a ranking."""
        first = np.flatnonzero(np.diff(self.start_ms, prepend=-1))
        return np.diff(first, append=len(self)).astype(np.int64)

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
    calibration: Samples | None = None
    """Between ``fit`` and ``validation``: where a classifier's probabilities are held against what came. None: nothing is calibrated."""

    @property
    def seen_ms(self) -> int:
        """When all is known that a model may have learnt from, by fitting or by calibration; raises ValueError without samples."""
        return max(part.known_ms for part in (self.fit, self.calibration) if part is not None)

    @property
    def sha256(self) -> dict[str, str]:
        """The hash of each slice by which a version can be told to come of these samples, by name."""
        slices = {"fit": self.fit, "calibration": self.calibration, "validation": self.validation}
        return {name: part.sha256 for name, part in slices.items() if part is not None}


def build_samples(table: FeatureTable, labels: Labels, sample_every_min: int, tradable: NDArray[np.bool_] | None = None) -> Samples:
    """One sample for every pair at every close that falls on the sampling grid (UTC) and has all features and a label.

    ``table`` holds exactly the model's features, ``tradable`` (T, N) who belonged to the universe at each close (None = every pair that has
    bars). Features are rounded to float32 here, so that training and inference see one number. Raises ValueError where table, labels
    and universe do not have the same rows and pairs.
    """
    shape = (table.rows, len(table.pairs))
    if labels.target.shape != shape or (tradable is not None and tradable.shape != shape):
        raise ValueError(f"labels of shape {labels.target.shape} do not belong to a table of shape {shape}")
    if table.rows and int(labels.start_ms[0]) != table.start_ms + table.step_ms:
        raise ValueError("the labels begin at another bar than the table")
    grid = np.flatnonzero(labels.start_ms % (sample_every_min * 60_000) == 0)
    with np.errstate(over="ignore"):
        x = table.values[grid].astype(np.float32)
    usable = np.isfinite(x).all(axis=2) & np.isfinite(labels.target[grid])
    if tradable is not None:
        usable &= tradable[grid]
    row, pair = np.nonzero(usable)
    return Samples(
        features=table.names,
        pairs=table.pairs,
        x=x[row, pair],
        y=labels.target[grid][row, pair],
        plain=labels.plain[grid][row, pair],
        scale=labels.scale[grid][row, pair],
        pair=pair,
        start_ms=labels.start_ms[grid][row],
        end_ms=labels.end_ms[grid][row, pair],
    )


def tradable_then(panel: Panel, universe: UniverseSection) -> NDArray[np.bool_]:
    """Who could have been bought at each close, (T, N): the desk's rules of age and volume, from bars that had closed by then.

    Without it a training also learns from pairs that the desk would not have touched yet. The bars must reach back for the minimum age and
    the volume window: what they do not show is too young, or has no volume.
    """
    here = ~np.isnan(panel.close)
    min_age_bars = int(universe.min_age_days * _DAY_MS // panel.step_ms)
    seen = np.logical_or.accumulate(here, axis=0)
    old = np.zeros_like(here)
    if min_age_bars == 0:
        old[:] = True
    elif min_age_bars <= panel.rows:
        old[min_age_bars - 1 :] = seen[: panel.rows - min_age_bars + 1]
    mask = here & old
    if universe.min_daily_volume > 0.0:
        mask &= _liquid(panel, universe)
    return mask


def _liquid(panel: Panel, universe: UniverseSection) -> NDArray[np.bool_]:
    """Whether the median daily quote volume of the last whole UTC days before each close reaches the minimum, (T, N)."""
    day = panel.open_times_ms // _DAY_MS
    first = int(-(-panel.start_ms // _DAY_MS))
    whole = int(panel.end_ms // _DAY_MS) - first
    daily = np.full((max(0, whole) + universe.rank_window_days, len(panel.pairs)), np.nan)
    value = panel.close * panel.volume
    for k in range(whole):
        rows = value[np.searchsorted(day, first + k) : np.searchsorted(day, first + k + 1)]
        daily[universe.rank_window_days + k] = np.where(np.isnan(rows).all(axis=0), np.nan, np.nansum(rows, axis=0))
    # Row k: the days before day ``first + k``.
    windows = np.sort(np.lib.stride_tricks.sliding_window_view(daily, universe.rank_window_days, axis=0), axis=2)
    count = (~np.isnan(windows)).sum(axis=2)[:, :, None]
    low = np.take_along_axis(windows, np.maximum(count - 1, 0) // 2, axis=2)
    high = np.take_along_axis(windows, np.minimum(count // 2, universe.rank_window_days - 1), axis=2)
    median = np.where(count > 0, (low + high) / 2.0, 0.0)[:, :, 0]
    known = (panel.open_times_ms + panel.step_ms) // _DAY_MS - first
    return np.asarray(median[np.clip(known, 0, len(median) - 1)] >= universe.min_daily_volume)


def cut(samples: Samples, at_ms: int, embargo_ms: int) -> tuple[Samples, Samples]:
    """(before, after) a time. After: decided at or after it. Before: label known ``embargo_ms`` before it, or earlier.

    Purging a sample whose label reaches into the later slice, and an embargo on top: López de Prado, Advances in Financial Machine
    Learning (2018), section 7.4. A label that ends when its path says is purged as if it lasted as long as the longest: of the last
    decisions before the cut, those that ended soon must not be kept and those that went on dropped, or the outcome would choose the rows.
    """
    rows = rows_until(samples, at_ms - embargo_ms)
    first = int(np.searchsorted(samples.start_ms, at_ms, side="left"))
    return samples.take(slice(0, rows)), samples.take(slice(first, len(samples)))


def rows_until(samples: Samples, end_ms: int) -> int:
    """How many of the first samples have labels that are known at ``end_ms``, however long any of them took."""
    return int(np.searchsorted(samples.start_ms, end_ms - samples.longest_ms, side="right"))


def split_by_time(samples: Samples, validation_frac: float, inner_frac: float, embargo_ms: int) -> Split:
    """Cut a window into train | inner | validation by shares of time; slices may come out empty on a short window."""
    fit, validation = cut(samples, _time_at(samples, 1.0 - validation_frac), embargo_ms)
    train, inner = cut(fit, _time_at(fit, 1.0 - inner_frac), embargo_ms)
    return Split(train, inner, fit, validation)


def hold_out_calibration(split: Split, frac: float, inner_frac: float, embargo_ms: int) -> Split:
    """The split with the last share of its fitting time set aside for calibration, and what is left of it cut into train | inner anew."""
    fit, calibration = cut(split.fit, _time_at(split.fit, 1.0 - frac), embargo_ms)
    train, inner = cut(fit, _time_at(fit, 1.0 - inner_frac), embargo_ms)
    return Split(train, inner, fit, split.validation, calibration)


def less_tick_mean(samples: Samples) -> Samples:
    """The samples with each label less the mean of its tick's: what tells the pairs of a tick apart, without the market's own move.

    A tick's mean is that of its own rows and nothing else, so any slice of whole ticks gives the same labels as the whole.
    """
    sizes = samples.tick_sizes
    tick = np.repeat(np.arange(len(sizes)), sizes)
    return replace(samples, y=samples.y - (np.bincount(tick, weights=samples.y, minlength=len(sizes)) / sizes)[tick])


def _time_at(samples: Samples, frac: float) -> int:
    if not len(samples):
        return 0
    first, last = int(samples.start_ms[0]), int(samples.start_ms[-1])
    return first + int((last - first) * frac)
