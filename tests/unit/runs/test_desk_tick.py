"""One trading tick: idempotency, order, leases, write-ahead, and what the exchange may answer."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest
from interference import Calls

from made_world import NO_THRESHOLDS, D, World, at, make_order
from tickless.errors import (
    FencedError,
    LeaseHeldError,
    OrderRejectedError,
    RetryableError,
    StaleTickError,
    UnknownOutcomeError,
)
from tickless.ports import LedgerUpdate
from tickless.runs import full_rebalance
from tickless.types import OrderStatus, Side, Tick


class Answering:
    """An exchange that answers its first order with an error, before or after the order has reached it."""

    def __init__(self, exchange: Any, error: Exception, reached: bool) -> None:
        self.exchange, self.error, self.reached = exchange, error, reached
        self.sent: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.exchange, name)

    def submit(self, order: Any, when: Any) -> Any:
        self.sent.append(order)
        if len(self.sent) > 1:
            return self.exchange.submit(order, when)
        if self.reached:
            self.exchange.submit(order, when)
        raise self.error


def first_rebalance(world: World, error: Exception, *, reached: bool = False) -> list[Any]:
    """Run one in which the first order is answered so; the orders that were sent."""
    made: list[Answering] = []

    def wrap(name: str, port: Any) -> Any:
        if name != "exchange":
            return port
        made.append(Answering(port, error, reached))
        return made[-1]

    world.run("full_rebalance", at(0), world.ports(wrap))
    assert len(made[0].sent) > 2
    return made[0].sent


def status_of(world: World, order: Any) -> OrderStatus:
    (found,) = [other for other in world.ledger.orders() if other.client_order_id == order.client_order_id]
    return found.status


# Idempotency and order


@pytest.mark.parametrize("function", ["risk_check", "full_rebalance"])
def test_a_redelivered_tick_changes_nothing(world, function):
    world.run(function, at(0))
    before = world.outcome()
    calls = Calls()
    report = world.run(function, at(0), calls.ports(world), late_s=30)
    assert (report.status, report.ran) == ("already_done", ())
    assert world.outcome() == before
    assert [call[:2] for call in calls.made] == [("ledger", "tick"), ("metrics", "count")]
    assert world.metrics.counts["TickDone"] == 2, "both did fire"


@pytest.mark.parametrize("delivered", list(permutations(["risk_check", "feature_rebalance"])))
def test_ticks_of_one_minute_take_effect_in_order_whatever_is_delivered_first(new_world, delivered):
    world, plain = new_world(), new_world()
    for one, order in ((plain, ("risk_check", "feature_rebalance")), (world, delivered)):
        one.run("risk_check", at(-1))
        for function in order:
            one.run(function, at(2))
    assert world.outcome() == plain.outcome()
    assert [record.tick.function for record in world.ledger.ticks()] == ["risk_check", "risk_check", "feature_rebalance"]


def test_the_late_delivery_of_an_earlier_tick_finds_the_record_and_leaves(world):
    report = world.run("full_rebalance", at(0))
    assert report.ran == ("2024-06-01T00:00:00Z#risk_check", "2024-06-01T00:00:00Z#full_rebalance")
    assert len(list(world.ledger.equity())) == 1
    late = world.run("risk_check", at(0), late_s=20)
    assert (late.status, late.ran) == ("already_done", ())
    assert len(list(world.ledger.equity())) == 1


def test_a_tick_counts_as_done_once_for_the_function_that_fired(world):
    world.run("full_rebalance", at(0))
    assert world.metrics.counts["TickDone"] == 1


def test_a_tick_older_than_the_last_one_is_refused(world):
    world.run("risk_check", at(1))
    with pytest.raises(StaleTickError, match=r"00:00Z#full_rebalance: the desk has already run a tick of 2024-06-01T00:15:00Z"):
        world.run("full_rebalance", at(0), late_s=500)
    assert world.metrics.counts["StaleTick"] == 1
    assert [record.tick.scheduled_at for record in world.ledger.ticks()] == [at(1)]


@pytest.mark.parametrize("function", ["risk_check", "full_rebalance", "retrain"])
@pytest.mark.parametrize(
    ("late_s", "sentence"), [(601, "601 s old, at most schedule.max_event_age_s = 600 s"), (-61, "61 s in the future")]
)
def test_an_event_that_is_stale_or_in_the_future_is_refused_with_a_metric(world, function, late_s, sentence):
    with pytest.raises(StaleTickError, match=sentence):
        world.run(function, at(0), late_s=late_s)
    assert world.metrics.counts == {"StaleTick": 1}
    assert (world.ledger.load(), list(world.ledger.ticks())) == (None, [])


@pytest.mark.parametrize("late_s", [-60, 600])
def test_an_event_just_in_time_is_taken(world, late_s):
    assert world.run("risk_check", at(0), late_s=late_s).status == "done"


# The lease


def test_a_tick_waits_for_the_lease_and_then_fails_to_be_retried(world):
    world.ledger.acquire("another tick", at(0), 240)
    with pytest.raises(LeaseHeldError):
        world.run("risk_check", at(0))
    assert (world.clock.now() - at(0)).total_seconds() == world.settings.schedule.lease_wait_s
    assert list(world.ledger.ticks()) == []


def test_a_tick_runs_as_soon_as_the_lease_is_given_back(world):
    fence = world.ledger.acquire("another tick", at(0), 240)
    ports = world.ports()

    def sleep(_seconds: float) -> None:
        world.ledger.release(fence)

    world.clock.sleep = sleep  # type: ignore[method-assign]
    assert world.run("risk_check", at(0), ports).status == "done"


def test_an_abandoned_lease_is_taken_over_and_the_late_writer_is_fenced(world):
    dead = world.ledger.acquire("a tick that hangs", at(0), world.settings.schedule.lease_ttl_s)
    world.run("risk_check", at(0), late_s=world.settings.schedule.lease_ttl_s)
    before = world.ledger.load()
    with pytest.raises(FencedError):
        world.ledger.journal(dead, [LedgerUpdate(desk=replace(before, cash=D(1)))])
    world.ledger.release(dead)
    assert world.ledger.load() == before


def test_the_lease_is_given_back_even_where_the_tick_fails(world):
    world.parameters.write("risk", "{")
    with pytest.raises(Exception, match="risk"):
        world.run("risk_check", at(0))
    world.parameters.write("risk", "{}")
    assert world.run("risk_check", at(0)).status == "done"


def test_a_retry_takes_the_lease_of_its_own_killed_attempt(world):
    ports = replace(world.ports(), invocation="request-1")
    dead = world.ledger.acquire("a tick that was killed", at(0), 240, "request-1")
    assert world.run("risk_check", at(0), ports, late_s=60).status == "done"
    with pytest.raises(FencedError):
        world.ledger.journal(dead, [LedgerUpdate(desk=world.ledger.load())])


def test_another_delivery_waits_for_the_lease_of_a_killed_attempt(world):
    world.ledger.acquire("a tick that was killed", at(0), 240, "request-1")
    for other in ("request-2", ""):
        with pytest.raises(LeaseHeldError):
            world.run("risk_check", at(0), replace(world.ports(), invocation=other), late_s=60)


def test_who_fails_while_it_sends_an_order_keeps_the_lease_until_that_has_arrived(world):
    """Who resumed at once could not find it at the exchange, and would send it a second time."""
    with pytest.raises(OSError, match="out of sockets"):
        world.run("full_rebalance", at(0), world.ports(failing_at(2, OSError("out of sockets"))))
    for late_s, free in ((29.9, False), (30.0, True)):
        try:
            world.ledger.release(world.ledger.acquire("look", at(0) + timedelta(seconds=late_s), 1))
        except LeaseHeldError:
            assert not free, late_s
        else:
            assert free, late_s
    assert world.run("full_rebalance", at(0), late_s=60).status == "resumed"


def test_a_second_delivery_waits_for_a_failed_one_and_resumes_it(world):
    calls = Calls()
    with pytest.raises(OSError, match="out of sockets"):
        world.run("full_rebalance", at(0), world.ports(failing_at(1, OSError("out of sockets"))))
    assert world.run("full_rebalance", at(0), calls.ports(world)).status == "resumed"
    assert (world.clock.now() - at(0)).total_seconds() == 30
    sent = [calls.made[n][2][0].client_order_id for n in calls.named("exchange", "submit")]
    assert len(sent) == len(set(sent)) > 1


def test_a_lost_answer_is_in_the_ledger_before_the_next_order_is_sent(world):
    """Whoever resumes the tick must not take it for an intent that was never sent."""
    ports = world.ports(failing_at(0, UnknownOutcomeError("time-out"), then=OSError("out of sockets")))
    with pytest.raises(OSError, match="out of sockets"):
        world.run("full_rebalance", at(0), ports)
    (lost,) = [order for order in world.ledger.load().orders.values() if order.status is OrderStatus.UNKNOWN]
    calls = Calls()
    world.clock.set(at(0) + timedelta(seconds=300))
    full_rebalance.run(Tick(at(0), "full_rebalance"), calls.ports(world))
    resent = {calls.made[n][2][0].client_order_id for n in calls.named("exchange", "submit")}
    assert len(resent) > 1
    assert lost.client_order_id not in resent
    assert world.ledger.load().orders[lost.client_order_id].status is OrderStatus.UNKNOWN


def test_who_has_outlived_its_lease_sends_nothing_more(world):
    """The ledger would refuse its writes; the exchange could not refuse its orders."""

    class Slow:
        def __init__(self, exchange: Any) -> None:
            self.exchange = exchange

        def __getattr__(self, name: str) -> Any:
            return getattr(self.exchange, name)

        def submit(self, order: Any, when: Any) -> Any:
            world.clock.set(world.clock.now() + timedelta(seconds=130))
            return self.exchange.submit(order, when)

    calls = Calls()

    def wrap(name: str, port: Any) -> Any:
        return Slow(calls.wrap(name, port)) if name == "exchange" else port

    with pytest.raises(FencedError, match="its lease ends at 2024-06-01T00:04:00Z; it sends no further order"):
        world.run("full_rebalance", at(0), world.ports(wrap))
    assert len(calls.named("exchange", "submit")) == 2


def failing_at(number: int, error: Exception, then: Exception | None = None) -> Any:
    """An exchange whose answer to order ``number`` is lost: it never arrives. ``then`` is what the next one ends with."""

    class Failing:
        def __init__(self, exchange: Any) -> None:
            self.exchange, self.asked = exchange, 0

        def __getattr__(self, name: str) -> Any:
            return getattr(self.exchange, name)

        def submit(self, order: Any, when: Any) -> Any:
            self.asked += 1
            if self.asked - 1 == number:
                raise error
            if then is not None and self.asked - 1 == number + 1:
                raise then
            return self.exchange.submit(order, when)

    return lambda name, port: Failing(port) if name == "exchange" else port


# Write-ahead


@pytest.mark.parametrize("function", ["full_rebalance"])
def test_intents_and_then_the_record_are_in_the_ledger_before_the_exchange_sees_an_order(world, function):
    seen: list[tuple[str, set[str], Any]] = []

    def wrap(name: str, port: Any) -> Any:
        return Spy(port) if name == "exchange" else port

    class Spy:
        def __init__(self, port: Any) -> None:
            self.port = port

        def __getattr__(self, name: str) -> Any:
            return getattr(self.port, name)

        def submit(self, order: Any, when: Any) -> Any:
            record = world.ledger.tick(Tick(at(0), function))
            seen.append((order.client_order_id, set(world.ledger.load().orders), record))
            return self.port.submit(order, when)

    world.run(function, at(0), world.ports(wrap))
    ids = [order_id for order_id, _, _ in seen]
    assert len(ids) > 2
    for order_id, intents, record in seen:
        assert order_id in intents
        assert (record.status, list(record.intents)) == ("journaled", ids)
    done = world.ledger.tick(Tick(at(0), function))
    assert (done.status, list(done.intents)) == ("done", ids)


def test_a_journal_that_fails_sends_nothing(world):
    class Full(type(world.ledger)):
        def journal(self, fence: Any, updates: Any) -> None:
            if any(update.record is not None and update.record.status == "journaled" for update in updates):
                raise FencedError("taken over")
            super().journal(fence, updates)

    world.ledger.__class__ = Full
    calls = Calls()
    with pytest.raises(FencedError):
        world.run("full_rebalance", at(0), world.ports(lambda name, port: calls.wrap(name, port) if name == "exchange" else port))
    assert [call[1] for call in calls.made if call[1] != "snapshot"] == []


def test_sells_are_sent_before_buys(new_world):
    world = new_world(*NO_THRESHOLDS)
    world.run("full_rebalance", at(0))
    calls = Calls()
    world.clock.set(at(24))
    world.run("full_rebalance", at(24), calls.ports(world))
    sides = [calls.made[n][2][0].side for n in calls.named("exchange", "submit")]
    assert set(sides) == {Side.BUY, Side.SELL}
    assert sides == sorted(sides, key=lambda side: side is Side.BUY)


# What the exchange may answer


def test_an_order_of_unknown_outcome_that_did_arrive_is_found_at_the_next_tick(world):
    order, *_ = first_rebalance(world, UnknownOutcomeError("time-out"), reached=True)
    assert status_of(world, order) is OrderStatus.UNKNOWN
    calls = Calls()
    world.clock.set(at(1))
    world.run("risk_check", at(1), calls.ports(world))
    assert status_of(world, order) is OrderStatus.FILLED
    assert calls.named("exchange", "submit") == []
    assert world.ledger.load().positions[order.pair].stop.stop_price is not None


def test_an_order_of_unknown_outcome_that_never_arrived_is_given_up_and_never_resent(world):
    order, *_ = first_rebalance(world, UnknownOutcomeError("time-out"))
    assert status_of(world, order) is OrderStatus.UNKNOWN
    calls = Calls()
    world.clock.set(at(1))
    world.run("risk_check", at(1), calls.ports(world))
    assert status_of(world, order) is OrderStatus.CANCELED
    assert calls.named("exchange", "submit") == []
    assert "LedgerMismatch" not in world.metrics.counts


@pytest.mark.parametrize(
    ("error", "status", "counted"),
    [(RetryableError("busy"), OrderStatus.CANCELED, 0), (OrderRejectedError("too small"), OrderStatus.REJECTED, 1)],
)
def test_an_order_that_did_not_get_through_is_recorded_and_the_others_go_on(world, error, status, counted):
    order, *others = first_rebalance(world, error)
    assert status_of(world, order) is status
    assert {status_of(world, other) for other in others} == {OrderStatus.FILLED}
    assert world.metrics.counts.get("OrderRejected", 0) == counted
    ((_, _, fields),) = [line for line in world.log.lines if line[0] == "warning"]
    assert (fields["pair"], fields["error"]) == (order.pair, str(error))


def test_a_cancel_that_fails_does_not_keep_an_exit_from_being_sent(world):
    class Stubborn:
        def __init__(self, exchange: Any) -> None:
            self.exchange = exchange

        def __getattr__(self, name: str) -> Any:
            return getattr(self.exchange, name)

        def cancel(self, *_: Any) -> Any:
            raise RetryableError("busy")

    world = limit_world(world)
    world.run("full_rebalance", at(0))
    waiting = set(world.ledger.load().orders)
    world.parameters.write(
        "portfolio", world.settings.sections()["portfolio"].replace('"chop":6', '"chop":0').replace('"trend":8', '"trend":0')
    )
    world.run("feature_rebalance", at(2), world.ports(lambda name, port: Stubborn(port) if name == "exchange" else port))
    assert set(world.ledger.load().orders) == waiting
    assert sum(line[1] == "cancel failed" for line in world.log.lines) == len(waiting) > 0
    world.run("feature_rebalance", at(4))
    assert world.ledger.load().orders == {}


def limit_world(world: World) -> World:
    execution = world.settings.execution.model_copy(
        update={"order_type": "limit", "limit_offset_bps": -500.0, "unfilled_timeout_s": 86_400}
    )
    return World(world.market, world.settings.model_copy(update={"execution": execution}))


# Reconciling


@pytest.mark.parametrize("left", ["0.5", None])
def test_where_the_exchange_holds_less_of_a_pair_than_the_ledger_nothing_is_bought(new_world, left):
    world = new_world(*NO_THRESHOLDS)
    world.run("full_rebalance", at(0))
    pair = min(world.ledger.load().positions)
    before = world.account()[pair.split("/")[0]]
    take_away(world, pair.split("/")[0], left)
    world.metrics.counts.clear()
    world.run("feature_rebalance", at(2))
    assert world.metrics.counts["LedgerMismatch"] == 2, "the risk check and the rebalance both see it"
    ((subject, message),) = world.notifier.alerts
    assert (subject, message.count("differ")) == ("tickless rotation", 1), "told once, as it began"
    assert (world.ledger.load().mode, world.ledger.load().reducing.since) == ("REDUCING", at(2))
    assert world.metrics.gauges["Reducing"] == [0.0, 0.0, 1.0, 1.0]
    sold = [order for order in world.ledger.orders() if order.tick_at == at(2)]
    assert {order.side for order in sold} <= {Side.SELL}
    assert all(order.qty <= before * D(left or 0) for order in sold if order.pair == pair)


def test_stake_currency_that_is_missing_alone_is_a_withdrawal(new_world):
    world = new_world(*NO_THRESHOLDS)
    world.run("full_rebalance", at(0))
    world.run("risk_check", at(1))
    before = world.ledger.load()
    drawdown = list(world.ledger.equity())[-1].drawdown_frac
    take_away(world, "USDT", "1")
    world.run("risk_check", at(2))
    after, row = world.ledger.load(), list(world.ledger.equity())[-1]
    assert (after.cash, after.mode) == (D(1), "ACTIVE")
    assert after.peak_equity < before.peak_equity
    assert row.drawdown_frac == pytest.approx(drawdown, abs=0.01), "what the market did since, and no more"
    assert "LedgerMismatch" not in world.metrics.counts
    ((_, message),) = world.notifier.alerts
    assert f"{1 - before.cash:+f} USDT was put in or taken out" in message


def test_reducing_is_left_as_soon_as_ledger_and_exchange_agree(new_world):
    world = new_world(*NO_THRESHOLDS)
    world.run("full_rebalance", at(0))
    asset = min(world.ledger.load().positions).split("/")[0]
    all_of_it = world.account()[asset]
    take_away(world, asset, None)
    world.run("risk_check", at(1))
    world.run("risk_check", at(2))
    assert world.ledger.load().reducing.since == at(1)
    give(world, asset, all_of_it)
    world.run("risk_check", at(3))
    assert (world.ledger.load().mode, world.metrics.gauges["Reducing"][-1]) == ("ACTIVE", 0.0)
    assert [message.partition(":")[0].partition(";")[0] for _, message in world.notifier.alerts] == [
        "ledger and exchange differ",
        "ledger and exchange agree again",
    ]


def test_a_trade_that_the_ledger_does_not_know_is_never_taken_for_a_withdrawal(world):
    world.run("full_rebalance", at(0))
    cash = world.ledger.load().cash
    take_away(world, "USDT", str(cash - 100))
    give(world, "XYZ", D(7))
    for bar in (1, 2, 3):
        world.run("risk_check", at(bar))
        state = world.ledger.load()
        assert (state.cash, state.mode, dict(state.external)) == (cash, "REDUCING", {})
    take_away(world, "XYZ", None)
    give(world, "USDT", cash)
    world.run("risk_check", at(4))
    assert (world.ledger.load().mode, world.ledger.load().cash) == ("ACTIVE", cash)


def test_nothing_is_concluded_while_an_order_may_have_traded(world):
    """A scan in the same minute: the exchange does not know the order yet, and its money has gone already."""
    world.run("full_rebalance", at(0))
    held = min(world.ledger.load().positions.values(), key=lambda position: position.pair)
    unknown = make_order(Side.SELL, str(held.qty), order_id="on-its-way", pair=held.pair, tick=1, status=OrderStatus.UNKNOWN)
    put_order(world, unknown)
    take_away(world, held.pair.split("/")[0], None)
    world.run("risk_check", at(1))
    state = world.ledger.load()
    assert (state.mode, state.orders["on-its-way"].status) == ("ACTIVE", OrderStatus.UNKNOWN)
    assert world.notifier.alerts == []
    world.run("risk_check", at(2))
    assert (world.ledger.load().mode, world.ledger.load().orders) == ("REDUCING", {}), "now it is known never to have arrived"


def test_an_order_that_vanished_is_cancelled_before_it_is_given_up(world):
    """Were it to rest at the exchange all the same, another in its place would double it."""
    world.run("risk_check", at(0))
    resting = make_order(Side.BUY, "1", order_id="seen-once", pair="BTC/USDT", limit_price="1", status=OrderStatus.OPEN)
    put_order(world, resting)
    asked = Calls()
    world.clock.set(at(1))
    world.run("risk_check", at(1), asked.ports(world))
    assert [asked.made[n][2][0].client_order_id for n in asked.named("exchange", "cancel")] == ["seen-once"]
    assert (world.ledger.load().orders, status_of(world, resting)) == ({}, OrderStatus.CANCELED)


def put_order(world: World, order: Any) -> None:
    """Write an order into the ledger that the exchange does not know."""
    fence = world.ledger.acquire("test", world.clock.now(), 1)
    world.ledger.journal(fence, [LedgerUpdate(orders=(order,))])
    world.ledger.release(fence)


def test_what_the_exchange_holds_beyond_the_ledger_is_not_ours_to_worry_about(invested):
    version, text = invested.sim_store.load()
    invested.sim_store.save(version, text.replace('"balances":{"M":{', '"balances":{"M":{"XYZ":{"S":"7"},', 1), {})
    invested.run("risk_check", at(1))
    assert "LedgerMismatch" not in invested.metrics.counts
    assert invested.account()["XYZ"] == D(7)


def give(world: World, asset: str, amount: Any) -> None:
    """Set what the exchange holds of an asset, behind the desk's back."""
    from tickless.adapters.sim_exchange import _from_text, _text
    from tickless.execution.matching import SimAccount

    version, text = world.sim_store.load()
    account = _from_text(SimAccount, text)
    world.sim_store.save(version, _text(replace(account, balances={**account.balances, asset: amount})), {})


def take_away(world: World, asset: str, left: str | None) -> None:
    """Change what the exchange holds, behind the desk's back."""
    from tickless.adapters.sim_exchange import _from_text, _text
    from tickless.execution.matching import SimAccount

    version, text = world.sim_store.load()
    account = _from_text(SimAccount, text)
    balances = {name: amount for name, amount in account.balances.items() if name != asset}
    if left is not None:
        balances[asset] = D(left) * account.balances[asset] if asset != "USDT" else D(left)
    world.sim_store.save(version, _text(replace(account, balances=balances)), {})


def test_a_desk_that_has_never_run_takes_its_cash_from_the_exchange(new_world):
    world = new_world("desk.dry_run_wallet=777")
    world.run("risk_check", at(0))
    desk = world.ledger.load()
    assert (desk.cash, desk.peak_equity, desk.last_tick_at) == (D(777), D(777), at(0))


def test_the_kill_switch_halts_tells_people_and_stops_buying(new_world, crash_market):
    world = new_world("risk.kill_switch_drawdown_frac=0.02", *NO_THRESHOLDS, on=crash_market)
    world.run("full_rebalance", at(0))
    world.run("risk_check", at(1))
    assert world.ledger.load().halt.since == at(1)
    assert [subject for subject, _ in world.notifier.alerts] == ["tickless rotation"]
    assert world.metrics.gauges["Halted"][-1] == 1.0
    world.run("feature_rebalance", at(2))
    assert {order.side for order in world.ledger.orders() if order.tick_at > at(0)} == {Side.SELL}
    assert world.ledger.load().positions == {}


def test_metrics_and_trace_tell_of_the_tick(world):
    world.run("full_rebalance", at(0))
    trace = world.trace.read(Tick(at(0), "full_rebalance"))
    bought = [order for order in world.ledger.orders() if order.status is OrderStatus.FILLED]
    assert trace["id"] == "2024-06-01T00:00:00Z#full_rebalance"
    assert sorted(trace["orders"]) == sorted(order.client_order_id for order in bought)
    assert set(trace["stops"]) == {order.pair for order in bought}
    assert trace["settings_sha256"] == world.settings.sha256()
    assert world.metrics.counts["OrdersSent"] == len(bought)
    assert world.metrics.gauges["Equity"] == [50_000.0, 50_000.0]
    assert world.metrics.gauges["DrawdownFrac"][-1] == 0.0
