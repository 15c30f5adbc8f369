"""The whole desk over the whole recording: every risk check and rebalance of ``rotation``, with full ledger and trace, in memory.

Each run is a fresh process; median of five and the range. "Proper" is without imports, loading and writing.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

from measuring import FIRST, LAST, days, machine, market, peak_mb, say, spread, table

RUNS = 5
MONTHS = (2.0, 4.0, 8.1)


def one_run(months: float) -> None:
    """Backtest once and print the figures as JSON."""
    began = time.perf_counter()
    from tickless.backtest.engine import BacktestRequest, backtest
    from tickless.settings import load_desk

    found, _ = market()
    start = FIRST + days(1)
    end = min(start + days(round(30.4 * months)), LAST)
    loaded = time.perf_counter()
    record = backtest(BacktestRequest(load_desk("rotation"), found, start, end, retrain=False))
    done = time.perf_counter()
    facts = {"proper": done - loaded, "whole": done - began, "peak": peak_mb(), "ticks": len(record.ticks), "orders": len(record.orders)}
    say(json.dumps(facts))


def main() -> None:
    """Measure two, four and eight months."""
    rows = []
    for months in MONTHS:
        command = [sys.executable, __file__, str(months)]
        runs = [json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=600).stdout) for _ in range(RUNS)]
        proper, whole, peak = ([run[name] for run in runs] for name in ("proper", "whole", "peak"))
        ticks, orders = runs[0]["ticks"], runs[0]["orders"]
        a_tick = spread([1000 * seconds / ticks for seconds in proper], 2)
        rows.append((f"{months:g}", f"{ticks:,}", f"{orders:,}", spread(proper), spread(whole), a_tick, spread(peak, 0)))
    say(machine())
    say(market()[1])
    table("Backtest of rotation", ("months", "ticks", "orders", "proper, s", "process, s", "ms a tick", "peak, MB"), rows)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        one_run(float(sys.argv[1]))
    else:
        main()
