"""``scan``: one strategy of signals, on a schedule of its own: look for setups, enter and leave."""

from __future__ import annotations

from tickless.ports import Ports
from tickless.runs import full_rebalance
from tickless.runs.desk_tick import Step, run_tick
from tickless.runs.report import RunReport
from tickless.runs.strategy_step import step
from tickless.types import Tick

NAME = "scan"
STEPS: dict[str, Step] = {**full_rebalance.STEPS, NAME: step}


def run(tick: Tick, ports: Ports) -> RunReport:
    """Scan the market for the strategy that the tick names, after the other ticks of its minute; see ``run_tick``."""
    return run_tick(tick, ports, STEPS)
