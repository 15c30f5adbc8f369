"""Whatever is sent to the simulated exchange, money and quantities are conserved and the fill rules hold."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given, settings

from made_play import RULES, WALLET, Play, plays
from made_world import D, at
from tickless.execution.rounding import exact, money, simulated_price
from tickless.types import Fill, Liquidity, OrderType, Side, to_ms

BAR_MS = 900_000


def bar_of(play: Play, fill: Fill, back: int = 0) -> dict[str, float]:
    """The bar that a fill lies in, or one before."""
    panel = play.exchange.panel
    row = (to_ms(fill.filled_at) - panel.start_ms) // BAR_MS - back
    return {name: float(getattr(panel, name)[row, panel.column[fill.pair]]) for name in ("open", "high", "low", "close", "volume")}


@settings(max_examples=50)
@given(plays())
def test_no_balance_is_ever_negative(play: Play) -> None:
    assert all(amount >= 0 for balances in play.balances for amount in balances.values())  # type: ignore[operator]


@settings(max_examples=50)
@given(plays())
def test_cash_and_holdings_are_the_wallet_and_the_fills(play: Play) -> None:
    cash, held = WALLET, dict.fromkeys(("AAA", "BBB"), D(0))
    for fill in play.fills:
        sign = 1 if fill.side is Side.BUY else -1
        cash -= sign * money(fill.qty * fill.price) + fill.fee
        held[fill.pair.split("/")[0]] += sign * fill.qty
    balances = play.balances[-1]
    assert balances["USDT"] == cash
    assert {base: qty for base, qty in held.items() if qty} == {base: qty for base, qty in balances.items() if base != "USDT"}


@settings(max_examples=50)
@given(plays())
def test_no_order_fills_more_than_its_quantity_outside_its_life_or_twice(play: Play) -> None:
    for order_id, report in play.reports[-1].items():
        order = play.orders[order_id]
        assert sum((fill.qty for fill in report.fills), D(0)) <= order.qty
        assert all(fill.qty > 0 and fill.filled_at >= order.tick_at for fill in report.fills)
        assert order.expires_at is None or all(fill.filled_at < order.expires_at for fill in report.fills)
        times = [(fill.filled_at, fill.fill_id) for fill in report.fills]
        assert len(set(times)) == len(times)
    before: dict[str, tuple[Fill, ...]] = {}
    for reports in play.reports:
        now = {order_id: report.fills for order_id, report in reports.items()}
        assert all(now[order_id][: len(fills)] == fills for order_id, fills in before.items()), "reports are cumulative"
        before = now


@settings(max_examples=50)
@given(plays())
def test_prices_fees_times_and_shares_follow_the_rules(play: Play) -> None:
    execution = play.exchange.settings.execution
    for fill in play.fills:
        order, bar = play.orders[fill.client_order_id], bar_of(play, fill)
        taker = fill.liquidity is Liquidity.TAKER
        fee_bps = exact(execution.taker_fee_bps if taker else execution.maker_fee_bps)
        assert abs(fill.fee - fill.qty * fill.price * fee_bps / 10_000) <= D("1e-10")
        at_open = to_ms(fill.filled_at) % BAR_MS == 0
        assert at_open or to_ms(fill.filled_at) % BAR_MS == BAR_MS - 1
        slip = 1 + (1 if fill.side is Side.BUY else -1) * exact(execution.slippage_bps) / 10_000
        if order.type is OrderType.LIMIT:
            assert order.limit_price is not None
            assert fill.price == (exact(bar["open"]) if taker else order.limit_price)
            assert (fill.price <= order.limit_price) if fill.side is Side.BUY else (fill.price >= order.limit_price)
            assert taker == at_open
            if not taker:
                assert bar["low"] < order.limit_price if fill.side is Side.BUY else bar["high"] > order.limit_price
        elif at_open:
            assert fill.price == simulated_price(exact(bar["open"]) * slip)
        else:
            assert order.stop_price is not None
            worse = min if fill.side is Side.SELL else max
            assert fill.price == simulated_price(worse(order.stop_price, exact(bar["open"])) * slip)
        if execution.max_participation_frac:
            assert fill.filled_at >= at(1), "the first bar has none before it"
            assert fill.qty <= Decimal(repr(execution.max_participation_frac * bar_of(play, fill, back=1)["volume"]))


@settings(max_examples=50)
@given(plays())
def test_filters_hold_for_every_fill_of_an_accepted_order(play: Play) -> None:
    if not play.exchange.settings.execution.filters:
        return
    for order_id, report in play.reports[-1].items():
        order = play.orders[order_id]
        rules = RULES.get(order.pair)
        if rules is None or not report.fills:
            continue
        assert all(fill.qty % rules.qty_step == 0 for fill in report.fills)  # type: ignore[operator]
        price = order.limit_price or order.stop_price or report.fills[0].price
        assert order.qty * price >= rules.min_notional  # type: ignore[operator]
