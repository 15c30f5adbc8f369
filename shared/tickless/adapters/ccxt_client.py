"""One ccxt exchange client without the other hundred: for public data, or for an account; and the errors of public data in our tree.

``import ccxt`` imports every exchange (76 MB, a fifth of a second), and a Lambda layer may not even hold the others. An exchange's own
module needs only ``ccxt.base``, so it is imported under a stand-in for the package, which is taken away again: a later ``import ccxt``
finds the modules loaded here and works as ever.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import re
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from importlib.machinery import PathFinder
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from tickless.errors import ExchangeError, RetryableError, SettingsError
from tickless.settings import did_you_mean

if TYPE_CHECKING:
    from tickless.adapters.secrets import ApiKeys

T = TypeVar("T")
MarketType = Literal["spot", "swap"]
LINEAR_MARKETS = frozenset({"binance", "binanceusdm", "bybit"})
"""Exchanges that can be asked for linear contracts alone; others load all of theirs."""
MARKETS_FOR, MARKETS_AGAIN = timedelta(hours=1), timedelta(minutes=5)
"""How long a list of markets is believed: pairs are halted and delisted, steps change. How soon it is asked for again where that failed."""
_importing = Lock()


def exchange_class(exchange_id: str) -> Any:
    """The ccxt class of an exchange. Raises SettingsError for an id that ccxt does not have."""
    spec = importlib.util.find_spec("ccxt")
    if spec is None or spec.submodule_search_locations is None:
        raise SettingsError("desk.exchange: the package ccxt is not installed")
    unknown = f"desk.exchange: {exchange_id!r} is no exchange that ccxt knows"
    with _importing:
        standing_in = "ccxt" not in sys.modules
        if standing_in:
            package = ModuleType("ccxt")
            package.__path__ = list(spec.submodule_search_locations)
            sys.modules["ccxt"] = package
        try:
            if not re.fullmatch("[a-z0-9]+", exchange_id) or importlib.util.find_spec(f"ccxt.{exchange_id}") is None:
                raise SettingsError(f"{unknown}{did_you_mean(exchange_id, exchange_ids())}")
            found = getattr(importlib.import_module(f"ccxt.{exchange_id}"), exchange_id, None)
        finally:
            if standing_in:
                del sys.modules["ccxt"]
    if not isinstance(found, type):
        raise SettingsError(unknown)
    return found


def exchange_ids() -> list[str]:
    """The ids of ccxt's exchanges, sorted; empty where ccxt is not installed. Imports none of them, and works under the stand-in."""
    spec = PathFinder.find_spec("ccxt")
    folders = spec.submodule_search_locations if spec is not None else None
    return sorted({path.stem for folder in folders or () for path in Path(folder).glob("[a-z]*.py")})


def open_client(exchange_id: str, timeout_s: float, market_type: MarketType = "spot") -> Any:
    """A client for public data of one type of market: no credentials, rate limit kept, nothing fetched that only an account may see.

    ccxt reads an answer that makes no sense (an error page, say) as "no bars"; this client raises ccxt's BadResponse instead.
    """
    client = exchange_class(exchange_id)({"enableRateLimit": True, "timeout": int(timeout_s * 1000)})
    client.options["fetchMargins"] = False
    client.has["fetchCurrencies"] = False
    _choose_markets(client, market_type)
    client.fetch = _refusing(client.fetch, lambda answer: not isinstance(answer, list | dict), "JSON")
    client.parse_ohlcv = _refusing(client.parse_ohlcv, _is_no_bar, "[ms, open, high, low, close, volume]")
    return client


def open_account_client(
    exchange_id: str, keys: ApiKeys, *, market_type: MarketType = "spot", sandbox: bool = False, timeout_s: float = 5.0
) -> Any:
    """A client for an account. Numbers stay the text the exchange sent, nothing is asked twice by itself, nothing is logged.

    An answer that is no JSON, or has NaN in it, raises ccxt's BadResponse. Raises SettingsError where there is no sandbox to switch to.
    """
    credentials = {"apiKey": keys.api_key, "secret": keys.secret, "password": keys.password}
    client = exchange_class(exchange_id)({"enableRateLimit": True, "timeout": int(timeout_s * 1000), **credentials})
    client.logger = _silent_log()
    client.number = str
    client.on_json_response = _loads
    client.has["fetchCurrencies"] = False
    client.options |= {
        "fetchMargins": False,
        "maxRetriesOnFailure": 0,
        "adjustForTimeDifference": False,
        "warnOnFetchOpenOrdersWithoutSymbol": False,
        "defaultType": market_type,
    }
    _choose_markets(client, market_type)
    if sandbox:
        _switch_to_sandbox(client, market_type)
    client.fetch = _refusing(client.fetch, lambda answer: not isinstance(answer, list | dict), "JSON")
    return client


def _choose_markets(client: Any, market_type: MarketType) -> None:
    """Load these markets only, where the exchange can be asked for them alone."""
    if market_type == "spot":
        client.options["fetchMarkets"] = {"types": ["spot"]}
    else:
        client.options |= {"defaultType": market_type, "defaultSubType": "linear"}
        if client.id in LINEAR_MARKETS:
            client.options["fetchMarkets"] = {"types": ["linear"]}


def _switch_to_sandbox(client: Any, market_type: MarketType) -> None:
    """Binance has given up the sandbox of its futures; its demo trading is what took its place."""
    refuse_no_sandbox(client, market_type)
    if _trades_demo(client, market_type):
        client.enable_demo_trading(True)
    else:
        client.set_sandbox_mode(True)


def refuse_no_sandbox(client: Any, market_type: MarketType) -> None:
    """Raise SettingsError where ccxt has no test or demo site of an exchange to switch to."""
    if not _trades_demo(client, market_type) and not client.urls.get("test"):
        raise SettingsError(f"desk.sandbox: {client.id} has no sandbox for {market_type}")


def _trades_demo(client: Any, market_type: MarketType) -> bool:
    return market_type == "swap" and callable(getattr(client, "enable_demo_trading", None))


def _silent_log() -> logging.Logger:
    """Where ccxt writes every request to at debug level, keys and all: it has no handler, no parent, and drops everything."""
    log = logging.Logger("tickless.ccxt", logging.CRITICAL + 1)
    log.disabled = True
    return log


def _loads(text: str) -> Any:
    """JSON whose decimal numbers stay text; raises ValueError for NaN and Infinity, which are no JSON."""
    return json.loads(text, parse_float=str, parse_constant=_no_number)


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is not a number")


def _refusing(call: Callable[..., Any], is_bad: Callable[[Any], bool], expected: str) -> Callable[..., Any]:
    errors = importlib.import_module("ccxt.base.errors")

    def checked(*args: Any, **kwargs: Any) -> Any:
        answer = call(*args, **kwargs)
        if is_bad(answer):
            raise errors.BadResponse(f"malformed answer: {str(answer)[:80]!r} is not {expected}")
        return answer

    return checked


def _is_no_bar(row: Any) -> bool:
    return len(row) != 6 or not all(isinstance(value, int | float) for value in row)


def load_markets(client: Any, read: Callable[[dict[str, Any]], T]) -> T:
    """What ``read`` makes of the client's markets by symbol, asked for anew; where it raises, the client has those of before."""
    before = client.markets
    try:
        return read(client.load_markets(True))  # Not what it has already, however old or wrong that is.
    except Exception:
        if before and client.markets is not before:
            client.set_markets(list(before.values()))
        raise


def refuse_untold_market(client: Any, market: Mapping[str, Any]) -> None:
    """Raise ValueError for a market of which Binance does not say whether it trades, what its filters are, or which orders it takes.

    ccxt takes a missing status for a closed market, missing filters for none, and refuses every stop where no kinds of order are told.
    """
    info = market.get("info") or {}
    if not str(client.id).startswith("binance"):
        return
    for names in (("status", "contractStatus"), ("filters",), ("orderTypes",)):
        if not any(info.get(name) for name in names):
            raise ValueError(f"{market.get('symbol')}: {names[0]} is missing")


def ask(
    what: str,
    request: Callable[[], T],
    *,
    attempts: int,
    backoff_s: float,
    sleep: Callable[[float], None],
    limited: Callable[[Exception], object] = lambda _error: None,
) -> T:
    """The answer to a public request, asked again after a network error; ``what`` begins every error's sentence.

    ``limited`` is told of a rate limit, and may raise an error that says more. Raises RetryableError for a network error, a rate limit
    (never asked again at once: that earns a ban) or an answer that makes no sense, and ExchangeError for a refusal that would be repeated.
    """
    errors = importlib.import_module("ccxt.base.errors")
    for attempt in range(1, attempts + 1):
        try:
            return request()
        except (errors.DDoSProtection, errors.RateLimitExceeded) as error:
            limited(error)
            raise RetryableError(f"{what}: the exchange limits our rate: {_short(error)}") from error
        except (errors.NetworkError, errors.BadResponse, errors.NullResponse) as error:
            if attempt == attempts:
                raise RetryableError(f"{what}: {_short(error)}") from error
            sleep(backoff_s * 2 ** (attempt - 1))
        except errors.BaseError as error:
            raise ExchangeError(f"{what}: {_short(error)}") from error
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise RetryableError(f"{what}: malformed answer: {_short(error)}") from error
    raise ValueError(f"attempts {attempts}: must be at least 1")


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}"
