"""Ticks a second of a replay of one day through the real handlers on the local AWS, and where the time goes.

    python benchmarks/bench_replay.py

60 pairs, champions in the registry, no retraining; median of three runs. Clocks are put around each part's functions; a part's
time is its own, without that of the parts it calls, so that the shares add up to the whole.
"""

from __future__ import annotations

import functools
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from measuring import DAY, days, machine, market, say, spread, table

from tickless import bootstrap
from tickless.adapters.dynamodb_ledger import DynamoDbLedger
from tickless.adapters.folder_market import FolderMarket
from tickless.adapters.folder_models import FolderModelStore
from tickless.adapters.s3_bars import S3BarStore
from tickless.adapters.s3_models import S3ModelStore
from tickless.adapters.s3_trace import S3Trace
from tickless.adapters.sim_exchange import SimExchange
from tickless.adapters.ssm_parameters import SsmParameterStore
from tickless.cli.replaying import ReplayRequest, replay
from tickless.features import rotation as rotation_features
from tickless.learn.spec import load_specs
from tickless.localcloud import InvocationResult, LocalCloud
from tickless.ports import Promotion
from tickless.regimes import ema_trend
from tickless.runs import desk_tick, feature_rebalance, gather, risk_check
from tickless.runs.retrain import train_specs, training_start
from tickless.settings import load_desk

RUNS = 3
AIM = 8.0
TRADING = ("risk_check", "feature_rebalance", "full_rebalance")


class Clocks:
    """Own time and calls by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self._inner: list[float] = []

    def around(self, part: str | Callable[[Any], str], function: Callable[..., Any]) -> Callable[..., Any]:
        """The function with a clock around it."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            self._inner.append(0.0)
            try:
                return function(*args, **kwargs)
            finally:
                whole = time.perf_counter() - began
                name = part if isinstance(part, str) else part(args[0])
                self.seconds[name] += whole - self._inner.pop()
                self.calls[name] += 1
                if self._inner:
                    self._inner[-1] += whole

        return timed


def parts() -> list[tuple[Any, tuple[str, ...], str]]:
    """(owner, function names, part)."""
    return [
        (rotation_features, ("build_features",), "features"),
        (ema_trend, ("detect",), "regime"),
        (gather, ("forecast",), "forecasts"),
        (gather, ("build_view",), "rest of the market's view"),
        (risk_check, ("decide_risk",), "decide"),
        (feature_rebalance, ("decide_rebalance",), "decide"),
        (SimExchange, ("snapshot", "submit", "cancel"), "simulated exchange"),
        (DynamoDbLedger, ("acquire", "release", "load", "tick", "journal"), "ledger"),
        (S3BarStore, ("through", "since", "read", "write"), "bar store"),
        (S3ModelStore, ("promotions", "manifest", "artifact"), "model store"),
        (S3Trace, ("write", "read"), "traces"),
        (SsmParameterStore, ("read",), "parameters"),
        (desk_tick, ("resolve_settings",), "settings"),
        (bootstrap, ("open_ports",), "wiring"),
    ]


@contextmanager
def measured(clocks: Clocks, results: list[InvocationResult]) -> Iterator[None]:
    """Inside, the desk's parts and the AWS calls have clocks, and every invocation's result is kept."""
    from botocore.client import BaseClient

    before: list[tuple[Any, str, Any]] = []

    def patch(owner: Any, name: str, function: Any) -> None:
        before.append((owner, name, owner.__dict__[name] if isinstance(owner, type) and name in owner.__dict__ else getattr(owner, name)))
        setattr(owner, name, function)

    invoke = clocks.around("handlers and the rest of a tick", LocalCloud.invoke)

    def kept(self: LocalCloud, *args: Any, **kwargs: Any) -> InvocationResult:
        result: InvocationResult = invoke(self, *args, **kwargs)
        results.append(result)
        return result

    for owner, names, part in parts():
        for name in names:
            patch(owner, name, clocks.around(part, getattr(owner, name)))
    calls = clocks.around(lambda client: f"botocore and moto: {client.meta.service_model.service_name}", vars(BaseClient)["_make_api_call"])
    patch(BaseClient, "_make_api_call", calls)
    patch(LocalCloud, "invoke", kept)
    try:
        yield
    finally:
        for owner, name, original in reversed(before):
            setattr(owner, name, original)


def train(market: FolderMarket, folder: Path) -> None:
    """Champions as of the day before, whatever the gates say: only what they cost matters here."""
    settings = load_desk("rotation")
    as_of, specs = DAY - days(1), load_specs("rotation")
    panel = market.bars(market.pairs(), "15m", max(training_start(settings, as_of, specs), market.panel.start), as_of)
    models = FolderModelStore(folder)
    for model in train_specs(panel, settings, models, specs, as_of, as_of).trained:
        models.register(model.name, model.version, model.manifest, model.artifact)
        models.promote(model.name, Promotion(model.version, as_of, as_of, "benchmark"))


Run = tuple[float, float, Clocks, list[InvocationResult]]


def run(market: FolderMarket, models: Path | None) -> Run:
    """One replay of a day: its seconds, its CPU seconds, the clocks, the invocations."""
    clocks, results = Clocks(), list[InvocationResult]()
    began = time.process_time()
    with tempfile.TemporaryDirectory() as scratch, measured(clocks, results):
        summary = replay(ReplayRequest("rotation", (), market, DAY, DAY + days(1), Path(scratch) / "out", models=models, retrain=False))
    return float(summary["seconds"]), time.process_time() - began, clocks, results


def print_rates(columns: dict[str, list[Run]]) -> None:
    """Ticks a second, and ticks and orders of a run, by kind of run."""
    alone, whole, cpu, ticks, orders = [], [], [], [], []
    for runs in columns.values():
        alone.append(spread([len(results) / sum(result.seconds for result in results) for _, _, _, results in runs]))
        whole.append(spread([len(results) / seconds for seconds, _, _, results in runs]))
        cpu.append(spread([len(results) / seconds for _, seconds, _, results in runs]))
        ticks.append(len(runs[0][3]))
        orders.append(int(sum(result.metric("OrdersSent") or 0 for result in runs[0][3])))
    rows = [
        ("ticks a second, ticks alone", *alone),
        ("ticks a second, with the local AWS's creation, results and report", *whole),
        ("ticks a CPU second, everything included", *cpu),
        ("ticks", *ticks),
        ("orders sent", *orders),
    ]
    table(f"Replay of one day, median of {RUNS} runs (lowest to highest); aim {AIM:g}", ("", *columns), rows)


def print_functions(columns: dict[str, list[Run]]) -> None:
    """Milliseconds a tick by function."""
    rows = []
    for name in TRADING:
        cells = []
        for runs in columns.values():
            times = [[1000 * r.seconds for r in results if r.payload["tick"].endswith(f"#{name}")] for _, _, _, results in runs]
            cells += [spread([median(values) for values in times]), f"{median(quantiles(values, n=10)[-1] for values in times):.1f}"]
        rows.append((name, len(times[0]), *cells))
    head = [f"{what}, {column}" for column in columns for what in ("median", "90th percentile")]
    table("Milliseconds a tick by function", ("function", "ticks", *head), rows)


def print_parts(runs: list[Run]) -> None:
    """Own time of each part, most first."""
    names = sorted(
        {name for _, _, clocks, _ in runs for name in clocks.seconds}, key=lambda n: -median(c.seconds[n] for _, _, c, _ in runs)
    )
    rows = []
    for name in names:
        per_tick = median(1000 * clocks.seconds[name] / len(results) for _, _, clocks, results in runs)
        share = median(clocks.seconds[name] / sum(clocks.seconds.values()) for _, _, clocks, _ in runs)
        calls = median(clocks.calls[name] / len(results) for _, _, clocks, results in runs)
        rows.append((name, f"{per_tick:.2f}", f"{100 * share:.1f} %", f"{calls:.2f}"))
    title = "Where the time goes (with champions): own time of each part, the local AWS's creation included"
    table(title, ("part", "ms a tick", "share", "calls a tick"), rows)


def main() -> None:
    """Measure and print."""
    source, what = market()
    say(f"{machine()}; {what}")
    with tempfile.TemporaryDirectory() as scratch:
        train(source, Path(scratch))
        columns = {
            "with champions": [run(source, Path(scratch)) for _ in range(RUNS)],
            "on the fallback score": [run(source, None) for _ in range(RUNS)],
        }
    print_rates(columns)
    print_functions(columns)
    print_parts(columns["with champions"])


if __name__ == "__main__":
    main()
