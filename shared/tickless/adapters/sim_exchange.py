"""``ports.Exchange`` simulated on bars: what dry-run, replay and backtest trade on.

It is an exchange with a memory of its own: an account that it loads, works off up to the tick, and saves. The fill model is the pure one of
``execution.matching``; this adapter finds the bars for it and keeps the account in a store that a restart cannot lose.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from math import isnan
from typing import Protocol, TypeVar

from tickless.adapters.codec import decode, encode
from tickless.adapters.price_scales import Break, Scales, StoredScales, is_jump
from tickless.bars import Panel, floor_ms, step_ms
from tickless.errors import OrderRejectedError, WouldTriggerError
from tickless.execution.matching import Bar, Matching, SimAccount, SimOrder
from tickless.execution.rounding import exact
from tickless.execution.settlement import PRICE_SCALE_BREAK
from tickless.ports import BarStore, Market
from tickless.settings import Settings
from tickless.types import AccountSnapshot, Order, OrderReport, OrderStatus, PairRules, RestingStops, Side, evolve, from_ms, to_ms

T = TypeVar("T", SimAccount, SimOrder)

SUSPENDED = f"{PRICE_SCALE_BREAK}: the pair is suspended until its first bar on the new scale has closed"


LastBars = Callable[[Sequence[str], datetime], tuple[Mapping[str, float], Mapping[str, float]]]
"""(pairs, at) → closes and volumes of the bars that have just closed at ``at``; a pair without that bar is absent."""


WOULD_TRIGGER = "the stop would trigger at once"


LAST_BAR = "the run closes what is open at the end of this bar"
"""Why nothing is bought any more."""


class SimStore(Protocol):
    """Where the simulated exchange's account is kept, as text."""

    def load(self) -> tuple[int, str] | None:
        """(version, account text), or None where there is no account yet."""
        ...

    def order(self, client_order_id: str) -> str | None:
        """The text of an order, or None."""
        ...

    def save(self, version: int, account: str, orders: Mapping[str, str]) -> None:
        """Store account and orders together, if the stored version is still ``version`` (0 = none). Raises RetryableError.

        Of more orders than a transaction holds, the first may be stored before the account, while its version is still that one.
        """
        ...


class Accounts(Protocol):
    """The simulated exchange's memory, as values."""

    def load(self) -> tuple[int, SimAccount] | None:
        """(version, account), or None where there is no account yet."""
        ...

    def order(self, client_order_id: str) -> SimOrder | None:
        """An order, or None."""
        ...

    def save(self, version: int, account: SimAccount, orders: Mapping[str, SimOrder]) -> None:
        """Store account and orders together, if the stored version is still ``version`` (0 = none). Raises RetryableError."""
        ...


class TextAccounts:
    """Accounts in a store that keeps text: a restart cannot lose them."""

    def __init__(self, store: SimStore) -> None:
        self._store = store

    def load(self) -> tuple[int, SimAccount] | None:
        """See ``Accounts.load``."""
        stored = self._store.load()
        return None if stored is None else (stored[0], _from_text(SimAccount, stored[1]))

    def order(self, client_order_id: str) -> SimOrder | None:
        """See ``Accounts.order``."""
        text = self._store.order(client_order_id)
        return None if text is None else _from_text(SimOrder, text)

    def save(self, version: int, account: SimAccount, orders: Mapping[str, SimOrder]) -> None:
        """See ``Accounts.save``."""
        self._store.save(version, _text(account), {client_order_id: _text(sim) for client_order_id, sim in orders.items()})


class PlainAccounts:
    """Accounts of a single run in this process: a backtest's."""

    def __init__(self) -> None:
        self._version = 0
        self._account: SimAccount | None = None
        self._orders: dict[str, SimOrder] = {}

    def load(self) -> tuple[int, SimAccount] | None:
        """See ``Accounts.load``."""
        return None if self._account is None else (self._version, self._account)

    def order(self, client_order_id: str) -> SimOrder | None:
        """See ``Accounts.order``."""
        return self._orders.get(client_order_id)

    def save(self, version: int, account: SimAccount, orders: Mapping[str, SimOrder]) -> None:
        """See ``Accounts.save``; nobody else writes."""
        self._version, self._account = version + 1, account
        self._orders.update(orders)


class SimExchange:
    """A simulated account on the bars of a market. Settings are those of the tick.

    ``scales`` says where price scales break, ``last_bars`` how bars that have just closed did; without them the stored bars are asked.
    ``ends_at`` is when a run ends; with ``execution.close_at_end`` nothing is bought in its last bar, only to be sold at that bar's close.
    """

    def __init__(
        self,
        accounts: Accounts,
        bars: BarStore,
        market: Market,
        settings: Settings,
        scales: Scales | None = None,
        last_bars: LastBars | None = None,
        ends_at: datetime | None = None,
    ) -> None:
        self._accounts = accounts
        self._bars = bars
        self._market = market
        self._settings = settings
        self._timeframe = settings.desk.timeframe
        self._step = step_ms(self._timeframe)
        self._scales = scales or StoredScales(bars, market, self._timeframe)
        ending = ends_at if settings.execution.close_at_end else None
        self._last_open_ms = None if ending is None else to_ms(ending) - self._step
        self._last_bars = last_bars or self._stored_last_bars

    def snapshot(self, at: datetime, orders: Sequence[Order]) -> AccountSnapshot:
        """Settle everything up to ``at``, then report. ``at`` must not lie before the last settlement."""
        version, account = self._load(at)
        matching = self._matching(account)
        self._settle(matching, to_ms(at))
        # Kept for a holding too, once a bar: else the bars since its last order would be looked through again at every tick.
        moved = matching.account.settled_ms // self._step > account.settled_ms // self._step
        # The wallet is that of the first look: a parameter changed later puts no money in.
        if version == 0 or matching.changed or matching.account.orders or (moved and len(matching.account.balances) > 1):
            self._save(version, matching)
        reports = {order.client_order_id: self._report(order.client_order_id, matching) for order in orders}
        known = {client_order_id: report for client_order_id, report in reports.items() if report is not None}
        return AccountSnapshot(at, dict(matching.account.balances), known, matching.account.settlements)

    def submit(self, order: Order, at: datetime) -> OrderReport:
        """Take an order in; a market order of zero latency fills at once, at the open of the bar that opens now."""
        known = self._accounts.order(order.client_order_id)
        if known is not None:
            # A stop's refusal is said again: whoever asks anew has to sell instead.
            return _taken(known) if order.protects else known.report()
        version, account = self._load(at)
        matching = self._matching(account)
        now_ms = to_ms(at)
        self._settle(matching, now_ms)
        arrival = now_ms + round(self._settings.execution.latency_s * 1000)
        sim = SimOrder(order, arrival)
        refusal = SUSPENDED if self._suspended(order.pair, now_ms) else matching.refusal(order)
        if order.side is Side.BUY and self._is_last_open(-(-arrival // self._step) * self._step):
            refusal = refusal or LAST_BAR
        if refusal:
            sim = matching.refuse(sim, refusal)
        elif arrival == now_ms and now_ms % self._step == 0:
            opens = self._market.opens([order.pair], self._timeframe, at)
            closes, volumes = self._last_bars([order.pair], at)
            prices = _prices(opens, closes)
            if _is_reached(order, prices.get(order.pair)):
                sim = matching.refuse(sim, WOULD_TRIGGER)
            else:
                sim = matching.arrive_at_open(sim, now_ms, prices, volumes)
        else:
            sim = matching.arrive(sim)
        self._save(version, matching)
        return _taken(sim)

    def cancel(self, order: Order, at: datetime) -> OrderReport:
        """Cancel an order; one that is unknown or final is reported as it is."""
        version, account = self._load(at)
        matching = self._matching(account)
        self._settle(matching, to_ms(at))
        matching.cancel(order.client_order_id)
        if matching.changed:
            self._save(version, matching)
        report = self._report(order.client_order_id, matching)
        return report or OrderReport(order.client_order_id, OrderStatus.CANCELED, (), "unknown to the exchange")

    def resting_stops(self, pair: str) -> RestingStops:  # noqa: ARG002 — the same for all
        """See ``Exchange.resting_stops``: the account is a spot account."""
        return RestingStops.CANCEL_FIRST

    def liquidate(self, order: Order, at: datetime, price: float) -> OrderReport:
        """Fill an order whole at ``price``, at the taker fee and without slippage: what ``close_at_end`` does after the last bar."""
        known = self._accounts.order(order.client_order_id)
        if known is not None:
            return known.report()
        version, account = self._load(at)
        matching = self._matching(account)
        sim = SimOrder(order, to_ms(at))
        refusal = matching.refusal(order)
        sim = matching.refuse(sim, refusal) if refusal else matching.liquidate(sim, to_ms(at), price)
        self._save(version, matching)
        return sim.report()

    def _settle(self, matching: Matching, now_ms: int) -> None:
        """Work off every bar since the last settlement, in the order in which things happened."""
        done_ms = matching.account.settled_ms
        if now_ms <= done_ms:
            return
        breaks = self._scales.breaks(done_ms, now_ms, matching.pairs)
        while matching.account.orders:
            close_ms = floor_ms(done_ms, self._step) + self._step
            if close_ms > now_ms:
                break
            self._settle_bar(matching, close_ms, [found for found in breaks if found.known_ms == close_ms])
            done_ms = close_ms
        for found in breaks:
            if found.known_ms > done_ms:
                matching.end_scale(found.pair, found.known_ms, found.last_close)
        matching.account = evolve(matching.account, settled_ms=now_ms)

    def _settle_bar(self, matching: Matching, close_ms: int, breaks: Sequence[Break]) -> None:
        """Work off the bars that close at ``close_ms``, and the opens of that moment."""
        pairs = sorted({sim.order.pair for sim in matching.account.orders})
        window = self._bars.read(self._timeframe, from_ms(close_ms - 2 * self._step), from_ms(close_ms)).select(pairs)
        for found in breaks:
            if found.first_ms < close_ms:
                matching.end_scale(found.pair, close_ms, found.last_close)
        matching.inside(close_ms - self._step, close_ms, _bars_at(window, -1), _volumes_at(window, -2))
        for found in breaks:
            if found.first_ms == close_ms:
                matching.end_scale(found.pair, close_ms, found.last_close)
        opens = self._market.opens(pairs, self._timeframe, from_ms(close_ms))
        if self._is_last_open(close_ms):
            matching.end_buys(LAST_BAR)
        matching.at_open(close_ms, _prices(opens, _closes_at(window, -1)), _volumes_at(window, -1))

    def _is_last_open(self, open_ms: int) -> bool:
        return self._last_open_ms is not None and open_ms >= self._last_open_ms

    def _suspended(self, pair: str, now_ms: int) -> bool:
        """Whether the running bar of a pair is known to be the first on a new scale: what was decided before it cannot mean its prices."""
        open_ms = floor_ms(now_ms, self._step)
        breaks = self._scales.breaks(open_ms - 1, open_ms, lambda: (pair,))
        return bool(breaks) and any(found.first_ms == open_ms for found in breaks)

    def _stored_last_bars(self, pairs: Sequence[str], at: datetime) -> tuple[dict[str, float], dict[str, float]]:
        window = self._bars.read(self._timeframe, from_ms(to_ms(at) - self._step), at).select(pairs)
        return _closes_at(window, -1), _volumes_at(window, -1)

    def _matching(self, account: SimAccount) -> Matching:
        rules: Mapping[str, PairRules] = self._market.rules() if self._settings.execution.filters else {}
        return Matching(self._settings.execution, rules, self._settings.desk.stake_currency, account)

    def _report(self, client_order_id: str, matching: Matching) -> OrderReport | None:
        if client_order_id in matching.changed:
            return matching.changed[client_order_id].report()
        sim = self._accounts.order(client_order_id)
        return sim.report() if sim is not None else None

    def _load(self, at: datetime) -> tuple[int, SimAccount]:
        stored = self._accounts.load()
        if stored is not None:
            return stored
        desk = self._settings.desk
        return 0, SimAccount({desk.stake_currency: Decimal(desk.dry_run_wallet)}, to_ms(at))

    def _save(self, version: int, matching: Matching) -> None:
        self._accounts.save(version, matching.account, matching.changed)


def _taken(sim: SimOrder) -> OrderReport:
    """The report on an order that the exchange has taken; raises OrderRejectedError for one that it has not, however often it comes."""
    if sim.status is not OrderStatus.REJECTED:
        return sim.report()
    error = WouldTriggerError if sim.message == WOULD_TRIGGER else OrderRejectedError
    raise error(f"{sim.order.pair} {sim.order.side} {sim.order.qty}: {sim.message}")


def _is_reached(order: Order, price: float | None) -> bool:
    """Whether the market stands at or beyond the price of a stop."""
    if order.stop_price is None or price is None:
        return False
    return exact(price) <= order.stop_price if order.side is Side.SELL else exact(price) >= order.stop_price


def _bars_at(window: Panel, row: int) -> dict[str, Bar]:
    """The bars of one row by pair; pairs without one are absent."""
    columns = (window.open, window.high, window.low, window.close, window.volume)
    bars = {pair: Bar(*(float(column[row, n]) for column in columns)) for n, pair in enumerate(window.pairs)}
    return {pair: bar for pair, bar in bars.items() if not isnan(bar.close)}


def _prices(opens: Mapping[str, float], closes: Mapping[str, float]) -> dict[str, float]:
    """The opens that fill orders: not those too far from the close just before them, which the bar's volume must explain first.

    What follows a bar without a close has been looked at already.
    """
    return {pair: price for pair, price in opens.items() if (close := closes.get(pair)) is None or not is_jump(price, close)}


def _closes_at(window: Panel, row: int) -> dict[str, float]:
    """The closes of one row by pair; pairs without a bar are absent."""
    return {pair: close for pair, close in zip(window.pairs, window.close[row].tolist(), strict=True) if not isnan(close)}


def _volumes_at(window: Panel, row: int) -> dict[str, float]:
    """The volumes of one row by pair, in base units; pairs without a bar are absent."""
    volumes = {pair: float(window.volume[row, n]) for n, pair in enumerate(window.pairs)}
    return {pair: volume for pair, volume in volumes.items() if not isnan(volume)}


def _text(value: SimAccount | SimOrder) -> str:
    return json.dumps(encode(value), sort_keys=True, separators=(",", ":"))


def _from_text(kind: type[T], text: str) -> T:
    return decode(kind, json.loads(text))
