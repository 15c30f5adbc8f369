"""What an output is worth: from a model's number to a forecast of the return, in units of the samples' scale."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from tickless.bars import Floats


@dataclass(frozen=True)
class Worth:
    """A line: forecast = intercept + slope · output. Never falls: a line that did would turn the model round."""

    slope: float = 1.0
    intercept: float = 0.0

    def forecast(self, output: Floats) -> Floats:
        """Outputs (R,) as forecasts (R,)."""
        return self.intercept + self.slope * output

    def as_json(self) -> dict[str, float]:
        """The line as a manifest holds it."""
        return asdict(self)


def fit_worth(output: Floats, returned: Floats) -> Worth:
    """The line of least squares through what a model said of rows it had not seen and what they returned, both (R,).

    Where it would fall, or the model says the same of all rows, it is level at the mean: such an output forecasts nothing.
    """
    centred = output - output.mean()
    spread = float(centred @ centred)
    slope = max(0.0, float(centred @ returned) / spread) if spread > 0.0 else 0.0
    return Worth(slope, float(np.mean(returned) - slope * output.mean()))
