"""Ledger and exchange compared: what is concluded, and above all what is not."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from hypothesis import assume, given
from hypothesis import strategies as st

from made_world import D, at, make_order
from tickless.execution.accounting import book
from tickless.execution.reconcile import TOLERANCE, UNSETTLED, reconcile
from tickless.pipeline import portfolio_value
from tickless.risk.drawdown import drawdown_frac
from tickless.runs.desk_state import move_cash
from tickless.types import AccountSnapshot, DeskState, Fill, Liquidity, OrderReport, OrderStatus, Position, Reducing, Side

ASSETS = ("AAA", "BBB", "CCC")
amounts = st.integers(1, 10_000).map(lambda n: D(n) / 100)
part = st.sampled_from([D(0), D("0.25"), D("0.999")])


@st.composite
def desks(draw: st.DrawFn) -> DeskState:
    """A desk with some positions, some of which it marks, and cash."""
    pairs = draw(st.lists(st.sampled_from(ASSETS), unique=True))
    positions = {}
    for asset in pairs:
        qty = draw(amounts)
        positions[f"{asset}/USDT"] = Position(f"{asset}/USDT", "rotation", "entry", at(0), qty, qty * draw(amounts))
    marks = {pair: float(draw(amounts)) for pair in positions if draw(st.booleans())}
    cash = draw(amounts) * 100
    state = DeskState(cash=cash, peak_equity=cash, positions=positions, marks=marks)
    return replace(state, peak_equity=D(str(portfolio_value(state, {}))) * draw(st.sampled_from([D(1), D("1.3")])))


def account(state: DeskState, **changes: Decimal) -> AccountSnapshot:
    """The balances that the ledger expects, with some of them set otherwise."""
    balances = {"USDT": state.cash, **{pair.split("/")[0]: position.qty for pair, position in state.positions.items()}}
    return AccountSnapshot(at(1), {**balances, **changes}, {})


def rounding_of(state: DeskState) -> Decimal:
    """What may be the exchange's own rounding: a millionth of the desk at cost, 0.01 at most."""
    cost = sum([position.qty * position.entry_price for position in state.positions.values()], D(0))
    return min(TOLERANCE, (state.cash + cost) / 1_000_000)


@given(desks(), st.decimals(-1, 1, places=4))
def test_where_both_agree_nothing_is_said(state: DeskState, share: Decimal) -> None:
    rounding = share * rounding_of(state)
    found = reconcile(replace(state, reducing=Reducing("before", at(0))), account(state, USDT=state.cash + rounding), "USDT")
    assert (found.mismatch, dict(found.external), found.flow, dict(found.available), found.conclusive) == ("", {}, 0, {}, True)


@given(desks(), st.sampled_from([D(-1), D(1)]), st.sampled_from([D("1e-6"), D("0.01"), D(1)]))
def test_more_than_a_millionth_of_the_desk_is_no_rounding_whatever_the_currency(state: DeskState, sign: Decimal, unit: Decimal) -> None:
    # The same desk in dollars, and in a currency of which it has a hundredth, a millionth as much.
    scaled = {pair: replace(position, bought_value=position.bought_value * unit) for pair, position in state.positions.items()}
    state = replace(state, cash=state.cash * unit, positions=scaled)
    flow = sign * rounding_of(state) * D("1.001")
    assert reconcile(state, account(state, USDT=state.cash + flow), "USDT").flow == flow


def test_what_is_gone_of_a_desk_in_bitcoin_is_seen() -> None:
    state = DeskState(cash=D("0.5"), peak_equity=D("0.5"))
    assert reconcile(state, AccountSnapshot(at(1), {"BTC": D("0.491")}, {}), "BTC").flow == D("-0.009")


@given(desks(), st.dictionaries(st.sampled_from([*ASSETS, "BNB"]), amounts, min_size=1))
def test_what_is_there_beyond_the_ledger_is_told_and_nothing_else_comes_of_it(state: DeskState, extra: dict[str, Decimal]) -> None:
    plain = account(state)
    balances = {**plain.balances, **{asset: plain.balances.get(asset, D(0)) + more for asset, more in extra.items()}}
    found = reconcile(state, replace(plain, balances=balances), "USDT")
    assert dict(found.external) == extra
    assert (found.mismatch, found.flow, dict(found.available)) == ("", 0, {})
    with_it = replace(state, external=found.external)
    assert portfolio_value(with_it, {}) == portfolio_value(state, {}), "it is not the desk's, so it is not worth anything to it"


@given(desks(), part, st.sampled_from([D(0), D(50), D(-50)]))
def test_less_of_an_asset_is_a_mismatch_and_only_what_is_there_can_be_sold(state: DeskState, left: Decimal, flow: Decimal) -> None:
    assume(state.positions)
    pair = min(state.positions)
    rest = state.positions[pair].qty * left
    found = reconcile(state, account(state, **{pair.split("/")[0]: rest, "USDT": state.cash + flow}), "USDT")
    assert found.mismatch.startswith(f"{pair}: the ledger holds {state.positions[pair].qty}, the exchange ")
    assert dict(found.available) == {pair: rest}
    assert found.flow == 0, "money that moved at the same time may be what it was sold for"


@given(desks(), st.decimals(-10_000, 10_000, places=2), st.dictionaries(st.just("BNB"), amounts))
def test_stake_currency_alone_is_a_deposit_or_withdrawal_and_leaves_drawdown_as_it_was(
    state: DeskState, flow: Decimal, external: dict[str, Decimal]
) -> None:
    assume(abs(flow) > TOLERANCE and state.cash + flow >= 0)
    equity = D(str(portfolio_value(state, {})))
    assume(equity + flow > 1)
    state = replace(state, external=external)
    found = reconcile(state, account(state, USDT=state.cash + flow, **external), "USDT")
    assert (found.mismatch, found.flow) == ("", flow)
    moved = move_cash(state, found.flow)
    assert moved.cash == state.cash + flow
    before, after = (drawdown_frac(portfolio_value(s, {}), float(s.peak_equity)) for s in (state, moved))
    assert abs(after - before) < 1e-9


@given(desks(), amounts, amounts, st.sampled_from([*ASSETS, "XYZ"]))
def test_cash_that_went_as_an_asset_came_is_a_trade_nobody_knows_for_as_long_as_it_lasts(
    state: DeskState, spent: Decimal, bought: Decimal, asset: str
) -> None:
    assume(TOLERANCE < spent <= state.cash)
    plain = account(state)
    after = account(state, **{"USDT": state.cash - spent, asset: plain.balances.get(asset, D(0)) + bought})
    for _ in range(3):
        found = reconcile(state, after, "USDT")
        assert found.mismatch.endswith(f"and {asset} has grown: a trade that the ledger does not know")
        assert (found.flow, dict(found.external)) == (0, {})
        state = replace(state, external=found.external, reducing=Reducing(found.mismatch, at(1)))
    undone = reconcile(state, plain, "USDT")
    assert (undone.mismatch, undone.flow) == ("", 0)


@given(desks(), st.sampled_from(sorted(UNSETTLED)), st.dictionaries(st.sampled_from([*ASSETS, "USDT", "BNB"]), amounts))
def test_nothing_is_concluded_while_an_order_may_have_traded(state: DeskState, status: OrderStatus, balances: dict[str, Decimal]) -> None:
    order = make_order(Side.BUY, order_id="lost", status=status)
    found = reconcile(replace(state, orders={"lost": order}), account(state, **balances), "USDT")
    assert (found.conclusive, found.mismatch, dict(found.external), found.flow) == (False, "", {}, 0)
    assert all(qty < state.positions[pair].qty for pair, qty in found.available.items()), "but an exit is never larger than what is there"


@given(desks(), amounts, amounts, st.integers(1, 100))
def test_an_answer_from_before_our_own_purchase_is_no_deposit(state: DeskState, bought: Decimal, price: Decimal, more: int) -> None:
    """The coins that the desk has bought since are missing from it, and the cash is still there; the account holds others of the kind."""
    assume(bought * price > TOLERANCE)
    before = account(state, BNB=bought + more)
    known = replace(state, external=reconcile(state, before, "USDT").external)
    position = Position("BNB/USDT", "rotation", "entry", at(0), bought, bought * price)
    after = replace(known.with_position(position), cash=state.cash - bought * price)

    stale = reconcile(after, before, "USDT")
    assert (stale.mismatch, stale.flow) == ("", 0)
    assert portfolio_value(replace(after, external=stale.external), {}) == portfolio_value(after, {})
    true = account(after, BNB=bought + more + bought)
    now = reconcile(replace(after, external=stale.external), true, "USDT")
    assert (now.mismatch, now.flow, dict(now.external)) == ("", 0, dict(known.external))


PRICE = D(500)
slips = st.decimals("0.93", "1.07", places=3)


def price_of(asset: str) -> Decimal | None:
    return {"BNB": PRICE, "ETH": PRICE * 6}.get(asset)


def adopted(state: DeskState, balances: AccountSnapshot) -> DeskState:
    """The state after a comparison that may have found a flow, and no mismatch."""
    found = reconcile(state, balances, "USDT", price_of)
    assert (found.mismatch, found.conclusive) == ("", True)
    state = replace(state, external=found.external)
    return move_cash(state, found.flow) if found.flow else state


@given(desks(), amounts, part, slips, st.lists(st.decimals(-500, 500, places=2), max_size=4))
def test_a_sale_of_the_owners_coins_is_no_deposit_and_hides_no_later_one(
    state: DeskState, owned: Decimal, left: Decimal, slip: Decimal, flows: list[Decimal]
) -> None:
    state = replace(state, cash=state.cash + 5000, external={"BNB": owned})
    got = owned * (1 - left) * PRICE * slip
    assume(got > 1)
    held, usdt = owned * left, state.cash + got
    sold = adopted(state, account(state, USDT=usdt, BNB=held))
    assert (sold.cash, sold.peak_equity) == (state.cash, state.peak_equity)
    assert dict(sold.external) == {asset: qty for asset, qty in (("BNB", held), ("USDT", got)) if qty}
    theirs, cash = got, sold.cash
    for flow in flows:
        usdt += flow
        sold = adopted(sold, account(state, USDT=usdt, BNB=held))
        if abs(flow) > TOLERANCE:
            used = min(theirs, max(D(0), -flow))  # what is taken out is the owner's own, as long as there is any
            theirs, cash = theirs - used, cash + flow + used
        assert abs(sold.cash - cash) <= TOLERANCE * len(flows)
        assert abs(sold.cash + sold.external.get("USDT", D(0)) - usdt) <= TOLERANCE


@given(desks(), amounts, st.decimals(5, 5000, places=2), st.sampled_from([D("0.01"), D("0.5"), D(3), D(50)]))
def test_coins_that_go_beside_a_deposit_that_they_do_not_fit_leave_it_a_deposit(
    state: DeskState, left: Decimal, deposit: Decimal, share: Decimal
) -> None:
    """Whatever went with it: the next comparison begins with what the exchange says now."""
    state = replace(state, external={"BNB": left + deposit * share / PRICE})
    told = account(state, USDT=state.cash + deposit, BNB=left)
    after = adopted(state, told)
    assert (after.cash, dict(after.external)) == (state.cash + deposit, {"BNB": left})
    assert adopted(after, told) == after


@given(desks(), amounts, amounts)
def test_coins_whose_price_nobody_knows_may_have_been_sold(state: DeskState, owned: Decimal, came: Decimal) -> None:
    assume(came > TOLERANCE)
    state = replace(state, external={"XYZ": owned})
    told = account(state, USDT=state.cash + came)
    after = adopted(state, told)
    assert (after.cash, dict(after.external)) == (state.cash, {"USDT": came})
    assert adopted(after, told) == after
    deposit = adopted(after, account(state, USDT=state.cash + came + 100))
    assert (deposit.cash, dict(deposit.external)) == (state.cash + 100, {"USDT": came})


@given(amounts, amounts)
def test_a_deposit_beside_a_fee_in_a_third_asset_is_a_deposit(deposit: Decimal, before: Decimal) -> None:
    """The fee has taken of an asset that is not the desk's: nobody has sold it for the cash that came."""
    assume(deposit > TOLERANCE)
    bought = make_order(qty="2", pair="AAA/USDT")
    fee = before / 3
    fill = Fill("f1", "o1", at(0), "AAA/USDT", Side.BUY, D(2), D(100), fee, "BNB", fee, Liquidity.TAKER)
    state = DeskState(cash=D(1000), peak_equity=D(1000), external={"BNB": before, "ETH": D(1)}).with_order(bought)
    state = book(state, bought, OrderReport("o1", OrderStatus.FILLED, (fill,))).state
    told = account(state, USDT=state.cash + deposit, BNB=before - fee, ETH=D(1))
    found = reconcile(state, told, "USDT")
    assert (found.flow, found.mismatch, dict(found.external)) == (deposit, "", {"BNB": before - fee, "ETH": D(1)})


holdings = st.tuples(amounts, st.one_of(st.just(D(0)), amounts.map(lambda qty: qty / 1000)))


@given(holdings, st.lists(st.decimals("0.0001", "0.02", places=4), min_size=1, max_size=6))
def test_a_fee_in_an_asset_that_the_desk_holds_leaves_ledger_and_exchange_equal(held: tuple[Decimal, Decimal], fees: list[Decimal]) -> None:
    """First what is there beyond the ledger, then the position; all trades together have earned by how much equity changed."""
    qty, beyond = held[0] / 100, held[1]
    position = Position("BNB/USDT", "rotation", "entry", at(0), qty, qty * 400, fees=D("0.1"))
    external = {"BNB": beyond} if beyond else {}
    state = DeskState(cash=D(10_000), peak_equity=D(10_000), positions={"BNB/USDT": position}, external=external)
    trades, total, held_now = [], D(0), qty + beyond
    for n, asked in enumerate(fees):
        fee = min(asked, held_now)  # an exchange charges no more than there is
        held_now, total = held_now - fee, total + fee * PRICE
        order = make_order(Side.BUY if n % 2 == 0 else Side.SELL, qty="1", pair="AAA/USDT", order_id=f"o{n}")
        fill = Fill(f"f{n}", f"o{n}", at(n), "AAA/USDT", order.side, D(1), D(100), fee * PRICE, "BNB", fee, Liquidity.TAKER)
        booking = book(state.with_order(order), order, OrderReport(f"o{n}", OrderStatus.FILLED, (fill,)))
        assert booking.update is not None
        state, trades = booking.state, [*trades, *booking.update.trades]
        found = reconcile(state, account(state, BNB=held_now), "USDT")
        assert (found.mismatch, found.flow) == ("", 0)
        assert dict(found.external) == dict(state.external)
    assert len({trade.trade_id for trade in trades}) == len(trades)
    owned = state.positions.get("BNB/USDT")
    paid = qty - (owned.qty if owned else D(0))
    assert paid == max(D(0), qty + beyond - held_now - beyond)
    closed = [trade for trade in trades if trade.pair == "BNB/USDT"]
    assert [trade.exit_reason for trade in closed] == ([] if owned else ["fee"])
    # A position that pays is sold for what the fee was worth: the other trades bear the fee.
    sold = owned.sold_value if owned else closed[0].qty * closed[0].close_price
    assert abs(sold - paid * PRICE) < D("0.0001")
    assert owned is None or abs(owned.entry_price - 400) < D("0.000001")
