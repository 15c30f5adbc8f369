"""Random play on the simulated exchange: bars, orders and cancels, and what came of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import strategies as st

from made_world import D, Exchange, at, make_order
from tickless.errors import OrderRejectedError
from tickless.types import Fill, Order, OrderReport, OrderStatus, PairRules, Side

PAIRS = ("AAA/USDT", "BBB/USDT")
ROWS = 10
WALLET = D(1000)
RULES = {"AAA/USDT": PairRules("AAA/USDT", price_step=D("0.01"), qty_step=D("0.001"), min_notional=D(5))}


@dataclass
class Play:
    """An exchange on which every action has been played, and every order with its last report."""

    exchange: Exchange
    orders: dict[str, Order] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    reports: list[dict[str, OrderReport]] = field(default_factory=list)
    """What a desk is told at each tick, of all orders."""
    balances: list[dict[str, object]] = field(default_factory=list)

    @property
    def fills(self) -> list[Fill]:
        return [fill for report in self.reports[-1].values() for fill in report.fills]


_price = st.floats(50.0, 150.0).map(lambda value: round(value, 2))


@st.composite
def _bar(draw: st.DrawFn) -> tuple[float, ...] | None:
    if draw(st.integers(0, 9)) == 0:
        return None
    opened, close, a, b = (draw(_price) for _ in range(4))
    return opened, max(opened, close, a), min(opened, close, b), close, draw(st.sampled_from([0.0, 3.0, 40.0, 1e4]))


@st.composite
def _order(draw: st.DrawFn, number: int) -> Order:
    changes: dict[str, object] = {"pair": draw(st.sampled_from(PAIRS)), "order_id": f"o{number:02d}"}
    kind = draw(st.sampled_from(["market", "market", "limit_price", "stop_price"]))
    if kind != "market":
        changes[kind] = draw(_price)
    tick = draw(st.integers(0, ROWS - 2))
    life = draw(st.sampled_from([None, 0.5, 1, 3]))
    if life is not None:
        changes["expires_at"] = at(tick + life)
    qty = draw(st.integers(1, 20_000)) / D(1000)
    return make_order(draw(st.sampled_from([Side.BUY, Side.BUY, Side.SELL])), str(qty), tick=tick, **changes)


@st.composite
def plays(draw: st.DrawFn) -> Play:
    """A finished play."""
    exchange = Exchange(
        {pair: [draw(_bar()) for _ in range(ROWS)] for pair in PAIRS},
        wallet=str(WALLET),
        rules=RULES,
        taker_fee_bps=draw(st.sampled_from([0.0, 10.0, 33.3])),
        maker_fee_bps=draw(st.sampled_from([0.0, 7.5])),
        slippage_bps=draw(st.sampled_from([0.0, 1.5, 500.0])),
        latency_s=draw(st.sampled_from([0.0, 0.0, 2.0])),
        max_participation_frac=draw(st.sampled_from([0.0, 0.1, 1.0])),
        filters=draw(st.booleans()),
    )
    orders = [draw(_order(n)) for n in range(draw(st.integers(1, 12)))]
    cancels = {draw(st.integers(0, ROWS - 1)): draw(st.sampled_from(orders)) for _ in range(draw(st.integers(0, 2)))}
    return _run(Play(exchange), orders, cancels)


def _run(play: Play, orders: Sequence[Order], cancels: dict[int, Order]) -> Play:
    for bar in range(ROWS):
        play.exchange.tick(bar)
        for order in orders:
            if order.tick_at == at(bar):
                play.orders[order.client_order_id] = order
                try:
                    play.exchange.send(order)
                except OrderRejectedError:
                    play.refused.add(order.client_order_id)
        if bar in cancels:
            play.exchange.sim.cancel(cancels[bar], at(bar))
        snapshot = play.exchange.sim.snapshot(at(bar), tuple(play.orders.values()))
        play.reports.append(dict(snapshot.reports))
        play.balances.append(dict(snapshot.balances))
    assert all(play.reports[-1][order_id].status is OrderStatus.REJECTED for order_id in play.refused)
    return play
