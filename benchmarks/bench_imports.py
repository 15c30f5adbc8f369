"""What a cold start imports: milliseconds and megabytes of each handler in a fresh process, against boto3 alone.

python benchmarks/bench_imports.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from statistics import median

from measuring import ROOT, machine, say, spread, table

RUNS = 5
FUNCTIONS = ("risk_check", "feature_rebalance", "full_rebalance", "scan", "retrain")
PROBE = """
import json, sys, time
began, cpu = time.perf_counter(), time.process_time()
{program}
taken, cpu = time.perf_counter() - began, time.process_time() - cpu
# The peak that getrusage tells begins with that of the process that started this one; the kernel's own figure does not.
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([1000 * taken, 1000 * cpu, peak / 1024, len(sys.modules)]))
"""
CLIENTS = "import boto3\nfor name in ('dynamodb', 's3', 'ssm'):\n    boto3.client(name, region_name='us-east-1')"


def measure(program: str) -> list[list[float]]:
    """[ms, CPU ms, MB, modules] of fresh processes; the first, which warms the file cache, does not count."""
    environment = {"PATH": os.environ["PATH"], "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_EC2_METADATA_DISABLED": "true"}
    found = []
    for _ in range(RUNS + 1):
        done = subprocess.run(
            [sys.executable, "-c", PROBE.format(program=program)], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        found.append(json.loads(done.stdout))
    return found[1:]


def main() -> None:
    """Measure and print."""
    say(machine())
    programs = {"nothing": "pass", "numpy": "import numpy", "boto3": "import boto3", "boto3, three clients": CLIENTS}
    programs |= {name: f"import runpy; runpy.run_path('functions/{name}/handler.py')" for name in FUNCTIONS}
    programs["risk_check, and three clients"] = f"{programs['risk_check']}\n{CLIENTS}"
    rows = []
    for name, program in programs.items():
        values = measure(program)
        wall, cpu, peak = ([value[n] for value in values] for n in range(3))
        rows.append((name, spread(wall, 0), spread(cpu, 0), f"{median(peak):.0f}", int(values[0][3])))
    table(f"Import in a fresh process, warm file cache, median of {RUNS}", ("", "ms", "CPU ms", "peak MB", "modules"), rows)


if __name__ == "__main__":
    main()
