"""Metrics as CloudWatch's embedded metric format (EMF), a line on stdout that Powertools writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aws_lambda_powertools.metrics import EphemeralMetrics

NAMESPACE = "Tickless"


class PowertoolsMetrics:
    """The Metrics port over Powertools; dimensions are ``service`` (the function) and ``stage``, and what ``divide`` adds.

    Nothing is written before ``flush``: a tick's numbers become one line. ``flush`` belongs into a ``finally``, as a tick that failed has
    numbers, too.
    """

    def __init__(self, service: str, stage: str, namespace: str = NAMESPACE) -> None:
        from aws_lambda_powertools.metrics import EphemeralMetrics

        self._metrics: EphemeralMetrics = EphemeralMetrics(namespace=namespace, service=service)
        self._metrics.set_default_dimensions(stage=stage)

    def divide(self, **dimensions: str) -> None:
        """Give every number of the next flush these dimensions, too: the strategy, where one function runs several."""
        for name, value in dimensions.items():
            self._metrics.add_dimension(name, value)

    def count(self, name: str, value: float = 1.0) -> None:
        """See ``Metrics.count``."""
        self._metrics.add_metric(name=name, unit="Count", value=value)

    def gauge(self, name: str, value: float, unit: str = "None") -> None:
        """See ``Metrics.gauge``."""
        self._metrics.add_metric(name=name, unit=unit, value=value)

    def flush(self) -> None:
        """Write what was collected as one EMF line, if there is any."""
        if self._metrics.metric_set:
            self._metrics.flush_metrics()
