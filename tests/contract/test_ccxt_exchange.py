"""The ccxt adapter against an exchange that goes wrong: what every fault becomes, and that no order is ever lost or sent twice."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.loopback import Fault, FeeIn, LoopbackExchange, Timestamps, World
from tests.made_accounts import BALANCE_PATHS, ORDER_PATHS, TRADE_PATHS, VENUES, open_account
from tests.made_world import T0, at, make_order, make_panel
from tickless.adapters.ccxt_exchange import MANY, CcxtExchange
from tickless.adapters.ccxt_requests import weight_per_min
from tickless.adapters.weight_budget import MemoryWeightBudget, WeightLimits, WeightPurse
from tickless.errors import AccountError, MarketClosedError, OrderRejectedError, RateLimitedError, RetryableError, UnknownOutcomeError
from tickless.types import Order, OrderStatus, PairRules, Side

pytest_plugins = ["tests.loopback.fixtures"]

D = Decimal
PAIR = "BTC/USDT"
QUIET = (100.0, 101.0, 99.0, 100.0, 1000.0)
FALL = (100.0, 101.0, 80.0, 81.0, 1000.0)
PAIRS = (PAIR, "ETH/USDT", "BNB/USDT")
LOST = (Fault.CUT_BEFORE, Fault.SERVER_ERROR)
TAKEN = (Fault.CUT_AFTER, Fault.CUT_INSIDE, Fault.SERVER_ERROR_AFTER, Fault.MALFORMED, Fault.TRUNCATED, Fault.NAN, Fault.WRONG_PAIR)


def order(side: Side = Side.BUY, qty: str = "2", **changes: Any) -> Order:
    return make_order(side, qty, pair=changes.pop("pair", PAIR), **changes)


class Play:
    """A loopback exchange and an account at it."""

    def __init__(self, loopback: LoopbackExchange, url: str, market_type: str, **changes: Any) -> None:
        self.loopback, self.url, self.kind = loopback, url, market_type
        self.exchange: CcxtExchange = open_account(loopback, url, market_type, **changes)
        self.post, self.get, self.delete = (f"{method} {ORDER_PATHS[market_type]}" for method in ("POST", "GET", "DELETE"))
        self.trades, self.account = f"GET {TRADE_PATHS[market_type]}", f"GET {BALANCE_PATHS[market_type]}"

    def again(self, **changes: Any) -> Play:
        """The same account from a new process."""
        return Play(self.loopback, self.url, self.kind, **changes)

    def trades_made(self) -> int:
        return len(self.loopback.state(VENUES[self.kind])["trades"])

    def requests(self, endpoint: str) -> int:
        return sum(one.endpoint == endpoint for one in self.loopback.log)

    def never_resent(self) -> bool:
        return not self.loopback.resent()


@pytest.fixture(params=["spot", "swap"])
def play(request, serve) -> Play:
    return make_play(serve, request.param)


def make_play(
    serve: Callable[[World], tuple[LoopbackExchange, str]], kind: str, account: dict[str, Any] | None = None, **world: Any
) -> Play:
    panel = make_panel({pair: [QUIET] * 3 + [FALL] + [QUIET] * 3 for pair in PAIRS})
    rules = {pair: PairRules(pair, D("0.01"), D("0.001"), D(5), D("0.001")) for pair in PAIRS}
    settings = {"taker_frac": D("0.001"), "fee_in": FeeIn.QUOTE, **world}
    return Play(*serve(World(panel, T0, rules, **settings)), kind, **(account or {}))


# A lost answer.


@pytest.mark.parametrize("fault", TAKEN)
def test_an_order_whose_answer_was_lost_is_found_by_its_id_and_not_sent_again(play, fault):
    play.loopback.faults.next(play.post, fault)
    report = play.exchange.submit(order(), T0)
    assert (report.status, sum(fill.qty for fill in report.fills)) == (OrderStatus.FILLED, D(2))
    assert play.trades_made() == 1
    assert play.never_resent()


@pytest.mark.parametrize("fault", LOST)
def test_an_order_that_never_arrived_has_an_unknown_outcome_and_the_next_snapshot_does_not_know_it(play, fault):
    play.loopback.faults.next(play.post, fault)
    with pytest.raises(UnknownOutcomeError, match=r"market buy of 2 BTC/USDT \(o1\).*does not know it, yet"):
        play.exchange.submit(order(), T0)
    assert play.again().exchange.snapshot(T0, (order(),)).reports == {}
    assert play.trades_made() == 0
    assert play.requests(play.post) == 1


@pytest.mark.parametrize("fault", [*LOST, *TAKEN])
def test_an_order_that_cannot_be_looked_up_either_is_unknown_until_a_snapshot_tells(play, fault):
    play.loopback.faults.next(play.post, fault)
    play.loopback.faults.next(play.get, Fault.SERVER_ERROR, skip=1, times=2)
    with pytest.raises(UnknownOutcomeError, match="cannot be looked up"):
        play.exchange.submit(order(), T0)
    reports = play.again().exchange.snapshot(T0, (order(),)).reports
    assert ("o1" in reports) == (fault in TAKEN)
    assert all(report.status is OrderStatus.FILLED for report in reports.values())
    assert play.requests(play.post) == 1


def test_an_answer_that_takes_longer_than_the_time_out_is_a_lost_one(serve):
    play = make_play(serve, "spot", {"timeout_s": 0.2})
    play.loopback.faults.next(play.post, Fault.DELAY_AFTER, seconds=0.4)
    report = play.exchange.submit(order(), T0)
    assert report.status is OrderStatus.FILLED
    assert play.never_resent()


def test_an_exchange_that_cannot_be_reached_was_sent_nothing(play):
    closed = open_account(play.loopback, "http://127.0.0.1:9", play.kind)
    closed.client.markets = None
    with pytest.raises(RetryableError, match="markets: NetworkError"):
        closed.submit(order(), T0)


def test_an_order_that_could_not_be_sent_for_want_of_a_connection_may_be_sent_later(play):
    play.exchange.snapshot(T0, ())
    sending = play.exchange.client.create_order
    cut = open_account(play.loopback, "http://127.0.0.1:9", play.kind).client

    def unreachable(*args: Any) -> Any:
        play.exchange.client.session, kept = cut.session, play.exchange.client.session
        try:
            return sending(*args)
        finally:
            play.exchange.client.session = kept

    play.exchange.client.create_order = unreachable
    with pytest.raises(RetryableError) as caught:
        play.exchange.submit(order(), T0)
    assert not isinstance(caught.value, UnknownOutcomeError)
    play.exchange.client.create_order = sending
    assert play.exchange.submit(order(), T0).status is OrderStatus.FILLED
    assert play.trades_made() == 1


def test_an_order_that_was_sent_before_is_reported_by_a_new_process_even_after_it_has_filled(play):
    """Binance holds ids unique among open orders only: it would take the same market order again."""
    first = play.exchange.submit(order(), T0)
    assert play.again().exchange.submit(order(), T0) == first
    assert play.trades_made() == 1


def test_a_duplicate_that_the_exchange_reports_is_the_order_itself(play):
    play.loopback.faults.next(play.post, Fault.DUPLICATE_ID)
    report = play.exchange.submit(order(limit_price=95), T0)
    assert (report.client_order_id, report.status) == ("o1", OrderStatus.OPEN)
    assert play.requests(play.post) == 1


def test_a_duplicate_stop_is_the_stop_itself(play):
    play.exchange.submit(order(), T0)
    stop = order(Side.SELL, order_id="s1", stop_price=90, reduce_only=True)
    endpoint = play.post if play.kind == "spot" else "POST /fapi/v1/algoOrder"
    play.loopback.faults.next(endpoint, Fault.DUPLICATE_ID)
    assert play.exchange.submit(stop, T0).status is OrderStatus.OPEN


def test_an_order_accepted_whose_trades_cannot_be_read_is_open_and_the_next_snapshot_books_it(play):
    play.loopback.faults.next(play.trades, Fault.SERVER_ERROR, times=2)
    report = play.exchange.submit(order(), T0)
    assert (report.status, report.fills) == (OrderStatus.OPEN, ())
    assert "accepted; its fills cannot be read yet" in report.message
    later = play.exchange.snapshot(T0, (order(),)).reports["o1"]
    assert (later.status, len(later.fills)) == (OrderStatus.FILLED, 1)


def test_an_order_is_not_final_before_its_trades_add_up(play):
    play.loopback.faults.always(play.trades, Fault.VANISHED)
    report = play.exchange.submit(order(), T0)
    assert (report.status, report.fills) == (OrderStatus.OPEN, ())
    assert report.message == "2 are filled, the trades told so far add up to 0"
    play.loopback.faults.clear()
    assert play.exchange.snapshot(T0, (order(),)).reports["o1"].status is OrderStatus.FILLED


def test_a_market_order_that_found_half_is_final_with_its_half(play):
    play.loopback.faults.next(play.post, Fault.PARTIAL, share="0.5")
    report = play.exchange.submit(order(), T0)
    assert report.status in (OrderStatus.EXPIRED, OrderStatus.CANCELED)
    assert [fill.qty for fill in report.fills] == [D(1)]


# Refusals.


def test_a_rate_limit_says_until_when_and_nothing_was_sent(play):
    play.loopback.faults.next(play.post, Fault.RATE_LIMIT, retry_after=7)
    with pytest.raises(RateLimitedError, match=r"o1.*DDoSProtection") as caught:
        play.exchange.submit(order(), T0)
    assert caught.value.retry_at == T0 + timedelta(seconds=7)
    assert play.trades_made() == 0


def test_a_ban_closes_the_shared_budget_to_everybody(serve):
    budget = MemoryWeightBudget(WeightLimits(6000))
    play = make_play(serve, "spot", {"purse": WeightPurse(budget, 100)})
    play.loopback.faults.next(play.account, Fault.BANNED, retry_after=120)
    with pytest.raises(RateLimitedError, match="limits our requests until"):
        play.exchange.snapshot(T0, ())
    asked = len(play.loopback.log)
    with pytest.raises(RateLimitedError):
        play.exchange.submit(order(), T0)
    assert len(play.loopback.log) == asked
    assert budget.state.blocked_until_ms == T0.timestamp() * 1000 + 120_000


def test_requests_are_paid_from_the_shared_budget_at_the_exchanges_own_weights(serve):
    budget = MemoryWeightBudget(WeightLimits(6000))
    purse = WeightPurse(budget, 1)
    play = make_play(serve, "spot", {"purse": purse})
    assert weight_per_min(play.exchange.client) == 6000
    play.exchange.snapshot(T0, ())
    purse.close(T0)
    told = sum(
        one.params is not None and {"time": 1, "exchangeInfo": 20, "account": 20}[one.endpoint.rpartition("/")[2]]
        for one in play.loopback.log
    )
    assert sum(block.weight for block in budget.state.blocks) == told == 41


@pytest.mark.parametrize(
    ("code", "msg"),
    [
        (-1013, "Filter failure: LOT_SIZE"),
        (-1013, "Filter failure: NOTIONAL"),
        (-2010, "Account has insufficient balance for requested action."),
        (-2010, "This symbol is not permitted for this account."),
        (-2010, "This account may not place or cancel orders."),
        (-1013, "Market is closed."),
        (-1111, "Precision is over the maximum defined for this asset."),
        (-9999, "A code that nobody knows."),
    ],
)
def test_what_the_exchange_refuses_is_rejected_in_its_words(serve, code, msg):
    play = make_play(serve, "spot")
    play.loopback.faults.next(play.post, Fault.REFUSED, code=code, msg=msg)
    with pytest.raises(OrderRejectedError, match=r"market buy of 2 BTC/USDT \(o1\)") as refused:
        play.exchange.submit(order(), T0)
    assert isinstance(refused.value, MarketClosedError) == (msg == "Market is closed."), "of this pair nothing is ordered for a while"
    assert play.requests(play.post) == 1


def test_an_exit_that_reduces_nothing_is_rejected(serve):
    play = make_play(serve, "swap")
    with pytest.raises(OrderRejectedError, match="ReduceOnly"):
        play.exchange.submit(order(Side.SELL, reduce_only=True), T0)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"qty": "0.0015"}, "qty 0.0015 is not a multiple of 0.001"),
        ({"qty": "0"}, "qty 0 is not a multiple"),
        ({"limit_price": "95.123"}, "limit_price 95.123 is not a multiple of 0.01"),
        ({"side": Side.SELL, "stop_price": "95.123"}, "stop_price 95.123 is not a multiple of 0.01"),
        ({"pair": "NEW/USDT"}, "NEW/USDT: binance has no such market in USDT"),
    ],
)
def test_an_order_that_ccxt_would_change_is_refused_before_it_is_sent(play, changes, why):
    with pytest.raises(OrderRejectedError, match=why):
        play.exchange.submit(order(**changes), T0)
    assert play.requests(play.post) == 0


def test_a_closed_market_is_refused_alone(play):
    play.loopback.set_status(VENUES[play.kind], "ETH/USDT", "BREAK")
    with pytest.raises(OrderRejectedError, match="ETH/USDT"):
        play.exchange.submit(order(pair="ETH/USDT"), T0)
    assert play.exchange.submit(order(order_id="o2"), T0).status is OrderStatus.FILLED


def test_a_market_that_closes_while_a_process_lives_is_closed_and_no_stop_that_would_trigger(play):
    play.exchange.submit(order(), T0)
    play.loopback.set_status(VENUES[play.kind], PAIR, "BREAK")
    with pytest.raises(MarketClosedError):
        play.exchange.submit(order(Side.SELL, order_id="s1", stop_price="90", reduce_only=True), T0)


# The account.


def test_a_revoked_key_stops_everything_and_is_named_by_its_secret_alone(play):
    play.exchange.snapshot(T0, ())
    play.loopback.set_key_works(VENUES[play.kind], works=False)
    for act in (
        lambda: play.exchange.snapshot(T0, ()),
        lambda: play.exchange.submit(order(), T0),
        lambda: play.exchange.cancel(order(), T0),
    ):
        with pytest.raises(AccountError, match=r"-2015.*the keys are those of secret 'desk/keys'") as caught:
            act()
        assert play.loopback.world.key not in str(caught.value)
        assert play.loopback.world.secret not in repr(caught.value.__context__)


def test_a_key_revoked_between_look_up_and_order_leaves_the_order_unsent(play):
    play.loopback.faults.next(play.post, Fault.REVOKED_KEY)
    with pytest.raises(AccountError, match="secret 'desk/keys'"):
        play.exchange.submit(order(), T0)
    assert play.trades_made() == 0


@pytest.mark.parametrize(("skew_ms", "how"), [(90_000, "90.0 s ahead of"), (-90_000, "90.0 s behind")])
def test_a_clock_that_is_off_trades_nothing(play, skew_ms, how):
    play.loopback.set_skew(skew_ms)
    for act in (lambda: play.exchange.snapshot(T0, ()), lambda: play.exchange.submit(order(), T0)):
        with pytest.raises(AccountError, match=f"its clock is {how} ours, at most 1 s: nothing is traded"):
            act()
    assert play.requests(play.post) == play.requests(play.account) == 0


def test_a_clock_within_the_limit_trades(serve):
    play = make_play(serve, "spot", timestamps=Timestamps.MARKET)
    play.loopback.set_skew(-900)
    assert play.exchange.submit(order(), T0).status is OrderStatus.FILLED


def test_a_time_stamp_that_the_exchange_refuses_is_the_clock_and_nothing_was_sent(play):
    play.loopback.faults.next(play.post, Fault.CLOCK_SKEW)
    with pytest.raises(AccountError, match=r"-1021.*is our clock right"):
        play.exchange.submit(order(), T0)
    assert play.trades_made() == 0


def test_no_request_is_made_that_could_outlast_the_function(play):
    left = [20.0]
    tight = play.again(time_left_s=lambda: left[0])
    tight.exchange.snapshot(T0, ())
    assert tight.exchange.client.timeout == 2000
    left[0] = 1.2
    tight.exchange.snapshot(T0, ())
    assert tight.exchange.client.timeout == 700
    left[0] = 0.6
    asked = len(play.loopback.log)
    for act in (
        lambda: tight.exchange.snapshot(T0, ()),
        lambda: tight.exchange.submit(order(), T0),
        lambda: tight.exchange.cancel(order(), T0),
    ):
        with pytest.raises(RetryableError, match=r"not asked: 0\.6 s are left of this function's time"):
            act()
    assert len(play.loopback.log) == asked


# Answers that make no sense.


@pytest.mark.parametrize("fault", [Fault.TRUNCATED, Fault.MALFORMED, Fault.NAN, Fault.SERVER_ERROR, Fault.CUT_AFTER])
def test_a_snapshot_asks_again_once_and_then_gives_up_without_a_guess(play, fault):
    play.loopback.faults.next(play.account, fault)
    assert play.exchange.snapshot(T0, ()).balances["USDT"] == D(10_000)
    play.loopback.faults.next(play.account, fault, times=2)
    with pytest.raises(RetryableError, match=r"binance: (balances|positions): "):
        play.exchange.snapshot(T0, ())


@pytest.mark.parametrize(
    ("path", "field", "says"),
    [
        ("get", "executedQty", "order.executedQty is missing"),
        ("get", "status", "order.status: None is unknown"),
        ("get", "orderId", "order.id: None is not an id"),
        ("get", "clientOrderId", "order.clientOrderId: None is not 'o1'"),
        ("get", "side", "order.side: None is not 'buy'"),
        ("trades", "orderId", "trade.order is missing"),
        ("trades", "price", "trade.price is missing"),
        ("trades", "qty", "trade.amount is missing"),
        ("trades", "id", "trade.id: None is not an id"),
        ("trades", "commission", "trade.commission is missing"),
    ],
)
def test_an_answer_that_lacks_a_field_is_refused_by_the_fields_name(play, path, field, says):
    play.exchange.submit(order(), T0)
    play.loopback.faults.always(getattr(play, path), Fault.MISSING, name=field)
    with pytest.raises(RetryableError, match=f"o1.*malformed answer: ValueError: {says}"):
        play.exchange.snapshot(T0, (order(),))


@pytest.mark.parametrize(("kind", "field"), [("spot", "asset"), ("spot", "balances"), ("swap", "asset"), ("swap", "assets")])
def test_balances_that_leave_out_the_stake_currency_are_no_withdrawal_of_all_cash(serve, kind, field):
    play = make_play(serve, kind)
    play.loopback.faults.always(play.account, Fault.MISSING, name=field)
    with pytest.raises(RetryableError, match=r"malformed answer: ValueError: balance\.USDT is missing"):
        play.exchange.snapshot(T0, ())


def test_an_answer_about_another_pair_is_refused(play):
    play.exchange.submit(order(), T0)
    play.loopback.faults.always(play.get, Fault.WRONG_PAIR, pair="ETHUSDT")
    with pytest.raises(RetryableError, match=r"order\.symbol: 'ETHUSDT' is not 'BTCUSDT'"):
        play.exchange.snapshot(T0, (order(),))


@pytest.mark.parametrize(("fault", "arguments"), [(Fault.WRONG_PAIR, {"pair": "ETHUSDT"}), (Fault.VANISHED, {})])
def test_trades_that_are_not_the_orders_leave_it_open_rather_than_unfilled(play, fault, arguments):
    play.exchange.submit(order(), T0)
    play.loopback.faults.always(play.trades, fault, **arguments)
    report = play.exchange.snapshot(T0, (order(),)).reports["o1"]
    assert (report.status, report.fills) == (OrderStatus.OPEN, ())


def test_a_list_of_markets_that_makes_no_sense_is_asked_for_again(play):
    play.loopback.faults.next("GET */exchangeInfo", Fault.WRONG_PAIR)
    assert play.exchange.submit(order(), T0).status is OrderStatus.FILLED
    other = play.again()
    play.loopback.faults.always("GET */exchangeInfo", Fault.WRONG_PAIR)
    with pytest.raises(RetryableError, match="markets: malformed answer: ValueError: two markets have the same id"):
        other.exchange.submit(order(order_id="o2"), T0)


def test_a_list_of_markets_without_their_assets_is_not_kept(play):
    play.exchange.submit(order(), T0)
    other = play.again()
    play.loopback.faults.always("GET */exchangeInfo", Fault.MISSING, name="baseAsset")
    with pytest.raises(RetryableError, match=r"markets: malformed answer: ValueError: .*: baseAsset is missing"):
        other.exchange.snapshot(T0, (order(),))
    play.loopback.faults.clear()
    assert other.exchange.snapshot(T0, (order(),)).reports["o1"].status is OrderStatus.FILLED


@pytest.mark.parametrize("name", ["status", "filters", "orderTypes"])
def test_a_list_of_markets_that_does_not_say_what_trades_how_is_not_kept(play, name):
    """ccxt takes a missing status for a closed market, of every pair, and missing filters for none."""
    play.loopback.faults.always("GET */exchangeInfo", Fault.MISSING, name=name)
    with pytest.raises(RetryableError, match=rf"markets: malformed answer: ValueError: .*: {name} is missing"):
        play.exchange.snapshot(T0, ())
    play.loopback.faults.clear()
    assert play.exchange.submit(order(), T0).status is OrderStatus.FILLED


def test_a_list_of_markets_whose_steps_are_no_numbers_is_not_kept(play):
    play.loopback.faults.always("GET */exchangeInfo", Fault.NAN)
    with pytest.raises(RetryableError, match=r"markets: .*(BadResponse|malformed answer)"):
        play.exchange.snapshot(T0, ())
    play.loopback.faults.clear()
    assert play.exchange.submit(order(), T0).status is OrderStatus.FILLED


def test_a_process_that_lives_long_learns_of_other_steps(play):
    play.exchange.submit(order(), T0)
    rules = play.loopback.world.rules
    rules[PAIR] = replace(rules[PAIR], qty_step=D("0.1"), min_qty=D("0.1"))
    play.loopback.set_time(at(4))
    play.exchange.snapshot(at(4), ())
    with pytest.raises(OrderRejectedError, match=r"qty 0\.125 is not a multiple of 0\.1"):
        play.exchange.submit(order(qty="0.125", order_id="o2", tick=4), at(4))
    assert play.exchange.submit(order(qty="0.3", order_id="o3", tick=4), at(4)).status is OrderStatus.FILLED


@pytest.mark.parametrize(("fault", "arguments"), [(Fault.MISSING, {"name": "status"}), (Fault.SERVER_ERROR, {}), (Fault.WRONG_PAIR, {})])
def test_markets_that_cannot_be_read_anew_are_those_of_before(play, fault, arguments):
    play.exchange.submit(order(), T0)
    before = play.exchange.rules()
    play.loopback.faults.always("GET */exchangeInfo", fault, **arguments)
    for bar in (4, 5):
        play.loopback.set_time(at(bar))
        assert play.exchange.snapshot(at(bar), (order(),)).reports["o1"].status is OrderStatus.FILLED
        assert play.exchange.rules() == before
        assert play.exchange.submit(order(order_id=f"o{bar}", tick=bar), at(bar)).status is OrderStatus.FILLED
    assert play.loopback.faults.seen.total() == 4, "asked for twice, at each of two snapshots"


def test_numbers_as_strings_are_the_same_numbers(play):
    expected = play.exchange.submit(order(), T0)
    play.loopback.faults.always("*", Fault.STRINGS)
    other = play.again().exchange
    assert other.snapshot(T0, (order(),)).reports == {"o1": expected}
    assert other.submit(order(order_id="o2"), T0).status is OrderStatus.FILLED


def test_trades_of_an_order_that_is_not_ours_are_left_alone(play):
    play.exchange.submit(order(order_id="somebody"), T0)
    report = play.exchange.submit(order(), T0)
    assert [fill.client_order_id for fill in report.fills] == ["o1"]
    assert play.exchange.snapshot(T0, (order(),)).balances["BTC"] == D(4)


def test_what_the_exchange_holds_beyond_the_ledger_shows_in_the_balances(serve):
    play = make_play(serve, "spot")
    play.loopback.move("spot", "ETH", D("1.5"))
    assert play.exchange.snapshot(T0, ()).balances == {"ETH": D("1.5"), "USDT": D(10_000)}


def test_a_pair_that_the_exchange_no_longer_lists_harms_no_other(play):
    play.exchange.submit(order(limit_price=95), T0)
    gone = order(order_id="o9", pair="GONE/USDT")
    reports = play.exchange.snapshot(T0, (gone, order(limit_price=95))).reports
    assert {name: report.status for name, report in reports.items()} == {"o9": OrderStatus.OPEN, "o1": OrderStatus.OPEN}
    assert "lists no market GONE/USDT now" in reports["o9"].message
    with pytest.raises(RetryableError, match="GONE/USDT"):
        play.exchange.cancel(gone, T0)


def test_an_order_of_which_the_exchange_refuses_to_speak_stays_open_and_harms_no_other(play, monkeypatch):
    play.exchange.submit(order(limit_price=95), T0)
    errors = importlib.import_module("ccxt.base.errors")
    ask = play.exchange.client.fetch_order

    def refuse(exchange_id: Any, symbol: str, params: Any) -> Any:
        if symbol.startswith("ETH"):
            raise errors.BadRequest('binance {"code":-1100,"msg":"Illegal characters found in a parameter."}')
        return ask(exchange_id, symbol, params)

    monkeypatch.setattr(play.exchange.client, "fetch_order", refuse)
    mute = order(order_id="o9", pair="ETH/USDT")
    reports = play.exchange.snapshot(T0, (mute, order(limit_price=95))).reports
    assert {name: report.status for name, report in reports.items()} == {"o9": OrderStatus.OPEN, "o1": OrderStatus.OPEN}
    assert reports["o9"].message.startswith("cannot be looked up: ")
    assert "Illegal characters" in reports["o9"].message


def test_an_order_that_binance_has_archived_is_one_that_it_does_not_know(play, monkeypatch):
    errors = importlib.import_module("ccxt.base.errors")

    def archived(*_: Any) -> Any:
        raise errors.InvalidOrder('binance {"code":-2026,"msg":"Order was canceled or expired over 90 days ago and has been archived."}')

    monkeypatch.setattr(play.exchange.client, "fetch_order", archived)
    assert play.exchange.snapshot(T0, (order(limit_price=95),)).reports == {}


def test_where_the_list_of_all_open_orders_is_refused_each_is_asked_for_by_itself(play, monkeypatch):
    limits = [order(order_id=f"l{n}", qty="0.1", limit_price=90 - n) for n in range(MANY)]
    for one in limits:
        play.exchange.submit(one, T0)
    errors, ask = importlib.import_module("ccxt.base.errors"), play.exchange.client.fetch_open_orders

    def refuse(symbol: str | None = None, *told: Any, **params: Any) -> Any:
        if symbol is None:
            raise errors.ArgumentsRequired("binance fetchOpenOrders() requires a symbol argument")
        return ask(symbol, *told, **params)

    monkeypatch.setattr(play.exchange.client, "fetch_open_orders", refuse)
    reports = play.exchange.snapshot(T0, limits).reports
    assert sorted(reports) == [f"l{n}" for n in range(MANY)]
    assert {(report.status, report.message) for report in reports.values()} == {(OrderStatus.OPEN, "")}


# Cancelling.


@pytest.mark.parametrize("fault", [Fault.CUT_AFTER, Fault.SERVER_ERROR_AFTER, Fault.MALFORMED])
def test_a_cancellation_whose_answer_was_lost_is_looked_up(play, fault):
    play.exchange.submit(order(limit_price=95), T0)
    play.loopback.faults.next(play.delete, fault)
    assert play.exchange.cancel(order(limit_price=95), T0).status is OrderStatus.CANCELED


@pytest.mark.parametrize("fault", LOST)
def test_a_cancellation_that_never_arrived_has_an_unknown_outcome(play, fault):
    play.exchange.submit(order(limit_price=95), T0)
    play.loopback.faults.next(play.delete, fault)
    with pytest.raises(UnknownOutcomeError, match=r"cancelling BTC/USDT \(o1\).*it is still open"):
        play.exchange.cancel(order(limit_price=95), T0)
    play.loopback.faults.next(play.delete, fault)
    play.loopback.faults.next(play.get, Fault.SERVER_ERROR, times=2)
    with pytest.raises(UnknownOutcomeError, match="cannot be looked up"):
        play.exchange.cancel(order(limit_price=95), T0)


def test_a_refused_cancellation_is_not_done(play):
    play.exchange.submit(order(limit_price=95), T0)
    play.loopback.faults.next(play.delete, Fault.RATE_LIMIT)
    with pytest.raises(RateLimitedError):
        play.exchange.cancel(order(limit_price=95), T0)
    assert play.exchange.snapshot(T0, (order(limit_price=95),)).reports["o1"].status is OrderStatus.OPEN


# Many orders, fees, contracts.


def test_many_resting_orders_are_asked_for_in_one_request(play):
    limits = [order(order_id=f"l{n}", qty="0.1", limit_price=90 - n) for n in range(MANY)]
    for one in limits:
        play.exchange.submit(one, T0)
    play.exchange.submit(order(order_id="b1", qty="1"), T0)
    stop = order(Side.SELL, qty="1", order_id="s1", stop_price=85, reduce_only=True)
    play.exchange.submit(stop, T0)
    asked = play.requests(play.get)
    reports = play.exchange.snapshot(T0, (*limits, stop)).reports
    assert {report.status for report in reports.values()} == {OrderStatus.OPEN}
    assert len(reports) == MANY + 1
    assert play.requests(play.get) == asked
    play.loopback.set_time(at(4))
    reports = play.exchange.snapshot(at(4), (*limits, stop)).reports
    assert [report.status for name, report in reports.items() if name in ("l0", "s1")] == [OrderStatus.FILLED] * 2


def test_a_list_without_an_order_is_no_proof_that_it_is_gone(play):
    limits = [order(order_id=f"l{n}", qty="0.1", limit_price=90 - n) for n in range(MANY)]
    for one in limits:
        play.exchange.submit(one, T0)
    play.loopback.faults.next(f"GET {ORDER_PATHS[play.kind].replace('order', 'openOrders')}", Fault.VANISHED)
    assert {report.status for report in play.exchange.snapshot(T0, limits).reports.values()} == {OrderStatus.OPEN}


@pytest.mark.parametrize("stop_price", [None, 90])
def test_an_order_that_was_taken_and_seems_unknown_is_looked_for_in_the_lists(play, stop_price):
    play.exchange.submit(order(order_id="b1"), T0)
    changes = {"limit_price": 110} if stop_price is None else {"stop_price": stop_price}
    one = order(Side.SELL, reduce_only=True, **changes)
    play.exchange.submit(one, T0)
    path = play.get if stop_price is None or play.kind == "spot" else "GET /fapi/v1/algoOrder"
    play.loopback.faults.always(path, Fault.VANISHED)
    reports = play.exchange.snapshot(T0, (one, order(order_id="never"))).reports
    assert {name: report.status for name, report in reports.items()} == {"o1": OrderStatus.OPEN}


@pytest.mark.parametrize("kind", ["spot", "swap"])
def test_a_fee_in_a_third_asset_is_valued_at_its_price_and_kept_as_charged(serve, kind):
    play = make_play(serve, kind, fee_in=FeeIn.BNB, spot={"USDT": D(1000), "BNB": D(5)}, futures={"USDT": D(1000), "BNB": D(5)})
    (fill,) = play.exchange.submit(order(), T0).fills
    assert (fill.fee_asset, fill.fee_qty, fill.fee) == ("BNB", D("0.002"), D("0.2"))


def test_a_fee_in_base_is_valued_at_the_fills_price(serve):
    play = make_play(serve, "spot", fee_in=FeeIn.RECEIVED, trades_per_fill=3)
    fills = play.exchange.submit(order(), T0).fills
    assert len(fills) == 3
    assert {fill.fee_asset for fill in fills} == {"BTC"}
    assert sum(fill.fee_qty for fill in fills) == D("0.002")
    assert sum(fill.fee for fill in fills) == D("0.2")
    assert play.exchange.snapshot(T0, ()).balances["BTC"] == D("1.998")


def test_an_order_that_filled_in_hundreds_of_trades_has_all_of_them(play):
    play.loopback.world = replace(play.loopback.world, trades_per_fill=250)
    for venue in play.loopback.venues.values():
        venue.world = play.loopback.world
    report = play.exchange.submit(order(), T0)
    assert report.status is OrderStatus.FILLED
    assert len({fill.fill_id for fill in report.fills}) == len(report.fills) == 250
    assert sum(fill.qty for fill in report.fills) == D(2)


def test_margin_and_leverage_are_set_once_before_the_first_order_that_opens(serve):
    play = make_play(serve, "swap", {"leverage": 3, "margin_mode": "cross"})
    play.exchange.submit(order(), T0)
    play.exchange.submit(order(order_id="o2"), T0)
    told = [(one.endpoint.rpartition("/")[2], one.params.get("leverage") or one.params.get("marginType")) for one in play.loopback.log]
    assert [one for one in told if one[0] in ("marginType", "leverage")] == [("marginType", "CROSSED"), ("leverage", "3")]
    again = play.again(leverage=3, margin_mode="cross")
    assert again.exchange.submit(order(Side.SELL, order_id="o3", reduce_only=True), T0).status is OrderStatus.FILLED
    assert play.requests("POST /fapi/v1/leverage") == 1


def test_nothing_is_opened_with_other_leverage_than_the_settings_say(serve):
    play = make_play(serve, "swap", {"leverage": 3})
    play.loopback.faults.next("POST /fapi/v1/leverage", Fault.REFUSED, code=-4028, msg="Leverage 3 is not valid")
    with pytest.raises(OrderRejectedError, match="nothing is opened with other margin than the settings say"):
        play.exchange.submit(order(), T0)
    assert play.requests(play.post) == 0


def test_a_contract_accounts_cash_is_what_the_same_trades_would_have_left_on_spot(serve):
    play = make_play(serve, "swap", {"leverage": 5}, taker_frac=D(0))
    play.exchange.submit(order(), T0)
    play.loopback.set_time(at(1))
    assert play.exchange.snapshot(at(1), ()).balances == {"BTC": D(2), "USDT": D(9800)}
    play.exchange.submit(order(Side.SELL, qty="1", order_id="o2", tick=1, reduce_only=True), at(1))
    assert play.exchange.snapshot(at(1), ()).balances == {"BTC": D(1), "USDT": D(9900)}


def test_stops_are_supported_where_the_market_takes_them(play):
    assert play.exchange.supports_stops(PAIR)
    assert not play.exchange.supports_stops("GONE/USDT")
    symbol = PAIR if play.kind == "spot" else f"{PAIR}:USDT"
    play.exchange.client.markets[symbol]["info"]["orderTypes"] = ["LIMIT", "MARKET"]
    assert not play.exchange.supports_stops(PAIR)
    with pytest.raises(OrderRejectedError, match="no stop can rest at binance"):
        play.exchange.submit(order(Side.SELL, stop_price=90), T0)


def test_where_only_stop_limits_rest_the_limit_lies_below_the_stop(serve):
    play = make_play(serve, "spot")
    play.exchange.submit(order(), T0)
    play.exchange.client.markets[PAIR]["info"]["orderTypes"] = ["LIMIT", "MARKET", "STOP_LOSS_LIMIT"]
    stop = order(Side.SELL, order_id="s1", stop_price="90.55", reduce_only=True)
    assert play.exchange.submit(stop, T0).status is OrderStatus.OPEN
    sent = play.loopback.log[-1].params
    assert (sent["type"], D(sent["stopPrice"]), D(sent["price"]), D(sent["quantity"])) == ("STOP_LOSS_LIMIT", D("90.55"), D("89.64"), D(2))


def test_filters_are_told_in_base_units(play):
    symbol = PAIR if play.kind == "spot" else f"{PAIR}:USDT"
    rules = play.exchange.rules()[symbol]
    assert (rules.qty_step, rules.price_step, rules.min_notional, rules.active) == (D("0.001"), D("0.01"), D(5), True)


def test_a_fee_asset_without_a_market_costs_what_the_market_takes(serve):
    play = make_play(serve, "spot", fee_in=FeeIn.BNB, spot={"USDT": D(1000), "BNB": D(5)})
    play.exchange.snapshot(T0, ())
    play.exchange._markets.all().pop("BNB/USDT")
    (fill,) = play.exchange.submit(order(), T0).fills
    assert (fill.fee_asset, fill.fee_qty, fill.fee) == ("BNB", D("0.002"), D("0.2"))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_under_random_faults_every_order_ends_as_the_exchange_has_it_and_none_is_sent_twice(play, seed):
    """An order is sent again only where the error says that it was not accepted."""
    kinds = [
        *LOST,
        *TAKEN,
        Fault.RATE_LIMIT,
        Fault.BANNED,
        Fault.REVOKED_KEY,
        Fault.CLOCK_SKEW,
        Fault.STRINGS,
        Fault.PARTIAL,
        Fault.DUPLICATE_ID,
    ]
    play.loopback.faults.random(seed, dict.fromkeys(kinds, 0.02))
    orders = [order(order_id=f"r{n}", qty="0.1", **({"limit_price": 90 + n % 20} if n % 2 else {})) for n in range(40)]
    rejected = set()
    for one in orders:
        for _ in range(4):
            try:
                play.exchange.submit(one, T0)
            except UnknownOutcomeError:
                pass
            except OrderRejectedError:
                rejected.add(one.client_order_id)
            except (RetryableError, AccountError):
                continue
            break
    play.loopback.faults.clear()
    reports = play.again().exchange.snapshot(T0, orders).reports
    state = play.loopback.state(VENUES[play.kind])
    assert reports.keys() == {told["client_id"] for told in state["orders"]}
    assert rejected.isdisjoint(reports)
    filled = {told["client_id"]: D(told["filled"]) for told in state["orders"]}
    assert {name: sum((fill.qty for fill in report.fills), D(0)) for name, report in reports.items()} == filled
    assert {name for name, report in reports.items() if not report.status.is_final} == set(state["open"])
    assert len({fill.fill_id for report in reports.values() for fill in report.fills}) == len(state["trades"])
    assert play.never_resent()


def test_every_error_is_one_of_ours(play):
    """Whatever single fault strikes whichever request: only the port's errors come out, and the order is sent once at most."""
    faults = [one for one in Fault if one not in (Fault.DELAY_BEFORE, Fault.DELAY_AFTER, Fault.MISSING, Fault.REFUSED, Fault.DUPLICATE_ID)]
    for n, fault in enumerate(faults):
        for skip in range(6):
            account = play.again()
            account.loopback.faults.next(f"* {ORDER_PATHS[play.kind]}" if fault is Fault.VANISHED else "*", fault, skip=skip)
            one = order(order_id=f"f{n}x{skip}", qty="0.1")
            for act in (lambda a=account, o=one: a.exchange.submit(o, T0), lambda a=account, o=one: a.exchange.snapshot(T0, (o,))):
                with suppress(AccountError, OrderRejectedError, RetryableError, UnknownOutcomeError):
                    act()
            account.loopback.faults.clear()
    assert max(play.loopback.orders_sent().values()) == 1
    assert play.never_resent()
