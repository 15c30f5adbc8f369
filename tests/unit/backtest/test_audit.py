from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_run import made_run

from tickless.backtest.audit import verify
from tickless.backtest.results import RunRecord, write_results
from tickless.bars import COLUMNS, Panel
from tickless.types import OrderStatus, PairRules, Side


def audit(run: RunRecord, folder: Path, **changes: Any) -> list[str]:
    """What the auditor finds in the folder of a changed run."""
    write_results(replace(run, **changes), folder)
    return verify(folder, changes.get("market", run.market), run.settings)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_an_honest_run_has_no_findings(tmp_path: Path, seed: int) -> None:
    run = made_run(days=2, count=8, seed=seed)
    assert len(run.fills) > 20
    assert audit(run, tmp_path) == []


def test_an_empty_run_has_no_findings(tmp_path: Path) -> None:
    assert audit(made_run(days=1, busy=False), tmp_path) == []


def test_equity_that_the_fills_do_not_give(run: RunRecord, tmp_path: Path) -> None:
    rows = list(run.equity)
    rows[40] = replace(rows[40], equity=rows[40].equity + Decimal("0.00001"))
    rows[50] = replace(rows[50], cash=rows[50].cash - Decimal("0.00001"))
    rows[60] = replace(rows[60], exposure_frac=0.999)
    findings = audit(run, tmp_path, equity=rows)
    assert [text[:27] for text in findings] == [f"equity.csv at 2024-06-01T{hour}" for hour in (10, 12, 15)]
    assert "cash plus positions" in findings[0]
    assert "the fills give" in findings[1]
    assert "exposure_frac" in findings[2]


def test_a_lost_fill(run: RunRecord, tmp_path: Path) -> None:
    findings = audit(run, tmp_path, fills=run.fills[1:])
    assert any("the fills give" in text for text in findings)
    assert any("its fills sum to 0" in text for text in findings)


def test_a_fill_without_an_order(run: RunRecord, tmp_path: Path) -> None:
    assert any("belongs to no order" in text for text in audit(run, tmp_path, orders=run.orders[1:]))


def test_a_fee_that_is_not_the_fills(run: RunRecord, tmp_path: Path) -> None:
    orders = [replace(run.orders[0], fee=run.orders[0].fee + 1), *run.orders[1:]]
    assert any(": fee " in text for text in audit(run, tmp_path, orders=orders))


def test_fees_paid_that_the_orders_do_not_give(run: RunRecord, folder: Path) -> None:
    path = folder / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fees_paid": 1.0, "ticks": {"risk_check": 1}}))
    findings = verify(folder, run.market, run.settings)
    assert any(text.startswith("summary.json: fees_paid") for text in findings)
    assert any(text.startswith("summary.json: ticks") for text in findings)


def test_a_filled_order_that_is_not(run: RunRecord, tmp_path: Path) -> None:
    n = next(n for n, order in enumerate(run.orders) if order.status is OrderStatus.FILLED)
    orders = list(run.orders)
    orders[n] = replace(orders[n], qty=orders[n].qty * 2)
    assert any("filled, but" in text for text in audit(run, tmp_path, orders=orders))


def test_a_price_better_than_the_open(run: RunRecord, tmp_path: Path) -> None:
    fills = [replace(run.fills[0], price=run.fills[0].price * Decimal("0.9999")), *run.fills[1:]]
    assert any("open" in text and "with slippage is" in text for text in audit(run, tmp_path, fills=fills))


def test_a_fill_where_there_is_no_bar(run: RunRecord, tmp_path: Path) -> None:
    write_results(run, tmp_path)
    later = run.market.take(130, run.market.rows)
    assert any("has no bar that opens then" in text for text in verify(tmp_path, later, run.settings))


def test_an_order_under_the_minimum(run: RunRecord, folder: Path) -> None:
    rules = {run.orders[0].pair: PairRules(run.orders[0].pair, min_notional=Decimal(1_000_000))}
    assert any("the exchange's minimum is 1000000" in text for text in verify(folder, run.market, run.settings, rules))


def with_line(run: RunRecord, wanted: Callable[[dict[str, Any]], bool], change: dict[str, Any]) -> list[dict[str, Any]]:
    """The tick lines with the first wanted one changed."""
    lines = [dict(line) for line in run.ticks]
    next(line for line in lines if wanted(line)).update(change)
    return lines


@pytest.mark.parametrize(
    ("targets", "tiers", "part"),
    [
        ({f"P{n}/USDT": 0.01 for n in range(9)}, 1, "9 targets, top_k is"),
        ({f"P{n}/USDT": 0.14 for n in range(6)} | {"Q/USDT": 0.14}, 1, "the cash buffer leaves"),
        ({"P/USDT": 0.101}, 2, "the cap of tier 2 is 0.1"),
        ({f"P{n}/USDT": 0.05 for n in range(3)}, 3, "tier 3 sums to"),
        ({"P/USDT": -0.1}, 1, "a target is negative"),
        ({"P/USDT": 0.1}, None, "without a tier"),
    ],
)
def test_targets_beyond_a_limit(run: RunRecord, tmp_path: Path, targets: dict[str, float], tiers: int | None, part: str) -> None:
    ranks = {} if tiers is None else dict.fromkeys(targets, tiers)
    lines = with_line(run, lambda line: line["targets"] is not None, {"targets": targets, "tiers": ranks})
    assert any(part in text for text in audit(run, tmp_path, ticks=lines))


def test_limits_that_are_not_the_settings(run: RunRecord, tmp_path: Path) -> None:
    lines = with_line(run, lambda line: line["targets"] is not None, {"top_k": 50})
    assert any("are not those of the settings" in text for text in audit(run, tmp_path, ticks=lines))


def test_a_dropped_pair_that_nobody_sells(run: RunRecord, tmp_path: Path) -> None:
    held = next(line for line in run.ticks if len(line.get("targets") or ()) == 3)
    pair = next(iter(held["targets"]))
    later = {line["id"] for line in run.ticks if line["id"] > held["id"] and pair in (line.get("targets") or ())}
    lines = with_line(run, lambda line: line["id"] == min(later), {"targets": {}})
    assert any(f"{pair} is held and no target" in text for text in audit(run, tmp_path, ticks=lines))


def test_a_stop_that_fell(run: RunRecord, tmp_path: Path) -> None:
    n = next(n for n, line in enumerate(run.ticks) if line.get("stops") and run.ticks[n + 1].get("stops"))
    pair, price = next(iter(run.ticks[n]["stops"].items()))
    lines = [dict(line) for line in run.ticks]
    lines[n + 1]["stops"] = {pair: price * 0.99}
    assert any(f"the stop of {pair} fell" in text for text in audit(run, tmp_path, ticks=lines))


def test_a_new_position_may_start_lower(run: RunRecord, tmp_path: Path) -> None:
    """Pairs are bought again in every busy run, and their stops start anew."""
    again = [fill.pair for fill in run.fills if fill.side is Side.BUY]
    assert len(again) > len(set(again))
    assert not any("fell" in text for text in audit(run, tmp_path))


def test_ticks_out_of_order_missing_or_twice(run: RunRecord, tmp_path: Path) -> None:
    lines = list(run.ticks)
    lines[3], lines[4] = lines[4], lines[3]
    assert any("comes after" in text for text in audit(run, tmp_path, ticks=lines))
    assert any("is missing" in text for text in audit(run, tmp_path, ticks=run.ticks[1:]))
    assert any("comes after" in text for text in audit(run, tmp_path, ticks=[run.ticks[0], *run.ticks]))
    odd = {"id": "2024-06-01T00:07:00Z#risk_check", "function": "risk_check", "at": "2024-06-01T00:07:00Z"}
    assert any("was not due" in text for text in audit(run, tmp_path, ticks=[*run.ticks, odd]))


def rescaled(panel: Panel, pair: str, row: int) -> Panel:
    """The panel without the pair's bar before ``row``, and a thousand times its prices from there on."""
    columns = {name: getattr(panel, name).copy() for name in COLUMNS}
    for name, values in columns.items():
        values[row - 1, panel.column[pair]] = np.nan
        values[row:, panel.column[pair]] *= 1.0 if name == "volume" else 1000.0
    return replace(panel, **columns)


@pytest.mark.parametrize(("side", "factor"), [(Side.BUY, "0.99"), (Side.SELL, "1.01"), (Side.BUY, "1.02"), (Side.SELL, "0.98")])
def test_a_fill_outside_its_bar(run: RunRecord, tmp_path: Path, side: Side, factor: str) -> None:
    n = next(n for n, fill in enumerate(run.fills) if fill.side is side)
    fills = [*run.fills[:n], replace(run.fills[n], price=run.fills[n].price * Decimal(factor)), *run.fills[n + 1 :]]
    assert any(f"{run.fills[n].client_order_id}" in text and "lies outside the bar's" in text for text in audit(run, tmp_path, fills=fills))


def test_a_fill_between_the_bars(run: RunRecord, tmp_path: Path) -> None:
    fills = [replace(run.fills[0], filled_at=run.fills[0].filled_at + timedelta(minutes=7)), *run.fills[1:]]
    assert any("no bar opens then or is about to close" in text for text in audit(run, tmp_path, fills=fills))


def test_a_fill_inside_a_bar_in_which_nothing_traded(run: RunRecord, tmp_path: Path) -> None:
    fill = run.fills[0]
    volume = run.market.volume.copy()
    volume[run.market.row_at(fill.filled_at), run.market.column[fill.pair]] = 0.0
    fills = [replace(fill, filled_at=fill.filled_at + timedelta(minutes=15, milliseconds=-1)), *run.fills[1:]]
    assert any(
        "nothing traded inside the bar" in text for text in audit(run, tmp_path, fills=fills, market=replace(run.market, volume=volume))
    )


def test_a_gain_that_the_bars_do_not_allow(run: RunRecord, tmp_path: Path) -> None:
    rows = [*run.equity[:50], *(replace(row, equity=row.equity + 9999, cash=row.cash + 9999) for row in run.equity[50:])]
    said = [text for text in audit(run, tmp_path, equity=rows) if "the bars allow at most" in text]
    assert [text[:32] for text in said] == [f"equity.csv at {run.equity[50].at:%Y-%m-%dT%H:%M}:0"]


def test_a_position_held_across_a_break_of_the_price_scale(run: RunRecord, tmp_path: Path) -> None:
    bought = next(fill for fill in run.fills if fill.side is Side.BUY)
    market = rescaled(run.market, bought.pair, run.market.row_at(bought.filled_at) + 2)
    said = audit(run, tmp_path, market=market)
    assert any(f"{bought.pair} are held across the break of its price scale" in text for text in said)
    at_it = rescaled(run.market, bought.pair, run.market.row_at(bought.filled_at))
    assert any(f"{bought.pair} trades in the first bar on a new price scale" in text for text in audit(run, tmp_path, market=at_it))


@pytest.mark.parametrize(
    ("reason", "said"), [("price_scale_break", "did not break then"), ("end_of_data", "closed at"), ("left_target", "has no bar")]
)
def test_a_fill_needs_its_occasion_and_its_price(run: RunRecord, tmp_path: Path, reason: str, said: str) -> None:
    n = next(n for n, fill in enumerate(run.fills) if fill.side is Side.SELL)
    fill = run.fills[n]
    orders = [replace(order, reason=reason) if order.client_order_id == fill.client_order_id else order for order in run.orders]
    market = run.market
    if reason == "left_target":
        columns = {name: getattr(market, name).copy() for name in COLUMNS}
        for values in columns.values():
            values[market.row_at(fill.filled_at), market.column[fill.pair]] = np.nan
        market = replace(market, **columns)
    found = audit(run, tmp_path, orders=orders, market=market)
    assert any(fill.client_order_id in text and said in text for text in found)
