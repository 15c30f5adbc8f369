"""An exchange on loopback that speaks Binance's spot and USDT-futures REST and Roostoo's, over bars that a test makes or has recorded.

In this process, in a thread::

    with loopback_exchange(World(panel, start_at)) as (exchange, url):
        client = ccxt_client("binance", url, exchange.world, lambda: exchange.clock.now_ms)
        exchange.faults.next("POST /api/v3/order", Fault.CUT_AFTER)
        exchange.set_time(later)

In one of its own, which outlives a client that is killed: ``with separate_exchange(world, tmp_path) as exchange`` (``exchange.url``), or
``python -m tests.loopback --world FILE --port 0``. Both have the same face; the fixtures are in ``tests.loopback.fixtures``.

Time is the exchange's own and moves with ``set_time`` only. Inside a bar the price stands at the bar's open; market orders fill there,
limits when a bar that closed after they came traded strictly through them, stops before limits. A client id is unique among OPEN orders
only, as at Binance: a market order that is sent twice trades twice, and ``orders_sent`` and ``resent`` tell.

What the real ccxt client makes of each fault when it creates an order (the tests hold this table to be true):

==================== ============================== ==============================================================================
fault                ccxt raises                    remark
==================== ============================== ==============================================================================
DELAY_BEFORE, _AFTER RequestTimeout                 once the delay is longer than the client's time-out; done either way
RATE_LIMIT, BANNED   DDoSProtection                 Retry-After in the headers
SERVER_ERROR         ExchangeNotAvailable           nothing has happened, but the client cannot know
SERVER_ERROR_AFTER   RequestTimeout                 -1007
CUT_BEFORE, _AFTER,  NetworkError                   the three cannot be told apart
_INSIDE
DUPLICATE_ID         InvalidOrder                   the same class as for a price that is off its tick: read the code, -2010 or -4116
PARTIAL              (no error)                     status expired, filled below amount
VANISHED             OrderNotFound                  lists are empty without an error
STALE                (no error)                     yesterday's balances
CLOCK_SKEW           InvalidNonce                   -1021
REVOKED_KEY          AuthenticationError            DDoSProtection on spot, after a first call that was answered: read the code, -2015
REFUSED              InsufficientFunds              by default; code and msg can be chosen
TRUNCATED, MALFORMED (no error)                     an order without id and status; balances without assets
STRINGS              (no error)                     ccxt reads both
NAN                  ValueError                     not one of ccxt's own; futures balances are NaN without an error
WRONG_PAIR           (no error)                     the pair asked for stands in for the one answered: look at ``info``
MISSING              (no error)                     ``executedQty`` missing is a fill of zero with status closed
==================== ============================== ==============================================================================
"""

from tests.loopback.clients import ccxt_client, point_at
from tests.loopback.exchange import Logged, LoopbackExchange
from tests.loopback.faults import Fault, Faults
from tests.loopback.orders import RefusedError
from tests.loopback.remote import RemoteExchange, separate_exchange
from tests.loopback.server import loopback_exchange
from tests.loopback.world import FeeIn, Timestamps, World

__all__ = [
    "Fault",
    "Faults",
    "FeeIn",
    "Logged",
    "LoopbackExchange",
    "RefusedError",
    "RemoteExchange",
    "Timestamps",
    "World",
    "ccxt_client",
    "loopback_exchange",
    "point_at",
    "separate_exchange",
]
