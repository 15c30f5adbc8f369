"""The account at Roostoo over real HTTP: names that the exchange does not keep, answers that are lost, numbers that lie."""

from __future__ import annotations

import dataclasses
import http.client
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import pytest
from desk_values import T0, TABLE, TABLES
from roostoo_loopback import CUT_AFTER, CUT_BEFORE, KEY, SECRET, TRUNCATED, Roostoo, serving

from tickless.adapters.dynamodb_sent import DynamoDbSentStore
from tickless.adapters.memory import ManualClock
from tickless.adapters.roostoo_client import RoostooClient, sign
from tickless.adapters.roostoo_exchange import RoostooExchange
from tickless.adapters.roostoo_sent import MemorySentStore, SentStore
from tickless.adapters.secrets import ApiKeys
from tickless.adapters.weight_budget import MemoryWeightBudget, WeightLimits, WeightPurse
from tickless.errors import (
    AccountError,
    ExchangeError,
    LedgerError,
    MarketClosedError,
    OrderRejectedError,
    RateLimitedError,
    RetryableError,
    UnknownOutcomeError,
)
from tickless.types import Liquidity, Order, OrderStatus, OrderType, RestingStops, Side, from_ms, to_ms

D = Decimal
PLACE, QUERY, CANCEL, BALANCE, TIME = "/v3/place_order", "/v3/query_order", "/v3/cancel_order", "/v3/balance", "/v3/serverTime"
KEYS = ApiKeys("tickless/roostoo", KEY, SECRET)


@pytest.fixture(scope="module")
def server() -> Iterator[Roostoo]:
    with serving(Roostoo(ManualClock(T0))) as running:
        yield running


@pytest.fixture
def roostoo(server: Roostoo) -> Roostoo:
    fresh = Roostoo(ManualClock(T0 + timedelta(seconds=3)))
    for name in ("clock", "skew_s", "price", "fee_in_coin", "faults", "requests", "orders", "wallet", "wallet_name", "next_id", "bodies"):
        setattr(server, name, getattr(fresh, name))
    return server


@pytest.fixture(params=["memory", *TABLES])
def store(request: pytest.FixtureRequest) -> SentStore:
    return MemorySentStore() if request.param == "memory" else DynamoDbSentStore(TABLE, request.getfixturevalue(request.param))


def account(roostoo: Roostoo, store: SentStore, purse: WeightPurse | None = None, **options: Any) -> RoostooExchange:
    """As a new process opens it."""
    client = RoostooClient(KEYS, base_url=roostoo.url, purse=purse, now=roostoo.clock.now, **options)
    return RoostooExchange(client, store, "USD", now=roostoo.clock.now, sleep=roostoo.clock.sleep)


def order(name: str = "o-1", side: Side = Side.BUY, qty: str = "0.5", limit: str | None = None, pair: str = "BTC/USD") -> Order:
    price = None if limit is None else D(limit)
    kind = OrderType.MARKET if price is None else OrderType.LIMIT
    return Order(name, T0, "rotation", pair, side, kind, D(qty), "entry", price, reduce_only=side is Side.SELL)


# The way things should go.


def test_a_market_order_is_one_fill_with_its_fee(roostoo: Roostoo, store: SentStore) -> None:
    report = account(roostoo, store).submit(order(), T0)
    assert report.status is OrderStatus.FILLED
    (fill,) = report.fills
    assert (fill.fill_id, fill.client_order_id, fill.qty, fill.price) == ("81", "o-1", D("0.5"), D("8149.07"))
    assert (fill.fee, fill.fee_asset, fill.fee_qty, fill.liquidity) == (D("4.074535"), "USD", D("4.074535"), Liquidity.TAKER)
    assert to_ms(fill.filled_at) == roostoo.now_ms + 40
    assert roostoo.bodies == [f"pair=BTC/USD&quantity=0.5&side=BUY&timestamp={roostoo.now_ms}&type=MARKET"]


def test_a_fee_in_the_coin_is_valued_at_the_price_of_the_fill(roostoo: Roostoo, store: SentStore) -> None:
    roostoo.fee_in_coin = True
    (fill,) = account(roostoo, store).submit(order(), T0).fills
    assert (fill.fee_asset, fill.fee_qty, fill.fee) == ("BTC", D("0.0005"), D("4.074535"))


def test_a_limit_order_rests_is_found_again_and_fills(roostoo: Roostoo, store: SentStore) -> None:
    resting = order(limit="7893.10", qty="0.50")
    report = account(roostoo, store).submit(resting, T0)
    assert (report.status, report.fills) == (OrderStatus.OPEN, ())
    assert "price=7893.1&quantity=0.5&" in roostoo.bodies[0]
    assert account(roostoo, store).snapshot(T0, [resting]).reports["o-1"].status is OrderStatus.OPEN
    roostoo.fill(roostoo.orders[0])
    snapshot = account(roostoo, store).snapshot(T0, [resting])
    (fill,) = snapshot.reports["o-1"].fills
    assert (fill.qty, fill.price, fill.liquidity) == (D("0.5"), D("7893.10"), Liquidity.MAKER)
    assert snapshot.balances == {"USD": D(50_000), "BTC": D(2)}


@pytest.mark.parametrize("name", ["Wallet", "SpotWallet"])
def test_both_names_of_the_wallet(roostoo: Roostoo, store: SentStore, name: str) -> None:
    roostoo.wallet_name = name
    assert account(roostoo, store).snapshot(T0, []).balances["BTC"] == 2
    assert roostoo.requests == [TIME, BALANCE]


def test_what_was_never_sent_is_not_asked_for(roostoo: Roostoo, store: SentStore) -> None:
    assert account(roostoo, store).snapshot(T0, [order()]).reports == {}
    assert roostoo.requests == [TIME, BALANCE]


def test_a_second_submission_reports_the_first(roostoo: Roostoo, store: SentStore) -> None:
    exchange = account(roostoo, store)
    first = exchange.submit(order(), T0)
    assert exchange.submit(order(), T0) == first
    assert account(roostoo, store).submit(order(), T0) == first
    assert len(roostoo.orders) == 1


def test_an_order_costs_one_request_and_one_write(roostoo: Roostoo, dynamodb: Any, calls: list[str]) -> None:
    exchange = account(roostoo, DynamoDbSentStore(TABLE, dynamodb))
    exchange.snapshot(T0, [])
    exchange.rules()
    exchange.submit(order("o-1"), T0)
    calls.clear()
    roostoo.requests.clear()
    for n in range(2, 7):
        exchange.submit(order(f"o-{n}", qty=f"0.{n}"), T0)
    assert roostoo.requests == [PLACE] * 5
    assert calls == ["PutItem"] * 5
    exchange.close()
    assert calls == ["PutItem"] * 6


# Answers that are lost.


@pytest.mark.parametrize("fault", [CUT_AFTER, TRUNCATED])
def test_a_lost_answer_is_settled_by_looking(roostoo: Roostoo, store: SentStore, fault: str) -> None:
    roostoo.faults[PLACE] = [fault]
    report = account(roostoo, store).submit(order(), T0)
    assert (report.status, report.fills[0].fill_id) == (OrderStatus.FILLED, "81")
    assert (len(roostoo.orders), roostoo.count(PLACE)) == (1, 1)


@pytest.mark.parametrize("answer", [(502, "bad gateway"), (200, "<html>"), (200, '{"Success": NaN}'), (200, "[]"), (302, ""), (200, "{}")])
def test_an_answer_that_says_nothing_leaves_the_outcome_unknown_and_never_sends_again(
    roostoo: Roostoo, store: SentStore, answer: tuple[int, str]
) -> None:
    roostoo.faults[PLACE] = [answer]
    with pytest.raises(UnknownOutcomeError, match="may still be on its way"):
        account(roostoo, store).submit(order(), T0)
    with pytest.raises(UnknownOutcomeError):
        account(roostoo, store).submit(order(), T0)
    early = account(roostoo, store).snapshot(T0, [order()]).reports["o-1"]
    assert (early.status, early.fills) == (OrderStatus.OPEN, ())
    assert "may still be on its way" in early.message
    roostoo.clock.sleep(66)
    unknown = dataclasses.replace(order(), status=OrderStatus.UNKNOWN)
    finder = account(roostoo, store)
    assert finder.snapshot(T0, [unknown]).reports == {}
    finder.close()
    with pytest.raises(RetryableError, match="never arrived"):
        account(roostoo, store).submit(unknown, T0)
    assert (roostoo.orders, roostoo.count(PLACE)) == ([], 1)


# A process that dies between the note of an order and its answer.


def die_after_the_note(roostoo: Roostoo, store: SentStore) -> Callable[[], tuple[int, str]]:
    """Write an order down and die before it is sent; gives what would send it all the same, as whoever still holds the request would."""
    dying = account(roostoo, store)

    def die(*_: Any) -> Any:
        raise KeyboardInterrupt

    dying.client.place = die  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        dying.submit(order(), T0)
    stamp = to_ms(roostoo.clock.now())
    text, signature = sign(SECRET, {"pair": "BTC/USD", "quantity": "0.5", "side": "BUY", "type": "MARKET", "timestamp": str(stamp)})

    def send_late() -> tuple[int, str]:
        connection = http.client.HTTPConnection(urlsplit(roostoo.url).netloc, timeout=5)
        headers = {"RST-API-KEY": KEY, "MSG-SIGNATURE": signature, "Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", PLACE, text, headers)
        answer = connection.getresponse()
        told = answer.status, answer.read().decode()
        connection.close()
        return told

    return send_late


@pytest.mark.parametrize("looks", [True, False])
def test_an_intent_that_never_arrived_is_sent_once_it_can_arrive_no_more(roostoo: Roostoo, store: SentStore, looks: bool) -> None:
    """A retry comes a minute later; the few seconds that are then missing are waited for."""
    send_late = die_after_the_note(roostoo, store)
    noted_at = roostoo.clock.now()
    roostoo.clock.sleep(60.5)
    resumed = account(roostoo, store)
    if looks:
        assert resumed.snapshot(T0, [order()]).reports == {}
    assert resumed.submit(order(), T0).fills[0].fill_id == "81"
    assert timedelta(seconds=65) < roostoo.clock.now() - noted_at < timedelta(seconds=66)
    assert "timestamp is out of range" in send_late()[1]
    assert [row["OrderID"] for row in roostoo.orders] == [81]
    resumed.close()
    assert account(roostoo, store).submit(order(), T0).fills[0].fill_id == "81"
    assert len(roostoo.orders) == 1


@pytest.mark.parametrize("late_s", [0.0, 30.0, 59.9])
def test_a_request_that_arrives_before_it_is_too_old_is_found_and_not_sent_again(roostoo: Roostoo, store: SentStore, late_s: float) -> None:
    send_late = die_after_the_note(roostoo, store)
    roostoo.clock.sleep(late_s)
    assert '"Success":true' in send_late()[1]
    roostoo.clock.sleep(60.5 - late_s)
    resumed = account(roostoo, store)
    assert resumed.snapshot(T0, [order()]).reports["o-1"].fills[0].fill_id == "81"
    assert resumed.submit(order(), T0).fills[0].fill_id == "81"
    assert (len(roostoo.orders), roostoo.count(PLACE)) == (1, 1)


def test_a_request_that_arrives_while_it_is_waited_for_is_found(roostoo: Roostoo, store: SentStore) -> None:
    """The last moment at which the exchange takes it lies within the wait."""
    send_late = die_after_the_note(roostoo, store)
    roostoo.clock.sleep(59)
    resumed = account(roostoo, store)

    def sleep(seconds: float) -> None:
        roostoo.clock.sleep(1)
        assert '"Success":true' in send_late()[1]
        roostoo.clock.sleep(seconds - 1)

    resumed._sleep = sleep
    assert resumed.snapshot(T0, [order()]).reports["o-1"].fills[0].fill_id == "81"
    assert len(roostoo.orders) == 1


@pytest.mark.parametrize(("late_s", "time_left_s"), [(30.0, 900.0), (60.5, 15.0)])
def test_where_the_wait_is_too_long_an_intent_stays_open_until_the_next_tick(
    roostoo: Roostoo, store: SentStore, late_s: float, time_left_s: float
) -> None:
    die_after_the_note(roostoo, store)
    roostoo.clock.sleep(late_s)
    resumed = account(roostoo, store, time_left_s=lambda: time_left_s)
    report = resumed.snapshot(T0, [order()]).reports["o-1"]
    assert (report.status, report.fills) == (OrderStatus.OPEN, ())
    resumed.close()
    roostoo.clock.sleep(900)
    still_open = dataclasses.replace(order(), status=OrderStatus.OPEN)
    following = account(roostoo, store)
    assert following.snapshot(T0, [still_open]).reports == {}
    assert following.cancel(still_open, T0).status is OrderStatus.CANCELED
    assert roostoo.orders == []


def test_an_order_that_may_be_a_strangers_is_not_sent_again_however_late_it_is(roostoo: Roostoo, store: SentStore) -> None:
    die_after_the_note(roostoo, store)
    roostoo.add()
    roostoo.add()
    roostoo.clock.sleep(900)
    resumed = account(roostoo, store)
    assert resumed.snapshot(T0, [order()]).reports["o-1"].status is OrderStatus.OPEN
    with pytest.raises(UnknownOutcomeError, match="orders 82, 81"):
        resumed.submit(order(), T0)
    assert roostoo.count(PLACE) == 0


# Answers that come late, or are about something else.


def test_an_order_that_arrives_late_is_still_found(roostoo: Roostoo, store: SentStore) -> None:
    roostoo.faults[PLACE] = [CUT_BEFORE]
    with pytest.raises(UnknownOutcomeError):
        account(roostoo, store).submit(order(), T0)
    roostoo.clock.sleep(50)
    roostoo.add()
    roostoo.clock.sleep(900)
    assert account(roostoo, store).snapshot(T0, [order()]).reports["o-1"].fills[0].fill_id == "81"


def test_a_process_that_dies_after_sending_is_followed_by_one_that_finds_the_order(roostoo: Roostoo, store: SentStore) -> None:
    """Nothing of the answer is saved: the next process knows only what was written before."""
    account(roostoo, store).submit(order(), T0)
    assert store.load()[1].endswith(",0,0,0]]}")
    roostoo.clock.sleep(900)
    assert account(roostoo, store).snapshot(T0, [order()]).reports["o-1"].fills[0].fill_id == "81"


def test_a_lookup_that_fails_leaves_the_outcome_unknown(roostoo: Roostoo, store: SentStore) -> None:
    roostoo.faults = {PLACE: [CUT_AFTER], QUERY: [(503, "")]}
    with pytest.raises(UnknownOutcomeError, match="cannot be looked up: roostoo: POST /v3/query_order: HTTP 503"):
        account(roostoo, store).submit(order(), T0)
    assert account(roostoo, store).submit(order(), T0).fills[0].fill_id == "81"
    assert roostoo.count(PLACE) == 1


def test_an_answer_about_another_pair_is_not_believed(roostoo: Roostoo, store: SentStore) -> None:
    detail = '{"Pair":"ETH/USD","OrderID":900,"Side":"BUY","Type":"MARKET","Quantity":0.5,"CreateTimestamp":1717200003000}'
    roostoo.faults[PLACE] = [(200, f'{{"Success": true, "OrderDetail": {detail}}}')]
    with pytest.raises(UnknownOutcomeError, match="pair is ETH/USD, ours is BTC/USD"):
        account(roostoo, store).submit(order(), T0)


# Two of our own orders that look alike.


def test_of_two_orders_alike_the_second_waits_until_the_first_is_settled(roostoo: Roostoo, store: SentStore) -> None:
    roostoo.faults[PLACE] = [CUT_BEFORE]
    with pytest.raises(UnknownOutcomeError):
        account(roostoo, store).submit(order("first"), T0)
    with pytest.raises(RetryableError, match="order first looks the same and is not settled: it may still be on its way"):
        account(roostoo, store).submit(order("second"), T0)
    assert roostoo.orders == []
    roostoo.clock.sleep(66)
    exchange = account(roostoo, store)
    assert exchange.submit(order("second"), T0).fills[0].fill_id == "81"
    assert exchange.snapshot(T0, [order("first"), order("second")]).reports.keys() == {"second"}


def test_two_orders_alike_of_one_tick_keep_their_numbers_through_crashes(roostoo: Roostoo, store: SentStore) -> None:
    account(roostoo, store).submit(order("first"), T0)  # The process dies: its number was not saved.
    account(roostoo, store).submit(order("second"), T0)
    reports = account(roostoo, store).snapshot(T0, [order("second"), order("first")]).reports
    assert {name: report.fills[0].fill_id for name, report in reports.items()} == {"first": "81", "second": "82"}


def test_an_order_alike_of_the_day_before_is_not_taken_for_ours(roostoo: Roostoo, store: SentStore) -> None:
    roostoo.add(at_ms=roostoo.now_ms - 86_400_000)
    roostoo.faults[PLACE] = [CUT_BEFORE]
    with pytest.raises(UnknownOutcomeError):
        account(roostoo, store).submit(order(), T0)
    roostoo.clock.sleep(66)
    assert account(roostoo, store).snapshot(T0, [order()]).reports == {}


def test_a_number_seen_before_sending_is_not_ours_however_near_its_time(roostoo: Roostoo, store: SentStore) -> None:
    roostoo.add(at_ms=roostoo.now_ms - 3_600_000)
    exchange = account(roostoo, store)
    exchange.submit(order("other", qty="0.7"), T0)
    exchange.snapshot(T0, [order("other", qty="0.7")])
    roostoo.faults[PLACE] = [CUT_BEFORE]
    with pytest.raises(UnknownOutcomeError):
        exchange.submit(order(), T0)
    roostoo.clock.sleep(66)
    assert account(roostoo, store).snapshot(T0, [order()]).reports == {}


def test_times_that_differ_by_whole_hours_prove_nothing(roostoo: Roostoo, store: SentStore) -> None:
    """As in the exchange's own document, where order 81 was created at two times seven hours apart."""
    roostoo.faults[PLACE] = [CUT_BEFORE]
    with pytest.raises(UnknownOutcomeError):
        account(roostoo, store).submit(order(), T0)
    roostoo.add(at_ms=roostoo.now_ms - 7 * 3_600_000)
    roostoo.clock.sleep(66)
    report = account(roostoo, store).snapshot(T0, [order()]).reports["o-1"]
    assert (report.status, report.fills) == (OrderStatus.OPEN, ())
    assert "it may be one of roostoo's orders 81" in report.message


def test_two_orders_of_strangers_that_would_do_are_not_guessed_between(roostoo: Roostoo, store: SentStore) -> None:
    roostoo.faults[PLACE] = [CUT_BEFORE]
    with pytest.raises(UnknownOutcomeError):
        account(roostoo, store).submit(order(), T0)
    roostoo.add()
    roostoo.add()
    report = account(roostoo, store).snapshot(T0, [order()]).reports["o-1"]
    assert (report.status, report.fills) == (OrderStatus.OPEN, ())
    assert "orders 82, 81" in report.message


def test_a_list_that_ends_too_early_proves_nothing(roostoo: Roostoo, store: SentStore) -> None:
    roostoo.faults[PLACE] = [CUT_BEFORE]
    with pytest.raises(UnknownOutcomeError):
        account(roostoo, store).submit(order(), T0)
    roostoo.clock.sleep(66)
    for _ in range(120):
        roostoo.add(qty="0.7")
    assert "lists no order before 101" in account(roostoo, store).snapshot(T0, [order()]).reports["o-1"].message


def test_a_list_that_forgets_our_other_orders_or_shows_another_pair_proves_nothing(roostoo: Roostoo, store: SentStore) -> None:
    exchange = account(roostoo, store)
    exchange.submit(order("other", qty="0.7"), T0)
    exchange.close()
    roostoo.faults[PLACE] = [CUT_BEFORE]
    with pytest.raises(UnknownOutcomeError):
        exchange.submit(order(), T0)
    roostoo.clock.sleep(66)
    nothing = (200, '{"Success": false, "ErrMsg": "no order matched"}')
    roostoo.faults[QUERY] = [None, nothing] * 2  # A snapshot that leaves something open looks twice.
    report = account(roostoo, store).snapshot(T0, [order()]).reports["o-1"]
    assert "does not list its order 81 either" in report.message
    roostoo.orders[0]["Pair"] = "ETH/USD"
    with pytest.raises(UnknownOutcomeError, match="does not list its order 81 either"):
        account(roostoo, store).submit(order(), T0)
    roostoo.orders[0]["Pair"] = "BTC/USD"
    assert account(roostoo, store).snapshot(T0, [order()]).reports == {}


def test_two_lists_must_agree_that_an_order_is_not_there(roostoo: Roostoo, store: SentStore) -> None:
    roostoo.faults[PLACE] = [CUT_AFTER]
    roostoo.faults[QUERY] = [(503, "")]
    with pytest.raises(UnknownOutcomeError):
        account(roostoo, store).submit(order(), T0)
    roostoo.clock.sleep(66)
    roostoo.faults[QUERY] = [None, (200, '{"Success": false, "ErrMsg": "no order matched"}'), None] * 2
    report = account(roostoo, store).snapshot(T0, [order()]).reports["o-1"]
    assert (report.status, report.message) == (OrderStatus.OPEN, "roostoo: outcome unknown: roostoo's lists differ")
    assert account(roostoo, store).snapshot(T0, [order()]).reports["o-1"].fills[0].fill_id == "81"


def test_another_process_that_writes_stops_ours_before_it_sends(roostoo: Roostoo, store: SentStore) -> None:
    slow, fast = account(roostoo, store), account(roostoo, store)
    assert slow.submit(order("o-1"), T0).status is OrderStatus.FILLED
    assert fast.submit(order("o-2"), T0).status is OrderStatus.FILLED
    with pytest.raises(RetryableError):
        slow.submit(order("o-3"), T0)
    assert slow.submit(order("o-3"), T0).fills[0].fill_id == "83"
    assert len(roostoo.orders) == 3


def test_an_order_that_cannot_be_written_down_is_not_sent(roostoo: Roostoo, dynamodb: Any) -> None:
    with pytest.raises(RetryableError, match="no-such-table"):
        account(roostoo, DynamoDbSentStore("no-such-table", dynamodb)).submit(order(), T0)
    store = MemorySentStore()
    store.save(0, '{"largest_id": 3, "orders": [["o-1"]]}')
    with pytest.raises(LedgerError, match="cannot be read"):
        account(roostoo, store).submit(order(), T0)
    assert roostoo.orders == []


# Refusals.


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        ((200, '{"Success": false, "ErrMsg": "insufficient balance"}'), OrderRejectedError, "insufficient balance"),
        ((200, '{"Success": false, "ErrMsg": "BTC does not allow short positions"}'), OrderRejectedError, "short positions"),
        ((200, '{"Success": false, "ErrMsg": "quantity step size invalid"}'), OrderRejectedError, "step size"),
        ((200, '{"Success": false}'), OrderRejectedError, "HTTP 200"),
        ((400, "bad"), OrderRejectedError, "HTTP 400"),
        ((200, '{"Success": false, "ErrMsg": "no permission to trade"}'), AccountError, "no permission to trade"),
        ((200, '{"Success": false, "ErrMsg": "you do not have this permission"}'), AccountError, "permission"),
        ((200, '{"Success": false, "ErrMsg": "your partner access is terminated"}'), AccountError, "terminated"),
        (
            (200, f'{{"Success": false, "ErrMsg": "api-key {KEY} invalid for {SECRET}"}}'),
            AccountError,
            r"api-key \*\*\* invalid for \*\*\*$",
        ),
        ((200, '{"Success": false, "ErrMsg": "timestamp out of range"}'), AccountError, "timestamp"),
        ((401, ""), AccountError, "HTTP 401"),
        ((403, "{}"), AccountError, "HTTP 403"),
        ((429, "", {"Retry-After": "40"}), RateLimitedError, "until 2024-06-01T00:00:43Z"),
        ((418, "", {"Retry-After": "7200"}), RateLimitedError, "until 2024-06-01T02:00:03Z"),
        ((200, '{"Success": false, "ErrMsg": "Too many requests"}'), RateLimitedError, "until 2024-06-01T00:01:03Z"),
    ],
)
def test_a_refusal_is_certain_and_the_order_may_be_sent_again(
    roostoo: Roostoo, store: SentStore, answer: Any, error: type[Exception], says: str
) -> None:
    roostoo.faults[PLACE] = [answer]
    exchange = account(roostoo, store)
    with pytest.raises(error, match=says):
        exchange.submit(order(), T0)
    assert roostoo.count(PLACE) == 1
    roostoo.clock.sleep(7200)
    assert exchange.snapshot(T0, [order()]).reports == {}
    assert exchange.submit(order(), T0).status is OrderStatus.FILLED


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (order(pair="ETH/USD"), "ETH/USD: no such pair in USD"),
        (order(pair="ETH/BTC"), "ETH/BTC: no such pair in USD"),
        (order(pair="OLD/USD"), "OLD/USD: is not traded now"),
        (order(qty="0.0000005"), "qty 0.0000005 is not a multiple of 0.000001"),
        (order(qty="0"), "qty 0 is not"),
        (order(limit="7893.001"), "limit_price 7893.001 is not a multiple of 0.01"),
        (order(qty="0.0001", limit="10000"), r"worth 1.0000, must be at least 1.00000001"),
        (dataclasses.replace(order(), type=OrderType.LIMIT), "limit order with limit_price None"),
        (dataclasses.replace(order(), type=OrderType.STOP, stop_price=D(1)), "no stop can rest"),
    ],
)
def test_what_roostoo_would_refuse_is_not_sent(roostoo: Roostoo, store: SentStore, wrong: Order, says: str) -> None:
    exchange = account(roostoo, store)
    with pytest.raises(OrderRejectedError, match=says) as refused:
        exchange.submit(wrong, T0)
    closed = "no such pair" in says or "not traded" in says
    assert isinstance(refused.value, MarketClosedError) == closed, "of this pair nothing is ordered for a while"
    assert roostoo.count(PLACE) == 0
    assert not exchange.supports_stops("BTC/USD")
    assert exchange.resting_stops("BTC/USD") is RestingStops.NONE


def test_the_notional_must_be_above_the_least(roostoo: Roostoo, store: SentStore) -> None:
    report = account(roostoo, store).submit(order(qty="0.0001", limit="10000.01"), T0)
    assert report.status is OrderStatus.OPEN


@pytest.mark.parametrize("skew_s", [90.0, -90.0])
def test_a_clock_ninety_seconds_off_trades_nothing(roostoo: Roostoo, store: SentStore, skew_s: float) -> None:
    roostoo.skew_s = skew_s
    with pytest.raises(AccountError, match=re.escape(f"its clock is {skew_s:+.1f} s from ours, at most 30 s")):
        account(roostoo, store).submit(order(), T0)
    with pytest.raises(AccountError):
        account(roostoo, store).snapshot(T0, [])
    assert roostoo.orders == []


@pytest.mark.parametrize("skew_s", [25.0, -25.0])
def test_a_clock_a_little_off_is_made_up_for(roostoo: Roostoo, store: SentStore, skew_s: float) -> None:
    roostoo.skew_s = skew_s
    roostoo.faults[PLACE] = [CUT_AFTER]
    assert account(roostoo, store).submit(order(), T0).status is OrderStatus.FILLED
    assert f"timestamp={roostoo.now_ms}" in roostoo.bodies[0]


@pytest.mark.parametrize(
    ("path", "answer", "error", "says"),
    [
        (BALANCE, (200, '{"Success": true, "Wallet": {"BTC": {"Free": 1}}}'), RetryableError, "Wallet.BTC: Lock is missing"),
        (BALANCE, (200, '{"Success": true, "Wallet": {"BTC": {"Free": -1, "Lock": 0}}}'), RetryableError, "Free: -1 is not a possible"),
        (BALANCE, (200, '{"Success": true, "Wallet": {"BTC": {"Free": Infinity, "Lock": 0}}}'), RetryableError, "not finite"),
        (BALANCE, (200, '{"Success": true}'), RetryableError, "Wallet: 'None' is not an object"),
        (BALANCE, (200, '{"Success": 1, "Wallet": {}}'), RetryableError, "Success: 1 is not true or false"),
        (BALANCE, (200, "["), RetryableError, "GET /v3/balance"),
        (BALANCE, CUT_BEFORE, RetryableError, "GET /v3/balance"),
        (BALANCE, TRUNCATED, RetryableError, "IncompleteRead"),
        (BALANCE, (500, ""), RetryableError, "HTTP 500"),
        (BALANCE, (200, '{"Success": false, "ErrMsg": "something new"}'), ExchangeError, "something new"),
        (BALANCE, (200, '{"Success": false, "ErrMsg": "your partner access is terminated"}'), AccountError, "terminated"),
        (BALANCE, (429, "", {"Retry-After": "4000"}), RateLimitedError, "2024-06-01T01:06:43Z"),
        (TIME, (200, '{"ServerTime": 3}'), RetryableError, "ServerTime: 3 is not a time"),
        (TIME, (200, '{"Success": false, "ErrMsg": "down"}'), ExchangeError, "down"),
    ],
)
def test_a_question_that_goes_wrong(roostoo: Roostoo, store: SentStore, path: str, answer: Any, error: type[Exception], says: str) -> None:
    roostoo.faults[path] = [answer]
    with pytest.raises(error, match=says):
        account(roostoo, store).snapshot(T0, [])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"Status": "LOST"}, "Status: 'LOST'"),
        ({"FilledAverPrice": 0}, "FilledAverPrice: 0 is not above 0"),
        ({"FilledQuantity": D("0.6")}, "FilledQuantity: 0.6 is not within 0"),
        ({"UnitChange": D("1")}, "UnitChange: 1 is not FilledQuantity 0.5 at 8149.07"),
        ({"CommissionCoin": "BNB"}, "CommissionCoin: 'BNB' is neither BTC nor USD"),
        ({"CommissionPercent": None}, "CommissionPercent is missing"),
        ({"CommissionPercent": D("1.5")}, "not a share below 1"),
        ({"FinishTimestamp": 0}, "FinishTimestamp: 0 is not a time"),
        ({"Role": "TAXER"}, "Role: 'TAXER'"),
        ({"Pair": "ETH/USD"}, "pair is ETH/USD, ours is BTC/USD"),
    ],
)
def test_one_order_that_makes_no_sense_stays_open_and_the_others_are_reported(
    roostoo: Roostoo, store: SentStore, change: dict[str, Any], says: str
) -> None:
    exchange = account(roostoo, store)
    exchange.submit(order("o-1"), T0)
    exchange.submit(order("o-2", qty="0.7"), T0)
    roostoo.orders[1] |= change
    reports = exchange.snapshot(T0, [order("o-1"), order("o-2", qty="0.7")]).reports
    assert (reports["o-1"].status, reports["o-1"].fills) == (OrderStatus.OPEN, ())
    assert says in reports["o-1"].message
    assert reports["o-2"].status is OrderStatus.FILLED


def test_an_order_that_roostoo_has_lost_stays_open(roostoo: Roostoo, store: SentStore) -> None:
    exchange = account(roostoo, store)
    exchange.submit(order(limit="7893"), T0)
    roostoo.orders.clear()
    report = exchange.snapshot(T0, [order(limit="7893")]).reports["o-1"]
    assert (report.status, report.message) == (OrderStatus.OPEN, "roostoo: outcome unknown: roostoo does not find its order 81")


# Cancelling.


def test_a_pending_order_is_cancelled_by_its_number_and_was_never_filled(roostoo: Roostoo, store: SentStore) -> None:
    exchange = account(roostoo, store)
    exchange.submit(order(limit="7893"), T0)
    roostoo.add(kind="LIMIT")
    report = exchange.cancel(order(limit="7893"), T0)
    assert (report.status, report.fills) == (OrderStatus.CANCELED, ())
    assert [o["Status"] for o in roostoo.orders] == ["PENDING", "CANCELED"]


def test_an_order_that_filled_first_is_reported_filled(roostoo: Roostoo, store: SentStore) -> None:
    exchange = account(roostoo, store)
    exchange.submit(order(limit="7893"), T0)
    roostoo.fill(roostoo.orders[0])
    assert exchange.cancel(order(limit="7893"), T0).fills[0].price == 7893


def test_what_a_cancelled_order_had_filled_counts(roostoo: Roostoo, store: SentStore) -> None:
    exchange = account(roostoo, store)
    exchange.submit(order(limit="7893"), T0)
    part = {"FilledQuantity": D("0.2"), "FilledAverPrice": D(7893), "UnitChange": D("1578.6"), "CommissionChargeValue": D("0.7893")}
    roostoo.orders[0] |= part
    report = exchange.cancel(order(limit="7893"), T0)
    assert (report.status, report.fills[0].qty, report.fills[0].fee) == (OrderStatus.CANCELED, D("0.2"), D("0.7893"))


def test_a_lost_answer_to_a_cancellation(roostoo: Roostoo, store: SentStore) -> None:
    exchange = account(roostoo, store)
    exchange.submit(order(limit="7893"), T0)
    roostoo.faults[CANCEL] = [CUT_BEFORE, CUT_AFTER]
    with pytest.raises(UnknownOutcomeError, match="order 81 is still open"):
        exchange.cancel(order(limit="7893"), T0)
    assert exchange.cancel(order(limit="7893"), T0).status is OrderStatus.CANCELED


def test_cancelling_what_was_never_sent_or_never_arrived_asks_nothing_of_others(roostoo: Roostoo, store: SentStore) -> None:
    roostoo.add(kind="LIMIT")
    assert account(roostoo, store).cancel(order(), T0).status is OrderStatus.CANCELED
    roostoo.faults[PLACE] = [CUT_BEFORE]
    with pytest.raises(UnknownOutcomeError):
        account(roostoo, store).submit(order(), T0)
    with pytest.raises(UnknownOutcomeError):
        account(roostoo, store).cancel(order(), T0)
    roostoo.clock.sleep(66)
    assert account(roostoo, store).cancel(order(), T0).status is OrderStatus.CANCELED
    assert (roostoo.count(CANCEL), roostoo.orders[0]["Status"]) == (0, "PENDING")


def test_an_order_whose_number_was_lost_is_found_before_it_is_cancelled(roostoo: Roostoo, store: SentStore) -> None:
    roostoo.faults = {PLACE: [CUT_AFTER], QUERY: [CUT_BEFORE]}
    with pytest.raises(UnknownOutcomeError):
        account(roostoo, store).submit(order(limit="7893"), T0)
    assert account(roostoo, store).cancel(order(limit="7893"), T0).status is OrderStatus.CANCELED


# Requests.


def test_no_more_than_thirty_requests_a_minute_and_exits_go_first(roostoo: Roostoo, store: SentStore) -> None:
    budget = MemoryWeightBudget(WeightLimits(30, reserve_frac=0.2))
    exchange = account(roostoo, store, WeightPurse(budget, 1))
    exchange._wait_left_s = 0.0
    sent = 0
    for n in range(22):
        sent += exchange.submit(order(f"o-{n}", qty=f"0.{n + 1:03}"), T0).status is OrderStatus.FILLED
    with pytest.raises(RateLimitedError):
        exchange.submit(order("o-22", qty="0.023"), T0)
    assert sent == 22
    assert exchange.submit(order("exit", Side.SELL), T0).status is OrderStatus.FILLED
    assert len(roostoo.requests) == 25
    roostoo.clock.sleep(120)
    assert exchange.submit(order("o-22", qty="0.023"), T0).status is OrderStatus.FILLED


def test_an_order_waits_a_little_for_the_budget(roostoo: Roostoo, store: SentStore) -> None:
    budget = MemoryWeightBudget(WeightLimits(5, reserve_frac=0.0, hold_s=0.0))
    exchange = account(roostoo, store, WeightPurse(budget, 1))
    exchange.snapshot(T0, [])
    exchange.submit(order("o-1"), T0)
    roostoo.clock.sleep(50)
    exchange.submit(order("o-2", qty="0.6"), T0)
    before = roostoo.clock.now()
    exchange.submit(order("o-3", qty="0.7"), T0)
    assert roostoo.clock.now() - before == timedelta(seconds=10)


def test_a_request_that_has_no_time_left_is_not_made(roostoo: Roostoo, store: SentStore) -> None:
    exchange = account(roostoo, store, time_left_s=lambda: 0.4)
    with pytest.raises(RetryableError, match=r"0.4 s are left, too little for a request; nothing was sent"):
        exchange.snapshot(T0, [])
    assert roostoo.requests == []


def test_a_server_that_is_not_there_was_sent_nothing(roostoo: Roostoo, store: SentStore) -> None:
    roostoo_gone = dataclasses.replace(roostoo, url="http://127.0.0.1:9")
    with pytest.raises(RetryableError, match=r"no connection: .*nothing was sent"):
        account(roostoo_gone, store).snapshot(T0, [])


def test_one_connection_serves_a_tick(roostoo: Roostoo, store: SentStore) -> None:
    exchange = account(roostoo, store)
    exchange.snapshot(T0, [])
    connection = exchange.client._connection
    exchange.submit(order(), T0)
    assert connection is not None
    assert exchange.client._connection is connection
    exchange.close()
    assert exchange.client._connection is None


def test_the_stamp_of_a_fill_is_the_servers(roostoo: Roostoo, store: SentStore) -> None:
    roostoo.skew_s = 10.0
    (fill,) = account(roostoo, store).submit(order(), T0).fills
    assert fill.filled_at == from_ms(to_ms(roostoo.clock.now()) + 10_040)
