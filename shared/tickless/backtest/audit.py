"""An auditor for result folders: it trusts the files and the bars only, and none of the code that made them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tickless.backtest.audit_prices import END_OF_DATA, PRICE_SCALE_BREAK, PriceAudit
from tickless.backtest.audit_requotes import RequoteAudit
from tickless.backtest.audit_stops import StopAudit
from tickless.backtest.results import Results, count_ticks, read_results
from tickless.bars import Panel
from tickless.settings import TRADING_ORDER, Settings
from tickless.types import ZERO, Fill, Liquidity, Order, OrderStatus, OrderType, PairRules, Side, Tick, iso, parse_time

TOLERANCE = Decimal("0.000001")
REBALANCES = ("feature_rebalance", "full_rebalance")
_WEIGHT_SLACK = 1e-9


def verify(folder: Path, panel: Panel, settings: Settings | None = None, rules: Mapping[str, PairRules] | None = None) -> list[str]:
    """Audit a result folder against the bars it traded on: one sentence for each finding, none where all is well.

    Always: cash plus positions is equity on every row; fees, quantities and average prices of orders and fills agree; pairs that left the
    target were sold; no stop fell; stops at the exchange fill at their price or worse; ticks are in order; each fill lies within its bar,
    nothing is held across a break of the price scale, and the desk never gains more than the bars allow; what is quoted again is no more
    than what an order left. With ``settings`` (those of the whole run): caps, sleeve, top-k, buffer, slippage, the calendar, how often an
    order is quoted again, and that a stop rests wherever one is promised. With ``rules``: minimum notional. Raises DataError where a file
    cannot be read.
    """
    results = read_results(folder)
    audit = _Audit(results, panel, settings, rules or {})
    prices = PriceAudit(results, panel, settings, rules or {})
    resting = StopAudit(results, panel, settings, rules or {})
    checks = (
        audit.equity_rows,
        audit.order_totals,
        audit.fill_prices,
        audit.minimum_notional,
        audit.targets,
        audit.dropped_pairs,
        audit.stops,
        audit.tick_order,
        prices.fill_ranges,
        prices.scale_breaks,
        prices.gains,
        *RequoteAudit(results, settings).checks,
        resting.fills,
        resting.promises,
        resting.levels,
    )
    return [finding for check in checks for finding in check()]


@dataclass(frozen=True)
class _Audit:
    results: Results
    panel: Panel
    settings: Settings | None
    rules: Mapping[str, PairRules] = field(default_factory=dict)

    @cached_property
    def orders(self) -> dict[str, Order]:
        return {order.client_order_id: order for order in self.results.orders}

    @cached_property
    def rebalances(self) -> list[tuple[datetime, Mapping[str, Any]]]:
        lines = (line for line in self.results.ticks if line["function"] in REBALANCES and line.get("targets") is not None)
        return [(parse_time(line["at"]), line) for line in lines]

    @cached_property
    def _closes(self) -> tuple[list[Decimal | None], ...]:
        """For each pair, the last close at or before each row."""
        columns = []
        for n in range(len(self.panel.pairs)):
            last: Decimal | None = None
            column: list[Decimal | None] = []
            for value in self.panel.close[:, n].tolist():
                last = last if np.isnan(value) else Decimal(repr(value))
                column.append(last)
            columns.append(column)
        return tuple(columns)

    def _close(self, pair: str, at: datetime) -> Decimal | None:
        """The close of the pair's last bar that closed at or before ``at``."""
        column = self.panel.column.get(pair)
        row = (at - self.panel.start) // timedelta(milliseconds=self.panel.step_ms) - 1
        return None if column is None or row < 0 else self._closes[column][min(row, self.panel.rows - 1)]

    def _settled(self, fill: Fill) -> tuple[datetime, int]:
        """When a fill counts: before the tick at its own time if it belongs to an older order, after it if that tick sent the order."""
        order = self.orders.get(fill.client_order_id)
        return fill.filled_at, int(order is not None and order.tick_at >= fill.filled_at)

    def _cash_change(self, fill: Fill) -> Decimal:
        value = fill.qty * fill.price * (1 if fill.side is Side.SELL else -1)
        return value - (fill.fee_qty if fill.fee_asset != _base(fill.pair) else ZERO)

    def equity_rows(self) -> Iterator[str]:
        """Cash plus positions at the last closes is equity, on every row, rebuilt from the fills."""
        fills = sorted(self.results.fills, key=self._settled)
        cash, held, done = Decimal(self.results.summary["start_equity"]), dict[str, Decimal](), 0
        for row in self.results.equity:
            while done < len(fills) and self._settled(fills[done]) <= (row.at, 0):
                cash += self._cash_change(fills[done])
                held[fills[done].pair] = held.get(fills[done].pair, ZERO) + _qty_change(fills[done])
                done += 1
            where = f"equity.csv at {iso(row.at)}"
            if abs(cash - row.cash) > TOLERANCE:
                yield f"{where}: cash {row.cash}, the fills give {cash}"
            short = next((pair for pair, qty in held.items() if qty < 0), None)
            if short:
                yield f"{where}: the fills sold more {short} than they bought"
            value = sum((qty * (self._close(pair, row.at) or ZERO) for pair, qty in held.items()), ZERO)
            if abs(cash + value - row.equity) > TOLERANCE:
                yield f"{where}: equity {row.equity}, cash plus positions give {cash + value}"
            elif row.equity > 0 and abs(float(value / row.equity) - row.exposure_frac) > 1e-6:
                yield f"{where}: exposure_frac {row.exposure_frac}, positions over equity give {float(value / row.equity)}"

    def order_totals(self) -> Iterator[str]:
        """Each order's filled quantity, average price and fee are those of its fills, and the fees add up to ``fees_paid``."""
        totals: dict[str, tuple[Decimal, Decimal, Decimal]] = {}
        for fill in self.results.fills:
            if fill.client_order_id not in self.orders:
                yield f"fills.csv: a fill of {fill.pair} at {iso(fill.filled_at)} belongs to no order ({fill.client_order_id})"
            qty, value, fee = totals.get(fill.client_order_id, (ZERO, ZERO, ZERO))
            totals[fill.client_order_id] = (qty + fill.qty, value + fill.qty * fill.price, fee + fill.fee)
        for order in self.results.orders:
            qty, value, fee = totals.get(order.client_order_id, (ZERO, ZERO, ZERO))
            average = value / qty if qty else None
            if order.filled_qty != qty:
                yield f"orders.csv {order.client_order_id}: filled_qty {order.filled_qty}, its fills sum to {qty}"
            elif average is not None and (order.avg_price is None or abs(order.avg_price / average - 1) > TOLERANCE):
                yield f"orders.csv {order.client_order_id}: avg_price {order.avg_price}, its fills give {average}"
            if abs(order.fee - fee) > TOLERANCE:
                yield f"orders.csv {order.client_order_id}: fee {order.fee}, its fills sum to {fee}"
            if order.filled_qty > order.qty or (order.status is OrderStatus.FILLED and order.filled_qty != order.qty):
                yield f"orders.csv {order.client_order_id}: {order.status}, but {order.filled_qty} of {order.qty} filled"
        paid = sum((order.fee for order in self.results.orders), ZERO)
        if abs(paid - Decimal(self.results.summary["fees_paid"])) > TOLERANCE:
            yield f"summary.json: fees_paid {self.results.summary['fees_paid']}, orders.csv sums to {paid}"

    def fill_prices(self) -> Iterator[str]:
        """Market fills lie at the open of their bar, worse by the slippage; makers fill at their limit. No bar, no fill."""
        for fill in self.results.fills:
            order = self.orders.get(fill.client_order_id)
            if order is None or order.reason in (END_OF_DATA, PRICE_SCALE_BREAK):
                continue
            where = f"fills.csv {fill.client_order_id} at {iso(fill.filled_at)}"
            if order.type is OrderType.LIMIT and fill.liquidity is Liquidity.MAKER:
                if fill.price != order.limit_price:
                    yield f"{where}: maker price {fill.price}, limit {order.limit_price}"
                continue
            if order.type is not OrderType.MARKET:
                continue
            opened = self._open(fill.pair, fill.filled_at)
            if opened is None:
                yield f"{where}: {fill.pair} has no bar that opens then"
            elif self.settings is not None:
                slip = Decimal(repr(self.settings.execution.slippage_bps)) / 10_000
                expected = opened * (1 + slip if fill.side is Side.BUY else 1 - slip)
                step = self.rules[fill.pair].price_step if fill.pair in self.rules else None
                if abs(fill.price - expected) > max(step or ZERO, opened * Decimal("1e-9")):
                    yield f"{where}: price {fill.price}, open {opened} with slippage is {expected}"

    def _open(self, pair: str, at: datetime) -> Decimal | None:
        column = self.panel.column.get(pair)
        offset = at - self.panel.start
        row, rest = divmod(offset, timedelta(milliseconds=self.panel.step_ms))
        if column is None or rest or not 0 <= row < self.panel.rows:
            return None
        value = float(self.panel.open[row, column])
        return None if np.isnan(value) else Decimal(repr(value))

    def minimum_notional(self) -> Iterator[str]:
        """No accepted order is worth less than the exchange's minimum, at the last close or at its average price."""
        for order in self.results.orders:
            rule = self.rules.get(order.pair)
            if rule is None or rule.min_notional is None or order.status is OrderStatus.REJECTED or order.reason == PRICE_SCALE_BREAK:
                continue
            price = max(self._close(order.pair, order.tick_at) or ZERO, order.avg_price or ZERO)
            if order.qty * price < rule.min_notional:
                yield f"orders.csv {order.client_order_id}: worth {order.qty * price}, the exchange's minimum is {rule.min_notional}"

    def targets(self) -> Iterator[str]:
        """At each rebalance the targets respect top-k, buffer, caps and sleeve."""
        for at, line in self.rebalances:
            weights = {pair: float(weight) for pair, weight in line["targets"].items() if weight}
            where = f"ticks.jsonl {line['function']} at {iso(at)}"
            if any(weight < 0 for weight in weights.values()):
                yield f"{where}: a target is negative"
            if line.get("top_k") is not None and len(weights) > line["top_k"]:
                yield f"{where}: {len(weights)} targets, top_k is {line['top_k']}"
            room = 1.0 - float(line.get("cash_buffer_frac") or 0.0)
            if sum(weights.values()) > room + _WEIGHT_SLACK:
                yield f"{where}: targets sum to {sum(weights.values())}, the cash buffer leaves {room}"
            if self.settings is not None:
                yield from self._target_limits(where, line, weights, self.settings)

    @staticmethod
    def _target_limits(where: str, line: Mapping[str, Any], weights: Mapping[str, float], settings: Settings) -> Iterator[str]:
        portfolio, regime = settings.portfolio, line["regime"]
        if line.get("top_k") != portfolio.top_k.of(regime) or line.get("cash_buffer_frac") != portfolio.cash_buffer_frac.of(regime):
            yield f"{where}: top_k and cash_buffer_frac are not those of the settings in regime {regime}"
        tiers = line.get("tiers") or {}
        for pair, weight in weights.items():
            if pair not in tiers:
                yield f"{where}: {pair} is a target without a tier"
            elif weight > portfolio.tier_cap_frac(tiers[pair]) + _WEIGHT_SLACK:
                yield f"{where}: {pair} has {weight}, the cap of tier {tiers[pair]} is {portfolio.tier_cap_frac(tiers[pair])}"
        sleeve = sum(weight for pair, weight in weights.items() if tiers.get(pair) == 3)
        if sleeve > portfolio.tier3_sleeve_frac + _WEIGHT_SLACK:
            yield f"{where}: tier 3 sums to {sleeve}, its sleeve is {portfolio.tier3_sleeve_frac}"

    def dropped_pairs(self) -> Iterator[str]:
        """At each rebalance, what is held and no target has a sell order: of this minute, or an older one not done yet."""
        holdings = _Holdings(self.results.fills)
        sells: dict[str, list[Order]] = {}
        for order in self.results.orders:
            if order.side is Side.SELL:
                sells.setdefault(order.pair, []).append(order)
        for at, line in self.rebalances:
            kept = {pair for pair, weight in line["targets"].items() if weight}
            for pair in holdings.pairs:
                if pair in kept or not self._sellable(pair, holdings.before(pair, at), at):
                    continue
                if not any(order.tick_at == at or holdings.unfinished(order, at, self._patience) for order in sells.get(pair, ())):
                    yield f"ticks.jsonl {line['function']} at {iso(at)}: {pair} is held and no target, but no order sells it"

    @property
    def _patience(self) -> timedelta:
        """How long an order waits before it expires."""
        return timedelta(seconds=self.settings.execution.unfilled_timeout_s if self.settings is not None else 0)

    def _sellable(self, pair: str, qty: Decimal, at: datetime) -> bool:
        """Whether the exchange would take an order for so much, and the desk knew a price: without a fresh bar it sends none."""
        column, row = self.panel.column.get(pair), self.panel.row_at(at) - 1
        if column is None or not 0 <= row < self.panel.rows or np.isnan(self.panel.close[row, column]):
            return False
        rule = self.rules.get(pair, PairRules(pair))
        too_small = qty < (rule.qty_step or ZERO) or qty < (rule.min_qty or ZERO)
        price = self._close(pair, at)
        return qty > 0 and not too_small and (price is None or qty * price >= (rule.min_notional or ZERO))

    def _is_dust(self, pair: str, qty: Decimal, at: datetime) -> bool:
        """Whether the exchange takes no order for so much."""
        rule = self.rules.get(pair, PairRules(pair))
        worth = qty * (self._close(pair, at) or ZERO)
        return qty < max(rule.qty_step or ZERO, rule.min_qty or ZERO) or worth < (rule.min_notional or ZERO)

    def stops(self) -> Iterator[str]:
        """No stop moves down while its position lives; one of which only dust is left may be followed by another."""
        holdings = _Holdings(self.results.fills)
        closings = {pair: [at for at, qty in holdings.path(pair) if qty == 0 or self._is_dust(pair, qty, at)] for pair in holdings.pairs}
        last: dict[str, tuple[datetime, float]] = {}
        for line in self.results.ticks:
            at = parse_time(line["at"])
            for pair, price in (line.get("stops") or {}).items():
                if price is None:
                    continue
                before = last.get(pair)
                last[pair] = (at, price)
                if before is None or price >= before[1]:
                    continue
                ends = closings.get(pair, [])
                if bisect_left(ends, before[0]) == bisect_right(ends, at):
                    yield f"ticks.jsonl {line['id']}: the stop of {pair} fell from {before[1]} to {price}"

    def tick_order(self) -> Iterator[str]:
        """Ticks are in order of effect, each once, as many as the summary says; with settings, exactly those that were due."""
        rank = {name: n for n, name in enumerate(TRADING_ORDER)}
        ticks = [Tick(parse_time(line["at"]), line["function"], line.get("strategy", "")) for line in self.results.ticks]
        keys = [(tick.scheduled_at, rank.get(tick.function, len(rank)), tick.name) for tick in ticks]
        for n in range(1, len(keys)):
            if keys[n] <= keys[n - 1]:
                yield f"ticks.jsonl line {n + 1}: {ticks[n].id} comes after {ticks[n - 1].id}"
        counts = count_ticks(self.results.ticks)
        if counts != self.results.summary["ticks"]:
            yield f"summary.json: ticks {self.results.summary['ticks']}, ticks.jsonl has {counts}"
        if self.settings is not None:
            due = self._due(self.settings)
            trading = {tick for tick in ticks if tick.function in rank}
            yield from (f"ticks.jsonl: {tick.id} is missing" for tick in sorted(due - trading))
            yield from (f"ticks.jsonl: {tick.id} was not due" for tick in sorted(trading - due))

    def _due(self, settings: Settings) -> set[Tick]:
        start, end = (parse_time(self.results.summary[key]) for key in ("start", "end"))
        minutes = (end - start) // timedelta(minutes=1)
        times = (start + timedelta(minutes=n) for n in range(minutes))
        return {tick for at in times for tick in settings.calendar.due_at(at)}


class _Holdings:
    """What the fills alone say is held, by pair and time."""

    def __init__(self, fills: Sequence[Fill]) -> None:
        self._times: dict[str, list[datetime]] = {}
        self._qty: dict[str, list[Decimal]] = {}
        self._of_order: dict[str, list[Fill]] = {}
        for fill in sorted(fills, key=lambda fill: fill.filled_at):
            quantities = self._qty.setdefault(fill.pair, [])
            quantities.append((quantities[-1] if quantities else ZERO) + _qty_change(fill))
            self._times.setdefault(fill.pair, []).append(fill.filled_at)
            self._of_order.setdefault(fill.client_order_id, []).append(fill)

    @property
    def pairs(self) -> list[str]:
        """Every pair that was ever held, sorted."""
        return sorted(self._times)

    def path(self, pair: str) -> Iterator[tuple[datetime, Decimal]]:
        """What was held of a pair from each of its fills on."""
        return zip(self._times[pair], self._qty[pair], strict=True)

    def before(self, pair: str, at: datetime) -> Decimal:
        """What was held of a pair just before ``at``."""
        n = bisect_left(self._times[pair], at)
        return self._qty[pair][n - 1] if n else ZERO

    def unfinished(self, order: Order, at: datetime, patience: timedelta) -> bool:
        """Whether an order sent before ``at`` may have had something open then: one that nothing filled lived up to ``patience``."""
        fills = self._of_order.get(order.client_order_id, [])
        waited = order.status in (OrderStatus.EXPIRED, OrderStatus.CANCELED) and at < order.tick_at + patience
        return order.tick_at < at and (not order.status.is_final or waited or any(fill.filled_at >= at for fill in fills))


def _base(pair: str) -> str:
    return pair.partition("/")[0]


def _qty_change(fill: Fill) -> Decimal:
    """What a fill adds to the holding; a fee taken in the base asset comes out of it."""
    bought = fill.qty if fill.side is Side.BUY else -fill.qty
    return bought - (fill.fee_qty if fill.fee_asset == _base(fill.pair) else ZERO)
