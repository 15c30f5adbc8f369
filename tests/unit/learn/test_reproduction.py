"""Everything about a version can be reproduced from its manifest: from it and the bars alone comes the same artifact, byte for byte."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from typing import Any

import numpy as np
import pytest

from made_world import T0
from tickless.adapters.synthetic_market import make_market
from tickless.alpha.onnx_model import OnnxModel
from tickless.bars import Panel
from tickless.errors import ArtifactError, DataError
from tickless.learn.algorithms.gru import has_torch
from tickless.learn.card import render_card
from tickless.learn.recipe import Recipe, bars_sha256
from tickless.learn.reproduction import reproduce
from tickless.learn.scope import Scope
from tickless.learn.spec import ModelSpec, load_specs
from tickless.learn.training_files import Job, manifest_bytes
from tickless.learn.training_job import train_job
from tickless.learn.training_run import TrainedModel
from tickless.settings import load_desk

ODDS = {"name": "odds_6h", "strategy": "rotation", "features": "rotation", "horizon_h": 6.0, "window": {"min_rows": 100}}
SEQUENCES = {"sequence_bars": 4, "hidden": 4, "dense": 4, "epochs": 1, "batch_rows": 256, "refit": False}
SPECS: dict[str, dict[str, Any]] = {
    "regression": {},
    "classification": {"algorithm": "lightgbm_classification", "label": {"kind": "gain"}},
    "ranking": {"algorithm": "lightgbm_ranking"},
    "two_pairs_of_all": {"algorithm": "ridge", "weights": "uniqueness"},
    **({"sequences": {"algorithm": "gru", "fit": SEQUENCES, "window": {"sample_every_min": 240, "min_rows": 100}}} if has_torch() else {}),
}


@pytest.fixture(scope="module")
def market() -> Panel:
    return make_market(start=T0 - timedelta(days=45), end=T0 + timedelta(days=2), pairs=16, seed=5, signal_ic=0.2, events=False).panel


@pytest.fixture(scope="module")
def job() -> Job:
    """With settings that are nobody's default: the manifest has to say them."""
    settings = load_desk(
        "rotation",
        [
            "training.window_days=21",
            "training.min_window_days=9",
            "training.sample_every_min=30",
            "training.validation_frac=0.25",
            "training.num_threads=1",
            "training.seed=7",
            "training.min_rank_ic_t=-9",
            "universe.max_gap_bars=2",
            "universe.min_age_days=20",
            "execution.taker_fee_bps=1.5",
            "execution.slippage_bps=0.5",
        ],
    )
    return Job(
        spec=load_specs("rotation")[0],
        training=settings.training,
        execution=settings.execution,
        top_k=3,
        scope=Scope.of(settings),
        as_of=T0 + timedelta(minutes=7),
        effective_at=T0 + timedelta(minutes=27),
        bars_sha256="",
    )


@pytest.fixture(scope="module")
def made(job: Job, market: Panel):
    """Trained versions by the key of their specification."""
    known: dict[str, TrainedModel] = {}

    def make(key: str) -> TrainedModel:
        if key not in known:
            spec = {**ODDS, **SPECS[key], **({"pairs": list(market.pairs[2:4])} if key == "two_pairs_of_all" else {})}
            asked = replace(job, spec=ModelSpec.model_validate(spec))
            result = train_job(asked, market.between(T0 - timedelta(days=40), T0))
            assert not result.skipped, result.skipped
            (known[key],) = result.trained
        return known[key]

    return make


def written(model: TrainedModel) -> dict[str, Any]:
    """The manifest as somebody reads it years later."""
    content: dict[str, Any] = json.loads(manifest_bytes(model.manifest))
    return content


def bars_of(manifest: dict[str, Any], market: Panel) -> Panel:
    """The bars that a manifest names, from a longer recording of more pairs in another order."""
    recipe = Recipe.read(manifest)
    return market.select(tuple(reversed(market.pairs))).between(recipe.start, recipe.end).select(recipe.pairs)


@pytest.mark.parametrize("key", SPECS)
def test_manifest_and_bars_alone_give_the_same_artifact_and_the_same_manifest(key: str, made, market: Panel) -> None:
    manifest = written(made(key))
    again = reproduce(manifest, bars_of(manifest, market), None)
    assert again.sha256 == manifest["sha256"] == sha256(made(key).artifact).hexdigest()
    assert (again.same, again.differences, again.made_with) == (True, (), ())


def test_the_manifest_says_on_what_terms(made, job: Job, market: Panel) -> None:
    manifest = written(made("regression"))
    assert manifest["terms"] == {
        "window_days": 21,
        "min_window_days": 9,
        "sample_every_min": 30,
        "validation_frac": 0.25,
        "embargo_h": 24.0,
        "calibration": "none",
        "round_trip_cost_frac": 0.0004,
        "top_k": 3,
        "max_gap_bars": 2,
    }
    assert manifest["bars"]["pairs"] == list(market.pairs)
    assert (manifest["bars"]["from"], manifest["bars"]["until"]) == ("2024-04-22T00:00:00Z", "2024-06-01T00:00:00Z")
    assert set(manifest["platform"]) == {"python", "machine", "tickless"}
    recipe = Recipe.read(manifest)
    assert (recipe.as_of, recipe.effective_at, recipe.top_k, recipe.scope) == (job.as_of, job.effective_at, 3, job.scope)
    assert recipe.execution == job.execution
    assert recipe.training.seed == 7
    assert len(manifest_bytes(manifest)) < 150_000
    card = render_card(manifest)
    assert "- Terms: a sample every 30 min of the last 21 days, the last 25% for validation; a round trip costs 0.04%\n" in card
    assert f"- Platform: machine {manifest['platform']['machine']}, python " in card


def test_the_manifest_says_what_was_checked_for_leaks(made) -> None:
    plain, calibrated = (written(made(key))["leak_checks"] for key in ("two_pairs_of_all", "classification"))
    assert all(plain[name] > 100 for name in ("feature_values", "label_values", "rows", "split_labels"))
    assert plain["fitted_steps"] == ["scaler"]
    assert calibrated["fitted_steps"] == ["scaler", "scaler of the linear baseline", "calibration"]


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        (("desk", "training", "sample_every_min"), 60, "terms.sample_every_min"),
        (("desk", "training", "window_days"), 20, "terms.window_days"),
        (("desk", "scope", "universe", "max_gap_bars"), 8, "terms.max_gap_bars"),
        (("desk", "scope", "universe", "min_age_days"), 25.0, "rows.fit"),
        (("desk", "execution", "taker_fee_bps"), 20.0, "terms.round_trip_cost_frac"),
        (("desk", "training", "seed"), 8, "seed"),
    ],
    ids=["sampling", "window", "gaps", "age", "fee", "seed"],
)
def test_another_setting_is_another_version_and_the_manifest_says_why(path, value, where, made, market: Panel) -> None:
    manifest = written(made("classification"))
    *parents, last = path
    settings = manifest
    for key in parents:
        settings = settings[key]
    settings[last] = value
    again = reproduce(manifest, bars_of(manifest, market), None)
    assert not again.same
    assert where in again.differences


def test_other_bars_are_told_from_those_it_was_made_from(made, market: Panel) -> None:
    manifest = written(made("regression"))
    bars = bars_of(manifest, market)
    close = bars.close.copy()
    close[0, 0] *= 1.0 + 1e-12
    with pytest.raises(DataError, match="these are not the bars that odds_6h was made from"):
        reproduce(manifest, replace(bars, close=close), None)


def test_a_missing_bar_is_the_same_however_it_is_written(market: Panel) -> None:
    gap = market.close.copy()
    gap[5, 1] = np.nan
    other = gap.copy()
    other[5, 1] = -np.float64(np.nan)
    assert gap.tobytes() != other.tobytes()
    assert bars_sha256(replace(market, close=gap)) == bars_sha256(replace(market, close=other)) != bars_sha256(market)


def test_a_version_that_had_a_champion_to_beat_is_made_again_beside_it(made, job: Job, market: Panel) -> None:
    champion = made("regression")
    asked = replace(job, spec=ModelSpec.model_validate(ODDS | {"fit": {"rounds": 30}}), champion=(champion.manifest, champion.artifact))
    (model,) = train_job(asked, market.between(T0 - timedelta(days=40), T0)).trained
    manifest = written(model)
    assert manifest["champion"] == Recipe.read(manifest).champion == f"odds_6h@{champion.version}"
    loaded = OnnxModel.from_bytes(champion.artifact, champion.manifest)
    assert reproduce(manifest, bars_of(manifest, market), loaded).same
    # Deleted since: all but what depends on it is compared.
    assert reproduce(manifest, bars_of(manifest, market), None).same


def test_made_with_other_libraries_it_says_so_and_compares_all_the_same(made, market: Panel) -> None:
    manifest = written(made("regression"))
    manifest["libraries"]["numpy"] = "1.0.0"
    again = reproduce(manifest, bars_of(manifest, market), None)
    assert again.same
    assert again.made_with == (f"numpy {np.__version__}, registered with 1.0.0",)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda manifest: manifest.pop("bars"), "its manifest does not say how to make it again, bars is not in it"),
        (lambda manifest: manifest.update(bars=None), "its manifest does not say how to make it again, bars is not in it"),
        (lambda manifest: manifest["desk"].update(scope=None), "how to make it again cannot be read"),
        (
            lambda manifest: manifest["desk"]["training"].update(seed=-1),
            "TrainingSection: seed: Input should be greater than or equal to 0",
        ),
        (lambda manifest: manifest["bars"].pop("from"), "how to make it again cannot be read: KeyError"),
    ],
    ids=["an early one", "a fold's", "no scope", "a seed below zero", "no beginning"],
)
def test_a_manifest_that_does_not_say_how_is_refused(spoil, says: str, made, market: Panel) -> None:
    manifest = written(made("regression"))
    spoil(manifest)
    with pytest.raises(ArtifactError) as refusal:
        reproduce(manifest, market, None)
    assert f"model odds_6h@20240601T0007Z: {says}" in str(refusal.value)
