"""Experience as training rows: what a strategy really saw at its ticks, and what came of it.

A model that is to judge set-ups learns from decisions that were made; one of all pairs may as well learn from bars (``learn.dataset``).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tickless.alpha.ensemble import volatility_scale
from tickless.bars import Floats, Panel
from tickless.learn.dataset import Samples
from tickless.learn.experience import VOLATILITY, TickExperience
from tickless.types import to_ms


def samples_from_experience(ticks: Sequence[TickExperience], model: str, features: Sequence[str], actions: Collection[str] = ()) -> Samples:
    """One sample a pair and tick of which features and outcome are known, for the horizon of ``model`` (empty: a strategy without models).

    ``ticks`` are in order of time. ``y`` is the outcome over the volatility of its horizon as known at the tick, where the strategy saw
    ``rv_24h``, else the plain outcome. ``actions`` keeps what was decided so (``{"buy"}``: entries alone); empty = all. Versions of a model
    share one outcome, so each pair and tick counts once. A tick that lacks a feature is left out. Raises ValueError where the horizon
    of the model changes between ticks: their labels mean different things.
    """
    pairs = tuple(sorted({pair for tick in ticks for pair in tick.pairs}))
    place = {pair: n for n, pair in enumerate(pairs)}
    parts = [part for tick in ticks if (part := _rows(tick, model, features, actions, place)) is not None]
    horizons = {part.horizon_h for part in parts}
    if len(horizons) > 1:
        raise ValueError(f"experience of model {model!r}: its horizon changes, {', '.join(f'{hours:g} h' for hours in sorted(horizons))}")
    x, y, plain, scale, pair, start, end = (_joined([part.columns[n] for part in parts]) for n in range(7))
    return Samples(
        features=tuple(features),
        pairs=pairs,
        x=x.reshape(-1, len(features)).astype(np.float32),
        y=y,
        plain=plain,
        scale=scale,
        pair=pair.astype(np.intp),
        start_ms=start.astype(np.int64),
        end_ms=end.astype(np.int64),
    )


def entered(ticks: Sequence[TickExperience], panel: Panel, actions: Collection[str] = ("buy",)) -> NDArray[np.bool_]:
    """Where one of ``actions`` was decided at the close of a bar, (T, N); what lies outside the panel's bars and pairs is left out."""
    result = np.zeros(panel.open.shape, dtype=bool)
    for tick in ticks:
        row, rest = divmod(to_ms(tick.at) - panel.start_ms, panel.step_ms)
        if rest or not 1 <= row <= panel.rows:
            continue
        for pair, decision in tick.decisions.items():
            if decision.get("action") in actions and pair in panel.column:
                result[row - 1, panel.column[pair]] = True
    return result


class _Part(NamedTuple):
    """The rows of one tick."""

    horizon_h: float
    columns: tuple[Floats, ...]
    """x, y, plain, scale, pair, start, end."""


def _rows(tick: TickExperience, model: str, features: Sequence[str], actions: Collection[str], place: dict[str, int]) -> _Part | None:
    said = next((said for said in tick.said if said.model == model), None)
    if said is None or not set(features) <= set(tick.feature_names):
        return None
    with np.errstate(over="ignore"):
        x = tick.features[:, [tick.feature_names.index(name) for name in features]].astype(np.float32).astype(np.float64)
    seen = VOLATILITY in tick.feature_names
    y = said.scaled if seen else said.outcome
    scale = volatility_scale(tick.features[:, tick.feature_names.index(VOLATILITY)], said.horizon_h) if seen else np.ones(len(y))
    taken = np.array([not actions or tick.decisions.get(pair, {}).get("action") in actions for pair in tick.pairs], dtype=bool)
    usable = taken & np.isfinite(x).all(axis=1) & np.isfinite(y) & np.isfinite(said.outcome)
    columns = np.array([place[pair] for pair in tick.pairs], dtype=np.float64)
    start, end = (np.full(int(usable.sum()), float(ms)) for ms in (to_ms(tick.at), said.until_ms))
    return _Part(said.horizon_h, (x[usable], y[usable], said.outcome[usable], scale[usable], columns[usable], start, end))


def _joined(arrays: Sequence[Floats]) -> Floats:
    return np.concatenate(arrays) if arrays else np.empty(0)
