"""``full_rebalance``: rebalance with lower hysteresis and force time stops; at 00, 06, 12 and 18 UTC."""

from __future__ import annotations

from typing import Any

from tickless import bootstrap
from tickless.runs import full_rebalance


def handler(event: Any, context: Any) -> dict[str, Any]:
    """Run the tick that EventBridge Scheduler asks for. Errors leave as exceptions: retries, dead letters and alarms rely on it."""
    with bootstrap.invocation(full_rebalance.NAME, event, context) as (tick, ports):
        return full_rebalance.run(tick, ports).as_dict()
