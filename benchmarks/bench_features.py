"""The 13 model features (and the ATR) of 60 pairs over the whole history, against a plain loop over columns with TA-Lib and numpy.

    python benchmarks/bench_features.py

The baseline computes each column once, from its first bar to its last, and bridges no gaps: what one would write in a notebook. Ours
computes every value from its own window alone, so that one tick and eight months give the same bits, and starts a pair anew after a long
gap and where its price scale breaks. The first call in a process is shown apart: most of it is the system handing out the table's memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import median

import numpy as np
import talib
from measuring import DAY, machine, market, peak_mb, say, spread, table

from tickless.bars import Floats, Panel
from tickless.features.rotation import NAMES, build_features, startup_bars
from tickless.features.windows import window_start

RUNS = 5
GAP = 4


def plain(panel: Panel) -> Floats:
    """The baseline, (T, N, 14)."""
    out = np.full((panel.rows, len(panel.pairs), len(NAMES)), np.nan)
    half = panel.resample("30m")
    last = (panel.open_times_ms + panel.step_ms - half.start_ms) // half.step_ms - 1
    for n in range(len(panel.pairs)):
        here = np.flatnonzero(~np.isnan(panel.close[:, n]))
        if len(here) > 400:
            out[here[0] :, n] = column(panel.close[here[0] :, n], half, n, last[here[0] :])
    return out


def column(close: Floats, half: Panel, n: int, last: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Floats:
    """All features of one pair."""
    r = np.diff(np.log(close), prepend=np.log(close[0]))
    features = [close / np.roll(close, bars) - 1 for bars in (4, 12, 24, 96)]
    for bars, window in ((20, 96), (60, 288)):
        distance = close - talib.EMA(close, bars)
        features.append(distance / (talib.STDDEV(np.nan_to_num(distance), window) + 1e-8))
    for bars in (7, 14):
        up, down = (
            talib.SMA(np.maximum(np.diff(close, prepend=close[0]), 0), bars),
            talib.SMA(np.abs(np.diff(close, prepend=close[0])), bars),
        )
        features.append(100 * up / np.maximum(down, 1e-12))
    upper, _, lower = talib.BBANDS(close, 20)
    features.append(np.clip((close - lower) / np.maximum(upper - lower, 1e-12), 0, 1))
    features += [talib.STDDEV(r, bars) * np.sqrt(bars) for bars in (24, 96)]
    atr = np.full(half.rows, np.nan)
    known = np.flatnonzero(~np.isnan(half.close[:, n]))
    first = known[0]
    true_range = talib.TRANGE(half.high[first:, n], half.low[first:, n], half.close[first:, n])
    atr[first:] = talib.SMA(np.nan_to_num(true_range), 14)
    row = np.maximum(last, 0)
    features += [atr[row] / half.close[row, n], close / talib.MAX(close, 96) - 1, atr[row]]
    return np.stack(features, axis=1)


def seconds(function: Callable[[], object], runs: int = RUNS) -> tuple[list[float], list[float]]:
    """How long each of some runs took, and its CPU time over all threads."""
    taken, cpu = [], []
    for _ in range(runs):
        began, worked = time.perf_counter(), time.process_time()
        function()
        taken.append(time.perf_counter() - began)
        cpu.append(time.process_time() - worked)
    return taken, cpu


def main() -> None:
    """Measure and print."""
    source, what = market()
    panel = source.panel
    say(f"{machine()}; {what}")
    start = window_start(DAY, startup_bars("15m"), panel.step_ms)
    tick = panel.between(start, DAY)
    first, first_cpu = seconds(lambda: build_features(panel, GAP), 1)
    ours, ours_cpu = seconds(lambda: build_features(panel, GAP))
    peak = peak_mb()
    theirs, theirs_cpu = seconds(lambda: plain(panel))
    one, one_cpu = seconds(lambda: build_features(tick, GAP, tick.rows - 1))
    values = int((~np.isnan(panel.close)).sum()) * len(NAMES)
    rows = [
        ("ours, whole history, ms", milliseconds(ours), milliseconds(ours_cpu), f"{values / median(ours) / 1e6:.0f}"),
        ("... the first call in the process", milliseconds(first), milliseconds(first_cpu), f"{values / first[0] / 1e6:.0f}"),
        ("plain column loop, whole history, ms", milliseconds(theirs), milliseconds(theirs_cpu), f"{values / median(theirs) / 1e6:.0f}"),
        ("ours, one tick, ms", milliseconds(one, 1), milliseconds(one_cpu, 1), ""),
    ]
    heading = f"Features of {len(panel.pairs)} pairs × {panel.rows:,} bars, median of {RUNS}"
    table(heading, ("", "time", "CPU time", "million values a second"), rows)
    say(f"\nours takes {median(ours) / median(theirs):.2f} times the plain loop; peak memory {peak:,.0f} MB, the bars included")
    growth(panel)


def growth(panel: Panel) -> None:
    """Print how the time grows with bars and with pairs."""
    rows = []
    for pairs in (15, 30, 60):
        part = panel.select(panel.pairs[:pairs])
        spans = [part.take(0, panel.rows * eighths // 8) for eighths in (2, 4, 8)]
        cells = [seconds(partial(build_features, span, GAP))[0] for span in spans]
        rows.append((f"{min(pairs, len(panel.pairs))}", *(milliseconds(cell) for cell in cells)))
    table("Milliseconds by pairs and months", ("pairs", "2 months", "4 months", "8 months"), rows)


def milliseconds(values: list[float], digits: int = 0) -> str:
    """``median (lowest to highest)`` of seconds, in milliseconds."""
    return spread([1000 * value for value in values], digits)


if __name__ == "__main__":
    main()
