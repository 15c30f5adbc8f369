"""What every algorithm takes and gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from tickless.bars import Floats
from tickless.errors import DataError

Output = Literal["value", "probability", "score"]
"""What a model's number is: a forecast in the label's unit, the probability that the label is above zero, or a score that only ranks."""


@dataclass(frozen=True)
class Rows:
    """What a model is fitted on: float32 features, (R, F) or sequences (R, L, F), and for each row a label, a weight and its time."""

    x: NDArray[np.float32]
    y: Floats
    """The label, (R,)."""
    weight: Floats | None
    """How much a row counts, (R,), above zero; None: all alike."""
    time_ms: NDArray[np.int64]
    """The decision, (R,), not falling: rows of one time are ranked against one another."""

    def __post_init__(self) -> None:
        count = len(self.y)
        if len(self.x) != count or len(self.time_ms) != count or (self.weight is not None and len(self.weight) != count):
            raise ValueError("features, labels, weights and times differ in their number of rows")

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Slices:
    """A fitting window in its parts; ``train`` and ``inner`` follow one another inside ``fit``."""

    train: Rows
    inner: Rows
    """Where fitting stops early, and where outputs that are no forecasts in the label's unit learn what they are worth."""
    fit: Rows

    def require_sound(self, name: str, output: Output) -> None:
        """Refuse what nothing can be learned from; raises DataError naming model and reason."""
        for part, rows in (("training", self.train), ("early-stopping", self.inner), ("fitting", self.fit)):
            _require_finite(name, part, rows)
            if output == "probability" and len(np.unique(rows.y > 0.0)) < 2:
                raise DataError(f"model {name}: all labels of the {part} slice are {'above' if (rows.y > 0).all() else 'not above'} zero")
        if output == "score" and not (np.diff(self.train.time_ms) == 0).any():
            raise DataError(f"model {name}: a ranking needs several pairs at one time, and every time has one")


def _require_finite(name: str, part: str, rows: Rows) -> None:
    if not len(rows):
        raise DataError(f"model {name}: the {part} slice is empty")
    if not np.isfinite(rows.x).all():
        raise DataError(f"model {name}: the features of the {part} slice hold a NaN or an infinity")
    if not np.isfinite(rows.y).all():
        raise DataError(f"model {name}: the labels of the {part} slice hold a NaN or an infinity")
    if rows.weight is not None and not (np.isfinite(rows.weight).all() and (rows.weight > 0.0).all()):
        raise DataError(f"model {name}: the weights of the {part} slice must be finite and above zero")
    if (np.diff(rows.time_ms) < 0).any():
        raise DataError(f"model {name}: the rows of the {part} slice are not in the order of their times")


@dataclass(frozen=True)
class Conditions:
    """What makes a fit the same every time."""

    seed: int
    num_threads: int


class Fitted(Protocol):
    """A fitted model."""

    @property
    def rounds(self) -> int:
        """Trees, epochs or steps: how long it was fitted."""
        ...

    @property
    def inner_prediction(self) -> Floats:
        """What a model that has not seen the inner slice said of it, (R,)."""
        ...

    def predict(self, x: NDArray[np.float32]) -> Floats:
        """The trainer's own prediction, (R,): what the export is checked against."""
        ...

    def scaler(self, slices: Slices | None = None) -> bytes:
        """What it has learnt of the size of features and labels before it was fitted; with slices, what it would have learnt of those."""
        ...

    def export(self, features: Sequence[str]) -> bytes:
        """ONNX bytes: float32 in, one float32 a row out. The same model gives the same bytes. Raises ArtifactError."""
        ...
