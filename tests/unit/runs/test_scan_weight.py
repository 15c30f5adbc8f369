"""A whole scan of a desk without models, in a process of its own, loads what a risk check does and no more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2]
HEAVY = ("pandas", "onnxruntime", "lightgbm", "scipy", "pyarrow", "sklearn", "onnx", "ccxt", "polars", "boto3")
RUN = """
import json, sys
sys.path.insert(0, sys.argv[1])
from made_world import World, at, make_panel, steady
from tickless.adapters.folder_market import FolderMarket
from tickless.settings import load_desk
bars = {"BTC/USDT": [*steady(4), (100.0, 111.0, 99.0, 110.0, 1000.0), *steady(4, 110.0)]}
settings = load_desk("crossover", ["strategy.crossover.fast_bars=1", "strategy.crossover.slow_bars=3"])
world = World(FolderMarket(make_panel(bars, at(-4))), settings)
report = world.run("scan-crossover", at(1))
print(json.dumps({"orders": report.facts["orders"], "loaded": [name for name in json.loads(sys.argv[2]) if name in sys.modules]}))
"""


def test_a_whole_scan_that_buys_loads_nothing_heavy() -> None:
    result = subprocess.run(
        [sys.executable, "-c", RUN, str(TESTS), json.dumps(HEAVY)],
        env={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == {"orders": 1, "loaded": []}
