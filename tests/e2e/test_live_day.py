"""A live desk at spot, contracts and Roostoo: real handlers, local AWS, an account at the exchange on loopback over HTTP.

A few hours run in every suite, whole days with ``make acceptance``. People halt, resume, sell by hand, accept and flatten in between.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from live_desk import ACCOUNTS, VENUES, LiveDesk, live_desk
from local_desk import DAY

from tickless.cli.commanding import accept_desk, flatten_desk, halt_desk, resume_desk

D = Decimal
EXTERNAL = {"spot": {"XYZ": D(3)}, "swap": {}, "roostoo": {"XYZ": D(3)}}
"""What a person holds beside the desk: coins that no pair of it trades."""


def run(desk: LiveDesk, hours: float, events: dict[float, Callable[[], object]]) -> int:
    """Fire every schedule; ``events`` happen before the first tick at or after their share of the time. The number of ticks."""
    due = sorted(events.items())

    def before(at: datetime) -> None:
        while due and at >= DAY + timedelta(hours=hours) * due[0][0]:
            due.pop(0)[1]()

    def fired(firing: object) -> None:
        result = getattr(firing, "result", None)
        assert result is not None, firing
        assert result.error is None, result.error

    ticks = desk.schedule(hours, without=("retrain",), before=before).run(fired)
    assert not due
    return ticks


def live_through(desk: LiveDesk, hours: float) -> None:
    """Rebalances and risk checks; coins from outside; a halt; something sold by hand and accepted; in the end everything is sold."""
    beyond, told = EXTERNAL[desk.venue], {}
    account, ledger, clock = ACCOUNTS[desk.venue], desk.cloud.ledger, desk.clock

    def sold_by_hand() -> None:
        if desk.venue == "swap":
            return
        told["asset"] = next(iter(sorted(desk.held().keys() - beyond.keys())))
        desk.exchange.move(account, told["asset"], -desk.held()[told["asset"]] / 2)

    def accepted() -> None:
        if desk.venue == "swap":
            return
        assert desk.state().mode == "REDUCING"
        accept_desk(ledger, clock, "sold by hand")

    def bought_nothing() -> None:
        assert desk.state().mode == "HALTED"
        assert desk.state().positions.keys() <= told["held"]
        resume_desk(desk, clock, None)  # type: ignore[arg-type]

    def halted() -> None:
        desk.refuse_differences(beyond)
        told["held"] = set(desk.state().positions)
        halt_desk(ledger, clock, "maintenance")

    def active() -> None:
        assert (desk.state().mode, desk.state().reducing) == ("ACTIVE", None)
        desk.refuse_differences(beyond)

    def outside() -> None:
        for asset, amount in beyond.items():
            desk.exchange.move(account, asset, amount)
        if desk.venue == "swap":
            told["funding"] = sum(desk.exchange.pay_funding(f"{base}/USDT", D("0.0001")) for base in desk.held())

    events = {0.2: outside, 0.35: halted, 0.45: bought_nothing, 0.55: active, 0.56: sold_by_hand, 0.65: accepted, 0.75: active}
    ticks = run(desk, hours, {**events, 0.85: lambda: flatten_desk(ledger, clock, "leaving")})
    assert ticks == 6 * hours
    desk.refuse_differences(beyond)
    state = desk.state()
    assert all(position.qty * position.entry_price < 5 for position in state.positions.values()), "dust"
    assert state.may_move
    assert state.mode == "HALTED"
    assert state.flatten is None, "it is over"
    assert {order.side.value for order in ledger.orders()} == {"buy", "sell"}
    if desk.venue == "swap":
        assert state.funding.total == told["funding"] != 0


@pytest.mark.parametrize("venue", sorted(VENUES))
def test_hours_of_a_live_desk(root, venue, monkeypatch):
    with live_desk(root, venue, monkeypatch, pairs=4) as desk:
        live_through(desk, 5)


@pytest.mark.acceptance
@pytest.mark.parametrize("venue", sorted(VENUES))
def test_whole_days_of_a_live_desk(root, venue, monkeypatch):
    with live_desk(root, venue, monkeypatch, pairs=8) as desk:
        live_through(desk, 24)
        assert len(list(desk.cloud.ledger.orders())) > 10


REVOKED = {
    "spot": "Invalid API-key, IP, or permissions for action",
    "swap": "Invalid API-key, IP, or permissions for action",
    "roostoo": "you do not have this permission",
}


@pytest.mark.parametrize("venue", sorted(VENUES))
def test_a_clock_that_is_off_and_a_key_that_is_revoked_halt_the_desk_through_the_handler(root, venue, monkeypatch):
    with live_desk(root, venue, monkeypatch, pairs=3) as desk:
        assert desk.tick("feature_rebalance", DAY).error is None
        held, sent = dict(desk.state().positions), desk.sent()
        assert held
        quarters = (DAY + timedelta(minutes=15 * n) for n in range(1, 9))
        for trouble, mended, sentence in (
            (lambda: desk.exchange.set_skew(90_000), lambda: desk.exchange.set_skew(0), "90"),
            (lambda: desk.exchange.set_skew(-90_000), lambda: desk.exchange.set_skew(0), "90"),
            (lambda: works(desk, False), lambda: works(desk, True), REVOKED[venue]),
        ):
            trouble()
            for _ in range(2):
                assert desk.tick("risk_check", next(quarters)).error is None, "it is recorded"
            state = desk.state()
            assert state.mode == "HALTED"
            assert sentence.lower() in state.halt.reason.lower()
            assert (state.positions, desk.sent()) == (held, sent), "nothing is guessed, nothing sent"
            mended()
            resume_desk(desk, desk.clock, None)  # type: ignore[arg-type]
        assert desk.tick("risk_check", next(quarters)).error is None
        assert desk.state().mode == "ACTIVE"
        desk.refuse_differences()


def works(desk: LiveDesk, value: bool) -> None:
    desk.exchange.set_key_works(ACCOUNTS[desk.venue], works=value)


def test_keys_that_nobody_may_read_any_more_halt_the_desk_and_are_told_once(root, monkeypatch):
    with live_desk(root, "spot", monkeypatch, pairs=3) as desk:
        assert desk.tick("feature_rebalance", DAY).error is None
        desk.cloud.accounts.monotonic = lambda: 1e9
        desk.secret("not JSON")
        for n in (1, 2):
            assert desk.tick("risk_check", DAY + timedelta(minutes=15 * n)).error is None
        state = desk.state()
        assert state.mode == "HALTED"
        assert "desk/keys" in state.halt.reason
        assert state.last_tick_at == DAY + timedelta(minutes=30)
        desk.secret(None)
        resume_desk(desk, desk.clock, None)  # type: ignore[arg-type]
        assert desk.tick("risk_check", DAY + timedelta(minutes=45)).error is None
        assert desk.state().mode == "ACTIVE"


@pytest.mark.parametrize("venue", sorted(VENUES))
def test_what_a_person_holds_and_has_ordered_before_the_first_tick_is_never_touched(root, venue, monkeypatch):
    with live_desk(root, venue, monkeypatch, pairs=4) as desk:
        base = "ETH"
        mine = desk.own(base, D("2"))
        assert desk.tick("feature_rebalance", DAY).error is None
        assert desk.state().external == mine
        for n in range(1, 5):
            function = "feature_rebalance" if n % 2 == 0 else "risk_check"
            assert desk.tick(function, DAY + timedelta(minutes=15 * n)).error is None
        flatten_desk(desk.cloud.ledger, desk.clock, "leaving")
        for n in range(5, 8):
            assert desk.tick("risk_check", DAY + timedelta(minutes=15 * n)).error is None
        assert desk.state().external == mine
        assert all(desk.held()[asset] >= qty for asset, qty in mine.items())
        assert desk.own_order_rests()


def test_a_desk_that_has_run_dry_goes_live_once_it_is_halted_and_flat(root, monkeypatch):
    with live_desk(root, "spot", monkeypatch, pairs=3) as desk:
        live = desk.settings("desk")
        desk.parameter("desk", json.dumps({**live, "mode": "dry_run"}))
        assert desk.tick("feature_rebalance", DAY).error is None
        assert desk.state().positions
        desk.parameter("desk", json.dumps(live))
        ticks = iter(range(1, 9))

        def risk_check() -> None:
            assert desk.tick("risk_check", DAY + timedelta(minutes=15 * next(ticks))).error is None

        risk_check()
        assert not desk.sent(), "a parameter, or a deploy, does not make its simulated positions real"
        flatten_desk(desk.cloud.ledger, desk.clock, "going live")
        for _ in range(3):
            risk_check()
        risk_check()
        assert json.loads(desk.state().settings["desk"])["mode"] == "live"
        assert not desk.sent(), "it is halted until somebody resumes it"
        assert desk.state().cash == D(50_000), "the account's, and a difference to the simulated one is a deposit"
        resume_desk(desk, desk.clock, None)  # type: ignore[arg-type]
        rebalances = (DAY + timedelta(hours=2, minutes=30 * n) for n in range(7))
        assert any(desk.tick("feature_rebalance", at).error is None and desk.sent() for at in rebalances)
