"""A whole risk check, in a process of its own, loads no model library and no frames."""

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
from tickless.types import DeskState, LedgerUpdate, Position
from decimal import Decimal
bars = {"BTC/USDT": [*steady(4), (100.0, 101.0, 80.0, 85.0, 1000.0), *steady(4)]}
world = World(FolderMarket(make_panel(bars, at(-4))), load_desk("rotation"))
world.run("risk_check", at(-1))
exchange = world.ports().connect(world.settings).exchange
from made_world import make_order
exchange.submit(make_order(pair="BTC/USDT", tick=-1), at(-1))
held = Position("BTC/USDT", "rotation", "entry", at(-1), Decimal(1), Decimal(100))
desk = world.ledger.load()
fence = world.ledger.acquire("test", at(-1), 60)
world.ledger.journal(fence, [LedgerUpdate(desk=desk, positions=(held,))])
world.ledger.release(fence)
report = world.run("risk_check", at(1))
print(json.dumps({"orders": report.facts["orders"], "loaded": [name for name in json.loads(sys.argv[2]) if name in sys.modules]}))
"""


def test_a_whole_risk_check_that_sells_loads_nothing_heavy() -> None:
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


def test_importing_it_loads_nothing_heavy_either() -> None:
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import tickless.runs.risk_check"],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in result.stderr.splitlines()}
    assert "tickless" in imported
    assert imported.isdisjoint(HEAVY)
