"""decide(): what a tick wants, from a view and a state put together by hand."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from made_desk import SETTINGS, T0, a_desk, a_position, a_tick, a_view
from tickless.execution.accounting import book
from tickless.pipeline import decide, decide_risk, portfolio_value
from tickless.settings import load_desk
from tickless.strategies.rotation import Rotation
from tickless.types import Fill, Halt, Liquidity, Order, OrderReport, OrderStatus, OrderType, PairRules, Side, StopState, iso

GOOD = {"score": 0.02}
STOP = StopState(stop_price=95.0, atr=2.0)


def rebalance(view, state, *, settings=SETTINGS, minutes=0.0, full=False, rules=None, **options):
    function = "full_rebalance" if full else "feature_rebalance"
    return decide(a_tick(minutes, function), Rotation(), view, state, settings, rules or {}, full=full, **options)


def check(closes, state, *, settings=SETTINGS, minutes=0.0, rules=None):
    return decide_risk(a_tick(minutes, "risk_check"), closes, state, settings, rules or {})


def orders(decision):
    return {(o.side.value, o.pair): o for o in decision.plan.orders}


def an_open_buy(pair, qty="10", order_id="o-1", side=Side.BUY):
    return Order(
        order_id, T0 - timedelta(minutes=15), "rotation", pair, side, OrderType.MARKET, Decimal(qty), "entry", status=OrderStatus.OPEN
    )


# Targets


def test_a_desk_in_cash_buys_its_targets_in_rank_order():
    decision = rebalance(a_view({"A/USDT": {"score": 0.02}, "B/USDT": {"score": 0.03, "close": 50.0}, "C/USDT": {"score": -1.0}}), a_desk())
    assert [(o.side, o.pair, o.reason) for o in decision.plan.orders] == [
        (Side.BUY, "B/USDT", "models_chop"),
        (Side.BUY, "A/USDT", "models_chop"),
    ]
    # Both want more than a tier-1 cap of 15 % of 50,000.
    assert [float(o.qty * p) for o, p in zip(decision.plan.orders, (50, 100), strict=True)] == pytest.approx([7500.0, 7500.0])
    assert decision.trace["targets"] == {"B/USDT": 0.15, "A/USDT": 0.15}
    assert decision.plan.orders[0].exits.atr == 1.0


def test_a_pair_that_leaves_the_target_is_sold_whole_whatever_its_size():
    rules = {"B/USDT": PairRules("B/USDT", qty_step=Decimal("0.01"), min_notional=Decimal(5))}
    state = a_desk(a_position("B/USDT", "0.10"))
    sold = orders(rebalance(a_view({"A/USDT": GOOD, "B/USDT": {"score": 0.001}}), state, rules=rules))["sell", "B/USDT"]
    assert (sold.qty, sold.reason, sold.reduce_only) == (Decimal("0.10"), "left_target", True)
    dust = rebalance(a_view({"B/USDT": {"score": 0.001}}), a_desk(a_position("B/USDT", "0.04")), rules=rules)
    assert dust.plan.orders == ()
    assert dust.trace["pairs"]["B/USDT"].items() >= {"action": "keep", "reason": "below_min_notional", "target": 0.0}.items()


def test_an_exit_leaves_no_dust_of_positions_bought_in_parts():
    state = a_desk(a_position("A/USDT", "0.1516754877572222"))
    (order,) = rebalance(a_view({"A/USDT": {}}), state).plan.orders
    assert order.qty == Decimal("0.1516754877572222")
    (stop,) = check({"A/USDT": 94.0}, a_desk(a_position("A/USDT", "0.1516754877572222", stop=STOP))).plan.orders
    assert stop.qty == Decimal("0.1516754877572222")


def test_an_empty_target_sells_everything():
    state = a_desk(a_position("A/USDT", "10"), a_position("B/USDT", "1"))
    decision = rebalance(a_view({"A/USDT": {}, "B/USDT": {}}), state)
    assert list(orders(decision)) == [("sell", "A/USDT"), ("sell", "B/USDT")]


def test_what_the_universe_has_dropped_is_sold_at_its_own_close():
    state = a_desk(a_position("GONE/USDT", "100"), marks={"GONE/USDT": 90.0})
    view = a_view({"A/USDT": GOOD})
    stale = rebalance(view, state)
    assert stale.plan.skipped == {"GONE/USDT": "no_bar"}
    fresh = rebalance(view, state, held_closes={"GONE/USDT": 80.0})
    assert orders(fresh)["sell", "GONE/USDT"].qty == 100
    assert fresh.trace["equity"] == 58_000.0


@pytest.mark.parametrize(
    ("full", "held", "sent"),
    [
        (False, 24.9, True),
        (False, 25.1, False),
        (False, 124.9, False),
        (False, 125.1, True),
        (True, 54.9, True),
        (True, 55.1, False),
        (True, 94.9, False),
        (True, 95.1, True),
    ],
)
def test_hysteresis_is_wide_at_ordinary_and_narrow_at_full_rebalances(full, held, sent):
    # The target is 0.075 of 100,000: 75 units at 100.
    settings = load_desk("rotation", ["portfolio.tier1_cap_frac=0.075"])
    state = a_desk(a_position("A/USDT", str(held)), cash=str(100_000 - Decimal(str(held)) * 100), peak="100000")
    decision = rebalance(a_view({"A/USDT": GOOD}), state, settings=settings, full=full)
    assert [float(o.qty) for o in decision.plan.orders] == ([pytest.approx(abs(75 - held))] if sent else [])
    assert decision.plan.skipped == ({} if sent else {"A/USDT": "within_hysteresis"})


def test_small_changes_are_not_worth_an_order():
    settings = load_desk("rotation", ["portfolio.full_hysteresis_frac=0", "portfolio.min_order_value=100"])
    state = a_desk(a_position("A/USDT", "74.5"), cash="42550")
    decision = rebalance(a_view({"A/USDT": GOOD}), state, settings=settings, full=True)
    assert decision.plan.skipped == {"A/USDT": "below_min_order_value"}


def test_targets_shrink_in_a_drawdown():
    view = a_view({"A/USDT": GOOD})
    assert rebalance(view, a_desk(peak="54000")).trace["targets"] == {"A/USDT": 0.075}
    assert rebalance(view, a_desk(peak="56000")).trace["targets"] == {"A/USDT": pytest.approx(0.03)}
    assert rebalance(view, a_desk(peak="56000")).trace["limits"] == ["tier1_cap:A/USDT", "drawdown_scale:0.2"]


def test_a_held_pair_without_a_fresh_bar_keeps_its_value_and_is_not_sold():
    state = a_desk(a_position("A/USDT", "100"), marks={"A/USDT": 90.0}, cash="41000")
    view = a_view({"A/USDT": {"close": float("nan"), "ineligible": "no_bar"}})
    decision = rebalance(view, state)
    assert (decision.trace["equity"], decision.trace["drawdown_frac"]) == (50_000.0, 0.0)
    assert decision.plan.orders == ()
    assert decision.plan.skipped == {"A/USDT": "no_bar"}
    risk = check({}, state)
    assert (float(risk.equity.equity), risk.equity.drawdown_frac, risk.plan.orders) == (50_000.0, 0.0, ())
    assert risk.state.marks == {"A/USDT": 90.0}


# Time stop


@pytest.mark.parametrize(
    ("full", "hours", "score", "reason"),
    [(True, 25, 0.002, "time_stop"), (True, 24, 0.002, "left_target"), (False, 25, 0.002, "left_target"), (True, 25, 0.01, None)],
)
def test_the_time_stop_belongs_to_the_full_rebalance(full, hours, score, reason):
    state = a_desk(a_position("A/USDT", "75", hours=hours), cash="42500")
    decision = rebalance(a_view({"A/USDT": {"score": score}}), state, full=full)
    assert [o.reason for o in decision.plan.orders] == ([] if reason is None else [reason])


def test_the_time_stop_is_forced_even_on_a_pair_in_the_target():
    settings = load_desk("rotation", ["strategy.rotation.score_threshold_frac=-0.01"])
    state = a_desk(a_position("A/USDT", "75", hours=30), cash="42500")
    view = a_view({"A/USDT": {"score": 0.002}})
    assert rebalance(view, state, settings=settings).plan.orders == ()
    forced = rebalance(view, state, settings=settings, full=True)
    assert [(o.side, o.qty, o.reason) for o in forced.plan.orders] == [(Side.SELL, Decimal(75), "time_stop")]
    off = settings.model_copy(update={"risk": settings.risk.model_copy(update={"time_stop_h": None})})
    assert rebalance(view, state, settings=off, full=True).plan.orders == ()


def test_a_pair_without_a_score_is_not_judged_by_the_time_stop():
    state = a_desk(a_position("A/USDT", "75", hours=30))
    assert [o.reason for o in rebalance(a_view({"A/USDT": {"score": float("nan")}}), state, full=True).plan.orders] == ["left_target"]


# Stops


def test_a_stop_sells_everything_at_market_and_blocks_the_pair():
    state = a_desk(a_position("A/USDT", "3", stop=STOP), a_position("B/USDT", "5", stop=STOP))
    limits = load_desk("rotation", ["execution.order_type=limit"])
    decision = check({"A/USDT": 94.0, "B/USDT": 101.0}, state, settings=limits)
    (order,) = decision.plan.orders
    assert (order.pair, order.qty, order.type, order.reason) == ("A/USDT", Decimal(3), OrderType.MARKET, "stop_loss")
    assert decision.state.blocked == {"A/USDT": iso(T0)}
    assert decision.trace["pairs"] == {
        "A/USDT": {"action": "sell", "reason": "stop_loss"},
        "B/USDT": {"action": "keep", "reason": "no_stop_hit"},
    }


def test_blocks_can_be_switched_off_and_a_profit_blocks_nothing():
    state = a_desk(a_position("A/USDT", "3", stop=STOP))
    off = load_desk("rotation", ["risk.block_after_stop=false"])
    assert check({"A/USDT": 94.0}, state, settings=off).state.blocked == {}
    taking = load_desk("rotation", ["risk.take_profit_atr=1.5"])
    taken = check({"A/USDT": 104.0}, state, settings=taking)
    assert ([o.reason for o in taken.plan.orders], taken.state.blocked) == (["take_profit"], {})


def test_an_exit_still_in_progress_blocks_the_pair_and_is_not_sent_twice():
    state = a_desk(a_position("A/USDT", "3", stop=STOP), orders={"o-1": an_open_buy("A/USDT", "3", side=Side.SELL)})
    decision = check({"A/USDT": 94.0}, state)
    assert decision.plan.orders == ()
    assert decision.trace["pairs"]["A/USDT"] == {"action": "keep", "reason": "order_in_progress"}
    assert decision.state.blocked == {"A/USDT": iso(T0)}


def test_a_shrunken_atr_raises_the_stop_above_the_close_and_is_a_hit_at_once():
    stop = StopState(stop_price=105.0, kind="trailing_stop_loss", anchor_price=110.0, atr=2.0)
    decision = check({"A/USDT": 106.0}, a_desk(a_position("A/USDT", "3", stop=stop)))
    assert [o.reason for o in decision.plan.orders] == ["trailing_stop_loss"]
    assert [p.stop.stop_price for p in decision.positions] == [108.0]


def test_stops_trail_and_the_moved_ones_are_written_down():
    state = a_desk(a_position("A/USDT", "3", stop=STOP), a_position("B/USDT", "5", stop=STOP))
    decision = check({"A/USDT": 110.0, "B/USDT": 101.0}, state)
    assert [(p.pair, p.stop.stop_price, p.stop.kind) for p in decision.positions] == [("A/USDT", 108.0, "trailing_stop_loss")]
    assert decision.state.positions["A/USDT"].stop.stop_price == 108.0


def test_a_rebalance_refreshes_the_atr_and_leaves_the_stop():
    state = a_desk(a_position("A/USDT", "75", stop=STOP), cash="42500")
    decision = rebalance(a_view({"A/USDT": {**GOOD, "atr_14_30m": 7.0}}), state)
    assert [p.stop for p in decision.positions] == [replace(STOP, atr=7.0)]
    assert rebalance(a_view({"A/USDT": {**GOOD, "atr_14_30m": float("nan")}}), state).positions == ()


def test_a_stopped_pair_is_not_bought_again_before_the_next_full_rebalance():
    view = a_view({"A/USDT": GOOD})
    stopped = check({"A/USDT": 94.0}, a_desk(a_position("A/USDT", "3", stop=STOP))).state
    state = replace(stopped, positions={}, cash=Decimal(50_000))
    for minutes, full in ((0, True), (30, False), (330, False)):
        decision = rebalance(view, state, minutes=minutes, full=full)
        assert decision.plan.orders == (), (minutes, full)
        assert decision.trace["pairs"]["A/USDT"]["reason"] == "blocked_after_stop"
        state = decision.state
    later = rebalance(view, state, minutes=360, full=True)
    assert [o.pair for o in later.plan.orders] == ["A/USDT"]
    assert later.state.blocked == {}


# Risk check


def test_the_equity_row_is_cash_plus_positions_at_the_last_closes():
    state = a_desk(a_position("A/USDT", "10"), a_position("B/USDT", "20"), cash="1000", peak="4000", marks={"B/USDT": 99.0}, regime="down")
    row = check({"A/USDT": 110.0}, state).equity
    assert (row.equity, row.cash, row.regime) == (Decimal(1000 + 1100 + 1980), Decimal(1000), "down")
    assert row.exposure_frac == pytest.approx(3080 / 4080)
    assert row.drawdown_frac == 0.0
    assert check({"A/USDT": 110.0}, state).state.peak_equity == Decimal(4080)


def test_the_kill_switch_halts_once_and_exits_go_on():
    state = a_desk(a_position("A/USDT", "100", stop=STOP), cash="30600")
    decision = check({"A/USDT": 94.0}, state)
    assert decision.state.halt == Halt("drawdown -20.00% reached the kill switch", T0)
    assert len(decision.alerts) == 1
    assert [o.reason for o in decision.plan.orders] == ["stop_loss"]
    again = check({"A/USDT": 93.0}, decision.state, minutes=15)
    assert (again.alerts, again.state.halt) == ((), decision.state.halt)
    assert [o.reason for o in again.plan.orders] == ["stop_loss"]
    assert check({"A/USDT": 94.1}, state).state.halt is None


def test_a_halted_desk_buys_nothing_and_sells_what_left_the_target():
    halt = Halt("a person said so", T0)
    state = a_desk(a_position("A/USDT", "30"), a_position("B/USDT", "50"), cash="42000", halt=halt)
    decision = rebalance(a_view({"A/USDT": GOOD, "B/USDT": {}, "C/USDT": GOOD}), state, full=True)
    assert list(orders(decision)) == [("sell", "B/USDT")]
    assert decision.trace["pairs"]["A/USDT"]["action"] == "keep"
    assert decision.trace["pairs"]["C/USDT"]["reason"] == "halted"
    assert decision.trace["targets"] == {"A/USDT": pytest.approx(0.06)}


def test_a_ledger_that_does_not_match_buys_nothing():
    decision = rebalance(a_view({"A/USDT": GOOD}), a_desk(), reduce_only="B/USDT: the ledger holds 3, the exchange 0")
    assert decision.plan.orders == ()
    assert decision.trace["reduce_only"] == "B/USDT: the ledger holds 3, the exchange 0"


def test_not_even_dust_is_bought_while_halted():
    settings = load_desk("rotation", ["portfolio.full_hysteresis_frac=0", "portfolio.min_order_value=0"])
    state = a_desk(a_position("A/USDT", "3.3333333333"), cash="49666.66666667", halt=Halt("", T0))
    for k in range(60):
        decision = rebalance(a_view({"A/USDT": {**GOOD, "close": 99.0 + 0.0371 * k}}), state, settings=settings, full=True)
        assert decision.plan.orders == (), k


# Open orders


def test_an_open_buy_of_a_pair_that_left_the_target_is_cancelled():
    state = a_desk(orders={"o-1": an_open_buy("B/USDT"), "o-2": an_open_buy("A/USDT", order_id="o-2")})
    decision = rebalance(a_view({"A/USDT": GOOD, "B/USDT": {}}), state)
    assert decision.plan.cancels == ("o-1",)
    assert decision.plan.skipped["A/USDT"] == "order_in_progress"


def test_a_halt_cancels_every_open_buy_and_no_sell():
    buy, sell = an_open_buy("A/USDT"), an_open_buy("B/USDT", order_id="o-2", side=Side.SELL)
    state = a_desk(a_position("B/USDT", "10"), orders={"o-1": buy, "o-2": sell}, halt=Halt("", T0))
    assert check({"B/USDT": 100.0}, state).plan.cancels == ("o-1",)
    assert rebalance(a_view({"A/USDT": GOOD, "B/USDT": {}}), state).plan.cancels == ("o-1",)
    assert check({"B/USDT": 100.0}, replace(state, halt=None)).plan.cancels == ()


def test_a_stop_cancels_an_open_buy_of_its_pair_once():
    state = a_desk(a_position("A/USDT", "3", stop=STOP), orders={"o-1": an_open_buy("A/USDT")}, halt=Halt("", T0))
    decision = check({"A/USDT": 94.0}, state)
    assert decision.plan.cancels == ("o-1",)
    assert [o.side for o in decision.plan.orders] == [Side.SELL]


# Invariants


def test_opening_a_position_at_the_mid_costs_its_fee_and_nothing_else():
    order = an_open_buy("A/USDT", "10")
    state = a_desk(orders={"o-1": order})
    fill = Fill("f-1", "o-1", T0, "A/USDT", Side.BUY, Decimal(10), Decimal(100), Decimal(1), "USDT", Decimal(1), Liquidity.TAKER)
    after = book(state, order, OrderReport("o-1", OrderStatus.FILLED, (fill,))).state
    assert portfolio_value(state, {"A/USDT": 100.0}) == 50_000.0
    assert portfolio_value(after, {"A/USDT": 100.0}) == 49_999.0
    assert portfolio_value(after, {}) == 49_999.0


def test_every_pair_has_an_action_and_a_reason():
    state = a_desk(a_position("B/USDT", "75"), a_position("Z/USDT", "1"), cash="42400", marks={"Z/USDT": 100.0})
    pairs = {f"P{k}/USDT": {"score": 0.03 - k / 1000, "tier": 1 + k % 3} for k in range(9)}
    decision = rebalance(a_view({**pairs, "B/USDT": {"score": 0.04}, "N/USDT": {"score": float("nan")}}), state)
    entries = decision.trace["pairs"]
    assert set(entries) == {*pairs, "B/USDT", "N/USDT", "Z/USDT"}
    assert all(entry["action"] in ("buy", "sell", "keep", "pass") and entry["reason"] for entry in entries.values())
    assert entries["N/USDT"] == {"action": "pass", "reason": "features_not_settled"}
    assert entries["P8/USDT"]["reason"] == "beyond_top_k"
    assert entries["B/USDT"]["action"] == "keep"


PROGRAM = """
import json, sys
sys.path.insert(0, sys.argv[1])
from made_desk import SETTINGS, a_desk, a_position, a_tick, a_view
from tickless.pipeline import decide, decide_risk
from tickless.strategies.rotation import Rotation
names = [f"{a}{b}/USDT" for a in "QWERTY" for b in "ASDF"]
held = [a_position(name, "20", hours=k) for k, name in enumerate(names[:9])]
view = a_view({name: {"score": 0.02 + (k % 5) / 1000, "tier": 1 + k % 3} for k, name in enumerate(names)})
risk = decide_risk(a_tick(0, "risk_check"), {name: 97.0 + k for k, name in enumerate(names[:9])}, a_desk(*held), SETTINGS, {})
full = decide(a_tick(0, "full_rebalance"), Rotation(), view, risk.state, SETTINGS, {}, full=True)
print(json.dumps([repr(risk), repr(full), risk.trace, full.trace], default=lambda v: v.tolist() if hasattr(v, "tolist") else dict(v)))
"""


def test_a_decision_does_not_depend_on_the_order_of_hashes():
    answers = []
    for seed in ("0", "1", "31337"):
        env = {**os.environ, "PYTHONHASHSEED": seed}
        tests = str(Path(__file__).resolve().parents[1])
        answers.append(
            subprocess.run([sys.executable, "-c", PROGRAM, tests], env=env, capture_output=True, text=True, check=True, timeout=60).stdout
        )
    assert len(json.loads(answers[0])[1]) > 1000
    assert answers[0] == answers[1] == answers[2]
