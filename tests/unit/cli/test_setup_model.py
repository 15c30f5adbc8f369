"""A model of set-ups, from bars to a registered version: by command, and by the night of a desk that only scans."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from made_world import World
from tickless.adapters.bar_files import write_folder
from tickless.adapters.folder_market import FolderMarket
from tickless.adapters.folder_models import FolderModelStore
from tickless.adapters.synthetic_market import SyntheticMarket, make_market
from tickless.alpha.champion import load_model
from tickless.backtest.engine import calendar
from tickless.settings import load_desk

START, END = datetime(2024, 4, 1, tzinfo=UTC), datetime(2024, 5, 20, tzinfo=UTC)
RANGE = ("--timerange", "20240401-20240520")
SET = ("strategy.crossover.fast_bars=5", "strategy.crossover.slow_bars=30", "training.num_threads=1")
OPTIONS = [part for one in SET for part in ("--set", one)]
NAMED = "strategy.crossover.setup_model=crossover_setup"


@pytest.fixture(scope="module")
def made() -> SyntheticMarket:
    return make_market(pairs=16, start=START, end=END, seed=5, events=False)


@pytest.fixture(scope="module")
def bars(made: SyntheticMarket, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bars")
    write_folder(folder, made.panel)
    return folder


@pytest.fixture(scope="module")
def trained(tickless: Any, bars: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], FolderModelStore]:
    models = tmp_path_factory.mktemp("kept") / "models"
    chosen = ("--desk", "crossover", "--model", "crossover_setup")
    content = tickless.json("train", *chosen, "--data", bars, *RANGE, "--models", models, *OPTIONS)
    return content, FolderModelStore(models)


def test_a_training_tells_its_steps(tickless: Any, bars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr("tickless.cli.training.progress_bar", lambda _what: nullcontext(lambda done, total: told.append((done, total))))
    chosen = ("--data", bars, "--timerange", "20240519-20240520", "--models", tmp_path / "models")
    sentence = tickless.refused("train", *chosen, code=1)
    assert "rotation_6h: nothing trained, because " in sentence
    assert "1.0 days of history are fewer than min_window_days = 14" in sentence
    assert told == [(1, 5), (3, 5), (5, 5)]


def test_a_model_of_set_ups_is_trained_validated_and_registered(trained) -> None:
    (fact,), store = trained[0]["trained"], trained[1]
    version = store.manifest("crossover_setup", fact["version"])
    manifest, artifact = version.manifest, store.artifact(version)
    assert (manifest["label"], manifest["output"], manifest["spec"]["strategy"]) == ("setup", "probability", "crossover")
    measures = manifest["class_measures"]
    assert measures["rows"] == manifest["rows"]["validation"] >= 100
    assert 0.0 < measures["log_loss_base"] < 1.0
    assert measures["periods"] > 5.0
    assert measures["skill_t"] is not None
    assert sum(part["count"] for part in measures["curve"]) == measures["rows"]
    assert manifest["calibration"]["method"] == "platt"
    assert manifest["baseline"]["algorithm"] == "logistic"
    assert manifest["leak_checks"]["label_values"] > 100
    assert manifest["export_difference"] <= 1e-5
    assert load_model(manifest, artifact).output == "probability"


def test_and_comes_again_of_its_manifest_and_the_bars(tickless: Any, bars: Path, trained, tmp_path: Path) -> None:
    (fact,), store = trained[0]["trained"], trained[1]
    models = FolderModelStore(tmp_path / "models")
    version = store.manifest("crossover_setup", fact["version"])
    models.register(version.name, version.version, version.manifest, store.artifact(version))
    found = tickless.json("models", "reproduce", version.label, "--data", bars, "--models", tmp_path / "models")
    assert (found["same"], found["sha256"], found["differences"]) == (True, fact["sha256"], [])


def test_the_night_of_a_desk_that_only_scans_gives_the_same_version(made: SyntheticMarket, trained) -> None:
    days = (END - START).days
    settings = load_desk("crossover", [*SET, NAMED, f"training.window_days={days}", "schedule.retrain_at=00:00"])
    world = World(FolderMarket(made.panel, made.rules), settings)
    report = world.run("retrain", END)
    assert report.status == "done", report.facts
    (label,) = report.facts["trained"]
    name, _, version = label.partition("@")
    mine, theirs = world.models.manifest(name, version).manifest, trained[1].manifest(name, version).manifest
    same = ("sha256", "data_sha256", "measures", "class_measures", "gate")
    assert {key: mine[key] for key in same} == {key: theirs[key] for key in same}


def test_a_desk_that_names_a_model_has_a_night_and_one_that_names_none_has_not() -> None:
    without, named = load_desk("crossover"), load_desk("crossover", [NAMED])
    for settings, nights in ((without, 0), (named, 1)):
        assert [timer.name for timer in settings.calendar.timers()].count("retrain") == nights
        ticks = calendar(settings, datetime(2024, 5, 1, tzinfo=UTC), datetime(2024, 5, 2, tzinfo=UTC), with_retrain=True)
        assert [tick.function for tick in ticks].count("retrain") == nights


WALK = ("--desk", "crossover", *RANGE, *OPTIONS, "--every", "7d", "--set", "training.min_window_days=30")


def test_walk_forward_measures_it_and_leaves_the_desk_out(tickless: Any, bars: Path, tmp_path: Path) -> None:
    options = (*WALK, "--data", bars, "--model", "crossover_setup", "--models-only", "--out", tmp_path / "out")
    content = tickless.json("walk-forward", *options)
    (model,) = content["models"]
    assert model["folds_tested"] >= 1
    assert content["strategy"] is None
    assert "never asked" not in (tmp_path / "out" / "models.html").read_text("utf8")


def test_walk_forward_says_what_a_classifier_saved_and_that_the_desk_never_asks_it(
    tickless: Any, made: SyntheticMarket, bars: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    few = "universe.pair_whitelist=" + json.dumps(sorted(made.rules)[:8])  # Never five of them at one close.
    told = tickless("walk-forward", *WALK, "--set", NAMED, "--set", few, "--data", bars, "--out", out).stdout
    content = json.loads((out / "walk_forward.json").read_text("utf8"))
    classes = content["models"][0]["out_of_fold"]["classes"]
    for value in (classes["log_loss"], classes["log_loss_base"], classes["auc"]):
        assert f"{value:.4f}" in told
    assert content["strategy"]["asked_models"] is False
    never = "The desk never asked a model: crossover decides without, so its run with models is its run without."
    page = (out / "models.html").read_text("utf8")
    assert never in told.splitlines()
    assert never in page
    plots = re.findall(r'data-plot="([^"]+)"', page)
    assert plots == ["strategy", *(f"{kind}-crossover_setup" for kind in ("saved-folds", "saved", "calibration"))]
    assert "Left out: rank IC by fold, over time, by horizon; what forecasts were followed by: they compare the pairs of one tick" in page
    assert "– to –" not in page
