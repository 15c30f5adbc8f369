"""What a finished run left in its ledger and traces, as a ``RunRecord``: the same for a replay and a backtest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import numpy as np

from tickless.adapters.bar_files import data_sha256
from tickless.adapters.price_scales import PanelScales
from tickless.adapters.sim_exchange import SimExchange
from tickless.backtest.results import RunRecord, by_close, tick_lines
from tickless.bars import Panel
from tickless.execution.accounting import book, in_slices
from tickless.execution.planning import client_order_id
from tickless.execution.settlement import settlement_due
from tickless.pipeline import portfolio_value
from tickless.ports import Fence, Ledger, Trace
from tickless.settings import Settings, effect_rank
from tickless.types import DeskState, Order, OrderReport, OrderStatus, OrderType, Side, Tick, TickRecord, iso, to_ms

END_OF_DATA = "end_of_data"


@dataclass(frozen=True)
class FinishedRun:
    """A run whose ticks are done."""

    settings: Settings
    panel: Panel
    """All bars of the market, those before ``start`` too."""
    pairs: tuple[str, ...]
    start: datetime
    end: datetime
    ledger: Ledger
    lines: Callable[[Sequence[TickRecord]], Iterable[Mapping[str, Any]]]
    """The tick lines of records in order of effect."""
    exchange: SimExchange
    note: str = ""


def collect(run: FinishedRun) -> RunRecord:
    """Close what is open where ``execution.close_at_end`` says so, then read everything back."""
    settings, ledger = run.settings, run.ledger
    state = ledger.load() or DeskState(settings.desk.dry_run_wallet, settings.desk.dry_run_wallet)
    closes = last_closes(run.panel, run.end) | _unsettled(run, state)
    if settings.execution.close_at_end:
        state = _close_positions(run, state, closes)
    records = sorted(ledger.ticks(), key=lambda record: (record.tick.scheduled_at, effect_rank(record.tick.function), record.tick.strategy))
    return RunRecord(
        settings=settings,
        start=run.start,
        end=run.end,
        pairs=run.pairs,
        start_equity=settings.desk.dry_run_wallet,
        end_equity=Decimal(repr(portfolio_value(state, closes))),
        orders=tuple(ledger.orders()),
        fills=tuple(ledger.fills()),
        # Stores agree on the time a trade was closed, and on no more: the report lists them as trades.csv does.
        trades=tuple(sorted(ledger.trades(), key=by_close)),
        equity=tuple(ledger.equity()),
        ticks=tuple(run.lines(records)),
        market=run.panel,
        data_sha256=data_sha256(run.panel.between(run.panel.start, run.end)),
        seconds=0.0,
        note=run.note,
    )


def last_closes(panel: Panel, at: datetime) -> dict[str, float]:
    """The last close of every pair at or before ``at``; pairs without one are absent."""
    close = panel.closed_at(at).close
    known = ~np.isnan(close)
    last = len(close) - 1 - known[::-1].argmax(axis=0) if len(close) else np.zeros(len(panel.pairs), dtype=np.intp)
    return {pair: float(close[last[n], n]) for n, pair in enumerate(panel.pairs) if known[:, n].any()}


def stored_lines(trace: Trace, records: Sequence[TickRecord]) -> Iterable[Mapping[str, Any]]:
    """Tick lines from a store of traces; a tick without a trace speaks through its record."""
    return tick_lines(trace.read(record.tick) or bare_trace(record) for record in records)


def bare_trace(record: TickRecord) -> dict[str, Any]:
    """What a record alone tells of its tick: all there is of one that trades nothing."""
    tick = record.tick
    return {**record.summary, "id": tick.id, "function": tick.function, "at": iso(tick.scheduled_at)}


def _unsettled(run: FinishedRun, state: DeskState) -> dict[str, float]:
    """The last old closes of positions whose price scale broke after the last tick, when no tick came to settle them."""
    if state.last_tick_at is None:
        return {}
    breaks = PanelScales(run.panel).breaks(to_ms(state.last_tick_at), to_ms(run.end), lambda: state.positions)
    # The earliest break of a pair counts; a bar that opens at the end is none of the run's.
    return {found.pair: found.last_close for found in reversed(breaks) if found.first_ms < to_ms(run.end)}


def _close_positions(run: FinishedRun, state: DeskState, closes: dict[str, float]) -> DeskState:
    """Sell what is open at the last bar's close."""
    tick = Tick(run.end, END_OF_DATA)
    fence = run.ledger.acquire(tick.id, run.end, run.settings.schedule.lease_ttl_s)
    for open_order in list(state.orders.values()):
        state = _book(run, fence, state, open_order, run.exchange.cancel(open_order, run.end))
    for fill in run.exchange.snapshot(run.end, ()).settlements:
        due = settlement_due(state, fill)
        if due is not None:
            state = _book(run, fence, state, due, OrderReport(due.client_order_id, OrderStatus.FILLED, (fill,)))
    for pair, position in sorted(state.positions.items()):
        order = Order(
            client_order_id=client_order_id(run.settings.desk.name, position.strategy, tick, pair, Side.SELL.value),
            tick_at=run.end,
            strategy=position.strategy,
            pair=pair,
            side=Side.SELL,
            type=OrderType.MARKET,
            qty=position.qty,
            reason=END_OF_DATA,
            reduce_only=True,
        )
        state = _book(run, fence, state.with_order(order), order, run.exchange.liquidate(order, run.end, closes[pair]))
    run.ledger.release(fence)
    return state


def _book(run: FinishedRun, fence: Fence, state: DeskState, order: Order, report: OrderReport) -> DeskState:
    for part in in_slices(order, report):
        booking = book(state, order, part)
        state = booking.state
        if booking.update is not None:
            (order,) = booking.update.orders
            run.ledger.journal(fence, [booking.update])
    return state
