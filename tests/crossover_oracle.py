"""The features of ``crossover`` in exact arithmetic, written from their definition and sharing no code with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple


class Row(NamedTuple):
    """One bar of one pair; None where the averages do not exist."""

    fast: Fraction | None
    slow: Fraction | None
    trend: int | None
    crossed: int


UNKNOWN = Row(None, None, None, 0)


def exact_rows(closes: Sequence[float | None], fast_bars: int, slow_bars: int, max_gap_bars: int) -> Iterator[Row]:
    """What the features of each bar are; a close counts as the shortest decimal that means it, None is a missing bar."""
    series: list[Fraction] = []
    missing = 0
    before: int | None = None
    for close in closes:
        missing = missing + 1 if close is None else 0
        if close is not None:
            series.append(Fraction(Decimal(repr(close))))
        elif series and missing <= max_gap_bars:
            series.append(series[-1])
        else:
            series = []
        if len(series) < slow_bars:
            before = None
            yield UNKNOWN
            continue
        fast, slow = (sum(series[-bars:], Fraction(0)) / bars for bars in (fast_bars, slow_bars))
        trend = (fast > slow) - (fast < slow)
        up = before is not None and trend > 0 >= before
        down = before is not None and trend < 0 <= before
        yield Row(fast, slow, trend, up - down)
        before = trend
