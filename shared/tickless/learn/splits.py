"""Walk-forward folds: always trained on what came before, with everything purged whose label reaches into what comes after.

Purge and embargo: López de Prado, *Advances in Financial Machine Learning* (2018), sections 7.4.1 and 7.4.2. Nothing is shuffled, and no
fold is trained on what lies after its validation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tickless.learn.dataset import Samples, Split, rows_until


@dataclass(frozen=True)
class WalkForward:
    """How folds are laid out. Times in milliseconds."""

    train_ms: int
    """Before the first validation; with ``sliding`` before every one of them."""
    validation_ms: int
    embargo_ms: int
    """Between the end of the last label and the slice after it, also within the training time."""
    inner_frac: float = 0.2
    """The last share of a fold's training time, where fitting stops early; 0 = none."""
    sliding: bool = False
    """Whether training looks back over ``train_ms`` only; else from the first sample on (expanding)."""
    step_ms: int = 0
    """From one validation's start to the next; 0 = its length, so that they meet."""

    def __post_init__(self) -> None:
        if self.train_ms <= 0 or self.validation_ms <= 0 or self.embargo_ms < 0 or self.step_ms < 0:
            raise ValueError(f"walk-forward: times must be positive: {self}")
        if not 0.0 <= self.inner_frac < 1.0:
            raise ValueError(f"walk-forward: inner_frac {self.inner_frac:g} is not in [0, 1)")


@dataclass(frozen=True)
class Fold:
    """One fold: rows of the samples it was made from, each slice after the one before, all gaps purged and embargoed."""

    number: int
    train: slice
    inner: slice
    """Where fitting stops early."""
    fit: slice
    """All that may be fitted on: ``train``, ``inner`` and what was purged between them."""
    validation: slice
    validation_from_ms: int
    validation_until_ms: int
    """Its samples are decided in [from, until); their labels may be known later."""

    def split(self, samples: Samples) -> Split:
        """The fold's slices of the samples, as views."""
        return Split(samples.take(self.train), samples.take(self.inner), samples.take(self.fit), samples.take(self.validation))


def walk_forward(samples: Samples, scheme: WalkForward, first_ms: int | None = None) -> tuple[Fold, ...]:
    """Folds over all samples, in time; the last validation may be cut short by the end of the samples. Slices may come out empty.

    The first validation begins at ``first_ms``, else as soon as there is a whole training time before it.
    """
    if not len(samples):
        return ()
    begin, last = int(samples.start_ms[0]), int(samples.start_ms[-1])
    step = scheme.step_ms or scheme.validation_ms
    starts = range(begin + scheme.train_ms if first_ms is None else first_ms, last + 1, step)
    return tuple(_fold(samples, scheme, number, begin, at) for number, at in enumerate(starts, start=1))


def equal_folds(samples: Samples, folds: int, embargo_ms: int, inner_frac: float = 0.2, *, sliding: bool = False) -> tuple[Fold, ...]:
    """``folds`` folds whose validations share the time evenly; the first of ``folds + 1`` such stretches is trained on only."""
    if folds < 1:
        raise ValueError(f"{folds} folds")
    if not len(samples):
        return ()
    span = int(samples.start_ms[-1] - samples.start_ms[0]) + 1
    length = -(-span // (folds + 1))
    return walk_forward(samples, WalkForward(length, length, embargo_ms, inner_frac, sliding))[:folds]


def _fold(samples: Samples, scheme: WalkForward, number: int, begin: int, at: int) -> Fold:
    first = _row(samples, max(begin, at - scheme.train_ms) if scheme.sliding else begin)
    fit = slice(first, max(first, rows_until(samples, at - scheme.embargo_ms)))
    until = at + scheme.validation_ms
    train, inner = fit, slice(fit.stop, fit.stop)
    if scheme.inner_frac and fit.stop > fit.start:
        earliest, latest = int(samples.start_ms[fit.start]), int(samples.start_ms[fit.stop - 1])
        inner_at = earliest + int((latest - earliest) * (1.0 - scheme.inner_frac))
        inner = slice(max(fit.start, min(fit.stop, _row(samples, inner_at))), fit.stop)
        train = slice(first, min(fit.stop, max(first, rows_until(samples, inner_at - scheme.embargo_ms))))
    return Fold(number, train, inner, fit, slice(_row(samples, at), _row(samples, until)), at, until)


def _row(samples: Samples, at_ms: int) -> int:
    return int(np.searchsorted(samples.start_ms, at_ms, side="left"))
