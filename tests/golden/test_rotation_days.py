"""Four days of decisions on a seeded market, filled at the close: rules that hold at every tick, and a golden list of orders.

The list is compared by time, pair, side and reason; quantities follow from weights that are tested elsewhere. To accept a change on
purpose, run this file as a program and keep what it prints.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from made_panels import MONDAY, walk, without
from tickless.adapters.memory_models import MemoryModelStore
from tickless.execution.accounting import book
from tickless.pipeline import Decision, decide, decide_risk, portfolio_value
from tickless.risk.stops import STOP_REASONS, protect
from tickless.runs.rotation_history import RotationHistory
from tickless.settings import load_desk
from tickless.types import DeskState, Fill, Liquidity, OrderReport, OrderStatus, Side, Tick, iso

GOLDEN = Path(__file__).with_name("rotation_days.txt")
SETTINGS = load_desk("rotation", ["portfolio.tier3_sleeve_frac=0.04", "risk.kill_switch_drawdown_frac=0.9"])
ROTATION = RotationHistory.strategy
PAIRS = ("BTC/USDT", "DOGE/USDT", "ETH/USDT", "FLOKI/USDT", "PEPE/USDT", "SUI/USDT", "WLD/USDT")
FEE = Decimal("0.0010")
DAYS, WARM_UP = 4, 35 * 96


@dataclass
class Days:
    """What happened, in order."""

    state: DeskState
    ticks: list[tuple[Tick, DeskState, Decision, DeskState]] = field(default_factory=list)
    closes: dict[datetime, dict[str, float]] = field(default_factory=dict)
    orders: list[str] = field(default_factory=list)


def market():
    panel = walk(PAIRS, WARM_UP + DAYS * 96, seed=20, sigma=0.006, price=(60_000.0, 0.1, 3000.0, 2e-4, 1e-5, 1.0, 5.0))
    return without(panel, "SUI/USDT", WARM_UP + 30, WARM_UP + 37)


def filled(state: DeskState, decision: Decision, closes, at: datetime) -> DeskState:
    """Every order filled whole at the close, at a tenth of a percent."""
    for order in decision.plan.orders:
        price = Decimal(repr(closes[order.pair]))
        fee = order.qty * price * FEE
        fill = Fill(
            order.client_order_id, order.client_order_id, at, order.pair, order.side, order.qty, price, fee, "USDT", fee, Liquidity.TAKER
        )
        before = state.with_order(order)
        state = book(before, order, OrderReport(order.client_order_id, OrderStatus.FILLED, (fill,))).state
        if order.side is Side.BUY:
            state = state.with_position(protect(state.positions[order.pair], order.exits.atr, SETTINGS.risk))
    return state


def run() -> Days:
    panel = market()
    days = Days(DeskState(Decimal(50_000), Decimal(50_000)))
    for k in range(DAYS * 96):
        at = MONDAY + timedelta(minutes=15 * (WARM_UP + k))
        for tick in SETTINGS.calendar.due_at(at):
            function, before = tick.function, days.state
            row = panel.row_at(at) - 1
            closes = {p: float(c) for p, c in zip(panel.pairs, panel.close[row], strict=True) if c == c}
            days.closes[at] = closes
            if function == "risk_check":
                decision = decide_risk(tick, {p: c for p, c in closes.items() if p in before.positions}, before, SETTINGS, {})
            else:
                known = panel.between(ROTATION.first_bar(SETTINGS, at), at)
                view = RotationHistory(known, PAIRS, SETTINGS, at, MemoryModelStore()).view(at)
                decision = decide(tick, ROTATION, view, before, SETTINGS, {}, full=function == "full_rebalance")
            days.state = filled(decision.state, decision, closes, at)
            days.ticks.append((tick, before, decision, days.state))
            days.orders += [f"{iso(at)} {function} {o.side} {o.pair} {o.reason}" for o in decision.plan.orders]
    return days


@pytest.fixture(scope="module")
def days() -> Days:
    return run()


def test_the_orders_are_those_of_the_golden_list(days):
    assert len(days.orders) >= 40
    assert days.orders == GOLDEN.read_text().splitlines()


def test_every_kind_of_order_appears(days):
    reasons = {line.split()[-1] for line in days.orders}
    assert {"left_target", "stop_loss", "trailing_stop_loss", "max_loss", "rebalance"} & reasons >= {"left_target", "stop_loss"}
    assert any(reason.startswith("fallback_") for reason in reasons)


def test_targets_keep_every_limit_at_every_rebalance(days):
    for tick, _, decision, _ in days.ticks:
        if tick.function == "risk_check":
            continue
        trace, portfolio = decision.trace, SETTINGS.portfolio
        targets, tiers = trace["targets"], trace["tiers"]
        assert len(targets) <= trace["top_k"]
        assert sum(targets.values()) <= 1.0 - trace["cash_buffer_frac"] + 1e-9
        assert all(weight <= portfolio.tier_cap_frac(tiers[pair]) + 1e-9 for pair, weight in targets.items())
        assert sum(weight for pair, weight in targets.items() if tiers[pair] == 3) <= portfolio.tier3_sleeve_frac + 1e-9


def test_what_left_the_target_is_gone_and_what_was_stopped_stays_out(days):
    stopped: dict[str, datetime] = {}
    for tick, before, decision, after in days.ticks:
        at = tick.scheduled_at
        if tick.function == "risk_check":
            stopped |= {o.pair: at for o in decision.plan.orders if o.reason in STOP_REASONS}
            continue
        if tick.function == "full_rebalance":
            stopped = {pair: when for pair, when in stopped.items() if when == at}
        for pair in set(before.positions) - set(decision.trace["targets"]):
            assert pair not in after.positions or decision.plan.skipped == {**decision.plan.skipped, pair: "no_bar"}
        assert not [o.pair for o in decision.plan.orders if o.side is Side.BUY and o.pair in stopped]


def test_no_stop_of_a_position_ever_falls(days):
    moves = 0
    for _, before, _, after in days.ticks:
        for pair in before.positions.keys() & after.positions.keys():
            old, new = before.positions[pair].stop, after.positions[pair].stop
            same = before.positions[pair].opened_at == after.positions[pair].opened_at
            if same and old.stop_price is not None:
                assert new.stop_price is not None
                assert new.stop_price >= old.stop_price
                moves += new.stop_price > old.stop_price
    assert moves > 10


def test_nobody_is_held_at_or_below_a_stop_after_a_risk_check(days):
    for tick, _, _, after in days.ticks:
        if tick.function == "risk_check":
            for pair, close in days.closes[tick.scheduled_at].items():
                stop = after.positions[pair].stop.stop_price if pair in after.positions else None
                assert stop is None or close > stop, (tick.id, pair)


def test_trading_costs_its_fees_and_nothing_else(days):
    turnover = 0.0
    for tick, _, decision, after in days.ticks:
        closes = days.closes[tick.scheduled_at]
        traded = sum(float(o.qty) * closes[o.pair] for o in decision.plan.orders)
        paid = portfolio_value(decision.state, closes) - portfolio_value(after, closes)
        assert paid == pytest.approx(traded * float(FEE), abs=1e-6)
        turnover += traded
    assert turnover > 100_000.0


if __name__ == "__main__":
    sys.stdout.write("\n".join(run().orders) + "\n")
