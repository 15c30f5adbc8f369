"""A sample of the soak, and proof that it sees what it looks for. ``make acceptance`` runs it whole."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import pytest

from tests.soak.__main__ import ticks_of
from tests.soak.checks import Property
from tests.soak.mishaps import AT_ONCE, AT_ONCE_SENDING, CHANCES, HANG, HAPPENINGS
from tests.soak.soaking import Findings, opened, soak
from tests.soak.variants import VARIANTS


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_ledger_and_exchange_agree_whatever_goes_wrong(name: str) -> None:
    ticks = 100 if VARIANTS[name].ledger == "memory" else 25
    found = soak(name, seed=7, ticks=ticks)
    assert found.violations == []
    assert (found.resent, found.refused_again, found.broken) == (0, 0, Counter())
    assert found.ticks == ticks
    assert found.settled >= ticks * 0.3
    assert found.sent >= 3
    assert found.trades > 0
    assert found.faults.total() >= ticks // 10


def test_others_run_the_tick_at_once_and_one_of_them_trades(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (AT_ONCE, AT_ONCE_SENDING, HANG):
        monkeypatch.setitem(HAPPENINGS, name, 0.3)
    found = soak("market", 7, 80, without=[*map(str, CHANCES), "kill", "kill_sending"])
    assert all(found.mishaps[name] for name in (AT_ONCE, AT_ONCE_SENDING, HANG))
    assert found.outcomes["LeaseHeldError, at once"] > 0
    assert found.outcomes["done, after a hang"] + found.outcomes["resumed, after a hang"] > 0
    assert found.outcomes["FencedError"] > 0
    assert found.violations == []


def test_the_same_seed_runs_up_to_the_same_tick() -> None:
    def told(found: Findings) -> tuple[object, ...]:
        return found.settled, found.sent, found.trades, found.faults, found.mishaps, found.outcomes

    assert told(soak("market", 3, 60)) == told(soak("market", 3, 60))
    assert told(soak("market", 3, 60)) != told(soak("market", 4, 60))


def test_a_fault_that_is_left_out_does_not_come() -> None:
    found = soak("market", 7, 60, without=[*map(str, CHANCES), "kill", "kill_sending"])
    assert found.faults.keys().isdisjoint(map(str, CHANCES))
    assert found.outcomes["killed"] == 0


@pytest.mark.parametrize(("name", "venue"), [("market", "spot"), ("swap", "futures"), ("roostoo", "roostoo")])
def test_money_that_the_desk_takes_for_a_flow_is_seen(name: str, venue: str) -> None:
    with opened(name, 7, 120) as one:
        assert one.run(60).violations == []
        one.exchange.move(venue, "USD" if venue == "roostoo" else "USDT", Decimal(-25))
        found = one.run(120)
    assert found.broken.keys() == {Property.EQUAL}
    assert all(sentence.startswith(f"seed 7, variant {name}, tick ") for sentence in found.violations)
    assert "a flow that never was" in found.violations[-1]


def test_coins_that_are_not_the_desk_s_and_go_are_seen() -> None:
    with opened("external", 7, 120) as one:
        assert one.run(60).violations == []
        one.exchange.move("spot", "ADA", Decimal(-100))
        one.exchange.move("spot", "ETH", Decimal(1))
        found = one.run(120)
    assert found.broken[Property.EXTERNAL] == 1
    assert "of the 500 that are not the desk's" in found.violations[0]


def test_a_position_without_the_stop_that_was_promised_is_seen() -> None:
    with opened("market", 7, 120) as one:
        one.checks.promised = True
        found = one.run(120)
    assert found.broken.keys() == {Property.STOPS}
    assert "and stops of 0 rest" in found.violations[0]


@pytest.mark.parametrize("name", ["market", "roostoo"])
def test_a_trade_that_the_ledger_does_not_know_is_seen(name: str) -> None:
    with opened(name, 7, 120) as one:
        one.run(60)
        fill_id = sorted(one.ledger.booked)[0]
        one.ledger.booked.remove(fill_id)
        found = one.run(120).violations
    assert fill_id in found[0]


def test_the_ticks_are_shared_out() -> None:
    ticks = {name: ticks_of(name, 10_000, list(VARIANTS)) for name in VARIANTS}
    assert sum(ticks.values()) >= 10_000
    assert ticks["dynamodb"] * 2 == pytest.approx(ticks["market"], abs=2)
