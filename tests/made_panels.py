"""Seeded panels for tests of features, regimes and universe: random walks, with holes where a test asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from tickless.bars import COLUMNS, Panel, step_ms
from tickless.types import to_ms

MONDAY = datetime(2024, 1, 8, tzinfo=UTC)


def walk(
    pairs: Sequence[str],
    rows: int,
    *,
    timeframe: str = "15m",
    start: datetime = MONDAY,
    seed: int = 1,
    price: Sequence[float] = (),
    sigma: float = 0.004,
    drift: float = 0.0,
) -> Panel:
    """Random walks from the given first prices (100 where none is given), volume near 1,000."""
    rng = np.random.default_rng(seed)
    shape = (rows, len(pairs))
    first = np.asarray(price or [100.0] * len(pairs))
    close = first * np.exp(np.cumsum(rng.normal(drift, sigma, shape), axis=0))
    opened = np.vstack([first[None, :], close[:-1]])[:rows]
    high = np.maximum(opened, close) * (1.0 + np.abs(rng.normal(0.0, sigma / 2.0, shape)))
    low = np.minimum(opened, close) * (1.0 - np.abs(rng.normal(0.0, sigma / 2.0, shape)))
    volume = rng.lognormal(np.log(1000.0), 0.5, shape)
    start_ms = to_ms(start)
    return Panel(timeframe, tuple(pairs), start_ms - start_ms % step_ms(timeframe), opened, high, low, close, volume)


def closes_only(closes: Sequence[float | None]) -> Panel:
    """15m bars of one pair, each of them nothing but its close; None is a missing bar."""
    column = np.array([[np.nan if close is None else close] for close in closes])
    return Panel("15m", ("A/USDT",), to_ms(MONDAY), column, column, column, column, np.where(np.isnan(column), np.nan, 1000.0))


def without(panel: Panel, pair: str, first: int, last: int) -> Panel:
    """The panel without the bars of one pair in rows [first, last)."""
    columns = {name: getattr(panel, name).copy() for name in COLUMNS}
    for values in columns.values():
        values[first:last, panel.column[pair]] = np.nan
    return replace(panel, **columns)


def flat(panel: Panel, pair: str, first: int, last: int, price: float) -> Panel:
    """The panel with one pair's price constant in rows [first, last)."""
    columns = {name: getattr(panel, name).copy() for name in COLUMNS}
    for name in ("open", "high", "low", "close"):
        columns[name][first:last, panel.column[pair]] = price
    return replace(panel, **columns)


def scrambled_after(panel: Panel, row: int, seed: int) -> Panel:
    """The panel with every bar after ``row`` replaced by another one, or removed."""
    rng = np.random.default_rng(seed)
    columns = {name: getattr(panel, name).copy() for name in COLUMNS}
    shape = columns["close"][row + 1 :].shape
    gone = rng.random(shape) < 0.2
    for values in columns.values():
        values[row + 1 :] = np.where(gone, np.nan, rng.uniform(1e-6, 1e6, shape))
    return replace(panel, **columns)


def rescaled(panel: Panel, pair: str, row: int, ratio: float) -> Panel:
    """The panel with one pair's prices times ``ratio`` from ``row`` on, the open of that bar at exactly ``ratio`` times the last close."""
    columns = {name: getattr(panel, name).copy() for name in COLUMNS}
    n = panel.column[pair]
    for name in ("open", "high", "low", "close"):
        columns[name][row:, n] *= ratio
    before = np.flatnonzero(~np.isnan(columns["close"][:row, n]))
    columns["open"][row, n] = columns["close"][before[-1], n] * ratio if len(before) else columns["open"][row, n]
    return replace(panel, **columns)
