"""Ticks that change nothing: most of a backtest.

A risk check at which no stop moves and nothing is open only values the portfolio; a scan at which no signal has changed only says so. What
such a tick writes is known without running it: an equity row, a line, a record. Everything else goes through the desk's own run. The files
are the same either way, which the tests of parity hold this module to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from math import inf
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tickless.adapters.price_scales import Scales
from tickless.backtest.memory import LineTrace, RunLedger
from tickless.bars import Floats, Panel
from tickless.execution.rounding import exact, money
from tickless.pipeline import NO_STOP_HIT, Decision
from tickless.risk.drawdown import drawdown_frac, kill_switch_trips, target_scale
from tickless.risk.stops import calm_corridor
from tickless.runs import risk_check
from tickless.runs.market_history import History
from tickless.settings import RiskSection
from tickless.strategies.view import Action
from tickless.types import DeskState, EquityRow, Position, Tick, evolve, iso, to_ms

_KEPT: Action = (NO_STOP_HIT["action"], NO_STOP_HIT["reason"])


_NEVER: tuple[None, Mapping[str, Any], int] = (None, {}, 0)


class _Holding(NamedTuple):
    """One position as numbers."""

    position: Position
    blocked: bool
    column: int
    qty: float
    low: float
    high: float


@dataclass
class _Holdings:
    """All positions of a state, sorted by pair."""

    positions: Mapping[str, Position]
    blocked: Mapping[str, str]
    settings: RiskSection
    pairs: list[str]
    columns: NDArray[np.intp]
    qty: list[float]
    stops: dict[str, float]
    low: Floats | None
    """None where no close would make anything happen."""
    high: Floats | None
    spoken: bool
    """Whether a risk check has said of all these pairs that it keeps them."""


class _Valued(NamedTuple):
    """What the last quiet risk check saw; it is not in the state yet."""

    at: datetime
    closes: list[float]
    peak: Decimal


class QuietTicks:
    """Does what a quiet tick leaves, and says whether it was one."""

    def __init__(self, panel: Panel, scales: Scales, ledger: RunLedger, trace: LineTrace) -> None:
        self._panel, self._scales, self._ledger, self._trace = panel, scales, ledger, trace
        self._looked_ms = 0
        """Up to when the exchange has been asked, or had nothing to tell."""
        self._known: dict[str, _Holding] = {}
        self._holdings: _Holdings | None = None
        self._valued: _Valued | None = None
        self._valued_at: datetime | None = None
        self._drawdown = 0.0
        self._calm: dict[str, tuple[Mapping[str, Position] | None, Mapping[str, Any], int]] = {}
        """By strategy: the positions at its last scan, where it found nothing to do, the line it left, and when that was."""

    def risk(self, tick: Tick, state: DeskState, settings: RiskSection) -> bool:
        """Value the portfolio, if that is all there is to do."""
        row = self._panel.row_at(tick.scheduled_at) - 1
        if state.orders or state.unfilled or not 0 < row < self._panel.rows:
            return False
        holdings = self._holdings_of(state, settings)
        close = self._panel.close[row].take(holdings.columns)
        now_ms = to_ms(tick.scheduled_at)
        if holdings.pairs and not (self._nothing_hit(holdings, close) and self._nothing_broke(holdings, now_ms)):
            return False
        closes = close.tolist()
        cash = equity = float(state.cash)
        for qty, price in zip(holdings.qty, closes, strict=True):
            equity += qty * price
        worth = money(exact(equity))
        peak = max(self._valued.peak if self._valued is not None else state.peak_equity, worth)
        drawdown = drawdown_frac(equity, float(peak))
        if state.halt is None and kill_switch_trips(drawdown, settings):
            return False
        self._valued = _Valued(tick.scheduled_at, closes, peak)
        self._valued_at, self._drawdown, self._looked_ms = tick.scheduled_at, drawdown, now_ms
        exposure = (equity - cash) / equity if equity > 0.0 else 0.0
        self._ledger.value(tick, EquityRow(tick.scheduled_at, worth, state.cash, exposure, drawdown, state.regime))
        self._leave_line(tick, state, holdings)
        return True

    def is_settled(self, tick: Tick, state: DeskState) -> bool:
        """Whether a risk check of this very minute was quiet, and nothing has happened since: the exchange has nothing to tell."""
        return self._valued_at == tick.scheduled_at and not state.orders and not state.unfilled

    def scan(self, tick: Tick, state: DeskState, settings: RiskSection, history: History) -> bool:
        """Say that nothing has changed, if that is so: no signal, no order, nothing that a limit scales."""
        positions, line, before = self._calm.get(tick.strategy, _NEVER)
        # A history says what has changed since the bar before: that must be the bar of the last scan.
        if positions is not state.positions or to_ms(tick.scheduled_at) - before != self._panel.step_ms:
            return False
        if target_scale(self._drawdown, settings) != 1.0 or not history.still(tick.scheduled_at):
            return False
        self._calm[tick.strategy] = (positions, line, to_ms(tick.scheduled_at))
        self._trace.add(tick, {**line, "id": tick.id, "at": iso(tick.scheduled_at), "regime": state.regime, "pairs": {}})
        self._ledger.value(tick, None)
        return True

    def nothing_done(self, tick: Tick, decision: Decision) -> bool:
        """Whether a scan's decision changes nothing but what it says of the pairs; that is then written."""
        plan, holdings = decision.plan, self._holdings
        if plan.orders or plan.cancels or decision.positions or holdings is None or holdings.positions is not decision.state.positions:
            return False
        trace = {"id": tick.id, "function": tick.function, "strategy": tick.strategy, "at": iso(tick.scheduled_at), "stops": holdings.stops}
        self._trace.write(tick, {**decision.trace, **trace})
        self._ledger.value(tick, None)
        return True

    def scanned(self, tick: Tick, decision: Decision, state: DeskState) -> None:
        """Look at what a scan decided and at the state it left, to know whether the next one may be skipped."""
        self._calm.pop(tick.strategy, None)
        plan = decision.plan
        if not (
            plan.orders or plan.cancels or plan.skipped or decision.positions or decision.trace["limits"] or state.orders or state.unfilled
        ):
            self._calm[tick.strategy] = (state.positions, self._trace.line_of(tick), to_ms(tick.scheduled_at))

    def caught_up(self, tick: Tick, state: DeskState) -> DeskState:
        """The state with what quiet risk checks have seen since: ``tick`` goes the whole way."""
        self._looked_ms = to_ms(tick.scheduled_at)
        self._calm.pop(tick.strategy, None)
        if tick.function == risk_check.NAME:
            self._valued_at = None
            if self._holdings is not None:
                self._holdings.spoken = False
        valued, holdings = self._valued, self._holdings
        if valued is None or holdings is None:
            return state
        self._valued = None
        return evolve(state, marks=dict(zip(holdings.pairs, valued.closes, strict=True)), peak_equity=valued.peak, last_tick_at=valued.at)

    def _nothing_hit(self, holdings: _Holdings, close: Floats) -> bool:
        """Every held pair has its bar, and closed between the prices at which something would happen."""
        if holdings.low is None or holdings.high is None:
            return not np.isnan(close).any()
        return bool(((holdings.low < close) & (close < holdings.high)).all())

    def _nothing_broke(self, holdings: _Holdings, now_ms: int) -> bool:
        """No price scale of a held pair has broken since the exchange was last asked: it would settle the position."""
        return not self._scales.breaks(self._looked_ms, now_ms, lambda: holdings.pairs)

    def _leave_line(self, tick: Tick, state: DeskState, holdings: _Holdings) -> None:
        line: dict[str, Any] = {
            "id": tick.id,
            "function": tick.function,
            "at": iso(tick.scheduled_at),
            "models": {},
            "regime": state.regime,
            "targets": None,
            "limits": [] if state.mode == "ACTIVE" else [state.mode.lower()],
            "stops": holdings.stops,
            "pairs": {},
        }
        if not holdings.spoken:
            line["pairs"] = dict.fromkeys(self._trace.news(line, holdings.pairs, _KEPT), NO_STOP_HIT)
            holdings.spoken = True
        self._trace.add(tick, line)

    def _holdings_of(self, state: DeskState, settings: RiskSection) -> _Holdings:
        last = self._holdings
        if last is not None and last.positions is state.positions and last.blocked is state.blocked and last.settings is settings:
            return last
        if last is None or last.settings is not settings:
            self._known.clear()
        positions, known = state.positions, self._known
        pairs = sorted(positions)
        held = [
            one
            if (one := known.get(pair)) is not None and one.position is positions[pair] and one.blocked == (pair in state.blocked)
            else self._holding(state, pair, settings)
            for pair in pairs
        ]
        low, high = [one.low for one in held], [one.high for one in held]
        bounded = min(high, default=inf) != inf or max(low, default=-inf) != -inf
        self._holdings = _Holdings(
            positions=state.positions,
            blocked=state.blocked,
            settings=settings,
            pairs=pairs,
            columns=np.array([one.column for one in held], dtype=np.intp),
            qty=[one.qty for one in held],
            stops={pair: price for pair in pairs if (price := state.positions[pair].stop.stop_price) is not None} if bounded else {},
            low=np.array(low) if bounded else None,
            high=np.array(high) if bounded else None,
            spoken=last is not None and last.spoken and set(pairs) <= set(last.pairs),
        )
        return self._holdings

    def _holding(self, state: DeskState, pair: str, settings: RiskSection) -> _Holding:
        position, blocked = state.positions[pair], pair in state.blocked
        low, high = calm_corridor(position, settings)
        column = self._panel.column.get(pair)
        if blocked or column is None:
            low = inf  # An exit that goes on, or a pair without bars: the whole way, at any close.
        known = self._known[pair] = _Holding(position, blocked, column or 0, float(position.qty), low, high)
        return known
