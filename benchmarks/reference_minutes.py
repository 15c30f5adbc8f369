"""The minutes that the reference loop runs on: 19 features of one pair, recorded or made, and the return of the ten minutes after."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from tickless.bars import Floats

HORIZON = 10
"""A row's label: the return of so many minutes after it."""
WARM_UP = 240
"""Bars before the first row: four spans of the slowest feature."""
NAMES = (
    *("return_1", "return_5", "return_15", "return_60", "acceleration"),
    *("to_ema_12", "to_ema_26", "ema_12_to_26", "to_mean_15", "to_vwap_60", "rsi_14"),
    *("range", "range_15", "range_60", "deviation_15", "deviation_60"),
    *("volume_15", "volume_60", "volume_times_return"),
)
MINUTE_MS = 60_000


@dataclass(frozen=True)
class Minutes:
    """Features (T, 19), the return of the next minutes in per cent (T,), and the minutes' times."""

    x: NDArray[np.float32]
    y: Floats
    time_ms: NDArray[np.int64]


def recorded_minutes(path: Path) -> Minutes:
    """The minutes of a freqtrade parquet file."""
    from pyarrow import parquet

    table = parquet.read_table(path)
    high, low, close, volume = (table[name].to_numpy().astype(np.float64) for name in ("high", "low", "close", "volume"))
    return minutes_of(high, low, close, volume)


def made_minutes(count: int, seed: int = 7) -> Minutes:
    """So many minutes of a random walk with clustered volatility, whose volume tells a thousandth of the return that follows."""
    rng = np.random.default_rng(seed)
    total = count + WARM_UP + HORIZON
    volatility = 5e-4 * np.exp(0.5 * _drift(rng, 240, total))
    signal = _drift(rng, 30, total)
    steps = volatility * rng.standard_normal(total)
    steps[1:] += 0.03 * volatility[1:] * signal[:-1]
    close = 50_000.0 * np.exp(np.cumsum(steps))
    high, low = (close * np.exp(sign * volatility * rng.random(total)) for sign in (1.0, -1.0))
    return minutes_of(high, low, close, np.exp(signal + 0.5 * rng.standard_normal(total)))


def minutes_of(high: Floats, low: Floats, close: Floats, volume: Floats) -> Minutes:
    """Rows from bars of one minute, all (T,): none before the features have warmed up, none whose label is not known.

    Prices are seen as ratios only: a level says where in the window a row lies, and a tree would learn that.
    """
    step = _change(close, 1)
    fast, slow = _ema(close, 12), _ema(close, 26)
    typical = (high + low + close) / 3.0
    span = (high - low) / close
    traded = volume / (_mean(volume, 15) + 1e-10)
    up, down = _mean(np.maximum(step, 0.0), 14), _mean(np.maximum(-step, 0.0), 14)
    columns = [
        *(step, _change(close, 5), _change(close, 15), _change(close, 60), step - np.roll(step, 1)),
        *(close / fast - 1.0, close / slow - 1.0, fast / slow - 1.0, close / _mean(close, 15) - 1.0),
        *(close / (_mean(typical * volume, 60) / (_mean(volume, 60) + 1e-10)) - 1.0, up / (up + down + 1e-10)),
        *(span, _mean(span, 15), _mean(span, 60), _deviation(step, 15), _deviation(step, 60)),
        *(traded, volume / (_mean(volume, 60) + 1e-10), (traded - 1.0) * _change(close, 5)),
    ]
    label = 100.0 * (close[HORIZON:] / close[:-HORIZON] - 1.0)
    rows = slice(WARM_UP, len(close) - HORIZON)
    x = np.stack([column[rows] for column in columns], axis=1)
    return Minutes((100.0 * x).astype(np.float32), label[WARM_UP:], np.arange(len(x), dtype=np.int64) * MINUTE_MS)


def _drift(rng: np.random.Generator, bars: int, total: int) -> Floats:
    """Noise of unit size that stays what it is for about so many bars."""
    return np.asarray(_mean(rng.standard_normal(total + bars), bars)[bars:] * np.sqrt(bars))


def _change(values: Floats, bars: int) -> Floats:
    """The change over so many bars as a share; the first bars are 0."""
    changed = np.zeros_like(values)
    changed[bars:] = values[bars:] / values[:-bars] - 1.0
    return changed


def _mean(values: Floats, bars: int) -> Floats:
    """The mean of the last ``bars`` values; the first value is repeated before the first."""
    padded = np.concatenate([np.full(bars - 1, values[0]), values])
    return np.asarray(sliding_window_view(padded, bars).mean(axis=1))


def _deviation(values: Floats, bars: int) -> Floats:
    """The standard deviation of the last ``bars`` values."""
    padded = np.concatenate([np.full(bars - 1, values[0]), values])
    return np.asarray(sliding_window_view(padded, bars).std(axis=1))


def _ema(values: Floats, bars: int) -> Floats:
    """The exponential mean over ``bars``, begun at the first value."""
    averaged, share = np.empty_like(values), 2.0 / (bars + 1.0)
    last = values[0]
    for place, value in enumerate(values):
        last += share * (value - last)
        averaged[place] = last
    return averaged
