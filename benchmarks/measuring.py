"""What the benchmarks share: the market they run on, medians, a table, the facts of the machine."""

from __future__ import annotations

import os
import platform
import resource
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

# Before numpy and LightGBM are loaded: they read these once. Threads that spin make every figure depend on what else runs.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from tickless.adapters.folder_market import FolderMarket, load_market
from tickless.adapters.synthetic_market import make_market

ROOT = Path(__file__).resolve().parents[1]
RECORDED = ROOT.parent / "shared" / "data" / "spot_2024"
PAIRS = 60
DAY = datetime(2024, 6, 1, tzinfo=UTC)
FIRST, LAST = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 9, 6, tzinfo=UTC)


def market() -> tuple[FolderMarket, str]:
    """The recorded bars of 60 pairs where they are there, else a synthetic market of the same size; and what it is."""
    if RECORDED.is_dir():
        found = load_market(RECORDED, "15m", quote="USDT")[0]
        kind = "recorded"
    else:
        made = make_market(pairs=PAIRS, start=FIRST, end=LAST, seed=7)
        found, kind = FolderMarket(made.panel, made.rules), "synthetic"
    return found, f"{kind} bars: {len(found.pairs())} pairs × {found.panel.rows:,} bars of 15m"


def machine() -> str:
    """One line on where this ran."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GB, {platform.machine()} {platform.system()}, Python {platform.python_version()}"


def load() -> str:
    """The machine's load average over one minute: above the number of cores, wall time is not ours alone."""
    return f"{os.getloadavg()[0]:.1f}"


def peak_mb() -> float:
    """The most memory this process has held, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def spread(values: Sequence[float], digits: int = 1) -> str:
    """``median (lowest to highest)``."""
    return f"{median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def say(text: str = "") -> None:
    """Print a line now, so that a benchmark that takes long is seen to work."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a Markdown table: what docs/benchmarks.md holds."""
    say(f"\n{title}\n")
    say("| " + " | ".join(head) + " |")
    say("| --- |" + " ---: |" * (len(head) - 1))
    for row in rows:
        say("| " + " | ".join(str(cell) for cell in row) + " |")


def days(count: float) -> timedelta:
    """So many days."""
    return timedelta(days=count)
