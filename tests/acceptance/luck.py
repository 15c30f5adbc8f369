"""What the gates make of luck and of skill: real trainings on labels that mean nothing, and on markets with a signal that was planted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from tickless.adapters.folder_market import load_market
from tickless.adapters.synthetic_market import make_market
from tickless.bars import Panel
from tickless.features import rotation as rotation_features
from tickless.features.table import FeatureTable
from tickless.learn import training_run
from tickless.learn.dataset import Samples
from tickless.learn.sampling import Sampled
from tickless.learn.spec import ModelSpec, load_specs
from tickless.learn.training_run import Features, TrainedModel, train_models
from tickless.settings import Settings, load_desk

PLANTED_IC = 0.05
COST = ("execution.taker_fee_bps=2.5", "execution.slippage_bps=0")
"""Luck and skill are judged in one setting, 5 basis points a round trip. At the desk's 23 a signal of ``PLANTED_IC`` is not worth its
trades, and gates that refuse luck there may have refused no more than its price."""
_HOUR_MS = 3_600_000
_FIRST, _LAST = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 9, 6, tzinfo=UTC)


def shuffled_in_blocks(samples: Samples, block_ms: int, seed: int) -> Samples:
    """The samples with the labels of other times: whole blocks of time change places, across all pairs at once.

    Within a block labels keep their order, so that they overlap and move together as they really do; what they have to do with the features
    of their new time is nothing. The return follows from the label and the volatility of the new time.
    """
    step = _HOUR_MS
    tick = (samples.start_ms - samples.start_ms[0]) // step
    size = block_ms // step
    blocks = (int(tick[-1]) + 1) // size
    labels = np.full((blocks * size, len(samples.pairs)), np.nan)
    inside = tick < blocks * size
    labels[tick[inside], samples.pair[inside]] = samples.y[inside]
    order = np.random.default_rng(seed).permutation(blocks)
    moved = labels.reshape(blocks, size, -1)[order].reshape(labels.shape)
    y = np.full(len(samples), np.nan)
    y[inside] = moved[tick[inside], samples.pair[inside]]
    known = np.flatnonzero(~np.isnan(y))
    kept = samples.take(known)
    return replace(kept, y=y[known], plain=y[known] * kept.scale)


def null_trainings(data: Path, count: int, window_days: int = 90) -> Iterator[TrainedModel]:
    """Trainings of the desk's own models on recorded bars and shuffled labels, each with another window, block length and seed."""
    market, _ = load_market(data, "15m", quote="USDT", now=_LAST + timedelta(days=1))
    settings = _settings(window_days, *COST)
    table = _features(settings, market.panel)
    specs = load_specs("rotation")
    ends = np.linspace(window_days + 5, (_LAST - _FIRST).days, count)
    for n, days in enumerate(ends.tolist()):
        as_of = _FIRST + timedelta(days=int(days))
        block_h = (24, 7 * 24)[n // 2 % 2]
        yield _train(table, market.panel, settings, specs[n % 2], as_of, shuffle=(block_h * _HOUR_MS, n))


def power_trainings(count: int, first_seed: int = 1, days: int = 120, pairs: int = 60) -> Iterator[TrainedModel]:
    """Trainings on synthetic markets in which the last six hours' return tells of the next six, with a rank IC of ``PLANTED_IC``."""
    settings = _settings(300, *COST)
    spec = load_specs("rotation")[0]
    end = _FIRST + timedelta(days=days)
    for seed in range(first_seed, first_seed + count):
        made = make_market(pairs=pairs, start=_FIRST, end=end, timeframe="30m", seed=seed, signal_ic=PLANTED_IC, events=False)
        yield _train(_features(settings, made.panel), made.panel, settings, spec, end)


def _settings(window_days: int, *overrides: str) -> Settings:
    return load_desk("rotation", [f"training.window_days={window_days}", "training.num_threads=1", *overrides])


def _features(settings: Settings, panel: Panel) -> FeatureTable:
    return rotation_features.build_features(panel, settings.universe.max_gap_bars)


def _train(
    table: FeatureTable, panel: Panel, settings: Settings, spec: ModelSpec, as_of: datetime, shuffle: tuple[int, int] | None = None
) -> TrainedModel:
    """One training through ``train_models``, leak checks and gates included; ``shuffle`` is the length of a block in ms, and a seed."""
    honest = training_run.make_samples

    def make_samples(*arguments: object) -> Sampled:
        made = honest(*arguments)  # type: ignore[arg-type]
        if shuffle is None:
            return made
        made.check(settings.training.seed)  # What is shuffled afterwards is not relative to its own tick any more.
        return replace(made, samples=shuffled_in_blocks(made.samples, *shuffle), absolute=None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_run, "make_samples", make_samples)
        result = train_models(
            table,
            panel,
            training=settings.training.model_copy(update={"seed": settings.training.seed + (shuffle[1] if shuffle else 0)}),
            execution=settings.execution,
            top_k=settings.portfolio.top_k.chop,
            specs=[spec],
            as_of=as_of,
            effective_at=as_of + timedelta(minutes=20),
            incumbents={},
            features=Features(lambda bars: _features(settings, bars), rotation_features.startup_bars(panel.timeframe)),
        )
    (model,) = result.trained
    return model
