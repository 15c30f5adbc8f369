"""One ccxt exchange client without the other hundred, and its errors in our tree.

``import ccxt`` imports every exchange (76 MB, a fifth of a second), and a Lambda layer may not even hold the others. An exchange's own
module needs only ``ccxt.base``, so it is imported under a stand-in for the package, which is taken away again: a later ``import ccxt``
finds the modules loaded here and works as ever.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Callable
from threading import Lock
from types import ModuleType
from typing import Any, TypeVar

from tickless.errors import ExchangeError, RetryableError, SettingsError

T = TypeVar("T")
_importing = Lock()


def exchange_class(exchange_id: str) -> Any:
    """The ccxt class of an exchange. Raises SettingsError for an id that ccxt does not have."""
    spec = importlib.util.find_spec("ccxt")
    if spec is None or spec.submodule_search_locations is None:
        raise SettingsError("desk.exchange: the package ccxt is not installed")
    with _importing:
        standing_in = "ccxt" not in sys.modules
        if standing_in:
            package = ModuleType("ccxt")
            package.__path__ = list(spec.submodule_search_locations)
            sys.modules["ccxt"] = package
        try:
            if not re.fullmatch("[a-z0-9]+", exchange_id) or importlib.util.find_spec(f"ccxt.{exchange_id}") is None:
                raise SettingsError(f"desk.exchange: {exchange_id!r} is no exchange that ccxt knows")
            found = getattr(importlib.import_module(f"ccxt.{exchange_id}"), exchange_id, None)
        finally:
            if standing_in:
                del sys.modules["ccxt"]
    if not isinstance(found, type):
        raise SettingsError(f"desk.exchange: {exchange_id!r} is no exchange that ccxt knows")
    return found


def open_client(exchange_id: str, timeout_s: float) -> Any:
    """A client for public spot data: no credentials, rate limit kept, nothing fetched that only an account may see.

    ccxt reads an answer that makes no sense (an error page, say) as "no bars"; this client raises ccxt's BadResponse instead.
    """
    client = exchange_class(exchange_id)({"enableRateLimit": True, "timeout": int(timeout_s * 1000)})
    client.options["fetchMargins"] = False
    client.options["fetchMarkets"] = {"types": ["spot"]}
    client.has["fetchCurrencies"] = False
    client.fetch = _refusing(client.fetch, lambda answer: not isinstance(answer, list | dict), "JSON")
    client.parse_ohlcv = _refusing(client.parse_ohlcv, _is_no_bar, "[ms, open, high, low, close, volume]")
    return client


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


def ask(what: str, request: Callable[[], T], *, attempts: int, backoff_s: float, sleep: Callable[[float], None]) -> T:
    """The answer to a public request, asked again after a network error; ``what`` begins every error's sentence.

    Raises RetryableError for a network error, a rate limit (never asked again at once: that earns a ban) or an answer that makes no sense,
    and ExchangeError for a refusal that would be repeated.
    """
    errors = importlib.import_module("ccxt.base.errors")
    for attempt in range(1, attempts + 1):
        try:
            return request()
        except (errors.DDoSProtection, errors.RateLimitExceeded) as error:
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
