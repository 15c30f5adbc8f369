"""``scan``: let one strategy look for setups, enter and leave; on the strategy's own schedule."""

from __future__ import annotations

from typing import Any

from tickless import bootstrap
from tickless.runs import scan


def handler(event: Any, context: Any) -> dict[str, Any]:
    """Run the tick that EventBridge Scheduler asks for. Errors leave as exceptions: retries, dead letters and alarms rely on it."""
    with bootstrap.invocation(scan.NAME, event, context) as (tick, ports):
        return scan.run(tick, ports).as_dict()
