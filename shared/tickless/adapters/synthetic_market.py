"""A synthetic market: seeded, realistic where strategies look, and without a free lunch.

Every pair's return is ``beta * market + own noise``. The market switches between three states, volatility clusters, tails are fat, volume
moves with both. In the trend state the market climbs steadily and rare falls pay for it, in the down state the reverse, so that the states
look like trends while **the close is a martingale**: E[close_t / close_{t-1} | everything before] = 1 for every pair at every bar, up to
the rounding to price ticks. Whatever a strategy earns here without a planted signal, before costs, is luck. (Two things recorded markets
have break this on purpose and can be turned off with ``events=False``: a flash crash that recovers, and bars that are missing.)

``signal_ic`` plants a signal: the cross-sectional rank correlation between r_6h (the return over the last six hours, a feature of the
rotation strategy) and the return over the next six. Positive is momentum, negative mean reversion. It moves return between pairs only: the
mean over all pairs stays zero. See docs/decisions/0004-synthetic-market.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from tickless.adapters.fat_tails import MAX_SIGMA, fat_tails
from tickless.adapters.synthetic_coins import Coin, list_coins
from tickless.bars import Floats, Panel, step_ms
from tickless.errors import DataError
from tickless.types import PairRules, to_ms

SIGNAL_FEATURE = "r_6h"
SIGNAL_HOURS = 6
MAX_SIGNAL_IC = 0.2
STATES = ("trend", "chop", "down")
MIN_NOTIONAL = Decimal(5)

_STEPS = 4  # sub-steps of a bar, which make its high and low
_DAY_MS = 86_400_000
_MARKET_VOL = 0.45  # a year
_STATE_DAYS = np.asarray([5.0, 3.0, 3.0])
_STATE_JUMP = np.asarray([-0.025, 0.0, 0.03])  # log size of the rare move against the drift
_STATE_JUMPS_A_DAY = np.asarray([0.8, 0.0, 0.7])
_STATE_VOL = np.asarray([0.85, 0.75, 1.45])
_STATE_NEXT = np.asarray([[0.0, 0.65, 0.35], [0.5, 0.0, 0.5], [0.4, 0.6, 0.0]])
_IC_LINEAR, _IC_SQUARE = 0.93, 0.91  # measured: IC = linear * x - square * x^2, x = the correlation the first-order formula gives


@dataclass(frozen=True)
class SyntheticMarket:
    """The bars, the exchange's filters, and the hidden state of the market at every row (an index into ``STATES``), shape (T,)."""

    panel: Panel
    rules: Mapping[str, PairRules]
    states: NDArray[np.int8]


@dataclass
class _Paths:
    """Log returns by sub-step (S, T, N), the jump between two bars (T, N), and what scales volume."""

    steps: Floats
    gaps: Floats
    sigma: Floats
    activity: Floats


def make_market(
    *,
    start: datetime,
    end: datetime,
    pairs: int = 24,
    timeframe: str = "15m",
    seed: int = 7,
    signal_ic: float = 0.0,
    quote: str = "USDT",
    events: bool = True,
    advance: Callable[[int, int], None] = lambda _done, _total: None,
) -> SyntheticMarket:
    """A market of ``pairs`` pairs with a bar for every ``timeframe`` in [start, end); the same arguments give the same bits.

    ``events`` lists some pairs late, delists one, leaves bars out, and adds a flash crash, a market-wide wick and stretches without
    trades. ``advance`` is told how many of the pairs are drawn, the longest part. Raises DataError for arguments out of range.
    """
    step = step_ms(timeframe)
    first = -(-to_ms(start) // step) * step
    rows = max(0, -(-(to_ms(end) - first) // step))
    if pairs < 1:
        raise DataError(f"pairs {pairs}: a market needs at least one")
    if rows < 1:
        raise DataError(f"no {timeframe} bar opens between {start.isoformat()} and {end.isoformat()}")
    if not abs(signal_ic) <= MAX_SIGNAL_IC:
        raise DataError(f"signal_ic {signal_ic}: must lie between -{MAX_SIGNAL_IC} and {MAX_SIGNAL_IC}")
    coins = list_coins(pairs, seed)
    days = step / _DAY_MS
    states = _draw_states(np.random.default_rng([seed, 1]), rows, days)
    paths = _draw_paths(coins, states, (rows, first), days, seed, advance)
    happening = _Events(rows, step, coins, np.random.default_rng([seed, 2])) if events and rows >= _Events.MIN_ROWS else None
    if happening:
        happening.stop_trading(paths)
    if signal_ic:
        _plant(paths, signal_ic, max(1, SIGNAL_HOURS * 3_600_000 // step))
    if happening:
        happening.crash(paths)
    columns = _bars(coins, paths, days, first, seed)
    if happening:
        happening.finish(columns, coins)
    order = sorted(range(pairs), key=lambda n: coins[n].base)
    names = tuple(f"{coins[n].base}/{quote}" for n in order)
    panel = Panel(timeframe, names, first, **{name: np.ascontiguousarray(values[:, order]) for name, values in columns.items()})
    return SyntheticMarket(panel, {names[k]: _rules(names[k], coins[n]) for k, n in enumerate(order)}, states)


def _rules(pair: str, coin: Coin) -> PairRules:
    qty_step = Decimal(1).scaleb(-coin.qty_decimals)
    return PairRules(pair, Decimal(1).scaleb(-coin.price_decimals), qty_step, MIN_NOTIONAL, qty_step)


def _draw_states(rng: np.random.Generator, rows: int, days: float) -> NDArray[np.int8]:
    """The hidden state of every bar: a Markov chain with exponential stays."""
    states = np.empty(rows, dtype=np.int8)
    state = int(rng.integers(3))
    at = 0
    while at < rows:
        stay = max(1, round(float(rng.exponential(_STATE_DAYS[state])) / days))
        states[at : at + stay] = state
        at += stay
        state = int(rng.choice(3, p=_STATE_NEXT[state]))
    return states


def _log_volatility(shocks: Floats, days: float, half_life_days: float, sd: float) -> Floats:
    """A stationary AR(1) of standard deviation ``sd`` along the first axis, less its variance, so that E[exp(2h)] = 1."""
    keep = 0.5 ** (days / half_life_days)
    shocks *= sd * np.sqrt(1 - keep * keep)
    shocks[0] /= np.sqrt(1 - keep * keep)
    for t in range(1, len(shocks)):
        shocks[t] += keep * shocks[t - 1]
    shocks -= sd * sd
    return shocks


def _day_season(rows: int, first: int, days: float, depth: float) -> Floats:
    """A factor around one that peaks at 15:00 UTC, shape (T, 1)."""
    phase = (first / _DAY_MS + np.arange(rows) * days - 15 / 24) * 2 * np.pi
    season: Floats = (1 + depth * np.cos(phase))[:, None]
    return season if days < 1 else np.ones_like(season)


def _draw_paths(
    coins: list[Coin], states: NDArray[np.int8], span: tuple[int, int], days: float, seed: int, advance: Callable[[int, int], None]
) -> _Paths:
    """The paths of all pairs; ``span`` is the number of bars and when the first one opens."""
    rows, first = span
    noise = fat_tails()
    count = len(coins)
    rng = np.random.default_rng([seed, 3])
    own = [np.random.default_rng([seed, 4, n]) for n in range(count)]
    beta = np.asarray([coin.beta for coin in coins])
    per_step = np.sqrt(days / 365 / _STEPS)
    market_h = _log_volatility(rng.standard_normal((rows, 1)), days, 1.0, 0.35)
    own_h = _log_volatility(np.stack([one.standard_normal(rows) for one in own], axis=1), days, 0.3, 0.35)
    season = _day_season(rows, first, days, 0.25)
    market_sigma = _MARKET_VOL * per_step * _STATE_VOL[states][:, None] * np.exp(market_h) * season
    market_sigma = np.minimum(market_sigma, MAX_SIGMA / beta.max())
    own_sigma = np.minimum(np.asarray([coin.own_vol for coin in coins]) * per_step * np.exp(own_h) * season, MAX_SIGMA)
    drift = -noise.cumulant(market_sigma * beta) - noise.cumulant(own_sigma)
    jumped, paid = _jumps(rng, states, beta, days)
    steps = np.empty((_STEPS, rows, count))
    draws = []
    for one in own:
        draws.append(noise.draw(one, (_STEPS, rows)))
        advance(len(draws), count)
    for s in range(_STEPS):
        np.multiply(own_sigma, np.stack([draw[s] for draw in draws], axis=1), out=steps[s])
        steps[s] += market_sigma * noise.draw(rng, (rows, 1)) * beta + drift + paid / _STEPS
    steps[1] += jumped
    gap_sigma = own_sigma * 0.3 * np.stack([one.random(rows) < 0.1 for one in own], axis=1)
    gaps = gap_sigma * np.stack([one.standard_normal(rows) for one in own], axis=1) - gap_sigma * gap_sigma / 2
    sigma = np.sqrt((market_sigma * beta) ** 2 + own_sigma**2) * np.sqrt(_STEPS)
    return _Paths(steps, gaps, sigma, 0.8 * own_h + 0.6 * market_h)


def _jumps(rng: np.random.Generator, states: NDArray[np.int8], beta: Floats, days: float) -> tuple[Floats, Floats]:
    """The rare moves against a state's drift, and the drift that pays for them exactly: both (T, N) log returns."""
    chance = 1 - np.exp(-_STATE_JUMPS_A_DAY * days)
    jumps = (rng.random(len(states)) < chance[states]) * _STATE_JUMP[states]
    paid = -np.log1p(chance[:, None] * np.expm1(_STATE_JUMP[:, None] * beta))
    return jumps[:, None] * beta, paid[states]


def _plant(paths: _Paths, signal_ic: float, bars: int) -> None:
    """Add a drift that follows the return of the last ``bars`` bars, demeaned over the pairs at every bar.

    With x the standardised past return, drift c * sigma * x a bar and overlapping windows, the correlation of the return over the next
    ``bars`` bars with x is c * (bars + 1) / (2 * sqrt(bars)) to first order. Ranks and fat tails take a little off; what the drift itself
    adds to past returns takes or gives the square.
    """
    total = paths.steps.sum(axis=0) + paths.gaps
    path = np.cumsum(total, axis=0)
    past = np.zeros_like(path)
    past[bars + 1 :] = path[bars:-1] - path[: -bars - 1]
    scale = np.sqrt((paths.sigma**2).mean(axis=0))
    past -= past.mean(axis=1, keepdims=True)
    standard = np.clip(past / (scale * np.sqrt(bars)), -4, 4)
    correlation = (_IC_LINEAR - np.sqrt(_IC_LINEAR**2 - 4 * _IC_SQUARE * signal_ic)) / (2 * _IC_SQUARE)
    strength = correlation * 2 * np.sqrt(bars) / (bars + 1)
    drift = strength * scale * standard
    drift -= drift.mean(axis=1, keepdims=True)
    paths.steps += drift / _STEPS


def _bars(coins: list[Coin], paths: _Paths, days: float, first: int, seed: int) -> dict[str, Floats]:
    """OHLCV on the pairs' price ticks; each column has shape (T, N)."""
    rows, count = paths.gaps.shape
    moves = paths.steps.sum(axis=0) + paths.gaps
    level = np.cumsum(moves, axis=0)
    at = level - moves + paths.gaps
    opened, high, low = at.copy(), at.copy(), at.copy()
    for s in range(_STEPS):
        at += paths.steps[s]
        np.maximum(high, at, out=high)
        np.minimum(low, at, out=low)
    prices = {"open": opened, "high": high, "low": low, "close": at}
    scale = np.asarray([10.0**coin.price_decimals for coin in coins])
    for name, logs in prices.items():
        prices[name] = np.maximum(np.rint(np.exp(logs) * np.asarray([coin.price for coin in coins]) * scale), 1.0) / scale
    rng = np.random.default_rng([seed, 5])
    turnover = np.asarray([coin.daily_volume for coin in coins]) * days * _day_season(rows, first, days, 0.4)
    surprise = 0.4 + 0.6 * np.minimum(np.abs(moves) / paths.sigma, 8.0)
    quote_volume = turnover * surprise * np.exp(paths.activity + 0.4 * rng.standard_normal((rows, count)))
    qty = np.asarray([10.0**coin.qty_decimals for coin in coins])
    return prices | {"volume": np.maximum(np.rint(quote_volume / prices["close"] * qty), 1.0) / qty}


class _Events:
    """What happens to markets besides returns. Places are shares of the time span, so a longer market has the same events."""

    MIN_ROWS = 48

    def __init__(self, rows: int, step: int, coins: list[Coin], rng: np.random.Generator) -> None:
        self.rows, self.rng, self.count = rows, rng, len(coins)
        self.hour = 3_600_000 / step
        self.beta = np.asarray([coin.beta for coin in coins])
        quiet = min(10, self.count - 1)
        self.quiet = quiet if self.count > 4 else None
        self.silent = [(at, at + self._bars(3)) for at in (self._at(0.2), self._at(0.5), self._at(0.8))]
        self.wick_at = self._at(0.3)

    def _at(self, share: float) -> int:
        return int(self.rows * share)

    def _bars(self, hours: float) -> int:
        return max(1, round(hours * self.hour))

    def stop_trading(self, paths: _Paths) -> None:
        """Three stretches in which nobody trades one pair: its price stands still."""
        if self.quiet is not None:
            for first, last in self.silent:
                paths.steps[:, first:last, self.quiet] = 0
                paths.gaps[first:last, self.quiet] = 0

    def crash(self, paths: _Paths) -> None:
        """One pair loses 40 per cent within a bar and is back within four hours."""
        if self.count > 3:
            first, length = self._at(0.55), self._bars(4)
            depth = np.log(0.6) * np.linspace(1, 0, length + 1)
            change = np.diff(depth, prepend=0.0)
            last = min(self.rows, first + len(change))
            paths.steps[:, first:last, 3] += change[: last - first] / _STEPS

    def finish(self, columns: dict[str, Floats], coins: list[Coin]) -> None:
        """The wick that hits every pair, then bars that are silent, missing, not listed yet or delisted."""
        scale = np.asarray([10.0**coin.price_decimals for coin in coins])
        low = columns["low"][self.wick_at] * np.exp(-0.1 * self.beta)
        columns["low"][self.wick_at] = np.maximum(np.rint(low * scale), 1.0) / scale
        qty = np.asarray([10.0**coin.qty_decimals for coin in coins])
        columns["volume"][self.wick_at] = np.rint(columns["volume"][self.wick_at] * 6 * qty) / qty
        if self.quiet is not None:
            for first, last in self.silent:
                columns["volume"][first:last, self.quiet] = 0.0
        gone = self._missing()
        for values in columns.values():
            values[gone] = np.nan

    def _missing(self) -> NDArray[np.bool_]:
        gone = np.zeros((self.rows, self.count), dtype=np.bool_)
        inner = self.rows - 2
        for n in range(1, self.count, 4):
            gone[1 + self.rng.integers(inner, size=max(1, inner // 2000)), n] = True
        if self.count > 2:
            first = self._at(0.4)
            gone[first : first + self._bars(5), 2] = True
        late = self.count // 8
        for k in range(late):
            gone[: self._at(0.1 + 0.5 * k / late), self.count - 1 - k] = True
        if late:
            gone[self._at(0.75) :, self.count - 1 - late] = True
        return gone
