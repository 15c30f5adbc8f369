"""A classifier's output as a probability that can be taken at its word. Numbers from the manifest and numpy, nothing else.

The numbers are fitted by ``tickless.learn.calibration``; here they are applied, by the one function that training and a tick both call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from tickless.errors import ArtifactError

Floats = NDArray[np.float64]
Method = Literal["none", "platt", "isotonic"]
SURE = 1e-7
"""A probability is never taken to be closer to 0 or 1 than this: its log-odds stay finite."""


@dataclass(frozen=True)
class Calibration:
    """What was fitted, and on which time: a slice that the model was not fitted on, and that does not judge it."""

    method: Method = "none"
    x: tuple[float, ...] = ()
    """platt: (slope, intercept) on log-odds; isotonic: outputs, rising."""
    y: tuple[float, ...] = ()
    """isotonic: the probability at each of ``x``, not falling; a straight line between two, level outside."""
    fitted_from_ms: int = 0
    """The first decision it was fitted on."""
    fitted_until_ms: int = 0
    """When the last label it was fitted on was known."""
    rows: int = 0

    def apply(self, output: Floats) -> Floats:
        """Probabilities (R,) from a classifier's probabilities (R,). Never turns their order round; NaN stays NaN."""
        if self.method == "none":
            return output
        if self.method == "platt":
            slope, intercept = self.x
            return 1.0 / (1.0 + np.exp(-(slope * log_odds(output) + intercept)))
        # Beside a single point np.interp would answer NaN with a number.
        return np.where(np.isnan(output), np.nan, np.interp(output, self.x, self.y))

    def as_json(self) -> dict[str, Any]:
        """A JSON object for the manifest; ``from_json`` gives the same numbers, bit for bit."""
        return {
            "method": self.method,
            "x": list(self.x),
            "y": list(self.y),
            "fitted_from_ms": self.fitted_from_ms,
            "fitted_until_ms": self.fitted_until_ms,
            "rows": self.rows,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The calibration that a manifest holds; raises ArtifactError for one that ``as_json`` cannot have written."""
        try:
            x, y = (tuple(float(number) for number in content[key]) for key in ("x", "y"))
            made = cls(content["method"], x, y, *(int(content[key]) for key in ("fitted_from_ms", "fitted_until_ms", "rows")))
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"the calibration is damaged: {error}") from error
        made._check()
        return made

    def _check(self) -> None:
        if self.method not in get_args(Method):
            raise ArtifactError(f"the calibration's method {self.method!r} is unknown; known: {', '.join(get_args(Method))}")
        numbers = np.asarray(self.x + self.y)
        right = {
            "none": not len(numbers),
            "platt": len(self.x) == 2 and not self.y and self.x[0] >= 0.0,
            "isotonic": len(self.x) == len(self.y) >= 1
            and bool((np.diff(self.x) > 0.0).all() and (np.diff(self.y) >= 0.0).all())
            and 0.0 <= self.y[0] <= self.y[-1] <= 1.0,
        }
        if not np.isfinite(numbers).all() or not right[self.method]:
            raise ArtifactError(f"the calibration's numbers do not belong to {self.method}: x {self.x}, y {self.y}")


def log_odds(probability: Floats) -> Floats:
    """log(p / (1 - p)), with p held within ``SURE`` of 0 and 1; NaN stays NaN."""
    held = np.clip(probability, SURE, 1.0 - SURE)
    return np.log(held) - np.log1p(-held)
