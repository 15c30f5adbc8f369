"""Whatever is ordered, the loopback exchange's accounts are what its trades make them, to the last digit, and nothing is negative."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.loopback.exchange import LoopbackExchange
from tests.loopback.futures_account import FuturesAccount
from tests.loopback.matching import Venue
from tests.loopback.orders import Order, RefusedError
from tests.loopback.spot_account import SpotAccount
from tests.loopback.world import FeeIn, World
from tests.made_panels import MONDAY, walk
from tickless.types import from_ms

PAIRS = ("BTC/USDT", "BNB/USDT")
PANEL = walk(PAIRS, 60, price=[100, 10], sigma=0.02, seed=5)
START = {"USDT": Decimal(1000), "BTC": Decimal(5), "BNB": Decimal("0.5")}

orders = st.tuples(
    st.sampled_from(PAIRS),
    st.sampled_from(["BUY", "SELL"]),
    st.sampled_from(["market", "limit", "stop"]),
    st.decimals(Decimal("0.00001"), Decimal(8), places=5),
    st.integers(-500, 500),
    st.sampled_from(["1", "0.3"]),
)
steps = st.lists(st.one_of(orders, st.integers(0, 5), st.just("cancel")), min_size=8, max_size=50)


def play(exchange: LoopbackExchange, venue: Venue, script: list[object], *, reduce_only: bool = False) -> None:
    """Orders are placed (away from the price by so many hundredths of a per cent), bars pass, the oldest open order is cancelled."""
    for step in script:
        if step == "cancel":
            if venue.working:
                venue.cancel(next(iter(venue.working.values())))
        elif isinstance(step, int):
            exchange.set_time(from_ms(exchange.clock.now_ms) + step * timedelta(minutes=15))
        else:
            assert isinstance(step, tuple)
            place(exchange, venue, *step, reduce_only=reduce_only)


def place(
    exchange: LoopbackExchange, venue: Venue, pair: str, side: str, kind: str, qty: Decimal, away: int, share: str, *, reduce_only: bool
) -> None:
    now = exchange.clock.now_ms
    price = exchange.prices.on_tick(pair, (exchange.prices.ask(pair, now) or Decimal(1)) * (1 + Decimal(away) / 10_000))
    number = venue.next_id()
    limit, stop = (price if kind == one else None for one in ("limit", "stop"))
    algo = kind == "stop" and isinstance(venue.account, FuturesAccount)
    order = Order(number, str(number), pair, side, kind, "limit" if limit else "market", qty, now, price=limit, stop=stop, is_algo=algo)
    try:
        venue.place(replace(order, reduce_only=reduce_only and qty > 4), Decimal(share))
    except RefusedError:
        assert (algo, number) not in venue.orders


@given(steps, st.sampled_from(list(FeeIn)), st.integers(1, 3), st.sampled_from(["0", "0.002"]))
@settings(max_examples=120)
def test_a_spot_account_is_its_trades(script: list[object], fee_in: FeeIn, parts: int, participation: str) -> None:
    world = World(PANEL, MONDAY, spot=START, fee_in=fee_in, trades_per_fill=parts, participation_frac=Decimal(participation))
    exchange = LoopbackExchange(world)
    venue = exchange.spot
    play(exchange, venue, script)

    account = venue.account
    assert isinstance(account, SpotAccount)
    expected: dict[str, Decimal] = defaultdict(Decimal, START)
    for trade in venue.trades:
        base, quote = trade.pair.split("/")
        sign = 1 if trade.side == "BUY" else -1
        expected[base] += sign * trade.qty
        expected[quote] -= sign * trade.quote_qty
        expected[trade.fee_asset] -= trade.fee
    assert {asset: account.total(asset) for asset in account.assets()} == {asset: expected[asset] for asset in account.assets()}
    assert all(amount >= 0 for amount in account.free.values())
    assert all(amount >= 0 for _, amount, _ in account.locks.values())
    assert set(account.locks) == {order.id for order in venue.working.values()}
    for order in venue.orders.values():
        assert order.filled == sum((trade.qty for trade in order.trades), Decimal(0)) <= order.qty
        assert (order.status == "FILLED") == (order.filled == order.qty)
    assert len({trade.id for trade in venue.trades}) == len(venue.trades)


@given(steps, st.booleans())
@settings(max_examples=120)
def test_a_futures_account_is_its_trades(script: list[object], reduce_only: bool) -> None:
    world = World(PANEL, MONDAY, futures={"USDT": Decimal(1000)})
    exchange = LoopbackExchange(world)
    venue = exchange.futures
    play(exchange, venue, script, reduce_only=reduce_only)

    account = venue.account
    wallet = Decimal(1000)
    held: dict[str, Decimal] = defaultdict(Decimal)
    for trade in venue.trades:
        wallet += trade.realized - trade.fee
        held[trade.pair] += trade.qty if trade.side == "BUY" else -trade.qty
    assert account.wallet["USDT"] == wallet
    assert {one.pair: one.qty for one in account.open_positions()} == {pair: qty for pair, qty in held.items() if qty}
    assert set(account.margins) == {order.id for order in venue.working.values() if not order.is_algo}


def test_a_stale_account_is_the_one_before_the_last_change() -> None:
    exchange = LoopbackExchange(World(PANEL, MONDAY, spot=START))
    place(exchange, exchange.spot, "BTC/USDT", "BUY", "market", Decimal(1), 0, "1", reduce_only=False)
    after = exchange.balances("spot")

    with exchange.spot.stale():
        assert exchange.balances("spot") == START

    assert exchange.balances("spot") == after != START
