"""The feature table: what a feature set computes for many pairs on one time axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property

import numpy as np

from tickless.bars import Floats, step_ms
from tickless.types import from_ms, to_ms


@dataclass(frozen=True)
class FeatureTable:
    """Features of shape (T, N, F), float64.

    Row t belongs to the bar that OPENS at ``start_ms + t * step_ms`` and may be used once that bar has closed; it was computed from
    bars up to and including that one. NaN where a feature is not settled yet or the pair has no recent bar.
    """

    timeframe: str
    pairs: tuple[str, ...]
    names: tuple[str, ...]
    start_ms: int
    values: Floats

    def __post_init__(self) -> None:
        if self.values.shape[1:] != (len(self.pairs), len(self.names)):
            raise ValueError(f"feature values have shape {self.values.shape}, expected (T, {len(self.pairs)}, {len(self.names)})")

    @property
    def rows(self) -> int:
        """T."""
        return len(self.values)

    @cached_property
    def step_ms(self) -> int:
        """Milliseconds of one bar."""
        return step_ms(self.timeframe)

    @property
    def end(self) -> datetime:
        """When the last row's bar closes."""
        return from_ms(self.start_ms + self.rows * self.step_ms)

    def row_closing_at(self, at: datetime) -> int:
        """The row usable at ``at``: its bar is the last to close at or before. May lie outside [0, T)."""
        return (to_ms(at) - self.start_ms) // self.step_ms - 1

    def feature(self, name: str) -> Floats:
        """One feature, shape (T, N); raises KeyError for an unknown name."""
        if name not in self.names:
            raise KeyError(f"no feature {name!r}; known: {', '.join(self.names)}")
        return self.values[:, :, self.names.index(name)]

    def select(self, names: Sequence[str]) -> FeatureTable:
        """The table with exactly these features, in this order; raises KeyError for an unknown name."""
        values = np.stack([self.feature(name) for name in names], axis=2)
        return replace(self, names=tuple(names), values=values)

    def take(self, first: int, last: int) -> FeatureTable:
        """Rows [first, last) as a view."""
        return replace(self, start_ms=self.start_ms + first * self.step_ms, values=self.values[first:last])
