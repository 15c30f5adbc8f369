"""``feature_rebalance``: every 30 minutes, refresh features, regime and forecasts, and rebalance with ordinary hysteresis."""

from __future__ import annotations

from tickless.pipeline import Decision, decide_rebalance
from tickless.ports import Ports
from tickless.runs import risk_check
from tickless.runs.desk_tick import TickContext, run_tick
from tickless.runs.gather import held_closes, view_market
from tickless.runs.report import RunReport
from tickless.types import Tick

NAME = "feature_rebalance"


def step(context: TickContext, *, full: bool = False) -> Decision:
    """Gather the market's view, and decide."""
    settings, at = context.settings, context.tick.scheduled_at
    view = view_market(context.ports, context.venue, settings, at)
    held = held_closes(context.ports.bars, sorted(context.state.positions), settings.desk.timeframe, at)
    rules = context.venue.market.rules()
    return decide_rebalance(context.tick, view, context.state, settings, rules, full=full, reduce_only=context.mismatch, held_closes=held)


def run(tick: Tick, ports: Ports) -> RunReport:
    """Run one ordinary rebalance, after the risk check of its minute; see ``run_tick``."""
    return run_tick(tick, ports, {risk_check.NAME: risk_check.step, NAME: step})
