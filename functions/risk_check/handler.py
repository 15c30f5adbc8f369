"""``risk_check``: value the portfolio, move stops, sell what hit one; every 15 minutes."""

from __future__ import annotations

from typing import Any

from tickless import bootstrap
from tickless.runs import risk_check


def handler(event: Any, context: Any) -> dict[str, Any]:
    """Run the tick that EventBridge Scheduler asks for. Errors leave as exceptions: retries, dead letters and alarms rely on it."""
    with bootstrap.invocation(risk_check.NAME, event, context) as (tick, ports):
        return risk_check.run(tick, ports).as_dict()
