"""``feature_rebalance``: every 30 minutes, refresh features, regime and forecasts, and rebalance with ordinary hysteresis."""

from __future__ import annotations

from tickless.ports import Ports
from tickless.runs import risk_check
from tickless.runs.desk_tick import run_tick
from tickless.runs.report import RunReport
from tickless.runs.strategy_step import step
from tickless.types import Tick

NAME = "feature_rebalance"


def run(tick: Tick, ports: Ports) -> RunReport:
    """Run one ordinary rebalance, after the risk check of its minute; see ``run_tick``."""
    return run_tick(tick, ports, {risk_check.NAME: risk_check.step, NAME: step})
