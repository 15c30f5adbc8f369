"""A strategy that only these tests know, plugged into the desk as either kind: the core asks nobody's name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest

from made_panels import walk
from tickless.adapters.folder_market import FolderMarket
from tickless.backtest.engine import BacktestRequest, backtest
from tickless.backtest.lookahead import LookaheadRequest, check
from tickless.backtest.results import RunRecord
from tickless.runs import desk_strategies
from tickless.runs.market_history import MarketHistory
from tickless.settings import STRATEGY_SECTIONS, ScanSection, Section, load_desk
from tickless.strategies.contract import Own, Targets
from tickless.strategies.view import MarketView, Proposal, Proposals, Verdict
from tickless.types import ExitPlan, from_ms, to_ms

DAYS = 4
PAIRS = ("A/USDT", "B/USDT", "C/USDT")


class DipSection(Section):
    """A test strategy that is rebalanced."""

    weight_frac: float = 0.25


class DipScanSection(ScanSection):
    """The same strategy, scanned."""

    weight_frac: float = 0.25


@dataclass(frozen=True)
class Dip:
    """Hold what has fallen over the last hour. ``all_or_nothing`` names its whole portfolio at every tick, else only what changes."""

    all_or_nothing: bool
    name: str = "dip"

    def first_feature_bar(self, settings: Any, at: datetime) -> datetime:
        return at - timedelta(minutes=75)

    def first_bar(self, settings: Any, at: datetime) -> datetime:
        return self.first_feature_bar(settings, at)

    def extra_pairs(self, settings: Any) -> tuple[str, ...]:
        return ()

    def propose(self, view: MarketView, own: Own, settings: Any) -> Proposals:
        fallen = dict(zip(view.pairs, (view.feature("r_1h") < 0.0).tolist(), strict=True))
        wanted = [pair for pair, down in fallen.items() if down and (self.all_or_nothing or pair not in own.pairs)]
        proposals = tuple(Proposal(self.name, pair, "long", ExitPlan(), "fallen") for pair in wanted)
        verdicts = {pair: Verdict("" if down else "not_fallen") for pair, down in fallen.items()}
        return Proposals(proposals, verdicts, "dip", {pair: "risen" for pair in own.pairs if not fallen[pair]})

    def target(
        self,
        proposals: Sequence[Proposal],
        leaving: Mapping[str, str],
        view: MarketView,
        own: Own,
        equity: float,
        settings: Any,
    ) -> Targets:
        return Targets({p.pair: settings.strategy[self.name].weight_frac * equity for p in proposals}, leaving)

    def hysteresis_frac(self, settings: Any, *, full: bool) -> float:
        return 0.05


class DipHistory(MarketHistory):
    """One feature, of two closes."""

    def view(self, at: datetime) -> MarketView:
        row = self.mine.row_at(at) - 1
        tiers, ineligible = self._universe(at, row)
        r_1h = self.mine.close[row] / self.mine.close[row - 4] - 1.0 if row >= 4 else np.full(len(self.pairs), np.nan)
        return MarketView(at, self.pairs, self.mine.close[row], ("r_1h",), r_1h[:, None], tiers, ineligible)

    def columns(self) -> Mapping[str, Any]:
        first = from_ms(self.table_start_ms + self.step_ms)
        times = [first + n * timedelta(milliseconds=self.step_ms) for n in range(self.mine.rows - self.first_row)]
        return {"r_1h": np.array([self.view(at).feature("r_1h") for at in times])}


@pytest.fixture
def market() -> FolderMarket:
    panel = walk(PAIRS, (DAYS + 1) * 96, seed=4)
    return FolderMarket(panel)


@pytest.fixture(params=[DipSection, DipScanSection], ids=["rebalanced", "scanned"])
def plugged(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The desk's lists with one more strategy; gives the function that runs it."""
    scanned = issubclass(request.param, ScanSection)
    strategy = Dip(all_or_nothing=not scanned)
    history = type("History", (DipHistory,), {"strategy": strategy})
    monkeypatch.setitem(STRATEGY_SECTIONS, "dip", request.param)  # type: ignore[arg-type]
    monkeypatch.setitem(desk_strategies.STRATEGIES, "dip", strategy)  # type: ignore[arg-type]
    monkeypatch.setitem(desk_strategies.HISTORIES, "dip", history)  # type: ignore[arg-type]
    return "scan" if scanned else "feature_rebalance"


@pytest.fixture
def desk(tmp_path: Any, plugged: str) -> Any:
    path = tmp_path / "dip.toml"
    path.write_text(
        "[desk]\nname = 'dip'\nstake_currency = 'USDT'\n[universe]\nmin_age_days = 0.0\n"
        "[risk]\ninitial_stop_atr = 'off'\ntrail_arm_atr = 'off'\nmax_position_loss_frac = 'off'\ntime_stop_h = 'off'\n[strategy.dip]\n"
    )
    return load_desk(str(path))


def run(market: FolderMarket, settings: Any) -> RunRecord:
    start = from_ms(market.panel.start_ms) + timedelta(days=1)
    return backtest(BacktestRequest(settings, market, start, start + timedelta(days=DAYS - 1), retrain=False))


def test_it_trades_what_it_says_and_signs_it(market: FolderMarket, desk: Any, plugged: str) -> None:
    record = run(market, desk)
    assert len(record.trades) > 20
    assert {trade.strategy for trade in record.trades} == {"dip"}
    assert {trade.enter_tag for trade in record.trades} == {"fallen"}
    assert {trade.exit_reason for trade in record.trades} == {"risen"}
    ran = {line["function"] for line in record.ticks}
    assert plugged in ran
    assert ("scan" in ran) == (plugged == "scan")
    assert ("full_rebalance" in ran) == (plugged != "scan")
    close, step = market.panel.close, market.panel.step_ms
    for order in record.orders:
        row = (to_ms(order.tick_at) - market.panel.start_ms) // step - 1
        fallen = close[row, market.panel.column[order.pair]] < close[row - 4, market.panel.column[order.pair]]
        # A whole portfolio is also trimmed back to its weights; what is named but once is left alone between entry and exit.
        assert fallen == (order.side == "buy") or order.reason == "rebalance"
        assert order.reason != "rebalance" or plugged != "scan"


def test_the_proof_of_no_look_ahead_takes_it_as_it_is(market: FolderMarket, desk: Any) -> None:
    start = from_ms(market.panel.start_ms) + timedelta(days=1)
    proof = check(LookaheadRequest(desk, market, start, start + timedelta(days=2), cuts=6))
    assert proof.differences == ()
    assert proof.compared["orders"] > 10
    assert set(proof.startup) == {"dip"}
