"""``feature_rebalance``: refresh features, regime and forecasts, and rebalance; every 30 minutes."""

from __future__ import annotations

from typing import Any

from tickless import bootstrap
from tickless.runs import feature_rebalance


def handler(event: Any, context: Any) -> dict[str, Any]:
    """Run the tick that EventBridge Scheduler asks for. Errors leave as exceptions: retries, dead letters and alarms rely on it."""
    with bootstrap.invocation(feature_rebalance.NAME, event, context) as (tick, ports):
        return feature_rebalance.run(tick, ports).as_dict()
