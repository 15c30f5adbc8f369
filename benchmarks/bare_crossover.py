"""The least that a crossover costs: signals and profit of every pair with numpy, and nothing that a desk needs.

No orders, no cash, no ledger, no restart: what a notebook would compute, to see how much of a backtest's time is the desk.
"""

from __future__ import annotations

import numpy as np

from tickless.bars import Floats, Panel

TIE = 1e-12


def bare_crossover(panel: Panel, fast_bars: int, slow_bars: int, stake: float, fee_frac: float) -> tuple[int, float]:
    """How many trades a crossover of simple moving averages makes, and their profit after fees.

    Each pair on its own bars: in at the open after the fast average crosses above, out at the open after it crosses below, or at the last
    close. Averages closer than ``TIE``, relatively, are equal.
    """
    trades, profit = 0, 0.0
    for n in range(len(panel.pairs)):
        here = ~np.isnan(panel.close[:, n])
        opened, close = panel.open[here, n], panel.close[here, n]
        if len(close) > slow_bars:
            count, gain = _one_pair(opened, close, fast_bars, slow_bars, stake, fee_frac)
            trades, profit = trades + count, profit + gain
    return trades, profit


def _one_pair(opened: Floats, close: Floats, fast_bars: int, slow_bars: int, stake: float, fee_frac: float) -> tuple[int, float]:
    total = np.concatenate(([0.0], np.cumsum(close)))
    fast = (total[slow_bars:] - total[slow_bars - fast_bars : -fast_bars]) / fast_bars
    slow = (total[slow_bars:] - total[:-slow_bars]) / slow_bars
    above = (fast - slow) > TIE * slow
    below = (slow - fast) > TIE * slow
    first = slow_bars - 1
    # A fill needs a bar after the crossing, and an entry one more to be worth having.
    ups = np.flatnonzero(above[1:] & ~above[:-1]) + first + 1
    downs = np.flatnonzero(below[1:] & ~below[:-1]) + first + 1
    ups = ups[ups < len(close) - 2]
    leave = np.append(downs, len(close) - 1)[np.searchsorted(downs, ups)]
    leave, which = np.unique(leave, return_index=True)
    enter = ups[which]
    qty = stake / close[enter]
    bought = opened[enter + 1]
    sold = np.where(leave + 1 < len(close), opened[np.minimum(leave + 1, len(close) - 1)], close[-1])
    return len(enter), float((qty * (sold * (1.0 - fee_frac) - bought * (1.0 + fee_frac))).sum())
