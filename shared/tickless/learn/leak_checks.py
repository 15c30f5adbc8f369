"""Leak checks: what every training proves of its own data before a model comes of it.

From bars to fold, each link is checked against the one before, on the data of this very training, not by trust in the code that made it:

* *features*: recomputed on bars that end at some rows, they are the same bits. A feature that peeks is not.
* *rows*: which pairs count at which close, recomputed on bars that end at some rows, is the same. A choice that knows the outcome is not.
* *labels*: recomputed on bars that end there, all that claim to be known by then are the same bits. A label that reads on is not.
* *samples*: each row holds the features of its decision's bar (a sequence, those of the bars up to it), and the label and interval of that
  decision.
* *split*: no label of an earlier slice, embargo added, reaches into a later one. Told from the intervals, whoever made the split.
* *fitted steps*: a scaler or calibration says until when it has seen data; it may not reach into the validation, and fitting it anew on
  the rows it was allowed gives the same bytes.

Every check raises LeakError, which names what leaked and when.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tickless.bars import Floats, Panel
from tickless.errors import LeakError
from tickless.features.table import FeatureTable
from tickless.learn.dataset import Samples, Split, less_tick_mean
from tickless.learn.labels import Labels
from tickless.types import from_ms, iso

FeatureMaker = Callable[[Panel], FeatureTable]
"""The feature table of a panel, row for row; may have more features than the training uses."""
LabelMaker = Callable[[Panel], Labels]
"""The labels of a panel, row for row. What it needs besides bars it looks up for the rows of the panel it is given (``rows_of``)."""
RowChooser = Callable[[Panel], NDArray[np.bool_]]
"""Which rows of a panel count, (T, N)."""
CUTS = 3
_SEQUENCES = 1000
_TAIL_ROWS = 96
"""Rows before a cut that are compared: a peek further than this is seen all the same, as it shows at the last row."""


@dataclass(frozen=True)
class FittedStep:
    """Something fitted on data besides the model: a scaler, a calibration, a choice of features."""

    name: str
    until_ms: int
    """The latest time that anything it was fitted on is known: features at the decision, labels at their end."""
    state: bytes
    """All that it has learnt."""
    refit: Callable[[Samples], bytes]
    """The state it would have, fitted on these rows."""


def check_features(
    make: FeatureMaker, panel: Panel, table: FeatureTable, seed: int, startup_bars: int | None = None, cuts: int = CUTS
) -> int:
    """Compare the table with that of bars that end at ``cuts`` random rows, bit for bit; the number of values compared.

    With ``startup_bars`` only so many bars before the compared rows are computed anew. Raises ValueError where table and panel do not
    belong together.
    """
    if (table.start_ms, table.rows, table.pairs, table.timeframe) != (panel.start_ms, panel.rows, panel.pairs, panel.timeframe):
        raise ValueError("the feature table does not belong to the panel")
    settled = np.isfinite(table.values).any(axis=2)
    compared = 0
    for last in _choose(settled, seed, cuts):
        tail = last if startup_bars is None else min(last, _TAIL_ROWS)
        begin = 0 if startup_bars is None else max(0, last - tail - startup_bars)
        part = make(panel.take(begin, last))
        if part.rows != last - begin or part.pairs != table.pairs:
            raise ValueError(f"the features of {last - begin} bars have {part.rows} rows")
        cut = part.select(table.names).values[part.rows - tail :]
        whole = table.values[last - tail : last]
        compared += whole.size
        _same_features(table, whole, cut, last, tail)
    return compared


def check_rows(make: RowChooser, panel: Panel, rows: NDArray[np.bool_], seed: int, cuts: int = CUTS) -> None:
    """Compare which rows count, (T, N), with those of bars that end at ``cuts`` random closes: what comes later chooses none."""
    if rows.shape != panel.open.shape:
        raise ValueError(f"rows of shape {rows.shape} do not belong to a panel of shape {panel.open.shape}")
    for last in _choose(~np.isnan(panel.close), seed, cuts):
        wrong = make(panel.take(0, last)) != rows[:last]
        if wrong.any():
            row, pair = (int(index) for index in np.argwhere(wrong)[0])
            said = "counts" if rows[row, pair] else "does not count"
            raise LeakError(
                f"{panel.pairs[pair]} decided at {_at(panel.start_ms + (row + 1) * panel.step_ms)} {said}, and otherwise without the bars "
                f"after {_at(panel.start_ms + last * panel.step_ms)}: the choice of rows looks ahead"
            )


def check_labels(make: LabelMaker, panel: Panel, labels: Labels, seed: int, cuts: int = CUTS) -> int:
    """Compare all labels that claim to be known at ``cuts`` random closes with those made of the bars up to there; how many there were.

    A label whose interval ends too early reads bars that the shorter panel does not have, and comes out different or not at all.
    """
    if labels.target.shape != panel.open.shape:
        raise ValueError(f"labels of shape {labels.target.shape} do not belong to a panel of shape {panel.open.shape}")
    here = np.isfinite(labels.target)
    lasts = (labels.end_ms - labels.start_ms[:, None])[here]
    longest = int(lasts.max(initial=0)) // panel.step_ms
    # Where labels are few and end when their path says, one that ends at a random close is rare: those are asked for at which some do.
    useful = here if not lasts.size or lasts.min() == longest * panel.step_ms else _ends(labels, here, panel)
    compared = 0
    for last in _choose(useful, seed, cuts):
        begin = max(0, last - longest - _TAIL_ROWS)
        part = make(panel.take(begin, last))
        # Before a pair's first bar here nobody can tell whether that bar is on a new scale of prices.
        seen = np.logical_or.accumulate(~np.isnan(panel.close[begin:last]), axis=0) | (begin == 0)
        known = seen & here[begin:last] & (labels.end_ms[begin:last] <= panel.start_ms + last * panel.step_ms)
        wrong = (known | (seen & np.isfinite(part.target))) & ~_same(labels.target[begin:last], part.target)
        wrong |= known & ~(_same(labels.plain[begin:last], part.plain) & (labels.end_ms[begin:last] == part.end_ms))
        compared += int(known.sum())
        if wrong.any():
            row, pair = (int(index) for index in np.argwhere(wrong)[0])
            raise LeakError(
                f"the label of {panel.pairs[pair]} decided at {_at(labels.start_ms[begin + row])} is said to be known at "
                f"{_at(labels.end_ms[begin + row, pair])}, but is {labels.target[begin + row, pair]:g} with bars after "
                f"{_at(panel.start_ms + last * panel.step_ms)} and {part.target[row, pair]:g} without: its window reaches further"
            )
    return compared


def check_samples(samples: Samples, table: FeatureTable, labels: Labels) -> None:
    """Every sample holds the features of the bar that closed at its decision, and the label and interval of that decision."""
    if samples.features != table.names or samples.pairs != table.pairs:
        raise LeakError("the samples have other features or pairs than the table they are said to come from")
    row, rest = np.divmod(samples.start_ms - table.start_ms - table.step_ms, table.step_ms)
    outside = (rest != 0) | (row < 0) | (row >= table.rows)
    row = np.where(outside, 0, row)
    with np.errstate(over="ignore"):
        features = table.values[row, samples.pair].astype(np.float32)
    same = {
        "features": ~outside & (samples.x == features).all(axis=1),
        "label": ~outside & (samples.y == labels.target[row, samples.pair]),
        "end of the label": ~outside & (samples.end_ms == labels.end_ms[row, samples.pair]),
    }
    for what, equal in same.items():
        if not equal.all():
            k = int(np.argmin(equal))
            raise LeakError(f"the {what} of {_row_name(samples, k)} is not that of the bar that closed then")


def check_sequences(samples: Samples, table: FeatureTable) -> None:
    """The sequences (R, L, F) of some samples, spread evenly, are the rows of the table that end with the bar closed at each decision."""
    length = samples.x.shape[1]
    chosen = np.unique(np.linspace(0, len(samples) - 1, min(len(samples), _SEQUENCES)).astype(np.intp))
    some = samples.take(chosen)
    last = (some.start_ms - table.start_ms) // table.step_ms - 1
    row = last[:, None] + np.arange(1 - length, 1)
    outside = (row < 0) | (row >= table.rows)
    with np.errstate(over="ignore"):
        features = table.values[np.where(outside, 0, row), some.pair[:, None]].astype(np.float32)
    equal = ~outside.any(axis=1) & (some.x == features).all(axis=(1, 2))
    if not equal.all():
        raise LeakError(f"the sequence of {_row_name(some, int(np.argmin(equal)))} is not that of the bars that had closed by then")


def check_split(split: Split, embargo_ms: int) -> int:
    """Every slice has been purged of labels that reach into a later one, or into the embargo before it; how many labels were looked at."""
    looked_at = check_purged(split.train, split.inner, embargo_ms, "the early-stopping slice")
    fitted = [split.train, split.inner, split.fit]
    if split.calibration is not None:
        for before in fitted:
            looked_at += check_purged(before, split.calibration, embargo_ms, "the calibration slice")
        fitted.append(split.calibration)
    for before in fitted:
        looked_at += check_purged(before, split.validation, embargo_ms, "the validation slice")
    return looked_at


def check_relative(absolute: Samples, relative: Samples, seed: int, cuts: int = CUTS) -> None:
    """Relative labels know nothing but their own tick: slices between random ticks, made relative alone, have the same labels."""
    edges = np.append(np.flatnonzero(np.diff(absolute.start_ms, prepend=-1)), len(absolute))
    inside = np.random.default_rng(seed).choice(edges, size=min(cuts, len(edges)), replace=False)
    for first, last in pairwise(np.unique([0, *inside, len(absolute)])):
        part, own = relative.take(slice(first, last)), less_tick_mean(absolute.take(slice(first, last)))
        equal = (own.start_ms == part.start_ms) & (own.pair == part.pair) & (own.y == part.y)
        if not equal.all():
            raise LeakError(f"the relative label of {_row_name(part, int(np.argmin(equal)))} does not come of the rows of its tick alone")


def check_purged(before: Samples, after: Samples, embargo_ms: int, into: str) -> int:
    """No label of ``before`` ends later than ``embargo_ms`` before the first decision of ``after``; how many were compared with it.

    Told from the intervals alone.
    """
    for rows in (before, after):
        if (rows.end_ms <= rows.start_ms).any():
            k = int(np.argmax(rows.end_ms <= rows.start_ms))
            raise LeakError(f"the label of {_row_name(rows, k)} says that it is known at its own decision")
    if not len(before) or not len(after):
        return 0
    begins = int(after.start_ms.min())
    reaching = before.end_ms + embargo_ms > begins
    if reaching.any():
        k = int(np.argmax(np.where(reaching, before.end_ms, 0)))
        raise LeakError(
            f"{int(reaching.sum()):,} of {len(before):,} training labels reach into {into}, which begins at {_at(begins)} after an "
            f"embargo of {embargo_ms / 3_600_000:g} h; the label of {_row_name(before, k)} is known at {_at(before.end_ms[k])} only"
        )
    return len(before)


def check_fitted(step: FittedStep, allowed: Samples, validation: Samples) -> None:
    """A fitted step has seen nothing of the validation slice, and comes of the rows it was ``allowed`` to see, alone."""
    if len(validation) and step.until_ms > int(validation.start_ms.min()):
        raise LeakError(
            f"{step.name} was fitted on data up to {_at(step.until_ms)}, and the validation slice begins at "
            f"{_at(validation.start_ms.min())}"
        )
    if len(allowed) and step.until_ms > allowed.known_ms:
        raise LeakError(f"{step.name} was fitted on data up to {_at(step.until_ms)}, and its rows end at {_at(allowed.known_ms)}")
    if step.refit(allowed) != step.state:
        raise LeakError(f"{step.name}, fitted anew on the rows up to {_at(step.until_ms)}, comes out otherwise: it has seen other rows")


def rows_of(table: FeatureTable, panel: Panel) -> FeatureTable:
    """The rows of a table that belong to the bars of ``panel``; raises ValueError where it does not have them all."""
    first = (panel.start_ms - table.start_ms) // table.step_ms
    if first < 0 or first + panel.rows > table.rows or panel.step_ms != table.step_ms:
        raise ValueError("the feature table does not have the rows of the panel")
    return table.take(first, first + panel.rows)


def _ends(labels: Labels, here: NDArray[np.bool_], panel: Panel) -> NDArray[np.bool_]:
    """Rows at whose close some label claims to be known, (T, 1)."""
    ends = np.zeros((panel.rows, 1), dtype=bool)
    row = (labels.end_ms[here] - panel.start_ms) // panel.step_ms - 1
    ends[row[(row >= 0) & (row < panel.rows)]] = True
    return ends


def _choose(useful: Any, seed: int, cuts: int) -> list[int]:
    """Where bars end: random rows, the same for one seed, spread over those after which something is to compare in ``useful`` (T, N)."""
    rows = np.flatnonzero(np.any(useful, axis=1)) + 1
    rows = rows[rows < len(useful)]
    parts = [part for part in np.array_split(rows, cuts) if len(part)]
    rng = np.random.default_rng(seed)
    return [int(part[rng.integers(len(part))]) for part in parts]


def _same_features(table: FeatureTable, whole: Floats, cut: Floats, last: int, tail: int) -> None:
    same = _same(whole, cut)
    if same.all():
        return
    row, pair, feature = (int(index) for index in np.argwhere(~same)[0])
    at = table.start_ms + (last - tail + row + 1) * table.step_ms
    raise LeakError(
        f"feature {table.names[feature]} of {table.pairs[pair]} at {_at(at)} is {whole[row, pair, feature]:g} with the bars after "
        f"{_at(table.start_ms + last * table.step_ms)} and {cut[row, pair, feature]:g} without: it looks ahead"
    )


def _same(first: Floats, second: Floats) -> NDArray[np.bool_]:
    return np.asarray((first == second) | (np.isnan(first) & np.isnan(second)))


def _row_name(samples: Samples, k: int) -> str:
    return f"{samples.pairs[samples.pair[k]]} decided at {_at(samples.start_ms[k])}"


def _at(at_ms: int | np.int64) -> str:
    return iso(from_ms(int(at_ms)))
