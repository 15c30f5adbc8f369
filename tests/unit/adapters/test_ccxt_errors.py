"""Every error ccxt can raise has a meaning, and none of them shows a signature."""

from __future__ import annotations

import importlib

import pytest

from tickless.adapters.ccxt_errors import Failure, classify, describe

errors = importlib.import_module("ccxt.base.errors")

MEANINGS = {
    "DDoSProtection": Failure.LIMITED,
    "RateLimitExceeded": Failure.LIMITED,
    "AuthenticationError": Failure.ACCOUNT,
    "AccountNotEnabled": Failure.ACCOUNT,
    "AccountSuspended": Failure.ACCOUNT,
    "RestrictedLocation": Failure.ACCOUNT,
    "PermissionDenied": Failure.PERMISSION,
    "InvalidNonce": Failure.CLOCK,
    "ChecksumError": Failure.CLOCK,
    "OperationFailed": Failure.LOST,
    "NetworkError": Failure.LOST,
    "ExchangeNotAvailable": Failure.LOST,
    "OnMaintenance": Failure.LOST,
    "RequestTimeout": Failure.LOST,
    "BadResponse": Failure.LOST,
    "NullResponse": Failure.LOST,
    "CancelPending": Failure.LOST,
    "DuplicateOrderId": Failure.DUPLICATE,
    "OrderNotFound": Failure.MISSING,
    "OrderNotCached": Failure.MISSING,
    "NoChange": Failure.UNCHANGED,
    "MarginModeAlreadySet": Failure.UNCHANGED,
    "ExchangeError": Failure.UNCLEAR,
}


def every_name(tree: dict) -> list[str]:
    return [name for part, below in tree.items() for name in (part, *every_name(below))]


@pytest.mark.parametrize("name", [name for name in every_name(errors.error_hierarchy) if name != "BaseError"])
def test_every_error_of_ccxt_has_a_meaning_and_the_rest_are_refusals(name):
    assert classify(getattr(errors, name)("binance says so")) is MEANINGS.get(name, Failure.REFUSED)


def test_a_ban_and_a_duplicate_are_told_by_their_text():
    assert classify(errors.DDoSProtection("binance 418 I'm a teapot {}")) is Failure.BANNED
    assert classify(errors.DDoSProtection("binance 429 Too Many {}")) is Failure.LIMITED
    assert classify(errors.InvalidOrder('binance {"code":-4116,"msg":"ClientOrderId is duplicated."}')) is Failure.DUPLICATE
    assert classify(errors.BadRequest("The client algo id is duplicated")) is Failure.DUPLICATE
    archived = "Order was canceled or expired with no executed qty over 90 days ago and has been archived."
    assert classify(errors.BadRequest(f'binance {{"code":-2026,"msg":"{archived}"}}')) is Failure.MISSING
    assert classify(errors.RequestTimeout("duplicate")) is Failure.LOST


def chained(error: Exception, *causes: Exception) -> Exception:
    last = error
    for cause in causes:
        last.__cause__ = cause
        last = cause
    return error


class NewConnectionError(Exception):
    """As urllib3 names it."""


def test_what_never_left_is_told_from_what_was_lost():
    wrapped = OSError("no")
    wrapped.reason = NewConnectionError("refused")
    assert classify(chained(errors.NetworkError("x"), ConnectionError(wrapped))) is Failure.UNREACHED
    assert classify(chained(errors.NetworkError("x"), ConnectionError("reset by peer"))) is Failure.LOST
    loop = errors.NetworkError("x")
    loop.__cause__ = loop
    assert classify(loop) is Failure.LOST


def test_a_connection_that_broke_inside_tls_or_a_strange_server_fault_is_lost():
    import requests

    assert classify(chained(errors.ExchangeError("x"), requests.exceptions.SSLError("eof"))) is Failure.LOST
    answer = requests.Response()
    answer.status_code = 507
    assert classify(chained(errors.ExchangeError("x"), requests.exceptions.HTTPError("507", response=answer))) is Failure.LOST
    answer.status_code = 413
    assert classify(chained(errors.ExchangeError("x"), requests.exceptions.HTTPError("413", response=answer))) is Failure.UNCLEAR


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), TypeError("x"), ZeroDivisionError("x")])
def test_an_answer_that_breaks_the_reading_is_lost(error):
    assert classify(error) is Failure.LOST


def test_a_description_has_no_query_no_newlines_and_an_end():
    error = errors.RequestTimeout("binance GET https://api.binance.com/api/v3/order?symbol=BTCUSDT&signature=abcdef\n " + "x" * 400)
    text = describe(error)
    assert text.startswith("RequestTimeout: binance GET https://api.binance.com/api/v3/order xxx")
    assert "signature" not in text
    assert len(text) < 230
    assert describe(ValueError()) == "ValueError"
