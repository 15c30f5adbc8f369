"""The desk over a walk-forward: in each week with the version trained before it, beside the same desk without models, and the market."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from tickless import metrics
from tickless.adapters.folder_market import FolderMarket
from tickless.adapters.memory_models import MemoryModelStore
from tickless.alpha.ensemble import round_trip_cost_frac
from tickless.backtest.engine import BacktestRequest, Progress, backtest
from tickless.backtest.results import RunRecord
from tickless.learn.dataset import Split
from tickless.learn.gates import GateDecision
from tickless.learn.recipe import terms_facts
from tickless.learn.registry import Lineage, Verdict, build_manifest, version_name
from tickless.learn.train import library_versions, platform_facts
from tickless.learn.walk_forward import FoldResult, ModelWalk, TestedVersion
from tickless.ports import ModelStore, Promotion
from tickless.settings import Settings
from tickless.types import iso

USED_ANYWAY = "a version of a walk-forward: used whatever its gates would say"


@dataclass(frozen=True)
class DeskRuns:
    """The same weeks, lived through twice."""

    models: RunRecord
    fallback: RunRecord
    """Without a model: by the strategy's own score."""


def fill_store(walks: Sequence[ModelWalk], store: ModelStore, step_ms: int) -> int:
    """Register the version of every fold and promote it from the fold's first test row on; returns how many there are.

    Whatever a version's own test rows said of it stays out of its manifest: at that time nobody knew.
    """
    count = 0
    for walk in walks:
        for result in walk.folds:
            if result.tested is None:
                continue
            terms, version = result.terms, version_name(result.terms.as_of)
            store.register(walk.spec.name, version, fold_manifest(result, result.tested, step_ms), result.tested.candidate.artifact)
            store.promote(walk.spec.name, Promotion(version, terms.effective_at, terms.as_of, USED_ANYWAY))
            count += 1
    return count


def fold_manifest(result: FoldResult, tested: TestedVersion, step_ms: int) -> dict[str, Any]:
    """The manifest of a fold's version: a registered one's, without measures and without a verdict."""
    terms, candidate, split = result.terms, tested.candidate, tested.split
    known = Split(split.train, split.inner, split.fit, split.inner)  # The test rows lie in the version's future.
    lineage = Lineage(
        as_of=terms.as_of,
        effective_at=terms.effective_at,
        step_ms=step_ms,
        seed=terms.training.seed,
        libraries=library_versions(terms.spec),
        platform=platform_facts(),
        terms=terms_facts(terms),
        bars=None,  # All folds share the walk's.
    )
    verdict = Verdict(tested.score.measures, None, None, candidate.export_difference, GateDecision(False, ()))
    manifest = build_manifest(terms.spec, candidate.artifact, known, candidate.rounds, lineage, verdict)
    del manifest["validation_from"]
    del manifest["data_sha256"]["validation"]
    del manifest["rows"]["validation"]
    return manifest | {
        "measures": {},
        "gate": {},
        "algorithm": terms.spec.algorithm,
        "output": candidate.output,
        "sequence_bars": terms.spec.sequence_bars,
        "worth": candidate.worth.as_json(),
        "walk_forward_fold": result.fold.number,
    }


def run_desk(
    settings: Settings,
    market: FolderMarket,
    start: datetime,
    end: datetime,
    store: MemoryModelStore,
    progress: Callable[[str], Progress],
    note: str,
) -> DeskRuns:
    """Both runs over [start, end); nothing is trained on the way. ``progress`` gives each run its own bar."""
    request = BacktestRequest(settings, market, start, end, store, retrain=False, note=note)
    with_models = backtest(request, progress("desk with models"))
    without = backtest(replace(request, models=None, note="The same weeks without a model."), progress("desk without models"))
    return DeskRuns(with_models, without)


def compare_runs(runs: DeskRuns, models: dict[str, Any], fallback: dict[str, Any]) -> dict[str, Any]:
    """The desk beside doing nothing, from the summaries of both runs: net returns and what they took.

    ``asked_models`` tells whether any tick did. Equal weight is bought once and held; its cost is one round trip as taker, with slippage.
    """
    keys = ("total_return_frac", "sharpe", "max_drawdown_frac", "avg_exposure_frac", "turnover_frac", "trades", "fees_paid", "end_equity")
    gross = metrics.market_return_frac(runs.models.market_close)
    side = 0.5 * round_trip_cost_frac(runs.models.settings.execution)
    curve = metrics.market_curve(runs.models.market_close)
    return {
        "start": iso(runs.models.start),
        "end": iso(runs.models.end),
        "asked_models": bool(models["models"] or models["models_refused"] or models["fallback_rebalances"]),
        "with_models": {key: models[key] for key in keys} | {"fallback_rebalances": models["fallback_rebalances"]},
        "without_models": {key: fallback[key] for key in keys},
        "equal_weight": {
            "total_return_frac": (1.0 + gross) * (1.0 - side) ** 2 - 1.0,
            "gross_return_frac": gross,
            "max_drawdown_frac": metrics.max_drawdown_frac(curve),
        },
        "cash": {"total_return_frac": 0.0},
    }
