"""Pairs whose market is closed: no order of theirs, every other goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np

from made_desk import SETTINGS, T0, a_desk, a_position, a_tick
from made_world import NO_THRESHOLDS, World, at
from tickless.bars import COLUMNS, Panel
from tickless.errors import MarketClosedError
from tickless.execution.quarantine import quarantine, shut_out
from tickless.pipeline import decide_risk
from tickless.ports import Venue
from tickless.settings import Settings
from tickless.types import Flatten, Halt, LedgerUpdate, OrderStatus, PairRules, StopState, iso

A, B = "A/USDT", "B/USDT"
CLOSED = {A: PairRules(A, active=False), B: PairRules(B)}


class ClosedMarket:
    """An exchange that takes no order of one pair."""

    def __init__(self, exchange: Any, pair: str, asked: list[str]) -> None:
        self.exchange, self.pair, self.asked = exchange, pair, asked

    def __getattr__(self, name: str) -> Any:
        return getattr(self.exchange, name)

    def submit(self, order: Any, when: Any) -> Any:
        self.asked.append(order.pair)
        if order.pair == self.pair:
            raise MarketClosedError(f"{order.pair}: the market is closed")
        return self.exchange.submit(order, when)


class Unread:
    """A market that is silent about one pair."""

    def __init__(self, market: Any, pair: str) -> None:
        self.market, self.pair = market, pair

    def __getattr__(self, name: str) -> Any:
        return getattr(self.market, name)

    def bars(self, pairs: Sequence[str], *asked: Any) -> Panel:
        panel: Panel = self.market.bars(pairs, *asked)
        for name in COLUMNS if self.pair in panel.column else ():
            getattr(panel, name)[:, panel.column[self.pair]] = np.nan
        return panel


def test_a_flatten_goes_on_beside_a_pair_whose_candles_cannot_be_read(new_world):
    plain: World = new_world(*NO_THRESHOLDS)
    plain.run("full_rebalance", at(0))
    state = plain.ledger.load()
    silent = min(state.positions)
    assert len(state.positions) > 1
    fence = plain.ledger.acquire("a person", at(0), 1)
    asked = replace(state, halt=Halt("flatten: leaving", at(0)), flatten=Flatten("leaving", at(0)))
    plain.ledger.journal(fence, [LedgerUpdate(desk=asked)])
    plain.ledger.release(fence)
    ports = plain.ports()

    def connect(settings: Settings) -> Venue:
        venue = ports.connect(settings)
        return replace(venue, market=Unread(venue.market, silent))

    plain.run("risk_check", at(1), replace(ports, connect=connect))
    plain.run("risk_check", at(2), replace(ports, connect=connect))
    assert set(plain.ledger.load().positions) == {silent}
    assert plain.ledger.load().flatten is not None
    plain.run("risk_check", at(3))
    plain.run("risk_check", at(4))
    assert not plain.ledger.load().positions
    assert plain.ledger.load().flatten is None


def test_a_closed_market_keeps_its_pair_from_being_ordered_and_no_other():
    stop = StopState(stop_price=95.0, atr=2.0)
    state = a_desk(a_position(A, "3", stop=stop), a_position(B, "3", stop=stop))
    for rules, quarantined in ((CLOSED, {}), ({}, {A: iso(T0)})):
        held = a_desk(*state.positions.values(), quarantined=quarantined)
        decision = decide_risk(a_tick(0, "risk_check"), {A: 90.0, B: 90.0}, held, SETTINGS, rules)
        assert [order.pair for order in decision.plan.orders] == [B]
        assert decision.trace["pairs"][A] == {"action": "keep", "reason": "pair_not_active"}


def test_what_is_shut_out_and_for_how_long():
    state = a_desk(a_position(A, "3"), a_position(B, "3"))
    first = quarantine(state, CLOSED, T0)
    assert first == {A: iso(T0)}
    state = a_desk(*state.positions.values(), quarantined={**first, B: iso(T0)})
    for minutes, kept in ((59, {A, B}), (60, {A}), (6000, {A})):
        assert quarantine(state, CLOSED, T0 + timedelta(minutes=minutes)) == dict.fromkeys(kept, iso(T0))
    assert quarantine(state, {}, T0 + timedelta(minutes=60)) == {}, "active again"
    assert quarantine(a_desk(), CLOSED, T0) == {}, "what concerns nobody is told nobody"
    assert shut_out({}, CLOSED) is CLOSED


def test_a_refusal_shuts_a_pair_out_for_an_hour(new_world):
    plain: World = new_world(*NO_THRESHOLDS)
    plain.run("full_rebalance", at(0))
    pair = min(plain.ledger.load().positions)
    world: World = new_world(*NO_THRESHOLDS)
    asked: list[str] = []

    def run(bar: int) -> list[str]:
        asked.clear()
        ports = world.ports(lambda name, port: ClosedMarket(port, pair, asked) if name == "exchange" else port)
        world.run("feature_rebalance" if bar % 4 else "full_rebalance", at(bar), ports)
        return [*asked]

    assert pair in run(0)
    state = world.ledger.load()
    assert dict(state.quarantined) == {pair: iso(at(0))}
    assert state.positions.keys() == plain.ledger.load().positions.keys() - {pair}, "the others went on"
    assert {order.status for order in world.ledger.orders() if order.pair == pair} == {OrderStatus.REJECTED}
    assert pair not in run(2)
    assert dict(world.ledger.load().quarantined) == {pair: iso(at(0))}
    assert pair in run(4), "an hour later one order finds out"
    assert dict(world.ledger.load().quarantined) == {pair: iso(at(4))}
