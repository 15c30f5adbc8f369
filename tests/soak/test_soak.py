"""A sample of the soak, and proof that it sees what it looks for. ``make acceptance`` runs it whole."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.soak.mishaps import CHANCES
from tests.soak.soaking import STAKE, VARIANTS, Findings, opened, soak


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_ledger_and_exchange_agree_whatever_goes_wrong(variant: str) -> None:
    found = soak(variant, seed=7, ticks=150)
    assert found.violations == []
    assert found.resent == 0
    assert found.ticks == 150
    assert found.settled >= 60
    assert found.sent >= 5
    assert found.faults.total() >= 20
    assert found.outcomes["killed"] > 0


def test_the_same_seed_runs_up_to_the_same_tick() -> None:
    def told(found: Findings) -> tuple[object, ...]:
        return found.settled, found.sent, found.trades, found.faults, found.mishaps, found.outcomes

    assert told(soak("market", 3, 60)) == told(soak("market", 3, 60))
    assert told(soak("market", 3, 60)) != told(soak("market", 4, 60))


def test_a_fault_that_is_left_out_does_not_come() -> None:
    found = soak("market", 7, 60, without=[*map(str, CHANCES), "kill", "kill_sending"])
    assert found.faults.keys().isdisjoint(map(str, CHANCES))
    assert found.outcomes["killed"] == 0


def test_money_that_the_desk_takes_for_a_flow_is_seen() -> None:
    with opened("market", 7, 120) as one:
        assert one.run(60).violations == []
        one.exchange.move("spot", STAKE, Decimal(-25))
        found = one.run(120).violations
    assert found
    assert all(sentence.startswith("seed 7, variant market, tick ") for sentence in found)
    assert "a flow that never was" in found[-1]


def test_a_trade_that_the_ledger_does_not_know_is_seen() -> None:
    with opened("market", 7, 120) as one:
        one.run(60)
        fill_id = sorted(one.ledger.booked)[0]
        one.ledger.booked.remove(fill_id)
        found = one.run(120).violations
    assert fill_id in found[0]
