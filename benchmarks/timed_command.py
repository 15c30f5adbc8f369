"""The command ``tickless`` as a user runs it, with a clock at the stages of a backtest.

    python benchmarks/timed_command.py FACTS.json backtest --desk crossover --data DIR ...

Writes wall and CPU seconds a stage into FACTS.json, and leaves with the command's exit code. Nothing of the package is imported before
the command would.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

STAGES = {
    "load": ("tickless.adapters.folder_market", "load_market"),
    "run": ("tickless.backtest.engine", "backtest"),
    "results": ("tickless.backtest.results", "write_results"),
    "report": ("tickless.backtest.report", "write_report"),
}
"""What the command imports and calls, by stage."""


def timed(function: Callable[..., Any], facts: dict[str, float]) -> Callable[..., Any]:
    """The function, which leaves its wall and CPU seconds in ``facts``."""

    def call(*args: Any, **kwargs: Any) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        result = function(*args, **kwargs)
        facts.update(wall=time.perf_counter() - wall, cpu=time.process_time() - cpu)
        return result

    return call


def main() -> None:
    """Run the command and write what its stages took."""
    target = Path(sys.argv[1])
    sys.argv = ["tickless", *sys.argv[2:]]
    taken: dict[str, dict[str, float]] = {stage: {} for stage in STAGES}
    for stage, (module, name) in STAGES.items():
        found = import_module(module)
        setattr(found, name, timed(getattr(found, name), taken[stage]))
    try:
        import_module("tickless.cli.app").main()
    finally:
        target.write_text(json.dumps(taken), "utf8")


if __name__ == "__main__":
    main()
