"""Worlds for tests: random walks, and bars given one by one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np

from tests.loopback.world import World
from tests.made_panels import MONDAY, walk
from tickless.bars import Panel
from tickless.types import to_ms

PAIRS = ("BTC/USDT", "ETH/USDT", "BNB/USDT")


def made_world(**changes: Any) -> World:
    """Three pairs on random walks, a day of which has passed."""
    return World(**{"panel": walk(PAIRS, 400, price=[60_000, 3_000, 500], seed=3), "start_at": MONDAY + timedelta(days=1), **changes})


def barred_world(bars: list[tuple[float, float, float, float]], **changes: Any) -> World:
    """One pair, BTC/USDT, with these 15m bars (open, high, low, close), volume 100 each; it is the first bar's open."""
    values = np.array(bars)
    columns = {name: values[:, [n]] for n, name in enumerate(("open", "high", "low", "close"))}
    panel = Panel("15m", ("BTC/USDT",), to_ms(MONDAY), **columns, volume=np.full((len(bars), 1), 100.0))
    return World(**{"panel": panel, "start_at": MONDAY, **changes})
