"""The step of every tick that runs a strategy, rebalanced or scanned: gather what it sees, and decide."""

from __future__ import annotations

from collections.abc import Mapping

from tickless.pipeline import Decision, decide
from tickless.runs.desk_state import looked_at
from tickless.runs.desk_strategies import strategy_of
from tickless.runs.desk_tick import TickContext
from tickless.runs.gather import held_closes, view_market
from tickless.strategies.contract import Strategy
from tickless.strategies.view import MarketView
from tickless.types import DeskState


def unseen(state: DeskState, view: MarketView) -> list[str]:
    """Pairs that are held or have the rest of an order, and that the view does not have, sorted: the universe has dropped them."""
    return [pair for pair in looked_at(state) if pair not in view.known]


def step(context: TickContext, *, full: bool = False) -> Decision:
    """Gather the market's view, and decide."""
    tick, settings, at = context.tick, context.settings, context.tick.scheduled_at
    strategy = strategy_of(tick, settings)
    view = view_market(context.ports, context.venue, settings, strategy, at)
    held = held_closes(context.ports.bars, unseen(context.state, view), settings.desk.timeframe, at)
    return decide_on(context, strategy, view, held, full=full)


def decide_on(context: TickContext, strategy: Strategy, view: MarketView, held: Mapping[str, float], *, full: bool) -> Decision:
    """Decide on what was gathered, by a tick or for a whole range; ``held`` are the closes of what is held and ``unseen``."""
    return decide(
        context.tick,
        strategy,
        view,
        context.state,
        context.settings,
        context.venue.market.rules(),
        full=full,
        reduce_only=context.reduce_only,
        held_closes=held,
        available=context.available,
    )
