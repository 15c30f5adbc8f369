"""The features of ``rotation`` once more, bar by bar in plain Python, from their definitions: slow, and easy to check by eye."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence

from tickless.bars import Panel

HOUR_MS, HALF_HOUR_MS = 3_600_000, 1_800_000
Closes = list[float | None]


def segment_to(closes: Sequence[float | None], t: int, max_gap: int, breaks: Collection[int] = ()) -> list[float]:
    """The closes of the series at row t, gaps of up to ``max_gap`` rows carried forward, back to the last longer gap or break of the scale.

    Empty: no series at t.
    """
    run: list[float] = []
    missing = 0
    for row, close in enumerate(closes[: t + 1]):
        missing = missing + 1 if close is None else 0
        if row in breaks or missing > max_gap:
            run = []
        if close is not None:
            run.append(close)
        elif run:
            run.append(run[-1])
    return run


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def deviation(values: Sequence[float]) -> float:
    """Population standard deviation."""
    if max(values) == min(values):
        return 0.0
    centre = mean(values)
    return math.sqrt(math.fsum((v - centre) ** 2 for v in values) / len(values))


def emas(values: Sequence[float], bars: int) -> list[float]:
    a = 2.0 / (bars + 1.0)
    out = [values[0]]
    for value in values[1:]:
        out.append(a * value + (1.0 - a) * out[-1])
    return out


def ema_z(run: Sequence[float], ema_bars: int, std_bars: int) -> float:
    if len(run) < std_bars:
        return 0.0
    distance = [close - ema for close, ema in zip(run, emas(run, ema_bars), strict=True)]
    return distance[-1] / (deviation(distance[-std_bars:]) + 1e-8)


def rsi(run: Sequence[float], bars: int) -> float:
    if len(run) <= bars:
        return math.nan
    changes = [b - a for a, b in zip(run[-bars - 1 : -1], run[-bars:], strict=True)]
    gain, loss = mean([max(c, 0.0) for c in changes]), mean([max(-c, 0.0) for c in changes])
    if loss == 0.0:
        return 100.0 if gain > 0.0 else 50.0
    return 100.0 - 100.0 / (1.0 + gain / loss)


def bollinger(run: Sequence[float]) -> float:
    if len(run) < 20:
        return math.nan
    m, s = mean(run[-20:]), deviation(run[-20:])
    return 0.5 if s == 0.0 else min(1.0, max(0.0, (run[-1] - (m - 2.0 * s)) / (4.0 * s)))


def log_returns(run: Sequence[float]) -> list[float]:
    return [math.log(b / a) for a, b in itertools.pairwise(run)]


def total_return(run: Sequence[float], bars: int) -> float:
    return math.exp(math.fsum(log_returns(run[-bars - 1 :]))) - 1.0 if len(run) > bars else math.nan


def realised(run: Sequence[float], bars: int) -> float:
    return deviation(log_returns(run[-bars - 1 :])) * math.sqrt(bars) if len(run) > bars else math.nan


def half_hours(panel: Panel, n: int, t: int, run: Sequence[float]) -> list[tuple[float, float, float]]:
    """(high, low, close) of the 30m bars that have closed when the bar of row t closes; ``run`` holds the closes of the series up to it."""
    per_bar = HALF_HOUR_MS // panel.step_ms
    first = next(row for row in range(per_bar) if (panel.start_ms + row * panel.step_ms) % HALF_HOUR_MS == 0)
    began = t - len(run) + 1
    bars = []
    for begin in range(first, t + 2 - per_bar, per_bar):
        rows = [row for row in range(begin, begin + per_bar) if row >= began]
        if rows:
            closes = [run[row - began] for row in rows]
            high = max(c if math.isnan(panel.high[row, n]) else float(panel.high[row, n]) for row, c in zip(rows, closes, strict=True))
            low = min(c if math.isnan(panel.low[row, n]) else float(panel.low[row, n]) for row, c in zip(rows, closes, strict=True))
            bars.append((high, low, closes[-1]))
    return bars


def atr_30m(panel: Panel, n: int, t: int, run: Sequence[float]) -> tuple[float, float]:
    """(ATR, close) of the last 30m bar that has closed when the bar of row t closes."""
    bars = half_hours(panel, n, t, run)
    if len(bars) < 15:
        return math.nan, math.nan
    ranges = [max(h - low, abs(h - p), abs(low - p)) for (h, low, _), (_, _, p) in zip(bars[-14:], bars[-15:-1], strict=True)]
    return mean(ranges), bars[-1][2]


def features_at(panel: Panel, n: int, t: int, max_gap_bars: int, breaks: Collection[int] = ()) -> dict[str, float]:
    """All features of pair n at row t, from bars up to t; ``breaks`` are the first rows on a new price scale."""
    closes: Closes = [None if math.isnan(c) else float(c) for c in panel.close[: t + 1, n]]
    run = segment_to(closes, t, max_gap_bars, breaks)
    atr, atr_close = atr_30m(panel, n, t, run)
    out = {"atr_14_30m_frac": atr / atr_close, "atr_14_30m": atr}
    if not run:
        names = ("r_1h", "r_3h", "r_6h", "r_24h", "ema20_z", "ema60_z", "rsi7", "rsi14", "bb_pos", "rv_6h", "rv_24h", "dd_from_peak")
        return out | dict.fromkeys(names, math.nan)
    hour = HOUR_MS // panel.step_ms
    out |= {f"r_{h}h": total_return(run, h * hour) for h in (1, 3, 6, 24)}
    out |= {"ema20_z": ema_z(run, 20, 96), "ema60_z": ema_z(run, 60, 288)}
    out |= {"rsi7": rsi(run, 7), "rsi14": rsi(run, 14), "bb_pos": bollinger(run)}
    out |= {"rv_6h": realised(run, 6 * hour), "rv_24h": realised(run, 24 * hour)}
    out["dd_from_peak"] = run[-1] / max(run[-24 * hour :]) - 1.0 if len(run) >= 24 * hour else math.nan
    return out
