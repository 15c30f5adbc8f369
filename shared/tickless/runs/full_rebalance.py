"""``full_rebalance``: at 00, 06, 12 and 18 UTC, rebalance with lower hysteresis, force time stops, lift the blocks of stopped pairs."""

from __future__ import annotations

from functools import partial

from tickless.ports import Ports
from tickless.runs import feature_rebalance, risk_check
from tickless.runs.desk_tick import Step, run_tick
from tickless.runs.report import RunReport
from tickless.runs.strategy_step import step
from tickless.types import Tick

NAME = "full_rebalance"
STEPS: dict[str, Step] = {risk_check.NAME: risk_check.step, feature_rebalance.NAME: step, NAME: partial(step, full=True)}


def run(tick: Tick, ports: Ports) -> RunReport:
    """Run one full rebalance, after the other ticks of its minute; see ``run_tick``."""
    return run_tick(tick, ports, STEPS)
