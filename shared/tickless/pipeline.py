"""decide(): what a tick does, as pure functions of the market, the desk's state and its settings.

No clock, no I/O, no randomness. The cloud, the replay and the backtest call these same functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from tickless.execution.dust import DUST, dust_pairs
from tickless.execution.planning import Account, Plan, Thresholds, Wish, plan_orders
from tickless.execution.quarantine import shut_out
from tickless.execution.requotes import Continued, buying, continue_unfilled, due_now
from tickless.execution.rounding import exact, money
from tickless.risk.drawdown import drawdown_frac, kill_switch_trips
from tickless.risk.limits import Limited, limit
from tickless.risk.stops import STOP_REASONS, TIME_STOP, exit_reason, trail
from tickless.settings import RiskSection, Settings
from tickless.strategies.contract import NOTHING, Own, Strategy, Targets
from tickless.strategies.trace import Steps, decision_trace
from tickless.strategies.view import MarketView, Proposal, Proposals
from tickless.types import DeskState, EquityRow, Halt, PairRules, Position, Side, StopState, Tick, Unfilled, evolve, iso

LEFT_TARGET = "left_target"
REBALANCE = "rebalance"
FLATTEN = "flatten"
"""A person has asked for everything to be sold."""
NOT_THERE = "not_at_the_exchange"
"""The ledger holds it, the exchange does not: there is nothing to sell."""
TOO_LITTLE = frozenset({"below_min_qty", "below_min_notional"})
"""Why the exchange takes no order for what is left of a pair."""
MODEL_DRIFT = "model_drift"
"""The limit that binds while a model that has drifted is trusted with less."""
NO_STOP_HIT: Mapping[str, str] = {"action": "keep", "reason": "no_stop_hit"}
"""What a risk check says of a position that it leaves alone."""
DUST_KEPT: Mapping[str, str] = {"action": "keep", "reason": DUST}
"""What it says of a remainder that would have to go, and that the exchange would not take."""


@dataclass(frozen=True)
class Decision:
    """What a tick wants: the state to write down, orders to send, and why."""

    state: DeskState
    positions: tuple[Position, ...] = ()
    """Positions whose stop moved."""
    plan: Plan = field(default_factory=lambda: Plan((), (), {}))
    equity: EquityRow | None = None
    alerts: tuple[str, ...] = ()
    trace: Mapping[str, Any] = field(default_factory=dict)
    continued: Mapping[str, Unfilled] = field(default_factory=dict)
    """Rests of orders that the state has no longer: the ledger keeps them until the orders of ``plan`` are written down."""


class _Given(NamedTuple):
    """What a tick decides on besides the state: the same from its first order to its last."""

    tick: Tick
    closes: Mapping[str, float]
    equity: float
    settings: Settings
    rules: Mapping[str, PairRules]
    available: Mapping[str, Decimal]

    def plan(self, strategy: str, wishes: list[Wish], state: DeskState, thresholds: Thresholds) -> Plan:
        """The orders that take the desk to its wishes."""
        if not wishes:
            return Plan((), (), {})
        return plan_orders(
            wishes,
            self._account(state),
            self.tick,
            desk=self.settings.desk.name,
            strategy=strategy,
            thresholds=thresholds,
            settings=self.settings.execution,
        )

    def go_on(self, strategy: str, plan: Plan, state: DeskState, decided: Set[str], *, only_sells: bool) -> Continued:
        """Go on with the rests of orders that are this tick's to deal with: those of ``strategy``, or of all where it is empty."""
        rests = [rest for rest in due_now(state, self.tick, self.settings) if not strategy or rest.strategy == strategy]
        if not rests:
            return Continued(plan, state)
        account = self._account(state)
        return continue_unfilled(rests, plan, state, account, self.tick, self.settings, decided=decided, only_sells=only_sells)

    def _account(self, state: DeskState) -> Account:
        return Account(
            cash=state.cash,
            equity=self.equity,
            holdings={pair: self.available.get(pair, position.qty) for pair, position in state.positions.items()},
            open_orders=tuple(state.orders.values()),
            prices=self.closes,
            rules=shut_out(state.quarantined, _filters(self.settings, self.rules)),
        )


def portfolio_value(state: DeskState, closes: Mapping[str, float]) -> float:
    """Cash plus positions at the last close known of each pair, in the stake currency."""
    return _add_up(state, held_values(state, closes))


def held_values(state: DeskState, closes: Mapping[str, float]) -> dict[str, float]:
    """What is held of each pair at the last close known of it, in the stake currency; sorted by pair."""
    positions, marks = state.positions, state.marks
    values = {}
    for pair in sorted(positions):
        position = positions[pair]
        price = closes.get(pair)
        if price is None:
            price = marks.get(pair)
        values[pair] = float(position.qty) * (price if price is not None else float(position.entry_price))
    return values


def _add_up(state: DeskState, held: Mapping[str, float]) -> float:
    """Cash and holdings, one after the other in the order of the pairs: the sum's last digits depend on it."""
    value = float(state.cash)
    for amount in held.values():
        value += amount
    return value


def decide_risk(
    tick: Tick,
    closes: Mapping[str, float],
    state: DeskState,
    settings: Settings,
    rules: Mapping[str, PairRules],
    available: Mapping[str, Decimal] = NOTHING,
) -> Decision:
    """A risk check: value the portfolio, write its equity row, move stops, trip the kill switch, and sell what hit a stop.

    ``closes`` are the closes of held pairs, and of those with the rest of an order, whose last bar has just closed; a pair without one
    keeps its mark and is not sold.
    ``available`` is what can really be sold of pairs of which the exchange holds less than the ledger.
    """
    state = evolve(state, marks={p: closes.get(p, m) for p, m in sorted(_marks(state).items())})
    equity = portfolio_value(state, closes)
    state, row, alerts = _value(tick, state, equity, settings.risk)
    state, moved, hit = _check_stops(state, closes, settings.risk)
    dust = dust_pairs(state, closes, _filters(settings, rules))
    exits = {pair: reason for pair, reason in hit.items() if pair not in dust}
    positions = state.positions
    if state.flatten is not None:
        exits = dict.fromkeys(sorted(positions), FLATTEN)
    wishes = [Wish(pair, 0.0, exit_reason=reason, urgent=True, strategy=positions[pair].strategy) for pair, reason in exits.items()]
    given = _Given(tick, closes, equity, settings, rules, available)
    plan = given.plan("", wishes, state, Thresholds(0.0, 0.0))
    if state.mode != "ACTIVE":
        plan = _cancel_buys(plan, state, {order.pair for order in state.orders.values()})
    state, stopped = _block_stopped(state, exits, tick, settings.risk)
    only_sells = state.mode != "ACTIVE"
    rests = given.go_on("", plan, state, set(exits), only_sells=only_sells)
    state, plan = rests.state, rests.plan
    verdicts = _risk_verdicts(state, exits, plan)
    verdicts |= {pair: DUST_KEPT for pair in hit if pair not in exits}
    if state.flatten is not None:
        state, told = _flatten(state, plan, verdicts)
        alerts.extend(told)
    trace = {
        "regime": state.regime,
        "equity": equity,
        "drawdown_frac": row.drawdown_frac,
        "limits": [] if state.mode == "ACTIVE" else [state.mode.lower()],
        "pairs": verdicts,
        **_rest_trace(rests),
    }
    return Decision(state, (*moved, *stopped), plan, row, tuple(alerts), trace, rests.taken)


def decide(
    tick: Tick,
    strategy: Strategy,
    view: MarketView,
    state: DeskState,
    settings: Settings,
    rules: Mapping[str, PairRules],
    *,
    full: bool = False,
    reduce_only: str = "",
    held_closes: Mapping[str, float] | None = None,
    available: Mapping[str, Decimal] = NOTHING,
) -> Decision:
    """What one strategy does at a tick: proposals, targets, limits, orders. A full rebalance has its own hysteresis and time stops.

    A pair that is neither in the strategy's targets nor to be left stays as it is, and so does what another strategy holds.
    ``reduce_only`` is a reason why nothing may be bought at this tick (a ledger that does not match the exchange), or empty.
    ``held_closes`` are the closes of held pairs whose last bar has just closed: a pair that the universe has dropped is in no view, and
    could not be sold without one.
    """
    closes = {**held_closes, **view.closes()} if held_closes else view.closes()
    held = held_values(state, closes)
    equity = _add_up(state, held)
    drawdown = drawdown_frac(equity, float(state.peak_equity))
    # A desk without full rebalances does at every tick what a full one would do: nothing else could lift a block.
    thorough = full or not (settings.calendar.rebalanced and settings.schedule.full_rebalance_hours)
    dust = dust_pairs(state, closes, _filters(settings, rules)) if state.positions else frozenset()
    state = _lift_blocks(state, tick, dust) if thorough and state.blocked else state
    if view.regime.name:
        state = evolve(state, regime=view.regime.name, regime_at=tick.scheduled_at)
    own, taken = _own(strategy, state, dust)
    proposed = strategy.propose(view, own, settings)
    overdue = _overdue(tick, own, proposed, settings.risk) if thorough else {}
    wanted = [p for p in proposed.proposals if p.pair not in taken]
    targets = _trusted(strategy.target(wanted, {**proposed.leaving, **overdue}, view, own, equity, settings), view.size_frac)
    halted = state.halt is not None or bool(reduce_only)
    limited = limit(targets.values, held, drawdown, halted=halted, blocked=state.blocked, settings=settings.risk)
    state, refreshed = _refresh_atr(own, state, view)
    cut_off = {p: LEFT_TARGET for p in own.pairs if p in targets.values and p not in limited.values}
    leaving = {**targets.leaving, **cut_off}
    wishes = _wishes(wanted, limited, leaving, closes)
    thresholds = Thresholds(strategy.hysteresis_frac(settings, full=full), settings.portfolio.min_order_value)
    given = _Given(tick, closes, equity, settings, rules, available)
    plan = given.plan(strategy.name, wishes, state, thresholds)
    if halted:
        plan = _without_buys(plan)
    if dust:
        state, refreshed = _enter_again(state, refreshed, plan, dust, tick)
    unwanted = own.buying if halted else own.buying & {*leaving, *limited.held_back}
    plan = _cancel_buys(plan, state, unwanted)
    rests = given.go_on(strategy.name, plan, state, {*targets.values, *leaving}, only_sells=halted)
    state, plan = rests.state, rests.plan
    steps = Steps(proposed, targets, limited, held, taken, dust, plan)
    trace = {"regime": state.regime, **decision_trace(view, steps, equity), **_rest_trace(rests)}
    trace |= {"equity": equity, "drawdown_frac": drawdown, "reduce_only": reduce_only}
    return Decision(state, refreshed, plan, trace=trace, continued=rests.taken)


def _value(tick: Tick, state: DeskState, equity: float, settings: RiskSection) -> tuple[DeskState, EquityRow, list[str]]:
    """The desk at its new peak, halted where its drawdown trips the kill switch; its equity row; and what to tell people."""
    peak = max(state.peak_equity, money(exact(equity)))
    drawdown = drawdown_frac(equity, float(peak))
    row = EquityRow(
        at=tick.scheduled_at,
        equity=money(exact(equity)),
        cash=state.cash,
        exposure_frac=(equity - float(state.cash)) / equity if equity > 0.0 else 0.0,
        drawdown_frac=drawdown,
        regime=state.regime,
    )
    state = evolve(state, peak_equity=peak)
    if state.halt is not None or not kill_switch_trips(drawdown, settings):
        return state, row, []
    halt = Halt(reason=f"drawdown {drawdown:.2%} reached the kill switch", since=tick.scheduled_at)
    return evolve(state, halt=halt), row, [f"desk halted: {halt.reason}; exits go on, a person has to resume"]


def _marks(state: DeskState) -> dict[str, float]:
    return {p: state.marks.get(p, float(position.entry_price)) for p, position in state.positions.items()}


def _check_stops(
    state: DeskState, closes: Mapping[str, float], settings: RiskSection
) -> tuple[DeskState, tuple[Position, ...], dict[str, str]]:
    """Trail the stops of all positions with a fresh close, then see which are hit."""
    moved: list[Position] = []
    exits: dict[str, str] = {}
    gone_off = {order.pair for order in state.orders.values() if order.protects and order.filled_qty > 0}
    for pair in sorted(state.positions):
        position = state.positions[pair]
        close = closes.get(pair)
        if close is None:
            continue
        # Trail first: where the ATR has shrunk, the raised stop may lie above this very close, and then it is hit now.
        stop = trail(position.stop, float(position.entry_price), close, settings)
        if stop != position.stop:
            position = evolve(position, stop=stop)
            moved.append(position)
            state = state.with_position(position)
        reason = exit_reason(position, close, settings)
        if reason is None and (pair in state.blocked or pair in gone_off):
            reason = stop.hit or stop.kind  # It was stopped out, and its exit ended before all was sold: the exit goes on.
        if reason is not None:
            exits[pair] = reason
    return state, tuple(moved), exits


def _block_stopped(state: DeskState, exits: Mapping[str, str], tick: Tick, settings: RiskSection) -> tuple[DeskState, tuple[Position, ...]]:
    """Block what hit a stop, sold or not: an exit in progress must not be bought back. The positions note which stop it was."""
    stopped = {pair: reason for pair, reason in exits.items() if reason in STOP_REASONS} if settings.block_after_stop else {}
    if not stopped:
        return state, ()
    held = ((state.positions[pair], reason) for pair, reason in stopped.items())
    noted = tuple(
        [
            evolve(position, stop=evolve(position.stop, hit=reason))
            for position, reason in held
            if (position.stop.hit or position.stop.kind) != reason
        ]
    )
    for position in noted:
        state = state.with_position(position)
    return evolve(state, blocked={**state.blocked, **dict.fromkeys(stopped, iso(tick.scheduled_at))}), noted


def _without_buys(plan: Plan) -> Plan:
    """Where the exchange holds less than the ledger, keeping what the ledger claims would mean to buy."""
    bought = {order.pair: "only_sells" for order in plan.orders if order.side is Side.BUY}
    return plan._replace(orders=plan.orders[: -len(bought)], skipped={**plan.skipped, **bought}) if bought else plan


def _cancel_buys(plan: Plan, state: DeskState, pairs: Set[str]) -> Plan:
    """Also cancel the open buys of ``pairs``: one that fills later would be an entry nobody wants any more."""
    unwanted = [i for i, order in sorted(state.orders.items()) if order.side is Side.BUY and order.pair in pairs]
    return plan._replace(cancels=tuple(dict.fromkeys((*plan.cancels, *unwanted)))) if unwanted else plan


def _risk_verdicts(state: DeskState, exits: Mapping[str, str], plan: Plan) -> dict[str, Mapping[str, str]]:
    ordered = {order.pair: order for order in plan.orders}
    verdicts: dict[str, Mapping[str, str]] = {}
    for pair in sorted({*state.positions, *ordered}):
        if pair not in exits:
            verdicts[pair] = {"action": ordered[pair].side.value, "reason": ordered[pair].reason} if pair in ordered else NO_STOP_HIT
        elif pair in ordered:
            verdicts[pair] = {"action": "sell", "reason": exits[pair]}
        else:
            verdicts[pair] = {"action": "keep", "reason": plan.skipped.get(pair, NOT_THERE)}
    return verdicts


def _flatten(state: DeskState, plan: Plan, verdicts: Mapping[str, Mapping[str, str]]) -> tuple[DeskState, tuple[str, ...]]:
    """The state once a flatten is over, and what to tell people: what it sells now, or that it is over and what could not be sold."""
    if plan.orders:
        return state, (f"flatten: sells {', '.join(order.pair for order in plan.orders)}",)
    left = {pair: verdict["reason"] for pair, verdict in verdicts.items()}
    busy = any(not order.protects for order in state.orders.values())
    if busy or any(reason not in TOO_LITTLE and reason != NOT_THERE for reason in left.values()):
        return state, ()
    rest = f"; left: {', '.join(f'{pair} ({reason})' for pair, reason in left.items())}" if left else ""
    return evolve(state, flatten=None), (f"flatten is over, the desk holds nothing that it can sell and stays halted{rest}",)


def _rest_trace(rests: Continued) -> dict[str, Any]:
    return {"requotes": rests.trace} if rests.trace else {}


def _filters(settings: Settings, rules: Mapping[str, PairRules]) -> Mapping[str, PairRules]:
    return rules if settings.execution.filters else {}


def _lift_blocks(state: DeskState, tick: Tick, dust: Set[str]) -> DeskState:
    """Pairs that were stopped out before this tick and are sold, but for dust, may be bought again."""
    now = iso(tick.scheduled_at)
    kept = {p: at for p, at in state.blocked.items() if at >= now or (p in state.positions and p not in dust)}
    return evolve(state, blocked=kept)


def _enter_again(
    state: DeskState, refreshed: tuple[Position, ...], plan: Plan, dust: Set[str], tick: Tick
) -> tuple[DeskState, tuple[Position, ...]]:
    """What is bought of a pair of which dust is left joins it: the position is the buyer's, as old as this tick, without its old stop."""
    joined = [
        evolve(state.positions[order.pair], strategy=order.strategy, enter_tag=order.reason, opened_at=tick.scheduled_at, stop=StopState())
        for order in plan.orders
        if order.side is Side.BUY and order.pair in dust
    ]
    for position in joined:
        state = state.with_position(position)
    return state, (*refreshed, *joined)


def _own(strategy: Strategy, state: DeskState, dust: Set[str]) -> tuple[Own, dict[str, str]]:
    """What the strategy has in the market; and the pairs that another one has, with whose they are: a pair has one position.

    Dust is nobody's: the strategy neither holds it nor leaves it, and any may enter the pair.
    """
    name = strategy.name
    held = state.positions if not dust else {pair: position for pair, position in state.positions.items() if pair not in dust}
    positions = {pair: position for pair, position in held.items() if position.strategy == name}
    if not state.orders and not state.unfilled and len(positions) == len(held):
        return Own(positions), {}
    buys = buying(state)
    owners = {**buys, **{pair: position.strategy for pair, position in held.items()}}
    taken = {pair: owner for pair, owner in owners.items() if owner != name}
    return Own(positions, frozenset(pair for pair, owner in buys.items() if owner == name)), taken


def _refresh_atr(own: Own, state: DeskState, view: MarketView) -> tuple[DeskState, tuple[Position, ...]]:
    """Give held positions the latest ATR: the trailing distance follows volatility, the stop itself never falls."""
    refreshed = []
    for pair, latest in view.atr(own.positions).items():
        position = own.positions[pair]
        if latest > 0.0 and latest != position.stop.atr:
            refreshed.append(evolve(position, stop=evolve(position.stop, atr=latest)))
    for position in refreshed:
        state = state.with_position(position)
    return state, tuple(refreshed)


def _wishes(proposals: Sequence[Proposal], limited: Limited, leaving: Mapping[str, str], closes: Mapping[str, float]) -> list[Wish]:
    """What to hold of every target, and nothing of every pair to be left. A pair that is held back stays as it is."""
    proposed = {p.pair: p for p in proposals}
    wishes = []
    for pair, value in limited.values.items():
        proposal = proposed[pair]
        if pair in closes and pair not in limited.held_back:
            wishes.append(Wish(pair, value / closes[pair], proposal.reason, REBALANCE, proposal.exits))
    return wishes + [Wish(pair, 0.0, exit_reason=leaving[pair]) for pair in sorted(leaving)]


def _overdue(tick: Tick, own: Own, proposed: Proposals, settings: RiskSection) -> dict[str, str]:
    """Pairs held for longer than the time stop allows whose net score does not speak for them (one without a score is not judged)."""
    if settings.time_stop_h is None:
        return {}
    opened_before = tick.scheduled_at - timedelta(hours=settings.time_stop_h)
    old = [pair for pair, position in own.positions.items() if position.opened_at < opened_before]
    return {pair: TIME_STOP for pair in old if pair in proposed.verdicts and proposed.verdicts[pair].net <= 0.0}


def _trusted(targets: Targets, size_frac: float) -> Targets:
    """The targets, smaller where a model that they come from has drifted."""
    if size_frac >= 1.0:
        return targets
    smaller = {pair: value * size_frac for pair, value in targets.values.items()}
    return targets._replace(values=smaller, limits=(*targets.limits, MODEL_DRIFT))
