"""``tickless backtest --desk crossover`` on recorded bars, trade for trade what exact arithmetic says; and its proof of no look-ahead."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal as D
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tickless.adapters.bar_files import read_folder
from tickless.bars import Panel
from tickless.types import iso

pytestmark = pytest.mark.realdata

FAST, SLOW, STAKE, FEE = 20, 100, D(1000), D("0.001")
STEP = timedelta(minutes=15)
TWELVE = tuple(f"{base}/USDT" for base in ("1000SATS", "AAVE", "APT", "AR", "BTC", "CRV", "DOGE", "ENS", "ETH", "FET", "GALA", "PEPE"))
FIRST, LAST = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 9, 6, tzinfo=UTC)
"""The part of the recording in which no pair lacks a bar."""
START, END = datetime(2024, 2, 21, tzinfo=UTC), datetime(2024, 4, 3, tzinfo=UTC)
"""Six weeks: at their last open AR would be entered, and PEPE is entered at the open before it."""


class Trade(NamedTuple):
    """A round trip, as the oracle means it."""

    pair: str
    opened_at: str
    open_price: D
    closed_at: str
    close_price: D
    exit_reason: str


class Oracle:
    """Signals of one pair in whole numbers: closes times a power of ten, whose sums are exact."""

    def __init__(self, panel: Panel, pair: str) -> None:
        n = panel.column[pair]
        self.pair, self.start = pair, panel.start
        self.opens = [D(repr(value)) for value in panel.open[:, n].tolist()]
        self.closes = [D(repr(value)) for value in panel.close[:, n].tolist()]
        assert not any(close.is_nan() for close in self.closes), f"{pair}: the oracle wants every bar"
        digits = max(-int(close.as_tuple().exponent) for close in self.closes)
        sums = [0, *accumulate(int(close.scaleb(digits)) for close in self.closes)]
        apart = [SLOW * (end - fast) - FAST * (end - slow) for end, fast, slow in zip(sums[SLOW:], sums[SLOW - FAST :], sums, strict=False)]
        self.sides = [0] * (SLOW - 1) + [(difference > 0) - (difference < 0) for difference in apart]
        """By row: 1 where the fast average of the closes up to it is above the slow one, -1 where it is below."""

    def trades(self, start: datetime, end: datetime) -> Iterator[tuple[Trade, D]]:
        """Every trade of [start, end), and the close that its quantity is made of. Nothing is bought at the open of the last bar."""
        first, last = ((at - self.start) // STEP for at in (start, end - STEP))
        held: tuple[int, D] | None = None
        for fill in range(max(first, SLOW + 1), last + 1):
            now, before = self.sides[fill - 1], self.sides[fill - 2]
            if held is None and now > 0 >= before and fill < last:
                held = fill, self.closes[fill - 1]
            elif held is not None and now < 0 <= before:
                yield self._trade(held[0], iso(self.start + fill * STEP), self.opens[fill], "cross_down"), held[1]
                held = None
        if held is not None:
            yield self._trade(held[0], iso(end), self.closes[last], "end_of_data"), held[1]

    def _trade(self, opened: int, closed_at: str, price: D, reason: str) -> Trade:
        return Trade(self.pair, iso(self.start + opened * STEP), self.opens[opened], closed_at, price, reason)

    def enters_at(self, at: datetime) -> bool:
        """Whether a cross up would be filled at the open of ``at``."""
        row = (at - self.start) // STEP
        return self.sides[row - 1] > 0 >= self.sides[row - 2]


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def require_equal(out: Path, oracles: Sequence[Oracle], start: datetime, end: datetime) -> int:
    """Require that the run's trades are the oracle's, quantities and fees included; returns how many there are."""
    wanted = {trade: close for oracle in oracles for trade, close in oracle.trades(start, end)}
    found = read(out / "trades.csv")
    got = {
        Trade(row["pair"], row["opened_at"], D(row["open_price"]), row["closed_at"], D(row["close_price"]), row["exit_reason"]): row
        for row in found
    }
    assert sorted(set(wanted) - set(got))[:3] == []
    assert sorted(set(got) - set(wanted))[:3] == []
    assert len(found) == len(wanted)
    for trade, row in got.items():
        qty, value = D(row["qty"]), trade.open_price + trade.close_price
        assert abs(qty * wanted[trade] / STAKE - 1) < D("1e-11"), row
        assert abs(D(row["fees"]) / (qty * value * FEE) - 1) < D("1e-6"), row
        assert abs(D(row["pnl"]) - qty * (trade.close_price - trade.open_price) + D(row["fees"])) < D("1e-6"), row
        assert (row["strategy"], row["side"], row["enter_tag"]) == ("crossover", "long", "cross_up")
    return len(found)


@pytest.fixture(scope="module")
def bars(realdata: Path) -> Path:
    return realdata / "spot_2024"


@pytest.fixture(scope="module")
def twelve(bars: Path) -> list[Oracle]:
    panel, _ = read_folder(bars, "15m", pairs=list(TWELVE), end=LAST)
    return [Oracle(panel, pair) for pair in TWELVE]


def options(bars: Path, *, pairs: Sequence[str] = TWELVE, start: datetime = START, end: datetime = END) -> tuple[object, ...]:
    whitelist = f"universe.pair_whitelist={json.dumps(list(pairs))}"
    return ("--desk", "crossover", "--data", bars, "--timerange", f"{start:%Y%m%d}-{end:%Y%m%d}", "--set", whitelist)


def test_six_weeks_of_twelve_pairs_are_the_oracles_trade_for_trade(
    tickless: Callable[..., Any], bars: Path, twelve: list[Oracle], tmp_path: Path
) -> None:
    entered = {oracle.pair: [trade for trade, _ in oracle.trades(START, END)] for oracle in twelve}
    assert [oracle.pair for oracle in twelve if oracle.enters_at(END - STEP)] == ["AR/USDT"]
    assert entered["AR/USDT"][-1].exit_reason == "cross_down"
    assert entered["PEPE/USDT"][-1].opened_at == iso(END - 2 * STEP)
    tickless("backtest", *options(bars), "--out", tmp_path)
    assert require_equal(tmp_path, twelve, START, END) > 250
    reasons = {row["exit_reason"] for row in read(tmp_path / "trades.csv")}
    assert reasons == {"cross_down", "end_of_data"}
    summary = json.loads((tmp_path / "summary.json").read_text())
    risk, scans = summary["ticks"]["risk_check"], summary["ticks"]["scan"]
    assert risk == scans == (END - START) // STEP


@pytest.mark.acceptance
def test_the_whole_recording_is_the_oracles_trade_for_trade(tickless: Callable[..., Any], bars: Path, tmp_path: Path) -> None:
    """All 60 pairs and every bar, ties included: the one list that floating point alone does not give."""
    panel, _ = read_folder(bars, "15m", quote="USDT", end=LAST)
    oracles = [Oracle(panel, pair) for pair in panel.pairs]
    assert sum(oracle.sides[SLOW - 1 :].count(0) for oracle in oracles) == 107
    tickless("backtest", *options(bars, pairs=("*",), start=FIRST, end=LAST), "--out", tmp_path)
    assert require_equal(tmp_path, oracles, FIRST, LAST) == 9696


def test_a_desk_of_signals_looks_at_no_bar_to_come(tickless: Callable[..., Any], bars: Path) -> None:
    end = START + timedelta(days=7)
    facts = json.loads(tickless("lookahead", *options(bars, end=end), "--cuts", "8", "--json").stdout)
    assert facts["passed"] is True
    assert facts["differences"] == []
    assert facts["compared"]["orders"] > 50
    assert {column["name"] for column in facts["startup"]["crossover"]["columns"]} == {"sma_fast", "sma_slow", "trend", "crossed"}
    assert {column["largest_difference"] for column in facts["startup"]["crossover"]["columns"]} == {0.0}
