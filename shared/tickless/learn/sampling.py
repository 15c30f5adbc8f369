"""From bars to samples: the one way that trainings, walk-forwards and tunings take, and the proof that it does not look ahead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tickless.alpha.ensemble import round_trip_cost_frac
from tickless.bars import Panel
from tickless.errors import DataError
from tickless.features.rotation import MODEL_FEATURES
from tickless.features.table import FeatureTable
from tickless.learn.challenge import Terms
from tickless.learn.dataset import Samples, Split, build_samples, hold_out_calibration, less_tick_mean, rows_until
from tickless.learn.label_spec import SetupHistory, is_relative, make_labels
from tickless.learn.labels import Labels
from tickless.learn.leak_checks import check_features, check_labels, check_relative, check_rows, check_samples, check_sequences, rows_of
from tickless.learn.scope import Scope
from tickless.learn.sequence_windows import build_sequences
from tickless.learn.spec import ModelSpec


@dataclass(frozen=True)
class Sampled:
    """The samples of a specification, and all that they were made of."""

    samples: Samples
    rows: Samples
    """The same before sequences took the place of rows, and labels as they were made."""
    panel: Panel
    chosen: FeatureTable
    """The model's features, row for row with ``panel``."""
    labels: Labels
    make: Callable[[Panel], Labels]
    absolute: Samples | None
    """The samples before their labels were made relative to their tick; None where they were not."""

    def check(self, seed: int) -> dict[str, int]:
        """Prove that labels and samples know nothing too early: how much was compared. Raises LeakError."""
        compared = check_labels(self.make, self.panel, self.labels, seed)
        check_samples(self.rows, self.chosen, self.labels)
        if self.absolute is not None:
            check_relative(self.absolute, self.samples, seed)
        return {"label_values": compared, "rows": len(self.rows)}


def make_samples(table: FeatureTable, panel: Panel, first: int, terms: Terms) -> Sampled:
    """Samples of the rows from ``first`` on; ``table`` is the feature table of ``panel``, row for row.

    A sequence may begin before ``first``; what it reads is older than its decision all the same. Raises DataError for a pair without bars,
    LeakError where the strategy's own signals look ahead.
    """
    table, panel = _of_pairs(table, panel, terms.spec)
    inputs, part = table.take(first, table.rows), panel.take(first, panel.rows)
    signals = _signals(panel, terms)

    def labels_of(bars: Panel) -> Labels:
        history = SetupHistory(terms.execution, rows_of(signals, bars)) if signals is not None else None
        cost_frac = round_trip_cost_frac(terms.execution)
        return make_labels(bars, rows_of(inputs, bars), terms.spec.horizon_h, terms.spec.label, cost_frac, history)

    labels = labels_of(part)
    chosen = inputs.select(MODEL_FEATURES)
    # What a pair must have had before, age and volume, may lie before ``first``.
    tradable = None if terms.scope is None else _rows(terms.scope, panel, signals, terms.training.seed)[first:]
    rows = build_samples(chosen, labels, terms.sample_every_min, tradable)
    # Of the last decisions only those that ended soon have a label yet: they must not speak for those that go on.
    samples = rows = rows.take(slice(0, rows_until(rows, part.end_ms)))
    if terms.spec.sequence_bars:
        history = table.select(MODEL_FEATURES)
        samples = _with_sequences(rows, history, terms.spec.sequence_bars)
        if len(samples):
            check_sequences(samples, history)
    absolute = None
    if is_relative(terms.spec.label):
        absolute, samples = samples, less_tick_mean(samples)
    return Sampled(samples, rows, part, chosen, labels, labels_of, absolute)


def _signals(panel: Panel, terms: Terms) -> FeatureTable | None:
    """Where the owner enters and leaves, proved not to look ahead; None where it has no set-ups."""
    name = terms.spec.strategy
    if not terms.spec.of_setups:
        return None
    if terms.scope is None:
        raise ValueError(f"model {terms.spec.name}: nothing says where the strategy {name} enters")
    scope = terms.scope
    signals = scope.signals(panel, name)
    if panel.rows:
        check_features(lambda bars: scope.signals(bars, name), panel, signals, terms.training.seed, scope.signal_startup_bars(name))
    return signals


def _rows(scope: Scope, panel: Panel, signals: FeatureTable | None, seed: int) -> NDArray[np.bool_]:
    """The rows that count, (T, N), proved not to be chosen by what came after them."""
    rows = scope.rows(panel, signals)
    check_rows(lambda bars: scope.rows(bars, None if signals is None else rows_of(signals, bars)), panel, rows, seed)
    return rows


def hold_out(split: Split, terms: Terms) -> Split:
    """The split with a slice for calibration before its validation, where the specification calibrates what it gives; else as it is."""
    if terms.spec.calibrated_by == "none":
        return split
    shares = terms.spec.split
    return hold_out_calibration(split, shares.calibration_frac, shares.inner_frac, terms.embargo_ms)


def _with_sequences(rows: Samples, table: FeatureTable, bars: int) -> Samples:
    """The samples that have a whole sequence, with it as x, (R, L, F): 4 · R · L · F bytes."""
    if bars > table.rows:
        raise DataError(f"a sequence has {bars} bars and the history {table.rows}")
    sequences = build_sequences(table, bars)
    kept = rows.take(sequences.whole_rows(rows))
    return replace(kept, x=np.ascontiguousarray(sequences.of(kept)))


def _of_pairs(table: FeatureTable, panel: Panel, spec: ModelSpec) -> tuple[FeatureTable, Panel]:
    if not spec.pairs:
        return table, panel
    missing = [pair for pair in spec.pairs if pair not in panel.column]
    if missing:
        raise DataError(f"there are no bars of {', '.join(missing)}")
    columns = [panel.column[pair] for pair in spec.pairs]
    return replace(table, pairs=spec.pairs, values=table.values[:, columns]), panel.select(spec.pairs)
