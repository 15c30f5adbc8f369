"""Which exchanges a live desk may trade at, and what each of them lacks. Pure: names of ccxt, nothing of ccxt itself.

A live desk rests on one thing: an order is found again under the id that it was given. ccxt sends that id on at some exchanges, refuses it
at others, and at some leaves it out without a word, so that an order whose answer was lost could never be found. So only exchanges are
open to a live desk of which tests have shown the id to go out in the order, and to come back in the exchange's lists.
"""

from __future__ import annotations

from collections.abc import Mapping

from tickless.settings.near_names import nearest_name

_BOTH, _SPOT, _SWAP = ("spot", "swap"), ("spot",), ("swap",)
PROVEN_EXCHANGES: Mapping[str, tuple[str, ...]] = {
    "binance": _BOTH,
    "binanceus": _SPOT,
    "binanceusdm": _SWAP,
    "bingx": _SPOT,
    "bitget": _SPOT,
    "bybit": _BOTH,
    "coinbase": _SPOT,
    "cryptocom": _SPOT,
    "gate": _SPOT,
    "gateeu": _SPOT,
    "htx": _SPOT,
    "kraken": _SPOT,
    "kucoin": _SPOT,
    "mexc": _SPOT,
    "myokx": _SPOT,
    "okx": _BOTH,
    "okxus": _SPOT,
}
"""The markets of each exchange where an order is known to be found under our id."""
BUYS_BY_VALUE = frozenset({"bitget", "coinbase", "gate", "gateeu", "htx"})
"""Spot exchanges that take market buys by what they may cost: such an order can fill to more than was planned, so none is sent."""
RESTING_STOPS = frozenset({"binance", "binanceus", "binanceusdm"})
"""Exchanges where a stop is known to be placed, found, followed when it goes off, and cancelled."""
NO_SPOT_SANDBOX = frozenset({"bitget", "coinbase", "htx", "kraken", "kucoin", "mexc"})
"""Exchanges where a live desk may trade and ccxt has no test site for spot to switch to."""
MOST_HISTORY_BARS: Mapping[str, int] = {"gate": 10_000, "gateeu": 10_000, "hyperliquid": 5_000, "kraken": 720}
"""The latest bars of a timeframe that an exchange hands out, where nothing older can be asked for."""


def exchange_refusal(exchange: str, market_type: str) -> str:
    """Why a live desk may not trade there: what follows the key and the exchange's name; empty where it may."""
    if market_type in PROVEN_EXCHANGES.get(exchange, ()):
        return ""
    # Somebody who has mistyped the name need not hear of orders first.
    known = [*PROVEN_EXCHANGES, "roostoo"]
    near = "" if exchange in known else nearest_name(exchange, known)
    meant = f"did you mean {near!r}? " if near else ""
    proven = [name for name, types in PROVEN_EXCHANGES.items() if market_type in types]
    return (
        f"{meant}an order could be lost there: nobody has shown that {exchange} tells orders on {market_type} by the id that we give them; "
        f"with desk.mode = 'live' it must be one of {', '.join([*proven, *(['roostoo'] if market_type == 'spot' else [])])}"
    )
