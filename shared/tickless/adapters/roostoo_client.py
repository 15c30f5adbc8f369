"""Roostoo's REST API: requests, signatures, and what its answers and errors mean to us. Every request is made once.

=====================================================  ===============================  ================================================
what happens                                           of a question                    of an order or a cancellation
=====================================================  ===============================  ================================================
our budget or the server (429, 418, "too many") says   RateLimitedError                 RateLimitedError: it was not accepted
that we ask too often
no connection: refused, no such host, bad certificate  RetryableError                   RetryableError: it never left
connection cut, time-out, 3xx, 5xx, no JSON, NaN, no   RetryableError                   UnknownOutcomeError: the order is looked up
``Success``
401, 403; key, signature, permission, partner access   AccountError                     AccountError: it was not accepted
time stamp refused                                     AccountError: a clock is off     AccountError: it was not accepted
"no order matched", "no pending order"                 an empty list                    OrderRejectedError: nothing to cancel
every other ``Success`` = false, every other 4xx       ExchangeError                    OrderRejectedError
=====================================================  ===============================  ================================================
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ssl
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from tickless.adapters.roostoo_answers import Raw, parse_json, read_object, read_order_id, read_time
from tickless.adapters.weight_budget import UnlimitedWeight, WeightPurse, parse_retry_after
from tickless.errors import AccountError, ExchangeError, OrderRejectedError, RetryableError, SettingsError, UnknownOutcomeError
from tickless.ports import Priority
from tickless.types import to_ms

if TYPE_CHECKING:
    from tickless.adapters.secrets import ApiKeys

T = TypeVar("T")

BASE_URL = "https://mock-api.roostoo.com"
VALID_MS = 60_000
"""The server refuses a request whose time stamp is further from its own clock: after that, one that was lost can no longer arrive."""
LEAST_TIME_S = 0.5
"""A request that has less time than this is not made."""
MAX_BYTES = 8_000_000
_IDLE_S = 1.0
"""A connection that has been idle for longer may have been closed by the server: the next request opens its own."""
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_NO_DATA = ("no order matched", "no pending order", "no order canceled", "no order cancelled")
_REFUSALS: tuple[tuple[str, type[ExchangeError]], ...] = (
    ("insufficient balance", OrderRejectedError),
    ("short position", OrderRejectedError),
    ("timestamp", AccountError),
    ("time stamp", AccountError),
    ("api-key", AccountError),
    ("api key", AccountError),
    ("signature", AccountError),
    ("permission", AccountError),
    ("access is terminated", AccountError),
    ("unauthorized", AccountError),
)
"""Parts of ``ErrMsg``, in lower case, and what they mean. ``permission`` also covers "no permission to trade", before a contest opens."""
_TOO_MANY = ("too many request", "rate limit")


class Kind(Enum):
    """What is lost when the answer to a request is."""

    QUESTION = auto()
    ORDER = auto()
    """An order or a cancellation: something may have happened."""


class _NotSentError(Exception):
    """No connection came about."""


def sign(secret: str, params: Mapping[str, str]) -> tuple[str, str]:
    """(the parameters by name, joined and not URL-encoded; the hex HMAC-SHA256 of that text). The text itself is what is sent."""
    for name, value in params.items():
        if not value.isascii() or any(mark in value for mark in "&=# \r\n") or not value:
            raise ValueError(f"parameter {name}: {value!r} cannot be signed as it stands")
    text = "&".join(f"{name}={params[name]}" for name in sorted(params))
    return text, hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


class RoostooClient:
    """One account; without ``keys`` public data alone. ``time_left_s`` is what is left of the function's time.

    ``max_skew_s`` is how far the server's clock may be from ours. Within it requests carry the server's time, beyond it nothing is traded.
    """

    def __init__(
        self,
        keys: ApiKeys | None = None,
        *,
        base_url: str = BASE_URL,
        purse: WeightPurse | None = None,
        timeout_s: float = 5.0,
        time_left_s: Callable[[], float] = lambda: float("inf"),
        max_skew_s: float = 30.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        url = urlsplit(base_url)
        if url.hostname is None or url.scheme not in ("http", "https") or (url.scheme == "http" and url.hostname not in _LOOPBACK):
            raise SettingsError(f"Roostoo's address {base_url!r}: must begin with https://")
        self._url = url
        self._keys = keys
        self._purse = purse or WeightPurse(UnlimitedWeight(), 1)
        self._timeout_s = timeout_s
        self._time_left_s = time_left_s
        self._max_skew_s = max_skew_s
        self._now = now
        self._offset_ms: int | None = None
        self._connection: http.client.HTTPConnection | None = None
        self._used_at = 0.0

    def server_now_ms(self) -> int:
        """The server's time; asked of it once. Raises AccountError where the clocks are too far apart."""
        if self._offset_ms is None:
            before = to_ms(self._now())
            answer = self._ask("GET", "/v3/serverTime", {}, Kind.QUESTION, Priority.EXIT)
            after = to_ms(self._now())
            told = self._read(lambda: read_time(answer, "ServerTime"))
            early_s, late_s = (told - after) / 1000, (told - before) / 1000
            if early_s > self._max_skew_s or late_s < -self._max_skew_s:
                skew_s = (early_s + late_s) / 2
                raise AccountError(f"roostoo: its clock is {skew_s:+.1f} s from ours, at most {self._max_skew_s:g} s: nothing is traded")
            self._offset_ms = told - (before + after) // 2
        return to_ms(self._now()) + self._offset_ms

    def time_left_s(self) -> float:
        """What is left of the function's time."""
        return self._time_left_s()

    def exchange_info(self) -> Raw:
        """The pairs and their filters."""
        return self._ask("GET", "/v3/exchangeInfo", {}, Kind.QUESTION, Priority.ORDINARY)

    def balance(self) -> Raw:
        """The answer with the wallet."""
        return self._signed("GET", "/v3/balance", {}, Kind.QUESTION, Priority.EXIT)

    def query(self, *, order_id: int | None = None, pair: str | None = None, limit: int | None = None) -> list[Any]:
        """The order of a number, or the latest orders of a pair or of all; empty where there are none."""
        params = {"order_id": str(order_id)} if order_id is not None else {}
        if order_id is None:
            params |= {name: str(value) for name, value in (("pair", pair), ("limit", limit)) if value is not None}
        answer = self._signed("POST", "/v3/query_order", params, Kind.QUESTION, Priority.EXIT)
        found = answer.get("OrderMatched", [] if not answer["Success"] else None)
        return self._read(lambda: _list(found, "OrderMatched"))

    def place(self, params: Mapping[str, str], sent_ms: int, priority: Priority) -> Any:
        """Send an order stamped ``sent_ms``, server time; what the answer says of it."""
        answer = self._signed("POST", "/v3/place_order", params, Kind.ORDER, priority, sent_ms)
        return answer.get("OrderDetail")

    def cancel(self, order_id: int) -> list[Any]:
        """Cancel one pending order; the numbers of what was cancelled. Raises OrderRejectedError where there is nothing to cancel."""
        read_order_id(order_id)  # Without a number Roostoo would cancel everything.
        answer = self._signed("POST", "/v3/cancel_order", {"order_id": str(order_id)}, Kind.ORDER, Priority.EXIT)
        return list(answer.get("CanceledList") or [])

    def close(self) -> None:
        """Close the connection, if one is open."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _signed(self, method: str, path: str, params: Mapping[str, str], kind: Kind, priority: Priority, sent_ms: int | None = None) -> Raw:
        stamp = self.server_now_ms() if sent_ms is None else sent_ms
        return self._ask(method, path, {**params, "timestamp": str(stamp)}, kind, priority, signed=True)

    def _ask(self, method: str, path: str, params: Mapping[str, str], kind: Kind, priority: Priority, *, signed: bool = False) -> Raw:
        """The answer to a request, refusals raised; its ``Success`` is a bool where ``signed``."""
        what = f"roostoo: {method} {path}"
        headers = {"Accept": "application/json", "User-Agent": "tickless"}
        text, signature = "", ""
        if signed:
            if self._keys is None:
                raise AccountError(f"{what}: needs the keys of an account")
            text, signature = sign(self._keys.secret, params)
            headers |= {"RST-API-KEY": self._keys.api_key, "MSG-SIGNATURE": signature}
        timeout_s = min(self._timeout_s, self._time_left_s())
        if timeout_s < LEAST_TIME_S:
            raise RetryableError(f"{what}: {timeout_s:.1f} s are left, too little for a request; nothing was sent")
        self._purse.spend(1, self._now(), priority)
        try:
            status, retry_after, content = self._exchange(method, path, text, headers, timeout_s)
        except _NotSentError as error:
            raise RetryableError(f"{what}: {self._hidden(error)}; nothing was sent") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._lost(what, kind, self._hidden(error)) from None
        self._refuse_status(what, kind, status, retry_after)
        try:
            answer = read_object(parse_json(content), "answer")
        except ValueError as error:
            if 400 <= status < 500:
                raise self._refused(what, kind, f"HTTP {status}") from None
            raise self._lost(what, kind, self._hidden(error)) from None
        self._refuse_answer(what, kind, status, answer, signed=signed)
        return answer

    def _exchange(self, method: str, path: str, text: str, headers: dict[str, str], timeout_s: float) -> tuple[int, str | None, bytes]:
        """One request. Raises _NotSentError where no connection came about, else whatever went wrong after."""
        connection = self._connect(timeout_s)
        deadline = time.monotonic() + timeout_s
        try:
            if method == "POST":
                headers = headers | {"Content-Type": "application/x-www-form-urlencoded"}
                connection.request(method, path, text.encode(), headers)
            else:
                connection.request(method, f"{path}?{text}" if text else path, headers=headers)
            response = connection.getresponse()
            content = _read_all(response, connection, deadline)
        except BaseException:
            self.close()
            raise
        self._used_at = time.monotonic()
        return response.status, response.headers.get("Retry-After"), content

    def _connect(self, timeout_s: float) -> http.client.HTTPConnection:
        """An open connection; raises _NotSentError."""
        if self._connection is not None and (self._connection.sock is None or time.monotonic() - self._used_at > _IDLE_S):
            self.close()
        if self._connection is None:
            host, port = self._url.hostname or "", self._url.port
            if self._url.scheme == "https":
                self._connection = http.client.HTTPSConnection(host, port, timeout=timeout_s, context=ssl.create_default_context())
            else:
                self._connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
            try:
                self._connection.connect()
            except OSError as error:
                self.close()
                raise _NotSentError(f"no connection: {error}") from None
        if self._connection.sock is not None:
            self._connection.sock.settimeout(timeout_s)
        return self._connection

    def _refuse_status(self, what: str, kind: Kind, status: int, retry_after: str | None) -> None:
        if status in (429, 418):
            now = self._now()
            raise self._purse.limited(now, parse_retry_after(retry_after, now), banned=status == 418)
        if status in (401, 403):
            raise AccountError(f"{what}: HTTP {status}: the key or its rights are refused")
        if not 200 <= status < 300 and not 400 <= status < 500:
            raise self._lost(what, kind, f"HTTP {status}")

    def _refuse_answer(self, what: str, kind: Kind, status: int, answer: Raw, *, signed: bool) -> None:
        """Raise what ``Success`` = false means. Public answers have no ``Success``, unless they are refusals."""
        success, message = answer.get("Success"), str(answer.get("ErrMsg") or f"HTTP {status}")
        if status == 200 and (success is True or (success is None and not signed)):
            return
        if success is not False and status == 200:
            raise self._lost(what, kind, f"Success: {success!r} is not true or false")
        told = message.lower()
        if kind is Kind.QUESTION and any(part in told for part in _NO_DATA):
            return
        if any(part in told for part in _TOO_MANY):
            raise self._purse.limited(self._now(), None)
        for part, error in _REFUSALS:
            if part in told and (kind is Kind.ORDER or error is AccountError):
                raise error(f"{what}: {self._hidden(message)}")
        raise self._refused(what, kind, self._hidden(message))

    def _refused(self, what: str, kind: Kind, why: str) -> ExchangeError:
        return OrderRejectedError(f"{what}: {why}") if kind is Kind.ORDER else ExchangeError(f"{what}: {why}")

    def _lost(self, what: str, kind: Kind, why: str) -> ExchangeError:
        if kind is Kind.ORDER:
            return UnknownOutcomeError(f"{what}: the answer is lost: {why}")
        return RetryableError(f"{what}: {why}")

    def _read(self, reader: Callable[[], T]) -> T:
        try:
            return reader()
        except ValueError as error:
            raise RetryableError(f"roostoo: malformed answer: {self._hidden(error)}") from None

    def _hidden(self, text: object) -> str:
        """At most 200 characters, without the keys, should the server have repeated one."""
        plain = " ".join(str(text).split())
        return (plain if self._keys is None else self._keys.redact(plain))[:200]


def _list(value: Any, field: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{field}: {str(value)[:80]!r} is not a list")
    return value


def _read_all(response: http.client.HTTPResponse, connection: http.client.HTTPConnection, deadline: float) -> bytes:
    """The body, before the deadline and below the limit; a server that sends drop by drop is cut off."""
    parts: list[bytes] = []
    size = 0
    while True:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the answer took too long")
        if connection.sock is not None:
            connection.sock.settimeout(left_s)
        part = response.read1(65_536)
        if not part:
            break
        parts.append(part)
        size += len(part)
        if size > MAX_BYTES:
            raise ValueError(f"an answer of more than {MAX_BYTES} bytes")
    if response.length:
        raise http.client.IncompleteRead(b"".join(parts), response.length)
    response.close()  # The connection is then ready for the next request.
    return b"".join(parts)
