"""``ports.Exchange`` on an account at Roostoo, which knows neither client order ids nor partial fills nor stops.

How an order keeps its name: it is written down before it is sent (``roostoo_sent``), with its pair, side, type and quantity, the time stamp
it carries and the largest order number known by then. Where the answer is lost, the order is looked for among the account's orders: alike,
created from that time on, and not known to be another of ours. One such order is it. None is proof that it never arrived, once the server
would refuse its time stamp (a minute later) and the whole list was seen; until then, and where two would do, nobody knows.

What is proven never to have arrived is sent again in one case: the ledger holds it for an intent, so the process died between the note and
the answer, and the tick is being resumed. Its note is dropped first. It cannot come twice: whoever may still hold the first request has it
under a time stamp that the server refuses. An order that the ledger holds for anything else is never sent again.

Two orders of our own that are alike cannot be confused: the second is not sent before the first one's number is known.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar

from tickless.adapters.roostoo_answers import (
    Likeness,
    OrderRow,
    read_report,
    read_row,
    read_rows,
    read_rules,
    read_wallet,
)
from tickless.adapters.roostoo_client import VALID_MS, RoostooClient
from tickless.adapters.roostoo_sent import SentOrder, SentOrders, SentStore
from tickless.errors import (
    ExchangeError,
    MarketClosedError,
    OrderRejectedError,
    RateLimitedError,
    RetryableError,
    UnknownOutcomeError,
)
from tickless.ports import Priority
from tickless.types import AccountSnapshot, Order, OrderReport, OrderStatus, OrderType, PairRules, RestingStops, Side, to_ms

T = TypeVar("T")

LIMIT = 100
"""Orders a list; Roostoo's own default."""
TOLERANCE_MS = 5_000
"""How far the server's stamp may be from the time we believe it is there."""
DOUBT_MS = 54_000_000
"""Fifteen hours: Roostoo's own examples show one order with times that differ by whole hours, so a like order this near may be ours."""
STABLE_READS = 3
MAX_WAIT_S = 20.0
REST_S = 15.0
"""What a tick needs after it has waited for an order that may still arrive."""
MARGIN_MS = 250
"""How far beyond the last moment at which an order can arrive it is looked for: two clocks are in play."""


@dataclass(frozen=True)
class Found:
    """What looking for an order has come to: its row, or None; ``absent`` = it certainly never arrived; else ``why`` nobody knows.

    ``until_ms``: after that moment of the server's, looking again may prove that it never arrived; 0 = time alone proves nothing.
    """

    row: OrderRow | None = None
    absent: bool = False
    why: str = ""
    until_ms: int = 0


class RoostooExchange:
    """An account. ``store`` remembers what was sent; ``stake`` is the currency of the pairs.

    Where the request budget is spent, an order waits for at most ``max_wait_s``, the wait of a whole tick, and is then not sent. Out of the
    same seconds a tick that is resumed waits until an order that was noted, and perhaps never sent, can no longer arrive.
    """

    def __init__(
        self,
        client: RoostooClient,
        store: SentStore,
        stake: str,
        *,
        now: Callable[[], datetime],
        sleep: Callable[[float], None] = time.sleep,
        max_wait_s: float = MAX_WAIT_S,
    ) -> None:
        self.client = client
        self._sent = SentOrders(store)
        self._stake = stake
        self._now = now
        self._sleep = sleep
        self._wait_left_s = max_wait_s
        self._known_rules: Mapping[str, PairRules] | None = None

    # The port.

    def snapshot(self, at: datetime, orders: Sequence[Order]) -> AccountSnapshot:
        """See ``Exchange.snapshot``. An order of which nobody knows whether it arrived is reported open, with the reason as its message.

        Orders are read again until none has changed while the balances were. Raises RetryableError, AccountError or ExchangeError.
        """
        reports = self._reports(orders)
        for _ in range(STABLE_READS):
            balances = self._balances()
            if all(report.status.is_final for report in reports.values()):
                break
            before, reports = reports, self._reports(orders)
            if reports == before:
                break
        self._sent.save(to_ms(self._now()))
        return AccountSnapshot(at, balances, reports)

    def submit(self, order: Order, at: datetime) -> OrderReport:  # noqa: ARG002 — the exchange has its own time
        """See ``Exchange.submit``; an intent that certainly never arrived is sent. Also raises AccountError."""
        known = self._sent.get(order.client_order_id)
        if known is not None:
            try:
                return self._settled(known, order)
            except RetryableError:
                if self._sent.get(order.client_order_id) is not None:
                    raise
        self._refuse_unfit(order)
        like = Likeness.of(order)
        self._settle_alike(like)
        sent = SentOrder(order.client_order_id, like, self.client.server_now_ms(), self._sent.largest_id())
        self._sent.put(sent)
        self._sent.save(to_ms(self._now()))
        priority = Priority.EXIT if order.reduce_only or order.side is Side.SELL else Priority.ORDINARY
        try:
            row = read_row(self._patiently(lambda: self.client.place(_params(order), sent.sent_ms, priority)))
            report = read_report(row, order)
        except (UnknownOutcomeError, ValueError) as error:
            return self._after_lost_answer(sent, order, error)
        except ExchangeError:
            self._sent.drop(order.client_order_id)  # It was not accepted: every other error is certain of that.
            raise
        self._sent.learn(order.client_order_id, row.order_id, final=report.status.is_final)
        return report

    def cancel(self, order: Order, at: datetime) -> OrderReport:  # noqa: ARG002 — the exchange has its own time
        """See ``Exchange.cancel``. Only an order whose number is known is cancelled, by that number. Also raises AccountError."""
        known = self._sent.get(order.client_order_id)
        if known is None:
            return OrderReport(order.client_order_id, OrderStatus.CANCELED, (), "never sent")
        if not known.order_id:
            try:
                report = self._settled(known, order)
            except RetryableError as error:
                return OrderReport(order.client_order_id, OrderStatus.CANCELED, (), str(error))
            if report.status.is_final:
                return report
            known = self._sent.get(order.client_order_id) or known
        try:
            self._patiently(lambda: self.client.cancel(known.order_id))
        except OrderRejectedError:
            pass  # It is not pending any more, or something else is wrong: its own state says which.
        except UnknownOutcomeError as error:
            report = self._settled(known, order)
            if not report.status.is_final:
                raise UnknownOutcomeError(f"{error}; order {known.order_id} is still open") from error
            return report
        return self._settled(known, order)

    def resting_stops(self, pair: str) -> RestingStops:  # noqa: ARG002 — of any pair
        """See ``Exchange.resting_stops``: Roostoo has none."""
        return RestingStops.NONE

    def supports_stops(self, pair: str) -> bool:  # noqa: ARG002 — of any pair
        """Whether a protective stop can rest on the exchange: it cannot."""
        return False

    def rules(self) -> Mapping[str, PairRules]:
        """The exchange's filters by pair; asked for once. Raises RetryableError, ExchangeError."""
        if self._known_rules is None:
            try:
                self._known_rules = read_rules(self.client.exchange_info(), self._stake)
            except ValueError as error:
                raise RetryableError(f"roostoo: exchangeInfo: {error}") from error
        return self._known_rules

    def close(self) -> None:
        """Save what the last answers said: without it the next tick finds out by looking. Raises RetryableError."""
        self.client.close()
        self._sent.save(to_ms(self._now()))

    # What the account holds.

    def _balances(self) -> dict[str, Decimal]:
        try:
            return read_wallet(self._patiently(self.client.balance))
        except ValueError as error:
            raise RetryableError(f"roostoo: balance: {error}") from error

    def _reports(self, orders: Sequence[Order]) -> dict[str, OrderReport]:
        """A report on every order that was, or may have been, accepted. One list of the latest orders serves most of them."""
        known = [(order, sent) for order in orders if (sent := self._sent.get(order.client_order_id)) is not None]
        rows = {row.order_id: row for row in self._list(None)} if known else {}
        reports: dict[str, OrderReport] = {}
        for order, sent in known:
            found = Found(rows[sent.order_id]) if sent.order_id in rows else self._look(sent, order)
            report = self._learn(found, order)
            if report is not None:
                reports[order.client_order_id] = report
        return reports

    # One order.

    def _settled(self, sent: SentOrder, order: Order) -> OrderReport:
        """The report on an order that may have been sent; raises UnknownOutcomeError, or RetryableError where it never arrived."""
        try:
            report = self._learn(self._look(sent, order), order)
        except (RetryableError, OrderRejectedError) as error:
            raise UnknownOutcomeError(f"order {order.client_order_id} cannot be looked up: {error}") from error
        if report is None:
            raise RetryableError(f"order {order.client_order_id}: it never arrived at roostoo")
        if not self._is_known(order):
            raise UnknownOutcomeError(f"order {order.client_order_id}: {report.message}")
        return report

    def _after_lost_answer(self, sent: SentOrder, order: Order, error: Exception) -> OrderReport:
        """Look the order up, once; raises UnknownOutcomeError where that does not find it."""
        try:
            return self._settled(sent, order)
        except ExchangeError as looked:
            raise UnknownOutcomeError(f"order {order.client_order_id}: {error}; {looked}") from error

    def _settle_alike(self, like: Likeness) -> None:
        """Find the number of the earlier order that looks the same, if it has none yet; raises RetryableError where it stays unknown."""
        earlier = self._sent.unsettled(like)
        if earlier is None:
            return
        found = self._find(earlier)
        if found.row is not None:
            self._sent.learn(earlier.client_order_id, found.row.order_id, final=False)
        elif found.absent:
            self._sent.learn(earlier.client_order_id, 0, final=True)
        else:
            why = f"looks the same and is not settled: {found.why}"
            raise RetryableError(f"order {earlier.client_order_id} {why}; this one was not sent")

    def _learn(self, found: Found, order: Order) -> OrderReport | None:
        """Remember what a look came to, and report it; None where the order certainly never arrived."""
        name = order.client_order_id
        if found.absent:
            if order.status is OrderStatus.INTENT:
                self._sent.drop(name)  # Nobody has been told that it was sent: it may be, under a new time stamp.
            else:
                self._sent.learn(name, 0, final=True)
            return None
        why = found.why
        if found.row is not None:
            if found.row.like == Likeness.of(order):
                self._sent.learn(name, found.row.order_id, final=False)
            try:
                report = read_report(found.row, order)
            except ValueError as error:
                why = str(error)
            else:
                self._sent.learn(name, found.row.order_id, final=report.status.is_final)
                return report
        return OrderReport(name, OrderStatus.OPEN, (), f"roostoo: outcome unknown: {why}")

    def _is_known(self, order: Order) -> bool:
        sent = self._sent.get(order.client_order_id)
        return sent is not None and sent.order_id > 0

    # Looking orders up.

    def _look(self, sent: SentOrder, order: Order) -> Found:
        """Look for one order; for an intent again once it can no longer arrive, if that is soon. Raises as ``_find``."""
        found = self._find(sent)
        if not found.until_ms or order.status is not OrderStatus.INTENT:
            return found
        wait_s = max(0.0, (found.until_ms + MARGIN_MS - self.client.server_now_ms()) / 1000)
        if wait_s > self._wait_left_s or wait_s + REST_S > self.client.time_left_s():
            return found
        self._wait_left_s -= wait_s
        self._sleep(wait_s)
        return self._find(sent)

    def _find(self, sent: SentOrder) -> Found:
        """Look for one order: by its number where it is known, else among the pair's latest. Raises RetryableError, AccountError."""
        if sent.order_id:
            rows = self._rows(lambda: self.client.query(order_id=sent.order_id))
            row = next((row for row in rows if row.order_id == sent.order_id), None)
            return Found(row, why=f"roostoo does not find its order {sent.order_id}")
        return Found(absent=True) if sent.final else self._find_alike(sent)

    def _find_alike(self, sent: SentOrder) -> Found:
        """Look for an order whose number is not known."""
        asked_ms = self.client.server_now_ms()
        rows = self._sound_list(sent.like.pair)
        found = [row for row in rows if self._may_be(row, sent)]
        if len(found) == 1 and _in_time(found[0].created_ms - sent.sent_ms):
            return Found(found[0])
        if found:
            return Found(why=f"it may be one of roostoo's orders {', '.join(str(row.order_id) for row in found)}")
        until_ms = sent.sent_ms + VALID_MS + TOLERANCE_MS
        if asked_ms <= until_ms:
            return Found(why="it may still be on its way", until_ms=until_ms)
        return self._prove_absent(sent, rows)

    def _prove_absent(self, sent: SentOrder, rows: Sequence[OrderRow]) -> Found:
        """Whether a list proves that an order never arrived: it must reach back far enough, know our other orders, and have a second."""
        if not _reaches(rows, sent):
            return Found(why=f"roostoo lists no order before {rows[-1].order_id}")
        numbers = {row.order_id for row in rows}
        missing = self._sent.newest_id(sent.like.pair)
        if missing and missing not in numbers:
            return Found(why=f"roostoo does not list its order {missing} either")
        if any(self._may_be(row, sent) for row in self._sound_list(None)):
            return Found(why="roostoo's lists differ")
        return Found(absent=True)

    def _list(self, pair: str | None) -> list[OrderRow]:
        rows = self._rows(lambda: self.client.query(pair=pair, limit=LIMIT))
        self._sent.saw(row.order_id for row in rows)
        return rows

    def _sound_list(self, pair: str | None) -> list[OrderRow]:
        """The latest orders; one that shows our orders, or the pair, otherwise than they are raises RetryableError: it proves nothing."""
        rows = self._list(pair)
        known = self._sent.likenesses()
        for row in rows:
            if row.like != known.get(row.order_id, row.like) or row.like.pair != (pair or row.like.pair):
                raise RetryableError(f"roostoo: query_order: order {row.order_id} is listed as {row.like}")
        return rows

    def _may_be(self, row: OrderRow, sent: SentOrder) -> bool:
        """Whether a row can be an order whose number is not known: alike, not another of ours, and not from another time."""
        if row.like != sent.like or row.order_id in self._sent.likenesses():
            return False
        since_ms = row.created_ms - sent.sent_ms
        return _in_time(since_ms) or (row.order_id > sent.after_id and abs(since_ms) < DOUBT_MS)

    def _rows(self, ask: Callable[[], list[Any]]) -> list[OrderRow]:
        answer = self._patiently(ask)
        try:
            return read_rows(answer)
        except ValueError as error:
            raise RetryableError(f"roostoo: query_order: {error}") from error

    def _refuse_unfit(self, order: Order) -> None:
        """Raise OrderRejectedError for an order that Roostoo would refuse; MarketClosedError if it would refuse all of the pair."""
        rules = self.rules().get(order.pair)
        if rules is None or not rules.active:
            raise MarketClosedError(
                f"{order.pair}: {'no such pair in ' + self._stake if rules is None else 'is not traded now'} at roostoo"
            )
        if order.type is OrderType.STOP:
            raise OrderRejectedError(f"{order.pair}: no stop can rest at roostoo")
        for name, value, step in (("qty", order.qty, rules.qty_step), ("limit_price", order.limit_price, rules.price_step)):
            if value is not None and step is not None and (value <= 0 or value % step):
                raise OrderRejectedError(f"{order.pair}: {name} {value:f} is not a multiple of {step}")
        if (order.type is OrderType.LIMIT) != (order.limit_price is not None):
            raise OrderRejectedError(f"{order.pair}: a {order.type} order with limit_price {order.limit_price}")
        least = rules.min_notional
        if order.limit_price is not None and least is not None and order.qty * order.limit_price < least:
            raise OrderRejectedError(f"{order.pair}: worth {order.qty * order.limit_price}, must be at least {least}")

    def _patiently(self, ask: Callable[[], T]) -> T:
        """Ask; where the budget says later, wait once for it, if that is soon. Nothing was accepted by then: it is not sent twice."""
        try:
            return ask()
        except RateLimitedError as limited:
            wait_s = (limited.retry_at - self._now()).total_seconds()
            if not 0 <= wait_s <= self._wait_left_s:
                raise
            self._wait_left_s -= wait_s
            self._sleep(wait_s)
            return ask()


def _params(order: Order) -> dict[str, str]:
    """The parameters of an order; numbers in plain digits, without zeros at the end."""
    like = Likeness.of(order)
    params = {"pair": like.pair, "side": like.side, "type": like.type, "quantity": _plain(order.qty)}
    return params if order.limit_price is None else params | {"price": _plain(order.limit_price)}


def _plain(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _in_time(since_ms: int) -> bool:
    """Whether an order that was created so long after it was stamped can be the one."""
    return -TOLERANCE_MS <= since_ms <= VALID_MS + TOLERANCE_MS


def _reaches(rows: Sequence[OrderRow], sent: SentOrder) -> bool:
    """Whether a list, newest first, holds everything that came after an order was sent."""
    if len(rows) < LIMIT:
        return True
    numbers = [row.order_id for row in rows]
    return numbers == sorted(numbers, reverse=True) and numbers[-1] <= sent.after_id
