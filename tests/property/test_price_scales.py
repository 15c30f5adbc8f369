"""An exchange learns of a break alike from stored bars, a tick at a time, and from a whole recording."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from made_world import PAIR, D, Exchange, Row, at, make_order
from tickless.adapters.price_scales import PanelScales
from tickless.adapters.sim_exchange import SimExchange, TextAccounts
from tickless.errors import OrderRejectedError
from tickless.types import Fill, Order, Side

ROWS = 24
PAIRS = (PAIR, "BBB/USDT")


@st.composite
def market(draw: st.DrawFn) -> dict[str, list[Row]]:
    """Bars of two pairs that fall silent in every way, and change their scale whenever they like."""
    bars: dict[str, list[Row]] = {}
    for pair in PAIRS:
        price, rows = 100.0, list[Row]()
        for _ in range(ROWS):
            kind = draw(st.sampled_from(["bar", "bar", "bar", "none", "idle"]))
            opened = price * draw(st.sampled_from([1.0, 1.0, 1.0, 1.0, 0.97, 2.0, 5.0, 0.2, 1000.0, 0.001]))
            if kind == "none":
                rows.append(None)
                continue
            price = opened * draw(st.sampled_from([1.0, 1.05, 0.9]))
            rows.append((opened, max(opened, price) * 1.01, min(opened, price) * 0.99, price, 0.0 if kind == "idle" else 50.0))
        bars[pair] = rows
    return bars


@st.composite
def orders(draw: st.DrawFn) -> list[Order]:
    """Some orders of each kind; ticks between two opens are among them."""
    found = []
    for n in range(draw(st.integers(1, 8))):
        changes: dict[str, object] = {"pair": draw(st.sampled_from(PAIRS)), "order_id": f"o{n}"}
        kind = draw(st.sampled_from(["market", "market", "limit_price", "stop_price"]))
        if kind != "market":
            changes[kind] = draw(st.sampled_from([50, 99, 105, 600, 90_000]))
        side = draw(st.sampled_from([Side.BUY, Side.BUY, Side.SELL]))
        found.append(make_order(side, str(draw(st.integers(1, 9))), tick=draw(st.integers(0, 2 * ROWS - 2)) / 2, **changes))
    return sorted(found, key=lambda order: order.tick_at)


def play(bars: dict[str, list[Row]], sent: list[Order], whole: bool, every: int, latency_s: float) -> tuple[object, ...]:
    """Balances, reports and settlements at the end, and the settlements on the way."""
    exchange = Exchange(bars, wallet="10000000", latency_s=latency_s, taker_fee_bps=10.0)
    if whole:
        scales = PanelScales(exchange.panel)
        exchange.sim = SimExchange(TextAccounts(exchange.store), exchange.bars, exchange.market, exchange.settings, scales)
    told: dict[str, Fill] = {}
    for half in range(2 * ROWS - 1):
        when = at(half / 2)
        exchange.bars.write(exchange.panel.closed_at(when))
        for order in (order for order in sent if order.tick_at == when):
            try:
                exchange.send(order)
            except OrderRejectedError:
                continue
        if half % every == 0:
            told |= {fill.fill_id: fill for fill in exchange.sim.snapshot(when, ()).settlements}
    snapshot = exchange.sim.snapshot(at(ROWS - 1), tuple(sent))
    return dict(snapshot.balances), dict(snapshot.reports), snapshot.settlements, told


@settings(max_examples=60, deadline=None)
@given(market(), orders(), st.sampled_from([1, 2, 5, 40]), st.sampled_from([0.0, 30.0]))
def test_stored_bars_and_a_whole_recording_say_the_same(
    bars: dict[str, list[Row]], sent: list[Order], every: int, latency_s: float
) -> None:
    assert play(bars, sent, True, every, latency_s) == play(bars, sent, False, every, latency_s)


@settings(max_examples=60, deadline=None)
@given(market(), orders())
def test_money_and_quantities_are_conserved_across_every_break(bars: dict[str, list[Row]], sent: list[Order]) -> None:
    balances, reports, _, told = play(bars, sent, True, 1, 0.0)
    assert isinstance(balances, dict)
    assert isinstance(reports, dict)
    assert isinstance(told, dict)
    fills = [fill for report in reports.values() for fill in report.fills] + list(told.values())
    sold = sum((fill.qty * fill.price for fill in fills if fill.side is Side.SELL), D(0))
    bought = sum((fill.qty * fill.price for fill in fills if fill.side is Side.BUY), D(0))
    assert abs(balances["USDT"] - (D(10_000_000) + sold - bought - sum((fill.fee for fill in fills), D(0)))) < D("1e-6")
    for pair in PAIRS:
        held = sum((fill.qty if fill.side is Side.BUY else -fill.qty for fill in fills if fill.pair == pair), D(0))
        assert balances.get(pair.partition("/")[0], D(0)) == held >= 0
