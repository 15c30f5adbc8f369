"""Sequences: the last L bars' features of every sample, for models that read bars in order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tickless.features.table import FeatureTable
from tickless.learn.dataset import Samples


@dataclass(frozen=True)
class Sequences:
    """Windows over a feature table, none of them copied until a batch is asked for."""

    windows: NDArray[np.float32]
    """(N, T-L+1, L, F), a view: window w of a pair ends at row w+L-1."""
    whole: NDArray[np.bool_]
    """Whether a window has every value, (N, T-L+1)."""
    start_ms: int
    """When the bar of the table's row 0 opened."""
    step_ms: int

    @property
    def length(self) -> int:
        """L."""
        return int(self.windows.shape[2])

    def whole_rows(self, samples: Samples) -> NDArray[np.intp]:
        """The rows of the samples that have a whole sequence, rising: what ``Samples.take`` is to keep."""
        window = self._windows_of(samples)
        known = (window >= 0) & (window < self.whole.shape[1])
        return np.flatnonzero(known & self.whole[samples.pair, np.where(known, window, 0)])

    def of(self, samples: Samples) -> NDArray[np.float32]:
        """The sequences of some samples, (R, L, F): oldest bar first, the decision's own last.

        A view where the samples are of one pair and follow one another bar by bar, else a copy of just these: ask batch by batch. Raises
        ValueError for a sample without a whole sequence.
        """
        window = self._windows_of(samples)
        if len(self.whole_rows(samples)) < len(samples):
            raise ValueError(f"a sample has no whole sequence of {self.length} bars")
        if len(window) and (samples.pair == samples.pair[0]).all() and (np.diff(window) == 1).all():
            return self.windows[samples.pair[0], window[0] : window[-1] + 1]
        return self.windows[samples.pair, window]

    def _windows_of(self, samples: Samples) -> NDArray[np.int64]:
        row, rest = np.divmod(samples.start_ms - self.start_ms - self.step_ms, self.step_ms)
        if rest.any():
            raise ValueError("the samples do not lie on the table's bars")
        return np.asarray(row - self.length + 1)


def build_sequences(table: FeatureTable, length: int) -> Sequences:
    """Windows of ``length`` bars over a table of exactly the model's features, rounded to float32 as samples are.

    Only past bars: the window of a decision ends with the bar that closed at it. Raises ValueError for fewer rows than ``length``.
    """
    if not 1 <= length <= table.rows:
        raise ValueError(f"sequences of {length} bars of a table of {table.rows}")
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(table.values.transpose(1, 0, 2), dtype=np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(values, length, axis=1).transpose(0, 1, 3, 2)
    missing = np.zeros((len(values), table.rows + 1), dtype=np.int64)
    np.cumsum(~np.isfinite(values).all(axis=2), axis=1, out=missing[:, 1:])
    whole = missing[:, length:] == missing[:, :-length]
    return Sequences(windows, whole, table.start_ms, table.step_ms)
