from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from made_run import START, made_run

from tickless.backtest import tables
from tickless.backtest.results import RESULT_FILES, RunRecord, read_results, tick_lines, timerange_text, write_results
from tickless.errors import DataError, InputError

SUMMARY_KEYS = """
    timerange pairs start_equity end_equity total_return_frac cagr_frac volatility_ann_frac sharpe sortino calmar max_drawdown_frac trades
    win_rate_frac profit_factor expectancy avg_exposure_frac turnover_frac fees_paid ticks market_return_frac data_sha256 settings_sha256
    orders_sha256 seconds
""".split()  # noqa: SIM905
HEADERS = {
    "orders.csv": "client_order_id,tick_at,strategy,pair,side,type,qty,limit_price,stop_price,status,filled_qty,avg_price,fee,reason",
    "fills.csv": "client_order_id,filled_at,pair,side,qty,price,fee,fee_asset,fee_qty,liquidity",
    "trades.csv": "pair,strategy,side,enter_tag,opened_at,open_price,closed_at,close_price,qty,fees,pnl,pnl_frac,exit_reason",
    "equity.csv": "at,equity,cash,exposure_frac,drawdown_frac,regime",
}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_folder_holds_the_files_and_columns_that_users_rely_on(folder: Path) -> None:
    assert sorted(contents(folder)) == sorted(RESULT_FILES)
    for name, header in HEADERS.items():
        assert (folder / name).read_text().split("\n")[0] == header
    summary = json.loads((folder / "summary.json").read_text())
    assert list(summary)[: len(SUMMARY_KEYS)] == SUMMARY_KEYS


def test_the_summary_agrees_with_the_files(folder: Path, run: RunRecord) -> None:
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["timerange"] == "20240601-20240604"
    assert summary["ticks"] == {"risk_check": 288, "feature_rebalance": 132, "full_rebalance": 12, "retrain": 3}
    assert summary["orders_sha256"] == hashlib.sha256((folder / "orders.csv").read_bytes()).hexdigest()
    assert summary["settings_sha256"] == run.settings.sha256()
    orders = list(csv.DictReader((folder / "orders.csv").open()))
    trades = list(csv.DictReader((folder / "trades.csv").open()))
    rows = [float(row["equity"]) for row in csv.DictReader((folder / "equity.csv").open())]
    assert summary["orders"] == len(orders) > 20
    assert summary["trades"] == len(trades) > 5
    assert summary["fees_paid"] == pytest.approx(sum(float(order["fee"]) for order in orders))
    assert summary["win_rate_frac"] == pytest.approx(sum(float(trade["pnl"]) > 0 for trade in trades) / len(trades))
    assert summary["total_return_frac"] == pytest.approx(summary["end_equity"] / summary["start_equity"] - 1)
    daily = np.asarray([summary["start_equity"], rows[95], rows[191], rows[287]])
    returns = daily[1:] / daily[:-1] - 1
    assert summary["sharpe"] == pytest.approx(returns.mean() / returns.std(ddof=1) * 365**0.5)
    assert summary["max_drawdown_frac"] >= max(1 - b / a for a, b in pairwise(rows))


def test_the_market_counts_from_the_close_at_the_start_to_the_close_at_the_end(folder: Path, run: RunRecord) -> None:
    summary = json.loads((folder / "summary.json").read_text())
    first, last = run.market.closed_at(run.start).close[-1], run.market.closed_at(run.end).close[-1]
    assert summary["market_return_frac"] == pytest.approx(float(np.mean(last / first)) - 1)
    column = run.market.column["BTC/USDT"]
    assert summary["btc_return_frac"] == pytest.approx(last[column] / first[column] - 1)


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_results(made_run(), tmp_path / name)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_rows_are_written_in_one_order_whatever_order_they_came_in(run: RunRecord, folder: Path, tmp_path: Path) -> None:
    mixed = replace(run, orders=run.orders[::-1], fills=run.fills[::-1], trades=run.trades[::-1], equity=run.equity[::-1])
    write_results(mixed, tmp_path / "mixed")
    for name in HEADERS:
        assert (tmp_path / "mixed" / name).read_bytes() == (folder / name).read_bytes()


def test_what_is_written_is_read_back(run: RunRecord, folder: Path) -> None:
    results = read_results(folder)
    assert results.orders == tuple(run.orders)
    assert [replace(fill, fill_id="") for fill in results.fills] == [replace(fill, fill_id="") for fill in run.fills]
    assert list(results.trades) == [replace(trade, trade_id="") for trade in sorted(run.trades, key=lambda t: (t.closed_at, t.pair))]
    assert results.equity == tuple(run.equity)
    assert results.ticks == tuple(json.loads(json.dumps(run.ticks)))
    assert results.summary["end_equity"] == run.end_equity


def test_no_file_holds_an_exponent_or_a_carriage_return(folder: Path) -> None:
    for name in HEADERS:
        data = (folder / name).read_bytes()
        assert b"\r" not in data
        assert data.endswith(b"\n")
        numbers = [cell for line in data.decode().split("\n")[1:] for cell in line.split(",") if cell[:1].isdigit() and "-" not in cell]
        assert numbers
        assert not any("e" in cell.lower() for cell in numbers)


def test_an_old_folder_is_overwritten_file_by_file(run: RunRecord, folder: Path) -> None:
    (folder / "mine.txt").write_text("keep me")
    (folder / "orders.csv").write_text("old")
    before = contents(folder)
    write_results(run, folder)
    after = contents(folder)
    assert after["mine.txt"] == b"keep me"
    assert after.keys() == before.keys()
    assert after["orders.csv"] != b"old"


def test_nothing_is_written_when_a_value_cannot_be(run: RunRecord, folder: Path) -> None:
    before = contents(folder)
    broken = replace(run, equity=[*run.equity, replace(run.equity[-1], at=run.end, equity=Decimal("NaN"))])
    with pytest.raises(ValueError, match="NaN is not a number"):
        write_results(broken, folder)
    assert contents(folder) == before


def test_parents_are_made(run: RunRecord, tmp_path: Path) -> None:
    write_results(run, tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c" / "summary.json").is_file()


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_file_in_the_way_is_refused(run: RunRecord, tmp_path: Path, below: str) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(InputError, match=r"out.*: is a file, expected a folder"):
        write_results(run, tmp_path / "out" / below)
    assert (tmp_path / "out").read_text() == "a file"


def test_a_folder_that_cannot_be_made_or_written_is_refused(run: RunRecord, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"/proc/x: cannot be made a folder for the results \("):
        write_results(run, Path("/proc/x"))
    (tmp_path / "orders.csv").mkdir()
    with pytest.raises(InputError, match=r"the results cannot be written there \(Is a directory\)"):
        write_results(run, tmp_path)


def test_a_run_without_trades_has_defined_figures(tmp_path: Path) -> None:
    summary = write_results(made_run(busy=False), tmp_path)
    assert summary["total_return_frac"] == 0.0
    assert [summary[key] for key in ("sharpe", "sortino", "calmar", "win_rate_frac", "profit_factor", "expectancy")] == [None] * 6
    assert json.loads((tmp_path / "summary.json").read_text())["fees_paid"] == 0
    assert read_results(tmp_path).orders == ()


def test_a_run_without_a_single_tick(run: RunRecord, tmp_path: Path) -> None:
    empty = replace(run, orders=(), fills=(), trades=(), equity=(), ticks=(), pairs=("BTC/USDT", "GONE/USDT"), end_equity=run.start_equity)
    summary = write_results(empty, tmp_path)
    assert summary["ticks"] == {}
    assert summary["volatility_ann_frac"] is None


def test_a_timerange_off_midnight_is_written_in_full() -> None:
    assert timerange_text(START, START + timedelta(hours=6)) == "2024-06-01T00:00:00Z-2024-06-01T06:00:00Z"


def test_tick_lines_tell_only_what_changed() -> None:
    buy, keep = {"action": "buy", "reason": "best", "score": 1.0}, {"action": "keep", "reason": "held"}
    traces = [
        {"id": "1", "function": "f", "at": "t1", "pairs": {"B/X": keep, "A/X": buy}, "stops": {"B/X": 2.0, "A/X": 1.0}},
        {"id": "2", "function": "f", "at": "t2", "pairs": {"A/X": {**buy, "score": 2.0}, "B/X": keep}},
        {"id": "3", "function": "g", "at": "t3"},
        {"id": "4", "function": "f", "at": "t4", "pairs": {"A/X": keep, "B/X": keep}, "unknown": 1},
    ]
    lines = list(tick_lines(traces))
    assert [line["pairs"] for line in lines] == [{"A/X": buy, "B/X": keep}, {}, {}, {"A/X": keep}]
    assert list(lines[0]["stops"]) == ["A/X", "B/X"]
    assert list(lines[0]) == ["id", "function", "at", "models", "regime", "targets", "limits", "stops", "pairs"]
    assert "unknown" not in lines[3]
    assert all((line["models"], line["regime"], line["targets"], line["limits"]) == ({}, None, None, []) for line in lines)
    (said,) = tick_lines([{"id": "5", "function": "f", "at": "t5", "targets": {}, "regime": "chop", "limits": ["x"], "models": {"m": "v"}}])
    assert (said["models"], said["regime"], said["targets"], said["limits"]) == ({"m": "v"}, "chop", {}, ["x"])


def test_values_json_does_not_know_are_written_all_the_same(run: RunRecord, tmp_path: Path) -> None:
    odd = {
        "id": "1",
        "function": "f",
        "at": START,
        "x": float("nan"),
        "y": [np.float64(1.5), np.int64(2), np.float64("inf")],
        "z": Decimal("0.1"),
    }
    write_results(replace(run, ticks=[odd]), tmp_path)
    line = json.loads((tmp_path / "ticks.jsonl").read_text())
    assert line == {"id": "1", "function": "f", "at": "2024-06-01T00:00:00Z", "x": None, "y": [1.5, 2, None], "z": 0.1}


def test_plain_numbers() -> None:
    cases = {"1E+3": "1000", "0.10": "0.1", "-0": "0", "-0.00": "0", "1E-9": "0.000000001", "12.000": "12"}
    assert {text: tables.plain(Decimal(text)) for text in cases} == cases
    assert [tables.plain(x) for x in (0.1, 1e-7, 3.0, -0.0, 1e22)] == ["0.1", "0.0000001", "3", "0", "10000000000000000000000"]


def test_a_long_table_of_mixed_values_is_written_cell_by_cell() -> None:
    """Thousands of rows, columns that change their type on the way, and text that needs quotes."""
    values = (Decimal("1.50"), None, 2.0, Decimal("1E-9"), 3, START, 'a "b", c')
    rows = [SimpleNamespace(name=f"row {n}", value=values[n * n % 7] if n > 4100 else Decimal(n)) for n in range(6000)]
    lines = list(csv.reader(tables.csv_text(("name", "value"), rows).splitlines()))
    assert lines == [["name", "value"], *([row.name, tables.cell(row.value)] for row in rows)]
    assert tables.csv_text(("name",), []) == "name\n"


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("orders.csv", ",buy,", ",bought,", r"orders\.csv line 2, side: 'bought' cannot be read"),
        ("fills.csv", ",price,", ",prize,", r"fills\.csv: no column 'price'"),
        ("equity.csv", ",50000,", ",fifty,", r"equity\.csv line 2, equity: 'fifty' cannot be read"),
        ("trades.csv", ",long,", ",long,long,", r"trades\.csv line 2: 14 cells, expected 13"),
        ("ticks.jsonl", "{", "", r"ticks\.jsonl line 1: not JSON"),
        ("summary.json", "{", "", r"summary\.json: not JSON"),
    ],
)
def test_a_damaged_file_is_named(folder: Path, name: str, old: str, new: str, message: str) -> None:
    text = (folder / name).read_text()
    (folder / name).write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=message):
        read_results(folder)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "fills.csv").unlink()
    with pytest.raises(DataError, match=r"fills\.csv: cannot be read"):
        read_results(folder)
    with pytest.raises(DataError, match="nowhere: not a result folder"):
        read_results(folder / "nowhere")
