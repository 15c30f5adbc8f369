"""What a version's forecasts were worth, tick by tick, and two versions held against one another on the same ticks. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from tickless.bars import Floats
from tickless.learn.experience import ExperienceDay, Said, TickExperience
from tickless.learn.labels import Millis
from tickless.learn.measures import MIN_PAIRS, overlap_t, rank_ic
from tickless.learn.portfolio_measures import top_k_weights
from tickless.types import to_ms

_HOUR_MS = 3_600_000
_COLUMNS = ("at_ms", "score", "over_frac", "row_ms", "probability", "won")


@dataclass(frozen=True, eq=False)
class Track:
    """One version over the ticks at which it spoke and the outcome is known, in order."""

    horizon_h: float
    at_ms: Millis
    score: Floats
    """The tick's rank IC; with too few pairs to rank, the squared error saved against the forecast zero, in units of the volatility."""
    net_frac: Floats
    """Return of the tick's best pairs over that of all pairs, both sides paid for: all versions pay alike, wherever they came from."""
    active_frac: Floats
    """The same, where only the change is paid for, from the choice of a horizon before to the tick's own; NaN without one."""
    row_ms: Millis
    """When each row of the following was said, (R,)."""
    probability: Floats
    """Of a classifier: all that it gave (R,), with NaN where it gave nothing."""
    won: Floats
    """Whether the event of which it spoke came, (R,); NaN where nobody knows."""

    @property
    def overlap(self) -> int:
        """Neighbours that share their outcomes' time."""
        spacing = float(np.median(np.diff(self.at_ms))) if len(self.at_ms) > 1 else math.inf
        return max(1, math.ceil(self.horizon_h * _HOUR_MS / spacing)) if spacing > 0.0 else 1

    @property
    def periods(self) -> float:
        """How many horizons lie in it that share nothing."""
        return float((~np.isnan(self.score)).sum()) / self.overlap

    def since(self, at: datetime) -> Track:
        """What lies at or after a time."""
        kept, rows = self.at_ms >= to_ms(at), self.row_ms >= to_ms(at)
        return Track(
            horizon_h=self.horizon_h,
            at_ms=self.at_ms[kept],
            score=self.score[kept],
            net_frac=self.net_frac[kept],
            active_frac=self.active_frac[kept],
            row_ms=self.row_ms[rows],
            probability=self.probability[rows],
            won=self.won[rows],
        )


@dataclass(frozen=True)
class Comparison:
    """A version against another, or against saying nothing, on the same ticks. NaN = cannot be told."""

    periods: float
    mean: float
    """Of the difference of their scores."""
    t: float
    """How many standard errors that is from 0, robust to overlapping outcomes."""
    net_frac: float
    """Mean difference of their net returns a tick."""

    @property
    def sentence(self) -> str:
        """For people."""
        return f"{self.mean:+.4f} a tick over {self.periods:.1f} independent periods (t {self.t:+.2f}, net {self.net_frac:+.5f})"


def make_track(days: Iterable[ExperienceDay], model: str, version: str, cost_frac: float, top_k: int) -> Track | None:
    """The track of a version over days in order; None where it never spoke. ``cost_frac`` is that of a round trip."""
    parts = [part for day in days if (model, version) in day.versions and (part := _day_part(day, model, version, cost_frac, top_k))]
    if not parts:
        return None
    at_ms, score, over_frac, row_ms, probability, won = (np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS)
    chosen = [choice for part in parts for choice in part.chosen]
    exposure = np.array([sum(choice.values()) for choice in chosen])
    return Track(
        horizon_h=parts[0].horizon_h,
        at_ms=at_ms,
        score=score,
        net_frac=over_frac - cost_frac * exposure,
        active_frac=over_frac - 0.5 * cost_frac * _changes(at_ms, chosen, parts[0].horizon_h),
        row_ms=row_ms,
        probability=probability,
        won=won,
    )


def compare(mine: Track, other: Track | None) -> Comparison:
    """``mine`` less ``other`` on the ticks of both; without another, against nothing at all."""
    if other is None:
        score, net, at_ms = mine.score, mine.net_frac, mine.at_ms
    else:
        at_ms, ours, theirs = np.intersect1d(mine.at_ms, other.at_ms, assume_unique=True, return_indices=True)
        score, net = mine.score[ours] - other.score[theirs], mine.net_frac[ours] - other.net_frac[theirs]
    both = replace(mine, at_ms=at_ms, score=score, net_frac=net)
    known, paid = score[~np.isnan(score)], net[~np.isnan(net)]
    return Comparison(
        periods=both.periods,
        mean=float(known.mean()) if len(known) else math.nan,
        # An outcome also reads the bar in which it ends.
        t=overlap_t(score, both.overlap + 1) if len(known) else math.nan,
        net_frac=float(paid.mean()) if len(paid) else math.nan,
    )


@dataclass(frozen=True, eq=False)
class _Part:
    """A day of a track: what can be told of it alone."""

    horizon_h: float
    at_ms: Millis
    score: Floats
    over_frac: Floats
    """Return of the tick's best pairs over that of all pairs, before costs."""
    chosen: tuple[Mapping[str, float], ...]
    """The weights of the tick's best pairs."""
    row_ms: Millis
    probability: Floats
    won: Floats


def _day_part(day: ExperienceDay, model: str, version: str, cost_frac: float, top_k: int) -> _Part | None:
    """One day's part; kept with the day, which never changes."""
    key = (model, version, cost_frac, top_k)
    if key not in day.kept:
        spoken = [(tick, said) for tick in day.ticks if (said := tick.of(model, version)) is not None]
        day.kept[key] = _part(spoken, cost_frac, top_k) if spoken else None
    found: _Part | None = day.kept[key]
    return found


def _part(spoken: Sequence[tuple[TickExperience, Said]], cost_frac: float, top_k: int) -> _Part:
    pairs = sorted({pair for tick, _ in spoken for pair in tick.pairs})
    column = {pair: n for n, pair in enumerate(pairs)}
    forecast, outcome, scaled, probability, won, scale = (np.full((len(spoken), len(pairs)), np.nan) for _ in range(6))
    given = {"forecast": forecast, "outcome": outcome, "scaled": scaled, "probability": probability, "won": won}
    for row, (tick, said) in enumerate(spoken):
        columns = [column[pair] for pair in tick.pairs]
        for name, matrix in given.items():
            matrix[row, columns] = getattr(said, name)
        scale[row, columns] = tick.scale(said.horizon_h)
    known = np.where(np.isnan(outcome), np.nan, forecast)
    at_ms = np.array([to_ms(tick.at) for tick, _ in spoken], dtype=np.int64)
    weights = top_k_weights(np.where(np.isnan(known), -np.inf, known), cost_frac, top_k)
    return _Part(
        horizon_h=spoken[0][1].horizon_h,
        at_ms=at_ms,
        score=_scores(known, outcome, scaled, scale, probability),
        over_frac=_over_all(weights, outcome),
        chosen=tuple({pairs[n]: float(row[n]) for n in np.flatnonzero(row)} for row in weights),
        row_ms=np.repeat(at_ms, len(pairs)),
        probability=probability.ravel(),
        won=won.ravel(),
    )


def _scores(forecast: Floats, outcome: Floats, scaled: Floats, scale: Floats, probability: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        # An outcome of zero is a value like any other, but does not say what it was divided by.
        in_units = forecast * np.where(outcome != 0.0, scaled / outcome, 1.0 / scale)
        saved = scaled**2 - (in_units - scaled) ** 2
    said = np.where(np.isnan(in_units), probability, in_units)
    ranked = rank_ic(said, np.where(np.isnan(scaled), outcome, scaled))
    few = (~np.isnan(saved)).sum(axis=1) < MIN_PAIRS
    total, count = np.nansum(saved, axis=1), (~np.isnan(saved)).sum(axis=1)
    mean = np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
    scores: Floats = np.where(np.isnan(ranked) & few, mean, ranked)
    return scores


def _over_all(weights: Floats, outcome: Floats) -> Floats:
    """What the weights (T, N) earned over what the same exposure to all pairs alike did, (T,)."""
    count = (~np.isnan(outcome)).sum(axis=1)
    market = np.divide(np.nansum(outcome, axis=1), count, out=np.full(len(count), np.nan), where=count > 0)
    over: Floats = np.nansum(weights * np.nan_to_num(outcome), axis=1) - weights.sum(axis=1) * market
    return over


def _changes(at_ms: Millis, chosen: Sequence[Mapping[str, float]], horizon_h: float) -> Floats:
    """Bought plus sold, as a share of equity, (T,), where a tick's choice replaces the last one that is a horizon old; NaN without one.

    A return is that of a horizon, and pays for one change: every tick is a rebalance of one of the portfolios that overlap, as in
    ``top_k_net_returns``.
    """
    before = np.searchsorted(at_ms, at_ms - round(horizon_h * _HOUR_MS), side="right") - 1
    return np.array([_turnover(chosen[old], now) if old >= 0 else math.nan for now, old in zip(chosen, before.tolist(), strict=True)])


def _turnover(old: Mapping[str, float], new: Mapping[str, float]) -> float:
    return sum(abs(new.get(pair, 0.0) - old.get(pair, 0.0)) for pair in sorted({*old, *new}))
