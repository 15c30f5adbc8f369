"""What every ledger promises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from desk_values import DESK, T0, D, a_fill, a_position, a_trade, an_equity_row, an_order, at, moved

from tickless.errors import FencedError, LeaseHeldError, LedgerError, TickRecordedError
from tickless.execution.accounting import book, in_slices
from tickless.ports import RETAKE_AFTER_S, Fence, Ledger
from tickless.types import (
    Accept,
    Charge,
    DeskState,
    ExitPlan,
    Flatten,
    Halt,
    LedgerUpdate,
    Order,
    OrderReport,
    OrderStatus,
    Reducing,
    Side,
    StopState,
    Tick,
    TickRecord,
    Unfilled,
)

TICK = Tick(T0, "full_rebalance")


def record(status: str = "journaled", tick: Tick = TICK, **summary: object) -> TickRecord:
    return TickRecord(tick, status, fence=1, intents=("o-00001", "o-00002"), summary=summary)


@pytest.fixture
def fence(ledger: Ledger) -> Fence:
    return ledger.acquire("first", T0, ttl_s=60)


def test_a_new_ledger_knows_nothing(ledger: Ledger) -> None:
    assert ledger.load() is None
    assert ledger.tick(TICK) is None
    assert [list(rows) for rows in (ledger.orders(), ledger.fills(), ledger.trades(), ledger.equity(), ledger.ticks())] == [[]] * 5


def test_state_is_restored_as_it_was_written(ledger: Ledger, fence: Fence) -> None:
    desk = replace(
        DESK,
        cash=D("46643.8450"),
        halt=Halt("drawdown 21 %", at(15)),
        blocked={"SOL/USDT": "stopped out"},
        regime="down",
        regime_at=at(30),
        marks={"BTC/USDT": 0.1 + 0.2},
        unfilled={"o-00003": Unfilled("o-00003", "ETH/USDT", "rotation", Side.BUY, D("0.30"), "why", ExitPlan(0.1 + 0.2), 2, at(15))},
    )
    positions = (a_position("ETH/USDT"), a_position("BTC/USDT"))
    orders = (an_order(2, 15), an_order(1, 15, OrderStatus.OPEN), an_order(9, 0))
    settings = {"strategy.rotation": '{"top_k": 8}', "risk": "{}"}
    ledger.journal(fence, [LedgerUpdate(desk=desk, positions=positions, orders=orders, settings=settings)])
    loaded = ledger.load()
    assert loaded == replace(
        desk, positions={p.pair: p for p in positions}, orders={o.client_order_id: o for o in orders}, settings=settings
    )
    assert list(loaded.positions) == ["BTC/USDT", "ETH/USDT"]
    assert list(loaded.orders) == ["o-00009", "o-00001", "o-00002"]
    assert list(loaded.settings) == ["risk", "strategy.rotation"]
    assert str(loaded.cash) == "46643.8450"


def test_the_last_of_several_updates_of_one_item_wins(ledger: Ledger, fence: Fence) -> None:
    first, last = replace(DESK, cash=D(1)), replace(DESK, cash=D(2))
    ledger.journal(fence, [LedgerUpdate(desk=first), LedgerUpdate(desk=last, positions=(a_position(), a_position(sold="0.05")))])
    loaded = ledger.load()
    assert loaded is not None
    assert loaded.cash == 2
    assert loaded.positions == {}


def test_a_final_order_leaves_the_open_set_and_stays_in_history(ledger: Ledger, fence: Fence) -> None:
    intent, other = an_order(1), an_order(2)
    ledger.journal(fence, [LedgerUpdate(desk=DESK, orders=(intent, other))])
    ledger.journal(
        fence, [LedgerUpdate(orders=(moved(intent, OrderStatus.OPEN),)), LedgerUpdate(orders=(moved(intent, OrderStatus.FILLED),))]
    )
    loaded = ledger.load()
    assert loaded is not None
    assert list(loaded.orders) == ["o-00002"]
    assert list(ledger.orders()) == [moved(intent, OrderStatus.FILLED), other]


def test_the_ids_that_are_over_are_told_by_the_time_of_their_tick(ledger: Ledger, fence: Fence) -> None:
    over, rests, earlier = an_order(1), an_order(2), replace(an_order(3), tick_at=an_order(1).tick_at - timedelta(minutes=15))
    ledger.journal(fence, [LedgerUpdate(desk=DESK, orders=(earlier, over, rests))])
    ledger.journal(
        fence, [LedgerUpdate(orders=(moved(earlier, OrderStatus.CANCELED),)), LedgerUpdate(orders=(moved(over, OrderStatus.REJECTED),))]
    )

    assert ledger.ended(over.tick_at) == {"o-00001"}
    assert ledger.ended(earlier.tick_at) == {"o-00003"}
    assert ledger.ended(over.tick_at + timedelta(minutes=15)) == frozenset()


def test_history_is_read_in_order_of_time(ledger: Ledger, fence: Fence) -> None:
    half = 0.5 / 60_000
    fills = (a_fill(3, 1), a_fill(1, 2), a_fill(2, 1), a_fill(4, 1 + half), a_fill(2, 1, pair="ETH/USDT"))
    trades = (a_trade(30), a_trade(15, "f-2"), a_trade(15, "f-1"))
    equity = [an_equity_row(15), an_equity_row(0)]
    ledger.journal(
        fence,
        [LedgerUpdate(fills=fills, trades=trades, equity=row) if n == 0 else LedgerUpdate(equity=row) for n, row in enumerate(equity)],
    )
    assert [(f.fill_id, f.pair) for f in ledger.fills()] == [
        ("f-00002", "BTC/USDT"), ("f-00002", "ETH/USDT"), ("f-00003", "BTC/USDT"), ("f-00004", "BTC/USDT"), ("f-00001", "BTC/USDT")
    ]  # fmt: skip
    assert list(ledger.trades()) == [trades[2], trades[1], trades[0]]
    assert list(ledger.equity()) == equity[::-1]
    assert set(ledger.fills()) == set(fills)


def test_ticks_are_read_in_the_order_in_which_they_take_effect(ledger: Ledger, fence: Fence) -> None:
    names = [(name, "") for name in ("risk_check", "feature_rebalance", "full_rebalance")]
    names += [("scan", strategy) for strategy in ("crossover", "dca", "swing")] + [("retrain", "")]
    ticks = [Tick(at(m), *name) for m in (0, 30) for name in names]
    for tick in reversed(ticks):
        ledger.journal(fence, [LedgerUpdate(record=record("done", tick))])
    assert [r.tick for r in ledger.ticks()] == ticks


def test_two_strategies_of_one_minute_have_records_of_their_own(ledger: Ledger, fence: Fence) -> None:
    first, second, other = (Tick(at(0), "scan", strategy) for strategy in ("crossover", "dca", "swing"))
    ledger.journal(fence, [LedgerUpdate(record=record("journaled", first))])
    ledger.journal(fence, [LedgerUpdate(record=record("done", second, orders=2))])
    assert ledger.tick(first) == record("journaled", first)
    assert ledger.tick(second) == record("done", second, orders=2)
    assert ledger.tick(other) is None
    assert ledger.tick(Tick(at(0), "scan")) is None
    with pytest.raises(TickRecordedError):
        ledger.journal(fence, [LedgerUpdate(record=record("journaled", first))])


def test_a_tick_is_recorded_once(ledger: Ledger, fence: Fence) -> None:
    journaled, done = record("journaled"), record("done", regime="trend", equity="50000.10", score=0.1 + 0.2, models=["a@1"])
    ledger.journal(fence, [LedgerUpdate(record=journaled)])
    assert ledger.tick(TICK) == journaled
    with pytest.raises(TickRecordedError, match="2024-06-01T00:00:00Z#full_rebalance"):
        ledger.journal(fence, [LedgerUpdate(record=journaled, fills=(a_fill(),))])
    assert list(ledger.fills()) == []
    ledger.journal(fence, [LedgerUpdate(record=done)])
    assert ledger.tick(TICK) == done
    for again in (done, journaled):
        with pytest.raises(TickRecordedError):
            ledger.journal(fence, [LedgerUpdate(record=again)])


def test_a_tick_without_orders_may_be_done_at_once(ledger: Ledger, fence: Fence) -> None:
    ledger.journal(fence, [LedgerUpdate(record=record("done"))])
    found = ledger.tick(TICK)
    assert found is not None
    assert found.status == "done"


def test_a_tick_journaled_and_done_in_one_call_must_be_new(ledger: Ledger, fence: Fence) -> None:
    both = [LedgerUpdate(record=record("journaled")), LedgerUpdate(record=record("done"))]
    ledger.journal(fence, both)
    assert [r.status for r in ledger.ticks()] == ["done"]
    other = Tick(at(15), "risk_check")
    ledger.journal(fence, [LedgerUpdate(record=record("journaled", other))])
    with pytest.raises(TickRecordedError):
        ledger.journal(fence, [LedgerUpdate(record=record(status, other)) for status in ("journaled", "done")])
    assert [r.status for r in ledger.ticks()] == ["done", "journaled"]


def test_a_tick_that_trades_nothing_is_recorded_without_a_lease(ledger: Ledger) -> None:
    night = record("done", Tick(at(130), "retrain"), promoted="lgbm_6h@v2")
    ledger.record_unfenced(night)
    assert ledger.tick(night.tick) == night
    with pytest.raises(TickRecordedError):
        ledger.record_unfenced(night)


def test_a_fill_is_applied_once(ledger: Ledger, fence: Fence) -> None:
    ledger.journal(fence, [LedgerUpdate(desk=DESK, fills=(a_fill(1),))])
    richer = replace(DESK, cash=D(99999))
    for updates in (
        [LedgerUpdate(desk=richer, fills=(a_fill(1),))],
        [LedgerUpdate(desk=richer, fills=(a_fill(2), a_fill(2)))],
    ):
        with pytest.raises(LedgerError, match="f-0000"):
            ledger.journal(fence, updates)
    with pytest.raises(LedgerError, match="f-00003 of o-00001: applied before"):
        ledger.journal(fence, [LedgerUpdate(fills=(a_fill(3),)), LedgerUpdate(desk=richer, fills=(a_fill(3),))])
    loaded = ledger.load()
    assert loaded is not None
    assert loaded.cash == DESK.cash
    assert [f.fill_id for f in ledger.fills()] == ["f-00001", "f-00003"]


def test_an_update_is_whole_or_absent(ledger: Ledger, fence: Fence) -> None:
    ledger.journal(fence, [LedgerUpdate(desk=DESK, fills=(a_fill(1),))])
    torn = LedgerUpdate(
        desk=replace(DESK, cash=D(1)),
        orders=tuple(an_order(n) for n in range(40)),
        positions=(a_position(),),
        fills=(*(a_fill(n) for n in range(2, 40)), a_fill(1)),
        trades=(a_trade(),),
        equity=an_equity_row(),
        record=record(),
        settings={"risk": "{}"},
    )
    with pytest.raises(LedgerError, match="f-00001"):
        ledger.journal(fence, [torn])
    assert ledger.load() == DESK
    assert [f.fill_id for f in ledger.fills()] == ["f-00001"]
    assert [list(rows) for rows in (ledger.orders(), ledger.trades(), ledger.equity(), ledger.ticks())] == [[]] * 4


def test_many_intents_are_written_in_chunks_in_order(ledger: Ledger, fence: Fence) -> None:
    orders = [an_order(n) for n in range(150)]
    updates = [LedgerUpdate(orders=(order,)) for order in orders]
    ledger.journal(fence, [*updates, LedgerUpdate(desk=DESK, record=record())])
    assert list(ledger.orders()) == orders
    assert ledger.tick(TICK) == record()
    ledger.journal(fence, [LedgerUpdate(orders=(moved(order, OrderStatus.FILLED),)) for order in orders])
    loaded = ledger.load()
    assert loaded is not None
    assert loaded.orders == {}
    assert {order.status for order in ledger.orders()} == {OrderStatus.FILLED}


def test_chunks_before_a_refused_one_stay(ledger: Ledger, fence: Fence) -> None:
    ledger.journal(fence, [LedgerUpdate(record=record())])
    with pytest.raises(TickRecordedError):
        ledger.journal(fence, [*(LedgerUpdate(orders=(an_order(n),)) for n in range(150)), LedgerUpdate(record=record())])
    assert len(list(ledger.orders())) == 99


def test_a_ledger_that_dies_between_two_slices_of_an_order_is_healed_by_its_next_report(ledger: Ledger, fence: Fence) -> None:
    order = replace(an_order(1), qty=D("0.05") * 150)
    report = OrderReport("o-00001", OrderStatus.FILLED, tuple(a_fill(n, n / 100) for n in range(150)))
    desk = replace(DESK, cash=D(10**6))
    ledger.journal(fence, [LedgerUpdate(desk=desk, orders=(order,))])
    whole = book(desk, order, report)

    def write(state: DeskState, order: Order, parts: Sequence[OrderReport]) -> None:
        for part in parts:
            booking = book(state, order, part)
            assert booking.update is not None
            state, (order,) = booking.state, booking.update.orders
            ledger.journal(fence, [booking.update])

    write(desk, order, in_slices(order, report)[:2])
    torn = ledger.load()
    assert torn is not None
    (left,) = torn.orders.values()
    assert (left.status, len(left.fill_ids), torn.positions["BTC/USDT"].qty) == (OrderStatus.PARTIALLY_FILLED, 80, 4)
    write(torn, left, in_slices(left, report))
    healed = ledger.load()
    assert healed is not None
    assert (healed.orders, healed.positions, healed.cash) == ({}, dict(whole.state.positions), whole.state.cash)
    assert list(ledger.fills()) == list(report.fills)
    assert whole.update is not None
    assert list(ledger.orders()) == list(whole.update.orders)


def test_charges_in_several_assets_are_kept(ledger: Ledger, fence: Fence) -> None:
    fill = replace(a_fill(), further=(Charge("BTC", D("0.000010"), D("0.671231")), Charge("BNB", D("-0.1"), D("-50"))))
    ledger.journal(fence, [LedgerUpdate(fills=(fill,))])
    assert list(ledger.fills()) == [fill]
    wrong = replace(a_fill(2), further=(Charge("BNB", D("NaN"), D(0)),))
    with pytest.raises(LedgerError, match=r"Charge\.qty: NaN is not a finite number"):
        ledger.journal(fence, [LedgerUpdate(fills=(wrong,))])


@pytest.mark.parametrize("count", [99, 100])
def test_an_update_larger_than_a_transaction_is_refused(ledger: Ledger, fence: Fence, count: int) -> None:
    update = LedgerUpdate(orders=tuple(an_order(n) for n in range(count)))
    if count == 99:
        ledger.journal(fence, [update])
        assert len(list(ledger.orders())) == 99
    else:
        with pytest.raises(LedgerError, match="an update of 100 items exceeds the 99"):
            ledger.journal(fence, [LedgerUpdate(desk=DESK), update])
        assert ledger.load() is None


def test_a_record_too_large_for_an_item_is_refused(ledger: Ledger, fence: Fence) -> None:
    with pytest.raises(LedgerError, match=r"2024-06-01T00:00:00Z#full_rebalance: a record of 4000\d\d bytes exceeds the 400000"):
        ledger.journal(fence, [LedgerUpdate(desk=DESK, record=record(text="x" * 400_000))])
    assert ledger.load() is None


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1." + "1" * 38])
def test_a_number_the_table_cannot_hold_is_refused(ledger: Ledger, fence: Fence, value: str) -> None:
    with pytest.raises(LedgerError, match=rf"DeskScalars\.cash: {value}"):
        ledger.journal(fence, [LedgerUpdate(desk=replace(DESK, cash=Decimal(value)), fills=(a_fill(),))])
    assert list(ledger.fills()) == []


@pytest.mark.parametrize(
    ("update", "where"),
    [
        (LedgerUpdate(equity=replace(an_equity_row(), exposure_frac=float("nan"))), r"EquityRow\.exposure_frac"),
        (LedgerUpdate(desk=replace(DESK, marks={"BTC/USDT": float("nan")})), r"DeskScalars\.marks"),
        (LedgerUpdate(positions=(replace(a_position(), stop=StopState(stop_price=float("inf"))),)), r"StopState\.stop_price"),
        (LedgerUpdate(orders=(replace(an_order(), exits=ExitPlan(atr=float("nan"))),)), r"ExitPlan\.atr"),
    ],
)
def test_a_float_that_is_no_number_is_refused(ledger: Ledger, fence: Fence, update: LedgerUpdate, where: str) -> None:
    with pytest.raises(LedgerError, match=f"{where}: value (nan|inf) is not a finite number"):
        ledger.journal(fence, [LedgerUpdate(desk=DESK), update])
    assert ledger.load() is None


@pytest.mark.parametrize("bad", [{"score": float("nan")}, {"at": T0}])
def test_a_summary_that_is_not_json_is_refused(ledger: Ledger, fence: Fence, bad: dict[str, object]) -> None:
    with pytest.raises(LedgerError, match="full_rebalance: summary"):
        ledger.journal(fence, [LedgerUpdate(record=record(**bad))])
    assert ledger.tick(TICK) is None


def test_a_record_with_another_status_is_refused(ledger: Ledger, fence: Fence) -> None:
    with pytest.raises(LedgerError, match="'sent'"):
        ledger.journal(fence, [LedgerUpdate(record=record("sent"))])


def test_the_lease_is_held_by_one(ledger: Ledger, fence: Fence) -> None:
    for moment in (T0, T0 + timedelta(seconds=59)):
        for owner in ("first", "second"):
            with pytest.raises(LeaseHeldError, match="held by first until 2024-06-01T00:01:00Z"):
                ledger.acquire(owner, moment, ttl_s=60)
    ledger.release(fence)
    assert ledger.acquire("second", T0, ttl_s=60).number == fence.number + 1


def test_an_abandoned_lease_is_taken_over_and_the_late_writer_refused(ledger: Ledger, fence: Fence) -> None:
    later = ledger.acquire("second", T0 + timedelta(seconds=60), ttl_s=60)
    assert later == Fence(fence.number + 1, "second")
    with pytest.raises(FencedError, match=f"fencing number {fence.number}"):
        ledger.journal(fence, [LedgerUpdate(desk=DESK, fills=(a_fill(),), record=record())])
    assert ledger.load() is None
    assert list(ledger.fills()) == []
    ledger.journal(later, [LedgerUpdate(desk=DESK)])
    assert ledger.load() == DESK


RETRY = T0 + timedelta(seconds=RETAKE_AFTER_S)


def test_an_invocation_takes_its_own_lease_again_and_its_killed_attempt_writes_nothing(ledger: Ledger) -> None:
    killed = ledger.acquire("tick", T0, ttl_s=240, invocation="request-1")
    ledger.journal(killed, [LedgerUpdate(desk=DESK)])
    again = ledger.acquire("tick", RETRY, ttl_s=240, invocation="request-1")
    assert (again.number, again.expires_at) == (killed.number + 1, RETRY + timedelta(seconds=240))
    with pytest.raises(FencedError, match=f"fencing number {killed.number}"):
        ledger.journal(killed, [LedgerUpdate(desk=replace(DESK, cash=D(1)), orders=(an_order(),), record=record())])
    ledger.release(killed)
    with pytest.raises(LeaseHeldError):
        ledger.acquire("other", RETRY, ttl_s=240, invocation="request-2")
    loaded = ledger.load()
    assert loaded == DESK
    ledger.journal(again, [LedgerUpdate(record=record())])
    assert ledger.tick(TICK) == record()


@pytest.mark.parametrize(
    ("invocation", "when"),
    [("request-1", RETRY - timedelta(milliseconds=1)), ("request-2", RETRY), ("", RETRY)],
    ids=["a duplicate of the queue", "another delivery", "nobody's"],
)
def test_nobody_else_and_nothing_sooner_than_a_retry_takes_a_lease_that_is_held(ledger: Ledger, invocation: str, when: datetime) -> None:
    ledger.acquire("tick", T0, ttl_s=240, invocation="request-1")
    with pytest.raises(LeaseHeldError, match="held by tick until 2024-06-01T00:04:00Z"):
        ledger.acquire("tick", when, ttl_s=240, invocation=invocation)


def test_a_lease_without_an_invocation_is_nobody_s_to_take_again(ledger: Ledger) -> None:
    ledger.acquire("first", T0, ttl_s=60, invocation="request-1")
    ledger.acquire("by hand", T0 + timedelta(seconds=60), ttl_s=240)
    for invocation in ("request-1", ""):
        with pytest.raises(LeaseHeldError, match="held by by hand"):
            ledger.acquire("first", T0 + timedelta(seconds=200), ttl_s=60, invocation=invocation)


def test_a_lease_says_when_it_ends(ledger: Ledger) -> None:
    assert ledger.acquire("first", T0, ttl_s=60).expires_at == T0 + timedelta(seconds=60)


def test_what_a_person_and_the_exchange_have_made_of_the_desk_is_restored(ledger: Ledger, fence: Fence) -> None:
    desk = replace(
        DESK,
        halt=Halt("flatten: by hand", at(1)),
        reducing=Reducing("BTC/USDT: the ledger holds 1, the exchange 0", at(2)),
        flatten=Flatten("by hand", at(1)),
        accept=Accept("sold by hand", at(3), "BTC/USDT: the ledger holds 1, the exchange 0"),
        quarantined={"BTC/USDT": "2024-06-01T00:15:00Z"},
        unprotected={"ETH/USDT": "the exchange takes no stops for it"},
        external={"BNB": D("0.5000"), "XYZ": D(7)},
    )
    partial = replace(an_order(1, 15, OrderStatus.PARTIALLY_FILLED), filled_qty=D("0.02"), fill_ids=("f-2", "f-1"))
    lost = an_order(2, 15, OrderStatus.UNKNOWN)
    ledger.journal(fence, [LedgerUpdate(desk=desk, orders=(partial, lost))])
    assert ledger.load() == replace(desk, orders={order.client_order_id: order for order in (partial, lost)})
    assert list(ledger.orders()) == [partial, lost]


def test_who_is_fenced_hears_of_that_first(ledger: Ledger, fence: Fence) -> None:
    ledger.journal(fence, [LedgerUpdate(record=record(), fills=(a_fill(),))])
    ledger.acquire("second", T0 + timedelta(seconds=60), ttl_s=60)
    with pytest.raises(FencedError):
        ledger.journal(fence, [LedgerUpdate(record=record(), fills=(a_fill(),))])


def test_a_recorded_tick_is_heard_of_before_its_fills(ledger: Ledger, fence: Fence) -> None:
    update = LedgerUpdate(fills=(a_fill(),), record=record("done"))
    ledger.journal(fence, [update])
    with pytest.raises(TickRecordedError):
        ledger.journal(fence, [update])


def test_a_late_release_does_not_free_another_s_lease(ledger: Ledger, fence: Fence) -> None:
    later = ledger.acquire("second", T0 + timedelta(seconds=60), ttl_s=60)
    ledger.release(fence)
    with pytest.raises(LeaseHeldError):
        ledger.acquire("third", T0 + timedelta(seconds=61), ttl_s=60)
    ledger.release(later)
    ledger.release(later)
    assert ledger.acquire("third", T0 + timedelta(seconds=61), ttl_s=60).number == later.number + 1


def test_a_lease_may_be_given_back_for_later(ledger: Ledger, fence: Fence) -> None:
    ledger.release(fence, T0 + timedelta(seconds=30))
    with pytest.raises(LeaseHeldError, match="held by first until 2024-06-01T00:00:30Z"):
        ledger.acquire("second", T0 + timedelta(seconds=29), ttl_s=60)
    assert ledger.acquire("second", T0 + timedelta(seconds=30), ttl_s=60).number == fence.number + 1
    ledger.release(fence, T0)
    with pytest.raises(LeaseHeldError):
        ledger.acquire("third", T0 + timedelta(seconds=31), ttl_s=60)


def test_a_write_before_any_lease_is_refused(ledger: Ledger) -> None:
    with pytest.raises(FencedError):
        ledger.journal(Fence(1, "nobody"), [LedgerUpdate(desk=DESK)])
    assert ledger.load() is None


def test_nothing_to_write_writes_nothing(ledger: Ledger, fence: Fence) -> None:
    ledger.journal(fence, [])
    ledger.journal(fence, [LedgerUpdate()])
    assert ledger.load() is None
