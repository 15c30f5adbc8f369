"""``retrain``: train, validate, register and promote the desk's models; every night, one step an invocation, or in one go."""

from __future__ import annotations

from typing import Any

from tickless import bootstrap
from tickless.runs import retrain, training_steps


def handler(event: Any, context: Any) -> dict[str, Any]:
    """Do the step that the event names, or the whole job. Errors leave as exceptions: retries, dead letters and alarms rely on it."""
    with bootstrap.invocation(retrain.NAME, event, context) as (tick, ports):
        if "step" in event:
            return training_steps.run_step(tick, ports, bootstrap.training_files(), event)
        return retrain.run(tick, ports).as_dict()
