"""Fills that are charged in several assets at once: ledger and exchange hold the same after each."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from made_world import D, at, make_order
from tickless.adapters.ccxt_orders import Instrument, read_fill
from tickless.execution.accounting import book
from tickless.execution.reconcile import reconcile
from tickless.types import AccountSnapshot, DeskState, OrderReport, OrderStatus, Position, Side, to_ms

CCXT = Instrument("AAA/USDT", "AAAUSDT", "AAA", "USDT", D(1), D("0.001"))
PRICES = {"BNB": D(500), "OKB": D(40)}
cents = st.integers(1, 10_000).map(lambda n: D(n) / 100)
fees = st.dictionaries(st.sampled_from(["USDT", "AAA", "BNB", "OKB"]), st.integers(0, 9).map(lambda n: D(n) / 1000), max_size=4)


@dataclass(frozen=True)
class Deal:
    """One trade at the exchange, and what it charges."""

    side: Side
    qty: Decimal
    price: Decimal
    fees: dict[str, Decimal]

    def told(self, number: int) -> dict[str, Any]:
        """As ccxt tells it."""
        charged = [{"cost": str(cost), "currency": asset} for asset, cost in self.fees.items()]
        traded = {"side": self.side.value, "amount": str(self.qty), "price": str(self.price)}
        return {"id": str(number), "order": "1", "symbol": "AAA/USDT", "timestamp": to_ms(at(number)), "fees": charged, **traded}

    def settle(self, balances: dict[str, Decimal]) -> None:
        """What it does to the account."""
        sign = 1 if self.side is Side.BUY else -1
        balances["AAA"] += sign * self.qty
        balances["USDT"] -= sign * self.qty * self.price
        charged = self.fees or {"USDT": self.qty * self.price * CCXT.taker_rate}
        for asset, cost in charged.items():
            balances[asset] -= cost


deals = st.lists(st.builds(Deal, st.sampled_from(Side), cents, cents, fees), min_size=1, max_size=6)


@settings(max_examples=100)
@given(deals, st.sampled_from([D(0), D("0.004"), D(1)]), st.sampled_from([D(0), D("0.003"), D(1)]))
def test_ledger_and_exchange_hold_the_same_whatever_a_fill_was_charged_in(some: list[Deal], beyond: Decimal, held: Decimal) -> None:
    """BNB may be the owner's, beyond the ledger, or a position of the desk; OKB lies beyond it."""
    balances = {"USDT": D(10_000_000), "AAA": D(1000), "BNB": D(1) + beyond + held, "OKB": D(1)}
    bought = {"AAA/USDT": D(1000), "BNB/USDT": 1 + held}
    positions = {pair: Position(pair, "rotation", "entry", at(0), qty, qty * 10) for pair, qty in bought.items()}
    external = {asset: qty for asset, qty in {"BNB": beyond, "OKB": D(1)}.items() if qty}
    state = DeskState(balances["USDT"], balances["USDT"], positions, external=external)
    for number, deal in enumerate(some, 1):
        order = make_order(deal.side, str(deal.qty), order_id=f"o{number}", pair="AAA/USDT")
        fill = read_fill(deal.told(number), order, CCXT, PRICES.get)
        state = book(state, order, OrderReport(order.client_order_id, OrderStatus.FILLED, (fill,))).state
        deal.settle(balances)
        assert state.cash == balances["USDT"]
        assert {pair: position.qty for pair, position in state.positions.items() if pair == "AAA/USDT"} == {"AAA/USDT": balances["AAA"]}
        ours = state.positions["BNB/USDT"].qty
        assert ours + state.external.get("BNB", D(0)) == balances["BNB"]
        assert state.external.get("OKB", D(0)) == balances["OKB"]
    found = reconcile(state, AccountSnapshot(at(9), balances, {}), "USDT")
    assert (found.mismatch, found.flow, dict(found.external)) == ("", 0, dict(state.external))
