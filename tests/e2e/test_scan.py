"""``scan`` through the real handler: by hand, on its schedule, and beside a strategy that is rebalanced."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from local_desk import DAY, LocalDesk, local_desk, small_market

from tickless.adapters.bar_files import write_folder
from tickless.adapters.folder_market import FolderMarket
from tickless.adapters.markets_file import write_markets
from tickless.adapters.synthetic_market import make_market
from tickless.localcloud import LocalScheduler
from tickless.settings import read_desk
from tickless.types import iso

FAST, SLOW, STAKE = 20, 100, 1000
DAYS = 2


@pytest.fixture(scope="module")
def market() -> FolderMarket:
    """Eight pairs without a gap, two days before ``DAY`` and ``DAYS`` from it on."""
    made = make_market(pairs=8, start=DAY - timedelta(days=2), end=DAY + timedelta(days=DAYS), seed=11, events=False)
    return FolderMarket(made.panel, made.rules)


@pytest.fixture(scope="module")
def replayed(tickless: Callable[..., Any], market: FolderMarket, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The result folder of ``tickless replay --desk crossover``, all positions left open at its end."""
    folder = tmp_path_factory.mktemp("scan")
    write_folder(folder / "bars", market.panel)
    write_markets(folder / "bars", market.filters)
    timerange = f"{DAY:%Y%m%d}-{DAY + timedelta(days=DAYS):%Y%m%d}"
    where = ("--data", folder / "bars", "--timerange", timerange, "--set", "execution.close_at_end=false", "--out", folder / "out")
    tickless("replay", "--desk", "crossover", *where)
    return folder / "out"


@pytest.fixture(scope="session")
def both_desks(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], AbstractContextManager[LocalDesk]]:
    """Makes desks that run ``rotation`` and ``crossover`` and have never run."""
    text, _ = read_desk("rotation")
    path = tmp_path_factory.mktemp("desk") / "both.toml"
    path.write_text(f"{text}\n[strategy.crossover]\nfast_bars = 4\nslow_bars = 12\n")
    return lambda: local_desk(root, small_market(), desk=str(path))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def crossings(market: FolderMarket) -> Iterator[tuple[datetime, str, str, float]]:
    """(decided at, pair, side, close) of what crossover must do from ``DAY`` on, in exact arithmetic: an oracle of its own."""
    panel = market.panel
    step = timedelta(milliseconds=panel.step_ms)
    for column, pair in enumerate(panel.pairs):
        closes = [Fraction(float(close)) for close in panel.close[:, column]]
        held = False
        for row in range(SLOW, panel.rows):
            at = panel.start + (row + 1) * step
            now, before = (sign(closes[: end + 1]) for end in (row, row - 1))
            if not DAY <= at < DAY + timedelta(days=DAYS):
                continue
            if now > 0 >= before and not held:
                held = True
                yield at, pair, "buy", float(closes[row])
            elif now < 0 <= before and held:
                held = False
                yield at, pair, "sell", float(closes[row])


def sign(closes: list[Fraction]) -> int:
    difference = sum(closes[-FAST:]) / FAST - sum(closes[-SLOW:]) / SLOW
    return (difference > 0) - (difference < 0)


def test_the_sample_event_runs_on_the_local_aws(tickless: Callable[..., Any], root: Path) -> None:
    (sample,) = (root / "functions" / "scan" / "events").glob("*.json")
    done = json.loads(tickless("invoke", "scan", "--event", sample, "--local", "--desk", "crossover", "--json").stdout)
    at = json.loads(sample.read_text())["scheduled_time"]
    assert done["answer"]["tick"] == f"{at}#scan-crossover"
    assert done["answer"]["ran"] == [f"{at}#risk_check", f"{at}#scan-crossover"]
    assert (done["answer"]["status"], done["error"], done["metrics"]["TickDone"]) == ("done", None, 1)


def test_a_replay_fires_every_schedule_of_the_desk_and_no_other(replayed: Path) -> None:
    ticks = [json.loads(line) for line in (replayed / "ticks.jsonl").read_text().splitlines()]
    times = [iso(DAY + n * timedelta(minutes=15)) for n in range(96 * DAYS)]
    assert [tick["id"] for tick in ticks] == [f"{at}#{name}" for at in times for name in ("risk_check", "scan-crossover")]
    assert json.loads((replayed / "summary.json").read_text())["ticks"] == {"risk_check": 96 * DAYS, "scan": 96 * DAYS}


def test_a_replay_trades_every_crossing_and_nothing_else(replayed: Path, market: FolderMarket) -> None:
    expected = sorted(crossings(market))
    orders = rows(replayed / "orders.csv")
    found = sorted((order["tick_at"], order["pair"], order["side"]) for order in orders)
    assert found == [(iso(at), pair, side) for at, pair, side, _ in expected]
    assert len(found) > 20
    assert {(order["strategy"], order["type"], order["status"]) for order in orders} == {("crossover", "market", "filled")}
    closes = {(iso(at), pair): close for at, pair, _, close in expected}
    for order in (order for order in orders if order["side"] == "buy"):
        assert float(order["qty"]) * closes[order["tick_at"], order["pair"]] == pytest.approx(STAKE, rel=1e-9)


def test_a_late_rebalance_is_run_by_the_scan_of_its_minute(both_desks: Callable[[], AbstractContextManager[LocalDesk]]) -> None:
    names = ("risk_check", "full_rebalance", "scan-crossover")
    with both_desks() as desk:
        scan = desk.tick("scan", DAY, strategy="crossover")
        assert scan.error is None
        assert scan.payload["ran"] == [f"{iso(DAY)}#{name}" for name in names]
        assert {metric.dimensions["strategy"] for metric in scan.metrics} == {"crossover"}
        for function in ("full_rebalance", "risk_check"):
            assert desk.tick(function, DAY, late_s=20).payload["status"] == "already_done"
        assert [record.tick.name for record in desk.cloud.ledger.ticks()] == list(names)
        assert desk.trace("scan-crossover", DAY) is not None


def test_a_strategy_that_is_not_scanned_is_refused_by_name(root: Path) -> None:
    with local_desk(root, small_market(), desk="crossover") as alone:
        assert sorted(alone.local.functions()) == ["risk_check", "scan"]
        refused = alone.tick("scan", DAY, strategy="rotation")
        assert refused.error is not None
        assert refused.error.message == "event of scan: strategy 'rotation' is unknown; known: crossover"
        assert alone.cloud.ledger.load() is None


def test_disorder_and_duplicates_change_nothing(both_desks: Callable[[], AbstractContextManager[LocalDesk]]) -> None:
    records = []
    for options in ({}, {"order": "shuffled", "duplicates": 0.3, "seed": 4}):
        with both_desks() as desk:
            scheduler: LocalScheduler = desk.schedule(7, **options)
            assert [firing for firing in scheduler.fire() if firing.result is None or firing.result.error is not None] == []
            records.append(desk.record())
    assert records[0] == records[1]
    strategies = [order.split("strategy=")[1].split(",")[0] for order in records[0]["orders"]]
    assert {"'rotation'", "'crossover'"} == set(strategies)
