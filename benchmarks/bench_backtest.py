"""The backtest: ``crossover`` and ``rotation`` over the whole recording, by stage, how they grow, and what bare numpy takes.

    python benchmarks/bench_backtest.py [--data DIR] [--quick]

Every run is the command ``tickless backtest`` in a process of its own. "Proper" is the run itself: full ledger and trace, without
imports, loading and writing. Median of five; the load of the machine is printed with each table, and CPU time beside wall time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from bare_crossover import bare_crossover
from measuring import FIRST, LAST, PAIRS, RECORDED, days, load, machine, say, spread, table
from timed_command import STAGES

from tickless.adapters.folder_market import load_market
from tickless.backtest.engine import BacktestRequest, backtest
from tickless.settings import load_desk
from tickless.types import iso

HERE = Path(__file__).parent
TIMEOUT_S = 900
MODELS_LAST_DAYS = 365


def first_of(month: int) -> datetime:
    """When a month of the recording's year begins."""
    return datetime(FIRST.year, month, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    runs: int
    pairs: tuple[int, ...]
    months: Mapping[str, datetime]
    """Ends of ranges from ``FIRST`` on."""
    end: datetime


FULL = Scale(5, (15, 30, 60), {"2": first_of(3), "4": first_of(5), "8": first_of(9)}, LAST)
QUICK = Scale(1, (15, 30), {"1": first_of(2), "2": first_of(3)}, first_of(3))


@dataclass(frozen=True)
class Work:
    """A desk and how it is run."""

    title: str
    desk: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """What one process took."""

    wall: float
    cpu: float
    peak_mib: float
    stages: Mapping[str, Mapping[str, float]]
    summary: Mapping[str, Any]
    modelled: tuple[int, int]
    """Rebalances that used both models, and all of them."""

    @property
    def other(self) -> tuple[float, float]:
        """Wall and CPU seconds outside the stages: the interpreter, imports, printing, leaving."""
        return (
            self.wall - sum(taken["wall"] for taken in self.stages.values()),
            self.cpu - sum(taken["cpu"] for taken in self.stages.values()),
        )


def run_command(work: Work, data: Path, end: datetime) -> Run:
    """Backtest once in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out, facts = Path(folder) / "out", Path(folder) / "facts.json"
        span = f"{FIRST:%Y%m%d}-{end:%Y%m%d}"
        options = ["--desk", work.desk, "--data", str(data), "--timerange", span, "--out", str(out), "--retrain", "never", *work.options]
        command = [sys.executable, str(HERE / "timed_command.py"), str(facts), "backtest", *options, "--json"]
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
        return Run(
            wall,
            usage.ru_utime + usage.ru_stime,
            usage.ru_maxrss / 1024,
            json.loads(facts.read_text("utf8")),
            json.loads((out / "summary.json").read_text("utf8")),
            _modelled(out / "ticks.jsonl"),
        )


def _modelled(path: Path) -> tuple[int, int]:
    rebalances = used = 0
    with path.open(encoding="utf8") as lines:
        for line in lines:
            if "_rebalance" in line[:80]:
                rebalances += 1
                used += len(json.loads(line)["models"]) == 2
    return used, rebalances


def whole(works: Sequence[Work], data: Path, scale: Scale) -> dict[str, list[Run]]:
    """Print what each work takes over the whole range, in turns, so that a busy minute does not meet one of them alone."""
    found: dict[str, list[Run]] = {work.title: [] for work in works}
    before = load()
    for _ in range(scale.runs):
        for work in works:
            found[work.title].append(run_command(work, data, scale.end))
    rows = []
    for work in works:
        runs = found[work.title]
        proper = [run.stages["run"] for run in runs]
        rows.append(
            (
                work.title,
                f"{sum(runs[0].summary['ticks'].values()):,}",
                f"{runs[0].summary['orders']:,}",
                f"{runs[0].summary['trades']:,}",
                spread([taken["wall"] for taken in proper], 2),
                spread([taken["cpu"] for taken in proper], 2),
                spread([run.wall for run in runs], 2),
                spread([run.cpu for run in runs], 2),
                spread([run.peak_mib for run in runs], 0),
            )
        )
    head = ("", "ticks", "orders", "trades", "proper, s", "proper, CPU s", "process, s", "process, CPU s", "peak, MiB")
    table(f"Backtests of {days_of(scale.end)} days, median of {scale.runs}; load average {before} to {load()}", head, rows)
    for work in works:
        used, rebalances = found[work.title][0].modelled
        if used:
            say(f"\n{work.title}: {used:,} of {rebalances:,} rebalances used both models.")
    return found


def stages(found: Mapping[str, Sequence[Run]]) -> None:
    """Print where the process's time goes."""
    rows = []
    for title, runs in found.items():
        cells = [[run.stages[stage]["wall"] for run in runs] for stage in STAGES]
        cpu = [[run.stages[stage]["cpu"] for run in runs] for stage in STAGES]
        shown = [f"{median(wall):.2f} / {median(worked):.2f}" for wall, worked in zip(cells, cpu, strict=True)]
        other = [median(values) for values in zip(*(run.other for run in runs), strict=True)]
        rows.append((title, f"{other[0]:.2f} / {other[1]:.2f}", *shown))
    table("Seconds by stage, wall / CPU, medians", ("", "imports and leaving", *STAGES), rows)


def growth(work: Work, data: Path, scale: Scale) -> None:
    """Print how the run proper grows with pairs and months."""
    before, rows, medians = load(), [], {}
    for count in scale.pairs:
        with tempfile.TemporaryDirectory() as folder:
            part = some_pairs(data, Path(folder), count)
            cells = []
            for months, end in scale.months.items():
                proper = [run_command(work, part, end).stages["run"] for _ in range(scale.runs)]
                medians[count, months] = median(taken["cpu"] for taken in proper)
                cells.append(f"{spread([taken['wall'] for taken in proper], 2)}; {medians[count, months]:.2f}")
        least, *_, most = scale.months
        rows.append((f"{count}", *cells, f"{medians[count, most] / medians[count, least]:.2f}"))
    few, many = scale.pairs[0], scale.pairs[-1]
    ratios = [f"{medians[many, months] / medians[few, months]:.2f}" for months in scale.months]
    rows.append((f"CPU, {many} to {few} pairs (× {many / few:g})", *ratios, ""))
    spans = [days_of(end) for end in scale.months.values()]
    ends = [f"{months} months ({span} days)" for months, span in zip(scale.months, spans, strict=True)]
    title = f"{work.title}: proper, wall s (lowest to highest); CPU s; median of {scale.runs}; load average {before} to {load()}"
    table(title, ("pairs", *ends, f"CPU, last to first (days × {spans[-1] / spans[0]:.2f})"), rows)


def some_pairs(data: Path, folder: Path, count: int) -> Path:
    """A folder of links to the bars of ``count`` pairs, spread over the alphabet, the market's own pair among them."""
    files = sorted(data.glob("*-15m.*"))
    chosen = [files[n * len(files) // count] for n in range(min(count, len(files)))]
    market = next((file for file in files if file.name.startswith("BTC_")), None)
    if market is not None and market not in chosen:
        chosen[0] = market
    for file in [*chosen, *data.glob("markets.json")]:
        (folder / file.name).symlink_to(file.resolve())
    return folder


def against_numpy(data: Path, scale: Scale) -> None:
    """Print ``crossover`` beside the same signals in bare numpy: both in this process, warm, in turns."""
    market, _ = load_market(data, "15m", quote="USDT")
    settings = load_desk("crossover")
    panel = market.panel.between(FIRST, scale.end)
    request = BacktestRequest(settings, market, FIRST, scale.end, retrain=False)
    fee = settings.execution.taker_fee_bps / 10_000
    part = settings.crossover
    before, ours, theirs = load(), [], []
    for _ in range(scale.runs + 1):
        began = time.process_time()
        record = backtest(request)
        ours.append(time.process_time() - began)
        began = time.process_time()
        count, profit = bare_crossover(panel, part.fast_bars, part.slow_bars, float(part.stake), fee)
        theirs.append(time.process_time() - began)
    # The first of each warms up.
    ours, theirs = ours[1:], theirs[1:]
    rows = [
        (
            "tickless: every tick, order, fill and reason",
            spread(ours, 2),
            f"{len(record.trades):,}",
            f"{sum(t.pnl for t in record.trades):,.4f}",
        ),
        ("bare numpy: signals and profit", spread(theirs, 3), f"{count:,}", f"{profit:,.4f}"),
        ("ratio", f"{median(ours) / median(theirs):,.0f}", "", ""),
    ]
    title = f"crossover in one process, warm, median of {scale.runs}; load average {before} to {load()}"
    table(title, ("", "CPU s", "trades", "profit after fees"), rows)


def days_of(end: datetime) -> int:
    """Days of a range from ``FIRST`` on."""
    return round((end - FIRST) / days(1))


def prepared(folder: Path, data: Path | None) -> tuple[Path, Path]:
    """The bars, made where there are none, and a registry with two large models."""
    bars = data or RECORDED
    if not bars.is_dir():
        bars = folder / "bars"
        make = ["data", "make", "--out", str(bars), "--pairs", str(PAIRS), "--days", str((LAST - FIRST) / days(1))]
        command = [sys.executable, "-c", "from tickless.cli.app import main; main()", *make]
        subprocess.run(command, check=True, timeout=TIMEOUT_S, stdout=subprocess.DEVNULL)
    models = folder / "models"
    made = [sys.executable, str(HERE / "large_models.py"), str(models), iso(FIRST)]
    say(subprocess.run(made, check=True, timeout=TIMEOUT_S, capture_output=True, text=True).stdout)
    return bars, models


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of 15m bars from 2024-01-01 on; without it the recording, or a synthetic market")
    parser.add_argument("--quick", action="store_true", help="two months, once: a look, not a measurement")
    given = parser.parse_args()
    scale = QUICK if given.quick else FULL
    with tempfile.TemporaryDirectory() as folder:
        say(f"{machine()}; load average {load()}")
        bars, models = prepared(Path(folder), given.data)
        limits = ("--models", str(models), "--set", f"training.max_model_age_days={MODELS_LAST_DAYS}")
        crossover = Work("crossover 20/100", "crossover")
        modelled = Work("rotation, two models of 300 trees", "rotation", limits)
        found = whole([crossover, Work("rotation, fallback score", "rotation"), modelled], bars, scale)
        stages(found)
        against_numpy(bars, scale)
        growth(crossover, bars, scale)
        growth(modelled, bars, scale)


if __name__ == "__main__":
    main()
