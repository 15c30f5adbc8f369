"""What a manifest says of how its version was made: enough to make it again from the same bars, and from nothing else.

``bars`` names the bars and their sha256, ``desk`` holds the desk's settings that a training reads, ``terms`` what came of them and the
specification together, for people. ``spec``, ``trained_at`` and ``effective_at`` are the rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

import numpy as np
from pydantic import ValidationError

from tickless.alpha.ensemble import round_trip_cost_frac
from tickless.bars import COLUMNS, Panel
from tickless.errors import ArtifactError
from tickless.learn.challenge import Terms
from tickless.learn.scope import Scope
from tickless.learn.spec import ModelSpec
from tickless.learn.training_files import DeskTerms, first_problem
from tickless.settings import ExecutionSection, TrainingSection
from tickless.types import iso, parse_time

_READ = (
    "window_days",
    "min_window_days",
    "sample_every_min",
    "validation_frac",
    "min_rank_ic",
    "min_rank_ic_t",
    "num_threads",
    "seed",
)
"""The keys of ``[training]`` that a training reads; the others say where it runs, and what becomes of its version."""


def bars_sha256(panel: Panel) -> str:
    """A hash of bars by their content: timeframe, pairs, times and every number, whichever way a missing bar is written."""
    digest = sha256(json.dumps([panel.timeframe, list(panel.pairs), panel.start_ms, panel.rows]).encode())
    for name in COLUMNS:
        column = getattr(panel, name)
        digest.update(np.ascontiguousarray(np.where(np.isnan(column), np.nan, column)).tobytes())
    return digest.hexdigest()


def bars_facts(panel: Panel) -> dict[str, Any]:
    """The manifest's ``bars``: which they were, and the sha256 of their content."""
    return {
        "timeframe": panel.timeframe,
        "pairs": list(panel.pairs),
        "from": iso(panel.start),
        "until": iso(panel.end),
        "sha256": bars_sha256(panel),
    }


def terms_facts(terms: Terms) -> dict[str, Any]:
    """The manifest's ``terms``, as they applied, and ``desk``, the settings that a training on them reads."""
    scope = terms.scope
    return {
        "terms": {
            "window_days": terms.window_days,
            "min_window_days": terms.min_window_days,
            "sample_every_min": terms.sample_every_min,
            "validation_frac": terms.validation_frac,
            "embargo_h": terms.spec.split.embargo_h,
            "calibration": terms.spec.calibrated_by,
            "round_trip_cost_frac": round_trip_cost_frac(terms.execution),
            "top_k": terms.top_k,
            "max_gap_bars": scope.universe.max_gap_bars if scope is not None else None,
        },
        "desk": {
            "training": terms.training.model_dump(mode="json", include=set(_READ)),
            "execution": terms.execution.model_dump(mode="json"),
            "top_k": terms.top_k,
            "scope": scope.as_json() if scope is not None else None,
        },
    }


@dataclass(frozen=True)
class Recipe:
    """How a version was made, read back from its manifest."""

    spec: ModelSpec
    training: TrainingSection
    execution: ExecutionSection
    top_k: int
    scope: Scope
    as_of: datetime
    effective_at: datetime
    timeframe: str
    pairs: tuple[str, ...]
    start: datetime
    """When the first bar opens."""
    end: datetime
    """When the last bar closes."""
    bars_sha256: str
    champion: str | None
    """``name@version`` of the champion it was compared with."""

    @classmethod
    def read(cls, manifest: Mapping[str, Any]) -> Recipe:
        """Raises ArtifactError for a manifest that does not hold it all, as early ones do not, naming what is wrong."""
        who = f"model {manifest.get('model', '?')}@{manifest.get('version', '?')}"
        missing = [key for key in ("bars", "desk", "spec", "trained_at", "effective_at") if not manifest.get(key)]
        if missing:
            raise ArtifactError(f"{who}: its manifest does not say how to make it again, {missing[0]} is not in it")
        bars = manifest["bars"]
        try:
            desk = DeskTerms.from_json(manifest["desk"])
            return cls(
                spec=ModelSpec.model_validate_json(json.dumps(manifest["spec"])),
                training=desk.training,
                execution=desk.execution,
                top_k=desk.top_k,
                scope=desk.scope,
                as_of=parse_time(manifest["trained_at"]),
                effective_at=parse_time(manifest["effective_at"]),
                timeframe=str(bars["timeframe"]),
                pairs=tuple(map(str, bars["pairs"])),
                start=parse_time(bars["from"]),
                end=parse_time(bars["until"]),
                bars_sha256=str(bars["sha256"]),
                champion=manifest.get("champion"),
            )
        except ValidationError as error:
            raise ArtifactError(f"{who}: {first_problem(error)}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(f"{who}: how to make it again cannot be read: {error!r}") from error
