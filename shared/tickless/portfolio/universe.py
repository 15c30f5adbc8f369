"""Which pairs may be bought at a tick, and each pair's tier: all from bars that had closed by then."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from tickless.bars import Floats, Panel
from tickless.settings import UniverseSection
from tickless.types import to_ms

_DAY = timedelta(days=1)

OK = ""
NO_BAR = "no_bar"
TOO_YOUNG = "too_young"
LOW_VOLUME = "low_volume"


def volume_window_start(at: datetime, settings: UniverseSection) -> datetime:
    """Where the bars begin that the volume rank at ``at`` needs: whole UTC days."""
    return _midnight(at) - settings.rank_window_days * _DAY


def median_daily_volume(panel: Panel, at: datetime, settings: UniverseSection) -> Floats:
    """Median of the daily quote volumes (close times volume, summed over a UTC day) of the last ``rank_window_days`` complete days.

    Shape (N,), in the stake currency; days without a bar do not count; NaN for a pair without any day.
    """
    part = panel.between(volume_window_start(at, settings), _midnight(at))
    bars_a_day = 86_400_000 // panel.step_ms
    skip = (-(part.start_ms // panel.step_ms)) % bars_a_day if part.rows else 0
    days = max(0, (part.rows - skip) // bars_a_day)
    if days == 0:
        return np.full(len(panel.pairs), np.nan)
    part = part.take(skip, skip + days * bars_a_day)
    value = (part.close * part.volume).reshape(days, bars_a_day, len(panel.pairs))
    here = ~np.isnan(value)
    value = np.where(here, value, 0.0)
    total = value[:, 0, :].copy()
    for bar in range(1, bars_a_day):
        total += value[:, bar, :]
    total[~here.any(axis=1)] = np.nan
    return _nan_median(total)


def assign_tiers(pairs: tuple[str, ...], median_volume: Floats, settings: UniverseSection) -> NDArray[np.int64]:
    """Tier 1 to 3 of each pair, shape (N,). Lists of base assets win; the rest by rank of median volume among all pairs.

    Ties and pairs without volume rank by name, last.
    """
    listed = {base: tier for tier in (1, 2, 3) for base in getattr(settings, f"tier{tier}")}
    order = sorted(range(len(pairs)), key=lambda n: (np.isnan(median_volume[n]), -np.nan_to_num(median_volume[n]), pairs[n]))
    tiers = np.full(len(pairs), 3, dtype=np.int64)
    for rank, n in enumerate(order):
        by_rank = 1 if rank < settings.tier1_rank_count else 2 if rank < settings.tier1_rank_count + settings.tier2_rank_count else 3
        tiers[n] = listed.get(pairs[n].split("/")[0], by_rank)
    return tiers


def missing_bases(pairs: tuple[str, ...], settings: UniverseSection) -> tuple[str, ...]:
    """Base assets of the tier lists that no pair has: counted and reported, not refused."""
    bases = {pair.split("/")[0] for pair in pairs}
    return tuple(base for tier in (1, 2, 3) for base in getattr(settings, f"tier{tier}") if base not in bases)


def eligibility(panel: Panel, at: datetime, median_volume: Floats, settings: UniverseSection) -> list[str]:
    """For each pair why it may not be bought at ``at``, or ``OK``.

    ``panel`` ends with the last bar closed at ``at`` and reaches back for the minimum age; what it does not show is too young.
    """
    here = ~np.isnan(panel.close)
    last = np.asarray(here[-1]) if panel.rows and panel.end_ms == to_ms(at) else np.zeros(len(panel.pairs), dtype=bool)
    min_age_bars = int(settings.min_age_days * 86_400_000 // panel.step_ms)
    old = np.asarray(here[: max(0, panel.row_at(at) - min_age_bars + 1)].any(axis=0))
    with np.errstate(invalid="ignore"):
        liquid = np.nan_to_num(median_volume) >= settings.min_daily_volume
    return [NO_BAR if not last[n] else TOO_YOUNG if not old[n] else LOW_VOLUME if not liquid[n] else OK for n in range(len(panel.pairs))]


def _midnight(at: datetime) -> datetime:
    return at.replace(hour=0, minute=0, second=0, microsecond=0)


def _nan_median(values: Floats) -> Floats:
    """Median over the first axis of what is not NaN; NaN where nothing is."""
    ordered = np.sort(values, axis=0)
    count = (~np.isnan(ordered)).sum(axis=0)
    column = np.arange(values.shape[1])
    low = ordered[np.maximum(count - 1, 0) // 2, column]
    high = ordered[np.minimum(count // 2, len(values) - 1), column]
    return np.where(count > 0, (low + high) / 2.0, np.nan)
