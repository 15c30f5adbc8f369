"""Golden run: two synthetic days through the real handlers; every order of them, as one hash.

It fails when the desk orders anything else than it used to. If that was meant, look at what changed in the orders, then write the new
hash down and say in the commit why it changed::

    .venv/bin/python tests/golden/test_golden_replay.py

No training runs: LightGBM's sums may differ between machines. The first day trades on the fallback score, the second on two tiny models.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).with_suffix(".json")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))

from local_desk import DAY, register_tiny_models, small_market  # noqa: E402

from tickless.adapters.folder_models import FolderModelStore  # noqa: E402
from tickless.backtest.results import read_results  # noqa: E402
from tickless.cli.replaying import ReplayRequest, replay  # noqa: E402


def run(folder: Path) -> dict[str, Any]:
    """Replay the golden days; what is compared, the hash last: the rest says what kind of thing has changed."""
    models, out = folder / "models", folder / "out"
    register_tiny_models(FolderModelStore(models), DAY + timedelta(days=1))
    request = ReplayRequest("rotation", (), small_market(), DAY, DAY + timedelta(days=2), out, models=models, retrain=False)
    summary = replay(request)
    orders = read_results(out).orders
    return {
        "data_sha256": summary["data_sha256"],
        "settings_sha256": summary["settings_sha256"],
        "orders": len(orders),
        "reasons": dict(sorted(Counter(order.reason for order in orders).items())),
        "end_equity": str(round(summary["end_equity"], 2)),
        "orders_sha256": summary["orders_sha256"],
    }


def test_the_golden_days_order_what_they_always_did(tmp_path: Path) -> None:
    expected = json.loads(GOLDEN.read_text("utf8"))
    assert expected["orders"] >= 50
    assert {reason.partition("_")[0] for reason in expected["reasons"]} >= {"fallback", "models"}
    assert run(tmp_path) == expected, f"the desk orders something else; if that is meant: python {Path(__file__).name}, see its docstring"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        GOLDEN.write_text(json.dumps(run(Path(scratch)), indent=2) + "\n", "utf8")
    sys.stdout.write(f"{GOLDEN.name} written: look at what changed with git diff\n")
