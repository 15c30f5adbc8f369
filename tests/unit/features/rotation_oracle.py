"""The features of ``rotation`` once more, bar by bar in plain Python, from their definitions: slow, and easy to check by eye."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from tickless.bars import Panel

HOUR_MS, HALF_HOUR_MS = 3_600_000, 1_800_000
Closes = list[float | None]


def segment_to(closes: Sequence[float | None], t: int, max_gap: int) -> list[float]:
    """The closes that end at row t, gaps of up to ``max_gap`` rows carried forward, back to the last longer gap. Empty: no close at t."""
    run: list[float] = []
    missing = 0
    for close in closes[: t + 1]:
        missing = missing + 1 if close is None else 0
        if close is not None:
            run.append(close)
        elif missing > max_gap:
            run = []
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


def half_hours(panel: Panel, n: int) -> tuple[int, list[tuple[float, float, float] | None]]:
    """(open time of the first, (high, low, close) or None of each) of one pair's complete 30m bars."""
    per_bar = HALF_HOUR_MS // panel.step_ms
    first = next(t for t in range(per_bar) if (panel.start_ms + t * panel.step_ms) % HALF_HOUR_MS == 0)
    bars: list[tuple[float, float, float] | None] = []
    for begin in range(first, panel.rows - per_bar + 1, per_bar):
        rows = [t for t in range(begin, begin + per_bar) if not math.isnan(panel.close[t, n])]
        if rows:
            high, low = max(panel.high[t, n] for t in rows), min(panel.low[t, n] for t in rows)
            bars.append((float(high), float(low), float(panel.close[rows[-1], n])))
        else:
            bars.append(None)
    return panel.start_ms + first * panel.step_ms, bars


def atr_30m(panel: Panel, n: int, t: int, max_gap_bars: int) -> tuple[float, float]:
    """(ATR, close) of the last 30m bar that has closed when the bar of row t closes."""
    nothing = (math.nan, math.nan)
    start_ms, bars = half_hours(panel, n)
    closed = (panel.start_ms + (t + 1) * panel.step_ms - start_ms) // HALF_HOUR_MS
    allowed = max(1, max_gap_bars * panel.step_ms // HALF_HOUR_MS) if max_gap_bars else 0
    run: list[tuple[float, float, float]] = []
    missing = 0
    for bar in bars[: max(0, closed)]:
        missing = missing + 1 if bar is None else 0
        if bar is not None:
            run.append(bar)
        elif missing > allowed:
            run = []
        elif run:
            run.append((run[-1][2],) * 3)
    if not run:
        return nothing
    close = run[-1][2]
    if len(run) < 15:
        return math.nan, close
    ranges = [max(h - low, abs(h - p), abs(low - p)) for (h, low, _), (_, _, p) in zip(run[-14:], run[-15:-1], strict=True)]
    return mean(ranges), close


def features_at(panel: Panel, n: int, t: int, max_gap_bars: int) -> dict[str, float]:
    """All features of pair n at row t, from bars up to t."""
    closes: Closes = [None if math.isnan(c) else float(c) for c in panel.close[: t + 1, n]]
    run = segment_to(closes, t, max_gap_bars)
    atr, atr_close = atr_30m(panel, n, t, max_gap_bars)
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
