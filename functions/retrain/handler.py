"""``retrain``: train, validate, register and promote the desk's models; every night."""

from __future__ import annotations

from typing import Any

from tickless import bootstrap
from tickless.runs import retrain


def handler(event: Any, context: Any) -> dict[str, Any]:
    """Run the tick that EventBridge Scheduler asks for. Errors leave as exceptions: retries, dead letters and alarms rely on it."""
    with bootstrap.invocation(retrain.NAME, event, context) as (tick, ports):
        return retrain.run(tick, ports).as_dict()
