"""The coins of the synthetic market: real names at plausible prices, so that tier lists and exchange filters have something to do."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, log10

import numpy as np

# Name and first price in USDT, in order of turnover. Any first dozen holds several of each tier of the rotation desk and some of none.
_KNOWN: tuple[tuple[str, float], ...] = (
    ("BTC", 60_000.0),
    ("ETH", 3_000.0),
    ("PEPE", 0.00001),
    ("SOL", 150.0),
    ("ICP", 12.0),
    ("BONK", 0.000025),
    ("XRP", 0.55),
    ("DOT", 7.0),
    ("LTC", 80.0),
    ("WIF", 2.5),
    ("DOGE", 0.14),
    ("SUI", 1.2),
    ("AVAX", 32.0),
    ("UNI", 8.5),
    ("FLOKI", 0.00018),
    ("LINK", 15.0),
    ("ATOM", 8.0),
    ("APT", 9.0),
    ("BNB", 550.0),
    ("ADA", 0.45),
    ("FIL", 5.5),
    ("ARB", 0.9),
    ("NEAR", 6.0),
    ("SEI", 0.5),
    ("TRX", 0.12),
    ("WLD", 4.0),
    ("1000CHEEMS", 0.0012),
    ("TON", 6.5),
    ("PENDLE", 5.0),
    ("PUMP", 0.004),
    ("OP", 2.0),
    ("AAVE", 100.0),
    ("INJ", 25.0),
    ("ETC", 26.0),
    ("BCH", 420.0),
    ("XLM", 0.11),
    ("GALA", 0.03),
    ("SHIB", 0.00002),
    ("FET", 1.5),
    ("GRT", 0.25),
    ("TIA", 9.0),
    ("STX", 2.1),
    ("IMX", 2.0),
    ("LDO", 2.0),
    ("CRV", 0.4),
    ("ALGO", 0.18),
    ("SAND", 0.42),
    ("MANA", 0.43),
    ("AXS", 7.3),
    ("DYDX", 2.0),
    ("ENS", 20.0),
    ("JUP", 1.0),
    ("PYTH", 0.4),
    ("RUNE", 5.5),
    ("KAVA", 0.65),
    ("ZEC", 25.0),
    ("DASH", 29.0),
    ("CHZ", 0.12),
    ("EGLD", 40.0),
    ("FLOW", 0.9),
    ("MINA", 0.8),
    ("ROSE", 0.1),
    ("CELO", 0.8),
    ("THETA", 2.0),
)


@dataclass(frozen=True)
class Coin:
    """One coin: first price and turnover a day in the quote currency, beta to the market, own volatility a year, decimals of its ticks."""

    base: str
    price: float
    daily_volume: float
    beta: float
    own_vol: float

    @property
    def price_decimals(self) -> int:
        """Six significant digits of the first price: fine enough that rounding adds no visible bounce to returns."""
        return max(0, 5 - floor(log10(self.price)))

    @property
    def qty_decimals(self) -> int:
        """One step is worth between a cent and a few units of the quote currency."""
        return max(0, floor(log10(self.price)) + 1)


def list_coins(count: int, seed: int) -> list[Coin]:
    """The first ``count`` coins; past the known names come ``COIN065`` and so on. A coin depends on its place and the seed only."""
    coins = []
    for n in range(count):
        rng = np.random.default_rng([seed, 6, n])
        spread, beta, vol, size = rng.random(4).tolist()
        base, price = _KNOWN[n] if n < len(_KNOWN) else (f"COIN{n + 1:03d}", round(10 ** (3 * spread - 2), 4))
        volume = 2e9 * (n + 1) ** -1.15 * 2 ** (size - 0.5)
        if n == 0:
            coins.append(Coin(base, price, volume, beta=0.9, own_vol=0.15))
        else:
            own_vol = 0.4 + 0.4 * vol + (0.25 if price < 0.001 else 0.0)
            coins.append(Coin(base, price, volume, beta=0.8 + 0.6 * beta, own_vol=own_vol))
    return coins
