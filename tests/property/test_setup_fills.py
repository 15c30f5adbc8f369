"""Set-ups played at once in floats end as the desk's own fill model ends them, one by one and in exact decimals."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tickless.bars import Panel
from tickless.breaks import find_scale_breaks
from tickless.execution.matching import Bar, Matching, SimAccount, SimOrder
from tickless.execution.rounding import exact
from tickless.learn.setup_outcome import SetupRules, Setups, setup_outcome
from tickless.learn.triple_barrier import Barriers, triple_barrier
from tickless.settings import ExecutionSection
from tickless.types import Fill, Order, OrderType, Side, from_ms

PAIRS = ("AAA/USDT", "BBB/USDT")
STEP = 900_000
PLENTY = Decimal(10) ** 9


@st.composite
def panels(draw: st.DrawFn) -> Panel:
    """Bars on a coarse grid of prices, so that orders are met exactly; some are missing, in some nothing traded."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (draw(st.integers(3, 24)), 2)
    swing = draw(st.sampled_from([3, 8]))
    opened, close, *more = 100.0 + rng.integers(-swing, swing + 1, (4, *shape))
    high, low = np.maximum.reduce([opened, close, *more]), np.minimum.reduce([opened, close, *more])
    volume = np.where(rng.random(shape) < 0.1, 0.0, 10.0)
    missing = rng.random(shape) < draw(st.sampled_from([0.0, 0.15, 0.4]))
    if draw(st.integers(0, 5)) == 0:
        row = int(rng.integers(1, shape[0]))
        for values in (opened, close, high, low):
            values[row:, 0] *= 1000.0
        missing[row - 1, 0] = True
    return Panel("15m", PAIRS, 0, *(np.where(missing, np.nan, values) for values in (opened, high, low, close, volume)))


@st.composite
def plans(draw: st.DrawFn, panel: Panel) -> tuple[Setups, SetupRules]:
    """A set-up after some of the bars: at the market, at a limit, or a grid; levels as prices or as distances."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    side = draw(st.sampled_from(list(Side)))
    sign = 1.0 if side is Side.BUY else -1.0
    row, pair = np.nonzero(rng.random(panel.open.shape) < 0.5)
    count, orders = len(row), draw(st.integers(1, 3))
    entry = 100.0 - sign * rng.integers(-4, 8, (count, orders))
    entry[rng.random((count, orders)) < 0.3] = np.nan
    share = rng.integers(0, 4, (count, orders)).astype(float)
    share[:, 0] = np.maximum(share[:, 0], 1.0)
    levels = draw(st.sampled_from(["price", "distance"]))
    if levels == "price":
        take_profit, stop = 100.0 + sign * rng.integers(-2, 9, count), 100.0 - sign * rng.integers(-2, 9, count)
    else:
        # Off the grid of prices: whether a level is met does not hang on the last bit of an average.
        take_profit, stop = rng.choice([0.0213, 0.0517], count), rng.choice([0.0131, 0.0479], count)
    for values in (take_profit, stop):
        values[rng.random(count) < 0.15] = np.nan
    rules = SetupRules(draw(st.integers(1, 6)), draw(st.integers(1, 8)), levels, side)
    leave = row + 1 + rng.integers(0, 8, count) if draw(st.booleans()) else None
    return Setups(row, pair, entry, share, take_profit, stop, leave), rules


@dataclass
class Desk:
    """One set-up, traded through the simulated exchange tick by tick."""

    panel: Panel
    setups: Setups
    k: int
    rules: SetupRules
    matching: Matching
    sent: dict[str, int] = field(default_factory=dict)
    """Open protective orders by id, and the number of entry fills they stand for."""
    leaving: bool = False

    @property
    def pair(self) -> str:
        return PAIRS[self.setups.pair[self.k]]

    def fills(self, *, entries: bool) -> list[Fill]:
        touched = sorted(self.matching.changed)
        found = [fill for one in touched if one.startswith("entry") == entries for fill in self.matching.changed[one].fills]
        return sorted(found, key=lambda fill: fill.filled_at)

    @property
    def held(self) -> Decimal:
        return sum((f.qty for f in self.fills(entries=True)), Decimal(0)) - sum((f.qty for f in self.fills(entries=False)), Decimal(0))

    def average(self) -> float:
        """Of what is held: the entries since the last sale. A sale takes all but what filled in its own bar, after it."""
        left, cost, held = self.held, Decimal(0), self.held
        for fill in reversed(self.fills(entries=True)):
            take = min(left, fill.qty)
            cost, left = cost + take * fill.price, left - take
        return float(cost / held)

    def order(self, name: str, side: Side, qty: Decimal, at_ms: int, **changes) -> SimOrder:
        kind = OrderType.LIMIT if "limit_price" in changes else OrderType.STOP if "stop_price" in changes else OrderType.MARKET
        return SimOrder(Order(name, from_ms(at_ms), "setups", self.pair, side, kind, qty, "entry", **changes), at_ms)

    def send_entries(self, at_ms: int, opens) -> None:
        expires = from_ms(at_ms + self.rules.entry_bars * STEP)
        for n, (limit, share) in enumerate(zip(self.setups.entry[self.k], self.setups.share[self.k], strict=True)):
            prices = {} if np.isnan(limit) else {"limit_price": exact(limit)}
            if share:
                order = self.order(f"entry{n}", self.rules.side, exact(share), at_ms, expires_at=expires, **prices)
                self.matching.arrive_at_open(order, at_ms, opens, {})

    def cancel(self, prefix: str) -> None:
        for one in self.matching.account.orders:
            if one.order.client_order_id.startswith(prefix):
                self.matching.cancel(one.order.client_order_id)

    def levels(self) -> tuple[float, float]:
        goal, guard = float(self.setups.take_profit[self.k]), float(self.setups.stop[self.k])
        if self.rules.levels == "price":
            return goal, guard
        sign = 1.0 if self.rules.side is Side.BUY else -1.0
        return self.average() * (1.0 + sign * goal), self.average() * (1.0 - sign * guard)

    def protect(self, at_ms: int, opens) -> None:
        self.cancel("protect")
        away = Side.SELL if self.rules.side is Side.BUY else Side.BUY
        goal, guard = self.levels()
        mark = f"{at_ms // STEP:05d}"
        if not np.isnan(guard):
            self.matching.arrive_at_open(
                self.order(f"protect-stop-{mark}", away, self.held, at_ms, stop_price=exact(guard)), at_ms, opens, {}
            )
        if not np.isnan(goal):
            order = self.order(f"protect-goal-{mark}", away, self.held, at_ms, limit_price=exact(goal))
            self.matching.arrive_at_open(order, at_ms, opens, {})

    def tick(self, row: int, known: int) -> int:
        """The open of a bar; ``known`` entry fills have been protected, the number that now are is returned."""
        at_ms = int(self.panel.open_times_ms[row])
        price = self.panel.open[row, self.setups.pair[self.k]]
        opens = {} if np.isnan(price) else {self.pair: float(price)}
        first = row == self.setups.row[self.k] + 1
        if first:
            self.send_entries(at_ms, opens)
        else:
            self.matching.at_open(at_ms, opens, {})
        entered = self.fills(entries=True)
        if self.fills(entries=False):
            self.cancel("entry")
        timed_out = bool(entered) and row >= self.row_of(entered[0]) + self.rules.hold_bars
        given_up = self.setups.leave is not None and row > self.setups.leave[self.k]
        if not self.leaving and (timed_out or given_up):
            self.leaving = True
            self.cancel("entry")
            self.cancel("protect")
            if self.held > 0:
                away = Side.SELL if self.rules.side is Side.BUY else Side.BUY
                self.matching.arrive_at_open(self.order("time", away, self.held, at_ms), at_ms, opens, {})
        elif self.held > 0 and len(entered) > known and not self.leaving:
            self.protect(at_ms, opens)
            known = len(entered)
            if self.held == 0:
                self.cancel("entry")
        if self.held == 0:
            self.cancel("protect")
        return known

    def row_of(self, fill: Fill) -> int:
        return int(fill.filled_at.timestamp() * 1000 - self.panel.start_ms) // STEP

    def play(self) -> tuple[float, float, int] | None:
        """(net, share entered, last row read), or None without an outcome."""
        breaks = {found.row for found in find_scale_breaks(self.panel) if found.pair == self.pair}
        n, known = int(self.setups.pair[self.k]), 0
        for row in range(int(self.setups.row[self.k]) + 1, self.panel.rows):
            if row in breaks:
                return None
            known = self.tick(row, known)
            values = {name: float(getattr(self.panel, name)[row, n]) for name in ("open", "high", "low", "close", "volume")}
            bars = {} if np.isnan(values["open"]) else {self.pair: Bar(**values)}
            at_ms = int(self.panel.open_times_ms[row])
            self.matching.inside(at_ms, at_ms + STEP, bars, {})
            if self.held == 0 and self.fills(entries=False):
                return self.result(row)
        return None

    def result(self, row: int) -> tuple[float, float, int]:
        entered, left = self.fills(entries=True), self.fills(entries=False)
        value = sum(fill.qty * fill.price for fill in entered)
        sign = 1 if self.rules.side is Side.BUY else -1
        fees = sum(fill.fee for fill in (*entered, *left))
        profit = sign * (sum(fill.qty * fill.price for fill in left) - value) - fees
        planned = float(self.setups.share[self.k].sum())
        return float(profit / value), float(sum(fill.qty for fill in entered)) / planned, row


@settings(max_examples=150)
@given(st.data(), panels(), st.sampled_from([(0.0, 0.0, 0.0), (10.0, 4.0, 3.0), (26.0, 16.0, 75.0)]))
def test_a_set_up_ends_as_the_simulated_exchange_ends_it(data, panel, costs):
    execution = ExecutionSection(taker_fee_bps=costs[0], maker_fee_bps=costs[1], slippage_bps=costs[2], max_participation_frac=0.0)
    setups, rules = data.draw(plans(panel))
    outcome = setup_outcome(panel, setups, rules, execution)
    for k in range(len(setups.row)):
        wallet = {"USDT": PLENTY, "AAA": PLENTY, "BBB": PLENTY}
        matching = Matching(execution, {}, "USDT", SimAccount(wallet, panel.start_ms))
        slow = Desk(panel, setups, k, rules, matching).play()
        if slow is None:
            assert np.isnan(outcome.net[k])
            continue
        assert np.isclose(outcome.net[k], slow[0], rtol=1e-8, atol=1e-9)
        assert np.isclose(outcome.entered[k], slow[1])
        assert outcome.end_ms[k] == panel.open_times_ms[slow[2]] + STEP


@settings(max_examples=60)
@given(panels(), st.integers(1, 8), st.sampled_from(list(Side)))
def test_a_set_up_at_the_market_and_free_of_cost_is_a_triple_barrier(panel, bars, side):
    free = ExecutionSection(taker_fee_bps=0.0, maker_fee_bps=0.0, slippage_bps=0.0)
    row, pair = np.nonzero(np.ones(panel.open.shape, dtype=bool))
    some = np.ones((len(row), 1))
    setups = Setups(row, pair, some * np.nan, some, some[:, 0] * 0.0313, some[:, 0] * 0.0217)
    outcome = setup_outcome(panel, setups, SetupRules(1, bars, "distance", side), free)
    barrier = triple_barrier(panel, np.ones(panel.open.shape), Barriers(0.0313, 0.0217, bars), side)
    here = ~np.isnan(barrier.plain[row, pair])
    # Where the open that ends the time is missing, a barrier has no outcome; the desk's order waits for the next.
    assert not (here & np.isnan(outcome.net)).any()
    np.testing.assert_allclose(outcome.net[here], barrier.plain[row, pair][here], rtol=1e-9, atol=1e-12)
    assert np.array_equal(outcome.how[here], barrier.touched[row, pair][here])
    assert np.array_equal(outcome.end_ms[here], barrier.end_ms[row, pair][here])
