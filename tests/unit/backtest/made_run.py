"""A made-up run that is consistent in itself: a desk that picks pairs by chance, at prices that walk by chance."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np

from tickless.backtest.results import RunRecord, tick_lines
from tickless.bars import Panel
from tickless.settings import Settings, load_desk
from tickless.types import (
    ZERO,
    EquityRow,
    Fill,
    Liquidity,
    Order,
    OrderStatus,
    OrderType,
    Position,
    Side,
    Tick,
    Trade,
    iso,
    to_ms,
)

START = datetime(2024, 6, 1, tzinfo=UTC)
BASES = ("ADA", "BTC", "ETH", "LINK", "SOL", "XRP", "UNI", "APT", "PEPE", "WIF")
STEP = timedelta(minutes=15)


def made_panel(days: int, pairs: tuple[str, ...], seed: int) -> Panel:
    """A walk by chance for each pair, from a day before the start; the last pair misses some bars."""
    rng = np.random.default_rng(seed)
    rows = (days + 1) * 96
    common = rng.standard_t(4, (rows, 1)) * 0.0016
    moves = common + rng.standard_t(4, (rows, len(pairs))) * 0.0022
    close = np.round(np.exp(np.cumsum(moves, axis=0)) * np.linspace(0.5, 900, len(pairs)), 5)
    opened = np.vstack([close[:1], close[:-1]])
    high, low = np.maximum(opened, close) * 1.0005, np.minimum(opened, close) * 0.9995
    volume = rng.lognormal(9, 1, close.shape)
    gone = np.zeros(close.shape, dtype=bool)
    gone[200 : rows - 4 : 37, -1] = True
    columns = [np.where(gone, np.nan, values) for values in (opened, high, low, close, volume)]
    return Panel("15m", pairs, to_ms(START - timedelta(days=1)), *columns)


@dataclass
class _Desk:
    """The state of the made-up desk, and what it leaves behind."""

    settings: Settings
    panel: Panel
    rng: random.Random
    cash: Decimal
    peak: Decimal
    held: dict[str, Position] = field(default_factory=dict)
    stops: dict[str, float] = field(default_factory=dict)
    regime: str = "chop"
    orders: list[Order] = field(default_factory=list)
    fills: list[Fill] = field(default_factory=list)
    trades: list[Trade] = field(default_factory=list)
    equity: list[EquityRow] = field(default_factory=list)
    traces: list[dict[str, Any]] = field(default_factory=list)

    def close(self, pair: str, at: datetime) -> Decimal:
        column = self.panel.closed_at(at).close[:, self.panel.column[pair]]
        return Decimal(repr(float(column[~np.isnan(column)][-1])))

    def value(self, at: datetime) -> Decimal:
        return sum((position.qty * self.close(pair, at) for pair, position in self.held.items()), ZERO)

    def trade(self, tick: Tick, pair: str, side: Side, qty: Decimal, reason: str) -> bool:
        opened = self.panel.open[self.panel.row_at(tick.scheduled_at), self.panel.column[pair]]
        filled = not np.isnan(opened)
        slip = Decimal(repr(self.settings.execution.slippage_bps)) / 10_000
        order_id = f"{to_ms(tick.scheduled_at):x}-{len(self.orders):05d}"
        price = fee = None
        if filled:
            price = Decimal(repr(float(opened))) * (1 + slip if side is Side.BUY else 1 - slip)
            fee = qty * price * Decimal(repr(self.settings.execution.taker_fee_bps)) / 10_000
            fill = Fill(f"{order_id}.1", order_id, tick.scheduled_at, pair, side, qty, price, fee, "USDT", fee, Liquidity.TAKER)
            self.fills.append(fill)
            self.book(fill, reason)
        status = OrderStatus.FILLED if filled else OrderStatus.EXPIRED
        filled_qty = qty if filled else ZERO
        at = tick.scheduled_at
        done = Order(order_id, at, "rotation", pair, side, OrderType.MARKET, qty, reason, None, None, status=status)
        self.orders.append(Order(**{**vars(done), "filled_qty": filled_qty, "avg_price": price, "fee": fee or ZERO}))
        return filled

    def book(self, fill: Fill, reason: str) -> None:
        value = fill.qty * fill.price
        if fill.side is Side.BUY:
            self.cash -= value + fill.fee
            tag = self.rng.choice(("score_24h", "score_6h"))
            self.held[fill.pair] = Position(fill.pair, "rotation", tag, fill.filled_at, fill.qty, value, fees=fill.fee)
            return
        self.cash += value - fill.fee
        was = self.held.pop(fill.pair)
        self.stops.pop(fill.pair, None)
        fees = was.fees + fill.fee
        pnl = value - was.bought_value - fees
        frac = pnl / was.bought_value
        args = (was.pair, was.strategy, "long", was.enter_tag, was.opened_at, was.entry_price, fill.filled_at, fill.price, fill.qty)
        self.trades.append(Trade(*args, fees, pnl, frac, reason, fill.fill_id))

    def risk_check(self, tick: Tick, pairs: dict[str, Any]) -> None:
        at = tick.scheduled_at
        value = self.value(at)
        equity = self.cash + value
        self.peak = max(self.peak, equity)
        self.equity.append(EquityRow(at, equity, self.cash, float(value / equity), float(equity / self.peak - 1), self.regime))
        for pair in sorted(self.held):
            close = float(self.close(pair, at))
            if close < self.stops.get(pair, 0.0):
                self.trade(tick, pair, Side.SELL, self.held[pair].qty, self.rng.choice(("stop_loss", "trailing_stop_loss")))
                pairs[pair] = {"action": "sell", "reason": "stop hit", "close": close}
            else:
                self.stops[pair] = max(self.stops.get(pair, 0.0), close * 0.985)
                pairs[pair] = {"action": "keep", "reason": "stop not hit", "close": close}

    def rebalance(self, tick: Tick, pairs: dict[str, Any]) -> dict[str, Any]:
        at, portfolio = tick.scheduled_at, self.settings.portfolio
        if self.rng.random() < 0.02:
            self.regime = self.rng.choice(("trend", "chop", "down"))
        room = 1 - portfolio.cash_buffer_frac.of(self.regime)
        count = portfolio.top_k.of(self.regime)
        wanted = [pair for pair in sorted(self.held) if self.rng.random() < 0.98]
        wanted += [pair for pair in self.panel.pairs if pair not in self.held and self.rng.random() < 0.04]
        weights = {pair: min(0.1, room / count) for pair in wanted[:count]}
        equity = self.cash + self.value(at)
        for pair in sorted(self.held):
            if pair not in weights:
                self.trade(tick, pair, Side.SELL, self.held[pair].qty, "left_target")
                pairs[pair] = {"action": "sell", "reason": "left the target"}
        for pair in sorted(weights):
            if pair not in self.held:
                self.trade(tick, pair, Side.BUY, round(equity * Decimal(repr(weights[pair])) / self.close(pair, at), 4), "enter")
                pairs[pair] = {"action": "buy", "reason": "among the best", "score_frac": self.rng.random()}
        limits = ["top_k: 8 of 11 candidates"] if self.rng.random() < 0.3 else []
        limits += [f"tier_cap: {pair} cut from 0.1234 to 0.1" for pair in list(weights)[:1]]
        return {
            "models": {"rotation_6h": f"v{(at - START).days}", "rotation_24h": None if at < START + timedelta(days=1) else "v1"},
            "regime": self.regime,
            "top_k": count,
            "cash_buffer_frac": portfolio.cash_buffer_frac.of(self.regime),
            "targets": weights,
            "tiers": dict.fromkeys(weights, 2),
            "limits": limits,
        }


def made_run(days: int = 3, count: int = 6, seed: int = 1, busy: bool = True, note: str = "") -> RunRecord:
    """A run of some days; not ``busy``: one that never trades."""
    settings = load_desk("rotation")
    pairs = tuple(sorted(f"{base}/USDT" for base in BASES[:count]))
    wallet = settings.desk.dry_run_wallet
    desk = _Desk(settings, made_panel(days, pairs, seed), random.Random(seed), wallet, wallet)
    end = START + timedelta(days=days)
    hour, minute = map(int, settings.schedule.retrain_at.split(":"))
    at = START
    while at < end:
        for tick in settings.calendar.due_at(at):
            actions: dict[str, Any] = {}
            trace: dict[str, Any] = {"id": tick.id, "function": tick.function, "at": iso(at)}
            if tick.function == "risk_check":
                desk.risk_check(tick, actions)
            elif busy:
                trace |= desk.rebalance(tick, actions)
            desk.traces.append(trace | {"stops": dict(desk.stops), "pairs": actions})
        night = at.replace(hour=hour, minute=minute)
        if at <= night < at + STEP:
            desk.traces.append({"id": Tick(night, "retrain").id, "function": "retrain", "at": iso(night)})
        at += STEP
    return RunRecord(
        settings=settings,
        start=START,
        end=end,
        pairs=pairs,
        start_equity=wallet,
        end_equity=desk.cash + desk.value(end),
        orders=desk.orders,
        fills=desk.fills,
        trades=desk.trades,
        equity=desk.equity,
        ticks=list(tick_lines(desk.traces)),
        market=desk.panel,
        data_sha256=hashlib.sha256(str(seed).encode()).hexdigest(),
        seconds=1.5,
        note=note,
    )
