"""``risk_check``: every 15 minutes, value the portfolio, move stops, sell what hit one."""

from __future__ import annotations

from tickless.pipeline import Decision, decide_risk
from tickless.ports import Ports
from tickless.runs.desk_state import looked_at
from tickless.runs.desk_tick import TickContext, run_tick
from tickless.runs.gather import held_closes
from tickless.runs.report import RunReport
from tickless.types import Tick

NAME = "risk_check"


def step(context: TickContext) -> Decision:
    """Gather the closes of what is held or has the rest of an order, and decide."""
    settings, at = context.settings, context.tick.scheduled_at
    closes = held_closes(context.ports.bars, looked_at(context.state), settings.desk.timeframe, at)
    return decide_risk(context.tick, closes, context.state, settings, context.venue.market.rules(), context.available)


def run(tick: Tick, ports: Ports) -> RunReport:
    """Run one risk check; see ``run_tick``."""
    return run_tick(tick, ports, {NAME: step})
