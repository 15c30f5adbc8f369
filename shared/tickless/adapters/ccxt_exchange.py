"""``ports.Exchange`` on an account at any ccxt exchange: spot, or contracts that are linear in the stake currency.

Nothing of an order is remembered here. Everything is asked of the exchange under the ``client_order_id``, which says so after a crash too:
an order is looked up before it is sent, and where the answer to it was lost it is looked up again, never sent again. What every error of
ccxt becomes is the table of ``ccxt_errors``; what a contract account's balances mean is told in ``ccxt_balances``.

An order is reported final only once the trades that the exchange tells add up to what it says was filled; until then it stays open, and
the next tick asks again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

from tickless.adapters.ccxt_balances import refuse_untold, spot_balances, swap_balances
from tickless.adapters.ccxt_client import MarketType, open_account_client
from tickless.adapters.ccxt_errors import Failure, RequestFailed, market_is_closed, would_trigger
from tickless.adapters.ccxt_funding import TELLING, fetch_funding, funding_since
from tickless.adapters.ccxt_ids import SentIds, id_form
from tickless.adapters.ccxt_instruments import AccountMarkets
from tickless.adapters.ccxt_lookup import SETTLE_ASKS, SETTLE_S, OrderLookup
from tickless.adapters.ccxt_orders import FoundOrder, Instrument, read_number, read_order
from tickless.adapters.ccxt_requests import AccountRequests
from tickless.adapters.secrets import ApiKeys
from tickless.adapters.weight_budget import WeightPurse
from tickless.errors import (
    AccountError,
    ExchangeError,
    MarketClosedError,
    OrderRejectedError,
    RetryableError,
    UnknownOutcomeError,
    WouldTriggerError,
)
from tickless.ports import Priority
from tickless.types import AccountSnapshot, Funding, Order, OrderReport, OrderStatus, OrderType, PairRules, RestingStops, Side, to_ms

MANY = 8
"""From so many orders on, the list of all open orders is asked for first: most orders of a desk are stops that rest untouched."""
STABLE_READS = 3
MARGIN_EXTRAS: Mapping[str, tuple[str, ...]] = {"bybit": ("leverage",), "okx": ("leverage", "marginMode")}
"""Exchanges that set margin mode and leverage together."""
MARGIN_IN_ORDERS: Mapping[str, str] = {"okx": "marginMode"}
"""Exchanges where each order says which margin it uses, and what ccxt calls that."""


class CcxtExchange:
    """An account. ``client`` is the ccxt client, whose markets are loaded when first needed, and again every hour, at a snapshot.

    ``max_skew_s`` is how far the exchange's clock may be from ours before nothing is traded. ``time_left_s`` is what is left of the
    function's time: no request is made that could outlast it. ``purse`` is the shared request budget. ``stop_limit_frac`` is how far from
    its stop an order may fill at an exchange that has stop-limit orders only. Raises SettingsError for an exchange where orders are not
    known to be found under our id.
    """

    def __init__(
        self,
        exchange_id: str,
        keys: ApiKeys,
        stake: str,
        *,
        market_type: MarketType = "spot",
        sandbox: bool = False,
        leverage: int = 1,
        margin_mode: Literal["cross", "isolated"] = "isolated",
        timeout_s: float = 5.0,
        time_left_s: Callable[[], float] = lambda: float("inf"),
        purse: WeightPurse | None = None,
        max_skew_s: float = 1.0,
        stop_limit_frac: Decimal = Decimal("0.01"),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        form = id_form(exchange_id, market_type)
        self.client = open_account_client(exchange_id, keys, market_type=market_type, sandbox=sandbox, timeout_s=timeout_s)
        self._requests = AccountRequests(self.client, keys.source, keys.redact, now, sleep, timeout_s, time_left_s, purse)
        self._sent_ids = SentIds(self.client, form)
        self._markets = AccountMarkets(self._requests, stake, market_type, form)
        self._lookup = OrderLookup(self._requests, self._markets)
        self._id = exchange_id
        self._margin: dict[str, Any] = {"leverage": leverage, "marginMode": margin_mode}
        self._max_skew_s = max_skew_s
        self._stop_limit_frac = stop_limit_frac
        self._clock_checked = False
        self._prepared: set[str] = set()

    def snapshot(self, at: datetime, orders: Sequence[Order]) -> AccountSnapshot:
        """See ``Exchange.snapshot``. Balances are read before and after the orders until both agree, so that no fill lies between them.

        So is funding, around the balances: a payment that is told is in them. Raises RetryableError, ExchangeError, and AccountError, also
        where the clocks differ too much.
        """
        with self._doing(Priority.EXIT):
            self._check_clock()
            self._markets.renew()
            paid, balances = self._funding(at), self._balances()
            reports: dict[str, OrderReport] = {}
            for attempt in range(STABLE_READS):
                reports = self._reports(orders)
                before = paid, balances
                if orders or attempt:
                    balances = self._balances()
                paid = self._funding(at)
                if before == (paid, balances):
                    break
            since = None if paid is None else funding_since(at)
            return AccountSnapshot(at, balances, reports, funding=paid or (), funding_since=since)

    def submit(self, order: Order, at: datetime) -> OrderReport:  # noqa: ARG002 — the exchange has its own time
        """See ``Exchange.submit``. Also raises AccountError."""
        leaves = order.reduce_only or (order.side is Side.SELL and not self._markets.is_swap)
        with self._doing(Priority.EXIT if leaves else Priority.ORDINARY):
            with _nothing_sent(order):
                instrument = self._fit(order)
                if not self._clock_checked:
                    self._check_clock()
                known = self._lookup.find(order, instrument, thorough=False)
                if known is not None:
                    return self._lookup.report(known, order, instrument)
                self._set_margin(order, instrument)
            what = f"{self._id}: {order.type} {order.side} of {order.qty} {order.pair} ({order.client_order_id})"
            try:
                sent = self._requests.send(what, lambda: read_order(self._create(order, instrument), order, instrument, sent=True))
            except RequestFailed as failed:
                return self._after_failure(failed, order, instrument)
            return self._accepted(sent, order, instrument)

    def cancel(self, order: Order, at: datetime) -> OrderReport:  # noqa: ARG002 — the exchange has its own time
        """See ``Exchange.cancel``. An order that the exchange does not know is reported as cancelled. Also raises AccountError."""
        with self._doing(Priority.EXIT), _nothing_sent(order):
            instrument = self._markets.find(order.pair)
            if instrument is None:
                raise RetryableError(f"{order.pair}: {self._id} lists no such market now")
            exchange_id, params = None, self._lookup.params(order)
            if not self._lookup.by_client_id:
                found = self._lookup.find(order, instrument)
                if found is None or (found.status is not None and found.status.is_final):
                    return self._told(found, order, instrument)
                exchange_id, params = found.exchange_id, self._lookup.apart(order)
            what = f"{self._id}: cancelling {order.pair} ({order.client_order_id})"
            try:
                self._requests.send(what, lambda: self.client.cancel_order(exchange_id, instrument.symbol, params))
            except RequestFailed as failed:
                if failed.failure in (Failure.LOST, Failure.UNCLEAR):
                    return self._after_lost_cancel(failed, order, instrument)
                if failed.failure not in (Failure.MISSING, Failure.REFUSED):
                    raise self._requests.translate(failed) from failed
            return self._settled(order, instrument)

    def supports_stops(self, pair: str) -> bool:
        """Whether a protective stop can rest on the exchange for this pair. Raises RetryableError, AccountError, ExchangeError."""
        instrument = self._markets.find(pair)
        return instrument is not None and self._markets.stop_kind(instrument) is not None

    def resting_stops(self, pair: str) -> RestingStops:
        """See ``Exchange.resting_stops``. Raises RetryableError, AccountError, ExchangeError."""
        if not self.supports_stops(pair):
            return RestingStops.NONE
        return RestingStops.PLACE_FIRST if self._markets.is_swap else RestingStops.CANCEL_FIRST

    def rules(self) -> Mapping[str, PairRules]:
        """The exchange's filters by ccxt's symbol, in base units. Raises RetryableError, AccountError, ExchangeError."""
        return {symbol: self._markets.rules(instrument) for symbol, instrument in self._markets.all().items()}

    def _check_clock(self) -> None:
        """Raise AccountError where the exchange's clock is further from ours than allowed, however long the answer took."""
        if self.client.has.get("fetchTime"):
            before = to_ms(self._requests.now())
            server_ms = self._requests.ask(f"{self._id}: time", lambda: int(read_number(self.client.fetch_time(), "time")))
            after = to_ms(self._requests.now())
            ahead_s, behind_s = (server_ms - after) / 1000, (before - server_ms) / 1000
            if max(ahead_s, behind_s) > self._max_skew_s:
                skew = f"{ahead_s:.1f} s ahead of" if ahead_s > 0 else f"{behind_s:.1f} s behind"
                raise AccountError(f"{self._id}: its clock is {skew} ours, at most {self._max_skew_s:g} s: nothing is traded")
        self._clock_checked = True

    def _balances(self) -> dict[str, Decimal]:
        markets, stake = self._markets.all(), self._markets.stake
        if not self._markets.is_swap:
            return self._requests.ask(f"{self._id}: balances", lambda: spot_balances(self._raw_balances(), stake))

        def read() -> dict[str, Decimal]:
            positions = self.client.fetch_positions()
            return swap_balances(self._raw_balances({"type": "swap"}), positions, stake, markets)

        return self._requests.ask(f"{self._id}: positions", read)

    def _raw_balances(self, *params: Any) -> Any:
        raw = self.client.fetch_balance(*params)
        if self._id.startswith("binance"):
            refuse_untold(raw, self._markets.stake)
        return raw

    def _funding(self, at: datetime) -> tuple[Funding, ...] | None:
        """What contracts have paid and cost; None where there is nothing to tell, or nobody who tells it."""
        if not self._markets.is_swap or self._id not in TELLING:
            return None
        return fetch_funding(self._requests, self._markets.stake, at)

    def _reports(self, orders: Sequence[Order]) -> dict[str, OrderReport]:
        """A report on each order that the exchange knows.

        One whose market it does not list now, or of which it refuses to speak, stays open and harms no other.
        """
        placed = {order.client_order_id: (order, found) for order in orders if (found := self._markets.find(order.pair)) is not None}
        resting = self._resting(placed) if len(placed) >= MANY else {}
        reports: dict[str, OrderReport] = {}
        for order in orders:
            name = order.client_order_id
            if name not in placed:
                reports[name] = OrderReport(name, OrderStatus.OPEN, (), f"{self._id} lists no market {order.pair} now")
                continue
            try:
                seen = resting.get(name) or self._lookup.find(*placed[name])
                if seen is not None:
                    reports[name] = self._lookup.report(seen, *placed[name])
            except ExchangeError as error:
                if type(error) is not ExchangeError:
                    raise
                reports[name] = OrderReport(name, OrderStatus.OPEN, (), f"cannot be looked up: {error}")
        return reports

    def _resting(self, placed: Mapping[str, tuple[Order, Instrument]]) -> dict[str, FoundOrder]:
        """Orders that rest untouched, by one list of all; none where the exchange does not give it: each is then asked for by itself."""
        try:
            return self._lookup.untouched(placed)
        except ExchangeError as error:
            if type(error) is not ExchangeError:
                raise
            return {}

    def _fit(self, order: Order) -> Instrument:
        """The market of an order that keeps its rules; raises OrderRejectedError."""
        instrument = self._markets.find(order.pair)
        if instrument is None:
            raise MarketClosedError(f"{order.pair}: {self._id} has no such market in {self._markets.stake}")
        self._markets.refuse_unfit(order, instrument)
        return instrument

    def _create(self, order: Order, instrument: Instrument) -> Any:
        """Send an order. Amounts travel as text. Raises OrderRejectedError where its id would not go with it."""
        params: dict[str, Any] = {}
        kind, price = str(order.type), order.limit_price
        if self._markets.is_swap and order.reduce_only:
            params["reduceOnly"] = True
        if self._markets.is_swap and self._id in MARGIN_IN_ORDERS:
            params[MARGIN_IN_ORDERS[self._id]] = self._margin["marginMode"]
        if order.type is OrderType.STOP:
            kind = self._markets.stop_kind(instrument) or "market"
            params["stopLossPrice"] = f"{order.stop_price:f}"
            price = self._markets.stop_limit(order, instrument, self._stop_limit_frac)
        text = None if price is None or kind == "market" else f"{price:f}"
        qty = f"{order.qty / instrument.size:f}"
        with self._sent_ids.holding(order.client_order_id) as named:
            return self.client.create_order(instrument.symbol, kind, str(order.side), qty, text, {**named, **params})

    def _set_margin(self, order: Order, instrument: Instrument) -> None:
        """Margin mode and leverage of a contract, before the first order that could open a position; refused means not traded."""
        symbol = instrument.symbol
        if not self._markets.is_swap or order.reduce_only or symbol in self._prepared:
            return
        extras = {name: self._margin[name] for name in MARGIN_EXTRAS.get(self._id, ())}
        changes: dict[str, Callable[[], Any]] = {
            "setMarginMode": lambda: self.client.set_margin_mode(self._margin["marginMode"], symbol, dict(extras)),
            "setLeverage": lambda: self.client.set_leverage(self._margin["leverage"], symbol, dict(extras)),
        }
        for name, change in changes.items():
            if not self.client.has.get(name):
                continue
            try:
                self._requests.send(f"{self._id}: {name} of {order.pair}", change)
            except RequestFailed as failed:
                if failed.failure in (Failure.REFUSED, Failure.UNCLEAR, Failure.PERMISSION):
                    raise OrderRejectedError(f"{failed}; nothing is opened with other margin than the settings say") from failed
                if failed.failure is not Failure.UNCHANGED:
                    raise self._requests.translate(failed) from failed
        self._prepared.add(symbol)

    def _after_failure(self, failed: RequestFailed, order: Order, instrument: Instrument) -> OrderReport:
        """What became of an order whose submission failed; see the table of ``ccxt_errors``."""
        if market_is_closed(failed):
            raise MarketClosedError(str(failed)) from failed
        if order.type is OrderType.STOP and would_trigger(failed):
            raise WouldTriggerError(str(failed)) from failed
        if failed.failure in (Failure.REFUSED, Failure.PERMISSION, Failure.UNCHANGED):
            raise OrderRejectedError(str(failed)) from failed
        if failed.failure not in (Failure.LOST, Failure.DUPLICATE, Failure.UNCLEAR, Failure.MISSING):
            raise self._requests.translate(failed) from failed
        try:
            found = self._lookup.find(order, instrument)
        except ExchangeError as error:
            raise UnknownOutcomeError(f"{failed}; and it cannot be looked up: {error}") from failed
        if found is not None:
            return self._accepted(found, order, instrument)
        if failed.failure in (Failure.UNCLEAR, Failure.MISSING):
            raise OrderRejectedError(str(failed)) from failed
        raise UnknownOutcomeError(f"{failed}; the exchange does not know it, yet") from failed

    def _accepted(self, sent: FoundOrder, order: Order, instrument: Instrument) -> OrderReport:
        """The report on an order that was accepted; what more there is to know must not make it look as if it was not."""
        try:
            found = sent if sent.status is not None else self._lookup.find(order, instrument)
            if found is not None:
                return self._lookup.report(found, order, instrument)
        except ExchangeError as error:
            return OrderReport(order.client_order_id, OrderStatus.OPEN, (), f"accepted; its fills cannot be read yet: {error}")
        return OrderReport(order.client_order_id, OrderStatus.OPEN, (), "accepted; not listed yet")

    def _settled(self, order: Order, instrument: Instrument) -> OrderReport:
        """The report on an order after its cancellation, which may take a moment."""
        found = self._lookup.find(order, instrument)
        for _ in range(SETTLE_ASKS - 1):
            if found is None or (found.status is not None and found.status.is_final):
                break
            self._requests.sleep(SETTLE_S)
            found = self._lookup.find(order, instrument)
        return self._told(found, order, instrument)

    def _after_lost_cancel(self, failed: RequestFailed, order: Order, instrument: Instrument) -> OrderReport:
        """The report on an order that is final by now; raises UnknownOutcomeError where the cancellation may still be under way."""
        try:
            report = self._settled(order, instrument)
        except ExchangeError as error:
            raise UnknownOutcomeError(f"{failed}; and it cannot be looked up: {error}") from failed
        if not report.status.is_final:
            raise UnknownOutcomeError(f"{failed}; it is still open") from failed
        return report

    def _told(self, found: FoundOrder | None, order: Order, instrument: Instrument) -> OrderReport:
        if found is None:
            return OrderReport(order.client_order_id, OrderStatus.CANCELED, (), "unknown to the exchange")
        return self._lookup.report(found, order, instrument)

    @contextmanager
    def _doing(self, priority: Priority) -> Iterator[None]:
        self._requests.priority = priority
        try:
            yield
        finally:
            self._requests.priority = Priority.ORDINARY


@contextmanager
def _nothing_sent(order: Order) -> Iterator[None]:
    """Inside, a question that the exchange refused leaves the order unsent: RetryableError says so, where ExchangeError would not."""
    try:
        yield
    except ExchangeError as error:
        if type(error) is ExchangeError:
            raise RetryableError(f"{order.client_order_id}: {error}") from error
        raise
