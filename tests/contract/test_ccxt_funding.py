"""What contracts pay and cost between trades, told apart from deposits: the real ccxt client, the exchange on loopback, whole ticks."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from tests.loopback import Fault
from tests.loopback.made_worlds import made_world
from tests.made_accounts import open_account
from tickless.adapters import ccxt_funding
from tickless.errors import RetryableError
from tickless.types import Order, OrderType, Side, from_ms

pytest_plugins = ["tests.loopback.fixtures"]

D = Decimal


@pytest.fixture
def long(serve):
    """An account that is long one BTC; the exchange, and the account."""
    loopback, url = serve(made_world(futures={"USDT": D(100_000)}))
    account = open_account(loopback, url, "swap")
    now = from_ms(loopback.clock.now_ms)
    account.submit(Order("long-1", now, "rotation", "BTC/USDT:USDT", Side.BUY, OrderType.MARKET, D(1), "entry"), now)
    return loopback, account


def look(loopback, account):
    return account.snapshot(from_ms(loopback.clock.now_ms), ())


def test_a_payment_is_told_by_id_pair_time_and_amount_and_is_in_the_balance(long):
    loopback, account = long
    before = look(loopback, account)
    assert before.funding == ()
    paid = loopback.pay_funding("BTC/USDT", D("0.0001"))
    after = look(loopback, account)
    (told,) = after.funding
    assert (told.pair, told.amount, told.paid_at) == ("BTC/USDT:USDT", paid, from_ms(loopback.clock.now_ms))
    assert paid < 0, "who is long pays a positive rate"
    assert after.balances["USDT"] - before.balances["USDT"] == paid
    assert after.funding_since == after.at - timedelta(days=7)


def test_a_spot_account_tells_of_none(serve):
    loopback, url = serve(made_world())
    found = open_account(loopback, url).snapshot(from_ms(loopback.clock.now_ms), ())
    assert (found.funding, found.funding_since) == ((), None)


def test_a_payment_that_comes_while_the_account_is_read_is_in_the_balance_that_is_told(long):
    loopback, account = long
    paid = []

    def pay(when, request):
        if when == "after" and request.path == "/fapi/v3/account" and not paid:
            paid.append(loopback.pay_funding("BTC/USDT", D("0.0001")))

    before = look(loopback, account)
    loopback.watch.append(pay)
    after = look(loopback, account)
    assert [one.amount for one in after.funding] == paid
    assert after.balances["USDT"] - before.balances["USDT"] == paid[0]


def test_many_payments_are_read_page_by_page_each_once(long, monkeypatch):
    loopback, account = long
    monkeypatch.setattr(ccxt_funding, "PAGE", 3)
    for hour in range(4):
        loopback.set_time(from_ms(loopback.clock.now_ms) + timedelta(hours=hour and 1))
        for _ in range(2):
            loopback.pay_funding("BTC/USDT", D("0.0001"))
    told = look(loopback, account).funding
    assert len(told) == len({one.id for one in told}) == 8


def test_what_was_paid_more_than_a_week_ago_is_not_told(long):
    loopback, account = long
    now = from_ms(loopback.clock.now_ms)
    loopback.pay_funding("BTC/USDT", D("0.0001"), now - timedelta(days=7, minutes=1))
    assert look(loopback, account).funding == ()


@pytest.mark.parametrize("fault", [Fault.NAN, Fault.MALFORMED, Fault.TRUNCATED])
def test_a_history_that_makes_no_sense_tells_nothing(long, fault):
    loopback, account = long
    loopback.pay_funding("BTC/USDT", D("0.0001"))
    loopback.faults.next("GET /fapi/v1/income", fault, times=4)
    with pytest.raises(RetryableError, match="funding"):
        look(loopback, account)
