"""A replay of recorded bars through the real handlers on the local AWS, judged from its files alone; and the same run twice."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from local_desk import DAY, small_market

from tickless.adapters.bar_files import write_folder
from tickless.adapters.folder_market import FolderMarket, load_market
from tickless.adapters.markets_file import write_markets
from tickless.backtest.audit import verify
from tickless.backtest.results import Results, read_results
from tickless.cli.replaying import ReplayRequest, replay
from tickless.settings import TRADING_ORDER, Settings, load_desk
from tickless.types import Side, parse_time

FILES = ("summary.json", "orders.csv", "fills.csv", "trades.csv", "equity.csv", "ticks.jsonl", "report.html")
A_DAY = {"risk_check": 96, "feature_rebalance": 44, "full_rebalance": 4, "retrain": 1}
Run = Callable[..., subprocess.CompletedProcess[str]]


@dataclass(frozen=True)
class Replayed:
    folder: Path
    market: FolderMarket
    results: Results
    settings: Settings


@pytest.fixture(scope="module")
def replayed(realdata: Path, tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    """Two recorded days with two retrainings on a month of history: what the audit and the tests below look at."""
    start, end = parse_time("2024-06-01T00:00:00Z"), parse_time("2024-06-03T00:00:00Z")
    market, _ = load_market(realdata / "spot_2024", "15m", quote="USDT", start=parse_time("2024-04-15T00:00:00Z"), end=end)
    out = tmp_path_factory.mktemp("replay") / "out"
    replay(ReplayRequest("rotation", (), market, start, end, out))
    return Replayed(out, market, read_results(out), load_desk("rotation"))


@pytest.mark.realdata
def test_every_schedule_fired_in_order(replayed: Replayed) -> None:
    summary, ticks = replayed.results.summary, replayed.results.ticks
    rank = {name: n for n, name in enumerate((*TRADING_ORDER, "retrain"))}
    keys = [(line["at"], rank[line["function"]]) for line in ticks]

    assert summary["ticks"] == {name: 2 * count for name, count in A_DAY.items()}
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys) == 2 * sum(A_DAY.values())
    assert {path.name for path in replayed.folder.iterdir()} == set(FILES)


@pytest.mark.realdata
def test_the_audit_finds_nothing(replayed: Replayed) -> None:
    assert verify(replayed.folder, replayed.market.panel, replayed.settings, replayed.market.rules()) == []
    assert len(replayed.results.orders) >= 20
    assert len(replayed.results.fills) >= 20
    assert len(replayed.results.equity) == 2 * A_DAY["risk_check"]


@pytest.mark.realdata
def test_the_audit_would_find_a_changed_file(replayed: Replayed, tmp_path: Path) -> None:
    """The audit of this very run is no rubber stamp: one wrong cent in one row is found."""
    for name in FILES:
        (tmp_path / name).write_bytes((replayed.folder / name).read_bytes())
    lines = (tmp_path / "equity.csv").read_text("utf8").splitlines()
    row = lines[50].split(",")
    row[1] = str(Decimal(row[1]) + Decimal("0.01"))
    lines[50] = ",".join(row)
    (tmp_path / "equity.csv").write_text("\n".join(lines) + "\n", "utf8")

    (finding,) = verify(tmp_path, replayed.market.panel, replayed.settings)
    assert f"equity.csv at {row[0]}" in finding


@pytest.mark.realdata
def test_targets_respect_the_limits_of_their_regime(replayed: Replayed) -> None:
    """Top-k, buffer, caps and sleeve, from ``ticks.jsonl`` and the desk file alone."""
    portfolio = replayed.settings.portfolio
    rebalances = [line for line in replayed.results.ticks if "rebalance" in line["function"]]
    assert any(line["targets"] for line in rebalances)
    for line in rebalances:
        weights, tiers, regime = line["targets"], line["tiers"], line["regime"]
        held = {pair: weight for pair, weight in weights.items() if weight > 0}
        assert len(held) <= portfolio.top_k.of(regime), line["id"]
        assert sum(held.values()) <= 1 - portfolio.cash_buffer_frac.of(regime) + 1e-9, line["id"]
        assert all(weight <= portfolio.tier_cap_frac(tiers[pair]) + 1e-9 for pair, weight in held.items()), line["id"]
        assert sum(weight for pair, weight in held.items() if tiers[pair] == 3) <= portfolio.tier3_sleeve_frac + 1e-9, line["id"]


@pytest.mark.realdata
def test_what_left_the_target_was_sold_and_no_stop_ever_fell(replayed: Replayed) -> None:
    results = replayed.results
    sold = {(order.tick_at, order.pair) for order in results.orders if order.side is Side.SELL}
    bought = {(order.tick_at, order.pair) for order in results.orders if order.side is Side.BUY}
    left = 0
    stops: dict[str, float] = {}
    for before, line in pairwise(results.ticks):
        at = parse_time(line["at"])
        for pair, price in (line.get("stops") or {}).items():
            renewed = (at, pair) in bought and pair not in (before.get("stops") or {})
            assert renewed or price >= stops.get(pair, price), (line["id"], pair)
            stops[pair] = price
        if line.get("targets") is None:
            continue
        gone = {pair for pair in before.get("stops") or {} if not line["targets"].get(pair)}
        left += len(gone)
        assert all((at, pair) in sold for pair in gone), (line["id"], gone)
    assert left >= 3


@pytest.mark.realdata
def test_orders_fees_and_minimum_value(replayed: Replayed) -> None:
    results, portfolio = replayed.results, replayed.settings.portfolio
    fees = sum((order.fee for order in results.orders), Decimal(0))
    assert abs(fees - results.summary["fees_paid"]) <= Decimal("0.000001")
    assert fees > 0
    buys = [order for order in results.orders if order.side is Side.BUY]
    assert buys
    for order in buys:
        worth = order.qty * (order.avg_price or order.limit_price or Decimal(0))
        assert order.filled_qty == 0 or worth >= Decimal(str(portfolio.min_order_value)) * Decimal("0.98"), order


@pytest.fixture(scope="module")
def market_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small synthetic market on disk."""
    folder = tmp_path_factory.mktemp("market")
    market = small_market(days=1)
    write_folder(folder, market.panel)
    write_markets(folder, market.rules())
    return folder


@pytest.mark.acceptance
def test_the_same_command_twice_gives_the_same_bytes(tickless: Run, market_folder: Path, tmp_path: Path) -> None:
    timerange = f"{DAY:%Y%m%d}-{DAY:%Y%m}{DAY.day + 1:02d}"
    for name, hash_seed in (("first", "1"), ("second", "271828")):
        tickless(
            *("replay", "--data", market_folder, "--timerange", timerange, "--out", tmp_path / name, "--json"),
            env=[("PYTHONHASHSEED", hash_seed)],
        )
    first, second = ({path.name: path.read_bytes() for path in sorted((tmp_path / name).iterdir())} for name in ("first", "second"))
    assert set(first) == set(second) == set(FILES)
    assert {name for name in first if without_seconds(name, first[name]) != without_seconds(name, second[name])} == set()
    assert len(first["orders.csv"].splitlines()) > 20
    tickless("compare", tmp_path / "first", tmp_path / "second")


def without_seconds(name: str, content: bytes) -> Any:
    """The content of a result file but for how long the run took."""
    if name != "summary.json":
        return content
    summary = json.loads(content)
    assert summary.pop("seconds") > 0
    return summary
