"""``tickless walk-forward``: from bars to the result folder and the models' page."""

from __future__ import annotations

import csv
import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tickless.adapters.bar_files import write_folder
from tickless.adapters.folder_models import FolderModelStore
from tickless.adapters.synthetic_market import make_market
from tickless.backtest.results import RESULT_FILES
from tickless.cli.walking import _model_row

sys.path.insert(0, str(Path(__file__).parents[1] / "backtest"))
from browser import Browser

RANGE = "20240301-20240328"
OPTIONS = ("--timerange", RANGE, "--every", "4d", "--set", "training.min_window_days=12")


@pytest.fixture(scope="module")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bars")
    made = make_market(
        pairs=24, start=datetime(2024, 3, 1, tzinfo=UTC), end=datetime(2024, 3, 28, tzinfo=UTC), seed=5, signal_ic=0.15, events=False
    )
    write_folder(folder, made.panel)
    return folder


@pytest.fixture(scope="module")
def walked(tickless: Any, bars: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path, Path]:
    out, models = tmp_path_factory.mktemp("walk"), tmp_path_factory.mktemp("kept") / "models"
    return tickless.json("walk-forward", "--data", bars, "--out", out, "--models", models, *OPTIONS), out, models


def test_it_measures_models_and_runs_the_desk_on_them(walked) -> None:
    content, out, _ = walked
    assert [model["model"] for model in content["models"]] == ["rotation_6h", "rotation_24h"]
    six = content["models"][0]
    assert six["out_of_fold"]["rank_ic_low"] > 0.0
    assert six["linear_baseline"]["rank_ic"] is not None
    assert len(six["folds"]) == six["folds_tested"] >= 3
    assert content["tested_from"] == six["folds"][0]["test_from"]
    strategy = content["strategy"]
    assert strategy["with_models"]["fallback_rebalances"] == 0
    assert strategy["with_models"]["total_return_frac"] != strategy["without_models"]["total_return_frac"]
    assert strategy["equal_weight"]["total_return_frac"] < strategy["equal_weight"]["gross_return_frac"]
    assert strategy["cash"]["total_return_frac"] == 0.0
    assert strategy["asked_models"] is True
    assert {path.name for path in out.iterdir()} == {*RESULT_FILES, "report.html", "models.html", "folds.csv", "walk_forward.json"}
    summary = json.loads((out / "summary.json").read_text())
    assert summary["total_return_frac"] == strategy["with_models"]["total_return_frac"]
    assert json.loads((out / "walk_forward.json").read_text()) == content


def test_each_tick_decided_on_the_version_trained_right_before_it(walked) -> None:
    content, out, models = walked
    # A fold needs outcomes to be tested on: one that begins on the last day has none over 24 hours, and the version before it goes on.
    starts = {model["model"]: [fold["test_from"] for fold in model["folds"]] for model in content["models"]}
    used = 0
    for text in (out / "ticks.jsonl").read_text().splitlines():
        line = json.loads(text)
        for label in (line.get("models") or {}).values():
            name, _, version = label.partition("@")
            expected = max(start for start in starts[name] if start <= line["at"])
            assert version == expected.replace("-", "").replace(":", "").replace("0000Z", "00Z")
            used += 1
    assert used > 500
    store = FolderModelStore(models)
    for name in ("rotation_6h", "rotation_24h"):
        for promotion in store.promotions(name):
            manifest = store.manifest(name, promotion.version).manifest
            assert manifest["measures"] == {}
            assert manifest["label_until"] < manifest["effective_at"]
            assert "validation" not in manifest["data_sha256"]


def test_one_row_a_fold_and_model(walked) -> None:
    content, out, _ = walked
    rows = list(csv.DictReader((out / "folds.csv").read_text().splitlines()))
    assert len(rows) == sum(len(model["folds"]) for model in content["models"])
    assert float(rows[0]["rank_ic"]) == content["models"][0]["folds"][0]["rank_ic"]
    assert {row["skipped"] for row in rows} == {""}


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page_works_in_a_browser(walked, chromium: str, tmp_path: Path, width: int, scheme: str) -> None:
    with Browser(chromium, tmp_path / "profile") as browser:
        page = (walked[1] / "models.html").as_uri()
        browser.open(page, width, scheme=scheme)
        assert browser.value("document.documentElement.scrollWidth") <= width
        names = browser.value("[...document.querySelectorAll('.plot')].map(p => p.dataset.plot)")
        for model in ("rotation_6h", "rotation_24h"):
            assert {f"{kind}-{model}" for kind in ("folds", "ic", "decay", "quantiles")} <= set(names)
        assert browser.value("document.querySelectorAll('.heat i').length") > 60
        assert browser.value("document.querySelectorAll('.heat i.out').length") == sum(one["psi_drifted"] for one in walked[0]["models"])
        x, y = browser.place("[data-plot=strategy]")
        browser.mouse("mouseMoved", x, y)
        assert "Desk with models" in browser.value("document.querySelector('.tip').textContent")
        assert browser.complaints() == []
        assert browser.requests() == [page]


def test_the_same_walk_leaves_the_same_bytes_and_models_only_leaves_no_run(tickless, bars, walked, tmp_path) -> None:
    one = ("--model", "rotation_6h", "--models-only")
    first = tickless.json("walk-forward", "--data", bars, "--out", tmp_path / "a", *OPTIONS, *one)
    second = tickless.json("walk-forward", "--data", bars, "--out", tmp_path / "b", *OPTIONS, *one)
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"models.html", "folds.csv", "walk_forward.json"}
    assert (tmp_path / "a" / "models.html").read_bytes() == (tmp_path / "b" / "models.html").read_bytes()
    row = re.search(r"<tr><td[^>]*>t of the rank IC</td>(<td[^>]*>[^<]*</td>)", (tmp_path / "a" / "models.html").read_text("utf8"))
    assert row is not None
    assert ">2.50<" in row[1]  # The gate's limit, as the card says it.
    assert {**first, "seconds": 0} == {**second, "seconds": 0}
    assert first["strategy"] is None
    assert first["models"][0] == walked[0]["models"][0]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--every", "7"), "--every 7: must be days or hours"),
        (("--every", "0d"), "--every 0d: must be days or hours"),
        (("--every", "40d"), "older than training.max_model_age_days = 30"),
        (("--model", "rotation_9h"), "--model rotation_9h: unknown; known: rotation_6h, rotation_24h"),
        (("--model", "rotation_6h", "--model", "rotation_9h"), "--model rotation_9h: unknown"),
        (
            ("--model", "crossover_setup"),
            "--model crossover_setup: strategy crossover owns it, and this desk runs rotation; known here: rotation_6h, rotation_24h",
        ),
        (
            ("--model", "rotation_6h", "--set", "strategy.rotation.model_6h=rotation_24h"),
            "--model rotation_6h: the desk's settings do not name it, so its backtests would not use it",
        ),
        (
            ("--set", "strategy.rotation.model_6h=gone"),
            "--desk rotation: model gone: strategy.rotation names it, and there is no models/gone",
        ),
        (("--desk", "crossover"), "--desk crossover: its settings name no model; choose with --model, known: crossover_setup"),
        (("--timerange", "20240301-20240310"), "no test rows after 2024-03-1"),
        (("--timerange", "20230301-20230310"), "outside the data"),
        (("--set", "training.seed=-1"), "training.seed"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(tickless, bars, tmp_path, options, sentence) -> None:
    assert sentence in tickless.refused("walk-forward", "--data", bars, "--timerange", RANGE, "--out", tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


def test_a_model_folder_that_is_in_use_is_refused(tickless, bars, walked, tmp_path) -> None:
    said = tickless.refused("walk-forward", "--data", bars, "--out", tmp_path / "out", "--models", walked[2], *OPTIONS)
    assert "is not empty" in said


def test_where_no_version_can_be_trained_it_fails_and_says_why(tickless, bars, tmp_path) -> None:
    narrow = ("--set", "universe.pair_whitelist=" + json.dumps(["BTC/USDT", "ETH/USDT"]))
    said = tickless.refused("walk-forward", "--data", bars, "--out", tmp_path / "out", *OPTIONS, *narrow, code=1)
    assert "no version was trained: the training slice has" in said


def test_an_interval_that_cannot_be_told_is_one_dash(walked) -> None:
    told = walked[0]["models"][0]
    untold = {**told, "out_of_fold": {**told["out_of_fold"], "rank_ic_low": None, "rank_ic_high": None}}
    assert " to " in _model_row(told)[3]
    assert _model_row(untold)[3] == "–"
