"""Rotation and crossover on one desk: each leaves the other's positions alone, and a pair has one owner."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal as D
from typing import Any

import pytest

from made_desk import T0, a_desk, a_position, a_signal_view, a_view
from tickless.pipeline import Decision, decide, decide_risk
from tickless.settings import Settings, load_desk, read_desk
from tickless.strategies.crossover import Crossover
from tickless.strategies.rotation import Rotation
from tickless.types import Order, OrderStatus, OrderType, Side, StopState, Tick

A, B = "A/USDT", "B/USDT"
GOOD, BAD = {"score": 0.02}, {"score": -1.0}
UP, DOWN = {"trend": 1.0, "crossed": 1.0}, {"trend": -1.0, "crossed": -1.0}
STOP = StopState(stop_price=95.0, atr=2.0)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A desk with the limits of ``rotation`` that runs both."""
    path = tmp_path_factory.mktemp("desk") / "both.toml"
    path.write_text(f"{read_desk('rotation')[0]}\n[strategy.crossover]\nstake = 2000.0\n")
    return load_desk(str(path))


def rebalance(pairs: Any, state: Any, settings: Settings, *, full: bool = False) -> Decision:
    tick = Tick(T0, "full_rebalance" if full else "feature_rebalance")
    return decide(tick, Rotation(), a_view(pairs), state, settings, {}, full=full)


def scan(pairs: Any, state: Any, settings: Settings, minutes: float = 0) -> Decision:
    return decide(Tick(T0 + timedelta(minutes=minutes), "scan", "crossover"), Crossover(), a_signal_view(pairs), state, settings, {})


def sent(decision: Decision) -> list[tuple[str, str, str, str]]:
    return [(order.side.value, order.pair, order.strategy, order.reason) for order in decision.plan.orders]


def said(decision: Decision, pair: str) -> tuple[str, str]:
    entry = decision.trace["pairs"][pair]
    return entry["action"], entry["reason"]


def test_each_sells_what_it_holds_and_leaves_what_the_other_holds(desk):
    state = a_desk(a_position(A, "10"), a_position(B, "20", strategy="crossover"), cash="47000")
    dropped = rebalance({A: BAD, B: BAD}, state, desk)
    assert sent(dropped) == [("sell", A, "rotation", "left_target")]
    assert said(dropped, B) == ("pass", "belongs_to_crossover")
    crossed = scan({A: DOWN, B: DOWN}, state, desk)
    assert sent(crossed) == [("sell", B, "crossover", "cross_down")]
    assert said(crossed, A) == ("pass", "belongs_to_rotation")


def test_a_pair_that_one_holds_is_not_bought_by_the_other(desk):
    state = a_desk(a_position(A, "10"), a_position(B, "20", strategy="crossover"), cash="47000")
    assert sent(scan({A: UP, B: {}}, state, desk)) == []
    keen = rebalance({A: GOOD, B: GOOD}, state, desk)
    assert [pair for _, pair, _, _ in sent(keen)] == [A]
    assert said(keen, B) == ("pass", "belongs_to_crossover")
    assert B not in keen.trace["targets"]


def test_a_pair_that_one_is_buying_is_the_others_no_more_than_one_it_holds(desk):
    order = Order("o-1", T0, "crossover", B, Side.BUY, OrderType.MARKET, D(20), "cross_up", status=OrderStatus.OPEN)
    state = a_desk(orders={"o-1": order})
    decision = rebalance({A: BAD, B: GOOD}, state, desk)
    assert (sent(decision), decision.plan.cancels) == ([], ())
    assert said(decision, B) == ("pass", "belongs_to_crossover")
    assert scan({B: DOWN}, state, desk).plan.cancels == ("o-1",)


def test_a_pair_that_is_sold_may_be_bought_by_either(desk):
    assert [pair for _, pair, _, _ in sent(rebalance({B: GOOD}, a_desk(), desk))] == [B]
    assert [pair for _, pair, _, _ in sent(scan({B: UP}, a_desk(), desk))] == [B]


def test_a_stop_sells_under_the_name_of_whoever_opened_the_position_and_blocks_both(desk):
    state = a_desk(a_position(A, "10", stop=STOP), a_position(B, "20", stop=STOP, strategy="crossover"), cash="47000")
    stopped = decide_risk(Tick(T0, "risk_check"), {A: 94.0, B: 94.0}, state, desk, {})
    assert sent(stopped) == [("sell", A, "rotation", "stop_loss"), ("sell", B, "crossover", "stop_loss")]
    sold = replace(stopped.state, positions={}, cash=D(50_000))
    assert sent(scan({A: UP, B: UP}, sold, desk, minutes=15)) == []
    assert sent(rebalance({A: GOOD, B: GOOD}, sold, desk)) == []
    assert said(scan({A: UP, B: UP}, sold, desk, minutes=15), A) == ("pass", "blocked_after_stop")


def test_a_scan_lifts_no_block_where_a_full_rebalance_will(desk):
    state = a_desk(blocked={A: "2024-05-31T12:00:00Z"})
    scanned = scan({A: UP}, state, desk, minutes=15)
    assert scanned.state.blocked == state.blocked
    assert said(scanned, A) == ("pass", "blocked_after_stop")
    assert rebalance({A: GOOD}, state, desk, full=True).state.blocked == {}


def test_the_regime_and_the_atr_of_one_are_not_touched_by_the_other(desk):
    state = a_desk(a_position(A, "70", stop=STOP), a_position(B, "20", stop=STOP, strategy="crossover"), cash="41000", regime="down")
    scanned = scan({A: {}, B: {}}, state, desk)
    assert (scanned.positions, scanned.state.regime) == ((), "down")
    balanced = rebalance({A: {**GOOD, "atr_14_30m": 7.0}, B: {**GOOD, "atr_14_30m": 7.0}}, state, desk)
    assert [p.pair for p in balanced.positions] == [A]
    assert balanced.state.regime == "chop"


def test_a_time_stop_is_rotations_alone(desk):
    state = a_desk(a_position(A, "10", hours=30), a_position(B, "20", hours=30, strategy="crossover"), cash="47000")
    overdue = rebalance({A: BAD, B: BAD}, state, desk, full=True)
    assert sent(overdue) == [("sell", A, "rotation", "time_stop")]


def test_equity_and_drawdown_are_those_of_the_whole_desk(desk):
    state = a_desk(a_position(A, "10"), a_position(B, "20", strategy="crossover"), cash="40000", marks={A: 100.0, B: 100.0})
    for decision in (rebalance({A: GOOD, B: BAD}, state, desk), scan({A: {}, B: {}}, state, desk)):
        assert decision.trace["equity"] == 43_000.0
        assert decision.trace["drawdown_frac"] == pytest.approx(43 / 50 - 1)
    assert scan({A: {}, B: {}, "C/USDT": UP}, state, desk).trace["limits"] == ["drawdown_scale:0.2"]
    assert float(scan({"C/USDT": UP}, state, desk).plan.orders[0].qty) == pytest.approx(4.0)


def test_a_desk_file_with_both_names_its_ticks(desk):
    names = [tick.name for tick in desk.calendar.due_at(T0)]
    assert names == ["risk_check", "full_rebalance", "scan-crossover"]
