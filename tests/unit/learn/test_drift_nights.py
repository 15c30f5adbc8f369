"""Nights on which the inputs of a version ring: on a market whose behaviour changes in the middle, and on recorded bars."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from made_moods import moody_market
from tickless.adapters.bar_files import read_folder
from tickless.bars import Panel
from tickless.features.rotation import MODEL_FEATURES, build_features
from tickless.learn.drift import DriftLimits, DriftReport
from tickless.learn.drift_reference import DriftReference
from tickless.learn.drift_review import measure_drift
from tickless.learn.experience import TickExperience
from tickless.types import from_ms, to_ms

DAY_MS = 86_400_000
WINDOW_DAYS, FITTED_DAYS = 90, 72
"""A training's window, and how much of it is fitted: the last fifth judges."""
KNOWN_AFTER = timedelta(days=2, hours=2, minutes=10)
"""The night at ten past two knows the outcomes up to the midnight before the last."""


class Nights:
    """The features of a market once an hour, and the drift that a night finds in them."""

    def __init__(self, panel: Panel, first: datetime) -> None:
        table = build_features(panel, 4, (first - panel.start) // timedelta(milliseconds=panel.step_ms)).select(MODEL_FEATURES)
        hourly = np.arange(table.rows)[(table.start_ms + np.arange(1, table.rows + 1) * table.step_ms) % 3_600_000 == 0]
        self._at_ms = table.start_ms + (hourly + 1) * table.step_ms
        self._values, self._pairs = table.values[hourly], panel.pairs
        self._ticks = [
            TickExperience(from_ms(int(at)), self._pairs, MODEL_FEATURES, values, ())
            for at, values in zip(self._at_ms, self._values, strict=True)
        ]

    def reference(self, trained: datetime) -> DriftReference:
        first, last = (to_ms(trained - timedelta(days=days)) for days in (WINDOW_DAYS, WINDOW_DAYS - FITTED_DAYS))
        fitted = (self._at_ms > first) & (self._at_ms <= last)
        x = self._values[fitted].reshape(-1, len(MODEL_FEATURES)).astype(np.float32)
        at_ms, whole = np.repeat(self._at_ms[fitted], len(self._pairs)), ~np.isnan(x).any(axis=1)
        return DriftReference.of(MODEL_FEATURES, x[whole], at_ms[whole], np.empty(0), 10)

    def report(self, reference: DriftReference, midnight: datetime) -> DriftReport:
        known = [tick for tick in self._ticks if midnight - timedelta(days=12) <= tick.at < midnight]
        return measure_drift(reference, DriftLimits(), known, None, midnight + KNOWN_AFTER, 10)


def rings(report: DriftReport) -> bool:
    return any(breach.measure == "psi" for breach in report.breaches)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_market_that_changes_its_mood_rings_within_days_and_not_before(seed):
    start = datetime(2024, 1, 1, tzinfo=UTC)
    turn = start + timedelta(days=110)
    nights = Nights(moody_market(start, turn, turn + timedelta(days=10), seed=seed).panel, start + timedelta(days=4))
    reference = nights.reference(start + timedelta(days=96))
    quiet = [nights.report(reference, turn - timedelta(days=days)) for days in range(10)]
    assert all(len(report.psi) == len(MODEL_FEATURES) and not np.isnan(list(report.psi.values())).any() for report in quiet)
    assert not any(map(rings, quiet))
    after = [rings(nights.report(reference, turn + timedelta(days=days))) for days in range(1, 10)]
    assert 3 <= after.index(True) + 1 <= 7, "a week's window is half of the new mood by then"
    assert all(later >= earlier for earlier, later in pairwise(after)), "and it goes on ringing"


CRASHES = [
    (datetime(2024, 4, 12, tzinfo=UTC), datetime(2024, 4, 23, tzinfo=UTC)),
    (datetime(2024, 8, 3, tzinfo=UTC), datetime(2024, 8, 15, tzinfo=UTC)),
]
"""Weeks with the two falls of that year, and those in which the window still holds them."""


@pytest.mark.realdata
def test_recorded_months_ring_in_a_crash_and_hardly_ever_otherwise(realdata: Path):
    start, end = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 9, 7, tzinfo=UTC)
    panel, _ = read_folder(realdata / "spot_2024", "15m", quote="USDT", start=start, end=end)
    nights = Nights(panel, start + timedelta(days=1))
    found: dict[datetime, DriftReport] = {}
    for trained in (start + timedelta(days=92 + 14 * n) for n in range(11)):
        reference = nights.reference(trained)
        for night in (trained + timedelta(days=days) for days in range(7, 21)):
            found[night] = nights.report(reference, night)
    rang = [night for night, report in found.items() if rings(report)]
    calm = [night for night in found if not any(since <= night < until for since, until in CRASHES)]
    by_limit_alone = [night for night in calm if any(value > 0.25 for value in found[night].psi.values())]
    assert len(calm) > 110
    assert len(by_limit_alone) > len(calm) / 3
    assert len(set(rang) & set(calm)) <= len(calm) / 30
    for since, until in CRASHES:
        assert any(since <= night < until for night in rang)
