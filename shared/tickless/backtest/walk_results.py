"""What a walk-forward leaves behind beside the result folder of its desk: ``walk_forward.json`` and ``folds.csv``."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

import numpy as np

from tickless.backtest.results import timerange_text
from tickless.backtest.walk_desk import DeskRuns
from tickless.bars import Floats
from tickless.learn.challenge import Score, trial_on
from tickless.learn.classification import saved_by_tick
from tickless.learn.measures import mean_interval
from tickless.learn.walk_forward import FoldResult, ModelWalk
from tickless.settings import Settings
from tickless.types import from_ms, iso

FOLD_COLUMNS = (
    "model", "fold", "test_from", "test_until", "fit_rows", "test_rows", "rounds", "rank_ic", "rank_ic_low", "rank_ic_high", "rank_ic_t",
    "linear_rank_ic", "hit_rate", "hit_rate_baseline", "rmse", "rmse_zero", "linear_rmse", "top_k_net_frac", "top_k_active_frac",
    "universe_frac", "max_psi", "skipped",
)  # fmt: skip


Times = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


@dataclass(frozen=True)
class WalkRecord:
    """A finished walk-forward: files and pages are made from this alone."""

    settings: Settings
    start: datetime
    end: datetime
    """The timerange, half-open."""
    pairs: tuple[str, ...]
    every_days: float
    sliding: bool
    data_sha256: str
    walks: tuple[ModelWalk, ...]
    desk: Mapping[str, Any] | None = None
    """``compare_runs``; None where the desk did not run."""
    runs: DeskRuns | None = field(default=None, repr=False)
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def not_asked(self) -> str:
        """The sentence that the desk never asked its models, so that both of its runs are the same; empty where it did, or did not run."""
        if self.desk is None or self.desk["asked_models"]:
            return ""
        owners = ", ".join(sorted(self.settings.strategy))
        return f"The desk never asked a model: {owners} decides without, so its run with models is its run without."

    @property
    def tested(self) -> tuple[datetime, datetime]:
        """From the first test row's day to the end of the last fold, at most the end of the timerange."""
        folds = [result.fold for walk in self.walks for result in walk.folds]
        first, last = min(fold.validation_from_ms for fold in folds), max(fold.validation_until_ms for fold in folds)
        return from_ms(first), min(self.end, from_ms(last))


def facts(record: WalkRecord) -> dict[str, Any]:
    """The content of ``walk_forward.json``, without NaN: what cannot be told is null."""
    settings = record.settings
    first, last = record.tested
    content = {
        "timerange": timerange_text(record.start, record.end),
        "tested_from": iso(first),
        "tested_until": iso(last),
        "desk": settings.desk.name,
        "pairs": len(record.pairs),
        "timeframe": settings.desk.timeframe,
        "every_days": record.every_days,
        "window": "sliding" if record.sliding else "expanding",
        "costs": {"taker_fee_bps": settings.execution.taker_fee_bps, "slippage_bps": settings.execution.slippage_bps},
        "seed": settings.training.seed,
        "settings_sha256": settings.sha256(),
        "data_sha256": record.data_sha256,
        "models": [_model(walk) for walk in record.walks],
        "strategy": record.desk,
        "seconds": {name: round(value, 3) for name, value in record.seconds.items()},
    }
    clean: dict[str, Any] = _clean(content)
    return clean


def files(record: WalkRecord) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The files by name, as ``write_files`` takes them."""
    yield "folds.csv", (folds_text(record),)
    yield "walk_forward.json", (json.dumps(facts(record), indent=2, allow_nan=False, ensure_ascii=False), "\n")


def folds_text(record: WalkRecord) -> str:
    """One row a model and fold; an empty cell is what cannot be told."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FOLD_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for walk in record.walks:
        for result in walk.folds:
            row = {"model": walk.spec.name, **_clean(fold_facts(result))}
            writer.writerow({key: "" if row.get(key) is None else row[key] for key in FOLD_COLUMNS})
    return text.getvalue()


def fold_facts(result: FoldResult) -> dict[str, Any]:
    """One fold's figures by name."""
    fold, version = result.fold, result.tested
    about = {"fold": fold.number, "test_from": iso(from_ms(fold.validation_from_ms)), "test_until": iso(from_ms(fold.validation_until_ms))}
    if version is None:
        return about | {"skipped": result.skipped}
    mine, linear = version.score.measures, version.linear_score.measures if version.linear_score else None
    names = ("rank_ic", "rank_ic_low", "rank_ic_high", "rank_ic_t", "hit_rate", "hit_rate_baseline", "rmse", "rmse_zero")
    earned = ("top_k_net_frac", "top_k_active_frac", "universe_frac")
    return about | {
        "fit_rows": len(version.split.fit),
        "test_rows": mine.rows,
        "rounds": version.candidate.rounds,
        **{name: getattr(mine, name) for name in (*names, *earned)},
        "linear_rank_ic": None if linear is None else linear.rank_ic,
        "linear_rmse": None if linear is None else linear.rmse,
        "max_psi": float(np.nanmax(version.psi)) if not np.isnan(version.psi).all() else None,
    }


@dataclass(frozen=True)
class OverTime:
    """The mean of everything forecast up to a day, (D,), with its 95 % interval; NaN where it cannot be told."""

    at_ms: Times
    mean: Floats
    low: Floats
    high: Floats
    linear: Floats


def ic_over_time(walk: ModelWalk, at_ms: Times) -> OverTime:
    """The mean rank IC at each of the given times, from the ticks before it."""
    return _over_time(walk, walk.series.rank_ic, walk.linear_series.rank_ic if walk.linear_series is not None else None, at_ms)


def saved_over_time(walk: ModelWalk, at_ms: Times) -> OverTime:
    """The same of a classifier's log loss saved, in nats, against the base rate of all test rows."""
    rows, every_ms = walk.rows, walk.terms.trial.sample_every_min * 60_000
    mine = saved_by_tick(walk.said.output, rows.won, rows.start_ms, every_ms)
    linear = None if walk.linear is None else saved_by_tick(walk.linear.output, rows.won, rows.start_ms, every_ms)
    return _over_time(walk, mine, linear, at_ms)


def _over_time(walk: ModelWalk, series: Floats, beside: Floats | None, at_ms: Times) -> OverTime:
    trial, linear = trial_on(walk.rows, walk.terms), np.full(len(series), np.nan) if beside is None else beside
    begin = int(walk.rows.start_ms[0]) if len(walk.rows) else 0
    counts = np.clip((at_ms - begin) // (trial.sample_every_min * 60_000), 0, len(series)).astype(int)
    spans = [mean_interval(series[:count], trial.known_overlap) for count in counts]
    return OverTime(
        at_ms=at_ms,
        mean=np.asarray([_mean(series[:count]) for count in counts]),
        low=np.asarray([low for low, _ in spans]),
        high=np.asarray([high for _, high in spans]),
        linear=np.asarray([_mean(linear[:count]) for count in counts]),
    )


def _model(walk: ModelWalk) -> dict[str, Any]:
    names = walk.samples.features

    def by_feature(values: Sequence[Floats]) -> dict[str, float]:
        return dict(zip(names, _column_means(values), strict=True))

    versions = [version for _, version in walk.tested]
    return {
        "model": walk.spec.name,
        "algorithm": walk.spec.algorithm,
        "horizon_h": walk.spec.horizon_h,
        "window_days": walk.terms.window_days,
        "sample_every_min": walk.terms.sample_every_min,
        "folds_tested": len(versions),
        "out_of_fold": _score(walk.score),
        "linear_baseline": None if walk.linear_score is None else _score(walk.linear_score),
        "would_pass_gates": walk.gate.promote,
        "gate": list(walk.gate.reasons),
        "importance_gain": by_feature([version.gain for version in versions]),
        "importance_permutation": by_feature([version.permutation for version in versions]),
        "psi_mean": by_feature([version.psi for version in versions]),
        "psi_drifted": sum(int(version.drifted(walk.spec.drift.psi.limit).sum()) for version in versions),
        "psi_widest_mean": by_feature([version.psi_widest for version in versions]),
        "folds": [fold_facts(result) for result in walk.folds],
    }


def _score(score: Score) -> dict[str, Any]:
    return score.measures.as_json() | ({"classes": score.classes.as_json()} if score.classes else {})


def _column_means(values: Sequence[Floats]) -> list[float]:
    if not values:
        return []
    return [_mean(column) for column in np.stack(values).T]


def _mean(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def _clean(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _clean(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(part) for part in value]
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value
