"""A person accepts the exchange's figures: what is missing is written off, once, and only the difference that was seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from made_world import NO_THRESHOLDS, D, World, at
from tickless.adapters.sim_exchange import _from_text, _text
from tickless.cli.commanding import accept_desk
from tickless.errors import RefusedError
from tickless.execution.acceptance import accept_exchange
from tickless.execution.matching import SimAccount
from tickless.execution.reconcile import reconcile
from tickless.risk.drawdown import drawdown_frac
from tickless.types import ZERO, AccountSnapshot, DeskState, Position, StopState


def hold(world: World, **balances: Any) -> None:
    """Set what the exchange holds, behind the desk's back."""
    version, text = world.sim_store.load()
    account = _from_text(SimAccount, text)
    kept = {asset: qty for asset, qty in {**account.balances, **balances}.items() if qty}
    world.sim_store.save(version, _text(replace(account, balances=kept)), {})


def written_off(world: World) -> list[Any]:
    return [trade for trade in world.ledger.trades() if trade.exit_reason == "written_off"]


def reducing_world(new_world: Any, share: str = "0.5") -> tuple[World, str]:
    """A desk whose exchange has lost a part of its first pair, and all of its second."""
    world = new_world(*NO_THRESHOLDS)
    world.run("full_rebalance", at(0))
    first, second = sorted(world.ledger.load().positions)[:2]
    held = world.account()
    asset = first.split("/")[0]
    hold(world, **{asset: held[asset] * D(share), second.split("/")[0]: ZERO, "USDT": held["USDT"] + 5})
    world.run("risk_check", at(1))
    assert world.ledger.load().mode == "REDUCING"
    return world, first


def test_what_is_missing_is_written_off_and_cash_adopted(new_world):
    world, pair = reducing_world(new_world)
    before = world.ledger.load()
    second = sorted(before.positions)[1]
    wanted, already = accept_desk(world.ledger, world.clock, "sold by hand")
    assert (already, wanted.mismatch) == (False, before.reducing.reason)
    assert accept_desk(world.ledger, world.clock, "again") == (wanted, True)
    world.notifier.alerts.clear()
    world.run("risk_check", at(2))

    state = world.ledger.load()
    assert (state.mode, state.accept) == ("ACTIVE", None)
    assert state.cash == world.account()["USDT"]
    assert state.positions[pair].qty == world.account()[pair.split("/")[0]]
    assert second not in state.positions
    (part, whole) = written_off(world)
    assert (part.pair, whole.pair) == (pair, second)
    assert part.qty == before.positions[pair].qty - state.positions[pair].qty
    assert whole.qty == before.positions[second].bought_qty
    assert float(part.close_price) == pytest.approx(before.marks[pair]), "at the last close seen"
    messages = [message for _, message in world.notifier.alerts]
    assert [message.partition(":")[0] for message in messages] == ["the exchange's figures were taken over"]
    assert "(sold by hand)" in messages[0]
    assert world.metrics.gauges["Reducing"][-1] == 0.0


def test_it_is_done_once_however_often_the_tick_is_delivered(new_world):
    world, _ = reducing_world(new_world)
    accept_desk(world.ledger, world.clock, "sold by hand")
    world.run("risk_check", at(2))
    done = world.ledger.load()
    world.run("risk_check", at(2))
    assert (world.ledger.load(), len(written_off(world))) == (done, 2)
    world.run("full_rebalance", at(3))
    assert (world.ledger.load().mode, len(written_off(world))) == ("ACTIVE", 2), "and the desk trades on"
    with pytest.raises(RefusedError, match="the desk is ACTIVE"):
        accept_desk(world.ledger, world.clock, "again")


def test_another_difference_than_the_one_accepted_is_left_alone(new_world):
    world, pair = reducing_world(new_world)
    accept_desk(world.ledger, world.clock, "sold by hand")
    hold(world, **{pair.split("/")[0]: ZERO})
    world.notifier.alerts.clear()
    world.run("risk_check", at(2))
    state = world.ledger.load()
    assert (state.mode, state.accept, written_off(world)) == ("REDUCING", None, [])
    assert [message.partition(":")[0] for _, message in world.notifier.alerts] == ["nothing was accepted"]
    accept_desk(world.ledger, world.clock, "this one, then")
    world.run("risk_check", at(3))
    assert (world.ledger.load().mode, len(written_off(world))) == ("ACTIVE", 2)


def test_a_halt_outlives_it(new_world):
    world, _ = reducing_world(new_world)
    from tickless.cli.commanding import halt_desk

    halt_desk(world.ledger, world.clock, "why")
    accept_desk(world.ledger, world.clock, "sold by hand")
    world.run("risk_check", at(2))
    assert (world.ledger.load().mode, world.ledger.load().reducing) == ("HALTED", None)


@pytest.mark.parametrize("left", ["0", "1.5", "2.999"])
@pytest.mark.parametrize("sold", ["0", "1"])
def test_profit_cost_and_fees_are_divided_and_nothing_is_lost(left, sold):
    position = Position(
        "A/USDT", "rotation", "entry", at(0), D(4), D(400), D(sold), D(sold) * 120, fees=D(4), stop=StopState(90.0),
        held_cost=None if sold == "0" else D(300),
    )  # fmt: skip
    state = DeskState(cash=D(1000), peak_equity=D(2000), positions={"A/USDT": position}, marks={"A/USDT": 110.0})
    snapshot = AccountSnapshot(at(1), {"USDT": D(900), "A": D(left)}, {})
    from tickless.types import Accept, Reducing

    found = reconcile(state, snapshot, "USDT")
    state = replace(state, accept=Accept("why", at(1), found.mismatch), reducing=Reducing(found.mismatch, at(1)))
    accepted = accept_exchange(state, snapshot, found, "USDT", at(1))
    (trade,) = [trade for update in accepted.updates for trade in update.trades]
    rest = accepted.state.positions.get("A/USDT")
    fees = trade.fees + (rest.fees if rest else 0)
    cost = trade.open_price * trade.qty + (rest.bought_value if rest else 0)
    assert (fees, round(cost, 12), accepted.state.cash) == (D(4), D(400), D(900))
    if rest is not None:
        assert (rest.qty, rest.stop, round(rest.entry_price, 12)) == (D(left), position.stop, D(100))
        assert trade.pnl == trade.qty * 10 - trade.fees
    before = float(state.cash + position.qty * 110)
    after = float(D(900) + D(left) * 110)
    assert drawdown_frac(after, float(accepted.state.peak_equity)) == pytest.approx(drawdown_frac(before, 2000.0))
    again = reconcile(accepted.state, snapshot, "USDT")
    assert (again.mismatch, again.flow, dict(again.available)) == ("", ZERO, {})
