"""The auditor on runs whose limit orders are quoted again: an honest one, and each way in which one could be wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tickless.adapters.folder_market import FolderMarket
from tickless.adapters.synthetic_market import make_market
from tickless.backtest.audit import verify
from tickless.backtest.engine import BacktestRequest, backtest
from tickless.backtest.results import RunRecord, write_results
from tickless.settings import load_desk
from tickless.types import OrderType

START = datetime(2024, 6, 3, tzinfo=UTC)
OVERRIDES = (
    "execution.order_type=limit",
    "execution.limit_offset_bps=-20",
    "execution.unfilled_timeout_s=900",
    "execution.unfilled_requotes=2",
    "execution.unfilled_action=cross",
    "schedule.rebalance_every_min=60",
    "strategy.rotation.fallback_threshold_frac=-1",
)


@pytest.fixture(scope="module")
def made() -> RunRecord:
    market = make_market(pairs=6, start=START - timedelta(days=5), end=START + timedelta(days=1), seed=4, events=False)
    folder = FolderMarket(market.panel, market.rules)
    return backtest(BacktestRequest(load_desk("rotation", OVERRIDES), folder, START, START + timedelta(hours=12), retrain=False))


def findings(record: RunRecord, out: Path, *, requotes: Callable[[dict[str, Any]], dict[str, Any]] = lambda told: told) -> list[str]:
    """What the auditor says of a run of which ``requotes`` has changed what its ticks tell."""
    ticks = [{**line, "requotes": requotes(dict(line["requotes"]))} if "requotes" in line else line for line in record.ticks]
    write_results(replace(record, ticks=tuple(ticks)), out)
    return verify(out, record.market, record.settings)


def first_requote(record: RunRecord) -> tuple[str, str]:
    """An order that ran out of time, and the one that goes on with it."""
    told = (item for line in record.ticks for item in line.get("requotes", {}).items())
    return next((ended, what["order"]) for ended, what in told if "order" in what)


def with_order(record: RunRecord, client_order_id: str, **changes: Any) -> RunRecord:
    orders = [replace(order, **changes) if order.client_order_id == client_order_id else order for order in record.orders]
    return replace(record, orders=tuple(orders))


def test_an_honest_run_has_no_findings(made: RunRecord, tmp_path: Path) -> None:
    assert max(order.attempt for order in made.orders) == 3
    assert findings(made, tmp_path) == []


def test_a_rest_that_goes_on_with_more_than_was_left(made: RunRecord, tmp_path: Path) -> None:
    _, following = first_requote(made)
    qty = next(order.qty for order in made.orders if order.client_order_id == following)
    assert any("goes on with" in text for text in findings(with_order(made, following, qty=qty * 2), tmp_path))


def test_a_rest_that_goes_on_as_something_else(made: RunRecord, tmp_path: Path) -> None:
    ended, following = first_requote(made)
    assert any("as another kind of order" in text for text in findings(with_order(made, following, reason="whim"), tmp_path / "a"))
    changed = findings(made, tmp_path / "b", requotes=lambda told: {i: {**what, "order": "tk0"} for i, what in told.items()})
    assert any(f"the rest of {ended} goes on as tk0, which is no order" in text for text in changed)


def test_a_market_order_where_a_limit_was_due(made: RunRecord, tmp_path: Path) -> None:
    _, following = first_requote(made)
    changed = with_order(made, following, type=OrderType.MARKET, limit_price=None)
    assert any("a market order as attempt 1, expected limit" in text for text in findings(changed, tmp_path))


def test_more_attempts_than_the_settings_allow(made: RunRecord, tmp_path: Path) -> None:
    fewer = made.settings.model_copy(update={"execution": made.settings.execution.model_copy(update={"unfilled_action": "cancel"})})
    said = findings(replace(made, settings=fewer), tmp_path)
    assert any("attempt 3, execution.unfilled_requotes allows 2" in text for text in said)


def test_attempts_that_are_counted_wrong(made: RunRecord, tmp_path: Path) -> None:
    said = findings(
        made, tmp_path, requotes=lambda told: {i: what | ({"attempt": 7} if "order" in what else {}) for i, what in told.items()}
    )
    assert any("called attempt 7, it is number 1" in text for text in said)


def test_a_rest_that_is_forgotten(made: RunRecord, tmp_path: Path) -> None:
    said = findings(made, tmp_path, requotes=lambda _: {})
    assert any("ran out of time with something left, and no tick says what became of that" in text for text in said)


def test_a_rest_of_an_order_that_did_not_run_out_of_time(made: RunRecord, tmp_path: Path) -> None:
    filled = next(order.client_order_id for order in made.orders if order.status.value == "filled")
    said = findings(made, tmp_path, requotes=lambda told: {**told, filled: {"pair": "X/USDT", "dropped": "decided_anew"}})
    assert any(f"the rest of {filled} is that of no limit order that ran out of time" in text for text in said)
    assert any(f"the rest of {filled} is dealt with twice" in text for text in said)
