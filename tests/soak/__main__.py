"""``python -m tests.soak``: every variant for its share of the ticks, and a table; exit code 1 where anything did not hold."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from math import ceil

from tests.soak.checks import Property
from tests.soak.soaking import Findings, kinds, soak
from tests.soak.variants import VARIANTS


def table(all_found: list[Findings], seconds: float) -> str:
    """What was done, what went wrong on purpose, and what did not hold."""
    mishaps = sum((found.faults + found.mishaps for found in all_found), Counter[str]())
    outcomes = sum((found.outcomes for found in all_found), Counter[str]())
    broken = sum((found.broken for found in all_found), Counter[Property]())
    rows = [
        ("ticks", sum(found.ticks for found in all_found)),
        ("ticks compared with the exchange", sum(found.settled for found in all_found)),
        ("orders sent", sum(found.sent for found in all_found)),
        ("trades", sum(found.trades for found in all_found)),
        ("orders sent again blindly", sum(found.resent for found in all_found)),
        ("  refused by the exchange as duplicates", sum(found.refused_again for found in all_found)),
        ("faults and mishaps", mishaps.total()),
        *((f"  {name}", mishaps[name]) for name in kinds()),
        *((f"attempts that ended: {name}", times) for name, times in sorted(outcomes.items())),
        ("violations", sum(len(found.violations) for found in all_found)),
        *((f"  {promise}", broken[promise]) for promise in Property),
        ("seconds", round(seconds)),
    ]
    return "\n".join(f"{name:<42}{value:>9,}" for name, value in rows)


def ticks_of(variant: str, ticks: int, variants: Sequence[str]) -> int:
    """A variant's share of the ticks; half of one on DynamoDB, which takes its time."""
    shares = {name: 1 if VARIANTS[name].ledger == "memory" else 0.5 for name in variants}
    return ceil(ticks * shares[variant] / sum(shares.values()))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--ticks", type=int, default=10_000, help="of all variants together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--variant", choices=sorted(VARIANTS), help="one alone")
    parser.add_argument("--without", default="", help="faults to leave out, by name, with commas between")
    asked = parser.parse_args()
    variants = [asked.variant] if asked.variant else list(VARIANTS)
    without = [name for name in asked.without.split(",") if name]
    unknown = sorted(set(without) - set(kinds()))
    if unknown:
        parser.error(f"--without: {', '.join(unknown)}; there are {', '.join(kinds())}")
    started = time.perf_counter()
    all_found = []
    for variant in variants:
        began = time.perf_counter()
        found = soak(variant, asked.seed, ticks_of(variant, asked.ticks, variants), without)
        all_found.append(found)
        seconds = time.perf_counter() - began
        sys.stdout.write(
            f"{variant:<17}{found.ticks:>6,} ticks{found.sent:>6,} orders{len(found.violations):>4} violations{seconds:>6.0f} s\n"
        )
        sys.stdout.flush()
    sys.stdout.write(table(all_found, time.perf_counter() - started) + "\n")
    for found in all_found:
        sys.stdout.writelines(f"VIOLATION {sentence}\n" for sentence in found.violations)
    return any(found.violations for found in all_found)


if __name__ == "__main__":
    sys.exit(main())
