"""One exchange of three venues: its clock, its faults, its log, and the answer to every request."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from datetime import datetime
from decimal import Decimal
from threading import RLock
from typing import Any

from tests.loopback.binance import BinanceApi, Clock
from tests.loopback.binance_futures import BinanceFutures
from tests.loopback.binance_spot import BinanceSpot
from tests.loopback.faults import NEVER_ACCEPTED, Fault, Faults
from tests.loopback.futures_account import FuturesAccount
from tests.loopback.futures_venue import FuturesVenue
from tests.loopback.matching import Venue
from tests.loopback.orders import ZERO
from tests.loopback.prices import Prices
from tests.loopback.roostoo import Roostoo
from tests.loopback.spot_account import SpotAccount
from tests.loopback.wire import Answer, ApiError, Request, any_field, encode, with_nan, with_pair, with_strings, without
from tests.loopback.world import World
from tickless.types import to_ms

PLACING = ("POST /api/v3/order", "POST /fapi/v1/order", "POST /fapi/v1/algoOrder", "POST /v3/place_order")
CLIENT_IDS = ("newClientOrderId", "clientAlgoId")
UNKNOWN = ApiError(-1007, "Timeout waiting for response from backend server. Send status unknown; execution status unknown.", 503)
REWRITES: Mapping[Fault, Callable[[Any, Mapping[str, Any]], Any]] = {
    Fault.STRINGS: lambda body, arguments: with_strings(body),
    Fault.NAN: lambda body, arguments: with_nan(body),
    Fault.WRONG_PAIR: lambda body, arguments: with_pair(body, arguments.get("pair", "XXXUSDT")),
    Fault.MISSING: lambda body, arguments: without(body, arguments.get("name") or any_field(body, arguments["where"])),
}


@dataclass(frozen=True)
class Logged:
    """A request that came. ``accepted``: the exchange did what was asked, whatever the client was told."""

    number: int
    at_ms: int
    endpoint: str
    params: Mapping[str, str]
    accepted: bool
    status: int
    """0 where the connection was cut."""
    fault: Fault | None

    @property
    def client_id(self) -> str | None:
        return next((self.params[name] for name in CLIENT_IDS if name in self.params), None)


@dataclass(frozen=True)
class Reply:
    """What goes over the wire. ``text`` None closes the connection; ``sent`` of it are written before the connection is closed."""

    status: int
    text: str | None
    headers: Mapping[str, str] = field(default_factory=dict)
    sent: int | None = None
    wait_s: float = 0.0


class LoopbackExchange:
    """Binance spot, Binance futures and Roostoo, each with an account of its own, at one time. Safe for threads."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.clock = Clock(world, to_ms(world.start_at))
        self.faults = Faults()
        self.log: list[Logged] = []
        self.watch: list[Callable[[str, Request], None]] = []
        """Called with ``before`` or ``after`` and the request, around what the exchange does."""
        self._requests = 0
        self._sent: Counter[str] = Counter()
        self._resent: list[str] = []
        self._lock = RLock()
        prices = self.prices = Prices(world)

        def bnb(quote: str) -> Decimal | None:
            return prices.ask(f"BNB/{quote}", self.clock.now_ms)

        def mark(pair: str) -> Decimal:
            return prices.ask(pair, self.clock.now_ms) or ZERO

        now = self.clock.now_ms
        usd = {"USDT" if asset == "USD" else asset: amount for asset, amount in world.roostoo.items()}
        self.spot = Venue(world, prices, SpotAccount(world.spot, world.fee_in, bnb), now, 1_000_001)
        self.futures = FuturesVenue(world, prices, FuturesAccount(world.futures, world.fee_in, mark, bnb), now, 4_000_001)
        self.roostoo = Venue(world, prices, SpotAccount(usd, world.fee_in, bnb), now, 81)
        self.venues: dict[str, Venue] = {"spot": self.spot, "futures": self.futures, "roostoo": self.roostoo}
        self.apis: dict[str, BinanceApi | Roostoo] = {
            "spot": BinanceSpot(world, prices, self.spot, self.clock),
            "futures": BinanceFutures(world, prices, self.futures, self.clock),
            "roostoo": Roostoo(world, prices, self.roostoo, self.clock),
        }
        self._api = {endpoint: name for name in ("futures", "spot", "roostoo") for endpoint in self.apis[name].routes}

    def set_time(self, at: datetime) -> None:
        """Let time pass to ``at``: bars that close on the way fill what rests. Time never goes back."""
        with self._lock:
            self.clock.now_ms = max(self.clock.now_ms, to_ms(at))
            for venue in self.venues.values():
                venue.advance(self.clock.now_ms)

    def set_skew(self, milliseconds: int) -> None:
        """Put the exchange's clock so far ahead (behind, below zero) of the true one."""
        self.clock.skew_ms = milliseconds

    def set_status(self, venue: str, pair: str, status: str) -> None:
        """``TRADING``, or ``BREAK`` for a pair that does not trade."""
        with self._lock:
            self.venues[venue].status[pair] = status

    def set_key_works(self, venue: str, *, works: bool) -> None:
        """Revoke the API key, or let it work again."""
        self.apis[venue].key_works = works

    def move(self, venue: str, asset: str, amount: Decimal) -> None:
        """A deposit, or a withdrawal below zero."""
        with self._lock:
            account = self.venues[venue].account
            assert isinstance(account, SpotAccount | FuturesAccount)
            account.move("USDT" if venue == "roostoo" and asset == "USD" else asset, Decimal(amount))

    def pay_funding(self, pair: str, rate: Decimal, at: datetime | None = None) -> Decimal:
        """Funding of a contract, stamped ``at`` (None = now); what the account got."""
        with self._lock:
            account = self.futures.account
            assert isinstance(account, FuturesAccount)
            return account.pay_funding(pair, Decimal(rate), self.clock.now_ms if at is None else to_ms(at))

    def balances(self, venue: str) -> dict[str, Decimal]:
        """Totals by asset, zeros left out; the wallet, for futures."""
        with self._lock:
            account = self.venues[venue].account
            if isinstance(account, FuturesAccount):
                return {asset: amount for asset, amount in sorted(account.wallet.items()) if amount}
            assert isinstance(account, SpotAccount)
            usd = {asset: "USD" if venue == "roostoo" and asset == "USDT" else asset for asset in account.assets()}
            return {usd[asset]: account.total(asset) for asset in account.assets() if account.total(asset)}

    def state(self, venue: str) -> dict[str, Any]:
        """Everything about one account, as JSON can say it (numbers as text): to compare two runs."""
        with self._lock:
            found = self.venues[venue]
            account = found.account
            held = account.open_positions() if isinstance(account, FuturesAccount) else []
            return {
                "balances": {asset: f"{amount:f}" for asset, amount in self.balances(venue).items()},
                "positions": {f"{one.pair} {one.side}": f"{one.qty:f}" for one in held},
                "orders": [_order_state(order) for order in found.orders.values()],
                "open": [order.client_id for order in found.working.values()],
                "trades": [{key: _text(value) for key, value in asdict(trade).items()} for trade in found.trades],
            }

    def orders_sent(self) -> Counter[str]:
        """How often each client order id was sent AND taken: more than once is an order sent twice."""
        return +self._sent

    def resent(self) -> list[str]:
        """Client order ids that were sent again after the exchange had taken them, taken again or not."""
        return list(self._resent)

    def clear_log(self) -> None:
        """Forget the requests so far, not what was sent twice: a soak makes very many. Numbers go on."""
        with self._lock:
            self.log.clear()

    def answer(self, request: Request) -> Reply:
        """Do what is asked, unless a fault is in the way; log it."""
        with self._lock:
            fault, arguments = self.faults.take(request.endpoint)
        if fault is Fault.DELAY_BEFORE:
            time.sleep(float(arguments.get("seconds", 0.05)))
        with self._lock:
            for watcher in self.watch:
                watcher("before", request)
            answer = self._act(request, fault, arguments)
            reply = _reply(answer, fault, arguments)
            params = request.params if request.path.startswith(("/api", "/fapi", "/sapi")) else request.literal_params
            status = 0 if reply.text is None else reply.status
            self._note(Logged(self._requests, self.clock.now_ms, request.endpoint, params, answer.accepted, status, fault))
            for watcher in self.watch:
                watcher("after", request)
        return reply

    def _note(self, logged: Logged) -> None:
        self._requests += 1
        self.log.append(logged)
        if logged.endpoint in PLACING and logged.client_id:
            if self._sent[logged.client_id]:
                self._resent.append(logged.client_id)
            self._sent[logged.client_id] += logged.accepted

    def _act(self, request: Request, fault: Fault | None, arguments: Mapping[str, Any]) -> Answer:
        name = self._api.get(request.endpoint, "roostoo" if request.path.startswith("/v3") else "spot")
        api = self.apis[name]
        if fault is Fault.VANISHED:
            return api.vanished(request)
        if fault in NEVER_ACCEPTED:
            return _refusal(api, fault, arguments)
        share = Decimal(str(arguments.get("share", "0.5"))) if fault is Fault.PARTIAL else Decimal(1)
        asked = fault is Fault.STALE and request.endpoint.startswith("GET ")
        stale: AbstractContextManager[None] = self.venues[name].stale() if asked else nullcontext()
        with stale:
            answer = api.answer(request, share)
        if fault is Fault.DUPLICATE_ID and answer.accepted and isinstance(api, BinanceApi):
            code, msg = (-2010, "Duplicate order sent.") if name == "spot" else (-4116, "ClientOrderId is duplicated.")
            return Answer(400, {"code": code, "msg": msg}, answer.headers)
        return answer


def _refusal(api: BinanceApi | Roostoo, fault: Fault | None, arguments: Mapping[str, Any]) -> Answer:
    """The answer of an exchange that does nothing."""
    wait = {"Retry-After": str(arguments.get("retry_after", 7 if fault is Fault.RATE_LIMIT else 120))}
    match fault:
        case Fault.RATE_LIMIT:
            return Answer(429, {"code": -1003, "msg": "Too many requests."}, wait, accepted=False)
        case Fault.BANNED:
            return Answer(418, {"code": -1003, "msg": "Way too many requests; IP banned."}, wait, accepted=False)
        case Fault.CUT_BEFORE | Fault.SERVER_ERROR:
            return Answer(int(arguments.get("status", 500)), None, accepted=False)
    if isinstance(api, Roostoo):
        said = {Fault.CLOCK_SKEW: "timestamp is not valid", Fault.REVOKED_KEY: "you do not have this permission"}
        msg = said.get(fault) if fault else None
        return Answer(200, {"Success": False, "ErrMsg": msg or arguments.get("msg", "insufficient balance")}, accepted=False)
    match fault:
        case Fault.CLOCK_SKEW:
            return api.error(ApiError(-1021, "Timestamp for this request is outside of the recvWindow."))
        case Fault.REVOKED_KEY:
            return api.error(ApiError(-2015, "Invalid API-key, IP, or permissions for action.", 401))
    code, msg = int(arguments.get("code", -2010)), arguments.get("msg", "Account has insufficient balance for requested action.")
    return api.error(ApiError(code, msg, int(arguments.get("status", 400))))


def _reply(answer: Answer, fault: Fault | None, arguments: Mapping[str, Any]) -> Reply:
    """What the client is told."""
    if fault in {Fault.CUT_BEFORE, Fault.CUT_AFTER}:
        return Reply(answer.status, None)
    if fault is Fault.SERVER_ERROR:
        return Reply(answer.status, "<html>Internal Server Error</html>")
    if fault is Fault.SERVER_ERROR_AFTER:
        return Reply(UNKNOWN.status, encode({"code": UNKNOWN.code, "msg": UNKNOWN.msg}), answer.headers)
    if fault is Fault.MALFORMED:
        return Reply(200, "<html><body>We are back soon.</body></html>")
    rewrite = REWRITES.get(fault) if fault else None
    text = encode(rewrite(answer.body, arguments) if rewrite else answer.body)
    if fault is Fault.TRUNCATED:
        text = text[: len(text) // 2]
    wait_s = float(arguments.get("seconds", 0.05)) if fault is Fault.DELAY_AFTER else 0.0
    return Reply(answer.status, text, answer.headers, len(text) // 2 if fault is Fault.CUT_INSIDE else None, wait_s)


def _order_state(order: Any) -> dict[str, Any]:
    names = ("id", "client_id", "pair", "side", "type", "qty", "price", "stop", "status", "filled", "quote", "created_ms", "is_algo")
    return {name: _text(getattr(order, name)) for name in names}


def _text(value: Any) -> Any:
    return f"{value:f}" if isinstance(value, Decimal) else value
